"""What can happen to a session: one frozen value each.

An event says what it must see (:meth:`Event.reads`) and what it does (:meth:`Event.apply`, on a
:class:`~triggers.engine.draft.Draft`). :func:`decide` is the only entrance. What happens to one
instance is in :mod:`triggers.engine.lifecycle`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from triggers import payload
from triggers.engine.draft import Draft, Planned, names_after
from triggers.engine.plan import Plan
from triggers.engine.rest import ask_all, come_to_rest, conclude, pass_time
from triggers.engine.rules import cause_of, fire
from triggers.engine.state import (
    NO_HOOKS,
    Hooks,
    Reads,
    SessionState,
    Transition,
)
from triggers.engine.verdicts import NO_VERDICTS, Question, Verdicts
from triggers.exceptions import IdempotencyConflict, InvalidTrigger, SessionClosed, SessionFull
from triggers.types import FireResult, Phase, split_instance_name


def decide(
    event: Event, state: SessionState, now: datetime, verdicts: Verdicts = NO_VERDICTS
) -> Transition:
    """Say what an event does to a session.

    What has become due in the session is decided first.

    :param event: what happened.
    :param state: at least what :func:`reads_of` asks for.
    :param now: the storage's time, aware UTC; a session's time never goes back, so an earlier
        value counts as the session's own.
    :param verdicts: what filters said about the firings that this makes.
    :raises MustSeeMore: the state lacks something; add it, and decide again.
    :raises Unjudged: a filter must be asked; decide again with its verdict.
    :raises SessionClosed: the session does not take this event any more.
    :raises InstanceNotFound: it is about an instance that a session, read as a whole, has not.
    """
    if state.phase in event.refused_when:
        raise SessionClosed(state.phase.value)
    if state.clock is not None and state.clock > now:
        now = state.clock
    draft = Draft(state, now, event.hooks, verdicts)
    pass_time(draft, event.until or now)
    draft.is_deferred = event.deferred
    draft.is_stirred |= event.deferred or event.stirs
    return event.apply(draft)


def reads_of(event: Event, plan: Plan, now: datetime) -> Reads:
    """What deciding an event needs to see, as far as that is known before."""
    reads = event.reads(plan)
    return replace(reads, timers_until=event.until or now) if plan.is_timed else reads


class Event(ABC):
    """Something that happens to a session."""

    __slots__ = ()

    hooks: Hooks = NO_HOOKS

    refused_when: frozenset[Phase] = frozenset()
    """The phases in which a session does not take it."""

    opens_session: bool = False
    """Whether a session that was never heard of begins with it."""

    gives_way: bool = False
    """Whether it comes again by itself, so that it need not wait long for others."""

    until: datetime | None = None
    """The moment until which time has passed, if not the present."""

    deferred: bool = False
    """Whether it was recorded before, and is decided now."""

    stirs: bool = False
    """Whether the session may come to its end with it, even if it changes nothing."""

    @property
    def firings(self) -> int:
        """How many firings it normally records (a hint for the storage, nothing more)."""
        return 0

    def under(self, hooks: Hooks) -> Event:
        """The event, for a manager that overrides these hooks."""
        event: Any = self
        changed: Event = replace(event, hooks=hooks)
        return changed

    @property
    def comes_from_outside(self) -> bool:
        """Whether somebody is there to be told that its kwargs cannot be judged."""
        return False

    @property
    def can_wait(self) -> bool:
        """Whether another process can decide it later, if this one lacks a predicate."""
        return False

    def questions(self, plan: Plan) -> tuple[Question, ...]:
        """What filters will surely be asked about it (a hint, nothing more)."""
        return ()

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
    :ivar also: further names that are fired with it.
    :ivar key: idempotency key.
    :ivar cause: the instance whose outcome it is.
    :ivar depth: how many cascades led to it.
    :ivar settles: ref of the pending mark that this firing fulfils; without it, a duplicate.
    :ivar deferred: whether who fired it has gone on already.
    :ivar is_inside: whether a task or a hook of the session itself fires it.
    :ivar limit: how many firings the session may record before it refuses one from outside.
    """

    trigger: str
    kwargs: str = payload.EMPTY
    also: tuple[str, ...] = ()
    key: str | None = None
    cause: str | None = None
    settles: str | None = None
    depth: int = 0
    deferred: bool = False
    is_inside: bool = False
    limit: int | None = None
    hooks: Hooks = NO_HOOKS
    opens_session = True

    @property
    def firings(self) -> int:
        return 1

    @property
    def comes_from_outside(self) -> bool:
        return self.cause is None and not self.deferred

    @property
    def can_wait(self) -> bool:
        return self.deferred

    def questions(self, plan: Plan) -> tuple[Question, ...]:
        names = plan.names_of(self.trigger, self.also)
        return (Question(names, self.kwargs, self.cause is not None),)

    def _goes_on(self, phase: Phase) -> bool:
        """Whether it belongs to what had begun when the session was closed."""
        return phase is Phase.CLOSED and (self.is_inside or self.deferred)

    def reads(self, plan: Plan) -> Reads:
        return Reads(
            triggers=plan.names_of(self.trigger, self.also),
            instances=() if self.cause is None else (split_instance_name(self.cause),),
            key=None if self.key is None else (self.trigger, self.key),
            ref=self.settles,
        )

    def apply(self, draft: Draft) -> Transition:
        reserved = draft.plan.reserved_for(self.trigger)
        if reserved is not None and self.settles is None:
            reason = f"the name is reserved for the outcome of task {reserved!r}."
            raise InvalidTrigger(self.trigger, reason)
        done: tuple[str, ...] = ()
        if self.settles is not None:
            if self.settles not in draft.state.pending:
                return conclude(draft, outcome=FireResult(duplicate=True))
            done = (self.settles,)
        if self.key is not None:
            known = draft.state.keys.get((self.trigger, self.key))
            if known is not None:
                if not payload.is_same(draft.state.firings[known].kwargs, self.kwargs):
                    raise IdempotencyConflict(self.trigger, self.key, known)
                if self.settles is not None:
                    ask_all(draft, self.settles)
                return conclude(draft, outcome=FireResult(seq=known, duplicate=True), done=done)
        phase = draft.state.phase
        if phase is Phase.CANCELLED and self.settles is not None:
            return conclude(draft, outcome=FireResult(duplicate=True), done=done)
        if phase is not Phase.OPEN and self.settles is None and not self._goes_on(phase):
            raise SessionClosed(phase.value)
        if self.limit is not None and draft.seq >= self.limit and self.comes_from_outside:
            raise SessionFull(self.limit)
        before = len(draft.created), len(draft.scheduled), len(draft.abandoned)
        planned = Planned(
            trigger=self.trigger,
            kwargs=self.kwargs,
            also=self.also,
            key=self.key,
            cause=cause_of(draft, self.cause),
            depth=self.depth,
        )
        seq = fire(draft, planned).seq
        if self.settles is not None:
            ask_all(draft, self.settles)
        come_to_rest(draft)
        result = FireResult(
            seq=seq,
            created=names_after(draft.created, before[0]),
            scheduled=names_after(draft.scheduled, before[1]),
            abandoned=names_after(draft.abandoned, before[2]),
        )
        if not done:
            return draft.transition(outcome=result)
        return conclude(draft, outcome=result, done=done)


@dataclass(frozen=True, kw_only=True)
class Tick(Event):
    """Time has passed. What is due in the session is decided, as it is before any other event.

    :ivar until: the moment; ``None`` means the present. The session's time moves on to what was
        due by then, not further.
    :ivar stirs: something is gone that may have held up the session's end.
    """

    until: datetime | None = None
    stirs: bool = False
    hooks: Hooks = NO_HOOKS
    gives_way = True

    @property
    def can_wait(self) -> bool:
        return True

    def reads(self, plan: Plan) -> Reads:
        return Reads()

    def apply(self, draft: Draft) -> Transition:
        return conclude(draft)
