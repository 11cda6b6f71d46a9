"""The table that people read, on a terminal and in the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.measure import Row

_STYLES = {"MISSED": "bold red", "aim reached": "green", "kept": "yellow"}


def render(rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for words in ("benchmark", "case"):
        table.add_column(words, overflow="fold")
    for number in ("µs", "against µs", "ratio", "quartiles", "limit", "aim"):
        table.add_column(number, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("note", overflow="fold")
    for row, following in pairwise([*rows, None]):
        assert row is not None
        ends = following is not None and following.benchmark != row.benchmark
        table.add_row(*_cells(row), style=_STYLES.get(row.verdict), end_section=ends)
    return table


def as_rst(rows: Sequence[Row], about: Mapping[str, Any], command: str) -> str:
    """The rows as a table for the documentation.

    Of the many rows on growth, one for each storage and kind is left: the worst.
    """
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 18 36 9 15 9 9 14", ""]
    lines += _rst_row(["Benchmark", "Case", "Ratio", "Quartiles", "Limit", "Aim", ""])
    for row in _worst_of_growth(rows):
        _benchmark, _case, _ours, _base, *numbers, _note = _cells(row)
        lines += _rst_row([row.benchmark, row.case, *numbers])
    machine = ", ".join(f"{name} {value}" for name, value in about.items() if name != "quick")
    return "\n".join([*lines, "", f"Made by ``{command}`` on: {machine}.", ""])


def _rst_row(cells: Sequence[str]) -> list[str]:
    first, *others = (f"- {cell}".rstrip() for cell in cells)
    return [f"   * {first}", *(f"     {cell}" for cell in others)]


def _worst_of_growth(rows: Sequence[Row]) -> list[Row]:
    kept: dict[tuple[str, str], Row] = {}
    for row in rows:
        kind, _colon, _case = row.case.partition(":")
        grows = row.benchmark.startswith("growth")
        key = (row.benchmark, kind if grows else row.case)
        if key not in kept or row.figures.ratio > kept[key].figures.ratio:
            kept[key] = replace(row, case=f"{row.case} (the worst)") if grows else row
    return list(kept.values())


def _cells(row: Row) -> tuple[str, ...]:
    figures = row.figures
    sign = "≥ " if row.at_least else "≤ "
    return (
        row.benchmark,
        row.case,
        f"{figures.ours:,.1f}",
        f"{figures.base:,.1f}",
        f"{figures.ratio:.2f}",
        f"{figures.low:.2f} to {figures.high:.2f}",
        "" if row.limit is None else f"{sign}{row.limit:g}",
        "" if row.aim is None else f"{sign}{row.aim:g}",
        row.verdict,
        row.note,
    )
