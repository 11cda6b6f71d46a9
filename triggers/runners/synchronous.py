"""Execution in place, for tests, backtests and scripts."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from triggers.runners.base import BaseTaskRunner

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.types import TaskInstance


class SynchronousTaskRunner(BaseTaskRunner):
    """Executes each instance, and all that cascades from it, before the caller goes on.

    In the order of scheduling, one after the other, never nested: a long chain of cascades does
    not deepen the stack. It does not wait for cool-downs: a retry follows at once.
    """

    name = "synchronous"

    _local = threading.local()

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        queue: deque[tuple[TriggerManager, TaskInstance]] | None
        queue = getattr(self._local, "queue", None)
        if queue is not None:
            queue.append((manager, task_instance))
            return
        queue = self._local.queue = deque([(manager, task_instance)])
        try:
            while queue:
                self.try_to_execute(*queue.popleft(), early=True)
        finally:
            self._local.queue = None
