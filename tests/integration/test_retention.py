"""What ended long ago is removed, what did not is not, and nothing begins again under its name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from tests import servers
from tests.contract.custom_storage import FolderStorage
from triggers.exceptions import SessionClosed, SettingsError, StorageUnavailable
from triggers.manager import TriggerManager, get_trigger_manager
from triggers.models import Configuration, Firing, IdempotencyKey, Instance, Session
from triggers.retention import Purged, purge
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.session import SessionStorage
from triggers.testing import frozen_time, run_tasks_locally
from triggers.testing.racing import Recorded, in_threads
from triggers.types import Phase

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = START + 100 * DAY
TASKS: dict[str, Any] = {"t_x": {"after": ["a"], "run": Recorded.name}}
QUARTER = 90 * DAY


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    MemoryStorageBackend.clear()
    with run_tasks_locally("synchronous"), frozen_time(NOW):
        yield
    MemoryStorageBackend.clear()


@pytest.fixture(
    params=[
        "memory",
        *servers.database_params(),
        pytest.param("cache", marks=pytest.mark.server("redis")),
        pytest.param("redis", marks=pytest.mark.server("redis")),
    ]
)
def _storage(request: pytest.FixtureRequest, settings: Any) -> None:
    """Make this storage the default alias."""
    name = request.param
    options: dict[str, Any] = {"STORAGE": name}
    if name == "redis":
        options["OPTIONS"] = {"url": servers.redis_url(), "prefix": f"{servers.RUN_ID}:{uuid4()}"}
    elif name not in ("memory", "cache"):
        options = {"OPTIONS": {"using": name}}
    settings.TRIGGERS = {"default": options}
    if name == "cache":
        settings.CACHES = {
            "default": {**settings.CACHES["default"], "KEY_PREFIX": f"{servers.RUN_ID}{uuid4()}"}
        }


on_every_storage = pytest.mark.usefixtures("_storage")


def ended(uid: str = "", at: datetime = START, tasks: Any = None) -> TriggerManager:
    """A session that came to its end at this moment."""
    manager = get_trigger_manager(uid or uuid4().hex)
    with frozen_time(at):
        manager.update_configuration(tasks or TASKS)
        manager.fire("a", {"name": "Ada"}, idempotency_key="evt_1")
    return manager


def phase(manager: TriggerManager) -> Phase:
    return get_trigger_manager(manager.storage.uid).storage.standing().phase


# -- which sessions -----------------------------------------------------------------------------


@on_every_storage
def test_old_sessions_that_are_resolved_are_purged_and_younger_ones_are_not() -> None:
    old, young = ended(), ended(at=START + 11 * DAY)
    assert purge(QUARTER) == Purged(sessions=1)
    assert (phase(old), phase(young)) == (Phase.PURGED, Phase.OPEN)
    assert list(old.storage) == []
    assert list(old.storage.find_firings()) == []
    assert len(list(young.storage)) == 1


@on_every_storage
def test_purging_again_finds_nothing() -> None:
    ended()
    assert purge(QUARTER).sessions == 1
    assert purge(QUARTER) == Purged()


@on_every_storage
def test_a_session_with_something_left_to_do_is_kept() -> None:
    waiting = get_trigger_manager("waiting")
    never_begun = get_trigger_manager("never-begun")
    with frozen_time(START):
        waiting.update_configuration({"t_x": {"after": ["a", "b"], "run": Recorded.name}})
        waiting.fire("a")
        never_begun.update_configuration(TASKS)
        never_begun.fire("b")
    assert purge(QUARTER).sessions == 0
    assert (phase(waiting), phase(never_begun)) == (Phase.OPEN, Phase.OPEN)


@on_every_storage
def test_a_closed_session_needs_no_instance_of_each_task() -> None:
    manager = ended(tasks={**TASKS, "t_failed": {"after": ["t_x:failed"], "run": Recorded.name}})
    still_open = ended(tasks={**TASKS, "t_failed": {"after": ["t_x:failed"], "run": "x"}})
    with frozen_time(START):
        assert manager.close() is Phase.CLOSED
    assert purge(QUARTER).sessions == 1
    assert (phase(manager), phase(still_open)) == (Phase.PURGED, Phase.OPEN)


@on_every_storage
def test_after_purging_firing_is_refused_with_the_same_key_too() -> None:
    manager = ended()
    purge(QUARTER)
    for key in (None, "evt_1", "evt_2"):
        with pytest.raises(SessionClosed, match="is purged: its data have been removed"):
            manager.fire("a", {"name": "Ada"}, idempotency_key=key)
    with pytest.raises(SessionClosed):
        manager.update_configuration(TASKS)


@on_every_storage
def test_deleting_removes_the_tombstone() -> None:
    manager = ended()
    purge(QUARTER)
    manager.storage.delete()
    assert manager.update_configuration(TASKS)
    assert manager.fire("a", idempotency_key="evt_1").seq == 1


@on_every_storage
def test_many_are_gone_through_in_batches_and_progress_is_told() -> None:
    managers = [ended(f"s{n}") for n in range(7)]
    stuck = get_trigger_manager("s33")
    with frozen_time(START):
        stuck.update_configuration({"t_x": {"after": ["a", "b"], "run": Recorded.name}})
        stuck.fire("a")
    told: list[Purged] = []
    purged = purge(QUARTER, batch=2, progress=told.append)
    assert (purged.sessions, purged.kept) == (7, 1)
    assert told[-1] == purged
    assert len(told) == 8 + purged.configurations
    assert {phase(manager) for manager in managers} == {Phase.PURGED}


@on_every_storage
def test_a_dry_run_changes_nothing_and_counts_the_same() -> None:
    managers = [ended() for _ in range(3)]
    stuck = get_trigger_manager("stuck")
    with frozen_time(START):
        stuck.update_configuration({"t_x": {"after": ["a", "b"], "run": Recorded.name}})
        stuck.fire("a")
    guess = purge(QUARTER, dry_run=True)
    assert {phase(manager) for manager in managers} == {Phase.OPEN}
    assert guess == Purged(sessions=3, kept=1), "what purging would leave unused is not counted"
    purged = purge(QUARTER)
    assert (purged.sessions, purged.kept) == (3, 1)


@on_every_storage
def test_a_session_fired_into_between_listing_and_purging_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = ended("s1"), ended("s2")

    def fire(purged: Purged) -> None:
        if purged.sessions == 1 and not purged.kept:
            assert {phase(first), phase(second)} == {Phase.PURGED, Phase.OPEN}
            [other] = [each for each in (first, second) if phase(each) is Phase.OPEN]
            other.fire("a")

    assert purge(QUARTER, progress=fire) == Purged(sessions=1, kept=1)


@on_every_storage
def test_two_purges_at_once_do_no_harm() -> None:
    managers = [ended() for _ in range(8)]

    def go() -> None:
        assert purge(QUARTER, batch=3).failed == 0

    in_threads(go, go, go)
    assert {phase(manager) for manager in managers} == {Phase.PURGED}
    assert purge(QUARTER) == Purged()


@pytest.mark.parametrize("alias", servers.database_params())
def test_nothing_but_the_tombstone_stays_in_the_database(alias: str, settings: Any) -> None:
    settings.TRIGGERS = {"default": {"OPTIONS": {"using": alias}}}
    ended("gone")
    assert purge(QUARTER) == Purged(sessions=1, configurations=1)
    [row] = Session.objects.using(alias).all()
    assert (row.uid, row.seq > 0, row.configuration_id, row.manager) == ("gone", True, None, None)
    for model in (Firing, IdempotencyKey, Instance, Configuration):
        assert not model._default_manager.using(alias).exists(), model


@pytest.mark.django_db(transaction=True)
def test_a_session_with_a_deferred_firing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = ended("waits")
    monkeypatch.setattr(manager, "_decide_deferred", lambda ref: None)  # as if it had crashed
    with transaction.atomic():
        assert manager.fire("a").pending
    assert len(manager.storage.deferred()) == 1
    assert purge(QUARTER) == Purged(kept=1)
    assert phase(manager) is Phase.OPEN


# -- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_storage_that_cannot_list_its_sessions_is_named(settings: Any, tmp_path: Path) -> None:
    storage_backends.register(FolderStorage)
    try:
        settings.TRIGGERS = {
            "custom": {"STORAGE": FolderStorage.name, "OPTIONS": {"folder": str(tmp_path)}},
            "default": {"STORAGE": "memory"},
        }
        ended("s")
        assert purge(QUARTER) == Purged(sessions=1, unlisted=("custom",))
    finally:
        storage_backends.unregister(FolderStorage.name)


def test_aliases_of_the_same_storage_are_gone_through_once(settings: Any) -> None:
    settings.TRIGGERS = {
        "default": {"STORAGE": "memory"},
        "same": {"STORAGE": "memory", "RUNNER": "threading"},
    }
    ended("s")
    assert purge(QUARTER, dry_run=True).sessions == 1
    assert purge(QUARTER, "same", dry_run=True).sessions == 1


class Hurt(MemoryStorageBackend):
    """A storage in which some sessions cannot be decided on."""

    name = "retention-hurt"

    def transact(self, event: Any) -> Any:
        if self.uid.startswith("down"):
            raise StorageUnavailable(self.name, "it is down")
        if self.uid.startswith("hurt"):
            raise RuntimeError("it is hurt")
        return super().transact(event)


@pytest.fixture
def _hurt(settings: Any) -> Iterator[None]:
    storage_backends.register(Hurt)
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}, "hurt": {"STORAGE": Hurt.name}}
    yield
    storage_backends.unregister(Hurt.name)


@pytest.mark.usefixtures("_hurt")
def test_a_session_that_cannot_be_purged_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for n in range(4):
        ended(f"hurt{n}")
        ended(f"sound{n}")
    assert purge(QUARTER, "hurt", batch=3) == Purged(sessions=4, failed=4)
    logged = [vars(each)["session"] for each in caplog.records if each.levelno == logging.ERROR]
    assert logged == [f"hurt{n}" for n in range(4)]


@pytest.mark.usefixtures("_hurt")
def test_a_storage_that_is_down_ends_it() -> None:
    for n in range(5):
        ended(f"down{n}")
    with pytest.raises(StorageUnavailable, match="it is down"):
        purge(QUARTER, "hurt")


class Mislisting(MemoryStorageBackend):
    """A storage whose pages are those that a test wants."""

    name = "retention-mislisting"

    page: Any = None
    calls: list[str] = []

    @classmethod
    def sessions(cls, limit: int, *, after: str = "", **options: Any) -> Any:
        cls.calls.append(after)
        assert len(cls.calls) < 10, "this would never end"
        if cls.page == "ignores after":
            return super().sessions(limit)
        if cls.page == "begins at after":
            found = super().sessions(10_000)
            return [uid for uid in found if uid >= after][:limit]
        return cls.page


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("ignores after", "for after='s1' it returned 's0', which was on the page before"),
        ("begins at after", "for after='s1' it returned 's1', which was on the page before"),
        ("s0", "for after='' it returned 's0'"),
        (None, "for after='' it returned None"),
        (7, "for after='' it returned 7"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_pages_that_would_come_again_and_again_are_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch, page: Any, problem: str, dry_run: bool
) -> None:
    storage_backends.register(Mislisting)
    monkeypatch.setattr(Mislisting, "page", page)
    monkeypatch.setattr(Mislisting, "calls", [])
    settings.TRIGGERS = {"default": {"STORAGE": Mislisting.name}}
    for n in range(3):
        get_trigger_manager(f"s{n}").fire("b")  # nothing in it is done, so it stays
    try:
        with pytest.raises(TypeError) as caught:
            purge(QUARTER, batch=2, dry_run=dry_run)
    finally:
        storage_backends.unregister(Mislisting.name)
    place = f"{__name__}.Mislisting.sessions() must return a list of at most `limit` uids"
    assert str(caught.value).startswith(place)
    assert str(caught.value).endswith(f"beginning after the uid `after`; {problem}.")


def test_wrong_arguments_are_refused(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    with pytest.raises(TypeError, match="must be a timedelta, got int"):
        purge(90)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="longer than zero"):
        purge(timedelta(0))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        purge(DAY, batch=0)
    with pytest.raises(SettingsError, match="'nobody'"):
        purge(DAY, "nobody")


def test_hooks_of_the_sessions_own_manager_hear_what_was_due() -> None:
    """A purge decides first what is due; who finds that out keeps the session."""
    storage: SessionStorage = MemoryStorageBackend("due")
    manager = TriggerManager(storage)
    with frozen_time(START):
        manager.update_configuration(
            {
                "t_x": {"after": ["a", "b"], "within": "P1D", "run": Recorded.name},
                "t_late": {"andEvery": "t_x:expired", "run": Recorded.name},
            }
        )
        manager.fire("a")
    from django.test import override_settings

    with override_settings(TRIGGERS={"default": {"STORAGE": "memory"}}):
        assert purge(QUARTER) == Purged(kept=1)
    assert {each.name: str(each.status) for each in storage} == {
        "t_x#0": "abandoned",
        "t_late#0": "finished",
    }
