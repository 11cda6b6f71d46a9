"""A runner of one's own: it says what it starts, and executes it in place."""

from typing import Any, assert_type

from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner, task_runners
from triggers.task import TriggerTask
from triggers.types import TaskInstance


@task_runners.register
class AnnouncingRunner(BaseTaskRunner):
    name = "announcing"

    announced: list[str] = []

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        task = self.resolve(task_instance.config.run)
        assert_type(task, TriggerTask)
        assert_type(self.task_kwargs(manager, task_instance), dict[str, Any])
        self.announced.append(f"{task.name} for {task_instance.name}")
        self.execute(manager, task_instance)
