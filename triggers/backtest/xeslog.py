"""Reading an event log from XES, the XML format of IEEE 1849: a ``<trace>`` is a case.

The expat parser is used directly: ``ElementTree.iterparse`` would keep memory constant too, but
hides on which line an element starts.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from xml.parsers import expat

from triggers.backtest.bytestream import ByteStream, DamagedFile
from triggers.backtest.event import (
    TIME,
    Columns,
    Event,
    EventLogError,
    Malformed,
    NotAnEvent,
    parse_time,
    shorten,
)

DEEPEST = 64
"""Elements inside each other beyond which an attribute is refused."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_NO_VALUE = object()


class XesLog:
    """The events of a XES file, in the order of the file.

    :param stream: the file; namespaces are optional.
    :param columns: which attributes to use; an attribute of the trace is named with the prefix
        ``case:``.

    :ivar naive_times: how many timestamps without an offset the latest iteration has met.
    """

    def __init__(self, stream: ByteStream, columns: Columns) -> None:
        self._stream = stream
        self._columns = columns
        self.naive_times = 0

    def __iter__(self) -> Iterator[Event | Malformed]:
        """Read the file.

        :raises EventLogError: it is XML, but no event log, or it declares entities.
        """
        self.naive_times = 0
        parser = expat.ParserCreate()
        elements = _Elements(lambda: parser.CurrentLineNumber)
        parser.StartElementHandler = elements.start
        parser.EndElementHandler = elements.end
        parser.EntityDeclHandler = _refuse_entity
        try:
            for chunk in self._stream.chunks():
                parser.Parse(chunk, False)
                yield from self._take(elements)
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            yield from self._take(elements)
            what = expat.errors.messages[error.code]
            reason = f"not well-formed XML ({what}); the rest was not read"
            yield Malformed(line=error.lineno, reason=reason)
        except DamagedFile as error:
            yield Malformed(line=parser.CurrentLineNumber, reason=f"{error}; the rest was not read")

    def _take(self, elements: _Elements) -> Iterator[Event | Malformed]:
        while elements.ready:
            record = elements.ready.popleft()
            if isinstance(record, Malformed):
                yield record
                continue
            try:
                yield self._event(record)
            except NotAnEvent as error:
                yield Malformed(line=record.line, reason=str(error))

    def _event(self, record: _Record) -> Event:
        if record.problem is not None:
            raise NotAnEvent(record.problem)
        case = _text(record.attributes, self._columns.case)
        activity = _text(record.attributes, self._columns.activity)
        if not case:
            raise NotAnEvent(f"no case: {self._columns.case!r} is missing or empty")
        if not activity:
            raise NotAnEvent(f"no activity: {self._columns.activity!r} is missing or empty")
        return Event(
            case=case,
            activity=activity,
            time=self._time(record.attributes),
            line=record.line,
            attributes=record.attributes,
        )

    def _time(self, attributes: dict[str, Any]) -> datetime | None:
        text = _text(attributes, self._columns.time or TIME)
        if text:
            time, told_offset = parse_time(text)
            self.naive_times += not told_offset
            return time
        if self._columns.time is not None:
            raise NotAnEvent(f"no time: {self._columns.time!r} is missing or empty")
        # A trace is an ordered list by its definition, so an event may do without a time.
        return None


@dataclass(slots=True)
class _Record:
    """An event as it stands in the file."""

    line: int
    attributes: dict[str, Any]
    problem: str | None


@dataclass(slots=True)
class _Node:
    """An element that is still open.

    :ivar kind: its tag; empty for an element whose content is of no interest.
    :ivar children: attributes inside it; in a list, a key may come back.
    """

    kind: str
    line: int
    key: str = ""
    value: Any = _NO_VALUE
    children: list[tuple[str, Any]] = field(default_factory=list)
    problem: str | None = None


class _Elements:
    """Makes records of the elements that the parser reports.

    :param line: tells the line where the present element starts.

    :ivar ready: records that are complete, for the reader to take.
    """

    def __init__(self, line: Callable[[], int]) -> None:
        self._line = line
        self._open: list[_Node] = []
        self.ready: deque[_Record | Malformed] = deque()

    def start(self, name: str, xml_attributes: dict[str, str]) -> None:
        # Prefixes are the writer's choice, and old logs have no namespace at all.
        tag = name.rpartition(":")[2]
        parent = self._open[-1].kind if self._open else None
        node = _Node(kind="", line=self._line())
        if parent is None:
            if tag != "log":
                raise EventLogError(f"The root element is <{tag}>; an XES log has <log>.")
            node.kind = tag
        elif (tag, parent) in _STRUCTURE:
            node.kind = tag
        elif tag in _CONVERT and parent in _HOLDERS:
            self._start_attribute(node, tag, xml_attributes)
        self._open.append(node)

    def end(self, _name: str) -> None:
        node = self._open.pop()
        if node.kind == "event":
            self._end_event(node)
        elif node.kind == "values":
            self._open[-1].children += node.children
        elif node.kind in _CONVERT:
            value = _json(node)
            if value is not _NO_VALUE:
                self._open[-1].children.append((node.key, value))

    def _start_attribute(self, node: _Node, tag: str, xml_attributes: dict[str, str]) -> None:
        try:
            if len(self._open) > DEEPEST:
                raise NotAnEvent(f"attributes nested deeper than {DEEPEST}")
            node.key = xml_attributes.get("key", "")
            if not node.key:
                raise NotAnEvent(f"a <{tag}> without a key")
            node.value = _CONVERT[tag](node.key, xml_attributes.get("value"))
        except NotAnEvent as error:
            self._report(node.line, str(error))
        else:
            node.kind = tag

    def _report(self, line: int, reason: str) -> None:
        """Spoil the event that is open; where there is none, the trace has a bad attribute."""
        for node in reversed(self._open):
            if node.kind == "event":
                where = "" if line == node.line else f" (line {line})"
                node.problem = node.problem or reason + where
                return
        self.ready.append(Malformed(line=line, reason=f"attribute of a trace left out: {reason}"))

    def _end_event(self, event: _Node) -> None:
        trace = self._open[-1]
        attributes = {f"case:{key}": value for key, value in trace.children}
        attributes.update(event.children)
        self.ready.append(_Record(event.line, attributes, event.problem))


def _json(node: _Node) -> Any:
    """The value of a complete attribute; with attributes of its own it becomes a mapping."""
    if node.kind == "list":
        return [{key: value} for key, value in node.children]
    if node.kind == "container":
        return dict(node.children)
    if node.children and node.value is not _NO_VALUE:
        return {"value": node.value, "children": dict(node.children)}
    return node.value


def _text(attributes: dict[str, Any], name: str) -> str:
    """An attribute that tells who, what or when; empty if it is missing or blank."""
    value = attributes.get(name)
    if isinstance(value, dict):
        value = value.get("value")
    text = "" if value is None else str(value)
    return text if text.strip() else ""


def _string(key: str, text: str | None) -> str:
    if text is None:
        raise NotAnEvent(f"{key!r} has no value")
    return text


def _date(key: str, text: str | None) -> str:
    text = _string(key, text).strip()
    try:
        parse_time(text)
    except NotAnEvent as error:
        raise NotAnEvent(f"{key!r}: {error}") from None
    return text


def _integer(key: str, text: str | None) -> int:
    text = _string(key, text).strip()
    try:
        if _INTEGER.fullmatch(text):
            return int(text)
    except ValueError:
        # More digits than Python reads: as little a number as letters would be.
        pass
    raise NotAnEvent(f"{key!r}: {shorten(text)} is no integer")


def _float(key: str, text: str | None) -> Any:
    text = _string(key, text).strip()
    try:
        number = float("x" if "_" in text else text)
    except ValueError:
        raise NotAnEvent(f"{key!r}: {shorten(text)} is no number") from None
    if math.isnan(number):
        # What statistics tools write for "no value"; like an empty cell, it is no attribute.
        return _NO_VALUE
    if math.isinf(number):
        raise NotAnEvent(f"{key!r}: {shorten(text)} is not finite, and JSON has no such number")
    return number


def _boolean(key: str, text: str | None) -> bool:
    text = _string(key, text).strip()
    if text.lower() not in _BOOLEANS:
        raise NotAnEvent(f"{key!r}: {shorten(text)} is neither true nor false")
    return _BOOLEANS[text.lower()]


def _nothing(_key: str, _text: str | None) -> Any:
    return _NO_VALUE


_CONVERT: dict[str, Callable[[str, str | None], Any]] = {
    "string": _string,
    "id": _string,
    "date": _date,
    "int": _integer,
    "float": _float,
    "boolean": _boolean,
    "list": _nothing,
    "container": _nothing,
}
_STRUCTURE = frozenset({("trace", "log"), ("event", "log"), ("event", "trace"), ("values", "list")})
_HOLDERS = frozenset({"trace", "event", "values", *_CONVERT})


def _refuse_entity(name: str, *_rest: object) -> None:
    # A few entities that name each other can grow to gigabytes, or read files of this machine.
    raise EventLogError(
        f"The file declares the entity {name!r}. Entities can be used for attacks and no event "
        "log needs them; remove the declaration."
    )
