"""Rows E30, E31, E33 and P11: Redis caches, real Celery workers, no Redis at all, any storage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from django.test import override_settings

from tests import servers
from tests.acceptance.rows.sessions import got, show, statuses
from tests.celery_app import make_app
from tests.integration.celery_sessions import (
    BROKERS,
    current,
    manager_with,
    new_prefix,
    result_of,
    url_of,
    wait_for_end,
)
from tests.workers import Worker, running_worker
from triggers import CacheStorageBackend, TriggerManager, get_trigger_manager
from triggers.exceptions import SettingsError
from triggers.manager import manager_from

JOIN = {"t_join": {"after": ["a", "b"], "run": show.name}}


@pytest.mark.server("redis")
@pytest.mark.parametrize("alias", ["default", "django-redis"])
def test_e30_a_join_runs_once_on_each_kind_of_redis_cache(alias: str) -> None:
    uid = uuid4().hex
    TriggerManager(CacheStorageBackend(uid, cache=alias)).update_configuration(JOIN)
    TriggerManager(CacheStorageBackend(uid, cache=alias)).fire("b", {"n": 2})
    manager = TriggerManager(CacheStorageBackend(uid, cache=alias))
    assert manager.fire("a", {"n": 1}).scheduled == ("t_join#0",)
    assert got(manager, "t_join#0") == {"a": {"n": 1}, "b": {"n": 2}}
    manager.storage.delete()


@pytest.mark.server("redis")
def test_e30_a_worker_opens_the_same_cache_with_the_same_timeout() -> None:
    manager = TriggerManager(CacheStorageBackend("e30", "django-redis", 3600))
    there = manager_from(manager.reference()).storage
    assert isinstance(there, CacheStorageBackend)
    assert (there.cache, there.timeout) == ("django-redis", 3600)


def test_e30_a_cache_that_cannot_lock_is_refused_and_what_to_use_is_named() -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    with pytest.raises(SettingsError, match=r"django\.core\.cache\.backends\.redis\.RedisCache"):
        TriggerManager(CacheStorageBackend("e30", cache="memory")).fire("a")


@pytest.fixture(params=BROKERS)
def celery(request: pytest.FixtureRequest) -> Iterator[tuple[Celery, Worker]]:
    """An app on a broker, and a worker that takes its messages."""
    broker, prefix = url_of(request.param), new_prefix()
    app = make_app(broker, prefix)
    with current(app), running_worker(broker, prefix) as worker:
        yield app, worker


@pytest.mark.server("postgresql")
@pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
def test_e31_a_celery_worker_runs_a_join_and_what_follows_from_it(
    celery: tuple[Celery, Worker],
) -> None:
    _app, worker = celery
    manager = manager_with(t_first={"after": ["a", "b"]}, t_second={"after": ["t_first"]})
    manager.fire("b", {"n": 2})
    manager.fire("a", {"n": 1})
    wait_for_end(worker, manager, "t_second#0")
    assert statuses(manager) == {"t_first#0": "finished", "t_second#0": "finished"}
    pids = {result_of(manager, name)["pid"] for name in ("t_first#0", "t_second#0")}
    assert os.getpid() not in pids


WITHOUT_REDIS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("redis", "redis_lock", "django_redis"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["triggers"],
    USE_TZ=True,
    DATABASES={"default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": sys.argv[1],
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE", "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }},
    TRIGGERS={
        "default": {"RUNNER": "threading"},
        "quick": {"STORAGE": "memory", "RUNNER": "threading"},
    },
)

import triggers

django.setup()

from django.core.management import call_command

call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING", tags=["triggers"])

from triggers import get_trigger_manager, trigger_task
from triggers.recovery import redeliver
from triggers.runners import ThreadingTaskRunner
from triggers.timers import fire_due

@trigger_task
def join(context):
    return context.trigger_kwargs["a"]

for alias in ("default", "quick"):
    manager = get_trigger_manager("order:1", using=alias)
    manager.default_task_runner_name = "threading"
    manager.update_configuration({"t_x": {"after": ["a", "b"], "run": join.name}})
    manager.fire("b")
    manager.fire("a", {"n": 1})
    ThreadingTaskRunner.join_all(60)
    redeliver(alias)
    fire_due(using=alias)
    print(alias, manager.storage["t_x#0"].status, manager.storage["t_x#0"].metadata["result"])

for name in ("cache", "redis"):
    try:
        triggers.storages.storage_backends.get(name, "order:1").plan()
    except Exception as error:
        print(name, type(error).__name__, str(error).partition("Run: ")[2])
"""


def test_e33_everything_works_where_redis_is_not_installed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_REDIS, str(tmp_path / "db.sqlite3")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=servers.ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        "default finished {'n': 1}",
        "quick finished {'n': 1}",
        "cache MissingPackages pip install redis python-redis-lock",
        "redis MissingPackages pip install redis",
    ]


@pytest.mark.server("redis")
def test_e33_many_processes_take_turns_at_the_lock_in_redis_without_a_deadlock(
    tmp_path: Path,
) -> None:
    uid, writers, firings = uuid4().hex, 8, 10
    TriggerManager(CacheStorageBackend(uid)).update_configuration(
        {"t_count": {"andEvery": "a", "run": show.name}}
    )
    code = (
        "import django; django.setup()\n"
        "from triggers import CacheStorageBackend, TriggerManager\n"
        "from triggers.testing import run_tasks_locally\n"
        "with run_tasks_locally('synchronous'):\n"
        f"    for _ in range({firings}):\n"
        f"        TriggerManager(CacheStorageBackend({uid!r})).fire('a')\n"
    )
    environment = servers.subprocess_environment()
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=servers.ROOT)
        for _ in range(writers)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * writers
    storage = CacheStorageBackend(uid)
    assert len(storage.instances_of_task("t_count")) == writers * firings
    storage.delete()


def storages() -> list[Any]:
    """A ``TRIGGERS`` setting for each place where state can be."""
    database = pytest.mark.django_db(transaction=True)
    postgresql = pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
    redis = pytest.mark.server("redis")
    return [
        pytest.param({"STORAGE": "memory"}, id="memory"),
        pytest.param({"STORAGE": "database"}, id="sqlite", marks=database),
        pytest.param(
            {"STORAGE": "database", "OPTIONS": {"using": "postgresql"}},
            id="postgresql",
            marks=[postgresql, pytest.mark.server("postgresql")],
        ),
        pytest.param({"STORAGE": "cache"}, id="cache", marks=redis),
        pytest.param({"STORAGE": "redis", "OPTIONS": {"prefix": servers.RUN_ID}}, marks=redis),
    ]


@pytest.mark.parametrize("setting", storages())
def test_p11_a_setting_says_where_the_state_is(
    setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting["STORAGE"] == "redis":
        # The address comes from the environment, as it does in most deployments.
        monkeypatch.setenv("TRIGGERS_REDIS_URL", servers.redis_url())
    uid = uuid4().hex
    with override_settings(TRIGGERS={"default": setting}):
        manager = get_trigger_manager(uid)
        assert manager.storage.name == setting["STORAGE"]
        manager.update_configuration(JOIN)
        manager.fire("a")
        get_trigger_manager(uid).fire("b")
        assert statuses(get_trigger_manager(uid)) == {"t_join#0": "finished"}
        manager.storage.delete()
