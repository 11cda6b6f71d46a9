"""What every picture is made of: boxes, texts and lines, as SVG inside the page.

A picture has no colours of its own but that of the text around it (``currentColor``) and the
theme's brand colour, so it can be read on a light page and on a dark one. It says what it shows in
words, for people who do not see it: ``title`` in one line, ``description`` in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import ClassVar
from xml.sax.saxutils import escape, quoteattr

Point = tuple[float, float]

MARGIN = 6.0
FONT_SIZE = 14.0
LETTER = 0.6
"""Width of a letter, in font sizes; true for monospace fonts, and enough for the others."""

HEAD = 7.0
"""Length of the head of an arrow."""

ACCENT = "var(--color-brand-content, currentColor)"
PAPER = "var(--color-background-primary, transparent)"
SMALL = 12.0
"""Size of the small font."""

READABLE = 0.85
"""On a small screen, a picture is not made narrower than this part of itself, but scrolls."""


def width_of(text: str, size: float = FONT_SIZE) -> float:
    """How wide a text is at most, in pixels."""
    return len(text) * size * LETTER


@dataclass(kw_only=True)
class Drawing:
    """A picture in the making; the unit is a pixel, the origin the upper left corner.

    :ivar title: what it shows, in one line.
    :ivar description: all that it shows, in words.
    """

    width: float
    height: float
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    _numbers: ClassVar[count[int]] = count(1)

    def box(
        self,
        corner: Point,
        size: tuple[float, float],
        *lines: str,
        data: dict[str, str] | None = None,
        thick: bool = False,
        filled: bool = False,
        round_: float = 6.0,
        accent: bool = False,
    ) -> None:
        """A box with lines of text in its middle."""
        (x, y), (width, height) = corner, size
        colour = ACCENT if accent else "currentColor"
        self.parts.append(
            f"<g{_attributes(data)}>"
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_:g}"'
            f' style="stroke: {colour}; fill: {colour}" stroke-width="{3 if thick else 1}"'
            f' fill-opacity="{0.12 if filled else 0:g}"/>'
        )
        first = y + height / 2 + 5 - (len(lines) - 1) * 8
        for number, line in enumerate(lines):
            self.text((x + width / 2, first + number * 16), line, small=number > 0)
        self.parts.append("</g>")

    def text(
        self,
        at: Point,
        text: str,
        *,
        anchor: str = "middle",
        small: bool = False,
        halo: bool = False,
    ) -> None:
        """One line of text; ``at`` is on its base line. A halo hides the lines behind it."""
        more = f' font-size="{SMALL:g}"' if small else ""
        if halo:
            more += f' style="paint-order: stroke; stroke: {PAPER}" stroke-width="5"'
        self.parts.append(
            f'<text x="{at[0]:g}" y="{at[1]:g}" text-anchor="{anchor}" fill="currentColor"{more}>'
            f"{escape(text)}</text>"
        )

    def line(self, start: Point, end: Point, *, faint: bool = False, dashed: bool = False) -> None:
        """A straight line without a head."""
        more = ' stroke-opacity="0.3"' if faint else ""
        more += ' stroke-dasharray="4 4"' if dashed else ""
        self.parts.append(
            f'<path d="M {start[0]:g} {start[1]:g} L {end[0]:g} {end[1]:g}" fill="none"'
            f' stroke="currentColor"{more}/>'
        )

    def arrow(
        self,
        points: Sequence[Point],
        *,
        data: dict[str, str] | None = None,
        dashed: bool = False,
        thick: bool = False,
    ) -> None:
        """A curve through these points, horizontal at both ends, with a head at the last one."""
        more = ' stroke-dasharray="5 4"' if dashed else ""
        more += ' stroke-width="2.5"' if thick else ""
        self.parts.append(
            f"<g{_attributes(data)}>"
            f'<path d="{_curve(points)}" fill="none" stroke="currentColor"{more}/>'
            f'<path d="{_head(points)}" fill="currentColor"/></g>'
        )

    def svg(self) -> str:
        """The finished picture."""
        number = next(self._numbers)
        narrowest = self.width * READABLE
        return "\n".join(
            [
                '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
                f' viewBox="0 0 {self.width:g} {self.height:g}"'
                f' aria-labelledby="picture-{number}-title picture-{number}-description"'
                f' style="width: 100%; max-width: {self.width:g}px; min-width: {narrowest:g}px;'
                ' height: auto"'
                f' font-family="sans-serif" font-size="{FONT_SIZE:g}">',
                f'<title id="picture-{number}-title">{escape(self.title)}</title>',
                f'<desc id="picture-{number}-description">{escape(self.description)}</desc>',
                *self.parts,
                "</svg>",
            ]
        )


def _attributes(data: dict[str, str] | None) -> str:
    return "".join(f" data-{name}={quoteattr(value)}" for name, value in (data or {}).items())


def _curve(points: Sequence[Point]) -> str:
    """It ends where the arrow's head begins."""
    (x, y), (before, _) = points[-1], points[-2]
    tip = (x - HEAD if x > before else x + HEAD, y)
    parts = [f"M {points[0][0]:g} {points[0][1]:g}"]
    for (x0, y0), (x1, y1) in pairwise([*points[:-1], tip]):
        middle = (x0 + x1) / 2
        parts.append(f"C {middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}")
    return " ".join(parts)


def _head(points: Sequence[Point]) -> str:
    (x, y), (before, _) = points[-1], points[-2]
    back = x - HEAD if x > before else x + HEAD
    return f"M {x:g} {y:g} L {back:g} {y - HEAD / 2:g} L {back:g} {y + HEAD / 2:g} Z"
