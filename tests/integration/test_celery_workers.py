"""Real workers on real brokers: what is fired here runs there, once, in the right queue."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from tests import celery_app, servers, worker_tasks
from tests.integration.celery_sessions import (
    BROKERS,
    current,
    fetch_message,
    manager_with,
    messages_in,
    new_prefix,
    result_of,
    send_again,
    statuses,
    url_of,
    wait_for_end,
)
from tests.workers import Worker, running_worker
from triggers.models import Instance, Session
from triggers.runners import CeleryTaskRunner
from triggers.storages.document import STATE_VERSION

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["postgresql"]),
    pytest.mark.server("postgresql"),
]


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    return url_of(request.param)


@pytest.fixture(scope="module")
def worker(broker: str, django_db_setup: None) -> Iterator[Worker]:
    with running_worker(broker, servers.RUN_ID) as worker:
        yield worker


@pytest.fixture
def app(broker: str) -> Iterator[Celery]:
    """The app of the worker that all these tests share."""
    with current(celery_app.make_app(broker, servers.RUN_ID)) as app:
        yield app


@pytest.fixture
def own_app(broker: str) -> Iterator[Celery]:
    """An app of this test alone, whose messages wait until it starts a worker."""
    with current(celery_app.make_app(broker, new_prefix())) as app:
        yield app


def test_a_join_and_its_cascade_run_in_a_worker(app: Celery, worker: Worker) -> None:
    manager = manager_with(t_x={"after": ["a", "b"]}, t_y={"after": ["t_x"]})
    manager.fire("a", {"n": 1})
    manager.fire("b", {"n": 2})
    wait_for_end(worker, manager, "t_y#0")
    first, second = result_of(manager, "t_x#0"), result_of(manager, "t_y#0")
    assert first["kwargs"] == {"a": {"n": 1}, "b": {"n": 2}}
    assert second["kwargs"] == {"t_x": first}
    assert os.getpid() not in {first["pid"], second["pid"]}
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}


def test_a_task_with_a_queue_is_only_run_by_the_worker_of_that_queue(
    own_app: Celery, broker: str
) -> None:
    manager = manager_with(
        t_slow={"after": ["a"], "run": worker_tasks.TellSlowly.name}, t_x={"after": ["a"]}
    )
    prefix = own_app.conf.task_default_queue.rpartition(".")[0]
    manager.fire("a")
    with running_worker(broker, prefix) as default:
        wait_for_end(default, manager, "t_x#0")
        assert statuses(manager) == {"t_x#0": "finished", "t_slow#0": "scheduled"}
        with running_worker(broker, prefix, queues=["slow"]) as slow:
            wait_for_end(slow, manager, "t_slow#0")
    assert result_of(manager, "t_slow#0")["queue"] == "slow"


def test_what_has_priority_is_run_before_what_has_waited_longer(
    own_app: Celery, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Redis counts from the most urgent, RabbitMQ from the least.
    low, high = (9, 0) if broker.startswith("redis") else (0, 9)
    monkeypatch.setattr(worker_tasks.Tell, "message_options", {"priority": low})
    monkeypatch.setattr(worker_tasks.TellFirst, "message_options", {"priority": high})
    manager = manager_with(
        t_x={"andEvery": "a"}, t_first={"after": ["b"], "run": worker_tasks.TellFirst.name}
    )
    for trigger in ("a", "a", "a", "b"):
        manager.fire(trigger)
    with running_worker(broker, own_app.conf.task_default_queue.rpartition(".")[0]) as worker:
        worker.wait_for("done", times=4)
    ended = [each["instance"] for each in worker.told("done")]
    assert ended == ["t_first#0", "t_x#0", "t_x#1", "t_x#2"]


def test_a_message_is_plain_json_and_holds_no_kwargs(own_app: Celery) -> None:
    own_app.conf.task_serializer = "pickle"
    manager = manager_with(t_x={"after": ["a"]})
    manager.fire("a", {"secret": "s3cret"})
    message = fetch_message(own_app)
    assert message.content_type == "application/json"
    assert "s3cret" not in json.dumps(message.payload)
    assert message.payload[1] == {"manager": manager.reference(), "instance": "t_x#0"}


def test_a_message_that_comes_twice_runs_once(app: Celery, worker: Worker) -> None:
    manager = manager_with(t_x={"after": ["a"]})
    manager.fire("a")
    assert wait_for_end(worker, manager, "t_x#0") == "SUCCESS"
    first = result_of(manager, "t_x#0")
    CeleryTaskRunner().run(manager, manager.storage["t_x#0"])
    uid = manager.storage.uid
    worker.wait_for("log", action="drop", session=uid, instance="t_x#0", message="not waiting")
    assert manager.storage["t_x#0"].record.attempt == 1
    assert result_of(manager, "t_x#0") == first


def test_retries_follow_after_their_cooldown(app: Celery, worker: Worker) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": worker_tasks.Again.name})
    manager.fire("a")
    wait_for_end(worker, manager, "t_x#2")
    assert statuses(manager) == {"t_x#0": "replayed", "t_x#1": "replayed", "t_x#2": "finished"}
    first, second = manager.storage["t_x#0"].record, manager.storage["t_x#1"].record
    assert second.changed_at - first.changed_at >= timedelta(seconds=0.3)


def test_a_long_cooldown_is_not_left_to_the_broker(app: Celery, worker: Worker) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": worker_tasks.Later.name})
    manager.fire("a")
    wait_for_end(worker, manager, "t_x#0")
    record = manager.storage["t_x#1"].record
    assert (record.status, record.due_at) == ("scheduled", record.not_before)
    assert messages_in(app) == 0
    about = [line for line in worker.output.splitlines() if manager.storage.uid in line]
    assert not [line for line in about if "t_x#1" in line]


def test_a_soft_time_limit_is_an_exception_that_the_task_may_handle(
    app: Celery, worker: Worker
) -> None:
    manager = manager_with(t_x={"andEvery": "a", "run": worker_tasks.NoticesInTime.name})
    manager.fire("a", {"tidy": True})
    wait_for_end(worker, manager, "t_x#0")
    assert result_of(manager, "t_x#0") == {"tidied": True}
    manager.fire("a")
    wait_for_end(worker, manager, "t_x#1")
    error = manager.storage["t_x#1"].metadata["exception"]
    assert "SoftTimeLimitExceeded" in error["types"]


def test_a_soft_time_limit_that_comes_while_a_receiver_is_told_reaches_the_task(
    app: Celery, worker: Worker
) -> None:
    manager = manager_with(
        t_x={"after": ["a"], "run": worker_tasks.FiresForTooLong.name},
        t_y={"after": ["inside"], "run": worker_tasks.Tell.name},
    )
    manager.fire("a")
    wait_for_end(worker, manager, "t_x#0")
    assert result_of(manager, "t_x#0") == {"tidied": True}
    wait_for_end(worker, manager, "t_y#0")


def test_a_hard_time_limit_fails_the_instance_at_once(app: Celery, worker: Worker) -> None:
    manager = manager_with(
        t_x={"after": ["a"], "run": worker_tasks.TakesTooLong.name},
        t_y={"after": ["t_x:failed"], "run": worker_tasks.Report.name},
    )
    manager.fire("a")
    wait_for_end(worker, manager, "t_y#0")
    assert statuses(manager) == {"t_x#0": "failed", "t_y#0": "finished"}
    assert result_of(manager, "t_y#0")["type"] == "billiard.exceptions.TimeLimitExceeded"
    assert manager.storage["t_x#0"].record.attempt == 1


def test_a_task_unknown_to_a_worker_is_left_to_others_for_a_while(
    app: Celery, worker: Worker
) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": "tests.newer_release.Task"})
    about = {"session": manager.storage.uid, "instance": "t_x#0"}
    manager.fire("a")
    for sent in range(1, 4):
        worker.wait_for("log", action="unknown", times=sent, **about)
        assert statuses(manager) == {"t_x#0": "scheduled"}
        assert send_again(manager) == 1
    worker.wait_for("log", action="fail", message="of 4 messages", **about)
    assert statuses(manager) == {"t_x#0": "failed"}
    error = manager.storage["t_x#0"].metadata["exception"]
    assert error["type"] == "triggers.exceptions.UnknownTask"


def test_what_is_started_too_late_fails_where_handlers_see_it(
    app: Celery, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = manager_with(
        t_x={"after": ["a"], "run": worker_tasks.Expiring.name},
        t_y={"after": ["t_x:failed"], "run": worker_tasks.Report.name},
    )
    monkeypatch.setattr(CeleryTaskRunner, "run", lambda *_: None)
    manager.fire("a")
    monkeypatch.undo()
    rows = Instance.objects.using("postgresql").filter(session__uid=manager.storage.uid)
    rows.update(changed_at=datetime.now(UTC) - timedelta(seconds=worker_tasks.Expiring.expires + 1))
    assert send_again(manager) == 1
    wait_for_end(worker, manager, "t_y#0")
    assert statuses(manager) == {"t_x#0": "failed", "t_y#0": "finished"}
    assert result_of(manager, "t_y#0")["type"] == "triggers.exceptions.TaskExpired"


def test_what_is_started_in_time_runs(app: Celery, worker: Worker) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": worker_tasks.Expiring.name})
    manager.fire("a")
    wait_for_end(worker, manager, "t_x#0")
    assert result_of(manager, "t_x#0") == {"ran": True}


def test_a_session_of_a_newer_release_is_left_to_workers_of_that_release(
    own_app: Celery, broker: str
) -> None:
    manager = manager_with(t_x={"after": ["a"]})
    manager.fire("a")
    rows = Session.objects.using("postgresql").filter(uid=manager.storage.uid)
    version = rows.get().version
    rows.update(version=STATE_VERSION + 1)
    prefix = own_app.conf.task_default_queue.rpartition(".")[0]
    with running_worker(broker, prefix) as worker:
        assert wait_for_end(worker, manager, "t_x#0") == "FAILURE"
        assert "StateVersionError" in worker.output
        rows.update(version=version)
        assert statuses(manager) == {"t_x#0": "scheduled"}
        assert send_again(manager) == 1
        wait_for_end(worker, manager, "t_x#0", times=2)
    assert statuses(manager) == {"t_x#0": "finished"}


def test_a_worker_that_knows_the_task_takes_over_from_one_that_does_not(
    own_app: Celery, broker: str
) -> None:
    prefix = own_app.conf.task_default_queue.rpartition(".")[0]
    older = {"imports": ["triggers.task"]}
    manager = manager_with(t_x={"after": ["a"]})
    manager.fire("a")
    with running_worker(broker, prefix, settings=older) as worker:
        worker.wait_for("log", action="unknown", instance="t_x#0")
    assert send_again(manager) == 1
    with running_worker(broker, prefix) as worker:
        wait_for_end(worker, manager, "t_x#0")
    assert statuses(manager) == {"t_x#0": "finished"}
