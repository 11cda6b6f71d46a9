"""Row E24: changing status and metadata of an instance by hand."""

from __future__ import annotations

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    IdleRunner,
    explode_unless_told_otherwise,
    got,
    registered,
    reopened,
    show,
    statuses,
)
from triggers.exceptions import InvalidPayload
from triggers.manager import TriggerManager
from triggers.task import TaskContext, trigger_task

TASKS = {
    "t_x": {"after": ["a", "b"], "run": explode_unless_told_otherwise.name},
    "t_y": {"after": ["t_x"], "run": show.name},
}


@pytest.fixture
def failed(new_session: NewSession) -> TriggerManager:
    """A session whose ``t_x#0`` has failed."""
    manager = new_session(TASKS)
    manager.fire("b", {"m": 1})
    manager.fire("a", {"n": 1})
    assert statuses(manager) == {"t_x#0": "failed"}
    return manager


# -- E24 ----------------------------------------------------------------------------------------

POSSIBLE = {
    "unstarted": {"scheduled", "abandoned"},
    "scheduled": {"failed"},
    "running": {"finished", "failed", "skipped"},
    "failed": {"skipped"},
}
"""What must be possible by hand, from the meaning of the statuses."""

IMPOSSIBLE = {
    "finished": {"unstarted", "scheduled", "running", "failed", "replayed", "skipped", "abandoned"},
    "abandoned": {"unstarted", "scheduled", "running", "finished", "failed", "replayed", "skipped"},
    "unstarted": {"finished", "failed", "replayed", "skipped"},
    "failed": {"unstarted", "running", "finished", "abandoned"},
    "scheduled": {"unstarted", "finished", "replayed", "skipped"},
}
"""What must not be possible by hand."""


def instance_in(new_session: NewSession, status: str) -> TriggerManager:
    """A session whose ``t_x#0`` has this status; nothing runs what is scheduled from here on."""
    task = {"after": ["a"], "unless": ["u"], "run": show.name, "using": IdleRunner.name}
    manager = new_session({"t_x": task, "t_y": {"after": ["t_x"], "run": show.name}})
    if status == "unstarted":
        manager.storage.create_instance("t_x")
    elif status == "abandoned":
        manager.fire("u")
    else:
        manager.fire("a")
    if status == "failed":
        manager.update_instance_status("t_x#0", "failed")
    elif status == "finished":
        show.execute(manager, "t_x#0")
    assert statuses(manager)["t_x#0"] == status
    return manager


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (status, each)
        for status in POSSIBLE
        if status != "running"
        for each in sorted(POSSIBLE[status])
    ],
)
def test_e24_a_status_can_be_changed_by_hand(
    new_session: NewSession, status: str, wanted: str
) -> None:
    with registered(IdleRunner):
        manager = instance_in(new_session, status)
        changed = manager.update_instance_status("t_x#0", wanted, {"why": "by hand"})
    assert (changed.name, changed.status) == ("t_x#0", wanted)
    instance = reopened(manager).storage["t_x#0"]
    assert instance.status == wanted
    assert instance.metadata["why"] == "by hand"
    assert list(statuses(manager)) == ["t_x#0"]


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(status, each) for status in IMPOSSIBLE for each in sorted(IMPOSSIBLE[status])],
)
def test_e24_what_the_table_forbids_is_refused_and_changes_nothing(
    new_session: NewSession, status: str, wanted: str
) -> None:
    with registered(IdleRunner):
        manager = instance_in(new_session, status)
        before = statuses(manager)
        with pytest.raises(ValueError, match=f"t_x#0 is {status} and cannot become {wanted}"):
            manager.update_instance_status("t_x#0", wanted, {"why": "by hand"}, cascade=True)
    assert statuses(manager) == before
    assert "why" not in reopened(manager).storage["t_x#0"].metadata


def test_e24_there_are_no_other_statuses(failed: TriggerManager) -> None:
    with pytest.raises(ValueError, match="done"):
        failed.update_instance_status("t_x#0", "done")


def test_e24_a_change_by_hand_may_cascade(failed: TriggerManager) -> None:
    failed.update_instance_status(
        "t_x#0", "skipped", {"why": "by hand"}, cascade=True, cascade_kwargs={"subjectId": 42}
    )
    assert statuses(failed) == {"t_x#0": "skipped", "t_y#0": "finished"}
    assert got(failed, "t_y#0") == {"t_x": {"subjectId": 42}}


def test_e24_a_cascade_by_hand_and_that_of_the_replay_are_taken_once(
    new_session: NewSession,
) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": show.name, "using": IdleRunner.name},
        "t_y": {"andEvery": "t_x", "run": show.name},
    }
    with registered(IdleRunner):
        manager = new_session(tasks)
        manager.fire("a")
        manager.update_instance_status("t_x#0", "failed", cascade=True)
        manager.replay_failed_instance("t_x#0")
        show.execute(manager, "t_x#1")
    assert statuses(manager)["t_x#1"] == "finished"
    assert [name for name in statuses(manager) if name.startswith("t_y")] == ["t_y#0"]


def test_e24_what_is_scheduled_by_hand_is_handed_to_its_runner(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": show.name}})
    manager.storage.create_instance("t_x")
    manager.update_instance_status("t_x#0", "scheduled")
    assert statuses(manager) == {"t_x#0": "finished"}


@trigger_task
def be_stopped_by_hand(context: TaskContext) -> dict[str, bool]:
    wanted = context.trigger_kwargs["a"]["wanted"]
    context.manager.update_instance_status(context.instance_name, wanted, {"why": "by hand"})
    if context.trigger_kwargs["a"]["then"] == "raise":
        raise LookupError("too late")
    return {"too": True}


@pytest.mark.parametrize("wanted", sorted(POSSIBLE["running"]))
@pytest.mark.parametrize("then", ["raise", "return"])
def test_e24_a_change_by_hand_voids_the_running_attempt(
    new_session: NewSession, wanted: str, then: str
) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": be_stopped_by_hand.name},
        "t_y": {"after": ["t_x"], "run": show.name},
    }
    manager = new_session(tasks)
    manager.fire("a", {"wanted": wanted, "then": then})
    assert statuses(manager) == {"t_x#0": wanted}
    assert reopened(manager).storage["t_x#0"].metadata == {"why": "by hand"}


def test_e24_metadata_is_added_to_what_is_there(failed: TriggerManager) -> None:
    changed = failed.update_instance_metadata("t_x#0", {"ticket": 7, "seen": ["me"]})
    assert changed.metadata["ticket"] == 7
    failed.update_instance_metadata(failed.storage["t_x#0"], {"ticket": 8})
    metadata = reopened(failed).storage["t_x#0"].metadata
    assert (metadata["ticket"], metadata["seen"]) == (8, ["me"])
    assert metadata["exception"]["message"] == "no such applicant"
    assert statuses(failed) == {"t_x#0": "failed"}


@trigger_task
def attach_notes(context: TaskContext) -> dict[str, int]:
    with context.get_logger_context() as logger:
        logger.warning("half of the pages are empty")
    context.manager.update_instance_metadata(context.instance_name, {"pages": 3})
    return {"imported": 1}


def test_e24_metadata_attached_while_it_runs_stay(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": attach_notes.name}})
    manager.fire("a")
    instance = reopened(manager).storage["t_x#0"]
    assert (instance.status, instance.log_level_name) == ("finished", "WARNING")
    assert (instance.metadata["pages"], instance.metadata["result"]) == (3, {"imported": 1})


def test_e24_metadata_that_cannot_be_stored_is_refused(failed: TriggerManager) -> None:
    with pytest.raises(InvalidPayload, match="metadata"):
        failed.update_instance_metadata("t_x#0", {"lock": object()})
    assert "lock" not in reopened(failed).storage["t_x#0"].metadata


def test_e24_logs_are_marked_as_resolved(failed: TriggerManager) -> None:
    assert not failed.storage["t_x#0"].logs_resolved
    failed.mark_instance_logs_resolved("t_x#0")
    assert reopened(failed).storage["t_x#0"].logs_resolved
