"""The directive ``status-diagram``: the table of status changes as a picture and as a table.

Both are made from :data:`triggers.engine.ALLOWED_TRANSITIONS` when the documentation is built, so
they cannot say anything else than the code. The picture is plain SVG inside the page; it needs no
graphviz, and takes its colours from the theme. Builders other than HTML get the table only.

How it is laid out: a status stands one column to the right of the last status that leads to it. An
arrow over several columns gets a slot of its own in each column between, so that it passes no box.
An arrow that leads back to the left is laid out the other way round, and its head drawn at the
proper end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

Table = Mapping[str, Sequence[str]]
Point = tuple[float, float]
Arrow = tuple[str, str]

BOX_WIDTH, BOX_HEIGHT = 104.0, 34.0
COLUMN_GAP, ROW_GAP = 62.0, 26.0
MARGIN = 6.0
HEAD = 7.0
SWEEPS = 8
"""How often the rows are put in order; more of it changes nothing in a table of this size."""


@dataclass
class Layout:
    """Where everything stands; the unit is a pixel, the origin the upper left corner."""

    boxes: dict[str, Point] = field(default_factory=dict)
    """Upper left corner of each box."""

    paths: dict[Arrow, list[Point]] = field(default_factory=dict)
    """The points that each arrow passes, from the edge of one box to the edge of the other."""

    width: float = 0.0
    height: float = 0.0


def arrows_of(table: Table) -> list[Arrow]:
    """Every arrow of a table, as (from, to)."""
    return [(str(start), str(end)) for start, ends in table.items() for end in ends]


def lay_out(table: Table) -> Layout:
    """Say where the boxes and the arrows of a table go."""
    arrows = arrows_of(table)
    forward = {arrow: arrow for arrow in arrows}
    for arrow in _arrows_back(table):
        forward[arrow] = (arrow[1], arrow[0])
    column = _columns([str(name) for name in table], list(forward.values()))
    chains = {arrow: _chain(arrow, forward[arrow], column) for arrow in arrows}
    rows = _rows([str(name) for name in table], column, chains)

    layout = Layout()
    tallest = max(len(row) for row in rows)
    layout.height = 2 * MARGIN + tallest * (BOX_HEIGHT + ROW_GAP) - ROW_GAP
    layout.width = 2 * MARGIN + len(rows) * (BOX_WIDTH + COLUMN_GAP) - COLUMN_GAP
    corners: dict[str, Point] = {}
    for index, row in enumerate(rows):
        height = len(row) * (BOX_HEIGHT + ROW_GAP) - ROW_GAP
        top = (layout.height - height) / 2
        for place, name in enumerate(row):
            x = MARGIN + index * (BOX_WIDTH + COLUMN_GAP)
            corners[name] = (x, top + place * (BOX_HEIGHT + ROW_GAP))
    layout.boxes = {str(name): corners[str(name)] for name in table}
    layout.paths = _paths(chains, corners, forward)
    return layout


def draw(table: Table, *, title: str) -> str:
    """The picture of a table, as SVG."""
    layout = lay_out(table)
    size = f"{layout.width:g} {layout.height:g}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img"'
        f" aria-label={quoteattr(title)}"
        f' style="max-width: {layout.width:g}px; width: 100%; height: auto"'
        ' font-family="sans-serif" font-size="14">',
        f"<title>{escape(title)}</title>",
    ]
    for (start, end), points in layout.paths.items():
        lines.append(
            f"<g data-from={quoteattr(start)} data-to={quoteattr(end)}>"
            f'<path d="{_curve(points)}" fill="none" stroke="currentColor"/>'
            f'<path d="{_head(points)}" fill="currentColor"/></g>'
        )
    for name, (x, y) in layout.boxes.items():
        final = not table[name]
        lines.append(
            f"<g data-status={quoteattr(name)}>"
            f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH:g}" height="{BOX_HEIGHT:g}" rx="6"'
            f' fill="none" stroke="currentColor" stroke-width="{3 if final else 1}"/>'
            f'<text x="{x + BOX_WIDTH / 2:g}" y="{y + BOX_HEIGHT / 2 + 5:g}"'
            f' text-anchor="middle" fill="currentColor">{escape(name)}</text></g>'
        )
    return "\n".join([*lines, "</svg>"])


def _arrows_back(table: Table) -> list[Arrow]:
    """The arrows that close a circle; without them, every arrow can lead to the right."""
    back: list[Arrow] = []
    trail: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        trail.append(name)
        for end in map(str, table.get(name, ())):
            if end in trail:
                back.append((name, end))
            elif end not in done:
                visit(end)
        done.add(trail.pop())

    for name in map(str, table):
        if name not in done:
            visit(name)
    return back


def _columns(names: Sequence[str], arrows: Sequence[Arrow]) -> dict[str, int]:
    column = dict.fromkeys(names, 0)
    for _ in names:
        for start, end in arrows:
            if start != end:
                column[end] = max(column[end], column[start] + 1)
    return column


def _chain(arrow: Arrow, forward: Arrow, column: Mapping[str, int]) -> list[str]:
    """The boxes and slots that an arrow passes, from left to right."""
    start, end = forward
    between = range(column[start] + 1, column[end])
    return [start, *(f"{arrow[0]} -> {arrow[1]} @ {index}" for index in between), end]


def _rows(
    names: Sequence[str], column: Mapping[str, int], chains: Mapping[Arrow, Sequence[str]]
) -> list[list[str]]:
    """The boxes and slots of each column, from top to bottom, ordered so that few arrows cross."""
    rows: list[list[str]] = [[] for _ in range(max(column.values(), default=0) + 1)]
    for name in names:
        rows[column[name]].append(name)
    neighbours: dict[str, list[str]] = {}
    for chain in chains.values():
        for offset, name in enumerate(chain[1:-1], start=1):
            rows[column[chain[0]] + offset].append(name)
        for left, right in pairwise(chain):
            neighbours.setdefault(left, []).append(right)
            neighbours.setdefault(right, []).append(left)
    for sweep in range(SWEEPS):
        order = range(1, len(rows)) if sweep % 2 == 0 else range(len(rows) - 2, -1, -1)
        for index in order:
            beside = rows[index - 1 if sweep % 2 == 0 else index + 1]
            rows[index].sort(key=lambda name, beside=beside: _middle(name, beside, neighbours))
    return rows


def _middle(name: str, beside: Sequence[str], neighbours: Mapping[str, Sequence[str]]) -> float:
    places = [
        (place + 0.5) / len(beside)
        for place, other in enumerate(beside)
        if other in neighbours.get(name, ())
    ]
    return sum(places) / len(places) if places else 0.5


def _paths(
    chains: Mapping[Arrow, Sequence[str]],
    corners: Mapping[str, Point],
    forward: Mapping[Arrow, Arrow],
) -> dict[Arrow, list[Point]]:
    leaving: dict[str, list[Arrow]] = {}
    entering: dict[str, list[Arrow]] = {}
    for arrow, chain in chains.items():
        leaving.setdefault(chain[0], []).append(arrow)
        entering.setdefault(chain[-1], []).append(arrow)
    for name, arrows in leaving.items():
        leaving[name] = sorted(arrows, key=lambda arrow: corners[chains[arrow][1]][1])
    for name, arrows in entering.items():
        entering[name] = sorted(arrows, key=lambda arrow: corners[chains[arrow][-2]][1])

    paths = {}
    for arrow, chain in chains.items():
        points = [_port(corners[chain[0]], leaving[chain[0]], arrow, right=True)]
        for slot in chain[1:-1]:
            x, y = corners[slot]
            points += [(x, y + BOX_HEIGHT / 2), (x + BOX_WIDTH, y + BOX_HEIGHT / 2)]
        points.append(_port(corners[chain[-1]], entering[chain[-1]], arrow, right=False))
        paths[arrow] = points if forward[arrow] == arrow else points[::-1]
    return paths


def _port(corner: Point, arrows: Sequence[Arrow], arrow: Arrow, *, right: bool) -> Point:
    """Where an arrow meets the side of a box: the arrows of a side share it evenly."""
    x, y = corner
    share = (arrows.index(arrow) + 1) / (len(arrows) + 1)
    return (x + BOX_WIDTH if right else x, y + BOX_HEIGHT * share)


def _curve(points: Sequence[Point]) -> str:
    """A path that leaves and enters horizontally; it ends where the arrow's head begins."""
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


def as_table(table: Table) -> nodes.table:
    """The same as a table of two columns."""
    rows = [("status", "can become")]
    rows += [(str(name), ", ".join(map(str, ends)) or "(final)") for name, ends in table.items()]
    group = nodes.tgroup(cols=2)
    group += [nodes.colspec(colwidth=1), nodes.colspec(colwidth=3)]
    group += nodes.thead("", _row(rows[0], literal=False))
    group += nodes.tbody("", *(_row(row, literal=True) for row in rows[1:]))
    return nodes.table("", group)


def _row(cells: Iterable[str], *, literal: bool) -> nodes.row:
    row = nodes.row()
    for text in cells:
        paragraph = nodes.paragraph()
        for index, word in enumerate(text.split(", ")):
            if index:
                paragraph += nodes.Text(", ")
            plain = not literal or word.startswith("(")
            paragraph += nodes.Text(word) if plain else nodes.literal(text=word)
        row += nodes.entry("", paragraph)
    return row


class StatusDiagram(SphinxDirective):
    """Draws the statuses of a task instance, and lists them in a table."""

    def run(self) -> list[nodes.Node]:
        # Here, and not above: conf.py sets Django up before extensions are used.
        from triggers.engine import ALLOWED_TRANSITIONS, transitions

        self.env.note_dependency(str(transitions.__file__))
        table = {str(name): tuple(map(str, ends)) for name, ends in ALLOWED_TRANSITIONS.items()}
        svg = draw(table, title="Which status of a task instance may follow which")
        return [nodes.raw("", svg, format="html"), as_table(table)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("status-diagram", StatusDiagram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
