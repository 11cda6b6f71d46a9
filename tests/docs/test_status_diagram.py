"""The picture of the statuses says what the table in the engine says."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from pictures import graph, statuses

from triggers.types import Status

SVG = "{http://www.w3.org/2000/svg}"

ENGINE = statuses.table_of_engine()
TABLES = {
    "the engine's": ENGINE,
    "with an arrow back": {"a": ("b",), "b": ("c", "a"), "c": ("d", "a"), "d": ()},
    "with long arrows": {"a": ("b", "c", "d", "e"), "b": ("c",), "c": ("d",), "d": ("e",), "e": ()},
    "without arrows": {"a": (), "b": ()},
}


@pytest.fixture(params=TABLES.values(), ids=TABLES.keys())
def table(request: pytest.FixtureRequest) -> Mapping[str, Sequence[str]]:
    return request.param


def _picture(table: Mapping[str, Sequence[str]]) -> ElementTree.Element:
    return ElementTree.fromstring(statuses.draw(table, title="statuses <&> changes"))


def _numbers(path: str) -> list[tuple[float, float]]:
    found = [float(each) for each in re.findall(r"-?[\d.]+", path)]
    return list(zip(found[::2], found[1::2], strict=True))


def test_the_picture_has_a_box_for_every_status() -> None:
    boxes = [each.get("data-status") for each in _picture(ENGINE).iter(f"{SVG}g")]
    assert sorted(filter(None, boxes)) == sorted(str(each) for each in Status)


def test_the_picture_draws_every_arrow_of_the_table_and_no_other(
    table: Mapping[str, Sequence[str]],
) -> None:
    drawn = [
        (each.get("data-from"), each.get("data-to"))
        for each in _picture(table).iter(f"{SVG}g")
        if each.get("data-from")
    ]
    assert sorted(drawn) == sorted((start, end) for start in table for end in table[start])


def test_every_arrow_leads_from_its_box_to_its_box(table: Mapping[str, Sequence[str]]) -> None:
    layout = graph.lay_out(table)
    for (start, end), points in layout.paths.items():
        for name, (x, y) in ((start, points[0]), (end, points[-1])):
            left, top = layout.boxes[name]
            assert x in (left, left + graph.BOX_WIDTH)
            assert top < y < top + graph.BOX_HEIGHT


def test_the_head_of_an_arrow_touches_the_box_that_it_points_to() -> None:
    layout = graph.lay_out(ENGINE)
    for group in _picture(ENGINE).iter(f"{SVG}g"):
        if group.get("data-to"):
            tip, *_rest = _numbers(group.findall(f"{SVG}path")[1].get("d") or "")
            left, top = layout.boxes[group.get("data-to")]
            assert tip[0] in (left, left + graph.BOX_WIDTH)
            assert top < tip[1] < top + graph.BOX_HEIGHT


def test_boxes_do_not_overlap_and_no_arrow_passes_through_one(
    table: Mapping[str, Sequence[str]],
) -> None:
    layout = graph.lay_out(table)
    assert len(set(layout.boxes.values())) == len(table)
    for arrow, points in layout.paths.items():
        curve = [point for pair in pairwise(points) for point in _along(*pair)]
        for name, (left, top) in layout.boxes.items():
            inside = [
                (x, y)
                for x, y in curve
                if left < x < left + graph.BOX_WIDTH and top < y < top + graph.BOX_HEIGHT
            ]
            assert not inside, f"{arrow} passes through {name}"


def _along(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Points of the curve that is drawn between two points."""
    (x0, y0), (x1, y1) = start, end
    middle = (x0 + x1) / 2
    steps = [step / 50 for step in range(51)]
    weights = [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3) for t in steps]
    return [
        (a * x0 + (b + c) * middle + d * x1, (a + b) * y0 + (c + d) * y1) for a, b, c, d in weights
    ]


def test_nothing_is_drawn_outside_the_picture(table: Mapping[str, Sequence[str]]) -> None:
    layout = graph.lay_out(table)
    points = [point for path in layout.paths.values() for point in path]
    for left, top in layout.boxes.values():
        points += [(left, top), (left + graph.BOX_WIDTH, top + graph.BOX_HEIGHT)]
    assert all(0 <= x <= layout.width and 0 <= y <= layout.height for x, y in points)


def test_the_table_in_the_page_has_a_row_for_every_status() -> None:
    text = [
        row.astext().split("\n\n")
        for row in statuses.as_table(ENGINE).findall()
        if row.tagname == "row"
    ]
    assert text[0] == ["status", "can become"]
    assert text[1:] == [[name, ", ".join(ends) or "(final)"] for name, ends in ENGINE.items()]
