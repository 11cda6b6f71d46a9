"""What a storage must do so that receivers of signals are told the same on every one.

Part of :class:`~triggers.testing.contract.StorageContract`. The same story must send the same
signals in the same order, whoever decides it.

Longer than 400 lines because it is a list of stories, each with all that is told of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections

from triggers import changes, recovery, timers
from triggers.attempt import claim
from triggers.clock import frozen_time
from triggers.engine.lifecycle import Claim, Extend, Fail, Finish, Retry, Skip
from triggers.manager import TriggerManager
from triggers.signals import FiredTrigger, instance_status_changed, trigger_fired
from triggers.testing.racing import IdleRunner
from triggers.testing.suite import StorageSuite

Heard = list[tuple[Any, ...]]


@contextmanager
def heard(manager: TriggerManager) -> Iterator[Heard]:
    """What receivers are told about the manager's session, while a ``with`` block lasts.

    A firing as its trigger, and the instance whose outcome it is, if it is one; a change of status
    as instance, old and new status.
    """
    told: Heard = []

    def on_fired(session: str, trigger: str, firing: FiredTrigger, **others: Any) -> None:
        if session == manager.storage.uid:
            told.append((trigger,) if firing.cause is None else (trigger, firing.cause))

    def on_changed(
        session: str, instance: str, old_status: Any, new_status: Any, **others: Any
    ) -> None:
        if session == manager.storage.uid:
            told.append((instance, old_status, new_status))

    trigger_fired.connect(on_fired)
    instance_status_changed.connect(on_changed)
    try:
        yield told
    finally:
        trigger_fired.disconnect(on_fired)
        instance_status_changed.disconnect(on_changed)


MANY: Mapping[str, dict[str, Any]] = {
    "t_later": {"after": ["go", "never"]},
    "t_ready": {"after": ["go", "before"]},
    "t_out": {"after": ["before", "never"], "unless": ["go"]},
    "t_new": {"after": ["go"]},
    "t_also": {"after": ["before", "never"], "unless": ["go"]},
    "t_pages": {"after": ["before"], "andEvery": "go"},
}
"""Of each thing that a firing of ``go`` can do to an instance, one or two, after ``before``."""

DONE_BY_GO: Heard = [
    ("t_later#0", None, "unstarted"),
    ("t_ready#0", "unstarted", "scheduled"),
    ("t_out#0", "unstarted", "abandoned"),
    ("t_new#0", None, "scheduled"),
    ("t_also#0", "unstarted", "abandoned"),
    ("t_pages#0", "unstarted", "scheduled"),
]
"""What it does, in the order of the configuration."""


class WatchingContract(StorageSuite):
    """Signals, after each commit and never in it."""

    def watched(
        self, tasks: Mapping[str, dict[str, Any]], *fired: str, runs: bool = False
    ) -> TriggerManager:
        """A manager on a fresh session, in which this was fired; it hands on nothing by itself.

        :param tasks: directives by task name, without ``run``.
        :param runs: whether tasks run in place; otherwise they are not started.
        :param fired: names of triggers, in order.
        """
        manager = self.manager(uuid4().hex, tasks, None if runs else IdleRunner)
        for each in fired:
            manager.fire(each)
        return manager

    # -- what happens to a session --------------------------------------------------------------

    def test_receivers_are_told_of_a_join(self) -> None:
        manager = self.watched({"t_x": {"after": ["a", "b"]}})
        with heard(manager) as told:
            manager.fire("b")
            manager.fire("a")
        assert told == [
            ("b",),
            ("t_x#0", None, "unstarted"),
            ("a",),
            ("t_x#0", "unstarted", "scheduled"),
        ]

    def test_receivers_are_told_of_a_whole_run_and_its_cascade(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"]}}, runs=True)
        with heard(manager) as told:
            manager.fire("a")
        assert told == [
            ("a",),
            ("t_x#0", None, "scheduled"),
            ("t_x#0", "scheduled", "running"),
            ("t_x", "t_x#0"),
            ("t_x#0", "running", "finished"),
            ("t_y#0", None, "scheduled"),
            ("t_y#0", "scheduled", "running"),
            ("t_y", "t_y#0"),
            ("t_y#0", "running", "finished"),
        ]

    def test_what_one_firing_does_is_told_in_the_order_of_the_configuration(self) -> None:
        manager = self.watched(MANY, "before")
        with heard(manager) as told:
            manager.fire("go")
        outcomes = [("t_out:abandoned", "t_out#0"), ("t_also:abandoned", "t_also#0")]
        assert told == [("go",), *outcomes, *DONE_BY_GO]

    def test_what_one_finish_does_is_told_in_the_order_of_the_configuration(self) -> None:
        tasks: dict[str, dict[str, Any]] = {"go": {"after": ["begin"]}, **MANY}
        manager = self.watched(tasks, "before", "begin")
        manager.apply(Claim(key=("go", 0), token="one"))
        with heard(manager) as told:
            manager.apply(Finish(key=("go", 0), token="one"))
            manager.fire("unrelated")
        assert told == [
            ("go", "go#0"),
            ("t_out:abandoned", "t_out#0"),
            ("t_also:abandoned", "t_also#0"),
            ("go#0", "running", "finished"),
            *DONE_BY_GO,
            ("unrelated",),
        ]

    def test_what_follows_a_finish_at_once_is_no_part_of_it(self) -> None:
        tasks = {"t_x": {"after": ["a"]}, "t_w": {"after": ["a", "never"]}}
        manager = self.watched(tasks, "a")
        manager.apply(Claim(key=("t_x", 0), token="one"))
        transition = manager.storage.transact(Finish(key=("t_x", 0), token="one"))
        # Whoever reads back what has changed, may find this right behind it.
        manager.update_instance_status("t_w#0", "abandoned")
        found = changes.found(manager.storage, transition)
        assert [each.trigger for each in found.firings] == ["t_x"]
        assert [each.instance for each in found.statuses] == ["t_x#0"]
        latest = self.reopened(manager).find_firings(seqs=[transition.seq + 1])
        assert [each.trigger for each in latest] == ["t_w:abandoned"]

    def test_instances_of_a_task_are_told_of_in_the_order_of_their_numbers(self) -> None:
        tasks: dict[str, dict[str, Any]] = {
            "t_x": {"after": ["b"], "andEvery": "p"},
            "t_o": {"after": ["b"], "unless": ["z"]},
        }
        manager = self.watched(tasks, *["p"] * 11)
        with heard(manager) as told:
            manager.fire("b")
        changes = [(f"t_x#{number}", "unstarted", "scheduled") for number in range(11)]
        assert told == [("b",), *changes, ("t_o#0", None, "scheduled")]

    def test_an_instance_that_waits_on_is_not_told_of(self) -> None:
        manager = self.watched({"t_x": {"after": ["a", "b", "c"]}}, "a")
        with heard(manager) as told:
            manager.fire("b")
            manager.update_instance_metadata("t_x#0", {"note": 1})
        assert told == [("b",)]

    def test_a_repetition_is_not_told_of(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}})
        with heard(manager) as told:
            manager.fire("a", idempotency_key="one")
            assert manager.fire("a", idempotency_key="one").duplicate
            event = Claim(key=("t_x", 0), token="one")
            manager.apply(event)
            manager.apply(event)
            manager.apply(Extend(key=("t_x", 0), token="one"))
            assert claim(manager, "t_x#0") is None
            manager.apply(Finish(key=("t_x", 0), token="one"))
            manager.apply(Finish(key=("t_x", 0), token="one"))
        assert told == [
            ("a",),
            ("t_x#0", None, "scheduled"),
            ("t_x#0", "scheduled", "running"),
            ("t_x", "t_x#0"),
            ("t_x#0", "running", "finished"),
        ]

    def test_receivers_are_told_of_retries_failures_replays_and_skips(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"]}}, "a")
        with heard(manager) as told:
            manager.apply(Claim(key=("t_x", 0), token="one"))
            manager.apply(Retry(key=("t_x", 0), token="one"))
            manager.apply(Claim(key=("t_x", 1), token="two"))
            manager.apply(Fail(key=("t_x", 1), token="two"))
            manager.replay_failed_instance("t_x#1")
            manager.apply(Claim(key=("t_x", 2), token="three"))
            manager.apply(Fail(key=("t_x", 2), token="three"))
            manager.skip_failed_instance("t_x#2", cascade=True)
            manager.apply(Claim(key=("t_y", 0), token="four"))
            manager.apply(Skip(key=("t_y", 0), token="four"))
        assert told == [
            ("t_x#0", "scheduled", "running"),
            ("t_x#0", "running", "replayed"),
            ("t_x#1", None, "scheduled"),
            ("t_x#1", "scheduled", "running"),
            ("t_x:failed", "t_x#1"),
            ("t_x#1", "running", "failed"),
            ("t_x#1", "failed", "replayed"),
            ("t_x#2", None, "scheduled"),
            ("t_x#2", "scheduled", "running"),
            ("t_x:failed", "t_x#2"),
            ("t_x#2", "running", "failed"),
            ("t_x", "t_x#2"),
            ("t_x#2", "failed", "skipped"),
            ("t_y#0", None, "scheduled"),
            ("t_y#0", "scheduled", "running"),
            ("t_y:skipped", "t_y#0"),
            ("t_y#0", "running", "skipped"),
        ]

    def test_receivers_are_told_of_changes_by_hand(self) -> None:
        manager = self.watched({"t_x": {"after": ["a", "b"]}, "t_y": {"after": ["t_x"]}}, "a")
        with heard(manager) as told:
            manager.update_instance_status("t_x#0", "scheduled")
            manager.update_instance_status("t_x#0", "failed", cascade=True)
        assert told == [
            ("t_x#0", "unstarted", "scheduled"),
            ("t_x", "t_x#0"),
            ("t_x#0", "scheduled", "failed"),
            ("t_y#0", None, "scheduled"),
        ]

    def test_receivers_are_told_of_what_time_decides(self) -> None:
        tasks: dict[str, dict[str, Any]] = {
            "t_x": {"after": ["a", "b"], "within": "PT1M"},
            "t_y": {"after": ["t_x:expired"]},
        }
        manager = self.watched(tasks, "a")
        with heard(manager) as told:
            timers.fire_due_in(manager, manager.storage.now() + timedelta(minutes=2))
        assert told == [
            ("t_x:expired", "t_x#0"),
            ("t_x#0", "unstarted", "abandoned"),
            ("t_y#0", None, "scheduled"),
        ]

    def test_receivers_are_told_of_workers_that_were_lost(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}}, "a")
        with heard(manager) as told:
            for attempt in range(1, 4):
                manager.apply(Claim(key=("t_x", 0), token=str(attempt)))
                end = self.reopened(manager)["t_x#0"].record.due_at
                assert end is not None
                with frozen_time(end):
                    recovery.recover(manager)
        run = [("t_x#0", "scheduled", "running"), ("t_x#0", "running", "scheduled")]
        assert told == [
            *run,
            *run,
            ("t_x#0", "scheduled", "running"),
            ("t_x:failed", "t_x#0"),
            ("t_x#0", "running", "failed"),
        ]

    def test_sending_an_instance_again_is_not_told(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}}, "a")
        due_at = self.reopened(manager)["t_x#0"].record.due_at
        assert due_at is not None
        with heard(manager) as told, frozen_time(due_at):
            assert recovery.recover(manager).sent == 1
        assert told == []

    def test_receivers_are_told_of_what_a_configuration_makes_of_history(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}}, "a", "b")
        with heard(manager) as told:
            self.configure(manager, {"t_y": {"after": ["b"]}}, apply_history=True, preview=True)
            assert told == []
            self.configure(manager, {"t_y": {"after": ["b"]}}, apply_history=True)
        assert told == [("t_y#0", None, "scheduled")]

    def test_receivers_are_told_of_what_is_cancelled_but_not_of_the_end_of_a_session(self) -> None:
        tasks = {"t_x": {"after": ["a"]}, "t_y": {"after": ["a", "never"]}}
        manager = self.watched(tasks, "a")
        with heard(manager) as told:
            manager.close()
            assert told == []
            manager.cancel()
            assert told == [
                ("t_x#0", "scheduled", "abandoned"),
                ("t_y#0", "unstarted", "abandoned"),
            ]
            manager.erase()
        assert len(told) == 2

    # -- what receivers get ---------------------------------------------------------------------

    def test_receivers_get_what_was_fired_and_what_came_of_it(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}}, "b")
        got: list[dict[str, Any]] = []

        def receive(**arguments: Any) -> None:
            if arguments["session"] == manager.storage.uid:
                arguments["firing"].kwargs["n"] = "spoiled"
                got.append(arguments)

        trigger_fired.connect(receive, sender=TriggerManager)
        instance_status_changed.connect(receive_status := StatusReceiver(manager))
        try:
            result = manager.fire("a", {"n": 1}, idempotency_key="key-1")
        finally:
            trigger_fired.disconnect(receive, sender=TriggerManager)
            instance_status_changed.disconnect(receive_status)
        [arguments] = got
        assert arguments["sender"] is TriggerManager
        assert arguments["manager"] is manager
        assert arguments["trigger"] == "a"
        assert arguments["result"] == result
        firing = arguments["firing"]
        assert (firing.seq, firing.trigger, firing.kwargs) == (2, "a", {"n": 1})
        assert (firing.also, firing.cause, firing.key) == ((), None, "key-1")
        [recorded] = self.reopened(manager).find_firings(seqs=[2])
        assert firing.at == recorded.at
        [change] = receive_status.got
        assert (change["task"], change["instance"]) == ("t_x", "t_x#0")
        assert (change["manager"], change["sender"]) == (manager, TriggerManager)
        assert change["at"] == self.reopened(manager)["t_x#0"].changed_at

    # -- receivers ------------------------------------------------------------------------------

    def test_a_receiver_that_fires_sees_what_comes_of_it_afterwards(self) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}, "t_y": {"after": ["more"]}}, runs=True)

        def fire_more(session: str, trigger: str, **others: Any) -> None:
            if session == manager.storage.uid and trigger == "a":
                assert manager.fire("more").scheduled == ("t_y#0",)

        trigger_fired.connect(fire_more)
        try:
            with heard(manager) as told:
                manager.fire("a")
        finally:
            trigger_fired.disconnect(fire_more)
        ran = [("scheduled", "running"), ("running", "finished")]
        assert told == [
            ("a",),
            ("t_x#0", None, "scheduled"),
            ("more",),
            ("t_y#0", None, "scheduled"),
            ("t_y#0", *ran[0]),
            ("t_y", "t_y#0"),
            ("t_y#0", *ran[1]),
            ("t_x#0", *ran[0]),
            ("t_x", "t_x#0"),
            ("t_x#0", *ran[1]),
        ]
        assert set(self.statuses(manager).values()) == {"finished"}

    def test_a_receiver_that_raises_is_named_in_the_log_and_harms_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager = self.watched({"t_x": {"after": ["a"]}}, runs=True)

        def explode(session: str, **others: Any) -> None:
            if session == manager.storage.uid:
                raise LookupError("no such page")

        nameless = partial(explode)  # Django's own robust sending stumbles over one
        trigger_fired.connect(nameless)
        trigger_fired.connect(explode)
        instance_status_changed.connect(explode)
        try:
            with heard(manager) as told, caplog.at_level(logging.ERROR, "triggers"):
                assert manager.fire("a").scheduled == ("t_x#0",)
        finally:
            trigger_fired.disconnect(nameless)
            trigger_fired.disconnect(explode)
            instance_status_changed.disconnect(explode)
        assert self.statuses(manager) == {"t_x#0": "finished"}
        assert len(told) == 5
        records = [each for each in caplog.records if getattr(each, "action", "") == "signal"]
        assert len(records) == 7
        assert "explode of trigger_fired raised LookupError: no such page" in caplog.text
        assert {vars(each)["session"] for each in records} == {manager.storage.uid}

    def test_what_was_due_when_metadata_are_added_is_told_and_handed_on(self) -> None:
        tasks: dict[str, dict[str, Any]] = {
            "t_x": {"after": ["a", "b"], "within": "PT1H"},
            "t_y": {"after": ["t_x:expired"]},
        }
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("a")
        with (
            frozen_time(manager.storage.now() + timedelta(hours=2)),
            heard(manager) as told,
        ):
            manager.update_instance_metadata("t_x#0", {"note": "late"})
        assert any("t_x:expired" in each for each in told)
        assert self.statuses(manager)["t_y#0"] == "finished"
        assert manager.storage["t_x#0"].metadata["note"] == "late"

    def test_no_lock_is_held_while_signals_are_sent(self) -> None:
        manager = self.watched({"t_x": {"andEvery": "a"}})
        let_in: list[bool] = []

        def fire_elsewhere(session: str, trigger: str, **others: Any) -> None:
            if session != manager.storage.uid or trigger != "a":
                return
            thread = threading.Thread(target=self._fire_in_a_thread, args=[manager.storage.uid])
            thread.start()
            thread.join(20)
            let_in.append(not thread.is_alive())

        trigger_fired.connect(fire_elsewhere)
        try:
            manager.fire("a")
        finally:
            trigger_fired.disconnect(fire_elsewhere)
        assert let_in == [True]
        assert "other" in self.reopened(manager).latest_kwargs

    def _fire_in_a_thread(self, uid: str) -> None:
        try:
            TriggerManager(self.open(uid)).fire("other")
        finally:
            connections.close_all()

    def test_nothing_is_read_back_when_nobody_listens(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manager = self.watched(MANY, "before")
        reads: list[str] = []
        for name in ("find_firings", "find_instances"):
            monkeypatch.setattr(manager.storage, name, lambda **_which: reads.append("read"))
        manager.fire("go")
        assert reads == []
        assert self.statuses(manager)["t_ready#0"] == "scheduled"


class StatusReceiver:
    """Receives changes of status in the manager's session."""

    def __init__(self, manager: TriggerManager) -> None:
        self.manager = manager
        self.got: list[dict[str, Any]] = []

    def __call__(self, **arguments: Any) -> None:
        if arguments["session"] == self.manager.storage.uid:
            self.got.append(arguments)
