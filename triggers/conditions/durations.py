"""Durations as the configuration spells them: ISO 8601, of units that always have one length.

And how sentences spell durations and moments.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

LONGEST = timedelta(days=366_000)
"""About a thousand years: with more, a due time would leave the calendar."""

_FORM = re.compile(
    r"P(?=[0-9T])(?:(?P<weeks>[0-9]+)W)?(?:(?P<days>[0-9]+)D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?"
    r"(?:(?P<seconds>[0-9]+)(?:[.,](?P<fraction>[0-9]+))?S)?)?"
)
# Only to tell people what is wrong; a "T" comes before it where "M" means minutes.
_CALENDAR = re.compile(r"P[0-9.,YMWD]*[0-9][YM]")
_DIGITS = 15
_HINT = "write an ISO 8601 duration such as 'P3D', 'PT1H30M' or 'PT0.5S'"


def parse_duration(text: str) -> timedelta:
    """The length of an ISO 8601 duration such as ``P1W``, ``P3D``, ``PT1H30M`` or ``PT0.5S``.

    :param text: weeks, days, hours, minutes and seconds, in this order, each at most once; the
        seconds may have up to six decimals.
    :raises ValueError: it is no such duration, not longer than zero, longer than
        :data:`LONGEST`, or counts months or years, which have no fixed length.
    """
    if not isinstance(text, str):
        raise ValueError(f"expected a duration, got {type(text).__name__}; {_HINT}")
    found = _FORM.fullmatch(text)
    if found is None:
        if _CALENDAR.match(text):
            raise ValueError(
                f"{text!r} counts months or years, which have no fixed length; write weeks, days, "
                "hours, minutes or seconds, such as 'P30D'"
            )
        raise ValueError(f"{_shortened(text)} is no duration; {_HINT}")
    parts = found.groupdict(default="0")
    fraction = parts.pop("fraction")
    if len(fraction) > 6:
        raise ValueError(f"{_shortened(text)} is finer than a microsecond; {_HINT}")
    too_long = any(len(digits.lstrip("0")) > _DIGITS for digits in parts.values())
    try:
        length = (
            LONGEST * 2
            if too_long
            else timedelta(
                microseconds=int(fraction.ljust(6, "0")),
                **{unit: int(digits) for unit, digits in parts.items()},
            )
        )
    except OverflowError:
        length = LONGEST * 2
    if length > LONGEST:
        raise ValueError(f"{_shortened(text)} is longer than a thousand years; {_HINT}")
    if not length:
        raise ValueError(f"{_shortened(text)} is no time at all; a duration is longer than zero")
    return length


def format_duration(length: timedelta) -> str:
    """An ISO 8601 text for a length of time, for sentences; a negative one begins with ``-``."""
    sign, length = ("-", -length) if length < timedelta(0) else ("", length)
    minutes, seconds = divmod(length.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    decimals = f".{length.microseconds:06}".rstrip("0") if length.microseconds else ""
    days = f"{length.days}D" if length.days else ""
    times = f"{hours}H" if hours else ""
    times += f"{minutes}M" if minutes else ""
    times += f"{seconds}{decimals}S" if seconds or decimals else ""
    if not days and not times:
        return "PT0S"
    return f"{sign}P{days}" + (f"T{times}" if times else "")


def format_moment(at: datetime) -> str:
    """A moment for sentences: ISO 8601 in UTC, with milliseconds where there are some.

    :param at: an aware datetime.
    """
    precision = "milliseconds" if at.microsecond else "seconds"
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
