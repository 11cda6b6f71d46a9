"""Transactional tasks: what they do in the database of their session, and their end, are one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import transaction

from tests import led_tasks, servers
from tests.led_process import led_process
from tests.worker import (
    Obedient,
    OnlookingManager,
    Worker,
    failing,
    finishing,
    retrying,
    skipping,
)
from triggers import recovery
from triggers.clock import frozen_time
from triggers.engine.lifecycle import Claim, Finish
from triggers.manager import TriggerManager, trigger_managers
from triggers.models import DeferredFiring
from triggers.storages.cache import CacheStorageBackend
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.session import SessionStorage
from triggers.task import TaskContext, TriggerTask, execute
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded
from triggers.types import FireResult

on_every_database = pytest.mark.parametrize("alias", servers.database_params())
where_others_can_write = pytest.mark.parametrize("alias", servers.database_params()[1:])
"""SQLite lets nobody write while a transaction does, so nobody can take an instance away."""


class Booking(Obedient):
    transactional = True


class Meddling(TriggerTask):
    """Books, and asks for something that ends its attempt without its knowing."""

    transactional = True

    def _run(self, context: TaskContext) -> dict[str, Any]:
        book("meddled", self, context)
        context.manager.update_instance_status(context.instance_name, "failed")
        return {}


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    trigger_managers.register(OnlookingManager)
    with run_tasks_locally("synchronous"):
        yield
    MemoryStorageBackend.clear()


def book(name: str, task: TriggerTask, context: TaskContext) -> None:
    storage: Any = context.manager.storage
    Group.objects.using(storage.using).create(name=f"{storage.uid} {name}")


def booked(manager: TriggerManager) -> list[str]:
    """What has been booked, as everybody sees it."""
    storage: Any = manager.storage
    groups = Group.objects.using(storage.using).filter(name__startswith=storage.uid)
    return sorted(name.partition(" ")[2] for name in groups.values_list("name", flat=True))


def new_session(alias: str, run: str = Booking.name, **limits: Any) -> OnlookingManager:
    """A session with an instance that waits for a worker, and one that waits for its result."""
    manager = OnlookingManager(DatabaseStorageBackend(uuid4().hex, using=alias, **limits))
    manager.update_configuration(
        {"t_x": {"after": ["a"], "run": run}, "t_y": {"after": ["t_x"], "run": Recorded.name}}
    )
    manager.fire("a")
    return manager


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in manager.storage}


@on_every_database
def test_effects_and_end_become_visible_together(alias: str) -> None:
    manager = new_session(alias)
    worker = Worker(manager, "t_x#0")
    worker.do(partial(book, "once"))
    assert (booked(manager), statuses(manager)) == ([], {"t_x#0": "running"})
    worker.end(partial(finishing, {"n": 1}))
    assert booked(manager) == ["once"]
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "scheduled"}
    assert manager.storage["t_y#0"].kwargs == {"t_x": {"n": 1}}


@on_every_database
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (failing, {"t_x#0": "failed"}),
        (skipping, {"t_x#0": "skipped"}),
        (partial(retrying, None), {"t_x#0": "replayed", "t_x#1": "scheduled"}),
        (partial(finishing, {"n": object()}), {"t_x#0": "failed"}),
    ],
    ids=["raises", "skips", "asks for a retry", "returns what cannot be stored"],
)
def test_whatever_does_not_finish_undoes_its_effects(
    alias: str, end: Callable[..., Any], expected: dict[str, str]
) -> None:
    manager = new_session(alias)
    worker = Worker(manager, "t_x#0")
    worker.do(partial(book, "once"))
    worker.end(end)
    assert (booked(manager), statuses(manager)) == ([], expected)


@on_every_database
def test_an_error_of_the_database_fails_the_instance_and_undoes_its_effects(alias: str) -> None:
    manager = new_session(alias)
    worker = Worker(manager, "t_x#0")
    worker.do(partial(book, "once"))
    worker.end(partial(book, "once"))  # the name of a group is unique
    assert (booked(manager), statuses(manager)) == ([], {"t_x#0": "failed"})
    exception = manager.storage["t_x#0"].metadata["exception"]
    assert exception["type"] == "django.db.utils.IntegrityError"


@on_every_database
def test_a_commit_that_is_refused_fails_the_instance(alias: str) -> None:
    """Where constraints are deferred, only the commit finds out that a key leads nowhere."""
    manager = new_session(alias)
    worker = Worker(manager, "t_x#0")
    worker.do(partial(book, "once"))
    worker.do(fire_inside)
    worker.end(break_a_constraint)
    assert (booked(manager), statuses(manager)) == ([], {"t_x#0": "failed"})
    exception = manager.storage["t_x#0"].metadata["exception"]
    assert exception["type"] == "django.db.utils.IntegrityError"
    assert [each.trigger for each in manager.storage.find_firings()] == ["a", "t_x:failed"]


def break_a_constraint(task: TriggerTask, context: TaskContext) -> dict[str, Any]:
    storage: Any = context.manager.storage
    permissions = Permission.objects.using(storage.using)
    permissions.create(name="none", codename=storage.uid, content_type_id=10_000_000)
    return {}


@on_every_database
def test_a_rollback_that_the_task_asks_for_does_not_pass_for_an_end(alias: str) -> None:
    manager = new_session(alias)
    worker = Worker(manager, "t_x#0")
    worker.do(partial(book, "once"))
    worker.end(lambda task, context: transaction.set_rollback(True, using=alias))
    assert (booked(manager), statuses(manager)) == ([], {"t_x#0": "failed"})


@on_every_database
def test_an_attempt_that_was_decided_by_hand_inside_its_own_transaction_undoes_all(
    alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = new_session(alias, Meddling.name)
    with caplog.at_level(logging.WARNING, logger="triggers"):
        execute(manager, "t_x#0")
    assert booked(manager) == []
    assert any("finish of t_x#0 was not recorded" in each.message for each in caplog.records)


@where_others_can_write
def test_a_lost_lease_undoes_the_effects(alias: str, caplog: pytest.LogCaptureFixture) -> None:
    manager = new_session(alias)
    first = Worker(manager, "t_x#0")
    first.do(lambda task, context: booked(context.manager))  # a snapshot, where there are any
    first.do(partial(book, "first"))
    end = manager.storage["t_x#0"].record.due_at
    assert end is not None
    with frozen_time(end):
        assert recovery.recover(manager).sent == 1
        second = Worker(manager, "t_x#0")
        second.do(partial(book, "second"))
        with caplog.at_level(logging.WARNING, logger="triggers"):
            first.end(partial(finishing, {"by": "first"}))
        assert any("was not recorded" in each.message for each in caplog.records)
        assert (booked(manager), statuses(manager)) == ([], {"t_x#0": "running"})
        second.end(partial(finishing, {"by": "second"}))
    assert booked(manager) == ["second"]
    assert manager.storage["t_x#0"].metadata["result"] == {"by": "second"}
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "scheduled"}


@where_others_can_write
def test_a_successor_that_has_finished_is_not_overwritten(alias: str) -> None:
    manager = new_session(alias)
    first = Worker(manager, "t_x#0")
    first.do(partial(book, "first"))
    end = manager.storage["t_x#0"].record.due_at
    assert end is not None
    with frozen_time(end):
        recovery.recover(manager)
        manager.storage.transact(Claim(key=("t_x", 0), token="two"))
        manager.storage.transact(Finish(key=("t_x", 0), token="two"))
        first.end(partial(finishing, {"by": "first"}))
    assert booked(manager) == []
    assert manager.storage["t_x#0"].metadata["result"] == {}


@on_every_database
def test_what_a_killed_process_did_is_undone_and_done_once_by_its_successor(alias: str) -> None:
    manager = new_session(alias, led_tasks.HaltingBooking.name, lease=1.0, heartbeat=0.2)
    with led_process(manager.storage, "t_x#0") as process:
        process.wait_until_it_halts()
        process.kill()
    assert (booked(manager), statuses(manager)) == ([], {"t_x#0": "running"})
    end = manager.storage["t_x#0"].record.due_at
    assert end is not None
    with frozen_time(end):
        assert recovery.recover(manager).sent == 1
        execute(manager, "t_x#0")
    assert booked(manager) == ["2"]
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "scheduled"}
    assert manager.storage["t_x#0"].attempt == 2
    fired = [each.trigger for each in manager.storage.find_firings()]
    assert sorted(fired) == ["a", "booked", "t_x"]
    assert manager.storage.latest_kwargs["booked"] == {"attempt": 2}


# -- firing inside --------------------------------------------------------------------------------


def fire_inside(task: TriggerTask, context: TaskContext) -> FireResult:
    return context.manager.fire("b", {"n": 1})


@on_every_database
def test_a_firing_inside_is_decided_after_the_commit(alias: str) -> None:
    manager = new_session(alias)
    manager.update_configuration({"t_z": {"after": ["b"], "run": Recorded.name}})
    worker = Worker(manager, "t_x#0")
    assert worker.do(fire_inside) == FireResult(pending=True)
    assert statuses(manager) == {"t_x#0": "running"}
    worker.end(partial(finishing, {}))
    assert statuses(manager) == dict.fromkeys(["t_y#0", "t_z#0"], "scheduled") | {
        "t_x#0": "finished"
    }
    assert not DeferredFiring.objects.using(alias).exists()


@on_every_database
def test_a_firing_inside_is_undone_with_the_rest(alias: str) -> None:
    manager = new_session(alias)
    worker = Worker(manager, "t_x#0")
    worker.do(fire_inside)
    worker.end(failing)
    assert [each.trigger for each in manager.storage.find_firings()] == ["a", "t_x:failed"]
    assert not DeferredFiring.objects.using(alias).exists()


# -- heartbeats -----------------------------------------------------------------------------------


@on_every_database
def test_a_transaction_of_several_leases_keeps_its_instance(alias: str) -> None:
    manager = new_session(alias, lease=0.6, heartbeat=0.2)
    worker = Worker(manager, "t_x#0")
    worker.do(partial(book, "once"))
    begun = manager.storage["t_x#0"].changed_at
    while manager.storage.now() < begun + 3 * manager.storage.limits.lease_time:
        time.sleep(0.05)
        if alias != "default":
            assert recovery.recover(manager).sent == 0
    worker.end(partial(finishing, {}))
    assert booked(manager) == ["once"]
    instance = manager.storage["t_x#0"]
    assert (instance.status, instance.attempt) == ("finished", 1)


@on_every_database
def test_a_task_that_locks_its_session_costs_no_other_task_of_the_process_its_lease(
    alias: str,
) -> None:
    """Its heartbeat waits for the lock that it has itself; those of others must not."""
    locking = new_session(alias, lease=0.6, heartbeat=0.2)
    other = OnlookingManager(MemoryStorageBackend(uuid4().hex, lease=0.6, heartbeat=0.2))
    other.update_configuration({"t_x": {"after": ["a"], "run": Obedient.name}})
    other.fire("a")
    first = Worker(locking, "t_x#0")
    first.do(lambda task, context: context.manager.update_instance_metadata("t_x#0", {"seen": 1}))
    second = Worker(other, "t_x#0")
    begun = other.storage["t_x#0"].changed_at
    while other.storage.now() < begun + 3 * other.storage.limits.lease_time:
        assert recovery.recover(other).sent == 0
        time.sleep(0.05)
    second.end(partial(finishing, {}))
    first.end(partial(finishing, {}))
    assert statuses(other) == {"t_x#0": "finished"}
    assert statuses(locking) == {"t_x#0": "finished", "t_y#0": "scheduled"}
    assert locking.storage["t_x#0"].metadata["seen"] == 1


# -- where it cannot be ---------------------------------------------------------------------------


def assert_it_fails_with_a_clear_error(storage: SessionStorage) -> None:
    manager = OnlookingManager(storage)
    manager.update_configuration({"t_x": {"after": ["a"], "run": Booking.name}})
    manager.fire("a")
    execute(manager, "t_x#0")
    instance = storage["t_x#0"]
    assert instance.status == "failed"
    exception = instance.metadata["exception"]
    assert exception["type"] == "triggers.exceptions.SettingsError"
    assert exception["message"] == (
        f"The {storage.name} storage has no transactions, which a task with transactional=True "
        "needs. Use the database storage, or leave transactional out."
    )


def test_in_memory_a_transactional_task_fails_with_a_clear_error() -> None:
    assert_it_fails_with_a_clear_error(MemoryStorageBackend(uuid4().hex))


@pytest.mark.server("redis")
def test_in_a_cache_a_transactional_task_fails_with_a_clear_error() -> None:
    assert_it_fails_with_a_clear_error(CacheStorageBackend(uuid4().hex))
