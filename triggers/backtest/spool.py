"""Events in the order in which they will be fired, kept on disk until then.

A log may be bigger than memory, and the events of one case may lie anywhere in it: a log sorted by
time has all cases open at once. To fire case by case, the events are therefore sorted first, in a
temporary SQLite file whose index does the sorting: SQLite sorts on disk, in a cache of fixed size.
A session is then needed only while its case is replayed, so that storages stay small as well.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

from triggers.backtest.event import Event

_CACHE_KIB = 16 * 1024
_BATCH = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEFORE_ALL_TIMES = -(2**63)

_SCHEMA = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE event (
        position INTEGER PRIMARY KEY,
        worker INTEGER NOT NULL,
        case_name TEXT NOT NULL,
        rank INTEGER NOT NULL,
        line INTEGER NOT NULL,
        activity TEXT NOT NULL,
        attributes TEXT NOT NULL
    );
"""
_INSERT = "INSERT INTO event VALUES (NULL, ?, ?, ?, ?, ?, ?)"
_INDEX = "CREATE INDEX firing_order ON event (worker, case_name, rank, position)"
# Where the first events of a case have no time, theirs is that of the first which has one.
_SELECT = """
    SELECT case_name, line, activity, attributes, CASE WHEN rank > :before THEN rank ELSE (
        SELECT MIN(later.rank) FROM event AS later WHERE later.worker = event.worker
        AND later.case_name = event.case_name AND later.rank > :before
    ) END
    FROM event WHERE worker = :worker ORDER BY worker, case_name, rank, position
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One event, ready to be fired.

    :ivar line: where it stands in the log.
    :ivar trigger: the activity.
    :ivar kwargs: the attributes.
    :ivar at: when, aware UTC; ``None`` if that was not asked for, or no event of the case tells.
    """

    line: int
    trigger: str
    kwargs: dict[str, Any]
    at: datetime | None = None


class Spool:
    """The events of a log, written once and then read by each worker for its own cases.

    Events of a case come in the order of their times, and of the log where times are equal. An
    event without a time stays behind the event of its case that directly precedes it in the log,
    at the same time; without such an event, it comes before all others, at the time of the first.

    :param path: the file to make; its directory also takes SQLite's own temporary files.
    :param workers: over how many workers the cases are spread.
    :param shuffle: seed of a random order within each case, in place of the order of time. The
        order depends on the seed and the log alone.

    :ivar events: how many were added.
    :ivar timeless: how many of these had no time.
    :ivar ends_at: the latest time of all, aware; ``None`` as long as no event had one.
    """

    def __init__(self, path: Path, *, workers: int = 1, shuffle: int | None = None) -> None:
        self.path = path
        self.workers = workers
        self.events = 0
        self.timeless = 0
        self.ends_at: datetime | None = None
        self._shuffle = shuffle
        self._last: tuple[str, int] | None = None
        self._batch: list[tuple[int, str, int, int, str, str]] = []
        self._database = _connect(path)
        self._database.executescript(_SCHEMA)

    def add(self, event: Event) -> None:
        """Take one more event, in the order of the log."""
        self.events += 1
        if event.time is None:
            self.timeless += 1
        elif self.ends_at is None or event.time > self.ends_at:
            self.ends_at = event.time
        rank = self._rank(event)
        self._last = (event.case, rank)
        attributes = json.dumps(event.attributes, ensure_ascii=False)
        worker = worker_of(event.case, self.workers)
        self._batch.append((worker, event.case, rank, event.line, event.activity, attributes))
        if len(self._batch) >= _BATCH:
            self._flush()

    def seal(self) -> None:
        """Sort what was added; afterwards workers can read it, and nothing can be added."""
        self._flush()
        self._database.execute(_INDEX)
        self._database.commit()
        self.close()

    def close(self) -> None:
        """Let go of the file; does nothing the second time."""
        self._database.close()

    def _flush(self) -> None:
        self._database.executemany(_INSERT, self._batch)
        self._batch.clear()

    def _rank(self, event: Event) -> int:
        if self._shuffle is not None:
            # A hash instead of a random generator: it needs no memory of the other events.
            text = f"{self._shuffle}:{self.events}:{event.case}".encode()
            digest = blake2b(text, digest_size=8).digest()
            return int.from_bytes(digest, "big", signed=True)
        if event.time is not None:
            return (event.time - _EPOCH) // _MICROSECOND
        if self._last is not None and self._last[0] == event.case:
            return self._last[1]
        return _BEFORE_ALL_TIMES


def read_cases(
    path: Path, worker: int, *, timed: bool = False
) -> Iterator[tuple[str, Iterator[Firing]]]:
    """The cases of one worker, each with its events in firing order.

    As with :func:`itertools.groupby`, the events of a case are gone once the next case is asked
    for; nothing is held in memory but the present event.

    :param path: a sealed spool.
    :param worker: number of the worker, from 0.
    :param timed: tell the times of the events too; not of a spool that was shuffled.
    """
    with closing(_connect(path)) as database:
        rows = database.execute(_SELECT, {"worker": worker, "before": _BEFORE_ALL_TIMES})
        for case, group in groupby(rows, key=lambda row: row[0]):
            yield (
                case,
                (
                    Firing(
                        line=line,
                        trigger=activity,
                        kwargs=json.loads(attributes),
                        at=_EPOCH + rank * _MICROSECOND if timed and rank is not None else None,
                    )
                    for _, line, activity, attributes, rank in group
                ),
            )


def worker_of(case: str, workers: int) -> int:
    """The worker that gets a case, from 0; the same in every process and on every machine."""
    return zlib.crc32(case.encode()) % workers


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("PRAGMA temp_store = FILE")
    return database
