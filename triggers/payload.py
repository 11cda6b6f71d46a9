"""Kwargs and results as text: JSON, plus dates, times, decimals and UUIDs in kombu's typed form.

Everything that outlives a process passes through :func:`encode`, so a value that would not come
back as it went is refused while the caller can still do something about it. The typed form,
``{"__type__": "date", "__value__": "2026-11-21"}``, is what Celery's own JSON serializer writes
(``kombu.utils.json``), so a payload means the same in a message and in a storage.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from triggers.exceptions import InvalidPayload, PayloadTooLarge

DEFAULT_LIMIT = 1024 * 1024
"""Bytes of JSON that one payload may take unless the settings say otherwise."""

EMPTY = "{}"

_TYPED_FORM = {"__type__", "__value__"}
_ACCEPTED = "use str, int, float, bool, None, list, dict, date, time, datetime, Decimal or UUID"


def encode(value: Mapping[str, Any] | None, *, what: str, limit: int = DEFAULT_LIMIT) -> str:
    """Turn kwargs or a result into text.

    :param value: a mapping with string keys; ``None`` means an empty one.
    :param what: what the value is, for error messages (``"kwargs of 'pageReceived'"``).
    :param limit: bytes of UTF-8 that the text may take.
    :raises InvalidPayload: it is no mapping, or holds something that JSON cannot give back;
        the error names the key and the type.
    :raises PayloadTooLarge: the text is longer than ``limit``.
    """
    if not value:
        if value is None or isinstance(value, Mapping):
            return EMPTY
        raise _not_a_mapping(value, what)
    if isinstance(value, dict):
        plain: dict[str, Any] = value
    elif isinstance(value, Mapping):
        plain = dict(value)
    else:
        raise _not_a_mapping(value, what)
    try:
        if not _is_simple(plain):
            _check(plain, what)
        text = dump(plain)
        if not text.isascii() or "\\u0000" in text:
            _check(plain, what)
    except RecursionError as error:
        reason = "is nested too deeply, or contains itself; flatten it."
        raise InvalidPayload(what, type(value).__name__, reason) from error
    except ValueError as error:  # such as digits without end
        raise InvalidPayload(what, type(value).__name__, f"cannot be written: {error}") from error
    if len(text) * 4 > limit:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise PayloadTooLarge(what, size, limit)
    return text


def encode_by_trigger(kwargs: Mapping[str, Any], what: str) -> str:
    """Kwargs by trigger name as text: a mapping of mappings.

    :raises InvalidPayload: they are something else, or cannot be stored.
    :raises PayloadTooLarge: they are too much.
    """
    text = encode(kwargs, what=what)
    for trigger, values in kwargs.items():
        if not isinstance(values, Mapping):
            raise _not_a_mapping(values, f"{what}.{trigger}")
    return text


def decode(text: str) -> dict[str, Any]:
    """The inverse of :func:`encode`; every call makes fresh objects."""
    if text == EMPTY:
        return {}
    decoded: dict[str, Any]
    if "__type__" in text:
        from kombu.utils.json import object_hook

        decoded = json.loads(text, object_hook=object_hook)
    else:
        decoded = json.loads(text)
    return decoded


def dump(value: Any) -> str:
    """Text of a value that this package made itself (already checked, or plain JSON)."""
    return "".join(_encoded(value, 0))


def is_same(one: str, other: str) -> bool:
    """Whether two texts mean the same payload (the order of keys does not matter)."""
    return one == other or _canonical(one) == _canonical(other)


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one, mappings in them likewise; where both have a value, ``over`` wins.

    This is how ``withParams`` lie under the kwargs that were fired.
    """
    both = dict(under)
    for key, value in over.items():
        known = both.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            value = merged(known, value)
        both[key] = value
    return both


def describe(value: object) -> Any:
    """A JSON-safe stand-in for a value of any type, for metadata that must never fail to store.

    A copy of the value where that can be stored in 10,000 bytes, else its ``repr``, shortened.
    """
    try:
        return decode(encode({"value": value}, what="", limit=10_000))["value"]
    except (InvalidPayload, PayloadTooLarge):
        try:
            return safe_text(repr(value), 1000)
        except Exception:
            return f"<{type(value).__name__} that cannot be printed>"


def safe_text(text: str, limit: int = 100_000) -> str:
    """Text of any origin, made storable: shortened in the middle, unstorable characters replaced.

    :param limit: characters to keep.
    """
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {len(text) - limit:,} characters left out …\n{text[-half:]}"
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _typed(value: object) -> Any:
    # Here, and not above, so that the engine can be imported without Celery's libraries.
    from kombu.utils.json import JSONEncoder

    return JSONEncoder().default(value)


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_typed)


def _encode_slowly(value: Any, _level: int) -> tuple[str]:
    return (_encoder.encode(value),)


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    """What ``json`` encodes with, made once: making it takes longer than encoding a small value."""
    make = getattr(json.encoder, "c_make_encoder", None)
    escape = getattr(json.encoder, "encode_basestring", None)
    if make is None or escape is None:  # not CPython
        return _encode_slowly
    # Without marks against circles: what is deep without end meets the limit of recursion.
    made: Callable[[Any, int], Iterable[str]] = make(
        None, _typed, escape, None, ":", ",", False, False, True
    )
    return made


_encoded = _make_encoder()

_SIMPLE = frozenset({str, int, bool, type(None)})


def _not_a_mapping(value: object, what: str) -> InvalidPayload:
    name = type(value).__name__
    return InvalidPayload(what, name, f"expected a mapping with string keys, got {name}.")


def _is_simple(value: dict[Any, Any]) -> bool:
    """Whether a mapping holds nothing but what JSON has, its texts aside.

    Most do, and finding that out takes a third of the time of :func:`_check`.
    """
    for key, item in value.items():
        if type(key) is not str:
            return False
        kind = type(item)
        if kind is dict:
            if not _is_simple(item):
                return False
        elif kind is list:
            for each in item:
                if type(each) not in _SIMPLE:
                    return False
        elif kind not in _SIMPLE:
            return False
    return value.keys() != _TYPED_FORM


def _check(value: Any, path: str) -> None:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        if kind is str:
            check_text(value, path)
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidPayload(path, kind.__name__, f"JSON has no {value!r}; use None or a str.")
    elif isinstance(value, dict):
        _check_mapping(value, path)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]")
    elif isinstance(value, datetime):
        if value.utcoffset() is None:
            reason = "a datetime without a time zone is ambiguous; make it aware."
            raise InvalidPayload(path, kind.__name__, reason)
    elif isinstance(value, str):
        check_text(value, path)
    elif isinstance(value, Decimal):
        if not value.is_finite():
            raise InvalidPayload(path, kind.__name__, f"{value} is no number; use None or a str.")
    elif not isinstance(value, int | date | time | UUID):
        reason = f"cannot store a {kind.__module__}.{kind.__qualname__}; {_ACCEPTED}."
        raise InvalidPayload(path, kind.__name__, reason)


def _check_mapping(value: dict[Any, Any], path: str) -> None:
    if value.keys() == _TYPED_FORM:
        reason = "a mapping of just '__type__' and '__value__' is reserved for typed values."
        raise InvalidPayload(path, "dict", reason)
    for key, item in value.items():
        if not isinstance(key, str):
            name = type(key).__name__
            raise InvalidPayload(path, name, f"keys must be strings, got {key!r} ({name}).")
        check_text(key, path)
        _check(item, f"{path}.{key}" if path else key)


def check_text(value: str, path: str) -> None:
    """Refuse text that not every storage can hold.

    :raises InvalidPayload: it contains U+0000 or a lone surrogate.
    """
    # PostgreSQL cannot store U+0000, and a lone surrogate has no UTF-8 form at all.
    if "\x00" in value:
        raise InvalidPayload(path, "str", "contains U+0000, which not every storage can hold.")
    if value.isascii():
        return
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidPayload(path, "str", "contains a lone surrogate, which is no text.") from None
