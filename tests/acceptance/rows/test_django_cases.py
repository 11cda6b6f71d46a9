"""Row E26: in Django's test cases, with and without a transaction around the test."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from tests.acceptance.rows.readers import HOLDS, TASKS, outcome
from tests.acceptance.rows.sessions import PATIENCE, reopened
from triggers.manager import TriggerManager
from triggers.runners import ThreadingTaskRunner
from triggers.storages.database import DatabaseStorageBackend
from triggers.testing import TriggerManagerTestCaseMixin

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
