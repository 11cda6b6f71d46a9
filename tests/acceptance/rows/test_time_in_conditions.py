"""Row Q11, in time: deadlines, delays, freshness, pauses and bursts, as part of a condition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import IdleRunner, got, registered, reopened, show, statuses
from triggers import timers
from triggers.manager import TriggerManager
from triggers.testing import frozen_time

SHOW = {"run": show.name}
START = datetime(2026, 11, 21, 12, tzinfo=UTC)


@contextmanager
def later(**units: float) -> Iterator[None]:
    """Some time after the start."""
    with frozen_time(START + timedelta(**units)):
        yield


@pytest.fixture(autouse=True)
def _at_the_start() -> Iterator[None]:
    with frozen_time(START):
        yield


def look(manager: TriggerManager) -> None:
    """Somebody looks at the time."""
    timers.fire_due_in(reopened(manager))


def test_q11_what_waits_too_long_is_given_up_and_somebody_is_told(new_session: NewSession) -> None:
    manager = new_session(
        {
            "t_join": {"after": ["a", "b"], "within": "PT72H", **SHOW},
            "t_remind": {"after": ["t_join:expired"], **SHOW},
        }
    )
    manager.fire("a")
    with later(hours=71.99):
        look(manager)
        assert statuses(manager) == {"t_join#0": "unstarted"}
    with later(hours=72):
        look(manager)
        assert statuses(manager) == {"t_join#0": "abandoned", "t_remind#0": "finished"}
    assert got(manager, "t_remind#0") == {"t_join:expired": {"reason": "expired"}}
    assert reopened(manager).storage["t_join#0"].metadata["reason"] == "expired"


def test_q11_a_deadline_passes_though_nobody_looked(new_session: NewSession) -> None:
    manager = new_session({"t_join": {"after": ["a", "b"], "within": "PT72H", **SHOW}})
    manager.fire("a")
    with later(hours=72):
        result = manager.fire("b")
    assert (result.scheduled, result.abandoned) == ((), ())
    assert statuses(manager) == {"t_join#0": "abandoned"}
    expired = reopened(manager).storage["t_join#0"]
    assert expired.changed_at == START + timedelta(hours=72)


def test_q11_a_task_starts_some_time_after_an_event(new_session: NewSession) -> None:
    after = ["invoiceSent", {"elapsed": "P3D", "since": "invoiceSent"}]
    manager = new_session({"t_remind": {"after": after, "unless": ["paid"], **SHOW}})
    manager.fire("invoiceSent", {"n": 1})
    with later(days=2):
        look(manager)
        assert statuses(manager) == {"t_remind#0": "unstarted"}
    with later(days=3):
        look(manager)
        assert got(manager, "t_remind#0") == {"invoiceSent": {"n": 1}}
    with later(days=4):
        manager.fire("paid")
        assert statuses(manager) == {"t_remind#0": "finished"}


def test_q11_what_happens_in_time_prevents_it(new_session: NewSession) -> None:
    after = ["invoiceSent", {"elapsed": "P3D", "since": "invoiceSent"}]
    manager = new_session({"t_remind": {"after": after, "unless": ["paid"], **SHOW}})
    manager.fire("invoiceSent")
    with later(days=2):
        manager.fire("paid")
    with later(days=5):
        look(manager)
    assert statuses(manager) == {"t_remind#0": "abandoned"}


def test_q11_an_old_reading_does_not_count(new_session: NewSession) -> None:
    task = {"after": ["sensorRead", "asked"], "fresh": {"sensorRead": "PT12H"}, **SHOW}
    manager = new_session({"t_answer": task})
    manager.fire("sensorRead", {"degrees": 20})
    with later(hours=12):
        manager.fire("asked")
        assert statuses(manager) == {"t_answer#0": "unstarted"}
        manager.fire("sensorRead", {"degrees": 25})
        assert got(manager, "t_answer#0")["sensorRead"] == {"degrees": 25}


def test_q11_a_task_runs_at_most_every_so_often(new_session: NewSession) -> None:
    manager = new_session({"t_mail": {"andEvery": "alarm", "atMostEvery": "PT12H", **SHOW}})
    for hour in (0, 6, 11.99, 12, 18, 24):
        with later(hours=hour):
            manager.fire("alarm", {"hour": hour})
    hours = [got(manager, name)["alarm"]["hour"] for name in statuses(manager)]
    assert hours == [0, 12, 24]
    refused = [dict(each.refused) for each in reopened(manager).storage.find_firings()]
    assert [list(each) for each in refused if each] == [["t_mail"]] * 3
    assert "PT12H" in refused[2]["t_mail"] or "PT12H" in refused[1]["t_mail"]


def test_q11_a_burst_is_one_run_with_the_last_kwargs(new_session: NewSession) -> None:
    burst = {"quiet": "PT5S", "most": "PT1M"}
    manager = new_session({"t_save": {"andEvery": "typed", "debounce": burst, **SHOW}})
    for second in (0, 3, 6):
        with later(seconds=second):
            manager.fire("typed", {"at": second})
    with later(seconds=10):
        look(manager)
        assert statuses(manager) == {"t_save#0": "unstarted"}
    with later(seconds=11):
        look(manager)
    assert got(manager, "t_save#0") == {"typed": {"at": 6}}
    with later(seconds=30):
        manager.fire("typed", {"at": 30})
    with later(seconds=60):
        look(manager)
    assert got(manager, "t_save#1") == {"typed": {"at": 30}}


def test_q11_a_burst_without_end_runs_now_and_then(new_session: NewSession) -> None:
    burst = {"quiet": "PT5S", "most": "PT1M"}
    manager = new_session({"t_save": {"andEvery": "typed", "debounce": burst, **SHOW}})
    for second in range(0, 130, 2):
        with later(seconds=second):
            manager.fire("typed", {"at": second})
    assert [got(manager, f"t_save#{number}")["typed"]["at"] for number in range(2)] == [58, 118]
    assert statuses(manager)["t_save#2"] == "unstarted"


def test_q11_what_was_down_for_days_ends_as_if_it_had_been_up(new_session: NewSession) -> None:
    tasks: dict[str, Any] = {
        "t_join": {"after": ["a", "b"], "within": "P1D", **SHOW},
        "t_second": {"after": ["t_join:expired", "c"], "within": "P1D", **SHOW},
        "t_third": {"after": ["d"], "unless": ["t_second:expired"], **SHOW},
    }
    looked_at, left_alone = new_session(tasks), new_session(tasks)
    for manager in (looked_at, left_alone):
        manager.fire("a")
    for hour in range(0, 120, 6):
        with later(hours=hour):
            look(looked_at)
    with later(hours=120):
        for manager in (looked_at, left_alone):
            manager.fire("d")
    ends = [
        {each.name: (each.status, each.changed_at) for each in reopened(manager).storage}
        for manager in (looked_at, left_alone)
    ]
    assert ends[0] == ends[1]
    assert ends[0] == {
        "t_join#0": ("abandoned", START + timedelta(days=1)),
        "t_second#0": ("abandoned", START + timedelta(days=2)),
        "t_third#0": ("abandoned", START + timedelta(days=2)),
    }


def test_q11_time_stops_for_what_has_been_scheduled(new_session: NewSession) -> None:
    with registered(IdleRunner):
        task = {"after": ["a"], "within": "PT1H", "using": IdleRunner.name, **SHOW}
        manager = new_session({"t_x": task})
        manager.fire("a")
        with later(hours=2):
            look(manager)
        assert statuses(manager) == {"t_x#0": "scheduled"}


@pytest.mark.parametrize("text", ["P1M", "P1Y", "3 days", "PT0S", "-P1D", "", 3])
def test_q11_a_duration_that_nobody_could_keep_is_refused(
    new_session: NewSession, text: Any
) -> None:
    manager = new_session()
    with pytest.raises(ValueError, match=r"t_x\.within"):
        manager.update_configuration({"t_x": {"after": ["a"], "within": text, **SHOW}})
