"""Configurations that no session has any more go; one that is being given to a session stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from tests import servers
from triggers.manager import TriggerManager, get_trigger_manager
from triggers.models import Configuration
from triggers.retention import Purged, purge
from triggers.testing import frozen_time, run_tasks_locally
from triggers.testing.racing import Recorded, in_threads

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = START + 100 * DAY
QUARTER = 90 * DAY
TASKS: dict[str, Any] = {"t_x": {"after": ["a"], "run": Recorded.name}}


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    with run_tasks_locally("synchronous"), frozen_time(NOW):
        yield


def ended(uid: str, at: datetime = START, tasks: Any = None) -> TriggerManager:
    """A session that came to its end at this moment."""
    manager = get_trigger_manager(uid)
    with frozen_time(at):
        manager.update_configuration(tasks or TASKS)
        manager.fire("a")
    return manager


def digests(alias: str) -> set[str]:
    return set(Configuration.objects.using(alias).values_list("digest", flat=True))


@pytest.mark.parametrize("alias", servers.database_params())
def test_configurations_go_when_nothing_has_them_and_they_are_a_week_old(
    alias: str, settings: Any
) -> None:
    settings.TRIGGERS = {"default": {"OPTIONS": {"using": alias}}}
    used, unused, young = (
        {f"t_{n}": {"after": ["a"], "run": Recorded.name}} for n in ("used", "unused", "young")
    )
    ended("used", at=NOW - DAY, tasks=used)
    for name, tasks, at in (("unused", unused, NOW - 8 * DAY), ("young", young, NOW - 6 * DAY)):
        ended(name, at=at, tasks=tasks).storage.delete()
    Configuration.objects.using(alias).exclude(session=None).update(created_at=START)
    before = digests(alias)
    assert len(before) == 3
    assert purge(QUARTER, dry_run=True).configurations == 1
    assert purge(QUARTER, batch=1) == Purged(configurations=1)
    assert len(digests(alias)) == 2
    # One that was removed is stored again when it is needed again.
    ended("again", tasks=unused)
    assert digests(alias) == before


@pytest.mark.parametrize("alias", servers.database_params())
def test_a_configuration_that_is_being_given_to_a_session_stays(alias: str, settings: Any) -> None:
    """On servers: held open, the transaction that gives it would meet the removal."""
    settings.TRIGGERS = {"default": {"OPTIONS": {"using": alias, "in_transaction": "decide"}}}
    ended("first").storage.delete()
    [digest] = digests(alias)
    given, looked = threading.Event(), threading.Event()
    found: list[Purged] = []
    is_sqlite = connections[alias].vendor == "sqlite"

    def give() -> None:
        with frozen_time(NOW), run_tasks_locally("synchronous"):
            manager = get_trigger_manager("second")
            if is_sqlite:  # one writer at a time, so there is nothing to meet
                manager.update_configuration(TASKS)
                given.set()
                return
            with transaction.atomic(using=alias):
                manager.update_configuration(TASKS)
                given.set()
                assert looked.wait(30)

    def look() -> None:
        assert given.wait(30)
        with frozen_time(NOW):
            try:
                found.append(purge(QUARTER))
            finally:
                looked.set()

    in_threads(give, look)
    assert [each.configurations for each in found] == [0]
    assert digests(alias) == {digest}
    manager = get_trigger_manager("second")
    assert list(manager.storage.tasks) == ["t_x"]


@pytest.mark.parametrize("alias", servers.database_params())
def test_configurations_are_removed_and_given_again_at_once(alias: str, settings: Any) -> None:
    settings.TRIGGERS = {"default": {"OPTIONS": {"using": alias, "server_timeout": 30}}}
    managers = [get_trigger_manager(f"s{n}") for n in range(30)]
    stop = threading.Event()
    failures: list[int] = []

    def configure() -> None:
        try:
            for manager in managers:
                with frozen_time(START):
                    manager.update_configuration(TASKS)
                    manager.storage.delete()
                    manager.update_configuration(TASKS)
                    manager.storage.delete()
                with frozen_time(NOW):
                    manager.update_configuration(TASKS)
        finally:
            stop.set()

    def remove() -> None:
        while not stop.is_set():
            with frozen_time(NOW):
                failures.append(purge(QUARTER).failed)

    in_threads(configure, remove)
    assert set(failures) <= {0}
    assert len(digests(alias)) == 1
    for manager in managers:
        assert list(manager.storage.tasks) == ["t_x"]
