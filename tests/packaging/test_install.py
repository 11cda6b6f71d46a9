"""The wheel alone, in an environment of its own, outside the checkout."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from tests import servers
from tests.docs import snippets
from tests.packaging.distributions import environment, run
from tests.servers import ROOT

SETTINGS = """

INSTALLED_APPS += ["triggers", "parcels"]

DATABASES["default"]["OPTIONS"] = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}

TRIGGERS = {"default": {"STORAGE": "database", "RUNNER": "threading"}}
"""

TASKS = """
from triggers import trigger_task


@trigger_task
def ship(context):
    return {"parcel": context.trigger_kwargs["ordered"]["items"]}
"""

FIRE = """
from triggers import get_trigger_manager
from triggers.runners import ThreadingTaskRunner

manager = get_trigger_manager("order:42")
manager.update_configuration(
    {"t_ship": {"after": ["ordered", "paid"], "run": "parcels.tasks.ship"}}
)
manager.fire("paid")
manager.fire("ordered", {"items": 3})
ThreadingTaskRunner.join_all(60)
instance = manager.storage["t_ship#0"]
print(instance.status, instance.metadata["result"])
"""


def test_it_is_installed_with_all_that_it_needs_and_no_extra(python: Path, tmp_path: Path) -> None:
    run(python, "-m", "pip", "--disable-pip-version-check", "check", cwd=tmp_path)
    listed = run(
        python, "-m", "pip", "--disable-pip-version-check", "list", "--format=json", cwd=tmp_path
    )
    names = {each["name"].lower() for each in json.loads(listed.splitlines()[-1])}
    assert {"triggers", "django", "celery"} <= names
    extras = {"redis", "python-redis-lock", "psycopg", "mysqlclient", "django-redis", "pytest"}
    assert names & extras == set()
    where = run(python, "-c", "import triggers; print(triggers.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(python.parent.parent)


def test_every_registered_class_can_be_loaded_without_extras(python: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        "for group in ('managers', 'storages', 'runners'):\n"
        "    for each in entry_points(group=f'triggers.{group}'):\n"
        "        print(each.name, each.load().name)\n"
    )
    settings = "from django.conf import settings; settings.configure(INSTALLED_APPS=['triggers'])\n"
    loaded = run(
        python, "-c", f"{settings}import django; django.setup()\n{code}", cwd=tmp_path
    ).splitlines()
    assert len(loaded) >= 8
    assert [each for each in loaded if len(set(each.split())) != 1] == []


def test_the_first_example_of_the_readme_runs(python: Path, tmp_path: Path) -> None:
    page = snippets.read(ROOT / "README.rst")
    [program] = [each for each in page.snippets if "hello.py <<" in each.text]
    [expected] = [each for each in page.snippets if each.is_output]
    run("bash", "-e", "-c", program.text, cwd=tmp_path)
    assert run(python, "hello.py", cwd=tmp_path).strip() == expected.text


@pytest.fixture
def project(python: Path, tmp_path: Path) -> Path:
    """A fresh Django project with the app, as the README says to make it."""
    run(python, "-m", "django", "startproject", "shop", cwd=tmp_path)
    folder = tmp_path / "shop"
    with (folder / "shop" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    (folder / "parcels").mkdir()
    (folder / "parcels" / "__init__.py").touch()
    (folder / "parcels" / "tasks.py").write_text(TASKS)
    return folder


def test_a_new_project_on_sqlite_checks_migrates_fires_runs_and_explains(
    python: Path, project: Path
) -> None:
    def manage(*arguments: str) -> str:
        return run(python, "manage.py", *arguments, cwd=project)

    manage("migrate", "--verbosity=0")
    assert "no issues" in manage("check", "--fail-level", "WARNING")
    assert "No changes" in manage("makemigrations", "--check", "--dry-run")
    assert manage("shell", "--command", FIRE).splitlines()[-1] == "finished {'parcel': 3}"
    assert "t_ship#0" in manage("triggers", "explain", "order:42")
    # No broker answers there, and nothing but the worker would need one.
    assert "no issues" in manage("check", "--deploy", "--tag", "triggers")


SETTINGS_OF_CELERY = """
TRIGGERS = {{
    "default": {{"STORAGE": "redis", "OPTIONS": {{"url": "{url}", "prefix": "{prefix}"}}}},
}}
CELERY_BROKER_URL = "{url}"
CELERY_BROKER_TRANSPORT_OPTIONS = {{"global_keyprefix": "{prefix}"}}
"""

CELERY = """
import os
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""

FIRE_AND_WAIT = (
    FIRE[: FIRE.index("ThreadingTaskRunner.join_all")].replace(
        "from triggers.runners import ThreadingTaskRunner\n", "import time\n"
    )
    + """
until = time.monotonic() + 60
while manager.storage["t_ship#0"].status != "finished" and time.monotonic() < until:
    time.sleep(0.1)
print(manager.storage["t_ship#0"].status)
"""
)


@pytest.mark.server("redis")
def test_the_extra_for_redis_brings_all_that_a_worker_on_redis_needs(
    python_with_redis: Path, project: Path
) -> None:
    settings = SETTINGS_OF_CELERY.format(url=servers.redis_url(), prefix=f"installed-{uuid4().hex}")
    with (project / "shop" / "settings.py").open("a") as file:
        file.write(settings)
    (project / "shop" / "celery.py").write_text(CELERY)
    (project / "shop" / "__init__.py").write_text("from shop.celery import app\n")
    command = [str(python_with_redis), "-m", "celery", "-A", "shop", "worker", "--pool", "solo"]
    with (project / "log").open("w") as log:
        worker = subprocess.Popen(
            command, cwd=project, env=environment(), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            said = run(
                python_with_redis, "manage.py", "shell", "--command", FIRE_AND_WAIT, cwd=project
            )
        finally:
            worker.terminate()
            worker.wait(60)
    assert said.splitlines()[-1] == "finished", (project / "log").read_text()
