"""What a storage must do so that recovery and timers find its sessions, and readers see no half.

Part of :class:`~triggers.testing.contract.StorageContract`. What is listed is due in a time long
before that of the other tests, so that their sessions are not among it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from triggers import recovery
from triggers.clock import frozen_time
from triggers.engine import Hooks
from triggers.engine.events import Fire
from triggers.storages.base import BaseTriggerStorage
from triggers.testing.racing import IdleRunner, in_threads
from triggers.testing.suite import StorageSuite

HOURS = (3, 1, 4, 2)
"""When the sessions become due that are listed: neither in this order nor in that of their uids."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class ListingContract(StorageSuite):
    """What is due is listed, what is due for longest first, and nothing else."""

    @contextmanager
    def due_one_by_one(self) -> Iterator[tuple[datetime, list[str]]]:
        """Sessions that recovery is to look at, each of them a deadline a day later.

        :returns: a context manager that yields the moment from which ``HOURS`` count, and the
            uids, the session first that is due for longest.
        """
        if not self.lists_overdue:
            pytest.skip(f"{self.storage} cannot list its sessions")
        # Of this test alone, even if others that share the place were ended half-way.
        start = datetime(1980, 1, 1, tzinfo=UTC) + random.randrange(7000) * DAY
        tasks: dict[str, dict[str, Any]] = {
            "t_x": {"after": ["a"]},
            "t_join": {"after": ["a", "b"], "within": "P1D"},
        }
        prefix = uuid4().hex
        uids = {f"{prefix} {place}": hours for place, hours in enumerate(HOURS)}
        try:
            for uid, hours in uids.items():
                with frozen_time(start + hours * HOUR):
                    self.manager(uid, tasks, runner=IdleRunner).fire("a")
            yield start, sorted(uids, key=uids.__getitem__)
        finally:
            for uid in uids:
                self.open(uid).delete()

    def check_order(self, listed: Callable[[int], Collection[str]], expected: list[str]) -> None:
        """Sessions must be listed in this order, and no more than were asked for.

        :param listed: lists so many sessions at most.
        :param expected: uids that must be among them, in order.
        """
        found = listed(10_000)
        assert isinstance(found, list | tuple), f"it must return a list of uids, got {found!r}"
        ours = [uid for uid in found if uid in expected]
        assert ours == expected, "what has been due for longest must come first, each once"
        for limit in (1, 2, 3):
            few = listed(limit)
            assert len(few) <= limit, f"at most {limit} were asked for"
            assert list(few) == list(found[:limit]), "those that are left out must be the last ones"

    def test_sessions_that_recovery_is_to_look_at_are_listed_those_due_for_longest_first(
        self,
    ) -> None:
        with self.due_one_by_one() as (start, uids):
            cls = type(self.open("-"))
            with frozen_time(start + DAY / 2):
                self.check_order(lambda limit: cls.overdue(limit, **self.options), uids)

    def test_sessions_with_deadlines_are_listed_those_due_for_longest_first(self) -> None:
        with self.due_one_by_one() as (start, uids):
            cls = type(self.open("-"))
            with frozen_time(start + 2 * DAY):
                self.check_order(lambda limit: cls.ticking(limit, None, **self.options), uids)

    def test_sessions_are_listed_whose_deadlines_are_not_later_than_a_moment(self) -> None:
        with self.due_one_by_one() as (start, uids):
            cls = type(self.open("-"))
            until = start + DAY + 2 * HOUR

            def listed(moment: datetime) -> list[str]:
                found = cls.ticking(10_000, moment, **self.options)
                return [uid for uid in found if uid in uids]

            for now in (start, start + 9 * DAY):
                with frozen_time(now):
                    assert listed(until) == uids[:2]
                    assert listed(until - timedelta(microseconds=1)) == uids[:1]
                    assert listed(until + DAY) == uids

    def test_a_session_in_which_only_a_hook_was_not_called_is_listed(self) -> None:
        if not self.lists_overdue:
            pytest.skip(f"{self.storage} cannot list its sessions")
        manager = self.manager(uuid4().hex)
        uid, now = manager.storage.uid, manager.storage.now()
        # As by a process that ends between the commit and the call of the hook.
        hooks = Hooks(manager.name, frozenset({"post_fire"}))
        manager.storage.transact(Fire(trigger="a", hooks=hooks))
        assert uid not in self.overdue()
        with frozen_time(now + DAY):
            assert uid in self.overdue(), 'what is in metas["pending"] is due, too'
            assert recovery.recover(manager).marks == 1
            assert uid not in self.overdue()

    def test_who_reads_without_the_lock_never_sees_half_of_what_was_saved(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"andEvery": "p"}}, runner=IdleRunner)
        storage = self.reopened(manager)
        if not isinstance(storage, BaseTriggerStorage) or not storage.saves_at_once:
            return  # it reads by itself, or under the lock
        ended, torn = threading.Event(), "saves_at_once is True, but a reader has seen half a save"

        def write() -> None:
            try:
                for _ in range(40):
                    manager.fire("p")
            finally:
                ended.set()

        def read() -> None:
            while not ended.is_set():
                _configs, instances, metas = storage._load_from_backend()
                assert len(instances or {}) == len((metas or {}).get("firings", ())), torn

        in_threads(write, read)
