"""The table that people read, and the same figures for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Row

_HEAD = ("benchmark", "case", "µs", "against µs", "ratio", "quartiles", "limit", "", "note")


def render(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            # Words to the left, numbers to the right.
            cell.ljust(width) if index in (0, 1, 7, 8) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(text)


def as_json(rows: Iterable[Row], about: Mapping[str, Any]) -> str:
    """The rows, and what they were measured on."""
    plain = [{**asdict(row), "verdict": row.verdict} for row in rows]
    return json.dumps({"about": about, "rows": plain}, indent=2, ensure_ascii=False)


def _cells(row: Row) -> tuple[str, ...]:
    figures = row.figures
    return (
        row.benchmark,
        row.case,
        f"{figures.ours:,.1f}",
        f"{figures.base:,.1f}",
        f"{figures.ratio:.2f}",
        f"{figures.low:.2f} to {figures.high:.2f}",
        "" if row.limit is None else f"{row.limit:g}",
        row.verdict,
        row.note,
    )
