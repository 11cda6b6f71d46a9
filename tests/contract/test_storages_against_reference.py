"""Every storage that outlives a process, held against the reference model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.contract.custom_storage import FolderStorage
from tests.machine import SessionMachine, explore
from triggers.storages import storage_backends


@pytest.mark.parametrize("alias", servers.database_params())
def test_a_session_in_a_database_lives_as_the_reference_says(alias: str) -> None:
    class Machine(SessionMachine):
        @classmethod
        def open_storage(cls, uid: str) -> Any:
            return storage_backends.get("database", uid, using=alias)

    explore(Machine, at_least=1, max_examples=16, stateful_step_count=50)


@pytest.mark.server("redis")
@pytest.mark.django_db(transaction=True)
def test_a_session_in_a_cache_lives_as_the_reference_says() -> None:
    class Machine(SessionMachine):
        @classmethod
        def open_storage(cls, uid: str) -> Any:
            return storage_backends.get("cache", uid, cache="default")

    explore(Machine, at_least=1, max_examples=16, stateful_step_count=50)


@pytest.mark.django_db(transaction=True)
def test_a_session_in_a_custom_storage_lives_as_the_reference_says(tmp_path: Path) -> None:
    class Machine(SessionMachine):
        @classmethod
        def open_storage(cls, uid: str) -> Any:
            return FolderStorage(uid, folder=str(tmp_path))

    explore(Machine, at_least=1, max_examples=16, stateful_step_count=50)
