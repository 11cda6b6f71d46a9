"""What a decision reads, and the difference that it makes.

:class:`SessionState` is the same type whether it holds a whole session (the memory storage) or
just the part that an event asked for with :class:`Reads` (the database storage). A decision never
changes it; :meth:`SessionState.apply` does, when the decision is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from triggers.engine.plan import EMPTY_PLAN, Plan
from triggers.types import Firing, Instance

InstanceKey = tuple[str, int]
"""Task name and number of an instance."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What an event must see of a session.

    :ivar triggers: of each: the instances awaiting it; and of each task that names it, how many
        instances there are and the latest firing of every trigger that the task names.
    :ivar instances: these instances.
    :ivar counts: how many instances these tasks have.
    :ivar waiting: the undecided instances of these tasks.
    :ivar latest: the latest firing of these triggers.
    :ivar key: the firing that has this (trigger, idempotency key).
    :ivar ref: the pending mark with this ref.
    :ivar due: instances and pending marks that are due at the session's present time.
    :ivar history: every firing of the session.
    """

    triggers: tuple[str, ...] = ()
    instances: tuple[InstanceKey, ...] = ()
    counts: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    latest: tuple[str, ...] = ()
    key: tuple[str, str] | None = None
    ref: str | None = None
    due: bool = False
    history: bool = False


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a manager overrides.

    :ivar manager: the name under which the manager is registered; its marks are for it alone.
    :ivar names: the hooks, such as ``post_fire``.
    """

    manager: str = "default"
    names: frozenset[str] = frozenset()


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

    :ivar seq: sequence number of the latest firing (0 before the first).
    :ivar clock: the session's time; it never goes back.
    :ivar manager: name of the manager class that configured the session.
    :ivar counts: how many instances a task has.
    :ivar awaiting: by trigger, the instances that this trigger can still change.
    :ivar latest: sequence number of the latest firing of a trigger.
    """

    plan: Plan = EMPTY_PLAN
    seq: int = 0
    clock: datetime | None = None
    manager: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    awaiting: dict[str, dict[InstanceKey, None]] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    instances: dict[InstanceKey, Instance] = field(default_factory=dict)
    firings: dict[int, Firing] = field(default_factory=dict)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    due: dict[InstanceKey, None] = field(default_factory=dict)

    def add(self, instance: Instance) -> None:
        """Put in an instance, replacing what was there under its name."""
        key = (instance.task, instance.number)
        self._forget_awaited(key)
        self.instances[key] = instance
        self.counts[instance.task] = max(self.counts.get(instance.task, 0), instance.number + 1)
        for trigger in self.plan.tasks[instance.task].open_names(instance):
            self.awaiting.setdefault(trigger, {})[key] = None
        if instance.due_at is None:
            self.due.pop(key, None)
        else:
            self.due[key] = None

    def add_firing(self, firing: Firing) -> None:
        """Put in a firing."""
        self.firings[firing.seq] = firing
        self.latest[firing.trigger] = max(self.latest.get(firing.trigger, 0), firing.seq)
        if firing.key is not None:
            self.keys[firing.trigger, firing.key] = firing.seq

    def apply(self, transition: Transition) -> None:
        """Make the difference that a decision described."""
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
        for pending in transition.pending:
            self.pending[pending.ref] = pending
        for ref in transition.done:
            self.pending.pop(ref, None)

    def _forget_awaited(self, key: InstanceKey) -> None:
        known = self.instances.get(key)
        if known is not None:
            for trigger in self.plan.tasks[known.task].open_names(known):
                waiting = self.awaiting[trigger]
                del waiting[key]
                if not waiting:
                    del self.awaiting[trigger]

    def _replace_plan(self, plan: Plan) -> None:
        # All of them, not just those that await something now: under new conditions they may.
        self.awaiting.clear()
        self.plan = plan
        for key, instance in self.instances.items():
            for trigger in plan.tasks[instance.task].open_names(instance):
                self.awaiting.setdefault(trigger, {})[key] = None


@dataclass(slots=True, kw_only=True)
class Transition:
    """The difference that one event makes, for a storage to commit atomically.

    :ivar seq: the session's latest sequence number from now on.
    :ivar clock: the session's time from now on.
    :ivar firings: firings to record, oldest first.
    :ivar instances: instances to write, by key: new ones and changed ones.
    :ivar created: keys of those that are new.
    :ivar scheduled: instances to hand to a runner once this is committed, in order.
    :ivar pending: marks to add (or to move to a later ``due_at``).
    :ivar done: refs of marks to remove.
    :ivar plan: the session's configuration from now on.
    :ivar configured: whether that is a new one, to be stored.
    :ivar manager: the new manager name, or ``None`` if it stays.
    :ivar outcome: what the event reports to who asked for it.
    """

    seq: int
    clock: datetime
    plan: Plan
    configured: bool = False
    firings: list[Firing] = field(default_factory=list)
    instances: dict[InstanceKey, Instance] = field(default_factory=dict)
    created: Collection[InstanceKey] = ()
    scheduled: Iterable[InstanceKey] = ()
    pending: list[Pending] = field(default_factory=list)
    done: tuple[str, ...] = ()
    manager: str | None = None
    outcome: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (
            self.firings
            or self.instances
            or self.pending
            or self.done
            or self.configured
            or self.manager is not None
        )
