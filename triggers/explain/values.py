"""What an explanation says, as values: plain to read for programs, sentences through ``str()``.

All of them are frozen. ``to_json()`` gives plain JSON: moments as ISO 8601 text, tuples as lists,
each value a mapping of its fields.

Longer than 400 lines because each field is explained where people look for it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Literal

from triggers.explain.sentences import of_instance, of_session, of_task
from triggers.explain.wording import Outline
from triggers.types import Phase, Status

Verdict = Literal["waits", "ready", "ruled out", "expired"]
"""What conditions, or a deadline, say of an instance that was not decided yet."""


class Value:
    """Part of an explanation."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """The value and all values in it, as plain JSON."""
        plain: dict[str, Any] = _plain(self)
        return plain


class Explanation(Value):
    """An explanation; ``str()`` gives sentences for people."""

    __slots__ = ()

    kind: ClassVar[str]
    """What it explains: ``session``, ``task``, ``instance`` or ``firing``."""

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain JSON, with its :attr:`kind`."""
        return {"kind": self.kind, **super().to_json()}

    @abstractmethod
    def outline(self) -> Outline:
        """The sentences, as a tree."""

    def __str__(self) -> str:
        return self.outline().as_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringRef(Value):
    """Which firing it is.

    :ivar seq: position in the session's history, from 1.
    :ivar names: all its names, those included that an outcome brings with it.
    :ivar at: when it was decided, aware UTC.
    :ivar cause: name of the instance whose outcome it is; ``None`` for the outside world.
    """

    seq: int
    names: tuple[str, ...]
    at: datetime
    cause: str | None = None

    def __str__(self) -> str:
        return f"firing {self.seq} of {self.names[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Value):
    """Something that an instance holds under a name.

    :ivar name: the trigger, or the outcome.
    :ivar firing: ``None`` if the kwargs were given by hand.
    :ivar counts: whether it still counts; under ``fresh`` an old one does not.
    """

    name: str
    firing: FiringRef | None
    counts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Value):
    """One condition, and whether it holds.

    :ivar kind: ``trigger`` (a name, with or without ``times``), ``all``, ``any``, ``atLeast``,
        ``settled``, ``elapsed`` or ``burst`` (the ``andEvery`` trigger under ``debounce``).
    :ivar holds: whether it holds, exactly as the engine sees it.
    :ivar text: for people: by what it holds, or what it would need.
    :ivar note: what is known about what it lacks; empty if it holds.
    :ivar since: since when it holds, or does not; ``None`` if that is not known.
    :ivar names: the triggers that it looks at; of ``settled``, the task.
    :ivar have: how many count: firings, or members that hold.
    :ivar needed: how many are needed; ``None`` if that is not known.
    :ivar firings: what the instance holds of it.
    :ivar due: when time alone makes it true, or the burst is over, aware UTC; ``None`` if that is
        not known, or never.
    :ivar until: when the first of what counts is no longer fresh, aware UTC; ``None`` if it stays.
    :ivar parts: its members.
    """

    kind: str
    holds: bool
    text: str
    note: str = ""
    since: datetime | None
    names: tuple[str, ...]
    have: int = 0
    needed: int | None = 1
    firings: tuple[Held, ...] = ()
    due: datetime | None = None
    until: datetime | None = None
    parts: tuple[Part, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """What is missing, a phrase each; all of it is needed. Nothing if it holds."""
        if self.holds:
            return ()
        if self.kind == "all":
            return tuple(phrase for part in self.parts for phrase in part.missing)
        return (self.text,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline(Value):
    """When time alone may change an instance next.

    :ivar at: the moment, aware UTC.
    :ivar kind: ``expires``, ``burst`` or ``elapsed``; ``time`` if it is not known any more.
    :ivar text: what happens then, for people.
    :ivar is_over: whether it has passed, and nobody has looked at the session since.
    """

    at: datetime
    kind: str
    text: str
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfReach(Value):
    """What an instance waits for, and cannot be fired from outside, as the session is closed.

    :ivar triggers: names that it lacks, and that are no outcomes of tasks.
    :ivar tasks_run: whether the session still has tasks to run, which might fire them.
    """

    triggers: tuple[str, ...]
    tasks_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions(Value):
    """What an instance waits for, or waited for when it was abandoned.

    :ivar as_of: the moment of which this is true: the present, or when it was (or, as soon as
        somebody looks at the session, will be) decided.
    :ivar verdict: what follows from it.
    :ivar ready: the condition of ``after`` and ``andEvery``.
    :ivar barred: the condition of ``unless``, or ``None`` if there is none.
    :ivar missing: what ``ready`` lacks, a phrase each.
    :ivar next: the next deadline, or ``None`` if there is none.
    :ivar out_of_reach: of one that waits in a closed session: what it waits for in vain; otherwise
        ``None``.
    """

    as_of: datetime
    verdict: Verdict
    ready: Part
    barred: Part | None
    missing: tuple[str, ...]
    next: Deadline | None = None
    out_of_reach: OutOfReach | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Value):
    """A firing that was filtered out for a task, and why.

    :ivar firing: the firing.
    :ivar task: the task's name.
    :ivar reason: which test it did not pass, for people.
    """

    firing: FiringRef
    task: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered(Value):
    """What was filtered out for a task.

    :ivar latest: the latest of it, newest first.
    :ivar more: how many older ones there are.
    """

    latest: tuple[Refusal, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Value):
    """One step back: a firing, and what it did.

    :ivar firing: the firing.
    :ivar verb: ``scheduled`` or ``ruled out``: the instance asked about or, further back, the one
        whose outcome the firing of the step before is.
    """

    firing: FiringRef
    verb: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Value):
    """How it was decided that an instance runs, or does not.

    :ivar verb: ``scheduled`` or ``abandoned``.
    :ivar reason: of an abandoned one: ``unless``, ``expired`` or ``by hand``; otherwise ``None``.
    :ivar causes: the firing that did it, then what had led to that firing, step by step; empty if
        no firing did it.
    :ivar is_complete: whether ``causes`` goes back to the beginning.
    :ivar otherwise: without a firing: what may have done it.
    """

    verb: str
    reason: str | None = None
    causes: tuple[Link, ...] = ()
    is_complete: bool = True
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Value):
    """The exception that an instance failed with; empty if it failed by hand.

    :ivar type: its class, qualified, such as ``builtins.ValueError``.
    :ivar message: what it says.
    """

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LostAttempt(Value):
    """An attempt whose worker was not heard of until the end of its lease.

    :ivar attempt: the attempt's number, from 1.
    :ivar started_at: when the worker had claimed it, aware UTC.
    """

    attempt: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceExplanation(Explanation):
    """Why an instance is what it is.

    :ivar uid: the session's uid.
    :ivar name: the instance's name, such as ``t_x#0``.
    :ivar task: the task's name.
    :ivar run: name of the trigger task that does its work, as it is configured now.
    :ivar using: name of the runner that its task is configured with, or ``None`` for the manager's
        default.
    :ivar status: its status.
    :ivar created_at: when it was created, aware UTC.
    :ivar changed_at: when its status last changed, aware UTC.
    :ivar created_by: the firing that made it; ``None`` if that cannot be told.
    :ivar conditions: of one that waits, or was abandoned; otherwise ``None``.
    :ivar decision: of one that does not wait any more; otherwise ``None``.
    :ivar held: what it holds, oldest first.
    :ivar attempt: how many times a worker has started it.
    :ivar retries: how many retries came before it since its lineage began or was replayed.
    :ivar lineage: name of the first instance of its lineage.
    :ivar parent: the instance that it retries, replays or copies, or ``None``.
    :ivar replayed_as: the instance that took its place, or ``None``.
    :ivar failure: of a failed one, or one that was replayed after it had failed; otherwise
        ``None``.
    :ivar not_before: the end of a retry's cool-down, aware UTC, or ``None``.
    :ivar sends: how many times it was handed to a runner after the first time.
    :ivar refusals: how many of its messages were refused by workers that do not know its task.
    :ivar hand_on_at: of a scheduled one: when recovery hands it to a runner again if no worker has
        started it, aware UTC; otherwise ``None``.
    :ivar is_forgotten: whether that moment has passed by more than a minute, and nobody has.
    :ivar lease_until: of a running one: until when its worker is taken to be alive, aware UTC;
        otherwise ``None``.
    :ivar is_overdue: whether that moment has passed, and nothing was heard of the worker.
    :ivar lost: attempts whose workers were not heard of again.
    :ivar outcomes: the firings that it has caused.
    :ivar filtered: what was filtered out for its task (of one that waits, or was abandoned).
    """

    kind: ClassVar[str] = "instance"

    uid: str
    name: str
    task: str
    run: str
    using: str | None = None
    status: Status
    created_at: datetime
    changed_at: datetime
    created_by: FiringRef | None = None
    conditions: Conditions | None = None
    decision: Decision | None = None
    held: tuple[Held, ...] = ()
    attempt: int = 0
    retries: int = 0
    lineage: str
    parent: str | None = None
    replayed_as: str | None = None
    failure: Failure | None = None
    not_before: datetime | None = None
    sends: int = 0
    refusals: int = 0
    hand_on_at: datetime | None = None
    is_forgotten: bool = False
    lease_until: datetime | None = None
    is_overdue: bool = False
    lost: tuple[LostAttempt, ...] = ()
    outcomes: tuple[FiringRef, ...] = ()
    filtered: Filtered = Filtered()

    def outline(self) -> Outline:
        return of_instance(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Name(Value):
    """A trigger that a task names, and what became of it in the session.

    :ivar name: the trigger, or the outcome.
    :ivar fired: how many times it was fired.
    :ivar filtered: how many of these were filtered out for the task.
    :ivar latest: the latest of them, or ``None``.
    :ivar source: the task whose outcome it is; ``None`` if the outside world fires it.
    :ivar meant: a name that it might be a misspelling of, or ``None``.
    :ivar text: for people.
    """

    name: str
    fired: int
    filtered: int
    latest: FiringRef | None
    source: str | None
    meant: str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExplanation(Explanation):
    """Why the instances of a task are what they are, and what would make another.

    :ivar uid: the session's uid.
    :ivar name: the task's name.
    :ivar at: the moment of which this is true, aware UTC.
    :ivar instances: each of its instances, explained, by number.
    :ivar made_by: the triggers whose next firing would make an instance: all that the task names
        as long as there is none, then its ``andEvery``.
    :ivar names: the triggers that the task names.
    :ivar filtered: what was filtered out for it.
    """

    kind: ClassVar[str] = "task"

    uid: str
    name: str
    at: datetime
    instances: tuple[InstanceExplanation, ...]
    made_by: tuple[str, ...]
    names: tuple[Name, ...]
    filtered: Filtered

    def outline(self) -> Outline:
        return of_task(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheard(Value):
    """A trigger that was fired although no task names it.

    :ivar name: the trigger.
    :ivar fired: how many times it was fired.
    :ivar latest: the latest of these firings.
    """

    name: str
    fired: int
    latest: FiringRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending(Value):
    """How far a session that finalizes is from its end.

    :ivar firing: the firing that says that it is finalized; ``None``: it is not yet.
    :ivar left: what is left to do before, a phrase each.
    """

    firing: FiringRef | None
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionExplanation(Explanation):
    """Why everything in a session is what it is.

    :ivar uid: the session's uid.
    :ivar at: the moment of which this is true, aware UTC.
    :ivar firings: how many there were.
    :ivar undecided: how many were recorded in a transaction, and are not decided yet.
    :ivar tasks: each of its tasks, explained, in the order of the configuration.
    :ivar unheard: what was fired although no task names it (outcomes of tasks left out).
    :ivar phase: whether it still takes firings.
    :ivar ending: how far it is from being finalized; ``None`` if it was not declared to finalize.
    """

    kind: ClassVar[str] = "session"

    uid: str
    at: datetime
    firings: int
    undecided: int
    tasks: tuple[TaskExplanation, ...]
    unheard: tuple[Unheard, ...]
    phase: Phase = Phase.OPEN
    ending: Ending | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing: no task, and nothing that was ever fired."""
        return not (self.tasks or self.firings or self.undecided)

    def outline(self) -> Outline:
        return of_session(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value
