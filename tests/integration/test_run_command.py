"""``manage.py triggers run``: real processes that are told to stop, and servers that go away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from tests import servers
from tests.gateway import gateway
from triggers.commands.run import _stopped_by_signals
from triggers.manager import TriggerManager, trigger_managers
from triggers.storages.database import DatabaseStorageBackend
from triggers.testing import frozen_time, run_tasks_locally
from triggers.testing.racing import RUN_LOG, Recorded

PATIENCE = 60  # seconds that something may take before the test gives up
TASKS: dict[str, Any] = {
    "t_join": {"after": ["a", "b"], "within": "PT1H", "run": Recorded.name},
    "t_late": {"andEvery": "t_join:expired", "run": Recorded.name},
    "t_sent": {"after": ["a"], "run": Recorded.name},
}
DONE = {"t_join#0": "abandoned", "t_late#0": "finished", "t_sent#0": "finished"}


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
    with run_tasks_locally("synchronous"):
        yield


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in manager.storage}


def runs(tmp_path: Path) -> Counter[str]:
    """How often each instance ran, by session and name."""
    log = tmp_path / "runs"
    return Counter(log.read_text().splitlines() if log.exists() else [])


def settled(settings: Any, alias: str = "default") -> None:
    """Make a database the only alias; tasks run in place."""
    settings.TRIGGERS = {"default": {"OPTIONS": {"using": alias}, "RUNNER": "synchronous"}}


class Supervisor:
    """A ``manage.py triggers run`` process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def wait_for(self, text: str) -> str:
        """Wait for a line of its output, and return it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return line.rstrip()
        raise AssertionError(f"it did not print {text!r} but {self.lines}")

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Tell it to stop, and return the last line that it prints."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=PATIENCE)
        self.lines += output.splitlines()
        assert self.process.returncode == 0, self.lines
        return self.lines[-1]


@contextmanager
def running(
    alias: str, *options: str, settings: Sequence[str] = (), task: str = ""
) -> Iterator[Supervisor]:
    """Start a process, and kill it after the block if it is still there."""
    code = COMMAND.format(settings="\n".join(settings), task=task)
    process = subprocess.Popen(
        [sys.executable, "-c", code, alias, "run", *options],
        env=servers.subprocess_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        yield Supervisor(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


COMMAND = """
import logging, sys
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded

logging.basicConfig(stream=sys.stdout, format="LOG %(levelname)s %(message)s")
options = {{"using": sys.argv[1]}}
settings.TRIGGERS = {{"default": {{"OPTIONS": options, "RUNNER": "synchronous"}}}}
{settings}
{task}
call_command("triggers", *sys.argv[2:])
"""

WAITS = """
import os, time
from pathlib import Path

def work(self, context, original=Recorded._run):
    print("WORKING", flush=True)
    while not Path(os.environ["GATE"]).exists():
        time.sleep(0.01)
    return original(self, context)

Recorded._run = work
"""


def overdue(alias: str, number: int, name: str = "s") -> list[TriggerManager]:
    """So many sessions with a deadline that has passed, and an instance that was never sent."""
    uids = [f"{name}{n}" for n in range(number)]
    managers = [TriggerManager(DatabaseStorageBackend(uid, using=alias)) for uid in uids]
    with frozen_time(datetime.now(UTC) - timedelta(days=1)):
        for manager in managers:
            manager.default_task_runner_name = "no-such-runner"
            manager.update_configuration(TASKS)
            manager.fire("a")
    return managers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.django_db(transaction=True)
def test_it_says_what_it_looks_after_and_what_it_has_done(number: int, settings: Any) -> None:
    settled(settings)
    [manager] = overdue("default", 1)
    with running("default", "--interval", "0.1", "-v", "2") as process:
        line = process.wait_for("Looking after")
        assert line == "Looking after default (database) every 0.1 s."
        process.wait_for("default: 2 decided by time, 1 sent again")
        before = time.monotonic()
        last = process.stop(number)
        assert time.monotonic() - before < 2.0
    assert last.startswith("Stopped: 2 decided by time, 1 sent again")
    assert statuses(manager) == DONE


@pytest.mark.django_db(transaction=True)
def test_told_to_stop_during_work_it_finishes_the_session_and_begins_no_other(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(settings)
    managers = overdue("default", 5)
    gate = tmp_path / "gate"
    monkeypatch.setenv("GATE", str(gate))
    with running("default", task=WAITS) as process:
        process.wait_for("WORKING")
        process.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.wait(0.5)
        gate.touch()
        last = process.wait_for("Stopped")
        assert process.process.wait(PATIENCE) == 0
    assert last.startswith("Stopped: 2 decided by time, 0 sent again")
    begun = [each for each in managers if statuses(each)["t_join#0"] == "abandoned"]
    assert [statuses(each)["t_late#0"] for each in begun] == ["finished"]


@pytest.mark.parametrize("alias", servers.database_params())
def test_two_at_once_act_on_each_session_once(alias: str, settings: Any, tmp_path: Path) -> None:
    settled(settings, alias)
    managers = overdue(alias, 30)
    with (
        running(alias, "--interval", "0.1") as first,
        running(alias, "--interval", "0.1") as second,
    ):
        first.wait_for("Looking after")
        second.wait_for("Looking after")
        wait_until(lambda: sum(runs(tmp_path).values()) >= 60)
        summaries = [first.stop(), second.stop()]
    assert [statuses(manager) for manager in managers] == [DONE] * 30
    assert set(runs(tmp_path).values()) == {1}
    counts = [[int(n) for n in re.findall(r"\d+", line)] for line in summaries]
    together = [sum(column) for column in zip(*counts, strict=True)]
    assert together[:2] == [60, 30], summaries
    assert together[4:] == [0, 0, 0], summaries


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.server("postgresql")
@pytest.mark.django_db(transaction=True, databases=["postgresql"])
def test_it_outlives_a_server_that_goes_away_and_comes_back(settings: Any) -> None:
    settled(settings, "postgresql")
    [before] = overdue("postgresql", 1, "before")
    database = connections["postgresql"].settings_dict
    with gateway(database["HOST"], int(database["PORT"])) as gate:
        changed = {"HOST": gate.host, "PORT": str(gate.port), "CONN_MAX_AGE": None}
        overrides = [f"settings.DATABASES['postgresql'].update({changed})"]
        with running("postgresql", "--interval", "0.1", "-v2", settings=overrides) as process:
            process.wait_for("2 decided by time, 1 sent again")
            gate.close()
            process.wait_for("LOG ERROR Sessions of 'default' cannot be looked after")
            [meanwhile] = overdue("postgresql", 1, "meanwhile")
            gate.open()
            process.wait_for("LOG WARNING Sessions of 'default' are looked after again")
            wait_until(lambda: statuses(meanwhile) == DONE)
            last = process.stop()
    assert last.endswith("1 outages.")
    assert statuses(before) == DONE
    assert sum("cannot be looked after" in line for line in process.lines) == 1


@pytest.mark.django_db(transaction=True)
def test_once_makes_one_pass_and_ends(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settled(settings)
    [manager] = overdue("default", 1)
    call_command("triggers", "run", "--once")
    assert capsys.readouterr().out.startswith("Done: 2 decided by time, 1 sent again")
    assert statuses(manager) == DONE


class UnknownManager(TriggerManager):
    """A manager that is not registered where its sessions are looked after."""

    name = "run-unknown"


@pytest.mark.django_db(transaction=True)
def test_once_fails_if_a_session_did(settings: Any) -> None:
    settled(settings)
    manager = UnknownManager(DatabaseStorageBackend("broken"))
    manager.default_task_runner_name = "no-such-runner"
    trigger_managers.register(UnknownManager)
    with frozen_time(datetime.now(UTC) - timedelta(days=1)):
        manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
        manager.fire("a")
    trigger_managers.unregister(UnknownManager.name)
    with pytest.raises(CommandError, match=r"1 sessions failed.*The log says why"):
        call_command("triggers", "run", "--once")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--using", "nobody"], "TRIGGERS has no alias 'nobody'"),
        (["--interval", "0"], "'0' is not a number of seconds above 0"),
        (["--interval", "soon"], "'soon' is not a number of seconds above 0"),
        (["--interval", "inf"], "'inf' is not a number of seconds above 0 and up to 86,400"),
        (["--interval", "1e300"], "'1e300' is not a number of seconds above 0 and up to 86,400"),
    ],
)
def test_what_is_typed_wrong_is_said(arguments: list[str], problem: str, settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    with pytest.raises(CommandError, match=re.escape(problem)):
        call_command("triggers", "run", *arguments)


def test_handlers_of_signals_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with _stopped_by_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.wait(PATIENCE)
        assert stop.is_set()
        assert signal.getsignal(signal.SIGTERM) == before, (
            "a second signal does what it always does"
        )
    assert signal.getsignal(signal.SIGTERM) == before
