"""Rows E04 to E07: running often, once, never, and with params."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    IdleRunner,
    at_the_same_time,
    explode,
    got,
    registered,
    reopened,
    show,
    statuses,
)
from triggers.exceptions import (
    ConfigurationError,
    ConfigurationWarning,
)
from triggers.task import TaskContext, trigger_task
from triggers.testing import any_order

SHOW = {"run": show.name}


# -- E04 ----------------------------------------------------------------------------------------


def test_e04_every_firing_that_no_waiting_instance_absorbs_makes_the_next_instance(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a"], "andEvery": "p", **SHOW}})
    for page in (1, 2, 3):
        manager.fire("p", {"page": page})
    assert statuses(manager) == dict.fromkeys(["t_x#0", "t_x#1", "t_x#2"], "unstarted")
    manager.fire("a")
    manager.fire("p", {"page": 4})
    pages = [got(manager, f"t_x#{number}")["p"]["page"] for number in range(4)]
    assert pages == [1, 2, 3, 4]


def test_e04_an_instance_that_waits_for_the_repeated_trigger_absorbs_it(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a"], "andEvery": "p", **SHOW}})
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "unstarted"}
    assert manager.fire("p").created == ()
    assert statuses(manager) == {"t_x#0": "finished"}
    assert manager.fire("p").created == ("t_x#1",)


def test_e04_a_new_instance_carries_in_the_latest_kwargs_of_what_fired_before(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a", "b"], "andEvery": "p", **SHOW}})
    manager.fire("a", {"n": 1})
    manager.fire("b", {"n": 1})
    manager.fire("p", {"page": 1})
    manager.fire("a", {"n": 2})
    manager.fire("a", {"n": 3})
    manager.fire("p", {"page": 2})
    assert got(manager, "t_x#0") == {"a": {"n": 1}, "b": {"n": 1}, "p": {"page": 1}}
    assert got(manager, "t_x#1") == {"a": {"n": 3}, "b": {"n": 1}, "p": {"page": 2}}


def test_e04_other_triggers_make_no_further_instance(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "andEvery": "p", **SHOW}})
    manager.fire("p")
    manager.fire("a")
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "finished"}


def test_e04_the_repeated_trigger_may_stand_in_after_as_well(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a", "p"], "andEvery": "p", **SHOW}})
    manager.fire("a")
    manager.fire("p", {"page": 1})
    manager.fire("p", {"page": 2})
    assert [got(manager, f"t_x#{n}")["p"]["page"] for n in (0, 1)] == [1, 2]


def test_e04_a_task_may_repeat_with_every_finished_run_of_another(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"andEvery": "p", **SHOW},
        "t_y": {"after": ["a"], "andEvery": "t_x", **SHOW},
    }
    manager = new_session(tasks)
    manager.fire("p", {"page": 1})
    manager.fire("p", {"page": 2})
    manager.fire("a")
    seen = [got(manager, f"t_y#{n}")["t_x"]["got"]["p"]["page"] for n in (0, 1)]
    assert seen == [1, 2]


def test_e04_firings_at_the_same_time_make_one_instance_each(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "andEvery": "p", **SHOW}})
    manager.fire("a")
    at_the_same_time(*[partial(reopened(manager).fire, "p", {"page": n}) for n in range(8)])
    assert statuses(manager) == {f"t_x#{n}": "finished" for n in range(8)}
    assert sorted(got(manager, f"t_x#{n}")["p"]["page"] for n in range(8)) == list(range(8))


# -- E05 ----------------------------------------------------------------------------------------


def test_e05_a_second_firing_neither_runs_the_task_again_nor_changes_its_kwargs(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a", "b"], **SHOW}})
    manager.fire("a", {"n": 1})
    manager.fire("a", {"n": 2})
    manager.fire("b", {"n": 3})
    manager.fire("a", {"n": 4})
    manager.fire("b", {"n": 5})
    assert statuses(manager) == {"t_x#0": "finished"}
    assert got(manager, "t_x#0") == {"a": {"n": 1}, "b": {"n": 3}}
    assert reopened(manager).storage["t_x#0"].record.attempt == 1


def test_e05_firing_again_does_not_run_a_failed_task_again(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": explode.name}})
    manager.fire("a")
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "failed"}


# -- E06 ----------------------------------------------------------------------------------------


def test_e06_unless_that_fires_first_keeps_the_task_from_ever_running(
    new_session: NewSession,
) -> None:
    for order in any_order(["u", "a"]):
        manager = new_session({"t_x": {"after": ["a", "b"], "unless": ["u"], **SHOW}})
        order.fire(manager)
        assert statuses(manager) == {"t_x#0": "abandoned"}, order
        manager.fire("a")
        manager.fire("b")
        assert statuses(manager) == {"t_x#0": "abandoned"}, order


def test_e06_all_triggers_of_unless_must_have_fired(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "unless": ["u", "v"], **SHOW}})
    manager.fire("u")
    assert statuses(manager) == {"t_x#0": "unstarted"}
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "finished"}


def test_e06_unless_wins_when_one_firing_completes_both(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a", "b"], "unless": ["b", "u"], **SHOW}})
    manager.fire("u")
    manager.fire("a")
    result = manager.fire("b")
    assert (result.scheduled, result.abandoned) == ((), ("t_x#0",))
    assert statuses(manager) == {"t_x#0": "abandoned"}


def test_e06_a_task_whose_unless_is_part_of_its_after_can_never_run_and_warns(
    new_session: NewSession,
) -> None:
    manager = new_session()
    with pytest.warns(ConfigurationWarning, match="t_x: can never run"):
        manager.update_configuration({"t_x": {"after": ["a"], "unless": ["a"], **SHOW}})
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "abandoned"}


def test_e06_unless_recalls_nothing_that_was_scheduled(new_session: NewSession) -> None:
    tasks = {"t_x": {"after": ["a"], "unless": ["u"], "using": IdleRunner.name, **SHOW}}
    with registered(IdleRunner):
        manager = new_session(tasks)
        manager.fire("a")
        assert manager.fire("u").abandoned == ()
    assert statuses(manager) == {"t_x#0": "scheduled"}
    assert not reopened(manager).storage["t_x#0"].can_abandon
    show.execute(manager, "t_x#0")
    assert statuses(manager) == {"t_x#0": "finished"}


@trigger_task
def fire_unless(context: TaskContext) -> dict[str, str]:
    context.manager.fire("u")
    return {"status": str(context.manager.storage[context.instance_name].status)}


def test_e06_unless_stops_nothing_that_is_running(new_session: NewSession) -> None:
    tasks = {"t_x": {"after": ["a"], "unless": ["u"], "run": fire_unless.name}}
    manager = new_session(tasks)
    manager.fire("a")
    instance = reopened(manager).storage["t_x#0"]
    assert instance.status == "finished"
    assert instance.metadata["result"] == {"status": "running"}


def test_e06_once_unless_holds_every_further_instance_is_abandoned_too(
    new_session: NewSession,
) -> None:
    tasks = {"t_x": {"after": ["a"], "andEvery": "p", "unless": ["u"], **SHOW}}
    manager = new_session(tasks)
    manager.fire("a")
    manager.fire("p")
    manager.fire("u")
    manager.fire("p")
    assert statuses(manager) == {"t_x#0": "finished", "t_x#1": "abandoned"}


def test_e06_kwargs_of_unless_triggers_never_reach_the_task(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "unless": ["u", "v"], **SHOW}})
    manager.fire("u", {"secret": 1})
    manager.fire("a")
    assert got(manager, "t_x#0") == {"a": {}}


# -- E07 ----------------------------------------------------------------------------------------


def test_e07_with_params_are_merged_recursively_under_what_was_fired(
    new_session: NewSession,
) -> None:
    params = {
        "a": {"model": "Psych 01", "options": {"depth": 1, "limits": {"low": 0, "high": 9}}},
        "b": {"list": [1, 2, 3]},
    }
    manager = new_session({"t_x": {"after": ["a", "b"], "withParams": params, **SHOW}})
    manager.fire("a", {"options": {"depth": 2, "limits": {"high": 5}}, "responses": {"q": 1}})
    manager.fire("b", {"list": [4]})
    assert got(manager, "t_x#0") == {
        "a": {
            "model": "Psych 01",
            "options": {"depth": 2, "limits": {"low": 0, "high": 5}},
            "responses": {"q": 1},
        },
        "b": {"list": [4]},
    }


def test_e07_keys_of_with_params_need_not_be_trigger_names(new_session: NewSession) -> None:
    params = {"settings": {"model": "Psych 01"}}
    manager = new_session({"t_x": {"after": ["a"], "withParams": params, **SHOW}})
    manager.fire("a", {"n": 1})
    assert got(manager, "t_x#0") == {"a": {"n": 1}, "settings": {"model": "Psych 01"}}


@pytest.mark.parametrize("fired", [None, [], "text", 0])
def test_e07_a_fired_value_of_another_kind_wins_as_it_is(
    new_session: NewSession, fired: Any
) -> None:
    params = {"a": {"options": {"depth": 1}, "plain": 1}}
    manager = new_session({"t_x": {"after": ["a"], "withParams": params, **SHOW}})
    manager.fire("a", {"options": fired, "plain": {"nested": True}})
    assert got(manager, "t_x#0") == {"a": {"options": fired, "plain": {"nested": True}}}


def test_e07_with_params_hold_for_every_instance_and_are_never_changed(
    new_session: NewSession,
) -> None:
    params = {"p": {"tags": {"x": 1}}}
    manager = new_session({"t_x": {"andEvery": "p", "withParams": params, **SHOW}})
    manager.fire("p", {"tags": {"y": 2}})
    manager.fire("p")
    assert got(manager, "t_x#0") == {"p": {"tags": {"x": 1, "y": 2}}}
    assert got(manager, "t_x#1") == {"p": {"tags": {"x": 1}}}
    assert params == {"p": {"tags": {"x": 1}}}


@pytest.mark.parametrize("value", ["Psych 01", 1, None, ["Psych 01"]])
def test_e07_a_flat_with_params_is_refused_with_its_path(
    new_session: NewSession, value: Any
) -> None:
    manager = new_session()
    with pytest.raises(ConfigurationError, match=r"^t_x\.withParams\.model: expected a mapping"):
        manager.update_configuration(
            {"t_x": {"after": ["a"], "withParams": {"model": value}, **SHOW}}
        )
    assert reopened(manager).storage.tasks == {}
