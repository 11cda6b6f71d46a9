"""The rules of a firing.

A :class:`Draft` collects what one decision changes while it reads through to a state that stays
as it was. The whole meaning of a firing is :meth:`Draft.fire` and the two methods after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from triggers.engine.plan import Plan, TaskPlan
from triggers.engine.state import (
    NO_HOOKS,
    Hooks,
    InstanceKey,
    Pending,
    SessionState,
    Transition,
)
from triggers.engine.transitions import check_transition
from triggers.types import FireResult, Firing, Instance, Status

RESEND_AFTER = timedelta(minutes=1)
"""How long a message may stay unanswered before recovery sends it again; doubled each time."""

MOST_CASCADES = 1000
"""How many cascades may follow from one another; the next one fails its instance."""

RESEND_AT_MOST = timedelta(hours=1)
"""The longest pause between two sendings."""


class Draft:
    """What a decision changes.

    :param state: what was read; never changed here.
    :param now: the session's time for this decision, aware UTC.
    :param hooks: hooks that the manager overrides; a mark is left for each call due to them.
    """

    def __init__(self, state: SessionState, now: datetime, hooks: Hooks = NO_HOOKS) -> None:
        self.state = state
        self.now = now
        self.hooks = hooks
        self.plan: Plan = state.plan
        self.seq = state.seq
        self.firings: list[Firing] = []
        self.instances: dict[InstanceKey, Instance] = {}
        self.created: dict[InstanceKey, None] = {}
        self.scheduled: dict[InstanceKey, None] = {}
        self.abandoned: dict[InstanceKey, None] = {}
        self.pending: list[Pending] = []
        self._counts: dict[str, int] = {}
        self._awaiting: dict[str, dict[InstanceKey, None]] = {}
        self._latest: dict[str, int] = {}

    # -- the rules ------------------------------------------------------------------------------

    def fire(
        self,
        trigger: str,
        kwargs: str,
        *,
        key: str | None = None,
        cause: str | None = None,
        depth: int = 0,
    ) -> FireResult:
        """Record a firing and let every task that names its trigger take it.

        :param depth: how many cascades led to it.
        """
        self.seq += 1
        firing = Firing(
            seq=self.seq, trigger=trigger, kwargs=kwargs, at=self.now, key=key, cause=cause
        )
        self.firings.append(firing)
        before = len(self.created), len(self.scheduled), len(self.abandoned)
        self.take(trigger, firing.seq, self.plan.listening(trigger), depth)
        result = FireResult(
            seq=firing.seq,
            created=_names_after(self.created, before[0]),
            scheduled=_names_after(self.scheduled, before[1]),
            abandoned=_names_after(self.abandoned, before[2]),
        )
        data = {"trigger": trigger, "scheduled": list(result.scheduled)}
        self.mark("post_fire", str(firing.seq), data)
        return result

    def take(self, trigger: str, seq: int, tasks: Iterable[TaskPlan], depth: int = 0) -> None:
        """Let each of these tasks take a firing: its waiting instances, or else a new one."""
        takers: dict[str, list[int]] = {}
        for task_name, number in self._awaiting_keys(trigger):
            takers.setdefault(task_name, []).append(number)
        for task in tasks:
            name = task.config.name
            for number in sorted(takers.get(name, ())):
                instance = self.instance((name, number))
                taken = {**instance.taken, trigger: seq}
                self.settle(task, replace(instance, taken=taken, depth=depth))
            count = self.count(name)
            if not count or (name not in takers and trigger == task.config.and_every):
                carried = {each: self.latest(each) for each in task.names if self.latest(each)}
                taken = {**carried, trigger: seq}
                self.settle(task, self.next_instance(name, taken=taken, depth=depth))
        self._latest[trigger] = seq

    def settle(self, task: TaskPlan, instance: Instance) -> None:
        """Decide a waiting instance if its conditions allow; ``unless`` wins over ``after``."""
        if task.barred.holds(instance.taken):
            self.put(self.moved(instance, Status.ABANDONED))
            self.abandoned[instance.task, instance.number] = None
        elif task.ready.holds(instance.taken):
            self.put(self.moved(instance, Status.SCHEDULED))
        else:
            self.put(instance)

    # -- what the rules are made of -------------------------------------------------------------

    def next_instance(self, task: str, **fields: Any) -> Instance:
        """The task's next instance in number, unstarted; :meth:`put` makes it part of the draft."""
        number = self.count(task)
        self.created[task, number] = None
        made: dict[str, Any] = {
            "task": task,
            "number": number,
            "status": Status.UNSTARTED,
            "created_at": self.now,
            "changed_at": self.now,
            "lineage": number,
            **fields,
        }
        return Instance(**made)

    def moved(self, instance: Instance, status: Status, **fields: Any) -> Instance:
        """The instance with another status; scheduling makes it due for re-sending.

        :raises InvalidTransition: the table of transitions forbids it.
        """
        check_transition(instance.name, instance.status, status)
        fields.setdefault("due_at", None)
        if status is Status.SCHEDULED:
            start = max(self.now, instance.not_before or self.now)
            fields["due_at"] = start + RESEND_AFTER
            self.scheduled[instance.task, instance.number] = None
        return replace(instance, status=status, changed_at=self.now, token=None, **fields)

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
        self._counts[instance.task] = max(self.count(instance.task), instance.number + 1)

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
            due_at=self.now + RESEND_AFTER,
        )
        self.pending.append(mark)

    def instance(self, key: InstanceKey) -> Instance:
        """An instance as this decision sees it."""
        return self.instances.get(key) or self.state.instances[key]

    def count(self, task: str) -> int:
        """How many instances a task has, as this decision sees it."""
        return self._counts.get(task) or self.state.counts.get(task, 0)

    def latest(self, trigger: str) -> int:
        """Sequence number of a trigger's latest firing, or 0."""
        return self._latest.get(trigger) or self.state.latest.get(trigger, 0)

    def forget_latest(self) -> None:
        """See no earlier firing from here on; history is about to be taken from its start."""
        self.state = replace(self.state, latest={})

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
            pending=self.pending,
            **fields,
        )

    def _awaiting_keys(self, trigger: str) -> list[InstanceKey]:
        stored = self.state.awaiting.get(trigger, {})
        return [key for key in stored if key not in self.instances] + list(
            self._awaiting.get(trigger, ())
        )


def _names_after(keys: Mapping[InstanceKey, None], start: int) -> tuple[str, ...]:
    return tuple(f"{task}#{number}" for task, number in list(keys)[start:])
