"""What conditions, filters and times may say, and the path of what is wrong in them."""

from __future__ import annotations

import json
import sys
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from triggers.conditions import predicate, provider, registered
from triggers.configuration import parse, restore
from triggers.exceptions import ConfigurationError

GOOD = {"after": ["a"], "run": "app.tasks.X"}
EVERY = {"after": ["a"], "andEvery": "p", "run": "app.tasks.X"}


@predicate("configuration_is_large")
def is_large(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs)


@provider("configuration_build")
def build(context: Any) -> dict[str, Any]:
    return {}


def nested(groups: int) -> Any:
    condition: Any = "a"
    for _ in range(groups):
        condition = {"any": [condition]}
    return condition


@pytest.mark.parametrize(
    ("directives", "path", "reason"),
    [
        ({"after": {"any": []}}, "after.any", "is empty"),
        ({"after": ["a", []]}, "after[1]", "is empty"),
        ({"after": {"any": "ab"}}, "after.any", "expected a list of conditions, got str; write"),
        ({"after": {"any": ["a", 5]}}, "after.any[1]", "a trigger name must be a string, got int"),
        ({"after": [{"any": ["a", ""]}]}, "after[0].any[1]", "must not be empty"),
        ({"after": {"any": [{"all": ["x" * 256]}]}}, "after.any[0].all[0]", "256 characters"),
        ({"after": {"all": ["a"], "any": ["b"]}}, "after.any", 'the form is {"all": […]}'),
        ({"after": {"of": ["a"]}}, "after", "is no condition: it has none of the keys all, any"),
        ({"after": {}}, "after", "(got none)"),
        ({"after": {"atLeast": 3, "of": ["a", "b"]}}, "after.atLeast", "it asks for 3 of 2"),
        ({"after": {"atLeast": 0, "of": ["a"]}}, "after.atLeast", "must be at least 1, got 0"),
        (
            {"after": {"atLeast": True, "of": ["a"]}},
            "after.atLeast",
            "whole number from 1, got bool",
        ),
        ({"after": {"atLeast": 1.0, "of": ["a"]}}, "after.atLeast", "got float; write 1"),
        ({"after": {"atLeast": 1}}, "after.of", "is required: a list of conditions"),
        ({"after": {"trigger": "a", "times": 0}}, "after.times", "must be at least 1, got 0"),
        ({"after": {"trigger": "a", "times": 2.0}}, "after.times", "got float; write 2"),
        (
            {"after": {"trigger": "a", "times": "2"}},
            "after.times",
            "expected a whole number from 1",
        ),
        (
            {"after": {"trigger": ["a"]}},
            "after.trigger",
            "expected a single trigger name, got list",
        ),
        ({"after": {"trigger": "a", "times": {}}}, "after.times.from", "is required"),
        ({"after": {"trigger": "a", "time": 2}}, "after.time", "does not belong here"),
        (
            {"after": {"trigger": "a", "times": {"from": "b"}}},
            "after.times.from",
            "'b' has no path",
        ),
        ({"after": {"trigger": "a", "times": {"from": ".x"}}}, "after.times.from", "no trigger"),
        ({"after": {"trigger": "a", "times": {"from": "b..x"}}}, "after.times.from", "empty part"),
        (
            {"after": {"trigger": "a", "times": {"from": "b" * 256 + ".x"}}},
            "after.times.from",
            "256 characters; 255 are allowed",
        ),
        ({"after": {"settled": "t_y:failed"}}, "after.settled", "neither '#' nor ':'"),
        ({"after": {"settled": ["t_y"]}}, "after.settled", "expected a single task name, got list"),
        ({"after": {"elapsed": "P3M", "since": "a"}}, "after.elapsed", "months or years"),
        ({"after": {"elapsed": "P400000D", "since": "a"}}, "after.elapsed", "a thousand years"),
        ({"after": {"elapsed": "P3D"}}, "after.since", "is required: a trigger name"),
        ({"after": {"any": ["a\x00"]}}, "after.any[0]", "U+0000"),
        ({"after": nested(33)}, "after", "nested more than 64 lists and mappings"),
        ({"unless": {"any": ["u", {"trigger": 1}]}}, "unless.any[1].trigger", "must be a string"),
        ({"when": [1]}, "when", "expected a mapping of filters, got list"),
        ({"when": {"z": {"x": 1}}}, "when.z", "does not name 'z' in 'after', 'andEvery' or"),
        ({"when": {"a": {}}}, "when.a", "is empty"),
        ({"when": {"a": ["configuration_is_large", []]}}, "when.a[1]", "is empty"),
        ({"when": {"a": ""}}, "when.a", "expected a filter, got an empty str"),
        ({"when": {"a": 5}}, "when.a", "expected a filter, got int"),
        ({"when": {"a": lambda kwargs: True}}, "when.a", "the name that it is registered with"),
        ({"when": {"a": "is_small"}}, "when.a", "No predicate is registered as 'is_small'"),
        ({"when": {"a": [{"x": 1}, "is_small"]}}, "when.a[1]", "No predicate is registered"),
        ({"when": {"a": "app.tests.is_small"}}, "when.a", "An import path is not accepted"),
        ({"when": {"a": {"x": {}}}}, "when.a.x", "is empty"),
        (
            {"when": {"a": {"x": {"gt3": 1}}}},
            "when.a.x.gt3",
            "is no operator; the operators are eq",
        ),
        ({"when": {"a": {"x": {"gt": None}}}}, "when.a.x.gt", "expected a string or a number"),
        ({"when": {"a": {"x": {"lte": True}}}}, "when.a.x.lte", "expected a string or a number"),
        ({"when": {"a": {"x": {"in": "ab"}}}}, "when.a.x.in", "expected a list of values, got str"),
        ({"when": {"a": {"x": {"exists": 1}}}}, "when.a.x.exists", "expected true or false"),
        ({"when": {"a": {"x": {"matches": "("}}}}, "when.a.x.matches", "is no regular expression"),
        ({"when": {"a": {"x": {"matches": 3}}}}, "when.a.x.matches", "a regular expression, got"),
        ({"when": {"a": {"x": {"eq": float("inf")}}}}, "when.a.x.eq", "JSON has no inf"),
        ({"when": {"a": {"x": {"eq": {1: 2}}}}}, "when.a.x.eq", "keys must be strings"),
        ({"when": {"a": {"x": {"eq": object()}}}}, "when.a.x.eq", "cannot store a builtins.object"),
        ({"when": {"a": {"x..y": 1}}}, "when.a.x..y", "has an empty part"),
        ({"when": {"a": {"": 1}}}, "when.a.", "has an empty part"),
        ({"when": {"a": {"$args": 1}}}, "when.a.$args", "leads nowhere"),
        ({"when": {"a": {5: 1}}}, "when.a.5", "expected a path, got int"),
        ({"when": {5: {"x": 1}}}, "when", "keys must be strings"),
        ({"within": "72h"}, "within", "'72h' is no duration"),
        (
            {"within": 72},
            "within",
            "expected a duration, got int; write the unit too, as in 'PT72H'",
        ),
        ({"within": ["PT1H"]}, "within", "expected a duration, got list"),
        ({"when": {"a": {"$ref": 1}}}, "when.a.$ref", "begins with '$', which only '$args.' does"),
        ({"when": {"a": {"$args.x..y": 1}}}, "when.a.$args.x..y", "has an empty part"),
        ({"when": {"a": {"n__gt": 3}}}, "when.a.n__gt", 'in JSON write {"n": {"gt": …}}'),
        (
            {"when": {"a": [{"page__n__in": [3]}]}},
            "when.a[0].page__n__in",
            'in JSON write {"page.n": {"in": …}}',
        ),
        (
            {"andEvery": {"any": ["a", "b"]}},
            "andEvery",
            "expected a single trigger name, got dict; for several triggers, write a task for each",
        ),
        ({"within": "PT0S"}, "within", "longer than zero"),
        ({"fresh": {"a": "P1Y"}}, "fresh.a", "months or years"),
        ({"fresh": {"a": "P9999999D"}}, "fresh.a", "a thousand years"),
        ({"fresh": {"z": "PT1H"}}, "fresh.z", "does not name 'z'"),
        ({"fresh": "PT1H"}, "fresh", "expected a mapping of durations"),
        ({"atMostEvery": "PT1H"}, "atMostEvery", "needs 'andEvery'"),
        ({"debounce": {"quiet": "PT1S", "most": "PT2S"}}, "debounce", "needs 'andEvery'"),
        ({"withArgs": "nobody"}, "withArgs", "No provider is registered as 'nobody'"),
        ({"withArgs": build}, "withArgs", "the name that it is registered with"),
        ({"withArgs": ""}, "withArgs", "expected the name of a registered provider"),
        ({"run": "app\x00"}, "run", "U+0000"),
        ({"note": nested(5_000)}, "note", "is nested too deep"),
    ],
)
def test_what_is_wrong_in_the_language_is_named_by_its_path(
    directives: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse({"t_x": {**GOOD, **directives}})
    assert f"t_x.{path}" in dict(caught.value.problems)
    assert reason in dict(caught.value.problems)[f"t_x.{path}"]


@pytest.mark.parametrize(
    ("directives", "path", "reason"),
    [
        ({"after": {"trigger": "p", "times": 2}}, "after.times", "'p' is 'andEvery'"),
        ({"after": {"trigger": "p", "times": 1}}, "after.times", "'p' is 'andEvery'"),
        ({"unless": [{"trigger": "p", "times": 2}]}, "unless[0].times", "'p' is 'andEvery'"),
        ({"after": {"trigger": "p", "times": {"from": "a.n"}}}, "after.times", "'p' is 'andEvery'"),
        ({"atMostEvery": "P1Y"}, "atMostEvery", "months or years"),
        ({"atMostEvery": "P9999999D"}, "atMostEvery", "a thousand years"),
        ({"debounce": "PT5S"}, "debounce", 'expected {"quiet": "PT5S", "most": "PT1M"}, got str'),
        ({"debounce": {"quiet": "PT5S"}}, "debounce.most", "is required: a duration"),
        (
            {"debounce": {"quiet": "PT5S", "most": "PT4S"}},
            "debounce.most",
            "shorter than 'quiet' (PT5S)",
        ),
        (
            {"debounce": {"quiet": "P9999999D", "most": "P1D"}},
            "debounce.quiet",
            "a thousand years",
        ),
        (
            {"debounce": {"quiet": "PT5S", "most": "PT5S"}, "fresh": {"p": "PT1H"}},
            "fresh.p",
            "'fresh' and 'debounce' exclude each other",
        ),
    ],
)
def test_what_and_every_does_not_allow_is_named_by_its_path(
    directives: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse({"t_x": {**EVERY, **directives}})
    assert [place for place, _problem in caught.value.problems] == [f"t_x.{path}"]
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "directives",
    [
        {"after": {"any": ["a", ["b", "c"], {"atLeast": 2, "of": ["d", "e"]}]}},
        {"after": nested(31)},
        {"after": [], "andEvery": "p"},
        {"after": {"trigger": "a"}},
        {"after": {"settled": "t_x"}, "unless": {"any": ["u", {"settled": "t_y"}]}},
        {"after": [{"elapsed": "PT72H", "since": "b"}], "fresh": {"b": "P7D"}},
        {"when": {"a": {"price": Decimal("1.1"), "day": {"in": (date(2026, 11, 21), None)}}}},
        {"when": {"a": {"x": {"eq": {}, "ne": {"__type__": 1}, "contains": [], "exists": False}}}},
        {"when": {"a": ["configuration_is_large", {"x": None}, [{"x": {"eq": None}}]]}},
        {"when": {}, "fresh": {}, "withParams": {}, "unless": []},
        {"withArgs": "configuration_build", "within": "P1W"},
        {"andEvery": "p", "atMostEvery": "PT12H", "fresh": {"p": "PT1H"}},
        {"andEvery": "p", "debounce": {"quiet": "PT5S", "most": "PT5S"}, "fresh": {"a": "PT1H"}},
        {"after": ["t_x:failed", "t_y:anything", "order:paid"], "unless": ["t_x:ended"]},
        {"atMostevery": "a directive of your own", "note": {"any": 5}},
    ],
)
def test_what_the_language_allows_is_stored_and_comes_back(directives: dict[str, Any]) -> None:
    parsed = parse({"t_x": {**GOOD, **directives}})
    assert restore(parsed.body) == parsed
    assert restore(parsed.body).tasks == parsed.tasks


@pytest.mark.parametrize("path", ["__gt", "n__greater", "n__gt.x", "a__b"])
def test_a_key_may_have_two_underscores(path: str) -> None:
    assert parse({"t_x": {**GOOD, "when": {"a": {path: 3}}}}).tasks["t_x"].directives["when"]


@pytest.mark.parametrize(
    ("directives", "hint"),
    [
        ({"andevery": "a"}, " (did you mean 'andEvery' by 'andevery'?)"),
        ({"and_every": "a"}, " (did you mean 'andEvery' by 'and_every'?)"),
        ({"aftre": ["a"], "note": 1}, " (did you mean 'after' by 'aftre'?)"),
        ({"note": 1}, ""),
    ],
)
def test_a_task_that_waits_for_nothing_is_told_both_ways_to_wait(
    directives: dict[str, Any], hint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse({"t_x": {"run": "x", **directives}})
    reason = "is required: a list of trigger names; or 'andEvery', a trigger name"
    assert caught.value.problems == (("t_x.after", reason + hint),)


class Expression:
    def __bool__(self) -> bool:
        raise TypeError("neither true nor false")

    def __repr__(self) -> str:
        return "on('a')"

    def to_json(self) -> str:
        return "a"


@pytest.mark.parametrize(
    ("configuration", "path"),
    [
        (Expression(), "configuration"),
        ({"t_x": Expression()}, "t_x"),
        ({"t_x": {**GOOD, "after": Expression()}}, "t_x.after"),
        ({"t_x": {**GOOD, "after": [Expression()]}}, "t_x.after[0]"),
        ({"t_x": {**GOOD, "after": {"any": {Expression()}}}}, "t_x.after.any[0]"),
        ({"t_x": {**GOOD, "andEvery": Expression()}}, "t_x.andEvery"),
        ({"t_x": {**GOOD, "when": Expression()}}, "t_x.when"),
    ],
)
def test_an_expression_is_no_json_and_is_told_what_makes_it(configuration: Any, path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(configuration)
    [(found, reason)] = caught.value.problems
    assert found == path
    assert "got the expression on('a'); declare the task with Workflow(…).task(…)" in reason
    assert "or write the expression's .to_json()" in reason


def test_all_names_of_a_condition_are_names_of_the_task() -> None:
    directives = {
        "after": [
            {"any": ["a", {"trigger": "b", "times": 2}]},
            {"trigger": "c", "times": {"from": "d.count"}},
            {"elapsed": "P1D", "since": "e"},
            {"settled": "t_y"},
        ],
        "unless": {"all": ["u", {"trigger": "v", "times": {"from": "app.w.count"}}, "app.w"]},
        "andEvery": "p",
    }
    task = parse({"t_x": {**GOOD, **directives}}).tasks["t_x"]
    assert task.after == {"a", "b", "c", "d", "e", "p"}
    assert task.unless == {"u", "v", "app.w"}


def test_from_may_name_what_only_the_other_condition_names() -> None:
    counted = {"trigger": "a", "times": {"from": "app.w.count"}}
    task = parse({"t_x": {**GOOD, "after": counted, "unless": ["app.w"]}}).tasks["t_x"]
    assert (task.after, task.unless) == ({"a", "app.w"}, {"app.w"})
    alone = parse({"t_x": {**GOOD, "after": counted}}).tasks["t_x"]
    assert alone.after == {"a", "app"}


def test_sets_in_conditions_become_sorted_lists() -> None:
    python = {
        "after": {"any": {"b", "a"}},
        "unless": frozenset({"v", "u"}),
        "when": {"a": {"x": {"in": {3, 1, 2}}, "y": {"in": {1, "one", None}}}},
    }
    parsed = parse({"t_x": {**GOOD, **python}})
    assert json.loads(parsed.body)["t_x"] == {
        "after": {"any": ["a", "b"]},
        "run": "app.tasks.X",
        "unless": ["u", "v"],
        "when": {"a": {"x": {"in": [1, 2, 3]}, "y": {"in": [None, 1, "one"]}}},
    }


def test_a_condition_that_contains_itself_is_refused() -> None:
    endless: list[Any] = ["a"]
    endless.append(endless)
    with pytest.raises(ConfigurationError, match=r"t_x\.after: is nested .* contains itself"):
        parse({"t_x": {**GOOD, "after": endless}})


def test_a_deep_condition_needs_little_of_the_callers_stack() -> None:
    def from_far_down(frames: int) -> None:
        if frames:
            from_far_down(frames - 1)
        else:
            parse({"t_x": {**GOOD, "after": nested(31), "when": {"a": {"x": {"eq": nested(20)}}}}})

    limit = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    from_far_down(limit - depth - 250)


def test_restoring_asks_for_no_predicate_and_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    directives = {"when": {"a": "configuration_is_large"}, "withArgs": "configuration_build"}
    parsed = parse({"t_x": {**GOOD, **directives}})
    assert parse({"t_x": {**GOOD, **directives}}) is parsed
    monkeypatch.setattr(registered._predicates, "entries", {})
    monkeypatch.setattr(registered._providers, "entries", {})
    assert restore(parsed.body) == parsed
    with pytest.raises(ConfigurationError) as caught:
        parse({"t_x": {**GOOD, **directives}})
    assert [path for path, _reason in caught.value.problems] == ["t_x.when.a", "t_x.withArgs"]
