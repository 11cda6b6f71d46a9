"""Sessions in the memory of this process: for tests, demos and backtests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from triggers.engine import Event, Plan, SessionState, Transition, Verdicts
from triggers.engine.plan import EMPTY_PLAN
from triggers.storages.session import SessionStorage
from triggers.storages.whole import (
    commit,
    due_at,
    select_firings,
    select_instances,
    standing_of,
    timer_at,
)
from triggers.types import Firing, Instance, Phase, Standing


class MemoryStorageBackend(SessionStorage):
    """A session that all threads of this process share, and that ends with the process."""

    name = "memory"

    _sessions: dict[str, _Session] = {}

    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        # What is asked of a session that does not exist must not make it exist.
        known = self._session() if event.opens_session else self._sessions.get(self.uid)
        session = known or _Session()
        with session.lock:
            return commit(event, verdicts, session.state, self)

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

    def standing(self) -> Standing:
        session = self._sessions.get(self.uid)
        return standing_of(session.state) if session else Standing()

    def delete(self) -> None:
        self._sessions.pop(self.uid, None)

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        return cls._due(limit, due_at, cls("-", **options).now())

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> Collection[str]:
        return cls._due(limit, timer_at, until or cls("-", **options).now())

    @classmethod
    def _due(
        cls, limit: int, moment_of: Callable[[SessionState], datetime | None], until: datetime
    ) -> list[str]:
        """Sessions of which this moment is not later than ``until``, the earliest first."""
        found: list[tuple[datetime, str]] = []
        for uid, session in list(cls._sessions.items()):
            with session.lock:
                moment = moment_of(session.state)
            if moment is not None and moment <= until:
                found.append((moment, uid))
        return [uid for _moment, uid in sorted(found)[:limit]]

    @classmethod
    def sessions(
        cls,
        limit: int,
        *,
        after: str = "",
        unchanged_since: datetime | None = None,
        **options: Any,
    ) -> list[str]:
        found = []
        for uid in sorted(uid for uid in list(cls._sessions) if uid > after):
            standing = cls(uid, **options).standing()
            changed_at = standing.changed_at
            if standing.phase is Phase.PURGED or changed_at is None:
                continue
            if unchanged_since is None or changed_at < unchanged_since:
                found.append(uid)
        return found[:limit]

    @classmethod
    def clear(cls) -> None:
        """Forget every session of this process."""
        cls._sessions.clear()

    def acquire_lock(self) -> Any:
        """Keep other threads out of this session for the length of a ``with`` block.

        :returns: a context manager that yields the storage.
        """
        return self._as_lock()

    @contextmanager
    def _as_lock(self) -> Iterator[MemoryStorageBackend]:
        with self._session().lock:
            yield self

    def _session(self) -> _Session:
        # dict.setdefault is atomic, so two threads that meet here get the same session.
        return self._sessions.get(self.uid) or self._sessions.setdefault(self.uid, _Session())


class _Session:
    __slots__ = ("lock", "state")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.state = SessionState()
