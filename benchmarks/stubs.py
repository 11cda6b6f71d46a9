"""A task that does nothing and a runner that runs nothing: what is measured is triggers itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.measure import LeftOut
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


def in_redis(url: str, runner: str | None = NoRunner.name) -> Callable[[str], TriggerManager]:
    """What makes the manager of a session in Redis.

    :param runner: name of the runner, by default the one that runs nothing.
    :raises LeftOut: the client of Redis is not installed.
    """
    try:
        from triggers.storages.redis import RedisStorageBackend
    except ImportError as missing:
        raise LeftOut(f"{missing.name} is not installed") from missing

    def manager_of(uid: str) -> TriggerManager:
        manager = TriggerManager(RedisStorageBackend(uid, url=url))
        manager.default_task_runner_name = runner
        return manager

    return manager_of
