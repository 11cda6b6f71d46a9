"""Every error that this package raises, in one tree.

Each class also subclasses the built-in that a caller would expect to catch, carries its data as
attributes, and reads as a sentence that says what to do. Nothing here imports anything else.

Longer than 400 lines because all errors of the package stand in one tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)

_CONTEXT_ATTRIBUTE = "triggers_context"


class TriggersError(Exception):
    """Base class of all errors of this package. They can be pickled, for process pools."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args), dict(vars(self))


class ConfigurationError(TriggersError, ValueError):
    """A task configuration cannot be used; nothing of it was stored.

    :ivar problems: pairs of (path of the bad value, what is wrong with it).
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {problem}" for path, problem in self.problems))


class ReplacementRefused(ConfigurationError):
    """Tasks cannot be replaced while some of their instances are not done; nothing was stored.

    Whatever became of these instances under the new conditions would be a guess.

    :ivar refusals: (task, names of its instances, what speaks against it), one for each reason.
    :ivar tasks: the tasks that cannot be replaced.
    :ivar instances: names of all instances that are in the way.
    """

    def __init__(self, refusals: Sequence[tuple[str, Sequence[str], str]]) -> None:
        self.refusals = tuple((task, tuple(names), reason) for task, names, reason in refusals)
        self.tasks = tuple(dict.fromkeys(task for task, _names, _reason in self.refusals))
        in_the_way = (name for _task, names, _reason in self.refusals for name in names)
        self.instances = tuple(dict.fromkeys(in_the_way))
        super().__init__([(task, reason) for task, _names, reason in self.refusals])
        advice = (
            "Let these instances finish first, give them up with update_instance_status(name, "
            "'abandoned'), or give the new task a name of its own."
        )
        self.args = (f"{self}\n{advice}",)


class ConfigurationWarning(UserWarning):
    """A configuration that can be used, but probably does not mean what its author thinks."""


class SettingsError(TriggersError, ValueError):
    """The ``TRIGGERS`` setting, or an option of a storage, does not describe a usable set-up."""


class MissingPackages(SettingsError):
    """A storage needs Python packages that are not installed.

    :ivar packages: their names, as ``pip install`` takes them.
    """

    def __init__(self, storage: str, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)
        super().__init__(
            f"The {storage} storage needs packages that are not installed. Run: pip install "
            f"{' '.join(self.packages)}"
        )


class InvalidTrigger(TriggersError, ValueError):
    """This trigger name cannot be fired.

    :ivar trigger: the name.
    """

    def __init__(self, trigger: object, reason: str) -> None:
        self.trigger = trigger
        super().__init__(f"Cannot fire {trigger!r}: {reason}")


class InvalidUid(TriggersError, ValueError):
    """A session uid must be a non-empty string of at most 255 characters.

    :ivar uid: the value that was given.
    """

    def __init__(self, uid: object, reason: str) -> None:
        self.uid = uid
        super().__init__(f"{uid!r} is no session uid: {reason}")


class InvalidPayload(TriggersError, TypeError):
    """Kwargs or a result that cannot be stored as JSON.

    :ivar path: what it is and where in it, such as ``kwargs of 'order'.responses.birthday``.
    :ivar value_type: the name of the type found there.
    """

    def __init__(self, path: str, value_type: str, reason: str) -> None:
        self.path = path
        self.value_type = value_type
        super().__init__(f"{path or 'payload'}: {reason}")


class PayloadTooLarge(TriggersError, ValueError):
    """A payload above the limit.

    :ivar size: bytes of UTF-8 JSON.
    :ivar limit: bytes allowed.
    """

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"{what} takes {size:,} bytes as JSON; the limit is {limit:,}. Store the data "
            "elsewhere and pass its key, or raise OPTIONS['payload_limit'] in TRIGGERS."
        )


class IdempotencyConflict(TriggersError, ValueError):
    """An idempotency key was used again with different kwargs.

    :ivar trigger: the trigger name.
    :ivar key: the key.
    :ivar seq: sequence number of the firing that has the key; ``None`` while it is pending.
    """

    def __init__(self, trigger: str, key: str, seq: int | None) -> None:
        self.trigger = trigger
        self.key = key
        self.seq = seq
        firing = f"firing {seq}" if seq is not None else "a pending firing"
        super().__init__(
            f"Idempotency key {key!r} of trigger {trigger!r} belongs to {firing}, which had other "
            "kwargs. Use one key for one event only."
        )


class UnknownBackend(TriggersError, LookupError):
    """A registry has no class of this name, could not load it, or cannot take it.

    :ivar group: the entry point group, such as ``triggers.storages``.
    :ivar name: the name asked for.
    :ivar entry_points: the entry points of this name that are to blame, each as text: how it is
        declared, and by which distribution. Empty if none is.
    """

    def __init__(
        self, group: str, name: object, reason: str, entry_points: Sequence[str] = ()
    ) -> None:
        self.group = group
        self.name = name
        self.entry_points = tuple(entry_points)
        super().__init__(reason)


class UnknownTask(TriggersError, LookupError):
    """No trigger task is registered under this name in this process, or a session has no such task.

    :ivar name: the name asked for: the value of a ``run`` directive, or the name of a task.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(reason)


class CannotRegister(TriggersError, TypeError, ValueError):
    """This function cannot be called by name from a configuration.

    :ivar kind: ``"predicate"`` or ``"provider"``.
    :ivar function: what was to be registered.
    """

    def __init__(self, kind: str, function: object, reason: str) -> None:
        self.kind = kind
        self.function = function
        name = getattr(function, "__qualname__", None) or repr(function)
        super().__init__(f"Cannot register {name} as a {kind}: {reason}")


class UnregisteredFunction(TriggersError, LookupError):
    """No predicate, or no provider, is registered under this name in this process.

    :ivar kind: ``"predicate"`` or ``"provider"``.
    :ivar name: the name asked for.
    """

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        self.kind = kind
        self.name = name
        if any(mark in name for mark in ".:"):
            hint = f"An import path is not accepted: write the name given to @{kind}(…)."
        else:
            hint = (
                f"Put it under @{kind}({name!r}) in a module that every process imports, such as "
                "the workflows.py of an installed app."
            )
        registered = ", ".join(known) or "none"
        super().__init__(f"No {kind} is registered as {name!r} (registered: {registered}). {hint}")


class PredicateFailed(TriggersError, ValueError):
    """A predicate raised an exception (the ``__cause__``) instead of giving an answer.

    :ivar predicate: its name.
    :ivar trigger: the trigger that was fired; empty if that is not known.
    :ivar reason: what it raised, as text.
    """

    def __init__(self, predicate: str, trigger: str, reason: str) -> None:
        self.predicate = predicate
        self.trigger = trigger
        self.reason = reason
        super().__init__(predicate, trigger, reason)

    def __str__(self) -> str:
        of = f" for {self.trigger!r}" if self.trigger else ""
        return f"The predicate {self.predicate!r} failed{of}: {self.reason}"


class InstanceNotFound(TriggersError, KeyError):
    """The session has no task instance of this name.

    :ivar instance: the name asked for.
    """

    def __init__(self, instance: object, hint: str = "") -> None:
        self.instance = instance
        super().__init__(instance)
        self._hint = hint

    def __str__(self) -> str:
        return f"{self.instance!r}" + (f" ({self._hint})" if self._hint else "")


class InvalidTransition(TriggersError, ValueError):
    """A task instance cannot go from its status to the one asked for.

    :ivar instance: the instance name.
    :ivar status: its present status.
    :ivar wanted: the status asked for.
    """

    def __init__(self, instance: str, status: str, wanted: str, allowed: Sequence[str]) -> None:
        self.instance = instance
        self.status = status
        self.wanted = wanted
        can = f"it can become {', '.join(allowed)}" if allowed else "that status is final"
        super().__init__(f"{instance} is {status} and cannot become {wanted}: {can}.")


class CascadeTooDeep(TriggersError, RecursionError):
    """So many cascades followed from one another that it must be a circle; it was stopped.

    :ivar instance: the last instance of the chain; it failed, and its name was not fired.
    :ivar limit: how many cascades may follow from one another.
    """

    def __init__(self, instance: str, limit: int) -> None:
        self.instance = instance
        self.limit = limit
        super().__init__(
            f"{instance} ended a chain of {limit:,} cascades, so its own was not fired. Do its "
            "tasks start each other in a circle?"
        )


class SessionClosed(TriggersError, RuntimeError):
    """The session takes no more firings or tasks from outside; nothing of this was stored.

    :ivar phase: ``closed``, ``cancelled`` or ``purged``.
    :ivar uid: the session; empty until it is known.
    """

    def __init__(self, phase: str, uid: str = "") -> None:
        self.phase = phase
        self.uid = uid
        super().__init__(phase, uid)

    def __str__(self) -> str:
        what = {
            "closed": "only what has begun in it goes on",
            "cancelled": "nothing in it goes on",
            "purged": "its data have been removed",
        }
        session = f"Session {self.uid!r}" if self.uid else "The session"
        return f"{session} is {self.phase}: {what[self.phase]}. Use another session uid."


class SessionFull(TriggersError, OverflowError):
    """The session has recorded as many firings as it may; this one was not stored.

    :ivar limit: how many it may record.
    :ivar uid: the session; empty until it is known.
    """

    def __init__(self, limit: int, uid: str = "") -> None:
        self.limit = limit
        self.uid = uid
        super().__init__(limit, uid)

    def __str__(self) -> str:
        session = f"Session {self.uid!r}" if self.uid else "The session"
        return (
            f"{session} has recorded {self.limit:,} firings, which is its limit. Begin another "
            "session, or raise OPTIONS['firings_limit'] in TRIGGERS."
        )


class TaskExpired(TriggersError, TimeoutError):
    """An instance was not started within the time that its task's ``expires`` allows.

    :ivar instance: the instance, which has failed.
    :ivar expires: the time allowed.
    :ivar waited: how long it had been ready to be started.
    """

    def __init__(self, instance: str, expires: timedelta, waited: timedelta) -> None:
        self.instance = instance
        self.expires = expires
        self.waited = waited
        super().__init__(
            f"{instance} was not started within {expires} of being ready, but after {waited}. "
            "Are there enough workers for its queue?"
        )


class WorkerLost(TriggersError, RuntimeError):
    """The workers that had started an instance were not heard of again, too many times.

    :ivar instance: the instance, which has failed.
    :ivar attempts: how many workers were lost.
    """

    def __init__(self, instance: str, attempts: int) -> None:
        self.instance = instance
        self.attempts = attempts
        super().__init__(
            f"{instance} was started {attempts} times, and each time its worker was not heard of "
            "again. Does the task end its process, or use up its memory?"
        )


class NotSent(TriggersError, ConnectionError):
    """A runner could not hand an instance on for now, as its broker does not answer.

    A runner raises it when it has said so in the log. Recovery tries again a minute later.

    :ivar instance: name of the instance.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        super().__init__(f"{instance} was not sent, and the log says why; recovery sends it later.")


class StorageUnavailable(TriggersError, ConnectionError):
    """The storage's server did not do its part; nothing of this operation was stored.

    One case cannot be told apart: a connection that breaks while the server commits. Who must
    know repeats the firing with the same idempotency key.

    :ivar storage: the storage's name.
    """

    def __init__(self, storage: str, reason: str) -> None:
        self.storage = storage
        super().__init__(f"The {storage} storage is unavailable: {reason}")


class StateVersionError(TriggersError, RuntimeError):
    """The stored session was written by a newer version of this package; it was left untouched.

    :ivar uid: the session.
    :ivar found: the version of the stored state.
    :ivar known: the newest version that this process knows.
    """

    def __init__(self, uid: str, found: int, known: int) -> None:
        self.uid = uid
        self.found = found
        self.known = known
        super().__init__(
            f"Session {uid!r} is stored as version {found}; this process knows up to {known}. "
            "Upgrade the triggers package here."
        )


class MaxRetriesExceeded(TriggersError, RuntimeError):
    """A task asked for one more retry than ``max_retries`` allows.

    The exception that led to the retry is the ``__cause__``.

    :ivar instance: the instance that failed.
    :ivar max_retries: the limit.
    """

    def __init__(self, instance: str, max_retries: int) -> None:
        self.instance = instance
        self.max_retries = max_retries
        super().__init__(f"{instance} has used all of its {max_retries} retries.")


def _made_again(cls: type[TriggersError], args: tuple[Any, ...]) -> TriggersError:
    # Not by the constructor, which takes other arguments than the message that it makes of them.
    made = cls.__new__(cls)
    BaseException.__init__(made, *args)
    return made


def class_names(cls: type) -> list[str]:
    """Names of a class and its bases, from the class up, each simple and qualified.

    :param cls: the class.
    """
    names = []
    for each in cls.__mro__[:-1]:
        names += [each.__qualname__, f"{each.__module__}.{each.__qualname__}"]
    return names


def with_context(exc: E, context: Mapping[str, Any]) -> E:
    """Attach values to an exception that help to find out why it was raised.

    They reach the log record and the ``metadata`` of the failed instance, not the message.

    :param exc: the exception; it is returned, so that ``raise with_context(…)`` works.
    :param context: names and values; added to those attached before.
    :returns: the exception itself.
    """
    setattr(exc, _CONTEXT_ATTRIBUTE, {**get_context(exc), **context})
    return exc


def get_context(exc: BaseException) -> dict[str, Any]:
    """The values that :func:`with_context` attached to an exception (empty if none).

    :param exc: the exception.
    """
    return dict(getattr(exc, _CONTEXT_ATTRIBUTE, {}))
