"""What can be stored comes back as it went; what cannot is refused with its key and its type."""

from __future__ import annotations

import functools
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from triggers import payload
from triggers.exceptions import InvalidPayload, PayloadTooLarge

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


@given(st.dictionaries(text, values))
def test_what_is_accepted_comes_back_equal(kwargs: dict[str, Any]) -> None:
    assert payload.decode(payload.encode(kwargs, what="kwargs")) == kwargs


@given(st.dictionaries(text, values))
def test_celery_reads_what_we_write(kwargs: dict[str, Any]) -> None:
    assert kombu_json.loads(payload.encode(kwargs, what="kwargs")) == kwargs


class Color(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("kwargs", "path", "kind"),
    [
        ({"a": {"b": [1, object()]}}, "kwargs.a.b[1]", "object"),
        ({"a": {1: 2}}, "kwargs.a", "int"),
        ({None: 2}, "kwargs", "NoneType"),
        ({"a": float("nan")}, "kwargs.a", "float"),
        ({"a": float("-inf")}, "kwargs.a", "float"),
        ({"a": b"bytes"}, "kwargs.a", "bytes"),
        ({"a": {1, 2}}, "kwargs.a", "set"),
        ({"a": Color.RED}, "kwargs.a", "Color"),
        ({"a": datetime(2026, 1, 1)}, "kwargs.a", "datetime"),
        ({"a": timedelta(1)}, "kwargs.a", "timedelta"),
        ({"a": Decimal("NaN")}, "kwargs.a", "Decimal"),
        ({"a": 10**5000}, "kwargs", "dict"),
        ({"a": functools.reduce(lambda inner, _n: [inner], range(5000), [])}, "kwargs", "dict"),
        ({"a": "x\x00y"}, "kwargs.a", "str"),
        ({"a": "\ud800"}, "kwargs.a", "str"),
        ({"\ud800": 1}, "kwargs", "str"),
        ({"a": {"__type__": "date", "__value__": "x"}}, "kwargs.a", "dict"),
        ([1, 2], "kwargs", "list"),
        ([], "kwargs", "list"),
        ("", "kwargs", "str"),
        (7, "kwargs", "int"),
    ],
)
def test_what_cannot_come_back_is_refused(kwargs: Any, path: str, kind: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        payload.encode(kwargs, what="kwargs")
    assert (caught.value.path, caught.value.value_type) == (path, kind)
    assert str(caught.value).startswith(path)
    assert isinstance(caught.value, TypeError)


def test_what_is_too_deep_says_so() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in (functools.reduce(lambda inner, _n: [inner], range(3000), []), circle):
        with pytest.raises(InvalidPayload) as caught:
            payload.encode({"a": value}, what="kwargs of 'a'")
        assert str(caught.value) == (
            "kwargs of 'a': is nested too deeply, or contains itself; flatten it."
        )


unusable = st.sampled_from([float("nan"), b"bytes", {1: 2}, "x\x00y", "\ud800", {"__type__": 1}])
anything = st.recursive(
    values | unusable,
    lambda inner: st.lists(inner) | st.dictionaries(text | st.just("\x00"), inner),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(text, anything))
def test_a_quick_look_refuses_what_a_thorough_one_does(kwargs: dict[str, Any]) -> None:
    def refusal(simple: bool) -> str:
        with pytest.MonkeyPatch.context() as patch:
            if not simple:
                patch.setattr(payload, "_is_simple", lambda _value: False)
            try:
                payload.encode(kwargs, what="kwargs")
            except InvalidPayload as error:
                return str(error)
        return ""

    assert refusal(simple=True) == refusal(simple=False)


@given(st.dictionaries(text, values))
def test_where_json_has_no_encoder_in_c_the_text_is_the_same(kwargs: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json.encoder, "c_make_encoder", None)
        patch.setattr(payload, "_encoded", payload._make_encoder())
        assert payload._encoded is payload._encode_slowly
        slowly = payload.encode(kwargs, what="kwargs")
    assert payload.encode(kwargs, what="kwargs") == slowly


def test_nothing_is_the_empty_payload() -> None:
    assert payload.encode(None, what="") == payload.encode({}, what="") == payload.EMPTY
    assert payload.decode(payload.EMPTY) == {}


def test_tuples_come_back_as_lists_and_subclasses_as_what_they_are() -> None:
    class Name(str):
        __slots__ = ()

    class Kwargs(dict[str, Any]):
        pass

    text = payload.encode(Kwargs(a=(1, (2,)), b=Name("n")), what="")
    assert payload.decode(text) == {"a": [1, [2]], "b": "n"}


def test_other_mappings_are_accepted_at_the_top() -> None:
    from types import MappingProxyType

    assert payload.encode(MappingProxyType({"a": 1}), what="") == '{"a":1}'


def test_an_offset_survives() -> None:
    moment = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert payload.decode(payload.encode({"at": moment}, what=""))["at"].utcoffset() == timedelta(
        hours=5, minutes=30
    )


def test_size_is_counted_in_bytes_of_utf_8() -> None:
    text = payload.encode({"a": "ü" * 10}, what="kwargs", limit=28)
    assert len(text.encode()) == 28
    with pytest.raises(PayloadTooLarge, match="28 bytes as JSON; the limit is 27") as caught:
        payload.encode({"a": "ü" * 10}, what="kwargs", limit=27)
    assert (caught.value.size, caught.value.limit) == (28, 27)


def test_texts_with_keys_in_another_order_are_the_same_payload() -> None:
    assert payload.is_same('{"a":1,"b":2}', '{"b":2,"a":1}')
    assert not payload.is_same('{"a":1}', '{"a":2}')
    assert not payload.is_same('{"paid":1}', '{"paid":true}')


def test_any_value_can_be_described() -> None:
    assert payload.describe({"a": [1]}) == {"a": [1]}
    assert payload.describe(Decimal("1.5")) == Decimal("1.5")
    assert payload.describe({1, 2}) == "{1, 2}"
    loop: list[Any] = []
    loop.append(loop)
    assert payload.describe(loop) == "[[...]]"
    mine = [1]
    assert payload.describe(mine) is not mine
    assert len(payload.describe("x" * 20_000)) < 2_000
    assert payload.describe(10**5000) == "<int that cannot be printed>"


def test_any_text_can_be_made_storable() -> None:
    assert payload.safe_text("a\x00b\ud800") == "a\ufffdb?"
    short = payload.safe_text("x" * 1000, limit=100)
    assert "900 characters left out" in short
    assert short.startswith("x" * 50)
    assert short.endswith("x" * 50)


def test_the_typed_form_is_celerys() -> None:
    uuid = uuid4()
    kwargs = {"d": date(2026, 1, 2), "t": time(1, 2), "n": Decimal("0.10"), "u": uuid}
    assert json.loads(payload.encode(kwargs, what="")) == json.loads(kombu_json.dumps(kwargs))
