"""What nobody else does is done by whoever looks after it, once, until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from django.core.management import call_command
from pytest_django import DjangoDbBlocker

from tests import servers
from tests.contract.custom_storage import FolderStorage
from triggers import celery_tasks, recovery, rounds, supervisor, timers
from triggers.exceptions import SettingsError, StorageUnavailable, UnknownBackend
from triggers.manager import TriggerManager, get_trigger_manager, trigger_managers
from triggers.models import PendingMark
from triggers.storages import storage_backends
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import frozen_time, run_tasks_locally
from triggers.testing.racing import RUN_LOG, Recorded
from triggers.types import TaskInstance

PATIENCE = 60  # seconds that something may take before the test gives up
TASKS: dict[str, Any] = {
    "t_join": {"after": ["a", "b"], "within": "PT1H", "run": Recorded.name},
    "t_late": {"andEvery": "t_join:expired", "run": Recorded.name},
}
EXPIRED = {"t_join#0": "abandoned", "t_late#0": "finished"}


class FussyManager(TriggerManager):
    """Its hook fails as long as it is told to."""

    name = "supervisor-fussy"
    is_broken: ClassVar[bool] = True
    calls: ClassVar[list[str]] = []

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        self.calls.append(trigger_name)
        if self.is_broken:
            raise ConnectionError("the hook is broken")


@pytest.fixture(autouse=True)
def _clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
    MemoryStorageBackend.clear()
    FussyManager.calls.clear()
    FussyManager.is_broken = True
    trigger_managers.register(FussyManager)
    # Between passes, connections are closed that earlier tests have left open.
    with run_tasks_locally("synchronous"), django_db_blocker.unblock():
        yield
    trigger_managers.unregister(FussyManager.name)
    MemoryStorageBackend.clear()


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in manager.storage}


def runs(tmp_path: Path) -> Counter[str]:
    """How often each instance ran, by session and name."""
    log = tmp_path / "runs"
    return Counter(log.read_text().splitlines() if log.exists() else [])


class StopAfter:
    """Stops after so many waits between passes, and notes how long they were to be."""

    def __init__(self, passes: int) -> None:
        self.passes = passes
        self.waits: list[float] = []

    def is_set(self) -> bool:
        return len(self.waits) >= self.passes

    def wait(self, timeout: float, /) -> None:
        self.waits.append(timeout)


def settled(settings: Any, alias: str = "default") -> None:
    """Make a database the only alias; tasks run in place."""
    settings.TRIGGERS = {
        "default": {"OPTIONS": {"using": alias}, "RUNNER": "synchronous"},
    }


# -- the function -------------------------------------------------------------------------------


@pytest.fixture(
    params=[
        "memory",
        *servers.database_params(),
        pytest.param("cache", marks=pytest.mark.server("redis")),
        pytest.param("redis", marks=pytest.mark.server("redis")),
    ]
)
def _storage(request: pytest.FixtureRequest, settings: Any) -> None:
    """Make this storage the default alias, with nothing in it."""
    name, own = request.param, f"{servers.RUN_ID}:{uuid4().hex}"
    alias: dict[str, Any] = {"STORAGE": name}
    if name == "redis":
        alias["OPTIONS"] = {"url": servers.redis_url(), "prefix": own}
    elif name == "cache":
        settings.CACHES = {"default": {**settings.CACHES["default"], "KEY_PREFIX": own}}
    elif name != "memory":
        alias = {"OPTIONS": {"using": name}}
    settings.TRIGGERS = {"default": {**alias, "RUNNER": "synchronous"}}


@pytest.mark.usefixtures("_storage")
def test_a_pass_decides_what_is_due_and_sends_what_was_not_started() -> None:
    late, lost = get_trigger_manager("late"), get_trigger_manager("lost")
    late.update_configuration(TASKS)
    late.fire("a")
    lost.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
    lost.default_task_runner_name = "no-such-runner"
    lost.fire("a")
    told: list[supervisor.Passed] = []
    with frozen_time(late.storage.now() + timedelta(days=1)):
        total = supervisor.run(stop=StopAfter(3), on_pass=told.append)
    assert statuses(late) == EXPIRED
    assert statuses(lost) == {"t_x#0": "finished"}
    assert (total.fired.instances, total.recovered.sent, total.outages) == (2, 1, 0)
    assert [each.using for each in told] == ["default"], "only the first pass had something to do"
    assert str(total).startswith("2 decided by time, 1 sent again, 0 deferred")


def test_the_pauses_between_passes_are_the_interval(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    stop = StopAfter(3)
    supervisor.run(stop=stop, interval=0.25)
    assert stop.waits == [0.25] * 3


def test_what_cannot_be_looked_after_is_refused_at_the_start(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}, "odd": {"STORAGE": "no-such"}}
    with pytest.raises(SettingsError, match="'nobody'"):
        supervisor.run("nobody", stop=StopAfter(1))
    with pytest.raises(UnknownBackend, match="'no-such'"):
        supervisor.run(stop=StopAfter(1))
    with pytest.raises(ValueError, match="interval must be above 0"):
        supervisor.run("default", stop=StopAfter(1), interval=0)
    with pytest.raises(ValueError, match="at most 86,400"):
        supervisor.run("default", stop=StopAfter(1), interval=1e300)
    with pytest.raises(ValueError, match="batch must be at least 1"):
        supervisor.run("default", stop=StopAfter(1), batch=0)


def test_settings_that_only_a_restart_mends_end_it(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "redis", "OPTIONS": {"url": "http://x"}}}
    with pytest.raises(SettingsError, match="http://x"):
        supervisor.run(stop=StopAfter(3))


class UnlistedStorage(FolderStorage):
    """A storage that only loads and saves."""

    name = "supervisor-unlisted"


@pytest.fixture
def _unlisted(settings: Any, tmp_path: Path) -> Iterator[None]:
    storage_backends.register(UnlistedStorage)
    options = {"folder": str(tmp_path)}
    settings.TRIGGERS = {
        "files": {"STORAGE": UnlistedStorage.name, "RUNNER": "synchronous", "OPTIONS": options},
        "sound": {"STORAGE": "memory", "RUNNER": "synchronous"},
    }
    yield
    storage_backends.unregister(UnlistedStorage.name)


def records_about_unlisted(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [each for each in caplog.records if "cannot list" in each.getMessage()]
    assert {(vars(each)["action"], each.levelname) for each in records} <= {
        ("supervise", "WARNING")
    }
    return [each.getMessage() for each in records]


@pytest.mark.usefixtures("_unlisted")
def test_that_a_storage_cannot_list_its_sessions_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor.run(stop=StopAfter(3))
    [message] = records_about_unlisted(caplog)
    assert message.startswith("Not all that is due in sessions of 'files' is looked for: the ")
    assert "nothing is recovered and no deadline is noticed in them" in message
    # Who looks once asks for it, and has been told by the documentation.
    timers.fire_due()
    recovery.redeliver()
    assert len(records_about_unlisted(caplog)) == 1


@pytest.mark.usefixtures("_unlisted")
def test_the_tasks_of_beat_log_it_once_in_each_thread(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        for _ in range(3):
            celery_tasks.fire_due()
            celery_tasks.redeliver()

    thread = threading.Thread(target=work)  # with rounds of its own
    thread.start()
    thread.join()
    assert len(records_about_unlisted(caplog)) == 1


@pytest.mark.usefixtures("_unlisted")
@pytest.mark.parametrize("verbosity", [0, 1])
def test_the_command_says_of_which_storages_it_finds_nothing(
    verbosity: int, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("triggers", "run", "--once", "-v", str(verbosity))
    told = [each for each in capsys.readouterr().out.splitlines() if "cannot list" in each]
    assert len(told) == verbosity
    for line in told:
        assert line.startswith("'files': the supervisor-unlisted storage cannot list its sessions")


class MoodyStorage(MemoryStorageBackend):
    """A storage whose server is down as long as it is told to be."""

    name = "supervisor-moody"
    is_down: ClassVar[bool] = False
    asked: ClassVar[int] = 0

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> Any:
        MoodyStorage.asked += 1
        if cls.is_down:
            raise StorageUnavailable(cls.name, "it is down")
        return super().ticking(limit, until, **options)


@pytest.fixture
def _moody(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from triggers.storages import storage_backends

    monkeypatch.setattr(MoodyStorage, "is_down", True)
    monkeypatch.setattr(MoodyStorage, "asked", 0)
    storage_backends.register(MoodyStorage)
    settings.TRIGGERS = {
        "moody": {"STORAGE": MoodyStorage.name, "RUNNER": "synchronous"},
        "sound": {"STORAGE": "memory", "RUNNER": "synchronous"},
    }
    yield
    storage_backends.unregister(MoodyStorage.name)


@pytest.mark.usefixtures("_moody")
def test_a_storage_that_is_down_is_logged_when_that_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: clock)

    class Hours(StopAfter):
        def wait(self, timeout: float, /) -> None:
            nonlocal clock
            super().wait(timeout)
            clock += timeout
            MoodyStorage.is_down = clock < 600

    caplog.set_level(logging.INFO, "triggers")
    total = supervisor.run(stop=Hours(700))
    logged = [each for each in caplog.records if vars(each)["action"] == "supervise"]
    assert [each.levelname for each in logged] == ["ERROR", "WARNING"]
    assert "'moody' cannot be looked after" in logged[0].getMessage()
    assert "'moody' are looked after again" in logged[1].getMessage()
    assert total.outages == 1
    # After 2, 4, 8, 16 and then every 30 seconds; and every second once it is up again.
    assert 20 <= MoodyStorage.asked - 80 <= 30 + 20


@pytest.mark.usefixtures("_moody")
def test_a_storage_that_is_down_does_not_keep_others_from_being_looked_after() -> None:
    manager = get_trigger_manager("sound", using="sound")
    manager.update_configuration(TASKS)
    manager.fire("a")
    with frozen_time(manager.storage.now() + timedelta(days=1)):
        assert supervisor.run(stop=StopAfter(1)).fired.instances == 2
    assert statuses(manager) == EXPIRED


def test_it_stops_after_the_session_that_it_is_at(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory", "MANAGER": FussyManager.name}}
    stop = threading.Event()

    class Stopping(FussyManager):
        name = "supervisor-stopping"

        def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
            stop.set()

    trigger_managers.register(Stopping)
    try:
        managers = [Stopping(MemoryStorageBackend(f"s{n}")) for n in range(5)]
        for manager in managers:
            manager.update_configuration(TASKS)
            TriggerManager(manager.storage).fire("a")
        with frozen_time(managers[0].storage.now() + timedelta(days=1)):
            total = supervisor.run(stop=stop)
    finally:
        trigger_managers.unregister(Stopping.name)
    assert total.fired.sessions == 1
    assert sum("abandoned" in statuses(each).values() for each in managers) == 1


# -- sessions that keep failing -----------------------------------------------------------------


def test_a_session_that_fails_is_left_alone_longer_and_longer() -> None:
    clock = 0.0
    memory = rounds.Rounds(clock=lambda: clock)
    tries = []
    while clock < 4 * 3600:
        if not memory.leaves_alone("recover", "default", "s"):
            tries.append(clock)
            memory.note("recover", "default", "s", failed=True)
        assert not memory.leaves_alone("recover", "default", "other")
        clock += 1.0
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[:5] == [5, 10, 20, 40, 80]
    assert max(pauses) == rounds.LONGEST_PAUSE
    memory.note("recover", "default", "s", failed=False)
    assert not memory.leaves_alone("recover", "default", "s")


def test_what_has_failed_is_forgotten_when_it_is_not_met_again() -> None:
    clock = 0.0
    memory = rounds.Rounds(clock=lambda: clock)
    memory.note("tick", "default", "gone", failed=True)
    clock = rounds.FIRST_PAUSE + rounds.LONGEST_PAUSE + 1
    memory.forget_old()
    assert memory._failed == {}


@pytest.mark.parametrize("broken", [1, 7])
def test_sessions_that_are_left_alone_do_not_hide_the_others(settings: Any, broken: int) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory", "RUNNER": "synchronous"}}
    lost = [FussyManager(MemoryStorageBackend(f"broken{n}")) for n in range(broken)]
    sound = [TriggerManager(MemoryStorageBackend(f"sound{n}")) for n in range(3)]
    for manager in [*lost, *sound]:
        manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
        manager.default_task_runner_name = "no-such-runner"
        TriggerManager.fire(manager, "a")
    trigger_managers.unregister(FussyManager.name)
    memory = rounds.Rounds()
    with frozen_time(sound[0].storage.now() + timedelta(days=1)):
        first = recovery.redeliver(batch=2, rounds=memory)
        again = recovery.redeliver(batch=2, rounds=memory)
    trigger_managers.register(FussyManager)
    assert (first.sent, first.failed) == (3, broken)
    assert (again.sent, again.failed) == (0, 0), "it is not their turn yet"


@pytest.mark.parametrize("alias", servers.database_params())
def test_a_hook_that_always_fails_is_called_less_and_less_often(alias: str, settings: Any) -> None:
    settled(settings, alias)
    manager = FussyManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    manager.update_configuration({"t_x": {"after": ["never"], "run": Recorded.name}})
    start = manager.storage.now()
    with frozen_time(start):
        manager.fire("a")
    called = []
    for minute in range(1, 60 * 6):
        with frozen_time(start + timedelta(minutes=minute)):
            if recovery.redeliver().marks:
                called.append(minute)
    pauses = [after - before for before, after in pairwise(called)]
    assert called[0] == 1
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    FussyManager.is_broken = False
    with frozen_time(start + timedelta(days=1)):
        assert recovery.redeliver().marks == 1
    assert not PendingMark.objects.using(alias).exists()


def test_a_mark_that_an_older_release_has_left_is_fulfilled(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    manager = FussyManager(MemoryStorageBackend("older"))
    manager.update_configuration({"t_x": {"after": ["never"], "run": Recorded.name}})
    manager.fire("a")
    [mark] = MemoryStorageBackend._sessions["older"].state.pending.values()
    assert "sends" not in mark.data, "what is left first has the form that it always had"
    with frozen_time(manager.storage.now() + timedelta(hours=1)):
        recovery.redeliver()
    [mark] = MemoryStorageBackend._sessions["older"].state.pending.values()
    assert mark.data["sends"] == 1
