"""The lock of storages that only load and save holds across threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connections, transaction

from tests.contract.custom_storage import FolderStorage
from tests.servers import database_params, subprocess_environment
from triggers.exceptions import StorageUnavailable
from triggers.locking import session_lock
from triggers.manager import TriggerManager
from triggers.testing.racing import Recorded

COUNT = """
import sys
import django
django.setup()
from pathlib import Path
from triggers.locking import session_lock
from triggers.manager import TriggerManager
from triggers.testing.racing import Recorded
path, alias = Path(sys.argv[1]), sys.argv[2]
for _ in range(40):
    with session_lock("counted", alias):
        path.write_text(str(int(path.read_text()) + 1))
"""


@pytest.mark.parametrize("alias", database_params())
def test_processes_take_turns(alias: str, tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, str(path), alias],
            env=subprocess_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        _output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert path.read_text() == "120"


@pytest.mark.parametrize("alias", database_params())
def test_the_callers_transaction_neither_releases_nor_prolongs_it(alias: str) -> None:
    entered = threading.Event()

    def enter() -> None:
        with session_lock("mine", alias):
            entered.set()
        connections.close_all()

    with transaction.atomic(using=alias):
        with session_lock("mine", alias):
            thread = threading.Thread(target=enter)
            thread.start()
            assert not entered.wait(0.3)
        assert entered.wait(30)
    thread.join(30)


@pytest.mark.parametrize("alias", database_params())
def test_a_holder_that_is_killed_leaves_it_free(alias: str) -> None:
    code = COUNT.partition("path, alias")[0] + (
        "with session_lock('killed', sys.argv[1]):\n    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, alias],
        env=subprocess_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
    started = time.monotonic()
    with session_lock("killed", alias):
        assert time.monotonic() - started < 30


@pytest.mark.django_db(transaction=True)
def test_lock_files_do_not_pile_up() -> None:
    folder = Path(connections["default"].settings_dict["NAME"]).parent
    with session_lock("one"):
        assert len(list(folder.glob("*.lock"))) == 1
        with session_lock("other"):
            assert len(list(folder.glob("*.lock"))) == 2
    assert list(folder.glob("*.lock")) == []


@pytest.mark.skipif("postgresql" not in settings.DATABASES, reason="no postgresql server answers")
@pytest.mark.django_db(transaction=True, databases=["postgresql"])
def test_a_lock_table_that_is_missing_is_named() -> None:
    with connections["postgresql"].cursor() as cursor:
        cursor.execute("ALTER TABLE triggers_sessionlock RENAME TO gone")
    try:
        with (
            pytest.raises(StorageUnavailable, match="triggers_sessionlock"),
            session_lock("x", "postgresql"),
        ):
            pass
    finally:
        with connections["postgresql"].cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO triggers_sessionlock")


@pytest.mark.django_db(transaction=True)
def test_a_runner_is_called_after_the_save_and_not_without_it(tmp_path: Path) -> None:
    saves: list[bool] = [False, True]

    class Careless(FolderStorage):
        name = "careless"

        def _save(self) -> None:
            if not saves.pop(0):
                raise OSError("the disk is full")
            super()._save()

    manager = TriggerManager(Careless("s", folder=str(tmp_path)))
    manager.default_task_runner_name = "synchronous"
    saves.insert(0, True)
    manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
    with pytest.raises(OSError, match="full"), manager.storage.acquire_lock():
        manager.fire("a")
    assert list(manager.storage) == []
    saves.extend([True, True, True])
    with manager.storage.acquire_lock() as locked:
        assert locked is manager.storage
        manager.fire("a")
        assert manager.storage["t_x#0"].status == "scheduled"
    assert manager.storage["t_x#0"].status == "finished"


@pytest.mark.skipif("postgresql" not in settings.DATABASES, reason="no postgresql server answers")
@pytest.mark.django_db(transaction=True, databases=["postgresql"])
def test_a_lock_whose_connection_was_ended_is_not_held_any_more() -> None:
    with session_lock("ended", "postgresql") as is_held:
        assert is_held()
        with connections["postgresql"].cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_class c ON c.oid = relation"
                " WHERE relname = 'triggers_sessionlock' AND pid <> pg_backend_pid()"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        assert not is_held()
