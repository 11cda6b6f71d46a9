"""A manager that chooses a runner for all of its tasks, and keeps a trail of what was fired."""

from __future__ import annotations

import logging

from triggers.manager import TriggerManager
from triggers.types import TaskInstance
from triggers_example_plugins.runner import ProcessRunner

log = logging.getLogger(__name__)


class IsolatingTriggerManager(TriggerManager):
    """Runs each task in a process of its own, and logs each firing.

    A task with ``using`` runs where that says. What follows from it is this manager's again, also
    if a Celery worker has run it.
    """

    name = "isolating"
    default_task_runner_name = ProcessRunner.name

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        # Called at least once for a firing: after a crash, there may be a second line.
        started = [each.name for each in tasks_scheduled]
        about = {"session": self.storage.uid, "trigger": trigger_name, "started": started}
        log.info("%s fired in %s", trigger_name, self.storage.uid, extra=about)
