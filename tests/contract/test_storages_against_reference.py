"""Every database that is there, held against the reference model."""

from __future__ import annotations

from typing import Any

import pytest

from tests import servers
from tests.machine import INTERESTING, SessionMachine, explore
from triggers.storages import storage_backends


@pytest.mark.parametrize("alias", servers.database_params())
def test_a_session_in_a_database_lives_as_the_reference_says(alias: str) -> None:
    class Machine(SessionMachine):
        @classmethod
        def open_storage(cls, uid: str) -> Any:
            return storage_backends.get("database", uid, using=alias)

    met = explore(Machine, max_examples=30, stateful_step_count=40)
    for what in INTERESTING:
        assert met[what] >= 1, f"{what} was never met: {met}"
