"""Errors of a database: which of them are worth another try, and what the others say."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db.utils import Error as DatabaseError
from django.db.utils import IntegrityError, InterfaceError, OperationalError

from triggers.exceptions import StorageUnavailable

T = TypeVar("T")

_NOT_MIGRATED = (
    "no such table",
    "no such column",
    "does not exist",
    "doesn't exist",
    "Unknown column",
)
_LONGEST_PAUSE = 0.25  # seconds

_TO_AWAIT = (
    "In async code, await the namesake of the manager's method: await manager.afire(…), "
    "manager.aexplain(…), and so on."
)

_DUPLICATE = {"23505", 1062}
_TRANSIENT = {"40001", "40P01", "55P03", 1205, 1213, 1020}
_SQLITE_BUSY = ("database is locked", "database table is locked", "database schema is locked")


def unavailable(error: DatabaseError) -> StorageUnavailable:
    """The error that a caller gets, with what to do where that is known."""
    reason = str(error).strip()
    if any(text in reason for text in _NOT_MIGRATED):
        reason += " (have you run 'manage.py migrate'?)"
    return StorageUnavailable("database", reason)


@contextmanager
def reported() -> Iterator[None]:
    """Say which part of the system it was that a database error came from."""
    try:
        yield
    except DatabaseError as error:
        raise unavailable(error) from error
    except SynchronousOnlyOperation as error:
        error.add_note(_TO_AWAIT)
        raise


def persistently(
    connection: Any, attempt: Callable[[], T], timeout: float, *, changes_nothing: bool = False
) -> T:
    """Do something that others may get in the way of, again until it succeeds.

    Within a transaction of the caller it is tried once: only the whole could be repeated.

    :param connection: the connection of Django that it uses.
    :param attempt: what to do; it has had no effect when it raises.
    :param timeout: seconds after which it is not begun again.
    :param changes_nothing: it only reads, so it is also begun again when the connection was lost.
    :raises StorageUnavailable: it failed for another reason, or until the time was up.
    """
    deadline = time.monotonic() + timeout
    failures = 0
    while True:
        try:
            return attempt()
        except SynchronousOnlyOperation as error:
            error.add_note(_TO_AWAIT)
            raise
        except DatabaseError as error:
            if connection.in_atomic_block:
                raise unavailable(error) from error
            is_lost = changes_nothing and _is_lost(connection, error)
            may_pass = is_lost or is_transient(error) or _was_overtaken(error)
            if time.monotonic() > deadline or not may_pass:
                connection.close_if_unusable_or_obsolete()
                raise unavailable(error) from error
            if is_lost:
                connection.close()
        failures += 1
        # Full jitter, so that those who met once do not meet again.
        time.sleep(random.uniform(0, min(0.002 * 2 ** min(failures, 10), _LONGEST_PAUSE)))


def _was_overtaken(error: DatabaseError) -> bool:
    """Whether somebody has written the same row first, so that all must be read again.

    A session that is deleted while it is fired into can begin anew in between.
    """
    code = getattr(error.__cause__, "sqlstate", None) or next(iter(error.args), None)
    return isinstance(error, IntegrityError) and code in _DUPLICATE


def _is_lost(connection: Any, error: DatabaseError) -> bool:
    """Whether there is no connection, or none that can still be used: the server is away."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    return connection.connection is None or not connection.is_usable()


def is_transient(error: DatabaseError) -> bool:
    """Whether the same transaction may well succeed when it is tried again."""
    if not isinstance(error, OperationalError):
        return False
    cause = error.__cause__
    # psycopg has sqlstate, psycopg2 has pgcode, and mysqlclient puts its number first.
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    code = state or next(iter(error.args), None)
    return code in _TRANSIENT or any(text in str(error) for text in _SQLITE_BUSY)
