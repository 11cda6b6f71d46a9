"""A storage that does its part, and whose answer is lost; or one that is away for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from triggers import attempt, recovery
from triggers.clock import frozen_time
from triggers.engine.lifecycle import Claim, Extend, Fail, Finish, Retry, Skip
from triggers.exceptions import StorageUnavailable
from triggers.manager import TriggerManager, trigger_managers
from triggers.models import DeferredFiring
from triggers.runners import task_runners
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, execute, trigger_task
from triggers.testing import run_tasks_locally
from triggers.testing.racing import IdleRunner

RUNS: list[str] = []


@trigger_task
def note(context: TaskContext) -> dict[str, Any]:
    """Note that it ran."""
    RUNS.append(context.instance_name)
    return {}


@trigger_task
def fire_more(context: TaskContext) -> dict[str, Any]:
    """Fire into the own session."""
    context.manager.fire("more")
    return {}


@trigger_task
def give_up(context: TaskContext) -> None:
    """Skip itself."""
    RUNS.append(context.instance_name)
    raise give_up.skip()


@trigger_task
def ask_again(context: TaskContext) -> None:
    """Succeed at the second time."""
    RUNS.append(context.instance_name)
    if len(RUNS) == 1:
        raise ask_again.retry()


@trigger_task
def break_down(context: TaskContext) -> None:
    """Fail."""
    RUNS.append(context.instance_name)
    raise ValueError("it broke")


class Deaf(MemoryStorageBackend):
    """Commits what it is told, and says that it does not know."""

    losing: ClassVar[dict[type, int]] = {}
    interrupted: ClassVar[dict[type, str]] = {}
    blocked: ClassVar[threading.Event | None] = None

    def transact(self, event: Any) -> Any:
        if isinstance(event, Extend) and self.blocked is not None:
            self.blocked.wait(30)
        when = self.interrupted.pop(type(event), "")
        if when == "before":
            raise SoftTimeLimitExceeded
        transition = super().transact(event)
        if when:
            raise SoftTimeLimitExceeded
        if self.losing.get(type(event), 0):
            self.losing[type(event)] -= 1
            raise StorageUnavailable("deaf", "the connection broke during the commit")
        return transition


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(attempt, "REPORT_PAUSES", (0, 0, 0))
    RUNS.clear()
    Deaf.losing.clear()
    Deaf.interrupted.clear()
    task_runners.register(IdleRunner)
    with run_tasks_locally("synchronous"):
        yield
    task_runners.unregister(IdleRunner.name)
    Deaf.blocked = None
    MemoryStorageBackend.clear()


def manager_on(storage: Any, **tasks: Any) -> TriggerManager:
    manager = TriggerManager(storage)
    manager.update_configuration({name: {"run": note.name, **each} for name, each in tasks.items()})
    return manager


def test_a_claim_whose_answer_was_lost_is_the_same_claim_again() -> None:
    manager = manager_on(Deaf(uuid4().hex), t_x={"after": ["a"]})
    Deaf.losing[Claim] = 2
    manager.fire("a")
    instance = manager.storage["t_x#0"]
    assert (str(instance.status), instance.attempt, RUNS) == ("finished", 1, ["t_x#0"])


def test_a_finish_whose_answer_was_lost_is_not_called_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"]}}
    manager = manager_on(Deaf(uuid4().hex), **tasks)
    Deaf.losing[Finish] = 1
    with caplog.at_level(logging.WARNING, "triggers"):
        manager.fire("a")
    assert str(manager.storage["t_x#0"].status) == "finished"
    assert "finish of t_x#0 was reported again, as no answer had come" in caplog.text
    assert str(manager.storage["t_y#0"].status) == "scheduled"
    with frozen_time(manager.storage.now() + timedelta(minutes=1)):
        assert recovery.recover(manager).sent == 1
    assert str(manager.storage["t_y#0"].status) == "finished"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("task", "event", "ends"),
    [
        ("note", Finish, {"t_x#0": "finished"}),
        ("give_up", Skip, {"t_x#0": "skipped"}),
        ("ask_again", Retry, {"t_x#0": "replayed", "t_x#1": "finished"}),
        ("break_down", Fail, {"t_x#0": "failed"}),
    ],
)
def test_a_time_limit_that_passes_while_the_end_is_recorded_does_not_undo_it(
    task: str, event: type, ends: dict[str, str], when: str
) -> None:
    manager = manager_on(Deaf(uuid4().hex), t_x={"after": ["a"], "run": f"{__name__}.{task}"})
    Deaf.interrupted[event] = when
    manager.fire("a")
    with frozen_time(manager.storage.now() + timedelta(hours=1)):
        recovery.recover(manager)
    assert {each.name: str(each.status) for each in manager.storage} == ends
    assert {each.attempt for each in manager.storage} == {1}
    assert sorted(RUNS) == sorted(ends)


def test_a_heartbeat_that_has_to_wait_costs_no_other_instance_its_lease() -> None:
    slow = manager_on(Deaf(uuid4().hex, lease=30, heartbeat=0.05), t_x={"after": ["a"]})
    quick = manager_on(
        MemoryStorageBackend(uuid4().hex, lease=0.4, heartbeat=0.05), t_x={"after": ["a"]}
    )
    Deaf.blocked = threading.Event()
    for manager in (slow, quick):
        manager.default_task_runner_name = IdleRunner.name
        manager.fire("a")
    waiting, running = (attempt.claim(each, "t_x#0") for each in (slow, quick))
    assert waiting is not None
    assert running is not None
    time.sleep(1)  # more than two leases
    assert recovery.recover(quick).sent == 0
    Deaf.blocked.set()
    running.finish("{}")
    waiting.finish("{}")
    assert {str(each.storage["t_x#0"].status) for each in (slow, quick)} == {"finished"}


@pytest.mark.django_db(transaction=True)
def test_a_firing_that_nobody_here_can_decide_holds_up_no_lease() -> None:
    manager = manager_on(DatabaseStorageBackend(uuid4().hex), t_x={"after": ["a"]})
    manager.default_task_runner_name = IdleRunner.name
    manager.fire("a")
    lost = attempt.claim(manager, "t_x#0")
    assert lost is not None
    now = manager.storage.now()
    waiting = {"uid": manager.storage.uid, "trigger": "b", "kwargs": "{}", "created_at": now}
    DeferredFiring.objects.create(manager="not installed here", **waiting)
    assert "not installed here" not in trigger_managers
    attempt.heartbeat.end(lost)
    with frozen_time(now + timedelta(minutes=2)):
        assert recovery.redeliver().failed == 1
    assert str(manager.storage["t_x#0"].status) == "finished"
    assert RUNS == ["t_x#0"]
    assert manager.storage.deferred()


def test_tasks_of_a_closed_session_may_fire_into_it() -> None:
    manager = manager_on(
        MemoryStorageBackend(uuid4().hex),
        t_x={"after": ["a"], "run": fire_more.name},
        t_y={"after": ["more"]},
    )
    manager.default_task_runner_name = IdleRunner.name
    manager.fire("a")
    manager.close()
    manager.default_task_runner_name = None
    execute(manager, "t_x#0")
    assert {str(each.status) for each in manager.storage} == {"finished"}
