"""Durations are ISO 8601, of units that always have one length."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.conditions.durations import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("P1W", timedelta(weeks=1)),
        ("P3D", timedelta(days=3)),
        ("PT12H", timedelta(hours=12)),
        ("PT72H", timedelta(hours=72)),
        ("PT1H30M", timedelta(minutes=90)),
        ("PT90M", timedelta(minutes=90)),
        ("PT5S", timedelta(seconds=5)),
        ("PT0.5S", timedelta(milliseconds=500)),
        ("PT0,5S", timedelta(milliseconds=500)),
        ("PT0.000001S", timedelta(microseconds=1)),
        ("P1W2DT3H4M5.25S", timedelta(9, 5, 250_000, minutes=4, hours=3)),
        ("P0DT1S", timedelta(seconds=1)),
        ("PT0000000000000000000001S", timedelta(seconds=1)),
        ("P366000D", LONGEST),
    ],
)
def test_a_duration_has_the_length_that_it_spells(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no duration; write an ISO 8601 duration such as 'P3D'"),
        ("P", "is no duration"),
        ("PT", "is no duration"),
        ("P1DT", "is no duration"),
        ("12h", "is no duration"),
        ("pt5s", "is no duration"),
        ("PT5S ", "is no duration"),
        ("PT5S\n", "is no duration"),
        ("-P1D", "is no duration"),
        ("P-1D", "is no duration"),
        ("P1.5D", "is no duration"),
        ("PT1.H", "is no duration"),
        ("PT.5S", "is no duration"),
        ("PT1S1M", "is no duration"),
        ("P1D1W", "is no duration"),
        ("PT1D", "is no duration"),
        ("PT\u0665S", "is no duration"),
        ("P" + "9" * 5000 + "D", "longer than a thousand years"),
        ("P366001D", "longer than a thousand years"),
        ("P999999999999D", "longer than a thousand years"),
        ("PT0.0000001S", "finer than a microsecond"),
        ("P1Y", "'P1Y' counts months or years, which have no fixed length"),
        ("P1M", "such as 'P30D'"),
        ("P1M2D", "months or years"),
        ("P1Y2M3DT4H", "months or years"),
        ("PT0S", "no time at all"),
        ("P0D", "no time at all"),
        (5, "expected a duration, got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_duration_is_refused_and_the_error_says_what_to_write(
    text: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=r"duration|such as") as caught:
        parse_duration(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(hours=12), "PT12H"),
        (timedelta(days=3), "P3D"),
        (timedelta(weeks=1), "P7D"),
        (timedelta(days=1, hours=2), "P1DT2H"),
        (timedelta(minutes=90), "PT1H30M"),
        (timedelta(milliseconds=500), "PT0.5S"),
        (timedelta(seconds=1, microseconds=10), "PT1.00001S"),
        (timedelta(0), "PT0S"),
        (-timedelta(minutes=5), "-PT5M"),
    ],
)
def test_a_length_of_time_is_written_shortly(length: timedelta, text: str) -> None:
    assert format_duration(length) == text


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=LONGEST))
def test_what_is_written_is_read_back(length: timedelta) -> None:
    assert parse_duration(format_duration(length)) == length
