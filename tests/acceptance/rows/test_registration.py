"""Row E28: managers, storages and runners of a distribution that somebody installs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT
from triggers.exceptions import UnknownBackend
from triggers.manager import TriggerManager, trigger_managers
from triggers.runners import task_runners
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend

TRIGGERS_PY = '''
"""What an application brings along: a manager, a storage and a runner."""

import json
import os
from pathlib import Path

from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner
from triggers.storages.base import BaseTriggerStorage

FOLDER = Path(os.environ["SURVEY_FOLDER"])


class CustomRunner(BaseTaskRunner):
    name = "custom_runner"

    def run(self, manager, task_instance):
        message = self.task_kwargs(manager, task_instance)
        name = self.resolve(task_instance.config.run).name
        with (FOLDER / "messages").open("a") as file:
            file.write(json.dumps([name, message]) + "\\n")


class CustomManager(TriggerManager):
    name = "custom_manager"
    default_task_runner_name = CustomRunner.name

    def _post_fire(self, trigger_name, tasks_scheduled):
        with (FOLDER / "fired").open("a") as file:
            file.write(f"{trigger_name}\\n")


class CustomStorageBackend(BaseTriggerStorage):
    name = "custom_storage"

    def _load_from_backend(self):
        path = FOLDER / self.uid
        return json.loads(path.read_text()) if path.exists() else ({}, {}, {})

    def _save(self):
        parts = [self._configs, self._instances, self._metas]
        (FOLDER / self.uid).write_text(json.dumps([self._serialize(part) for part in parts]))
'''

TASKS_PY = """
from triggers.task import TriggerTask


class Echo(TriggerTask):
    def _run(self, context):
        return {"got": context.trigger_kwargs, "manager": type(context.manager).__name__}
"""

ENTRY_POINTS = """
[triggers.managers]
custom_manager = row_survey.triggers:CustomManager

[triggers.storages]
custom_storage = row_survey.triggers:CustomStorageBackend

[triggers.runners]
custom_runner = row_survey.triggers:CustomRunner
"""

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

CALLER = """
import django
django.setup()
from row_survey.triggers import CustomManager, CustomStorageBackend
manager = CustomManager(CustomStorageBackend("applicant-42"))
manager.update_configuration({
    "t_x": {"after": ["a"], "run": "row_survey.tasks.Echo"},
    "t_y": {"after": ["t_x"], "run": "row_survey.tasks.Echo"},
})
manager.fire("a", {"n": 1})
"""

# A worker knows the message, and the names of what is installed; nothing else.
WORKER = """
import json, sys
import django
django.setup()
from triggers.runners.base import resolve
name, message = json.loads(sys.argv[1])
resolve(name).run(**message)
"""

READER = """
import json
import django
django.setup()
from triggers.manager import trigger_managers
from triggers.storages import storage_backends
storage = storage_backends.get("custom_storage", "applicant-42")
manager = trigger_managers.get("custom_manager", storage)
print(json.dumps({
    "manager": type(manager).__name__,
    "instances": {each.name: [each.status, each.metadata["result"]] for each in manager.storage},
}))
"""


SURVEY = {
    "row_survey/__init__.py": "",
    "row_survey/triggers.py": TRIGGERS_PY,
    "row_survey/tasks.py": TASKS_PY,
}


def build_wheel(folder: Path, name: str, files: Mapping[str, str], entry_points: str) -> Path:
    """Pack version 1.0 of a distribution, as a build tool would.

    :param name: of the distribution, with underscores.
    :param files: the text of each file, by its path.
    """
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
    packed = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": textwrap.dedent(entry_points),
    }
    record = []
    for path, text in packed.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record.append(f"{path},sha256={digest.decode()},{len(text.encode())}")
    packed[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in packed.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the distribution is installed."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(site)]
    wheel = build_wheel(tmp_path, "row_survey", SURVEY, ENTRY_POINTS)
    subprocess.run([*command, *options, str(wheel)], check=True, timeout=120)
    (tmp_path / "folder").mkdir()
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
        "SURVEY_FOLDER": str(tmp_path / "folder"),
    }


def run(code: str, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def messages(environment: dict[str, str]) -> list[str]:
    return (Path(environment["SURVEY_FOLDER"]) / "messages").read_text().splitlines()


def test_e28_what_entry_points_name_is_found_by_callers_and_workers(
    environment: dict[str, str],
) -> None:
    run(CALLER, environment)
    [first] = messages(environment)
    run(WORKER, environment, first)
    [_first, second] = messages(environment)
    run(WORKER, environment, second)
    found: dict[str, Any] = json.loads(run(READER, environment))
    assert found["manager"] == "CustomManager"
    echoed = {"got": {"a": {"n": 1}}, "manager": "CustomManager"}
    assert found["instances"] == {
        "t_x#0": ["finished", echoed],
        "t_y#0": ["finished", {"got": {"t_x": echoed}, "manager": "CustomManager"}],
    }
    fired = (Path(environment["SURVEY_FOLDER"]) / "fired").read_text().split()
    assert sorted(fired) == ["a", "t_x", "t_y"]


def test_e28_registries_find_the_bundled_classes_by_name() -> None:
    storage = storage_backends.get("memory", "applicant:42")
    assert type(storage) is MemoryStorageBackend
    assert storage.uid == "applicant:42"
    manager = trigger_managers.get("default", storage)
    assert type(manager) is TriggerManager
    assert manager.storage is storage
    names = {"memory", "database", "cache"}
    assert {name: storage_backends.get_class(name).name for name in names} == {
        name: name for name in names
    }


@pytest.mark.parametrize(
    ("registry", "group"),
    [
        (trigger_managers, "triggers.managers"),
        (storage_backends, "triggers.storages"),
        (task_runners, "triggers.runners"),
    ],
)
def test_e28_an_unknown_name_is_answered_with_the_known_ones(registry: Any, group: str) -> None:
    with pytest.raises(UnknownBackend, match=group) as caught:
        registry.get_class("nobody")
    assert all(name in str(caught.value) for name in registry.names())
    assert "nobody" not in registry


def test_e28_a_class_without_a_name_or_of_the_wrong_kind_is_refused() -> None:
    nameless = type("Nameless", (TriggerManager,), {"name": ""})
    for wrong in (nameless, MemoryStorageBackend):
        with pytest.raises(UnknownBackend, match=wrong.__name__):
            trigger_managers.register(wrong)


def test_e28_a_manager_of_ones_own_needs_its_name_and_nothing_else() -> None:
    class CustomManager(TriggerManager):
        name = "row-tests-custom"

    trigger_managers.register(CustomManager)
    try:
        manager = trigger_managers.get("row-tests-custom", MemoryStorageBackend("42"))
    finally:
        trigger_managers.unregister("row-tests-custom")
    assert type(manager) is CustomManager
