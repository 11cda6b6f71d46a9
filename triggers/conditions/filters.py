"""Filters: which firings of a trigger pass for a task (``when``).

Pure but for predicates, which are the user's functions: a filter is asked about kwargs, and says
why they do not pass. How values compare is written down in ``docs/reference/language.rst``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final
from uuid import UUID

from triggers.conditions.registered import get_predicate, takes_args
from triggers.exceptions import PredicateFailed

ARGS = "$args"
"""What a path begins with that looks at the arguments of the source task."""


class _Missing(Enum):
    MISSING = "is not there"


MISSING: Final = _Missing.MISSING
"""What :func:`look_up` gives where a path leads nowhere."""

Arguments = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Everything that ``when`` asks of one trigger; all of it must pass, in this order."""

    checks: tuple[_Test | _Named, ...]

    @property
    def uses_args(self) -> bool:
        """Whether it may ask for the arguments of the source task."""
        return any(check.uses_args for check in self.checks)

    def refusal(self, kwargs: Mapping[str, Any], args: Arguments) -> str | None:
        """Why a firing with these kwargs does not pass, for people; ``None`` if it does.

        :param kwargs: the decoded kwargs of the firing.
        :param args: gives the arguments of the source task, kwargs by trigger name; called at most
            once, and only if something asks for them.
        :raises PredicateFailed: a predicate raised an exception.
        :raises UnregisteredFunction: there is no such predicate in this process.
        """
        kept: list[Mapping[str, Any]] = []

        def args_once() -> Mapping[str, Any]:
            if not kept:
                kept.append(args())
            return kept[0]

        for check in self.checks:
            reason = check.refusal(kwargs, args_once)
            if reason is not None:
                return reason
        return None


@dataclass(frozen=True, slots=True)
class _Test:
    """One operator on the value at one path."""

    path: str
    operator: str
    operand: Any

    @property
    def uses_args(self) -> bool:
        return is_of_args(self.path)

    def refusal(self, kwargs: Mapping[str, Any], args: Arguments) -> str | None:
        if self.uses_args:
            found = look_up(args(), self.path[len(ARGS) + 1 :])
        else:
            found = look_up(kwargs, self.path)
        is_asked = found is not MISSING or self.operator == "exists"
        if is_asked and OPERATORS[self.operator](found, self.operand):
            return None
        if found is MISSING:
            return f"{self.path} is not there"
        wanted = self.operand.pattern if self.operator == "matches" else self.operand
        return f"{self.path} {self.operator} {_shown(wanted)}, got {_shown(found)}"


@dataclass(frozen=True, slots=True)
class _Named:
    """A predicate, looked up by its name when it is needed."""

    name: str

    @property
    def uses_args(self) -> bool:
        return takes_args(self.name)

    def refusal(self, kwargs: Mapping[str, Any], args: Arguments) -> str | None:
        function = get_predicate(self.name)
        # Copies: what a predicate does to its kwargs must not reach the next one, or the task.
        own = copy.deepcopy(dict(kwargs))
        extra = {"args": copy.deepcopy(dict(args()))} if self.uses_args else {}
        try:
            passed = bool(function(own, **extra))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise PredicateFailed(self.name, "", reason) from error
        return None if passed else f"predicate {self.name}"


def filter_of(raw: Any) -> Filter:
    """The filter of one trigger: a predicate's name, tests by path, or a list of filters.

    :param raw: a value of ``when`` that the validator has accepted.
    """
    return Filter(tuple(_checks(raw)))


def _checks(raw: Any) -> Iterator[_Test | _Named]:
    if isinstance(raw, str):
        yield _Named(raw)
    elif isinstance(raw, Mapping):
        for path, wanted in raw.items():
            tests = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
            for operator, operand in tests.items():
                yield _Test(
                    path, operator, re.compile(operand) if operator == "matches" else operand
                )
    else:
        for each in raw:
            yield from _checks(each)


def predicates_of(raw: Any) -> Iterator[str]:
    """Names of the predicates in a filter that the validator has accepted."""
    return (check.name for check in _checks(raw) if isinstance(check, _Named))


def is_of_args(path: str) -> bool:
    """Whether a path looks at the arguments of the source task."""
    return path.startswith(ARGS + ".")


def look_up(value: Any, path: str) -> Any:
    """The value that a path of dotted keys leads to, or :data:`MISSING`.

    Where a key itself contains dots, the longest key that leads on is taken. A number is a
    position where the value is a list.
    """
    ends = [index for index, mark in enumerate(path) if mark == "."] + [len(path)]
    # What is still to be tried, the best last; not recursive, since a payload may be deep.
    trail: list[tuple[Any, int, int]] = [(value, 0, 0)]
    while trail:
        here, start, part = trail.pop()
        if part == len(ends):
            return here
        if isinstance(here, Mapping):
            for last in range(part, len(ends)):
                key = path[start : ends[last]]
                if key in here:
                    trail.append((here[key], ends[last] + 1, last + 1))
        elif isinstance(here, list | tuple):
            position = path[start : ends[part]]
            if position.isascii() and position.isdecimal() and len(position) < 10:
                index = int(position)
                if index < len(here):
                    trail.append((here[index], ends[part] + 1, part + 1))
    return MISSING


def split_from(text: str, names: Collection[str]) -> tuple[str, str]:
    """Take ``{"from": "b.path"}`` apart into trigger and path.

    :param text: a trigger name and a path in its kwargs, joined by a dot.
    :param names: the names that the task names elsewhere; the longest that the text begins with
        is the trigger, else it is what stands before the first dot.
    :raises ValueError: there is no trigger, or no path.
    """
    known = max((name for name in names if text.startswith(name + ".")), key=len, default=None)
    trigger, dot, path = (known, ".", text[len(known) + 1 :]) if known else text.partition(".")
    if not dot or (known is None and text in names):
        raise ValueError(f"{text!r} has no path; write the trigger, a dot and a path in its kwargs")
    if not trigger:
        raise ValueError(f"{text!r} has no trigger; write the trigger, a dot and a path")
    if not all(path.split(".")):
        raise ValueError(f"{text!r} has an empty part in its path")
    return trigger, path


def _is_equal(found: Any, wanted: Any) -> bool:
    for constant in (None, True, False):  # 1 == True for Python only
        if found is constant or wanted is constant:
            return found is wanted
    if isinstance(found, Mapping):
        return (
            isinstance(wanted, Mapping)
            and found.keys() == wanted.keys()
            and all(_is_equal(value, wanted[key]) for key, value in found.items())
        )
    if isinstance(found, list | tuple):
        return (
            isinstance(wanted, list | tuple)
            and len(found) == len(wanted)
            and all(map(_is_equal, found, wanted))
        )
    pair = _as_one_kind(found, wanted)
    return pair is not None and bool(pair[0] == pair[1])


def _in_order(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def passes(found: Any, wanted: Any) -> bool:
        pair = _as_one_kind(found, wanted)
        try:
            return pair is not None and compare(*pair)
        except TypeError:  # one time of day with a time zone, one without
            return False

    return passes


def _contains(found: Any, wanted: Any) -> bool:
    if isinstance(found, str | Mapping):
        return isinstance(wanted, str) and wanted in found
    return isinstance(found, list | tuple) and any(_is_equal(each, wanted) for each in found)


OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": _is_equal,
    "ne": lambda found, wanted: not _is_equal(found, wanted),
    "lt": _in_order(lambda found, wanted: bool(found < wanted)),
    "lte": _in_order(lambda found, wanted: bool(found <= wanted)),
    "gt": _in_order(lambda found, wanted: bool(found > wanted)),
    "gte": _in_order(lambda found, wanted: bool(found >= wanted)),
    "in": lambda found, wanted: any(_is_equal(found, each) for each in wanted),
    "contains": _contains,
    "containsAny": lambda found, wanted: any(_contains(found, each) for each in wanted),
    "exists": lambda found, wanted: (found is not MISSING) is wanted,
    "matches": lambda found, wanted: isinstance(found, str) and wanted.search(found) is not None,
}
"""What each operator says of a value of the kwargs (first) and of the configuration."""

_SPELLED: tuple[tuple[type, Callable[[str], Any]], ...] = (
    (Decimal, Decimal),
    (datetime, datetime.fromisoformat),  # before date, which it extends
    (date, date.fromisoformat),
    (time, time.fromisoformat),
    (UUID, UUID),
)


def _as_one_kind(found: Any, wanted: Any) -> tuple[Any, Any] | None:
    """A value of the kwargs and one of the configuration as Python can compare them."""
    if isinstance(found, str):
        return (found, wanted) if isinstance(wanted, str) else None
    if _is_number(found) and _is_number(wanted):
        if isinstance(found, Decimal) or isinstance(wanted, Decimal):
            return _as_decimal(found), _as_decimal(wanted)
        return found, wanted
    for kind, spelled in _SPELLED:
        if isinstance(found, kind):
            if isinstance(wanted, str):
                wanted = _read(wanted, spelled)
            same = isinstance(wanted, kind) and isinstance(wanted, datetime) == isinstance(
                found, datetime
            )
            return (found, wanted) if same else None
    return None


def _read(text: str, spelled: Callable[[str], Any]) -> Any:
    """What a text spells, or ``None``."""
    try:
        value = spelled(text)
    except (ValueError, InvalidOperation):
        return None
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _as_decimal(number: Any) -> Decimal:
    # 1.1 spells 1.1; the exact value of its float is another one.
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _shown(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        text = value.isoformat()
    elif isinstance(value, Decimal | UUID):
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"
