"""The engine and the table of outcomes in ``docs/reference/language.rst``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.pure_session import PureSession
from triggers.configuration import parse
from triggers.engine import Event, Hooks, Unjudged, decide
from triggers.engine.by_hand import Clone, SetStatus, SkipFailed
from triggers.engine.events import Fire, Tick
from triggers.engine.lifecycle import Claim, Fail, Finish, Skip
from triggers.engine.recovering import Done
from triggers.exceptions import ConfigurationError, InvalidTrigger
from triggers.types import Status

OUTCOMES = ["t_x", "t_x:failed", "t_x:skipped", "t_x:expired", "t_x:abandoned", "t_x:ended"]
LISTENERS: dict[str, Any] = {
    f"t_on_{name.partition(':')[2] or 'done'}": {"andEvery": name} for name in OUTCOMES
}
ENDS: dict[str, set[str]] = {
    "finish": {"t_x", "t_x:ended"},
    "fail": {"t_x:failed", "t_x:ended"},
    "skip": {"t_x:skipped", "t_x:ended"},
    "skip the failed one": {"t_x:skipped", "t_x:ended"},
    "skip with cascade": {"t_x", "t_x:skipped", "t_x:ended"},
    "rule out": {"t_x:abandoned", "t_x:ended"},
    "expire": {"t_x:expired", "t_x:abandoned", "t_x:ended"},
    "abandon by hand": {"t_x:abandoned", "t_x:ended"},
    "fail by hand": {"t_x:failed", "t_x:ended"},
    "fail by hand with cascade": {"t_x", "t_x:failed", "t_x:ended"},
    "finish by hand": {"t_x:ended"},
    "finish by hand with cascade": {"t_x", "t_x:ended"},
    "skip by hand": {"t_x:skipped", "t_x:ended"},
    "fire": {"t_x", "t_x:ended"},
}
FAILED_BEFORE = ("skip the failed one", "skip with cascade")


def watched_session(**others: Any) -> PureSession:
    task = {"after": ["a", "b"], "unless": ["u"], "within": "PT10S"}
    return PureSession(t_x=task, **{**LISTENERS, **others})


def end(session: PureSession, how: str) -> None:
    """Bring ``t_x#0`` to its end."""
    if how == "fire":
        session.fire("t_x")
        return
    session.fire("a")
    by_hand, cascade = "by hand" in how, how.endswith("cascade")
    if how == "rule out":
        session.fire("u")
    elif how == "expire":
        session.tick(10)
    elif how == "abandon by hand":
        session.set_status("t_x#0", Status.ABANDONED)
    else:
        session.fire("b")
        if by_hand:
            session.start("t_x#0")
            verb = how.split()[0]
            status = {"fail": "failed", "finish": "finished", "skip": "skipped"}[verb]
            session.set_status("t_x#0", Status(status), cascade=cascade)
        elif how == "finish":
            session.run("t_x#0")
        elif how == "skip":
            session.skip("t_x#0")
        else:
            session.fail("t_x#0")
            if how != "fail":
                session.skip_failed("t_x#0", cascade=cascade)


@pytest.mark.parametrize("how", ENDS)
def test_all_names_of_one_change_of_status_are_one_firing(how: str) -> None:
    session = watched_session()
    end(session, how)
    assert set(session.fired()[-1]) == ENDS[how]
    assert len(session.fired()[-1]) == len(ENDS[how])
    cause = None if how == "fire" else "t_x#0"
    assert session.state.firings[session.state.seq].cause == cause


@pytest.mark.parametrize("how", ENDS)
def test_each_task_that_names_one_of_them_takes_it(how: str) -> None:
    session = watched_session()
    end(session, how)
    expected = {task for task, each in LISTENERS.items() if each["andEvery"] in ENDS[how]}
    if how in FAILED_BEFORE:
        expected |= {"t_on_failed", "t_on_ended"}
    assert {name.partition("#")[0] for name in session.statuses()} - {"t_x"} == expected


@pytest.mark.parametrize("how", ENDS)
def test_a_task_that_names_several_sees_them_at_once(how: str) -> None:
    names = sorted(ENDS[how])
    session = watched_session(t_all={"after": names[1:], "andEvery": names[0]})
    end(session, how)
    assert session.statuses()["t_all#0"] == "scheduled"
    seqs = set(session.held("t_all#0").values())
    # Its failure has ended it once already, and "ended" counts once for a lineage.
    assert seqs == ({(3,), (4,)} if how in FAILED_BEFORE else {(session.state.seq,)})


@pytest.mark.parametrize(
    ("how", "kwargs"),
    [("rule out", {"reason": "unless"}), ("expire", {"reason": "expired"})],
)
def test_an_abandoned_instance_says_why(how: str, kwargs: dict[str, Any]) -> None:
    session = watched_session()
    end(session, how)
    assert session.kwargs_of(session.state.seq) == kwargs
    assert session.instance("t_x#0").metadata == kwargs


def test_one_that_was_abandoned_by_hand_says_so() -> None:
    session = watched_session()
    end(session, "abandon by hand")
    assert session.instance("t_x#0").metadata == {"reason": "by hand"}


def test_results_and_failures_are_the_kwargs() -> None:
    session = PureSession(t_x={"andEvery": "a"})
    session.fire_all("a a a a")
    session.run("t_x#0", n=1)
    assert session.kwargs_of(session.state.seq) == {"n": 1}
    session.fail("t_x#1", type="builtins.ValueError", attempt=1)
    assert session.kwargs_of(session.state.seq) == {"type": "builtins.ValueError", "attempt": 1}
    session.skip_failed("t_x#1", n=2)
    assert session.kwargs_of(session.state.seq) == {"n": 2}
    session.fail("t_x#2")
    session.skip_failed("t_x#2", cascade=True, n=3)
    assert session.kwargs_of(session.state.seq) == {"n": 3}
    session.skip("t_x#3")
    assert session.kwargs_of(session.state.seq) == {}


def test_what_has_ended_is_not_started_again() -> None:
    session = watched_session()
    end(session, "finish")
    again = session.do(Claim(key=("t_x", 0), token="again"))
    assert again.outcome is None
    assert again.is_empty


def test_what_will_be_retried_has_not_failed() -> None:
    session = watched_session()
    session.fire_all("a b")
    session.retry("t_x#0")
    assert session.fired() == [("a",), ("b",)]
    session.run("t_x#1")
    assert session.fired()[2:] == [("t_x", "t_x:ended")]


@pytest.mark.parametrize("name", OUTCOMES[1:])
def test_firing_an_outcome_by_hand_is_refused(name: str) -> None:
    session = PureSession(t_x={"after": ["a"]})
    with pytest.raises(InvalidTrigger, match="reserved"):
        session.fire(name)
    assert session.fired() == []


def test_a_firing_by_hand_has_no_lineage_and_always_counts() -> None:
    session = watched_session()
    session.fire_all("t_x t_x")
    assert {each for each in session.statuses() if each.startswith("t_on")} == {
        "t_on_done#0",
        "t_on_done#1",
        "t_on_ended#0",
        "t_on_ended#1",
    }


@pytest.mark.parametrize("name", ["t_x:finished", "t_x:", "t_x:ended:twice"])
def test_an_outcome_that_no_task_has_is_refused_at_load(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"t_y\.after"):
        parse({"t_x": {"run": "x", "after": ["a"]}, "t_y": {"run": "x", "after": [name]}})


def test_outcomes_are_decided_first_in_first_out_in_the_order_of_the_configuration() -> None:
    out = {"after": ["never"], "unless": ["u"]}
    session = PureSession(
        t_b=out,
        t_a=out,
        t_c={"after": ["never"], "unless": ["t_b:abandoned"]},
        t_d={"after": ["never"], "unless": ["t_a:abandoned"]},
    )
    session.fire("u")
    assert [names[0] for names in session.fired()] == [
        "u",
        "t_b:abandoned",
        "t_a:abandoned",
        "t_c:abandoned",
        "t_d:abandoned",
    ]


# -- lineages -----------------------------------------------------------------------------------


def listeners_of(session: PureSession) -> dict[str, int]:
    """How many instances each listening task has."""
    return {task: count for task, count in session.state.counts.items() if task in LISTENERS}


def test_a_replay_that_fails_again_is_no_news_for_who_has_taken_the_failure() -> None:
    session = watched_session()
    session.fire_all("a b")
    session.fail("t_x#0")
    session.fail(session.replay("t_x#0"))
    assert session.fired()[2:] == [("t_x:failed", "t_x:ended")] * 2
    assert listeners_of(session) == {"t_on_failed": 1, "t_on_ended": 1}
    assert set(session.refused()) == {"t_on_failed", "t_on_ended"}
    assert "t_x#0" in session.refused()["t_on_failed"]


def test_each_name_of_a_lineage_counts_once() -> None:
    session = watched_session()
    session.fire_all("a b")
    session.fail("t_x#0")
    session.run(session.replay("t_x#0"))
    assert listeners_of(session) == {"t_on_done": 1, "t_on_failed": 1, "t_on_ended": 1}
    assert set(session.refused()) == {"t_on_ended"}


def test_retries_and_replays_are_one_lineage() -> None:
    session = PureSession(t_x={"after": ["a"]}, t_y={"andEvery": "t_x:failed"})
    session.fire("a")
    session.retry("t_x#0")
    session.fail("t_x#1")
    session.replay("t_x#1")
    session.retry("t_x#2")
    session.fail("t_x#3")
    assert session.state.counts["t_y"] == 1
    assert {each.lineage for each in session.state.instances.values() if each.task == "t_x"} == {0}


def test_a_copy_made_by_hand_begins_its_own_lineage() -> None:
    session = PureSession(t_x={"after": ["a"]}, t_y={"andEvery": "t_x:failed"})
    session.fire("a")
    session.fail("t_x#0")
    session.do(Clone(key=("t_x", 0)))
    session.set_status("t_x#1", Status.SCHEDULED)
    session.fail("t_x#1")
    assert session.state.counts["t_y"] == 2


def test_a_lineage_is_taken_the_first_time_that_it_passes_the_filter() -> None:
    when = {"t_x:failed": {"attempt": {"gte": 2}}}
    session = PureSession(t_x={"after": ["a"]}, t_y={"andEvery": "t_x:failed", "when": when})
    session.fire("a")
    session.fail("t_x#0", attempt=1)
    assert session.refused()["t_y"] == "attempt gte 2, got 1"
    session.fail(session.replay("t_x#0"), attempt=2)
    assert session.statuses()["t_y#0"] == "scheduled"
    session.fail(session.replay("t_x#1"), attempt=3)
    assert session.state.counts["t_y"] == 1


def test_tasks_take_a_lineage_each_for_themselves() -> None:
    when = {"t_x:failed": {"attempt": 2}}
    session = PureSession(
        t_x={"after": ["a"]},
        t_first={"andEvery": "t_x:failed"},
        t_second={"andEvery": "t_x:failed", "when": when},
    )
    session.fire("a")
    session.fail("t_x#0", attempt=1)
    session.fail(session.replay("t_x#0"), attempt=2)
    assert (session.state.counts["t_first"], session.state.counts["t_second"]) == (1, 1)
    assert session.held("t_second#0") == {"t_x:failed": (3,)}


def test_a_firing_that_came_too_soon_does_not_use_up_its_lineage() -> None:
    task = {"andEvery": "t_x:failed", "atMostEvery": "PT10S"}
    session = PureSession(t_x={"andEvery": "a"}, t_y=task)
    session.fire_all("a a")
    session.fail("t_x#0")
    session.fail("t_x#1")
    assert session.state.counts["t_y"] == 1
    session.move_on(10)
    session.fail(session.replay("t_x#1"))
    assert session.state.counts["t_y"] == 2


def test_times_counts_lineages() -> None:
    after = [{"trigger": "t_x:failed", "times": 2}]
    session = PureSession(t_x={"andEvery": "a"}, t_y={"after": after})
    session.fire_all("a a")
    session.fail("t_x#0")
    session.fail(session.replay("t_x#0"))
    assert session.statuses()["t_y#0"] == "unstarted"
    session.fail("t_x#1")
    assert session.statuses()["t_y#0"] == "scheduled"
    assert session.held("t_y#0") == {"t_x:failed": (3, 5)}


def test_unless_on_failed_is_final() -> None:
    session = PureSession(
        t_x={"after": ["a"]}, t_y={"after": ["b", "t_x"], "unless": ["t_x:failed"]}
    )
    session.fire_all("b a")
    session.fail("t_x#0")
    assert session.statuses()["t_y#0"] == "abandoned"
    session.run(session.replay("t_x#0"))
    assert session.statuses()["t_y#0"] == "abandoned"
    assert "t_y#1" not in session.statuses()


def test_unless_on_an_outcome_depends_on_the_order() -> None:
    ready = PureSession(t_x={"after": ["a"]}, t_y={"after": ["b"], "unless": ["t_x:failed"]})
    barred = PureSession(t_x={"after": ["a"]}, t_y={"after": ["b"], "unless": ["t_x:failed"]})
    ready.fire_all("a b")
    ready.fail("t_x#0")
    barred.fire("a")
    barred.fail("t_x#0")
    barred.fire("b")
    assert ready.statuses()["t_y#0"] == "scheduled"
    assert barred.statuses()["t_y#0"] == "abandoned"


def test_a_cascade_by_hand_uses_up_the_lineage() -> None:
    session = PureSession(t_x={"after": ["a"]}, t_y={"andEvery": "t_x"})
    session.fire("a")
    session.start("t_x#0")
    session.do(SetStatus(key=("t_x", 0), status=Status.FAILED, cascade=True))
    session.run(session.replay("t_x#0"))
    assert session.state.counts["t_y"] == 1


def test_a_task_that_comes_later_takes_history_by_lineage_too() -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("a")
    session.fail("t_x#0")
    session.fail(session.replay("t_x#0"))
    session.configure(apply_history=True, t_y={"andEvery": "t_x:failed"})
    assert session.state.counts["t_y"] == 1
    session.fail(session.replay("t_x#1"))
    assert session.state.counts["t_y"] == 1


# -- what an event says of itself ----------------------------------------------------------------

ASKING: list[Callable[[], Event]] = [
    lambda: Fire(trigger="t_x", kwargs='{"n":1}'),
    lambda: Finish(key=("t_x", 0), token="t_x#0", result='{"n":1}'),
    lambda: Fail(key=("t_x", 0), token="t_x#0", failure='{"n":1}'),
    lambda: SkipFailed(key=("t_x", 1), result='{"n":1}'),
    lambda: SkipFailed(key=("t_x", 1), cascade=True),
]


@pytest.mark.parametrize("make", ASKING)
def test_what_filters_will_be_asked_is_known_before(make: Callable[[], Event]) -> None:
    """A storage that asks them at once need not decide in vain."""
    filtered: dict[str, Any] = {
        task: {**each, "when": {each["andEvery"]: {"n": 1}}} for task, each in LISTENERS.items()
    }
    session = PureSession(t_x={"andEvery": "a"}, **filtered)
    session.fire_all("a a")
    session.fail("t_x#1")
    session.start("t_x#0")
    event, plan = make(), session.state.plan
    with pytest.raises(Unjudged) as caught:
        decide(event, session.state, session.now)
    assert event.questions(plan) == caught.value.questions
    assert event.firings == 1
    transition = session.do(event)
    assert len(transition.firings) == 1
    assert event.comes_from_outside == isinstance(event, Fire)


def test_what_an_event_reads_is_less_where_its_outcome_is_left_as_a_mark() -> None:
    session = PureSession(t_x={"andEvery": "a"}, **LISTENERS)
    session.fire("a")
    session.start("t_x#0")
    event = Finish(key=("t_x", 0), token="t_x#0")
    overriding = event.under(Hooks("default", frozenset({"fire"})))
    assert event.reads(session.state.plan).triggers == ("t_x", "t_x:ended")
    assert overriding.reads(session.state.plan).triggers == ()
    assert (event.firings, overriding.firings) == (1, 0)
    assert Skip(key=("t_x", 0), token="t_x#0").firings == 1
    assert Tick().firings == 0
    assert Tick().questions(session.state.plan) == ()
    assert not Tick().comes_from_outside


# -- managers that override fire ----------------------------------------------------------------


@pytest.mark.parametrize(("report", "outcome"), [(Fail, "t_x:failed"), (Skip, "t_x:skipped")])
def test_an_outcome_that_is_not_folded_is_left_as_a_mark(report: Any, outcome: str) -> None:
    session = PureSession(t_x={"after": ["a"]}, t_y={"andEvery": outcome})
    session.fire("a")
    session.start("t_x#0")
    overridden = Hooks("default", frozenset({"fire"}))
    session.do(report(key=("t_x", 0), token="t_x#0", hooks=overridden))
    [mark] = session.state.pending.values()
    assert (mark.data["trigger"], mark.data["cause"]) == (outcome, "t_x#0")
    assert "t_y#0" not in session.statuses()
    settled = Fire(trigger=outcome, settles=mark.ref, cause="t_x#0", depth=mark.data["depth"])
    assert session.do(settled).outcome.scheduled == ("t_y#0",)


def test_a_chain_of_outcomes_without_end_is_cut_off() -> None:
    session = PureSession(
        is_checked=False,
        t_x={"after": ["never"], "andEvery": "t_y:abandoned", "unless": ["u"]},
        t_y={"after": ["never"], "andEvery": "t_x:abandoned", "unless": ["u"]},
    )
    session.fire("u")
    assert set(session.statuses().values()) == {"abandoned"}
    last = [each for each in session.state.instances.values() if "exception" in each.metadata]
    assert {each.depth for each in last} == {1000}
    for each in last:
        assert "chain of 1,000 cascades" in each.metadata["exception"]["message"]
    assert len(session.fired()) == 1 + len(session.statuses()) - len(last)


OVERRIDDEN = Hooks("default", frozenset({"fire"}))


def overridden(session: PureSession, event: Any) -> None:
    """Decide an event for a manager that overrides ``fire``."""
    session.do(event.under(OVERRIDDEN))


def decide_cascades(session: PureSession) -> None:
    """Fire what was left to be fired, as the manager's own ``fire`` would."""
    while marks := [each for each in session.state.pending.values() if each.kind == "cascade"]:
        data = marks[0].data
        fired = Fire(
            trigger=data["trigger"],
            kwargs=data["kwargs"],
            also=tuple(data["also"]),
            cause=data["cause"],
            depth=data["depth"],
            settles=marks[0].ref,
        )
        overridden(session, fired)


def test_who_is_not_barred_at_rest_starts_after_a_cascade_that_was_left() -> None:
    session = PureSession(
        t_x={"after": ["x"]},
        t_z={"after": ["never", "zz"], "unless": ["a"]},
        t_w={"after": ["t_z:abandoned"]},
        t_y={"after": ["a"], "unless": {"any": [{"settled": "t_x"}, "nope"]}},
    )
    for trigger in ("x", "zz", "a"):
        overridden(session, Fire(trigger=trigger))
    assert session.statuses()["t_y#0"] == "unstarted", "a cascade is left"
    decide_cascades(session)
    assert session.statuses()["t_y#0"] == "scheduled"
    assert session.statuses()["t_w#0"] == "scheduled"


def test_a_cascade_that_an_override_swallows_holds_up_nobody() -> None:
    session = PureSession(t_x={"after": ["x"]}, t_y={"after": ["x", {"settled": "t_x"}]})
    overridden(session, Fire(trigger="x"))
    session.start("t_x#0")
    overridden(session, Finish(key=("t_x", 0), token="t_x#0"))
    assert session.statuses()["t_y#0"] == "unstarted"
    [mark] = session.state.pending.values()
    overridden(session, Done(ref=mark.ref))
    assert session.statuses()["t_y#0"] == "scheduled"


@pytest.mark.parametrize("apply_history", [True, False])
def test_a_late_task_that_has_not_taken_a_lineage_takes_it(apply_history: bool) -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("a")
    session.fail("t_x#0")
    session.configure(t_y={"after": ["t_x:failed"]})
    assert "t_y#0" not in session.statuses()
    if apply_history:
        session.configure(apply_history=True, t_y={"after": ["t_x:failed"]})
    else:
        session.replay("t_x#0")
        session.fail("t_x#1")
    assert session.statuses()["t_y#0"] == "scheduled"


def test_a_late_task_whose_first_instance_has_a_lineage_takes_it_no_more() -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("a")
    session.fail("t_x#0")
    session.configure(t_y={"after": [], "andEvery": "t_x:failed", "unless": ["b", "never"]})
    session.fire("b")
    session.replay("t_x#0")
    session.fail("t_x#1")
    assert [name for name in session.statuses() if name.startswith("t_y")] == ["t_y#0"]


def test_a_late_task_carries_over_what_was_fired_by_hand_as_often_as_it_is_fired() -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("t_x", n=1)
    session.configure(t_y={"after": ["t_x"], "andEvery": "b"})
    session.fire("b")
    assert session.statuses() == {"t_y#0": "scheduled"}
    assert session.held("t_y#0") == {"t_x": (1,), "b": (2,)}
    session.fire("b")
    assert session.held("t_y#1") == {"t_x": (1,), "b": (3,)}
