"""``status-diagram``: the table of status changes, :data:`triggers.engine.ALLOWED_TRANSITIONS`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from docutils import nodes

from pictures.drawing import Drawing
from pictures.graph import BOX_HEIGHT, BOX_WIDTH, Table, lay_out

FINAL = "(final)"


def table_of_engine() -> dict[str, tuple[str, ...]]:
    """What the engine allows, as plain strings."""
    # Here, and not above: conf.py sets Django up before extensions are used.
    from triggers.engine import ALLOWED_TRANSITIONS

    return {str(name): tuple(map(str, ends)) for name, ends in ALLOWED_TRANSITIONS.items()}


def draw(table: Table, *, title: str) -> str:
    """The picture of a table, as SVG."""
    layout = lay_out(table)
    said = "; ".join(
        f"{name} can become {_listed(ends)}" if ends else f"{name} is final"
        for name, ends in table.items()
    )
    drawing = Drawing(width=layout.width, height=layout.height, title=title, description=f"{said}.")
    for (start, end), points in layout.paths.items():
        drawing.arrow(points, data={"from": start, "to": end})
    for name, corner in layout.boxes.items():
        size = (BOX_WIDTH, BOX_HEIGHT)
        drawing.box(corner, size, name, data={"status": name}, thick=not table[name])
    return drawing.svg()


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def as_table(table: Mapping[str, Sequence[str]]) -> nodes.table:
    """The same as a table of two columns, for those who would rather read."""
    rows = [("status", "can become")]
    rows += [(str(name), ", ".join(map(str, ends)) or FINAL) for name, ends in table.items()]
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
            plain = not literal or word == FINAL
            paragraph += nodes.Text(word) if plain else nodes.literal(text=word)
        row += nodes.entry("", paragraph)
    return row
