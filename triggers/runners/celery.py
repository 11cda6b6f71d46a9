"""Execution by Celery workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import current_app

from triggers.exceptions import UnknownTask
from triggers.runners.base import BaseTaskRunner

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.types import TaskInstance


class CeleryTaskRunner(BaseTaskRunner):
    """Sends a Celery message for each instance; routing and queues are Celery's own.

    The message names the manager, the storage and the instance; kwargs stay in the storage.
    """

    name = "celery"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        kwargs = self.task_kwargs(manager, task_instance)
        options: dict[str, Any] = {}
        not_before = task_instance.record.not_before
        if not_before is not None:
            wait = (not_before - manager.storage.now()).total_seconds()
            options["countdown"] = max(0.0, wait)
        name = task_instance.config.run
        try:
            task = self.resolve(name)
        except UnknownTask:
            # The workers may know a task that this process does not even have installed.
            current_app.send_task(name, kwargs=kwargs, **options)
        else:
            task.apply_async(kwargs=kwargs, **{**task.message_options, **options})
