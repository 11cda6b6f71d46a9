"""How a session ends: it is closed or cancelled, and what is stored of it is removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from triggers.engine.draft import Draft
from triggers.engine.events import Event
from triggers.engine.plan import Plan
from triggers.engine.rest import conclude
from triggers.engine.state import NO_HOOKS, Hooks, Reads, Transition
from triggers.types import Phase, Status


@dataclass(frozen=True, kw_only=True)
class Close(Event):
    """Nothing comes in from outside any more. Outcome: the session's phase.

    What has begun goes on: instances run, their outcomes cascade, deadlines count.
    """

    hooks: Hooks = NO_HOOKS
    opens_session = True

    def reads(self, plan: Plan) -> Reads:
        return Reads()

    def apply(self, draft: Draft) -> Transition:
        if draft.state.phase is not Phase.OPEN:
            return conclude(draft, outcome=draft.state.phase)
        return conclude(draft, phase=Phase.CLOSED, outcome=Phase.CLOSED)


@dataclass(frozen=True, kw_only=True)
class Cancel(Event):
    """Nothing goes on any more. Outcome: the session's phase.

    Instances that have not been started are abandoned. Those that run may report how they ended,
    but nothing follows from it; no outcome of this is fired.
    """

    hooks: Hooks = NO_HOOKS
    opens_session = True

    def reads(self, plan: Plan) -> Reads:
        return Reads(unresolved=True)

    def apply(self, draft: Draft) -> Transition:
        if draft.state.phase in (Phase.CANCELLED, Phase.PURGED):
            return conclude(draft, outcome=draft.state.phase)
        undecided = {**draft.state.instances, **draft.instances}
        for key in sorted(undecided):
            instance = draft.instance(key)
            if instance.status in (Status.UNSTARTED, Status.SCHEDULED):
                metadata = {**instance.metadata, "reason": "cancelled"}
                draft.put(draft.moved(instance, Status.ABANDONED, metadata=metadata))
                draft.scheduled.pop(key, None)
        # Who waits for tasks to be settled waits no more.
        draft.queue.clear()
        draft.restless, draft.touched, draft.asking = {}, {}, []
        return conclude(draft, phase=Phase.CANCELLED, outcome=Phase.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Purge(Event):
    """What is stored of a session is removed, but for a tombstone. Outcome: whether it was now.

    The tombstone is the fact that there was such a session, so that nothing begins again under its
    uid, and no idempotency key is taken for a new one.

    :ivar unchanged_since: only if nothing has been fired after this moment and nothing is left to
        do; ``None``: in any case.
    :ivar is_awaited: whether firings were recorded for it that are still to be decided.
    """

    unchanged_since: datetime | None = None
    is_awaited: bool = False
    hooks: Hooks = NO_HOOKS
    opens_session = True

    def reads(self, plan: Plan) -> Reads:
        if self.unchanged_since is None:
            return Reads()
        return Reads(unresolved=True, counts=tuple(plan.tasks))

    def apply(self, draft: Draft) -> Transition:
        if draft.state.phase is Phase.PURGED or not self._may(draft):
            return conclude(draft, outcome=False)
        # A transition of its own: what else this decision would have changed goes as well.
        return Transition(
            seq=draft.state.seq,
            clock=draft.present,
            plan=draft.plan,
            phase=Phase.PURGED,
            outcome=True,
        )

    def _may(self, draft: Draft) -> bool:
        if self.unchanged_since is None:
            return True
        if self.is_awaited:
            return False
        if draft.seq and draft.firing(draft.seq).at > self.unchanged_since:
            return False
        known = {**draft.state.instances, **draft.instances}
        if any(not each.status.is_resolved for each in known.values()) or draft.state.pending:
            return False
        if draft.state.phase is not Phase.OPEN:
            return True
        tasks = draft.plan.tasks
        return bool(tasks) and all(map(draft.count, tasks))
