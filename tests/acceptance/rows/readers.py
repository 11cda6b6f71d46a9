"""Test cases such as readers of the documentation write, for the tests of row E26."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any, ClassVar

from tests.acceptance.rows.sessions import PATIENCE, explode, show
from triggers.manager import TriggerManager
from triggers.runners import ThreadingTaskRunner
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask
from triggers.testing import TriggerManagerTestCaseMixin

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
