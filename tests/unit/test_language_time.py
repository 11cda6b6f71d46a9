"""The engine and time, as ``docs/reference/language.rst`` tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.pure_session import NOW, PureSession
from triggers.configuration import parse
from triggers.engine import Event, MustSeeMore, Reads, SessionState, decide
from triggers.engine.by_hand import Annotate, Clone, Create, SetStatus
from triggers.engine.configuring import Configure
from triggers.engine.events import Fire, Tick
from triggers.engine.lifecycle import Claim, Finish
from triggers.engine.recovering import Done, Recover, Unsent
from triggers.exceptions import ConfigurationError
from triggers.types import BY_HAND, FireResult, Status

WITHIN: dict[str, Any] = {"after": ["a", "b"], "within": "PT10S"}
ELAPSED: dict[str, Any] = {"elapsed": "PT10S", "since": "a"}
BURSTS: dict[str, Any] = {"andEvery": "p", "debounce": {"quiet": "PT5S", "most": "PT12S"}}

# -- within -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "status"), [(9.999999, "unstarted"), (10, "abandoned")])
def test_an_instance_that_waits_too_long_is_abandoned(age: float, status: str) -> None:
    session = PureSession(t_x=WITHIN)
    session.fire("a")
    session.tick(age)
    assert session.statuses() == {"t_x#0": status}


def test_it_expires_at_its_own_time_and_says_so() -> None:
    session = PureSession(t_x=WITHIN)
    session.fire("a")
    session.tick(3600)
    assert session.fired()[1:] == [("t_x:expired", "t_x:abandoned", "t_x:ended")]
    assert session.seconds_of(2) == 10
    instance = session.instance("t_x#0")
    assert instance.changed_at == NOW + timedelta(seconds=10)
    assert (instance.metadata, instance.decided_by) == ({"reason": "expired"}, None)


def test_a_firing_at_exactly_the_deadline_comes_too_late() -> None:
    session = PureSession(t_x=WITHIN)
    session.fire("a")
    session.move_on(10)
    assert session.fire("b") == FireResult(seq=3), "what time has decided is not its doing"
    assert session.statuses() == {"t_x#0": "abandoned"}


def test_the_deadline_counts_from_the_creation_of_each_instance() -> None:
    session = PureSession(t_x={"after": ["a", "b"], "andEvery": "p", "within": "PT10S"})
    session.fire("a")
    session.move_on(6)
    session.fire_all("p p")
    session.move_on(6)
    session.fire("b")
    assert session.statuses() == {"t_x#0": "abandoned", "t_x#1": "scheduled"}


def test_a_firing_that_comes_too_late_for_one_makes_the_next() -> None:
    session = PureSession(t_x={"after": ["a", "b"], "andEvery": "p", "within": "PT10S"})
    session.fire_all("a b")
    session.move_on(10)
    assert session.fire("p").created == ("t_x#1",)
    assert session.statuses() == {"t_x#0": "abandoned", "t_x#1": "scheduled"}
    assert session.held("t_x#1") == {"a": (1,), "b": (2,), "p": (4,)}


def test_it_is_about_waiting_only() -> None:
    session = PureSession(t_x={"after": ["a"], "within": "PT10S"})
    session.fire("a")
    session.tick(20)
    assert session.statuses() == {"t_x#0": "scheduled"}
    session.start("t_x#0")
    session.tick(20)
    session.finish("t_x#0")
    assert session.statuses() == {"t_x#0": "finished"}
    assert session.state.timers == []


def test_where_an_instance_expires_and_becomes_ready_it_expires() -> None:
    session = PureSession(t_x={"after": [ELAPSED], "within": "PT10S"})
    session.fire("a")
    session.tick(10)
    assert session.instance("t_x#0").metadata == {"reason": "expired"}


def test_where_it_is_ready_before_it_would_expire_it_is_ready() -> None:
    session = PureSession(t_x={"after": [ELAPSED], "within": "PT11S"})
    session.fire("a")
    session.tick(3600)
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_one_that_is_made_by_hand_has_a_deadline_too() -> None:
    session = PureSession(t_x=WITHIN)
    session.do(Create(task="t_x", kwargs='{"a":{}}', given=("a",)))
    session.tick(10)
    assert session.statuses() == {"t_x#0": "abandoned"}


def test_so_has_a_copy_that_is_made_by_hand() -> None:
    session = PureSession(t_x=WITHIN)
    session.fire("a")
    session.move_on(5)
    session.do(Clone(key=("t_x", 0)))
    session.tick(5)
    assert session.statuses() == {"t_x#0": "abandoned", "t_x#1": "unstarted"}
    session.tick(5)
    assert session.statuses() == {"t_x#0": "abandoned", "t_x#1": "abandoned"}


# -- elapsed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "status"), [(9.999999, "unstarted"), (10, "scheduled")])
def test_elapsed_holds_some_time_after_a_firing(age: float, status: str) -> None:
    session = PureSession(t_x={"after": [ELAPSED]})
    session.fire("a")
    session.tick(age)
    assert session.statuses() == {"t_x#0": status}


def test_elapsed_needs_a_firing() -> None:
    session = PureSession(t_x={"after": [ELAPSED, "b"]})
    session.fire("b")
    session.tick(3600)
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("a")
    session.tick(10)
    assert session.statuses() == {"t_x#0": "scheduled"}
    assert session.held("t_x#0") == {"b": (1,), "a": (2,)}, "its kwargs are there too"


def test_elapsed_counts_from_the_firing_that_is_held() -> None:
    session = PureSession(t_x={"after": [ELAPSED]})
    session.fire("a")
    session.move_on(6)
    session.fire("a")
    session.tick(4)
    assert session.instance("t_x#0").changed_at == NOW + timedelta(seconds=10)


def test_elapsed_counts_from_the_newest_where_it_takes_the_place_of_the_older() -> None:
    session = PureSession(t_x={"after": [ELAPSED], "fresh": {"a": "PT1H"}})
    session.fire("a")
    session.move_on(6)
    session.fire("a")
    session.tick(9)
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.tick(1)
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_elapsed_does_not_count_from_a_firing_that_is_stale() -> None:
    session = PureSession(t_x={"after": [ELAPSED], "fresh": {"a": "PT10S"}})
    session.fire("a")
    session.tick(10)
    assert session.statuses() == {"t_x#0": "unstarted"}


def test_elapsed_counts_from_the_firing_also_where_it_was_carried_over() -> None:
    session = PureSession(t_x={"after": [ELAPSED], "andEvery": "p"})
    session.fire_all("a p")
    session.move_on(7)
    session.fire("p")
    session.tick(3)
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "scheduled"}
    assert session.fire("p").scheduled == ("t_x#2",), "for this one it is over already"


def test_elapsed_in_unless_gives_up() -> None:
    session = PureSession(t_x={"after": ["b"], "unless": ELAPSED})
    session.fire("a")
    session.move_on(20)
    session.fire("b")
    assert session.instance("t_x#0").metadata == {"reason": "unless"}
    assert [session.seconds_of(seq) for seq in (1, 2, 3)] == [0, 10, 20]


def test_elapsed_in_a_group_is_one_member() -> None:
    session = PureSession(t_x={"after": {"any": [["b", "c"], ELAPSED]}})
    session.fire_all("a b")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.tick(10)
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_several_durations_each_count() -> None:
    later = {"elapsed": "PT20S", "since": "b"}
    session = PureSession(t_x={"after": [ELAPSED, later]})
    session.fire_all("a b")
    session.tick(10)
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.tick(10)
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_a_firing_given_by_hand_is_as_old_as_the_instance() -> None:
    session = PureSession(t_x={"after": [ELAPSED]})
    session.move_on(100)
    made = session.do(Create(task="t_x", kwargs='{"a":{}}', given=("a",))).outcome
    assert made.taken == {"a": BY_HAND}
    session.tick(9)
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.tick(1)
    assert session.statuses() == {"t_x#0": "scheduled"}


# -- atMostEvery --------------------------------------------------------------------------------


def test_at_most_every_passes_over_what_comes_too_soon_after_one_that_passed() -> None:
    session = PureSession(t_x={"andEvery": "p", "atMostEvery": "PT10S"}, t_y={"andEvery": "p"})
    session.fire("p")
    session.move_on(9)
    session.fire("p")
    assert list(session.refused()) == ["t_x"]
    session.move_on(1)
    session.fire("p")
    assert session.refused() == {}
    session.move_on(9)
    session.fire("p")
    assert [session.held(f"t_x#{n}") for n in range(2)] == [{"p": (1,)}, {"p": (3,)}]
    assert session.state.counts == {"t_x": 2, "t_y": 4}


def test_at_most_every_is_asked_only_about_what_the_filter_let_pass() -> None:
    when = {"p": {"n": {"gte": 1}}}
    session = PureSession(t_x={"andEvery": "p", "atMostEvery": "PT10S", "when": when})
    session.fire("p", n=0)
    session.fire("p", n=1)
    session.move_on(10)
    session.fire("p", n=0)
    session.fire("p", n=2)
    assert [session.held(f"t_x#{n}") for n in range(2)] == [{"p": (2,)}, {"p": (4,)}]


def test_at_most_every_is_about_and_every_only() -> None:
    task = {"after": [{"trigger": "a", "times": 2}], "andEvery": "p", "atMostEvery": "PT10S"}
    session = PureSession(t_x=task)
    session.fire_all("p a a")
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_what_passed_but_was_taken_by_none_counts_for_at_most_every() -> None:
    """It passed for the task; that it was carried over only later changes nothing."""
    session = PureSession(t_x={"after": ["a"], "andEvery": "p", "atMostEvery": "PT10S"})
    session.fire("p")
    session.move_on(11)
    session.fire("p")
    session.move_on(9)
    session.fire("p")
    assert session.state.counts == {"t_x": 2}


def test_a_task_that_comes_later_counts_from_the_latest_firing_before_it() -> None:
    session = PureSession(t_other={"after": ["x"]})
    session.fire("p")
    session.move_on(5)
    session.configure(t_x={"andEvery": "p", "atMostEvery": "PT10S"})
    session.fire("p")
    assert list(session.refused()) == ["t_x"]
    session.move_on(5)
    session.fire("p")
    assert session.held("t_x#0") == {"p": (3,)}


# -- debounce -----------------------------------------------------------------------------------


def test_a_burst_is_one_instance_with_the_last_firing() -> None:
    session = PureSession(t_x=BURSTS)
    for _ in range(2):
        session.fire("p")
        session.move_on(4)
    session.tick()
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.tick(1)
    assert session.statuses() == {"t_x#0": "scheduled"}
    assert session.held("t_x#0") == {"p": (2,)}
    assert session.instance("t_x#0").counted == {}


def test_a_firing_at_the_end_of_a_burst_begins_the_next() -> None:
    session = PureSession(t_x=BURSTS)
    session.fire("p")
    session.move_on(5)
    session.fire("p")
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "unstarted"}
    session.tick(5)
    assert session.held("t_x#0") == {"p": (1,)}
    assert session.held("t_x#1") == {"p": (2,)}


def test_a_burst_is_over_at_most_so_long_after_its_first_firing() -> None:
    session = PureSession(t_x=BURSTS)
    for _ in range(4):
        session.fire("p")
        session.move_on(4)
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "unstarted"}
    assert session.held("t_x#0") == {"p": (3,)}
    assert session.instance("t_x#0").changed_at == NOW + timedelta(seconds=12)


def test_when_its_burst_is_over_an_instance_may_still_wait() -> None:
    session = PureSession(t_x={"after": ["a"], **BURSTS})
    session.fire("p")
    session.tick(5)
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("p")
    assert session.held("t_x#0") == {"p": (1,)}
    assert session.held("t_x#1") == {"p": (2,)}
    session.fire("a")
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "unstarted"}
    session.tick(5)
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "scheduled"}


def test_while_a_burst_lasts_the_instance_does_not_hold_its_trigger() -> None:
    session = PureSession(t_x={"after": ["a"], **BURSTS})
    session.fire_all("a p")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("a")
    assert session.statuses() == {"t_x#0": "unstarted"}


def test_an_instance_that_another_name_made_takes_the_burst() -> None:
    session = PureSession(t_x={"after": ["a"], **BURSTS})
    session.fire("a")
    session.tick(60)
    session.fire_all("p p")
    session.tick(5)
    assert session.held("t_x#0") == {"a": (1,), "p": (3,)}
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_a_burst_that_is_carried_over_goes_on() -> None:
    session = PureSession(t_other={"after": ["x"]})
    session.fire("p")
    session.move_on(1)
    session.configure(t_x={"after": ["a"], **BURSTS})
    session.fire("a")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("p")
    session.tick(5)
    assert session.statuses() == {"t_x#0": "scheduled"}
    assert session.held("t_x#0") == {"p": (3,), "a": (2,)}


def test_a_burst_can_be_ruled_out_and_can_expire() -> None:
    session = PureSession(t_x={"unless": ["u"], **BURSTS}, t_y={**BURSTS, "within": "PT4S"})
    session.fire_all("p u")
    session.tick(4)
    assert session.instance("t_x#0").metadata == {"reason": "unless"}
    assert session.instance("t_y#0").metadata == {"reason": "expired"}


def test_a_filter_is_asked_before_a_burst_goes_on() -> None:
    session = PureSession(t_x={"when": {"p": {"n": 1}}, **BURSTS})
    session.fire("p", n=1)
    session.move_on(4)
    session.fire("p", n=2)
    session.tick(1)
    assert session.statuses() == {"t_x#0": "scheduled"}


# -- when ---------------------------------------------------------------------------------------


def test_what_is_due_is_decided_in_order_of_the_due_times_then_of_the_configuration() -> None:
    def after(seconds: int) -> dict[str, Any]:
        return {"after": ["x"], "unless": {"elapsed": f"PT{seconds}S", "since": "a"}}

    session = PureSession(t_d=after(9), t_b=after(7), t_c=after(9), t_a=after(8))
    session.fire("a")
    session.tick(100)
    assert [names[0].partition(":")[0] for names in session.fired()[1:]] == [
        "t_b",
        "t_a",
        "t_d",
        "t_c",
    ]
    assert [session.seconds_of(seq) for seq in range(2, 6)] == [7, 8, 9, 9]


def test_of_one_task_the_lower_number_comes_first() -> None:
    session = PureSession(t_x={"andEvery": "p", "after": ["a"], "within": "PT10S"})
    session.fire_all("p p p")
    session.tick(10)
    causes = [session.state.firings[seq].cause for seq in (4, 5, 6)]
    assert causes == ["t_x#0", "t_x#1", "t_x#2"]


def test_cascades_of_what_was_due_first_are_decided_before_what_is_due_next() -> None:
    session = PureSession(
        t_x={"after": ["never"], "unless": {"elapsed": "PT5S", "since": "a"}},
        t_y={"after": ["never"], "unless": ["t_x:abandoned"], "within": "PT9S"},
        t_z={"after": ["a", "never"], "within": "PT5S"},
    )
    session.fire_all("a")
    session.tick(20)
    assert [names[0] for names in session.fired()] == [
        "a",
        "t_x:abandoned",
        "t_y:abandoned",
        "t_z:expired",
    ]


def test_what_was_decided_in_between_is_not_due_any_more() -> None:
    session = PureSession(
        t_x={"after": ["a", "b"], "within": "PT10S"},
        t_y={"after": ["a", "b"], "unless": ["t_x:expired"], "within": "PT11S"},
        t_z={"after": ["a", {"elapsed": "PT1S", "since": "t_x:expired"}], "within": "PT12S"},
    )
    session.fire("a")
    session.tick(20)
    assert session.instance("t_y#0").metadata == {"reason": "unless"}
    assert session.instance("t_y#0").changed_at == NOW + timedelta(seconds=10)
    assert session.statuses()["t_z#0"] == "scheduled"
    assert session.state.timers == []


def test_what_expiry_begins_has_deadlines_of_its_own_that_pass_too() -> None:
    session = PureSession(
        t_first={"after": ["a", "b"], "within": "PT10S"},
        t_second={"after": ["t_first:expired", "b"], "within": "PT5S"},
        t_third={"after": ["t_second:expired", ELAPSED]},
    )
    session.fire("a")
    session.move_on(100)
    session.fire("b")
    assert session.statuses() == {
        "t_first#0": "abandoned",
        "t_second#0": "abandoned",
        "t_third#0": "scheduled",
    }
    assert [names[0] for names in session.fired()] == [
        "a",
        "t_first:expired",
        "t_second:expired",
        "b",
    ]
    assert [session.seconds_of(seq) for seq in range(1, 5)] == [0, 10, 15, 100]
    assert session.instance("t_third#0").created_at == NOW
    assert session.instance("t_third#0").changed_at == NOW + timedelta(seconds=15)


def test_what_was_ready_in_time_is_ready_whatever_comes_later() -> None:
    session = PureSession(t_x={"after": [ELAPSED], "unless": ["u"]})
    session.fire("a")
    session.move_on(10)
    session.fire("u")
    assert session.statuses() == {"t_x#0": "scheduled"}
    assert session.instance("t_x#0").changed_at == NOW + timedelta(seconds=10)


def test_what_rules_out_in_time_leaves_nothing_to_be_due() -> None:
    session = PureSession(t_x={"after": [ELAPSED], "unless": ["u"]})
    session.fire("a")
    session.tick(9)
    session.fire("u")
    session.tick(100)
    assert session.statuses() == {"t_x#0": "abandoned"}


def test_many_small_steps_end_like_one_long_one() -> None:
    tasks: dict[str, Any] = {
        "t_x": {"after": ["a", "b"], "within": "PT10S"},
        "t_y": {"after": [{"elapsed": "PT4S", "since": "t_x:expired"}], "andEvery": "t_x:expired"},
        "t_z": {**BURSTS, "unless": {"elapsed": "PT15S", "since": "a"}},
    }
    often, once = PureSession(**tasks), PureSession(**tasks)
    for session in (often, once):
        session.fire_all("a p")
    for _ in range(60):
        often.tick(0.5)
    once.tick(30)
    # Recovery looks at what is scheduled some time after it was, in fact, scheduled.
    ends = [
        {key: replace(each, due_at=None) for key, each in session.state.instances.items()}
        for session in (often, once)
    ]
    assert ends[0] == ends[1]
    assert often.state.firings == once.state.firings


EVENTS: list[tuple[str, Callable[[PureSession], Event]]] = [
    ("fire", lambda session: Fire(trigger="other")),
    ("configure", lambda session: Configure(configuration=session.state.plan.configuration)),
    (
        "add a task",
        lambda session: Configure(configuration=parse({"t_new": {"run": "x", "after": ["n"]}})),
    ),
    (
        "replace the task",
        lambda session: Configure(
            configuration=parse({"t_x": {"run": "x", "after": ["a"], "within": "PT9S"}})
        ),
    ),
    ("tick", lambda session: Tick()),
    ("recover", lambda session: Recover()),
    ("not sent", lambda session: Unsent(sends={("t_x", 0): 1})),
    ("done", lambda session: Done(ref="nothing")),
    ("create", lambda session: Create(task="t_other")),
    ("clone", lambda session: Clone(key=("t_other", 0))),
    ("annotate", lambda session: Annotate(key=("t_x", 0), metadata={"n": 1})),
    ("claim", lambda session: Claim(key=("t_other", 0), token="t_other#0")),
    ("report", lambda session: Finish(key=("t_other", 0), token="another")),
    (
        "change by hand",
        lambda session: SetStatus(key=("t_other", 0), status=Status.FAILED),
    ),
]


@pytest.mark.parametrize("make", [make for _, make in EVENTS], ids=[name for name, _ in EVENTS])
def test_every_transition_applies_first_what_is_due(make: Callable[[PureSession], Event]) -> None:
    session = PureSession(t_x=WITHIN, t_other={"after": ["a"]})
    session.fire("a")
    session.move_on(10)
    session.do(make(session))
    assert session.instance("t_x#0").metadata["reason"] == "expired"
    assert session.fired()[1] == ("t_x:expired", "t_x:abandoned", "t_x:ended")


def test_a_change_by_hand_comes_too_late_as_well() -> None:
    session = PureSession(t_x=WITHIN)
    session.fire("a")
    session.move_on(10)
    with pytest.raises(ValueError, match="t_x#0 is abandoned"):
        session.set_status("t_x#0", Status.SCHEDULED)


def test_until_a_moment_only_what_is_due_then_is_decided() -> None:
    session = PureSession(t_x={"andEvery": "p", "after": ["a"], "within": "PT10S"})
    session.fire("p")
    session.move_on(4)
    session.fire("p")
    session.move_on(100)
    session.do(Tick(until=NOW + timedelta(seconds=13)))
    assert session.statuses() == {"t_x#0": "abandoned", "t_x#1": "unstarted"}
    session.do(Tick(until=NOW + timedelta(seconds=14)))
    assert session.statuses() == {"t_x#0": "abandoned", "t_x#1": "abandoned"}


def test_the_time_of_a_session_moves_on_to_what_was_due_in_the_future_not_further() -> None:
    session = PureSession(t_x=WITHIN)
    session.fire("a")
    session.do(Tick(until=NOW + timedelta(days=1)))
    assert session.state.clock == NOW + timedelta(seconds=10)
    session.move_on(3)
    session.fire("b")
    assert session.seconds_of(3) == 10, "it never goes back"
    session.move_on(20)
    session.fire("c")
    assert session.seconds_of(4) == 23


def test_nothing_due_is_nothing_to_commit() -> None:
    session = PureSession(t_x=WITHIN)
    session.fire("a")
    assert session.tick(9).is_empty
    assert not session.tick(1).is_empty
    assert session.tick(100).is_empty


def test_the_stored_timers_are_those_of_waiting_instances() -> None:
    session = PureSession(t_x={"after": [ELAPSED, "b"], "andEvery": "p", "within": "PT1H"})
    session.fire_all("a p")
    session.fire("p")
    due = NOW + timedelta(seconds=10)
    assert session.state.timers == [(due, ("t_x", 0)), (due, ("t_x", 1))]
    session.tick(10)
    deadline = NOW + timedelta(hours=1)
    assert session.state.timers == [(deadline, ("t_x", 0)), (deadline, ("t_x", 1))]
    session.fire("b")
    assert session.state.timers == []


def test_a_task_that_is_replaced_is_due_at_its_new_times() -> None:
    session = PureSession(t_x=WITHIN, t_y={"after": ["a", "b"]})
    session.fire("a")
    session.configure(
        t_x={"after": ["a", "b"], "within": "PT20S"}, t_y={"after": ["b", ELAPSED], "unless": []}
    )
    session.tick(15)
    assert session.statuses() == {"t_x#0": "unstarted", "t_y#0": "unstarted"}
    session.tick(5)
    assert session.statuses()["t_x#0"] == "abandoned"
    session.fire("b")
    assert session.statuses()["t_y#0"] == "scheduled"


def test_what_time_has_just_changed_waits_on_under_the_new_conditions() -> None:
    session = PureSession(t_x={"after": [ELAPSED, "b"]}, t_y={"after": ["a", "c"]})
    session.fire("a")
    session.move_on(10)
    session.configure(t_x={"after": [ELAPSED, "c"]}, t_new={"after": ["c"]})
    assert session.statuses() == {"t_x#0": "unstarted", "t_y#0": "unstarted"}
    assert session.fire("c").scheduled == ("t_x#0", "t_y#0", "t_new#0")


def test_a_deadline_that_a_task_gets_too_late_is_over_at_once() -> None:
    session = PureSession(t_x={"after": ["a", "b"]})
    session.fire("a")
    session.move_on(60)
    session.configure(t_x=WITHIN)
    assert session.instance("t_x#0").metadata == {"reason": "expired"}


@pytest.mark.parametrize("others", [{}, {"t_y": {"after": ["c", "d"], "within": "P1D"}}])
def test_a_deadline_that_is_taken_away_does_not_count_any_more(others: Any) -> None:
    session = PureSession(t_x=WITHIN, **others)
    session.fire("a")
    session.configure(t_x={"after": ["a", "b"]})
    session.tick(60)
    assert session.statuses() == {"t_x#0": "unstarted"}
    assert session.state.timers == []


def test_a_decision_on_a_part_of_a_session_must_see_what_is_due() -> None:
    session = PureSession(t_x=WITHIN)
    part = SessionState(plan=session.state.plan, is_whole=False)
    with pytest.raises(MustSeeMore) as caught:
        decide(Tick(), part, NOW)
    assert caught.value.reads == Reads(timers_until=NOW)


# -- history ------------------------------------------------------------------------------------


def test_history_is_taken_with_the_times_at_which_it_happened() -> None:
    session = PureSession(t_other={"after": ["x"]})
    session.fire("a")
    session.move_on(30)
    session.fire("b")
    session.configure(
        apply_history=True,
        t_x=WITHIN,
        t_y={"after": ["b", ELAPSED]},
        t_z={"after": ["a", "b"], "within": "PT31S"},
        t_every={"andEvery": "b", "after": ["a"], "fresh": {"a": "PT30S"}},
    )
    assert session.statuses() == {
        "t_x#0": "abandoned",
        "t_y#0": "scheduled",
        "t_z#0": "scheduled",
        "t_every#0": "unstarted",
    }


def test_history_is_filtered_like_the_present() -> None:
    session = PureSession(t_other={"after": ["x"]})
    for n in (1, 2, 3):
        session.fire("p", n=n)
        session.move_on(6)
    task = {"andEvery": "p", "atMostEvery": "PT10S", "when": {"p": {"n": {"gte": 1}}}}
    session.configure(apply_history=True, t_x=task, t_y={"andEvery": "p", "when": {"p": {"n": 2}}})
    assert [session.held(f"t_x#{n}") for n in range(2)] == [{"p": (1,)}, {"p": (3,)}]
    assert session.held("t_y#0") == {"p": (2,)}


def test_what_was_due_in_history_is_told_now() -> None:
    session = PureSession(t_other={"after": ["x"]})
    session.fire("a")
    session.move_on(30)
    session.configure(apply_history=True, t_x=WITHIN, t_y={"andEvery": "t_x:expired"})
    assert session.statuses() == {"t_x#0": "abandoned", "t_y#0": "scheduled"}
    assert session.seconds_of(2) == 30


# -- durations ----------------------------------------------------------------------------------

DURATIONS = {
    "P1W": timedelta(weeks=1),
    "P3D": timedelta(days=3),
    "PT1H30M": timedelta(minutes=90),
    "PT0.5S": timedelta(milliseconds=500),
    "P1DT1S": timedelta(days=1, seconds=1),
}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations_are_iso_8601(text: str) -> None:
    session = PureSession(t_x={"after": ["a", "b"], "within": text})
    session.fire("a")
    assert session.state.timers == [(NOW + DURATIONS[text], ("t_x", 0))]


@pytest.mark.parametrize("text", ["P1M", "P1Y", "PT0S", "P", "PT", "3 days", "P-1D", "-P1D", 60])
def test_what_has_no_fixed_length_or_none_at_all_is_refused(text: Any) -> None:
    places = {
        "t_x.within": {"after": ["a"], "within": text},
        "t_x.after[0].elapsed": {"after": [{"elapsed": text, "since": "a"}]},
        "t_x.fresh.a": {"after": ["a"], "fresh": {"a": text}},
        "t_x.atMostEvery": {"andEvery": "a", "atMostEvery": text},
        "t_x.debounce.quiet": {"andEvery": "a", "debounce": {"quiet": text, "most": "P1D"}},
    }
    for place, directives in places.items():
        with pytest.raises(ConfigurationError) as caught:
            parse({"t_x": {"run": "x", **directives}})
        assert place in str(caught.value)


def test_elapsed_is_measured_from_a_firing_that_is_fresh() -> None:
    late = {"elapsed": "PT5H", "since": "a"}
    session = PureSession(
        t_x={
            "after": [{"any": ["never", late]}, "b"],
            "unless": [{"trigger": "a", "times": 2}, "no"],
            "fresh": {"a": "PT12H"},
        }
    )
    session.fire("a")
    session.move_on(11 * 3600)
    session.fire("a")
    session.move_on(2 * 3600)
    session.fire("b")
    assert session.statuses() == {"t_x#0": "unstarted"}, "the fresh one is two hours old"
    session.move_on(3 * 3600)
    session.tick()
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_a_task_that_stops_counting_fresh_firings_keeps_the_newest() -> None:
    before = {"after": [{"trigger": "a", "times": 3}, "b"], "fresh": {"a": "PT12H"}}
    session = PureSession(t_x=before)
    session.fire("a")
    session.move_on(11 * 3600)
    session.fire("a")
    session.move_on(2 * 3600)
    session.configure(t_x={"after": ["a", "b"], "fresh": {"a": "PT12H"}})
    session.fire("b")
    assert session.statuses() == {"t_x#0": "scheduled"}
    assert session.held("t_x#0")["a"] == (2,)


def test_an_instance_that_time_made_is_replaced_with_its_task() -> None:
    session = PureSession(
        t_x={"after": ["a", "never"], "within": "PT1H"},
        t_y={"after": ["t_x:expired", "q"], "within": "P1D"},
    )
    session.fire("a")
    session.move_on(2 * 3600)
    session.configure(t_y={"after": ["t_x:expired"]})
    assert session.statuses()["t_y#0"] == "scheduled"
    assert session.instance("t_y#0").timer_at is None


def test_what_elapsed_counts_from_is_taken_even_if_no_firing_of_it_is_counted() -> None:
    counted = {"trigger": "p", "times": {"from": "c.n"}}
    session = PureSession(
        t_x={"after": [counted, {"elapsed": "PT2S", "since": "p"}]},
        t_y={"after": [counted, {"trigger": "q", "times": {"from": "p.n"}}]},
    )
    session.fire("c", n=0)
    session.fire("p", n=1)
    session.fire("q")
    session.tick(2)
    assert session.statuses() == {"t_x#0": "scheduled", "t_y#0": "scheduled"}
