"""What a preview says of whether a session would fire its end by itself."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend

FIRES = "from then on the session fires sessionFinalized when nothing is left to do"
NO_LONGER = "from then on the session no longer fires sessionFinalized when nothing is left to do"
TASKS = {"t_x": {"after": ["a"], "run": "x"}}


@pytest.mark.parametrize(
    ("declared", "finalize", "finalizes", "lines"),
    [
        (None, None, None, ["nothing would change"]),
        (None, False, None, ["nothing would change"]),
        (None, True, True, [FIRES]),
        (True, None, None, ["nothing would change"]),
        (True, True, None, ["nothing would change"]),
        (True, False, False, [NO_LONGER]),
    ],
)
@pytest.mark.parametrize("tasks", [{}, TASKS])
def test_whether_a_session_would_finalize_is_told_where_it_changes(
    tasks: dict[str, Any],
    declared: bool | None,
    finalize: bool | None,
    finalizes: bool | None,
    lines: list[str],
) -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration(tasks, finalize=declared)
    found = manager.update_configuration({}, finalize=finalize, preview=True)
    assert found.finalizes is finalizes
    assert found.to_json()["finalizes"] is finalizes
    assert [each.text for each in found.outline().lines] == lines
    stored = manager.storage.plan().configuration
    assert stored.finalizes == bool(declared), "a preview declares nothing"


def test_of_a_session_that_is_not_there_yet_it_is_told_too() -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    found = manager.update_configuration(TASKS, finalize=True, preview=True)
    assert [each.text for each in found.outline().lines] == ["t_x is new", FIRES]


def test_a_configuration_that_is_refused_would_have_declared_it() -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration({"t_x": {"after": ["a", "b"], "andEvery": "p", "run": "x"}})
    for trigger in ("a", "p", "p"):
        manager.fire(trigger)
    once = {"t_x": {"after": ["a", "b"], "run": "x"}}
    found = manager.update_configuration(once, finalize=True, preview=True)
    assert found.is_refused
    assert found.finalizes is True
    assert FIRES not in str(found)
