"""The time of storages that have no server to ask, and the ways to set it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_override: datetime | None = None
_local: ContextVar[datetime | None] = ContextVar("triggers_local_time", default=None)


def current_time() -> datetime:
    """The present moment, aware UTC, or what :func:`overridden_time` says."""
    return _local.get() or _override or datetime.now(UTC)


def overridden_time() -> datetime | None:
    """What :func:`local_time`, or else :func:`set_time`, says; ``None`` while the clock runs."""
    return _local.get() or _override


@contextmanager
def local_time(moment: datetime) -> Iterator[None]:
    """Hold the clock of every storage at a moment, for this thread (or asyncio task) alone.

    Goes before :func:`set_time`. For replaying what happened at other times.

    :param moment: an aware datetime.
    :returns: a context manager.
    :raises ValueError: ``moment`` has no time zone.
    """
    token = _local.set(_in_utc(moment))
    try:
        yield
    finally:
        _local.reset(token)


def set_time(moment: datetime | None) -> None:
    """Stop every storage's clock of this process at a moment; ``None`` lets it run again.

    For tests only; use it through :func:`triggers.testing.frozen_time`.

    :param moment: an aware datetime, or ``None``.
    :raises ValueError: ``moment`` has no time zone.
    """
    global _override
    _override = None if moment is None else _in_utc(moment)


@contextmanager
def frozen_time(moment: datetime) -> Iterator[None]:
    """Hold the clock of every storage in this process at a moment.

    :param moment: an aware datetime.
    :returns: a context manager.
    :raises ValueError: ``moment`` has no time zone.
    """
    before = _override
    set_time(moment)
    try:
        yield
    finally:
        set_time(before)


def _in_utc(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; make it aware.")
    return moment.astimezone(UTC)
