"""A manager of one's own: its hooks, and an overridden ``fire``."""

from collections.abc import Mapping
from typing import Any

from triggers.manager import TriggerManager, trigger_managers
from triggers.types import FireResult, TaskInstance


@trigger_managers.register
class ShopManager(TriggerManager):
    name = "shop"
    default_task_runner_name = "synchronous"

    seen: list[str]

    def fire(
        self, trigger_name: str, trigger_kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> FireResult:
        return super().fire(trigger_name, trigger_kwargs, **options)

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        self.note(trigger_name, *(each.name for each in tasks_scheduled))

    def _post_replay(self, task_instance: TaskInstance) -> None:
        self.note("replayed", str(task_instance.metadata["parent"]))

    def _post_skip(self, task_instance: TaskInstance, cascade: bool) -> None:
        self.note("skipped", task_instance.name, str(cascade))

    def note(self, *words: str) -> None:
        self.seen = [*getattr(self, "seen", []), " ".join(words)]
