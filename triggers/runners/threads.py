"""Execution in threads of this process."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar

from django.db import connections

from triggers.runners.base import BaseTaskRunner
from triggers.runners.synchronous import SynchronousTaskRunner
from triggers.transactions import run_postponed

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.types import TaskInstance


class ThreadingTaskRunner(BaseTaskRunner):
    """Executes each instance in a thread, at most :attr:`max_threads` of them at a time.

    Where other threads could not see the session, which is so inside the transaction that
    Django's ``TestCase`` puts around a test, it executes in place instead.
    """

    name = "threading"

    max_threads: ClassVar[int] = 32
    """How many instances run at a time; more of them wait. Read when the first one runs."""

    waits_for_cooldown: ClassVar[bool] = True
    """Whether a retry waits for its cool-down; the test kit says no."""

    _pool: ClassVar[ThreadPoolExecutor | None] = None
    _outstanding: ClassVar[int] = 0
    _changed: ClassVar[threading.Condition] = threading.Condition()

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        if manager.storage.is_confined:
            SynchronousTaskRunner().run(manager, task_instance)
            return
        delay = 0.0
        not_before = task_instance.record.not_before
        if not_before is not None and self.waits_for_cooldown:
            delay = max(0.0, (not_before - manager.storage.now()).total_seconds())
        self._count(+1)
        try:
            if delay:
                timer = threading.Timer(delay, self._submit_late, [manager, task_instance])
                timer.daemon = True
                timer.start()
            else:
                self._submit(manager, task_instance)
        except BaseException:
            self._count(-1)
            raise

    @classmethod
    def join_all(cls, timeout: float | None = None) -> None:
        """Wait until no instance runs or waits for a thread, cascades and cool-downs included.

        :param timeout: seconds to wait at most; ``None`` waits without limit.
        :raises RuntimeError: called from another thread than the main one: a task that waits for
            all tasks would wait for itself.
        :raises TimeoutError: the time was up.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "ThreadingTaskRunner.join_all() must be called from the main thread: a task that "
                "waits for all tasks would wait for itself."
            )
        run_postponed()
        with cls._changed:
            if not cls._changed.wait_for(lambda: not cls._outstanding, timeout):
                raise TimeoutError(f"{cls._outstanding} task instances are still running.")

    def _submit_late(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        try:
            self._submit(manager, task_instance)
        except RuntimeError:  # the process is ending; recovery sends it again
            self._count(-1)

    def _submit(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        cls = ThreadingTaskRunner
        with cls._changed:
            if cls._pool is None:
                cls._pool = ThreadPoolExecutor(cls.max_threads, thread_name_prefix="triggers")
        cls._pool.submit(self._execute, manager, task_instance)

    def _execute(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        try:
            self.try_to_execute(manager, task_instance, early=not self.waits_for_cooldown)
        finally:
            connections.close_all()
            self._count(-1)

    @classmethod
    def _forget_threads(cls) -> None:
        """Start afresh in a forked process, which has none of its parent's threads."""
        ThreadingTaskRunner._pool = None
        ThreadingTaskRunner._outstanding = 0
        ThreadingTaskRunner._changed = threading.Condition()

    @classmethod
    def _count(cls, change: int) -> None:
        with cls._changed:
            ThreadingTaskRunner._outstanding += change
            cls._changed.notify_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ThreadingTaskRunner._forget_threads)
