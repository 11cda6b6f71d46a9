"""What recovery does in a session: it acts on what was committed as to be done, and was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from triggers.engine.draft import RESEND_AFTER, RESEND_AT_MOST, Draft
from triggers.engine.events import Event
from triggers.engine.plan import Plan
from triggers.engine.rest import ask_all, come_to_rest, conclude
from triggers.engine.rules import described, fail
from triggers.engine.state import NO_HOOKS, Hooks, InstanceKey, Pending, Reads, Transition
from triggers.exceptions import WorkerLost
from triggers.types import Instance, Phase, Status


@dataclass(frozen=True, kw_only=True)
class Recover(Event):
    """Recovery looks at what is due. Outcome: the marks that it takes over.

    Due instances are handed to a runner again, and are due later the next time. A running one is
    due when its lease has run out: the next attempt of the same instance may begin, or, after too
    many of them, it fails.

    :ivar attempts: how many workers may be lost with one instance.
    """

    attempts: int = 3
    hooks: Hooks = NO_HOOKS
    gives_way = True

    @property
    def can_wait(self) -> bool:
        return True

    def reads(self, plan: Plan) -> Reads:
        return Reads(due=True)

    def apply(self, draft: Draft) -> Transition:
        taken = [
            _taken_over(pending, draft.present)
            for pending in draft.state.pending.values()
            if pending.due_at <= draft.present
        ]
        draft.pending.extend(taken)
        for key in sorted(draft.state.due):
            instance = draft.instance(key)
            if instance.due_at is None or instance.due_at > draft.present:
                continue
            if instance.status is Status.RUNNING:
                _take_back(draft, instance, self.attempts)
            else:
                _send_again(draft, key, instance)
        come_to_rest(draft)
        return conclude(draft, outcome=tuple(taken))


@dataclass(frozen=True, kw_only=True)
class Unsent(Event):
    """Recovery could not hand these instances on; soon it tries again, as if it had not tried.

    :ivar sends: how often each counts as sent, with the time that failed. One that was sent by
        somebody else meanwhile is left as it is.
    """

    sends: Mapping[InstanceKey, int]
    hooks: Hooks = NO_HOOKS
    gives_way = True

    @property
    def can_wait(self) -> bool:
        return True

    def reads(self, plan: Plan) -> Reads:
        return Reads(instances=tuple(self.sends))

    def apply(self, draft: Draft) -> Transition:
        for key, sends in self.sends.items():
            instance = draft.instances.get(key) or draft.state.instances.get(key)
            if instance is None or instance.status is not Status.SCHEDULED:
                continue
            if instance.sends == sends > 0:
                due_at = draft.present + RESEND_AFTER
                draft.put(instance.but(due_at=due_at, sends=sends - 1))
        return conclude(draft)


@dataclass(frozen=True, kw_only=True)
class Done(Event):
    """Something that was pending has been done."""

    ref: str
    hooks: Hooks = NO_HOOKS

    def reads(self, plan: Plan) -> Reads:
        return Reads(ref=self.ref)

    def apply(self, draft: Draft) -> Transition:
        known = draft.state.pending.get(self.ref)
        if known is not None and known.kind == "cascade":
            ask_all(draft, self.ref)
        return conclude(draft, done=() if known is None else (self.ref,))


def _taken_over(mark: Pending, present: datetime) -> Pending:
    """A mark that recovery tries to fulfil now, and later again if that fails."""
    # Among the data, so that processes of an older release can read it, and pass it on.
    sends = mark.data.get("sends", 0) + 1
    return replace(mark, due_at=present + _pause(sends), data={**mark.data, "sends": sends})


def _pause(sends: int) -> timedelta:
    """How long to wait after so many sendings by recovery: doubled each time, up to an hour."""
    return min(RESEND_AFTER * (1 << min(sends, 16)), RESEND_AT_MOST)


def _send_again(draft: Draft, key: InstanceKey, instance: Instance) -> None:
    due_at = draft.present + _pause(instance.sends + 1)
    draft.put(instance.but(due_at=due_at, sends=instance.sends + 1))
    draft.scheduled[key] = None


def _take_back(draft: Draft, instance: Instance, attempts: int) -> None:
    """End an attempt whose worker was not heard of until the end of its lease."""
    ended = {"attempt": instance.attempt, "started_at": instance.changed_at.isoformat()}
    lost = [*instance.metadata.get("lost_attempts", ()), ended]
    metadata: dict[str, Any] = {**instance.metadata, "lost_attempts": lost}
    if instance.attempt < attempts and draft.state.phase is not Phase.CANCELLED:
        draft.put(draft.moved(instance, Status.SCHEDULED, metadata=metadata, sends=0))
        return
    metadata["exception"] = described(WorkerLost(instance.name, instance.attempt))
    fail(draft, instance, metadata)
