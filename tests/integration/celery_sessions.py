"""What the tests with real workers share: an app per broker, and sessions that its workers see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, current_app

from tests import celery_app, servers, worker_tasks
from tests.workers import Worker
from triggers.manager import TriggerManager
from triggers.models import Instance
from triggers.recovery import recover
from triggers.runners.celery_broker import close_brokers
from triggers.storages.database import DatabaseStorageBackend

BROKERS = [
    pytest.param("redis", marks=pytest.mark.server("redis")),
    pytest.param("rabbitmq", marks=pytest.mark.server("rabbitmq")),
]


def url_of(broker: str) -> str:
    """Return the address of one of ``BROKERS``."""
    return servers.redis_url() if broker == "redis" else servers.rabbitmq_url()


@contextmanager
def current(app: Celery) -> Iterator[Celery]:
    """Make it the app that is published with."""
    before = current_app._get_current_object()
    _bind_tasks(app)
    try:
        yield app
    finally:
        _bind_tasks(before)
        close_brokers()
        app.close()


def _bind_tasks(app: Celery) -> None:
    app.set_current()
    # A task belongs to the app that was the last to take it up.
    for task in app.tasks.values():
        if getattr(task, "is_trigger_task", False):
            task.bind(app)


def new_prefix() -> str:
    """Return a prefix of names in the broker that no other worker listens to."""
    return f"{servers.RUN_ID}.{uuid4().hex[:8]}"


def manager_with(**tasks: Any) -> TriggerManager:
    """Return a manager of a new session, whose tasks run in workers."""
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using="postgresql"))
    defaults = {"run": worker_tasks.Tell.name, "using": "celery"}
    manager.update_configuration({name: {**defaults, **task} for name, task in tasks.items()})
    return manager


def wait_for_end(worker: Worker, manager: TriggerManager, instance: str, *, times: int = 1) -> str:
    """Wait until a worker has ended a message of an instance; return what Celery calls the end.

    :param times: how many messages of it.
    """
    about = {"session": manager.storage.uid, "instance": instance}
    state: str = worker.wait_for("done", times=times, **about)["state"]
    return state


def result_of(manager: TriggerManager, instance: str) -> dict[str, Any]:
    """Return what the task of an instance has returned."""
    result: dict[str, Any] = manager.storage[instance].metadata["result"]
    return result


def statuses(manager: TriggerManager) -> dict[str, str]:
    """Return the status of each instance, by name."""
    return {each.name: str(each.status) for each in manager.storage}


def messages_in(app: Celery, queue: str = celery_app.DEFAULT_QUEUE) -> int:
    """Return how many messages wait in a queue."""
    with app.connection_for_write() as connection:
        declared = app.amqp.queues[queue](connection.default_channel).queue_declare()
        return int(declared.message_count)


def fetch_message(app: Celery, queue: str = celery_app.DEFAULT_QUEUE) -> Any:
    """Take a message out of a queue, and return it; ``None`` if there is none."""
    with app.connection_for_write() as connection:
        message = app.amqp.queues[queue](connection.default_channel).get(no_ack=True)
        return message


def send_again(manager: TriggerManager) -> int:
    """Have recovery send what it would send later; return how many instances that are."""
    rows = Instance.objects.using("postgresql").filter(session__uid=manager.storage.uid)
    rows.exclude(due_at=None).update(due_at=datetime(2000, 1, 1, tzinfo=UTC))
    return recover(manager).sent
