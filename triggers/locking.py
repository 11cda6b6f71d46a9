"""A lock per session that holds across processes, for storages that cannot commit atomically.

On PostgreSQL, MySQL and MariaDB it is a row lock in the default database, on a connection of its
own, so a caller's transaction neither releases nor prolongs it; who saves asks again whether it
is still held, since a server may end any connection. On SQLite, which has one writer
for the whole file, it is a lock file beside the database. Both end with the process that holds
them: there is no expiry that a paused process could outlive.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from django.core.files import locks
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import Error as DatabaseError

from triggers.exceptions import StorageUnavailable

_ROW_LOCK_VENDORS = {"postgresql": "ON CONFLICT DO NOTHING", "mysql": ""}


def session_lock(
    key: str, using: str = DEFAULT_DB_ALIAS
) -> AbstractContextManager[Callable[[], bool]]:
    """Wait for the lock ``key`` and hold it for the length of a ``with`` block.

    The block gets a function that says whether the lock is still held: a server may end the
    connection that holds it. It is not reentrant.

    :param key: what is locked, any text.
    :param using: alias of the database that keeps it.
    :returns: a context manager.
    :raises StorageUnavailable: the database did not answer.
    """
    connection = connections[using]
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    if connection.vendor in _ROW_LOCK_VENDORS:
        return _row_lock(connection, digest)
    return _file_lock(_lock_path(connection.settings_dict["NAME"], digest))


@contextmanager
def _row_lock(caller: Any, digest: str) -> Iterator[Callable[[], bool]]:
    connection = caller.copy()
    ignore = "INSERT IGNORE" if connection.vendor == "mysql" else "INSERT"
    suffix = _ROW_LOCK_VENDORS[connection.vendor]
    try:
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"{ignore} INTO triggers_sessionlock (digest) VALUES (%s) {suffix}", [digest]
                )
                connection.set_autocommit(False)
                cursor.execute(
                    "SELECT digest FROM triggers_sessionlock WHERE digest = %s FOR UPDATE", [digest]
                )
                cursor.fetchall()
        except DatabaseError as error:
            raise StorageUnavailable("lock", str(error).strip()) from error
        yield connection.is_usable
    finally:
        with suppress(DatabaseError):
            connection.close()


def _lock_path(database: object, digest: str) -> Path:
    path = Path(str(database))
    if not path.is_file():  # in memory, or no database at all
        path = Path(tempfile.gettempdir()) / "triggers"
    return path.with_name(f"{path.name}.{digest[:32]}.lock")


@contextmanager
def _file_lock(path: Path) -> Iterator[Callable[[], bool]]:
    file = _open_locked(path)
    try:
        yield lambda: True
    finally:
        # The file goes while its lock is held, so that whoever waits for it finds it gone and
        # starts afresh (see _open_locked); sessions leave no files behind.
        with suppress(OSError):
            path.unlink()
        file.close()


def _open_locked(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab")
        locks.lock(file, locks.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
