"""What happened, written where no crash of the framework or its servers reaches it.

Each record is one line of fixed length, appended by one system call, so that any number of
processes may write at once, a process that is killed leaves no half of a line, and the size of a
file counts its records. The page cache of the machine keeps them: processes die here, not it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTH = 320
"""Bytes of a line."""

STARTED = "started"  # an attempt has begun: where, which, until when its lease is
ENDED = "ended"  # the code of a task is through
EXTENDED = "extended"  # a lease has a new end
STRUCK = "struck"  # a planned fault happens now
RESTARTED = "restarted"  # the server is there again, for a process that waits for it
REPORTED = "reported"  # a process that was stopped has said how its attempt ended
WRONG = "wrong"  # a task got what it must not get, a client met what it must not meet


class Ledger:
    """The records of one run, by kind, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[tuple[int, str], int] = {}

    def write(self, kind: str, **record: Any) -> int:
        """Append a record; returns how many of its kind there are up to this one."""
        line = json.dumps(record, separators=(",", ":"), default=str).encode()
        if len(line) >= WIDTH:
            raise ValueError(f"a record of {len(line)} bytes: {line!r}")
        return self._append(kind, line.ljust(WIDTH - 1) + b"\n") // WIDTH

    def pass_by(self, counter: str) -> int:
        """Count up; returns the number that is this caller's alone."""
        return self._append(f"passes of {counter}", b".")

    def take(self, name: str) -> bool:
        """Whether this caller is the first one, of all processes, to take what has this name."""
        try:
            (self.directory / f"taken {name}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Be the only one, of all processes, in a block of this name; a death ends it too."""
        with (self.directory / f"alone {name}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self, kind: str, skip: int = 0) -> Iterator[dict[str, Any]]:
        """The records of a kind, in the order in which they were written.

        :param skip: so many are left out at the start.
        """
        path = self.directory / kind
        if path.exists():
            with path.open("rb") as lines:
                lines.seek(skip * WIDTH)
                for line in lines:
                    yield json.loads(line)

    def count(self, kind: str) -> int:
        """How many records of a kind there are."""
        try:
            return (self.directory / kind).stat().st_size // WIDTH
        except FileNotFoundError:
            return 0

    def passes(self, counter: str) -> int:
        """How far a counter has got."""
        path = self.directory / f"passes of {counter}"
        return path.stat().st_size if path.exists() else 0

    def _append(self, name: str, data: bytes) -> int:
        # A file position is shared with forked children, so each process opens its own.
        key = os.getpid(), name
        file = self._files.get(key)
        if file is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            file = self._files[key] = os.open(self.directory / name, flags, 0o600)
        os.write(file, data)
        return os.lseek(file, 0, os.SEEK_CUR)
