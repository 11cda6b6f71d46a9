"""Row P09: where the arguments of a started task come from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.division import DIVIDE
from tests.acceptance.rows.sessions import got, reopened, show, statuses
from triggers.conditions import provider
from triggers.conditions.registered import _providers
from triggers.exceptions import ConfigurationError
from triggers.manager import TriggerManager
from triggers.task import TaskContext, TriggerTask, trigger_task

SHOW = {"run": show.name}


@provider("rows-from-event")
def from_event(context: TaskContext) -> dict[str, Any]:
    login = context.trigger_kwargs["user.login"]
    return {"user": login["user"], "address": login.get("ip", "unknown")}


@provider("rows-from-result")
def from_result(context: TaskContext) -> dict[str, Any]:
    result = context.result
    assert result is not None
    return {"level": "urgent" if result["ratio"] > 2 else "info", "data": result}


@provider("rows-from-exception")
def from_exception(context: TaskContext) -> dict[str, Any]:
    failure = context.exception
    assert failure is not None
    numbers = failure["kwargs"]["numbers"]
    return {
        "given": f"x={numbers['x']}, y={numbers['y']}",
        "kind": failure["type"],
        "message": failure["message"],
    }


@provider("rows-from-all-pages")
def from_all_pages(context: TaskContext) -> dict[str, Any]:
    return {"numbers": [page["n"] for page in context.firings["page"]]}


@provider("rows-broken")
def broken(context: TaskContext) -> dict[str, Any]:
    raise RuntimeError(f"no arguments for {context.instance_name}")


@provider("rows-no-mapping")
def no_mapping(context: TaskContext) -> Any:
    return ["user", 1]


@trigger_task
def record(user: int, address: str) -> dict[str, Any]:
    return {"text": f"{user} from {address}"}


@trigger_task
def notify(level: str, data: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    return {"level": level, "data": data, "by": context.instance_name}


@trigger_task
def report(given: str, kind: str, message: str) -> dict[str, Any]:
    return {"text": f"{given} failed with {kind}: {message}"}


class Bind(TriggerTask):
    """Gets its arguments after the context."""

    def _run(self, context: TaskContext, **kwargs: Any) -> dict[str, Any]:
        return {"instance": context.instance_name, "kwargs": kwargs}


def result_of(manager: TriggerManager, instance: str) -> dict[str, Any]:
    result: dict[str, Any] = reopened(manager).storage[instance].metadata["result"]
    return result


def failure_in(manager: TriggerManager, instance: str) -> dict[str, Any]:
    assert statuses(manager)[instance] == "failed"
    exception: dict[str, Any] = reopened(manager).storage[instance].metadata["exception"]
    return exception


def test_p09_static_arguments_lie_under_what_was_fired(new_session: NewSession) -> None:
    params = {"settings": {"level": "info", "details": True}, "a": {"n": 0, "m": 0}}
    manager = new_session({"t_x": {"andEvery": "a", "withParams": params, **SHOW}})
    manager.fire("a", {"n": 1})
    assert got(manager, "t_x#0") == {
        "settings": {"level": "info", "details": True},
        "a": {"n": 1, "m": 0},
    }


def test_p09_arguments_come_from_the_event(new_session: NewSession) -> None:
    task = {"andEvery": "user.login", "withArgs": "rows-from-event", "run": record.name}
    manager = new_session({"t_record": task})
    manager.fire("user.login", {"user": 1, "ip": "::1"})
    manager.fire("user.login", {"user": 2})
    texts = [result_of(manager, f"t_record#{number}")["text"] for number in range(2)]
    assert texts == ["1 from ::1", "2 from unknown"]


def test_p09_arguments_come_from_the_result(new_session: NewSession) -> None:
    task = {"andEvery": "t_divide", "withArgs": "rows-from-result", "run": notify.name}
    manager = new_session({**DIVIDE, "t_notify": task})
    for y in (4, 1):
        manager.fire("numbers", {"x": 4, "y": y})
    assert [result_of(manager, f"t_notify#{number}") for number in range(2)] == [
        {"level": "info", "data": {"ratio": 1.0}, "by": "t_notify#0"},
        {"level": "urgent", "data": {"ratio": 4.0}, "by": "t_notify#1"},
    ]


def test_p09_arguments_come_from_the_exception(new_session: NewSession) -> None:
    task = {"andEvery": "t_divide:failed", "withArgs": "rows-from-exception", "run": report.name}
    manager = new_session({**DIVIDE, "t_report": task})
    manager.fire("numbers", {"x": 4, "y": 0})
    text = "x=4, y=0 failed with builtins.ZeroDivisionError: division by zero"
    assert result_of(manager, "t_report#0") == {"text": text}


def test_p09_arguments_come_from_all_firings_that_were_counted(new_session: NewSession) -> None:
    after = [{"trigger": "page", "times": {"from": "started.pages"}}]
    task = {"after": after, "withArgs": "rows-from-all-pages", "run": Bind.name}
    manager = new_session({"t_bind": task})
    for number in (3, 1):
        manager.fire("page", {"n": number})
    manager.fire("started", {"pages": 3})
    manager.fire("page", {"n": 2})
    assert result_of(manager, "t_bind#0")["kwargs"] == {"numbers": [3, 1, 2]}


def test_p09_a_class_task_gets_them_beside_the_context(new_session: NewSession) -> None:
    task = {"andEvery": "user.login", "withArgs": "rows-from-event", "run": Bind.name}
    manager = new_session({"t_bind": task})
    manager.fire("user.login", {"user": 7})
    assert result_of(manager, "t_bind#0") == {
        "instance": "t_bind#0",
        "kwargs": {"user": 7, "address": "unknown"},
    }


def test_p09_the_provider_sees_static_arguments_too(new_session: NewSession) -> None:
    params = {"user.login": {"ip": "127.0.0.1"}}
    task = {
        "after": ["user.login"],
        "withParams": params,
        "withArgs": "rows-from-event",
        "run": record.name,
    }
    manager = new_session({"t_record": task})
    manager.fire("user.login", {"user": 7})
    assert result_of(manager, "t_record#0") == {"text": "7 from 127.0.0.1"}


def test_p09_an_error_in_a_provider_fails_the_instance(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"after": ["a"], "withArgs": "rows-broken", "run": Bind.name},
        "t_help": {"after": ["t_x:failed"], **SHOW},
    }
    manager = new_session(tasks)
    manager.fire("a", {"n": 1})
    assert failure_in(manager, "t_x#0")["message"] == "no arguments for t_x#0"
    failure = got(manager, "t_help#0")["t_x:failed"]
    assert (failure["type"], failure["kwargs"]) == ("builtins.RuntimeError", {"a": {"n": 1}})


@pytest.mark.parametrize(
    ("with_args", "run", "words"),
    [
        ("rows-no-mapping", Bind.name, ["rows-no-mapping", "t_x#0", "mapping", "list"]),
        ("rows-from-event", report.name, ["report", "user", "rows-from-event"]),
    ],
)
def test_p09_arguments_that_do_not_fit_fail_it_with_a_clear_error(
    new_session: NewSession, with_args: str, run: str, words: list[str]
) -> None:
    manager = new_session({"t_x": {"after": ["user.login"], "withArgs": with_args, "run": run}})
    manager.fire("user.login", {"user": 1})
    exception = failure_in(manager, "t_x#0")
    assert exception["type"] == "builtins.TypeError"
    for word in words:
        assert word in exception["message"]


def test_p09_an_unregistered_provider_is_refused_at_load(new_session: NewSession) -> None:
    manager = new_session()
    with pytest.raises(ConfigurationError, match=r"t_x\.withArgs.*rows-nobody"):
        manager.update_configuration(
            {"t_x": {"after": ["a"], "withArgs": "rows-nobody", "run": Bind.name}}
        )


def test_p09_a_worker_without_the_provider_fails_the_instance(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {"after": ["user.login"], "withArgs": "rows-from-event", "run": Bind.name}
    manager = new_session({"t_x": task})
    monkeypatch.delitem(_providers.entries, "rows-from-event")
    manager.fire("user.login", {"user": 1})
    exception = failure_in(manager, "t_x#0")
    assert exception["type"] == "triggers.exceptions.UnregisteredFunction"
    assert "rows-from-event" in exception["message"]
