"""Assertions about task instances, for ``unittest`` and Django test cases."""

from __future__ import annotations

import unittest
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from triggers import payload
from triggers.exceptions import InstanceNotFound
from triggers.manager import TriggerManager
from triggers.testing.environment import run_tasks_locally
from triggers.transactions import run_postponed
from triggers.types import Status, TaskInstance

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object


class TriggerManagerTestCaseMixin(_Base):
    """Mix into a test case, and set ``self.manager`` in ``setUp``.

    While a test runs, tasks run in threads instead of Celery workers; wait for them with
    ``ThreadingTaskRunner.join_all()``. Inside Django's ``TestCase`` they run in place.
    """

    manager: TriggerManager
    """The manager of the session under test; set it in ``setUp``."""

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test with tasks in threads, whether or not ``setUp`` calls ``super()``.

        :param result: as for ``unittest.TestCase.run``; by default a new one.
        :returns: the result.
        """
        with run_tasks_locally():
            return super().run(result)

    def assertInstanceAbandoned(self, instance_name: str) -> None:
        """The instance was abandoned: its ``unless`` condition held before it could run.

        :param instance_name: name of the instance (not of the task).
        """
        self.assertInstanceStatus(instance_name, Status.ABANDONED)

    def assertInstanceFailed(
        self, instance_name: str, exc_type: type[BaseException] | str | None = None
    ) -> None:
        """The instance failed, with an exception of this type if one is given.

        :param instance_name: name of the instance (not of the task).
        :param exc_type: the class, or its name with or without the module; by default any. Where
            retries were used up, both ``MaxRetriesExceeded`` and the exception behind it are
            accepted, and so are base classes.
        """
        instance = self.assertInstanceStatus(instance_name, Status.FAILED)
        if exc_type is None:
            return
        name = exc_type
        if isinstance(exc_type, type):
            name = f"{exc_type.__module__}.{exc_type.__qualname__}"
        exception = instance.metadata.get("exception", {})
        cause = exception.get("cause", {})
        if name not in [*exception.get("types", ()), *cause.get("types", ())]:
            found = " caused by ".join(each["type"] for each in (exception, cause) if each)
            self.fail(self._explained(f"{instance_name} failed with {found}, not {name}."))

    def assertInstanceFinished(
        self, instance_name: str, expected_result: Mapping[str, Any] | None = None
    ) -> None:
        """The instance finished, with this result if one is given.

        :param instance_name: name of the instance (not of the task).
        :param expected_result: what the task returned; by default anything.
        """
        instance = self.assertInstanceStatus(instance_name, Status.FINISHED)
        if expected_result is not None:
            expected = payload.decode(payload.encode(expected_result, what="expected_result"))
            self.assertEqual(instance.metadata.get("result"), expected, f"result of {instance!r}")

    def assertInstanceMissing(self, instance_name: str) -> None:
        """The instance was not created: none of its triggers has fired.

        :param instance_name: name of the instance (not of the task).
        """
        found = self._find(instance_name)
        if found is not None:
            self.fail(self._explained(f"{instance_name} exists; it is {found.status}."))

    def assertInstanceReplayed(self, instance_name: str) -> None:
        """The instance was replayed or retried: another one took its place.

        :param instance_name: name of the instance (not of the task).
        """
        self.assertInstanceStatus(instance_name, Status.REPLAYED)

    def assertInstanceRunning(self, instance_name: str) -> None:
        """The instance is being executed.

        :param instance_name: name of the instance (not of the task).
        """
        self.assertInstanceStatus(instance_name, Status.RUNNING)

    def assertInstanceScheduled(self, instance_name: str) -> None:
        """The instance was handed to a runner, and nobody has started it yet.

        :param instance_name: name of the instance (not of the task).
        """
        self.assertInstanceStatus(instance_name, Status.SCHEDULED)

    def assertInstanceSkipped(self, instance_name: str) -> None:
        """The instance was skipped.

        :param instance_name: name of the instance (not of the task).
        """
        self.assertInstanceStatus(instance_name, Status.SKIPPED)

    def assertInstanceUnstarted(self, instance_name: str) -> None:
        """The instance waits for some of its triggers.

        :param instance_name: name of the instance (not of the task).
        """
        self.assertInstanceStatus(instance_name, Status.UNSTARTED)

    def assertInstanceStatus(self, instance_name: str, status: str) -> TaskInstance:
        """The instance has this status.

        :param instance_name: name of the instance (not of the task).
        :param status: the status that it must have.
        :returns: the instance.
        """
        instance = self._find(instance_name)
        if instance is None:
            self.fail(self._explained(f"{instance_name} does not exist; expected {status}."))
        if instance.status != status:
            message = f"{instance_name} is {instance.status}; expected {status}."
            self.fail(self._explained(message))
        return instance

    def assertUnresolvedTasks(self, tasks: Iterable[str]) -> None:
        """Exactly these tasks have no instance yet, or one that is not resolved.

        :param tasks: names of tasks (not of instances), in any order.
        """
        run_postponed()
        found = [task.name for task in self.manager.get_unresolved_tasks()]
        if sorted(found) != sorted(tasks):
            self.fail(self._explained(f"Unresolved tasks are {found}; expected {list(tasks)}."))

    def assertUnresolvedInstances(self, instances: Iterable[str]) -> None:
        """Exactly these instances exist and are not resolved.

        :param instances: names of instances, in any order.
        """
        run_postponed()
        found = [instance.name for instance in self.manager.get_unresolved_instances()]
        if sorted(found) != sorted(instances):
            wanted = list(instances)
            self.fail(self._explained(f"Unresolved instances are {found}; expected {wanted}."))

    def _find(self, instance_name: str) -> TaskInstance | None:
        run_postponed()
        try:
            return self.manager.storage[instance_name]
        except InstanceNotFound:
            return None

    def _explained(self, message: str) -> str:
        """The message, with the state of the session and the tracebacks of what failed."""
        instances = list(self.manager.storage)
        lines = [message, "", "The session's instances:"]
        lines += [f"  {each.name}: {each.status}" for each in instances] or ["  none"]
        for each in instances:
            traceback = each.metadata.get("traceback")
            if traceback:
                lines += ["", f"{each.name} ({each.status}):", traceback]
        return "\n".join(lines)
