"""Row E26: the test kit, used as its readers will use it, and made to fail as well."""

from __future__ import annotations

import threading
import unittest
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from tests.acceptance.rows.sessions import PATIENCE, explode, reopened, show
from triggers.manager import TriggerManager
from triggers.runners import ThreadingTaskRunner
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask, trigger_task
from triggers.testing import TriggerManagerTestCaseMixin, any_order

TASKS = {
    "t_done": {"after": ["a"], "run": show.name},
    "t_failed": {"after": ["a"], "run": explode.name},
    "t_waits": {"after": ["a", "b"], "run": show.name},
    "t_out": {"after": ["b"], "unless": ["a"], "run": show.name},
    "t_never": {"after": ["never"], "run": show.name},
    "t_skips": {"after": ["a"], "run": f"{__name__}.GiveUp"},
    "t_again": {"after": ["a"], "run": f"{__name__}.TryTwice"},
}

HOLDS: list[tuple[str, tuple[Any, ...]]] = [
    ("assertInstanceFinished", ("t_done#0",)),
    ("assertInstanceFinished", ("t_done#0", {"got": {"a": {"n": 1}}})),
    ("assertInstanceFailed", ("t_failed#0", LookupError)),
    ("assertInstanceFailed", ("t_failed#0", Exception)),
    ("assertInstanceUnstarted", ("t_waits#0",)),
    ("assertInstanceAbandoned", ("t_out#0",)),
    ("assertInstanceMissing", ("t_never#0",)),
    ("assertInstanceMissing", ("t_done#1",)),
    ("assertInstanceSkipped", ("t_skips#0",)),
    ("assertInstanceReplayed", ("t_again#0",)),
    ("assertUnresolvedTasks", (["t_never", "t_failed", "t_waits"],)),
    ("assertUnresolvedInstances", (["t_waits#0", "t_failed#0"],)),
]
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


class GiveUp(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        raise self.skip()


class TryTwice(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        if context.task_instance.number == 0:
            raise self.retry(cooldown=3600)


class Case(TriggerManagerTestCaseMixin, unittest.TestCase):
    """A test case of a reader; ``body`` is what the test method does."""

    body: ClassVar[Callable[[Any], None]]

    def setUp(self) -> None:
        super().setUp()
        MemoryStorageBackend(self.id()).delete()
        self.manager = TriggerManager(MemoryStorageBackend(self.id()))

    def test_body(self) -> None:
        type(self).body(self)


Case.__test__ = False


def outcome(body: Callable[[Any], None], base: type[unittest.TestCase] = Case) -> str:
    """Run a test with this body; return its failure or error, or nothing if it passed."""
    case = type("ReadersCase", (base,), {"body": staticmethod(body), "__test__": False})
    result = unittest.TestResult()
    unittest.TestSuite([case("test_body")]).run(result)
    assert result.testsRun == 1
    return "".join(text for _test, text in result.failures + result.errors)


def play(case: Any) -> None:
    """Fire into the session of a test case and wait."""
    case.manager.update_configuration(TASKS)
    case.manager.fire("a", {"n": 1})
    ThreadingTaskRunner.join_all(PATIENCE)


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


# -- Django's test cases ------------------------------------------------------------------------


class DjangoCase(TriggerManagerTestCaseMixin):
    """What a reader's test cases have in common."""

    body: ClassVar[Callable[[Any], None]]

    def setUp(self) -> None:
        self.manager = TriggerManager(DatabaseStorageBackend(self.id()))
        self.manager.update_configuration(TASKS)

    def test_body(self) -> None:
        type(self).body(self)


class InATransaction(DjangoCase, TestCase):
    __test__ = False


class WithoutTransaction(DjangoCase, TransactionTestCase):
    __test__ = False


WITH_DATABASE = pytest.mark.django_db(transaction=True)
DJANGO_CASES = pytest.mark.parametrize(
    "base",
    [
        pytest.param(InATransaction, marks=WITH_DATABASE),
        pytest.param(WithoutTransaction, marks=WITH_DATABASE),
    ],
)


@DJANGO_CASES
@pytest.mark.parametrize(("assertion", "arguments"), HOLDS)
def test_e26_the_same_test_passes_in_both_of_djangos_test_cases(
    base: type[unittest.TestCase], assertion: str, arguments: tuple[Any, ...]
) -> None:
    def body(case: Any) -> None:
        case.manager.fire("a", {"n": 1})
        ThreadingTaskRunner.join_all(PATIENCE)
        getattr(case, assertion)(*arguments)

    assert outcome(body, base) == ""


@DJANGO_CASES
def test_e26_firings_in_an_atomic_block_are_decided_by_join_all(
    base: type[unittest.TestCase],
) -> None:
    def body(case: Any) -> None:
        with transaction.atomic():
            case.assertTrue(case.manager.fire("a", {"n": 1}).pending)
            case.assertEqual(list(reopened(case.manager).storage), [])
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertInstanceFinished("t_done#0", {"got": {"a": {"n": 1}}})
        case.assertInstanceReplayed("t_again#0")

    assert outcome(body, base) == ""


@DJANGO_CASES
def test_e26_a_rolled_back_block_takes_its_firing_with_it(
    base: type[unittest.TestCase],
) -> None:
    def body(case: Any) -> None:
        with case.assertRaises(ZeroDivisionError), transaction.atomic():
            case.manager.fire("a")
            _ = 1 / 0
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertInstanceMissing("t_done#0")
        with transaction.atomic():
            case.manager.fire("b")
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertInstanceMissing("t_done#0")
        case.assertInstanceFinished("t_out#0")

    assert outcome(body, base) == ""


@WITH_DATABASE
def test_e26_capture_on_commit_callbacks_decides_too() -> None:
    def body(case: Any) -> None:
        with case.captureOnCommitCallbacks(execute=True), transaction.atomic():
            case.manager.fire("a", {"n": 1})
        stored = reopened(case.manager).storage["t_done#0"]
        case.assertEqual(stored.status, "finished")
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertInstanceFinished("t_done#0")
        case.assertInstanceMissing("t_done#1")
        case.assertEqual(case.manager.storage["t_done#0"].record.attempt, 1)

    assert outcome(body, InATransaction) == ""


@WITH_DATABASE
def test_e26_captured_callbacks_that_nobody_executes_are_left_to_join_all() -> None:
    def body(case: Any) -> None:
        with case.captureOnCommitCallbacks() as callbacks, transaction.atomic():
            case.manager.fire("a", {"n": 1})
        case.assertTrue(callbacks)
        case.assertEqual(list(reopened(case.manager).storage), [])
        ThreadingTaskRunner.join_all(PATIENCE)
        for callback in callbacks:
            callback()
        case.assertInstanceFinished("t_done#0")
        case.assertEqual(case.manager.storage["t_done#0"].record.attempt, 1)

    assert outcome(body, InATransaction) == ""


@WITH_DATABASE
def test_e26_nothing_of_a_test_is_left_for_the_next_one() -> None:
    def first(case: Any) -> None:
        with transaction.atomic():
            case.manager.fire("a")

    def second(case: Any) -> None:
        ThreadingTaskRunner.join_all(PATIENCE)
        case.assertEqual(list(case.manager.storage), [])

    assert outcome(first, InATransaction) == ""
    assert outcome(second, InATransaction) == ""


# -- pytest -------------------------------------------------------------------------------------


def test_e26_the_fixture_has_done_everything_when_fire_returns(
    trigger_manager: TriggerManager,
) -> None:
    trigger_manager.update_configuration(TASKS)
    trigger_manager.fire("a", {"n": 1})
    storage = trigger_manager.storage
    assert [(each.name, each.status) for each in storage] == [
        ("t_done#0", "finished"),
        ("t_failed#0", "failed"),
        ("t_waits#0", "unstarted"),
        ("t_out#0", "abandoned"),
        ("t_skips#0", "skipped"),
        ("t_again#0", "replayed"),
        ("t_again#1", "finished"),
    ]


@pytest.mark.parametrize("round_", [1, 2])
def test_e26_the_fixture_gives_a_fresh_session_each_time(
    trigger_manager: TriggerManager, round_: int
) -> None:
    assert trigger_manager.storage.tasks == {}
    trigger_manager.update_configuration(TASKS)


bodies_run = []


@any_order(["a", ("b", {"n": 1}), "c"])
def test_e26_any_order_runs_a_test_body_for_every_order(
    trigger_manager: TriggerManager, order: Any
) -> None:
    bodies_run.append(str(order))
    manager = order.play({"t_x": {"after": ["a", "b", "c"], "run": show.name}})
    assert manager.storage["t_x#0"].metadata["result"] == {"got": {"a": {}, "b": {"n": 1}, "c": {}}}
    assert len(bodies_run) == len(set(bodies_run))
    assert trigger_manager.storage.tasks == {}


def test_e26_any_order_yields_each_order_once() -> None:
    orders = list(any_order(["a", "b", ("c", {"n": 1}), "d"]))
    assert len({str(order) for order in orders}) == len(orders) == 24


def test_e26_any_order_names_the_order_in_which_a_body_failed() -> None:
    @any_order(["a", "u"])
    def fails_after_unless(order: Any) -> None:
        tasks = {"t_x": {"after": ["a"], "unless": ["u"], "run": show.name}}
        assert order.play(tasks).storage["t_x#0"].status == "finished"

    with pytest.raises(AssertionError) as caught:
        fails_after_unless()
    assert caught.value.__notes__ == ["The order was: u, a"]


def test_e26_any_order_refuses_more_orders_than_a_test_should_take() -> None:
    with pytest.raises(ValueError, match="8 firings"):
        any_order("abcdefgh")
