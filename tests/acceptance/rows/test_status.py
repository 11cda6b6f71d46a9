"""Rows E18 and E19: statuses, and what they say about what may happen next."""

from __future__ import annotations

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    IdleRunner,
    explode,
    registered,
    reopened,
    show,
    statuses,
)
from triggers.manager import TriggerManager
from triggers.task import TaskContext, TriggerTask, trigger_task
from triggers.types import Status, TaskInstance

META_STATUSES = ["can_abandon", "can_run", "can_schedule", "can_replay", "can_skip", "is_resolved"]


class GiveUp(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        raise self.skip()


def true_of(instance: TaskInstance) -> set[str]:
    """The meta-statuses that are true."""
    values = {name: getattr(instance, name) for name in META_STATUSES}
    assert set(map(type, values.values())) == {bool}
    return {name for name, value in values.items() if value}


@trigger_task
def look_at_oneself(context: TaskContext) -> dict[str, list[str]]:
    stored = context.manager.storage[context.instance_name]
    return {"status": [stored.status], "true": sorted(true_of(stored))}


def in_every_status(new_session: NewSession) -> TriggerManager:
    """A session with one instance of each status that is left when everything has been done."""
    tasks = {
        "t_unstarted": {"after": ["a", "never"], "run": show.name},
        "t_scheduled": {"after": ["a"], "run": show.name, "using": IdleRunner.name},
        "t_finished": {"after": ["a"], "run": look_at_oneself.name},
        "t_failed": {"after": ["a"], "run": explode.name},
        "t_replayed": {"after": ["a"], "run": explode.name},
        "t_skipped": {"after": ["a"], "run": GiveUp.name},
        "t_abandoned": {"after": ["b"], "unless": ["a"], "run": show.name},
    }
    with registered(IdleRunner):
        manager = new_session(tasks)
        manager.fire("a")
        manager.replay_failed_instance("t_replayed#0")
    return manager


def test_e18_an_instance_has_one_of_eight_statuses(new_session: NewSession) -> None:
    manager = in_every_status(new_session)
    found = statuses(manager)
    left = {"unstarted", "scheduled", "finished", "failed", "replayed", "skipped", "abandoned"}
    assert {found[f"t_{status}#0"] for status in left} == left
    running = reopened(manager).storage["t_finished#0"].metadata["result"]["status"]
    assert {*left, *running} == {str(status) for status in Status}


def test_e18_a_status_compares_with_and_prints_as_its_name(new_session: NewSession) -> None:
    status = reopened(in_every_status(new_session)).storage["t_failed#0"].status
    assert status == "failed"
    assert str(status) == "failed"
    assert f"{status}" == "failed"


def test_e18_a_replayed_instance_keeps_why_it_failed(new_session: NewSession) -> None:
    instance = reopened(in_every_status(new_session)).storage["t_replayed#0"]
    assert instance.metadata["exception"]["message"] == "no such applicant"
    assert "LookupError" in instance.metadata["traceback"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("unstarted", {"can_schedule"}),
        ("scheduled", {"can_run"}),
        ("finished", {"is_resolved"}),
        ("failed", {"can_replay", "can_skip"}),
        ("replayed", {"is_resolved"}),
        ("skipped", {"is_resolved"}),
        ("abandoned", {"is_resolved"}),
    ],
)
def test_e19_meta_statuses_say_what_may_happen_next(
    new_session: NewSession, status: str, expected: set[str]
) -> None:
    manager = in_every_status(new_session)
    assert true_of(reopened(manager).storage[f"t_{status}#0"]) == expected


def test_e19_a_running_instance_can_only_be_waited_for(new_session: NewSession) -> None:
    manager = in_every_status(new_session)
    assert reopened(manager).storage["t_finished#0"].metadata["result"]["true"] == []


def test_e19_can_abandon_says_whether_unless_holds(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "unless": ["u"], "run": show.name}})
    assert not manager.storage.create_instance("t_x").can_abandon
    manager.fire("u")
    abandoned = reopened(manager).storage["t_x#0"]
    assert (abandoned.status, abandoned.can_abandon) == ("abandoned", False)
    # Nobody has decided on a copy that was made by hand.
    copy = manager.storage.clone_instance("t_x#0")
    assert copy.status == "unstarted"
    assert true_of(copy) == {"can_abandon"}


def test_e19_an_instance_by_hand_whose_triggers_all_came_can_run(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": explode.name}})
    manager.fire("a")
    copy = manager.storage.clone_instance("t_x#0")
    assert copy.status == "unstarted"
    assert true_of(copy) == {"can_run", "can_schedule"}


@pytest.mark.parametrize("operation", ["replay_failed_instance", "skip_failed_instance"])
def test_e19_can_replay_and_can_skip_tell_what_the_manager_accepts(
    new_session: NewSession, operation: str
) -> None:
    manager = in_every_status(new_session)
    attribute = {"replay_failed_instance": "can_replay", "skip_failed_instance": "can_skip"}
    for instance in list(reopened(manager).storage):
        accepted = True
        try:
            getattr(manager, operation)(instance.name)
        except ValueError:
            accepted = False
        assert accepted == getattr(instance, attribute[operation]), instance
