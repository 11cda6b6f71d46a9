"""Deciding on, and looking into, a session that is held in memory as a whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from triggers.engine import Event, SessionState, Transition, Verdicts, decide
from triggers.engine.state import InstanceKey
from triggers.exceptions import InstanceNotFound
from triggers.storages.session import SessionStorage
from triggers.types import Firing, Instance, Standing


def commit(
    event: Event, verdicts: Verdicts, state: SessionState, storage: SessionStorage
) -> Transition:
    """Decide an event on a whole session, and make the difference.

    :raises InstanceNotFound: the event names an instance that is not there.
    """
    for key in event.reads(state.plan).instances:
        require_instance(state.instances, key, storage.uid)
    transition = decide(event, state, storage.now(), verdicts)
    state.apply(transition)
    return transition


def require_instance(
    instances: dict[InstanceKey, Instance], key: InstanceKey, uid: str
) -> Instance:
    """The instance of this key.

    :raises InstanceNotFound: it is not there.
    """
    found = instances.get(key)
    if found is None:
        name = f"{key[0]}#{key[1]}"
        raise InstanceNotFound(name, f"session {uid!r} has no such instance")
    return found


def select_instances(
    state: SessionState, task: str | None, number: int | None
) -> Iterable[Instance]:
    """Instances of a whole session, in configuration order, then by number."""
    if task is not None and number is not None:
        found = state.instances.get((task, number))
        return [] if found is None else [found]
    names = state.plan.tasks if task is None else [task]
    return [
        state.instances[name, number]
        for name in names
        for number in range(state.counts.get(name, 0))
    ]


def select_firings(
    state: SessionState, seqs: Collection[int] | None, *, latest: bool
) -> Iterable[Firing]:
    """Firings of a whole session, oldest first."""
    if latest:
        seqs = state.latest.values()
    wanted = state.firings if seqs is None else seqs
    return [state.firings[seq] for seq in sorted(wanted) if seq in state.firings]


def standing_of(state: SessionState) -> Standing:
    """How far a whole session has come."""
    return Standing(phase=state.phase, seq=state.seq, changed_at=state.clock, manager=state.manager)


def due_at(state: SessionState) -> datetime | None:
    """When recovery has something to do in a whole session, unless something happens before."""
    times = [state.instances[key].due_at for key in state.due]
    times += [pending.due_at for pending in state.pending.values()]
    return min((time for time in times if time is not None), default=None)


def timer_at(state: SessionState) -> datetime | None:
    """When time alone changes something in a whole session next."""
    return state.timers[0][0] if state.timers else None
