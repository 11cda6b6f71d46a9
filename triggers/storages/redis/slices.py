"""The slice of a compiled configuration that one trigger needs, as ``fire.lua`` reads it.

A firing is *plain* if all tasks that it reaches have lists of names as conditions, and time plays
no part in them. Whether it passes filters is known before, so those do no harm. What is not plain
has no slice here, and the engine decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triggers import payload
from triggers.conditions.tree import AllHeld
from triggers.engine import Plan, TaskPlan
from triggers.storages.redis.keys import count_field, latest_field, passed_field
from triggers.storages.redis.plans import NO_DIGEST
from triggers.storages.redis.scripts import bulk

Refused = frozenset[tuple[str, str]]
"""Tasks whose filter refuses the firing, each with the name that it refuses."""


_KEPT = 4096

_slices: dict[tuple[str, str, Refused, bool], bytes | None] = {}


def slice_of(plan: Plan, trigger: str, refused: Refused, is_outcome: bool) -> bytes | None:
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
        _slices[key] = None if compiled is None else bulk(payload.dump(compiled))
    return _slices[key]


def _compiled(
    plan: Plan, trigger: str, refused: Refused, is_outcome: bool
) -> dict[str, Any] | None:
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
    tasks: list[dict[str, Any]] = []
    passed: list[str] = []
    told: dict[str, list[str]] = {}
    for task, (name,) in reached:
        if (task.config.name, name) in refused:
            continue
        tasks.append(_task(plan, task, name, fields))
        told.setdefault(name, []).append(task.config.name)
        if name in task.tracked:
            passed.append(passed_field(task.config.name, name))
    compiled: dict[str, Any] = {
        "digest": plan.configuration.digest if plan.tasks else NO_DIGEST,
        "latest": latest_field(trigger),
        "fields": fields.names,
        "tasks": tasks,
    }
    # What is usually nothing is left out: the server reads this with every firing.
    if plan.is_timed:
        compiled["is_timed"] = True
    if passed:
        compiled["passed"] = passed
    if told and is_outcome:
        compiled["told"] = payload.dump(told)
    return compiled


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


def _task(plan: Plan, task: TaskPlan, name: str, fields: _Fields) -> dict[str, Any]:
    own = task.config.name
    is_barring = isinstance(task.barred, AllHeld)
    needed, barring = set(task.ready.names), set(task.barred.names if is_barring else ())
    others = []
    for each in task.names:
        if each != name:
            other = {
                "name": each,
                "entry": _entry(each),
                "fields": _carried(plan, task, each, fields),
                "is_needed": each in needed,
                "bars": each in barring,
                "is_outcome": each.partition(":")[0] in plan.tasks,
            }
            others.append({key: value for key, value in other.items() if value is not False})
    compiled = {
        "task": own,
        "name": name,
        "entry": _entry(name),
        "count": fields.place(count_field(own)),
        "others": others,
        "is_every": name == task.config.and_every,
        "can_be_barred": is_barring,
        "is_heard": is_barring and plan.is_listened_to(f"{own}:abandoned"),
    }
    return {key: value for key, value in compiled.items() if value is not False}


def _carried(plan: Plan, task: TaskPlan, name: str, fields: _Fields) -> list[int]:
    """Where the latest firing of a name is found that a new instance begins with."""
    if name in task.tracked:
        return [fields.place(passed_field(task.config.name, name))]
    return [fields.place(latest_field(trigger)) for trigger in plan.recorded_as(name)]


def _entry(name: str) -> str:
    return f"{payload.dump(name)}:"


def refusals_by_task(refusals: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Why a firing does not count, by task, as it is recorded."""
    reasons: dict[str, str] = {}
    for (task, _name), reason in refusals.items():
        reasons.setdefault(task, reason)
    return reasons
