"""What can happen to a session: one frozen value each.

An event says what it must see (:meth:`Event.reads`) and what it does (:meth:`Event.apply`, on a
:class:`~triggers.engine.draft.Draft`). :func:`decide` is the only entrance. What happens to one
instance is in :mod:`triggers.engine.lifecycle`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from triggers import payload
from triggers.configuration import Configuration, check_outcomes
from triggers.engine.draft import RESEND_AFTER, RESEND_AT_MOST, Draft
from triggers.engine.plan import Plan, compile_plan
from triggers.engine.state import NO_HOOKS, Hooks, InstanceKey, Reads, SessionState, Transition
from triggers.exceptions import IdempotencyConflict, InvalidTrigger
from triggers.types import FireResult, Status


def decide(event: Event, state: SessionState, now: datetime) -> Transition:
    """Say what an event does to a session.

    :param event: what happened.
    :param state: at least what ``event.reads(state.plan)`` asks for.
    :param now: the storage's time, aware UTC; a session's time never goes back, so an earlier
        value counts as the session's own.
    """
    if state.clock is not None and state.clock > now:
        now = state.clock
    return event.apply(Draft(state, now, event.hooks))


class Event(ABC):
    """Something that happens to a session."""

    __slots__ = ()

    hooks: Hooks = NO_HOOKS

    opens_session: bool = False
    """Whether a session that was never heard of begins with it."""

    @property
    def firings(self) -> int:
        """How many firings it normally records (a hint for the storage, nothing more)."""
        return 0

    @abstractmethod
    def reads(self, plan: Plan) -> Reads:
        """What it must see of the session."""

    @abstractmethod
    def apply(self, draft: Draft) -> Transition:
        """What it does. Raises, and changes nothing, if it cannot happen."""


@dataclass(frozen=True, kw_only=True)
class Fire(Event):
    """A trigger was fired. Outcome: a :class:`~triggers.types.FireResult`.

    :ivar kwargs: JSON text.
    :ivar key: idempotency key.
    :ivar cause: the instance whose outcome it is.
    :ivar depth: how many cascades led to it.
    :ivar settles: ref of the pending mark that this firing fulfils; without it, a duplicate.
    """

    trigger: str
    kwargs: str = payload.EMPTY
    key: str | None = None
    cause: str | None = None
    settles: str | None = None
    depth: int = 0
    hooks: Hooks = NO_HOOKS
    opens_session = True

    @property
    def firings(self) -> int:
        return 1

    def reads(self, plan: Plan) -> Reads:
        key = None if self.key is None else (self.trigger, self.key)
        return Reads(triggers=(self.trigger,), key=key, ref=self.settles)

    def apply(self, draft: Draft) -> Transition:
        reserved = draft.plan.reserved_for(self.trigger)
        if reserved is not None:
            reason = f"the name is reserved for the outcome of task {reserved!r}."
            raise InvalidTrigger(self.trigger, reason)
        done: tuple[str, ...] = ()
        if self.settles is not None:
            if self.settles not in draft.state.pending:
                return draft.transition(outcome=FireResult(duplicate=True))
            done = (self.settles,)
        if self.key is not None:
            known = draft.state.keys.get((self.trigger, self.key))
            if known is not None:
                if not payload.is_same(draft.state.firings[known].kwargs, self.kwargs):
                    raise IdempotencyConflict(self.trigger, self.key, known)
                return draft.transition(outcome=FireResult(seq=known, duplicate=True), done=done)
        result = draft.fire(
            self.trigger, self.kwargs, key=self.key, cause=self.cause, depth=self.depth
        )
        return draft.transition(outcome=result, done=done)


@dataclass(frozen=True, kw_only=True)
class Configure(Event):
    """Tasks were added or replaced. Outcome: a :class:`~triggers.types.FireResult`.

    :ivar apply_history: let the new tasks take what was fired before they came.
    :ivar manager: name of the manager class that looks after the session.
    """

    configuration: Configuration
    manager: str | None = None
    apply_history: bool = False
    opens_session = True

    def reads(self, plan: Plan) -> Reads:
        merged = self._merged(plan)
        tasks = tuple(self.configuration.tasks)
        return Reads(
            counts=tasks,
            waiting=tuple(name for name in tasks if name in plan.tasks),
            latest=tuple(sorted({each for name in tasks for each in merged.tasks[name].names})),
            history=self._sees_history(plan),
        )

    def apply(self, draft: Draft) -> Transition:
        before, plan = draft.plan, self._merged(draft.plan)
        check_outcomes(plan.configuration)
        known = draft.state
        draft.plan = plan
        for name in self.configuration.tasks:
            if name in before.tasks and plan.tasks[name].config != before.tasks[name].config:
                self._carry_over(draft, name, before)
        if self._sees_history(before):
            fresh = {name for name in self.configuration.tasks if not draft.count(name)}
            draft.forget_latest()
            for _seq, firing in sorted(known.firings.items()):
                listening = plan.listening(firing.trigger)
                tasks = [task for task in listening if task.config.name in fresh]
                draft.take(firing.trigger, firing.seq, tasks)
        outcome = FireResult(
            created=_names(draft.created),
            scheduled=_names(draft.scheduled),
            abandoned=_names(draft.abandoned),
        )
        return draft.transition(
            configured=plan.configuration != before.configuration,
            manager=self.manager if self.manager != known.manager else None,
            outcome=outcome,
        )

    def _merged(self, plan: Plan) -> Plan:
        return compile_plan(plan.configuration.merged_with(self.configuration))

    def _sees_history(self, plan: Plan) -> bool:
        return self.apply_history or not plan.tasks

    def _carry_over(self, draft: Draft, name: str, before: Plan) -> None:
        """Let the waiting instances of a replaced task wait on under its new conditions."""
        task = draft.plan.tasks[name]
        waiting = [
            instance
            for instance in draft.state.instances.values()
            if instance.task == name and instance.status is Status.UNSTARTED
        ]
        for instance in sorted(waiting, key=lambda each: each.number):
            newly = [each for each in task.names if each not in before.tasks[name].names]
            seen = {each: draft.latest(each) for each in newly if draft.latest(each)}
            draft.settle(task, replace(instance, taken={**instance.taken, **seen}))


@dataclass(frozen=True)
class Recover(Event):
    """Recovery looks at what is due. Outcome: the marks that it takes over.

    Due instances are handed to a runner again, and are due later the next time.
    """

    def reads(self, plan: Plan) -> Reads:
        return Reads(due=True)

    def apply(self, draft: Draft) -> Transition:
        for key in draft.state.due:
            instance = draft.state.instances[key]
            if instance.due_at is not None and instance.due_at <= draft.now:
                pause = min(RESEND_AFTER * 2 ** min(instance.sends + 1, 16), RESEND_AT_MOST)
                sent = replace(instance, due_at=draft.now + pause, sends=instance.sends + 1)
                draft.put(sent)
                draft.scheduled[key] = None
        for pending in draft.state.pending.values():
            if pending.due_at <= draft.now:
                draft.pending.append(replace(pending, due_at=draft.now + RESEND_AFTER))
        return draft.transition(outcome=tuple(draft.pending))


@dataclass(frozen=True, kw_only=True)
class Done(Event):
    """Something that was pending has been done."""

    ref: str

    def reads(self, plan: Plan) -> Reads:
        return Reads(ref=self.ref)

    def apply(self, draft: Draft) -> Transition:
        return draft.transition(done=(self.ref,) if self.ref in draft.state.pending else ())


def _names(keys: Mapping[InstanceKey, None]) -> tuple[str, ...]:
    return tuple(f"{task}#{number}" for task, number in keys)
