"""Sessions in the memory of this process: for tests, demos and backtests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import Any

from triggers.engine import Event, Plan, SessionState, Transition, decide
from triggers.engine.plan import EMPTY_PLAN
from triggers.engine.state import InstanceKey
from triggers.exceptions import InstanceNotFound
from triggers.storages.session import SessionStorage
from triggers.types import Firing, Instance


class MemoryStorageBackend(SessionStorage):
    """A session that all threads of this process share, and that ends with the process."""

    name = "memory"

    _sessions: dict[str, _Session] = {}

    def transact(self, event: Event) -> Transition:
        session = self._session()
        with session.lock:
            return commit(event, session.state, self)

    def plan(self) -> Plan:
        session = self._sessions.get(self.uid)
        return session.state.plan if session else EMPTY_PLAN

    def find_instances(
        self, *, task: str | None = None, number: int | None = None
    ) -> Iterable[Instance]:
        session = self._sessions.get(self.uid)
        if session is None:
            return []
        with session.lock:
            return select_instances(session.state, task, number)

    def find_firings(
        self, *, seqs: Collection[int] | None = None, latest: bool = False
    ) -> Iterable[Firing]:
        session = self._sessions.get(self.uid)
        if session is None:
            return []
        with session.lock:
            return select_firings(session.state, seqs, latest=latest)

    def manager_name(self) -> str | None:
        session = self._sessions.get(self.uid)
        return session.state.manager if session else None

    def delete(self) -> None:
        self._sessions.pop(self.uid, None)

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        found: list[str] = []
        for uid, session in list(cls._sessions.items()):
            if len(found) < limit and is_overdue(session.state, cls(uid, **options)):
                found.append(uid)
        return found

    @classmethod
    def clear(cls) -> None:
        """Forget every session of this process."""
        cls._sessions.clear()

    def acquire_lock(self) -> Any:
        """Keep other threads out of this session for the length of a ``with`` block."""
        return self._session().lock

    def _session(self) -> _Session:
        # dict.setdefault is atomic, so two threads that meet here get the same session.
        return self._sessions.get(self.uid) or self._sessions.setdefault(self.uid, _Session())


class _Session:
    __slots__ = ("lock", "state")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.state = SessionState()


def commit(event: Event, state: SessionState, storage: SessionStorage) -> Transition:
    """Decide an event on a whole session, and make the difference.

    :raises InstanceNotFound: the event names an instance that is not there.
    """
    for key in event.reads(state.plan).instances:
        require_instance(state.instances, key, storage.uid)
    transition = decide(event, state, storage.now())
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


def is_overdue(state: SessionState, storage: SessionStorage) -> bool:
    """Whether recovery has something to do in a whole session."""
    now = storage.now()
    times = [state.instances[key].due_at for key in state.due]
    times += [pending.due_at for pending in state.pending.values()]
    return any(time is not None and time <= now for time in times)
