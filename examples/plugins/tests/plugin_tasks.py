"""Tasks that tell where they ran, and tasks that do what no task should."""

import os
from collections.abc import Mapping
from typing import Any

from triggers.task import TaskContext, trigger_task


@trigger_task
def tell(context: TaskContext) -> Mapping[str, Any]:
    print("what a task prints is no order")  # noqa: T201  # on purpose
    return {"pid": os.getpid(), "parent": os.getppid(), "kwargs": context.trigger_kwargs}


@trigger_task
def fail(context: TaskContext) -> None:
    raise LookupError("no such applicant")


@trigger_task
def crash(context: TaskContext) -> None:
    os._exit(7)
