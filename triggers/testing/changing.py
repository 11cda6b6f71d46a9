"""What a storage must do when the configuration of a live session changes, or is only previewed.

Part of :class:`~triggers.testing.contract.StorageContract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from triggers.clock import current_time, frozen_time
from triggers.engine.lifecycle import Claim, Finish
from triggers.exceptions import ReplacementRefused, SessionClosed
from triggers.explain import ConfigurationPreview
from triggers.manager import TriggerManager
from triggers.testing.racing import IdleRunner, Recorded, in_threads
from triggers.testing.suite import StorageSuite
from triggers.types import FireResult, Standing, TaskInstance

Tasks = Mapping[str, dict[str, Any]]

WAITING: Tasks = {
    "t_join": {"after": ["a", "b"]},
    "t_every": {"after": ["a", "z"], "andEvery": "p"},
    "t_late": {"after": ["a", "z"], "within": "PT1H"},
}

OTHERWISE: Tasks = {
    "t_join": {"after": ["b", "seen"], "when": {"seen": {"n": {"gte": 2}}}},
    "t_every": {"after": ["a"], "andEvery": "p", "unless": ["t_late:expired"]},
    "t_told": {"after": ["t_late:expired", "t_every:abandoned"]},
    "t_new": {"after": [{"trigger": "seen", "times": 2}]},
}


class ChangingContract(StorageSuite):
    """Previews, tasks that are replaced, and refusals."""

    def live(self, tasks: Tasks = WAITING) -> TriggerManager:
        """A session in which something waits.

        :param tasks: directives by task name, without ``run``.
        :returns: its manager.
        """
        manager = self.manager(uuid4().hex, dict(tasks), IdleRunner)
        for trigger, n in (("a", 1), ("p", 1), ("p", 2), ("seen", 2), ("seen", 1), ("seen", 3)):
            manager.fire(trigger, {"n": n})
        return manager

    def preview(
        self, manager: TriggerManager, tasks: Tasks, **options: Any
    ) -> ConfigurationPreview:
        """What replacing or adding tasks would do, once it is certain that it has not.

        :param tasks: directives by task name, without ``run``.
        :param options: further arguments of ``update_configuration``.
        :returns: the preview.
        """
        before = self.everything(manager)
        found: ConfigurationPreview = manager.update_configuration(
            _runnable(tasks), preview=True, **options
        )
        assert self.everything(manager) == before, "a preview must not change anything"
        return found

    def update(self, manager: TriggerManager, tasks: Tasks, **options: Any) -> FireResult:
        """Replace or add tasks.

        :param tasks: directives by task name, without ``run``.
        :param options: further arguments of ``update_configuration``.
        :returns: what it did.
        """
        result: FireResult = manager.update_configuration(_runnable(tasks), **options)
        return result

    def everything(self, manager: TriggerManager) -> dict[str, Any]:
        """All that can be seen of a session.

        :returns: it, by kind.
        """
        storage = self.reopened(manager)
        return {
            "instances": [each.record for each in storage],
            "firings": list(storage.find_firings()),
            "tasks": storage.plan().configuration.body,
            "standing": storage.standing(),
            "deferred": list(storage.deferred()),
        }

    def later(self, **length: float) -> AbstractContextManager[Any]:
        """Let time have gone by.

        :param length: how much, as for ``timedelta``.
        :returns: a context manager, in which it has.
        """
        return frozen_time(current_time() + timedelta(**length))

    # -- previews -------------------------------------------------------------------------------

    def test_a_preview_of_a_session_nobody_touched_does_not_begin_it(self) -> None:
        manager = self.manager(uuid4().hex)
        found = self.preview(manager, {"t_x": {"after": ["a"]}, "t_y": {"after": ["b"]}})
        assert (found.new, found.replaced, found.created) == (("t_x", "t_y"), (), ())
        storage = self.reopened(manager)
        assert storage.standing() == Standing()
        assert storage.tasks == {}
        try:
            sessions = type(storage).sessions(100_000, **storage.options)
        except NotImplementedError:
            return
        assert manager.storage.uid not in sessions

    def test_a_preview_of_a_first_configuration_sees_what_was_fired(self) -> None:
        manager = self.manager(uuid4().hex, runner=IdleRunner)
        manager.fire("a", {"n": 1})
        found = self.preview(manager, {"t_x": {"after": ["a"]}, "t_y": {"after": ["a", "b"]}})
        assert (found.created, found.scheduled) == (("t_x#0", "t_y#0"), ("t_x#0",))
        assert self.update(manager, {"t_x": {"after": ["a"]}}).scheduled == ("t_x#0",)

    @pytest.mark.parametrize("apply_history", [False, True])
    def test_what_a_preview_says_happens(self, *, apply_history: bool) -> None:
        manager = self.live()
        with self.later(hours=2):
            found = self.preview(manager, OTHERWISE, apply_history=apply_history)
            done = self.update(manager, OTHERWISE, apply_history=apply_history)
        assert found.due.abandoned == ("t_late#0",)
        assert (found.new, found.replaced) == (("t_told", "t_new"), ("t_join", "t_every"))
        assert found.created == done.created
        assert ("t_new#0" in found.created) == apply_history
        assert found.scheduled == done.scheduled
        assert found.abandoned == done.abandoned == ("t_every#0", "t_every#1")
        storage = self.reopened(manager)
        assert {each.name: each.status for each in found.waiting} == {
            each.name: storage[each.name].status for each in found.waiting
        }
        assert [each.name for each in found.waiting] == ["t_join#0", "t_every#0", "t_every#1"]
        fired = [each.trigger for each in storage.find_firings()]
        assert list(found.fires) == fired[6:]

    def test_a_preview_says_what_each_instance_would_still_wait_for(self) -> None:
        manager = self.live()
        found = self.preview(manager, {"t_join": {"after": ["b", "seen", "z"], "unless": ["u"]}})
        (join,) = found.waiting
        assert (join.name, join.status, join.missing) == ("t_join#0", "unstarted", ("b", "z"))
        assert [(each.name, each.firing and each.firing.seq) for each in join.gains] == [
            ("seen", 6)
        ]
        assert [(each.name, each.firing and each.firing.seq) for each in join.loses] == [("a", 1)]
        assert "t_join#0 waits on for b; z" in str(found)
        assert found.to_json()["waiting"][0]["missing"] == ["b", "z"]
        self.update(manager, {"t_join": {"after": ["b", "seen", "z"], "unless": ["u"]}})
        storage = self.reopened(manager)
        explained = storage.explain("t_join#0").to_json()
        assert explained["conditions"]["missing"] == ["b", "z"]

    def test_a_preview_calls_no_hook_and_no_runner(self) -> None:
        called: list[str] = []

        class Loud(TriggerManager):
            default_task_runner_name = IdleRunner.name

            def fire(self, *args: Any, **kwargs: Any) -> FireResult:
                called.append("fire")
                return super().fire(*args, **kwargs)

            def runner_name(self, task: Any) -> str:
                called.append("runner")
                return super().runner_name(task)

            def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
                called.append("hook")

        quiet = self.live()
        manager = Loud(self.reopened(quiet))
        tasks: Tasks = {"t_join": {"after": ["a"]}, "t_every": {"andEvery": "p", "unless": ["a"]}}
        found = self.preview(manager, tasks)
        assert found.scheduled == ("t_join#0",)
        assert found.fires == ("t_every:abandoned", "t_every:abandoned")
        assert called == []

    def test_a_preview_leaves_no_lock(self) -> None:
        manager = self.live()
        self.preview(manager, OTHERWISE)
        in_threads(lambda: _fire(TriggerManager(self.reopened(manager)), "b"))
        assert self.statuses(manager)["t_join#0"] == "scheduled"

    def test_previews_see_a_session_that_others_change_as_it_was_at_one_moment(self) -> None:
        manager = self.manager(uuid4().hex, {"t_x": {"after": ["a"], "andEvery": "p"}}, IdleRunner)
        uid, seen = manager.storage.uid, []

        def fire() -> None:
            own = self.manager(uid, runner=IdleRunner)
            for _ in range(20):
                own.fire("p")

        def look() -> None:
            own = self.manager(uid, runner=IdleRunner)
            for _ in range(10):
                found = own.update_configuration(
                    _runnable({"t_x": {"andEvery": "p"}}), preview=True
                )
                assert found.scheduled == tuple(each.name for each in found.waiting)
                seen.append(len(found.scheduled))

        in_threads(fire, look, fire)
        assert seen == sorted(seen)
        assert len(self.statuses(manager)) == 40

    def test_a_preview_of_a_closed_session_is_refused(self) -> None:
        manager = self.live()
        manager.close()
        with pytest.raises(SessionClosed):
            self.preview(manager, OTHERWISE)

    # -- tasks that are replaced ----------------------------------------------------------------

    def test_what_waits_is_found_under_its_new_names_only(self) -> None:
        manager = self.live()
        self.update(
            manager, {"t_join": {"after": ["c"]}, "t_every": {"after": ["d"], "andEvery": "p"}}
        )
        assert manager.fire("b").scheduled == ()
        assert manager.fire("z").scheduled == ("t_late#0",)
        assert manager.fire("c").scheduled == ("t_join#0",)
        assert manager.fire("d").scheduled == ("t_every#0", "t_every#1")
        assert manager.fire("p").created == ("t_every#2",)

    def test_what_has_begun_keeps_its_kwargs(self) -> None:
        manager = self.manager(
            uuid4().hex, {"t_x": {"after": ["a", "b"], "unless": ["u", "v"]}}, IdleRunner
        )
        for trigger in ("u", "a", "b"):
            manager.fire(trigger, {"of": trigger})
        self.update(manager, {"t_x": {"after": ["b"]}})
        kwargs = {"a": {"of": "a"}, "b": {"of": "b"}}
        assert self.reopened(manager)["t_x#0"].kwargs == kwargs
        claimed = manager.apply(Claim(key=("t_x", 0), token="one")).outcome
        assert manager.storage.present(claimed).kwargs == kwargs
        assert manager.apply(Finish(key=("t_x", 0), token="one", result="{}")).outcome
        assert self.reopened(manager)["t_x#0"].kwargs == kwargs

    # -- refusals -------------------------------------------------------------------------------

    def refused(self, manager: TriggerManager, tasks: Tasks) -> ReplacementRefused:
        """Have a configuration refused, as its preview said.

        :param tasks: directives by task name, without ``run``.
        :returns: the error.
        """
        found, before = self.preview(manager, tasks), self.everything(manager)
        assert found.is_refused
        assert (found.scheduled, found.waiting) == ((), ())
        with pytest.raises(ReplacementRefused) as raised:
            self.update(manager, tasks)
        assert self.everything(manager) == before, "a refusal must not store anything"
        told = tuple((each.task, each.instances, each.reason) for each in found.refusals)
        assert raised.value.refusals == told
        return raised.value

    def test_instances_that_could_not_be_told_apart_are_in_the_way(self) -> None:
        manager = self.live()
        error = self.refused(manager, {"t_every": {"after": ["z"]}, "t_new": {"after": ["a"]}})
        assert error.instances == ("t_every#0", "t_every#1")
        manager.update_instance_status("t_every#1", "abandoned")
        self.update(manager, {"t_every": {"after": ["z"]}, "t_new": {"after": ["a"]}})
        assert manager.fire("z").scheduled == ("t_every#0", "t_late#0")

    def test_a_firing_that_would_not_pass_any_more_is_in_the_way(self) -> None:
        manager = self.live()
        error = self.refused(manager, {"t_join": {**WAITING["t_join"], "when": {"a": {"n": 7}}}})
        assert error.instances == ("t_join#0",)
        assert "t_join#0 took firing 1 of 'a', which does not pass now" in str(error)

    def test_what_has_begun_and_would_lose_its_kwargs_is_in_the_way(self) -> None:
        manager = self.live()
        manager.fire("b")
        tasks = {"t_join": {"after": ["b"], "unless": ["a", "u"]}}
        assert self.refused(manager, tasks).instances == ("t_join#0",)
        manager.apply(Claim(key=("t_join", 0), token="one"))
        assert "t_join#0 (running) took kwargs of a" in str(self.refused(manager, tasks))
        manager.apply(Finish(key=("t_join", 0), token="one", result="{}"))
        self.update(manager, tasks)


def _runnable(tasks: Tasks) -> dict[str, dict[str, Any]]:
    return {name: {"run": Recorded.name, **each} for name, each in tasks.items()}


def _fire(manager: TriggerManager, trigger: str) -> None:
    manager.default_task_runner_name = IdleRunner.name
    manager.fire(trigger)
