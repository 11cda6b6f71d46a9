"""The Redis behind one of Django's caches: reads, compare-and-swap, an index of what is due.

It has connections of its own, made from the settings of the cache's connections: with the time
limits of this package, and without the cache's pickling. Keys are those that the cache would make,
so its ``KEY_PREFIX``, ``VERSION`` and ``KEY_FUNCTION`` hold.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis
import redis_lock
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache, InvalidCacheBackendError
from django.core.cache.backends.redis import RedisCache
from django.core.signals import setting_changed

from triggers.exceptions import SettingsError, StorageUnavailable

LOCK_EXPIRY = 10
"""Seconds after which a holder that does not renew its lock, since it died, is replaced."""

USE_INSTEAD = (
    "Use django.core.cache.backends.redis.RedisCache or django-redis "
    "(django_redis.cache.RedisCache), or keep sessions in the 'database' or the 'redis' storage."
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_POOLS_OWN = ("connection_pool", "event_", "himport_", "maint", "orig_", "oss_")
"""What a pool adds to its connections for itself begins with one of these."""

_SAVE = """
-- KEYS: the session, then its four indexes.
-- ARGV: the beginning of the text that is expected (empty: none) and of the one to save; that
-- text; milliseconds until it expires (empty: never); the uid; its score in each index (empty:
-- it is not in there).
local found = redis.call('GETRANGE', KEYS[1], 0, #ARGV[2] - 1)
if found == ARGV[2] then
    return 1  -- this very save, sent again
elseif found ~= ARGV[1] then
    return 0
end
if ARGV[4] == '' then
    redis.call('SET', KEYS[1], ARGV[3])
else
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
for number = 2, #KEYS do
    local score = ARGV[number + 4]
    if score == '' then
        redis.call('ZREM', KEYS[number], ARGV[5])
    else
        redis.call('ZADD', KEYS[number], score, ARGV[5])
    end
end
return 1
"""

_FORGET = """
-- KEYS: the session, then its four indexes. ARGV: the uid.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
for number = 2, #KEYS do
    redis.call('ZREM', KEYS[number], ARGV[1])
end
return 1
"""

_opened: dict[tuple[str, float], CacheServer] = {}


def cache_server(alias: str, timeout: float) -> CacheServer:
    """The Redis behind a cache; nothing is sent to it yet.

    :param alias: of the cache, in ``CACHES``.
    :param timeout: seconds that it may take to answer.
    :raises SettingsError: there is no such cache, or it is not in Redis.
    """
    opened = _opened.get((alias, timeout))
    if opened is None:
        opened = _opened[alias, timeout] = CacheServer(alias, timeout)
    return opened


class CacheServer:
    """What the cache storage asks of Redis.

    Every method raises :class:`~triggers.exceptions.StorageUnavailable`, if Redis does not answer.
    """

    def __init__(self, alias: str, timeout: float) -> None:
        cache = _find(alias)
        self._key: Callable[[str], str] = cache.make_key
        self._client = _client_like(_raw_client(cache, alias), timeout)
        self._save = self._client.register_script(_SAVE)
        self._forget = self._client.register_script(_FORGET)

    @property
    def _indexes(self) -> list[str]:
        return [self._key(f"triggers:{name}") for name in ("due", "timers", "changed", "uids")]

    def _session(self, uid: str) -> str:
        return self._key(f"triggers:session:{uid}")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            if isinstance(error, redis.ReadOnlyError):
                # A server that another has taken over from: the address may lead to that one now.
                self._client.connection_pool.disconnect()
            reason = str(error) or type(error).__name__
            raise StorageUnavailable("cache", f"Redis: {reason}") from error

    def load(self, uid: str) -> tuple[bytes | None, datetime]:
        """The text of a session, and the time."""
        with self._reported():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.get(self._session(uid))
            pipeline.time()
            text, now = pipeline.execute()
        return text, _time(now)

    def now(self) -> datetime:
        """The time."""
        with self._reported():
            return _time(cast(Any, self._client.time()))

    def save(
        self,
        uid: str,
        expected: str,
        beginning: str,
        text: str,
        *,
        expires: float | None,
        due: datetime | None,
        timer: datetime | None,
        changed: datetime | None,
    ) -> bool:
        """Save a session if the text that is there begins as expected; whether it did.

        :param expected: empty if nothing must be there.
        :param beginning: of ``text``; unique, and as long as ``expected``.
        :param expires: seconds from now on; ``None``: never.
        :param due: when recovery should look at the session, if nothing happens in it.
        :param timer: when time alone changes something in it.
        :param changed: when it was last decided on; ``None`` takes it off the list of sessions.
        """
        keys = [self._session(uid), *self._indexes]
        scores = [_score(due), _score(timer), _score(changed), "" if changed is None else "0"]
        life = "" if expires is None else str(max(1, round(expires * 1000)))
        data = text.encode("utf-8", "surrogatepass")
        args: list[bytes | str] = [expected, beginning, data, life, uid, *scores]
        with self._reported():
            try:
                return bool(self._save(keys, args))
            except redis.ConnectionError:
                # Had it been done or not? Once more does no harm, and tells unless others came.
                if self._save(keys, args):
                    return True
        raise StorageUnavailable("cache", "the connection broke; others have saved since")

    def delete(self, uid: str) -> None:
        """Remove a session."""
        with self._reported():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.delete(self._session(uid))
            for index in self._indexes:
                pipeline.zrem(index, uid)
            pipeline.execute()

    def lock(self, uid: str) -> AbstractContextManager[None]:
        """Wait for the lock of a session, and hold it for the length of a ``with`` block.

        A server that forgets it, or a holder that is paused for longer than :data:`LOCK_EXPIRY`,
        loses it. Who depends on more compares when saving.
        """
        return self._locked(_Lock(self._client, self._session(uid)))

    @contextmanager
    def _locked(self, lock: _Lock) -> Iterator[None]:
        with self._reported():
            lock.acquire()
        try:
            yield
        finally:
            # If it was lost, or cannot be given back, it has expired or will.
            with suppress(redis_lock.NotAcquired, redis.RedisError):
                lock.release()

    def due(self, until: datetime, limit: int) -> list[str]:
        """Uids of sessions that recovery should look at by this moment, earliest first."""
        return self._by_time(self._indexes[0], until, limit)

    def with_timers(self, until: datetime, limit: int) -> list[str]:
        """Uids of sessions in which time alone changes something by this moment."""
        return self._by_time(self._indexes[1], until, limit)

    def sessions(self, after: str, unchanged_since: datetime | None, limit: int) -> list[str]:
        """Uids of sessions after this one, in the order of their bytes in UTF-8."""
        _due, _timers, changed, uids = self._indexes
        found: list[str] = []
        while len(found) < limit:
            with self._reported():
                start = f"({after}" if after else "-"
                page = _texts(self._client.zrangebylex(uids, start, "+", start=0, num=limit))
            if not page:
                break
            after = page[-1]
            gone = self._forget_expired(page)
            page = [uid for uid in page if uid not in gone]
            if unchanged_since is not None and page:
                with self._reported():
                    pipeline = self._client.pipeline(transaction=False)
                    for uid in page:
                        pipeline.zscore(changed, uid)
                    scores = pipeline.execute()
                before = float(_score(unchanged_since))
                pairs = zip(page, scores, strict=True)
                page = [uid for uid, score in pairs if score is not None and score < before]
            found += page
        return found[:limit]

    def _by_time(self, index: str, until: datetime, limit: int) -> list[str]:
        while True:
            with self._reported():
                found = self._client.zrangebyscore(index, "-inf", _score(until), 0, limit)
            uids = _texts(found)
            if not self._forget_expired(uids):
                return uids

    def _forget_expired(self, uids: Sequence[str]) -> set[str]:
        """Take sessions that are no more off the indexes; which were."""
        if not uids:
            return set()
        with self._reported():
            pipeline = self._client.pipeline(transaction=False)
            for uid in uids:
                pipeline.exists(self._session(uid))
            there = pipeline.execute()
            missing = [uid for uid, is_there in zip(uids, there, strict=True) if not is_there]
            return {uid for uid in missing if self._forget_one(uid)}

    def _forget_one(self, uid: str) -> bool:
        return bool(self._forget([self._session(uid), *self._indexes], [uid]))


class _Lock(redis_lock.Lock):  # type: ignore[misc]  # it has no types
    """A lock that is renewed while it is held, with an id of its own."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        super().__init__(client, name, expire=LOCK_EXPIRY, auto_renewal=True)

    @staticmethod
    def _lock_renewer(name: str, lockref: Any, interval: float, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                redis_lock.Lock._lock_renewer(name, lockref, interval, stop)
            except redis_lock.NotAcquired:
                return  # it is lost; the save will see whether that matters
            except redis.RedisError:
                continue
            return


class _Client(redis.Redis):
    """A client that waits by short steps, so that waiting is not taken for a server that hangs.

    :ivar waiting: the client that waits.
    :ivar step: seconds.
    """

    waiting: redis.Redis
    step: float

    def blpop(self, keys: Any, timeout: Any = 0) -> Any:
        return self.waiting.blpop(keys, min(timeout or self.step, self.step))


def _client_like(raw: redis.Redis, timeout: float) -> redis.Redis:
    """A client to the same server, with time limits of its own, that repeats nothing."""
    pool: Any = raw.connection_pool
    options = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if not name.startswith(_POOLS_OWN)
    }
    options |= {
        "connection_class": pool.connection_class,
        "decode_responses": False,
        "retry": None,
        "retry_on_error": [],
        "retry_on_timeout": False,
        "socket_connect_timeout": timeout,
    }

    def own_pool(limit: float) -> redis.ConnectionPool:
        limited = {**options, "socket_timeout": limit}
        if hasattr(pool, "sentinel_manager"):
            return cast(
                redis.ConnectionPool,
                type(pool)(pool.service_name, pool.sentinel_manager, **limited),
            )
        return redis.ConnectionPool(**limited)

    client = _Client(connection_pool=own_pool(timeout))
    client.step = min(1.0, timeout / 2)
    # Redis ends a wait up to 0.1 s late.
    client.waiting = redis.Redis(connection_pool=own_pool(max(timeout, client.step + 0.5)))
    return client


def _find(alias: str) -> BaseCache:
    try:
        return caches[alias]
    except InvalidCacheBackendError as error:
        known = ", ".join(map(repr, sorted(caches.settings))) or "none"
        reason = f"CACHES[{alias!r}] cannot be used: {error} (there are: {known})."
        raise SettingsError(reason) from error


def _raw_client(cache: BaseCache, alias: str) -> redis.Redis:
    """The client with which a cache writes.

    :raises SettingsError: it has none, so that processes could not keep each other out.
    """
    client: Any = None
    if isinstance(cache, RedisCache):
        client = cast(Any, cache)._cache.get_client(write=True)
    elif _is_django_redis(cache):
        with suppress(NotImplementedError):  # sessions cannot be spread over several servers
            client = cast(Any, cache).client.get_client(write=True)
    if isinstance(client, redis.Redis):
        return client
    kind = f"{type(cache).__module__}.{type(cache).__qualname__}"
    raise SettingsError(
        f"CACHES[{alias!r}] is a {kind}, which cannot lock: processes would overwrite each "
        f"other's sessions. {USE_INSTEAD}"
    )


def _is_django_redis(cache: BaseCache) -> bool:
    module = sys.modules.get("django_redis.cache")
    return module is not None and isinstance(cache, module.RedisCache)


def _score(moment: datetime | None) -> str:
    """A moment in an index: microseconds since 1970, which a double holds exactly."""
    return "" if moment is None else str((moment - _EPOCH) // timedelta(microseconds=1))


def _time(answer: tuple[int, int]) -> datetime:
    seconds, microseconds = answer
    return _EPOCH + timedelta(seconds=seconds, microseconds=microseconds)


def _texts(answer: Any) -> list[str]:
    return [each.decode() for each in answer]


def _forget_clients(*, setting: str, **_kwargs: Any) -> None:
    if setting == "CACHES":
        _opened.clear()


setting_changed.connect(_forget_clients)
