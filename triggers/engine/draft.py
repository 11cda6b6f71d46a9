"""What a decision changes, and how it sees the session meanwhile.

A :class:`Draft` collects what one decision changes while it reads through to a state that stays
as it was. The rules that fill it are in :mod:`triggers.engine.rules`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappush
from itertools import islice
from typing import Any

from triggers.engine.holdings import Holdings
from triggers.engine.plan import Plan, TaskPlan, held
from triggers.engine.state import (
    NO_HOOKS,
    Hooks,
    InstanceKey,
    MustSeeMore,
    Pending,
    Reads,
    SessionState,
    Transition,
)
from triggers.engine.transitions import check_transition
from triggers.engine.verdicts import NO_VERDICTS, Verdicts
from triggers.exceptions import InstanceNotFound
from triggers.types import BY_HAND, Firing, Instance, Status

RESEND_AFTER = timedelta(minutes=1)
"""How long a message may stay unanswered before recovery sends it again; doubled each time."""

RESEND_AT_MOST = timedelta(hours=1)
"""The longest pause between two sendings."""

LONGEST_COUNTDOWN = timedelta(minutes=1)
"""The longest cool-down that is left to a runner; recovery sends what waits for longer."""


@dataclass(slots=True, kw_only=True)
class Cause:
    """The instance whose outcome a firing is.

    :ivar lineage: number of the first instance of its lineage.
    """

    task: str
    number: int
    lineage: int

    @property
    def name(self) -> str:
        return f"{self.task}#{self.number}"

    @classmethod
    def of(cls, instance: Instance) -> Cause:
        """An instance as a cause."""
        return cls(task=instance.task, number=instance.number, lineage=instance.lineage)


@dataclass(slots=True, kw_only=True)
class Planned:
    """A firing that is to be decided.

    :ivar also: further names that are fired with the trigger, as one.
    :ivar depth: how many cascades led to it.
    :ivar is_heard: whether hooks are called for it: not for an outcome that no task waits for.
    """

    trigger: str
    kwargs: str
    also: tuple[str, ...] = ()
    key: str | None = None
    cause: Cause | None = None
    depth: int = 0
    is_heard: bool = True


class Draft:
    """What a decision changes.

    :param state: what was read; never changed here.
    :param now: the session's time for this decision, aware UTC.
    :param hooks: hooks that the manager overrides; a mark is left for each call due to them.
    :param verdicts: what filters said about the firings of this decision.

    :ivar phase: the session's phase from now on.
    :ivar is_stirred: whether something has changed that may let the session come to its end.
    :ivar is_ending: whether the session itself is firing that it is finalized.
    :ivar is_deferred: whether a firing is decided that was recorded before.
    :ivar done: refs of the marks that this decision removes.
    """

    def __init__(
        self,
        state: SessionState,
        now: datetime,
        hooks: Hooks = NO_HOOKS,
        verdicts: Verdicts = NO_VERDICTS,
    ) -> None:
        self.state = state
        self.now = now
        self.present = now
        self.hooks = hooks
        self.verdicts = verdicts
        self.plan: Plan = state.plan
        self.seq = state.seq
        self.firings: list[Firing] = []
        self.instances: dict[InstanceKey, Instance] = {}
        self.created: dict[InstanceKey, None] = {}
        self.scheduled: dict[InstanceKey, None] = {}
        self.abandoned: dict[InstanceKey, None] = {}
        self.previous: dict[InstanceKey, Status | None] = {}
        self.pending: list[Pending] = []
        self.passed: dict[tuple[str, str], int] = {}
        self.queue: deque[Planned] = deque()
        self.touched: dict[str, None] = {}
        self.restless: dict[InstanceKey, None] = {}
        self.asking: list[InstanceKey] = []
        self.timers: list[tuple[datetime, int, int, str]] | None = None
        self.phase = state.phase
        self.is_stirred = False
        self.is_ending = False
        self.is_deferred = False
        self.done: set[str] = set()
        self.is_at_rest = False
        self.deciding: int | None = None
        self._own_firings: dict[int, Firing] = {}
        self._counts: dict[str, int] = {}
        self._awaiting: dict[str, dict[InstanceKey, None]] = {}
        self._latest: dict[str, int] = {}
        self._unsettled: dict[str, dict[int, bool]] = {}
        self._sees_earlier = True

    def next_instance(self, task: str, **fields: Any) -> Instance:
        """The task's next instance in number, unstarted; :meth:`put` makes it part of the draft."""
        number = self.count(task)
        self._counts[task] = number + 1
        self.created[task, number] = None
        self.previous[task, number] = None
        return Instance.new(task, number, self.now, **fields)

    def moved(self, instance: Instance, status: Status, **fields: Any) -> Instance:
        """The instance with another status; scheduling makes it due for re-sending.

        :raises InvalidTransition: the table of transitions forbids it.
        """
        check_transition(instance.name, instance.status, status)
        self.previous.setdefault((instance.task, instance.number), instance.status)
        changes: dict[str, Any] = {"token": None, "timer_at": None, "due_at": None, **fields}
        if status is Status.SCHEDULED:
            start = self.present
            if instance.not_before is not None:
                start = max(start, instance.not_before)
            is_short = start is self.present or start - self.present <= LONGEST_COUNTDOWN
            changes["due_at"] = start + RESEND_AFTER if is_short else start
            self.scheduled[instance.task, instance.number] = None
        return instance.but(status=status, changed_at=self.now, **changes)

    def put(self, instance: Instance) -> None:
        """Make this the instance's state."""
        key = (instance.task, instance.number)
        task = self.plan.tasks[instance.task]
        known = self.instances.get(key)
        if known is not None:
            for trigger in task.open_names(known):
                del self._awaiting[trigger][key]
        for trigger in task.open_names(instance):
            self._awaiting.setdefault(trigger, {})[key] = None
        self.instances[key] = instance
        if instance.task in self.plan.watched:
            self.touched[instance.task] = None
            unsettled = self._unsettled.setdefault(instance.task, {})
            unsettled[instance.number] = not instance.status.is_resolved
        if self.timers is not None and instance.timer_at is not None:
            position = self.plan.positions[instance.task]
            heappush(self.timers, (instance.timer_at, position, instance.number, instance.task))

    def mark(self, kind: str, ref: str, data: Mapping[str, Any]) -> None:
        """Leave a mark that a hook must still be called, if the manager overrides it."""
        if kind in self.hooks.names:
            self.require(kind, ref, data)

    def require(self, kind: str, ref: str, data: Mapping[str, Any]) -> None:
        """Leave a mark that something must still be done."""
        mark = Pending(
            ref=f"{kind}:{ref}",
            kind=kind,
            data={**data, "manager": self.hooks.manager},
            due_at=self.present + RESEND_AFTER,
        )
        self.pending.append(mark)

    @property
    def has_left_cascades(self) -> bool:
        """Whether a mark was left for a cascade, to be decided by the manager's own ``fire``."""
        return any(mark.kind == "cascade" for mark in self.pending)

    def instance(self, key: InstanceKey) -> Instance:
        """An instance as this decision sees it.

        :raises InstanceNotFound: the session has no such instance.
        """
        found = self.instances.get(key) or self.state.instances.get(key)
        if found is None:
            if self.state.is_whole:
                raise InstanceNotFound(f"{key[0]}#{key[1]}", "the session has no such instance")
            raise MustSeeMore(Reads(instances=(key,)))
        return found

    def count(self, task: str) -> int:
        """How many instances a task has, as this decision sees it."""
        known = self._counts.get(task) or self.state.counts.get(task)
        if known is None:
            if not self.state.is_whole:
                raise MustSeeMore(Reads(counts=(task,)))
            known = 0
        return known

    def note_firing(self, firing: Firing) -> None:
        """A firing is being decided: conditions may look at it."""
        self._own_firings[firing.seq] = firing

    def note_latest(self, trigger: str, seq: int) -> None:
        """A firing was decided: it is the latest of this trigger."""
        self._latest[trigger] = seq

    def knows_instance(self, key: InstanceKey) -> bool:
        """Whether an instance has been read."""
        return key in self.instances or key in self.state.instances

    def knows_firing(self, seq: int) -> bool:
        """Whether a firing has been read."""
        return seq in self._own_firings or seq in self.state.firings

    def firing(self, seq: int) -> Firing:
        """A firing that was recorded, or is being."""
        found = self._own_firings.get(seq) or self.state.firings.get(seq)
        if found is None:
            raise MustSeeMore(Reads(firings=(seq,)))
        return found

    def past(self) -> dict[int, tuple[str, ...]]:
        """The names under which every firing was recorded, by sequence number."""
        own = {firing.seq: (firing.trigger, *firing.also) for firing in self.firings}
        return {**self.state.past(), **own}

    def latest(self, trigger: str) -> int:
        """Sequence number of the latest firing that was recorded as this trigger, or 0."""
        known = self._latest.get(trigger)
        if known is None and self._sees_earlier:
            known = self.state.latest.get(trigger)
            if known is None and not self.state.is_whole:
                raise MustSeeMore(Reads(latest=(trigger,)))
        return known or 0

    def latest_for(self, task: TaskPlan, name: str) -> int:
        """Sequence number of the latest firing that passed a task's filter, or 0."""
        if name not in task.tracked:
            triggers = self.plan.recorded_as(name)
            return max(map(self.latest, triggers)) if len(triggers) > 1 else self.latest(name)
        key = (task.config.name, name)
        known = self.passed.get(key)
        if known is None and self._sees_earlier:
            known = self.state.passed.get(key)
            if known is None and not self.state.is_whole:
                raise MustSeeMore(Reads(passed=(key,)))
        return known or 0

    def see_held(self, instances: Iterable[Instance]) -> None:
        """See to it that the firings are known that conditions look at in these instances.

        :raises MustSeeMore: some have not been read; all of them at once, since each time that
            something is missing, deciding begins again.
        """
        if self.state.is_whole:
            return
        missing = {
            seq
            for instance in instances
            for name in self.plan.tasks[instance.task].looks_up
            for seq in held(instance, name)
            if seq != BY_HAND and not self.knows_firing(seq)
        }
        if missing:
            raise MustSeeMore(Reads(firings=tuple(sorted(missing))))

    def holdings(self, instance: Instance) -> Holdings:
        """What conditions may know about an instance."""
        if not self.state.is_whole and self.plan.tasks[instance.task].looks_up:
            self.see_held([instance])
        return Holdings(instance, self.now, self.firing, self.is_settled)

    def is_settled(self, task: str) -> bool:
        """Whether a task has lineages, all settled; false as long as something is to be decided."""
        if not self.is_at_rest or not self.count(task):
            return False
        own = self._unsettled.get(task, {})
        if any(own.values()):
            return False
        if self.state.is_whole:
            stored = self.state.find_unsettled(task)
        else:
            # If more are unsettled than are settled here, one at least stays so.
            if self.state.unsettled_limits.get(task, 0) <= len(own):
                raise MustSeeMore(Reads(unsettled=((task, len(own) + 1),)))
            stored = self.state.unsettled[task]
        return all(number in own for number in stored)

    def awaiting(self, name: str) -> list[InstanceKey]:
        """The waiting instances that can still be changed under this name."""
        stored: Mapping[InstanceKey, None] = {}
        if self._sees_earlier:
            if name in self.state.awaiting:
                stored = self.state.awaiting[name]
            elif not self.state.is_whole:
                raise MustSeeMore(Reads(triggers=(name,)))
        return [key for key in stored if key not in self.instances] + list(
            self._awaiting.get(name, ())
        )

    def replace_plan(self, plan: Plan) -> None:
        """Decide under another configuration from here on."""
        self.plan = plan
        self.is_stirred = True
        self._awaiting.clear()
        for key, instance in self.instances.items():
            for trigger in plan.tasks[instance.task].open_names(instance):
                self._awaiting.setdefault(trigger, {})[key] = None
            if instance.task in plan.watched:
                unsettled = self._unsettled.setdefault(instance.task, {})
                unsettled[instance.number] = not instance.status.is_resolved

    def begin_history(self) -> None:
        """History is about to be taken from its start: nothing that was before it counts."""
        self._sees_earlier = False
        self.timers = []

    def end_history(self) -> None:
        """History has been taken; what follows from it happens now."""
        self._sees_earlier = True
        self.timers = None
        self.now = self.present

    def transition(self, **fields: Any) -> Transition:
        """The difference that this draft makes."""
        return Transition(
            seq=self.seq,
            clock=self.now,
            plan=self.plan,
            firings=self.firings,
            instances=self.instances,
            created=self.created,
            scheduled=self.scheduled,
            passed=self.passed,
            pending=self.pending,
            previous=self.previous,
            **fields,
        )

    def takers(self, names: tuple[str, ...]) -> dict[str, dict[int, list[str]]]:
        """The names under which waiting instances can be changed, by task and number."""
        takers: dict[str, dict[int, list[str]]] = {}
        for name in names:
            if self.plan.listening(name):
                for task, number in self.awaiting(name):
                    takers.setdefault(task, {}).setdefault(number, []).append(name)
        return takers


def names_after(keys: Mapping[InstanceKey, None], start: int = 0) -> tuple[str, ...]:
    """Names of the instances from the ``start``-th of these keys on."""
    if len(keys) == start:
        return ()
    return tuple([f"{task}#{number}" for task, number in islice(keys, start, None)])
