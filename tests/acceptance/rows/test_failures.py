"""Row P05: tasks that start on the failure of another, and what they get to know of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.division import DIVIDE, Odd, began, divide, listening
from tests.acceptance.rows.sessions import got, reopened, show
from triggers.task import TaskContext, TriggerTask, trigger_task
from triggers.workflows import Workflow, on

SHOW = {"run": show.name}


@trigger_task
def report(context: TaskContext) -> dict[str, Any]:
    """Return what a handler gets to know of a failure."""
    failure = context.exception
    assert failure is not None
    return {"failure": failure, "x": failure["kwargs"]["numbers"]["x"]}


def handling(*tests: Any) -> dict[str, Any]:
    """Handlers of failures, each with a test of the types."""
    return {
        f"t_report_{number}": {
            "andEvery": "t_divide:failed",
            "when": {"t_divide:failed": {"types": {"contains": test}}},
            "run": report.name,
        }
        for number, test in enumerate(tests)
    }


def test_p05_a_handler_sees_arguments_type_and_message(new_session: NewSession) -> None:
    tasks = {**DIVIDE, "t_report": {"after": ["t_divide:failed"], "run": report.name}}
    manager = new_session(tasks)
    manager.fire("numbers", {"x": 4, "y": 0})
    result = reopened(manager).storage["t_report#0"].metadata["result"]
    assert result["x"] == 4
    assert result["failure"] == {
        "type": "builtins.ZeroDivisionError",
        "types": [
            "ZeroDivisionError",
            "builtins.ZeroDivisionError",
            "ArithmeticError",
            "builtins.ArithmeticError",
            "Exception",
            "builtins.Exception",
            "BaseException",
            "builtins.BaseException",
        ],
        "message": "division by zero",
        "kwargs": {"numbers": {"x": 4, "y": 0}},
        "attempt": 1,
    }


def test_p05_static_kwargs_are_among_the_arguments(new_session: NewSession) -> None:
    divide_with_params = {
        **DIVIDE["t_divide"],
        "withParams": {"numbers": {"y": 0}, "own": {"n": 1}},
    }
    tasks = {"t_divide": divide_with_params, "t_report": {"after": ["t_divide:failed"], **SHOW}}
    manager = new_session(tasks)
    manager.fire("numbers", {"x": 4})
    failure = got(manager, "t_report#0")["t_divide:failed"]
    assert failure["kwargs"] == {"numbers": {"x": 4, "y": 0}, "own": {"n": 1}}


@pytest.mark.parametrize(
    ("numbers", "handlers"),
    [
        ({"x": 4, "y": 0}, ["t_report_0#0", "t_report_2#0", "t_report_4#0"]),
        ({"x": 3, "y": 1}, ["t_report_1#0", "t_report_2#0", "t_report_3#0"]),
        ({"x": 4}, []),
    ],
)
def test_p05_a_handler_names_the_exceptions_that_it_is_for(
    new_session: NewSession, numbers: dict[str, int], handlers: list[str]
) -> None:
    """A class, simple or qualified, of the error or of its bases."""
    names = (
        "ZeroDivisionError",
        "Odd",
        "ArithmeticError",
        f"{Odd.__module__}.Odd",
        "builtins.ZeroDivisionError",
    )
    manager = new_session({**DIVIDE, **handling(*names)})
    manager.fire("numbers", numbers)
    assert began(manager) == handlers


def test_p05_a_handler_of_all_exceptions_needs_no_filter(new_session: NewSession) -> None:
    tasks = {**DIVIDE, "t_report": {"andEvery": "t_divide:failed", "run": report.name}}
    manager = new_session(tasks)
    for numbers in ({"x": 4, "y": 0}, {"x": 3, "y": 1}, {"x": 4}):
        manager.fire("numbers", numbers)
    assert began(manager) == ["t_report#0", "t_report#1", "t_report#2"]


def test_p05_a_handler_may_ask_for_the_message(new_session: NewSession) -> None:
    when = {"t_divide:failed": {"message": {"matches": "^1?3 is odd$"}}}
    manager = new_session({**DIVIDE, **listening("t_divide:failed", when=when)})
    for x in (5, 13, 3):
        manager.fire("numbers", {"x": x, "y": 1})
    messages = [got(manager, name)["t_divide:failed"]["message"] for name in began(manager)]
    assert messages == ["13 is odd", "3 is odd"]


def test_p05_handlers_are_declared_in_python_by_name_or_class(new_session: NewSession) -> None:
    workflow = Workflow("division")
    workflow.task("t_divide", run=divide, and_every="numbers")
    workflow.task("t_zero", run=report, after=on("t_divide").failed("ZeroDivisionError"))
    workflow.task("t_odd", run=report, after=on("t_divide").failed(Odd))
    workflow.task("t_any", run=report, after=on("t_divide").failed())
    manager = new_session(workflow)
    manager.fire("numbers", {"x": 3, "y": 1})
    assert began(manager) == ["t_odd#0", "t_any#0"]
    manager.fire("numbers", {"x": 4, "y": 0})
    assert began(manager) == ["t_zero#0", "t_odd#0", "t_any#0"]


def test_p05_a_handler_may_name_several_exceptions(new_session: NewSession) -> None:
    workflow = Workflow("division")
    workflow.task("t_divide", run=divide, and_every="numbers")
    failure = on("t_divide").failed("ZeroDivisionError", Odd)
    workflow.task("t_report", run=report, and_every=failure)
    manager = new_session(workflow)
    for numbers in ({"x": 4, "y": 0}, {"x": 3, "y": 1}, {"x": 4}):
        manager.fire("numbers", numbers)
    assert began(manager) == ["t_report#0", "t_report#1"]


def test_p05_the_kwargs_of_a_failure_that_was_caused_by_hand_are_there_too(
    new_session: NewSession,
) -> None:
    tasks = {"t_x": {"after": ["a"], "run": "nobody.knows"}, **listening("t_x:failed")}
    manager = new_session(tasks)
    manager.fire("a", {"n": 1})
    failure = got(manager, "t_on_0#0")["t_x:failed"]
    assert failure["kwargs"] == {"a": {"n": 1}}
    assert failure["attempt"] == 1
    assert "UnknownTask" in failure["types"]
    assert "nobody.knows" in failure["message"]


class Busy(TriggerTask):
    """Retries once, because of an error that it knows."""

    name = "tests.acceptance.rows.test_failures.Busy"
    max_retries = 1

    def _run(self, context: TaskContext) -> dict[str, Any]:
        raise self.retry(exc=TimeoutError("busy"))


def test_p05_a_handler_of_what_led_to_the_last_retry_is_called_once(
    new_session: NewSession,
) -> None:
    tasks = {
        "t_divide": {"andEvery": "numbers", "run": Busy.name},
        **handling("OSError", "KeyError"),
    }
    manager = new_session(tasks)
    manager.fire("numbers", {"x": 4, "y": 2})
    assert began(manager) == ["t_report_0#0"]
    failure = reopened(manager).storage["t_report_0#0"].metadata["result"]["failure"]
    assert failure["type"] == "triggers.exceptions.MaxRetriesExceeded"
    assert failure["types"][0] == "MaxRetriesExceeded"
    assert "builtins.TimeoutError" in failure["types"]
    assert len(failure["types"]) == len(set(failure["types"]))
    assert failure["attempt"] == 2
