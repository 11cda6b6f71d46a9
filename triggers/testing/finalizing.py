"""What a storage must do for sessions that say when they are finalized.

Part of :class:`~triggers.testing.contract.StorageContract`.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from triggers import recovery
from triggers.clock import frozen_time
from triggers.engine import Hooks
from triggers.engine.events import Tick
from triggers.engine.lifecycle import Claim, Fail, Finish
from triggers.engine.recovering import Done
from triggers.manager import TriggerManager
from triggers.task import execute
from triggers.testing.orders import any_order
from triggers.testing.racing import RUN_LOG, BrokenRunner, IdleRunner, in_threads
from triggers.testing.suite import StorageSuite
from triggers.types import SESSION_FINALIZED, Phase

Tasks = dict[str, dict[str, Any]]

CLOSING: Tasks = {"t_close": {"after": [SESSION_FINALIZED]}}
PAIR: Tasks = {"t_x": {"after": ["a"]}, "t_y": {"after": ["b"]}, **CLOSING}
OVERRIDDEN = Hooks("default", frozenset({"fire"}))


class FinalizingContract(StorageSuite):
    """What is left to do in a session, and that its end is fired once."""

    def finalizing(self, tasks: Tasks, *, runs: bool = False) -> TriggerManager:
        """A session that finalizes.

        :param tasks: directives by task name, without ``run``.
        :param runs: whether tasks run in place; by default they wait to be run.
        :returns: its manager.
        """
        manager = self.manager(uuid4().hex, runner=None if runs else IdleRunner)
        self.configure(manager, tasks, finalize=True)
        return manager

    def endings(self, manager: TriggerManager) -> int:
        """How often a session was finalized.

        :param manager: its manager.
        :returns: the number of firings.
        """
        firings = self.reopened(manager).find_firings()
        return [each.trigger for each in firings].count(SESSION_FINALIZED)

    def begin(self, manager: TriggerManager, name: str) -> None:
        """Start an instance.

        :param name: of the instance.
        """
        task, _mark, number = name.partition("#")
        assert manager.apply(Claim(key=(task, int(number)), token=name)).outcome is not None

    def end(self, manager: TriggerManager, name: str, hooks: Hooks | None = None) -> None:
        """Finish an instance that was started.

        :param name: of the instance.
        :param hooks: what is overridden, if a mark is to be left for it and nobody to see to it; by
            default what its manager overrides.
        """
        task, _mark, number = name.partition("#")
        event = Finish(key=(task, int(number)), token=name)
        if hooks is None:
            assert manager.apply(event).outcome is True
        else:
            assert manager.storage.transact(event.under(hooks)).outcome is True

    def run(self, manager: TriggerManager, *names: str) -> None:
        """Start and finish instances.

        :param names: of the instances, in order.
        """
        for name in names:
            self.begin(manager, name)
            self.end(manager, name)

    # -- open -----------------------------------------------------------------------------------

    def test_a_session_is_finalized_once_in_every_order(self) -> None:
        tasks: Tasks = {
            "t_import": {"after": ["a", "b"]},
            "t_pages": {"after": ["t_import"], "andEvery": "p"},
            "t_embedded": {"after": ["p"], "unless": ["a"]},
            "t_close": {"after": [SESSION_FINALIZED, "t_import"]},
        }
        for order in any_order(["a", "b", "p"]):
            manager = self.finalizing(tasks, runs=True)
            for trigger, kwargs in order.firings:
                assert self.endings(manager) == 0, order
                manager.fire(trigger, kwargs)
            assert self.endings(manager) == 1, order
            assert self.statuses(manager)["t_close#0"] == "finished", order
            manager.fire("p")
            assert self.statuses(manager)["t_pages#1"] == "finished", order
            assert self.endings(manager) == 1, order

    def test_what_finalizes_a_session_is_a_firing_like_others(self) -> None:
        manager = self.finalizing(PAIR)
        manager.fire("a")
        manager.fire("b")
        self.run(manager, "t_x#0", "t_y#0")
        storage = self.reopened(manager)
        *_others, last = storage.find_firings()
        assert (last.seq, last.trigger, last.kwargs) == (5, SESSION_FINALIZED, "{}")
        assert storage.latest_kwargs[SESSION_FINALIZED] == {}
        assert storage["t_close#0"].record.taken == {SESSION_FINALIZED: 5}
        assert storage["t_close#0"].status == "scheduled"

    def test_what_has_failed_holds_the_end_up_until_it_is_replayed_or_skipped(self) -> None:
        manager = self.finalizing(PAIR)
        manager.fire("a")
        manager.fire("b")
        for task in ("t_x", "t_y"):
            self.begin(manager, f"{task}#0")
            manager.apply(Fail(key=(task, 0), token=f"{task}#0"))
        manager.skip_failed_instance("t_x#0")
        manager.replay_failed_instance("t_y#0")
        assert self.endings(manager) == 0
        self.run(manager, "t_y#1")
        assert self.endings(manager) == 1

    def test_a_session_can_be_declared_to_finalize_while_it_goes_on(self) -> None:
        manager = self.manager(uuid4().hex, PAIR, IdleRunner)
        manager.fire("a")
        manager.fire("b")
        self.run(manager, "t_x#0")
        manager.update_configuration({}, finalize=True)
        assert self.endings(manager) == 0
        manager.update_configuration({}, finalize=False)
        self.run(manager, "t_y#0")
        assert self.endings(manager) == 0
        manager.update_configuration({}, finalize=True)
        assert self.endings(manager) == 1
        assert self.statuses(manager)["t_close#0"] == "scheduled"

    def test_a_task_that_is_added_or_has_more_instances_is_waited_for(self) -> None:
        manager = self.finalizing({**PAIR, "t_x": {"andEvery": "a"}})
        for trigger in "aab":
            manager.fire(trigger)
        self.run(manager, "t_x#1", "t_y#0")
        self.configure(manager, {"t_z": {"after": ["c"]}})
        self.run(manager, "t_x#0")
        assert self.endings(manager) == 0
        manager.fire("c")
        assert self.endings(manager) == 0
        self.run(manager, "t_z#0")
        assert self.endings(manager) == 1

    def test_a_deadline_finalizes_a_session_at_its_own_time(self) -> None:
        manager = self.finalizing({"t_x": {"after": ["a", "never"], "within": "PT1M"}, **CLOSING})
        moment = manager.storage.now() + timedelta(days=1)
        with frozen_time(moment):
            manager.fire("a")
        with frozen_time(moment + timedelta(minutes=5)):
            manager.apply(Tick())
        firings = list(self.reopened(manager).find_firings())
        assert [each.trigger for each in firings[1:]] == ["t_x:expired", SESSION_FINALIZED]
        assert [each.at - moment for each in firings[1:]] == [timedelta(minutes=1)] * 2

    def test_the_end_waits_for_a_cascade_that_is_pending(self) -> None:
        manager = self.finalizing({"t_x": {"after": ["a"]}, **CLOSING})
        manager.fire("a")
        self.begin(manager, "t_x#0")
        self.end(manager, "t_x#0", OVERRIDDEN)
        manager.update_configuration({"t_w": {"after": ["w"], "run": "x"}}, finalize=True)
        manager.fire("w")
        self.run(manager, "t_w#0")
        assert self.endings(manager) == 0
        manager.storage.transact(Done(ref="cascade:t_x#0:finished"))
        assert self.endings(manager) == 1

    # -- closed ---------------------------------------------------------------------------------

    def test_a_closed_session_is_finalized_when_nothing_goes_on_by_itself(self) -> None:
        tasks: Tasks = {
            "t_x": {"andEvery": "a"},
            "t_wait": {"after": ["a", "never"]},
            "t_never": {"after": ["never"]},
            **CLOSING,
        }
        manager = self.finalizing(tasks)
        for _ in range(4):
            manager.fire("a")
        for number in range(3):
            self.begin(manager, f"t_x#{number}")
        assert manager.close() is Phase.CLOSED
        self.end(manager, "t_x#0")
        self.run(manager, "t_x#3")
        assert self.endings(manager) == 0, "others run"
        manager.apply(Fail(key=("t_x", 1), token="t_x#1"))
        self.end(manager, "t_x#2")
        assert self.endings(manager) == 0, "one has failed"
        manager.skip_failed_instance("t_x#1")
        assert self.endings(manager) == 1
        manager.close()
        self.run(manager, "t_close#0")
        assert self.endings(manager) == 1
        assert self.statuses(manager)["t_wait#0"] == "unstarted"

    def test_closing_a_session_in_which_nothing_goes_on_finalizes_it(self) -> None:
        manager = self.finalizing({"t_wait": {"after": ["a", "never"]}, **CLOSING})
        manager.fire("a")
        assert manager.close() is Phase.CLOSED
        assert self.endings(manager) == 1
        assert self.statuses(manager) == {"t_wait#0": "unstarted", "t_close#0": "scheduled"}

    def test_a_closed_session_waits_for_what_time_will_change(self) -> None:
        tasks: Tasks = {
            "t_x": {"after": ["a", "never"], "within": "PT1M"},
            "t_end": {"after": ["a", SESSION_FINALIZED], "within": "PT1H"},
        }
        manager = self.finalizing(tasks)
        moment = manager.storage.now() + timedelta(days=1)
        with frozen_time(moment):
            manager.fire("a")
            manager.close()
            assert self.endings(manager) == 0
        with frozen_time(moment + timedelta(minutes=1)):
            manager.apply(Tick())
        assert self.endings(manager) == 1
        assert self.statuses(manager) == {"t_x#0": "abandoned", "t_end#0": "scheduled"}

    def test_a_closed_session_waits_for_hooks_that_are_pending(self) -> None:
        manager = self.finalizing({"t_x": {"after": ["a"]}, **CLOSING})
        manager.fire("a")
        manager.close()
        self.begin(manager, "t_x#0")
        self.end(manager, "t_x#0", Hooks("default", frozenset({"post_fire"})))
        assert self.endings(manager) == 0
        manager.storage.transact(Done(ref="post_fire:2"))
        assert self.endings(manager) == 1

    def test_a_cancelled_session_is_not_finalized(self) -> None:
        manager = self.finalizing(PAIR)
        manager.fire("a")
        self.begin(manager, "t_x#0")
        manager.cancel()
        self.end(manager, "t_x#0")
        assert self.endings(manager) == 0

    # -- at the same time -----------------------------------------------------------------------

    def test_of_tasks_that_finish_at_the_same_time_the_last_finalizes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
        tasks: Tasks = {"t_x": {"andEvery": "p", "using": IdleRunner.name}, **CLOSING}
        uids = []
        for _ in range(5):
            manager = self.finalizing(tasks, runs=True)
            uids.append(manager.storage.uid)
            for _ in range(8):
                manager.fire("p")
        barrier = threading.Barrier(4)

        def work(first: int) -> None:
            for uid in uids:
                barrier.wait(60)
                for number in (first, first + 4):
                    execute(self.manager(uid), f"t_x#{number}")

        in_threads(*[lambda first=first: work(first) for first in range(4)])
        names = [*(f"t_x#{number}" for number in range(8)), "t_close#0"]
        assert self.runs(tmp_path) == Counter(f"{uid} {name}" for uid in uids for name in names)
        assert [self.endings(self.manager(uid)) for uid in uids] == [1] * len(uids)

    def test_of_processes_that_finish_at_the_same_time_the_last_finalizes(
        self, tmp_path: Path
    ) -> None:
        self.require_processes()
        uids = [self.finalizing(PAIR).storage.uid for _ in range(self.sessions // 2)]
        orders = [{"uids": uids, "triggers": [name], "repeat": 1} for name in "ab"]
        self.in_processes(orders, tmp_path)
        expected = Counter(f"{uid} {task}#0" for uid in uids for task in PAIR)
        assert self.runs(tmp_path) == expected
        assert [self.endings(self.manager(uid)) for uid in uids] == [1] * len(uids)

    def test_a_session_that_is_closed_while_its_tasks_finish_is_finalized_once(self) -> None:
        for _ in range(10):
            manager = self.finalizing({**PAIR, "t_never": {"after": ["never"]}})
            manager.fire("a")
            manager.fire("b")
            uid, names = manager.storage.uid, ("t_x#0", "t_y#0")
            barrier = threading.Barrier(3)

            def finish(name: str, uid: str = uid, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(60)
                self.run(self.manager(uid, runner=IdleRunner), name)

            def close(uid: str = uid, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(60)
                self.manager(uid, runner=IdleRunner).close()

            in_threads(close, *[lambda name=name, do=finish: do(name) for name in names])
            fired = [each.trigger for each in self.reopened(manager).find_firings()]
            assert sorted(fired[2:4]) == ["t_x", "t_y"]
            assert fired[4:] == [SESSION_FINALIZED]

    def test_what_waits_for_the_end_is_sent_again_if_nobody_took_it(self) -> None:
        manager = self.finalizing({"t_x": {"after": ["a"]}, **CLOSING})
        manager.fire("a")
        manager.default_task_runner_name = BrokenRunner.name
        self.run(manager, "t_x#0")
        assert self.statuses(manager)["t_close#0"] == "scheduled"
        later = manager.storage.now() + timedelta(minutes=2)
        with self.tasks_in_place(manager), frozen_time(later):
            assert recovery.recover(manager).sent == 1
        assert self.statuses(manager)["t_close#0"] == "finished"
        assert self.endings(manager) == 1
