"""Rows P02 to P04: tasks that start on what became of other tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.division import DIVIDE, began, listening
from tests.acceptance.rows.sessions import (
    IdleRunner,
    explode,
    got,
    registered,
    reopened,
    show,
    statuses,
)
from triggers import timers
from triggers.conditions import predicate
from triggers.task import TaskContext, TriggerTask
from triggers.testing import frozen_time

SHOW = {"run": show.name}
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Persistent(TriggerTask):
    """Tries three times, in vain."""

    max_retries = 2

    def _run(self, context: TaskContext) -> None:
        raise self.retry(exc=ConnectionError("nobody is there"))


class NotNeeded(TriggerTask):
    def _run(self, context: TaskContext) -> None:
        raise self.skip({"why": "not needed"})


@predicate("rows-is-round")
def is_round(kwargs: dict[str, Any]) -> bool:
    return float(kwargs["ratio"]).is_integer()


# -- P02 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "started"),
    [({"x": 4, "y": 2}, ["t_on_0#0", "t_on_2#0"]), ({"x": 4, "y": 0}, ["t_on_1#0", "t_on_2#0"])],
)
def test_p02_a_task_starts_on_success_on_failure_or_on_either(
    new_session: NewSession, numbers: dict[str, int], started: list[str]
) -> None:
    names = ("t_divide", "t_divide:failed", "t_divide:ended")
    manager = new_session({**DIVIDE, **listening(*names)})
    manager.fire("numbers", numbers)
    assert began(manager) == started


def test_p02_a_task_starts_when_another_skips_itself_or_is_skipped(new_session: NewSession) -> None:
    tasks = {
        "t_skips": {"after": ["a"], "run": NotNeeded.name},
        "t_fails": {"after": ["a"], "run": explode.name},
        **listening("t_skips:skipped", "t_fails:skipped", "t_skips", "t_fails"),
    }
    manager = new_session(tasks)
    manager.fire("a")
    assert statuses(manager) == {
        "t_skips#0": "skipped",
        "t_fails#0": "failed",
        "t_on_0#0": "finished",
    }
    assert got(manager, "t_on_0#0") == {"t_skips:skipped": {}}
    manager.skip_failed_instance("t_fails#0", result={"score": 0})
    assert got(manager, "t_on_1#0") == {"t_fails:skipped": {"score": 0}}
    assert "t_on_3#0" not in statuses(manager)


def test_p02_a_skip_with_cascade_is_seen_under_all_of_its_names_at_once(
    new_session: NewSession,
) -> None:
    names = ["t_fails", "t_fails:skipped"]
    manager = new_session(
        {
            "t_fails": {"after": ["a"], "run": explode.name},
            "t_both": {"after": names, **SHOW},
            "t_each": {"after": [names[1]], "andEvery": names[0], **SHOW},
        }
    )
    manager.fire("a")
    manager.skip_failed_instance("t_fails#0", cascade=True, result={"score": 0})
    assert statuses(manager) == {
        "t_fails#0": "skipped",
        "t_both#0": "finished",
        "t_each#0": "finished",
    }
    assert got(manager, "t_both#0") == {name: {"score": 0} for name in names}


def test_p02_a_task_starts_when_another_was_abandoned(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"after": ["a", "b"], "unless": ["u"], **SHOW},
        **listening("t_x:abandoned", "t_x:ended", "t_x:expired"),
    }
    manager = new_session(tasks)
    manager.fire("a")
    manager.fire("u")
    assert statuses(manager) == {
        "t_x#0": "abandoned",
        "t_on_0#0": "finished",
        "t_on_1#0": "finished",
    }
    assert got(manager, "t_on_0#0") == {"t_x:abandoned": {"reason": "unless"}}
    assert got(manager, "t_on_1#0") == {"t_x:ended": {"reason": "unless"}}


def test_p02_a_task_starts_when_the_time_of_another_is_up(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"after": ["a", "b"], "within": "PT72H", **SHOW},
        **listening("t_x:expired", "t_x:abandoned", "t_x:ended"),
    }
    with frozen_time(NOW):
        manager = new_session(tasks)
        manager.fire("a")
    with frozen_time(NOW + timedelta(hours=72)):
        assert timers.fire_due_in(manager) == 4
    assert statuses(manager)["t_x#0"] == "abandoned"
    for number, name in enumerate(("t_x:expired", "t_x:abandoned", "t_x:ended")):
        assert got(manager, f"t_on_{number}#0") == {name: {"reason": "expired"}}


def test_p02_a_status_that_was_set_by_hand_starts_it_too(new_session: NewSession) -> None:
    names = ("t_x:abandoned", "t_x:failed", "t_x:skipped", "t_x:ended", "t_x")
    with registered(IdleRunner):
        idle = {"andEvery": "p", "after": ["a"], "using": IdleRunner.name, **SHOW}
        manager = new_session({"t_x": idle, **listening(*names)})
        manager.fire("p")
        manager.update_instance_status("t_x#0", "abandoned")
        assert got(manager, "t_on_0#0") == {"t_x:abandoned": {"reason": "by hand"}}
        manager.fire("a")
        manager.fire("p", {"n": 1})
        manager.update_instance_status("t_x#1", "failed")
        assert got(manager, "t_on_1#0")["t_x:failed"]["kwargs"] == {"a": {}, "p": {"n": 1}}
        manager.update_instance_status("t_x#1", "skipped")
        assert got(manager, "t_on_2#0") == {"t_x:skipped": {}}
    ended = [got(manager, f"t_on_3#{number}")["t_x:ended"] for number in range(2)]
    assert [each.get("reason") for each in ended] == ["by hand", None]
    assert "t_on_4#0" not in statuses(manager), "it fires its plain name only with a cascade"


def test_p02_what_will_be_retried_has_neither_failed_nor_ended(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": Persistent.name},
        **listening("t_x:failed", "t_x:ended"),
    }
    manager = new_session(tasks)
    manager.fire("a")
    assert statuses(manager) == {
        "t_x#0": "replayed",
        "t_x#1": "replayed",
        "t_x#2": "failed",
        "t_on_0#0": "finished",
        "t_on_1#0": "finished",
    }
    failure = got(manager, "t_on_0#0")["t_x:failed"]
    assert failure["attempt"] == 3
    assert "MaxRetriesExceeded" in failure["types"]


def test_p02_a_failure_that_repeats_after_a_replay_starts_nothing_again(
    new_session: NewSession,
) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": explode.name},
        **listening("t_x:failed", "t_x:ended"),
    }
    manager = new_session(tasks)
    manager.fire("a")
    manager.replay_failed_instance("t_x#0")
    assert began(manager, but="t_x") == ["t_on_0#0", "t_on_1#0"]
    fired = [each.trigger for each in reopened(manager).storage.find_firings()]
    assert fired.count("t_x:failed") == 2


def test_p02_what_a_failure_has_ruled_out_stays_out_when_a_replay_succeeds(
    new_session: NewSession,
) -> None:
    tasks = {
        **DIVIDE,
        "t_next": {"after": ["t_divide", "other"], "unless": ["t_divide:failed"], **SHOW},
    }
    manager = new_session(tasks)
    manager.fire("numbers", {"x": 4, "y": 0})
    assert statuses(manager)["t_next#0"] == "abandoned"
    manager.replay_failed_instance("t_divide#0", {"numbers": {"x": 4, "y": 2}})
    manager.fire("other")
    assert statuses(manager)["t_divide#1"] == "finished"
    assert statuses(manager)["t_next#0"] == "abandoned"


def test_p02_an_outcome_cannot_be_fired_by_hand(new_session: NewSession) -> None:
    manager = new_session({**DIVIDE, **listening("t_divide:failed", "t_divide:ended")})
    for outcome in ("failed", "skipped", "abandoned", "expired", "ended"):
        with pytest.raises(ValueError, match="reserved for the outcome of task 't_divide'"):
            manager.fire(f"t_divide:{outcome}")
    assert began(manager) == []
    manager.fire("t_divide", {"ratio": 1})
    assert began(manager) == ["t_on_1#0"], "the plain name brings its end with it"


# -- P03 ----------------------------------------------------------------------------------------


def test_p03_a_task_starts_on_any_result_whatever_it_is(new_session: NewSession) -> None:
    manager = new_session({**DIVIDE, **listening("t_divide")})
    for numbers in ({}, {"x": 4, "y": 2}, {"x": 0, "y": 2}):
        manager.fire("numbers", numbers)
    results = [got(manager, f"t_on_0#{number}")["t_divide"] for number in range(3)]
    assert results == [{}, {"ratio": 2.0}, {"ratio": 0.0}]


def test_p03_a_task_that_starts_in_any_case_gets_the_result_or_the_failure(
    new_session: NewSession,
) -> None:
    manager = new_session({**DIVIDE, **listening("t_divide:ended")})
    manager.fire("numbers", {"x": 4, "y": 2})
    manager.fire("numbers", {"x": 4, "y": 0})
    assert got(manager, "t_on_0#0") == {"t_divide:ended": {"ratio": 2.0}}
    assert got(manager, "t_on_0#1")["t_divide:ended"]["type"] == "builtins.ZeroDivisionError"


# -- P04 ----------------------------------------------------------------------------------------


def test_p04_a_task_starts_on_a_given_result_only(new_session: NewSession) -> None:
    when = {"t_divide": {"ratio": 2.5}}
    manager = new_session({**DIVIDE, **listening("t_divide", when=when)})
    manager.fire("numbers", {"x": 4, "y": 2})
    assert began(manager) == []
    manager.fire("numbers", {"x": 10, "y": 4})
    assert got(manager, "t_on_0#0") == {"t_divide": {"ratio": 2.5}}


@pytest.mark.parametrize(
    ("test", "passing"),
    [({"gt": 2}, [2, 3]), ({"gte": 1, "lt": 3}, [1, 2]), ({"ne": 2}, [0, 1, 3])],
)
def test_p04_results_may_be_compared(
    new_session: NewSession, test: dict[str, Any], passing: list[int]
) -> None:
    ratios = [0.0, 1.0, 2.0, 4.0] if test == {"ne": 2} else [0.0, 1.0, 2.5, 4.0]
    manager = new_session({**DIVIDE, **listening("t_divide", when={"t_divide": {"ratio": test}})})
    for ratio in ratios:
        manager.fire("numbers", {"x": ratio * 4, "y": 4})
    seen = [got(manager, name)["t_divide"]["ratio"] for name in began(manager)]
    assert seen == [ratios[index] for index in passing]


def test_p04_a_predicate_may_judge_the_result(new_session: NewSession) -> None:
    when = {"t_divide": "rows-is-round"}
    manager = new_session({**DIVIDE, **listening("t_divide", when=when)})
    manager.fire("numbers", {"x": 10, "y": 4})
    manager.fire("numbers", {"x": 10, "y": 5})
    assert began(manager) == ["t_on_0#0"]
    assert got(manager, "t_on_0#0") == {"t_divide": {"ratio": 2.0}}


def test_p04_a_predicate_that_raises_about_a_result_has_not_let_it_pass(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = {**DIVIDE, **listening("t_divide", when={"t_divide": "rows-is-round"})}
    manager = new_session({**tasks, "t_other": {"after": ["t_divide"], **SHOW}})
    manager.fire("numbers", {})
    assert statuses(manager) == {"t_divide#0": "finished", "t_other#0": "finished"}
    [record] = [each for each in caplog.records if getattr(each, "action", "") == "filter"]
    assert "rows-is-round" in record.getMessage()
    assert "KeyError" in record.getMessage()
    [refused] = [each.refused for each in reopened(manager).storage.find_firings() if each.refused]
    assert "rows-is-round" in refused["t_on_0"]
