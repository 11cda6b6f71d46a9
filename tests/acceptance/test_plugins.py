"""Rows E28 and E29, proven by an outsider: the distribution in ``examples/plugins``, installed.

Every process here knows of it what pip has installed, and nothing else: no test imports it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.acceptance import plugin_tasks
from tests.acceptance.rows.test_registration import build_wheel
from tests.integration.celery_sessions import new_prefix
from tests.workers import running_worker

PLUGINS = servers.ROOT / "examples" / "plugins"
DISTRIBUTION = "triggers-example-plugins 1.0.0"
PATIENCE = 120  # seconds that a process may take

FINDER = """
import json, sys
import django
django.setup()
from triggers.manager import trigger_managers
from triggers.runners import task_runners
from triggers.storages import storage_backends
storage = storage_backends.get("directory", "order:42", directory=sys.argv[1])
manager = trigger_managers.get("isolating", storage)
print(json.dumps({
    "classes": [
        f"{type(each).__module__}.{type(each).__qualname__}"
        for each in (manager, storage, task_runners.get("process"))
    ],
    "runner": manager.default_task_runner_name,
    "reference": manager.reference(),
}))
"""

CALLER = """
import json, os, sys, time
import django
django.setup()
from tests import celery_app
broker, prefix, directory, run = sys.argv[1:]
celery_app.make_app(broker, prefix).set_current()
from triggers.manager import trigger_managers
from triggers.storages import storage_backends
storage = storage_backends.get("directory", "order:42", directory=directory)
manager = trigger_managers.get("isolating", storage)
manager.update_configuration({
    "t_here": {"after": ["a"], "run": run},
    "t_worker": {"after": ["a", "b"], "run": run, "using": "celery"},
    "t_y": {"after": ["t_worker"], "run": run},
    "t_z": {"after": ["t_y"], "run": run},
})
manager.fire("a")
manager.fire("b")
end = time.monotonic() + 60
while any(task.name in "t_here t_z" for task in manager.get_unresolved_tasks()):
    assert time.monotonic() < end, storage.debug_repr()
    time.sleep(0.05)
print(json.dumps({"pid": os.getpid(), **{each.name: each.metadata["result"] for each in storage}}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which pip has installed the distribution, from its sources."""
    # A copy: building leaves files behind.
    sources = tmp_path_factory.mktemp("sources") / "plugins"
    shutil.copytree(PLUGINS, sources)
    target = tmp_path_factory.mktemp("site")
    pip_install(target, "--no-build-isolation", str(sources))
    return target


def pip_install(target: Path, *what: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(target)]
    done = subprocess.run([*command, *options, *what], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def environment_with(*installed: Path) -> dict[str, str]:
    """The environment of a process in which these directories are installed."""
    path = os.pathsep.join(map(str, [*installed, servers.ROOT]))
    return servers.subprocess_environment() | {"PYTHONPATH": path}


def python(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd="/",  # where nothing can be imported by chance
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_e28_an_installed_manager_storage_and_runner_are_found_by_name(
    site: Path, tmp_path: Path
) -> None:
    found: dict[str, Any] = json.loads(
        python("-c", FINDER, str(tmp_path), environment=environment_with(site))
    )
    assert found["classes"] == [
        "triggers_example_plugins.manager.IsolatingTriggerManager",
        "triggers_example_plugins.storage.DirectoryStorage",
        "triggers_example_plugins.runner.ProcessRunner",
    ]
    assert found["runner"] == "process"
    assert found["reference"]["name"] == "isolating"
    options = {"directory": str(tmp_path)}
    assert found["reference"]["storage"] == {
        "name": "directory",
        "uid": "order:42",
        "options": options,
    }


@pytest.mark.server("redis")
def test_e28_a_worker_finds_what_is_installed_and_cascades_go_to_the_managers_runner(
    site: Path, tmp_path: Path
) -> None:
    broker, prefix = servers.redis_url(), new_prefix()
    environment = environment_with(site)
    arguments = [broker, prefix, str(tmp_path), plugin_tasks.where.name]
    with running_worker(
        broker,
        prefix,
        settings={"imports": [plugin_tasks.__name__]},
        environment={"PYTHONPATH": environment["PYTHONPATH"]},
    ) as worker:
        told: dict[str, Any] = json.loads(
            python("-c", CALLER, *arguments, environment=environment).splitlines()[-1]
        )
        worker.wait_for("done", instance="t_worker#0", state="SUCCESS")
        assert len(worker.told("done")) == 1, "only what says so runs in Celery"
        by_worker = told["t_worker#0"]
        assert by_worker["parent"] == worker.process.pid
    assert told["t_here#0"]["parent"] == told["pid"], "the manager's runner, in the caller"
    assert told["t_y#0"]["parent"] == by_worker["pid"], "the manager's runner, in the worker"
    assert told["t_z#0"]["parent"] == by_worker["pid"], "and what follows from that"
    ran = [told[f"{name}#0"] for name in ("t_here", "t_worker", "t_y", "t_z")]
    assert len({each["pid"] for each in ran} | {told["pid"]}) == 5
    assert {(each["manager"], each["storage"]) for each in ran} == {
        ("IsolatingTriggerManager", "DirectoryStorage")
    }


def test_e29_the_installed_storage_passes_its_own_tests_with_our_contract(
    site: Path, tmp_path: Path
) -> None:
    tests = tmp_path / "plugins"
    tests.mkdir()
    shutil.copy(PLUGINS / "pyproject.toml", tests)
    shutil.copytree(PLUGINS / "tests", tests / "tests")
    environment = environment_with(site)
    environment = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTEST_", "TRIGGERS_", "DJANGO_"))
    }
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tests), "-c"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tests / "pyproject.toml"), str(tests)],
        cwd=tests,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 80, "the contract is among them"


def test_e28_manage_py_check_names_plugins_that_cannot_be_used(site: Path, tmp_path: Path) -> None:
    rival = tmp_path / "site"
    wheel = build_wheel(
        tmp_path,
        name="rival_plugins",
        files={"rival.py": "import no_such_dependency\n"},
        entry_points="""
            [triggers.storages]
            directory = rival:Directory
            [triggers.runners]
            faster = rival:Faster
            """,
    )
    pip_install(rival, str(wheel))
    check = ["-m", "django", "check"]
    broker = {"CELERY_BROKER_URL": "memory://"}
    assert "no issues" in python(*check, environment=environment_with(site) | broker)
    told = python(*check, environment=environment_with(site, rival) | broker)
    assert told.count("triggers.W004") == 2
    assert (
        "'directory' in triggers.storages is declared more than once: by "
        "'directory = rival:Directory' of distribution rival-plugins 1.0 and "
        "'directory = triggers_example_plugins.storage:DirectoryStorage' of distribution "
        f"{DISTRIBUTION}."
    ) in told
    assert (
        "'faster = rival:Faster' of distribution rival-plugins 1.0, group triggers.runners, cannot "
        "be used: 'rival' needs the module 'no_such_dependency', which is not installed."
    ) in told
