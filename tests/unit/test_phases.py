"""How a session ends: closed, cancelled, purged. No storage, no clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.pure_session import NOW, PureSession
from triggers.configuration import parse
from triggers.engine import Event, Hooks, SessionState, decide
from triggers.engine.by_hand import Annotate, Clone, Create, Replay, SetStatus, SkipFailed
from triggers.engine.configuring import Configure
from triggers.engine.events import Fire, Tick
from triggers.engine.lifecycle import Claim, Extend, Fail, Finish, Retry
from triggers.engine.phases import Cancel, Close, Purge
from triggers.engine.recovering import Done, Recover, Unsent
from triggers.exceptions import IdempotencyConflict, SessionClosed
from triggers.types import FireResult, Phase, Status

FOLLOWED = {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"]}}
ENDINGS: dict[Phase, Event] = {
    Phase.CLOSED: Close(),
    Phase.CANCELLED: Cancel(),
    Phase.PURGED: Purge(),
}
OVERRIDDEN = Hooks("mine", frozenset({"fire", "post_fire"}))


def session(**tasks: Any) -> PureSession:
    return PureSession(**(tasks or FOLLOWED))


def end(ended: PureSession, phase: Phase) -> PureSession:
    ended.do(ENDINGS[phase])
    assert ended.state.phase is phase
    return ended


def configuration() -> Configure:
    return Configure(configuration=parse({"t_z": {"after": ["a"], "run": "x"}}))


def create() -> Create:
    return Create(task="t_x", kwargs='{"a":{}}', given=("a",))


# -- what every ending has in common ------------------------------------------------------------


@pytest.mark.parametrize("phase", ENDINGS)
def test_a_session_that_has_ended_takes_no_firing_from_outside(phase: Phase) -> None:
    ended = end(session(), phase)
    with pytest.raises(SessionClosed) as caught:
        ended.fire("a")
    assert caught.value.phase == phase
    assert ended.state.seq == 0


@pytest.mark.parametrize("phase", [Phase.CANCELLED, Phase.PURGED])
@pytest.mark.parametrize("how", ["deferred", "is_inside"])
def test_where_nothing_goes_on_a_firing_that_began_before_is_refused_too(
    phase: Phase, how: str
) -> None:
    with pytest.raises(SessionClosed):
        end(session(), phase).do(Fire(trigger="a", **{how: True}))


@pytest.mark.parametrize("how", ["deferred", "is_inside"])
def test_a_closed_session_takes_what_waited_for_a_commit_and_what_its_own_tasks_fire(
    how: str,
) -> None:
    closed = end(session(), Phase.CLOSED)
    assert closed.do(Fire(trigger="a", **{how: True})).outcome.seq == 1


def test_a_session_for_which_firings_wait_is_not_purged() -> None:
    closed = end(session(), Phase.CLOSED)
    later = closed.now + timedelta(days=1)
    assert closed.do(Purge(unchanged_since=later, is_awaited=True)).outcome is False
    assert closed.do(Purge(unchanged_since=later)).outcome is True


@pytest.mark.parametrize("phase", ENDINGS)
def test_a_session_that_has_ended_takes_no_task(phase: Phase) -> None:
    ended = end(session(), phase)
    with pytest.raises(SessionClosed):
        ended.do(configuration())
    assert "t_z" not in ended.state.plan.tasks


@pytest.mark.parametrize("phase", ENDINGS)
def test_a_session_that_nobody_knew_can_be_ended(phase: Phase) -> None:
    unknown = end(PureSession(), phase)
    with pytest.raises(SessionClosed, match="Use another session uid"):
        unknown.fire("a")
    assert ENDINGS[phase].opens_session


@pytest.mark.parametrize("phase", ENDINGS)
def test_ending_again_changes_nothing(phase: Phase) -> None:
    ended = session()
    ended.fire("a")
    end(ended, phase)
    again = ended.do(ENDINGS[phase])
    assert again.outcome == (False if phase is Phase.PURGED else phase)
    assert (again.instances, again.firings) == ({}, [])
    assert ended.state.phase is phase


@pytest.mark.parametrize("phase", [Phase.CANCELLED, Phase.PURGED])
def test_closing_does_not_open_again_what_has_gone_further(phase: Phase) -> None:
    ended = end(session(), phase)
    assert ended.do(Close()).outcome is phase
    assert ended.state.phase is phase


def test_cancelling_does_not_bring_back_what_was_purged() -> None:
    purged = end(session(), Phase.PURGED)
    assert purged.do(Cancel()).outcome is Phase.PURGED
    assert purged.state.phase is Phase.PURGED


def test_a_closed_session_can_still_be_cancelled_and_then_purged() -> None:
    ended = session()
    for phase in ENDINGS:
        end(ended, phase)


@pytest.mark.parametrize("phase", [Phase.CLOSED, Phase.CANCELLED])
def test_a_firing_that_was_taken_before_is_still_recognised(phase: Phase) -> None:
    ended = session()
    ended.do(Fire(trigger="a", kwargs='{"n":1}', key="k"))
    end(ended, phase)
    repeated = ended.do(Fire(trigger="a", kwargs='{"n":1}', key="k"))
    assert (repeated.outcome, repeated.is_empty) == (FireResult(seq=1, duplicate=True), True)
    with pytest.raises(IdempotencyConflict):
        ended.do(Fire(trigger="a", kwargs='{"n":2}', key="k"))


# -- closed -------------------------------------------------------------------------------------


def test_in_a_closed_session_what_has_begun_goes_on() -> None:
    closed = session(**FOLLOWED, t_late={"after": ["t_y", "b"], "within": "PT10S"})
    closed.fire_all("a b")
    end(closed, Phase.CLOSED)
    closed.run("t_x#0")
    closed.run("t_y#0")
    assert closed.statuses() == dict.fromkeys(["t_x#0", "t_y#0", "t_late#0"], "finished") | {
        "t_late#0": "scheduled"
    }


def test_in_a_closed_session_deadlines_pass() -> None:
    closed = session(
        t_late={"after": ["a", "b"], "within": "PT10S"}, t_y={"after": ["t_late:expired"]}
    )
    closed.fire("a")
    end(closed, Phase.CLOSED)
    closed.tick(10)
    assert closed.statuses() == {"t_late#0": "abandoned", "t_y#0": "scheduled"}


def test_in_a_closed_session_people_can_replay_and_make_instances() -> None:
    closed = session()
    closed.fire("a")
    closed.fail("t_x#0")
    end(closed, Phase.CLOSED)
    assert closed.replay("t_x#0") == "t_x#1"
    assert closed.do(create()).outcome.status is Status.SCHEDULED
    assert closed.do(Clone(key=("t_x", 0))).outcome.name == "t_x#3"
    closed.retry("t_x#1")
    assert closed.statuses()["t_x#4"] == "scheduled"


def test_in_a_closed_session_a_pending_cascade_is_fired() -> None:
    closed = session()
    closed.fire("a")
    closed.start("t_x#0")
    closed.do(Finish(key=("t_x", 0), token="t_x#0", hooks=OVERRIDDEN))
    [ref] = [ref for ref in closed.state.pending if ref.startswith("cascade")]
    end(closed, Phase.CLOSED)
    cascade = Fire(trigger="t_x", cause="t_x#0", settles=ref, depth=1)
    assert closed.do(cascade).outcome.scheduled == ("t_y#0",)
    assert closed.do(cascade).outcome.duplicate
    assert ref not in closed.state.pending


def test_closing_first_decides_what_was_due() -> None:
    closed = session(t_late={"after": ["a", "b"], "within": "PT10S"})
    closed.fire("a")
    closed.move_on(20)
    transition = closed.do(Close())
    assert transition.phase is Phase.CLOSED
    assert closed.statuses() == {"t_late#0": "abandoned"}
    assert closed.seconds_of(2) == 10


# -- cancelled ----------------------------------------------------------------------------------


def cancelled() -> PureSession:
    ended = session(
        t_x={"andEvery": "p"}, t_wait={"after": ["p", "never"]}, t_y={"after": ["t_x"]},
        t_handler={"after": ["t_wait:abandoned"]}, t_end={"after": [{"settled": "t_wait"}]},
    )  # fmt: skip
    ended.fire_all("p p p p")
    ended.run("t_x#0")
    ended.fail("t_x#1")
    ended.start("t_x#2")
    return end(ended, Phase.CANCELLED)


def test_cancelling_abandons_what_was_not_started_and_fires_nothing() -> None:
    ended = session(t_x={"andEvery": "p"}, t_wait={"after": ["p", "never"]}, t_y={"after": ["b"]})
    ended.fire_all("p b")
    before = ended.state.seq
    transition = ended.do(Cancel())
    assert ended.statuses() == dict.fromkeys(["t_x#0", "t_wait#0", "t_y#0"], "abandoned")
    assert (list(transition.scheduled), transition.pending) == ([], [])
    assert ended.state.seq == before
    for name in ended.statuses():
        instance = ended.instance(name)
        assert instance.metadata["reason"] == "cancelled"
        assert (instance.due_at, instance.timer_at) == (None, None)


def test_cancelling_leaves_alone_what_runs_or_has_ended() -> None:
    statuses = cancelled().statuses()
    expected = {"t_x#0": "finished", "t_x#1": "failed", "t_x#2": "running", "t_x#3": "abandoned"}
    assert {name: statuses[name] for name in expected} == expected
    assert "t_handler#0" not in statuses


def test_cancelling_does_not_start_who_waits_for_tasks_to_be_settled() -> None:
    ended = session(t_x={"after": ["a", "never"]}, t_end={"after": ["a", {"settled": "t_x"}]})
    ended.fire("a")
    end(ended, Phase.CANCELLED)
    assert set(ended.statuses().values()) == {"abandoned"}


def test_how_a_running_task_ends_is_recorded_and_nothing_follows() -> None:
    ended = session(**FOLLOWED, t_z={"after": ["t_x:failed"]}, t_w={"andEvery": "a"})
    ended.fire_all("a a")
    for name in ("t_x#0", "t_w#0", "t_w#1"):
        ended.start(name)
    end(ended, Phase.CANCELLED)
    assert ended.do(Extend(key=("t_x", 0), token="t_x#0")).outcome is True
    ended.finish("t_x#0", n=1)
    ended.do(Fail(key=("t_w", 0), token="t_w#0", metadata={"why": "gone"}))
    assert ended.do(Retry(key=("t_w", 1), token="t_w#1", metadata={"why": "again"})).outcome
    assert ended.statuses() == {"t_x#0": "finished", "t_w#0": "failed", "t_w#1": "failed"}
    assert ended.instance("t_x#0").result == '{"n":1}'
    assert ended.instance("t_w#1").metadata == {"why": "again"}
    assert ended.state.seq == 2


def test_in_a_cancelled_session_nothing_can_be_started() -> None:
    ended = session(t_x={"andEvery": "p"})
    ended.fire_all("p p")
    ended.fail("t_x#0")
    ended.start("t_x#1")
    end(ended, Phase.CANCELLED)
    for event in (
        Replay(key=("t_x", 0)),
        create(),
        Clone(key=("t_x", 0)),
        SetStatus(key=("t_x", 1), status=Status.SCHEDULED),
    ):
        before = ended.statuses()
        with pytest.raises(SessionClosed):
            ended.do(event)
        assert ended.statuses() == before


def test_in_a_cancelled_session_people_can_clean_up() -> None:
    ended = session(**FOLLOWED, t_z={"after": ["t_x:skipped"]})
    ended.fire("a")
    ended.fail("t_x#0")
    end(ended, Phase.CANCELLED)
    before = ended.state.seq
    ended.do(Annotate(key=("t_x", 0), metadata={"seen": True}))
    ended.do(SkipFailed(key=("t_x", 0), cascade=True))
    assert ended.statuses() == {"t_x#0": "skipped"}
    assert ended.state.seq == before
    assert ended.instance("t_x#0").metadata["seen"] is True


def test_a_claim_of_what_was_cancelled_is_refused() -> None:
    ended = session()
    ended.fire("a")
    end(ended, Phase.CANCELLED)
    assert ended.do(Claim(key=("t_x", 0), token="late")).outcome is None


def test_a_pending_cascade_of_a_cancelled_session_is_dropped() -> None:
    ended = session()
    ended.fire("a")
    ended.start("t_x#0")
    ended.do(Finish(key=("t_x", 0), token="t_x#0", hooks=OVERRIDDEN))
    [ref] = [ref for ref in ended.state.pending if ref.startswith("cascade")]
    end(ended, Phase.CANCELLED)
    dropped = ended.do(Fire(trigger="t_x", cause="t_x#0", settles=ref, depth=1))
    assert (dropped.outcome, dropped.done) == (FireResult(duplicate=True), (ref,))
    assert ended.state.pending == {}
    assert ended.statuses() == {"t_x#0": "finished"}
    assert not ended.do(Done(ref=ref)).done


def test_cancelling_first_decides_what_was_due_and_stops_what_follows() -> None:
    ended = session(
        t_late={"after": ["a", "b"], "within": "PT10S"}, t_y={"after": ["t_late:expired"]}
    )
    ended.fire("a")
    ended.move_on(20)
    transition = ended.do(Cancel())
    assert ended.instance("t_late#0").metadata == {"reason": "expired"}
    assert ended.instance("t_y#0").metadata == {"reason": "cancelled"}
    assert list(transition.scheduled) == []


def test_a_cancelled_session_has_nothing_due_but_the_leases_of_who_runs() -> None:
    ended = cancelled()
    assert ended.state.due == {("t_x", 2): None}
    ended.tick(timedelta(days=1).total_seconds())
    ended.do(Recover())
    assert ended.state.due == {}
    assert ended.statuses()["t_x#2"] == "failed"


# -- purged -------------------------------------------------------------------------------------


def test_a_tombstone_knows_only_how_far_the_session_had_come() -> None:
    ended = session(t_x={"after": ["a"], "within": "PT10S"}, t_y={"after": [{"settled": "t_x"}]})
    ended.do(Fire(trigger="a", key="k", hooks=OVERRIDDEN))
    ended.fire("b")
    ended.move_on(5)
    end(ended, Phase.PURGED)
    expected = SessionState(phase=Phase.PURGED, seq=2, clock=NOW + timedelta(seconds=5))
    assert ended.state == expected


def test_a_purged_session_knows_no_idempotency_key_any_more() -> None:
    ended = session()
    ended.do(Fire(trigger="a", key="k"))
    end(ended, Phase.PURGED)
    with pytest.raises(SessionClosed, match="its data have been removed"):
        ended.do(Fire(trigger="a", key="k"))


LATE = [Tick(), Recover(), Unsent(sends={("t_x", 0): 1}), Done(ref="cascade:t_x#0:finished")]


@pytest.mark.parametrize("event", LATE)
def test_whoever_comes_late_finds_nothing_in_a_purged_session(event: Event) -> None:
    ended = session()
    ended.fire("a")
    end(ended, Phase.PURGED)
    assert ended.do(event).is_empty


def test_a_cascade_that_was_pending_is_no_more_than_a_duplicate_in_a_purged_session() -> None:
    ended = session()
    ended.fire("a")
    end(ended, Phase.PURGED)
    late = decide(Fire(trigger="t_x", cause=None, settles="cascade:x"), ended.state, ended.now)
    assert (late.outcome, late.is_empty) == (FireResult(duplicate=True), True)


def resolved(**tasks: Any) -> PureSession:
    ended = session(**(tasks or {"t_x": {"after": ["a"]}}))
    ended.fire("a")
    ended.run("t_x#0")
    return ended


def old(ended: PureSession, seconds: float = 1) -> Purge:
    """Retention comes, and purges what has not changed since a while."""
    ended.move_on(seconds)
    return Purge(unchanged_since=ended.now - timedelta(seconds=seconds))


def test_retention_purges_a_session_in_which_nothing_is_left_to_do() -> None:
    ended = resolved()
    assert ended.do(old(ended)).outcome is True
    assert ended.state.phase is Phase.PURGED


def test_retention_leaves_a_session_alone_in_which_something_was_fired_since() -> None:
    ended = resolved()
    event = old(ended)
    ended.fire("b")
    transition = ended.do(event)
    assert (transition.outcome, transition.phase) == (False, None)
    assert ended.statuses() == {"t_x#0": "finished"}


def unstarted(ended: PureSession) -> None:
    ended.fire("p")


def failed(ended: PureSession) -> None:
    ended.fire_all("p never")
    ended.fail("t_y#0")


def pending(ended: PureSession) -> None:
    ended.do(Fire(trigger="b", hooks=OVERRIDDEN))


@pytest.mark.parametrize("spoil", [unstarted, failed, pending])
@pytest.mark.parametrize("is_closed", [False, True])
def test_retention_leaves_a_session_alone_in_which_something_is_left_to_do(
    spoil: Any, is_closed: bool
) -> None:
    ended = session(t_x={"after": ["a"]}, t_y={"after": ["p", "never"]})
    ended.fire_all("a")
    ended.run("t_x#0")
    spoil(ended)
    if is_closed:
        end(ended, Phase.CLOSED)
    assert ended.do(old(ended)).outcome is False
    assert ended.state.phase is not Phase.PURGED


def test_a_task_that_never_began_holds_up_retention_until_the_session_is_closed() -> None:
    ended = resolved(t_x={"after": ["a"]}, t_never={"after": ["b"]})
    assert ended.do(old(ended)).outcome is False
    end(ended, Phase.CLOSED)
    assert ended.do(old(ended)).outcome is True


def test_retention_leaves_a_session_alone_that_has_no_tasks_yet() -> None:
    ended = PureSession()
    ended.fire("a")
    assert ended.do(old(ended)).outcome is False
    end(ended, Phase.CANCELLED)
    assert ended.do(old(ended)).outcome is True


def test_a_session_that_was_closed_before_anything_was_fired_can_go() -> None:
    ended = end(session(), Phase.CLOSED)
    assert ended.do(old(ended)).outcome is True


def test_retention_does_not_purge_a_session_twice() -> None:
    ended = end(session(), Phase.PURGED)
    assert ended.do(old(ended)).outcome is False
    assert ended.state.phase is Phase.PURGED


def test_retention_that_decides_what_is_due_sees_what_followed() -> None:
    ended = session(
        t_late={"after": ["a", "b"], "within": "PT10S"}, t_y={"after": ["t_late:expired"]}
    )
    ended.fire("a")
    transition = ended.do(old(ended, 60))
    assert transition.outcome is False
    assert ended.statuses() == {"t_late#0": "abandoned", "t_y#0": "scheduled"}


def test_erasing_asks_nobody_what_is_left_to_do() -> None:
    ended = session()
    ended.fire("a")
    ended.start("t_x#0")
    assert ended.do(Purge()).outcome is True
    assert ended.state.instances == {}
