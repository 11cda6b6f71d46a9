"""A configuration, compiled once for deciding many firings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from triggers.conditions import Condition, all_of, barred_by
from triggers.configuration import Configuration
from triggers.types import Instance, Status, TaskConfig


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task as the engine sees it.

    :ivar ready: the condition of ``after`` and ``andEvery``.
    :ivar barred: the condition of ``unless``.
    :ivar names: every trigger that either of them looks at.
    """

    config: TaskConfig
    ready: Condition
    barred: Condition
    names: tuple[str, ...]

    def open_names(self, instance: Instance) -> tuple[str, ...]:
        """The triggers that can still change this instance; none once it has been decided."""
        if instance.status is not Status.UNSTARTED:
            return ()
        taken = instance.taken
        return tuple(name for name in self.names if name not in taken)


@dataclass(frozen=True, slots=True)
class Plan:
    """All tasks of a configuration, and who listens to which trigger, in configuration order."""

    configuration: Configuration
    tasks: Mapping[str, TaskPlan]
    listeners: Mapping[str, tuple[TaskPlan, ...]]

    def listening(self, trigger: str) -> tuple[TaskPlan, ...]:
        """The tasks that name this trigger anywhere, in configuration order."""
        return self.listeners.get(trigger, ())

    def reserved_for(self, trigger: str) -> str | None:
        """The task whose outcome this name stands for (``t_x:failed``), if there is one."""
        task, mark, _outcome = trigger.partition(":")
        return task if mark and task in self.tasks else None


@lru_cache(maxsize=256)
def compile_plan(configuration: Configuration) -> Plan:
    """Compile a configuration; equal ones are compiled once per process."""
    tasks = {}
    listeners: dict[str, list[TaskPlan]] = {}
    for name, config in configuration.tasks.items():
        ready, barred = all_of(config.after), barred_by(config.unless)
        names = tuple(dict.fromkeys((*ready.names, *barred.names)))
        tasks[name] = task = TaskPlan(config, ready, barred, names)
        for trigger in names:
            listeners.setdefault(trigger, []).append(task)
    return Plan(
        configuration=configuration,
        tasks=tasks,
        listeners={trigger: tuple(found) for trigger, found in listeners.items()},
    )


EMPTY_PLAN = compile_plan(Configuration())
"""The plan of a session that has no configuration yet."""
