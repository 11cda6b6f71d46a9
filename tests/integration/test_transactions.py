"""Firing inside a transaction of the caller, on every database."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connections, transaction

from tests.servers import database_params, subprocess_environment
from triggers import recovery
from triggers.clock import frozen_time
from triggers.exceptions import IdempotencyConflict, InvalidTrigger, SettingsError
from triggers.manager import TriggerManager
from triggers.models import DeferredFiring
from triggers.storages.database import DEFERRED_GRACE, DatabaseStorageBackend
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded
from triggers.types import FireResult

on_every_database = pytest.mark.parametrize("alias", database_params())


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    with run_tasks_locally("synchronous"):
        yield


def new_session(alias: str, **options: str) -> TriggerManager:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias, **options))
    manager.update_configuration({"t_x": {"after": ["a", "b"], "run": Recorded.name}})
    return manager


def another(manager: TriggerManager) -> TriggerManager:
    """A manager on the same session, for another thread."""
    storage = manager.storage
    return TriggerManager(DatabaseStorageBackend(storage.uid, **storage.options))


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in another(manager).storage}


def in_thread(work: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@on_every_database
def test_a_firing_is_decided_right_after_the_callers_commit(alias: str) -> None:
    manager = new_session(alias)
    with transaction.atomic(using=alias):
        assert manager.fire("a") == FireResult(pending=True)
        assert manager.fire("b").pending
        assert statuses(manager) == {}
    assert statuses(manager) == {"t_x#0": "finished"}
    assert not DeferredFiring.objects.using(alias).exists()


@on_every_database
def test_a_rollback_takes_the_firing_with_it(alias: str) -> None:
    manager = new_session(alias)
    with transaction.atomic(using=alias):
        manager.fire("a")
        transaction.set_rollback(True, using=alias)
    assert statuses(manager) == {}
    assert manager.storage.latest_kwargs == {}
    assert not DeferredFiring.objects.using(alias).exists()


@on_every_database
def test_a_configuration_is_part_of_the_callers_transaction_too(alias: str) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    with transaction.atomic(using=alias):
        manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
        manager.fire("a")
        assert statuses(manager) == {}
    assert statuses(manager) == {"t_x#0": "finished"}


@on_every_database
def test_instances_made_ready_in_a_transaction_run_after_its_commit(alias: str) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    manager.fire("a")
    with transaction.atomic(using=alias):
        made = manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
        assert made.scheduled == ("t_x#0",)
        assert statuses(manager) == {"t_x#0": "scheduled"}
    assert statuses(manager) == {"t_x#0": "finished"}


@on_every_database
def test_a_reserved_name_is_refused_before_it_is_recorded(alias: str) -> None:
    manager = new_session(alias)
    with transaction.atomic(using=alias), pytest.raises(InvalidTrigger, match="t_x"):
        manager.fire("t_x:failed")
    assert not DeferredFiring.objects.using(alias).exists()


@on_every_database
def test_a_key_that_has_other_kwargs_is_refused_before_it_is_recorded(alias: str) -> None:
    manager = new_session(alias)
    manager.fire("a", {"n": 1}, idempotency_key="k")
    with transaction.atomic(using=alias):
        assert manager.fire("a", {"n": 1}, idempotency_key="k").pending
        manager.fire("b", {"n": 1}, idempotency_key="k")
        with pytest.raises(IdempotencyConflict, match="firing 1"):
            manager.fire("a", {"n": 2}, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            manager.fire("b", {"n": 2}, idempotency_key="k")
    assert [each.trigger for each in manager.storage.find_firings()] == ["a", "b", "t_x"]
    assert not DeferredFiring.objects.using(alias).exists()


@on_every_database
def test_deciding_at_once_can_be_chosen(alias: str) -> None:
    manager = new_session(alias, in_transaction="decide")
    manager.fire("a")
    with transaction.atomic(using=alias):
        assert manager.fire("b").scheduled == ("t_x#0",)
        assert statuses(manager) == {"t_x#0": "scheduled"}
    assert statuses(manager) == {"t_x#0": "finished"}
    with transaction.atomic(using=alias):
        manager.fire("c")
        transaction.set_rollback(True, using=alias)
    assert "c" not in manager.storage.latest_kwargs


@pytest.mark.parametrize("alias", database_params()[1:])
def test_nobody_waits_for_a_view_that_has_fired(alias: str) -> None:
    manager = new_session(alias)
    fired, go_on = threading.Event(), threading.Event()

    def slow_view() -> None:
        with transaction.atomic(using=alias):
            another(manager).fire("a")
            fired.set()
            assert go_on.wait(30)

    thread = in_thread(slow_view)
    assert fired.wait(30)
    started = time.monotonic()
    assert manager.fire("b").created == ("t_x#0",)
    waited = time.monotonic() - started
    assert statuses(manager) == {"t_x#0": "unstarted"}
    go_on.set()
    thread.join(30)
    assert statuses(manager) == {"t_x#0": "finished"}
    assert waited < 10, "the view would have been held for 30 s"


@pytest.mark.parametrize("alias", database_params()[1:])
def test_views_that_fire_on_the_same_sessions_in_opposite_order_do_not_deadlock(
    alias: str,
) -> None:
    one, two = new_session(alias), new_session(alias)
    barrier = threading.Barrier(2)
    errors: list[BaseException] = []

    def view(trigger: str, *managers: TriggerManager) -> None:
        try:
            with transaction.atomic(using=alias):
                for manager in managers:
                    another(manager).fire(trigger)
                    # Both have fired into their first session before either fires again.
                    barrier.wait(30)
        except BaseException as error:
            errors.append(error)

    threads = [
        in_thread(lambda: view("a", one, two)),
        in_thread(lambda: view("b", two, one)),
    ]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    assert statuses(one) == statuses(two) == {"t_x#0": "finished"}


CRASH = """
import os, sys
import django
django.setup()
from django.db import transaction
from triggers.manager import TriggerManager
from triggers.storages.database import DatabaseStorageBackend

class Crashing(TriggerManager):
    def decide_deferred(self, ref):
        print("committed, not decided", flush=True)
        os._exit(9)

uid, alias = sys.argv[1:]
manager = Crashing(DatabaseStorageBackend(uid, using=alias))
with transaction.atomic(using=alias):
    manager.fire("b", {"from": "the crash"})
"""


@on_every_database
def test_a_crash_between_commit_and_decision_loses_nothing(alias: str, settings: Any) -> None:
    settings.TRIGGERS = {"here": {"OPTIONS": {"using": alias}}}
    manager = new_session(alias)
    manager.fire("a")
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, manager.storage.uid, alias],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (crashed.returncode, crashed.stdout) == (9, "committed, not decided\n"), crashed.stderr
    assert statuses(manager) == {"t_x#0": "unstarted"}
    assert recovery.redeliver().decided == 0, "it is left to its own process for a while"
    with frozen_time(manager.storage.now() + DEFERRED_GRACE):
        assert recovery.redeliver("here").decided == 1
        assert recovery.redeliver().decided == 0
    assert statuses(manager) == {"t_x#0": "finished"}
    assert manager.storage["t_x#0"].kwargs["b"] == {"from": "the crash"}


@on_every_database
def test_a_deferred_firing_is_decided_by_one_of_many(alias: str) -> None:
    manager = new_session(alias)
    manager.update_configuration({"t_p": {"andEvery": "p", "run": Recorded.name}})
    refs = []
    with transaction.atomic(using=alias):
        for n in range(10):
            manager.storage.defer(  # recorded, and left to us
                event_of("p", n), manager.name, refs.append
            )
    barrier = threading.Barrier(4)

    def decide() -> None:
        mine = another(manager)
        barrier.wait(30)
        for ref in refs:
            mine.decide_deferred(ref)

    threads = [in_thread(decide) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    assert statuses(manager) == {f"t_p#{n}": "finished" for n in range(10)}


def event_of(trigger: str, n: int):  # type: ignore[no-untyped-def]
    from triggers.engine.events import Fire

    return Fire(trigger=trigger, kwargs=f'{{"n":{n}}}')


MARIADB = pytest.mark.skipif("mariadb" not in settings.DATABASES, reason="no mariadb server")


@MARIADB
@pytest.mark.django_db(transaction=True, databases=["mariadb"])
@pytest.mark.parametrize("way", ["configure", "decide", "acquire_lock"])
def test_a_caller_with_an_old_snapshot_decides_on_what_is_there(way: str) -> None:
    """Under REPEATABLE READ, plain reads would see the session as it was when the view began."""
    connection = connections["mariadb"]
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    try:
        in_transaction = "decide" if way == "decide" else "defer"
        storage = DatabaseStorageBackend(
            uuid4().hex, using="mariadb", in_transaction=in_transaction
        )
        manager = TriggerManager(storage)
        if way != "configure":
            manager.update_configuration({"t_x": {"after": ["a", "b"], "run": Recorded.name}})
        with transaction.atomic(using="mariadb"):
            assert list(manager.storage) == []  # the snapshot is taken here
            thread = in_thread(lambda: another(manager).fire("a", {"n": 1}))
            thread.join(30)
            if way == "configure":
                manager.fire("b")
                manager.update_configuration({"t_x": {"after": ["a", "b"], "run": Recorded.name}})
            elif way == "decide":
                assert manager.fire("b").scheduled == ("t_x#0",)
            else:
                with manager.storage.acquire_lock():
                    assert manager.storage["t_x#0"].kwargs == {"a": {"n": 1}}
                    assert manager.fire("b").scheduled == ("t_x#0",)
        assert statuses(manager) == {"t_x#0": "finished"}
    finally:
        connection.close()


@on_every_database
def test_a_database_that_is_not_in_autocommit_mode_is_refused(alias: str) -> None:
    manager = new_session(alias)
    transaction.set_autocommit(False, using=alias)
    try:
        with pytest.raises(SettingsError, match=r"transaction\.atomic"):
            manager.fire("a")
    finally:
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)


@pytest.mark.parametrize("alias", database_params()[1:])
def test_a_view_that_brings_a_new_configuration_does_not_hold_up_others(alias: str) -> None:
    tasks = {f"t_{uuid4().hex}": {"after": ["a"], "run": Recorded.name}}
    one, two = (TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias)) for _ in range(2))
    done = threading.Event()

    def configure() -> None:
        two.update_configuration(tasks)
        done.set()

    with transaction.atomic(using=alias):
        one.update_configuration(tasks)
        thread = in_thread(configure)
        assert done.wait(20)
    thread.join(30)
    assert set(one.storage.tasks) == set(two.storage.tasks) == set(tasks)


@on_every_database
def test_deleting_a_session_waits_for_who_decides_on_it(alias: str) -> None:
    manager = new_session(alias)
    manager.update_configuration({"t_p": {"andEvery": "p", "run": Recorded.name}})
    stop = threading.Event()

    def write() -> None:
        mine = another(manager)
        while not stop.is_set():
            mine.fire("p")

    threads = [in_thread(write) for _ in range(2)]
    try:
        for _ in range(10):
            manager.storage.delete()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    manager.storage.delete()
    assert list(manager.storage) == []
