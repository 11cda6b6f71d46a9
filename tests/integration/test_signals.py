"""Signals: after the commit and never in it, in the process that has committed."""

from __future__ import annotations

import asyncio
import logging
import os
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connections, transaction
from django.test import TestCase, TransactionTestCase

from tests import celery_app, receivers
from tests.contract.custom_storage import FolderStorage
from tests.integration.celery_sessions import (
    BROKERS,
    current,
    manager_with,
    new_prefix,
    url_of,
    wait_for_end,
)
from tests.servers import database_params
from tests.workers import running_worker
from triggers import changes, recovery
from triggers.attempt import claim
from triggers.clock import frozen_time
from triggers.manager import TriggerManager
from triggers.models import DeferredFiring
from triggers.runners import task_runners
from triggers.runners.threads import ThreadingTaskRunner
from triggers.signals import (
    LONGEST_CHAIN,
    FiredTrigger,
    instance_status_changed,
    trigger_fired,
)
from triggers.storages.database import DEFERRED_GRACE, DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask, execute
from triggers.testing import TriggerManagerTestCaseMixin, run_tasks_locally
from triggers.testing.racing import IdleRunner, Recorded
from triggers.testing.watching import Heard, heard

# Those of a worker's process are of no use here.
trigger_fired.disconnect(dispatch_uid="tests.tell_of_firing")
for name in ("tests.tell_of_status", "tests.stumble"):
    instance_status_changed.disconnect(dispatch_uid=name)

on_every_database = pytest.mark.parametrize("alias", database_params())

JOIN = {"t_x": {"after": ["a"], "run": Recorded.name}}

WHOLE_RUN: Heard = [
    ("a",),
    ("t_x#0", None, "scheduled"),
    ("t_x#0", "scheduled", "running"),
    ("t_x", "t_x#0"),
    ("t_x#0", "running", "finished"),
]


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    task_runners.register(IdleRunner)
    with run_tasks_locally("synchronous"):
        yield
    task_runners.unregister(IdleRunner.name)


def new_session(alias: str, tasks: Any = JOIN, **options: str) -> TriggerManager:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias, **options))
    manager.update_configuration(tasks)
    return manager


# -- transactions of the caller -----------------------------------------------------------------


@on_every_database
def test_in_a_transaction_receivers_are_told_after_its_commit(alias: str) -> None:
    manager = new_session(alias)
    with heard(manager) as told:
        with transaction.atomic(using=alias):
            manager.fire("a")
            with transaction.atomic(using=alias):
                manager.fire("b")
            assert told == []
        assert told == [*WHOLE_RUN, ("b",)]


@on_every_database
@pytest.mark.parametrize("mode", ["defer", "decide"])
def test_of_what_is_rolled_back_nobody_is_told(alias: str, mode: str) -> None:
    manager = new_session(alias, in_transaction=mode)
    manager.default_task_runner_name = IdleRunner.name
    with heard(manager) as told:
        with transaction.atomic(using=alias):
            manager.fire("a")
            transaction.set_rollback(True, using=alias)
        with transaction.atomic(using=alias):
            with transaction.atomic(using=alias):
                manager.fire("a")
                transaction.set_rollback(True, using=alias)
            manager.fire("b")
            assert told == []
    assert told == [("b",)]


@on_every_database
def test_changes_by_hand_in_a_transaction_are_told_after_its_commit(alias: str) -> None:
    manager = new_session(alias, {"t_x": {**JOIN["t_x"], "after": ["a", "b"]}})
    manager.fire("a")
    with heard(manager) as told:
        with transaction.atomic(using=alias):
            manager.update_instance_status("t_x#0", "abandoned")
            transaction.set_rollback(True, using=alias)
        with transaction.atomic(using=alias):
            manager.update_instance_status("t_x#0", "abandoned")
            assert told == []
    assert told == [("t_x:abandoned", "t_x#0"), ("t_x#0", "unstarted", "abandoned")]


@on_every_database
def test_within_a_held_lock_receivers_are_told_at_its_end(alias: str) -> None:
    manager = new_session(alias)
    with heard(manager) as told:
        with manager.storage.acquire_lock():
            manager.fire("a")
            assert told == []
        assert told == WHOLE_RUN


@on_every_database
def test_receivers_are_in_no_transaction_and_may_fire(alias: str) -> None:
    manager = new_session(alias)
    in_block: list[bool] = []

    def fire_more(session: str, trigger: str, **_others: Any) -> None:
        if session == manager.storage.uid and trigger == "a":
            in_block.append(connections[alias].in_atomic_block)
            assert manager.fire("more").seq == 2  # decided at once

    trigger_fired.connect(fire_more)
    try:
        with transaction.atomic(using=alias):
            manager.fire("a")
    finally:
        trigger_fired.disconnect(fire_more)
    assert in_block == [False]
    assert set(manager.storage.latest_kwargs) == {"a", "more", "t_x"}


@on_every_database
def test_a_firing_that_recovery_decides_is_told_there(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = new_session(alias)
    monkeypatch.setattr(TriggerManager, "_decide_deferred", lambda *_: None)  # as after a crash
    with heard(manager) as told:
        with transaction.atomic(using=alias):
            manager.fire("a")
        assert DeferredFiring.objects.using(alias).filter(uid=manager.storage.uid).exists()
        assert told == []
        with frozen_time(manager.storage.now() + DEFERRED_GRACE):
            assert recovery.recover(manager).decided == 1
        assert told == WHOLE_RUN


@on_every_database
def test_recovery_within_a_transaction_tells_after_its_commit(alias: str) -> None:
    manager = new_session(alias)
    manager.default_task_runner_name = IdleRunner.name
    manager.fire("a")
    manager.update_instance_status("t_x#0", "failed")
    replayed = manager.replay_failed_instance("t_x#0")
    assert claim(manager, replayed.name) is not None  # by a worker that will be lost
    end = manager.storage[replayed.name].record.due_at
    assert end is not None
    with heard(manager) as told, frozen_time(end):
        with transaction.atomic(using=alias):
            recovery.recover(manager)
            assert told == []
        assert told == [("t_x#1", "running", "scheduled")]


class Transactional(TriggerTask):
    """Finishes in a transaction that its effects share."""

    name = "tests.integration.test_signals.Transactional"
    transactional = True

    def _run(self, context: TaskContext) -> None:
        assert connections[context.manager.storage.options.get("using", "default")].in_atomic_block


@on_every_database
def test_the_end_of_a_transactional_task_is_told_after_its_commit(alias: str) -> None:
    manager = new_session(alias, {"t_x": {"after": ["a"], "run": Transactional.name}})
    in_block: list[bool] = []

    def look(session: str, new_status: str, **_others: Any) -> None:
        if session == manager.storage.uid and new_status == "finished":
            in_block.append(connections[alias].in_atomic_block)

    instance_status_changed.connect(look)
    try:
        with heard(manager) as told:
            manager.fire("a")
    finally:
        instance_status_changed.disconnect(look)
    assert told == WHOLE_RUN
    assert in_block == [False]


# -- tests of an application --------------------------------------------------------------------


def in_django_case(base: type[TestCase] | type[TransactionTestCase], body: Any) -> None:
    """Run this as a test of such a case."""

    class Case(TriggerManagerTestCaseMixin, base):  # type: ignore[misc, valid-type]
        def setUp(self) -> None:
            self.manager = new_session("default")

        def test_body(self) -> None:
            body(self)

    result = unittest.TestResult()
    unittest.TestSuite([Case("test_body")]).run(result)
    assert result.testsRun == 1
    assert result.errors + result.failures == []


@pytest.mark.django_db(transaction=True)
def test_in_djangos_test_case_receivers_are_told_when_fire_returns() -> None:
    ran: list[str] = []

    def body(case: Any) -> None:
        with heard(case.manager) as told:
            case.manager.fire("a")
            assert told == WHOLE_RUN
        ran.append("plain")

    in_django_case(TestCase, body)
    assert ran == ["plain"]


@pytest.mark.django_db(transaction=True)
def test_in_djangos_test_case_a_block_of_the_test_is_told_as_if_it_were_committed() -> None:
    ran: list[str] = []

    def body(case: Any) -> None:
        with heard(case.manager) as told:
            with case.captureOnCommitCallbacks(execute=True), transaction.atomic():
                case.manager.fire("a")
                assert told == []
            assert told == WHOLE_RUN
            ran.append("captured")
        with heard(case.manager) as told:
            with transaction.atomic():
                case.manager.fire("b")
            case.assertInstanceFinished("t_x#0")  # the kit looks, so what is due is decided
            assert told == [("b",)]
            ran.append("looked")
        with heard(case.manager) as told:
            with transaction.atomic():
                case.manager.fire("c")
                transaction.set_rollback(True)
            case.assertInstanceFinished("t_x#0")
            assert told == []
            ran.append("rolled back")

    in_django_case(TestCase, body)
    assert ran == ["captured", "looked", "rolled back"]


# -- receivers ----------------------------------------------------------------------------------


def memory_session() -> TriggerManager:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration(JOIN)
    return manager


class OtherManager(TriggerManager):
    name = "tests-signals-other"


def test_receivers_may_listen_to_one_manager_class_only() -> None:
    heard_of: list[str] = []

    def receive(session: str, **_others: Any) -> None:
        heard_of.append(session)

    trigger_fired.connect(receive, sender=OtherManager)
    try:
        memory_session().fire("b")
        other = OtherManager(MemoryStorageBackend(uuid4().hex))
        other.fire("b")
    finally:
        trigger_fired.disconnect(receive, sender=OtherManager)
    assert heard_of == [other.storage.uid]


def test_asynchronous_receivers_are_called_too() -> None:
    manager = memory_session()
    heard_of: list[str] = []

    async def receive(session: str, trigger: str, **_others: Any) -> None:
        await asyncio.sleep(0)
        heard_of.append(trigger)

    trigger_fired.connect(receive)
    try:
        manager.fire("b")
        asyncio.run(manager.afire("c"))
    finally:
        trigger_fired.disconnect(receive)
    assert heard_of == ["b", "c"]


def test_asynchronous_receivers_that_cannot_be_called_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = memory_session()

    async def receive(**_others: Any) -> None:
        raise AssertionError("it cannot be called")

    async def view() -> None:
        manager.fire("b")  # not afire: it blocks the event loop, and nothing can be awaited

    trigger_fired.connect(receive)
    try:
        asyncio.run(view())
    finally:
        trigger_fired.disconnect(receive)
    [record] = [each for each in caplog.records if getattr(each, "action", "") == "signal"]
    assert "trigger_fired could not be sent to all of its receivers" in record.getMessage()
    assert (vars(record)["trigger"], record.levelno) == ("b", logging.ERROR)
    assert set(manager.storage.latest_kwargs) == {"b"}


def test_what_was_stored_before_an_error_under_the_lock_is_told_and_handed_on(
    tmp_path: Path,
) -> None:
    manager = TriggerManager(FolderStorage(uuid4().hex, folder=str(tmp_path)))
    manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
    told: list[str] = []

    def note(session: str, trigger: str, **_others: Any) -> None:
        if session == manager.storage.uid:
            told.append(trigger)

    def fire_and_fail() -> None:
        with manager.storage.acquire_lock():
            manager.fire("a")
            assert not told
            raise RuntimeError("of the caller")

    trigger_fired.connect(note)
    try:
        with pytest.raises(RuntimeError, match="of the caller"):
            fire_and_fail()
    finally:
        trigger_fired.disconnect(note)
    assert told == ["a", "t_x"]
    assert manager.storage["t_x#0"].status == "finished"


@pytest.mark.parametrize("width", [1, 2])
def test_receivers_that_fire_what_they_listen_to_are_stopped(
    width: int, caplog: pytest.LogCaptureFixture
) -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    told: list[int] = []

    def fire_again(session: str, firing: FiredTrigger, **_others: Any) -> None:
        if session == manager.storage.uid:
            told.append(firing.seq)
            for _ in range(width):
                manager.fire("a")

    trigger_fired.connect(fire_again)
    try:
        with caplog.at_level(logging.ERROR, "triggers"):
            assert manager.fire("a").seq == 1
    finally:
        trigger_fired.disconnect(fire_again)
    assert len(told) == sum(width**depth for depth in range(LONGEST_CHAIN + 1))
    records = [each for each in caplog.records if "followed from one another" in each.message]
    assert len(records) == width ** (LONGEST_CHAIN + 1)
    assert {(each.action, each.session, each.trigger) for each in records} == {
        ("signal", manager.storage.uid, "a")
    }
    manager.fire("b")


class FireInside(TriggerTask):
    """Fires in its own session, and so has its receivers called while it runs."""

    name = "tests.integration.test_signals.FireInside"

    def _run(self, context: TaskContext) -> None:
        context.manager.fire("inside")


def test_a_receiver_is_no_part_of_the_session_even_where_a_task_of_it_fires() -> None:
    """Else it could fire into a closed session, as tasks of it may."""
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration({"t_x": {"after": ["a"], "run": FireInside.name}})
    refused: list[str] = []

    def fire_more(session: str, trigger: str, **_others: Any) -> None:
        if session == manager.storage.uid and trigger == "inside":
            try:
                manager.fire("more")
            except Exception as error:
                refused.append(type(error).__name__)

    manager.default_task_runner_name = IdleRunner.name
    manager.fire("a")
    manager.close()
    trigger_fired.connect(fire_more)
    try:
        execute(manager, "t_x#0")
    finally:
        trigger_fired.disconnect(fire_more)
    assert manager.storage["t_x#0"].status == "finished"
    assert refused == ["SessionClosed"]


class NoticesInTime(TriggerTask):
    """Fires, and may be out of time when it does."""

    name = "tests.integration.test_signals.NoticesInTime"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        try:
            context.manager.fire("inside")
        except SoftTimeLimitExceeded:
            return {"noticed": True}
        return {"noticed": False}


def run_out_of_time(when: str, told: list[str], **arguments: Any) -> None:
    seen = arguments.get("trigger") or f"{arguments['instance']} {arguments['new_status']}"
    told.append(seen)
    if seen == when:
        raise SoftTimeLimitExceeded


@contextmanager
def out_of_time(when: str) -> Iterator[list[str]]:
    """A receiver is interrupted by the soft limit of the task; yields what receivers were told."""
    told: list[str] = []
    interrupted = partial(run_out_of_time, when, told)
    for each in (trigger_fired, instance_status_changed):
        each.connect(interrupted)
    try:
        yield told
    finally:
        for each in (trigger_fired, instance_status_changed):
            each.disconnect(interrupted)


FIRING_TASKS = {
    "t_x": {"after": ["a"], "run": NoticesInTime.name},
    "t_y": {"after": ["inside"], "run": Recorded.name, "using": IdleRunner.name},
}


@pytest.mark.parametrize(
    "make",
    [
        MemoryStorageBackend,
        pytest.param(DatabaseStorageBackend, marks=pytest.mark.django_db(transaction=True)),
    ],
)
@pytest.mark.parametrize("when", ["inside", "t_y#0 scheduled"])
def test_a_task_whose_time_is_up_while_receivers_are_told_gets_that(
    when: str, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    manager = TriggerManager(make(uuid4().hex))
    manager.update_configuration(FIRING_TASKS)
    with out_of_time(when) as told:
        manager.fire("a")
    assert manager.storage["t_x#0"].metadata["result"] == {"noticed": True}
    # What follows the commit is done all the same.
    assert told.index("t_y#0 scheduled") > told.index("inside")
    assert manager.storage["t_y#0"].status == "scheduled"
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "run_out_of_time" in record.getMessage()
    assert "SoftTimeLimitExceeded" in record.getMessage()


@pytest.mark.parametrize("when", ["t_x", "t_x#0 finished", "t_x#0 running", "a"])
def test_before_and_after_the_task_it_is_only_logged(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration(FIRING_TASKS)
    with out_of_time(when) as told:
        manager.fire("a")
    assert told[-1] == "t_x#0 finished"
    assert manager.storage["t_x#0"].status == "finished"
    assert manager.storage["t_x#0"].metadata["result"] == {"noticed": False}
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "SoftTimeLimitExceeded" in record.getMessage()


@pytest.mark.parametrize("when", ["t_in#0 running", "t_in#0 finished", "t_in"])
def test_what_concerns_another_instance_does_not_end_its_claim_or_its_report(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    inner = {"after": ["inside"], "run": Recorded.name, "using": "synchronous"}
    outer = {"after": ["a"], "run": NoticesInTime.name, "using": "threading"}
    manager.update_configuration({"t_x": outer, "t_in": inner})
    with out_of_time(when):
        manager.fire("a")
        ThreadingTaskRunner.join_all(10)
    assert manager.storage["t_in#0"].status == "finished"
    assert manager.storage["t_x#0"].status == "finished"
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "run_out_of_time" in record.getMessage()


class OutOfTimeManager(TriggerManager):
    """Its hook is interrupted by the soft limit of the task."""

    name = "test-signals-out-of-time"
    when = ""

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[Any]) -> None:
        if trigger_name == self.when:
            raise SoftTimeLimitExceeded


@pytest.mark.parametrize(("when", "is_noticed"), [("inside", True), ("t_x", False)])
def test_a_task_whose_time_is_up_in_a_hook_gets_that_while_it_runs(
    when: str, is_noticed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(OutOfTimeManager, "when", when)
    manager = OutOfTimeManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration(FIRING_TASKS)
    manager.fire("a")
    assert manager.storage["t_x#0"].metadata["result"] == {"noticed": is_noticed}
    assert manager.storage["t_x#0"].status == "finished"
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "post_fire failed; recovery will repeat it" in record.getMessage()


def test_a_task_whose_time_is_up_while_an_instance_is_handed_on_gets_that(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def time_is_up(*_arguments: Any) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(IdleRunner, "run", time_is_up)
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration(FIRING_TASKS)
    manager.fire("a")
    assert manager.storage["t_x#0"].metadata["result"] == {"noticed": True}
    assert manager.storage["t_y#0"].status == "scheduled", "it is left to recovery"
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "did not take t_y#0; recovery will send it again" in record.getMessage()


def test_a_storage_that_cannot_be_read_back_costs_the_signals_and_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = memory_session()

    def broken(*_: Any) -> Any:
        raise ConnectionError("the server is gone")

    with heard(manager) as told:
        monkeypatch.setattr(changes, "found", broken)
        assert manager.fire("a").scheduled == ("t_x#0",)
    assert told == []
    assert manager.storage["t_x#0"].status == "finished"
    assert "no signals are sent of it" in caplog.text


# -- workers ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True, databases=["postgresql"])
@pytest.mark.server("postgresql")
@pytest.mark.parametrize("broker", BROKERS)
def test_signals_are_sent_in_the_process_of_the_worker(broker: str) -> None:
    url, prefix = url_of(broker), new_prefix()
    imports = {"imports": ["tests.worker_tasks", receivers.__name__]}
    with current(celery_app.make_app(url, prefix)):
        manager = manager_with(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
        with running_worker(url, prefix, settings=imports) as worker, heard(manager) as told:
            manager.fire("a", {"n": 1})
            wait_for_end(worker, manager, "t_y#0")
    about = {"session": manager.storage.uid}
    fired = [(each["trigger"], each["cause"]) for each in worker.told("fired", **about)]
    assert fired == [("t_x", "t_x#0"), ("t_y", "t_y#0")]
    changes = [(each["instance"], each["status"]) for each in worker.told("status", **about)]
    assert changes == [
        ("t_x#0", "running"),
        ("t_x#0", "finished"),
        ("t_y#0", "scheduled"),
        ("t_y#0", "running"),
        ("t_y#0", "finished"),
    ]
    assert os.getpid() not in {each["pid"] for each in worker.told("fired")}
    # Here, only what was committed here.
    assert told == [("a",), ("t_x#0", None, "scheduled")]
    logged = worker.told("log", action="signal", **about)
    assert len(logged) == 5
    assert "tests.receivers.stumble of instance_status_changed raised" in logged[0]["message"]
