"""The values that people and plug-ins see: statuses, task configurations, instances, results.

All of them are read-only. What they hold can be handed out, pickled or logged without a storage.

Longer than 400 lines because each field and property is explained where people look for it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NoReturn, Protocol

from triggers import payload
from triggers.exceptions import InstanceNotFound, InvalidPayload, InvalidTrigger, InvalidUid

UID_LIMIT = 255
"""Characters of a session uid."""

NAME_LIMIT = 255
"""Characters of a task name, a trigger name or an idempotency key."""

BY_HAND = 0
"""In place of a firing's sequence number: these kwargs were given by hand."""

SESSION_FINALIZED = "sessionFinalized"
"""The trigger that a session fires, if it was declared to, when nothing is left to do."""


class Status(StrEnum):
    """Where a task instance is in its life; a ``str``, so it compares with ``"finished"``."""

    UNSTARTED = "unstarted"
    """It waits for some of its triggers."""
    SCHEDULED = "scheduled"
    """It is ready; a runner was told, or will be, and no worker has started it yet."""
    RUNNING = "running"
    """A worker has started it."""
    FINISHED = "finished"
    """The task returned, and its result was fired."""
    FAILED = "failed"
    """The task raised, or its workers were lost; it waits for somebody to replay or skip it."""
    REPLAYED = "replayed"
    """It had failed, or was to be retried, and another instance took its place."""
    SKIPPED = "skipped"
    """It was given up, by the task itself or by hand."""
    ABANDONED = "abandoned"
    """It will never run: its ``unless`` held first, its time was up, or the session was
    cancelled."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        known = [each.value for each in cls]
        alike = get_close_matches(str(value), known, 1)
        hint = f"; did you mean {alike[0]!r}?" if alike else "."
        raise ValueError(f"there is no status {value!r}{hint} There are: {', '.join(known)}.")

    @property
    def is_resolved(self) -> bool:
        """Whether nothing more can happen to an instance that has this status."""
        return self in _RESOLVED


class Phase(StrEnum):
    """Where a session is in its life; a ``str``, so it compares with ``"closed"``.

    ``closed``: nothing comes in from outside any more; ``cancelled``: nothing follows either;
    ``purged``: only the fact that it existed is left.
    """

    OPEN = "open"
    """It takes firings and tasks."""
    CLOSED = "closed"
    """Nothing comes in from outside any more; what has begun goes on."""
    CANCELLED = "cancelled"
    """Nothing follows either; what was not started is abandoned."""
    PURGED = "purged"
    """Only the fact that it existed is left."""


_RESOLVED = frozenset({Status.FINISHED, Status.REPLAYED, Status.SKIPPED, Status.ABANDONED})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """One task of a configuration.

    :ivar name: the task's name, such as ``t_importSubject``.
    :ivar run: name of the registered trigger task (a Celery task) that does the work.
    :ivar after: names of the triggers that its ``after`` looks at, and ``and_every``.
    :ivar unless: names of the triggers that its ``unless`` looks at.
    :ivar and_every: the trigger that makes further instances, or ``None``.
    :ivar using: name of the runner, or ``None`` for the manager's default.
    :ivar directives: the configuration as it was given, in plain JSON.
    """

    name: str
    run: str
    after: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()
    and_every: str | None = None
    using: str | None = None
    directives: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def with_params(self) -> dict[str, dict[str, Any]]:
        """Static kwargs by trigger name (a fresh copy)."""
        return copy.deepcopy(dict(self.directives.get("withParams") or {}))

    @property
    def extras(self) -> dict[str, Any]:
        """The custom directives (a fresh copy)."""
        return {
            name: copy.deepcopy(value)
            for name, value in self.directives.items()
            if name not in KNOWN_DIRECTIVES
        }

    extra = extras
    """The same as :attr:`extras`."""

    def passes_on(self, name: str) -> bool:
        """Whether the task gets the kwargs that an instance holds under a name: not of ``unless``.

        What was decided before its task was replaced may hold other names, and gets those too.

        :param name: a trigger, or an outcome.
        """
        return name in self.after or name not in self.unless

    def __repr__(self) -> str:
        return f"<TaskConfig {self.name!r}>"


KNOWN_DIRECTIVES = frozenset(
    {
        "after",
        "andEvery",
        "unless",
        "when",
        "within",
        "fresh",
        "atMostEvery",
        "debounce",
        "withParams",
        "withArgs",
        "using",
        "run",
    }
)
"""Directives with a meaning of their own; any other is kept as an extra."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One firing of a trigger, as it is recorded.

    :ivar seq: position in the session's history, from 1.
    :ivar trigger: the name fired.
    :ivar kwargs: JSON text (see :mod:`triggers.payload`).
    :ivar at: when it was decided, aware UTC.
    :ivar key: the caller's idempotency key, or ``None``.
    :ivar cause: name of the instance whose outcome it is, or ``None`` for the outside world.
    :ivar also: further names that were fired with it, as one.
    :ivar refused: why it did not count for a task, by task name.
    """

    seq: int
    trigger: str
    kwargs: str
    at: datetime
    key: str | None = None
    cause: str | None = None
    also: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FireResult:
    """What one call of ``fire`` did.

    :ivar seq: sequence number of the firing; ``None`` while it is pending.
    :ivar created: names of the instances that it created.
    :ivar scheduled: names of the instances that it made ready to run.
    :ivar abandoned: names of the instances that it ruled out.
    :ivar duplicate: the idempotency key was known: nothing was done.
    :ivar pending: recorded in the caller's transaction, to be decided right after its commit.
    """

    seq: int | None = None
    created: tuple[str, ...] = ()
    scheduled: tuple[str, ...] = ()
    abandoned: tuple[str, ...] = ()
    duplicate: bool = False
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a session has come, without its contents.

    :ivar phase: whether it still takes firings.
    :ivar seq: sequence number of its latest firing, 0 before the first.
    :ivar changed_at: the session's time: when it was last decided on; ``None`` if never.
    :ivar manager: name of the manager class that configured it; ``None`` if nobody did.
    """

    phase: Phase = Phase.OPEN
    seq: int = 0
    changed_at: datetime | None = None
    manager: str | None = None


@dataclass(frozen=True, kw_only=True)
class Instance:
    """The stored state of one task instance.

    The engine works on these. It knows kwargs only by the sequence number of the firing that
    brought them, so a payload is stored once however many instances take it.

    :ivar task: the task's name.
    :ivar number: position among the task's instances, from 0.
    :ivar status: its status.
    :ivar taken: sequence number of the firing taken, by trigger name (``unless`` included).
    :ivar created_at: when it was created, aware UTC.
    :ivar changed_at: when its status last changed, aware UTC.
    :ivar replacement: kwargs by trigger name, as JSON text, that were given by hand; ``None`` if
        none were.
    :ivar result: what the task returned, as JSON text, or ``None``.
    :ivar metadata: plain JSON: ``exception``, ``traceback``, ``parent``, ``log_level``, ….
    :ivar attempt: how many times a worker has started it.
    :ivar token: the running attempt's fence; who does not hold it cannot report an outcome;
        ``None`` if there is none.
    :ivar due_at: when recovery should look at it again, or ``None``: while it runs, the end of the
        worker's lease.
    :ivar not_before: the earliest start (a retry's cool-down), or ``None``.
    :ivar sends: how many times it was handed to a runner after the first time.
    :ivar lineage: number of the instance that this one retries or replays, first of its line.
    :ivar retries: how many retries of the lineage came before it.
    :ivar depth: how many cascades led to it, one from the other (0: none).
    :ivar counted: sequence numbers of all firings held, by the names that are held more than once:
        those with ``times``, oldest first; of a debounced burst that lasts, the first and the last.
    :ivar told: of the first instance of a lineage: the tasks that have taken its outcome, by name.
    :ivar timer_at: when time alone may change it next, or ``None``.
    :ivar decided_by: sequence number of the firing that scheduled or abandoned it; ``None`` if that
        was time, or somebody by hand.
    """

    task: str
    number: int
    status: Status
    taken: Mapping[str, int]
    created_at: datetime
    changed_at: datetime
    replacement: str | None = None
    result: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    token: str | None = None
    due_at: datetime | None = None
    not_before: datetime | None = None
    sends: int = 0
    lineage: int = 0
    retries: int = 0
    depth: int = 0
    counted: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    told: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timer_at: datetime | None = None
    decided_by: int | None = None

    @property
    def name(self) -> str:
        """The instance's name, such as ``t_x#0``."""
        return f"{self.task}#{self.number}"

    @property
    def is_ongoing(self) -> bool:
        """Whether something may happen to it by itself, or must be done about it.

        Of what waits, only what time alone may change.
        """
        if self.status is Status.UNSTARTED:
            return self.timer_at is not None
        return not self.status.is_resolved

    @classmethod
    def new(cls, task: str, number: int, now: datetime, **fields: Any) -> Instance:
        """An unstarted instance that begins now, as the first of its lineage unless told otherwise.

        Several times faster than the constructor, as :meth:`but` is.

        :param task: the task's name.
        :param number: position among the task's instances, from 0.
        :param now: when it begins, aware UTC.
        :param fields: what is other than at the beginning, by name.
        """
        made = object.__new__(cls)
        made.__dict__.update(
            _UNSTARTED,
            task=task,
            number=number,
            taken={},
            created_at=now,
            changed_at=now,
            lineage=number,
            metadata={},
            counted={},
            told={},
        )
        made.__dict__.update(fields)
        return made

    def but(self, **fields: Any) -> Instance:
        """A copy with other values in some fields; several times faster than ``replace``.

        Deciding a firing consists of little else. It is why this class alone has no slots.

        :param fields: the new values, by name.
        """
        made = object.__new__(Instance)
        made.__dict__.update(self.__dict__)
        made.__dict__.update(fields)
        return made


_UNSTARTED = {each.name: each.default for each in fields(Instance)} | {"status": Status.UNSTARTED}
"""What a new instance begins with where nobody says otherwise; what has no default is given."""


class InstanceSource(Protocol):
    """Where an instance that people see finds what its record does not hold."""

    def firings(self, record: Instance) -> dict[str, list[dict[str, Any]]]:
        """Kwargs of all firings that it holds, by name, oldest first.

        :param record: the stored state of the instance.
        """
        ...

    def is_ready(self, record: Instance) -> bool:
        """Whether its ``after`` and ``andEvery`` hold.

        :param record: the stored state of the instance.
        """
        ...

    def is_barred(self, record: Instance) -> bool:
        """Whether its ``unless`` holds.

        :param record: the stored state of the instance.
        """
        ...


class TaskInstance:
    """One execution of a task in a session, as it was when it was read.

    Obtained from a storage (``storage.instances["t_x#0"]``), never made by hand.

    :param record: its stored state, or what reads that when it is needed.
    :param config: the task's configuration.
    :param source: where to find what the record does not hold.
    """

    __slots__ = ("_read", "_source", "config")

    def __init__(
        self,
        record: Instance | Callable[[], Instance],
        config: TaskConfig,
        source: InstanceSource,
    ) -> None:
        # Many runners need no more than the name of the task; reading the rest can wait.
        self._read = record
        self.config = config
        self._source = source

    @property
    def record(self) -> Instance:
        """The stored state, for the framework."""
        known = self._read
        if not isinstance(known, Instance):
            known = self._read = known()
        return known

    def __repr__(self) -> str:
        return f"<TaskInstance {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskInstance):
            return NotImplemented
        return self.record == other.record

    def __hash__(self) -> int:
        return hash((self.record.task, self.record.number))

    @property
    def name(self) -> str:
        """The instance's name, such as ``t_importSubject#0``."""
        return self.record.name

    @property
    def task_name(self) -> str:
        """The task's name, such as ``t_importSubject``."""
        return self.record.task

    @property
    def number(self) -> int:
        """Position among the task's instances, from 0."""
        return self.record.number

    @property
    def status(self) -> Status:
        """The status, which is also a plain ``str``."""
        return self.record.status

    @property
    def kwargs(self) -> dict[str, dict[str, Any]]:
        """Kwargs of the ``after`` and ``andEvery`` triggers taken so far, by trigger name.

        A fresh copy; changing it changes nothing that is stored.
        """
        held = self._source.firings(self.record)
        return {name: firings[0] for name, firings in held.items()}

    @property
    def firings(self) -> dict[str, list[dict[str, Any]]]:
        """Kwargs of all firings of the ``after`` and ``andEvery`` triggers taken so far, by name.

        Oldest first; more than one only where the configuration counts (``times``). A fresh copy.
        """
        return self._source.firings(self.record)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the task gets: :attr:`kwargs`, with ``withParams`` merged under them."""
        return payload.merged(self.config.with_params, self.kwargs)

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about how it ran: ``result``, ``exception``, ``traceback``, ``parent``….

        A fresh copy; use ``manager.update_instance_metadata`` to change what is stored.
        """
        known = copy.deepcopy(dict(self.record.metadata))
        if self.record.result is not None:
            known.setdefault("result", payload.decode(self.record.result))
        return known

    @property
    def attempt(self) -> int:
        """How many times a worker has started it."""
        return self.record.attempt

    @property
    def lineage(self) -> int:
        """Number of the instance that this one retries or replays, the first of its line."""
        return self.record.lineage

    @property
    def retries(self) -> int:
        """How many retries came before it since its lineage began or was replayed."""
        return self.record.retries

    @property
    def created_at(self) -> datetime:
        """When it was created, aware UTC."""
        return self.record.created_at

    @property
    def changed_at(self) -> datetime:
        """When its status last changed, aware UTC."""
        return self.record.changed_at

    @property
    def log_level(self) -> int:
        """The highest level that the task logged (``logging.NOTSET`` until it has run)."""
        level = self.record.metadata.get("log_level", logging.NOTSET)
        return int(level)

    @property
    def log_level_name(self) -> str:
        """The name of :attr:`log_level`, such as ``"WARNING"``."""
        return logging.getLevelName(self.log_level)

    @property
    def logs_resolved(self) -> bool:
        """Whether somebody marked its logs as dealt with."""
        return bool(self.record.metadata.get("logs_resolved", False))

    @property
    def can_abandon(self) -> bool:
        """Whether its ``unless`` condition holds (and it is not abandoned already)."""
        return self.status != Status.ABANDONED and self._source.is_barred(self.record)

    @property
    def can_schedule(self) -> bool:
        """Whether its status still allows scheduling; says nothing about its triggers."""
        return self.status == Status.UNSTARTED and not self._source.is_barred(self.record)

    @property
    def can_run(self) -> bool:
        """Whether what it waits for has happened and it has not been started yet."""
        may = self.status == Status.SCHEDULED or self.can_schedule
        return may and self._source.is_ready(self.record)

    @property
    def can_replay(self) -> bool:
        """Whether ``replay_failed_instance`` would accept it."""
        return self.status == Status.FAILED

    @property
    def can_skip(self) -> bool:
        """Whether ``skip_failed_instance`` would accept it."""
        return self.status == Status.FAILED

    @property
    def is_resolved(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status.is_resolved


def instance_name(value: str | TaskInstance) -> str:
    """The name of an instance that was given as name or as object.

    :param value: name or instance.
    """
    return value.name if isinstance(value, TaskInstance) else value


def split_instance_name(name: object) -> tuple[str, int]:
    """Take ``t_x#0`` apart.

    :param name: the name of an instance.
    :returns: name of the task, and number of the instance.
    :raises InstanceNotFound: (a ``KeyError``) it is not the name of an instance.
    """
    if isinstance(name, str):
        task, mark, number = name.rpartition("#")
        if mark and task and number.isdecimal() and number.isascii():
            return task, int(number)
    raise InstanceNotFound(name, "an instance name looks like 't_x#0'")


def check_uid(uid: object) -> str:
    """Return a usable session uid.

    :param uid: what was given as one.
    :returns: the uid.
    :raises InvalidUid: it is no string, empty, too long, or holds U+0000.
    """
    if not isinstance(uid, str):
        raise InvalidUid(uid, f"expected a str, got {type(uid).__name__}; use str(…).")
    if not uid:
        raise InvalidUid(uid, "it is empty.")
    if len(uid) > UID_LIMIT:
        reason = f"it has {len(uid)} characters; at most {UID_LIMIT} are allowed."
        raise InvalidUid(uid[:40] + "…", reason)
    try:
        payload.check_text(uid, "it")
    except InvalidPayload as error:
        raise InvalidUid(uid, f"it {_reason(error)}") from None
    return uid


def check_name(name: object, what: str) -> str:
    """Return a usable trigger name or idempotency key.

    :param name: what was given as one.
    :param what: what it is, for the error: ``"a trigger name"``.
    :returns: the name.
    :raises InvalidTrigger: it is no string, empty, too long, or holds U+0000.
    """
    if not isinstance(name, str):
        raise InvalidTrigger(name, f"{what} must be a str, got {type(name).__name__}.")
    if not name:
        raise InvalidTrigger(name, f"{what} must not be empty.")
    if len(name) > NAME_LIMIT:
        reason = f"{what} has {len(name)} characters; {NAME_LIMIT} are allowed."
        raise InvalidTrigger(name[:40] + "…", reason)
    try:
        payload.check_text(name, what)
    except InvalidPayload as error:
        raise InvalidTrigger(name, f"{what} {_reason(error)}") from None
    return name


def _reason(error: InvalidPayload) -> str:
    """What an error says of a value, without the path before it."""
    return str(error).partition(": ")[2]
