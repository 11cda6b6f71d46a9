"""Errors of a database: which of them are worth another try, and what the others say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db.utils import Error as DatabaseError
from django.db.utils import OperationalError

from triggers.exceptions import StorageUnavailable

_TRANSIENT = {"40001", "40P01", "55P03", 1205, 1213, 1020}
_SQLITE_BUSY = ("database is locked", "database table is locked", "database schema is locked")


def unavailable(error: DatabaseError) -> StorageUnavailable:
    """The error that a caller gets, with what to do where that is known."""
    reason = str(error).strip()
    if any(text in reason for text in ("no such table", "does not exist", "doesn't exist")):
        reason += " (have you run 'manage.py migrate'?)"
    return StorageUnavailable("database", reason)


@contextmanager
def reported() -> Iterator[None]:
    """Say which part of the system it was that a database error came from."""
    try:
        yield
    except DatabaseError as error:
        raise unavailable(error) from error


def is_transient(error: DatabaseError) -> bool:
    """Whether the same transaction may well succeed when it is tried again."""
    if not isinstance(error, OperationalError):
        return False
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or next(iter(error.args), None)
    return code in _TRANSIENT or any(text in str(error) for text in _SQLITE_BUSY)
