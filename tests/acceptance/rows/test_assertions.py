"""Row E26: assertions, and waiting for threads; made to fail as well."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.acceptance.rows.readers import HOLDS, outcome, play
from tests.acceptance.rows.sessions import PATIENCE, show
from triggers.runners import ThreadingTaskRunner
from triggers.task import TaskContext, trigger_task

FAILS: list[tuple[str, tuple[Any, ...], str]] = [
    ("assertInstanceFinished", ("t_failed#0",), "t_failed#0 is failed; expected finished"),
    ("assertInstanceFinished", ("t_never#0",), "t_never#0 does not exist"),
    ("assertInstanceFinished", ("t_done#0", {"got": {}}), "t_done#0"),
    ("assertInstanceFailed", ("t_done#0", LookupError), "t_done#0 is finished"),
    ("assertInstanceFailed", ("t_failed#0", KeyError), "LookupError"),
    ("assertInstanceUnstarted", ("t_done#0",), "t_done#0 is finished"),
    ("assertInstanceAbandoned", ("t_waits#0",), "t_waits#0 is unstarted"),
    ("assertInstanceMissing", ("t_done#0",), "t_done#0 exists"),
    ("assertInstanceSkipped", ("t_failed#0",), "t_failed#0 is failed"),
    ("assertInstanceReplayed", ("t_again#1",), "t_again#1 is finished"),
    ("assertUnresolvedTasks", (["t_never", "t_failed"],), "t_waits"),
    ("assertUnresolvedInstances", ([],), "t_failed#0"),
]


@pytest.mark.parametrize(("assertion", "arguments"), HOLDS)
def test_e26_assertions_pass_on_what_is_so(assertion: str, arguments: tuple[Any, ...]) -> None:
    def body(case: Any) -> None:
        play(case)
        getattr(case, assertion)(*arguments)

    assert outcome(body) == ""


@pytest.mark.parametrize(("assertion", "arguments", "message"), FAILS)
def test_e26_assertions_fail_on_what_is_not_so_and_explain_the_session(
    assertion: str, arguments: tuple[Any, ...], message: str
) -> None:
    def body(case: Any) -> None:
        play(case)
        getattr(case, assertion)(*arguments)

    text = outcome(body)
    assert "AssertionError" in text
    assert message in text


@pytest.mark.parametrize(
    ("assertion", "arguments"),
    # Where just the result differs, the difference is shown, and nothing else.
    [(assertion, arguments) for assertion, arguments, message in FAILS if message != "t_done#0"],
)
def test_e26_failure_messages_show_the_traceback_of_the_task_that_failed(
    assertion: str, arguments: tuple[Any, ...]
) -> None:
    def body(case: Any) -> None:
        play(case)
        getattr(case, assertion)(*arguments)

    text = outcome(body)
    assert "in explode" in text
    assert "LookupError: no such applicant" in text


def test_e26_the_documented_keywords_are_real() -> None:
    def body(case: Any) -> None:
        play(case)
        case.assertInstanceFinished(
            instance_name="t_done#0", expected_result={"got": {"a": {"n": 1}}}
        )
        case.assertInstanceFailed(instance_name="t_failed#0", exc_type=LookupError)
        for assertion in ("Abandoned", "Replayed", "Skipped", "Unstarted", "Missing"):
            name = {
                "Abandoned": "t_out#0",
                "Replayed": "t_again#0",
                "Skipped": "t_skips#0",
                "Unstarted": "t_waits#0",
                "Missing": "t_never#0",
            }[assertion]
            getattr(case, f"assertInstance{assertion}")(instance_name=name)

    assert outcome(body) == ""


# -- threads ------------------------------------------------------------------------------------

reached = threading.Event()
go_on = threading.Event()


@trigger_task
def wait_for_the_test(context: TaskContext) -> dict[str, str]:
    reached.set()
    assert go_on.wait(PATIENCE)
    return {"thread": threading.current_thread().name}


def test_e26_tasks_run_in_threads_and_join_all_waits_for_cascades_too() -> None:
    reached.clear()
    go_on.clear()

    def body(case: Any) -> None:
        tasks = {f"t_{n}": {"after": [f"t_{n - 1}"], "run": show.name} for n in range(1, 20)}
        tasks["t_0"] = {"after": ["a"], "run": wait_for_the_test.name}
        case.manager.update_configuration(tasks)
        case.manager.fire("a")
        case.assertTrue(reached.wait(PATIENCE))
        case.assertInstanceRunning("t_0#0")
        go_on.set()
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertInstanceFinished("t_19#0")
        case.assertUnresolvedTasks([])
        thread = case.manager.storage["t_0#0"].metadata["result"]["thread"]
        case.assertNotEqual(thread, threading.current_thread().name)

    assert outcome(body) == ""


def test_e26_join_all_may_be_called_again_and_with_nothing_to_wait_for() -> None:
    def body(case: Any) -> None:
        ThreadingTaskRunner.join_all()
        play(case)
        ThreadingTaskRunner.join_all()
        case.manager.fire("b")
        ThreadingTaskRunner.join_all()
        case.assertInstanceFinished("t_waits#0")

    assert outcome(body) == ""


@trigger_task
def wait_for_everybody(context: TaskContext) -> None:
    ThreadingTaskRunner.join_all()


def test_e26_a_task_that_waits_for_all_tasks_is_told_that_it_cannot() -> None:
    def body(case: Any) -> None:
        run = {"after": ["a"], "run": wait_for_everybody.name}
        case.manager.update_configuration({"t_x": run})
        case.manager.fire("a")
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertInstanceFailed("t_x#0", RuntimeError)

    assert outcome(body) == ""


def test_e26_join_all_gives_up_after_its_timeout() -> None:
    reached.clear()
    go_on.clear()

    def body(case: Any) -> None:
        case.manager.update_configuration({"t_x": {"after": ["a"], "run": wait_for_the_test.name}})
        case.manager.fire("a")
        case.assertTrue(reached.wait(PATIENCE))
        try:
            with case.assertRaises(TimeoutError):
                ThreadingTaskRunner.join_all(0.01)
        finally:
            go_on.set()
        ThreadingTaskRunner.join_all(PATIENCE)

    assert outcome(body) == ""


def test_e26_more_instances_than_threads_all_run() -> None:
    def body(case: Any) -> None:
        case.manager.update_configuration({"t_x": {"andEvery": "p", "run": show.name}})
        for n in range(100):
            case.manager.fire("p", {"n": n})
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertEqual(len(case.manager.storage.instances_of_task("t_x")), 100)
        case.assertUnresolvedTasks([])

    assert outcome(body) == ""
