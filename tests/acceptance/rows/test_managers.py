"""Row E27: managers of one's own, their hooks, and an overridden ``fire``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import transaction

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    PATIENCE,
    explode,
    got,
    reopened,
    show,
    statuses,
)
from triggers import recovery
from triggers.manager import TriggerManager, trigger_managers
from triggers.runners import ThreadingTaskRunner
from triggers.storages.database import DatabaseStorageBackend
from triggers.testing import frozen_time, run_tasks_locally
from triggers.types import TaskInstance

CHAIN = {
    "t_x": {"after": ["a"], "run": show.name},
    "t_y": {"after": ["t_x"], "run": show.name},
}
FAILING = {
    "t_x": {"after": ["a"], "run": explode.name},
    "t_y": {"after": ["t_x"], "run": show.name},
}


class WatchingManager(TriggerManager):
    """Notes which hooks are called, with what."""

    name = "row-tests-watching"
    calls: ClassVar[list[tuple[Any, ...]]] = []
    firings: ClassVar[list[list[TaskInstance]]] = []

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        self.firings.append(tasks_scheduled)
        self.calls.append(("fire", trigger_name, [each.name for each in tasks_scheduled]))

    def _post_replay(self, task_instance: TaskInstance) -> None:
        parent_instance = self.storage[task_instance.metadata["parent"]]
        self.calls.append(("replay", task_instance.name, parent_instance.name))

    def _post_skip(self, task_instance: TaskInstance, cascade: bool) -> None:
        self.calls.append(("skip", task_instance.name, str(task_instance.status), cascade))


class BrokenHookManager(TriggerManager):
    """Its hook fails as long as ``broken`` is true."""

    name = "row-tests-broken-hook"
    broken: ClassVar[bool] = True
    calls: ClassVar[list[str]] = []

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        if BrokenHookManager.broken:
            raise ConnectionError("the search index is down")
        self.calls.append(trigger_name)


class OverridingManager(TriggerManager):
    """Sees every firing, and adds to its kwargs."""

    name = "row-tests-overriding"
    calls: ClassVar[list[tuple[str, Any]]] = []

    def fire(self, trigger_name: str, trigger_kwargs: Any = None, **options: Any) -> Any:
        self.calls.append((trigger_name, trigger_kwargs))
        return super().fire(trigger_name, {**(trigger_kwargs or {}), "seen": True}, **options)


class SelectiveManager(OverridingManager):
    """Swallows the cascades of ``t_x``, and fires something else before those of ``t_y``."""

    name = "row-tests-selective"

    def fire(self, trigger_name: str, trigger_kwargs: Any = None, **options: Any) -> Any:
        if trigger_name == "t_x":
            return None
        if trigger_name == "t_y":
            super().fire("first")
        return super().fire(trigger_name, trigger_kwargs, **options)


OWN = [WatchingManager, BrokenHookManager, OverridingManager, SelectiveManager]


@pytest.fixture(autouse=True)
def _registered_managers() -> Iterator[None]:
    for manager in OWN:
        trigger_managers.register(manager)
        manager.calls.clear()
    WatchingManager.firings.clear()
    BrokenHookManager.broken = True
    yield
    for manager in OWN:
        trigger_managers.unregister(manager.name)


# -- hooks --------------------------------------------------------------------------------------


def test_e27_post_fire_is_called_for_every_firing_cascades_included(
    new_session: NewSession,
) -> None:
    manager = new_session(CHAIN, manager=WatchingManager)
    assert manager.calls == []
    manager.fire("nobody listens")
    manager.fire("a")
    assert manager.calls[0] == ("fire", "nobody listens", [])
    assert sorted(manager.calls[1:]) == [
        ("fire", "a", ["t_x#0"]),
        ("fire", "t_x", ["t_y#0"]),
        ("fire", "t_y", []),
    ]


def test_e27_post_fire_receives_a_list_of_instances(new_session: NewSession) -> None:
    manager = new_session(CHAIN, manager=WatchingManager)
    manager.fire("a")
    for scheduled in manager.firings:
        assert isinstance(scheduled, list)
        assert all(isinstance(each, TaskInstance) for each in scheduled)


def test_e27_post_fire_is_called_in_threads_too(new_session: NewSession) -> None:
    with run_tasks_locally("threading"):
        manager = new_session(CHAIN, manager=WatchingManager)
        manager.fire("a")
        ThreadingTaskRunner.join_all(PATIENCE)
    assert sorted(call[1] for call in manager.calls) == ["a", "t_x", "t_y"]


@pytest.mark.django_db(transaction=True)
def test_e27_post_fire_is_called_after_the_commit_of_the_callers_transaction() -> None:
    manager = WatchingManager(DatabaseStorageBackend("applicant:42"))
    manager.update_configuration(CHAIN)
    with transaction.atomic():
        manager.fire("a")
        assert manager.calls == []
    assert sorted(call[1] for call in manager.calls) == ["a", "t_x", "t_y"]


def test_e27_a_duplicate_is_no_firing(new_session: NewSession) -> None:
    manager = new_session(CHAIN, manager=WatchingManager)
    manager.fire("b", idempotency_key="evt_1")
    assert manager.fire("b", idempotency_key="evt_1").duplicate
    assert manager.calls == [("fire", "b", [])]


def test_e27_post_replay_receives_the_new_instance(new_session: NewSession) -> None:
    manager = new_session(FAILING, manager=WatchingManager)
    manager.fire("a")
    manager.calls.clear()
    manager.replay_failed_instance("t_x#0")
    assert manager.calls == [("replay", "t_x#1", "t_x#0")]


@pytest.mark.parametrize(("cascade", "fired"), [(False, []), (True, ["t_x", "t_y"])])
def test_e27_post_skip_comes_after_the_cascade(
    new_session: NewSession, cascade: bool, fired: list[str]
) -> None:
    manager = new_session(FAILING, manager=WatchingManager)
    manager.fire("a")
    manager.calls.clear()
    manager.skip_failed_instance("t_x#0", cascade)
    assert sorted(call[1] for call in manager.calls if call[0] == "fire") == fired
    skipped = ("skip", "t_x#0", "skipped", cascade)
    assert manager.calls.count(skipped) == 1
    if cascade:
        of_cascade = ("fire", "t_x", ["t_y#0"])
        assert manager.calls.index(of_cascade) < manager.calls.index(skipped)


def test_e27_a_hook_that_fails_loses_nothing_and_is_repeated_by_recovery(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    manager = new_session(CHAIN, manager=BrokenHookManager)
    assert manager.fire("a").scheduled == ("t_x#0",)
    assert set(statuses(manager).values()) == {"finished"}
    assert "the search index is down" in caplog.text
    BrokenHookManager.broken = False
    with frozen_time(manager.storage.now() + timedelta(hours=1)):
        recovery.recover(reopened(manager))
        assert sorted(manager.calls) == ["a", "t_x", "t_y"]
        recovery.recover(reopened(manager))
    assert sorted(manager.calls) == ["a", "t_x", "t_y"]


# -- fire ---------------------------------------------------------------------------------------


def test_e27_an_overridden_fire_sees_cascades_too(new_session: NewSession) -> None:
    manager = new_session(CHAIN, manager=OverridingManager)
    manager.fire("a", {"n": 1})
    assert [call[0] for call in manager.calls] == ["a", "t_x", "t_y"]
    assert manager.calls[1][1] == {"got": {"a": {"n": 1, "seen": True}}}
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}
    assert got(manager, "t_y#0")["t_x"]["seen"] is True


def test_e27_an_overridden_fire_sees_the_cascade_of_a_skip(new_session: NewSession) -> None:
    manager = new_session(FAILING, manager=OverridingManager)
    manager.fire("a")
    manager.skip_failed_instance("t_x#0", cascade=True, result={"subjectId": 42})
    assert [call[0] for call in manager.calls] == ["a", "t_x", "t_y"]
    assert got(manager, "t_y#0") == {"t_x": {"subjectId": 42, "seen": True}}


def test_e27_an_overridden_fire_sees_the_cascade_of_a_change_by_hand(
    new_session: NewSession,
) -> None:
    manager = new_session(FAILING, manager=OverridingManager)
    manager.fire("a")
    manager.update_instance_status("t_x#0", "skipped", None, True, {"subjectId": 42})
    assert got(manager, "t_y#0") == {"t_x": {"subjectId": 42, "seen": True}}


def test_e27_an_overridden_fire_sees_cascades_in_threads(new_session: NewSession) -> None:
    with run_tasks_locally("threading"):
        manager = new_session(CHAIN, manager=OverridingManager)
        manager.fire("a")
        ThreadingTaskRunner.join_all(PATIENCE)
    assert [call[0] for call in manager.calls] == ["a", "t_x", "t_y"]
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}


def test_e27_a_cascade_is_recorded_once_with_its_cause(new_session: NewSession) -> None:
    manager = new_session(CHAIN, manager=OverridingManager)
    manager.fire("a")
    firings = reopened(manager).storage.find_firings()
    assert [(each.trigger, each.cause) for each in firings] == [
        ("a", None),
        ("t_x", "t_x#0"),
        ("t_y", "t_y#0"),
    ]


def test_e27_an_overridden_fire_may_swallow_a_cascade_or_fire_more(
    new_session: NewSession,
) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": show.name},
        "t_after_x": {"after": ["t_x"], "run": show.name},
        "t_y": {"after": ["a"], "run": show.name},
        "t_first": {"after": ["first"], "run": show.name},
        "t_after_y": {"after": ["t_y", "first"], "run": show.name},
    }
    manager = new_session(tasks, manager=SelectiveManager)
    manager.fire("a")
    with frozen_time(manager.storage.now() + timedelta(hours=1)):
        recovery.recover(reopened(manager))
    assert statuses(manager) == dict.fromkeys(
        ["t_x#0", "t_y#0", "t_first#0", "t_after_y#0"], "finished"
    )
    assert list(reopened(manager).storage.latest_kwargs) == [
        "a",
        "first",
        "t_y",
        "t_first",
        "t_after_y",
    ]


def test_e27_a_cascade_that_the_override_could_not_fire_is_repeated_by_recovery(
    new_session: NewSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fire = OverridingManager.fire

    def fail_on_cascades(self: Any, trigger_name: str, *args: Any, **options: Any) -> Any:
        if trigger_name == "t_x":
            raise ConnectionError("the audit log is down")
        return fire(self, trigger_name, *args, **options)

    manager = new_session(CHAIN, manager=OverridingManager)
    with monkeypatch.context() as broken:
        broken.setattr(OverridingManager, "fire", fail_on_cascades)
        manager.fire("a")
    assert statuses(manager) == {"t_x#0": "finished"}
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    with frozen_time(manager.storage.now() + timedelta(hours=1)):
        recovery.recover(reopened(manager))
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}
    assert [call[0] for call in manager.calls] == ["a", "t_x", "t_y"]
