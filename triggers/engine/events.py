"""Everything that can happen to a session: one frozen value each.

An event says what it must see (:meth:`Event.reads`) and what it does (:meth:`Event.apply`, on a
:class:`~triggers.engine.draft.Draft`). :func:`decide` is the only entrance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from triggers import payload
from triggers.configuration import Configuration
from triggers.engine.draft import RESEND_AFTER, RESEND_AT_MOST, Draft
from triggers.engine.plan import Plan, compile_plan
from triggers.engine.state import InstanceKey, Reads, SessionState, Transition
from triggers.engine.transitions import ALLOWED_TRANSITIONS
from triggers.exceptions import IdempotencyConflict, InvalidTransition, InvalidTrigger
from triggers.types import BY_HAND, FireResult, Instance, Status

NO_HOOKS: frozenset[str] = frozenset()


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

    hooks: frozenset[str] = NO_HOOKS

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
    :ivar settles: ref of the pending mark that this firing fulfils; without it, a duplicate.
    """

    trigger: str
    kwargs: str = payload.EMPTY
    key: str | None = None
    cause: str | None = None
    settles: str | None = None
    hooks: frozenset[str] = NO_HOOKS
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
        result = draft.fire(self.trigger, self.kwargs, key=self.key, cause=self.cause)
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


@dataclass(frozen=True, kw_only=True)
class InstanceEvent(Event):
    """Something that happens to one instance."""

    key: InstanceKey

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,))


@dataclass(frozen=True, kw_only=True)
class Claim(InstanceEvent):
    """A worker wants to start an instance. Outcome: the instance, or ``None`` if it may not.

    :ivar token: the attempt's fence, unique.
    :ivar early: start even before ``not_before`` (tests, and runners that cannot wait).
    """

    token: str
    early: bool = False

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        waits = instance.not_before is not None and instance.not_before > draft.now
        if instance.status is not Status.SCHEDULED or (waits and not self.early):
            return draft.transition()
        started = draft.moved(instance, Status.RUNNING, attempt=instance.attempt + 1)
        started = replace(started, token=self.token)
        draft.put(started)
        return draft.transition(outcome=started)


@dataclass(frozen=True, kw_only=True)
class Report(InstanceEvent):
    """A worker reports how its attempt ended. Outcome: whether the report was accepted.

    It is not when the attempt's token is no longer the instance's: somebody else has decided.

    :ivar metadata: merged into the instance's metadata.
    """

    token: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        if instance.token != self.token:
            return draft.transition(outcome=False)
        metadata = {**instance.metadata, **self.metadata}
        self.end(draft, replace(instance, metadata=metadata))
        return draft.transition(outcome=True)

    @abstractmethod
    def end(self, draft: Draft, instance: Instance) -> None:
        """Write how the attempt ended."""


@dataclass(frozen=True, kw_only=True)
class Finish(Report):
    """The task returned. Its name is fired with its result, in the same commit.

    :ivar result: JSON text.
    :ivar fold: ``False`` if the manager overrides ``fire``: then the cascade is left as a mark.
    """

    result: str = payload.EMPTY
    fold: bool = True
    hooks: frozenset[str] = NO_HOOKS

    @property
    def firings(self) -> int:
        return int(self.fold)

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,), triggers=(self.key[0],) if self.fold else ())

    def end(self, draft: Draft, instance: Instance) -> None:
        draft.put(draft.moved(instance, Status.FINISHED, result=self.result))
        cascade(draft, instance, self.result, fold=self.fold)


@dataclass(frozen=True, kw_only=True)
class Fail(Report):
    """The task raised, or what it returned cannot be stored."""

    def end(self, draft: Draft, instance: Instance) -> None:
        draft.put(draft.moved(instance, Status.FAILED))


@dataclass(frozen=True, kw_only=True)
class Skip(Report):
    """The task skipped itself; nothing cascades."""

    def end(self, draft: Draft, instance: Instance) -> None:
        draft.put(draft.moved(instance, Status.SKIPPED))


@dataclass(frozen=True, kw_only=True)
class Retry(Report):
    """The task asked to be run again: a new instance takes over after a cool-down.

    :ivar replacement: kwargs by trigger, as JSON text, or ``None`` to keep the instance's own.
    """

    cooldown: timedelta = timedelta(0)
    replacement: str | None = None

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,), counts=(self.key[0],))

    def end(self, draft: Draft, instance: Instance) -> None:
        successor(
            draft,
            instance,
            replacement=self.replacement,
            retries=instance.retries + 1,
            not_before=draft.now + self.cooldown if self.cooldown else None,
        )


@dataclass(frozen=True, kw_only=True)
class Replay(InstanceEvent):
    """Somebody replays a failed instance. Outcome: the new instance.

    :ivar replacement: kwargs by trigger, as JSON text, or ``None`` to keep the instance's own.
    """

    replacement: str | None = None
    hooks: frozenset[str] = NO_HOOKS

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,), counts=(self.key[0],))

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        require_status(instance, Status.FAILED, wanted=Status.REPLAYED)
        made = successor(draft, instance, replacement=self.replacement)
        draft.mark("post_replay", made.name, {"instance": made.name})
        return draft.transition(outcome=made)


@dataclass(frozen=True, kw_only=True)
class SkipFailed(InstanceEvent):
    """Somebody gives a failed instance up. Outcome: the instance.

    :ivar cascade: fire the task's name all the same, with ``result`` as kwargs.
    :ivar result: JSON text.
    """

    cascade: bool = False
    result: str | None = None
    fold: bool = True
    hooks: frozenset[str] = NO_HOOKS

    def reads(self, plan: Plan) -> Reads:
        fired = (self.key[0],) if self.cascade and self.fold else ()
        return Reads(instances=(self.key,), triggers=fired)

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        require_status(instance, Status.FAILED, wanted=Status.SKIPPED)
        skipped = draft.moved(instance, Status.SKIPPED, result=self.result)
        draft.put(skipped)
        if self.cascade:
            cascade(draft, instance, self.result or payload.EMPTY, fold=self.fold)
        draft.mark("post_skip", skipped.name, {"instance": skipped.name, "cascade": self.cascade})
        return draft.transition(outcome=skipped)


@dataclass(frozen=True, kw_only=True)
class SetStatus(InstanceEvent):
    """Somebody changes a status by hand. Outcome: the instance.

    The table of transitions holds here too, and the running attempt, if any, loses its token.

    :ivar kwargs: JSON text of the cascade's kwargs.
    """

    status: Status
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cascade: bool = False
    kwargs: str = payload.EMPTY
    fold: bool = True
    hooks: frozenset[str] = NO_HOOKS

    def reads(self, plan: Plan) -> Reads:
        fired = (self.key[0],) if self.cascade and self.fold else ()
        return Reads(instances=(self.key,), triggers=fired)

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        changed = draft.moved(
            instance, self.status, metadata={**instance.metadata, **self.metadata}
        )
        draft.put(changed)
        if self.cascade:
            cascade(draft, instance, self.kwargs, fold=self.fold)
        return draft.transition(outcome=changed)


@dataclass(frozen=True, kw_only=True)
class Annotate(InstanceEvent):
    """Somebody adds to an instance's metadata. Outcome: the instance."""

    metadata: Mapping[str, Any]

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        annotated = replace(instance, metadata={**instance.metadata, **self.metadata})
        draft.put(annotated)
        return draft.transition(outcome=annotated)


@dataclass(frozen=True, kw_only=True)
class Create(Event):
    """Somebody makes an instance by hand. Outcome: the instance.

    :ivar kwargs: kwargs by trigger, as JSON text; these triggers count as taken.
    :ivar given: names of those triggers.
    :ivar metadata: the instance's first metadata.
    """

    task: str
    kwargs: str | None = None
    given: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def reads(self, plan: Plan) -> Reads:
        return Reads(counts=(self.task,))

    def apply(self, draft: Draft) -> Transition:
        made = draft.next_instance(
            self.task,
            taken=dict.fromkeys(self.given, BY_HAND),
            replacement=self.kwargs,
            metadata=self.metadata,
        )
        draft.settle(draft.plan.tasks[self.task], made)
        return draft.transition(outcome=draft.instance((made.task, made.number)))


@dataclass(frozen=True, kw_only=True)
class Clone(InstanceEvent):
    """Somebody copies an instance by hand. Outcome: the copy, unstarted, with a ``parent``.

    A copy of a complete instance is not started by itself; change its status to ``scheduled``.
    """

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,), counts=(self.key[0],))

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        made = draft.next_instance(
            instance.task,
            taken=instance.taken,
            replacement=instance.replacement,
            metadata={"parent": instance.name},
            lineage=instance.lineage,
        )
        draft.put(made)
        return draft.transition(outcome=made)


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


def cascade(draft: Draft, instance: Instance, kwargs: str, *, fold: bool) -> None:
    """Fire the name of an instance's task, now or (if ``fire`` is overridden) by a mark."""
    if fold:
        draft.fire(instance.task, kwargs, cause=instance.name)
    else:
        data = {"trigger": instance.task, "kwargs": kwargs, "cause": instance.name}
        draft.require("cascade", instance.name, data)


def successor(draft: Draft, instance: Instance, **fields: Any) -> Instance:
    """Mark an instance as replayed and schedule a copy of it, in the same lineage."""
    taken = instance.taken
    if fields.get("replacement") is None:
        fields["replacement"] = instance.replacement
    else:
        taken = dict.fromkeys(taken, BY_HAND)
    draft.put(draft.moved(instance, Status.REPLAYED))
    made = draft.next_instance(
        instance.task,
        taken=taken,
        metadata={"parent": instance.name},
        lineage=instance.lineage,
        **fields,
    )
    made = draft.moved(made, Status.SCHEDULED)
    draft.put(made)
    return made


def require_status(instance: Instance, status: Status, *, wanted: Status) -> None:
    """Refuse an operation that is only for instances of one status.

    :raises InvalidTransition: the instance has another one.
    """
    if instance.status is not status:
        allowed = ALLOWED_TRANSITIONS[instance.status]
        others = tuple(each for each in allowed if each is not wanted)
        raise InvalidTransition(instance.name, instance.status, wanted, others)


def _names(keys: Mapping[InstanceKey, None]) -> tuple[str, ...]:
    return tuple(f"{task}#{number}" for task, number in keys)
