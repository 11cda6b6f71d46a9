"""Sessions for the row tests: on every storage that needs no server, with tasks run in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest

from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import run_tasks_locally

NewSession = Callable[..., TriggerManager]


@pytest.fixture(autouse=True)
def _tasks_run_in_place() -> Iterator[None]:
    with run_tasks_locally("synchronous"):
        yield
    MemoryStorageBackend.clear()


@pytest.fixture(
    params=["memory", pytest.param("database", marks=pytest.mark.django_db(transaction=True))]
)
def storage_name(request: pytest.FixtureRequest) -> str:
    """The storage of the test, by its registered name."""
    name: str = request.param
    return name


@pytest.fixture
def new_session(storage_name: str) -> NewSession:
    """Make a manager on a fresh session, with these tasks."""

    def make(
        configuration: Mapping[str, Any] | None = None,
        *,
        manager: type[TriggerManager] = TriggerManager,
        uid: str | None = None,
    ) -> TriggerManager:
        made = manager(storage_backends.get(storage_name, uid or uuid4().hex))
        if configuration is not None:
            made.update_configuration(configuration)
        return made

    return make
