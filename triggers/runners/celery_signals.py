"""What the main process of a worker says about instances that none of its children can speak for.

It happens in a thread of its own: the main process must go on to take messages, whatever the
storage does. What this starts in turn (hooks, and tasks of runners that work in place) runs in that
thread too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery import signals
from django.db import connections

from triggers.attempt import Attempt, beginning_of
from triggers.exceptions import InstanceNotFound, UnknownTask
from triggers.logging import Action, Fields, log
from triggers.manager import TriggerManager, manager_from
from triggers.types import Status, split_instance_name

REFUSALS_BEFORE_UNKNOWN = 3
"""How many messages of an instance workers may refuse, as they do not know its task, before the
next one fails it. Until then, another worker may know it: one of a newer release."""


def connect() -> None:
    """Have this process, if it becomes a worker, look after messages of tasks unknown to it."""
    signals.task_unknown.connect(on_task_unknown, dispatch_uid="triggers.task_unknown")


def on_task_unknown(*, name: str, message: Any, **_signal: Any) -> threading.Thread | None:
    """Receive Celery's signal; Celery has rejected the message already.

    :returns: the thread that looks after it, or ``None`` if the message is not one of ours.
    """
    try:
        kwargs = message.payload[1]
    except Exception:  # a message of somebody else may look like anything
        return None
    if not _is_ours(kwargs):
        return None
    reference, instance = kwargs["manager"], kwargs["instance"]
    return aside(partial(report_unknown, name, reference, instance), reference, instance)


def report_unknown(name: str, reference: Mapping[str, Any], instance: str) -> None:
    """Leave an instance to a worker that knows its task; fail it when it has been sent enough."""
    manager = manager_from(reference)
    try:
        found = manager.storage[instance]
    except InstanceNotFound:
        return
    if found.status != Status.SCHEDULED:
        return
    refusals = int(found.record.metadata.get("refused_by_workers", 0)) + 1
    if refusals <= REFUSALS_BEFORE_UNKNOWN:
        manager.storage.annotate(split_instance_name(instance), {"refused_by_workers": refusals})
        message = "%s is left to another worker, as this one has no task %r; recovery sends it"
        log(logging.WARNING, message, instance, name, **_about(manager, "unknown", instance))
        return
    reason = (
        f"No trigger task {name!r}: of {refusals} messages, no worker that took one has it "
        "registered. Is its module in the workers' release, and imported there?"
    )
    manager.fail_unresolved(found, UnknownTask(name, reason))


def report_killed(
    owner: str, reference: Mapping[str, Any], instance: str, error: BaseException
) -> None:
    """Fail the attempt that a message has started, as its process was killed.

    :param owner: id of the message. An attempt of another one is left alone.
    """
    manager = manager_from(reference)
    try:
        found = manager.storage[instance]
    except InstanceNotFound:
        return
    token = found.record.token
    if token is None or not token.startswith(beginning_of(owner)):
        message = "The end of an attempt of %s was not recorded: it was decided elsewhere"
        log(logging.INFO, message, instance, **_about(manager, "drop", instance))
        return
    Attempt(manager, found, token).fail(error)


def aside(
    work: Callable[[], None], reference: Mapping[str, Any] | None = None, instance: str = ""
) -> threading.Thread:
    """Do something in a thread of its own; what it raises is logged.

    :param reference: of the manager, and ``instance``: what it is about, for the log.
    """

    def run() -> None:
        try:
            work()
        except Exception:
            message = "The main process of a worker could not record something; recovery will"
            storage = (reference or {}).get("storage")
            uid = storage.get("uid", "") if isinstance(storage, Mapping) else ""
            about: Fields = {"action": "fail", "session": str(uid), "instance": str(instance)}
            log(logging.ERROR, message, exc_info=True, **about)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="triggers-aside")
    thread.start()
    return thread


def _is_ours(kwargs: Any) -> bool:
    return (
        isinstance(kwargs, Mapping)
        and kwargs.keys() == {"manager", "instance"}
        and isinstance(kwargs["manager"], Mapping)
        and "storage" in kwargs["manager"]
    )


def _about(manager: TriggerManager, action: Action, instance: str) -> Fields:
    return {"action": action, "session": manager.storage.uid, "instance": instance}
