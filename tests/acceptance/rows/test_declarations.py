"""Rows P10 and P12: conditions declared in Python, and functions that every worker can find."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.division import began, divide
from tests.acceptance.rows.sessions import explode, got, reopened, show, statuses
from tests.servers import subprocess_environment
from triggers import workflows
from triggers.conditions import predicate, provider
from triggers.exceptions import CannotRegister, ConfigurationError
from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.task import TaskContext, trigger_task
from triggers.workflows import Workflow, all_of, any_of, at_least, elapsed, on, settled

SHOW = {"run": show.name}


@predicate
def is_round(kwargs: dict[str, Any]) -> bool:
    return float(kwargs["ratio"]).is_integer()


@provider
def from_ratio(context: TaskContext) -> dict[str, Any]:
    return {"ratio": context.trigger_kwargs["t_divide_numbers"]["ratio"]}


DECLARED = Workflow("rows-declared")


@trigger_task(workflow=DECLARED, and_every="numbers")
def divide_numbers(context: TaskContext) -> dict[str, Any]:
    numbers = context.trigger_kwargs["numbers"]
    return {"ratio": numbers["x"] / numbers["y"]}


@trigger_task(
    workflow=DECLARED,
    and_every=on(divide_numbers).where(is_round),
    unless=["silenced"],
    with_args=from_ratio,
)
def praise(ratio: float) -> dict[str, Any]:
    return {"text": f"{ratio:g} is round"}


@trigger_task(
    workflow=DECLARED,
    task="t_console",
    after=[on(divide_numbers).failed("ZeroDivisionError")],
    within="PT72H",
    custom={"team": "numbers"},
)
def console(context: TaskContext) -> dict[str, Any]:
    failure = context.exception
    assert failure is not None
    return {"text": failure["message"]}


DECLARED_AS_JSON = {
    "t_divide_numbers": {"run": f"{__name__}.divide_numbers", "andEvery": "numbers"},
    "t_praise": {
        "run": f"{__name__}.praise",
        "andEvery": "t_divide_numbers",
        "unless": ["silenced"],
        "when": {"t_divide_numbers": "is_round"},
        "withArgs": "from_ratio",
    },
    "t_console": {
        "run": f"{__name__}.console",
        "after": ["t_divide_numbers:failed"],
        "when": {"t_divide_numbers:failed": {"types": {"contains": "ZeroDivisionError"}}},
        "within": "PT72H",
        "team": "numbers",
    },
}


# -- P10 ----------------------------------------------------------------------------------------


def test_p10_a_task_declares_its_conditions_where_it_is_defined(new_session: NewSession) -> None:
    manager = new_session(DECLARED)
    for y in (2, 3, 0):
        manager.fire("numbers", {"x": 4, "y": y})
    assert statuses(manager) == {
        "t_divide_numbers#0": "finished",
        "t_divide_numbers#1": "finished",
        "t_divide_numbers#2": "failed",
        "t_praise#0": "finished",
        "t_console#0": "finished",
    }
    storage = reopened(manager).storage
    assert storage["t_praise#0"].metadata["result"] == {"text": "2 is round"}
    assert storage["t_console#0"].metadata["result"] == {"text": "division by zero"}
    assert storage.tasks["t_console"].extras == {"team": "numbers"}


def test_p10_what_python_declares_is_json_and_comes_back_exactly(new_session: NewSession) -> None:
    assert DECLARED.to_json() == DECLARED_AS_JSON
    text = json.dumps(DECLARED.to_json())
    again = Workflow.from_json("again", json.loads(text))
    assert json.dumps(again.to_json()) == text
    stored = reopened(new_session(again)).storage.tasks
    assert {name: dict(task.directives) for name, task in stored.items()} == DECLARED_AS_JSON


OPERATORS: list[tuple[Any, Any]] = [
    (on("a"), ["a"]),
    (on("a") & on("b"), ["a", "b"]),
    (on("a") | on("b"), {"any": ["a", "b"]}),
    (on("a") & (on("b") | on("c")), ["a", {"any": ["b", "c"]}]),
    (
        (on("a") & "b") | on("c").times(3),
        {"any": [{"all": ["a", "b"]}, {"trigger": "c", "times": 3}]},
    ),
    (at_least(2, "a", "b", on("c")), {"atLeast": 2, "of": ["a", "b", "c"]}),
    (any_of("a", all_of("b", "c")), {"any": ["a", {"all": ["b", "c"]}]}),
    (on("a").times(from_="b.n"), {"trigger": "a", "times": {"from": "b.n"}}),
    (on("a") & settled("t_x"), ["a", {"settled": "t_x"}]),
    (
        on("a") & elapsed(since="a", days=3),
        ["a", {"elapsed": "P3D", "since": "a"}],
    ),
    (on("t_x").failed() | on("t_x").skipped(), {"any": ["t_x:failed", "t_x:skipped"]}),
]


@pytest.mark.parametrize(("expression", "expected"), OPERATORS)
def test_p10_operators_make_the_conditions_of_the_language(expression: Any, expected: Any) -> None:
    workflow = Workflow("operators").task("t_x", run=show, after=expression)
    assert workflow.to_json()["t_x"]["after"] == expected


def test_p10_a_fluent_declaration_runs_like_the_json_that_it_is(new_session: NewSession) -> None:
    workflow = Workflow("fluent")
    workflow.task("t_divide", run=divide, and_every="numbers")
    workflow.task(
        "t_next",
        run=show,
        after=on("t_divide").where(ratio__gte=2) & (on("b") | on("c").times(2)),
        unless=on("t_divide").failed("LookupError"),
    )
    fluent, plain = new_session(workflow), new_session(json.loads(json.dumps(workflow.to_json())))
    for manager in (fluent, plain):
        manager.fire("numbers", {"x": 4, "y": 4})
        manager.fire("c", {"n": 1})
        manager.fire("numbers", {"x": 8, "y": 4})
        manager.fire("c", {"n": 2})
    assert statuses(fluent) == statuses(plain)
    assert got(fluent, "t_next#0") == got(plain, "t_next#0")
    assert got(fluent, "t_next#0") == {"t_divide": {"ratio": 2.0}, "c": {"n": 1}}


def test_p10_conditions_are_added_by_a_program(new_session: NewSession) -> None:
    manager = new_session({"t_divide": {"andEvery": "numbers", "run": divide.name}})
    added = Workflow("added")
    for number, exception in enumerate((ZeroDivisionError, ArithmeticError, KeyError)):
        added.task(f"t_help_{number}", run=show, after=on("t_divide").failed(exception))
    manager.update_configuration(added)
    manager.fire("numbers", {"x": 4, "y": 0})
    assert began(manager) == ["t_help_0#0", "t_help_1#0"]


def test_p10_a_workflow_is_found_by_its_name(new_session: NewSession) -> None:
    workflow = workflows.define("rows-named").task("t_x", run=show, after="a")
    try:
        assert workflows.get("rows-named") is workflow
        assert "rows-named" in workflows.names()
        manager = new_session(workflows.get("rows-named"))
        manager.fire("a")
        assert statuses(manager) == {"t_x#0": "finished"}
    finally:
        workflows.unregister("rows-named")
    with pytest.raises(LookupError, match="rows-named"):
        workflows.get("rows-named")


def test_p10_contradictions_and_unknown_names_are_refused_where_they_are_written() -> None:
    workflow = Workflow("wrong")
    with pytest.raises(ConfigurationError, match=r"t_x\.when\.a"):
        workflow.task("t_x", run=show, after=on("a").where(n=1) & on("a").where(n=2))
    with pytest.raises(ConfigurationError, match=r"t_x\.withArgs"):
        workflow.task("t_x", run=show, after="a", with_args="rows-nobody")
    with pytest.raises(TypeError, match="unless"):
        ~on("a")
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(on("a"))
    assert workflow.to_json() == {}


# -- P12 ----------------------------------------------------------------------------------------


def test_p12_a_lambda_is_refused_with_a_clear_error() -> None:
    for register in (predicate("rows-lambda"), provider("rows-lambda")):
        with pytest.raises(CannotRegister, match="lambda, which no other process finds by name"):
            register(lambda kwargs: True)
    with pytest.raises(CannotRegister, match="lambda"):
        on("a").where(lambda kwargs: True)
    with pytest.raises(CannotRegister, match="lambda"):
        Workflow("w").task("t_x", run=show, after="a", with_args=lambda context: {})


def test_p12_so_is_what_has_no_name_in_a_module() -> None:
    def local(kwargs: dict[str, Any]) -> bool:
        return True

    class Holder:
        def method(self, kwargs: dict[str, Any]) -> bool:
            return True

    for function, reason in (
        (local, "inside another function"),
        (Holder().method, "only a function of a module"),
        (Holder, "only a function of a module"),
        (print, "only a function of a module"),
    ):
        with pytest.raises(CannotRegister, match=reason):
            predicate("rows-refused")(function)


@pytest.mark.parametrize("name", ["rows-nobody", "os.system", "tests.acceptance.rows.sessions.got"])
def test_p12_an_unregistered_name_or_an_import_path_is_refused_at_load(
    new_session: NewSession, name: str
) -> None:
    manager = new_session()
    for directives in (
        {"when": {"a": name}},
        {"when": {"a": [{"n": 1}, name]}},
        {"withArgs": name},
    ):
        with pytest.raises(ConfigurationError, match=name) as caught:
            manager.update_configuration({"t_x": {"after": ["a"], **directives, **SHOW}})
        [directive] = directives
        assert f"t_x.{directive}" in str(caught.value)
    assert reopened(manager).storage.tasks == {}


def test_p12_a_function_in_a_configuration_is_refused(new_session: NewSession) -> None:
    manager = new_session()
    for directives in ({"when": {"a": is_round}}, {"withArgs": from_ratio}):
        with pytest.raises(ConfigurationError, match="by the name"):
            manager.update_configuration({"t_x": {"after": ["a"], **directives, **SHOW}})


def test_p12_one_name_belongs_to_one_function() -> None:
    with pytest.raises(CannotRegister, match="is_round"):
        predicate("is_round")(from_ratio)


WORKER = """
import sys
import django
django.setup()
from importlib import import_module
import_module("tests.acceptance.rows.test_declarations")
from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.testing import run_tasks_locally

manager = TriggerManager(storage_backends.get("database", sys.argv[1]))
with run_tasks_locally("synchronous"):
    manager.fire("numbers", {"x": 9, "y": 3})
"""


@pytest.mark.django_db(transaction=True)
def test_p12_another_process_finds_predicates_and_providers_by_name() -> None:
    manager = TriggerManager(storage_backends.get("database", "rows-p12"))
    manager.update_configuration(DECLARED)
    subprocess.run(
        [sys.executable, "-c", WORKER, manager.storage.uid],
        env=subprocess_environment(),
        check=True,
        timeout=60,
    )
    result = reopened(manager).storage["t_praise#0"].metadata["result"]
    assert result == {"text": "3 is round"}


def test_p12_a_process_without_the_predicate_refuses_what_it_cannot_judge(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triggers.conditions.registered import _predicates

    manager = new_session(
        {
            "t_x": {"andEvery": "ratio", "when": {"ratio": "is_round"}, **SHOW},
            "t_bad": {"andEvery": "ratio", "run": explode.name},
        }
    )
    monkeypatch.delitem(_predicates.entries, "is_round")
    with pytest.raises(LookupError, match="is_round"):
        manager.fire("ratio", {"ratio": 1})
    assert statuses(manager) == {}
