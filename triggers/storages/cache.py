"""Sessions in one of Django's caches, if that is in Redis: the drop-in for the documents' storage.

A session is one JSON text under one key. Writers take turns by a lock in the same Redis, and a save
goes through only if the session is still what the decision was made on: a lock that was lost, or
that a paused process has outlived, costs another try and nothing else. What the cache evicts, or
loses in a restart, is lost: give it a Redis that keeps what it is given (``maxmemory-policy
noeviction``, ``appendonly yes``), or take the ``database`` storage.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from triggers import payload
from triggers.clock import overridden_time
from triggers.engine import SessionState
from triggers.exceptions import MissingPackages, SettingsError, StorageUnavailable
from triggers.limits import LimitOptions
from triggers.storages.base import BaseTriggerStorage, Conflict
from triggers.storages.whole import due_at, timer_at
from triggers.types import Phase

if TYPE_CHECKING:
    from triggers.storages.base import _Held
    from triggers.storages.cache_server import CacheServer

_TIME_HOLDS = 1.0
"""Seconds for which the server's time is carried on by this process before it is asked again."""


class CacheStorageBackend(BaseTriggerStorage):
    """A session in one of Django's caches, Django's own on Redis or django-redis.

    :param uid: the session's uid.
    :param cache: alias of the cache in ``CACHES``.
    :param timeout: seconds after the last change until the session expires; ``None``, the
        default, keeps it for ever (unlike the cache's own default of 300 seconds).
    :param limits: see :class:`~triggers.limits.Limits`.
    :raises SettingsError: ``timeout`` is no number above 0, or ``cache`` is no string. At the first
        use: there is no such cache, or it is one that cannot lock.
    """

    name = "cache"
    saves_at_once = True

    _state: SessionState
    _measured: tuple[datetime, float] | None = None

    def __init__(
        self,
        uid: str,
        cache: str = "default",
        timeout: float | None = None,
        **limits: Unpack[LimitOptions],
    ) -> None:
        super().__init__(uid, **limits)
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (is_number and 0 < timeout < float("inf")):
            raise SettingsError(
                f"timeout must be a number of seconds above 0, or None for ever, got {timeout!r}."
            )
        if not isinstance(cache, str):
            raise SettingsError(f"cache must be an alias in CACHES, a str, got {cache!r}.")
        self.cache = cache
        self.timeout = timeout

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "cache": self.cache, "timeout": self.timeout}

    def server(self) -> CacheServer:
        """The Redis that holds the session; nothing is sent to it yet.

        :raises SettingsError: there is no such cache, or it is one that cannot lock.
        :raises MissingPackages: (a ``SettingsError``) redis-py or python-redis-lock is missing.
        """
        try:
            from triggers.storages.cache_server import cache_server
        except ImportError as error:
            raise MissingPackages("cache", ["redis", "python-redis-lock"]) from error
        return cache_server(self.cache, self.limits.server_timeout)

    @property
    def lock_name(self) -> str:
        return f"{self.name}:{self.cache}:{self.uid}"

    def now(self) -> datetime:
        """The time of the Redis server, aware UTC."""
        if overridden_time() is not None:
            return super().now()
        if self._measured is not None:
            then, at = self._measured
            if (since := time.monotonic() - at) < _TIME_HOLDS:
                return then + timedelta(seconds=since)
        moment = self.server().now()
        self._measured = moment, time.monotonic()
        return moment

    # -- finding sessions -----------------------------------------------------------------------

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        storage = cls("-", **options)
        return storage.server().due(storage.now(), limit)

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> Collection[str]:
        storage = cls("-", **options)
        return storage.server().with_timers(until or storage.now(), limit)

    @classmethod
    def sessions(
        cls,
        limit: int,
        *,
        after: str = "",
        unchanged_since: datetime | None = None,
        **options: Any,
    ) -> list[str]:
        return cls("-", **options).server().sessions(after, unchanged_since, limit)

    # -- loading and saving ---------------------------------------------------------------------

    @contextmanager
    def _session_lock(self) -> Iterator[Callable[[], bool]]:
        with self.server().lock(self.uid):
            # Whether it is still held does not matter: the save compares.
            yield lambda: True

    def _load_from_backend(self) -> tuple[Any, Any, Any]:
        data, now = self.server().load(self.uid)
        self._measured = now, time.monotonic()
        if data is None:
            return None, None, None
        try:
            document = payload.decode(data.decode("utf-8", "surrogatepass"))
        except ValueError as error:
            reason = (
                f"what is stored for session {self.uid!r} in cache {self.cache!r} is no session of "
                "this version; finish it with the version that wrote it, or delete it"
            )
            raise StorageUnavailable(self.name, reason) from error
        metas = {**document["metas"], "revision": document["revision"]}
        return document["configs"], document["instances"], metas

    def _store(self, held: _Held) -> None:
        # By a copy, so that two threads that use this object cannot mix what they save.
        own = copy.copy(self)
        own._state = held.state
        super(CacheStorageBackend, own)._store(held)

    def _save(self) -> None:
        expected, revision = self._metas.pop("revision", None), uuid4().hex
        document = {
            "configs": self._serialize(self._configs),
            "instances": self._serialize(self._instances),
            "metas": self._serialize(self._metas),
        }
        state = self._state
        beginning = _beginning(revision)
        is_saved = self.server().save(
            self.uid,
            "" if expected is None else _beginning(expected),
            beginning,
            f"{beginning},{payload.dump(document)[1:]}",
            # The tombstone stays: the same message may come a second time much later.
            expires=None if state.phase is Phase.PURGED else self.timeout,
            due=due_at(state),
            timer=timer_at(state),
            changed=None if state.phase is Phase.PURGED else state.clock,
        )
        if not is_saved:
            raise Conflict
        self._metas["revision"] = revision

    def _delete_from_backend(self) -> None:
        self.server().delete(self.uid)


def _beginning(revision: str) -> str:
    """How the text of this revision begins: enough to know it by, without reading all of it."""
    return f'{{"revision":"{revision}"'
