"""Where the boxes and the arrows of a graph go.

A box stands one column to the right of the last box that leads to it. An arrow over several
columns gets a slot of its own in each column between, so that it passes no box. An arrow that leads
back to the left is laid out the other way round, and its head drawn at the proper end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pictures.drawing import MARGIN, Point

Table = Mapping[str, Sequence[str]]
Arrow = tuple[str, str]

BOX_WIDTH, BOX_HEIGHT = 104.0, 34.0
COLUMN_GAP, ROW_GAP = 62.0, 26.0
SWEEPS = 8
"""How often the rows are put in order; more of it changes nothing in graphs of this size."""


@dataclass(kw_only=True)
class Layout:
    """Where everything stands; the unit is a pixel, the origin the upper left corner."""

    box_width: float
    boxes: dict[str, Point] = field(default_factory=dict)
    """Upper left corner of each box."""

    paths: dict[Arrow, list[Point]] = field(default_factory=dict)
    """The points that each arrow passes, from the edge of one box to the edge of the other."""

    width: float = 0.0
    height: float = 0.0


def arrows_of(table: Table) -> list[Arrow]:
    """Every arrow of a table, as (from, to)."""
    return [(str(start), str(end)) for start, ends in table.items() for end in ends]


def lay_out(
    table: Table, *, box_width: float = BOX_WIDTH, column_gap: float = COLUMN_GAP
) -> Layout:
    """Say where the boxes and the arrows of a table go.

    :param table: for each box the boxes that it leads to; each of them has an entry.
    """
    arrows = arrows_of(table)
    forward = {arrow: arrow for arrow in arrows}
    for arrow in _arrows_back(table):
        forward[arrow] = (arrow[1], arrow[0])
    column = _columns([str(name) for name in table], list(forward.values()))
    chains = {arrow: _chain(arrow, forward[arrow], column) for arrow in arrows}
    rows = _rows([str(name) for name in table], column, chains)

    layout = Layout(box_width=box_width)
    tallest = max(len(row) for row in rows)
    layout.height = 2 * MARGIN + tallest * (BOX_HEIGHT + ROW_GAP) - ROW_GAP
    layout.width = 2 * MARGIN + len(rows) * (box_width + column_gap) - column_gap
    corners: dict[str, Point] = {}
    for index, row in enumerate(rows):
        height = len(row) * (BOX_HEIGHT + ROW_GAP) - ROW_GAP
        top = (layout.height - height) / 2
        for place, name in enumerate(row):
            x = MARGIN + index * (box_width + column_gap)
            corners[name] = (x, top + place * (BOX_HEIGHT + ROW_GAP))
    layout.boxes = {str(name): corners[str(name)] for name in table}
    layout.paths = _paths(chains, corners, forward, box_width)
    return layout


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
    box_width: float,
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
        start, end = corners[chain[0]], corners[chain[-1]]
        points = [_port((start[0] + box_width, start[1]), leaving[chain[0]], arrow)]
        for slot in chain[1:-1]:
            x, y = corners[slot]
            points += [(x, y + BOX_HEIGHT / 2), (x + box_width, y + BOX_HEIGHT / 2)]
        points.append(_port(end, entering[chain[-1]], arrow))
        paths[arrow] = points if forward[arrow] == arrow else points[::-1]
    return paths


def _port(corner: Point, arrows: Sequence[Arrow], arrow: Arrow) -> Point:
    """Where an arrow meets the side of a box: the arrows of a side share it evenly."""
    share = (arrows.index(arrow) + 1) / (len(arrows) + 1)
    return (corner[0], corner[1] + BOX_HEIGHT * share)
