"""Chapters 12 to 14: trigger managers, storage backends, task runners."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.app.tasks import define
from tests.acceptance.snippets.conftest import Play, statuses
from triggers import CacheStorageBackend
from triggers.manager import TriggerManager, trigger_managers
from triggers.runners import BaseTaskRunner, task_runners
from triggers.types import TaskInstance

pytestmark = pytest.mark.server("redis")


class CustomRunner(BaseTaskRunner):
    """What the snippets call ``app.triggers.CustomRunner``."""

    name = "custom_runner"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        self.execute(manager, task_instance)
        manager.update_instance_metadata(task_instance, {"runner": self.name})


class CustomStorageBackend(CacheStorageBackend):
    """What the snippets call ``app.triggers.CustomStorageBackend``."""

    name = "custom_storage"


@pytest.fixture(autouse=True)
def _own_classes() -> Iterator[None]:
    task_runners.register(CustomRunner)
    define("app.tasks.ImportSubject")
    yield
    task_runners.unregister(CustomRunner.name)
    trigger_managers.unregister("custom")


def test_chapter_12_initializing_a_manager(play: Play) -> None:
    names = play(
        """
        from triggers import TriggerManager
        trigger_manager = TriggerManager(storage_backend)
        """,
        storage_backend=CacheStorageBackend("42"),
    )
    assert names["trigger_manager"].fire("a").seq == 1


def test_chapter_12_2_1_post_replay_finds_the_failed_instance(play: Play) -> None:
    # Repaired: "self", and the colon after the signature. Added: the class around the hook, and
    # what it does with what it found.
    found: list[str] = []
    names = play(
        """
        class CustomManager(TriggerManager):
            name = 'custom'

            def _post_replay(self, task_instance):
              # type: (TaskInstance) -> NoReturn
              parent_name = task_instance.metadata['parent'] # type: Text
              parent_instance = self.storage[parent_name] # type: TaskInstance
              found.append(parent_instance.name)
        """,
        "app.triggers",
        TriggerManager=TriggerManager,
        found=found,
    )
    manager = trigger_managers.register(names["CustomManager"])(CacheStorageBackend("42"))
    manager.update_configuration({"t_x": {"after": ["a"], "run": "app.tasks.NoSuchTask"}})
    manager.fire("a")
    manager.replay_failed_instance("t_x#0")
    assert found == ["t_x#0"]


@pytest.mark.parametrize(
    ("group", "entry_point"),
    [
        ("triggers.managers", "custom_manager = app.triggers:CustomManager"),
        ("triggers.storages", "custom_storage = app.triggers:CustomStorageBackend"),
        ("triggers.runners", "custom_runner = app.triggers:CustomRunner"),
    ],
)
def test_chapters_12_2_2_13_2_1_and_14_3_2_setup_py(
    tmp_path: Path, group: str, entry_point: str
) -> None:
    pytest.importorskip("setuptools", reason="the printed setup.py needs setuptools")
    # Filled in: "..." is the name. Repaired: indentation and the last parenthesis.
    (tmp_path / "setup.py").write_text(
        textwrap.dedent(f"""
            from setuptools import setup

            setup(
                name = 'app',

                entry_points = {{
                    '{group}': [
                        '{entry_point}',
                    ],
                }},
            )
        """)
    )
    command = [sys.executable, "setup.py", "--quiet", "egg_info"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    code = f"from importlib.metadata import entry_points as e; print(*e(group={group!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    name, _equals, value = entry_point.split()
    assert f"name='{name}', value='{value}'" in done.stdout


def test_chapter_12_2_2_using_a_manager_of_ones_own(play: Play) -> None:
    class CustomManager(TriggerManager):
        name = "custom"

    play("", "app.triggers", CustomManager=CustomManager)
    names = play(
        """
        from app.triggers import CustomManager
        from triggers import CacheStorageBackend

        trigger_manager = \\
           CustomManager (CacheStorageBackend(session_uid))
        """,
        session_uid="42",
    )
    assert type(names["trigger_manager"]) is CustomManager


def test_chapter_13_1_1_getting_and_iterating(play: Play, trigger_manager: TriggerManager) -> None:
    # Filled in: "..." collects the names.
    trigger_manager.update_configuration(
        {"t_importSubject": {"andEvery": "pageReceived", "run": "app.tasks.ImportSubject"}}
    )
    trigger_manager.fire("pageReceived")
    trigger_manager.fire("pageReceived")
    names = play(
        """
        task_instance = trigger_manager.storage['t_importSubject#0']
        found = [task_instance.name]
        for task_instance in iter(trigger_manager.storage):
            found.append(task_instance.name)
        """,
        "app.views",
        trigger_manager=trigger_manager,
    )
    assert sorted(names["found"]) == ["t_importSubject#0", "t_importSubject#0", "t_importSubject#1"]


def test_chapter_13_2_1_using_a_storage_of_ones_own(play: Play) -> None:
    play("", "app.triggers", CustomStorageBackend=CustomStorageBackend)
    names = play(
        """
        from app.triggers import CustomStorageBackend
        from triggers import TriggerManager

        trigger_manager =\\
           TriggerManager(CustomStorageBackend(session_uid))
        """,
        session_uid="42",
    )
    assert type(names["trigger_manager"].storage) is CustomStorageBackend


def test_chapter_14_3_3_using_a_runner_for_one_task(
    play: Play, trigger_manager: TriggerManager
) -> None:
    # Filled in: the first "..." is the after and run directives, the second other tasks.
    play("", "app.triggers", CustomRunner=CustomRunner)
    play(
        """
        from app.triggers import CustomRunner

        trigger_manager.update_configuration({
           't_importSubject': {
                  'after': ['a'],
                  'run': 'app.tasks.ImportSubject',
                  'using': CustomRunner.name,
             },
        })
        """,
        "app.views",
        trigger_manager=trigger_manager,
    )
    trigger_manager.fire("a")
    assert trigger_manager.storage["t_importSubject#0"].metadata["runner"] == "custom_runner"


def test_chapter_14_3_3_default_task_runner_name(play: Play) -> None:
    # Filled in: "..." is a storage, and a trigger. Repaired: the name "tirgger_manager".
    surroundings: dict[str, Any] = {
        "CustomRunner": CustomRunner,
        "TriggerManager": TriggerManager,
        "storage": CacheStorageBackend("42"),
        "configuration": {"t_x": {"after": ["a"], "run": "app.tasks.ImportSubject"}},
    }
    names = play(
        """
        class CustomTriggerManager(TriggerManager):
           name = 'custom'
           default_task_runner_name = CustomRunner.name

        trigger_manager = CustomTriggerManager(storage)
        trigger_manager.update_configuration(configuration)
        trigger_manager.fire('a')
        """,
        "app.views",
        **surroundings,
    )
    manager = names["trigger_manager"]
    assert statuses(manager) == {"t_x#0": "finished"}
    assert manager.storage["t_x#0"].metadata["runner"] == "custom_runner"
