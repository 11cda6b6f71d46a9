"""Beat sends what looks after sessions, a worker does it, and what is late is dropped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import celery_app, servers, worker_tasks
from tests.integration.celery_sessions import current, messages_in, new_prefix, statuses
from tests.workers import running_worker
from triggers import celery_tasks, recovery, rounds, timers
from triggers.celery_tasks import beat_schedule
from triggers.manager import TriggerManager, get_trigger_manager
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import frozen_time, run_tasks_locally
from triggers.testing.racing import Recorded

PATIENCE = 60  # seconds


@contextmanager
def running_beat(broker: str, prefix: str, settings: dict[str, Any], place: Path) -> Iterator[None]:
    """A ``celery beat`` process."""
    command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.celery_app", "beat"]
    command += ["--schedule", str(place / "schedule"), "--pidfile="]
    environment = servers.subprocess_environment() | {
        celery_app.BROKER: broker,
        celery_app.PREFIX: prefix,
        celery_app.SETTINGS: json.dumps(settings),
    }
    environment.pop(celery_app.REPORT, None)
    with (place / "beat.log").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=servers.ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            has_ended = process.poll() is not None
            process.kill()
            process.wait()
            assert not has_ended, (place / "beat.log").read_text()


def settings_of(**schedule: Any) -> dict[str, Any]:
    return {
        "imports": ["tests.worker_tasks", "triggers.celery_tasks"],
        "beat_schedule": beat_schedule(**schedule),
    }


@pytest.mark.server("redis")
@pytest.mark.django_db(transaction=True)
def test_a_deadline_is_noticed_and_what_follows_is_run_by_a_worker(tmp_path: Path) -> None:
    broker, prefix = servers.redis_url(), new_prefix()
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex))
    manager.update_configuration(
        {
            "t_join": {"after": ["a", "b"], "within": "PT0.5S", "run": worker_tasks.Tell.name},
            "t_late": {"andEvery": "t_join:expired", "run": worker_tasks.Tell.name},
        }
    )
    manager.fire("a")
    settings = settings_of(interval=0.5)
    with (
        running_worker(broker, prefix, settings=settings) as worker,
        running_beat(broker, prefix, settings, tmp_path),
    ):
        worker.wait_for("done", session=manager.storage.uid, instance="t_late#0")
    assert statuses(manager) == {"t_join#0": "abandoned", "t_late#0": "finished"}


@pytest.mark.server("redis")
@pytest.mark.django_db(transaction=True)
def test_messages_that_came_too_late_are_dropped(tmp_path: Path) -> None:
    """While the workers are busy or away, ticks pile up; no worker does them all afterwards."""
    broker, prefix = servers.redis_url(), new_prefix()
    settings = settings_of(interval=0.2, recovery_interval=3600.0)
    app = celery_app.make_app(broker, prefix)
    with current(app):
        with running_beat(broker, prefix, settings, tmp_path):
            wait_until(lambda: messages_in(app) >= 5)
        waiting = messages_in(app)
    with running_worker(broker, prefix, settings=settings) as worker:
        wait_until(lambda: worker.output.count("Discarding revoked task: triggers.fire") == waiting)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_each_message_expires_when_the_next_one_is_due() -> None:
    schedule = beat_schedule(interval=2.0, purge_older_than=timedelta(days=90), queue="slow")
    assert schedule == {
        "triggers.fire_due": {
            "task": "triggers.fire_due",
            "schedule": 2.0,
            "kwargs": {"using": None},
            "options": {"expires": 2.0, "queue": "slow"},
        },
        "triggers.redeliver": {
            "task": "triggers.redeliver",
            "schedule": 15.0,
            "kwargs": {"using": None},
            "options": {"expires": 15.0, "queue": "slow"},
        },
        "triggers.purge": {
            "task": "triggers.purge",
            "schedule": 86400.0,
            "kwargs": {"older_than": "P90D", "using": None},
            "options": {"expires": 86400.0, "queue": "slow"},
        },
    }
    assert beat_schedule(interval=60)["triggers.redeliver"]["schedule"] == 60


@pytest.mark.parametrize(
    "times",
    [
        {"interval": 0},
        {"recovery_interval": -1.0},
        {"purge_older_than": timedelta(0)},
    ],
)
def test_times_that_are_none_are_refused(times: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(times))} must be above"):
        beat_schedule(**times)


def test_the_tasks_do_what_the_functions_do(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory", "RUNNER": "synchronous"}}
    MemoryStorageBackend.clear()
    manager = get_trigger_manager("s")
    start = manager.storage.now()
    with run_tasks_locally("synchronous"):
        with frozen_time(start):
            manager.update_configuration(
                {
                    "t_x": {"after": ["a", "b"], "within": "PT1H", "run": Recorded.name},
                    "t_y": {"after": ["a"], "run": Recorded.name},
                }
            )
            manager.default_task_runner_name = "no-such-runner"
            manager.fire("a")
        with frozen_time(start + timedelta(days=1)):
            celery_tasks.fire_due()
            assert str(manager.storage["t_x#0"].status) == "abandoned"
            celery_tasks.redeliver()
            assert str(manager.storage["t_y#0"].status) == "finished"
        with frozen_time(start + timedelta(days=100)):
            celery_tasks.purge(older_than="P90D")
    assert manager.storage.standing().phase == "purged"
    MemoryStorageBackend.clear()


def test_sessions_that_fail_are_not_tried_at_each_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[rounds.Rounds] = []
    for module, name in ((timers, "fire_due"), (recovery, "redeliver")):
        monkeypatch.setattr(module, name, lambda *_, rounds, **__: given.append(rounds))
    celery_tasks.fire_due()
    celery_tasks.redeliver()
    celery_tasks.fire_due()
    assert given[0] is given[1] is given[2]
    assert type(given[0]) is rounds.Rounds


def test_settings_may_import_it() -> None:
    code = (
        "import sys, triggers.celery_tasks as t; t.beat_schedule();"
        "assert 'django.conf' not in sys.modules and 'triggers.manager' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE, env=environment)
