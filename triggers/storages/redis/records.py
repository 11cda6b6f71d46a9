"""Instances, firings and pending marks as text: one line per field, in a fixed order.

A script can take the first lines apart without parsing anything. No line holds a line feed: texts
of other people (names, tokens, payloads) are JSON, where it is escaped. New fields come last, so
that what an older version wrote can be read: what is missing has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from json import JSONDecoder
from typing import Any, cast

from triggers import payload
from triggers.engine import Pending
from triggers.engine.state import InstanceKey
from triggers.types import Firing, Instance, Status

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_STATUSES = {each.value: each for each in Status}

_decode = JSONDecoder().raw_decode


def loads(text: str) -> Any:
    """The value of a line: JSON that nothing surrounds."""
    return _decode(text)[0]


def instant(moment: datetime) -> str:
    """Microseconds since 1970, in digits."""
    global _written
    known, text = _written
    if known is not moment:
        text = str((moment - EPOCH) // _MICROSECOND)
        _written = moment, text
    return text


def moment(digits: str) -> datetime:
    """The inverse of :func:`instant`."""
    global _read
    known, found = _read
    if known != digits:
        found = EPOCH + timedelta(microseconds=int(digits))
        _read = digits, found
    return found


# What is decided at one moment bears it in many places.
_written = EPOCH, "0"
_read = "0", EPOCH


def name_of(key: InstanceKey) -> str:
    """The field of an instance."""
    return f"{key[0]}#{key[1]}"


def key_of(name: str) -> InstanceKey:
    """The inverse of :func:`name_of`."""
    task, _mark, number = name.rpartition("#")
    return task, int(number)


def line(text: str) -> str:
    """JSON text on one line; a line feed in it can only be white space."""
    return text.replace("\n", " ") if "\n" in text else text


def instance_text(record: Instance) -> str:
    """An instance, without its name."""
    # In one expression: this is written as often as firings are decided.
    return (
        f"{record.status}\n{payload.dump(record.taken) if record.taken else payload.EMPTY}\n"
        f"{instant(record.changed_at)}\n"
        f"{'' if record.due_at is None else instant(record.due_at)}\n"
        f"{'' if record.decided_by is None else record.decided_by}\n"
        f"{record.depth}\n{record.attempt}\n"
        f"{'' if record.token is None else payload.dump(record.token)}\n"
        f"{payload.dump(record.told) if record.told else ''}\n"
        f"{payload.dump(record.metadata) if record.metadata else ''}\n"
        f"{'' if record.result is None else line(record.result)}\n"
        f"{instant(record.created_at)}\n{record.lineage}\n{record.retries}\n{record.sends}\n"
        f"{'' if record.not_before is None else instant(record.not_before)}\n"
        f"{'' if record.timer_at is None else instant(record.timer_at)}\n"
        f"{payload.dump(record.counted) if record.counted else ''}\n"
        f"{'' if record.replacement is None else line(record.replacement)}"
    )


def instance_of(name: str, text: str) -> Instance:
    """The instance that was written as this text."""
    (
        status,
        taken,
        changed_at,
        due_at,
        decided_by,
        depth,
        attempt,
        token,
        told,
        metadata,
        result,
        created_at,
        lineage,
        retries,
        sends,
        not_before,
        timer_at,
        counted,
        replacement,
        *_newer,
    ) = text.split("\n")
    task, _mark, number = name.rpartition("#")
    made = object.__new__(Instance)
    # As in ``Instance.but``: every field is given, and a worker makes one of these per message.
    made.__dict__.update(
        task=task,
        number=int(number),
        status=_STATUSES[status],
        taken=loads(taken),
        created_at=moment(created_at),
        changed_at=moment(changed_at),
        replacement=replacement or None,
        result=result or None,
        metadata=payload.decode(metadata) if metadata else {},
        attempt=int(attempt),
        token=loads(token) if token else None,
        due_at=moment(due_at) if due_at else None,
        not_before=moment(not_before) if not_before else None,
        sends=int(sends),
        lineage=int(lineage),
        retries=int(retries),
        depth=int(depth),
        counted=_tuples(counted) if counted else {},
        told=_tuples(told) if told else {},
        timer_at=moment(timer_at) if timer_at else None,
        decided_by=int(decided_by) if decided_by else None,
    )
    return made


def firing_text(firing: Firing) -> str:
    """A firing, without its sequence number."""
    return f"{instant(firing.at)}\n{firing_tail(firing)}"


def firing_tail(firing: Firing) -> str:
    """A firing, without its sequence number and its time."""
    return "\n".join(
        (
            payload.dump(firing.trigger),
            "" if firing.key is None else payload.dump(firing.key),
            "" if firing.cause is None else payload.dump(firing.cause),
            payload.dump(firing.also) if firing.also else "",
            _mapping(firing.refused),
            line(firing.kwargs),
        )
    )


def firing_of(seq: int, text: str) -> Firing:
    """The firing that was written as this text."""
    at, trigger, key, cause, also, refused, kwargs, *_newer = text.split("\n")
    return Firing(
        seq=seq,
        trigger=loads(trigger),
        kwargs=kwargs,
        at=moment(at),
        key=loads(key) if key else None,
        cause=loads(cause) if cause else None,
        also=tuple(loads(also)) if also else (),
        refused=loads(refused) if refused else {},
    )


def pending_text(pending: Pending) -> str:
    """A pending mark, without its ref."""
    return f"{instant(pending.due_at)}\n{payload.dump(pending.kind)}\n{payload.dump(pending.data)}"


def pending_of(ref: str, text: str) -> Pending:
    """The pending mark that was written as this text."""
    due_at, kind, data, *_newer = text.split("\n")
    return Pending(ref=ref, kind=loads(kind), data=payload.decode(data), due_at=moment(due_at))


def keyed_field(trigger: str, key: str) -> str:
    """The field of an idempotency key."""
    return payload.dump([trigger, key])


def _mapping(value: Mapping[str, Any]) -> str:
    return payload.dump(value) if value else ""


def _tuples(text: str) -> dict[str, tuple[Any, ...]]:
    lists = cast(dict[str, list[Any]], loads(text))
    return {name: tuple(items) for name, items in lists.items()}
