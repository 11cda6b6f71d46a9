"""The storage keeps every promise that those of ``triggers`` keep, and two of its own."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings

from triggers.exceptions import SettingsError, StorageUnavailable
from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.testing import StorageContract, frozen_time
from triggers_example_plugins.storage import DirectoryStorage


class TestDirectoryStorage(StorageContract):
    storage = "triggers_example_plugins.storage:DirectoryStorage"
    options = {"directory": str(settings.DIRECTORY / "contract")}
    sessions = 20  # joins that are raced for


def test_it_is_found_by_its_name_with_the_options_of_the_settings() -> None:
    storage = storage_backends.get("directory", "order:42")
    assert type(storage) is DirectoryStorage
    assert storage.options == settings.TRIGGERS["default"]["OPTIONS"]


def test_a_session_is_one_file_which_any_uid_has() -> None:
    for uid in ("../../x", "x" * 255, "a/b", "ü ☃"):
        storage = storage_backends.get("directory", uid)
        TriggerManager(storage).fire("a", {"n": 1})
        assert storage.path.parent == storage.directory
        assert json.loads(storage.path.read_text())["uid"] == uid
        assert storage_backends.get("directory", uid).latest_kwargs == {"a": {"n": 1}}


def test_a_session_that_is_deleted_leaves_no_file_behind(tmp_path: Path) -> None:
    storage = DirectoryStorage("order:1", directory=str(tmp_path / "made later"))
    storage.delete()
    TriggerManager(storage).fire("a")
    storage.delete()
    assert list(storage.directory.iterdir()) == []
    assert storage.latest_kwargs == {}


def test_a_path_that_depends_on_where_a_process_was_started_is_refused() -> None:
    with pytest.raises(SettingsError, match="absolute path, got 'sessions'"):
        DirectoryStorage("s", directory="sessions")


def test_a_place_that_cannot_be_written_is_unavailable_and_nothing_is_fired(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    storage = DirectoryStorage("s", directory=str(tmp_path / "file" / "sessions"))
    with pytest.raises(StorageUnavailable, match="directory storage is unavailable"):
        TriggerManager(storage).fire("a")


def test_a_damaged_file_is_named_and_keeps_recovery_from_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, other = (DirectoryStorage(uuid4().hex, directory=str(tmp_path)) for _ in range(2))
    for storage in (damaged, other):
        TriggerManager(storage).fire("a")
    damaged.path.write_text(damaged.path.read_text()[:-9])
    with pytest.raises(StorageUnavailable, match=damaged.path.name):
        TriggerManager(damaged).fire("b")
    assert DirectoryStorage.sessions(10, **other.options) == [other.uid]
    assert damaged.path.name in caplog.text
    never = datetime(2000, 1, 1, tzinfo=UTC)
    assert DirectoryStorage.sessions(10, unchanged_since=never, **other.options) == []


def test_sessions_that_are_due_for_longest_come_first(tmp_path: Path) -> None:
    options = {"directory": str(tmp_path)}
    start = datetime(2026, 11, 21, 12, tzinfo=UTC)
    tasks = {
        "t_sent": {"after": ["a"], "run": "x.X"},
        "t_join": {"after": ["a", "b"], "within": "P1D", "run": "x.X"},
    }
    for hours in (5, 1, 4, 2, 3):
        manager = TriggerManager(DirectoryStorage(f"due {hours}", **options))
        manager.default_task_runner_name = "no-such-runner"
        with frozen_time(start + timedelta(hours=hours)):
            manager.update_configuration(tasks)
            manager.fire("a")
    first = ["due 1", "due 2", "due 3"]
    with frozen_time(start + timedelta(days=2)):
        assert DirectoryStorage.overdue(3, **options) == first
        assert DirectoryStorage.ticking(3, None, **options) == first
    until = start + timedelta(days=1, hours=2)
    assert DirectoryStorage.ticking(9, until, **options) == ["due 1", "due 2"]
