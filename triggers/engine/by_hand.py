"""What somebody does to one task instance by hand: replay, skip, status, metadata, create, copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from triggers import payload
from triggers.engine.draft import Draft
from triggers.engine.events import Event
from triggers.engine.lifecycle import InstanceEvent, successor
from triggers.engine.plan import Plan
from triggers.engine.rest import come_to_rest, conclude
from triggers.engine.rules import announce, next_timer, settle
from triggers.engine.state import NO_HOOKS, Hooks, Reads, Transition
from triggers.engine.transitions import ALLOWED_TRANSITIONS
from triggers.engine.verdicts import Question
from triggers.exceptions import InvalidTransition, SessionClosed
from triggers.types import BY_HAND, Instance, Phase, Status

_OVER = frozenset({Phase.CANCELLED, Phase.PURGED})


@dataclass(frozen=True, kw_only=True)
class Replay(InstanceEvent):
    """Somebody replays a failed instance. Outcome: the new instance.

    :ivar replacement: kwargs by trigger, as JSON text, or ``None`` to keep the instance's own.
    """

    replacement: str | None = None
    refused_when = _OVER

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,), counts=(self.key[0],))

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        require_status(instance, Status.FAILED, wanted=Status.REPLAYED)
        made = successor(draft, instance, replacement=self.replacement)
        draft.mark("post_replay", made.name, {"instance": made.name})
        return conclude(draft, outcome=made)


@dataclass(frozen=True, kw_only=True)
class SkipFailed(InstanceEvent):
    """Somebody gives a failed instance up. Outcome: the instance.

    :ivar cascade: fire the task's name all the same, with ``result`` as kwargs.
    :ivar result: JSON text.
    """

    cascade: bool = False
    result: str | None = None

    @property
    def fired(self) -> tuple[str, tuple[str, ...]]:
        """The name that it fires, and further ones."""
        task, skipped = self.key[0], f"{self.key[0]}:skipped"
        return (task, (skipped,)) if self.cascade else (skipped, ())

    @property
    def firings(self) -> int:
        return int(self.hooks.folds)

    def questions(self, plan: Plan) -> tuple[Question, ...]:
        trigger, also = self.fired
        return self.asks(plan, trigger, self.result or payload.EMPTY, also)

    def reads(self, plan: Plan) -> Reads:
        return self.reads_outcome(plan, *self.fired)

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        require_status(instance, Status.FAILED, wanted=Status.SKIPPED)
        skipped = draft.moved(instance, Status.SKIPPED, result=self.result)
        draft.put(skipped)
        trigger, also = self.fired
        announce(draft, skipped, trigger, self.result or payload.EMPTY, also)
        come_to_rest(draft)
        draft.mark("post_skip", skipped.name, {"instance": skipped.name, "cascade": self.cascade})
        return conclude(draft, outcome=draft.instance(self.key))


@dataclass(frozen=True, kw_only=True)
class SetStatus(InstanceEvent):
    """Somebody changes a status by hand. Outcome: the instance.

    The table of transitions holds here too, and the running attempt, if any, loses its token.

    :ivar cascade: fire the task's name, whatever the status.
    :ivar kwargs: JSON text of what is fired.
    """

    status: Status
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cascade: bool = False
    kwargs: str = payload.EMPTY

    def reads(self, plan: Plan) -> Reads:
        fired = fired_by_hand(self.key[0], self.status, self.cascade)
        return Reads(instances=(self.key,)) if fired is None else self.reads_outcome(plan, *fired)

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        if self.status is Status.SCHEDULED and draft.state.phase in _OVER:
            raise SessionClosed(draft.state.phase.value)
        metadata = {**instance.metadata, **self.metadata}
        change_by_hand(draft, instance, self.status, metadata, self.cascade, self.kwargs)
        come_to_rest(draft)
        return conclude(draft, outcome=draft.instance(self.key))


@dataclass(frozen=True, kw_only=True)
class Annotate(InstanceEvent):
    """Somebody adds to an instance's metadata. Outcome: the instance."""

    metadata: Mapping[str, Any]

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        annotated = instance.but(metadata={**instance.metadata, **self.metadata})
        draft.put(annotated)
        return conclude(draft, outcome=annotated)


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
    hooks: Hooks = NO_HOOKS
    refused_when = _OVER

    def reads(self, plan: Plan) -> Reads:
        return Reads(counts=(self.task,))

    def apply(self, draft: Draft) -> Transition:
        made = draft.next_instance(
            self.task,
            taken=dict.fromkeys(self.given, BY_HAND),
            replacement=self.kwargs,
            metadata=self.metadata,
        )
        settle(draft, draft.plan.tasks[self.task], made)
        settled = draft.instance((made.task, made.number))
        if self.status is not None and self.status is not settled.status:
            change_by_hand(draft, settled, self.status, settled.metadata)
        come_to_rest(draft)
        return conclude(draft, outcome=draft.instance((made.task, made.number)))


@dataclass(frozen=True, kw_only=True)
class Clone(InstanceEvent):
    """Somebody copies an instance by hand. Outcome: the copy, unstarted, with a ``parent``.

    A copy of a complete instance is not started by itself; change its status to ``scheduled``. It
    begins a lineage of its own, and its deadline counts from now.
    """

    refused_when = _OVER

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=(self.key,), counts=(self.key[0],))

    def apply(self, draft: Draft) -> Transition:
        instance = draft.instance(self.key)
        made = draft.next_instance(
            instance.task,
            taken=instance.taken,
            counted=instance.counted,
            replacement=instance.replacement,
            metadata={"parent": instance.name},
        )
        made = made.but(timer_at=next_timer(draft, draft.plan.tasks[made.task], made))
        draft.put(made)
        return conclude(draft, outcome=made)


def fired_by_hand(
    task: str, status: Status, cascade: bool = False
) -> tuple[str, tuple[str, ...]] | None:
    """What a change of status by hand fires: a name and further ones; nothing if ``None``."""
    outcome = _OUTCOMES_BY_HAND.get(status)
    if outcome is None:
        return (task, ()) if cascade else None
    name = f"{task}:{outcome}"
    return (task, (name,) if outcome != "ended" else ()) if cascade else (name, ())


_OUTCOMES_BY_HAND = {
    Status.FINISHED: "ended",
    Status.FAILED: "failed",
    Status.SKIPPED: "skipped",
    Status.ABANDONED: "abandoned",
}


def change_by_hand(
    draft: Draft,
    instance: Instance,
    status: Status,
    metadata: Mapping[str, Any],
    cascade: bool = False,
    kwargs: str = payload.EMPTY,
) -> None:
    """Change a status, and fire the outcome that it is."""
    if status is Status.ABANDONED:
        metadata = {"reason": "by hand", **metadata}
    changed = draft.moved(instance, status, metadata=metadata)
    draft.put(changed)
    fired = fired_by_hand(instance.task, status, cascade)
    if fired is not None:
        announce(draft, changed, fired[0], kwargs, fired[1])


def require_status(instance: Instance, status: Status, *, wanted: Status) -> None:
    """Refuse an operation that is only for instances of one status.

    :raises InvalidTransition: the instance has another one.
    """
    if instance.status is not status:
        allowed = ALLOWED_TRANSITIONS[instance.status]
        others = tuple(each for each in allowed if each is not wanted)
        raise InvalidTransition(instance.name, instance.status, wanted, others)
