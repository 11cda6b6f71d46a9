"""What is due is decided once, at its time, whoever looks, and however late."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from tests import servers
from tests.contract.custom_storage import FolderStorage
from triggers import timers
from triggers.conditions import predicate
from triggers.exceptions import SettingsError
from triggers.manager import TriggerManager, get_trigger_manager, trigger_managers
from triggers.models import Timer
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, trigger_task
from triggers.testing import frozen_time, run_tasks_locally
from triggers.testing.racing import RUN_LOG, Recorded, in_threads
from triggers.types import TaskInstance

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TASKS: dict[str, Any] = {
    "t_join": {"after": ["a", "b"], "within": "PT1H", "run": Recorded.name},
    "t_late": {"andEvery": "t_join:expired", "run": Recorded.name},
}
EXPIRED = {"t_join#0": "abandoned", "t_late#0": "finished"}
READY = {"t_join#0": "finished"}


class WatchingManager(TriggerManager):
    """Notes which firings its hook is told of."""

    name = "timers-watching"
    told: ClassVar[list[tuple[str, list[str]]]] = []

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        self.told.append((trigger_name, [each.name for each in tasks_scheduled]))


@trigger_task
def divide_by_nothing(context: TaskContext) -> None:
    raise ZeroDivisionError("by nothing")


@predicate("timers-fragile")
def fragile(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs["what is not there"])


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
    MemoryStorageBackend.clear()
    WatchingManager.told.clear()
    trigger_managers.register(WatchingManager)
    with run_tasks_locally("synchronous"), frozen_time(START):
        yield
    trigger_managers.unregister(WatchingManager.name)
    MemoryStorageBackend.clear()


@pytest.fixture(params=["memory", *servers.database_params()])
def _storage(request: pytest.FixtureRequest, settings: Any) -> None:
    """Make this storage the default alias."""
    if request.param == "memory":
        settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    else:
        settings.TRIGGERS = {
            "default": {"STORAGE": "database", "OPTIONS": {"using": request.param}}
        }


on_every_storage = pytest.mark.usefixtures("_storage")


def begin(number: int = 1, tasks: dict[str, Any] | None = None) -> list[TriggerManager]:
    """So many sessions in which ``a`` has been fired."""
    managers = [get_trigger_manager(f"{uuid4().hex}") for _ in range(number)]
    for manager in managers:
        manager.update_configuration(tasks or TASKS)
        manager.fire("a")
    return managers


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {
        each.name: str(each.status) for each in get_trigger_manager(manager.storage.uid).storage
    }


def fired(manager: TriggerManager) -> list[str]:
    return [each.trigger for each in manager.storage.find_firings()]


def runs(tmp_path: Path) -> Counter[str]:
    """How often each instance ran, by session and name."""
    log = tmp_path / "runs"
    return Counter(log.read_text().splitlines() if log.exists() else [])


# -- at its time --------------------------------------------------------------------------------


@on_every_storage
@pytest.mark.parametrize(("early", "expected"), [(1, {"t_join#0": "unstarted"}), (0, EXPIRED)])
def test_due_at_exactly_the_present_is_due(early: int, expected: dict[str, str]) -> None:
    [manager] = begin()
    with frozen_time(START + HOUR - timedelta(microseconds=early)):
        found = timers.fire_due()
    assert statuses(manager) == expected
    assert found.sessions == (expected == EXPIRED)


@on_every_storage
def test_it_says_what_it_did() -> None:
    begin(3)
    others = begin(2)
    for manager in others:
        manager.fire("b")
    with frozen_time(START + HOUR):
        found, again = timers.fire_due(), timers.fire_due()
    # In each of three sessions one was abandoned, and one scheduled by that.
    assert (found.sessions, found.instances, found.failed) == (3, 6, 0)
    assert (again.sessions, again.instances, again.failed) == (0, 0, 0)


@on_every_storage
def test_what_is_scheduled_by_time_runs() -> None:
    after = [{"elapsed": "PT1H", "since": "a"}]
    [manager] = begin(tasks={"t_x": {"after": after, "run": Recorded.name}})
    with frozen_time(START + HOUR):
        assert timers.fire_due().instances == 1
    assert statuses(manager) == {"t_x#0": "finished"}
    assert fired(manager) == ["a", "t_x"]


@on_every_storage
def test_after_downtime_everything_ends_as_if_there_had_been_none() -> None:
    tasks: dict[str, Any] = {
        "t_one": {"after": ["a", "never"], "within": "PT1H", "run": Recorded.name},
        "t_two": {"after": ["t_one:expired", "never"], "within": "PT1H", "run": Recorded.name},
        "t_burst": {
            "andEvery": "a",
            "debounce": {"quiet": "PT10M", "most": "PT1H"},
            "unless": ["t_one:expired"],
            "run": Recorded.name,
        },
        "t_three": {
            "after": ["a", "never"],
            "unless": {"elapsed": "PT29M", "since": "a"},
            "run": Recorded.name,
        },
    }
    [watched, alone] = begin(2, tasks)
    for minutes in range(0, 181, 10):
        with frozen_time(START + timedelta(minutes=minutes)):
            timers.fire_due_in(watched)
    with frozen_time(START + timedelta(days=30)):
        timers.fire_due()
    for manager in (watched, alone):
        ends = {each.name: (each.status, each.created_at) for each in manager.storage}
        assert ends == {
            "t_one#0": ("abandoned", START),
            "t_two#0": ("abandoned", START + HOUR),
            "t_burst#0": ("finished", START),
            "t_three#0": ("abandoned", START),
        }
    ticked = ("t_one:expired", "t_two:expired", "t_three:abandoned")
    for manager in (watched, alone):
        times = {each.trigger: each.at - START for each in manager.storage.find_firings()}
        assert [times[name] for name in ticked] == [HOUR, 2 * HOUR, timedelta(minutes=29)]


@on_every_storage
def test_a_moment_may_be_given_and_the_time_of_a_session_moves_on_to_what_was_due() -> None:
    [manager] = begin()
    assert timers.fire_due(START + timedelta(minutes=59)).sessions == 0
    assert timers.fire_due(START + timedelta(days=1)).sessions == 1
    assert statuses(manager) == EXPIRED
    manager.fire("c")
    [at] = [each.at for each in manager.storage.find_firings() if each.trigger == "c"]
    assert at == START + HOUR, "not the day that was looked at"


@on_every_storage
def test_a_moment_may_have_any_time_zone_but_must_have_one() -> None:
    [manager] = begin()
    with pytest.raises(ValueError, match="has no time zone"):
        timers.fire_due(datetime(2026, 11, 21, 13))
    with pytest.raises(ValueError, match="has no time zone"):
        timers.fire_due_in(manager, datetime(2026, 11, 21, 13))
    tokyo = timezone(timedelta(hours=9))
    assert timers.fire_due(datetime(2026, 11, 21, 21, 59, 59, tzinfo=tokyo)).sessions == 0
    assert timers.fire_due(datetime(2026, 11, 21, 22, tzinfo=tokyo)).sessions == 1
    assert statuses(manager) == EXPIRED


@on_every_storage
def test_what_has_been_decided_otherwise_is_not_due_any_more() -> None:
    ready, gone, replaced = begin(3)
    ready.fire("b")
    gone.storage.delete()
    replaced.update_configuration({"t_join": {"after": ["a"], "run": Recorded.name}})
    with frozen_time(START + HOUR):
        assert timers.fire_due().sessions == 0
    assert statuses(ready) == READY
    assert statuses(replaced) == READY


@on_every_storage
def test_a_deadline_that_was_taken_away_is_not_due_and_hides_nothing() -> None:
    """Sessions that are listed as due, and never are, would keep others from being looked at."""
    changed = begin(3)
    for manager in changed:
        manager.update_configuration({"t_join": {"after": ["a", "b"], "run": Recorded.name}})
    with frozen_time(START + timedelta(minutes=10)):
        [last] = begin()
    with frozen_time(START + timedelta(days=1)):
        found = timers.fire_due(batch=2)
        assert found.sessions == 1
        assert timers.fire_due(batch=2).sessions == 0
    assert statuses(last) == EXPIRED
    for manager in changed:
        assert statuses(manager) == {"t_join#0": "unstarted"}


# -- once ---------------------------------------------------------------------------------------


@on_every_storage
def test_however_many_threads_look_at_once_each_is_decided_once(tmp_path: Path) -> None:
    managers = begin(12)
    with frozen_time(START + HOUR):
        in_threads(*[_look] * 6)
    for manager in managers:
        assert statuses(manager) == EXPIRED
        assert fired(manager) == ["a", "t_join:expired", "t_late"]
    expected = {f"{manager.storage.uid} t_late#0": 1 for manager in managers}
    assert runs(tmp_path) == expected


def _look() -> None:
    found = timers.fire_due(batch=3)
    assert found.failed == 0


@on_every_storage
def test_a_deadline_and_a_firing_that_meet_end_in_one_way_or_the_other(tmp_path: Path) -> None:
    managers = begin(12)
    firings: list[Callable[[], object]] = [partial(manager.fire, "b") for manager in managers]
    with frozen_time(START + HOUR - timedelta(seconds=1)):
        moment = START + HOUR  # for those who look, an hour has passed already
        in_threads(
            partial(_call, [partial(timers.fire_due, moment)]),
            *(partial(_call, firings[n::3]) for n in range(3)),
        )
    for manager in managers:
        expired, ready = statuses(manager) == EXPIRED, statuses(manager) == READY
        assert expired or ready
        assert ("t_join:expired" in fired(manager)) == expired
    assert set(runs(tmp_path).values()) == {1}
    assert sum(runs(tmp_path).values()) == len(managers)


def _call(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


LOOK = """
import sys
from datetime import datetime
import django
django.setup()
from django.test import override_settings
from triggers import timers
from triggers.testing import frozen_time, run_tasks_locally
import triggers.testing.racing

options = {"default": {"STORAGE": "database", "OPTIONS": {"using": sys.argv[1]}}}
with override_settings(TRIGGERS=options), run_tasks_locally("synchronous"):
    print("ready", flush=True)
    sys.stdin.readline()
    with frozen_time(datetime.fromisoformat(sys.argv[2])):
        assert timers.fire_due(batch=3).failed == 0
"""


@pytest.mark.parametrize("alias", servers.database_params())
def test_however_many_processes_look_at_once_each_is_decided_once(
    alias: str, settings: Any, tmp_path: Path
) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "database", "OPTIONS": {"using": alias}}}
    managers = begin(12)
    command = [sys.executable, "-c", LOOK, alias, (START + HOUR).isoformat()]
    processes = [
        subprocess.Popen(
            command,
            env=servers.subprocess_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for manager in managers:
        assert statuses(manager) == EXPIRED
        assert fired(manager) == ["a", "t_join:expired", "t_late"]
    assert runs(tmp_path) == {f"{manager.storage.uid} t_late#0": 1 for manager in managers}


# -- aliases and sessions -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_every_alias_is_looked_at_unless_one_is_named(settings: Any) -> None:
    settings.TRIGGERS = {
        "default": {"STORAGE": "database"},
        "demo": {"STORAGE": "memory"},
    }
    tasks = {"t_x": {"after": ["a", "b"], "within": "PT1H", "run": Recorded.name}}
    managers = [get_trigger_manager("s", using=alias) for alias in ("default", "demo")]
    for manager in managers:
        manager.update_configuration(tasks)
        manager.fire("a")
    stored, demo = managers
    with frozen_time(START + HOUR):
        assert timers.fire_due(using="demo").sessions == 1
        assert str(demo.storage["t_x#0"].status) == "abandoned"
        assert str(stored.storage["t_x#0"].status) == "unstarted"
        assert timers.fire_due().sessions == 1
        assert str(stored.storage["t_x#0"].status) == "abandoned"


def test_an_alias_that_is_not_there_is_named(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    with pytest.raises(SettingsError, match="'nobody'"):
        timers.fire_due(using="nobody")


@on_every_storage
def test_many_sessions_are_gone_through_in_batches() -> None:
    managers = begin(7)
    with frozen_time(START + HOUR):
        assert timers.fire_due(batch=2).sessions == 7
    assert [statuses(manager) for manager in managers] == [EXPIRED] * 7


@on_every_storage
def test_a_session_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    broken = [get_trigger_manager(f"broken{number}") for number in range(4)]
    for manager in broken:
        WatchingManager(manager.storage).update_configuration(TASKS)
        manager.fire("a")
    sound = begin(2)
    trigger_managers.unregister(WatchingManager.name)
    caplog.clear()
    with frozen_time(START + HOUR):
        found = timers.fire_due(batch=2)
    assert (found.sessions, found.failed) == (2, 4)
    assert [statuses(manager) for manager in sound] == [EXPIRED] * 2
    failures = [each for each in caplog.records if getattr(each, "action", "") == "tick"]
    assert sorted(vars(each)["session"] for each in failures) == [
        f"broken{number}" for number in range(4)
    ]
    assert {each.levelno for each in failures} == {logging.ERROR}
    trigger_managers.register(WatchingManager)
    with frozen_time(START + HOUR):
        assert timers.fire_due(batch=2).sessions == 4
    assert [statuses(manager) for manager in broken] == [EXPIRED] * 4


@on_every_storage
def test_a_task_that_fails_is_no_failure_of_the_timers() -> None:
    late = {"andEvery": "t_join:expired", "run": divide_by_nothing.name}
    [manager] = begin(tasks={**TASKS, "t_late": late})
    with frozen_time(START + HOUR):
        assert timers.fire_due().failed == 0
    assert statuses(manager) == {"t_join#0": "abandoned", "t_late#0": "failed"}


@on_every_storage
def test_a_predicate_that_raises_about_what_follows_holds_nothing_up() -> None:
    when = {"t_join:expired": "timers-fragile"}
    [manager] = begin(tasks={**TASKS, "t_picky": {**TASKS["t_late"], "when": when}})
    with frozen_time(START + HOUR):
        found = timers.fire_due()
    assert (found.sessions, found.failed) == (1, 0)
    assert statuses(manager) == EXPIRED


@on_every_storage
def test_hooks_of_the_sessions_own_manager_are_told() -> None:
    manager = WatchingManager(get_trigger_manager("watched").storage)
    manager.update_configuration(TASKS)
    manager.fire("a")
    WatchingManager.told.clear()
    with frozen_time(START + HOUR):
        timers.fire_due()
    assert sorted(WatchingManager.told) == [("t_join:expired", ["t_late#0"]), ("t_late", [])]


@pytest.mark.django_db(transaction=True)
def test_due_times_are_stored_and_go_when_they_have_passed() -> None:
    manager = TriggerManager(DatabaseStorageBackend("stored"))
    manager.update_configuration(
        {"t_x": {**TASKS["t_join"], "andEvery": "p"}, "t_y": {"after": ["a", "c"], "run": "x"}}
    )
    manager.fire("a")
    manager.fire("p")
    manager.fire("p")
    assert Timer.objects.count() == 2
    assert DatabaseStorageBackend.ticking(9, None) == []
    assert DatabaseStorageBackend.ticking(9, START + HOUR) == ["stored"]
    with frozen_time(START + HOUR):
        assert DatabaseStorageBackend.ticking(9, None) == ["stored"]
        timers.fire_due()
    assert Timer.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_storage_that_cannot_list_its_sessions_is_looked_at_one_by_one(tmp_path: Path) -> None:
    manager = TriggerManager(FolderStorage("custom", folder=str(tmp_path / "folder")))
    manager.update_configuration(TASKS)
    manager.fire("a")
    with frozen_time(START + HOUR - timedelta(seconds=1)):
        assert timers.fire_due_in(manager) == 0
    assert timers.fire_due_in(manager, START + HOUR) == 2
    assert {each.name: str(each.status) for each in manager.storage} == EXPIRED
    assert timers.fire_due_in(manager, START + HOUR) == 0


def test_in_memory_the_sessions_that_are_due_for_longest_come_first() -> None:
    MemoryStorageBackend.clear()
    for hours, uid in ((3, "due third"), (1, "due first"), (2, "due second")):
        manager = TriggerManager(MemoryStorageBackend(uid))
        manager.update_configuration({"t_x": {**TASKS["t_join"], "within": f"PT{hours}H"}})
        manager.fire("a")
    assert MemoryStorageBackend.ticking(9, START + 2 * HOUR) == ["due first", "due second"]
    assert MemoryStorageBackend.ticking(1, START + 3 * HOUR) == ["due first"]
    assert MemoryStorageBackend.ticking(9, None) == []
    with frozen_time(START + 3 * HOUR):
        assert MemoryStorageBackend.ticking(2, None) == ["due first", "due second"]
