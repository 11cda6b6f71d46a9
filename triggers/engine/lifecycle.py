"""What can happen to one task instance: claim, report, replay, skip, changes by hand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from triggers import payload
from triggers.engine.draft import MOST_CASCADES, Draft
from triggers.engine.events import Event
from triggers.engine.plan import Plan
from triggers.engine.state import NO_HOOKS, Hooks, InstanceKey, Reads, Transition
from triggers.engine.transitions import ALLOWED_TRANSITIONS
from triggers.exceptions import CascadeTooDeep, InvalidTransition
from triggers.types import BY_HAND, Instance, Status


@dataclass(frozen=True, kw_only=True)
class InstanceEvent(Event):
    """Something that happens to one instance."""

    key: InstanceKey

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,))


@dataclass(frozen=True, kw_only=True)
class Claim(InstanceEvent):
    """A worker wants to start an instance. Outcome: the instance; how long it must still wait; or
    ``None`` if it is not to be started.

    :ivar token: the attempt's fence, unique.
    :ivar early: start even before ``not_before`` (tests, and runners that cannot wait).
    """

    token: str
    early: bool = False

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        if instance.status is not Status.SCHEDULED:
            return draft.transition()
        if instance.not_before is not None and instance.not_before > draft.now and not self.early:
            return draft.transition(outcome=instance.not_before - draft.now)
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
    hooks: Hooks = NO_HOOKS

    @property
    def firings(self) -> int:
        return int(self.fold)

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,), triggers=(self.key[0],) if self.fold else ())

    def end(self, draft: Draft, instance: Instance) -> None:
        if instance.depth >= MOST_CASCADES:
            metadata = {**instance.metadata, "exception": _too_deep(instance)}
            draft.put(draft.moved(instance, Status.FAILED, result=self.result, metadata=metadata))
            return
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
    hooks: Hooks = NO_HOOKS

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
    hooks: Hooks = NO_HOOKS

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
    hooks: Hooks = NO_HOOKS

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
    :ivar status: the status to give it, if not the one that its conditions lead to.
    """

    task: str
    kwargs: str | None = None
    given: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    status: Status | None = None

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
        settled = draft.instance((made.task, made.number))
        if self.status is not None and self.status is not settled.status:
            settled = draft.moved(settled, self.status)
            draft.put(settled)
        return draft.transition(outcome=settled)


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


def cascade(draft: Draft, instance: Instance, kwargs: str, *, fold: bool) -> None:
    """Fire the name of an instance's task, now or (if ``fire`` is overridden) by a mark."""
    if fold:
        draft.fire(instance.task, kwargs, cause=instance.name, depth=instance.depth + 1)
    else:
        data = {
            "trigger": instance.task,
            "kwargs": kwargs,
            "cause": instance.name,
            "depth": instance.depth + 1,
        }
        # A status is entered once, so this is the only cascade of its kind.
        status = draft.instance((instance.task, instance.number)).status
        draft.require("cascade", f"{instance.name}:{status}", data)


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
        depth=instance.depth,
        **fields,
    )
    made = draft.moved(made, Status.SCHEDULED)
    draft.put(made)
    return made


def _too_deep(instance: Instance) -> dict[str, Any]:
    error = CascadeTooDeep(instance.name, MOST_CASCADES)
    name = type(error).__qualname__
    return {
        "type": f"{type(error).__module__}.{name}",
        "types": [name, f"{type(error).__module__}.{name}"],
        "message": str(error),
        "context": {},
    }


def require_status(instance: Instance, status: Status, *, wanted: Status) -> None:
    """Refuse an operation that is only for instances of one status.

    :raises InvalidTransition: the instance has another one.
    """
    if instance.status is not status:
        allowed = ALLOWED_TRANSITIONS[instance.status]
        others = tuple(each for each in allowed if each is not wanted)
        raise InvalidTransition(instance.name, instance.status, wanted, others)
