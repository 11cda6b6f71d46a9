"""``workflow-graph``: the tasks of a configuration, and the triggers that they wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pictures.drawing import MARGIN, SMALL, Drawing, width_of
from pictures.graph import BOX_HEIGHT, lay_out

PADDING = 26.0
GAP = 76.0
LEGEND, LEGEND_HEIGHT = 150.0, 30.0
AFTER, EVERY, UNLESS = "after", "andEvery", "unless"
LOOKS: Mapping[str, dict[str, bool]] = {AFTER: {}, EVERY: {"thick": True}, UNLESS: {"dashed": True}}
"""What an arrow looks like, by the directive that names the trigger."""


def waits_for(directives: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What a task waits for: by trigger the directive that names it, and a word on how."""
    found: dict[str, tuple[str, str]] = {}
    for directive in (UNLESS, AFTER):
        for trigger, how in _named(directives.get(directive) or [], ""):
            found[trigger] = (directive, how)
    if "andEvery" in directives:
        how = found.get(directives["andEvery"], ("", ""))[1]
        found[directives["andEvery"]] = (EVERY, how)
    return found


def _named(condition: Any, how: str) -> Iterator[tuple[str, str]]:
    """Every name in a condition, with what the innermost group says about it."""
    if isinstance(condition, str):
        yield condition, how
    elif isinstance(condition, list):
        for member in condition:
            yield from _named(member, how)
    elif "settled" in condition:
        yield condition["settled"], "settled"
    elif "elapsed" in condition:
        yield condition["since"], f"{condition['elapsed']} after"
    elif "trigger" in condition:
        times = condition.get("times", 1)
        if isinstance(times, Mapping):
            yield condition["trigger"], f"{times['from']} times"
            yield times["from"].partition(".")[0], "how many"
        else:
            yield condition["trigger"], f"{times} times" if times != 1 else how
    elif "any" in condition:
        yield from _named(condition["any"], "any")
    elif "atLeast" in condition:
        yield from _named(condition["of"], f"{condition['atLeast']} of {len(condition['of'])}")
    else:
        yield from _named(condition["all"], how)


def draw(workflow: Mapping[str, Mapping[str, Any]], *, title: str) -> str:
    """The picture of a configuration, as SVG.

    Tasks are boxes with corners, triggers from outside are round. An outcome such as
    ``t_x:failed`` is an arrow from its task, and says which. A thick arrow is ``andEvery``, a
    dashed one is ``unless``.

    :raises triggers.exceptions.ConfigurationError: it is no configuration.
    """
    from triggers.configuration import parse

    parse(workflow)
    table: dict[str, list[str]] = {}
    styles: dict[tuple[str, str], tuple[str, str]] = {}
    for task, directives in workflow.items():
        for trigger, (directive, how) in waits_for(directives).items():
            owner, _colon, outcome = trigger.partition(":")
            source = owner if owner in workflow else trigger
            label = ", ".join(filter(None, [outcome if owner in workflow else "", how]))
            ends = table.setdefault(source, [])
            if task not in ends:
                ends.append(task)
            styles[source, task] = (directive, label)
    for task in workflow:
        table.setdefault(task, [])

    box_width = max(width_of(name) for name in table) + PADDING
    gap = max(GAP, *(width_of(label, SMALL) + PADDING for _kind, label in styles.values()))
    layout = lay_out(table, box_width=box_width, column_gap=gap)
    used = {kind for kind, _label in styles.values()}
    drawing = Drawing(
        width=max(layout.width, LEGEND * len(used)),
        height=layout.height + LEGEND_HEIGHT,
        title=title,
        description=_said(workflow),
    )
    for (start, end), points in layout.paths.items():
        directive, label = styles[start, end]
        drawing.arrow(
            points,
            data={"from": start, "to": end, "as": directive},
            **LOOKS[directive],
        )
        if label:
            (x0, y0), (x1, y1) = points[-2], points[-1]
            drawing.text(((x0 + x1) / 2, (y0 + y1) / 2 - 6), label, small=True, halo=True)
    for name, corner in layout.boxes.items():
        is_task = name in workflow
        drawing.box(
            corner,
            (box_width, BOX_HEIGHT),
            name,
            data={"task" if is_task else "trigger": name},
            filled=is_task,
            accent=is_task,
            round_=4 if is_task else BOX_HEIGHT / 2,
        )
    y = drawing.height - MARGIN - 5
    for number, kind in enumerate(each for each in LOOKS if each in used):
        x = MARGIN + number * LEGEND
        drawing.arrow([(x, y), (x + 40, y)], **LOOKS[kind])
        drawing.text((x + 48, y + 4), kind, anchor="start", small=True)
    return drawing.svg()


def _said(workflow: Mapping[str, Mapping[str, Any]]) -> str:
    sentences = []
    for task, directives in workflow.items():
        by_kind: dict[str, list[str]] = {AFTER: [], EVERY: [], UNLESS: []}
        for trigger, (directive, how) in waits_for(directives).items():
            by_kind[directive].append(f"{trigger} ({how})" if how else trigger)
        words = {AFTER: "after", EVERY: "for every", UNLESS: "unless"}
        said = [f"{words[kind]} {', '.join(names)}" for kind, names in by_kind.items() if names]
        sentences.append(f"{task} runs {', '.join(said)}.")
    return " ".join(sentences)
