"""Trigger tasks: the code that an instance runs, and what it is given."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from celery import Task
from celery._state import _get_active_apps, connect_on_app_finalize

from triggers.attempt import TaskRetry, TaskSkip, claim
from triggers.exceptions import MaxRetriesExceeded, with_context
from triggers.logging import LoggerContext, TaskLogger
from triggers.runners.base import execute as execute_instance
from triggers.runners.base import resolve
from triggers.types import TaskInstance

if TYPE_CHECKING:
    from triggers.manager import TriggerManager

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "MaxRetriesExceeded",
    "TaskContext",
    "TaskRetry",
    "TaskSkip",
    "TriggerTask",
    "execute",
    "trigger_task",
]


LONGEST_COOLDOWN = timedelta(days=3650)

_MESSAGE_OPTIONS = ("queue", "exchange", "routing_key", "delivery_mode", "priority")


class TaskContext:
    """What a task gets: the kwargs of the triggers, the manager, a logger.

    :ivar manager: a manager on the instance's session, for firing further triggers.
    :ivar task_instance: the instance that is running.
    """

    def __init__(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        self.manager = manager
        self.task_instance = task_instance
        self._loggers: list[TaskLogger] = []

    @property
    def instance_name(self) -> str:
        """The name of the instance that is running, such as ``t_importSubject#0``."""
        return self.task_instance.name

    @cached_property
    def trigger_kwargs(self) -> dict[str, dict[str, Any]]:
        """Kwargs by trigger name, with ``withParams`` merged under what was fired."""
        return _merge(self.task_instance.config.with_params, self.task_instance.kwargs)

    def filter_kwargs(self, filters: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Validate and transform :attr:`trigger_kwargs` with the Filters library.

        :param filters: by trigger name: filters by kwarg name, as for a ``FilterMapper``.
            Triggers that have none are left out of the result.
        :raises ValueError: some value does not pass; the message names each one, and the
            library's own messages are in the exception's context.
        """
        import filters as f

        runner = f.FilterRunner(
            f.FilterMapper({name: f.FilterMapper(dict(each)) for name, each in filters.items()}),
            {name: self.trigger_kwargs.get(name, {}) for name in filters},
        )
        if runner.is_valid():
            cleaned: dict[str, dict[str, Any]] = runner.cleaned_data
            return cleaned
        problems = [
            f"{path}: {message['message']}"
            for path, messages in runner.errors.items()
            for message in messages
        ]
        message = f"{self.instance_name} got invalid kwargs: {'; '.join(problems)}"
        raise with_context(ValueError(message), {"filter_messages": runner.errors})

    def get_logger_context(
        self, context: Mapping[str, Any] | None = None, *, logger: logging.Logger | None = None
    ) -> LoggerContext:
        """A ``with`` block that yields this instance's logger.

        :param context: values for the ``context`` attribute of every record.
        :param logger: where the records go; by default a logger named after the task.
        """
        name = self.task_instance.config.run
        fields = {
            "action": "run",
            "session": self.manager.storage.uid,
            "trigger": "",
            "task": self.task_instance.task_name,
            "instance": self.instance_name,
        }
        made = TaskLogger(logger or logging.getLogger(name), context, fields)
        self._loggers.append(made)
        return LoggerContext(made)

    @property
    def log_level(self) -> int:
        """The highest level logged so far."""
        return max((each.max_level for each in self._loggers), default=logging.NOTSET)


class TriggerTask(Task):  # type: ignore[misc]  # Celery is untyped
    """A Celery task that runs when its triggers have fired.

    Define a subclass with :meth:`_run`: it registers itself under ``name``, which is
    ``module.Class`` unless you set it. Set ``abstract = True`` on a base class of your own.

    All options of a Celery task (``time_limit``, ``rate_limit``, …) work as usual. Those that say
    where its messages go (``queue``, ``priority``, …) are kept in ``message_options``.
    """

    abstract = True
    is_trigger_task = True

    max_retries: int | None = 3
    """How often :meth:`retry` may be used in one lineage; ``None`` means without limit."""

    message_options: Mapping[str, Any] = {}
    """Options of ``apply_async`` for the messages that start it, such as ``queue``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # As attributes of a task, Celery 5.7 deprecates them; as options of a message it does not.
        own = {name: cls.__dict__[name] for name in _MESSAGE_OPTIONS if name in cls.__dict__}
        for name in own:
            delattr(cls, name)
        cls.message_options = {**cls.message_options, **own}
        if cls.__dict__.get("abstract", False):
            return
        cls.abstract = False
        if not cls.__dict__.get("name"):
            cls.name = f"{cls.__module__}.{cls.__name__}"
        _register(cls)

    def _run(self, context: TaskContext) -> Mapping[str, Any] | None:
        """Do the work.

        :returns: kwargs for the firing of the task's own name (``None`` means none).
        """
        raise NotImplementedError(f"{type(self).__name__} must define _run(self, context).")

    def retry(
        self,
        exc: BaseException | None = None,
        cooldown: float | timedelta = 0,
        replacement_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        **unsupported: Any,
    ) -> TaskRetry:
        """An exception to raise: run this again, as a new instance, after a cool-down.

        :param exc: why; by default the exception that is being handled. It is raised (under a
            :class:`~triggers.exceptions.MaxRetriesExceeded`) when ``max_retries`` is used up.
        :param cooldown: seconds to wait, or a ``timedelta``.
        :param replacement_kwargs: trigger kwargs *instead of* those of this instance.
        :raises TypeError: Celery's ``countdown`` or ``eta`` were given.
        :raises ValueError: ``cooldown`` is negative, or longer than ``LONGEST_COOLDOWN``.
        """
        if unsupported:
            given = ", ".join(sorted(unsupported))
            raise TypeError(f"retry() does not take {given}; use cooldown=SECONDS.")
        pause = cooldown if isinstance(cooldown, timedelta) else timedelta(seconds=cooldown or 0)
        if not timedelta(0) <= pause <= LONGEST_COOLDOWN:
            raise ValueError(f"cooldown must be from 0 to {LONGEST_COOLDOWN}, got {pause}.")
        return TaskRetry(exc or sys.exc_info()[1], pause, replacement_kwargs)

    def skip(self, metadata: Mapping[str, Any] | None = None) -> TaskSkip:
        """An exception to raise: end this instance as ``skipped``, without a cascade.

        :param metadata: added to the instance's metadata.
        """
        return TaskSkip(metadata)

    def run(self, manager: Mapping[str, Any], instance: str) -> Any:
        """What a Celery worker calls, with the message of a runner's ``task_kwargs``.

        :raises Exception: what the task raised, after it was recorded, so that Celery and its
            monitors see the failure too.
        """
        from triggers.manager import manager_from

        return self.execute(manager_from(manager), instance, reraise=True)

    def execute(
        self,
        manager: TriggerManager,
        instance: str,
        *,
        early: bool = False,
        reraise: bool = False,
    ) -> Mapping[str, Any] | None:
        """Run an instance to its end in this thread.

        Does nothing if the instance is not ``scheduled`` any more, or gone.

        :param early: do not wait for the end of a retry's cool-down.
        :param reraise: raise what the task raised, after it was recorded.
        :returns: what the task returned, if it finished.
        """
        attempt = claim(manager, instance, early=early)
        if attempt is None:
            return None
        context = TaskContext(manager, attempt.instance)
        try:
            try:
                returned = self._run(context)
            finally:
                attempt.log_level = context.log_level
            result = attempt.encode(returned)
        except TaskSkip as skip:
            attempt.skip(skip)
        except TaskRetry as retry:
            exceeded = attempt.retry(retry, self.max_retries)
            if reraise and exceeded is not None:
                raise exceeded from retry.exc
        except Exception as error:
            attempt.fail(error)
            if reraise:
                raise
        except BaseException as error:
            # The process is being ended; say so while it still can.
            attempt.fail(error)
            raise
        else:
            attempt.finish(result)
            return returned
        return None


def execute(manager: TriggerManager, instance: str) -> None:
    """Run a scheduled instance here and now, to its end; its errors are recorded, not raised.

    :raises InstanceNotFound: the session has no such instance.
    """
    execute_instance(manager, manager.storage[instance], early=True)


@overload
def trigger_task(function: F, /) -> TriggerTask: ...
@overload
def trigger_task(
    *, name: str | None = None, base: type[TriggerTask] = ..., **options: Any
) -> Callable[[F], TriggerTask]: ...
def trigger_task(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    base: type[TriggerTask] = TriggerTask,
    **options: Any,
) -> TriggerTask | Callable[[F], TriggerTask]:
    """Turn a function into a registered trigger task.

    The function gets the :class:`TaskContext` if it takes an argument, and its return value is
    treated like that of ``_run``. The original stays reachable as ``.function``.

    :param name: the task's name; by default ``module.function``.
    :param base: class to extend.
    :param options: as for ``celery.shared_task``: ``max_retries``, ``queue``, ``priority``,
        ``time_limit``, ….
    """

    def decorate(function: F) -> TriggerTask:
        takes_context = bool(inspect.signature(function).parameters)

        def _run(self: TriggerTask, context: TaskContext) -> Any:
            return function(context) if takes_context else function()

        attributes = {
            "name": name or f"{function.__module__}.{function.__name__}",
            "_run": _run,
            "function": staticmethod(function),
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            **options,
        }
        type(function.__name__, (base,), attributes)
        return resolve(attributes["name"])

    return decorate if function is None else decorate(function)


def _register(cls: type[TriggerTask]) -> None:
    # What celery.shared_task does for functions: tell the apps there are, and those to come.
    connect_on_app_finalize(lambda app: app.register_task(cls()))
    for app in _get_active_apps():
        if app.finalized:
            app.register_task(cls())


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings recursively; ``over`` wins."""
    merged = dict(under)
    for key, value in over.items():
        known = merged.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            value = _merge(known, value)
        merged[key] = value
    return merged
