"""The conformance suite of storages.

Subclass it in a pytest module, name the storage, and every promise that the framework makes is
held against it, with real threads and real processes::

    class TestMyStorage(StorageContract):
        storage = "app.triggers:MyStorage"
        options = {"folder": "/tmp/x"}

A storage whose sessions other processes cannot see says so with ``shared = False``.

What a storage must do for each construct of the configuration language is in
:mod:`triggers.testing.language`, and what it must do when workers die and sessions end in
:mod:`triggers.testing.production`; this includes both, and the others of this package.

Longer than 400 lines because it is a list of what every storage must do.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from triggers import recovery
from triggers.clock import frozen_time
from triggers.engine.lifecycle import Claim, Fail, Finish
from triggers.exceptions import IdempotencyConflict, InstanceNotFound, InvalidUid
from triggers.task import execute
from triggers.testing.changing import ChangingContract
from triggers.testing.finalizing import FinalizingContract
from triggers.testing.language import LanguageContract
from triggers.testing.listing import ListingContract
from triggers.testing.production import ProductionContract
from triggers.testing.racing import RUN_LOG, BrokenRunner, IdleRunner, in_threads
from triggers.testing.watching import WatchingContract
from triggers.types import UID_LIMIT, Standing


class StorageContract(
    LanguageContract,
    ChangingContract,
    FinalizingContract,
    ProductionContract,
    WatchingContract,
    ListingContract,
):
    """What every storage must do."""

    # -- meaning --------------------------------------------------------------------------------

    def test_a_session_nobody_touched_is_empty(self) -> None:
        storage = self.open("untouched")
        assert storage.tasks == {}
        assert list(storage) == []
        assert storage.latest_kwargs == {}
        assert storage.get_unresolved_tasks() == []
        assert storage.debug_repr()["instances"] == {}

    def test_a_join_waits_for_all_of_its_triggers(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        first = manager.fire("b", {"n": 2})
        assert first.created == ("t_x#0",)
        assert self.reopened(manager)["t_x#0"].status == "unstarted"
        assert manager.fire("a", {"n": 1}).scheduled == ("t_x#0",)
        finished = self.reopened(manager)["t_x#0"]
        assert finished.status == "finished"
        assert finished.kwargs == {"a": {"n": 1}, "b": {"n": 2}}
        assert finished.metadata["result"] == {"instance": "t_x#0"}

    def test_a_finished_task_fires_its_own_name(self) -> None:
        tasks = {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x", "b"]}}
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("b")
        manager.fire("a")
        assert self.reopened(manager)["t_y#0"].kwargs["t_x"] == {"instance": "t_x#0"}
        assert self.statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}

    def test_one_shot_tasks_keep_their_first_kwargs(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        for n in range(3):
            manager.fire("a", {"n": n})
        manager.fire("b")
        manager.fire("a", {"n": 9})
        assert list(self.statuses(manager)) == ["t_x#0"]
        assert self.reopened(manager)["t_x#0"].kwargs["a"] == {"n": 0}
        assert self.reopened(manager).latest_kwargs["a"] == {"n": 9}

    def test_and_every_makes_one_instance_for_each_firing(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"], "andEvery": "p"}})
        for n in range(3):
            manager.fire("p", {"n": n})
        assert set(self.statuses(manager).values()) == {"unstarted"}
        manager.fire("a", {"first": True})
        manager.fire("a", {"first": False})
        manager.fire("p", {"n": 3})
        storage = self.reopened(manager)
        found = [each.kwargs for each in storage.instances_of_task("t_x")]
        assert [each["p"]["n"] for each in found] == [0, 1, 2, 3]
        assert [each["a"]["first"] for each in found] == [True, True, True, False]

    def test_unless_abandons_what_has_not_been_scheduled(self) -> None:
        tasks = {"t_x": {"after": ["a", "b"], "unless": ["u", "v"]}}
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("u")
        manager.fire("a")
        assert manager.fire("v").abandoned == ("t_x#0",)
        manager.fire("b")
        assert self.statuses(manager) == {"t_x#0": "abandoned"}
        assert self.reopened(manager)["t_x#0"].kwargs == {"a": {}}

    def test_the_first_configuration_sees_what_was_fired_before_it(self) -> None:
        manager = self.manager(uuid4().hex)
        manager.fire("a", {"n": 1})
        manager.fire("p", {"n": 1})
        manager.fire("p", {"n": 2})
        self.configure(manager, {"t_x": {"after": ["a"], "andEvery": "p"}})
        self.configure(manager, {"t_y": {"after": ["p"]}}, apply_history=True)
        storage = self.reopened(manager)
        assert [each.kwargs["p"] for each in storage.instances_of_task("t_x")] == [
            {"n": 1},
            {"n": 2},
        ]
        assert set(self.statuses(manager).values()) == {"finished"}

    def test_a_later_configuration_sees_history_only_when_asked(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}})
        manager.fire("a", {"n": 1})
        self.configure(manager, {"t_late": {"after": ["a", "b"]}})
        assert "t_late#0" not in self.statuses(manager)
        self.configure(manager, {"t_seeing": {"after": ["a"]}}, apply_history=True)
        assert self.statuses(manager)["t_seeing#0"] == "finished"
        manager.fire("b")
        assert self.reopened(manager)["t_late#0"].kwargs == {"a": {"n": 1}, "b": {}}
        assert set(self.reopened(manager).tasks) == {"t_x", "t_late", "t_seeing"}

    def test_waiting_instances_of_a_replaced_task_wait_on_under_its_new_conditions(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b", "c"]}})
        manager.fire("a")
        manager.fire("d")
        self.configure(manager, {"t_x": {"after": ["a", "d", "e"]}})
        assert self.statuses(manager) == {"t_x#0": "unstarted"}
        manager.fire("b")
        manager.fire("e")
        assert self.statuses(manager) == {"t_x#0": "finished"}
        assert set(self.reopened(manager)["t_x#0"].kwargs) == {"a", "d", "e"}

    def test_tasks_come_back_in_the_order_of_their_configuration(self) -> None:
        names = ["t_z", "t_x", "t_y"]
        manager = self.manager(uuid4().hex, {name: {"after": ["a"]} for name in names})
        assert list(self.reopened(manager).tasks) == names
        assert manager.fire("a").scheduled == ("t_z#0", "t_x#0", "t_y#0")

    def test_an_idempotency_key_makes_a_second_firing_do_nothing(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"andEvery": "p"}})
        first = manager.fire("p", {"n": 1, "m": 2}, idempotency_key="evt_1")
        again = manager.fire("p", {"m": 2, "n": 1}, idempotency_key="evt_1")
        assert again.duplicate
        assert again.seq == first.seq
        manager.fire("p", {"n": 1}, idempotency_key="evt_2")
        assert len(self.statuses(manager)) == 2
        with pytest.raises(IdempotencyConflict, match="evt_1"):
            manager.fire("p", {"n": 7}, idempotency_key="evt_1")
        assert len(self.statuses(manager)) == 2

    def test_payloads_come_back_as_they_went(self) -> None:
        kwargs = {
            "nested": {"list": [1, 2.5, None, True, "ü ☃ 𝄞"], "empty": {}},
            "date": date(2026, 11, 21),
            "time": time(12, 30, 1, 5),
            "moment": datetime(2026, 11, 21, 12, 30, 1, 123456, tzinfo=UTC),
            "money": Decimal("0.10"),
            "id": UUID("12345678123456781234567812345678"),
            "%s ' \" ` \\": "%s ' \" ` \\",
        }
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}})
        manager.fire("a", kwargs)
        assert self.reopened(manager)["t_x#0"].kwargs["a"] == kwargs
        assert self.reopened(manager).latest_kwargs["a"] == kwargs

    @pytest.mark.parametrize("other", ["name ", "Name", "näme", "nam", "name%", "na_e"])
    def test_names_that_only_look_alike_are_different(self, other: str) -> None:
        prefix = uuid4().hex
        manager = self.manager(f"{prefix}name", {"name": {"after": ["on name"]}})
        self.configure(manager, {other: {"after": [f"on {other}"]}})
        elsewhere = self.manager(f"{prefix}{other}", {"name": {"after": ["on name"]}})
        manager.fire(f"on {other}", {"n": 1}, idempotency_key="name")
        assert not manager.fire(f"on {other}", {"n": 2}, idempotency_key=other).duplicate
        assert self.statuses(manager) == {f"{other}#0": "finished"}
        assert self.statuses(elsewhere) == {}
        with pytest.raises(KeyError):
            manager.storage.instances["name#0"]

    # -- attempts -------------------------------------------------------------------------------

    def test_one_of_two_claims_gets_in(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}}, runner=IdleRunner)
        manager.fire("a")
        claims = [Claim(key=("t_x", 0), token=str(n)) for n in range(2)]
        outcomes = [self.reopened(manager).transact(claim).outcome for claim in claims]
        assert [outcome is not None for outcome in outcomes] == [True, False]
        assert self.reopened(manager)["t_x#0"].record.attempt == 1

    def test_a_report_without_the_token_changes_nothing(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}}, runner=IdleRunner)
        manager.fire("a")
        storage = self.reopened(manager)
        storage.transact(Claim(key=("t_x", 0), token="mine"))
        late = Finish(key=("t_x", 0), token="other", result='{"late":true}')
        assert storage.transact(late).outcome is False
        assert self.statuses(manager) == {"t_x#0": "running"}
        assert "t_x" not in storage.latest_kwargs
        assert storage.transact(Fail(key=("t_x", 0), token="mine")).outcome is True
        assert self.statuses(manager) == {"t_x#0": "failed"}

    def test_a_failed_instance_can_be_replayed_and_skipped(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"]}})
        manager.default_task_runner_name = IdleRunner.name
        manager.fire("a", {"n": 1})
        for number in range(2):
            key = ("t_x", number)
            manager.storage.transact(Claim(key=key, token="mine"))
            manager.storage.transact(Fail(key=key, token="mine", metadata={"why": "ü"}))
            if not number:
                replayed = manager.replay_failed_instance("t_x#0", {"a": {"n": 2}})
                assert replayed.metadata["parent"] == "t_x#0"
        assert self.reopened(manager)["t_x#1"].kwargs == {"a": {"n": 2}}
        assert self.reopened(manager)["t_x#0"].metadata["why"] == "ü"
        with self.tasks_in_place(manager):
            manager.skip_failed_instance("t_x#1", cascade=True, result={"made": "up"})
        assert self.reopened(manager)["t_y#0"].kwargs == {"t_x": {"made": "up"}}
        expected = {"t_x#0": "replayed", "t_x#1": "skipped", "t_y#0": "finished"}
        assert self.statuses(manager) == expected

    # -- what was committed is not lost ---------------------------------------------------------

    def test_a_runner_that_raises_leaves_the_firing_committed(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}}, runner=BrokenRunner)
        assert manager.fire("a").scheduled == ("t_x#0",)
        assert self.statuses(manager) == {"t_x#0": "scheduled"}

    def test_recovery_sends_again_what_nobody_answered(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}}, runner=BrokenRunner)
        moment = manager.storage.now() + timedelta(days=1)
        manager.fire("a")
        if self.lists_overdue:
            assert manager.storage.uid not in self.overdue()
        assert recovery.recover(manager).sent == 0
        with frozen_time(moment):
            if self.lists_overdue:
                assert manager.storage.uid in self.overdue()
            assert recovery.recover(manager).sent == 1
            assert recovery.recover(manager).sent == 0, "a second recovery must back off"
        assert self.reopened(manager)["t_x#0"].record.sends == 1
        with frozen_time(moment + timedelta(hours=2)), self.tasks_in_place(manager):
            assert recovery.recover(manager).sent == 1
        assert self.statuses(manager) == {"t_x#0": "finished"}

    def test_a_pause_between_sendings_grows_and_ends(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}}, runner=BrokenRunner)
        manager.fire("a")
        moment, pauses = manager.storage.now(), []
        for _ in range(9):
            due = self.reopened(manager)["t_x#0"].record.due_at
            assert due is not None
            pauses.append(due - moment)
            moment = due
            with frozen_time(moment):
                assert recovery.recover(manager).sent == 1
        assert pauses[1:] == sorted(pauses[1:])
        assert pauses[-1] == timedelta(hours=1)

    def test_time_never_goes_back_within_a_session(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        later = manager.storage.now() + timedelta(hours=1)
        with frozen_time(later):
            manager.fire("a")
        manager.fire("b")
        assert self.reopened(manager)["t_x#0"].record.changed_at >= later

    def test_deleting_a_session_leaves_nothing_of_it(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}})
        other = self.manager(uuid4().hex, {"t_x": {"after": ["a"]}})
        for each in (manager, other):
            each.fire("a", idempotency_key="once")
        manager.storage.delete()
        storage = self.reopened(manager)
        assert (storage.tasks, list(storage), storage.latest_kwargs) == ({}, [], {})
        assert self.statuses(other) == {"t_x#0": "finished"}
        self.configure(manager, {"t_x": {"after": ["a"]}})
        assert not manager.fire("a", idempotency_key="once").duplicate
        assert self.statuses(manager) == {"t_x#0": "finished"}

    def test_deleting_waits_for_whoever_is_changing_the_session(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        begun, deleted = threading.Event(), threading.Event()

        def change() -> None:
            storage = self.reopened(manager)
            with storage.acquire_lock():
                storage.create_instance("t_x")
                begun.set()
                # Less than this would do: whoever does not wait is done at once.
                deleted.wait(0.3)

        def delete() -> None:
            assert begun.wait(60)
            self.reopened(manager).delete()
            deleted.set()

        in_threads(change, delete)
        storage = self.reopened(manager)
        assert (storage.tasks, list(storage)) == ({}, []), "delete() did not take the lock"

    def test_what_is_deleted_under_the_lock_does_not_come_back_at_its_end(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        manager.fire("a")
        storage = manager.storage
        with storage.acquire_lock():
            storage.create_instance("t_x")
            storage.delete()
            assert (storage.tasks, list(storage), storage.latest_kwargs) == ({}, [], {})
        storage = self.reopened(manager)
        assert (storage.tasks, list(storage), storage.latest_kwargs) == ({}, [], {})
        assert storage.standing() == Standing()

    def test_a_session_may_begin_anew_under_the_lock_under_which_it_was_deleted(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        manager.fire("a", {"n": 1})
        with manager.storage.acquire_lock():
            manager.storage.delete()
            assert manager.fire("b", {"n": 2}).seq == 1
        storage = self.reopened(manager)
        assert (storage.tasks, storage.latest_kwargs) == ({}, {"b": {"n": 2}})

    def test_instances_can_be_made_and_copied_by_hand(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        made = manager.storage.create_instance("t_x", kwargs={"a": {"n": 1}}, metadata={"by": "me"})
        assert (made.name, made.status) == ("t_x#0", "unstarted")
        assert manager.storage.clone_instance(made).metadata == {"parent": "t_x#0"}
        manager.fire("b", {"n": 2})
        storage = self.reopened(manager)
        assert self.statuses(manager) == {"t_x#0": "finished", "t_x#1": "finished"}
        assert storage["t_x#0"].kwargs == {"a": {"n": 1}, "b": {"n": 2}}
        assert storage["t_x#0"].metadata["by"] == "me"
        with pytest.raises(InstanceNotFound):
            storage.clone_instance("t_x#7")

    def test_its_options_make_the_same_storage_in_another_process(self) -> None:
        manager = self.manager(uuid4().hex)
        manager.fire("a", {"n": 1})
        cls, options = type(manager.storage), manager.storage.options
        try:
            sent = json.loads(json.dumps(options))
        except TypeError:
            sent = None
        assert isinstance(options, dict), f"options must be a property, got {options!r}"
        assert sent == options, f"options must be plain JSON, got {options!r}"
        try:
            again = cls(manager.storage.uid, **sent)
        except TypeError as error:
            raise AssertionError(
                f"options must have every argument of __init__: {error}; got {options!r}"
            ) from error
        assert again.latest_kwargs == {"a": {"n": 1}}, f"{options!r} open other sessions"
        assert again.options == options

    def test_code_under_the_lock_sees_its_own_changes(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a", "b"]}})
        storage = manager.storage
        with storage.acquire_lock():
            made = storage.create_instance("t_x", kwargs={"a": {}})
            storage.annotate(("t_x", made.number), {"seen": 1})
            assert storage["t_x#0"].metadata == {"seen": 1}
            storage.save()
        assert self.reopened(manager)["t_x#0"].metadata == {"seen": 1}

    @pytest.mark.parametrize("uid", ["", "x" * 256, 42, None, "a\x00b"])
    def test_an_unusable_uid_is_refused(self, uid: Any) -> None:
        with pytest.raises(InvalidUid):
            self.open(uid)

    @pytest.mark.parametrize("letter", ["x", "日"])
    def test_long_and_odd_uids_are_sessions_of_their_own(self, letter: str) -> None:
        start, end = uuid4().hex, "/../ #:%{}*?\n"
        longest = start + letter * (UID_LIMIT - len(start) - len(end)) + end
        for uid in (longest, start + end):
            manager = self.manager(uid, {"t_x": {"after": ["a", "b"]}})
            try:
                manager.fire("a", {"uid": uid})
                assert self.reopened(manager)["t_x#0"].kwargs == {"a": {"uid": uid}}
                assert not list(self.open(uid[:-1] + "_"))
            finally:
                manager.storage.delete()

    # -- many at a time -------------------------------------------------------------------------

    @pytest.mark.parametrize("copies", [1, 2])
    def test_threads_that_complete_a_join_at_the_same_instant_run_it_once(
        self, copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
        tasks = {"t_x": {"after": ["a", "b"]}}
        uids = self.configured_sessions(tasks)
        barrier = threading.Barrier(2 * copies)

        def fire(trigger: str) -> None:
            for uid in uids:
                manager = self.manager(uid)
                barrier.wait(60)
                manager.fire(trigger)

        in_threads(*[lambda name=name: fire(name) for name in "ab" * copies])
        assert self.runs(tmp_path) == Counter({f"{uid} t_x#0": 1 for uid in uids})

    @pytest.mark.parametrize("copies", [1, 2])
    def test_processes_that_complete_a_join_at_the_same_instant_run_it_once(
        self, copies: int, tmp_path: Path
    ) -> None:
        self.require_processes()
        uids = self.configured_sessions({"t_x": {"after": ["a", "b"]}})
        self.in_processes(
            [{"uids": uids, "triggers": [name], "repeat": 1} for name in "ab" * copies], tmp_path
        )
        assert self.runs(tmp_path) == Counter({f"{uid} t_x#0": 1 for uid in uids})

    def test_eight_writers_on_one_session_lose_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
        [uid] = self.configured_sessions({"t_x": {"after": ["a"], "andEvery": "p"}}, 1)
        self.manager(uid).fire("a")

        def write() -> None:
            manager = self.manager(uid)
            for n in range(10):
                manager.fire("p", {"n": n})

        in_threads(*[write] * 8)
        assert self.runs(tmp_path) == Counter({f"{uid} t_x#{n}": 1 for n in range(80)})
        fired = Counter(each.trigger for each in self.open(uid).find_firings())
        assert fired == {"a": 1, "p": 80, "t_x": 80}

    def test_two_processes_that_write_to_one_session_lose_nothing(self, tmp_path: Path) -> None:
        self.require_processes()
        [uid] = self.configured_sessions({"t_x": {"after": ["a"], "andEvery": "p"}}, 1)
        self.manager(uid).fire("a")
        self.in_processes([{"uids": [uid], "triggers": ["p"], "repeat": 25}] * 2, tmp_path)
        assert self.runs(tmp_path) == Counter({f"{uid} t_x#{n}": 1 for n in range(50)})

    def test_a_message_that_is_delivered_twice_runs_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
        tasks = {"t_x": {"after": ["a"]}}
        uids = self.configured_sessions(tasks, 20)
        for uid in uids:
            manager = self.manager(uid)
            manager.default_task_runner_name = IdleRunner.name
            manager.fire("a")
        barrier = threading.Barrier(2)

        def deliver() -> None:
            for uid in uids:
                barrier.wait(60)
                execute(self.manager(uid), "t_x#0")

        in_threads(deliver, deliver)
        assert self.runs(tmp_path) == Counter({f"{uid} t_x#0": 1 for uid in uids})
