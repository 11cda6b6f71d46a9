"""The part of the conformance suite that is about the configuration language.

What each construct means is held against a model elsewhere; this shows that a storage reads and
writes all that the decisions about it need, also when many decide at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from triggers.clock import frozen_time
from triggers.engine.lifecycle import Claim, Fail, Finish
from triggers.manager import TriggerManager
from triggers.task import execute
from triggers.testing.racing import RUN_LOG, IdleRunner, in_threads
from triggers.testing.suite import StorageSuite
from triggers.timers import fire_due_in

HOUR = timedelta(hours=1)

Tasks = dict[str, dict[str, Any]]


class LanguageContract(StorageSuite):
    """What every storage must do for conditions, filters, counts, outcomes and time."""

    # -- conditions and filters -----------------------------------------------------------------

    def test_any_of_several_triggers_is_enough(self) -> None:
        tasks: Tasks = {"t_x": {"after": {"any": ["a", {"all": ["b", "c"]}]}}}
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("b", {"n": 1})
        assert self.statuses(manager) == {"t_x#0": "unstarted"}
        manager.fire("c", {"n": 2})
        assert self.reopened(manager)["t_x#0"].status == "finished"
        assert self.reopened(manager)["t_x#0"].kwargs == {"b": {"n": 1}, "c": {"n": 2}}

    def test_a_firing_that_does_not_pass_is_as_if_it_had_not_happened(self) -> None:
        tasks: Tasks = {"t_x": {"after": ["a"], "andEvery": "p", "when": {"a": {"n": {"gte": 3}}}}}
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("a", {"n": 1})
        assert self.statuses(manager) == {}
        manager.fire("a", {"n": 3})
        manager.fire("a", {"n": 2})
        manager.fire("p")
        manager.fire("p")
        storage = self.reopened(manager)
        assert [each.kwargs["a"] for each in storage] == [{"n": 3}, {"n": 3}]
        refused = {each.seq: dict(each.refused) for each in storage.find_firings()}
        assert refused[1] == refused[3] | {"t_x": "filter on a: n gte 3, got 1"}
        assert refused[2] == {}

    def test_a_task_that_is_added_late_looks_at_the_latest_firing(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["never"]}})
        for n in (5, 1):
            manager.fire("a", {"n": n})
        manager.fire("b", {"n": 5})
        chosen = {name: {"n": {"gte": 3}} for name in "ab"}
        self.configure(manager, {"t_y": {"after": ["a", "b"], "andEvery": "p", "when": chosen}})
        manager.fire("p")
        assert self.statuses(manager) == {"t_y#0": "unstarted"}, "its latest a does not pass"
        assert self.reopened(manager)["t_y#0"].kwargs == {"b": {"n": 5}, "p": {}}
        manager.fire("a", {"n": 4})
        assert self.reopened(manager)["t_y#0"].kwargs["a"] == {"n": 4}

    # -- counting -------------------------------------------------------------------------------

    def test_threads_that_fire_at_once_are_counted_exactly(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
        manager = self.manager(uuid4().hex, {"t_x": {"after": [{"trigger": "p", "times": 40}]}})

        def write() -> None:
            mine = self.manager(manager.storage.uid)
            for n in range(10):
                mine.fire("p", {"n": n})

        in_threads(*[write] * 4)
        assert self.runs(tmp_path) == Counter({f"{manager.storage.uid} t_x#0": 1})
        counted = self.reopened(manager)["t_x#0"].firings["p"]
        assert Counter(each["n"] for each in counted) == Counter(dict.fromkeys(range(10), 4))

    @pytest.mark.parametrize("order", ["started first", "started last"])
    def test_the_size_of_a_join_may_be_known_only_at_run_time(self, order: str) -> None:
        tasks: Tasks = {"t_x": {"after": [{"trigger": "p", "times": {"from": "started.pages"}}]}}
        manager = self.manager(uuid4().hex, tasks)
        started = ("started", {"pages": 2})
        pages = [("p", {"n": n}) for n in range(2)]
        firings = [started, *pages] if order == "started first" else [*pages, started]
        for trigger, kwargs in firings:
            assert set(self.statuses(manager).values()) <= {"unstarted"}
            manager.fire(trigger, kwargs)
        found = self.reopened(manager)["t_x#0"]
        assert found.status == "finished"
        assert found.firings["p"] == [{"n": 0}, {"n": 1}]

    def test_a_fan_out_is_joined_by_whoever_finishes_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
        tasks: Tasks = {
            "t_import": {"after": [], "andEvery": "page", "using": IdleRunner.name},
            "t_join": {"after": ["allSent", {"settled": "t_import"}]},
        }
        manager = self.manager(uuid4().hex, tasks)
        for n in range(8):
            manager.fire("page", {"n": n})
        manager.fire("allSent")
        barrier = threading.Barrier(4)

        def work(numbers: tuple[int, ...]) -> None:
            barrier.wait(60)
            for number in numbers:
                execute(self.manager(manager.storage.uid), f"t_import#{number}")

        in_threads(*[lambda numbers=(n, n + 4): work(numbers) for n in range(4)])
        expected = {f"{manager.storage.uid} t_import#{n}": 1 for n in range(8)}
        assert self.runs(tmp_path) == Counter({**expected, f"{manager.storage.uid} t_join#0": 1})

    # -- outcomes -------------------------------------------------------------------------------

    def test_all_names_of_an_outcome_are_one_firing(self) -> None:
        tasks: Tasks = {
            "t_x": {"after": ["a"], "using": IdleRunner.name},
            "t_well": {"after": ["t_x:ended"], "unless": ["t_x:failed"]},
            "t_alarm": {"after": ["t_x:failed"], "when": {"t_x:failed": {"$args.a.n": 1}}},
            "t_other": {"after": ["t_x:failed"], "when": {"t_x:failed": {"$args.a.n": 2}}},
            "t_mourn": {"after": ["t_well:abandoned", "t_x:ended"]},
        }
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("a", {"n": 1})
        self.fail(manager, "t_x#0")
        assert self.statuses(manager) == {
            "t_x#0": "failed",
            "t_well#0": "abandoned",
            "t_alarm#0": "finished",
            "t_mourn#0": "finished",
        }
        assert self.reopened(manager)["t_mourn#0"].kwargs["t_well:abandoned"] == {
            "reason": "unless"
        }

    def test_a_task_takes_a_lineage_once(self) -> None:
        tasks: Tasks = {
            "t_x": {"after": ["a"], "using": IdleRunner.name},
            "t_alarm": {"after": [], "andEvery": "t_x:failed"},
            "t_end": {"after": [], "andEvery": "t_x:ended"},
            "t_next": {"after": [], "andEvery": "t_x"},
        }
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("a")
        for number in range(3):
            self.fail(manager, f"t_x#{number}")
            manager.replay_failed_instance(f"t_x#{number}")
        execute(manager, "t_x#3")
        statuses = self.statuses(manager)
        assert sorted(name for name in statuses if not name.startswith("t_x")) == [
            "t_alarm#0",
            "t_end#0",
            "t_next#0",
        ]
        told = {each.name: dict(each.record.told) for each in self.reopened(manager)}
        assert told["t_x#0"] == {
            "t_x:failed": ("t_alarm",),
            "t_x:ended": ("t_end",),
            "t_x": ("t_next",),
        }

    def test_a_skip_with_cascade_is_one_firing_of_two_names(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"], "using": IdleRunner.name}})
        manager.fire("a")
        self.fail(manager, "t_x#0")
        manager.skip_failed_instance("t_x#0", cascade=True, result={"n": 1})
        storage = self.reopened(manager)
        [*_, firing] = storage.find_firings()
        assert (firing.trigger, firing.also, firing.cause) == ("t_x", ("t_x:skipped",), "t_x#0")
        assert [each.seq for each in storage.find_firings(seqs=[firing.seq])] == [firing.seq]
        assert storage.latest_kwargs["t_x"] == {"n": 1}
        # Who comes later finds it under each of its names.
        late = {"t_y": {"after": ["t_x:skipped", "t_x", "t_x:ended"], "andEvery": "p"}}
        self.configure(manager, late)
        manager.fire("p")
        assert self.reopened(manager)["t_y#0"].status == "finished"

    def test_outcomes_of_a_task_with_a_long_name_are_recorded(self) -> None:
        name = "t_" + "x" * 253
        tasks: Tasks = {
            name: {"after": ["a"], "unless": ["u"]},
            "t_y": {"after": ["go", {"settled": name}]},
        }
        manager = self.manager(uuid4().hex, tasks)
        manager.fire("go")
        assert manager.fire("u").abandoned == (f"{name}#0",)
        assert self.statuses(manager) == {f"{name}#0": "abandoned", "t_y#0": "finished"}
        fired = {each.trigger for each in self.reopened(manager).find_firings()}
        assert f"{name}:abandoned" in fired

    # -- time -----------------------------------------------------------------------------------

    def test_a_deadline_that_has_passed_has_passed(self) -> None:
        tasks: Tasks = {
            "t_x": {"after": ["a", "b"], "within": "PT1H"},
            "t_late": {"after": ["t_x:expired"]},
        }
        manager = self.manager(uuid4().hex, tasks)
        start = manager.storage.now()
        with frozen_time(start):
            manager.fire("a")
        with frozen_time(start + HOUR * 5):
            manager.fire("b")
        storage = self.reopened(manager)
        assert self.statuses(manager) == {"t_x#0": "abandoned", "t_late#0": "finished"}
        assert storage["t_x#0"].metadata["reason"] == "expired"
        assert storage["t_x#0"].changed_at == start + HOUR, "at its own time"

    def test_what_is_due_is_decided_once_however_many_look(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(RUN_LOG, str(tmp_path / "runs"))
        uids = self.configured_sessions({"t_x": {"after": [{"elapsed": "PT1H", "since": "a"}]}}, 12)
        start = self.open("-").now()
        with frozen_time(start):
            for uid in uids:
                self.manager(uid).fire("a")
        with frozen_time(start + HOUR - timedelta(microseconds=1)):
            assert not set(uids) & set(self.ticking())
        with frozen_time(start + HOUR):
            assert set(self.ticking()) >= (set(uids) if self.lists_overdue else set())
            barrier = threading.Barrier(3)

            def look() -> None:
                barrier.wait(60)
                for uid in uids:
                    fire_due_in(self.manager(uid))

            in_threads(look, look, look)
            assert not set(uids) & set(self.ticking())
        assert self.runs(tmp_path) == Counter({f"{uid} t_x#0": 1 for uid in uids})

    def test_a_burst_makes_one_instance_with_its_last_kwargs(self) -> None:
        burst = {"quiet": "PT5M", "most": "PT1H"}
        manager = self.manager(
            uuid4().hex, {"t_x": {"after": [], "andEvery": "p", "debounce": burst}}
        )
        start = manager.storage.now()
        for minutes in (0, 4, 8, 14):
            with frozen_time(start + timedelta(minutes=minutes)):
                manager.fire("p", {"at": minutes})
        with frozen_time(start + HOUR):
            fire_due_in(manager)
        found = [(each.kwargs["p"]["at"], str(each.status)) for each in self.reopened(manager)]
        assert found == [(8, "finished"), (14, "finished")]

    def test_only_fresh_firings_count_and_only_so_often(self) -> None:
        tasks: Tasks = {
            "t_x": {"after": ["sensor", "a"], "fresh": {"sensor": "PT1H"}},
            "t_y": {"after": [], "andEvery": "sensor", "atMostEvery": "PT1H"},
        }
        manager = self.manager(uuid4().hex, tasks)
        start = manager.storage.now()
        for hours, trigger in enumerate(["sensor", "a", "sensor"]):
            with frozen_time(start + HOUR * hours):
                manager.fire(trigger, {"at": hours})
        with frozen_time(start + HOUR * 2.5):
            manager.fire("sensor", {"at": 2.5})
        storage = self.reopened(manager)
        assert storage["t_x#0"].kwargs == {"sensor": {"at": 2}, "a": {"at": 1}}
        assert [each.kwargs["sensor"]["at"] for each in storage.instances_of_task("t_y")] == [0, 2]

    # -- what these are made of -----------------------------------------------------------------

    def ticking(self) -> list[str]:
        """Uids of sessions in which something is due."""
        return list(type(self.open("-")).ticking(10_000, None, **self.options))

    def fail(self, manager: TriggerManager, name: str, **failure: Any) -> None:
        """Let an instance fail, as a worker would.

        :param name: name of the instance.
        :param failure: what its outcome carries.
        """
        task, number = manager.storage.key_of(name)
        manager.apply(Claim(key=(task, number), token=name))
        accepted = manager.apply(Fail(key=(task, number), token=name)).outcome
        assert accepted, f"{name} was not running"
        assert not manager.apply(Finish(key=(task, number), token=name)).outcome
