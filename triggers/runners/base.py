"""The base class of every runner."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from celery import current_app

from triggers.exceptions import UnknownTask
from triggers.logging import Fields, log

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.task import TriggerTask
    from triggers.types import TaskInstance


class BaseTaskRunner(ABC):
    """Executes task instances that are ready to run.

    Implement :meth:`run` and set ``name``. The other methods are there for it to use.
    """

    name: ClassVar[str]
    """The name under which the runner is registered, for ``using``."""

    @abstractmethod
    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        """Have an instance executed, once, here or elsewhere.

        Called after the instance was committed as ``scheduled``. Whatever this raises is logged,
        and recovery calls it again later; so it may also be called more than once for one
        instance, of which :meth:`~triggers.runners.base.BaseTaskRunner.execute` lets only the
        first in.

        :raises NotSent: a broker does not answer, which was logged; this call does not count.
        """

    def resolve(self, name: str) -> TriggerTask:
        """The registered trigger task of this name; its module is imported if need be.

        :param name: value of the ``run`` directive, such as ``app.tasks.ImportSubject``.
        :raises UnknownTask: there is none, or it is a Celery task that is no trigger task.
        """
        return resolve(name)

    def task_kwargs(self, manager: TriggerManager, task_instance: TaskInstance) -> dict[str, Any]:
        """Plain JSON from which another process can execute an instance.

        Pass it to ``TriggerTask.run(**task_kwargs)`` there (it is what a Celery message holds).
        """
        return {"manager": manager.reference(), "instance": task_instance.name}

    def execute(
        self, manager: TriggerManager, task_instance: TaskInstance, *, early: bool = False
    ) -> None:
        """Execute an instance here and now, to its end; its errors are recorded, not raised.

        Does nothing if the instance is not ``scheduled`` any more.

        :param early: do not wait for the end of a retry's cool-down.
        """
        execute(manager, task_instance, early=early)

    def try_to_execute(
        self, manager: TriggerManager, task_instance: TaskInstance, *, early: bool = False
    ) -> None:
        """Execute an instance as :meth:`execute` does, where nobody would be told of an error.

        What cannot be executed or recorded at all, for example because the storage is down, is
        logged and left to recovery. So the runner goes on with what else it has to do.

        :param early: do not wait for the end of a retry's cool-down.
        """
        try:
            self.execute(manager, task_instance, early=early)
        except Exception:
            message = "%s could not be executed; recovery will try again"
            name = task_instance.name
            about: Fields = {
                "action": "execute",
                "session": manager.storage.uid,
                "instance": name,
            }
            log(logging.ERROR, message, name, exc_info=True, **about)


def execute(manager: TriggerManager, task_instance: TaskInstance, *, early: bool = False) -> None:
    """See :meth:`BaseTaskRunner.execute`."""
    try:
        task = resolve(task_instance.config.run)
    except UnknownTask as error:
        manager.fail_unresolved(task_instance, error)
    else:
        task.execute(manager, task_instance.name, early=early)


def resolve(name: str) -> TriggerTask:
    """See :meth:`BaseTaskRunner.resolve`."""
    task = current_app.tasks.get(name)
    if task is None:
        module, _dot, attribute = name.rpartition(".")
        if not module:
            reason = (
                f"No trigger task {name!r} is loaded in this process, and the name does not say "
                "which module to import. Write the dotted path, such as 'orders.tasks.ship'."
            )
            raise UnknownTask(name, reason)
        hint = f" Write a dot: {name.replace(':', '.')!r}." if ":" in name else ""
        try:
            import_module(module)
        except Exception as error:  # whatever a module does when it is imported
            reason = f"No trigger task {name!r}: module {module!r} cannot be imported ({error})."
            reason += hint
            raise UnknownTask(name, reason) from error
        task = current_app.tasks.get(name)
        if task is None:
            reason = (
                f"No trigger task {name!r}: {module} registers none called {attribute!r}. Is it "
                "a subclass of triggers.task.TriggerTask, or a function with @trigger_task?"
            )
            reason = f"No trigger task {name!r}.{hint}" if hint else reason
            raise UnknownTask(name, reason)
    if not getattr(task, "is_trigger_task", False):
        reason = f"{name!r} is a Celery task but no trigger task; extend TriggerTask."
        raise UnknownTask(name, reason)
    found: TriggerTask = task
    return found
