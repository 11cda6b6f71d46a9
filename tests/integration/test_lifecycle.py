"""Leases in real time, on every storage: living workers keep them, lost ones cannot come back.

Rolling deploys, too: what a process does with a session that a newer one has written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from tests import led_tasks, servers
from tests.contract.custom_storage import FolderStorage
from tests.led_process import led_process
from tests.worker import Obedient, OnlookingManager, Worker, finishing
from triggers import recovery, timers
from triggers.engine.lifecycle import Claim, Finish
from triggers.exceptions import SessionClosed, SessionFull, StateVersionError
from triggers.manager import TriggerManager, trigger_managers
from triggers.models import Firing, Session
from triggers.storages.cache import CacheStorageBackend
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.document import STATE_VERSION
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.redis import RedisStorageBackend
from triggers.storages.session import SessionStorage
from triggers.task import execute
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded
from triggers.types import Phase

SHORT = {"lease": 1.0, "heartbeat": 0.2}
PATIENCE = 60  # seconds

with_databases = pytest.mark.parametrize("alias", servers.database_params())


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    trigger_managers.register(OnlookingManager)
    with run_tasks_locally("synchronous"):
        yield
    MemoryStorageBackend.clear()


def storages() -> list[Any]:
    """One parameter for each storage, as its name."""
    shared = [pytest.param(p.values[0], marks=p.marks) for p in servers.database_params()]
    in_redis = [pytest.mark.server("redis"), pytest.mark.django_db(transaction=True)]
    return [
        *shared,
        pytest.param("cache", marks=in_redis),
        pytest.param("redis", marks=in_redis),
        pytest.param("folder", marks=pytest.mark.django_db(transaction=True)),
    ]


def opened(kind: str, path: Path, **limits: Any) -> SessionStorage:
    """A fresh session in a storage of this kind."""
    uid = uuid4().hex
    if kind == "memory":
        return MemoryStorageBackend(uid, **limits)
    if kind == "cache":
        return CacheStorageBackend(uid, **limits)
    if kind == "redis":
        return RedisStorageBackend(uid, url=servers.redis_url(), prefix=servers.RUN_ID, **limits)
    if kind == "folder":
        return FolderStorage(uid, folder=str(path), **limits)
    return DatabaseStorageBackend(uid, using=kind, **limits)


def wait_until_its_lease_is_over(storage: SessionStorage, name: str = "t_x#0") -> None:
    """Wait for a moment which must come by itself: the end of a lease that nobody renews."""
    end = storage[name].record.due_at
    assert end is not None
    deadline = time.monotonic() + PATIENCE
    while storage.now() < end:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ready(storage: SessionStorage, run: str) -> TriggerManager:
    """A manager with an instance that waits for a worker."""
    manager = OnlookingManager(storage)
    manager.update_configuration({"t_x": {"after": ["a"], "run": run}})
    manager.fire("a")
    return manager


# -- living workers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*storages(), "memory"])
def test_a_task_of_three_leases_keeps_its_own(kind: str, tmp_path: Path) -> None:
    storage = opened(kind, tmp_path, **SHORT)
    manager = ready(storage, Obedient.name)
    worker = Worker(manager, "t_x#0")
    assert worker.runs
    begun = storage["t_x#0"].changed_at
    while storage.now() < begun + 3 * storage.limits.lease_time:
        assert recovery.recover(manager).sent == 0
        time.sleep(0.1)
    assert not worker.do(lambda task, context: context.is_lost)
    worker.end(partial(finishing, {"n": 1}))
    instance = storage["t_x#0"]
    assert (instance.status, instance.attempt) == ("finished", 1)
    assert "lost_attempts" not in instance.metadata


# -- lost workers --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", storages())
def test_a_process_that_was_paused_beyond_its_lease_cannot_overwrite_its_successor(
    kind: str, tmp_path: Path
) -> None:
    storage = opened(kind, tmp_path, **SHORT)
    manager = ready(storage, led_tasks.Halting.name)
    with led_process(storage, "t_x#0") as process:
        process.wait_until_it_halts()
        process.stop()
        wait_until_its_lease_is_over(storage)
        assert recovery.recover(manager).sent == 1
        execute(TriggerManager(storage), "t_x#0")
        assert storage["t_x#0"].metadata["result"] == {"by": "successor"}
        process.go_on()
        said = process.end()
    assert "finish of t_x#0 was not recorded" in said
    instance = storage["t_x#0"]
    assert (instance.status, instance.attempt) == ("finished", 2)
    assert instance.metadata["result"] == {"by": "successor"}
    assert [each.trigger for each in storage.find_firings()] == ["a", "t_x"]


@pytest.mark.parametrize("kind", storages())
def test_a_process_that_comes_back_learns_that_its_successor_runs(
    kind: str, tmp_path: Path
) -> None:
    storage = opened(kind, tmp_path, **SHORT)
    manager = ready(storage, led_tasks.Halting.name)
    with led_process(storage, "t_x#0") as process:
        process.wait_until_it_halts()
        process.stop()
        wait_until_its_lease_is_over(storage)
        recovery.recover(manager)
        storage.transact(Claim(key=("t_x", 0), token="two"))
        process.go_on()
        said = process.end("return when lost")
    assert "knows that it was lost" in said
    assert "was taken away from this worker" in said
    assert storage["t_x#0"].status == "running"
    assert storage.transact(Finish(key=("t_x", 0), token="two")).outcome is True


@pytest.mark.parametrize("kind", storages())
def test_a_process_that_is_killed_is_replaced_after_its_lease(kind: str, tmp_path: Path) -> None:
    storage = opened(kind, tmp_path, **SHORT)
    manager = ready(storage, led_tasks.Halting.name)
    with led_process(storage, "t_x#0") as process:
        process.wait_until_it_halts()
        process.kill()
    assert storage["t_x#0"].status == "running"
    wait_until_its_lease_is_over(storage)
    assert recovery.recover(manager).sent == 1
    execute(TriggerManager(storage), "t_x#0")
    instance = storage["t_x#0"]
    assert (instance.status, instance.attempt) == ("finished", 2)
    assert [each["attempt"] for each in instance.metadata["lost_attempts"]] == [1]


@pytest.mark.parametrize("kind", storages())
def test_a_task_that_kills_its_process_fails_after_as_many_attempts_as_are_allowed(
    kind: str, tmp_path: Path
) -> None:
    storage = opened(kind, tmp_path, **SHORT, attempts=2)
    manager = ready(storage, led_tasks.Halting.name)
    for expected in ("scheduled", "failed"):
        with led_process(storage, "t_x#0") as process:
            process.wait_until_it_halts()
            process.kill()
        wait_until_its_lease_is_over(storage)
        recovery.recover(manager)
        assert storage["t_x#0"].status == expected
    assert storage["t_x#0"].metadata["exception"]["type"].endswith("WorkerLost")


@with_databases
def test_several_recoveries_at_once_take_a_lost_instance_back_once(alias: str) -> None:
    from triggers.testing.racing import in_threads

    storage = DatabaseStorageBackend(uuid4().hex, using=alias, lease=0.2, heartbeat=0.1)
    manager = ready(storage, Recorded.name)
    storage.transact(Claim(key=("t_x", 0), token="one", lease=storage.limits.lease_time))
    wait_until_its_lease_is_over(storage)
    sent: list[int] = []
    barrier = threading.Barrier(4)

    def recover() -> None:
        own = OnlookingManager(DatabaseStorageBackend(storage.uid, **storage.options))
        barrier.wait(PATIENCE)
        sent.append(recovery.recover(own).sent)

    in_threads(*[recover] * 4)
    assert sorted(sent) == [0, 0, 0, 1]
    assert len(manager.storage["t_x#0"].metadata["lost_attempts"]) == 1


# -- in a transaction of the caller ----------------------------------------------------------------


@with_databases
def test_firings_that_wait_for_a_commit_are_warned_about_too(
    alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = DatabaseStorageBackend(uuid4().hex, using=alias, firings_limit=4)
    manager = TriggerManager(storage)
    with caplog.at_level(logging.WARNING, logger="triggers"):
        for _ in range(2):
            with transaction.atomic(using=alias):
                assert manager.fire("a").pending
    [warned] = [each for each in caplog.records if getattr(each, "action", "") == "limit"]
    assert "2 of the 4 firings" in warned.getMessage()


@with_databases
def test_in_a_transaction_a_session_that_has_ended_or_is_full_refuses_at_once(alias: str) -> None:
    storage = DatabaseStorageBackend(uuid4().hex, using=alias, firings_limit=1)
    manager = TriggerManager(storage)
    manager.fire("a")
    with transaction.atomic(using=alias), pytest.raises(SessionFull, match=storage.uid):
        manager.fire("b")
    manager.close()
    with transaction.atomic(using=alias), pytest.raises(SessionClosed, match=storage.uid):
        manager.fire("b")
    assert storage.deferred() == []


@with_databases
def test_in_a_transaction_a_firing_that_was_taken_before_is_still_recognised(alias: str) -> None:
    storage = DatabaseStorageBackend(uuid4().hex, using=alias, firings_limit=1)
    manager = TriggerManager(storage)
    manager.fire("a", idempotency_key="k")
    for end in (lambda: None, manager.close, manager.cancel):
        end()
        with transaction.atomic(using=alias):
            assert manager.fire("a", idempotency_key="k").pending
        assert [each.trigger for each in storage.find_firings()] == ["a"]
        assert storage.deferred() == []


@with_databases
def test_what_waits_for_a_commit_is_dropped_if_the_session_ends_before(
    alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    manager.fire("a")
    with transaction.atomic(using=alias):
        assert manager.fire("b").pending
        manager.cancel()
    assert any("A deferred firing was dropped" in each.message for each in caplog.records)
    assert [each.trigger for each in manager.storage.find_firings()] == ["a"]
    assert manager.storage.deferred() == []


@with_databases
def test_what_waits_for_a_commit_is_decided_although_the_session_was_closed(alias: str) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    with transaction.atomic(using=alias):
        assert manager.fire("a").pending
        manager.close()
    assert [each.trigger for each in manager.storage.find_firings()] == ["a"]
    assert manager.storage.deferred() == []


@with_databases
def test_erasing_takes_what_waits_for_a_commit_with_it(alias: str) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    with transaction.atomic(using=alias):
        assert manager.fire("a", {"name": "somebody"}).pending
        manager.erase()
    assert manager.storage.deferred() == []
    assert list(manager.storage.find_firings()) == []


# -- rolling deploys -----------------------------------------------------------------------------


def version_of(manager: TriggerManager, alias: str) -> int:
    return Session.objects.using(alias).get(uid=manager.storage.uid).version


@with_databases
@pytest.mark.parametrize(
    ("end", "phase"),
    [("close", Phase.CLOSED), ("cancel", Phase.CANCELLED), ("erase", Phase.PURGED)],
)
def test_only_a_session_that_has_ended_is_stored_as_version_3(
    alias: str, end: str, phase: Phase
) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
    manager.fire("a")
    assert version_of(manager, alias) == 2
    getattr(manager, end)()
    assert version_of(manager, alias) == 3
    assert manager.storage.standing().phase is phase


@pytest.mark.server("redis")
def test_only_a_session_in_a_cache_that_has_ended_is_stored_as_version_3() -> None:
    storage = CacheStorageBackend(uuid4().hex)
    manager = TriggerManager(storage)
    manager.fire("a")
    assert storage._load_from_backend()[2]["version"] == 2
    manager.close()
    assert storage._load_from_backend()[2]["version"] == 3


@with_databases
def test_a_session_that_a_newer_process_has_written_is_left_untouched(
    alias: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "database", "OPTIONS": {"using": alias}}}
    storage = DatabaseStorageBackend(uuid4().hex, using=alias, lease=0.2, heartbeat=0.1)
    manager = ready(storage, Obedient.name)
    manager.update_configuration({"t_late": {"after": ["a", "b"], "within": "PT0.1S", "run": "x"}})
    manager.fire("c")
    worker = Worker(manager, "t_x#0")
    rows = Session.objects.using(alias).filter(uid=storage.uid)
    rows.update(version=STATE_VERSION + 1)
    wait_until_its_lease_is_over(storage)
    before = rows.values().get(), storage["t_x#0"].record, Firing.objects.using(alias).count()
    with caplog.at_level(logging.ERROR, logger="triggers"):
        assert recovery.redeliver(using="default").failed == 1
        timers.fire_due(using="default")
    for refused in (
        lambda: manager.fire("a"),
        manager.close,
        manager.cancel,
        manager.erase,
        lambda: execute(manager, "t_x#0"),
    ):
        with pytest.raises(StateVersionError, match="Upgrade the triggers package here"):
            refused()
    after = rows.values().get(), storage["t_x#0"].record, Firing.objects.using(alias).count()
    assert after == before
    rows.update(version=2)
    worker.end(partial(finishing, {}))
    assert storage["t_x#0"].status == "finished"


@with_databases
def test_a_process_that_knows_no_leases_leaves_instances_that_nobody_takes_back(
    alias: str,
) -> None:
    """An older worker has claimed: it has set no end of a lease, and sends no heartbeats."""
    storage = DatabaseStorageBackend(uuid4().hex, using=alias, lease=0.2, heartbeat=0.1)
    manager = ready(storage, Recorded.name)
    storage.transact(Claim(key=("t_x", 0), token="old"))
    from triggers.models import Instance as InstanceRow

    InstanceRow.objects.using(alias).filter(session__uid=storage.uid).update(due_at=None)
    assert storage.uid not in type(storage).overdue(10_000, **storage.options)
    assert recovery.recover(manager).sent == 0
    assert storage.transact(Finish(key=("t_x", 0), token="old")).outcome is True
    assert storage["t_x#0"].status == "finished"
