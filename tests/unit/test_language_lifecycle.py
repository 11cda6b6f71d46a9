"""Lost workers and the end of a session, worked out by hand: for the model and the real thing.

The model is also broken on purpose: examples that cannot tell a wrong model from a right one would
not notice a wrong engine either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.language_session import RealSession, let_time_run
from tests.reference_language import ATTEMPTS, LEASE, LanguageSession
from tests.reference_values import RefusedError
from tests.unit.test_language_reference import (
    fire_all,
    fired,
    kwargs_of,
    last_fired,
    reason_of,
    run,
    statuses,
)
from triggers.storages import storage_backends

FAILING = {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x:failed"]}}


def lose(session: Any, name: str, times: int) -> None:
    for _ in range(times):
        session.start(name)
        session.lose_worker(name)


def an_instance_whose_worker_was_lost_is_started_again(session: Any) -> None:
    session.configure(FAILING)
    session.fire("a", {"n": 1})
    lose(session, "t_x#0", ATTEMPTS - 1)
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert fired(session) == [["a"]]
    session.start("t_x#0")
    assert session.context_firings("t_x#0") == {"a": [{"n": 1}]}
    session.finish("t_x#0", {"n": 2})
    assert statuses(session) == {"t_x#0": "finished"}
    assert last_fired(session)["t_x"] == {"n": 2}


def after_too_many_lost_workers_it_fails(session: Any) -> None:
    session.configure(FAILING)
    session.fire("a", {"n": 1})
    lose(session, "t_x#0", ATTEMPTS)
    assert statuses(session) == {"t_x#0": "failed", "t_y#0": "scheduled"}
    failure = kwargs_of(session, "t_y#0")["t_x:failed"]
    assert failure["type"] == "triggers.exceptions.WorkerLost"
    assert {"WorkerLost", "TriggersError", "RuntimeError"} <= set(failure["types"])
    assert (failure["kwargs"], failure["attempt"]) == ({"a": {"n": 1}}, ATTEMPTS)


def a_retry_begins_to_count_its_lost_workers_again(session: Any) -> None:
    session.configure(FAILING)
    session.fire("a")
    lose(session, "t_x#0", ATTEMPTS - 1)
    session.start("t_x#0")
    session.retry("t_x#0")
    lose(session, "t_x#1", ATTEMPTS - 1)
    assert statuses(session) == {"t_x#0": "replayed", "t_x#1": "scheduled"}
    lose(session, "t_x#1", 1)
    assert statuses(session)["t_x#1"] == "failed"
    assert kwargs_of(session, "t_y#0")["t_x:failed"]["attempt"] == ATTEMPTS + 1


def recovery_finds_all_leases_that_are_over_and_no_other(session: Any) -> None:
    session.configure({"t_x": {"andEvery": "p"}})
    fire_all(session, "p p p")
    session.start("t_x#2")
    session.start("t_x#0")
    session.move_on(LEASE / 2)
    session.start("t_x#1")
    session.lose_worker("t_x#2")
    expected = {"t_x#0": "scheduled", "t_x#1": "running", "t_x#2": "scheduled"}
    assert statuses(session) == expected
    session.finish("t_x#1", {})


def a_lost_worker_leaves_its_task_unsettled(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_end": {"after": ["a", {"settled": "t_x"}]}})
    session.fire("a")
    lose(session, "t_x#0", ATTEMPTS)
    assert statuses(session) == {"t_x#0": "failed", "t_end#0": "unstarted"}
    session.skip_failed("t_x#0")
    assert statuses(session)["t_end#0"] == "scheduled"


def a_deadline_passes_before_recovery_looks(session: Any) -> None:
    late = {"after": ["t_x:failed", "b"], "unless": ["t_y:expired"]}
    waiting = {"after": ["a", "never"], "within": f"PT{LEASE // 2}S"}
    session.configure({"t_x": {"after": ["a"]}, "t_y": waiting, "t_late": late})
    session.fire("a")
    session.start("t_x#0")
    session.lose_worker("t_x#0")
    assert statuses(session)["t_y#0"] == "abandoned"
    assert statuses(session)["t_late#0"] == "abandoned"


def what_has_begun_in_a_closed_session_goes_on(session: Any) -> None:
    after = {"t_x": ["a"], "t_y": ["t_x"], "t_z": ["t_y", "b"]}
    session.configure({task: {"after": names} for task, names in after.items()})
    session.fire("a")
    session.close_session()
    run(session, "t_x#0")
    run(session, "t_y#0")
    expected = {"t_x#0": "finished", "t_y#0": "finished", "t_z#0": "unstarted"}
    assert statuses(session) == expected
    for refused in (lambda: session.fire("b"), lambda: session.configure({"t_w": {"after": []}})):
        with pytest.raises(RefusedError):
            refused()
    assert statuses(session) == expected
    assert session.snapshot()["phase"] == "closed"


def a_failed_instance_of_a_closed_session_can_be_replayed(session: Any) -> None:
    session.configure(FAILING)
    session.fire("a")
    session.close_session()
    session.start("t_x#0")
    session.fail("t_x#0", ValueError("no"))
    session.replay("t_x#0")
    run(session, "t_y#0")
    lose(session, "t_x#1", 1)
    assert statuses(session) == {"t_x#0": "replayed", "t_y#0": "finished", "t_x#1": "scheduled"}


def cancelling_abandons_what_was_not_started_and_fires_nothing(session: Any) -> None:
    handlers = {"t_w": {"after": ["t_y:abandoned"]}, "t_end": {"after": [{"settled": "t_y"}]}}
    session.configure(
        {
            "t_x": {"andEvery": "p"},
            "t_y": {"after": ["p", "b"]},
            **handlers,
            "t_z": {"after": ["t_x"]},
        }
    )
    fire_all(session, "p p")
    session.start("t_x#0")
    session.cancel_session()
    expected = {"t_x#0": "running", "t_x#1": "abandoned", "t_y#0": "abandoned"}
    assert statuses(session) == expected
    assert reason_of(session, "t_x#1") == reason_of(session, "t_y#0") == "cancelled"
    session.finish("t_x#0", {})
    assert statuses(session) == {**expected, "t_x#0": "finished"}
    assert fired(session) == [["p"], ["p"]]
    assert session.snapshot()["phase"] == "cancelled"


def a_cancelled_session_starts_nothing_any_more(session: Any) -> None:
    session.configure({"t_x": {"andEvery": "p"}, "t_y": {"after": ["t_x:failed"]}})
    fire_all(session, "p p p")
    session.start("t_x#0")
    session.fail("t_x#0", ValueError("no"))
    for name in ("t_x#1", "t_x#2"):
        session.start(name)
    session.cancel_session()
    session.retry("t_x#1")
    assert statuses(session)["t_x#1"] == "failed"
    for refused in (
        lambda: session.replay("t_x#0"),
        lambda: session.set_status("t_x#2", "scheduled"),
        lambda: session.fire("p"),
    ):
        with pytest.raises(RefusedError):
            refused()
    session.lose_worker("t_x#2")
    assert statuses(session)["t_x#2"] == "failed"
    session.skip_failed("t_x#0", cascade=True)
    assert len(fired(session)) == 4
    assert len(statuses(session)) == 4


EXAMPLES: dict[str, Callable[[Any], None]] = {
    each.__name__: each
    for each in (
        an_instance_whose_worker_was_lost_is_started_again,
        after_too_many_lost_workers_it_fails,
        a_retry_begins_to_count_its_lost_workers_again,
        recovery_finds_all_leases_that_are_over_and_no_other,
        a_lost_worker_leaves_its_task_unsettled,
        a_deadline_passes_before_recovery_looks,
        what_has_begun_in_a_closed_session_goes_on,
        a_failed_instance_of_a_closed_session_can_be_replayed,
        cancelling_abandons_what_was_not_started_and_fires_nothing,
        a_cancelled_session_starts_nothing_any_more,
    )
}

every_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    let_time_run()


@every_example
def test_the_model_does_as_the_examples_say(example: Callable[[Any], None]) -> None:
    example(LanguageSession())


@every_example
def test_a_session_does_as_the_examples_say(example: Callable[[Any], None]) -> None:
    session = RealSession(lambda uid: storage_backends.get("memory", uid))
    try:
        example(session)
    finally:
        session.close()


# -- models that are wrong on purpose -------------------------------------------------------------


class NeverGivesUp(LanguageSession):
    def _enqueue_outcome(self, name: str, names: dict[str, Any]) -> None:
        super()._enqueue_outcome(name, names)
        if "WorkerLost" in next(iter(names.values()), {}).get("types", ()):
            self.instances[name]["status"] = "scheduled"


class LosesOnlyOne(LanguageSession):
    def lose_worker(self, name: str) -> None:
        others = [
            each
            for each in self.instances.values()
            if each["status"] == "running" and each is not self.instances[name]
        ]
        for each in others:
            each["lease"] += LEASE
        super().lose_worker(name)


class FiresWhatItCancels(LanguageSession):
    def cancel_session(self) -> None:
        before = set(self.instances)
        abandoned = [
            name
            for name, each in self.instances.items()
            if each["status"] in ("unstarted", "scheduled")
        ]
        super().cancel_session()
        self.phase = "open"
        for name in sorted(before & set(abandoned)):
            self._outcome(name, {f"{self._task(name)}:abandoned": {"reason": "cancelled"}})
        self.phase = "cancelled"


class GoesOnWhenCancelled(LanguageSession):
    def _outcome(self, name: str, names: dict[str, Any]) -> None:
        phase, self.phase = self.phase, "open"
        super()._outcome(name, names)
        self.phase = phase


class StopsWhenClosed(LanguageSession):
    def _enqueue_outcome(self, name: str, names: dict[str, Any]) -> None:
        if self.phase == "open":
            super()._enqueue_outcome(name, names)


class StaysOpen(LanguageSession):
    def _refuse_unless_in(self, *phases: str) -> None:
        return


class LooksBeforeDeadlines(LanguageSession):
    def _begin(self) -> None:
        self.now = self.clock


class CountsAllAttempts(LanguageSession):
    def lose_worker(self, name: str) -> None:
        self.instances[name]["starts"] += bool(self.instances[name]["retries"])
        super().lose_worker(name)


@pytest.mark.parametrize(
    "model",
    [
        NeverGivesUp,
        LosesOnlyOne,
        FiresWhatItCancels,
        GoesOnWhenCancelled,
        StopsWhenClosed,
        StaysOpen,
        LooksBeforeDeadlines,
        CountsAllAttempts,
    ],
)
def test_the_examples_notice_a_wrong_model(model: type[LanguageSession]) -> None:
    def holds(example: Callable[[Any], None]) -> bool:
        try:
            example(model())
        except (AssertionError, KeyError, RefusedError, pytest.fail.Exception):
            return False
        return True

    assert not all(map(holds, EXAMPLES.values()))
