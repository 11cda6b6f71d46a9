"""Rows E16 and E17: a task that asks to be run again, or to be left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    PATIENCE,
    IdleRunner,
    registered,
    reopened,
    show,
    statuses,
)
from triggers import runners
from triggers.manager import TriggerManager
from triggers.runners import ThreadingTaskRunner
from triggers.task import MaxRetriesExceeded, TaskContext, TriggerTask
from triggers.testing import TriggerManagerTestCaseMixin, frozen_time


class Timeout(OSError):
    """What an HTTP client raises."""


class AskAgain(TriggerTask):
    """Retries until the kwargs say that it may succeed."""

    abstract = True

    def _run(self, context: TaskContext) -> dict[str, Any]:
        kwargs = context.trigger_kwargs["a"]
        number = context.task_instance.number
        if number >= kwargs.get("succeed_at", 1000):
            return {"number": number, "got": context.trigger_kwargs}
        try:
            raise Timeout(f"attempt {number}")
        except Timeout as error:
            raise self.retry(
                exc=error,
                cooldown=kwargs.get("cooldown", 0),
                replacement_kwargs=kwargs.get("replacement"),
            ) from error


class AskThreeTimes(AskAgain):
    max_retries = 3


class AskNever(AskAgain):
    max_retries = 0


class AskForEver(AskAgain):
    max_retries = None


class Poll(TriggerTask):
    max_retries = 1

    def _run(self, context: TaskContext) -> None:
        raise self.retry(cooldown=5)


class Forgetful(TriggerTask):
    def _run(self, context: TaskContext) -> dict[str, bool]:
        self.retry(exc=Timeout())
        return {"went_on": True}


class SkipBadly(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        raise self.skip({"lock": threading.Lock()})


REPLACEMENTS: dict[str, Any] = {}


class ReplaceBadly(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        raise self.retry(replacement_kwargs=REPLACEMENTS["x"])


class CeleryStyle(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        raise self.retry(**{context.trigger_kwargs["a"]["option"]: 10})


class Clocked(TriggerTask):
    started: ClassVar[list[float]] = []

    def _run(self, context: TaskContext) -> None:
        self.started.append(time.monotonic())
        if len(self.started) == 1:
            raise self.retry(cooldown=timedelta(seconds=0.3))


class Assertions(TriggerManagerTestCaseMixin):
    """The mixin's assertions, without a test case around them."""

    def __init__(self, manager: TriggerManager) -> None:
        self.manager = manager

    def fail(self, msg: Any = None) -> Any:
        raise AssertionError(msg)


def session(new_session: NewSession, task: type[TriggerTask]) -> TriggerManager:
    tasks = {
        "t_x": {"after": ["a", "b"], "run": task.name},
        "t_y": {"after": ["t_x"], "run": show.name},
    }
    manager = new_session(tasks)
    manager.fire("b", {"m": 1})
    return manager


# -- E16 ----------------------------------------------------------------------------------------


def test_e16_retried_instances_show_as_replayed_and_the_last_as_finished(
    new_session: NewSession,
) -> None:
    manager = session(new_session, AskThreeTimes)
    manager.fire("a", {"succeed_at": 2})
    assert statuses(manager) == {
        "t_x#0": "replayed",
        "t_x#1": "replayed",
        "t_x#2": "finished",
        "t_y#0": "finished",
    }
    storage = reopened(manager).storage
    assert [each.metadata.get("parent") for each in storage.instances_of_task("t_x")] == [
        None,
        "t_x#0",
        "t_x#1",
    ]
    assert storage["t_x#2"].kwargs == {"a": {"succeed_at": 2}, "b": {"m": 1}}
    assert storage["t_x#0"].metadata["exception"]["message"] == "attempt 0"


@pytest.mark.parametrize(("task", "retries"), [(AskThreeTimes, 3), (AskNever, 0)])
def test_e16_the_last_allowed_try_fails_with_max_retries_exceeded(
    new_session: NewSession, task: type[TriggerTask], retries: int
) -> None:
    manager = session(new_session, task)
    manager.fire("a")
    expected = {f"t_x#{number}": "replayed" for number in range(retries)}
    assert statuses(manager) == {**expected, f"t_x#{retries}": "failed"}


def test_e16_max_retries_and_the_original_exception_are_both_in_the_metadata(
    new_session: NewSession,
) -> None:
    manager = session(new_session, AskThreeTimes)
    manager.fire("a")
    metadata = reopened(manager).storage["t_x#3"].metadata
    assert metadata["exception"]["type"].endswith(".MaxRetriesExceeded")
    assert metadata["exception"]["cause"]["type"].endswith(".Timeout")
    assert metadata["exception"]["cause"]["message"] == "attempt 3"
    assert "MaxRetriesExceeded" in metadata["traceback"]
    assert "Timeout: attempt 3" in metadata["traceback"]


def test_e16_assert_instance_failed_accepts_both_and_nothing_else(new_session: NewSession) -> None:
    manager = session(new_session, AskNever)
    manager.fire("a")
    check = Assertions(reopened(manager)).assertInstanceFailed
    for accepted in (MaxRetriesExceeded, Timeout, OSError, "Timeout", None):
        check("t_x#0", accepted)
    for refused in (KeyError, LookupError, "TimeOut"):
        with pytest.raises(AssertionError, match="MaxRetriesExceeded"):
            check("t_x#0", refused)


def test_e16_the_celery_task_raises_max_retries_exceeded_for_who_watches_it(
    new_session: NewSession,
) -> None:
    with registered(IdleRunner):
        manager = new_session(
            {"t_x": {"after": ["a"], "run": AskNever.name, "using": IdleRunner.name}}
        )
        manager.fire("a")
        with pytest.raises(MaxRetriesExceeded, match="t_x#0") as caught:
            AskNever().run(**IdleRunner().task_kwargs(manager, manager.storage["t_x#0"]))
    assert isinstance(caught.value.__cause__, Timeout)
    assert statuses(manager) == {"t_x#0": "failed"}


def test_e16_without_a_limit_a_task_retries_as_often_as_it_asks(new_session: NewSession) -> None:
    manager = session(new_session, AskForEver)
    manager.fire("a", {"succeed_at": 30})
    found = statuses(manager)
    assert [found[f"t_x#{number}"] for number in range(31)] == ["replayed"] * 30 + ["finished"]


def test_e16_replacement_kwargs_are_used_instead_of_all_kwargs(new_session: NewSession) -> None:
    manager = session(new_session, AskThreeTimes)
    manager.fire("a", {"replacement": {"a": {"succeed_at": 1}, "new": {"n": 1}}})
    storage = reopened(manager).storage
    assert statuses(manager)["t_x#1"] == "finished"
    assert storage["t_x#1"].kwargs == {"a": {"succeed_at": 1}, "new": {"n": 1}}
    assert set(storage["t_x#0"].kwargs) == {"a", "b"}


def test_e16_replacement_kwargs_go_on_to_later_retries(new_session: NewSession) -> None:
    manager = session(new_session, AskThreeTimes)
    manager.fire("a", {"replacement": {"a": {"succeed_at": 3}}})
    assert statuses(manager)["t_x#3"] == "finished"
    assert reopened(manager).storage["t_x#3"].kwargs == {"a": {"succeed_at": 3}}


@pytest.mark.parametrize("replacement", [{"a": 1}, [1], "a", {"a": {1: 2}}])
def test_e16_replacement_kwargs_that_are_no_trigger_kwargs_fail_the_instance(
    new_session: NewSession, replacement: Any
) -> None:
    REPLACEMENTS["x"] = replacement
    manager = session(new_session, ReplaceBadly)
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "failed"}
    message = reopened(manager).storage["t_x#0"].metadata["exception"]["message"]
    assert "replacement kwargs of t_x#0" in message


def test_e16_a_replayed_instance_has_all_of_its_retries_again(new_session: NewSession) -> None:
    manager = session(new_session, AskThreeTimes)
    manager.fire("a")
    manager.replay_failed_instance("t_x#3")
    assert list(statuses(manager).values()) == ["replayed"] * 7 + ["failed"]


def test_e16_retry_needs_no_exception(new_session: NewSession) -> None:
    manager = session(new_session, Poll)
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "replayed", "t_x#1": "failed"}
    exception = reopened(manager).storage["t_x#1"].metadata["exception"]
    assert exception["type"].endswith(".MaxRetriesExceeded")


def test_e16_retry_raises_nothing_by_itself(new_session: NewSession) -> None:
    manager = session(new_session, Forgetful)
    manager.fire("a")
    assert reopened(manager).storage["t_x#0"].metadata["result"] == {"went_on": True}


@pytest.mark.parametrize("option", ["countdown", "eta"])
def test_e16_celerys_countdown_and_eta_are_refused(new_session: NewSession, option: str) -> None:
    manager = session(new_session, CeleryStyle)
    manager.fire("a", {"option": option})
    exception = reopened(manager).storage["t_x#0"].metadata["exception"]
    assert exception["type"] == "builtins.TypeError"
    assert "cooldown" in exception["message"]


def test_e16_an_instance_does_not_start_before_its_cooldown_is_over(
    new_session: NewSession,
) -> None:
    start = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    tasks = {"t_x": {"after": ["a"], "using": IdleRunner.name, "run": AskThreeTimes.name}}
    with registered(IdleRunner):
        with frozen_time(start):
            manager = new_session(tasks)
            manager.fire("a", {"cooldown": 60, "succeed_at": 1})
            AskThreeTimes().execute(manager, "t_x#0")
            assert statuses(manager) == {"t_x#0": "replayed", "t_x#1": "scheduled"}
        with frozen_time(start + timedelta(seconds=59)):
            AskThreeTimes().execute(manager, "t_x#1")
            assert statuses(manager)["t_x#1"] == "scheduled"
        with frozen_time(start + timedelta(seconds=60)):
            AskThreeTimes().execute(manager, "t_x#1")
            assert statuses(manager)["t_x#1"] == "finished"


@pytest.fixture
def threads_as_in_production() -> Iterator[None]:
    """Threads instead of Celery, as an application may choose, without the test kit's help."""
    before = runners.TESTING_TASK_RUNNER, ThreadingTaskRunner.waits_for_cooldown
    runners.TESTING_TASK_RUNNER, ThreadingTaskRunner.waits_for_cooldown = "threading", True
    yield
    runners.TESTING_TASK_RUNNER, ThreadingTaskRunner.waits_for_cooldown = before


@pytest.mark.usefixtures("threads_as_in_production")
def test_e16_threads_wait_for_the_cooldown_and_join_all_waits_for_them(
    new_session: NewSession,
) -> None:
    manager = session(new_session, Clocked)
    Clocked.started.clear()
    manager.fire("a")
    ThreadingTaskRunner.join_all(PATIENCE)
    assert statuses(manager) == {"t_x#0": "replayed", "t_x#1": "finished", "t_y#0": "finished"}
    first, second = Clocked.started
    assert second - first >= 0.3


# -- E17 ----------------------------------------------------------------------------------------


class NotNeeded(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        raise self.skip(context.trigger_kwargs["a"].get("metadata"))


@pytest.mark.parametrize("metadata", [None, {"reason": "too old", "age": 3}])
def test_e17_a_task_ends_itself_as_skipped_without_a_cascade(
    new_session: NewSession, metadata: Any
) -> None:
    manager = session(new_session, NotNeeded)
    manager.fire("a", {"metadata": metadata})
    assert statuses(manager) == {"t_x#0": "skipped"}
    instance = reopened(manager).storage["t_x#0"]
    assert instance.is_resolved
    assert (metadata or {}).items() <= instance.metadata.items()
    assert "exception" not in instance.metadata


def test_e17_a_skipped_instance_is_neither_replayed_nor_skipped_again(
    new_session: NewSession,
) -> None:
    manager = session(new_session, NotNeeded)
    manager.fire("a")
    for refused in (manager.replay_failed_instance, manager.skip_failed_instance):
        with pytest.raises(ValueError, match="t_x#0 is skipped"):
            refused("t_x#0")


def test_e17_skip_metadata_that_cannot_be_stored_fails_the_instance(
    new_session: NewSession,
) -> None:
    manager = session(new_session, SkipBadly)
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "failed"}
