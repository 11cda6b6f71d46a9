"""Rows E12 to E15: what a task gets, and what becomes of what it returns."""

from __future__ import annotations

import logging
from collections import OrderedDict
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import filters as f
import pytest
from celery import current_app

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import got, reopened, show, statuses
from triggers.exceptions import ConfigurationWarning
from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask, trigger_task

RESULTS: dict[str, Any] = {}


class ReturnWhatTheTestSays(TriggerTask):
    def _run(self, context: TaskContext) -> Any:
        return RESULTS[context.trigger_kwargs["a"]["result"]]


class Named(TriggerTask):
    name = "row-tests.named"
    time_limit = 30
    max_retries = 7

    def _run(self, context: TaskContext) -> None:
        return None


class Base(TriggerTask):
    abstract = True

    def greeting(self) -> str:
        return "hello"


class Greet(Base):
    def _run(self, context: TaskContext) -> dict[str, str]:
        return {"said": self.greeting()}


class Empty(TriggerTask):
    pass


# -- E12 ----------------------------------------------------------------------------------------


def test_e12_a_task_is_named_after_its_module_and_class_and_known_to_celery() -> None:
    assert ReturnWhatTheTestSays.name == f"{__name__}.ReturnWhatTheTestSays"
    assert isinstance(current_app.tasks[ReturnWhatTheTestSays.name], ReturnWhatTheTestSays)


def test_e12_a_name_of_ones_own_and_celerys_options_are_kept() -> None:
    task = current_app.tasks["row-tests.named"]
    assert (task.time_limit, task.max_retries) == (30, 7)


def test_e12_a_base_class_of_ones_own_may_hold_what_tasks_share(new_session: NewSession) -> None:
    assert not [name for name in current_app.tasks if name.endswith(".Base")]
    manager = new_session({"t_x": {"after": ["a"], "run": Greet.name}})
    manager.fire("a")
    assert reopened(manager).storage["t_x#0"].metadata["result"] == {"said": "hello"}


def run_with_result(new_session: NewSession, result: Any) -> TriggerManager:
    RESULTS["x"] = result
    run = {"after": ["a"], "run": ReturnWhatTheTestSays.name}
    manager = new_session({"t_x": run, "t_y": {"after": ["t_x"], "run": show.name}})
    manager.fire("a", {"result": "x"})
    return manager


@pytest.mark.parametrize("result", [{}, None, {"subjectId": 42}, OrderedDict(b=1, a=[{"c": None}])])
def test_e12_a_returned_mapping_becomes_the_kwargs_of_the_cascade(
    new_session: NewSession, result: Any
) -> None:
    manager = run_with_result(new_session, result)
    assert got(manager, "t_y#0") == {"t_x": dict(result or {})}


@pytest.mark.parametrize("result", [42, 0, "", "done", False, [], [("a", 1)], {"a"}, object()])
def test_e12_a_result_that_is_no_mapping_fails_the_instance_with_a_clear_error(
    new_session: NewSession, result: Any
) -> None:
    manager = run_with_result(new_session, result)
    assert statuses(manager) == {"t_x#0": "failed"}
    exception = reopened(manager).storage["t_x#0"].metadata["exception"]
    assert "the result of t_x#0" in exception["message"]
    assert type(result).__name__ in exception["message"]


@pytest.mark.parametrize(
    ("result", "place"),
    [({"file": object()}, "file"), ({1: 2}, "keys must be strings"), ({"x": float("inf")}, "x")],
)
def test_e12_a_result_that_cannot_be_stored_fails_the_instance_and_names_the_place(
    new_session: NewSession, result: Any, place: str
) -> None:
    manager = run_with_result(new_session, result)
    assert statuses(manager) == {"t_x#0": "failed"}
    assert place in reopened(manager).storage["t_x#0"].metadata["exception"]["message"]


def test_e12_a_task_without_run_method_fails_and_says_what_to_define(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": Empty.name}})
    manager.fire("a")
    instance = reopened(manager).storage["t_x#0"]
    assert instance.status == "failed"
    assert "_run(self, context)" in instance.metadata["exception"]["message"]


def test_e12_dates_decimals_and_uuids_come_back_as_what_they_were(new_session: NewSession) -> None:
    values = {
        "date": date(2026, 11, 21),
        "time": time(12, 30),
        "datetime": datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
        "decimal": Decimal("1.10"),
        "uuid": UUID(int=7),
    }
    manager = run_with_result(new_session, values)
    assert got(manager, "t_y#0") == {"t_x": values}


# -- E13 ----------------------------------------------------------------------------------------


@trigger_task
def look_around(context: TaskContext) -> dict[str, Any]:
    return {
        "uid": context.manager.storage.uid,
        "manager": type(context.manager).__name__,
        "instance_name": context.instance_name,
        "instance": context.task_instance.name,
        "status": str(context.task_instance.status),
        "task": context.task_instance.task_name,
        "raw": context.task_instance.kwargs,
        "merged": context.trigger_kwargs,
    }


def test_e13_the_context_shows_manager_instance_and_kwargs(new_session: NewSession) -> None:
    tasks = {"t_x": {"after": ["a"], "withParams": {"a": {"m": 2}}, "run": look_around.name}}
    manager = new_session(tasks, uid="applicant:42")
    manager.fire("a", {"n": 1})
    assert reopened(manager).storage["t_x#0"].metadata["result"] == {
        "uid": "applicant:42",
        "manager": "TriggerManager",
        "instance_name": "t_x#0",
        "instance": "t_x#0",
        "status": "running",
        "task": "t_x",
        "raw": {"a": {"n": 1}},
        "merged": {"a": {"n": 1, "m": 2}},
    }


@trigger_task
def spoil_kwargs(context: TaskContext) -> dict[str, Any]:
    context.trigger_kwargs["a"]["list"].append("spoilt")
    context.task_instance.kwargs["a"].clear()
    context.task_instance.config.directives["withParams"]["a"].clear()
    return {}


def test_e13_a_task_that_changes_its_kwargs_changes_nothing_for_others(
    new_session: NewSession,
) -> None:
    params = {"a": {"fixed": {"x": 1}}}
    tasks = {
        "t_spoil": {"after": ["a"], "withParams": params, "run": spoil_kwargs.name},
        "t_x": {"after": ["a", "t_spoil"], "withParams": params, "run": show.name},
    }
    manager = new_session(tasks)
    manager.fire("a", {"list": [1]})
    assert got(manager, "t_x#0")["a"] == {"list": [1], "fixed": {"x": 1}}
    assert reopened(manager).storage["t_spoil#0"].kwargs == {"a": {"list": [1]}}


FILTERS = {
    "firstPageReceived": {
        "responses": f.Required
        | f.Type(dict)
        | f.FilterMapper(
            {"birthday": f.Required | f.Date, "name": f.Required | f.Unicode},
        ),
    },
    "questionnaireComplete": {"score": f.Int | f.Min(0)},
}


@trigger_task
def filter_the_kwargs(context: TaskContext) -> dict[str, Any]:
    return context.filter_kwargs(FILTERS)


def filtered(new_session: NewSession, first: Any, complete: Any) -> TriggerManager:
    after = ["firstPageReceived", "questionnaireComplete"]
    manager = new_session({"t_x": {"after": after, "run": filter_the_kwargs.name}})
    manager.fire("firstPageReceived", first)
    manager.fire("questionnaireComplete", complete)
    return manager


def test_e13_filter_kwargs_validates_and_transforms(new_session: NewSession) -> None:
    responses = {"birthday": "1980-01-02", "name": "Marcus"}
    manager = filtered(new_session, {"responses": responses}, {"score": "12"})
    assert reopened(manager).storage["t_x#0"].metadata["result"] == {
        "firstPageReceived": {"responses": {"birthday": date(1980, 1, 2), "name": "Marcus"}},
        "questionnaireComplete": {"score": 12},
    }


def test_e13_invalid_kwargs_raise_a_value_error_that_names_each_bad_key(
    new_session: NewSession,
) -> None:
    manager = filtered(new_session, {"responses": {"birthday": "soon"}}, {"score": -1})
    exception = reopened(manager).storage["t_x#0"].metadata["exception"]
    assert exception["type"] == "builtins.ValueError"
    for key in (
        "firstPageReceived.responses.birthday",
        "firstPageReceived.responses.name",
        "questionnaireComplete.score",
    ):
        assert key in exception["message"]


def test_e13_kwargs_that_are_not_there_at_all_are_named_too(new_session: NewSession) -> None:
    manager = filtered(new_session, {}, {})
    message = reopened(manager).storage["t_x#0"].metadata["exception"]["message"]
    assert "firstPageReceived.responses" in message
    assert "questionnaireComplete" not in message


@trigger_task
def filter_a_trigger_that_did_not_fire(context: TaskContext) -> dict[str, Any]:
    return context.filter_kwargs({"never": {"n": f.Required | f.Int}, "a": {"n": f.Int}})


def test_e13_filters_for_a_trigger_the_task_did_not_get_name_its_keys(
    new_session: NewSession,
) -> None:
    run = filter_a_trigger_that_did_not_fire.name
    manager = new_session({"t_x": {"after": ["a"], "run": run}})
    manager.fire("a", {"n": "1"})
    exception = reopened(manager).storage["t_x#0"].metadata["exception"]
    assert exception["type"] == "builtins.ValueError"
    assert "never.n" in exception["message"]


# -- E14 ----------------------------------------------------------------------------------------


def test_e14_a_finished_task_fires_its_own_name_with_its_result(new_session: NewSession) -> None:
    tasks = {f"t_{n}": {"after": [f"t_{n - 1}"], "run": show.name} for n in range(1, 6)}
    manager = new_session({"t_0": {"after": ["a"], "run": show.name}, **tasks})
    manager.fire("a", {"deep": 1})
    assert statuses(manager) == {f"t_{n}#0": "finished" for n in range(6)}
    value = got(manager, "t_5#0")
    for n in range(4, -1, -1):
        value = value[f"t_{n}"]["got"]
    assert value == {"a": {"deep": 1}}
    assert reopened(manager).storage.latest_kwargs["t_0"] == {"got": {"a": {"deep": 1}}}


def test_e14_a_chain_of_hundreds_of_cascades_does_not_exhaust_the_stack(
    new_session: NewSession,
) -> None:
    tasks = {f"t_{n}": {"after": [f"t_{n - 1}"], "run": nothing.name} for n in range(1, 300)}
    manager = new_session({"t_0": {"after": ["a"], "run": nothing.name}, **tasks})
    manager.fire("a")
    assert set(statuses(manager).values()) == {"finished"}
    assert len(statuses(manager)) == 300


@trigger_task
def nothing() -> None:
    return None


def test_e14_every_finished_instance_of_a_repeated_task_cascades(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"andEvery": "p", "run": nothing.name},
        "t_y": {"andEvery": "t_x", "run": nothing.name},
    }
    manager = new_session(tasks)
    for _ in range(3):
        manager.fire("p")
    assert [name for name in statuses(manager) if name.startswith("t_y")] == [
        "t_y#0",
        "t_y#1",
        "t_y#2",
    ]


class Runaway(TriggerTask):
    """Part of a circle of tasks; gives up on its own long after the framework should have."""

    runs: ClassVar[list[str]] = []

    def _run(self, context: TaskContext) -> None:
        self.runs.append(context.instance_name)
        if len(self.runs) > 1500:
            raise RuntimeError("nobody stopped this")


def test_e14_a_circle_of_cascades_is_stopped_with_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = {
        "t_ping": {"andEvery": "t_pong", "run": Runaway.name},
        "t_pong": {"andEvery": "t_ping", "run": Runaway.name},
    }
    manager = TriggerManager(MemoryStorageBackend("circle"))
    with pytest.warns(ConfigurationWarning, match="wait for each other"):
        manager.update_configuration(tasks)
    Runaway.runs.clear()
    manager.fire("t_ping")
    assert 900 < len(Runaway.runs) < 1100
    assert [each for each in caplog.records if each.levelno >= logging.ERROR]


# -- E15 ----------------------------------------------------------------------------------------


@trigger_task
def fire_two_more(context: TaskContext) -> dict[str, Any]:
    first = context.manager.fire("inner", {"by": context.instance_name})
    context.manager.fire("other")
    return {"scheduled": list(first.scheduled)}


def test_e15_a_running_task_fires_further_triggers(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": fire_two_more.name},
        "t_y": {"after": ["inner"], "run": show.name},
        "t_z": {"after": ["t_x", "t_y", "other"], "run": show.name},
    }
    manager = new_session(tasks)
    manager.fire("a")
    assert set(statuses(manager).values()) == {"finished"}
    assert got(manager, "t_y#0") == {"inner": {"by": "t_x#0"}}
    assert got(manager, "t_z#0")["t_x"] == {"scheduled": ["t_y#0"]}


@trigger_task
def fire_then_fail(context: TaskContext) -> None:
    context.manager.fire("inner")
    raise LookupError("afterwards")


def test_e15_what_a_task_fired_stays_fired_though_it_fails_afterwards(
    new_session: NewSession,
) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": fire_then_fail.name},
        "t_y": {"after": ["inner"], "run": show.name},
    }
    manager = new_session(tasks)
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "failed", "t_y#0": "finished"}


@trigger_task
def add_a_task(context: TaskContext) -> None:
    context.manager.update_configuration({"t_new": {"after": ["t_x"], "run": show.name}})


def test_e15_a_running_task_may_add_a_task_that_waits_for_it(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": add_a_task.name}})
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "finished", "t_new#0": "finished"}
