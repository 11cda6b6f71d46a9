"""What a reader of event logs yields: an event, or a place in the file where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from triggers.exceptions import TriggersError

CASE = "case:concept:name"
ACTIVITY = "concept:name"
TIME = "time:timestamp"


class EventLogError(TriggersError, ValueError):
    """A file cannot be read as an event log at all."""


class MissingColumn(EventLogError, LookupError):
    """A CSV log has no column of this name.

    :ivar role: what the column would have told: ``case``, ``activity`` or ``time``.
    :ivar column: the name looked for.
    :ivar columns: the names that there are, in the order of the file.
    """

    def __init__(self, role: str, column: str, columns: Sequence[str]) -> None:
        self.role = role
        self.column = column
        self.columns = tuple(columns)
        super().__init__(
            f"There is no column {column!r} to take the {role} from. "
            f"The columns are: {', '.join(self.columns)}."
        )


class NotAnEvent(ValueError):
    """Raised inside a reader for a record that is no event; it becomes a :class:`Malformed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the attributes that tell the case, the activity and the time of an event.

    :ivar case: what happened to one thing belongs together; it becomes a session.
    :ivar activity: what happened; it becomes the trigger.
    :ivar time: when. ``None`` means ``time:timestamp`` where the log has it.
    """

    case: str = CASE
    activity: str = ACTIVITY
    time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in one case.

    :ivar case: name of the case; not empty.
    :ivar activity: what happened; not empty.
    :ivar time: aware, in the offset of the log, or ``None`` if the log does not tell.
    :ivar line: physical line of the decompressed file where the record starts, from 1.
    :ivar attributes: plain JSON by attribute name; a timestamp stays the text that the log has.
    """

    case: str
    activity: str
    time: datetime | None
    line: int
    attributes: dict[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        if not self.case or not self.activity:
            raise ValueError("An event has a case and an activity.")
        if self.time is not None and self.time.utcoffset() is None:
            raise ValueError(f"The time {self.time} has no offset; make it aware.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A record that is no event.

    :ivar line: physical line of the decompressed file where the record starts, from 1.
    :ivar reason: half a sentence: what is wrong with it.
    """

    line: int
    reason: str


def parse_time(text: str) -> tuple[datetime, bool]:
    """Read an ISO 8601 timestamp; a space may stand in place of the ``T``.

    :returns: an aware datetime, and whether the text told the offset. Where it did not, UTC is
        assumed.
    :raises NotAnEvent: it is no such timestamp, or lies outside the years 1 to 9999 in UTC.
    """
    try:
        time = datetime.fromisoformat(text.strip())
        if time.tzinfo is None:
            return time.replace(tzinfo=UTC), False
        time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotAnEvent(f"{shorten(text)} is no ISO 8601 timestamp") from None
    return time, True


def shorten(text: str) -> str:
    """Quote a text from a log for a message, which a long one must not drown."""
    return repr(text if len(text) <= 60 else text[:60] + "…")
