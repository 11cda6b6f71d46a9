"""A runner of one's own, as ``my_app.triggers.runners`` has it."""

from __future__ import annotations

from typing import ClassVar

from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner
from triggers.types import TaskInstance


class AwsLambdaRunner(BaseTaskRunner):
    """Notes what it would send, and runs it in place."""

    name = "aws_lambda"
    sent: ClassVar[list[str]] = []

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        self.sent.append(task_instance.name)
        self.execute(manager, task_instance)
