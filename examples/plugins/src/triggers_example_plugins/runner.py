"""A runner that starts each task in a Python process of its own.

A task that leaks memory, changes what is global, or crashes the interpreter then harms no other.
Plain processes and no process pool, as the workers of Celery may not have one.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner
from triggers.types import TaskInstance

log = logging.getLogger(__name__)

CHILD = "triggers_example_plugins.child"


class ProcessRunner(BaseTaskRunner):
    """Runs each instance in a process of its own, at most :attr:`max_processes` at a time.

    The process is started with this one's environment: ``DJANGO_SETTINGS_MODULE`` must be set.
    What waits for its turn is in memory only. If this process ends, recovery sends it again, for
    the instance is still ``scheduled`` in the storage.
    """

    name = "process"

    max_processes: ClassVar[int] = os.cpu_count() or 1
    """How many processes run at a time. Read when the first one is started."""

    hand_over: ClassVar[Callable[[str], None] | None] = None
    """Where orders go instead: from a child to the process that has started it (:data:`CHILD`)."""

    _pool: ClassVar[ThreadPoolExecutor | None] = None

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        if manager.storage.is_confined:
            # Inside Django's TestCase: another process would not see the session.
            self.execute(manager, task_instance, early=True)
            return
        not_before = task_instance.record.not_before
        if not_before is not None and not_before > manager.storage.now():
            return  # a retry with a cool-down, at whose end recovery calls us again
        order = json.dumps(self.task_kwargs(manager, task_instance))
        if ProcessRunner.hand_over is not None:
            ProcessRunner.hand_over(order)
        else:
            self._submit(order)

    def _submit(self, order: str) -> None:
        if ProcessRunner._pool is None:
            ProcessRunner._pool = ThreadPoolExecutor(self.max_processes, "triggers-process")
        ProcessRunner._pool.submit(self._work_off, order)

    def _work_off(self, order: str) -> None:
        """Run an instance, and see to it that what follows from it is run."""
        orders = deque([order])
        while orders:
            for following in _run_in_process(orders.popleft()):
                try:
                    self._submit(following)
                except RuntimeError:  # this process is ending, and takes on nothing new
                    orders.append(following)

    @classmethod
    def _forget_threads(cls) -> None:
        """Start afresh in a forked process, which has none of its parent's threads."""
        ProcessRunner._pool = None


def _run_in_process(order: str) -> list[str]:
    """Have a process carry out an order; the orders that follow from it."""
    done = subprocess.run(
        [sys.executable, "-m", CHILD],
        input=order,
        stdout=subprocess.PIPE,  # its errors, and what the task prints, go where ours go
        env=_environment(),
        text=True,
        check=False,
    )
    if done.returncode:
        instance = json.loads(order)["instance"]
        message = "The process of %s ended with status %d; recovery looks after the instance"
        log.error(message, instance, done.returncode)
    return done.stdout.splitlines()


def _environment() -> dict[str, Any]:
    """The environment in which another Python finds the modules that this one finds."""
    path = os.pathsep.join(each or "." for each in sys.path)
    return {**os.environ, "PYTHONPATH": path}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ProcessRunner._forget_threads)
