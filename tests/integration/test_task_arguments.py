"""What reaches the code of a task: firings, results, exceptions, and arguments from providers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest

from triggers.conditions import provider, registered
from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask, trigger_task
from triggers.testing import run_tasks_locally
from triggers.types import BY_HAND, TaskInstance
from triggers.workflows import Workflow, on

calls: list[Any] = []
"""What the tasks of this module were called with."""


@pytest.fixture(autouse=True)
def _in_place() -> Iterator[None]:
    calls.clear()
    with run_tasks_locally("synchronous"):
        yield
    MemoryStorageBackend.clear()


@pytest.fixture(
    params=["memory", pytest.param("database", marks=pytest.mark.django_db(transaction=True))]
)
def session(request: pytest.FixtureRequest) -> Callable[[Mapping[str, Any]], TriggerManager]:
    def make(tasks: Mapping[str, Any]) -> TriggerManager:
        manager = TriggerManager(storage_backends.get(request.param, uuid4().hex))
        manager.update_configuration(tasks)
        return manager

    return make


Session = Callable[[Mapping[str, Any]], TriggerManager]


@trigger_task
def look(context: TaskContext) -> dict[str, Any]:
    """Return all that the context knows of what was fired."""
    return {
        "trigger_kwargs": context.trigger_kwargs,
        "firings": context.firings,
        "trigger_name": context.trigger_name,
        "results": context.results,
        "result": context.result,
        "exception": context.exception,
    }


@trigger_task
def double(context: TaskContext) -> dict[str, Any]:
    return {"n": context.trigger_kwargs["number"]["n"] * 2}


@trigger_task
def divide(context: TaskContext) -> dict[str, Any]:
    return {"ratio": context.trigger_kwargs["number"]["n"] / 0}


def seen(manager: TriggerManager, instance: str) -> dict[str, Any]:
    """What :func:`look` returned."""
    found: TaskInstance = manager.storage[instance]
    assert found.metadata.get("exception") is None
    result: dict[str, Any] = found.metadata["result"]
    return result


# -- what the context knows -------------------------------------------------------------------


def test_all_firings_that_are_held_reach_the_task_oldest_first(session: Session) -> None:
    after = on("started") & on("page").times(3)
    params = {"page": {"lang": "de", "size": {"unit": "mm"}}, "never": {"x": 1}}
    tasks = Workflow("w").task("t_x", run=look, after=after, with_params=params)
    manager = session(tasks)
    manager.fire("page", {"n": 1, "size": {"width": 5}})
    manager.fire("page", {"n": 2, "lang": "en"})
    manager.fire("started", {"pages": 3})
    manager.fire("page", {"n": 3})
    found = seen(manager, "t_x#0")
    assert found["firings"] == {
        "page": [
            {"n": 1, "lang": "de", "size": {"unit": "mm", "width": 5}},
            {"n": 2, "lang": "en", "size": {"unit": "mm"}},
            {"n": 3, "lang": "de", "size": {"unit": "mm"}},
        ],
        "started": [{"pages": 3}],
    }
    assert found["trigger_kwargs"]["page"] == found["firings"]["page"][0]
    assert found["trigger_kwargs"]["never"] == {"x": 1}
    assert found["trigger_name"] == "page"


def test_with_fresh_the_newest_firing_is_the_one_that_is_seen(session: Session) -> None:
    after = on("page").fresh(hours=1) & on("go")
    manager = session(Workflow("w").task("t_x", run=look, after=after))
    manager.fire("page", {"n": 1})
    manager.fire("page", {"n": 2})
    manager.fire("go")
    found = seen(manager, "t_x#0")
    assert found["firings"] == {"page": [{"n": 2}], "go": [{}]}
    assert found["trigger_kwargs"] == {"page": {"n": 2}, "go": {}}


@pytest.mark.parametrize("last", ["a", "b"])
def test_the_trigger_that_completed_a_join_is_named(session: Session, last: str) -> None:
    tasks = Workflow("w").task("t_x", run=look, after=on("a") & on("b"))
    manager = session(tasks)
    for name in sorted("ab", key=lambda name: name == last):
        manager.fire(name)
    assert seen(manager, "t_x#0")["trigger_name"] == last


def test_of_several_alternatives_the_one_that_fired_is_named_with_its_kwargs(
    session: Session,
) -> None:
    tasks = Workflow("w").task("t_x", run=look, after=on("mail") | on("call"))
    manager = session(tasks)
    manager.fire("call", {"number": "555"})
    found = seen(manager, "t_x#0")
    assert found["trigger_name"] == "call"
    assert found["trigger_kwargs"] == {"call": {"number": "555"}}
    assert (found["results"], found["result"], found["exception"]) == ({}, None, None)


def test_a_trigger_of_unless_completes_nothing(session: Session) -> None:
    tasks = Workflow("w").task("t_x", run=look, after="a", unless=on("b") & on("c"))
    manager = session(tasks)
    manager.fire("b")
    manager.fire("a")
    found = seen(manager, "t_x#0")
    assert found["trigger_name"] == "a"
    assert found["firings"] == {"a": [{}]}


def test_results_of_the_tasks_that_were_waited_for(session: Session) -> None:
    tasks = (
        Workflow("w")
        .task("t_one", run=double, after="number")
        .task("t_two", run=double, after=["number", "later"])
        .task("t_x", run=look, after=["number", "t_one", "t_two"])
    )
    manager = session({**tasks, "t_two": {**tasks["t_two"], "after": ["number", "t_one"]}})
    manager.fire("number", {"n": 4})
    found = seen(manager, "t_x#0")
    assert found["results"] == {"t_one": {"n": 8}, "t_two": {"n": 8}}
    assert found["result"] == {"n": 8}
    assert found["trigger_name"] == "t_two"
    assert found["exception"] is None


def test_the_newest_result_is_the_result(session: Session) -> None:
    tasks = (
        Workflow("w")
        .task("t_one", run=look, after="a")
        .task("t_two", run=look, after="b")
        .task("t_x", run=look, after=["t_one", "t_two"])
    )
    manager = session(tasks)
    manager.fire("b")
    manager.fire("a")
    found = seen(manager, "t_x#0")
    assert found["result"] == found["results"]["t_one"]
    assert found["result"]["trigger_name"] == "a"


def test_a_failure_shows_its_exception_and_what_the_task_had_got(session: Session) -> None:
    tasks = (
        Workflow("w")
        .task("t_divide", run=divide, after="number", with_params={"number": {"unit": "m"}})
        .task("t_x", run=look, after=on("t_divide").failed(ArithmeticError))
        .task("t_y", run=look, after=on("t_divide").failed("ValueError"))
    )
    manager = session(tasks)
    manager.fire("number", {"n": 1})
    found = seen(manager, "t_x#0")
    exception = found["exception"]
    assert exception["type"] == "builtins.ZeroDivisionError"
    assert exception["message"] == "division by zero"
    assert exception["kwargs"] == {"number": {"n": 1, "unit": "m"}}
    assert exception["attempt"] == 1
    assert found["trigger_name"] == "t_divide:failed"
    assert (found["results"], found["result"]) == ({}, None)
    assert "t_y#0" not in manager.storage.instances


def test_a_handler_may_name_several_exceptions(session: Session) -> None:
    tasks = (
        Workflow("w")
        .task("t_divide", run=divide, after="number")
        .task("t_x", run=look, after=on("t_divide").failed("ValueError", ArithmeticError))
        .task("t_y", run=look, after=on("t_divide").failed("ValueError", KeyError))
    )
    manager = session(tasks)
    manager.fire("number", {"n": 1})
    assert seen(manager, "t_x#0")["trigger_name"] == "t_divide:failed"
    assert "t_y#0" not in manager.storage.instances


def test_who_waits_for_any_end_is_told_of_it_under_that_name(session: Session) -> None:
    tasks = (
        Workflow("w")
        .task("t_one", run=double, after="number")
        .task("t_x", run=look, after=on("t_one").ended())
        .task("t_y", run=look, after=on("t_one").ended() & on("t_one"))
    )
    manager = session(tasks)
    manager.fire("number", {"n": 4})
    assert seen(manager, "t_x#0")["trigger_kwargs"] == {"t_one:ended": {"n": 8}}
    assert seen(manager, "t_y#0")["trigger_name"] == "t_one"
    assert seen(manager, "t_y#0")["result"] == {"n": 8}


def test_a_task_that_waits_for_nothing_knows_of_nothing(session: Session) -> None:
    manager = session(Workflow("w").task("t_x", run=look, after="a"))
    created = manager.storage.create_instance("t_x", kwargs={"a": {"n": 1}})
    assert created.record.taken == {"a": BY_HAND}
    assert TaskContext(manager, created).trigger_name == "a"
    replayed = manager.storage.create_instance("t_x")
    assert TaskContext(manager, replayed).trigger_name is None
    assert TaskContext(manager, replayed).result is None


def test_what_was_given_by_hand_has_no_order(session: Session) -> None:
    manager = session(Workflow("w").task("t_x", run=look, after=["a", "b"]))
    created = manager.storage.create_instance("t_x", kwargs={"a": {"n": 1}, "b": {}})
    context = TaskContext(manager, created)
    assert context.trigger_name is None
    assert context.firings == {"a": [{"n": 1}], "b": [{}]}


# -- arguments from a provider ----------------------------------------------------------------


@provider("arguments-of-an-order")
def of_an_order(context: TaskContext) -> dict[str, Any]:
    order = context.trigger_kwargs["order"]
    return {"amount": order["amount"], "urgent": order["amount"] > 1000}


@provider("arguments-of-a-failure")
def of_a_failure(context: TaskContext) -> dict[str, Any]:
    failure = context.exception
    assert failure is not None
    n = failure["kwargs"]["number"]["n"]
    return {"arguments": f"n={n}", "kind": failure["type"], "message": failure["message"]}


@provider("arguments-none")
def of_nothing(context: TaskContext) -> dict[str, Any]:
    return {}


@trigger_task
def notify(amount: int, urgent: bool = False) -> dict[str, Any]:
    calls.append((amount, urgent))
    return {"level": "urgent" if urgent else "info"}


@trigger_task
def notify_knowingly(amount: int, context: TaskContext, *, urgent: bool) -> dict[str, Any]:
    return {"by": context.instance_name, "amount": amount, "urgent": urgent}


@trigger_task
def take_all(**arguments: Any) -> dict[str, Any]:
    return {"got": sorted(arguments)}


@trigger_task
def take_nothing() -> dict[str, Any]:
    return {"got": []}


@trigger_task
def report(arguments: str, kind: str, message: str) -> dict[str, Any]:
    return {"text": f"{arguments} failed with {kind}: {message}"}


class Notify(TriggerTask):
    def _run(  # type: ignore[override]
        self, context: TaskContext, amount: int, urgent: bool
    ) -> dict[str, Any]:
        return {"by": context.instance_name, "amount": amount, "urgent": urgent}


class NotifyOfAll(TriggerTask):
    def _run(self, context: TaskContext, **arguments: Any) -> dict[str, Any]:
        return {"by": context.instance_name, **arguments}


class NotifyOfNothing(TriggerTask):
    def _run(self, context: TaskContext) -> dict[str, Any]:
        calls.append(context.instance_name)
        return {}


@pytest.mark.parametrize(
    ("run", "result"),
    [
        (notify, {"level": "urgent"}),
        (notify_knowingly, {"by": "t_x#0", "amount": 2000, "urgent": True}),
        (take_all, {"got": ["amount", "urgent"]}),
        (Notify, {"by": "t_x#0", "amount": 2000, "urgent": True}),
        (NotifyOfAll, {"by": "t_x#0", "amount": 2000, "urgent": True}),
    ],
)
def test_a_task_gets_what_its_provider_made(
    session: Session, run: Any, result: dict[str, Any]
) -> None:
    manager = session(Workflow("w").task("t_x", run=run, after="order", with_args=of_an_order))
    manager.fire("order", {"amount": 2000})
    assert seen(manager, "t_x#0") == result


def test_a_provider_may_make_no_arguments(session: Session) -> None:
    manager = session(Workflow("w").task("t_x", run=take_nothing, after="a", with_args=of_nothing))
    manager.fire("a")
    assert seen(manager, "t_x#0") == {"got": []}


def test_arguments_may_come_from_an_exception(session: Session) -> None:
    failed = on("t_divide").failed("ZeroDivisionError")
    tasks = (
        Workflow("w")
        .task("t_divide", run=divide, after="number")
        .task("t_x", run=report, after=failed, with_args=of_a_failure)
    )
    manager = session(tasks)
    manager.fire("number", {"n": 7})
    text = "n=7 failed with builtins.ZeroDivisionError: division by zero"
    assert seen(manager, "t_x#0") == {"text": text}


def test_the_same_function_serves_tasks_with_other_providers(session: Session) -> None:
    tasks = (
        Workflow("w")
        .task("t_x", run=notify, after="order", with_args=of_an_order)
        .task("t_y", run=notify, after="order", with_args=constant)
    )
    manager = session(tasks)
    manager.fire("order", {"amount": 5})
    assert sorted(calls) == [(5, False), (10, False)]


@provider("arguments-constant")
def constant(context: TaskContext) -> dict[str, Any]:
    return {"amount": 10}


@provider("arguments-raise")
def raising(context: TaskContext) -> dict[str, Any]:
    raise LookupError("no such order")


@provider("arguments-list")
def a_list(context: TaskContext) -> Any:
    return [("amount", 1)]


@provider("arguments-no-name")
def no_name(context: TaskContext) -> dict[str, Any]:
    return {"amount": 1, "the amount": 2}


@provider("arguments-number")
def a_number(context: TaskContext) -> dict[Any, Any]:
    return {1: 2}


@provider("arguments-context")
def own_context(context: TaskContext) -> dict[str, Any]:
    return {"amount": 1, "context": context}


@provider("arguments-more")
def more(context: TaskContext) -> dict[str, Any]:
    return {"amount": 1, "color": "red"}


@provider("arguments-less")
def less(context: TaskContext) -> dict[str, Any]:
    return {"urgent": True}


@pytest.mark.parametrize(
    ("run", "made_by", "kind", "message"),
    [
        (notify, raising, "builtins.LookupError", "no such order"),
        (
            notify,
            a_list,
            "builtins.TypeError",
            "The provider 'arguments-list' of t_x#0 must return a mapping of arguments by name, "
            "and returned list.",
        ),
        (
            notify,
            no_name,
            "builtins.TypeError",
            "The provider 'arguments-no-name' of t_x#0 returned 'the amount', which cannot be the "
            "name of an argument.",
        ),
        (
            notify,
            a_number,
            "builtins.TypeError",
            "The provider 'arguments-number' of t_x#0 returned 1, which cannot be the name of an "
            "argument.",
        ),
        (
            notify,
            own_context,
            "builtins.TypeError",
            "The provider 'arguments-context' of t_x#0 returned 'context', the name under which a "
            "task gets its own.",
        ),
        (
            notify,
            more,
            "builtins.TypeError",
            f"{__name__}.notify cannot be called: got an unexpected keyword argument 'color' (the "
            "provider 'arguments-more' gave amount, color).",
        ),
        (
            notify,
            less,
            "builtins.TypeError",
            f"{__name__}.notify cannot be called: missing a required argument: 'amount' (the "
            "provider 'arguments-less' gave urgent).",
        ),
        (
            notify,
            of_nothing,
            "builtins.TypeError",
            f"{__name__}.notify cannot be called: missing a required argument: 'amount' (the "
            "provider 'arguments-none' gave no arguments).",
        ),
        (
            NotifyOfNothing,
            constant,
            "builtins.TypeError",
            f"{__name__}.NotifyOfNothing._run cannot be called: got an unexpected keyword argument "
            "'amount' (the provider 'arguments-constant' gave amount).",
        ),
    ],
)
def test_arguments_that_cannot_be_made_fail_the_instance_before_the_task_runs(
    session: Session, run: Any, made_by: Any, kind: str, message: str
) -> None:
    manager = session(Workflow("w").task("t_x", run=run, after="order", with_args=made_by))
    manager.fire("order", {"amount": 1})
    instance = manager.storage["t_x#0"]
    assert instance.status == "failed"
    exception = instance.metadata["exception"]
    assert (exception["type"], exception["message"]) == (kind, message)
    assert calls == []


def test_a_worker_that_lacks_the_provider_fails_the_instance(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = session(Workflow("w").task("t_x", run=notify, after="order", with_args=of_an_order))
    known = registered._providers.entries
    monkeypatch.delitem(known, "arguments-of-an-order")
    manager.fire("order", {"amount": 1})
    exception = manager.storage["t_x#0"].metadata["exception"]
    assert exception["type"] == "triggers.exceptions.UnregisteredFunction"
    assert "'arguments-of-an-order'" in exception["message"]
    assert calls == []


def test_a_provider_is_asked_again_for_a_replay(session: Session) -> None:
    manager = session(Workflow("w").task("t_x", run=notify, after="order", with_args=of_an_order))
    manager.fire("order", {"price": 1})
    assert manager.storage["t_x#0"].metadata["exception"]["type"] == "builtins.KeyError"
    manager.replay_failed_instance("t_x#0", {"order": {"amount": 3}})
    assert manager.storage["t_x#1"].status == "finished"
    assert calls == [(3, False)]


# -- functions without a provider -------------------------------------------------------------


@trigger_task
def any_name(whatever: TaskContext) -> dict[str, Any]:
    return {"instance": whatever.instance_name}


@trigger_task
def by_name(limit: int = 3, *, context: TaskContext) -> dict[str, Any]:
    return {"instance": context.instance_name, "limit": limit}


@trigger_task
def by_position(context: TaskContext, /) -> dict[str, Any]:
    return {"instance": context.instance_name}


@trigger_task
def among_all(*everything: TaskContext) -> dict[str, Any]:
    return {"instance": everything[0].instance_name}


@pytest.mark.parametrize(
    ("run", "result"),
    [
        (any_name, {"instance": "t_x#0"}),
        (by_name, {"instance": "t_x#0", "limit": 3}),
        (by_position, {"instance": "t_x#0"}),
        (among_all, {"instance": "t_x#0"}),
        (take_nothing, {"got": []}),
        (take_all, {"got": []}),
    ],
)
def test_a_function_without_a_provider_gets_the_context_if_it_takes_it(
    session: Session, run: TriggerTask, result: dict[str, Any]
) -> None:
    manager = session(Workflow("w").task("t_x", run=run, after="a"))
    manager.fire("a")
    assert seen(manager, "t_x#0") == result


@pytest.mark.parametrize(
    ("run", "missing"), [(report, "kind"), (notify_knowingly, "amount")], ids=["report", "notify"]
)
def test_a_function_that_wants_more_than_the_context_fails_and_says_so(
    session: Session, run: TriggerTask, missing: str
) -> None:
    manager = session(Workflow("w").task("t_x", run=run, after="a"))
    manager.fire("a")
    exception = manager.storage["t_x#0"].metadata["exception"]
    assert exception["type"] == "builtins.TypeError"
    assert exception["message"] == (
        f"{run.name} cannot be called: missing a required argument: '{missing}' (without withArgs "
        "a task gets the context and nothing else)."
    )
