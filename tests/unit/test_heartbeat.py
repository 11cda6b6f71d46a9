"""Heartbeats: the one thread that renews the leases of all instances of a process."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from tests.worker import PATIENCE, Obedient, OnlookingManager, Worker, failing, finishing
from triggers import heartbeat, recovery
from triggers.attempt import claim
from triggers.clock import frozen_time
from triggers.engine import Event, Transition, Verdicts
from triggers.engine.lifecycle import Claim, Extend
from triggers.exceptions import StorageUnavailable
from triggers.manager import TriggerManager, trigger_managers
from triggers.storages.memory import MemoryStorageBackend

OFTEN: dict[str, Any] = {"lease": 0.4, "heartbeat": 0.02}


class HeardStorage(MemoryStorageBackend):
    """A storage in memory that says when a heartbeat has come, and can be told to lose some."""

    name = "test-heard"
    beats: ClassVar[threading.Semaphore]
    heard: ClassVar[list[tuple[str, int]]] = []
    failures: ClassVar[int] = 0
    _sessions: ClassVar[dict[str, Any]] = {}

    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        if not isinstance(event, Extend):
            return super().commit(event, verdicts)
        try:
            if type(self).failures:
                type(self).failures -= 1
                raise StorageUnavailable(self.name, "it is told so")
            return super().commit(event, verdicts)
        finally:
            self.heard.append((self.uid, id(self)))
            self.beats.release()

    @classmethod
    def wait_for_beats(cls, number: int = 1) -> None:
        for _ in range(number):
            assert cls.beats.acquire(timeout=PATIENCE), "no heartbeat came"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    trigger_managers.register(OnlookingManager)
    HeardStorage.beats = threading.Semaphore(0)
    HeardStorage.heard.clear()
    HeardStorage.failures = 0
    yield
    assert not heartbeat._watched, "an attempt is still watched over"
    HeardStorage.clear()


def ready(**limits: Any) -> OnlookingManager:
    """A manager with an instance that waits for a worker."""
    manager = OnlookingManager(HeardStorage(uuid4().hex, **{**OFTEN, **limits}))
    manager.update_configuration({"t_x": {"after": ["a"], "run": Obedient.name}})
    manager.fire("a")
    return manager


def working(**limits: Any) -> tuple[OnlookingManager, Worker]:
    manager = ready(**limits)
    worker = Worker(manager, "t_x#0")
    assert worker.runs
    return manager, worker


def lease_end(manager: TriggerManager) -> datetime:
    end = manager.storage["t_x#0"].record.due_at
    assert end is not None
    return end


def is_lost(worker: Worker) -> bool:
    found: bool = worker.do(lambda task, context: context.is_lost)
    return found


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "triggers-heartbeat"]


def until(true: Callable[[], bool], step: Callable[[], object]) -> None:
    """Take a step that waits for an event, until something is true."""
    for _ in range(1000):
        if true():
            return
        step()
    raise AssertionError("it does not come true")


def wait_until_it_is_told(worker: Worker) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_lost(worker):
        assert time.monotonic() < deadline, "nobody tells it that it was lost"
        time.sleep(0.01)


def test_a_task_that_runs_for_longer_than_its_lease_keeps_it() -> None:
    manager, worker = working()
    first = lease_end(manager)
    until(lambda: manager.storage.now() > first, HeardStorage.wait_for_beats)
    assert lease_end(manager) > first
    assert recovery.recover(manager).sent == 0
    assert not is_lost(worker)
    worker.end(partial(finishing, {}))
    instance = manager.storage["t_x#0"]
    assert (instance.status, instance.attempt) == ("finished", 1)


def test_each_heartbeat_renews_the_whole_lease() -> None:
    manager, worker = working(lease=1000, heartbeat=0.02)
    HeardStorage.wait_for_beats(2)
    assert lease_end(manager) - manager.storage.now() > timedelta(seconds=900)
    worker.end(failing)


def test_the_attempts_of_a_process_share_one_thread() -> None:
    pairs = [working() for _ in range(3)]
    uids = {manager.storage.uid for manager, _worker in pairs}
    until(lambda: {uid for uid, _ in HeardStorage.heard} == uids, HeardStorage.wait_for_beats)
    assert len(threads()) == 1
    for _manager, worker in pairs:
        worker.end(failing)


def test_a_heartbeat_uses_a_storage_object_of_its_own() -> None:
    manager, worker = working()
    HeardStorage.wait_for_beats()
    assert id(manager.storage) not in {each for _uid, each in HeardStorage.heard}
    worker.end(failing)


def test_an_attempt_that_ended_is_not_watched_over_any_more() -> None:
    manager, worker = working()
    HeardStorage.wait_for_beats()
    worker.end(failing)
    assert not heartbeat._watched
    assert manager.storage["t_x#0"].record.due_at is None


def test_a_short_heartbeat_is_not_kept_waiting_by_a_long_one() -> None:
    _slow_manager, slow = working(lease=4000, heartbeat=2000)
    quick_manager, quick = working()
    HeardStorage.wait_for_beats(2)
    assert {uid for uid, _ in HeardStorage.heard} == {quick_manager.storage.uid}
    for worker in (slow, quick):
        worker.end(failing)


@pytest.mark.parametrize("has_successor", [False, True])
def test_a_worker_whose_lease_has_run_out_is_told(
    has_successor: bool, caplog: pytest.LogCaptureFixture
) -> None:
    manager, worker = working()
    HeardStorage.wait_for_beats()
    assert not is_lost(worker)
    with caplog.at_level(logging.WARNING, logger="triggers"):
        # Under the lock, so that no heartbeat comes in between.
        with manager.storage.acquire_lock(), frozen_time(lease_end(manager) + timedelta(days=1)):
            assert recovery.recover(manager).sent == 1
            if has_successor:
                manager.storage.transact(Claim(key=("t_x", 0), token="two"))
        wait_until_it_is_told(worker)
        worker.end(partial(finishing, {"late": True}))
    [told] = [each for each in caplog.records if getattr(each, "action", "") == "heartbeat"]
    assert "t_x#0 was taken away from this worker" in told.getMessage()
    assert (told.session, told.instance) == (manager.storage.uid, "t_x#0")  # type: ignore[attr-defined]
    assert any("finish of t_x#0 was not recorded" in each.message for each in caplog.records)
    expected = "running" if has_successor else "scheduled"
    assert manager.storage["t_x#0"].status == expected


@pytest.mark.parametrize("how", ["by hand", "erase", "delete"])
def test_a_worker_whose_instance_was_decided_elsewhere_is_told(how: str) -> None:
    manager, worker = working()
    if how == "by hand":
        manager.update_instance_status("t_x#0", "failed")
    elif how == "erase":
        manager.erase()
    else:
        manager.storage.delete()
    wait_until_it_is_told(worker)
    worker.end(partial(finishing, {}))


def test_a_cancelled_session_does_not_take_its_instance_away_from_a_worker() -> None:
    manager, worker = working()
    manager.cancel()
    HeardStorage.heard.clear()
    until(lambda: len(HeardStorage.heard) > 2, HeardStorage.wait_for_beats)
    assert not is_lost(worker)
    worker.end(partial(finishing, {}))
    assert manager.storage["t_x#0"].status == "finished"


def test_heartbeats_that_fail_are_logged_and_the_next_one_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    HeardStorage.failures = 3
    with caplog.at_level(logging.WARNING, logger="triggers"):
        manager, worker = working(lease=1000, heartbeat=0.02)
        first = lease_end(manager)
        HeardStorage.wait_for_beats(5)
    assert HeardStorage.failures == 0
    assert not is_lost(worker)
    assert lease_end(manager) > first
    worker.end(partial(finishing, {}))
    assert manager.storage["t_x#0"].status == "finished"
    failed = [each for each in caplog.records if "A heartbeat failed" in each.message]
    assert len(failed) == 3
    assert all(each.exc_info for each in failed)


def test_the_thread_ends_when_there_is_nothing_to_watch_over_and_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "IDLE", 0.05)
    _manager, worker = working()
    HeardStorage.wait_for_beats()
    [thread] = threads()
    worker.end(failing)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert heartbeat._thread is None
    _manager, worker = working()
    HeardStorage.heard.clear()
    HeardStorage.wait_for_beats(2)
    [another] = threads()
    assert another is not thread
    worker.end(failing)


def test_attempts_that_end_before_their_first_heartbeat_wake_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[None] = []

    def work() -> None:
        _manager, worker = working(lease=40, heartbeat=10)
        worker.end(failing)

    for thread in threads():
        with heartbeat._changed:
            heartbeat._busy_at = -math.inf
            heartbeat._changed.notify_all()
        thread.join(PATIENCE)
    monkeypatch.setattr(heartbeat, "_pace", heartbeat.IDLE)
    monkeypatch.setattr(heartbeat, "_wakes_at", 0.0)
    monkeypatch.setattr(heartbeat._changed, "notify_all", lambda: woken.append(None))
    work()
    # The thread has begun with the first, and then sleeps until it might have to beat.
    deadline = time.monotonic() + PATIENCE
    while not heartbeat._wakes_at:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(3):
        work()
    assert woken == []


def test_the_thread_does_not_keep_the_process_from_ending() -> None:
    _manager, worker = working()
    [thread] = threads()
    assert thread.daemon
    worker.end(failing)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_renews_its_own_leases_and_not_those_of_its_parent() -> None:
    _manager, worker = working()
    HeardStorage.wait_for_beats()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = _live_in_a_child()
        finally:
            os._exit(code)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    HeardStorage.beats = threading.Semaphore(0)
    HeardStorage.wait_for_beats(2)
    worker.end(failing)


def _live_in_a_child() -> int:
    """What is wrong in the child, as a number; 0 if nothing is."""
    if heartbeat._watched or heartbeat._thread is not None:
        return 2
    HeardStorage.heard.clear()
    HeardStorage.beats = threading.Semaphore(0)
    manager = ready()
    attempt = claim(manager, "t_x#0")
    if attempt is None:
        return 3
    HeardStorage.wait_for_beats(2)
    if {uid for uid, _ in HeardStorage.heard} != {manager.storage.uid}:
        return 4
    attempt.finish("{}")
    return 5 if heartbeat._watched else 0


@pytest.mark.django_db
def test_in_a_tests_transaction_which_no_other_thread_can_see_nothing_is_watched_over() -> None:
    manager = ready()
    attempt = claim(manager, "t_x#0")
    assert attempt is not None
    assert not heartbeat._watched
    attempt.finish("{}")
    assert manager.storage["t_x#0"].status == "finished"
    assert not attempt.is_lost


class StuckStorage(HeardStorage):
    """Heartbeats of it wait, as they do for a row that the task has locked itself."""

    name = "test-stuck"
    freed: ClassVar[threading.Event]
    waiting: ClassVar[list[int]] = []

    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        if isinstance(event, Extend):
            self.waiting.append(1)
            assert self.freed.wait(PATIENCE)
        return super().commit(event, verdicts)


def test_a_heartbeat_that_waits_for_its_own_transaction_holds_up_no_other() -> None:
    StuckStorage.freed = threading.Event()
    StuckStorage.waiting.clear()
    stuck = OnlookingManager(StuckStorage(uuid4().hex, **OFTEN))
    stuck.update_configuration({"t_x": {"after": ["a"], "run": Obedient.name}})
    stuck.fire("a")
    attempt = claim(stuck, "t_x#0")
    assert attempt is not None
    attempt.is_in_transaction = True
    manager, worker = working()
    first = lease_end(manager)
    until(lambda: manager.storage.now() > first, HeardStorage.wait_for_beats)
    assert recovery.recover(manager).sent == 0
    assert len(StuckStorage.waiting) == 1, "one heartbeat of an attempt waits at a time"
    attempt.is_in_transaction = False
    StuckStorage.freed.set()
    attempt.finish("{}")
    worker.end(failing)
