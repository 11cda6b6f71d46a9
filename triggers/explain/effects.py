"""What a firing caused: the instances that it changed, what these fired, and so on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from triggers.engine.plan import TaskPlan
from triggers.explain.ending import is_own
from triggers.explain.look import Look
from triggers.explain.sentences import of_firing
from triggers.explain.values import Explanation, FiringRef, Link, Refusal, Value
from triggers.explain.wording import Outline
from triggers.types import Firing, Instance, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged(Value):
    """A task that names a firing, and in which it changed nothing.

    :ivar task: the task's name.
    :ivar reason: why it changed nothing, for people.
    """

    task: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects(Value):
    """What a firing caused.

    :ivar firing: the firing.
    :ivar created: instances that it made, as far as that can be told.
    :ivar scheduled: instances that it made ready to run.
    :ivar abandoned: instances that it ruled out.
    :ivar held_by: all instances that hold it now.
    :ivar filtered: the tasks for which it was filtered out.
    :ivar unchanged: the other tasks that name it.
    :ivar further: outcomes of the instances that it scheduled or ruled out.
    :ivar left_out: how many firings that follow from it are not shown here.
    """

    firing: FiringRef
    created: tuple[str, ...]
    scheduled: tuple[str, ...]
    abandoned: tuple[str, ...]
    held_by: tuple[str, ...]
    filtered: tuple[Refusal, ...]
    unchanged: tuple[Unchanged, ...]
    further: tuple[Effects, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringExplanation(Explanation):
    """Where a firing came from, and what it caused.

    :ivar uid: the session's uid.
    :ivar key: the caller's idempotency key, or ``None``.
    :ivar kwargs: what was fired, in plain JSON (typed values in kombu's form).
    :ivar causes: what had led to it, step by step.
    :ivar is_complete: whether ``causes`` goes back to the beginning.
    :ivar effects: what it caused.
    :ivar by_session: whether the session has fired it itself, as nothing was left to do.
    """

    kind: ClassVar[str] = "firing"

    uid: str
    key: str | None
    kwargs: Mapping[str, Any]
    causes: tuple[Link, ...]
    is_complete: bool
    effects: Effects
    by_session: bool = False

    def outline(self) -> Outline:
        return of_firing(self)


FIRINGS = 100
"""How many firings that follow from one are shown, the nearest first …"""

DEPTH = 20
"""… and how many that follow from one another."""


def firing_of(look: Look, firing: Firing) -> FiringExplanation:
    """Where a firing came from, and what it caused."""
    cause = look.instances.get(firing.cause) if firing.cause else None
    causes, is_complete = look.chain(cause)
    return FiringExplanation(
        uid=look.uid,
        key=firing.key,
        kwargs=json.loads(firing.kwargs),
        causes=causes,
        is_complete=is_complete,
        effects=_effects(look, firing),
        by_session=is_own(look, firing),
    )


def _effects(look: Look, firing: Firing) -> Effects:
    """A firing with all that follows from it, within bounds."""
    # Level by level, since a chain may be longer than Python's stack.
    following = [firing]
    depths = {firing.seq: 0}
    for each in following:
        for outcome in _outcomes(look, each):
            depths[outcome.seq] = depths[each.seq] + 1
            following.append(outcome)
    shown = {
        each.seq
        for number, each in enumerate(following)
        if number <= FIRINGS and depths[each.seq] <= DEPTH
    }
    made: dict[int, Effects] = {}
    hidden: dict[int, int] = {}
    for each in reversed(following):
        outcomes = [outcome.seq for outcome in _outcomes(look, each)]
        left_out = sum(hidden[seq] + (seq not in shown) for seq in outcomes)
        hidden[each.seq] = left_out
        if each.seq in shown:
            further = [made[seq] for seq in outcomes if seq in shown]
            made[each.seq] = _effects_of_one(look, each, further, left_out)
    return made[firing.seq]


def _effects_of_one(
    look: Look, firing: Firing, further: Iterable[Effects], left_out: int
) -> Effects:
    seq = firing.seq
    created = look.created.get(seq, [])
    decided = [each for each in look.decided.get(seq, []) if not look.is_successor(each)]
    holders = look.holders.get(seq, [])
    touched = {each.task for each in (*created, *decided, *holders)} | firing.refused.keys()
    unchanged = (
        Unchanged(task=task.config.name, reason=_reason(look, task, firing, names))
        for task, names in look.plan.takers(look.names[seq])
        if task.config.name not in touched
    )
    return Effects(
        firing=look.ref(firing),
        created=_names(created),
        scheduled=_names(each for each in decided if each.status is not Status.ABANDONED),
        abandoned=_names(each for each in decided if each.status is Status.ABANDONED),
        held_by=_names(holders),
        filtered=look.refusals(firing),
        unchanged=tuple(unchanged),
        further=tuple(further),
        left_out=left_out,
    )


def _outcomes(look: Look, firing: Firing) -> Iterator[Firing]:
    """The outcomes of the instances that a firing decided, oldest first."""
    found = [
        outcome
        for instance in look.decided.get(firing.seq, [])
        for outcome in look.outcomes.get(instance.name, [])
    ]
    return iter(sorted(found, key=lambda each: each.seq))


def _reason(look: Look, task: TaskPlan, firing: Firing, names: tuple[str, ...]) -> str:
    """Why a firing that passed for a task changed nothing, as far as can be told."""
    instances = look.by_task.get(task.config.name, [])
    if not any(each.created_at <= firing.at for each in instances):
        return "it was configured later, or configured anew"
    later = {seq for each in instances for seq in look.seqs(each) if seq > firing.seq}
    newer = any(
        name in look.names[seq] and (task.replaces(name) or name in task.fresh)
        for seq in later
        for name in names
    )
    if newer:
        return "a later one has taken its place"
    return "no instance was waiting for it"


def _names(instances: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(each.name for each in instances)
