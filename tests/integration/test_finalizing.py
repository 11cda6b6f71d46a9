"""How sessions come to their end where other transactions, processes and releases are involved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from tests.servers import database_params
from triggers import recovery
from triggers.engine.lifecycle import Claim, Finish
from triggers.exceptions import StateVersionError, StorageUnavailable
from triggers.manager import TriggerManager, trigger_managers
from triggers.models import DeferredFiring
from triggers.storages import database, storage_backends
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.redis import storage as redis_storage
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded
from triggers.types import SESSION_FINALIZED, TaskInstance

on_every_database = pytest.mark.parametrize("alias", database_params())
TASKS = {
    "t_x": {"after": ["a"], "run": Recorded.name},
    "t_close": {"after": [SESSION_FINALIZED], "run": Recorded.name},
}


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    with run_tasks_locally("synchronous"):
        yield


def new_session(alias: str, **options: str) -> TriggerManager:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias, **options))
    manager.update_configuration(TASKS, finalize=True)
    return manager


def fired(manager: TriggerManager) -> list[str]:
    return [each.trigger for each in manager.storage.find_firings()]


def ending(manager: TriggerManager) -> list[str]:
    """What was fired after the end, itself included; nothing before the end."""
    names = fired(manager)
    assert names.count(SESSION_FINALIZED) <= 1
    return names[names.index(SESSION_FINALIZED) :] if SESSION_FINALIZED in names else []


# -- firings of callers' transactions -----------------------------------------------------------


@on_every_database
def test_a_firing_in_a_transaction_finalizes_right_after_the_commit(alias: str) -> None:
    manager = new_session(alias)
    with transaction.atomic(using=alias):
        manager.fire("a")
        assert fired(manager) == []
    assert fired(manager) == ["a", "t_x", SESSION_FINALIZED, "t_close"]


@on_every_database
def test_a_firing_that_decides_in_the_callers_transaction_finalizes_in_it(alias: str) -> None:
    manager = new_session(alias, in_transaction="decide")
    with transaction.atomic(using=alias):
        manager.update_configuration({}, finalize=False)
        manager.fire("a")
        manager.update_configuration({}, finalize=True)
        transaction.set_rollback(True, using=alias)
    assert fired(manager) == []
    assert manager.storage.plan().configuration.finalizes
    with transaction.atomic(using=alias):
        manager.fire("a")
    assert fired(manager) == ["a", "t_x", SESSION_FINALIZED, "t_close"]


def leave_undecided(manager: TriggerManager, trigger: str, alias: str) -> int:
    """A firing that was committed by a process that died before it decided it."""
    kept: list[Callable[[], None]] = []
    storage = manager.storage
    storage.when_committed = kept.append  # type: ignore[method-assign]
    with transaction.atomic(using=alias):
        assert manager.fire(trigger).pending
    del storage.when_committed
    assert len(kept) == 1
    return DeferredFiring.objects.using(alias).get(uid=storage.uid, trigger=trigger).pk


@on_every_database
def test_a_closed_session_waits_for_what_was_fired_before_and_is_undecided(alias: str) -> None:
    manager = new_session(alias)
    refs = [leave_undecided(manager, trigger, alias) for trigger in ("a", "b")]
    manager.close()
    assert fired(manager) == []
    manager.decide_deferred(refs[0])
    assert fired(manager) == ["a", "t_x"]
    manager.decide_deferred(refs[1])
    assert fired(manager) == ["a", "t_x", "b", SESSION_FINALIZED, "t_close"]


@on_every_database
@pytest.mark.parametrize("last", ["a", "b"])
def test_an_open_session_waits_for_what_was_fired_before_and_is_undecided(
    alias: str, last: str
) -> None:
    manager = new_session(alias)
    ref = leave_undecided(manager, last, alias)
    manager.fire("a")
    assert fired(manager) == ["a", "t_x"]
    manager.decide_deferred(ref)
    assert fired(manager) == ["a", "t_x", last, SESSION_FINALIZED, "t_close"]


@on_every_database
def test_what_one_transaction_fires_and_then_ends_is_decided_before_the_end(alias: str) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    manager.update_configuration(TASKS)
    manager.fire("a")
    with transaction.atomic(using=alias):
        manager.fire("b")
        manager.update_configuration({}, finalize=True)
    assert fired(manager) == ["a", "t_x", "b", SESSION_FINALIZED, "t_close"]


@on_every_database
def test_a_firing_that_turns_out_to_be_impossible_does_not_hold_up_an_open_session(
    alias: str,
) -> None:
    manager = new_session(alias)
    ref = leave_undecided(manager, "t_y:failed", alias)
    manager.update_configuration({"t_y": {"after": ["a"], "run": Recorded.name}})
    manager.fire("a")
    assert fired(manager) == ["a", "t_x", "t_y"]
    assert manager.decide_deferred(ref) is None
    assert fired(manager) == ["a", "t_x", "t_y", SESSION_FINALIZED, "t_close"]


@on_every_database
def test_a_firing_that_turns_out_to_be_impossible_holds_nothing_up(alias: str) -> None:
    manager = new_session(alias)
    ref = leave_undecided(manager, "t_y:failed", alias)
    manager.update_configuration({"t_y": {"after": ["never"], "run": Recorded.name}})
    manager.close()
    assert fired(manager) == []
    assert manager.decide_deferred(ref) is None
    assert fired(manager) == [SESSION_FINALIZED, "t_close"]


@on_every_database
def test_a_firing_that_cannot_be_dropped_with_all_that_follows_is_not_dropped(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = new_session(alias)
    ref = leave_undecided(manager, "t_y:failed", alias)
    manager.update_configuration({"t_y": {"after": ["never"], "run": Recorded.name}})
    manager.close()

    def fails(_event: Any) -> Any:
        raise StorageUnavailable("database", "it went away")

    with monkeypatch.context() as patch:
        patch.setattr(manager, "apply", fails)
        with pytest.raises(StorageUnavailable):
            manager.decide_deferred(ref)
    assert [known for known, _manager in manager.storage.deferred()] == [ref]
    assert manager.decide_deferred(ref) is None
    assert fired(manager) == [SESSION_FINALIZED, "t_close"]


# -- managers that override ---------------------------------------------------------------------


class Overriding(TriggerManager):
    """Notes what passes through its own ``fire`` and ``_post_fire``."""

    name = "finalizing-overrides"
    noted: list[str] = []

    def fire(self, trigger_name: str, *args: Any, **options: Any) -> Any:
        self.noted.append(f"fire {trigger_name}")
        return super().fire(trigger_name, *args, **options)

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        scheduled = [each.name for each in tasks_scheduled]
        self.noted.append(f"post {trigger_name} {scheduled}")


@pytest.fixture
def overriding() -> Iterator[type[Overriding]]:
    Overriding.noted = []
    trigger_managers.register(Overriding)
    yield Overriding
    trigger_managers.unregister(Overriding.name)


@on_every_database
def test_hooks_see_the_end_and_cascades_are_decided_before_it(
    alias: str, overriding: type[Overriding]
) -> None:
    manager = overriding(new_session(alias).storage)
    manager.fire("a")
    assert fired(manager) == ["a", "t_x", SESSION_FINALIZED, "t_close"]
    assert [each for each in overriding.noted if each.startswith("fire")] == [
        "fire a",
        "fire t_x",
        "fire t_close",
    ]
    assert f"post {SESSION_FINALIZED} ['t_close#0']" in overriding.noted


@on_every_database
def test_a_cascade_that_nobody_decided_holds_the_end_up_until_recovery_does(
    alias: str, overriding: type[Overriding], monkeypatch: pytest.MonkeyPatch
) -> None:
    from triggers import outbox
    from triggers.clock import frozen_time
    from triggers.engine.draft import RESEND_AFTER

    manager = overriding(new_session(alias).storage)
    with monkeypatch.context() as dead:
        dead.setattr(outbox, "follow_up", lambda *_: None)
        manager.fire("a")
        manager.apply(Claim(key=("t_x", 0), token="t"))
        manager.apply(Finish(key=("t_x", 0), token="t"))
        # A second decision in between must not take the cascade for decided.
        manager.update_configuration({}, finalize=True)
    assert fired(manager) == ["a"]
    with frozen_time(manager.storage.now() + 2 * RESEND_AFTER):
        recovery.recover(manager)
    assert fired(manager) == ["a", "t_x", SESSION_FINALIZED, "t_close"]


# -- other releases -----------------------------------------------------------------------------


@on_every_database
def test_an_older_process_leaves_a_session_that_finalizes_in_a_database_alone(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = new_session(alias)
    plain = TriggerManager(DatabaseStorageBackend(uuid4().hex, using=alias))
    plain.update_configuration(TASKS)
    monkeypatch.setattr(database, "STATE_VERSION", 3)
    with pytest.raises(StateVersionError):
        manager.fire("a")
    assert fired(manager) == []
    plain.fire("a")
    assert fired(plain) == ["a", "t_x"]


@pytest.mark.server("redis")
def test_an_older_process_leaves_a_session_that_finalizes_in_redis_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    managers = [
        TriggerManager(storage_backends.get("redis", uuid4().hex)) for _ in ("finalizes", "plain")
    ]
    finalizing, plain = managers
    finalizing.update_configuration(TASKS, finalize=True)
    plain.update_configuration(TASKS)
    monkeypatch.setattr(redis_storage, "STATE_VERSION", 3)
    with pytest.raises(StateVersionError):
        finalizing.fire("a")
    assert fired(finalizing) == []
    plain.fire("a")
    assert fired(plain) == ["a", "t_x"]
