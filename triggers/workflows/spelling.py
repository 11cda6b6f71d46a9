"""From Python values to the JSON of the configuration language: durations, filters, names.

Every function here returns plain JSON, or raises ``TypeError`` or ``ValueError`` at the line that
is wrong. What the JSON means is not decided here but by :mod:`triggers.configuration`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

from triggers import payload
from triggers.conditions import registered
from triggers.conditions.durations import format_duration, parse_duration
from triggers.conditions.filters import OPERATORS
from triggers.configuration.likeness import meant_by

Duration = str | timedelta | int | float
"""ISO 8601 text, a ``timedelta``, or a number of seconds."""

Filter = str | Callable[..., Any] | Mapping[str, Any]
"""A predicate, by name or as function, or tests by path."""

Provider = str | Callable[..., Mapping[str, Any]]
"""A provider, by name or as function."""

ARGS = "$args."

# What Django calls other than this language, or has and this language has not.
_DJANGO = {
    "exact": "use eq, or leave it out",
    "isnull": "use exists",
    "regex": "use matches",
    "iexact": "use matches with (?i)",
    "iregex": "use matches with (?i)",
    "icontains": "use matches with (?i)",
    "startswith": "use matches with ^",
    "endswith": "use matches with $",
    "istartswith": "use matches with (?i)^",
    "iendswith": "use matches with (?i)…$",
}


_LONG_OPERATORS = frozenset(name for name in OPERATORS if len(name) > 3)

_DIGITS = 400
"""Digits of a whole number; a ``Decimal`` with an exponent may have millions."""

_DESIGNATORS = {"weeks": "W", "days": "D", "hours": "H", "minutes": "M", "seconds": "S"}


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of JSON as a value: equal to, and hashed like, any other text of the same JSON.

    :ivar text: the JSON as it was written, with its order of keys.
    """

    text: str = field(compare=False)
    canonical: str

    @property
    def value(self) -> Any:
        """The JSON itself, fresh each time."""
        return json.loads(self.text)


def written(value: Any) -> Written:
    """A piece of plain JSON as a value."""
    return Written(payload.dump(value), json.dumps(value, sort_keys=True))


def duration(value: Duration | None, units: Mapping[str, float]) -> str:
    """ISO 8601 text, with the units as they were given: ``hours=72`` is ``PT72H``.

    :param value: the duration as a whole; or else ``units`` has it.
    :raises TypeError: both or neither are given, or something is of no use as a duration.
    :raises ValueError: the language does not know such a duration.
    """
    unknown = units.keys() - _DESIGNATORS.keys()
    if unknown:
        known = ", ".join(_DESIGNATORS)
        raise TypeError(f"A duration has no {', '.join(sorted(unknown))}; its units are {known}.")
    if (value is None) == (not units):
        raise TypeError("Give one duration: 'PT72H', a timedelta, seconds, or such as hours=72.")
    if isinstance(value, str):
        text = value
    elif isinstance(value, timedelta):
        text = format_duration(value)
    elif value is not None:
        text = _formatted({"seconds": _number(value)})
    elif all(isinstance(_number(each), int) and each >= 0 for each in units.values()):
        text = _as_given(units)
    else:
        text = _formatted(units)
    parse_duration(text)
    return text


def members_of(
    filters: Iterable[Filter], keywords: Mapping[str, Any], prefix: str = ""
) -> list[Any]:
    """The members of a filter: names of predicates, and tests by path.

    :param filters: predicates or mappings of tests.
    :param keywords: tests as Django writes them: ``page__number__gte=3``.
    :param prefix: what stands before each path.
    :raises TypeError: there is nothing in it, or something that is no filter.
    """
    found: list[Any] = [_filter(each, prefix) for each in filters]
    for keyword, value in keywords.items():
        path, test = _keyword(keyword, value)
        found.append({prefix + path: test})
    if not found:
        raise TypeError("where() needs a test: channel='web', {'page.number': {'gte': 3}}, ….")
    return found


def joined(known: Written | None, more: Iterable[Any]) -> Written:
    """A filter that passes where the known one and all of the others pass."""
    members: list[Any] = []
    if known is not None:
        value = known.value
        members = value if isinstance(value, list) else [value]
    for each in more:
        _add(members, each)
    return written(members[0] if len(members) == 1 else members)


def filter_json(value: Any, place: str) -> Any:
    """The JSON of a filter that was given to ``when=``: functions by name, the rest as it is.

    :param place: where it stands, for the error.
    """
    if isinstance(value, list | tuple):
        return [filter_json(each, place) for each in value]
    if isinstance(value, Mapping):
        return spelled(value, place)
    return predicate_name(value) if callable(value) else value


def predicate_name(function: str | Callable[..., Any]) -> str:
    """The name under which a predicate is registered.

    :raises CannotRegister: it is no function that could be registered, such as a lambda.
    :raises TypeError: it is not registered.
    """
    return _registered_name(registered._predicates, function)


def provider_name(function: str | Callable[..., Any]) -> str:
    """The name under which a provider is registered.

    :raises CannotRegister: it is no function that could be registered, such as a lambda.
    :raises TypeError: it is not registered.
    """
    return _registered_name(registered._providers, function)


def trigger_name(value: Any, what: str) -> str:
    """The name of a trigger, given as text or as a function that was declared in a workflow.

    :param what: who takes it, for the error: ``"on()"``.
    """
    declared = getattr(value, "declared_as", None)
    if declared is None and not isinstance(value, str):
        hint = "; give the name that the task has in its workflow" if callable(value) else ""
        raise TypeError(f"{what} takes the name of a trigger, got {type(value).__name__}{hint}.")
    return checked_text(declared or value, what)


def checked_text(value: Any, what: str) -> str:
    """Text that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{what} takes a str, got {type(value).__name__}.")
    if not value:
        raise ValueError(f"{what} takes a name, and it is empty.")
    return value


def exception_name(value: Any) -> str:
    """The name by which ``types`` of a failure knows an exception; of a class, qualified."""
    if isinstance(value, type) and issubclass(value, BaseException):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, str) and value:
        return value
    raise TypeError(f"failed() takes exceptions or names of them, got {value!r}.")


def whole_number(value: Any, what: str) -> int:
    """An ``int`` that is no ``bool``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} takes a whole number, got {type(value).__name__}.")
    return value


def spelled(value: Any, place: str) -> Any:
    """A value of a filter as plain JSON that compares with it.

    A ``Decimal`` becomes a number; a date, a time or a ``UUID`` the text that spells it.

    :param place: where it stands, for the error: ``"page__number__gte"``.
    :raises TypeError: JSON has nothing that compares with it.
    """
    if isinstance(value, Mapping):
        return {key: spelled(item, f"{place}, {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spelled(item, place) for item in value]
    if isinstance(value, Set):
        return sorted((spelled(item, place) for item in value), key=payload.dump)
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise TypeError(f"{place}: a datetime without a time zone is ambiguous; make it aware.")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _spelled_number(value, place)
    if isinstance(value, UUID):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    hint = "; write a list" if isinstance(value, Iterable) else ""
    raise TypeError(f"{place}: a filter cannot hold a {type(value).__name__}{hint}.")


def _spelled_number(value: Decimal, place: str) -> int | float:
    if value.is_finite():
        if value == value.to_integral_value() and value.adjusted() < _DIGITS:
            return int(value)
        number = float(value)
        if Decimal(repr(number)) == value:
            return number
    raise TypeError(
        f"{place}: {value} is no number that JSON can hold exactly; write it as text, "
        f"{str(value)!r}, which compares with a Decimal that was fired, but with no int or float."
    )


def _registered_name(register: registered._Register, function: str | Callable[..., Any]) -> str:
    if isinstance(function, str):
        return function
    for name, entry in register.entries.items():
        if entry.function is function:
            return name
    register._check_function(function)  # of what could not be registered it says why
    what = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"{what} is no registered {register.kind}; put @{register.kind} above it.")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"A duration is made of numbers, got {type(value).__name__}.")
    return value


def _formatted(units: Mapping[str, float]) -> str:
    try:
        return format_duration(timedelta(**units))
    except OverflowError as error:
        raise ValueError(f"That is no duration: {error}") from error


def _as_given(units: Mapping[str, float]) -> str:
    given = {unit: value for unit, value in units.items() if value}
    parts = [
        (unit in ("weeks", "days"), f"{given[unit]}{letter}")
        for unit, letter in _DESIGNATORS.items()
        if unit in given
    ]
    dates = "".join(text for is_date, text in parts if is_date)
    times = "".join(text for is_date, text in parts if not is_date)
    return f"P{dates}" + (f"T{times}" if times else "") if parts else "PT0S"


def _filter(value: Any, prefix: str) -> Any:
    if isinstance(value, Mapping):
        return {f"{prefix}{path}": spelled(test, f"{path}") for path, test in value.items()}
    if prefix:
        raise TypeError("A predicate gets the arguments if it has a parameter 'args'; use where().")
    if isinstance(value, str) or callable(value):
        return predicate_name(value)
    raise TypeError(f"Expected a predicate or a mapping of tests, got {type(value).__name__}.")


def _keyword(keyword: str, value: Any) -> tuple[str, Any]:
    """Path and test of ``page__number__gte=3``."""
    *path, last = keyword.split("__")
    if path and last in OPERATORS:
        return ".".join(path), {last: spelled(value, keyword)}
    hint = _instead_of(last) if path else None
    if hint is not None:
        raise TypeError(
            f"There is no test {last!r} in {keyword}; {hint} If {last!r} is a key, "
            f"write {{'{'.'.join([*path, last])}': …}}."
        )
    test = spelled(value, keyword)
    # A mapping would be read as a mapping of tests.
    return ".".join([*path, last]), {"eq": test} if isinstance(value, Mapping) else test


def _instead_of(word: str) -> str | None:
    """What to write in place of a word that is no operator; ``None`` if it may be a key."""
    if word in _DJANGO:
        return f"{_DJANGO[word]}."
    # Of two or three letters most words are alike: "net" and "ne" are a price and an operator.
    once = "".join(letter for letter, _run in groupby(word.casefold()))
    meant = once if once in OPERATORS else meant_by(word, _LONG_OPERATORS, cutoff=0.8)
    return None if meant is None else f"did you mean {meant!r}?"


def _add(members: list[Any], new: Any) -> None:
    """Join tests into one mapping where they say nothing different of one path."""
    if not isinstance(new, dict):
        if new not in members:
            members.append(new)
        return
    for member in members:
        if isinstance(member, dict):
            shared = {path: _both(member[path], new[path]) for path in new if path in member}
            if None not in shared.values():
                member.update({**new, **shared})
                return
    members.append(new)


def _both(one: Any, other: Any) -> dict[str, Any] | None:
    """Two tests of one path as one; ``None`` if they have an operator in common."""
    one = one if isinstance(one, dict) else {"eq": one}
    other = other if isinstance(other, dict) else {"eq": other}
    return None if one.keys() & other.keys() else {**one, **other}
