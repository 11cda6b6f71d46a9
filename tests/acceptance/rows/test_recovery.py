"""Rows E21 to E23: what a failure leaves behind; replaying and skipping."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    IdleRunner,
    explode,
    explode_unless_told_otherwise,
    got,
    registered,
    reopened,
    show,
    statuses,
)
from triggers.exceptions import InvalidPayload, InvalidTransition, with_context
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


# -- E21 ----------------------------------------------------------------------------------------


class SpamError(ValueError):
    """A failure with a type of its own."""


@trigger_task
def find_spam(context: TaskContext) -> None:
    raise with_context(
        SpamError("looks like spam"), {"score": 0.9, "limit": 0.5, "what": {"set", "of"}}
    )


def test_e21_a_failed_instance_keeps_type_message_context_and_traceback(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": find_spam.name}})
    manager.fire("a")
    metadata = reopened(manager).storage["t_x#0"].metadata
    exception = metadata["exception"]
    assert exception["type"] == f"{__name__}.SpamError"
    assert exception["message"] == "looks like spam"
    assert exception["context"]["score"] == 0.9
    assert exception["context"]["limit"] == 0.5
    assert "set" in exception["context"]["what"]
    assert "in find_spam" in metadata["traceback"]
    assert metadata["traceback"].rstrip().endswith("SpamError: looks like spam")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this works")

    __repr__ = __str__


@trigger_task
def raise_something_odd(context: TaskContext) -> None:
    odd = {
        "unprintable": Unprintable(),
        "unprintable context": with_context(SpamError("x"), {"value": Unprintable()}),
        "surrogate": ValueError("\ud800 and \x00"),
        "long": ValueError("x" * 1_000_000),
        "empty": ValueError(),
    }
    raise odd[context.trigger_kwargs["a"]["kind"]]


@pytest.mark.parametrize(
    "kind",
    [
        "unprintable",
        "unprintable context",
        "surrogate",
        "long",
        "empty",
    ],
)
def test_e21_whatever_is_raised_fails_the_instance_and_can_be_stored(
    new_session: NewSession, kind: str
) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": raise_something_odd.name}})
    manager.fire("a", {"kind": kind})
    instance = reopened(manager).storage["t_x#0"]
    assert instance.status == "failed"
    assert instance.metadata["exception"]["type"]
    assert "raise_something_odd" in instance.metadata["traceback"]


@trigger_task
def raise_from_another(context: TaskContext) -> None:
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise SpamError("the second") from error


def test_e21_the_traceback_shows_the_causes_too(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": raise_from_another.name}})
    manager.fire("a")
    traceback = reopened(manager).storage["t_x#0"].metadata["traceback"]
    assert "KeyError: 'the first'" in traceback
    assert "SpamError: the second" in traceback


# -- E22 ----------------------------------------------------------------------------------------


def test_e22_a_replay_is_a_new_instance_with_the_same_kwargs(failed: TriggerManager) -> None:
    made = failed.replay_failed_instance("t_x#0")
    assert made.name == "t_x#1"
    assert made.metadata["parent"] == "t_x#0"
    assert statuses(failed) == {"t_x#0": "replayed", "t_x#1": "failed"}
    storage = reopened(failed).storage
    assert storage["t_x#1"].kwargs == storage["t_x#0"].kwargs == {"a": {"n": 1}, "b": {"m": 1}}
    assert storage["t_x#0"].metadata["exception"]["message"] == "no such applicant"


def test_e22_replacement_kwargs_are_used_instead_of_all_kwargs(failed: TriggerManager) -> None:
    failed.replay_failed_instance("t_x#0", {"a": {"good": True}})
    assert statuses(failed) == {"t_x#0": "replayed", "t_x#1": "finished", "t_y#0": "finished"}
    assert got(failed, "t_x#1") == {"a": {"good": True}}
    assert reopened(failed).storage["t_x#0"].kwargs == {"a": {"n": 1}, "b": {"m": 1}}


def test_e22_kwargs_can_be_merged_by_hand(failed: TriggerManager) -> None:
    failed_instance = failed.storage.instances["t_x#0"]
    replacement_kwargs = failed_instance.kwargs
    replacement_kwargs["a"] = {"good": True}
    failed.replay_failed_instance(failed_instance, replacement_kwargs)
    assert got(failed, "t_x#1") == {"a": {"good": True}, "b": {"m": 1}}


def test_e22_replacement_kwargs_go_on_to_the_next_replay(failed: TriggerManager) -> None:
    failed.replay_failed_instance("t_x#0", {"a": {"still": "bad"}, "b": {"m": 2}})
    failed.replay_failed_instance("t_x#1")
    assert reopened(failed).storage["t_x#2"].kwargs == {"a": {"still": "bad"}, "b": {"m": 2}}
    assert reopened(failed).storage["t_x#2"].metadata["parent"] == "t_x#1"


def test_e22_empty_replacement_kwargs_are_replacement_kwargs(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": explode.name}})
    manager.fire("a", {"n": 1})
    manager.replay_failed_instance("t_x#0", {})
    assert reopened(manager).storage["t_x#1"].kwargs == {}


def test_e22_with_params_hold_for_a_replay_too(new_session: NewSession) -> None:
    task = {**TASKS["t_x"], "withParams": {"a": {"good": True}, "c": {"x": 1}}}
    manager = new_session({"t_x": {**task, "run": explode.name}})
    manager.fire("a")
    manager.fire("b")
    manager.update_configuration({"t_x": {**task, "run": show.name}})
    manager.replay_failed_instance("t_x#0", {"b": {"n": 1}})
    assert got(manager, "t_x#1") == {"a": {"good": True}, "b": {"n": 1}, "c": {"x": 1}}


@pytest.mark.parametrize("replacement", [{"a": 1}, {"a": {1: 2}}, ["a"], {"a": {"x": object()}}])
def test_e22_replacement_kwargs_that_are_no_trigger_kwargs_are_refused(
    failed: TriggerManager, replacement: Any
) -> None:
    with pytest.raises(InvalidPayload, match="replacement kwargs of t_x#0"):
        failed.replay_failed_instance("t_x#0", replacement)
    assert statuses(failed) == {"t_x#0": "failed"}


def test_e22_an_instance_is_replayed_once(failed: TriggerManager) -> None:
    failed.replay_failed_instance("t_x#0")
    with pytest.raises(InvalidTransition, match="t_x#0 is replayed"):
        failed.replay_failed_instance("t_x#0")
    assert list(statuses(failed)) == ["t_x#0", "t_x#1"]


@pytest.mark.parametrize("operation", ["replay_failed_instance", "skip_failed_instance"])
def test_e22_e23_only_failed_instances_are_accepted(
    new_session: NewSession, operation: str
) -> None:
    tasks = {
        "t_waits": {"after": ["a", "never"], "run": show.name},
        "t_queued": {"after": ["a"], "run": show.name, "using": IdleRunner.name},
        "t_done": {"after": ["a"], "run": show.name},
        "t_out": {"after": ["b"], "unless": ["a"], "run": show.name},
    }
    with registered(IdleRunner):
        manager = new_session(tasks)
        manager.fire("a")
    before = statuses(manager)
    assert set(before.values()) == {"unstarted", "scheduled", "finished", "abandoned"}
    for name, status in before.items():
        with pytest.raises(ValueError, match=f"{name} is {status}"):
            getattr(manager, operation)(name)
    assert statuses(manager) == before


@pytest.mark.parametrize("operation", ["replay_failed_instance", "skip_failed_instance"])
@pytest.mark.parametrize("name", ["t_x", "t_x#1", "t_nobody#0"])
def test_e22_e23_the_name_of_an_instance_is_wanted(
    failed: TriggerManager, operation: str, name: str
) -> None:
    with pytest.raises(KeyError, match=name):
        getattr(failed, operation)(name)
    assert statuses(failed) == {"t_x#0": "failed"}


# -- E23 ----------------------------------------------------------------------------------------


def test_e23_skipping_resolves_an_instance_without_a_cascade(failed: TriggerManager) -> None:
    skipped = failed.skip_failed_instance("t_x#0")
    assert (skipped.name, skipped.status) == ("t_x#0", "skipped")
    assert statuses(failed) == {"t_x#0": "skipped"}
    assert [each.name for each in failed.get_unresolved_tasks()] == ["t_y"]
    assert skipped.metadata["exception"]["message"] == "no such applicant"


@pytest.mark.parametrize("result", [None, {}, {"subjectId": 42}])
def test_e23_skipping_may_simulate_a_result(failed: TriggerManager, result: Any) -> None:
    failed.skip_failed_instance(failed_instance="t_x#0", cascade=True, result=result)
    assert statuses(failed) == {"t_x#0": "skipped", "t_y#0": "finished"}
    assert got(failed, "t_y#0") == {"t_x": result or {}}
    assert reopened(failed).storage.latest_kwargs["t_x"] == (result or {})


def test_e23_a_result_without_a_cascade_fires_nothing(failed: TriggerManager) -> None:
    failed.skip_failed_instance("t_x#0", result={"subjectId": 42})
    assert statuses(failed) == {"t_x#0": "skipped"}


@pytest.mark.parametrize("result", [42, [1], {"x": object()}])
def test_e23_a_result_that_cannot_cascade_is_refused(failed: TriggerManager, result: Any) -> None:
    with pytest.raises(InvalidPayload, match="result of t_x"):
        failed.skip_failed_instance("t_x#0", cascade=True, result=result)
    assert statuses(failed) == {"t_x#0": "failed"}


def test_e23_a_skipped_instance_is_final(failed: TriggerManager) -> None:
    failed.skip_failed_instance("t_x#0", cascade=True)
    with pytest.raises(InvalidTransition, match="t_x#0 is skipped"):
        failed.skip_failed_instance("t_x#0", cascade=True)
    assert list(statuses(failed)) == ["t_x#0", "t_y#0"]
