"""Two kinds of logs: the framework's own records, and the logger that a task gets.

The framework's records carry ``action``, ``session``, ``trigger``, ``task`` and ``instance`` as
attributes, so a formatter or a log store can use them without parsing messages. All actions, and
what each record says, are listed in ``docs/reference/logging.rst``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, Unpack

from triggers.exceptions import get_context

if TYPE_CHECKING:
    from triggers.types import TaskInstance

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

UNRESOLVED_LOG_LEVEL = logging.ERROR
"""Logs of a task instance count as unresolved from this level on. Assign to change it."""

_log = logging.getLogger("triggers")

Action = Literal[
    "abandon",
    "cascade",
    "claim",
    "create",
    "dispatch",
    "drop",
    "execute",
    "fail",
    "filter",
    "finish",
    "fire",
    "heartbeat",
    "hook",
    "limit",
    "lost",
    "purge",
    "recover",
    "replay",
    "retry",
    "run",
    "schedule",
    "signal",
    "skip",
    "supervise",
    "tick",
    "unknown",
]
"""What a record is about."""


class Fields(TypedDict, total=False):
    """The attributes of a record; those that are left out are empty strings on it.

    A task that is left out is taken from the name of the instance.

    :ivar action: what the record is about.
    :ivar session: uid of the session.
    :ivar trigger: name of the trigger.
    :ivar task: name of the task.
    :ivar instance: name of the instance.
    """

    action: Required[Action]
    session: str
    trigger: str
    task: str
    instance: str


def log(
    level: int, message: str, *args: object, exc_info: Any = None, **fields: Unpack[Fields]
) -> None:
    """Write a record of the framework's own.

    A message that does not name the session gets it at its end, for those who read plain text.

    :param level: a level of :mod:`logging`, such as ``logging.INFO``.
    :param message: with ``%s`` and the like for each of ``args``.
    :param exc_info: as for ``logging.Logger.log``; by default none.
    :param args: values for the message.
    :param fields: the attributes of the record.
    """
    if not _log.isEnabledFor(level):
        return
    session, instance = fields.get("session", ""), fields.get("instance", "")
    if session and session not in args:
        # Without arguments, logging would leave the message as it is.
        escaped = message if args else message.replace("%", "%%")
        message, args = escaped + " (session %r)", (*args, session)
    extra = {
        "action": fields["action"],
        "session": session,
        "trigger": fields.get("trigger", ""),
        "task": fields.get("task") or instance.rpartition("#")[0],
        "instance": instance,
    }
    _log.log(level, message, *args, exc_info=exc_info, extra=extra, stacklevel=2)


def is_shown(level: int) -> bool:
    """Whether a record of the framework's own would be shown; cheap to ask.

    :param level: a level of :mod:`logging`.
    """
    return _log.isEnabledFor(level)


def has_unresolved_logs(instance: TaskInstance) -> bool:
    """Whether an instance logged something serious that nobody has marked as dealt with."""
    return instance.log_level >= UNRESOLVED_LOG_LEVEL and not instance.logs_resolved


class ControlFlow(Exception):
    """Base of what a task raises to say how it ends; not an error, so not logged as one."""

    log_level = logging.NOTSET
    """The level of :mod:`logging` at which it is logged; ``NOTSET``: it is not."""


class TaskLogger(_Adapter):
    """A logger that attaches context to each record and remembers the highest level.

    :param logger: where the records go.
    :param context: values for every record's ``context`` attribute (a dict); by default none.
    :param fields: further attributes for every record; by default none.
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
        """Log, and count the level whether or not logging is configured to show it.

        :param level: a level of :mod:`logging`.
        :param msg: with ``%s`` and the like for each of ``args``.
        :param args: values for the message.
        :param kwargs: as for ``logging.Logger.log``, such as ``extra`` and ``exc_info``.
        """
        self.max_level = max(self.max_level, level)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the logger's context and fields into a record's ``extra``.

        :param msg: the message, which stays as it is.
        :param kwargs: the keyword arguments of the logging call.
        :returns: both, as ``logging.LoggerAdapter`` wants it.
        """
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
