"""Python declarations: what JSON they make, what they refuse, and how workflows are found."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery import current_app
from hypothesis import given
from hypothesis import strategies as st

from triggers import payload, workflows
from triggers.conditions import predicate, provider
from triggers.configuration import parse
from triggers.exceptions import CannotRegister, ConfigurationError
from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask, trigger_task
from triggers.workflows import (
    Declaration,
    Expression,
    UnknownWorkflow,
    Workflow,
    all_of,
    any_of,
    at_least,
    elapsed,
    on,
    settled,
)


@predicate("unit-is-large")
def is_large(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs["amount"] > 1000)


def is_nothing(kwargs: dict[str, Any]) -> bool:
    return False


@provider("unit-build-args")
def build_args(context: TaskContext) -> dict[str, Any]:
    return {}


class Import(TriggerTask):
    pass


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def _forget_workflows() -> Iterator[None]:
    before = workflows.names()
    yield
    for name in set(workflows.names()) - set(before):
        workflows.unregister(name)


def directives(**declared: Any) -> dict[str, Any]:
    made = Declaration(run="app.tasks.x", **declared).directives("t_x")
    assert made.pop("run") == "app.tasks.x"
    return made


def refusal(**declared: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Declaration(run="app.tasks.x", **declared).directives("t_x")
    return str(caught.value)


# -- expressions ------------------------------------------------------------------------------

EXPRESSIONS: list[tuple[Expression, Any]] = [
    (on("a"), "a"),
    (on("a") & on("b"), {"all": ["a", "b"]}),
    (on("a") & "b", {"all": ["a", "b"]}),
    ("a" & on("b"), {"all": ["a", "b"]}),
    (on("a") & on("b") & on("c"), {"all": ["a", "b", "c"]}),
    (on("a") & (on("b") & on("c")), {"all": ["a", "b", "c"]}),
    (on("a") | "b" | "c", {"any": ["a", "b", "c"]}),
    ("a" | on("b"), {"any": ["a", "b"]}),
    (on("a") & (on("b") | on("c")), {"all": ["a", {"any": ["b", "c"]}]}),
    (on("a") & on("b") | on("c"), {"any": [{"all": ["a", "b"]}, "c"]}),
    (all_of("a", on("b")), {"all": ["a", "b"]}),
    (all_of("a"), {"all": ["a"]}),
    (any_of("a"), {"any": ["a"]}),
    (any_of(any_of("a"), "b"), {"any": ["a", "b"]}),
    (
        at_least(2, "a", on("b"), on("c") & "d"),
        {"atLeast": 2, "of": ["a", "b", {"all": ["c", "d"]}]},
    ),
    (on("a").times(5), {"trigger": "a", "times": 5}),
    (on("a").times(1), {"trigger": "a", "times": 1}),
    (on("a").times(from_="b.pages"), {"trigger": "a", "times": {"from": "b.pages"}}),
    (settled("t_x"), {"settled": "t_x"}),
    (elapsed(since="a", days=3), {"elapsed": "P3D", "since": "a"}),
    (elapsed("PT1H", since=on("a")), {"elapsed": "PT1H", "since": "a"}),
    (settled(on("t_x")), {"settled": "t_x"}),
    (on("t_x").failed(), "t_x:failed"),
    (on("t_x").skipped(), "t_x:skipped"),
    (on("t_x").abandoned(), "t_x:abandoned"),
    (on("t_x").expired(), "t_x:expired"),
    (on("t_x").ended(), "t_x:ended"),
    (on("t_x").failed("ValueError").times(2), {"trigger": "t_x:failed", "times": 2}),
    (on("a").where(channel="web"), "a"),
    ((on("a") | "b").within(hours=72), {"any": ["a", "b"]}),
]


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS, ids=repr)
def test_an_expression_makes_the_json_of_the_language(
    expression: Expression, expected: Any
) -> None:
    assert expression.to_json() == expected


@pytest.mark.parametrize(
    ("expression", "source"),
    [
        (on("a") & (on("b") | on("c")), "on('a') & (on('b') | on('c'))"),
        (on("a").times(3), "on('a').times(3)"),
        (on("a").times(from_="b.n"), "on('a').times(from_='b.n')"),
        (any_of("a"), "any_of(on('a'))"),
        (
            on("a").where("unit-is-large", x__gte=3).fresh(hours=12),
            "on('a').where('unit-is-large', {'x': {'gte': 3}}).fresh('PT12H')",
        ),
        ((on("a") & "b" | "c").within(days=3), "((on('a') & on('b')) | on('c')).within('P3D')"),
        (
            on("e").debounce(quiet=5, most=60).at_most_every(hours=1),
            "on('e').at_most_every('PT1H').debounce(quiet='PT5S', most='PT1M')",
        ),
    ],
)
def test_an_expression_prints_like_its_source(expression: Expression, source: str) -> None:
    assert repr(expression) == source


DURATIONS = st.sampled_from(["PT1H", "P1W", "PT0.5S"])
FILTERS = st.sampled_from(["unit-is-large", {"x.y": {"gte": 3}}, {"x.y": {"lt": 9}}, {"z": None}])


def _with_modifiers(leaf: Any, draw: Callable[[Any], Any]) -> Expression:
    for each in draw(st.lists(FILTERS, max_size=3)):
        leaf = leaf.where(each)
    for method in draw(st.sets(st.sampled_from(["fresh", "at_most_every"]))):
        leaf = getattr(leaf, method)(draw(DURATIONS))
    return draw(st.sampled_from([leaf, leaf.times(3), leaf.times(from_="b.n")]))


@st.composite
def expressions(draw: Callable[[Any], Any], depth: int = 3) -> Expression:
    kind = draw(st.sampled_from(["on", "settled", "elapsed", "all", "any", "least"]))
    if depth == 0 or kind == "on":
        made: Expression = _with_modifiers(on(draw(st.sampled_from("abc"))), draw)
    elif kind == "settled":
        made = settled("t_x")
    elif kind == "elapsed":
        made = elapsed(draw(DURATIONS), since="a")
    else:
        members = draw(st.lists(expressions(depth=depth - 1), min_size=1, max_size=3))
        make = {"all": all_of, "any": any_of}.get(kind) or (lambda *each: at_least(1, *each))
        try:
            made = make(*members)
        except ValueError:  # a member stands twice, or has a deadline
            made = members[0]
    return made.within(draw(DURATIONS)) if draw(st.integers(0, 5)) == 0 else made


@given(expressions())
def test_what_an_expression_prints_makes_an_equal_one(expression: Expression) -> None:
    again = eval(repr(expression))
    assert again == expression
    assert hash(again) == hash(expression)
    assert again.to_json() == expression.to_json()
    assert json.loads(json.dumps(expression.to_json())) == expression.to_json()


def test_expressions_that_say_different_things_differ() -> None:
    made = [each for each, _ in EXPRESSIONS]
    assert len(set(made)) == len({repr(each) for each in made}) < len(made)
    assert on("a").where(x=True) != on("a").where(x=1)
    assert on("a").where(x=1, y=2) == on("a").where(y=2, x=1)
    assert on("a") != "a"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: on("a") and on("b"),
        lambda: on("a") or on("b"),
        lambda: not on("a"),
        lambda: on("a") if on("a") & on("b") else None,
        lambda: all([on("a"), on("b")]),
    ],
)
def test_words_instead_of_operators_are_refused(misuse: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"neither true nor false .* Write & for and, \| for or"):
        misuse()


@pytest.mark.parametrize(
    ("misuse", "error", "reason"),
    [
        (lambda: ~on("a"), TypeError, r"no ~: name on\('a'\) in unless"),
        (lambda: on("a") & 5, TypeError, "unsupported operand"),
        (lambda: ["a"] | on("b"), TypeError, "unsupported operand"),
        (lambda: all_of("a", 5), TypeError, "Expected a trigger or an expression, got int"),
        (lambda: any_of(), ValueError, "at least one member"),
        (lambda: at_least(3, "a", "b"), ValueError, r"at_least\(3, …\) of 2"),
        (lambda: at_least(0, "a"), ValueError, "at_least"),
        (lambda: at_least("a", "b"), TypeError, "takes a whole number, got str"),
        (lambda: on(5), TypeError, "the name of a trigger, got int"),
        (lambda: on(""), ValueError, "it is empty"),
        (lambda: on(is_large), TypeError, "give the name that the task has in its workflow"),
        (lambda: on("a").times(), TypeError, "takes a number, or from_="),
        (lambda: on("a").times(2, from_="b.n"), TypeError, "takes a number, or from_="),
        (lambda: on("a").times(0), ValueError, "from 1, got 0"),
        (lambda: on("a").times(True), TypeError, "whole number, got bool"),
        (lambda: on("a").times(2.0), TypeError, "whole number, got float"),
        (lambda: on("a").times(from_=3), TypeError, "from_ takes a str, got int"),
        (lambda: on("t_x").failed().ended(), TypeError, "is an outcome already"),
        (lambda: on("t_x").where(a=1).failed(), TypeError, r"failed\(\) first"),
        (lambda: on("t_x").failed(5), TypeError, "exceptions or names of them, got 5"),
        (lambda: on("t_x").failed(int), TypeError, "exceptions or names of them"),
        (lambda: on("a").where(), TypeError, "needs a test"),
        (lambda: on("a").where(5), TypeError, "a predicate or a mapping of tests, got int"),
        (lambda: on("a").where(is_nothing), TypeError, "is no registered predicate; put @predic"),
        (lambda: on("a").where(lambda kwargs: True), CannotRegister, "it is a lambda"),
        (lambda: on("a").where(build_args), TypeError, "is no registered predicate"),
        (lambda: on("a").where_args("unit-is-large"), TypeError, "has a parameter 'args'"),
        (lambda: on("a").where(name__startswith="x"), TypeError, r"use matches with \^"),
        (lambda: on("a").within(), TypeError, "Give one duration"),
        (lambda: on("a").within("PT1H", hours=1), TypeError, "Give one duration"),
        (lambda: on("a").within(months=1), TypeError, "has no months; its units are weeks"),
        (lambda: on("a").within("P1M"), ValueError, "no fixed length"),
        (lambda: on("a").within("soon"), ValueError, "is no duration"),
        (lambda: on("a").within(hours=0), ValueError, "longer than zero"),
        (lambda: on("a").within(hours=-1), ValueError, "duration"),
        (lambda: on("a").within(timedelta(0)), ValueError, "longer than zero"),
        (lambda: on("a").within(float("inf")), ValueError, "no duration"),
        (lambda: on("a").within(float("nan")), ValueError, "NaN"),
        (lambda: on("a").within([]), TypeError, "made of numbers, got list"),
        (lambda: on("a").within(hours="2"), TypeError, "made of numbers, got str"),
        (
            lambda: elapsed(since=on("a").where(x=1), days=1),
            TypeError,
            "since takes the name of a trigger, and no more than that; got on",
        ),
        (
            lambda: settled(on("t_x").times(2)),
            TypeError,
            r"settled\(\) takes the name of a task, and no more than that; got on",
        ),
        (
            lambda: on("a").within(hours=1) & on("b"),
            ValueError,
            r"within\(\) belongs to the task, and on\('a'\)\.within\('PT1H'\) is a part",
        ),
        (lambda: "b" | on("a").within(hours=1), ValueError, "belongs to the task"),
        (lambda: at_least(1, on("a").within(hours=1)), ValueError, "belongs to the task"),
        (lambda: at_least(2, "a", "a"), ValueError, r"on\('a'\) stands more than once"),
        (lambda: any_of("a", "b", "a"), ValueError, r"count firings with on\('a'\)\.times"),
        (lambda: on("a") | "b" | "a", ValueError, "stands more than once"),
        (lambda: at_least(2, ["a", "b", "c"]), TypeError, r"arguments, with \* before a list"),
        (lambda: any_of({"a", "b"}), TypeError, r"arguments, with \* before a set"),
        (
            lambda: getattr(on("a") & on("b"), "times")(2),  # noqa: B009
            TypeError,
            r"times\(\) says something of one trigger, and on\('a'\) & on\('b'\) is none",
        ),
        (lambda: getattr(settled("t_x"), "where"), TypeError, r"where\(\) says something"),  # noqa: B009
        (lambda: getattr(settled("t_x"), "shout"), AttributeError, "'Settled' object has no"),  # noqa: B009
        (
            lambda: on("a").where(n__in=range(3)),
            TypeError,
            "n__in: a filter cannot hold a range; w",
        ),
        (lambda: on("a").where({"n": {"eq": object()}}), TypeError, "n, eq: a filter cannot hold"),
        (
            lambda: on("a").where(n__gtt=3),
            TypeError,
            r"no test 'gtt' in n__gtt; did you mean 'gt'\?",
        ),
        (lambda: on("a").where(n__GTE=3), TypeError, "did you mean 'gte'"),
        (lambda: on("a").where(n__exist=True), TypeError, r"'exists'\? If 'exist' is a key"),
        (lambda: on("a").where(n__contains_any=[3]), TypeError, "did you mean 'containsAny'"),
        (lambda: on("a").where(day__gt=datetime(2026, 11, 21)), TypeError, "day__gt: a datetime w"),
        (
            lambda: on("a").where(n=Decimal("0.1000000000000000055")),
            TypeError,
            "n: 0.1000000000000000055 is no number that JSON can hold exactly; write it as text",
        ),
        (lambda: on("a").where(n=Decimal("1E+999999")), TypeError, "is no number that JSON"),
        (lambda: on("a").where(n=Decimal("NaN")), TypeError, "is no number that JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_written(
    misuse: Callable[[], Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        misuse()


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (on("a").within(hours=72), "PT72H"),
        (on("a").within(weeks=1), "P1W"),
        (on("a").within(weeks=1, days=2), "P1W2D"),
        (on("a").within(days=3, minutes=5), "P3DT5M"),
        (on("a").within(hours=1, seconds=30), "PT1H30S"),
        (on("a").within(hours=1.5), "PT1H30M"),
        (on("a").within(seconds=0.5), "PT0.5S"),
        (on("a").within(90), "PT1M30S"),
        (on("a").within(timedelta(days=3)), "P3D"),
        (on("a").within("PT36H"), "PT36H"),
    ],
)
def test_a_duration_keeps_the_units_in_which_it_was_given(
    expression: Expression, text: str
) -> None:
    assert expression.deadline == text


# -- filters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (on("a").where({"page.number": {"gte": 3}}), {"page.number": {"gte": 3}}),
        (
            on("a").where(channel="web", page__number__gte=3),
            {"channel": "web", "page.number": {"gte": 3}},
        ),
        (on("a").where(n__gte=3, n__lt=9), {"n": {"gte": 3, "lt": 9}}),
        (on("a").where(n=3).where(n__lt=9), {"n": {"eq": 3, "lt": 9}}),
        (on("a").where(n=3).where(n=4), [{"n": 3}, {"n": 4}]),
        (on("a").where(channel__in=("web", "app")), {"channel": {"in": ["web", "app"]}}),
        (on("a").where(channel__in={"web", "app"}), {"channel": {"in": ["app", "web"]}}),
        (on("a").where(address={"city": "Ulm"}), {"address": {"eq": {"city": "Ulm"}}}),
        (on("a").where(contains="x"), {"contains": "x"}),
        (on("a").where(price__gte=Decimal("9.90")), {"price": {"gte": 9.9}}),
        (on("a").where(amount__gte=Decimal("100")), {"amount": {"gte": 100}}),
        (
            on("a").where(amount__in=[Decimal("1E+2"), Decimal("-0.5")]),
            {"amount": {"in": [100, -0.5]}},
        ),
        (on("a").where({"amount": {"lt": Decimal("3.0")}}), {"amount": {"lt": 3}}),
        (on("a").where(id=UUID(int=7)), {"id": "00000000-0000-0000-0000-000000000007"}),
        (on("a").where(price__net=3, id__int=4), {"price.net": 3, "id.int": 4}),
        (on("a").where(day__lt=date(2026, 11, 21)), {"day": {"lt": "2026-11-21"}}),
        (on("a").where("unit-is-large"), "unit-is-large"),
        (on("a").where(is_large), "unit-is-large"),
        (on("a").where(is_large).where("unit-is-large"), "unit-is-large"),
        (on("a").where(is_large).where(n=3), ["unit-is-large", {"n": 3}]),
        (on("a").where({"n": 3}, is_large, m=4), [{"n": 3, "m": 4}, "unit-is-large"]),
        (on("t_y").where_args({"a.n": {"gt": 1}}), {"$args.a.n": {"gt": 1}}),
        (on("t_y").where_args(a__n__gt=1).where(ok=True), {"$args.a.n": {"gt": 1}, "ok": True}),
        (on("t_y").failed("ValueError"), {"types": {"contains": "ValueError"}}),
        (on("t_y").failed(ValueError), {"types": {"contains": "builtins.ValueError"}}),
        (on("t_y").failed(Stop), {"types": {"contains": f"{__name__}.Stop"}}),
        (
            on("t_y").failed("ValueError", KeyError),
            {"types": {"containsAny": ["ValueError", "builtins.KeyError"]}},
        ),
        (
            on("t_y").failed("ValueError").where(attempt__gte=3),
            {"types": {"contains": "ValueError"}, "attempt": {"gte": 3}},
        ),
    ],
    ids=repr,
)
def test_a_filter_at_a_trigger_becomes_the_when_of_the_task(trigger: Any, expected: Any) -> None:
    assert directives(after=[trigger]) == {
        "after": [trigger.name],
        "when": {trigger.name: expected},
    }


# -- from a declaration to directives ---------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"after": "a"}, {"after": ["a"]}),
        ({"after": on("a")}, {"after": ["a"]}),
        ({"after": []}, {"after": []}),
        ({"after": ["a", on("b")]}, {"after": ["a", "b"]}),
        ({"after": ("a", "b")}, {"after": ["a", "b"]}),
        ({"after": {"b", on("a")}}, {"after": ["a", "b"]}),
        ({"after": on("a") & on("b")}, {"after": ["a", "b"]}),
        ({"after": [on("a") & "b", "c"]}, {"after": [{"all": ["a", "b"]}, "c"]}),
        ({"after": on("a") | on("b")}, {"after": {"any": ["a", "b"]}}),
        ({"after": [{"any": ["a", "b"]}, on("c")]}, {"after": [{"any": ["a", "b"]}, "c"]}),
        ({"after": {"all": ["a"]}}, {"after": {"all": ["a"]}}),
        ({"after": on("a").times(2)}, {"after": {"trigger": "a", "times": 2}}),
        (
            {"after": "a", "unless": on("b").where(x=1) | "c"},
            {"after": ["a"], "unless": {"any": ["b", "c"]}, "when": {"b": {"x": 1}}},
        ),
        ({"and_every": "e"}, {"andEvery": "e"}),
        ({"and_every": on("e").where(x=1)}, {"andEvery": "e", "when": {"e": {"x": 1}}}),
        (
            {"and_every": on("e").at_most_every(hours=12)},
            {"andEvery": "e", "atMostEvery": "PT12H"},
        ),
        (
            {"and_every": "e", "at_most_every": timedelta(hours=1)},
            {"andEvery": "e", "atMostEvery": "PT1H"},
        ),
        (
            {"and_every": on("e").debounce(quiet=5, most=timedelta(minutes=1))},
            {"andEvery": "e", "debounce": {"quiet": "PT5S", "most": "PT1M"}},
        ),
        (
            {"and_every": "e", "debounce": {"quiet": "PT5S", "most": 60}},
            {"andEvery": "e", "debounce": {"quiet": "PT5S", "most": "PT1M"}},
        ),
        ({"after": on("a").within(hours=72)}, {"after": ["a"], "within": "PT72H"}),
        ({"after": "a", "within": 5}, {"after": ["a"], "within": "PT5S"}),
        (
            {"after": (on("a") & "b").within(hours=1), "within": "PT1H"},
            {"after": ["a", "b"], "within": "PT1H"},
        ),
        ({"after": [on("a").within(hours=1)]}, {"after": ["a"], "within": "PT1H"}),
        (
            {"after": "a", "when": {"a": [{"x": {"gt": Decimal("1.5")}}]}},
            {"after": ["a"], "when": {"a": [{"x": {"gt": 1.5}}]}},
        ),
        (
            {"after": on("a").fresh(hours=12), "fresh": {"b": 60}, "unless": "b"},
            {"after": ["a"], "unless": ["b"], "fresh": {"a": "PT12H", "b": "PT1M"}},
        ),
        (
            {"after": "a", "when": {"a": [is_large, {"x": 1}]}},
            {"after": ["a"], "when": {"a": ["unit-is-large", {"x": 1}]}},
        ),
        (
            {"after": on("a").where(x=1), "when": {"a": {"x": 1}}},
            {"after": ["a"], "when": {"a": {"x": 1}}},
        ),
        ({"after": "a", "with_args": build_args}, {"after": ["a"], "withArgs": "unit-build-args"}),
        ({"after": "a", "with_args": "later"}, {"after": ["a"], "withArgs": "later"}),
        (
            {"after": "a", "with_params": {"a": {"tags": ("x", "y")}}, "using": "synchronous"},
            {"after": ["a"], "withParams": {"a": {"tags": ["x", "y"]}}, "using": "synchronous"},
        ),
        (
            {"after": "a", "custom": {"owner": {"team": "billing"}, "note": None}},
            {"after": ["a"], "owner": {"team": "billing"}, "note": None},
        ),
        (
            {"after": on("t_y").failed("ValueError") | on("t_y").failed("ValueError").times(2)},
            {
                "after": {"any": ["t_y:failed", {"trigger": "t_y:failed", "times": 2}]},
                "when": {"t_y:failed": {"types": {"contains": "ValueError"}}},
            },
        ),
    ],
)
def test_a_declaration_makes_the_directives_that_one_would_write(
    declared: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert directives(**declared) == expected


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (
            {"after": on("a").where(x=1) | on("a").where(x=2)},
            "t_x.when.a: a task has one filter per trigger, and here are {'x': 1} and {'x': 2}; "
            "use two tasks",
        ),
        (
            {"after": on("a").where(x=1), "unless": ["a"]},
            "t_x.when.a: a task has one filter per trigger, and here are {'x': 1} and no filter",
        ),
        (
            {"after": on("e").where(x=True), "and_every": on("e").where(x=1)},
            "t_x.when.e: a task has one filter per trigger",
        ),
        (
            {"after": on("a").where(x=1), "when": {"a": {"x": 2}}},
            "t_x.when.a: said twice: {'x': 1} at the trigger and {'x': 2} here",
        ),
        (
            {"after": on("a").fresh(hours=1) & on("b") & on("a").fresh(hours=2)},
            "t_x.fresh.a: a task has one time to be fresh per trigger",
        ),
        ({"after": on("a").fresh(hours=1), "fresh": {"a": 60}}, "t_x.fresh.a: said twice"),
        (
            {"after": "a", "unless": on("b").within(hours=2)},
            "t_x.within: belongs to the task; put it around the whole of after, not in "
            "on('b').within('PT2H')",
        ),
        ({"and_every": on("b").within(hours=2)}, "t_x.within: belongs to the task"),
        ({"after": ["a", on("b").within(hours=2)]}, "t_x.within: belongs to the task"),
        (
            {"after": "a", "when": on("a").where(x=1)},
            "t_x.when: takes a mapping of filters by trigger, and on('a').where({'x': 1}) is an "
            "expression",
        ),
        (
            {"after": "a", "with_args": {"a": 1}},
            "t_x.withArgs: takes a provider, which makes the arguments; kwargs that do not change "
            "go into with_params",
        ),
        (
            {"after": on("a").within(hours=1), "within": 60},
            "t_x.within: a task has one deadline, and here are several: PT1H, PT1M",
        ),
        (
            {"after": on("a").at_most_every(hours=1)},
            "t_x.atMostEvery: on('a').at_most_every('PT1H') is about and_every; write it there",
        ),
        (
            {"after": on("a").debounce(quiet=1, most=2), "and_every": "a"},
            "t_x.debounce: on('a').debounce(quiet='PT1S', most='PT2S') is about and_every",
        ),
        (
            {"and_every": on("e").at_most_every(hours=1), "at_most_every": "PT2H"},
            "t_x.atMostEvery: said twice: 'PT1H' at the trigger and 'PT2H' here",
        ),
        (
            {"and_every": on("e").times(2)},
            "t_x.andEvery: times() has no place here",
        ),
        (
            {"and_every": on("e") | "f"},
            "t_x.andEvery: expected a single trigger, got on('e') | on('f')",
        ),
        (
            {"and_every": ["e"]},
            "t_x.andEvery: expected a single trigger, got list; for several, use a task for each",
        ),
        ({"custom": {"andEvery": "e"}}, "t_x.andEvery: write and_every=… here"),
    ],
)
def test_declarations_that_contradict_themselves_are_refused(
    declared: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(**declared)


def test_a_value_that_has_no_json_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match="when, a, at, gt: a datetime without a time zone"):
        directives(after="a", when={"a": {"at": {"gt": datetime(2026, 11, 21)}}})


def test_a_lambda_is_no_predicate_and_no_provider() -> None:
    with pytest.raises(CannotRegister, match="it is a lambda"):
        directives(after="a", when={"a": lambda kwargs: True})
    with pytest.raises(CannotRegister, match="it is a lambda"):
        directives(after="a", with_args=lambda context: {})


# -- workflows --------------------------------------------------------------------------------

BY_HAND: dict[str, Any] = {
    "t_import": {
        "after": ["started", {"trigger": "pageReceived", "times": {"from": "started.pages"}}],
        "within": "PT72H",
        "run": Import.name,
    },
    "t_report": {
        "after": ["t_import:failed"],
        "when": {"t_import:failed": {"types": {"contains": "ValueError"}, "attempt": {"gte": 3}}},
        "run": "app.tasks.report",
    },
    "t_check": {
        "andEvery": "pageReceived",
        "unless": {"any": ["cancelled", {"all": ["paused", "t_import"]}]},
        "atMostEvery": "PT1H",
        "fresh": {"cancelled": "PT12H"},
        "withParams": {"pageReceived": {"lang": "de"}},
        "withArgs": "unit-build-args",
        "using": "synchronous",
        "run": "app.tasks.check",
        "owner": "billing",
    },
}


def in_python() -> Workflow:
    made = Workflow("imports")
    pages = on("pageReceived").times(from_="started.pages")
    made.task("t_import", run=Import, after=(on("started") & pages).within(hours=72))
    failed = on("t_import").failed("ValueError").where(attempt__gte=3)
    made.task("t_report", run="app.tasks.report", after=[failed])
    made.task(
        "t_check",
        run="app.tasks.check",
        and_every=on("pageReceived").at_most_every(hours=1),
        unless=on("cancelled").fresh(hours=12) | (on("paused") & on("t_import")),
        with_params={"pageReceived": {"lang": "de"}},
        with_args=build_args,
        using="synchronous",
        owner="billing",
    )
    return made


def test_a_workflow_in_python_is_the_one_written_by_hand() -> None:
    made = in_python()
    assert made.to_json() == BY_HAND
    assert parse(made).digest == parse(BY_HAND).digest
    assert list(made) == list(BY_HAND)


def test_json_comes_back_as_it_went() -> None:
    loaded = Workflow.from_json("imports", json.loads(json.dumps(BY_HAND)))
    assert loaded.to_json() == BY_HAND
    assert loaded == in_python()
    again = Workflow.from_json("imports", loaded.to_json())
    assert parse(again).digest == parse(BY_HAND).digest


def test_python_may_have_sets_and_tuples_where_json_has_lists() -> None:
    loaded = Workflow.from_json("w", {"t_x": {"after": {"b", "a"}, "unless": ("c",), "run": "x"}})
    assert loaded.to_json() == {"t_x": {"after": ["a", "b"], "unless": ["c"], "run": "x"}}


@given(expressions())
def test_every_expression_comes_back_from_json(expression: Expression) -> None:
    try:
        made = Workflow("w").task("t_x", run="app.x", after=["d", expression])
    except ConfigurationError:  # two mentions of a trigger say different things
        return
    written = json.loads(json.dumps(made.to_json()))
    assert Workflow.from_json("w", written).to_json() == made.to_json()
    assert parse(written).digest == parse(made).digest


def test_values_that_json_lacks_come_back_by_way_of_a_payload() -> None:
    params = {"a": {"price": Decimal("9.90"), "day": date(2026, 11, 21)}}
    made = Workflow("w").task("t_x", run="app.x", after="a", with_params=params, since=date.min)
    text = payload.encode(made.to_json(), what="the workflow")
    again = Workflow.from_json("w", payload.decode(text))
    assert again.to_json() == made.to_json()
    assert parse(again).digest == parse(made).digest


def test_what_a_workflow_hands_out_changes_nothing_in_it() -> None:
    made = in_python()
    made["t_import"]["after"].append("x")
    made.to_json()["t_check"]["fresh"].clear()
    assert made.to_json() == BY_HAND
    with pytest.raises(KeyError):
        made["t_other"]


def test_a_workflow_names_its_tasks() -> None:
    assert repr(in_python()) == "<Workflow 'imports': t_import, t_report, t_check>"
    assert repr(Workflow("w")) == "<Workflow 'w': no tasks yet>"


def test_tasks_may_be_added_one_after_the_other() -> None:
    made = Workflow("w").task("t_a", run="x.a", after="e").task("t_b", run="x.b", after="t_a")
    assert [*made] == ["t_a", "t_b"]


@pytest.mark.parametrize("run", [Import, "app.tasks.x"])
def test_run_takes_a_class_or_a_name(run: Any) -> None:
    made = Workflow("w").task("t_x", run=run, after="a")
    assert made["t_x"]["run"] == getattr(run, "name", run)


def test_run_takes_a_registered_task() -> None:
    @trigger_task(name="tests.unit.declared_task")
    def declared_task() -> None:
        pass

    made = Workflow("w").task("t_x", run=declared_task, after="a")
    assert made["t_x"]["run"] == "tests.unit.declared_task"


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        ({"run": None, "after": "a"}, "t_x.run: "),
        ({"run": is_large, "after": "a"}, "t_x.run: expected the name of a trigger task"),
        ({"run": "x"}, "t_x.after: "),
        ({"run": "x", "after": 5}, "t_x.after: "),
        ({"run": "x", "after": {"sometimes": ["a"]}}, "t_x.after"),
        ({"run": "x", "after": "a", "when": {"b": {"x": 1}}}, "t_x.when"),
        ({"run": "x", "after": "a", "when": {"a": "no-such-predicate"}}, "t_x.when.a"),
        ({"run": "x", "after": on("a").where({"x": {"like": 1}})}, "t_x.when.a"),
        ({"run": "x", "after": "a", "with_args": "no-such-provider"}, "t_x.withArgs"),
        ({"run": "x", "and_every": "e", "debounce": {"quiet": 5}}, "t_x.debounce"),
        ({"run": "x", "after": "a", "at_most_every": 5}, "t_x.atMostEvery"),
    ],
)
def test_a_task_that_the_language_refuses_is_refused_when_it_is_declared(
    declared: dict[str, Any], path: str
) -> None:
    made = Workflow("w")
    with pytest.raises(ConfigurationError) as caught:
        made.task("t_x", **declared)
    assert path in str(caught.value)
    assert len(made) == 0


def test_a_name_is_declared_once_in_a_workflow() -> None:
    made = Workflow("w").task("t_x", run="app.one", after="a")
    with pytest.raises(ConfigurationError, match=r"^t_x: the workflow 'w' has .* runs app\.one$"):
        made.task("t_x", run="app.two", after="a")
    assert made["t_x"]["run"] == "app.one"


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_workflow_has_a_name(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="the name of a workflow must be a string"):
        Workflow(name)


def test_a_manager_takes_a_workflow() -> None:
    manager = TriggerManager(MemoryStorageBackend("unit-workflow"))
    manager.update_configuration(Workflow("w").task("t_x", run=Import, after=on("a") & on("b")))
    assert manager.storage.tasks["t_x"].after == {"a", "b"}


def test_a_manager_refuses_an_expression_with_a_word_about_workflows() -> None:
    manager = TriggerManager(MemoryStorageBackend("unit-workflows-expression"))
    after: Any = on("a") & on("b")
    for wrong in (after, {"t_x": {"run": "x", "after": after}}):
        with pytest.raises(ConfigurationError, match=r"got the expression on\('a'\) & on\('b'\);"):
            manager.update_configuration(wrong)


def test_workflows_are_found_by_name() -> None:
    made = workflows.define("unit-w")
    assert workflows.define("unit-w") is made
    assert workflows.get("unit-w") is made
    other = workflows.register(Workflow("unit-other"))
    assert workflows.register(other) is other
    assert {"unit-other", "unit-w"} <= set(workflows.names())
    with pytest.raises(ConfigurationError, match="another workflow 'unit-other' is known already"):
        workflows.register(Workflow("unit-other"))
    workflows.unregister("unit-other")
    workflows.unregister("unit-other")
    with pytest.raises(UnknownWorkflow, match=r"No workflow 'unit-other' .*unit-w") as caught:
        workflows.get("unit-other")
    assert caught.value.name == "unit-other"
    assert isinstance(caught.value, LookupError)


# -- the decorator ----------------------------------------------------------------------------


def test_a_decorated_function_is_a_task_of_a_workflow() -> None:
    @trigger_task(
        workflow="unit-decorated",
        after=[on("a").where(x=1)],
        unless=["b"],
        within=60,
        custom={"owner": "me"},
        queue="slow",
        max_retries=7,
    )
    def first() -> None:
        pass

    @trigger_task(workflow="unit-decorated", task="t_2", after=on(first).failed(ValueError))
    def second() -> None:
        pass

    run = f"{__name__}."
    assert workflows.get("unit-decorated").to_json() == {
        "t_first": {
            "after": ["a"],
            "unless": ["b"],
            "when": {"a": {"x": 1}},
            "within": "PT1M",
            "owner": "me",
            "run": run + "first",
        },
        "t_2": {
            "after": ["t_first:failed"],
            "when": {"t_first:failed": {"types": {"contains": "builtins.ValueError"}}},
            "run": run + "second",
        },
    }
    assert (first.declared_as, second.declared_as) == ("t_first", "t_2")
    assert first.message_options == {"queue": "slow"}
    assert first.max_retries == 7
    assert settled(second).to_json() == {"settled": "t_2"}


def test_the_decorator_takes_a_workflow_that_is_known_nowhere() -> None:
    own = Workflow("unit-own")

    @trigger_task(workflow=own, name="tests.unit.own", and_every="e")
    def third() -> None:
        pass

    assert own.to_json() == {"t_third": {"andEvery": "e", "run": "tests.unit.own"}}
    assert "unit-own" not in workflows.names()


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"after": ["a"], "unless": ["b"]}, "after, unless"),
        ({"task": "t_x"}, "task"),
        ({"custom": {"x": 1}}, "custom"),
    ],
)
def test_conditions_need_a_workflow(declared: dict[str, Any], said: str) -> None:
    def lonely() -> None:
        pass

    with pytest.raises(TypeError, match=rf"lonely: {said} without a workflow; add workflow='…'"):
        trigger_task(**declared)(lonely)


def test_a_function_that_no_workflow_has_cannot_be_waited_for() -> None:
    @trigger_task
    def free() -> None:
        pass

    assert free.declared_as is None
    with pytest.raises(TypeError, match="give the name that the task has in its workflow"):
        on(free)


def test_a_refused_declaration_registers_nothing() -> None:
    def broken() -> None:
        pass

    with pytest.raises(ConfigurationError, match="t_broken"):
        trigger_task(workflow="unit-broken", after=on("a").where(x=1) | on("a"))(broken)
    assert f"{__name__}.broken" not in Import().app.tasks


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("wihtin", "within"),
        ("unles", "unless"),
        ("andEvery", "and_every"),
        ("withArgs", "with_args"),
        ("worfklow", "workflow"),
    ],
)
def test_a_misspelled_condition_is_no_option_for_celery(option: str, meant: str) -> None:
    options: dict[str, Any] = {"workflow": "unit-misspelled", "after": "a", option: "b"}
    with pytest.raises(TypeError, match=f"takes no '{option}'; did you mean '{meant}'"):
        trigger_task(**options)
    assert "unit-misspelled" not in workflows.names()


async def asynchronous() -> None:
    pass


async def asynchronous_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


NOT_PLAIN = [
    (asynchronous, "is async, so a call does not run it; write a plain def, and call"),
    (asynchronous_generator, "is async, so a call"),
    (functools.partial(asynchronous), "is async, so a call"),
    (generator, "is a generator, so a call does not run it; write a plain def that returns."),
]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "it is a lambda"),
        *((function, f"it {reason}") for function, reason in NOT_PLAIN),
    ],
)
def test_what_no_worker_could_run_is_declared_in_no_workflow(function: Any, reason: str) -> None:
    with pytest.raises(CannotRegister, match=f"as a trigger task: {reason}"):
        trigger_task(workflow="unit-refused", after="a")(function)
    assert "unit-refused" not in workflows.names()


@pytest.mark.parametrize(("function", "reason"), NOT_PLAIN)
def test_what_a_call_does_not_run_is_no_task_either(function: Any, reason: str) -> None:
    with pytest.raises(CannotRegister, match=f"as a trigger task: it {reason}"):
        trigger_task(function)
    with pytest.raises(CannotRegister, match=f"Method as a trigger task: its _run {reason}"):
        type("Method", (TriggerTask,), {"_run": staticmethod(function)})
    assert not any(each.endswith("Method") for each in current_app.tasks)


def test_what_a_decorator_makes_of_an_async_function_may_be_a_task() -> None:
    @functools.wraps(asynchronous)
    def run() -> None:
        asyncio.run(asynchronous())

    task = trigger_task(name="unit-run-by-a-decorator")(run)
    assert task.function is run


@pytest.mark.parametrize(
    ("option", "meant"),
    [("quue", "queue"), ("max_retires", "max_retries"), ("expire", "expires"), ("Queue", "queue")],
)
def test_a_misspelled_option_is_refused(option: str, meant: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(TypeError, match=f"takes no '{option}'; did you mean '{meant}'"):
        trigger_task(**options)


def test_celerys_bind_is_refused_with_what_a_task_has_instead() -> None:
    with pytest.raises(TypeError, match=r"takes no 'bind': the function gets the context"):
        trigger_task(bind=True)


def test_an_attribute_of_ones_own_is_no_misspelled_option() -> None:
    options: dict[str, Any] = {"colour": "red", "requests": 1, "on_failure": lambda *_: None}
    task: Any = trigger_task(name="unit-colourful", **options)(make_nothing)
    assert (task.colour, task.requests) == ("red", 1)


def make_nothing() -> None:
    pass


# -- discovery --------------------------------------------------------------------------------


def test_workflows_of_installed_apps_are_known_when_the_apps_are_ready(tmp_path: Path) -> None:
    app = tmp_path / "shop"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "workflows.py").write_text(
        textwrap.dedent(
            """
            from triggers.conditions import predicate
            from triggers.task import trigger_task
            from triggers.workflows import define, on

            @predicate
            def is_paid(kwargs):
                return kwargs["paid"]

            define("orders").task("t_ship", run="shop.tasks.Ship", after=on("paid").where(is_paid))

            @trigger_task(workflow="orders", after="t_ship")
            def thank():
                pass
            """
        )
    )
    (tmp_path / "quiet").mkdir()
    (tmp_path / "quiet" / "__init__.py").touch()
    code = """
        import json
        import django
        from django.conf import settings
        settings.configure(INSTALLED_APPS=["triggers", "quiet", "shop"])
        django.setup()
        from triggers import payload, workflows
        print(json.dumps({name: workflows.get(name).to_json() for name in workflows.names()}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
    )
    assert json.loads(done.stdout) == {
        "orders": {
            "t_ship": {"after": ["paid"], "run": "shop.tasks.Ship", "when": {"paid": "is_paid"}},
            "t_thank": {"after": ["t_ship"], "run": "shop.workflows.thank"},
        }
    }
