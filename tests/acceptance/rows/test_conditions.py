"""Rows P08, B05 and B06: several triggers for one task, and what it sees of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import explode, got, reopened, show, statuses
from triggers.exceptions import ConfigurationError
from triggers.manager import TriggerManager
from triggers.task import TaskContext, trigger_task
from triggers.testing import any_order, frozen_time

SHOW = {"run": show.name}


# -- P08 ----------------------------------------------------------------------------------------


def test_p08_all_waits_for_every_member_in_any_order(new_session: NewSession) -> None:
    for condition in (["a", "b", "c"], {"all": ["a", {"all": ["b", "c"]}]}, ["a", ["b", ["c"]]]):
        for order in any_order(["a", "b", "c"]):
            with order:
                manager = new_session({"t_x": {"after": condition, **SHOW}})
                order.fire(manager)
                assert statuses(manager) == {"t_x#0": "finished"}
                assert got(manager, "t_x#0") == {"a": {}, "b": {}, "c": {}}


def test_p08_any_starts_with_the_first_of_its_members(new_session: NewSession) -> None:
    tasks = {"t_x": {"after": {"any": ["a", "b"]}, **SHOW}}
    for first, second in (("a", "b"), ("b", "a")):
        manager = new_session(tasks)
        manager.fire(first, {"n": 1})
        manager.fire(second, {"n": 2})
        assert statuses(manager) == {"t_x#0": "finished"}
        assert got(manager, "t_x#0") == {first: {"n": 1}}


def test_p08_conditions_nest_and_the_kwargs_of_all_that_was_seen_reach_the_task(
    new_session: NewSession,
) -> None:
    after = ["a", {"any": [["b", "c"], {"atLeast": 2, "of": ["d", "e", "f"]}]}]
    manager = new_session({"t_x": {"after": after, **SHOW}})
    for number, name in enumerate(("d", "b", "a", "f")):
        assert statuses(manager) in ({}, {"t_x#0": "unstarted"})
        manager.fire(name, {"n": number})
    assert got(manager, "t_x#0") == {"d": {"n": 0}, "b": {"n": 1}, "a": {"n": 2}, "f": {"n": 3}}


def test_p08_unless_takes_conditions_too(new_session: NewSession) -> None:
    unless = {"any": ["cancelled", ["late", "unpaid"]]}
    for triggers, status in (
        (("cancelled",), "abandoned"),
        (("late",), "finished"),
        (("unpaid", "late"), "abandoned"),
    ):
        manager = new_session({"t_x": {"after": ["a"], "unless": unless, **SHOW}})
        for name in triggers:
            manager.fire(name)
        manager.fire("a")
        assert statuses(manager) == {"t_x#0": status}


def test_p08_outcomes_and_events_mix_in_a_condition(new_session: NewSession) -> None:
    after = {"any": ["t_good:failed", {"all": ["t_good", "t_bad:failed", "approved"]}]}
    manager = new_session(
        {
            "t_good": {"after": ["a"], **SHOW},
            "t_bad": {"after": ["a"], "run": explode.name},
            "t_x": {"after": after, **SHOW},
        }
    )
    manager.fire("a")
    assert statuses(manager)["t_x#0"] == "unstarted"
    manager.fire("approved", {"by": "me"})
    assert statuses(manager)["t_x#0"] == "finished"
    assert got(manager, "t_x#0").keys() == {"t_good", "t_bad:failed", "approved"}


def test_p08_what_a_condition_was_given_as_is_kept_as_json(new_session: NewSession) -> None:
    text = '{"any": ["a", {"all": ["b", {"atLeast": 1, "of": ["c", "d"]}]}]}'
    manager = new_session({"t_x": {"after": json.loads(text), **SHOW}})
    task = reopened(manager).storage.tasks["t_x"]
    assert json.dumps(task.directives["after"]) == text
    assert task.after == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ({"any": []}, "t_x.after.any"),
        ({"atLeast": 3, "of": ["a", "b"]}, "t_x.after.atLeast"),
        ({"atLeast": 0, "of": ["a", "b"]}, "t_x.after.atLeast"),
        ({"atLeast": 1}, "t_x.after.of"),
        ({"some": ["a"]}, "t_x.after"),
        ({"any": ["a"], "all": ["b"]}, "t_x.after"),
        (["a", {"trigger": "b", "times": 0}], "t_x.after[1].times"),
        (["a", {"trigger": "b", "times": 1.5}], "t_x.after[1].times"),
        ([{"trigger": "b", "times": {"from": "c"}}], "t_x.after[0].times.from"),
        (["a", {"settled": "t_nobody"}], "t_x.after[1].settled"),
        ([{"elapsed": "P1D"}], "t_x.after[0].since"),
        ([{"elapsed": "soon", "since": "a"}], "t_x.after[0].elapsed"),
    ],
)
def test_p08_what_is_no_condition_is_refused_at_its_place(
    new_session: NewSession, condition: Any, place: str
) -> None:
    manager = new_session()
    with pytest.raises(ConfigurationError) as caught:
        manager.update_configuration({"t_x": {"after": condition, **SHOW}})
    assert place in str(caught.value)


# -- B05 ----------------------------------------------------------------------------------------


def test_b05_any_of_several_triggers_starts_a_task(new_session: NewSession) -> None:
    for name in ("everyHour", "forced"):
        manager = new_session({"t_x": {"after": {"any": ["everyHour", "forced"]}, **SHOW}})
        manager.fire(name)
        assert got(manager, "t_x#0") == {name: {}}


def test_b05_several_triggers_start_the_same_code_again_and_again(new_session: NewSession) -> None:
    manager = new_session(
        {
            "t_hourly": {"andEvery": "everyHour", "run": which.name},
            "t_forced": {"andEvery": "forced", "run": which.name},
        }
    )
    for name in ("everyHour", "forced", "everyHour"):
        manager.fire(name)
    assert statuses(manager) == dict.fromkeys(
        ["t_hourly#0", "t_hourly#1", "t_forced#0"], "finished"
    )


def test_b05_one_that_came_first_does_not_keep_the_others_from_a_second_task(
    new_session: NewSession,
) -> None:
    names = ["everyHour", "forced"]
    manager = new_session(
        {
            "t_any": {"after": {"any": names}, **SHOW},
            "t_both": {"after": {"all": names}, **SHOW},
        }
    )
    manager.fire("forced")
    assert statuses(manager) == {"t_any#0": "finished", "t_both#0": "unstarted"}
    manager.fire("everyHour")
    assert statuses(manager) == {"t_any#0": "finished", "t_both#0": "finished"}


# -- B06 ----------------------------------------------------------------------------------------


@trigger_task
def which(context: TaskContext) -> dict[str, Any]:
    """Return which trigger fired, and its arguments."""
    name = context.trigger_name
    assert name is not None
    return {"trigger": name, "kwargs": context.trigger_kwargs[name], "all": context.firings}


def seen(manager: TriggerManager, instance: str) -> dict[str, Any]:
    """What :func:`which` returned."""
    result: dict[str, Any] = reopened(manager).storage[instance].metadata["result"]
    return result


def test_b06_a_task_sees_which_trigger_fired_and_its_arguments(new_session: NewSession) -> None:
    tasks = {"t_x": {"after": {"any": ["everyHour", "forced"]}, "run": which.name}}
    for name in ("everyHour", "forced"):
        manager = new_session(tasks)
        manager.fire(name, {"by": name})
        assert seen(manager, "t_x#0") == {
            "trigger": name,
            "kwargs": {"by": name},
            "all": {name: [{"by": name}]},
        }


def test_b06_of_several_that_were_needed_the_last_one_is_named(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a", "b"], "andEvery": "p", "run": which.name}})
    for name in ("b", "p", "a"):
        manager.fire(name, {"by": name})
    manager.fire("p", {"by": "again"})
    assert [seen(manager, f"t_x#{number}")["trigger"] for number in range(2)] == ["a", "p"]
    assert seen(manager, "t_x#1")["kwargs"] == {"by": "again"}


def test_b06_what_was_counted_is_there_in_order(new_session: NewSession) -> None:
    after = [{"trigger": "page", "times": 3}]
    params = {"page": {"language": "en"}}
    manager = new_session({"t_x": {"after": after, "withParams": params, "run": which.name}})
    for number in (1, 2, 3):
        manager.fire("page", {"n": number})
    result = seen(manager, "t_x#0")
    assert result["trigger"] == "page"
    assert result["kwargs"] == {"language": "en", "n": 1}, "trigger_kwargs has the first"
    assert [each["n"] for each in result["all"]["page"]] == [1, 2, 3]
    assert {each["language"] for each in result["all"]["page"]} == {"en"}


def test_b06_what_replaces_the_older_one_is_seen_alone(new_session: NewSession) -> None:
    tasks = {"t_x": {"after": ["read", "go"], "fresh": {"read": "PT12H"}, "run": which.name}}
    moment = datetime(2026, 11, 21, 12, tzinfo=UTC)
    with frozen_time(moment):
        manager = new_session(tasks)
        manager.fire("read", {"n": 1})
        manager.fire("read", {"n": 2})
    with frozen_time(moment + timedelta(hours=11)):
        manager.fire("go")
    assert seen(manager, "t_x#0")["all"] == {"read": [{"n": 2}], "go": [{}]}
