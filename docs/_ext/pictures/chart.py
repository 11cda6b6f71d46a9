"""``cost-chart``: the table that ``python -m benchmarks --rst`` writes, as bars."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pictures.drawing import MARGIN, SMALL, Drawing, width_of

ROW, BAR = 26.0, 16.0
SCALE = 300.0
"""Pixels for the largest number."""

_ROWS = re.compile(r"^   \* - (.*)\n((?:     -.*\n?)+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One row of the table; ``limit`` is ``None`` where there is none."""

    benchmark: str
    case: str
    ratio: float
    limit: float | None
    at_least: bool = False

    @property
    def is_kept(self) -> bool:
        if self.limit is None:
            return True
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit

    @property
    def words(self) -> str:
        """The number, its limit and the verdict."""
        if self.limit is None:
            return f"{self.ratio:.2f}"
        sign = "≥" if self.at_least else "≤"
        return f"{self.ratio:.2f} ({sign} {self.limit:g}{'' if self.is_kept else ', missed'})"


def read(text: str) -> list[Ratio]:
    """The rows of the table, by the names in its first row.

    :raises ValueError: it has no such columns, or no rows.
    """
    table = [
        [first, *(line.strip().removeprefix("-").strip() for line in rest.splitlines())]
        for first, rest in _ROWS.findall(text)
    ]
    if not table or not {"Benchmark", "Case", "Ratio", "Limit"} <= set(table[0]):
        raise ValueError("expected a list-table with the columns Benchmark, Case, Ratio and Limit")
    if len(table) == 1:
        raise ValueError("the table has no rows")
    ratios = []
    for cells in table[1:]:
        row = dict(zip(table[0], cells, strict=True))
        sign, _space, limit = row["Limit"].partition(" ")
        ratios.append(
            Ratio(
                benchmark=row["Benchmark"],
                case=row["Case"],
                ratio=float(row["Ratio"]),
                limit=float(limit) if limit else None,
                at_least=sign == "≥",
            )
        )
    return ratios


def draw(ratios: Sequence[Ratio], *, title: str) -> str:
    """The picture of the ratios, as SVG: a bar for each, with a mark at its limit."""
    names = [f"{each.benchmark}: {each.case}" for each in ratios]
    largest = max(max(each.ratio, each.limit or 0) for each in ratios)
    # A name stands above its bar, so that long ones leave it room.
    left = MARGIN
    width = left + SCALE + max(width_of(each.words, SMALL) for each in ratios) + 24
    drawing = Drawing(
        width=max(width, max(width_of(name, SMALL) for name in names) + 2 * MARGIN),
        height=2 * MARGIN + len(ratios) * 2 * ROW,
        title=title,
        description=" ".join(
            f"{name}: {each.words}." for name, each in zip(names, ratios, strict=True)
        ),
    )
    for number, (name, each) in enumerate(zip(names, ratios, strict=True)):
        y = MARGIN + number * 2 * ROW
        drawing.text((left, y + 14), name, anchor="start", small=True)
        length = each.ratio / largest * SCALE
        drawing.box(
            (left, y + 20),
            (length, BAR),
            data={"case": name, "kept": "yes" if each.is_kept else "no"},
            filled=True,
            accent=each.is_kept,
            thick=not each.is_kept,
            round_=2,
        )
        if each.limit is not None:
            x = left + each.limit / largest * SCALE
            drawing.line((x, y + 17), (x, y + 20 + BAR + 3))
        after = max(each.ratio, each.limit or 0) / largest * SCALE
        drawing.text((left + after + 8, y + 33), each.words, anchor="start", small=True)
    return drawing.svg()
