"""Each action of the log happens, at the levels and with the fields that the reference names."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, get_args
from uuid import uuid4

import pytest
from django.test import override_settings

from tests.servers import ROOT
from triggers import conf
from triggers.attempt import claim
from triggers.clock import frozen_time
from triggers.conditions import predicate
from triggers.engine import lifecycle
from triggers.limits import Limits
from triggers.logging import Action, log
from triggers.manager import TriggerManager
from triggers.recovery import recover
from triggers.rounds import Rounds, go_round
from triggers.runners import task_runners
from triggers.runners.celery_signals import report_unknown
from triggers.signals import trigger_fired
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend
from triggers.supervisor import _Watched
from triggers.task import TaskContext, TriggerTask, execute
from triggers.testing import run_tasks_locally
from triggers.testing.racing import BrokenRunner, IdleRunner, Recorded

PAGE = ROOT / "docs" / "reference" / "logging.rst"
FIELDS = ("session", "trigger", "task", "instance")

_ROW = re.compile(
    r"^   \* - ``(?P<action>\w+)``\n     - (?P<levels>.+)\n     -(?P<fields>.*)\n", re.MULTILINE
)


def rows() -> dict[str, tuple[set[str], set[str]]]:
    """Levels and fields of each action, as the page has them."""
    found = list(_ROW.finditer(PAGE.read_text()))
    return {
        match["action"]: (
            {each.strip() for each in match["levels"].split(",")},
            {each.strip() for each in match["fields"].split(",")} - {""},
        )
        for match in found
    }


def test_the_reference_lists_every_action_once_and_no_other() -> None:
    listed = [match["action"] for match in _ROW.finditer(PAGE.read_text())]
    assert listed == sorted(get_args(Action))


@pytest.fixture(autouse=True)
def _runners() -> Iterator[None]:
    for runner in (BrokenRunner, IdleRunner):
        task_runners.register(runner)
    with run_tasks_locally("synchronous"):
        yield
    for runner in (BrokenRunner, IdleRunner):
        task_runners.unregister(runner.name)
    MemoryStorageBackend.clear()


class Moody(TriggerTask):
    """Does what it is told to by the kwargs of ``a``."""

    name = "tests.integration.test_log_records.Moody"

    def _run(self, context: TaskContext) -> None:
        mood = context.trigger_kwargs["a"]["mood"]
        with context.get_logger_context() as logger:
            logger.info("is in the mood to %s", mood)
        if mood == "fail":
            raise ValueError("No parcel.")
        if mood == "skip":
            raise self.skip()
        if mood == "retry" and context.task_instance.number == 0:
            raise self.retry()


class CannotBeRun(TriggerTask):
    """A task whose own code fails before it begins."""

    name = "tests.integration.test_log_records.CannotBeRun"

    def execute(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError("the storage is away")

    def _run(self, context: TaskContext) -> None:
        raise AssertionError("it is never run")


class WithAHook(TriggerManager):
    name = "tests-log-records-hook"

    def _post_fire(self, trigger_name: str, tasks_scheduled: Any) -> None:
        raise LookupError("the hook stumbles")


class DownStorage(MemoryStorageBackend):
    name = "tests-log-records-down"

    @classmethod
    def ticking(cls, limit: int, until: Any, **options: Any) -> Any:
        raise ConnectionError("the server is gone")


@predicate("tests-log-records-stumbles")
def stumbles(kwargs: Any) -> bool:
    raise LookupError("the predicate stumbles")


def session(
    tasks: Any = None, *fired: str, runs: bool = True, manager: Any = TriggerManager, **limits: Any
) -> TriggerManager:
    """A manager on a fresh session, in which these triggers were fired."""
    made: TriggerManager = manager(MemoryStorageBackend(uuid4().hex, **limits))
    if not runs:
        made.default_task_runner_name = IdleRunner.name
    made.update_configuration(tasks or {"t_x": {"after": ["a"], "run": Moody.name}})
    for each in fired:
        made.fire(each, {"mood": "finish"})
    return made


def live() -> None:
    """Everything that instances do by themselves, or are made to do by hand."""
    for mood in ("finish", "fail", "skip", "retry"):
        session().fire("a", {"mood": mood})
    failed = session()
    failed.fire("a", {"mood": "fail"})
    failed.replay_failed_instance("t_x#0")
    waiting = session({"t_x": {"after": ["a", "b"], "unless": ["c"], "run": Moody.name}}, "a", "c")
    assert waiting.storage["t_x#0"].status == "abandoned"


def exceed_the_depth() -> None:
    before, lifecycle.MOST_CASCADES = lifecycle.MOST_CASCADES, 0
    try:
        session(None, "a")
    finally:
        lifecycle.MOST_CASCADES = before


def start_what_runs() -> None:
    manager = session(None, "a", runs=False)
    assert claim(manager, "t_x#0") is not None
    assert claim(manager, "t_x#0") is None


def take_away_from_a_worker() -> None:
    manager = session(None, "a", runs=False)
    manager.storage.limits = Limits(lease=1, heartbeat=0.05)
    attempt = claim(manager, "t_x#0")
    assert attempt is not None
    manager.update_instance_status("t_x#0", "failed")
    end = time.monotonic() + 20
    while not attempt.is_lost and time.monotonic() < end:
        time.sleep(0.01)
    assert attempt.is_lost
    time.sleep(0.05)  # it is logged right after that


def stumble_in_a_filter() -> None:
    when = {"t_x": "tests-log-records-stumbles"}
    tasks = {
        "t_x": {"after": ["a"], "run": Recorded.name},
        "t_y": {"after": ["t_x"], "when": when, "run": Recorded.name},
    }
    session(tasks, "a")


def lose_a_worker() -> None:
    manager = session(None, "a", runs=False)
    assert claim(manager, "t_x#0") is not None
    end = manager.storage["t_x#0"].record.due_at
    assert end is not None
    with frozen_time(end + timedelta(seconds=1)):
        recover(manager)


def go_round_in_vain(action: Any) -> Callable[[], None]:
    def go() -> None:
        def stumble(uid: str) -> None:
            raise LookupError(uid)

        alias = conf.get_alias("default")
        go_round(alias, lambda _limit: ["order:1"], stumble, action=action, batch=2, rounds=None)

    return go


def stumble_in_a_receiver() -> None:
    def receive(**_others: Any) -> None:
        raise LookupError("the receiver stumbles")

    trigger_fired.connect(receive)
    try:
        session(None, "b")
    finally:
        trigger_fired.disconnect(receive)


def look_after_what_is_down() -> None:
    storage_backends.register(DownStorage)
    try:
        with override_settings(TRIGGERS={"down": {"STORAGE": DownStorage.name}}):
            _Watched(conf.get_alias("down"), 1.0).look(10, Rounds())
    finally:
        storage_backends.unregister(DownStorage.name)


def ask_a_worker_without_the_task() -> None:
    manager = session(None, "a", runs=False)
    report_unknown(Moody.name, manager.reference(), "t_x#0")


def hand_to_a_broken_runner() -> None:
    manager = session()
    manager.default_task_runner_name = BrokenRunner.name
    manager.fire("a")


def come_to_the_limit() -> None:
    session(None, "b", firings_limit=2)


def run_what_cannot_be_run() -> None:
    session({"t_x": {"after": ["a"], "run": CannotBeRun.name}}, "a")


def stumble_in_a_hook() -> None:
    session(None, "b", manager=WithAHook)


STORIES: dict[str, Callable[[], None]] = {
    **dict.fromkeys(
        ("abandon", "claim", "create", "fail", "finish", "fire", "replay", "retry", "run"), live
    ),
    **dict.fromkeys(("schedule", "skip"), live),
    "cascade": exceed_the_depth,
    "dispatch": hand_to_a_broken_runner,
    "drop": start_what_runs,
    "execute": run_what_cannot_be_run,
    "filter": stumble_in_a_filter,
    "heartbeat": take_away_from_a_worker,
    "hook": stumble_in_a_hook,
    "limit": come_to_the_limit,
    "lost": lose_a_worker,
    "purge": go_round_in_vain("purge"),
    "recover": go_round_in_vain("recover"),
    "signal": stumble_in_a_receiver,
    "supervise": look_after_what_is_down,
    "tick": go_round_in_vain("tick"),
    "unknown": ask_a_worker_without_the_task,
}


@pytest.mark.parametrize("action", get_args(Action))
def test_a_record_has_the_level_and_the_fields_of_its_row(
    action: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    levels, fields = rows()[action]
    STORIES[action]()
    found = [each for each in caplog.records if vars(each).get("action") == action]
    assert found, f"nothing was logged as {action}"
    for record in found:
        assert levels == {"any"} or record.levelname in levels
        assert {name for name in FIELDS if vars(record)[name]} >= fields, record.getMessage()
        if action != "run":
            assert record.name == "triggers"
            assert repr(vars(record)["session"]) in record.getMessage() or not fields


def test_the_life_of_an_instance_can_be_read_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "triggers")
    manager = session({"t_x": {"after": ["a", "b"], "run": Moody.name}})
    caplog.clear()
    manager.fire("b")
    manager.fire("a", {"mood": "fail"})
    about = [vars(each) for each in caplog.records if each.name == "triggers"]
    assert [(each["action"], each["trigger"], each["instance"]) for each in about] == [
        ("fire", "b", ""),
        ("create", "b", "t_x#0"),
        ("fire", "a", ""),
        ("schedule", "a", "t_x#0"),
        ("claim", "", "t_x#0"),
        ("fire", "t_x:failed", "t_x#0"),
        ("fail", "", "t_x#0"),
    ]
    uid = manager.storage.uid
    messages = [each.getMessage() for each in caplog.records if each.name == "triggers"]
    assert messages[:2] == [
        f"Firing 1: b (session {uid!r})",
        f"t_x#0: unstarted (session {uid!r})",
    ]
    failed = "t_x#0: failed, was running: builtins.ValueError: No parcel."
    assert messages[-1] == f"{failed} (session {uid!r})"


def test_at_info_a_healthy_system_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "triggers")
    session(None, "a", "b")
    assert [each for each in caplog.records if each.name == "triggers"] == []


def test_a_percent_sign_in_a_message_without_arguments_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log(logging.WARNING, "80% of it", action="limit", session="50%")
    assert [each.getMessage() for each in caplog.records] == ["80% of it (session '50%')"]


def test_the_task_is_taken_from_the_name_of_the_instance(caplog: pytest.LogCaptureFixture) -> None:
    log(logging.WARNING, "told of %s", "t_x#12", action="drop", instance="t_x#12")
    [record] = caplog.records
    assert (vars(record)["task"], vars(record)["trigger"]) == ("t_x", "")


def test_a_logger_of_a_task_says_which_firing_has_started_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    session(None, "a")
    [record] = [each for each in caplog.records if vars(each).get("action") == "run"]
    assert vars(record)["trigger"] == "a"
    assert record.name == Moody.name


def test_a_message_that_comes_twice_is_normal_and_logged_as_such(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "triggers")
    manager = session(None, "a")
    execute(manager, "t_x#0")
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "start of t_x#0 was dropped: it is not waiting to run" in record.getMessage()
