"""The context: what the code of a task gets to know of its instance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from triggers import payload
from triggers.exceptions import with_context
from triggers.logging import LoggerContext, TaskLogger
from triggers.types import BY_HAND, TaskInstance

if TYPE_CHECKING:
    from triggers.manager import TriggerManager


class TaskContext:
    """What a task gets: the kwargs of the triggers, the manager, a logger.

    :param is_lost: asked for :attr:`is_lost`; by default the attempt is never lost.
    :ivar manager: a manager on the instance's session, for firing further triggers.
    :ivar task_instance: the instance that is running.
    """

    def __init__(
        self,
        manager: TriggerManager,
        task_instance: TaskInstance,
        is_lost: Callable[[], bool] = bool,
    ) -> None:
        self.manager = manager
        self.task_instance = task_instance
        self._is_lost = is_lost
        self._loggers: list[TaskLogger] = []

    @property
    def instance_name(self) -> str:
        """The name of the instance that is running, such as ``t_importSubject#0``."""
        return self.task_instance.name

    @property
    def is_lost(self) -> bool:
        """Whether this attempt has lost its lease, so that nothing it reports will count.

        Another attempt of the instance may have begun. A long task looks at this before it does
        something that must not be done twice.
        """
        return self._is_lost()

    @cached_property
    def trigger_kwargs(self) -> dict[str, dict[str, Any]]:
        """Kwargs by trigger name, with ``withParams`` merged under what was fired.

        Of a trigger that was taken several times, those of the first firing that counts.
        """
        return self.task_instance.arguments

    @cached_property
    def firings(self) -> dict[str, list[dict[str, Any]]]:
        """Kwargs of all firings that are held, by trigger name, oldest first.

        Each with ``withParams`` merged under it. A trigger that ``times`` does not count has one.
        """
        params = self.task_instance.config.with_params
        return {
            name: [payload.merged(params.get(name, {}), kwargs) for kwargs in held]
            for name, held in self.task_instance.firings.items()
        }

    @property
    def trigger_name(self) -> str | None:
        """The trigger that was fired last of those held, which is the one that completed them.

        ``None`` if nobody fired: there is nothing to wait for, or several were given by hand.
        """
        return self._newest(self._held)

    @cached_property
    def results(self) -> dict[str, dict[str, Any]]:
        """What the tasks returned whose names are held, by task name."""
        tasks = self.manager.storage.tasks
        return {name: self.trigger_kwargs.get(name, {}) for name in self._held if name in tasks}

    @property
    def result(self) -> dict[str, Any] | None:
        """The one of :attr:`results` that was fired last, or ``None``."""
        name = self._newest(self.results)
        return None if name is None else self.results[name]

    @property
    def exception(self) -> dict[str, Any] | None:
        """The failure that was fired last of those held (``t_x:failed``), or ``None``.

        It has ``type``, ``types``, ``message``, ``kwargs`` and ``attempt``.
        """
        name = self._newest(each for each in self._held if each.endswith(":failed"))
        return None if name is None else self.trigger_kwargs.get(name)

    def filter_kwargs(self, filters: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Validate and transform :attr:`trigger_kwargs` with the Filters library.

        :param filters: by trigger name: filters by kwarg name, as for a ``FilterMapper``.
            Triggers that have none are left out of the result.
        :returns: what the filters made of the kwargs, by trigger name.
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

        :param context: values for the ``context`` attribute of every record; by default none.
        :param logger: where the records go; by default a logger named after the task.
        :returns: a context manager that yields a :class:`~triggers.logging.TaskLogger`.
        """
        name = self.task_instance.config.run
        fields = {
            "action": "run",
            "session": self.manager.storage.uid,
            "trigger": self.trigger_name or "",
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

    @property
    def _held(self) -> list[str]:
        config = self.task_instance.config
        return [name for name in self.task_instance.record.taken if config.passes_on(name)]

    def _newest(self, names: Iterable[str]) -> str | None:
        record = self.task_instance.record
        last = {name: max((record.taken[name], *record.counted.get(name, ()))) for name in names}
        # What was given by hand has no order; names of one firing come in the alphabet's.
        if len(last) > 1 and set(last.values()) == {BY_HAND}:
            return None
        return min(last, key=lambda name: (-last[name], name), default=None)
