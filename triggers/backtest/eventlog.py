"""An event log on disk: CSV or XES, plain or gzip, read as a stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from triggers.backtest.bytestream import ByteStream
from triggers.backtest.csvlog import CsvLog
from triggers.backtest.event import (
    Columns,
    Event,
    EventLogError,
    Malformed,
    MissingColumn,
    NotAnEvent,
)
from triggers.backtest.xeslog import XesLog

__all__ = [
    "Columns",
    "Event",
    "EventLog",
    "EventLogError",
    "Malformed",
    "MissingColumn",
    "NotAnEvent",
]


class EventLog:
    """The events of one file; iterating reads it from its start, in constant memory.

    What is wrong with single records is yielded, between the events, as :class:`Malformed`.

    :param path: the file. ``.csv`` and ``.xes``, also with ``.gz``, tell the format; for any
        other name its first bytes do. Compression is always told by the first bytes.
    :param columns: which attributes tell case, activity and time.
    :param delimiter: for CSV, the character between two cells; by default comma, semicolon or
        tab, whichever brings out the columns looked for.
    :raises OSError: the file cannot be opened.
    :raises MissingColumn: a CSV file lacks a column that is needed.
    :raises EventLogError: the file cannot be read as an event log at all; for XES, this and
        nothing else may also be raised while iterating.

    :ivar format: ``csv`` or ``xes``.
    """

    def __init__(
        self, path: Path, columns: Columns | None = None, *, delimiter: str | None = None
    ) -> None:
        self.path = path
        columns = columns or Columns()
        self._stream = ByteStream(path)
        self.format = _format_of(path, self._stream)
        self._reader: CsvLog | XesLog
        if self.format == "xes":
            self._reader = XesLog(self._stream, columns)
        else:
            self._reader = CsvLog(self._stream, columns, delimiter=delimiter)

    def __iter__(self) -> Iterator[Event | Malformed]:
        return iter(self._reader)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._stream.size

    @property
    def position(self) -> int:
        """Bytes on disk that the present iteration has read."""
        return self._stream.position

    @property
    def naive_times(self) -> int:
        """Timestamps without an offset that the present iteration has met and taken as UTC."""
        return self._reader.naive_times


def _format_of(path: Path, stream: ByteStream) -> Literal["csv", "xes"]:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] == ".csv":
        return "csv"
    if suffixes and suffixes[-1] == ".xes":
        return "xes"
    is_xml = stream.head().removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
    return "xes" if is_xml else "csv"
