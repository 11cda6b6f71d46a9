"""What a decision reads, and the difference that it makes.

:class:`SessionState` is the same type whether it holds a whole session (the memory storage) or
just the part that an event asked for with :class:`Reads` (the database storage). A decision never
changes it; :meth:`SessionState.apply` does, when the decision is committed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from triggers.engine.plan import EMPTY_PLAN, Plan
from triggers.types import Firing, Instance, Phase, Status

InstanceKey = tuple[str, int]
"""Task name and number of an instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What a decision must see of a session.

    :ivar triggers: of each name: the instances awaiting it. Of each task that listens to it and
        has no such instance, also what ``counts`` and ``latest`` would give.
    :ivar instances: these instances.
    :ivar counts: how many instances these tasks have.
    :ivar waiting: the undecided instances of these tasks.
    :ivar latest: the latest firing of these triggers.
    :ivar passed: the latest firing that passed, by (task, trigger).
    :ivar firings: the firings with these sequence numbers.
    :ivar unsettled: of each task, as many unsettled instances as the number says.
    :ivar timers_until: the instances that time alone changes until this moment.
    :ivar key: the firing that has this (trigger, idempotency key).
    :ivar ref: the pending mark with this ref.
    :ivar ongoing: of all these tasks together, so many instances at most that are not resolved,
        but for those that wait and that time alone does not change.
    :ivar marks: every pending mark, and how many firings are still to be decided.
    :ivar due: instances and pending marks that are due at the session's present time.
    :ivar unresolved: every instance that is not resolved, and every pending mark.
    :ivar history: every firing of the session, though not their kwargs.
    """

    triggers: tuple[str, ...] = ()
    instances: tuple[InstanceKey, ...] = ()
    counts: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    latest: tuple[str, ...] = ()
    passed: tuple[tuple[str, str], ...] = ()
    firings: tuple[int, ...] = ()
    unsettled: tuple[tuple[str, int], ...] = ()
    timers_until: datetime | None = None
    key: tuple[str, str] | None = None
    ref: str | None = None
    ongoing: tuple[tuple[str, ...], int] | None = None
    marks: bool = False
    due: bool = False
    unresolved: bool = False
    history: bool = False


class MustSeeMore(Exception):
    """A decision needs to see more of the session than was read.

    Who runs the decision reads that too, and runs it again; deciding has no effects, so nothing
    is lost. A session that was read as a whole never meets this.

    :ivar reads: what it needs.
    """

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        super().__init__(f"this decision must also see {reads}")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a manager overrides.

    :ivar manager: the name under which the manager is registered; its marks are for it alone.
    :ivar names: the hooks, such as ``post_fire``; ``fire`` itself is one.
    """

    manager: str = "default"
    names: frozenset[str] = frozenset()

    @property
    def folds(self) -> bool:
        """Whether a cascade may be decided together with what caused it.

        It may not if ``fire`` is overridden: then the override sees every cascade.
        """
        return "fire" not in self.names


NO_HOOKS = Hooks()
"""Of a manager that overrides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Something that must still be done for a session, as part of its committed state.

    :ivar ref: identifies it within the session.
    :ivar kind: ``cascade`` or the name of a hook, such as ``post_fire``.
    :ivar data: its arguments, plain JSON.
    :ivar due_at: when recovery takes it over, in case who committed it does not get to it.
    """

    ref: str
    kind: str
    data: Mapping[str, Any]
    due_at: datetime


@dataclass(slots=True, kw_only=True)
class SessionState:
    """A session, or the part of it that was read.

    :ivar phase: whether it still takes firings.
    :ivar seq: sequence number of the latest firing (0 before the first).
    :ivar clock: the session's time; it never goes back.
    :ivar manager: name of the manager class that configured the session.
    :ivar is_whole: whether what is not here does not exist; if not, it may not have been read.
    :ivar counts: how many instances a task has.
    :ivar awaiting: by trigger, the instances that this trigger can still change.
    :ivar latest: sequence number of the latest firing of a trigger.
    :ivar passed: sequence number of the latest firing that passed, by (task, trigger), where the
        task chooses among the firings of this trigger.
    :ivar unsettled: numbers of a task's unsettled instances, where somebody waits for them.
    :ivar unsettled_limits: how many of those were read at most.
    :ivar ongoing: instances that were read as such, of the tasks that were asked about.
    :ivar ongoing_limit: how many of those were read at most.
    :ivar deferred: how many firings are still to be decided, if ``marks`` were read; who decides
        one of them still counts it.
    :ivar timers: when time alone changes which instance, in order.
    :ivar timers_until: the moment until which those were read.
    :ivar history: the names under which each firing was recorded, by sequence number, if all of
        them were read.
    """

    plan: Plan = EMPTY_PLAN
    is_whole: bool = True
    phase: Phase = Phase.OPEN
    seq: int = 0
    clock: datetime | None = None
    manager: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    awaiting: dict[str, dict[InstanceKey, None]] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    passed: dict[tuple[str, str], int] = field(default_factory=dict)
    unsettled: dict[str, set[int]] = field(default_factory=dict)
    unsettled_limits: dict[str, int] = field(default_factory=dict)
    ongoing: set[InstanceKey] = field(default_factory=set)
    ongoing_limit: int = 0
    deferred: int | None = None
    timers: list[tuple[datetime, InstanceKey]] = field(default_factory=list)
    timers_until: datetime | None = None
    history: dict[int, tuple[str, ...]] | None = None
    instances: dict[InstanceKey, Instance] = field(default_factory=dict)
    firings: dict[int, Firing] = field(default_factory=dict)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    due: dict[InstanceKey, None] = field(default_factory=dict)

    def add(self, instance: Instance) -> None:
        """Put in an instance, replacing what was there under its name."""
        key = (instance.task, instance.number)
        self._forget(key)
        self.instances[key] = instance
        self.counts[instance.task] = max(self.counts.get(instance.task, 0), instance.number + 1)
        self._index(key, instance)
        if instance.due_at is None:
            self.due.pop(key, None)
        else:
            self.due[key] = None

    def add_firing(self, firing: Firing) -> None:
        """Put in a firing."""
        self.firings[firing.seq] = firing
        for trigger in (firing.trigger, *firing.also):
            self.latest[trigger] = max(self.latest.get(trigger, 0), firing.seq)
        if firing.key is not None:
            self.keys[firing.trigger, firing.key] = firing.seq

    def past(self) -> Mapping[int, tuple[str, ...]]:
        """The names under which every firing was recorded, by sequence number."""
        if self.history is not None:
            return self.history
        return {seq: (firing.trigger, *firing.also) for seq, firing in self.firings.items()}

    def find_unsettled(self, task: str) -> Collection[int]:
        """Numbers of a task's unsettled instances, of a session that was read as a whole."""
        if task in self.plan.watched:
            return self.unsettled.get(task, ())
        return [
            instance.number
            for instance in self.instances.values()
            if instance.task == task and not instance.status.is_resolved
        ]

    def find_ongoing(self, tasks: Iterable[str]) -> Iterator[InstanceKey]:
        """Instances of watched tasks that are not resolved, but for those that only wait.

        Of a session that was read as a whole.
        """
        for task in tasks:
            for number in self.unsettled.get(task, ()):
                if self.instances[task, number].is_ongoing:
                    yield task, number

    def apply(self, transition: Transition) -> None:
        """Make the difference that a decision described."""
        if transition.phase is Phase.PURGED:
            self._clear()
        if transition.phase is not None:
            self.phase = transition.phase
        if transition.configured:
            self._replace_plan(transition.plan)
        if transition.manager is not None:
            self.manager = transition.manager
        self.seq = transition.seq
        self.clock = transition.clock
        for firing in transition.firings:
            self.add_firing(firing)
        for instance in transition.instances.values():
            self.add(instance)
        for name, seq in transition.passed.items():
            if seq:
                self.passed[name] = seq
            else:
                self.passed.pop(name, None)
        for pending in transition.pending:
            self.pending[pending.ref] = pending
        for ref in transition.done:
            self.pending.pop(ref, None)

    def _clear(self) -> None:
        """Keep nothing of what happened in the session."""
        empty = SessionState()
        for each in fields(SessionState):
            if each.name not in ("seq", "clock", "phase"):
                setattr(self, each.name, getattr(empty, each.name))

    def _forget(self, key: InstanceKey) -> None:
        known = self.instances.get(key)
        if known is None:
            return
        for trigger in self.plan.tasks[known.task].open_names(known):
            waiting = self.awaiting[trigger]
            del waiting[key]
            if not waiting:
                del self.awaiting[trigger]
        if known.timer_at is not None:
            del self.timers[bisect_left(self.timers, (known.timer_at, key))]
        if known.task in self.unsettled:
            self.unsettled[known.task].discard(known.number)

    def _index(self, key: InstanceKey, instance: Instance) -> None:
        for trigger in self.plan.tasks[instance.task].open_names(instance):
            self.awaiting.setdefault(trigger, {})[key] = None
        if instance.timer_at is not None:
            insort(self.timers, (instance.timer_at, key))
        if instance.task in self.plan.watched and not instance.status.is_resolved:
            self.unsettled.setdefault(instance.task, set()).add(instance.number)

    def _replace_plan(self, plan: Plan) -> None:
        # All of them, not just those that await something now: under new conditions they may.
        self.awaiting.clear()
        self.timers.clear()
        self.unsettled = {task: set() for task in plan.watched}
        self.plan = plan
        for key, instance in self.instances.items():
            self._index(key, instance)


@dataclass(slots=True, kw_only=True)
class Transition:
    """The difference that one event makes, for a storage to commit atomically.

    :ivar seq: the session's latest sequence number from now on.
    :ivar clock: the session's time from now on.
    :ivar firings: firings to record, oldest first.
    :ivar instances: instances to write, by key: new ones and changed ones.
    :ivar created: keys of those that are new.
    :ivar passed: the latest firing that passed, by (task, trigger); 0: there is none any more.
    :ivar scheduled: instances to hand to a runner once this is committed, in order.
    :ivar pending: marks to add (or to move to a later ``due_at``).
    :ivar done: refs of marks to remove.
    :ivar plan: the session's configuration from now on.
    :ivar configured: whether that is a new one, to be stored.
    :ivar manager: the new manager name, or ``None`` if it stays.
    :ivar phase: the new phase, or ``None`` if it stays; with ``purged``, all that is stored of the
        session goes, except its uid, ``seq``, ``clock`` and phase.
    :ivar outcome: what the event reports to who asked for it.
    :ivar previous: of each instance whose status changes, the status that it had before, in the
        order in which that began (of a new one ``None``); ``None`` if a storage that decides where
        the data live does not say.
    """

    seq: int
    clock: datetime
    plan: Plan
    configured: bool = False
    firings: list[Firing] = field(default_factory=list)
    instances: Mapping[InstanceKey, Instance] = field(default_factory=dict)
    created: Collection[InstanceKey] = ()
    passed: dict[tuple[str, str], int] = field(default_factory=dict)
    scheduled: Iterable[InstanceKey] = ()
    pending: list[Pending] = field(default_factory=list)
    done: tuple[str, ...] = ()
    manager: str | None = None
    phase: Phase | None = None
    outcome: Any = None
    previous: Mapping[InstanceKey, Status | None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (
            self.firings
            or self.instances
            or self.pending
            or self.done
            or self.passed
            or self.configured
            or self.manager is not None
            or self.phase is not None
        )
