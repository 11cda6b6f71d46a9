"""``call-sequence``: who calls whom while one firing is decided, and its task runs.

It is recorded, not drawn: a trigger is fired into a session in a database, then a worker's part is
played, and every call of a function that the page names is written down, and every statement that
reaches the database. A function that is named and not called stops the build.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from types import CodeType, FrameType
from uuid import uuid4

from pictures.drawing import MARGIN, Drawing, width_of
from triggers.runners import BaseTaskRunner, task_runners
from triggers.task import trigger_task

VIEW, RUNNER, DATABASE = "your view", "runner", "database"
ROW, HEADING = 30.0, 46.0
SPACING = 106.0

Act = tuple[str, Callable[[], object]]
"""Who begins, and what happens."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One arrow: who calls whom, and what it says; ``is_first`` of an act."""

    caller: str
    callee: str
    label: str
    is_first: bool = False


def record(lanes: Mapping[str, Sequence[str]], acts: Sequence[Act]) -> list[Call]:
    """Every call of a named function while something is played, in order.

    :param lanes: for each participant its functions, such as ``triggers.outbox:follow_up``.
    :raises RuntimeError: one of them was not called.
    """
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    watched: dict[CodeType, tuple[str, str]] = {}
    for lane, names in lanes.items():
        for name in names:
            function = resolve_name(name)
            watched[function.__code__] = (lane, name.rpartition(":")[2].rpartition(".")[2])
    calls: list[Call] = []
    stack: list[str] = []

    with CaptureQueriesContext(connection) as queries:
        seen = 0

        def note_statements() -> None:
            nonlocal seen
            for query in list(queries)[seen:]:
                seen += 1
                calls.append(Call(caller=stack[-1], callee=DATABASE, label=query["sql"].split()[0]))

        def profile(frame: FrameType, event: str, _argument: object) -> None:
            found = watched.get(frame.f_code)
            if found is None:
                return
            note_statements()
            if event == "call":
                first = len(stack) == 1
                calls.append(
                    Call(caller=stack[-1], callee=found[0], label=found[1], is_first=first)
                )
                stack.append(found[0])
            elif event == "return":
                stack.pop()

        for who, act in acts:
            stack[:] = [who]
            before = sys.getprofile()
            sys.setprofile(profile)
            try:
                act()
            finally:
                sys.setprofile(before)
            note_statements()
    called = {(call.callee, call.label) for call in calls}
    missing = sorted(name for lane, name in watched.values() if (lane, name) not in called)
    if missing:
        raise RuntimeError(f"never called: {', '.join(missing)}")
    return _merged(calls)


def _merged(calls: Sequence[Call]) -> list[Call]:
    """Statements that follow each other are one arrow."""
    merged: list[Call] = []
    for call in calls:
        last = merged[-1] if merged else None
        if last and last.callee == DATABASE == call.callee and last.caller == call.caller:
            label = f"{last.label.split(' … ')[0]} … {call.label}"
            merged[-1] = Call(caller=call.caller, callee=DATABASE, label=label)
        else:
            merged.append(call)
    return merged


def your_code() -> dict[str, int]:
    """What the task of the recorded firing does."""
    return {"parcel": 1}


ship = trigger_task(name="docs.pictures.ship")(your_code)


class WaitingRunner(BaseTaskRunner):
    """Stands for one that sends a message: the worker's part is the next act."""

    name = "docs-pictures-waiting"

    def run(self, manager: object, task_instance: object) -> None:
        pass


def one_firing(lanes: Mapping[str, Sequence[str]]) -> list[Call]:
    """The second half of a join is fired, and a worker runs what that made ready."""
    from triggers import DatabaseStorageBackend, TriggerManager

    manager = TriggerManager(DatabaseStorageBackend(f"docs:{uuid4()}"))
    manager.default_task_runner_name = WaitingRunner.name
    task_runners.register(WaitingRunner)
    try:
        manager.update_configuration({"t_ship": {"after": ["ordered", "paid"], "run": ship.name}})
        manager.fire("ordered")
        message = WaitingRunner().task_kwargs(manager, manager.storage["t_ship#0"])
        return record(
            lanes,
            [
                (VIEW, lambda: manager.fire("paid")),
                (RUNNER, lambda: ship.run(**message)),
            ],
        )
    finally:
        manager.storage.delete()
        task_runners.unregister(WaitingRunner.name)


def draw(calls: Sequence[Call], lanes: Sequence[str], *, title: str) -> str:
    """The picture of calls, as SVG: a column for each participant, a row for each call."""
    said = " ".join(f"{call.caller} to {call.callee}: {call.label}." for call in calls)
    middle = SPACING / 2
    where = {lane: MARGIN + middle + number * SPACING for number, lane in enumerate(lanes)}
    drawing = Drawing(
        width=2 * MARGIN + len(lanes) * SPACING,
        height=HEADING + ROW * (len(calls) + 0.5) + MARGIN,
        title=title,
        description=said,
    )
    for lane, x in where.items():
        width = width_of(lane) + 14
        drawing.box((x - width / 2, MARGIN), (width, 24), lane, filled=True)
        drawing.line((x, MARGIN + 24), (x, drawing.height - MARGIN), faint=True)
    for number, call in enumerate(calls):
        y = HEADING + ROW * (number + 0.75)
        start, end = where[call.caller], where[call.callee]
        data = {"from": call.caller, "to": call.callee, "label": call.label}
        waits = call.is_first and number > 0
        if start == end:
            at = (start + 8, y - 7)
            drawing.text(at, call.label, anchor="start", small=True, halo=True)
            drawing.arrow([(start + 26, y), (start, y)], data=data)
        else:
            drawing.arrow([(start, y), (end, y)], data=data, dashed=waits)
            label = f"message: {call.label}" if waits else call.label
            drawing.text(((start + end) / 2, y - 7), label, small=True, halo=True)
    return drawing.svg()
