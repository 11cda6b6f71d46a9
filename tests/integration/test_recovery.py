"""What was committed as to be done is done, whoever crashes in between."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.servers import subprocess_environment
from triggers import attempt, recovery
from triggers.clock import frozen_time
from triggers.engine.lifecycle import Finish
from triggers.exceptions import NotSent, StorageUnavailable
from triggers.manager import TriggerManager, get_trigger_manager, trigger_managers
from triggers.runners import task_runners
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask
from triggers.testing import run_tasks_locally
from triggers.testing.racing import IdleRunner, Recorded
from triggers.types import FireResult, TaskInstance

LATER = timedelta(days=1)


class Counted(TriggerTask):
    runs: list[str] = []

    def _run(self, context: TaskContext) -> Mapping[str, Any]:
        self.runs.append(context.instance_name)
        return {"n": len(self.runs)}


class WatchingManager(TriggerManager):
    """Overrides everything that can be overridden, and can be told to fail."""

    name = "test-watching"
    calls: list[tuple[Any, ...]] = []
    broken: set[str] = set()

    def fire(self, trigger_name: str, *args: Any, **kwargs: Any) -> FireResult:
        self._note("fire", trigger_name)
        return super().fire(trigger_name, *args, **kwargs)

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        self._note("post_fire", trigger_name, [each.name for each in tasks_scheduled])

    def _post_replay(self, task_instance: TaskInstance) -> None:
        self._note("post_replay", task_instance.name, task_instance.metadata["parent"])

    def _post_skip(self, task_instance: TaskInstance, cascade: bool) -> None:
        self._note("post_skip", task_instance.name, cascade)

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.broken:
            raise ConnectionError(f"{call[0]} is broken")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    MemoryStorageBackend.clear()
    WatchingManager.calls.clear()
    WatchingManager.broken.clear()
    Counted.runs.clear()
    trigger_managers.register(WatchingManager)
    with run_tasks_locally("synchronous"):
        yield
    trigger_managers.unregister(WatchingManager.name)


def watching(**tasks: dict[str, Any]) -> WatchingManager:
    manager = WatchingManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration({name: {"run": Counted.name, **t} for name, t in tasks.items()})
    return manager


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in manager.storage}


def test_an_overridden_fire_sees_cascades_and_hooks_see_every_firing() -> None:
    manager = watching(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    manager.fire("a")
    assert [call for call in manager.calls if call[0] == "fire"] == [
        ("fire", "a"),
        ("fire", "t_x"),
        ("fire", "t_y"),
    ]
    assert sorted(call for call in manager.calls if call[0] == "post_fire") == [
        ("post_fire", "a", ["t_x#0"]),
        ("post_fire", "t_x", ["t_y#0"]),
        ("post_fire", "t_y", []),
    ]
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}
    causes = {each.trigger: each.cause for each in manager.storage.find_firings()}
    assert causes == {"a": None, "t_x": "t_x#0", "t_y": "t_y#0"}


def test_a_cascade_that_never_got_to_fire_is_fired_by_recovery_once() -> None:
    manager = watching(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    TriggerManager.fire(manager, "a")  # so that the first firing gets through
    assert statuses(manager)["t_y#0"] == "finished"
    manager = watching(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    manager.broken.add("fire")
    TriggerManager.fire(manager, "a")
    assert statuses(manager) == {"t_x#0": "finished"}
    manager.broken.clear()
    with frozen_time(manager.storage.now() + LATER):
        assert recovery.recover(manager).marks == 1
        assert recovery.recover(manager).marks == 0
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}
    assert [each.trigger for each in manager.storage.find_firings()] == ["a", "t_x", "t_y"]


def test_a_hook_that_raises_is_logged_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    manager = watching(t_x={"after": ["a"]})
    manager.broken.add("post_fire")
    assert manager.fire("b").seq == 1
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert (record.action, record.session) == ("hook", manager.storage.uid)
    manager.broken.clear()
    manager.calls.clear()
    with frozen_time(manager.storage.now() + LATER):
        recovery.recover(manager)
    assert manager.calls == [("post_fire", "b", [])]


def test_hooks_of_replay_and_skip_come_after_what_they_are_about() -> None:
    manager = watching(t_x={"after": ["a"], "run": "nobody.knows"}, t_y={"after": ["t_x"]})
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "failed"}
    manager.calls.clear()
    manager.replay_failed_instance("t_x#0")
    manager.skip_failed_instance("t_x#1", cascade=True)
    assert ("post_replay", "t_x#1", "t_x#0") in manager.calls
    skipped = manager.calls.index(("post_skip", "t_x#1", True))
    assert manager.calls.index(("post_fire", "t_x", ["t_y#0"])) < skipped
    assert statuses(manager)["t_y#0"] == "finished"


class MirroringManager(TriggerManager):
    """Fires everything into an audit session as well, and then does its own."""

    name = "test-mirroring"

    def fire(self, trigger_name: str, *args: Any, **kwargs: Any) -> FireResult:
        TriggerManager(MemoryStorageBackend("audit")).fire(trigger_name, *args, **kwargs)
        return super().fire(trigger_name, *args, **kwargs)


def test_an_overridden_fire_may_fire_the_same_name_into_another_session() -> None:
    manager = MirroringManager(MemoryStorageBackend("mirrored"))
    manager.update_configuration({"t_x": {"after": ["a"], "run": Counted.name}})
    manager.fire("a")
    for storage in (manager.storage, MemoryStorageBackend("audit")):
        assert [each.trigger for each in storage.find_firings()] == ["a", "t_x"]
    assert [each.cause for each in manager.storage.find_firings()] == [None, "t_x#0"]


def test_a_mark_is_settled_by_the_manager_that_left_it(settings: Any) -> None:
    settings.TRIGGERS = {"mem": {"STORAGE": "memory"}}
    plain = TriggerManager(MemoryStorageBackend("theirs"))
    plain.update_configuration({"t_x": {"after": ["a"], "run": Counted.name}})
    WatchingManager.broken.add("post_fire")
    WatchingManager(plain.storage).fire("b")
    WatchingManager.broken.clear()
    WatchingManager.calls.clear()
    with frozen_time(plain.storage.now() + LATER):
        assert recovery.redeliver("mem").marks == 1
    assert WatchingManager.calls == [("post_fire", "b", [])]
    with frozen_time(plain.storage.now() + 2 * LATER):
        assert recovery.redeliver("mem").marks == 0


def test_a_mark_of_a_manager_that_is_not_known_holds_up_no_instance(settings: Any) -> None:
    settings.TRIGGERS = {"mem": {"STORAGE": "memory"}}
    plain = TriggerManager(MemoryStorageBackend("mixed"))
    plain.update_configuration({"t_x": {"after": ["a"], "run": Counted.name}})
    plain.default_task_runner_name = "no-such-runner"
    plain.fire("a")
    WatchingManager.broken.add("post_fire")
    WatchingManager(plain.storage).fire("b")
    trigger_managers.unregister(WatchingManager.name)
    with frozen_time(plain.storage.now() + LATER):
        assert recovery.redeliver("mem").failed == 1
    assert statuses(plain) == {"t_x#0": "finished"}


@pytest.mark.django_db(transaction=True)
def test_a_session_with_many_due_rows_does_not_hide_the_others() -> None:
    crowd = TriggerManager(DatabaseStorageBackend("crowd"))
    other = TriggerManager(DatabaseStorageBackend("other"))
    for manager in (crowd, other):
        manager.default_task_runner_name = "no-such-runner"
        manager.update_configuration({"t_x": {"andEvery": "p", "run": Counted.name}})
    for _ in range(12):
        crowd.fire("p")
    other.fire("p")
    with frozen_time(crowd.storage.now() + LATER):
        assert DatabaseStorageBackend.overdue(2) == ["crowd", "other"]


def test_in_memory_the_sessions_that_are_due_for_longest_come_first() -> None:
    MemoryStorageBackend.clear()
    start = MemoryStorageBackend("-").now()
    for minutes, uid in ((30, "due third"), (10, "due first"), (20, "due second")):
        manager = TriggerManager(MemoryStorageBackend(uid))
        manager.default_task_runner_name = "no-such-runner"
        with frozen_time(start + timedelta(minutes=minutes)):
            manager.update_configuration({"t_x": {"after": ["a"], "run": Counted.name}})
            manager.fire("a")
    with frozen_time(start + LATER):
        assert MemoryStorageBackend.overdue(9) == ["due first", "due second", "due third"]
        assert MemoryStorageBackend.overdue(2) == ["due first", "due second"]
    assert MemoryStorageBackend.overdue(9) == []


def test_a_result_survives_a_storage_that_does_not_answer_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hiccups = [StorageUnavailable("flaky", "hiccup")] * 2

    class Flaky(MemoryStorageBackend):
        def transact(self, event: Any) -> Any:
            if isinstance(event, Finish) and hiccups:
                raise hiccups.pop()
            return super().transact(event)

    monkeypatch.setattr(attempt, "REPORT_PAUSES", (0, 0, 0))
    manager = TriggerManager(Flaky("flaky"))
    manager.update_configuration(
        {
            "t_x": {"after": ["a"], "run": Counted.name},
            "t_y": {"after": ["t_x"], "run": Counted.name},
        }
    )
    manager.fire("a")
    assert hiccups == []
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}
    hiccups += [StorageUnavailable("flaky", "down")] * 1_000_000
    manager = TriggerManager(Flaky("flaky", lease=0.2, heartbeat=0.1))
    manager.update_configuration({"t_z": {"after": ["z"], "run": Counted.name}})
    manager.fire("z")
    assert statuses(manager)["t_z#0"] == "running", "work that was done is never called failed"


def test_a_manager_without_overrides_leaves_no_marks() -> None:
    manager = TriggerManager(MemoryStorageBackend("plain"))
    assert manager.overridden_hooks.names == frozenset()
    assert manager.overridden_hooks.folds
    assert WatchingManager(manager.storage).overridden_hooks.names == {
        "fire",
        "post_fire",
        "post_replay",
        "post_skip",
    }
    assert not WatchingManager(manager.storage).overridden_hooks.folds


def test_redelivery_uses_the_manager_that_configured_the_session(settings: Any) -> None:
    settings.TRIGGERS = {"mem": {"STORAGE": "memory"}, "other": {"STORAGE": "memory"}}
    manager = watching(t_x={"after": ["a"]})
    manager.broken.add("post_fire")
    manager.fire("b")
    manager.broken.clear()
    manager.calls.clear()
    moment = manager.storage.now() + LATER
    with frozen_time(moment):
        found = recovery.redeliver("mem")
        again = recovery.redeliver()
    assert manager.calls == [("post_fire", "b", [])]
    assert (found.sessions, found.marks, found.sent, again.sessions) == (1, 1, 0, 0)


class Busy(IdleRunner):
    """Its broker does not answer."""

    name = "busy"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        raise NotSent(task_instance.name)


def test_what_was_not_sent_counts_so_though_another_managers_hook_cannot_be_called(
    settings: Any,
) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory", "RUNNER": "busy"}}
    task_runners.register(Busy)
    try:
        manager = get_trigger_manager("two managers")
        manager.update_configuration({"t_x": {"after": ["a"], "run": Counted.name}})
        watching = WatchingManager(manager.storage)
        watching.broken.add("post_fire")
        with run_tasks_locally("busy"):
            watching.fire("a")
        trigger_managers.unregister(WatchingManager.name)
        try:
            later = frozen_time(manager.storage.now() + LATER)
            with later, run_tasks_locally("busy"):
                found = recovery.redeliver()
        finally:
            trigger_managers.register(WatchingManager)
    finally:
        task_runners.unregister(Busy.name)
    assert (found.sent, found.failed) == (0, 1)
    assert manager.storage["t_x#0"].record.sends == 0


CRASH = """
import os, sys
import django
django.setup()
from triggers import outbox
from triggers.manager import TriggerManager
from triggers.storages.database import DatabaseStorageBackend

def crash(manager, transition):
    print("committed, not handed over", flush=True)
    os._exit(9)

outbox.follow_up = crash
TriggerManager(DatabaseStorageBackend(sys.argv[1])).fire("b")
"""


@pytest.mark.django_db(transaction=True)
def test_a_crash_between_commit_and_hand_over_loses_nothing(settings: Any) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex))
    manager.update_configuration({"t_x": {"after": ["a", "b"], "run": Recorded.name}})
    manager.fire("a")
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, manager.storage.uid],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (crashed.returncode, crashed.stdout) == (9, "committed, not handed over\n"), crashed
    assert statuses(manager) == {"t_x#0": "scheduled"}
    assert recovery.redeliver().sent == 0
    with frozen_time(manager.storage.now() + timedelta(minutes=1)):
        assert recovery.redeliver().sent == 1
        assert recovery.redeliver().sent == 0
    assert statuses(manager) == {"t_x#0": "finished"}


@pytest.mark.django_db(transaction=True)
def test_redelivery_goes_through_many_sessions_in_batches() -> None:
    for n in range(7):
        manager = TriggerManager(DatabaseStorageBackend(f"s{n}"))
        manager.update_configuration({"t_x": {"after": ["a"], "run": Counted.name}})
        manager.default_task_runner_name = "no-such-runner"
        manager.fire("a")
    with frozen_time(manager.storage.now() + LATER):
        found = recovery.redeliver(batch=2)
    assert (found.sessions, found.sent) == (7, 7)
    assert Counted.runs == ["t_x#0"] * 7


@pytest.mark.django_db(transaction=True)
def test_sessions_that_cannot_be_recovered_do_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for n in range(6):
        manager = (WatchingManager if n < 4 else TriggerManager)(DatabaseStorageBackend(f"s{n}"))
        manager.update_configuration({"t_x": {"after": ["a"], "run": Counted.name}})
        manager.default_task_runner_name = "no-such-runner"
        TriggerManager.fire(manager, "a")
    trigger_managers.unregister(WatchingManager.name)
    caplog.clear()
    with frozen_time(manager.storage.now() + LATER):
        found = recovery.redeliver(batch=2)
    assert (found.failed, found.sent) == (4, 2)
    assert Counted.runs == ["t_x#0"] * 2
    failures = [each for each in caplog.records if getattr(each, "action", "") == "recover"]
    assert [each.session for each in failures] == ["s0", "s1", "s2", "s3"]


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_answer_is_named(settings: Any) -> None:
    from django.db import connection

    storage = DatabaseStorageBackend("s")
    manager = TriggerManager(storage)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE triggers_session RENAME TO triggers_session_gone")
    try:
        for call in (
            lambda: manager.fire("a"),
            storage.plan,
            storage.delete,
            lambda: type(storage).overdue(1),
        ):
            with pytest.raises(StorageUnavailable, match=r"database storage.*migrate") as caught:
                call()
            assert caught.value.storage == "database"
            assert isinstance(caught.value, ConnectionError)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE triggers_session_gone RENAME TO triggers_session")
    assert manager.fire("a").seq == 1
