"""Reading an event log from CSV: one row is one event, the first row names the columns."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence

from triggers.backtest.bytestream import ByteStream, DamagedFile, lines
from triggers.backtest.event import (
    TIME,
    Columns,
    Event,
    EventLogError,
    Malformed,
    MissingColumn,
    NotAnEvent,
    parse_time,
)

DELIMITERS = (",", ";", "\t")

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
# The csv module's own limit for a field. It is where a quote that is never closed is given up.
_FIELD_LIMIT = csv.field_size_limit()


class CsvLog:
    """The events of a CSV file, in the order of the file.

    :param stream: the file; UTF-8, with or without a byte order mark.
    :param columns: which columns to use.
    :param delimiter: the character between two cells; ``None`` finds it in the first line.
    :raises MissingColumn: a column that is needed is not there.
    :raises EventLogError: the first row cannot be read.

    :ivar has_time: whether there is a time column.
    :ivar naive_times: how many timestamps without an offset the latest iteration has met.
    """

    def __init__(
        self, stream: ByteStream, columns: Columns, *, delimiter: str | None = None
    ) -> None:
        self._stream = stream
        self._columns = columns
        first = _first_line(stream)
        self._delimiter = delimiter or _find_delimiter(first, columns)
        self._header = self._read_header(_Rows(stream, self._delimiter))
        self._time = columns.time or TIME
        self.has_time = self._time in self._header
        self.naive_times = 0
        self._check_header()

    def __iter__(self) -> Iterator[Event | Malformed]:
        self.naive_times = 0
        rows = _Rows(self._stream, self._delimiter)
        self._read_header(rows)
        for row in rows:
            if isinstance(row, Malformed):
                yield row
                continue
            try:
                yield self._event(row, rows.line)
            except NotAnEvent as error:
                yield Malformed(line=rows.line, reason=str(error))

    def _read_header(self, rows: _Rows) -> tuple[str, ...]:
        row = next(iter(rows), None)
        if row is None:
            raise EventLogError("The file is empty; a CSV log begins with a row of column names.")
        if isinstance(row, Malformed):
            raise EventLogError(f"Line {row.line}, the row of column names: {row.reason}.")
        return tuple(name.strip() for name in row)

    def _check_header(self) -> None:
        names = self._header
        wanted = {"case": self._columns.case, "activity": self._columns.activity}
        if self._columns.time is not None:
            wanted["time"] = self._columns.time
        for role, name in wanted.items():
            if name not in names:
                raise MissingColumn(role, name, names)
        for name in (*wanted.values(), self._time):
            if names.count(name) > 1:
                raise EventLogError(f"Two columns are named {name!r}; rename one of them.")

    def _event(self, row: Sequence[str], line: int) -> Event:
        if len(row) != len(self._header):
            raise NotAnEvent(f"{len(row)} cells where the first row has {len(self._header)}")
        # An empty cell is what a table shows for an attribute that an event does not have, so it
        # does not become an attribute. The same holds for a cell of nothing but blanks.
        cells = {name: cell for name, cell in zip(self._header, row, strict=True) if cell.strip()}
        for name, cell in cells.items():
            if "\x00" in cell:
                raise NotAnEvent(f"U+0000 in column {name!r}")
        for role, column in (("case", self._columns.case), ("activity", self._columns.activity)):
            if column not in cells:
                raise NotAnEvent(f"no {role}: column {column!r} is empty")
        time = None
        if self.has_time:
            if self._time not in cells:
                raise NotAnEvent(f"no time: column {self._time!r} is empty")
            time, told_offset = parse_time(cells[self._time])
            self.naive_times += not told_offset
        return Event(
            case=cells[self._columns.case],
            activity=cells[self._columns.activity],
            time=time,
            line=line,
            attributes=cells,
        )


class _Rows:
    """Rows of cells, or what is wrong with the lines that should have been one.

    :ivar line: where the latest row starts.
    """

    def __init__(self, stream: ByteStream, delimiter: str) -> None:
        self._feed = _Feed(stream)
        self._delimiter = delimiter
        self.line = 0

    def __iter__(self) -> Iterator[list[str] | Malformed]:
        feed = self._feed
        while True:
            # A reader that has failed or ended is not used again, for it may hold half a row.
            reader = csv.reader(feed, delimiter=self._delimiter, strict=True)
            try:
                while True:
                    feed.begin_row()
                    row = next(reader)
                    self.line = feed.first
                    if feed.problem is not None:
                        yield Malformed(line=self.line, reason=feed.problem)
                    elif row:
                        yield row
            except csv.Error as error:
                self.line = feed.first
                reason = feed.problem or _explain(str(error))
                # The quote that was opened here may have swallowed good rows: they get a second
                # chance, without the line that it was opened on.
                feed.give_back()
                yield Malformed(line=self.line, reason=reason)
            except StopIteration:
                break
        if feed.damage is not None:
            yield Malformed(line=feed.number + 1, reason=feed.damage)


class _Feed:
    """Decoded lines for the csv module, which can be given back.

    :ivar number: the line handed out last, from 1.
    :ivar first: the first line of the present row.
    :ivar problem: what is wrong with the bytes of a line of the present row.
    :ivar damage: why the file could not be read to its end.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._lines = lines(stream.chunks())
        self._again: deque[bytes | None] = deque()
        self._row: list[bytes | None] = []
        self.number = 0
        self.problem: str | None = None
        self.damage: str | None = None

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        try:
            line = self._again.popleft() if self._again else next(self._lines)
        except DamagedFile as error:
            self.damage = f"{error}; the rest was not read"
            raise StopIteration from None
        self.number += 1
        self._row.append(line)
        return self._decode(line)

    @property
    def first(self) -> int:
        return self.number - len(self._row) + 1

    def begin_row(self) -> None:
        self._row.clear()
        self.problem = None

    def give_back(self) -> None:
        """Hand out the lines of the present row again, except the first."""
        _, *others = self._row
        self._again.extendleft(reversed(others))
        self.number -= len(others)
        self.begin_row()

    def _decode(self, line: bytes | None) -> str:
        if line is None:
            self.problem = f"line {self.number} is too long"
            return "\n"
        if self.number == 1:
            line = line.removeprefix(_UTF8_MARK)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            self.problem = f"line {self.number} is not UTF-8 (byte {byte:#04x})"
            # The quotes of the line still count, or the rows after it would be read wrongly.
            return line.decode("utf-8", "replace")


def _first_line(stream: ByteStream) -> str:
    head = stream.head()
    if head.startswith(_UTF16_MARKS):
        raise EventLogError("The file is UTF-16; save it as UTF-8.")
    return head.removeprefix(_UTF8_MARK).split(b"\n", 1)[0].decode("utf-8", "replace")


def _find_delimiter(first_line: str, columns: Columns) -> str:
    """The delimiter that brings out the columns looked for, or else the most columns."""
    wanted = {columns.case, columns.activity, columns.time}

    def found(delimiter: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([first_line], delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        return len(wanted.intersection(cell.strip() for cell in cells)), len(cells)

    return max(DELIMITERS, key=found)


def _explain(error: str) -> str:
    if error == "unexpected end of data":
        return "a quote is opened that is never closed"
    if error.startswith("field larger"):
        return f"a cell is longer than {_FIELD_LIMIT:,} characters, or its quote is never closed"
    return error
