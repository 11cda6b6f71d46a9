"""Two kinds of logs: the framework's own records, and the logger that a task gets.

The framework's records carry ``action``, ``session``, ``trigger``, ``task`` and ``instance`` as
attributes, so a formatter or a log store can use them without parsing messages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from triggers.exceptions import get_context

if TYPE_CHECKING:
    from triggers.types import TaskInstance

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

UNRESOLVED_LOG_LEVEL = logging.ERROR
"""Logs of a task instance count as unresolved from this level on. Assign to change it."""

_log = logging.getLogger("triggers")

_FIELDS = ("action", "session", "trigger", "task", "instance")


def log(level: int, message: str, *args: object, exc_info: Any = None, **fields: str) -> None:
    """Write a record of the framework's own.

    :param fields: any of ``action``, ``session``, ``trigger``, ``task``, ``instance``; those left
        out are empty strings on the record.
    """
    extra = {name: fields.get(name, "") for name in _FIELDS}
    _log.log(level, message, *args, exc_info=exc_info, extra=extra, stacklevel=2)


def has_unresolved_logs(instance: TaskInstance) -> bool:
    """Whether an instance logged something serious that nobody has marked as dealt with."""
    return instance.log_level >= UNRESOLVED_LOG_LEVEL and not instance.logs_resolved


class ControlFlow(Exception):
    """Base of what a task raises to say how it ends; not an error, so not logged as one."""

    log_level = logging.NOTSET


class TaskLogger(_Adapter):
    """A logger that attaches context to each record and remembers the highest level.

    :param logger: where the records go.
    :param context: values for every record's ``context`` attribute (a dict).
    :param fields: further attributes for every record.
    """

    def __init__(
        self,
        logger: logging.Logger,
        context: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(logger, dict(fields or {}))
        self.context = dict(context or {})
        self.max_level = logging.NOTSET

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, and count the level whether or not logging is configured to show it."""
        self.max_level = max(self.max_level, level)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the logger's context and fields into a record's ``extra``."""
        extra = dict(kwargs.get("extra") or {})
        context = {**self.context, **(extra.pop("context", None) or {})}
        kwargs["extra"] = {**(self.extra or {}), **extra, "context": context}
        return msg, kwargs


class LoggerContext:
    """The ``with`` block of ``get_logger_context()``: yields a :class:`TaskLogger`.

    An exception that leaves the block is logged as an error, with the context that
    :func:`triggers.exceptions.with_context` attached to it, and goes on.
    """

    def __init__(self, logger: TaskLogger) -> None:
        self.logger = logger

    def __enter__(self) -> TaskLogger:
        return self.logger

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            return
        extra = {"context": get_context(exc)}
        if isinstance(exc, ControlFlow):
            if exc.log_level:
                self.logger.log(exc.log_level, "%s", exc, extra=extra)
        else:
            self.logger.error("%s", exc or type(exc).__name__, exc_info=exc, extra=extra)
