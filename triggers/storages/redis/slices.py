"""The slice of a compiled configuration that one trigger needs, as ``fire.lua`` reads it.

A firing is *plain* if all tasks that it reaches have lists of names as conditions, and time plays
no part in them. Whether it passes filters is known before, so those do no harm. What is not plain
has no slice here, and the engine decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from triggers import payload
from triggers.conditions.tree import AllHeld
from triggers.engine import Plan, TaskPlan
from triggers.storages.redis.keys import count_field, latest_field, passed_field
from triggers.storages.redis.plans import NO_DIGEST
from triggers.storages.redis.scripts import bulk

Refused = frozenset[tuple[str, str]]
"""Tasks whose filter refuses the firing, each with the name that it refuses."""


_ROLES = {(False, False): "-", (True, False): "n", (False, True): "b", (True, True): "x"}
"""What a name is for an instance: whether it is needed, and whether it bars."""

_KEPT = 4096

_NOBODY: Refused = frozenset()


class Slice(NamedTuple):
    """Arguments of ``fire.lua``, in the form of the wire, and how many they are."""

    size: int
    wire: bytes


_UNKNOWN = Slice(0, b"")

_slices: dict[tuple[str, str, Refused, bool], Slice | None] = {}


def slice_of(plan: Plan, trigger: str, refused: Refused, is_outcome: bool) -> Slice | None:
    """What the script must know of a configuration, in the form of the wire; compiled once.

    :param refused: by filters, of a firing from outside.
    :param is_outcome: whether the firing is that of a task that finishes.
    :returns: ``None`` if the firing is not plain.
    """
    key = (plan.configuration.digest, trigger, refused, is_outcome)
    if key not in _slices:
        if len(_slices) >= _KEPT:
            _slices.clear()
        compiled = _compiled(plan, trigger, refused, is_outcome)
        wire = None if compiled is None else Slice(len(compiled), b"".join(map(bulk, compiled)))
        _slices[key] = wire
        return wire
    return _slices[key]


def is_never_plain(plan: Plan, trigger: str) -> bool:
    """Whether firings of this trigger from outside are known not to be plain."""
    return _slices.get((plan.configuration.digest, trigger, _NOBODY, False), _UNKNOWN) is None


def _compiled(plan: Plan, trigger: str, refused: Refused, is_outcome: bool) -> list[str] | None:
    names = plan.names_of(trigger)
    reached = plan.takers(names)
    if is_outcome:
        if trigger in plan.watched or plan.asks_about(names):
            return None
    elif plan.reserved_for(trigger) is not None:
        return None
    if not all(_is_plain(plan, task) and len(looked_at) == 1 for task, looked_at in reached):
        return None
    fields = _Fields()
    tasks: list[str] = []
    passed: list[str] = []
    told: dict[str, list[str]] = {}
    for task, (name,) in reached:
        if (task.config.name, name) in refused:
            continue
        tasks += _task(plan, task, name, fields)
        told.setdefault(name, []).append(task.config.name)
        if name in task.tracked:
            passed.append(passed_field(task.config.name, name))
    told_text = payload.dump(told) if told and is_outcome else ""
    return [
        plan.configuration.digest if plan.tasks else NO_DIGEST,
        "1" if plan.is_timed else "",
        told_text,
        str(len(fields.names)),
        str(1 + len(passed)),
        latest_field(trigger),
        *passed,
        *fields.names,
        *tasks,
    ]


class _Fields:
    """Fields of the head that the script needs, each with its place from 1."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def place(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places) + 1)


def _is_plain(plan: Plan, task: TaskPlan) -> bool:
    """Whether a waiting or new instance of a task is decided by the names that it holds alone."""
    return (
        task.is_plain
        and not task.is_timed
        and task.at_most_every is None
        and task.config.name not in plan.watched
    )


def _task(plan: Plan, task: TaskPlan, name: str, fields: _Fields) -> list[str]:
    own = task.config.name
    is_barring = isinstance(task.barred, AllHeld)
    needed, barring = set(task.ready.names), set(task.barred.names if is_barring else ())
    others = [each for each in task.names if each != name]
    is_heard = is_barring and plan.is_listened_to(f"{own}:abandoned")
    compiled = [
        own,
        name,
        _entry(name),
        str(fields.place(count_field(own))),
        "1" if name == task.config.and_every else "",
        "" if not is_barring else "heard" if is_heard else "bars",
        str(len(others)),
    ]
    for each in others:
        role = _ROLES[each in needed, each in barring]
        is_outcome = each.partition(":")[0] in plan.tasks
        places = " ".join(map(str, _carried(plan, task, each, fields)))
        compiled += (each, _entry(each), f"{role}{'o' if is_outcome else '-'} {places}")
    return compiled


def _carried(plan: Plan, task: TaskPlan, name: str, fields: _Fields) -> list[int]:
    """Where the latest firing of a name is found that a new instance begins with."""
    if name in task.tracked:
        return [fields.place(passed_field(task.config.name, name))]
    return [fields.place(latest_field(trigger)) for trigger in plan.recorded_as(name)]


def _entry(name: str) -> str:
    """How a name stands among those that an instance holds, with a comma in front."""
    return f",{payload.dump(name)}:"


def refusals_by_task(refusals: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Why a firing does not count, by task, as it is recorded."""
    reasons: dict[str, str] = {}
    for (task, _name), reason in refusals.items():
        reasons.setdefault(task, reason)
    return reasons
