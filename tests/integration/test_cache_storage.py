"""What the cache storage keeps in Redis and for how long, which caches it takes, who lists it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.core.cache import caches
from django.core.checks import run_checks
from django.test import override_settings

from tests.integration.cache_sessions import key_of, session, until
from tests.servers import KEY_PREFIX, key_prefix, redis_url
from triggers import conf, recovery, timers
from triggers.clock import frozen_time
from triggers.exceptions import SessionClosed, SettingsError
from triggers.manager import TriggerManager
from triggers.storages.cache import CacheStorageBackend
from triggers.storages.cache_server import cache_server
from triggers.testing import run_tasks_locally
from triggers.testing.racing import BrokenRunner, IdleRunner, Recorded

in_redis = pytest.mark.server("redis")
either = pytest.mark.parametrize(
    "alias",
    [
        pytest.param("default", id="Django's own client", marks=in_redis),
        pytest.param("django-redis", marks=in_redis),
    ],
)


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    with run_tasks_locally("synchronous"):
        yield


@pytest.fixture(autouse=True)
def _own_keys(settings: Any) -> None:
    """Other modules leave sessions behind, and some of them are due."""
    prefix = f"{key_prefix()}-{uuid4().hex}"
    settings.CACHES = {
        name: {**cache, "KEY_PREFIX": prefix} for name, cache in settings.CACHES.items()
    }


@pytest.fixture
def raw() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url()) as client:
        yield client


# -- what is kept, and for how long ----------------------------------------------------------------


@either
def test_a_session_is_json_under_the_key_that_the_cache_would_make(
    alias: str, raw: redis.Redis
) -> None:
    uid = session(cache=alias).storage.uid
    key = key_of(uid, alias)
    assert key.startswith(key_prefix())
    kept: Any = raw.get(key)
    document = json.loads(kept)
    assert set(document) == {"revision", "configs", "instances", "metas"}
    assert document["configs"]["t_x"]["after"] == ["a", "b"]
    assert b"pickle" not in kept


@in_redis
@pytest.mark.parametrize("uid", ["ü ☃ 𝄞", "a:b/c d\n*", "x" * 255])
def test_every_uid_has_a_session_of_its_own(uid: str) -> None:
    TriggerManager(CacheStorageBackend(uid)).fire("a")
    assert uid in CacheStorageBackend.sessions(1000)
    assert list(CacheStorageBackend(uid[:-1]).find_firings()) == []
    CacheStorageBackend(uid).delete()
    assert uid not in CacheStorageBackend.sessions(1000)


@either
def test_a_session_without_a_timeout_outlives_the_default_of_the_cache(
    alias: str, raw: redis.Redis
) -> None:
    assert caches[alias].default_timeout == 300
    manager = session(cache=alias)
    manager.fire("a")
    assert raw.pttl(key_of(manager.storage.uid, alias)) == -1


@either
def test_a_timeout_counts_from_the_last_change(alias: str, raw: redis.Redis) -> None:
    manager = session(cache=alias, timeout=100)
    key = key_of(manager.storage.uid, alias)
    manager.fire("a", idempotency_key="once")
    assert 99_000 < raw.pttl(key) <= 100_000  # type: ignore[operator]
    raw.pexpire(key, 50_000)
    assert manager.fire("a", idempotency_key="once").duplicate
    assert list(manager.storage)
    assert raw.pttl(key) <= 50_000, "nothing has changed"  # type: ignore[operator]
    manager.fire("c")
    assert raw.pttl(key) > 99_000  # type: ignore[operator]


@in_redis
def test_a_fraction_of_a_second_is_a_timeout_and_then_the_session_is_gone(raw: redis.Redis) -> None:
    manager = session(timeout=0.05)
    uid = manager.storage.uid
    until(lambda: not raw.exists(key_of(uid)))
    assert manager.storage.tasks == {}
    assert manager.fire("a").seq == 1


@pytest.mark.parametrize("timeout", [0, -1, True, "300", float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(SettingsError, match=r"seconds above 0, or None for ever, got"):
        CacheStorageBackend("x", timeout=timeout)


@in_redis
def test_a_worker_opens_the_same_cache_with_the_same_timeout() -> None:
    storage = CacheStorageBackend("x", cache="django-redis", timeout=600, server_timeout=2)
    assert storage.options == {"cache": "django-redis", "timeout": 600, "server_timeout": 2}
    assert CacheStorageBackend("x", **storage.options).options == storage.options


@in_redis
def test_time_is_that_of_the_server(raw: redis.Redis) -> None:
    seconds, microseconds = raw.time()  # type: ignore[misc]
    storage = CacheStorageBackend("x")
    first = storage.now()
    assert 0 <= first.timestamp() - (seconds + microseconds / 1e6) < 5
    assert storage.now() >= first
    with frozen_time(first + timedelta(days=1)):
        assert storage.now() == first + timedelta(days=1)


# -- sessions that somebody must look at -----------------------------------------------------------


@contextmanager
def configured(alias: str) -> Iterator[None]:
    options = {"cache": alias}
    with override_settings(TRIGGERS={"default": {"STORAGE": "cache", "OPTIONS": options}}):
        yield


@either
def test_recovery_finds_what_nobody_has_started(alias: str) -> None:
    manager = session(cache=alias)
    manager.default_task_runner_name = BrokenRunner.name
    with _runner(BrokenRunner):
        manager.fire("a")
        manager.fire("b")
    later = manager.storage.now() + timedelta(days=1)
    uid = manager.storage.uid
    assert uid not in CacheStorageBackend.overdue(1000, cache=alias)
    with configured(alias), frozen_time(later):
        assert uid in CacheStorageBackend.overdue(1000, cache=alias)
        assert recovery.redeliver().sent == 1
        assert uid not in CacheStorageBackend.overdue(1000, cache=alias)
    assert manager.storage["t_x#0"].status == "finished"


@either
def test_fire_due_finds_the_deadlines_of_sessions_in_a_cache(alias: str) -> None:
    manager = TriggerManager(CacheStorageBackend(uuid4().hex, cache=alias))
    task = {"andEvery": "a", "debounce": {"quiet": "PT1H", "most": "P1D"}, "run": Recorded.name}
    manager.update_configuration({"t_late": task})
    manager.fire("a")
    start = manager.storage.now()
    with configured(alias):
        assert timers.fire_due(start + timedelta(minutes=59)).sessions == 0
        assert timers.fire_due(start + timedelta(minutes=61)).instances == 1
        assert timers.fire_due(start + timedelta(minutes=61)).sessions == 0
    assert manager.storage["t_late#0"].status == "finished"


@either
def test_sessions_are_listed_in_order_and_page_by_page(alias: str) -> None:
    prefix = uuid4().hex
    uids = [f"{prefix}{n}" for n in "aBcäz"]
    start = CacheStorageBackend("x").now()
    for minutes, uid in enumerate(uids):
        with frozen_time(start + timedelta(minutes=minutes)):
            TriggerManager(CacheStorageBackend(uid, cache=alias)).fire("a")
    in_order = sorted(uids, key=str.encode)

    def listed(limit: int, after: str, **options: Any) -> list[str]:
        found = CacheStorageBackend.sessions(limit, after=after, cache=alias, **options)
        return [uid for uid in found if uid.startswith(prefix)]

    assert listed(1000, "") == in_order
    assert listed(2, prefix) == in_order[:2]
    assert listed(2, in_order[1]) == in_order[2:4]
    assert listed(2, in_order[3]) == in_order[4:]
    since = start + timedelta(minutes=3)
    assert listed(1000, "", unchanged_since=since) == sorted(uids[:3], key=str.encode)
    assert listed(2, prefix, unchanged_since=since) == sorted(uids[:3], key=str.encode)[:2]


@either
def test_sessions_that_have_expired_are_taken_off_the_lists(alias: str, raw: redis.Redis) -> None:
    expiring = session(cache=alias, timeout=100)
    staying = session(cache=alias)
    with _runner(IdleRunner):
        for manager in (expiring, staying):
            manager.default_task_runner_name = IdleRunner.name
            manager.fire("a")
            manager.fire("b")
    uid = expiring.storage.uid
    raw.delete(key_of(uid, alias))
    indexes = [caches[alias].make_key(f"triggers:{name}") for name in ("due", "changed", "uids")]
    assert [raw.zscore(index, uid) is None for index in indexes] == [False] * 3
    with frozen_time(staying.storage.now() + timedelta(days=1)):
        overdue = CacheStorageBackend.overdue(1000, cache=alias)
    assert (uid in overdue, staying.storage.uid in overdue) == (False, True)
    assert [raw.zscore(index, uid) for index in indexes] == [None] * 3
    assert uid not in CacheStorageBackend.sessions(1000, cache=alias)


@in_redis
def test_a_deleted_session_leaves_nothing_behind(raw: redis.Redis) -> None:
    manager = session()
    manager.fire("a")
    manager.storage.delete()
    uid = manager.storage.uid
    assert list(raw.scan_iter(match=f"*{uid}*", count=1000)) in ([], [_signal_of(uid)])
    for name in ("due", "timers", "changed", "uids"):
        assert raw.zscore(caches["default"].make_key(f"triggers:{name}"), uid) is None


def _signal_of(uid: str) -> bytes:
    """Wakes who waits for the lock; it is gone after a second."""
    return f"lock-signal:{key_of(uid)}".encode()


@either
def test_an_erased_session_leaves_a_tombstone_that_is_on_no_list(
    alias: str, raw: redis.Redis
) -> None:
    manager = session(cache=alias)
    manager.fire("a", {"name": "Ada"})
    uid = manager.storage.uid
    assert CacheStorageBackend.sessions(10, cache=alias) == [uid]
    manager.erase()
    kept: Any = raw.get(key_of(uid, alias))
    assert b"Ada" not in kept
    assert b"t_x" not in kept
    assert CacheStorageBackend.sessions(10, cache=alias) == []
    with pytest.raises(SessionClosed, match="purged"):
        TriggerManager(CacheStorageBackend(uid, cache=alias)).fire("b")


@contextmanager
def _runner(runner: Any) -> Iterator[None]:
    from triggers.runners import task_runners

    task_runners.register(runner)
    yield
    task_runners.unregister(runner.name)


# -- caches that cannot keep sessions --------------------------------------------------------------

IN_THREADS = {"STORAGE": "cache", "RUNNER": "threading"}
BACKENDS = "django.core.cache.backends"
UNFIT = {
    "locmem": {"BACKEND": f"{BACKENDS}.locmem.LocMemCache"},
    "dummy": {"BACKEND": f"{BACKENDS}.dummy.DummyCache"},
    "file": {"BACKEND": f"{BACKENDS}.filebased.FileBasedCache", "LOCATION": "/tmp/unfit"},
    "database": {"BACKEND": f"{BACKENDS}.db.DatabaseCache", "LOCATION": "unfit"},
    "sharded": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": ["redis://127.0.0.1:1/0", "redis://127.0.0.1:1/1"],
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
    },
}


@pytest.mark.parametrize("alias", UNFIT)
def test_a_cache_that_cannot_lock_is_refused_by_a_check_and_at_use(
    alias: str, settings: Any
) -> None:
    settings.CACHES = {"default": UNFIT["dummy"], **UNFIT}
    settings.TRIGGERS = {"default": {**IN_THREADS, "OPTIONS": {"cache": alias}}}
    storage = CacheStorageBackend("x", **conf.get_alias().options)
    uses: list[Callable[[], object]] = [
        lambda: list(storage),
        lambda: TriggerManager(storage).fire("a"),
        storage.delete,
        storage.now,
        lambda: CacheStorageBackend.overdue(1, cache=alias),
    ]
    for use in uses:
        with pytest.raises(SettingsError, match="cannot lock") as caught:
            use()
    [error] = run_checks(tags=["triggers"])
    assert (error.id, error.msg) == ("triggers.E005", f"TRIGGERS['default']: {caught.value}")
    kind = UNFIT[alias]["BACKEND"]
    assert str(caught.value) == (
        f"CACHES[{alias!r}] is a {kind}, which cannot lock: processes would overwrite each other's "
        "sessions. Use django.core.cache.backends.redis.RedisCache or django-redis "
        "(django_redis.cache.RedisCache), or keep sessions in the 'database' or the 'redis' "
        "storage."
    )


def test_a_cache_that_is_not_there_is_named(settings: Any) -> None:
    settings.TRIGGERS = {"default": {**IN_THREADS, "OPTIONS": {"cache": "nowhere"}}}
    with pytest.raises(SettingsError, match=r"CACHES\['nowhere'\] cannot be used") as caught:
        list(CacheStorageBackend("x", cache="nowhere"))
    assert "(there are: 'default'" in str(caught.value)
    [error] = run_checks(tags=["triggers"])
    assert error.id == "triggers.E005"


@either
def test_the_check_asks_no_server(alias: str, settings: Any) -> None:
    place = {**settings.CACHES[alias], "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {**settings.CACHES, alias: place}
    settings.TRIGGERS = {"default": {**IN_THREADS, "OPTIONS": {"cache": alias}}}
    assert run_checks(tags=["triggers"]) == []


def test_settings_of_the_cache_reach_the_connections(settings: Any, tmp_path: Path) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"unix://me:secret@{tmp_path}/redis.sock?db=3",
            "OPTIONS": {"client_name": "shop", "socket_timeout": 77, "health_check_interval": 9},
        }
    }
    options = cache_server("default", 2.5)._client.connection_pool.connection_kwargs
    assert options["path"] == f"{tmp_path}/redis.sock"
    assert (options["db"], options["username"], options["password"]) == (3, "me", "secret")
    assert (options["client_name"], options["health_check_interval"]) == ("shop", 9)
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (2.5, 2.5)


def test_a_process_of_a_test_has_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_PREFIX, "that of the test")
    assert key_prefix() == "that of the test"
