"""What the sessions of ``test_plugins.py`` run: a task that says where it is."""

from __future__ import annotations

import os
from typing import Any

from triggers.task import TaskContext, trigger_task


@trigger_task
def where(context: TaskContext) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "manager": type(context.manager).__qualname__,
        "storage": type(context.manager.storage).__qualname__,
    }
