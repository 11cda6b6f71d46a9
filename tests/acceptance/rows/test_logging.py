"""Row E25: what a task logs, and what the session remembers of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import registered, reopened, show, statuses
from triggers import logging as triggers_logging
from triggers.exceptions import with_context
from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner
from triggers.task import TaskContext, TriggerTask, trigger_task
from triggers.types import TaskInstance


@trigger_task
def log_what_it_is_told(context: TaskContext) -> None:
    with context.get_logger_context() as logger:
        for level in context.trigger_kwargs["a"]["levels"]:
            logger.log(level, "at level %s", level)


def run(new_session: NewSession, task: TriggerTask, kwargs: Any = None) -> TaskInstance:
    """Run a task once, to its end, and return its instance as it was stored."""
    manager = new_session({"t_x": {"after": ["a"], "run": task.name}})
    manager.fire("a", kwargs)
    instance: TaskInstance = reopened(manager).storage["t_x#0"]
    return instance


def logged(caplog: pytest.LogCaptureFixture, message: str) -> logging.LogRecord:
    """The one record with this message."""
    [record] = [each for each in caplog.records if each.getMessage() == message]
    return record


# -- the level ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "level", "name"),
    [
        ([], logging.NOTSET, "NOTSET"),
        ([10], logging.DEBUG, "DEBUG"),
        ([20, 30, 20], logging.WARNING, "WARNING"),
        ([40, 50, 10], logging.CRITICAL, "CRITICAL"),
        ([25], 25, "Level 25"),
    ],
)
def test_e25_the_highest_level_is_remembered(
    new_session: NewSession, levels: list[int], level: int, name: str
) -> None:
    instance = run(new_session, log_what_it_is_told, {"levels": levels})
    assert (instance.log_level, instance.log_level_name) == (level, name)


def test_e25_a_level_counts_though_logging_is_set_up_not_to_show_it(
    new_session: NewSession,
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        instance = run(new_session, log_what_it_is_told, {"levels": [30]})
    finally:
        logging.disable(logging.NOTSET)
    assert instance.log_level == logging.WARNING


@trigger_task
def log_with_every_method(context: TaskContext) -> dict[str, int]:
    reached = {}
    with context.get_logger_context() as logger:
        for method in ("debug", "info", "warning", "error", "critical"):
            getattr(logger, method)("with %s", method)
            reached[method] = context.log_level
    return reached


def test_e25_every_method_of_a_logger_counts(new_session: NewSession) -> None:
    instance = run(new_session, log_with_every_method)
    assert instance.metadata["result"] == {
        "debug": 10,
        "info": 20,
        "warning": 30,
        "error": 40,
        "critical": 50,
    }


@trigger_task
def log_a_caught_exception(context: TaskContext) -> None:
    with context.get_logger_context() as logger:
        try:
            raise LookupError("no such page")
        except LookupError:
            logger.exception("went on without the page")


def test_e25_a_caught_exception_that_is_logged_counts_as_an_error(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    instance = run(new_session, log_a_caught_exception)
    assert (instance.status, instance.log_level_name) == ("finished", "ERROR")
    assert logged(caplog, "went on without the page").exc_info


@trigger_task
def look_at_the_own_level(context: TaskContext) -> dict[str, int]:
    with context.get_logger_context() as logger:
        logger.error("too early to tell")
        return {"stored": context.manager.storage[context.instance_name].log_level}


def test_e25_the_level_is_notset_until_the_instance_has_finished(new_session: NewSession) -> None:
    instance = run(new_session, look_at_the_own_level)
    assert instance.metadata["result"] == {"stored": logging.NOTSET}
    assert instance.log_level == logging.ERROR


@trigger_task
def log_in_nested_blocks(context: TaskContext) -> None:
    with context.get_logger_context() as outer:
        with context.get_logger_context({"step": 1}) as inner:
            inner.info("inside")
        outer.error("outside")


def test_e25_every_logger_of_a_task_counts(new_session: NewSession) -> None:
    assert run(new_session, log_in_nested_blocks).log_level == logging.ERROR


# -- context ------------------------------------------------------------------------------------


@trigger_task
def log_context(context: TaskContext) -> None:
    with context.get_logger_context({"app_version": "1.2", "page": 0}) as logger:
        logger.info("plain")
        logger.warning("with context", extra={"context": {"page": 3}, "own": "attribute"})
        logger.info("plain again")


def test_e25_context_is_attached_to_messages(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(new_session, log_context)
    assert logged(caplog, "plain").context == {"app_version": "1.2", "page": 0}
    record = logged(caplog, "with context")
    assert record.context == {"app_version": "1.2", "page": 3}
    assert record.own == "attribute"
    assert logged(caplog, "plain again").context == {"app_version": "1.2", "page": 0}


def test_e25_records_say_where_they_come_from(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(new_session, log_context)
    record = logged(caplog, "plain")
    assert (record.task, record.instance) == ("t_x", "t_x#0")
    assert record.session
    assert record.funcName == "log_context"
    assert record.pathname == __file__


def test_e25_records_of_a_task_name_the_firing_that_has_completed_it(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manager = new_session({"t_x": {"after": ["b", "a"], "run": log_context.name}})
    manager.fire("a")
    manager.fire("b")
    record = logged(caplog, "plain")
    assert (record.action, record.trigger) == ("run", "b")


@trigger_task
def fail_with_context(context: TaskContext) -> None:
    with context.get_logger_context({"page": 1}) as logger:
        logger.info("before")
        raise with_context(ValueError("looks like spam"), {"score": 0.9})


def test_e25_an_exception_that_leaves_the_block_is_logged_with_its_context(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    instance = run(new_session, fail_with_context)
    assert (instance.status, instance.log_level_name) == ("failed", "ERROR")
    record = logged(caplog, "looks like spam")
    assert record.levelno == logging.ERROR
    assert record.context == {"page": 1, "score": 0.9}
    assert record.exc_info
    assert record.exc_info[0] is ValueError
    assert instance.metadata["exception"]["context"] == {"score": 0.9}


@trigger_task
def fail_outside_of_the_block(context: TaskContext) -> None:
    with context.get_logger_context() as logger:
        logger.warning("last words")
    raise with_context(ValueError("looks like spam"), {"score": 0.9})


def test_e25_an_exception_outside_of_the_block_is_not_logged_but_kept(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    instance = run(new_session, fail_outside_of_the_block)
    assert (instance.status, instance.log_level_name) == ("failed", "WARNING")
    assert not [each for each in caplog.records if each.getMessage() == "looks like spam"]
    assert instance.metadata["exception"]["context"] == {"score": 0.9}


def test_e25_with_context_returns_the_exception_and_adds_to_what_it_has() -> None:
    error = LookupError("x")
    assert with_context(error, {"a": 1, "b": 1}) is error
    with_context(error, {"b": 2})
    with pytest.raises(LookupError) as caught:
        raise error
    assert caught.value.triggers_context == {"a": 1, "b": 2}


class RetryOnceInTheBlock(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        with context.get_logger_context() as logger:
            logger.info("trying")
            if context.task_instance.number == 0:
                raise self.retry(LookupError("busy"))
            raise self.skip()


def test_e25_retrying_and_skipping_are_no_errors(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": RetryOnceInTheBlock.name}})
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "replayed", "t_x#1": "skipped"}
    storage = reopened(manager).storage
    assert storage["t_x#0"].log_level <= logging.WARNING
    assert storage["t_x#1"].log_level_name == "INFO"
    assert storage.get_instances_with_unresolved_logs() == []


# -- resolving ----------------------------------------------------------------------------------


def unresolved(manager: TriggerManager) -> list[str]:
    found = reopened(manager).storage.get_instances_with_unresolved_logs()
    return [each.name for each in found]


def with_levels(new_session: NewSession, *levels: int) -> TriggerManager:
    """A session with one finished instance per level."""
    manager = new_session({"t_x": {"andEvery": "a", "run": log_what_it_is_told.name}})
    for level in levels:
        manager.fire("a", {"levels": [level]})
    return manager


def test_e25_logs_are_unresolved_from_error_on_until_somebody_marks_them(
    new_session: NewSession,
) -> None:
    manager = with_levels(new_session, 10, 20, 30, 40, 50)
    assert unresolved(manager) == ["t_x#3", "t_x#4"]
    manager.mark_instance_logs_resolved("t_x#3")
    assert unresolved(manager) == ["t_x#4"]
    instance = reopened(manager).storage["t_x#3"]
    assert (instance.status, instance.log_level_name) == ("finished", "ERROR")
    manager.mark_instance_logs_resolved(manager.storage["t_x#4"])
    assert unresolved(manager) == []


def test_e25_the_level_from_which_logs_are_unresolved_can_be_set(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = with_levels(new_session, 20, 30, 40)
    monkeypatch.setattr(triggers_logging, "UNRESOLVED_LOG_LEVEL", logging.WARNING)
    assert unresolved(manager) == ["t_x#1", "t_x#2"]


def test_e25_a_replay_has_logs_of_its_own(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": fail_with_context.name}})
    manager.fire("a")
    manager.mark_instance_logs_resolved("t_x#0")
    manager.replay_failed_instance("t_x#0")
    assert unresolved(manager) == ["t_x#1"]


# -- the framework's own records ----------------------------------------------------------------


class DownRunner(BaseTaskRunner):
    name = "row-tests-down"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        raise ConnectionError("the broker is down")


def test_e25_the_frameworks_own_records_carry_their_subject_as_fields(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    with registered(DownRunner):
        tasks = {"t_x": {"after": ["a"], "run": show.name, "using": DownRunner.name}}
        manager = new_session(tasks)
        manager.fire("a")
    assert statuses(manager) == {"t_x#0": "scheduled"}
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.name.partition(".")[0] == "triggers"
    assert record.session == manager.storage.uid
    assert (record.action, record.task, record.instance) == ("dispatch", "t_x", "t_x#0")
    assert record.trigger == ""
