"""The time of storages that have no server to ask, and the test kit's way to set it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

_override: datetime | None = None


def current_time() -> datetime:
    """The present moment, aware UTC, or what :func:`set_time` says."""
    return _override or datetime.now(UTC)


def overridden_time() -> datetime | None:
    """What :func:`set_time` says, or ``None`` while the real clock runs."""
    return _override


def set_time(moment: datetime | None) -> None:
    """Stop every storage's clock of this process at a moment; ``None`` lets it run again.

    For tests only; use it through :func:`triggers.testing.frozen_time`.

    :raises ValueError: ``moment`` has no time zone.
    """
    global _override
    if moment is not None and moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; make it aware.")
    _override = None if moment is None else moment.astimezone(UTC)


@contextmanager
def frozen_time(moment: datetime) -> Iterator[None]:
    """Hold the clock of every storage in this process at a moment."""
    before = _override
    set_time(moment)
    try:
        yield
    finally:
        set_time(before)
