"""What ``acquire_lock()`` promises to code that changes a session by hand (design, section 3)."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections

from tests.acceptance.rows.sessions import PATIENCE, reopened, show, statuses
from tests.servers import database_params
from triggers.manager import TriggerManager
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.session import SessionStorage

A_MOMENT = 0.3  # seconds; a firing that nothing keeps out takes a hundredth of it


def check_that_others_are_kept_out(storage: SessionStorage) -> None:
    manager = TriggerManager(storage)
    manager.update_configuration({"t_x": {"andEvery": "p", "run": show.name}})
    fired = threading.Event()
    errors: list[BaseException] = []

    def fire() -> None:
        try:
            reopened(manager).fire("p")
        except BaseException as error:
            errors.append(error)
        finally:
            fired.set()
            connections.close_all()

    other: Any = threading.Thread(target=fire)
    with storage.acquire_lock():
        before = list(storage)
        other.start()
        got_in = fired.wait(A_MOMENT)
        after = list(storage)
    other.join(PATIENCE)
    assert errors == []
    assert (got_in, after) == (False, before)
    assert statuses(manager) == {"t_x#0": "finished"}


def test_e20_a_lock_keeps_other_writers_out_of_a_session_in_memory() -> None:
    check_that_others_are_kept_out(MemoryStorageBackend(uuid4().hex))


@pytest.mark.parametrize("alias", database_params())
def test_e20_a_lock_keeps_other_writers_out_of_a_session_in_a_database(alias: str) -> None:
    check_that_others_are_kept_out(DatabaseStorageBackend(uuid4().hex, using=alias))


@pytest.mark.parametrize("alias", database_params())
def test_e20_a_session_can_be_locked_before_it_exists_and_changed_inside(alias: str) -> None:
    uid = uuid4().hex
    storage = DatabaseStorageBackend(uid, using=alias)
    locked = threading.Event()

    def lock() -> None:
        try:
            with DatabaseStorageBackend(uid, using=alias).acquire_lock():
                locked.set()
        finally:
            connections.close_all()

    other = threading.Thread(target=lock)
    manager = TriggerManager(storage)
    with storage.acquire_lock(), storage.acquire_lock():
        other.start()
        assert not locked.wait(A_MOMENT)
        manager.update_configuration({"t_x": {"andEvery": "p", "run": show.name}})
        assert manager.fire("p").scheduled == ("t_x#0",)
        storage.save()
        assert statuses(manager) == {"t_x#0": "scheduled"}
    other.join(PATIENCE)
    assert locked.is_set()
    assert statuses(manager) == {"t_x#0": "finished"}
