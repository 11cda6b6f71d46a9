"""A task that does nothing and a runner that runs nothing: what is measured is triggers itself."""

from __future__ import annotations

from typing import Any

from triggers.manager import TriggerManager
from triggers.runners import task_runners
from triggers.runners.base import BaseTaskRunner
from triggers.task import TaskContext, TriggerTask
from triggers.types import TaskInstance


class FinishAtOnce(TriggerTask):
    """Finishes at once, with an empty result."""

    def _run(self, context: TaskContext) -> dict[str, Any]:
        return {}


RUN = "benchmarks.stubs.FinishAtOnce"
"""For the ``run`` directive."""


@task_runners.register
class NoRunner(BaseTaskRunner):
    """Takes every instance and does nothing with it, as if a broker took no time."""

    name = "benchmarks.none"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        pass
