"""What a storage must do so that workers may die and sessions may end.

Part of :class:`~triggers.testing.contract.StorageContract`: leases and attempts by the storage's
clock, the phases of a session, what retention asks for, and the limits of a session.

Longer than 400 lines because it is a list of promises, each with its test.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from triggers import recovery, timers
from triggers.clock import frozen_time
from triggers.engine.lifecycle import LEASE, Claim, Extend, Fail, Finish
from triggers.engine.phases import Purge
from triggers.exceptions import (
    IdempotencyConflict,
    InstanceNotFound,
    PayloadTooLarge,
    SessionClosed,
    SessionFull,
)
from triggers.limits import Limits
from triggers.manager import TriggerManager
from triggers.runners.base import BaseTaskRunner
from triggers.storages.session import SessionStorage
from triggers.testing.racing import IdleRunner, in_threads
from triggers.testing.suite import StorageSuite
from triggers.types import Instance, Phase, Standing

KEY = ("t_x", 0)
JOIN: Mapping[str, dict[str, Any]] = {"t_x": {"after": ["a"]}}


class ProductionContract(StorageSuite):
    """Workers that die, sessions that end, and limits."""

    def bounded(
        self,
        tasks: Mapping[str, dict[str, Any]] | None = None,
        runner: type[BaseTaskRunner] | None = IdleRunner,
        **limits: Any,
    ) -> TriggerManager:
        """A manager on a fresh session with limits, whether or not the storage takes any.

        :param tasks: directives by task name, without ``run``; by default no tasks.
        :param runner: the runner of its tasks; ``None``: tasks run in place.
        :param limits: the fields of :class:`~triggers.limits.Limits`.
        """
        manager = self.manager(uuid4().hex, runner=runner)
        manager.storage.limits = Limits(**limits)
        if tasks:
            self.configure(manager, tasks)
        return manager

    def claimed(self, manager: TriggerManager, token: str, lease: timedelta = LEASE) -> Any:
        """What a worker is told that claims the instance.

        :param token: the attempt's fence.
        :param lease: how long the worker is taken to be alive, a ``timedelta``.
        """
        event = Claim(key=KEY, token=token, lease=lease)
        return self.reopened(manager).transact(event).outcome

    def running(self, **limits: Any) -> TriggerManager:
        """A session in which a worker has just claimed an instance, with the token ``one``.

        :param limits: the fields of :class:`~triggers.limits.Limits`.
        """
        manager = self.bounded(JOIN, **limits)
        manager.fire("a", {"n": 1})
        assert isinstance(self.claimed(manager, "one"), Instance)
        return manager

    def lease_end(self, manager: TriggerManager) -> datetime:
        """The moment at which the lease of the instance runs out."""
        end = self.reopened(manager)["t_x#0"].record.due_at
        assert end is not None
        return end

    def listed(self, after: str = "", limit: int = 10_000, **options: Any) -> list[str]:
        """Uids that the storage lists; the test is left out if it cannot.

        :param after: begin after this uid.
        :param limit: how many at most.
        :param options: further arguments of ``sessions``.
        """
        storage = self.open("-")
        try:
            return type(storage).sessions(limit, after=after, **options, **self.options)
        except NotImplementedError as error:
            pytest.skip(str(error))

    # -- leases -----------------------------------------------------------------------------------

    def test_a_lease_counts_by_the_clock_of_the_storage(self) -> None:
        manager = self.bounded(JOIN)
        moment = manager.storage.now() + timedelta(days=1)
        with frozen_time(moment):
            manager.fire("a")
            self.claimed(manager, "one", timedelta(seconds=7))
        assert self.lease_end(manager) == moment + timedelta(seconds=7)

    def test_the_same_claim_again_is_answered_with_the_same_started_instance(self) -> None:
        manager = self.running()
        again = self.claimed(manager, "one")
        assert isinstance(again, Instance)
        assert (again.name, again.attempt, again.token) == ("t_x#0", 1, "one")
        assert self.claimed(manager, "two") is None
        assert self.reopened(manager)["t_x#0"].attempt == 1

    def test_of_claims_made_at_the_same_time_one_gets_in(self) -> None:
        manager = self.bounded({"t_x": {"andEvery": "p"}})
        keys = [("t_x", number) for number in range(10)]
        for _ in keys:
            manager.fire("p")
        let_in: list[tuple[str, int]] = []

        def claim() -> None:
            storage = self.reopened(manager)
            for key in keys:
                event = Claim(key=key, token=uuid4().hex)
                if isinstance(storage.transact(event).outcome, Instance):
                    let_in.append(key)

        in_threads(*[claim] * 4)
        assert sorted(let_in) == keys
        assert {each.attempt for each in self.reopened(manager)} == {1}

    def test_after_its_lease_the_same_instance_gets_a_new_attempt(self) -> None:
        manager = self.running()
        end = self.lease_end(manager)
        with frozen_time(end - timedelta(microseconds=1)):
            if self.lists_overdue:
                assert manager.storage.uid not in self.overdue()
            assert recovery.recover(manager).sent == 0
        with frozen_time(end):
            if self.lists_overdue:
                assert manager.storage.uid in self.overdue()
            assert recovery.recover(manager).sent == 1
            assert recovery.recover(manager).sent == 0
            assert self.statuses(manager) == {"t_x#0": "scheduled"}
            second = self.claimed(manager, "two")
        assert (second.name, second.attempt) == ("t_x#0", 2)
        [lost] = self.reopened(manager)["t_x#0"].metadata["lost_attempts"]
        assert lost["attempt"] == 1
        assert self.reopened(manager)["t_x#0"].kwargs == {"a": {"n": 1}}

    def test_an_attempt_that_was_lost_cannot_report_any_more(self) -> None:
        manager = self.running()
        storage = self.reopened(manager)
        late = [Finish(key=KEY, token="one", result='{"late":true}'), Fail(key=KEY, token="one")]
        end = self.lease_end(manager)
        with frozen_time(end):
            recovery.recover(manager)
            assert [storage.transact(each).outcome for each in late] == [False, False]
            self.claimed(manager, "two")
            assert [storage.transact(each).outcome for each in late] == [False, False]
            assert storage.transact(Extend(key=KEY, token="one")).outcome is False
            assert self.statuses(manager) == {"t_x#0": "running"}
            assert storage.transact(Finish(key=KEY, token="two", result='{"n":2}')).outcome is True
        assert self.reopened(manager)["t_x#0"].metadata["result"] == {"n": 2}
        assert self.reopened(manager).latest_kwargs["t_x"] == {"n": 2}

    def test_a_worker_that_finishes_before_recovery_looks_has_finished(self) -> None:
        manager = self.running()
        with frozen_time(self.lease_end(manager) + timedelta(days=1)):
            assert self.reopened(manager).transact(Finish(key=KEY, token="one")).outcome is True
            assert recovery.recover(manager).sent == 0
        assert self.statuses(manager) == {"t_x#0": "finished"}

    def test_a_heartbeat_keeps_the_lease(self) -> None:
        manager = self.running()
        end = self.lease_end(manager)
        with frozen_time(end - timedelta(seconds=1)):
            event = Extend(key=KEY, token="one", lease=timedelta(seconds=30))
            assert self.reopened(manager).transact(event).outcome is True
        assert self.lease_end(manager) == end + timedelta(seconds=29)
        with frozen_time(end):
            assert recovery.recover(manager).sent == 0
        with frozen_time(end + timedelta(seconds=29)):
            assert recovery.recover(manager).sent == 1
            assert self.reopened(manager).transact(event).outcome is False

    def test_a_heartbeat_leaves_what_is_due_to_those_who_can_hand_it_on(self) -> None:
        tasks = {**JOIN, "t_late": {"after": ["a", {"elapsed": "PT10S", "since": "a"}]}}
        manager = self.bounded(tasks)
        manager.fire("a")
        self.claimed(manager, "one")
        due = manager.storage.now() + timedelta(seconds=10)
        with frozen_time(due):
            transition = self.reopened(manager).transact(Extend(key=KEY, token="one"))
            assert (transition.outcome, list(transition.scheduled)) == (True, [])
            assert self.statuses(manager)["t_late#0"] == "unstarted"
            assert timers.fire_due_in(manager) == 1
        assert self.statuses(manager)["t_late#0"] == "scheduled"

    def test_after_too_many_lost_workers_the_instance_fails_with_workerlost(self) -> None:
        manager = self.bounded({**JOIN, "t_alarm": {"after": ["t_x:failed"]}}, attempts=2)
        manager.fire("a", {"n": 1})
        for attempt in (1, 2):
            assert self.claimed(manager, f"token {attempt}").attempt == attempt
            with frozen_time(self.lease_end(manager)):
                assert recovery.recover(manager).sent == 1
        assert self.statuses(manager) == {"t_x#0": "failed", "t_alarm#0": "scheduled"}
        storage = self.reopened(manager)
        exception = storage["t_x#0"].metadata["exception"]
        assert exception["type"] == "triggers.exceptions.WorkerLost"
        assert [each["attempt"] for each in storage["t_x#0"].metadata["lost_attempts"]] == [1, 2]
        failure = storage["t_alarm#0"].kwargs["t_x:failed"]
        assert (failure["message"], failure["attempt"]) == (exception["message"], 2)
        assert failure["kwargs"] == {"a": {"n": 1}}
        replayed = manager.replay_failed_instance("t_x#0")
        assert (replayed.name, replayed.attempt) == ("t_x#1", 0)

    # -- the end of a session ---------------------------------------------------------------------

    def test_a_closed_session_takes_nothing_new_and_brings_to_its_end_what_has_begun(self) -> None:
        tasks = {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"]}}
        manager = self.bounded(tasks)
        manager.fire("a", {"n": 1}, idempotency_key="k")
        assert manager.close() is Phase.CLOSED
        assert manager.close() is Phase.CLOSED
        assert self.reopened(manager).standing().phase is Phase.CLOSED
        with pytest.raises(SessionClosed, match="is closed") as caught:
            manager.fire("a")
        assert (caught.value.phase, caught.value.uid) == ("closed", manager.storage.uid)
        with pytest.raises(SessionClosed):
            self.configure(manager, {"t_z": {"after": ["a"]}})
        assert manager.fire("a", {"n": 1}, idempotency_key="k").duplicate
        with pytest.raises(IdempotencyConflict):
            manager.fire("a", {"n": 2}, idempotency_key="k")
        storage = self.reopened(manager)
        storage.transact(Claim(key=KEY, token="one"))
        storage.transact(Finish(key=KEY, token="one"))
        assert self.statuses(manager) == {"t_x#0": "finished", "t_y#0": "scheduled"}
        assert set(self.reopened(manager).tasks) == {"t_x", "t_y"}

    def test_a_cancelled_session_abandons_what_was_not_started_and_fires_nothing(self) -> None:
        tasks: dict[str, dict[str, Any]] = {
            "t_x": {"andEvery": "p"},
            "t_wait": {"after": ["p", "never"], "within": "PT1H"},
            "t_y": {"after": ["t_x"]},
            "t_handler": {"after": ["t_wait:abandoned"]},
        }
        manager = self.bounded(tasks)
        for _ in range(3):
            manager.fire("p")
        storage = self.reopened(manager)
        assert isinstance(self.claimed(manager, "one"), Instance)
        assert manager.cancel() is Phase.CANCELLED
        assert storage.transact(Finish(key=KEY, token="one", result='{"n":1}')).outcome is True
        expected = dict.fromkeys(["t_x#1", "t_x#2", "t_wait#0"], "abandoned")
        assert self.statuses(manager) == {"t_x#0": "finished", **expected}
        for name in expected:
            assert self.reopened(manager)[name].metadata["reason"] == "cancelled"
        assert self.reopened(manager)["t_x#0"].metadata["result"] == {"n": 1}
        assert storage.standing().seq == 3
        with pytest.raises(SessionClosed, match="is cancelled"):
            manager.fire("p")
        with pytest.raises(SessionClosed):
            storage.create_instance("t_x", kwargs={"p": {}})
        with frozen_time(storage.now() + timedelta(days=1)):
            assert timers.fire_due_in(manager) == 0
            assert recovery.recover(manager).sent == 0
            if self.lists_overdue:
                assert manager.storage.uid not in self.overdue()

    def test_a_worker_lost_in_a_cancelled_session_is_not_replaced(self) -> None:
        manager = self.running()
        manager.cancel()
        with frozen_time(self.lease_end(manager)):
            assert recovery.recover(manager).sent == 0
        assert self.statuses(manager) == {"t_x#0": "failed"}
        assert self.reopened(manager).standing().seq == 1

    def test_erasing_a_session_leaves_a_tombstone_and_nothing_else(self) -> None:
        tasks: dict[str, dict[str, Any]] = {
            "t_x": {"after": ["a"], "when": {"a": {"n": {"gte": 0}}}},
            "t_wait": {"after": ["a", "never"], "within": "PT1H"},
        }
        manager, other = self.bounded(tasks), self.bounded(tasks)
        for each in (manager, other):
            each.fire("a", {"n": 1}, idempotency_key="k")
        assert isinstance(self.claimed(manager, "one"), Instance)
        manager.erase()
        storage = self.reopened(manager)
        standing = storage.standing()
        assert (standing.phase, standing.seq, standing.manager) == (Phase.PURGED, 1, None)
        assert (storage.tasks, list(storage), storage.latest_kwargs) == ({}, [], {})
        assert list(storage.find_firings()) == []
        for key in ("k", "other", None):
            with pytest.raises(SessionClosed, match="is purged"):
                manager.fire("a", {"n": 1}, idempotency_key=key)
        with pytest.raises(SessionClosed):
            self.configure(manager, tasks)
        for late in (Finish(key=KEY, token="one"), Extend(key=KEY, token="one")):
            with pytest.raises(InstanceNotFound):
                storage.transact(late)
        with frozen_time(storage.now() + timedelta(days=1)):
            assert recovery.recover(manager).sent == 0
            assert timers.fire_due_in(manager) == 0
            if self.lists_overdue:
                assert manager.storage.uid not in self.overdue()
        manager.erase()
        assert self.statuses(other) == {"t_x#0": "scheduled", "t_wait#0": "unstarted"}

    def test_deleting_a_purged_session_removes_the_tombstone_too(self) -> None:
        manager = self.bounded(JOIN)
        manager.fire("a", idempotency_key="k")
        manager.erase()
        manager.storage.delete()
        assert self.reopened(manager).standing() == Standing()
        assert manager.fire("a", idempotency_key="k").seq == 1

    def test_a_session_that_nobody_has_heard_of_can_be_closed(self) -> None:
        manager = self.bounded()
        assert manager.close() is Phase.CLOSED
        with pytest.raises(SessionClosed):
            manager.fire("a")
        assert self.reopened(manager).standing().phase is Phase.CLOSED

    def test_firings_that_race_with_the_end_are_either_taken_or_refused(self) -> None:
        manager = self.bounded({"t_x": {"andEvery": "p"}})
        taken: list[int | None] = []

        def fire() -> None:
            each = self.manager(manager.storage.uid, runner=IdleRunner)
            for _ in range(20):
                try:
                    taken.append(each.fire("p").seq)
                except SessionClosed:
                    return

        def close() -> None:
            manager.close()

        in_threads(fire, fire, close)
        storage = self.reopened(manager)
        assert [each.seq for each in storage.find_firings()] == sorted(filter(None, taken))
        assert len(list(storage)) == len(taken)
        assert storage.standing().phase is Phase.CLOSED

    # -- what retention asks for ------------------------------------------------------------------

    def test_the_standing_tells_how_far_a_session_has_come(self) -> None:
        assert self.open(uuid4().hex).standing() == Standing()
        manager = self.bounded(JOIN)
        moment = manager.storage.now() + timedelta(days=1)
        with frozen_time(moment):
            manager.fire("a")
            manager.fire("b")
        expected = Standing(phase=Phase.OPEN, seq=2, changed_at=moment, manager="default")
        assert self.reopened(manager).standing() == expected

    def test_sessions_are_listed_page_by_page_each_once(self) -> None:
        prefix = uuid4().hex
        uids = {f"{prefix} {number}" for number in range(7)}
        for uid in uids:
            self.manager(uid).fire("a")
        found: list[str] = []
        size = max(3, len(self.listed()) // 10)
        while page := self.listed(found[-1] if found else "", size):
            assert len(page) <= size
            # Here, as this would not end with a storage that returns the same page again.
            assert not set(page) & set(found), "a page must begin after the uid `after`"
            found += page
        assert len(found) == len(set(found))
        assert uids <= set(found)

    def test_a_purged_session_is_not_listed(self) -> None:
        manager = self.bounded(JOIN)
        uid = manager.storage.uid
        assert uid in self.listed()
        manager.close()
        assert uid in self.listed()
        manager.erase()
        assert uid not in self.listed()

    def test_sessions_that_have_not_changed_since_a_moment_can_be_listed(self) -> None:
        manager = self.bounded(JOIN)
        uid, moment = manager.storage.uid, manager.storage.now() + timedelta(days=1)
        with frozen_time(moment):
            manager.fire("a")
        assert uid not in self.listed(unchanged_since=moment)
        assert uid in self.listed(unchanged_since=moment + timedelta(seconds=1))
        with frozen_time(moment + timedelta(hours=1)):
            manager.fire("a")
        assert uid not in self.listed(unchanged_since=moment + timedelta(seconds=1))

    def test_a_session_that_is_done_can_be_purged_if_nothing_was_fired_since(self) -> None:
        manager = self.bounded(JOIN, runner=None)
        storage = self.reopened(manager)
        moment = storage.now() + timedelta(days=1)
        with frozen_time(moment):
            manager.fire("a")
        long_ago = Purge(unchanged_since=moment - timedelta(seconds=1))
        assert storage.transact(long_ago).outcome is False
        assert self.statuses(manager) == {"t_x#0": "finished"}
        assert storage.transact(Purge(unchanged_since=moment)).outcome is True
        assert storage.standing().phase is Phase.PURGED

    def test_a_session_in_which_something_waits_is_not_purged_for_its_age(self) -> None:
        waiting = self.bounded({**JOIN, "t_y": {"after": ["a", "b"]}}, runner=None)
        waiting.fire("a")
        failed = self.bounded(JOIN)
        failed.fire("a")
        self.claimed(failed, "one")
        failed.storage.transact(Fail(key=KEY, token="one"))
        unbegun = self.bounded({**JOIN, "t_y": {"after": ["b"]}}, runner=None)
        unbegun.fire("a")
        for manager in (waiting, failed, unbegun):
            before = self.statuses(manager)
            event = Purge(unchanged_since=manager.storage.now() + timedelta(days=1))
            assert self.reopened(manager).transact(event).outcome is False
            assert self.statuses(manager) == before
            assert self.reopened(manager).standing().phase is Phase.OPEN
        unbegun.close()
        assert self.reopened(unbegun).transact(event).outcome is True

    # -- limits -----------------------------------------------------------------------------------

    def test_a_full_session_refuses_firings_and_finishes_what_has_begun(self) -> None:
        manager = self.bounded(
            {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"]}}, firings_limit=2
        )
        manager.fire("a", idempotency_key="k")
        manager.fire("b")
        with pytest.raises(SessionFull) as caught:
            manager.fire("c")
        assert (caught.value.limit, caught.value.uid) == (2, manager.storage.uid)
        assert manager.fire("a", idempotency_key="k").duplicate
        assert [each.trigger for each in self.reopened(manager).find_firings()] == ["a", "b"]
        storage = self.reopened(manager)
        storage.transact(Claim(key=KEY, token="one"))
        assert storage.transact(Finish(key=KEY, token="one")).outcome is True
        assert self.statuses(manager) == {"t_x#0": "finished", "t_y#0": "scheduled"}

    def test_a_session_that_fills_up_is_warned_about_long_before(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager, warned = self.bounded(JOIN, firings_limit=20), []
        for number in range(1, 21):
            caplog.clear()
            manager.fire("b")
            if any(getattr(each, "action", "") == "limit" for each in caplog.records):
                warned.append(number)
                assert max(each.levelno for each in caplog.records) == logging.WARNING
        assert warned == [10, 16, 19]

    def test_kwargs_that_are_too_large_are_refused(self) -> None:
        manager = self.bounded(JOIN, payload_limit=20)
        with pytest.raises(PayloadTooLarge, match="kwargs of 'a' takes 21 bytes"):
            manager.fire("a", {"t": "x" * 13})
        assert self.reopened(manager).standing().seq == 0
        manager.fire("a", {"t": "x" * 12})
        assert self.reopened(manager).latest_kwargs == {"a": {"t": "x" * 12}}

    def test_limits_travel_with_the_options_of_the_storage(self) -> None:
        cls: type[SessionStorage] = type(self.open("-"))
        chosen = {"lease": 7, "heartbeat": 2, "attempts": 5}
        try:
            storage = cls("s", **{**self.options, **chosen})
        except TypeError:
            pytest.skip(f"{self.storage} takes no limits")
        assert cls("s", **storage.options).limits == Limits(**chosen)
