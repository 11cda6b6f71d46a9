"""Trigger tasks that the tests' worker processes run."""

from __future__ import annotations

import os
import time
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from triggers.signals import trigger_fired
from triggers.task import TaskContext, TriggerTask

ENDLESS = 120  # seconds; longer than any test waits


class Tell(TriggerTask):
    """Says who ran it, and with what."""

    def _run(self, context: TaskContext) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "message": self.request.id,
            "queue": self.request.delivery_info["routing_key"].rpartition(".")[2],
            "priority": self.request.delivery_info.get("priority"),
            "kwargs": context.trigger_kwargs,
        }


class TellSlowly(Tell):
    """The same, by a worker of its own."""

    queue = "slow"


class TellFirst(Tell):
    """The same, before others that wait in the queue."""

    # The sign of priorities depends on the broker.
    priority = 0 if os.environ.get("TRIGGERS_TESTS_BROKER", "").startswith("redis") else 9


class Again(TriggerTask):
    """Fails twice, and has itself run again a moment later."""

    max_retries = 2

    def _run(self, context: TaskContext) -> dict[str, Any]:
        if context.task_instance.record.retries < 2:
            raise self.retry(ValueError("not yet"), cooldown=0.3)
        return {"retries": context.task_instance.record.retries}


class Later(TriggerTask):
    """Has itself run again after longer than a message should wait."""

    def _run(self, context: TaskContext) -> None:
        if not context.task_instance.record.retries:
            raise self.retry(ValueError("not today"), cooldown=3600)


class TakesTooLong(TriggerTask):
    """Is killed by its worker before it ends."""

    time_limit = 1

    def _run(self, context: TaskContext) -> None:
        time.sleep(ENDLESS)


class NoticesInTime(TriggerTask):
    """Is told by its worker to come to an end."""

    soft_time_limit = 1

    def _run(self, context: TaskContext) -> dict[str, Any]:
        try:
            time.sleep(ENDLESS)
        except SoftTimeLimitExceeded:
            if context.trigger_kwargs["a"].get("tidy"):
                return {"tidied": True}
            raise
        return {}


class FiresForTooLong(TriggerTask):
    """Is told so by its worker while a receiver holds it up."""

    soft_time_limit = 1

    def _run(self, context: TaskContext) -> dict[str, Any]:
        trigger_fired.connect(dawdle)
        try:
            context.manager.fire("inside")
        except SoftTimeLimitExceeded:
            return {"tidied": True}
        finally:
            trigger_fired.disconnect(dawdle)
        return {"tidied": False}


def dawdle(trigger: str, **_arguments: Any) -> None:
    """Hold up whoever fires."""
    if trigger == "inside":
        time.sleep(ENDLESS)


class Report(TriggerTask):
    """Passes on the failure that it is started by."""

    def _run(self, context: TaskContext) -> dict[str, Any]:
        assert context.exception is not None
        return {"type": context.exception["type"]}


class Expiring(TriggerTask):
    """Is not worth doing late."""

    expires = 30

    def _run(self, context: TaskContext) -> dict[str, Any]:
        return {"ran": True}
