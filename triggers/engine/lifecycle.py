"""What a worker does to one task instance: it claims it, and reports how the attempt ended."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from triggers import payload
from triggers.engine.draft import Draft
from triggers.engine.events import Event
from triggers.engine.plan import Plan
from triggers.engine.rest import conclude
from triggers.engine.rules import MOST_CASCADES, announce, described, fail, too_deep
from triggers.engine.state import NO_HOOKS, Hooks, InstanceKey, Reads, Transition
from triggers.engine.verdicts import Question
from triggers.exceptions import TaskExpired
from triggers.types import BY_HAND, Instance, Phase, Status

LEASE = timedelta(minutes=1)
"""How long a worker is taken to be alive after it has given a sign, unless somebody says more."""


@dataclass(frozen=True, kw_only=True)
class InstanceEvent(Event):
    """Something that happens to one instance.

    :ivar hooks: what the manager overrides.
    """

    key: InstanceKey
    hooks: Hooks = NO_HOOKS

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,))

    def reads_outcome(self, plan: Plan, trigger: str, also: tuple[str, ...] = ()) -> Reads:
        """What it must see in order to fire an outcome."""
        names = plan.names_of(trigger, also) if self.hooks.folds else ()
        return Reads(instances=(self.key,), triggers=names)

    def asks(
        self, plan: Plan, trigger: str, kwargs: str, also: tuple[str, ...] = ()
    ) -> tuple[Question, ...]:
        """What filters will be asked about an outcome."""
        return (Question(plan.names_of(trigger, also), kwargs, True),)


@dataclass(frozen=True, kw_only=True)
class Claim(InstanceEvent):
    """A worker wants to start an instance. Outcome: the instance, which runs, or has failed as it
    comes too late; how long it must still wait; or ``None`` if it is not to be started.

    Repeated, because the answer did not arrive, it has the same outcome.

    :ivar token: the attempt's fence, unique.
    :ivar early: start even before ``not_before`` (tests, and runners that cannot wait).
    :ivar lease: how long the worker is taken to be alive without a further sign.
    :ivar expires: how long after it could have been started it is too late; ``None``: never.
    """

    token: str
    early: bool = False
    lease: timedelta = LEASE
    expires: timedelta | None = None

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        if instance.token == self.token:
            return conclude(draft, outcome=instance)
        if instance.status is not Status.SCHEDULED:
            return conclude(draft)
        if instance.not_before is not None and instance.not_before > draft.now and not self.early:
            return conclude(draft, outcome=instance.not_before - draft.now)
        if self.expires is not None:
            ready_at = max(instance.changed_at, instance.not_before or instance.changed_at)
            if draft.now > ready_at + self.expires:
                error = TaskExpired(instance.name, self.expires, draft.now - ready_at)
                failed = fail(draft, instance, {"exception": described(error)})
                return conclude(draft, outcome=failed)
        started = draft.moved(
            instance,
            Status.RUNNING,
            attempt=instance.attempt + 1,
            token=self.token,
            due_at=draft.present + self.lease,
        )
        draft.put(started)
        return conclude(draft, outcome=started)


@dataclass(frozen=True, kw_only=True)
class Refuse(InstanceEvent):
    """An instance that waits to be started never will be: it fails. Outcome: whether it did.

    It does not if somebody has started it, or decided about it, meanwhile.

    :ivar metadata: merged into the instance's metadata; ``exception`` says why.
    """

    metadata: Mapping[str, Any]

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        if instance.status is not Status.SCHEDULED:
            return conclude(draft, outcome=False)
        fail(draft, instance, self.metadata)
        return conclude(draft, outcome=True)


@dataclass(frozen=True, kw_only=True)
class Extend(InstanceEvent):
    """A worker is still alive. Outcome: whether the instance is still its own.

    Nothing else is decided by it, not even what is due: a heartbeat must not wait for filters,
    and nobody would hand on what it makes ready.

    :ivar lease: how long from now it is taken to be alive without a further sign.
    """

    until = datetime.min.replace(tzinfo=UTC)

    token: str
    lease: timedelta = LEASE
    gives_way = True

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        if instance.token != self.token:
            return conclude(draft, outcome=False)
        draft.put(instance.but(due_at=draft.present + self.lease))
        return conclude(draft, outcome=True)


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
            return conclude(draft, outcome=False)
        if self.metadata:
            instance = instance.but(metadata={**instance.metadata, **self.metadata})
        self.end(draft, instance)
        return conclude(draft, outcome=True)

    @abstractmethod
    def end(self, draft: Draft, instance: Instance) -> None:
        """Write how the attempt ended."""


@dataclass(frozen=True, kw_only=True)
class Finish(Report):
    """The task returned. Its name is fired with its result, in the same commit.

    :ivar result: JSON text.
    """

    result: str = payload.EMPTY

    @property
    def firings(self) -> int:
        return int(self.hooks.folds)

    def questions(self, plan: Plan) -> tuple[Question, ...]:
        return self.asks(plan, self.key[0], self.result)

    def reads(self, plan: Plan) -> Reads:
        return self.reads_outcome(plan, self.key[0])

    def end(self, draft: Draft, instance: Instance) -> None:
        if instance.depth >= MOST_CASCADES:
            metadata = {**instance.metadata, "exception": too_deep(instance)}
            draft.put(draft.moved(instance, Status.FAILED, result=self.result, metadata=metadata))
            return
        finished = draft.moved(instance, Status.FINISHED, result=self.result)
        draft.put(finished)
        announce(draft, finished, instance.task, self.result)


@dataclass(frozen=True, kw_only=True)
class Fail(Report):
    """The task raised, or what it returned cannot be stored.

    :ivar failure: what its outcome ``t_x:failed`` carries, JSON text.
    """

    failure: str = payload.EMPTY

    @property
    def firings(self) -> int:
        return int(self.hooks.folds)

    def questions(self, plan: Plan) -> tuple[Question, ...]:
        return self.asks(plan, f"{self.key[0]}:failed", self.failure)

    def reads(self, plan: Plan) -> Reads:
        return self.reads_outcome(plan, f"{self.key[0]}:failed")

    def end(self, draft: Draft, instance: Instance) -> None:
        failed = draft.moved(instance, Status.FAILED)
        draft.put(failed)
        announce(draft, failed, f"{instance.task}:failed", self.failure)


@dataclass(frozen=True, kw_only=True)
class Skip(Report):
    """The task skipped itself; its plain name is not fired."""

    @property
    def firings(self) -> int:
        return int(self.hooks.folds)

    def reads(self, plan: Plan) -> Reads:
        return self.reads_outcome(plan, f"{self.key[0]}:skipped")

    def end(self, draft: Draft, instance: Instance) -> None:
        skipped = draft.moved(instance, Status.SKIPPED)
        draft.put(skipped)
        announce(draft, skipped, f"{instance.task}:skipped", payload.EMPTY)


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
        if draft.state.phase is Phase.CANCELLED:
            draft.put(draft.moved(instance, Status.FAILED))
            return
        successor(
            draft,
            instance,
            replacement=self.replacement,
            retries=instance.retries + 1,
            not_before=draft.now + self.cooldown if self.cooldown else None,
        )


def successor(draft: Draft, instance: Instance, **fields: Any) -> Instance:
    """Mark an instance as replayed and schedule a copy of it, in the same lineage."""
    taken, counted = instance.taken, instance.counted
    if fields.get("replacement") is None:
        fields["replacement"] = instance.replacement
    else:
        taken, counted = dict.fromkeys(taken, BY_HAND), {}
    draft.put(draft.moved(instance, Status.REPLAYED))
    made = draft.next_instance(
        instance.task,
        taken=taken,
        counted=counted,
        metadata={"parent": instance.name},
        lineage=instance.lineage,
        decided_by=instance.decided_by,
        depth=instance.depth,
        **fields,
    )
    made = draft.moved(made, Status.SCHEDULED)
    draft.put(made)
    return made
