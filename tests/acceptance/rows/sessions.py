"""What many rows need: tasks that show what they got, and ways to look at a session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner, task_runners
from triggers.storages import storage_backends
from triggers.task import TaskContext, trigger_task
from triggers.types import TaskInstance

PATIENCE = 60  # seconds; no test waits that long unless it fails


@trigger_task
def show(context: TaskContext) -> dict[str, Any]:
    """Return the kwargs that the task got."""
    return {"got": context.trigger_kwargs}


@trigger_task
def explode(context: TaskContext) -> None:
    """Fail."""
    raise LookupError("no such applicant")


@trigger_task
def explode_unless_told_otherwise(context: TaskContext) -> dict[str, Any]:
    """Fail, unless the kwargs of ``a`` say ``good``."""
    if not context.trigger_kwargs["a"].get("good"):
        raise LookupError("no such applicant")
    return {"got": context.trigger_kwargs}


class IdleRunner(BaseTaskRunner):
    """Takes instances and leaves them to the test."""

    name = "row-tests-idle"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        pass


@contextmanager
def registered(*runners: type[BaseTaskRunner]) -> Iterator[None]:
    """Register runners for the length of a block."""
    for runner in runners:
        task_runners.register(runner)
    try:
        yield
    finally:
        for runner in runners:
            task_runners.unregister(runner.name)


def reopened(manager: TriggerManager) -> TriggerManager:
    """A manager on the same session that shares no object with this one."""
    storage = manager.storage
    return type(manager)(storage_backends.get_class(storage.name)(storage.uid, **storage.options))


def statuses(manager: TriggerManager) -> dict[str, str]:
    """The status of every instance of the session, by name."""
    return {each.name: str(each.status) for each in reopened(manager).storage}


def got(manager: TriggerManager, instance: str) -> dict[str, Any]:
    """The kwargs that an instance of :func:`show` got when it ran."""
    result: dict[str, Any] = reopened(manager).storage[instance].metadata["result"]["got"]
    return result


def at_the_same_time(*calls: Callable[[], object]) -> None:
    """Make each call in a thread of its own, all of them starting together."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        try:
            start.wait(PATIENCE)
            call()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
