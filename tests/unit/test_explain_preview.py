"""What a preview says of the end of a session, and of tasks that are not known here."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing.racing import Recorded
from triggers.types import FireResult

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


@pytest.mark.parametrize("declared", [None, True])
def test_where_the_end_was_fired_already_it_is_told_that_nothing_follows(
    declared: bool | None,
) -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration(TASKS, finalize=declared)
    manager.fire("sessionFinalized")
    found = manager.update_configuration({}, finalize=not declared, preview=True)
    assert (found.finalizes, found.finalized) == (not declared, True)
    told = ["sessionFinalized was fired already, and is not fired again"]
    assert [each.text for each in found.outline().lines] == told


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


def test_a_task_that_this_process_does_not_know_is_told_and_no_warning() -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    tasks = {
        "t_gone": {"after": ["a"], "run": "tests.unit.test_explain_preview.Gone"},
        "t_none": {"after": ["a"], "run": "no_such_module.X"},
        "t_known": {"after": ["a"], "run": Recorded.name},
    }
    found = manager.update_configuration(tasks, preview=True)
    assert found.to_json()["unknown"] == found.unknown
    assert list(found.unknown) == ["t_gone", "t_none"]
    assert "registers none called 'Gone'" in found.unknown["t_gone"]
    gone, none, known = found.outline().lines
    assert (gone.text, known.text, known.lines) == ("t_gone is new", "t_known is new", ())
    [told] = gone.lines
    assert told.text == (
        "its run is not known in this process; a worker may know it. No trigger task "
        "'tests.unit.test_explain_preview.Gone': tests.unit.test_explain_preview registers none "
        "called 'Gone'. Is it a subclass of triggers.task.TriggerTask, or a function with "
        "@trigger_task?"
    )
    assert "'no_such_module' cannot be imported" in none.lines[0].text
    # What is there already is not the change's doing; what takes its place is.
    assert manager.update_configuration(tasks) == FireResult()
    again = manager.update_configuration(tasks, preview=True)
    assert (again.unchanged, again.unknown) == (("t_gone", "t_none", "t_known"), {})
    other = {"t_known": {"after": ["b"], "run": "no_such_module.X"}}
    replaced = manager.update_configuration(other, preview=True)
    assert list(replaced.unknown) == ["t_known"]
    assert "its run is not known in this process" in str(replaced)
