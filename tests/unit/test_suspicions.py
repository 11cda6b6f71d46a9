"""What can be stored but will hardly ever run is a warning; what asks for nothing is an error."""

from __future__ import annotations

from typing import Any

import pytest

from triggers.conditions import predicate
from triggers.configuration import check_outcomes, parse, suspicions
from triggers.exceptions import ConfigurationError, ConfigurationWarning
from triggers.manager import TriggerManager

GOOD = {"after": ["a"], "run": "app.tasks.X"}


@predicate("suspicions_is_large")
def is_large(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs)


@pytest.mark.parametrize(
    ("configuration", "name", "reason"),
    [
        ({"t_x": {"after": [], "run": "x"}}, "t_x", "nothing ever starts it"),
        ({"t_x": {"after": [], "unless": ["u"], "run": "x"}}, "t_x", "waits for nothing"),
        ({"t_x": {"after": ["t_x"], "run": "x"}}, "t_x", "waits for itself"),
        (
            {
                "t_a": {"after": ["t_c"], "run": "x"},
                "t_b": {"after": ["t_a"], "run": "x"},
                "t_c": {"after": ["t_b", "p"], "run": "x"},
            },
            "t_a",
            "(t_a -> t_c -> t_b -> t_a)",
        ),
        ({"t_x": {"after": ["a", "b"], "unless": ["b"], "run": "x"}}, "t_x", "can never run"),
    ],
)
def test_what_is_merely_suspicious_is_a_warning(
    configuration: dict[str, Any], name: str, reason: str, trigger_manager: TriggerManager
) -> None:
    [(found, why)] = suspicions(parse(configuration))
    assert found == name
    assert reason in why
    with pytest.warns(ConfigurationWarning, match=name):
        trigger_manager.update_configuration(configuration)
    assert set(trigger_manager.storage.tasks) == set(configuration)


def test_an_unknown_runner_is_a_warning_that_names_the_known_ones(
    trigger_manager: TriggerManager,
) -> None:
    with pytest.warns(ConfigurationWarning, match=r"t_x\.using.*'lambda'.*celery.*threading"):
        trigger_manager.update_configuration({"t_x": {**GOOD, "using": "lambda"}})


def test_shared_steps_without_a_circle_are_not_suspicious() -> None:
    diamond = {
        "t_a": {"after": ["x"], "run": "x"},
        "t_b": {"after": ["t_a"], "run": "x"},
        "t_c": {"after": ["t_a"], "run": "x"},
        "t_d": {"after": ["t_b", "t_c"], "unless": ["u"], "run": "x"},
    }
    assert list(suspicions(parse(diamond))) == []


def test_a_long_chain_of_tasks_is_examined_without_deep_recursion() -> None:
    chain = {f"t_{n}": {"after": [f"t_{n + 1}"], "run": "x"} for n in range(3_000)}
    assert list(suspicions(parse(chain))) == []


@pytest.mark.parametrize(
    ("directives", "reason"),
    [
        ({"after": {"settled": "t_y"}}, "has no trigger in 'after' and no 'andEvery'"),
        ({"after": [{"settled": "t_y"}], "unless": ["u"]}, "waits for no trigger, so only"),
        ({"after": {"settled": "t_x"}, "andEvery": "p"}, "until it is settled itself"),
        ({"after": {"any": ["a", "b"]}, "unless": {"any": ["a", "b"]}}, None),
        ({"after": ["a"], "unless": {"any": ["a", "b"]}}, "its 'unless' holds whenever"),
        ({"after": ["a"], "unless": {"trigger": "a"}}, "its 'unless' holds whenever"),
        ({"after": ["a"], "unless": {"trigger": "a", "times": 1}}, "holds whenever"),
        ({"after": ["a"], "unless": {"trigger": "a", "times": 2}}, None),
        ({"after": {"trigger": "a", "times": 3}, "unless": {"trigger": "a", "times": 2}}, "holds"),
        ({"after": {"trigger": "a", "times": 3}, "unless": ["a"]}, "it needs a, which its"),
        ({"after": {"trigger": "a", "times": 3}, "unless": {"trigger": "a", "times": 4}}, None),
        ({"after": {"any": ["a", "b"]}, "unless": ["a"]}, None),
        ({"after": {"any": ["a", ["a", "b"]]}, "unless": ["a"]}, "it needs a, which its"),
        ({"after": {"atLeast": 2, "of": ["a", "b", ["a", "c"]]}, "unless": ["a"]}, "it needs a"),
        ({"after": {"atLeast": 2, "of": ["a", "b", "c"]}, "unless": ["a"]}, None),
        (
            {"after": ["a", "b"], "unless": {"atLeast": 2, "of": ["a", "b", "c"]}},
            "its 'unless' holds whenever",
        ),
        ({"after": ["a"], "unless": {"all": ["a", "b"]}}, None),
        ({"after": [], "andEvery": "p", "unless": ["p"]}, "it needs p, which its"),
        ({"after": {"elapsed": "P3D", "since": "a"}, "unless": ["a"]}, "it needs a"),
        ({"after": {"elapsed": "P3D", "since": "a"}, "unless": ["a"], "fresh": {"a": "P1D"}}, None),
        (
            {
                "after": {"elapsed": "P3D", "since": "a"},
                "unless": [{"elapsed": "PT72H", "since": "a"}],
            },
            "its 'unless' holds whenever",
        ),
        (
            {
                "after": {"elapsed": "P3D", "since": "a"},
                "unless": {"elapsed": "P4D", "since": "a"},
            },
            None,
        ),
        ({"after": [{"trigger": "a", "times": {"from": "b.n"}}], "unless": ["a"]}, None),
        (
            {
                "after": {"trigger": "a", "times": {"from": "b.n"}},
                "unless": {"trigger": "a", "times": {"from": "b.n"}},
            },
            "its 'unless' holds whenever",
        ),
        ({"after": {"trigger": "a", "times": {"from": "b.n"}}, "unless": ["b"]}, "it needs b"),
        ({"after": ["a", {"settled": "t_y"}], "unless": {"settled": "t_y"}}, "holds whenever"),
        ({"after": ["a"], "unless": {"settled": "t_y"}}, None),
        ({"after": ["t_x:failed"]}, "waits for itself to fail, so it never starts"),
        ({"after": ["t_x:expired", "a"]}, None),
        ({"after": [{"trigger": "t_x", "times": 2}]}, "waits for itself to finish"),
        ({"after": {"any": ["t_x", "a"]}}, None),
        ({"after": {"any": [["t_x", "a"], ["t_x", "b"]]}}, "waits for itself to finish"),
    ],
)
def test_conditions_that_hardly_ever_hold_are_suspicious(
    directives: dict[str, Any], reason: str | None
) -> None:
    other = {"t_y": {"after": ["y"], "run": "x"}}
    found = list(suspicions(parse({"t_x": {**GOOD, **directives}, **other})))
    if reason is None:
        assert found == []
    else:
        [(name, why)] = found
        assert name == "t_x"
        assert reason in why


def test_any_breaks_a_circle() -> None:
    circle = {
        "t_a": {"after": [{"all": ["t_b:failed"]}], "run": "x"},
        "t_b": {"after": [{"elapsed": "P1D", "since": "t_a"}], "run": "x"},
    }
    [(name, why)] = suspicions(parse(circle))
    assert name == "t_a"
    assert "(t_a -> t_b -> t_a)" in why
    circle["t_b"]["after"] = [{"any": ["t_a", "go"]}]
    assert list(suspicions(parse(circle))) == []


@pytest.mark.parametrize(
    ("tasks", "path", "reason"),
    [
        ({"t_x": {**GOOD, "after": {"settled": "t_z"}}}, "t_x.after.settled", "no task 't_z'"),
        (
            {"t_x": {**GOOD, "unless": {"any": ["u", {"settled": "t_z"}]}}},
            "t_x.unless.any[1].settled",
            "the tasks are t_y, t_x",
        ),
        (
            {"t_x": {**GOOD, "when": {"a": [{"$args.b.c": 1}]}}},
            "t_x.when.a.$args.b.c",
            "'$args' is of tasks, and 'a' is none",
        ),
        (
            {"t_x": {**GOOD, "after": ["t_y"], "when": {"t_y": {"$args.c.d": 1}}}},
            "t_x.when.t_y.$args.c.d",
            "leads nowhere: t_y gets kwargs of b, static",
        ),
        (
            {f"t_{n}": {"after": {"settled": "t_z"}, "run": "x"} for n in range(20)},
            "t_0.after.settled",
            "t_8, …",
        ),
        ({"t_x": {**GOOD, "after": ["t_y:gone"]}}, "t_x.after", "t_y has no outcome 'gone'"),
    ],
)
def test_what_asks_about_no_task_of_the_session_is_refused(
    tasks: Any, path: str, reason: str
) -> None:
    first = {"t_y": {"after": ["b"], "withParams": {"static": {"c": 1}}, "run": "x"}}
    merged = parse(first).merged_with(parse(tasks))
    with pytest.raises(ConfigurationError) as caught:
        check_outcomes(merged)
    assert reason in dict(caught.value.problems)[path]


def test_tasks_may_ask_about_tasks_that_came_before() -> None:
    first = {"t_y": {"after": ["b"], "withParams": {"dotted.name": {"c": 1}}, "run": "x"}}
    then = {
        "t_x": {
            "after": ["t_y:failed", {"settled": "t_y"}, "a"],
            "when": {
                "t_y:failed": [
                    {"$args.b.c": 1, "$args.dotted.name.c": 2},
                    "suspicions_is_large",
                ],
                "a": {"x": 1},
            },
            "run": "x",
        }
    }
    check_outcomes(parse(first).merged_with(parse(then)))
    assert list(suspicions(parse(first).merged_with(parse(then)))) == []


def test_a_task_without_kwargs_is_said_to_have_none() -> None:
    tasks = {
        "t_y": {"after": [], "run": "x"},
        "t_x": {"after": ["t_y"], "when": {"t_y": {"$args.b": 1}}, "run": "x"},
    }
    with pytest.raises(ConfigurationError, match="t_y gets kwargs of no trigger"):
        check_outcomes(parse(tasks))


@pytest.mark.parametrize(
    ("directive", "meant"),
    [
        ("whithin", "within"),
        ("wihtin", "within"),
        ("unles", "unless"),
        ("withParam", "withParams"),
        ("atmostEvery", "atMostEvery"),
        ("with_args", "withArgs"),
        ("and-every", "andEvery"),
        ("wen", "when"),
        ("wehn", "when"),
    ],
)
def test_a_directive_that_is_probably_misspelled_is_suspicious(directive: str, meant: str) -> None:
    assert list(suspicions(parse({"t_x": {**GOOD, directive: 1}}))) == [
        (
            "t_x",
            f"{directive!r} (did you mean {meant!r}?) is kept as a directive of your own, and does "
            "nothing by itself",
        )
    ]


@pytest.mark.parametrize(
    "directive",
    ["locks", "timeout", "note", "retries", "owner", "alarm", "team", "refresh", "urn", "priority",
     "x_within", "x-unles", "xyz", ""],
)  # fmt: skip
def test_a_directive_of_ones_own_is_not_suspicious(directive: str) -> None:
    assert list(suspicions(parse({"t_x": {**GOOD, directive: 1}}))) == []


@pytest.mark.parametrize(
    "directives",
    [
        {"after": {"atLeast": 2, "of": ["a", "a", "b"]}},
        {"unless": {"any": ["a", "a"]}},
        {"after": ["b", {"all": ["c", {"any": ["a", "b", "a"]}]}]},
    ],
)
def test_a_trigger_twice_in_a_group_is_suspicious(directives: dict[str, Any]) -> None:
    [(name, why)] = suspicions(parse({"t_x": {"after": ["z"], "run": "x", **directives}}))
    assert name == "t_x"
    assert why.startswith("'a' stands more than once in a group of its '")
    assert why.endswith("firings are counted with 'times'")


@pytest.mark.parametrize(
    "after",
    [
        {"any": ["a", {"trigger": "a", "times": 2}]},
        {"any": [["a", "b"], ["a", "c"]]},
        {"all": ["a", "a"]},
        ["a", ["a", {"settled": "t_x"}]],
    ],
)
def test_a_trigger_in_different_conditions_is_not_suspicious(after: Any) -> None:
    found = suspicions(parse({"t_x": {"after": after, "run": "x"}}))
    assert not any("more than once" in why for _name, why in found)


@pytest.mark.parametrize(
    ("directives", "found", "meant"),
    [
        ({"after": ["t_shp"]}, "t_shp", "t_ship"),
        ({"after": ["a"], "unless": ["T_ship", "t_shipp"]}, "t_shipp", "t_ship"),
        ({"after": [{"any": ["a", "t_shp:failed"]}]}, "t_shp:failed", "t_ship:failed"),
        ({"after": [], "andEvery": "t-ship:ended"}, "t-ship:ended", None),
        ({"after": ["pubilsh:failed"]}, "pubilsh:failed", "publish:failed"),
        ({"after": ["pubilsh"]}, "pubilsh", None),
        ({"after": ["ship", "ship:failed"]}, "the trigger for which a task is named", None),
        ({"after": ["t_ship2:failed"]}, "a task to come", None),
        ({"after": ["t_shio"]}, "a task to come", None),
        ({"after": ["t_shp:started"]}, "no outcome", None),
        ({"after": ["t_pay", "t_ship:failed"]}, "nothing alike", None),
    ],
)
def test_a_trigger_that_looks_like_a_task_is_suspicious(
    directives: dict[str, Any], found: str, meant: str | None
) -> None:
    others = {"t_ship": GOOD, "publish": GOOD}
    told = list(suspicions(parse({"t_x": {"run": "x", **directives}, **others})))
    expected = (
        f"{found!r} (did you mean {meant!r}?) is a trigger like any other, as there is no task "
        f"{found.partition(':')[0]!r}; no task's end fires it"
    )
    assert told == ([] if meant is None else [("t_x", expected)])


def test_a_misspelled_task_is_said_when_it_is_configured(trigger_manager: TriggerManager) -> None:
    trigger_manager.update_configuration({"t_ship": GOOD})
    warning = r"^t_x: 't_shp' \(did you mean 't_ship'\?\) is a trigger like any other, as there"
    with pytest.warns(ConfigurationWarning, match=warning):
        trigger_manager.update_configuration({"t_x": {**GOOD, "after": ["t_shp"]}})
    trigger_manager.update_configuration({"t_shp": GOOD})


@pytest.mark.parametrize("name", ["sessionFinalised", "session_finalized"])
def test_a_misspelled_end_is_suspicious_in_a_session_that_finalizes(
    name: str, trigger_manager: TriggerManager
) -> None:
    tasks = {"t_x": GOOD, "t_score": {"after": [name], "run": "x"}}
    assert list(suspicions(parse(tasks))) == [], "anybody may call a trigger of their own so"
    warning = (
        rf"^t_score: '{name}' \(did you mean 'sessionFinalized'\?\) is a trigger like any other; "
        r"the session does not fire it at its end\.$"
    )
    with pytest.warns(ConfigurationWarning, match=warning):
        trigger_manager.update_configuration(tasks, finalize=True)
    a_task = {name: {"after": ["a"], "run": "x"}, **tasks}
    finalizing = parse(a_task).merged_with(parse({}), finalize=True)
    assert list(suspicions(finalizing)) == [], "the name of a task is meant"
