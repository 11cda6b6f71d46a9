"""A preview leaves nothing behind in what a storage stores, wherever and whenever it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.apps import apps
from django.db import transaction

from tests import servers
from tests.contract.custom_storage import FolderStorage
from tests.integration.cache_sessions import key_of
from tests.servers import database_params
from triggers.conditions import predicate
from triggers.engine.previewing import Foresight, Preview
from triggers.exceptions import ConfigurationError, ConfigurationWarning, StorageUnavailable
from triggers.explain import ConfigurationPreview
from triggers.manager import TriggerManager
from triggers.runners import task_runners
from triggers.storages.cache import CacheStorageBackend
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.redis import RedisStorageBackend
from triggers.storages.session import SessionStorage
from triggers.testing import frozen_time
from triggers.testing.racing import IdleRunner, Recorded, in_threads

on_every_database = pytest.mark.parametrize("alias", database_params())

WAITING = {
    "t_x": {"after": ["a", "b"], "within": "PT1H", "run": Recorded.name},
    "t_y": {"after": ["a", "b"], "andEvery": "p", "run": Recorded.name},
}
OTHER = {
    "t_x": {"after": ["a"], "when": {"a": "tests_preview_any"}, "run": Recorded.name},
    "t_y": {"after": ["c"], "unless": ["a"], "andEvery": "p", "run": Recorded.name},
    "t_new": {"after": ["a", "t_y:abandoned"], "run": Recorded.name},
}
REFUSED = {"t_y": {"after": ["a", "b"], "run": Recorded.name}}
LATER = datetime(2036, 11, 21, tzinfo=UTC)

asked: list[str] = []


@predicate("tests_preview_any")
def lets_all_pass(kwargs: dict[str, Any]) -> bool:
    asked.append("tests_preview_any")
    return True


@pytest.fixture(autouse=True)
def _idle() -> Iterator[None]:
    task_runners.register(IdleRunner)
    yield
    task_runners.unregister(IdleRunner.name)


def live(storage: SessionStorage) -> TriggerManager:
    manager = TriggerManager(storage)
    manager.default_task_runner_name = IdleRunner.name
    manager.update_configuration(WAITING)
    for trigger in ("a", "p", "p"):
        manager.fire(trigger)
    return manager


def preview_everything(manager: TriggerManager, dump: Callable[[], Any]) -> None:
    """Make all kinds of previews, and look whether anything is stored by them."""
    before = dump()
    assert before, "there must be something to look at"
    found = manager.update_configuration(OTHER, preview=True, apply_history=True)
    assert found.scheduled == ("t_x#0", "t_new#0")
    assert found.abandoned == ("t_y#0", "t_y#1")
    assert manager.update_configuration(REFUSED, preview=True).is_refused
    with frozen_time(LATER):
        due = manager.update_configuration(OTHER, preview=True).due
    assert due.abandoned == ("t_x#0",)
    unknown = TriggerManager(type(manager.storage)(uuid4().hex, **manager.storage.options))
    assert unknown.update_configuration(OTHER, preview=True).new == ("t_x", "t_y", "t_new")
    assert dump() == before


def test_in_memory() -> None:
    manager = live(MemoryStorageBackend(uuid4().hex))
    sessions = MemoryStorageBackend._sessions
    preview_everything(manager, lambda: {uid: repr(each.state) for uid, each in sessions.items()})


@on_every_database
def test_in_a_database(alias: str) -> None:
    manager = live(DatabaseStorageBackend(uuid4().hex, using=alias))

    def dump() -> Any:
        models = apps.get_app_config("triggers").get_models()
        return {each: list(each._default_manager.using(alias).values()) for each in models}

    preview_everything(manager, dump)


def content(client: redis.Redis, key: bytes) -> Any:
    """What a key holds; ``DUMP`` would also tell the order, which Redis changes by itself."""
    kind = client.type(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"set":
        return client.smembers(key)
    if kind == b"zset":
        return client.zrange(key, 0, -1, withscores=True)
    return client.dump(key)


@pytest.mark.server("redis")
def test_in_redis() -> None:
    options = {"url": servers.redis_url(), "prefix": f"previews-{uuid4().hex}"}
    manager = live(RedisStorageBackend(uuid4().hex, **options))
    with redis.Redis.from_url(options["url"]) as client:

        def dump() -> Any:
            found = sorted(client.scan_iter(f"*{options['prefix']}*", count=1000))
            return {key: (content(client, key), client.pttl(key) > 0) for key in found}

        preview_everything(manager, dump)
        for key in client.scan_iter(f"*{options['prefix']}*", count=1000):
            client.unlink(key)


@pytest.mark.server("redis")
def test_in_a_cache() -> None:
    manager = live(CacheStorageBackend(uuid4().hex))
    with redis.Redis.from_url(servers.redis_url()) as client:
        everything = f"*{manager.storage.uid}*"
        preview_everything(
            manager,
            lambda: {key: client.dump(key) for key in sorted(client.scan_iter(everything))},
        )
        assert key_of(manager.storage.uid).encode() in set(client.scan_iter(everything))


@pytest.mark.django_db(transaction=True)
def test_in_a_storage_that_loads_and_saves(tmp_path: Path) -> None:
    manager = live(FolderStorage(uuid4().hex, folder=str(tmp_path)))
    preview_everything(
        manager,
        lambda: {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in tmp_path.iterdir()},
    )


def test_filters_are_asked_as_they_would_be() -> None:
    manager = live(MemoryStorageBackend(uuid4().hex))
    asked.clear()
    assert manager.update_configuration(OTHER, preview=True).scheduled == ("t_x#0", "t_new#0")
    assert asked == ["tests_preview_any"]


def test_filters_that_were_only_looked_at_are_not_asked_about_what_is_fired() -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration({"t_x": {"andEvery": "p", "run": Recorded.name}})
    manager.fire("p")
    filtered = {"t_y": {"after": ["p"], "when": {"p": "tests_preview_any"}, "run": Recorded.name}}
    manager.update_configuration(filtered, preview=True, apply_history=True)
    assert asked
    asked.clear()
    manager.fire("p")
    assert asked == []


def test_a_preview_warns_as_the_configuration_would() -> None:
    manager = live(MemoryStorageBackend(uuid4().hex))
    with pytest.warns(ConfigurationWarning, match="t_self: waits for itself"):
        manager.update_configuration(
            {"t_self": {"after": ["t_self"], "run": Recorded.name}}, preview=True
        )


@pytest.mark.parametrize("wrong", ["no", 1, 0, None])
@pytest.mark.parametrize("flag", ["preview", "apply_history"])
def test_what_is_neither_true_nor_false_is_refused(flag: str, wrong: Any) -> None:
    manager = live(MemoryStorageBackend(uuid4().hex))
    before = manager.storage.debug_repr()
    with pytest.raises(ConfigurationError, match=f"{flag}: expected True or False, got"):
        manager.update_configuration(OTHER, **{flag: wrong})
    assert manager.storage.debug_repr() == before


def test_a_preview_can_be_awaited() -> None:
    manager = live(MemoryStorageBackend(uuid4().hex))
    found = asyncio.run(manager.aupdate_configuration(OTHER, preview=True))
    assert isinstance(found, ConfigurationPreview)
    result = asyncio.run(manager.aupdate_configuration(OTHER))
    assert result.scheduled == found.scheduled


@on_every_database
def test_inside_a_transaction_it_sees_what_that_has_done(alias: str) -> None:
    manager = live(DatabaseStorageBackend(uuid4().hex, using=alias, in_transaction="decide"))
    with transaction.atomic(using=alias):
        assert manager.fire("b").scheduled == ("t_x#0", "t_y#0", "t_y#1")
        found = manager.update_configuration(OTHER, preview=True)
        assert (found.scheduled, found.waiting) == ((), ())
        transaction.set_rollback(True, using=alias)
    assert len(manager.update_configuration(OTHER, preview=True).waiting) == 3


@on_every_database
def test_under_the_lock_of_the_caller_it_does_not_wait(alias: str) -> None:
    manager = live(DatabaseStorageBackend(uuid4().hex, using=alias))
    with manager.storage.acquire_lock():
        manager.fire("b")
        assert manager.update_configuration(OTHER, preview=True).waiting == ()


@pytest.mark.parametrize("alias", [each for each in database_params() if "postgresql" in str(each)])
def test_in_a_transaction_on_postgresql_nobody_waits_for_a_preview(alias: str) -> None:
    manager = live(DatabaseStorageBackend(uuid4().hex, using=alias))
    other = TriggerManager(DatabaseStorageBackend(manager.storage.uid, using=alias))
    other.default_task_runner_name = IdleRunner.name
    with transaction.atomic(using=alias):
        manager.update_configuration(OTHER, preview=True)
        in_threads(lambda: fire(other))
        assert manager.update_configuration(OTHER, preview=True).waiting == ()


def fire(manager: TriggerManager) -> None:
    assert manager.fire("b").scheduled == ("t_x#0", "t_y#0", "t_y#1")


class Removed(MemoryStorageBackend):
    """A session that is there when a preview is decided, and gone when it is looked at."""

    name = "removed"

    def rehearse(self, event: Preview) -> Foresight:
        found = super().rehearse(event)
        self.delete()
        return found


class RemovedAgain(Removed):
    """The same, again and again."""

    def rehearse(self, event: Preview) -> Foresight:
        session = self._kept = getattr(self, "_kept", None) or self._sessions[self.uid]
        self._sessions[self.uid] = session
        return super().rehearse(event)


def test_a_session_that_is_removed_meanwhile_is_looked_at_again() -> None:
    manager = live(Removed(uuid4().hex))
    found = manager.update_configuration(OTHER, preview=True)
    assert (found.new, found.waiting) == (("t_x", "t_y", "t_new"), ())


def test_a_session_that_is_removed_all_the_time_is_given_up() -> None:
    manager = live(RemovedAgain(uuid4().hex))
    with pytest.raises(StorageUnavailable, match="is removed again and again"):
        manager.update_configuration(OTHER, preview=True)
