"""Filters: which kwargs pass, why others do not, and how values of different kinds compare."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.conditions import predicate
from triggers.conditions.filters import (
    MISSING,
    OPERATORS,
    filter_of,
    look_up,
    predicates_of,
    split_from,
)
from triggers.exceptions import PredicateFailed, UnregisteredFunction

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = date(2026, 11, 21)
UID = UUID("12345678-1234-5678-1234-567812345678")


@predicate("filters_is_large")
def is_large(kwargs: dict[str, Any]) -> Any:
    return kwargs["amount"] > 100 and "yes"


@predicate("filters_is_own")
def is_own(kwargs: dict[str, Any], args: dict[str, Any]) -> bool:
    return bool(args["order"]["owner"] == kwargs["owner"])


@predicate("filters_destroys")
def destroys(kwargs: dict[str, Any], args: dict[str, Any]) -> bool:
    kwargs["items"].clear()
    args["order"].clear()
    return True


def no_args() -> Mapping[str, Any]:
    raise AssertionError("nothing here asks for the arguments of the source task")


def passes(raw: Any, kwargs: Mapping[str, Any]) -> bool:
    return filter_of(raw).refusal(kwargs, no_args) is None


@pytest.mark.parametrize(
    ("operator", "operand", "passing", "refused"),
    [
        ("eq", 3, [3, 3.0, Decimal(3), Decimal("3.00")], [4, "3", True, None, [3], {"3": 3}]),
        ("eq", 1, [1, 1.0], [True, "1"]),
        ("eq", True, [True], [1, 1.0, "true", None]),
        ("eq", False, [False], [0, 0.0, None, "", []]),
        ("eq", None, [None], [False, 0, "", [], {}]),
        ("eq", 0.1, [0.1, Decimal("0.1")], [Decimal("0.1000000000000000055"), "0.1"]),
        ("eq", "web", ["web"], ["Web", "web ", ["web"], {"web": 1}]),
        ("eq", "1.10", [Decimal("1.1"), "1.10"], [1.1, "1.1"]),
        ("eq", Decimal("1.1"), [Decimal("1.10"), 1.1], ["1.1", 2, True]),
        ("eq", "NaN", ["NaN"], [Decimal(1)]),
        ("eq", "nothing", [], [Decimal(1), DAY, NOON, time(1), UID]),
        ("eq", "2026-11-21", [DAY, "2026-11-21"], [NOON, "21.11.2026"]),
        ("eq", "2026-11-21T13:00:00+01:00", [NOON], [DAY]),
        ("eq", "2026-11-21T12:00:00Z", [NOON], []),
        ("eq", "2026-11-21T12:00:00", [], [NOON]),
        ("eq", DAY, [DAY], [NOON, "2026-11-21"]),
        ("eq", NOON, [NOON], [DAY, "2026-11-21T12:00:00Z"]),
        ("eq", "12:30", [time(12, 30)], [time(12, 31)]),
        ("eq", str(UID), [UID, str(UID)], [UUID(int=1)]),
        ("eq", UID, [UID], [str(UID)]),
        ("eq", [1, "2026-11-21"], [[1, DAY], (1, DAY)], [[True, DAY], [1], [1, DAY, 2], "1", {}]),
        ("eq", {"a": [True]}, [{"a": [True]}], [{"a": [1]}, {"b": [True]}, {}, [True], "a"]),
        ("ne", 3, [4, "3", None, True], [3, 3.0]),
        ("ne", "2026-11-21", [NOON], [DAY]),
        ("lt", 3, [2, 2.9, Decimal("2.9")], [3, 4, "2", None, False, [2]]),
        ("lte", 3, [3, 2], [3.1, "3", Decimal("3.01")]),
        ("gt", "b", ["c", "ba"], ["b", "a", 99]),
        ("gte", 0.1, [Decimal("0.1"), 1], [Decimal("0.0999")]),
        ("gte", "2026-11-21", [DAY, date(2027, 1, 1)], [date(2026, 11, 20), NOON]),
        ("gt", "2026-11-21T12:00:00+00:00", [NOON.replace(hour=13)], [NOON]),
        ("gt", "2026-11-21T11:00:00", [], [NOON]),
        ("lt", "13:00", [time(12)], [time(13), time(12, tzinfo=UTC)]),
        ("lt", "2.5", [Decimal(2)], [2, Decimal(3)]),
        ("in", ["web", 1], ["web", 1, 1.0], ["app", True, ["web"]]),
        ("in", [], [], ["web", None]),
        ("in", ["2026-11-21"], [DAY], [NOON]),
        ("contains", 1, [[2, 1], [1.0]], [[True], ["1"], [], "1", 1, {"1": 1}, None]),
        ("contains", "a", ["cat", {"a": None}, ["a"]], ["", "CAT", {"b": "a"}, [["a"]], DAY]),
        ("contains", "2026-11-21", [[DAY]], [DAY]),
        ("containsAny", ["a", 1], ["cat", {"a": 0}, ["b", 1]], ["", "CAT", [True, "b"], 1, None]),
        ("containsAny", [], [], ["a", ["a"]]),
        ("exists", True, [None, False, 0, ""], []),
        ("exists", False, [], [None, 1]),
        ("matches", "^a.c$", ["abc"], ["xabc", ["abc"], None, {"abc": 1}]),
        ("matches", "b", ["abc"], ["ac", b"b"]),
        ("matches", "2026", ["2026-11-21"], [DAY, 2026]),
    ],
)
def test_an_operator_passes_what_the_table_of_the_language_says(
    operator: str, operand: Any, passing: list[Any], refused: list[Any]
) -> None:
    tests = {"value": {operator: operand}}
    assert [value for value in passing if not passes(tests, {"value": value})] == []
    assert [value for value in refused if passes(tests, {"value": value})] == []
    if operator == "eq" and not isinstance(operand, dict):
        assert [
            value for value in passing if not passes({"value": operand}, {"value": value})
        ] == []
        assert [value for value in refused if passes({"value": operand}, {"value": value})] == []


def test_a_path_that_leads_nowhere_passes_no_test_but_that_it_is_not_there() -> None:
    operands: dict[str, Any] = {"in": [None], "exists": True, "matches": ""}
    for operator in OPERATORS:
        tests = {"page.number": {operator: operands.get(operator)}}
        assert filter_of(tests).refusal({"page": {}}, no_args) == "page.number is not there"
    assert passes({"page.number": {"exists": False}}, {"page": {}})


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"page.number": {"gte": 3}}, "page.number gte 3, got 2"),
        ({"page.number": {"gte": 1, "lt": 2}}, "page.number lt 2, got 2"),
        ({"page.number": 3}, "page.number eq 3, got 2"),
        ({"channel": {"in": ["web", "app"]}}, 'channel in ["web", "app"], got "fäx"'),
        ({"channel": {"matches": "^w"}}, 'channel matches "^w", got "fäx"'),
        ({"channel": {"exists": False}}, 'channel exists false, got "fäx"'),
        ({"day": "2026-11-22"}, 'day eq "2026-11-22", got 2026-11-21'),
        ({"price": {"lt": Decimal("1.1")}}, "price lt 1.1, got 1.20"),
        ({"list": {"contains": 4}}, 'list contains 4, got [1, "2026-11-21"]'),
        ({"text": "x"}, f'text eq "x", got "{"y" * 78}…'),
        ({"page.number": 2, "text": "x", "channel": "web"}, f'text eq "x", got "{"y" * 78}…'),
        ([{"page.number": 2}, [{"channel": "web"}]], 'channel eq "web", got "fäx"'),
        ("filters_is_large", "predicate filters_is_large"),
    ],
)
def test_the_reason_says_what_was_asked_and_what_came(raw: Any, reason: str) -> None:
    kwargs = {
        "page": {"number": 2},
        "channel": "fäx",
        "day": DAY,
        "price": Decimal("1.20"),
        "list": [1, DAY],
        "text": "y" * 100,
        "amount": 1,
    }
    assert filter_of(raw).refusal(kwargs, no_args) == reason


def test_all_paths_all_operators_and_all_filters_of_a_list_must_pass() -> None:
    kwargs = {"page": 4, "channel": "web", "amount": 200}
    assert passes({"page": {"gte": 3, "lt": 9}, "channel": "web"}, kwargs)
    assert not passes({"page": {"gte": 3, "lt": 4}, "channel": "web"}, kwargs)
    assert passes([{"page": 4}, "filters_is_large", ["filters_is_large"]], kwargs)
    assert not passes([{"page": 4}, "filters_is_large"], {**kwargs, "amount": 2})


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("plain", 1),
        ("deep.er", {"list": [5, {"x": 6}]}),
        ("deep.er.list.0", 5),
        ("deep.er.list.1.x", 6),
        ("deep.er.list.2", MISSING),
        ("deep.er.list.-1", MISSING),
        ("deep.er.list.first", MISSING),
        ("deep.er.list.9999999999999", MISSING),
        ("deep.er.list.\u0661", MISSING),
        ("deep.er.list", [5, {"x": 6}]),
        ("dotted.key", "longest"),
        ("dotted.key.inner", "inside"),
        ("dotted.other", "shorter"),
        ("back.track.here", "found"),
        ("nothing", None),
        ("nothing.more", MISSING),
        ("plain.more", MISSING),
        ("text.0", MISSING),
        ("number.0", "a key"),
        ("tuple.1", "b"),
        ("", MISSING),
        ("absent", MISSING),
    ],
)
def test_a_path_takes_the_longest_key_that_leads_on(path: str, found: Any) -> None:
    value = {
        "plain": 1,
        "deep": {"er": {"list": [5, {"x": 6}]}},
        "dotted": {"key": {"inner": "inside"}, "other": "shorter"},
        "dotted.key": "longest",
        "back.track": {"there": 1},
        "back": {"track": {"here": "found"}},
        "nothing": None,
        "text": "abc",
        "number": {"0": "a key"},
        "tuple": ("a", "b"),
    }
    assert look_up(value, path) == found


def test_a_deep_payload_is_searched_without_recursion() -> None:
    value: Any = "bottom"
    for _ in range(1_200):
        value = {"a": value}
    assert look_up(value, ".".join("a" * 1_200)) == "bottom"


keys = st.sampled_from(["a", "b", "a.b", "b.a", "a.a.b", "0", "1"])
payloads = st.recursive(
    st.integers(0, 3),
    lambda inner: st.dictionaries(keys, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=12,
)
paths = st.lists(st.sampled_from("ab01"), min_size=1, max_size=5).map(".".join)


@given(payloads, paths)
def test_looking_up_agrees_with_trying_every_key(value: Any, path: str) -> None:
    assert look_up(value, path) == by_trying(value, path.split("."))


def by_trying(value: Any, parts: list[str]) -> Any:
    if not parts:
        return value
    if isinstance(value, list):
        here = dict(enumerate(value)).get(int(parts[0]), MISSING) if parts[0] in "01" else MISSING
        return MISSING if here is MISSING else by_trying(here, parts[1:])
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if isinstance(value, dict) and key in value:
            found = by_trying(value[key], parts[length:])
            if found is not MISSING:
                return found
    return MISSING


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, "", "a", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=5,
)


@given(plain, plain)
def test_the_operators_fit_together(one: Any, other: Any) -> None:
    answers = {name: test(one, other) for name, test in OPERATORS.items() if name in ORDERING}
    assert answers["ne"] is not answers["eq"]
    assert OPERATORS["eq"](other, one) is answers["eq"]
    assert OPERATORS["in"](one, [other]) is answers["eq"]
    assert OPERATORS["contains"]([one], other) is answers["eq"]
    assert OPERATORS["gt"](other, one) is answers["lt"]
    in_order = [answers[name] for name in ("lt", "gt", "eq")].count(True) == 1
    if answers["lte"] or answers["gte"]:
        assert in_order
        assert answers["lte"] is not answers["gt"]
        assert answers["gte"] is not answers["lt"]
    else:
        assert not answers["lt"]
        assert not answers["gt"]


ORDERING = {"eq", "ne", "lt", "lte", "gt", "gte"}


def test_paths_under_args_look_at_the_arguments_of_the_source_task() -> None:
    tests = filter_of({"$args.order.total": {"gte": 10}, "$args.order.paid.by": "card"})
    args = {"order": {"total": 10, "paid": {"by": "card"}}}
    assert tests.uses_args
    assert tests.refusal({}, lambda: args) is None
    assert tests.refusal({}, dict) == "$args.order.total is not there"
    assert tests.refusal({"$args.order.total": 12}, dict) == "$args.order.total is not there"
    assert filter_of({"$args.order": {"exists": False}}).refusal({}, dict) is None


def test_args_are_asked_for_once_and_only_if_something_needs_them() -> None:
    asked = []

    def args() -> Mapping[str, Any]:
        asked.append("args")
        return {"order": {"owner": "Ann", "total": 7}}

    without = filter_of([{"owner": "Ann"}, "filters_is_large"])
    assert not without.uses_args
    assert without.refusal({"owner": "Ann", "amount": 101}, args) is None
    assert asked == []
    several = filter_of([{"$args.order.total": 7, "$args.order.owner": "Ann"}, "filters_is_own"])
    assert several.uses_args
    assert several.refusal({"owner": "Ann"}, args) is None
    assert asked == ["args"]
    assert filter_of(["filters_is_own"]).refusal({"owner": "Bob"}, args) == (
        "predicate filters_is_own"
    )


def test_what_comes_first_and_fails_keeps_the_rest_from_being_asked() -> None:
    guarded = filter_of([{"amount": {"exists": True}}, "filters_is_large"])
    assert guarded.refusal({}, no_args) == "amount is not there"


def test_a_predicate_cannot_change_the_kwargs_of_others() -> None:
    kwargs = {"items": [1, 2]}
    args = {"order": {"owner": "Ann"}}
    assert filter_of("filters_destroys").refusal(kwargs, lambda: args) is None
    assert (kwargs, args) == ({"items": [1, 2]}, {"order": {"owner": "Ann"}})


def test_a_predicate_that_raises_has_not_answered() -> None:
    with pytest.raises(PredicateFailed, match="KeyError: 'amount'") as caught:
        filter_of("filters_is_large").refusal({}, no_args)
    assert isinstance(caught.value, ValueError)
    assert (caught.value.predicate, caught.value.trigger) == ("filters_is_large", "")
    assert isinstance(caught.value.__cause__, KeyError)
    named = PredicateFailed("filters_is_large", "orderPlaced", "no reason")
    assert str(named) == "The predicate 'filters_is_large' failed for 'orderPlaced': no reason"


def test_a_predicate_is_looked_up_when_it_is_needed() -> None:
    unknown = filter_of(["filters_unknown", {"$args.a": 1}])
    assert list(predicates_of(["filters_unknown", {"a": 1}])) == ["filters_unknown"]
    assert unknown.uses_args
    assert not filter_of("filters_unknown").uses_args
    with pytest.raises(UnregisteredFunction, match="filters_unknown"):
        unknown.refusal({}, no_args)


@pytest.mark.parametrize(
    ("text", "names", "trigger", "path"),
    [
        ("started.pages", [], "started", "pages"),
        ("started.pages.count", ["other"], "started", "pages.count"),
        ("app.started.pages", ["app.started"], "app.started", "pages"),
        ("app.started.pages", ["app", "app.started"], "app.started", "pages"),
        ("app.started.pages", ["app.start"], "app", "started.pages"),
        ("a.b", ["a", "a.b"], "a", "b"),
        ("t_x:failed.kwargs.a.n", [], "t_x:failed", "kwargs.a.n"),
    ],
)
def test_from_is_taken_apart_at_the_longest_name(
    text: str, names: list[str], trigger: str, path: str
) -> None:
    assert split_from(text, names) == (trigger, path)


@pytest.mark.parametrize(
    ("text", "names", "reason"),
    [
        ("started", [], "has no path"),
        ("app.started", ["app.started"], "has no path"),
        (".pages", [], "has no trigger"),
        ("started.", [], "empty part"),
        ("started..pages", [], "empty part"),
        ("app.started.", ["app.started"], "empty part"),
    ],
)
def test_from_needs_a_trigger_and_a_path(text: str, names: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split_from(text, names)
