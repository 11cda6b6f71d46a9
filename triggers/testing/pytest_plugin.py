"""The pytest plugin: the fixture ``trigger_manager``.

It is loaded with pytest itself, before Django is set up, so it imports only when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from triggers.manager import TriggerManager


@pytest.fixture
def trigger_manager(request: pytest.FixtureRequest) -> Iterator[TriggerManager]:
    """A manager on a fresh session in memory, whose tasks run in place.

    Everything that a firing leads to has happened when ``fire`` returns, in a fixed order.
    """
    from triggers.manager import TriggerManager
    from triggers.storages.memory import MemoryStorageBackend
    from triggers.testing.environment import run_tasks_locally

    storage = MemoryStorageBackend(f"test:{request.node.nodeid}"[-255:])
    storage.delete()
    with run_tasks_locally("synchronous"):
        yield TriggerManager(storage)
    storage.delete()
