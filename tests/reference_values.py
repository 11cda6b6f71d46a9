"""What values mean in the configuration language: paths, filters, durations. A second reading.

The other part is :mod:`tests.reference_language`. All tests that a filter may name are here, on the
values of plain JSON only.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

Kwargs = dict[str, Any]

NOWHERE = object()

PREDICATES: dict[str, Callable[[Kwargs], object]] = {
    "tests_is_even": lambda kwargs: kwargs.get("n", 0) % 2 == 0,
    "tests_is_fragile": lambda kwargs: 1 / (kwargs.get("n", 1)),
}
"""Predicates by name; the second one raises where ``n`` is 0."""


class RefusedError(ValueError):
    """The text does not allow this operation now."""


def _in_order(compare: Callable[[Any, Any], bool], value: Any, wanted: Any) -> bool:
    numbers = (int, float)
    for kind in (numbers, str):
        if isinstance(value, kind) and isinstance(wanted, kind):
            return bool not in (type(value), type(wanted)) and compare(value, wanted)
    return False


def _equal(value: Any, wanted: Any) -> bool:
    return (type(value) is bool) == (type(wanted) is bool) and bool(value == wanted)


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _equal,
    "ne": lambda value, wanted: not _equal(value, wanted),
    "lt": lambda value, wanted: _in_order(operator.lt, value, wanted),
    "lte": lambda value, wanted: _in_order(operator.le, value, wanted),
    "gt": lambda value, wanted: _in_order(operator.gt, value, wanted),
    "gte": lambda value, wanted: _in_order(operator.ge, value, wanted),
    "in": lambda value, wanted: any(_equal(value, each) for each in wanted),
    "contains": lambda value, wanted: isinstance(value, list | str | dict) and wanted in value,
    "matches": lambda value, wanted: isinstance(value, str) and bool(re.search(wanted, value)),
}


def filter_passes(given: Any, kwargs: Kwargs, arguments: dict[str, Kwargs] | None) -> bool:
    """Return whether kwargs pass one filter.

    :param arguments: of the instance whose outcome the firing is, if it is one.
    :raises RefusedError: a predicate raised.
    """
    if isinstance(given, str):
        try:
            return bool(PREDICATES[given](deepcopy(kwargs)))
        except Exception as error:
            raise RefusedError(f"{given} raised {error!r}") from None
    for path, tests in given.items():
        value = lookup(kwargs, path)
        if path.startswith("$args."):
            value = lookup(arguments or {}, path.removeprefix("$args."))
        for test, wanted in (tests if isinstance(tests, dict) else {"eq": tests}).items():
            if test == "exists":
                passes = (value is not NOWHERE) == wanted
            else:
                passes = value is not NOWHERE and TESTS[test](value, wanted)
            if not passes:
                return False
    return True


def lookup(value: Any, path: str) -> Any:
    """Follow a path of keys and positions; return ``NOWHERE`` where it does not lead on."""
    if not path:
        return value
    parts = path.split(".")
    if isinstance(value, list) and parts[0].isdecimal() and int(parts[0]) < len(value):
        return lookup(value[int(parts[0])], ".".join(parts[1:]))
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if isinstance(value, dict) and key in value:
            return lookup(value[key], ".".join(parts[length:]))
    return NOWHERE


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return both; where both have a key, what lies over wins, or both are merged."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = merged(under[key], over[key])
    return both


def seconds(duration: str) -> float:
    """Return the length of an ISO 8601 duration such as ``P1DT2H``."""
    date, _, time = duration.removeprefix("P").partition("T")
    sizes = {"W": 604_800, "D": 86_400}, {"H": 3_600, "M": 60, "S": 1}
    length = 0.0
    for part, size in zip((date, time), sizes, strict=True):
        for number, unit in re.findall(r"([\d.]+)([WDHMS])", part):
            length += float(number) * size[unit]
    return length
