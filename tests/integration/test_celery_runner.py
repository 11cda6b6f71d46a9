"""What the runner publishes, and what the main process of a worker does, step by step here."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, current_app
from celery.exceptions import TimeLimitExceeded
from celery.signals import task_unknown
from celery.worker import state
from celery.worker.request import Request

from tests import celery_app, worker_tasks
from tests.integration.celery_sessions import (
    current,
    fetch_message,
    messages_in,
    new_prefix,
    statuses,
)
from triggers.attempt import claim
from triggers.engine.lifecycle import Claim, Retry
from triggers.manager import TriggerManager
from triggers.recovery import recover
from triggers.runners import CeleryTaskRunner
from triggers.runners.celery_broker import broker_of
from triggers.runners.celery_requests import TriggerRequest
from triggers.runners.celery_signals import aside, on_task_unknown, report_killed, report_unknown
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask
from triggers.testing import frozen_time, run_tasks_locally


class Broad(TriggerTask):
    """Says with what options it wants to be sent."""

    queue = "slow"
    priority = 7
    expires = timedelta(minutes=5)
    time_limit = 20

    def _run(self, context: TaskContext) -> dict[str, bool]:
        # A lock of the session would keep another thread, and this firing, out.
        context.manager.fire("inside")
        return {"eager": True}


@pytest.fixture(autouse=True)
def _really_sent() -> Iterator[None]:
    with run_tasks_locally("celery"):
        yield


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    with current(celery_app.make_app(redis_url, new_prefix())) as app:
        yield app


def manager_with(**tasks: Any) -> TriggerManager:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration({name: {"run": Broad.name, **t} for name, t in tasks.items()})
    return manager


@pytest.mark.server("redis")
def test_a_message_carries_the_options_of_its_task_and_never_expires(app: Celery) -> None:
    manager = manager_with(t_x={"after": ["a"]})
    manager.fire("a")
    message = fetch_message(app, "slow")
    assert message.properties["priority"] == 7
    assert message.headers["expires"] is None
    assert message.headers["timelimit"] == [20, None]
    assert message.headers["eta"] is None


@pytest.mark.server("redis")
@pytest.mark.parametrize(("cooldown", "sent"), [(59, 1), (61, 0)])
def test_a_cooldown_up_to_a_minute_waits_in_a_worker(app: Celery, cooldown: int, sent: int) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": worker_tasks.Tell.name})
    manager.fire("a")
    assert fetch_message(app) is not None
    manager.storage.transact(Claim(key=("t_x", 0), token="1"))
    manager.apply(Retry(key=("t_x", 0), token="1", cooldown=timedelta(seconds=cooldown)))
    assert messages_in(app) == sent
    if sent:
        assert fetch_message(app).headers["eta"] is not None


@pytest.mark.server("redis")
def test_a_task_that_only_workers_know_is_sent_all_the_same(app: Celery) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": "not.installed.here.Task"})
    manager.fire("a")
    assert fetch_message(app).headers["task"] == "not.installed.here.Task"


def test_a_transport_that_has_no_timeouts_of_ours_works_too() -> None:
    with current(celery_app.make_app("memory://", new_prefix())) as app:
        manager = manager_with(t_x={"after": ["a"]})
        manager.fire("a")
        assert messages_in(app, "slow") == 1


def test_eager_mode_runs_the_task_in_place_and_nothing_is_locked_meanwhile() -> None:
    current_app.conf.update(task_always_eager=True, task_store_eager_result=False)
    try:
        manager = manager_with(t_x={"after": ["a"]}, t_y={"after": ["t_x", "inside"]})
        manager.fire("a")
    finally:
        current_app.conf.update(task_always_eager=False)
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}


@pytest.mark.parametrize("expires", [0, -1, timedelta(0), "soon", float("nan"), 1e300])
def test_an_expiry_that_makes_no_sense_is_refused_with_the_task(expires: Any) -> None:
    with pytest.raises(ValueError, match=r"Hasty\.expires must be seconds or a timedelta, above 0"):
        type("Hasty", (TriggerTask,), {"expires": expires})


@pytest.mark.server("redis")
def test_a_forked_process_opens_connections_of_its_own(app: Celery) -> None:
    broker = broker_of(app, 1.0, 1.0)
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; this child does nothing with them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            os.write(write, b"other" if broker_of(app, 1.0, 1.0) is not broker else b"same")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    answer = os.read(read, 10)
    os.close(read)
    os.close(write)
    assert answer == b"other"
    assert broker_of(app, 1.0, 1.0) is broker


# -- the main process of a worker ---------------------------------------------------------------


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> TriggerManager:
    """A manager of a session with one scheduled instance, of which no message was sent."""
    monkeypatch.setattr(CeleryTaskRunner, "run", lambda *_arguments: None)
    manager = manager_with(t_x={"after": ["a"]})
    manager.fire("a")
    return manager


def exception_of(manager: TriggerManager) -> str:
    name: str = manager.storage["t_x#0"].metadata["exception"]["type"]
    return name


def test_the_end_of_a_killed_process_fails_the_attempt_of_its_message(
    manager: TriggerManager,
) -> None:
    assert claim(manager, "t_x#0", owner="message-1") is not None
    report_killed("message-1", manager.reference(), "t_x#0", TimeLimitExceeded(1))
    assert statuses(manager) == {"t_x#0": "failed"}
    assert exception_of(manager) == "billiard.exceptions.TimeLimitExceeded"


@pytest.mark.parametrize("owner", ["message-2", "message-1"])
def test_the_attempt_of_another_message_is_left_alone(manager: TriggerManager, owner: str) -> None:
    if owner == "message-2":
        claim(manager, "t_x#0", owner=owner)
    before = statuses(manager)
    report_killed("message-1", manager.reference(), "t_x#0", TimeLimitExceeded(1))
    report_killed("message-1", manager.reference(), "t_gone#0", TimeLimitExceeded(1))
    assert statuses(manager) == before


def test_a_request_reports_a_hard_time_limit_and_no_other(
    manager: TriggerManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(Request, "on_timeout", lambda _self, soft, _timeout: told.append(soft))
    request = TriggerRequest.__new__(TriggerRequest)
    request.id = "message-1"
    kwargs = {"manager": manager.reference(), "instance": "t_x#0"}
    monkeypatch.setattr(TriggerRequest, "kwargs", kwargs)
    assert claim(manager, "t_x#0", owner="message-1") is not None
    request.on_timeout(soft=True, timeout=1)
    monkeypatch.setattr(state, "should_terminate", True)
    request.on_timeout(soft=False, timeout=1)
    assert statuses(manager) == {"t_x#0": "running"}
    monkeypatch.setattr(state, "should_terminate", None)
    request.on_timeout(soft=False, timeout=1)
    assert statuses(manager) == {"t_x#0": "failed"}
    assert told == [True, False, False]


def test_an_unknown_task_fails_its_instance_once_enough_workers_refused_it(
    manager: TriggerManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "triggers")
    due_at = datetime.now(UTC)
    for _ in range(5):  # tries to send it do not count: perhaps no worker got a message
        due_at += timedelta(days=1)
        with frozen_time(due_at):
            assert recover(manager).sent == 1
    for _ in range(3):
        report_unknown("m.Task", manager.reference(), "t_x#0")
    assert statuses(manager) == {"t_x#0": "scheduled"}
    assert {record.action for record in caplog.records} == {"unknown"}
    report_unknown("m.Task", manager.reference(), "t_x#0")
    assert statuses(manager) == {"t_x#0": "failed"}
    assert exception_of(manager) == "triggers.exceptions.UnknownTask"
    for instance in ("t_x#0", "t_gone#0"):
        report_unknown("m.Task", manager.reference(), instance)
    assert {record.action for record in caplog.records} == {"unknown", "fail"}


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [[], {}, {}],
        [[], {"manager": "me", "instance": "t_x#0"}, {}],
        [[], {"manager": {}, "instance": "t_x#0"}, {}],
        [[1], [2], {}],
    ],
)
def test_messages_of_others_are_none_of_our_business(payload: Any) -> None:
    message = SimpleNamespace(payload=json.loads(json.dumps(payload)))
    assert on_task_unknown(name="m.other", message=message, id="1", exc=KeyError()) is None


def test_a_worker_hears_of_tasks_that_it_does_not_know(
    manager: TriggerManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "triggers")
    message = SimpleNamespace(
        payload=[[], {"manager": manager.reference(), "instance": "t_x#0"}, {}]
    )
    answers = task_unknown.send(sender=None, message=message, exc=None, name="m.Task", id="1")
    [thread] = [answer for receiver, answer in answers if receiver is on_task_unknown]
    thread.join(30)
    assert [record.action for record in caplog.records] == ["unknown"]


def test_what_the_main_process_cannot_record_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("no storage")

    aside(broken).join(30)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "no storage" in caplog.text
