"""What is different while a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from triggers import runners
from triggers.runners.threads import ThreadingTaskRunner
from triggers.transactions import forget_postponed


@contextmanager
def run_tasks_locally(runner: str = ThreadingTaskRunner.name) -> Iterator[None]:
    """Run tasks in this process, and retries at once.

    :param runner: name of the runner that takes the place of Celery for the length of the block.
        A task's ``using`` and a manager's ``default_task_runner_name`` still go first.
    :returns: a context manager.
    """
    before = runners.TESTING_TASK_RUNNER, ThreadingTaskRunner.waits_for_cooldown
    runners.TESTING_TASK_RUNNER, ThreadingTaskRunner.waits_for_cooldown = runner, False
    try:
        yield
    finally:
        runners.TESTING_TASK_RUNNER, ThreadingTaskRunner.waits_for_cooldown = before
        forget_postponed()
