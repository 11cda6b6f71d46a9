"""Leases: what becomes of an instance whose worker is not heard of again, as the engine decides."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.unit.pure_session import NOW, PureSession
from triggers import recovery, runners
from triggers.clock import frozen_time
from triggers.conditions import predicate
from triggers.conditions.registered import _predicates
from triggers.engine import Hooks, Transition
from triggers.engine.draft import RESEND_AFTER
from triggers.engine.lifecycle import LEASE, Claim, Extend, Fail, Finish, Retry, Skip
from triggers.engine.phases import Cancel
from triggers.engine.recovering import Recover
from triggers.exceptions import UnregisteredFunction, WorkerLost
from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import run_tasks_locally
from triggers.testing.racing import IdleRunner
from triggers.types import Instance, Status

KEY = ("t_x", 0)
OVERRIDDEN = Hooks("mine", frozenset({"fire"}))


def session_with_a_running_instance(**more: Any) -> PureSession:
    session = PureSession(t_x={"after": ["a"]}, **more)
    session.fire("a", n=1)
    session.start("t_x#0")
    return session


def claimed(session: PureSession, token: str, **options: Any) -> Any:
    return session.do(Claim(key=KEY, token=token, **options)).outcome


def recover(session: PureSession, **options: Any) -> Transition:
    return session.do(Recover(**options))


def lose_worker(session: PureSession, token: str, **options: Any) -> Transition:
    """Let a worker claim the instance and be silent until its lease has run out."""
    assert isinstance(claimed(session, token), Instance)
    session.move_on(LEASE.total_seconds())
    return recover(session, **options)


# -- the lease ----------------------------------------------------------------------------------


def test_a_claim_makes_the_instance_due_at_the_end_of_its_lease() -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("a")
    started = claimed(session, "one", lease=timedelta(seconds=7))
    assert (started.status, started.attempt, started.token) == (Status.RUNNING, 1, "one")
    assert started.due_at == NOW + timedelta(seconds=7)
    assert session.state.due == {KEY: None}


def test_a_claim_repeated_with_the_same_token_has_the_same_answer_and_changes_nothing() -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("a")
    first = claimed(session, "one")
    session.move_on(5)
    again = session.do(Claim(key=KEY, token="one"))
    assert (again.outcome, again.is_empty) == (first, True)
    assert claimed(session, "two") is None


def test_a_claim_with_the_token_of_an_attempt_that_ended_does_not_start_it_again() -> None:
    session = session_with_a_running_instance()
    session.finish("t_x#0")
    assert claimed(session, "t_x#0") is None
    assert session.statuses() == {"t_x#0": "finished"}


def test_a_heartbeat_moves_the_end_of_the_lease() -> None:
    session = session_with_a_running_instance()
    session.move_on(50)
    extended = session.do(Extend(key=KEY, token="t_x#0", lease=timedelta(seconds=30)))
    assert extended.outcome is True
    assert session.instance("t_x#0").due_at == NOW + timedelta(seconds=80)
    session.move_on(29)
    assert recover(session).is_empty
    session.move_on(1)
    assert list(recover(session).scheduled) == [KEY]


def test_a_heartbeat_that_comes_late_but_before_recovery_keeps_the_instance() -> None:
    session = session_with_a_running_instance()
    session.move_on(3600)
    assert session.do(Extend(key=KEY, token="t_x#0")).outcome is True
    assert recover(session).is_empty
    session.finish("t_x#0")


def test_a_heartbeat_of_an_attempt_that_is_over_is_told_so() -> None:
    session = session_with_a_running_instance()
    stranger = session.do(Extend(key=KEY, token="other"))
    assert (stranger.outcome, stranger.is_empty) == (False, True)
    session.finish("t_x#0")
    late = session.do(Extend(key=KEY, token="t_x#0"))
    assert (late.outcome, late.is_empty) == (False, True)


def test_a_heartbeat_decides_nothing_else() -> None:
    """Nobody hands on what it would make ready, or calls the hooks of the session's manager."""
    session = session_with_a_running_instance(t_late={"after": ["a", "b"], "within": "PT10S"})
    session.move_on(20)
    extended = session.do(Extend(key=KEY, token="t_x#0"))
    assert (list(extended.instances), extended.firings) == ([KEY], [])
    assert session.statuses()["t_late#0"] == "unstarted"
    session.tick()
    assert session.statuses()["t_late#0"] == "abandoned"
    assert session.seconds_of(session.state.latest["t_late:expired"]) == 10


@pytest.mark.parametrize("seconds", [0, 59.999])
def test_recovery_leaves_a_lease_alone_that_has_not_run_out(seconds: float) -> None:
    session = session_with_a_running_instance()
    session.move_on(seconds)
    assert recover(session).is_empty
    assert session.statuses() == {"t_x#0": "running"}


# -- the next attempt -----------------------------------------------------------------------------


def test_an_expired_lease_gives_the_same_instance_a_new_attempt() -> None:
    session = session_with_a_running_instance()
    session.move_on(60)
    transition = recover(session)
    assert list(transition.scheduled) == [KEY]
    assert (transition.created, transition.firings) == ({}, [])
    waiting = session.instance("t_x#0")
    assert (waiting.status, waiting.token, waiting.sends) == (Status.SCHEDULED, None, 0)
    assert waiting.due_at == session.now + RESEND_AFTER
    second = claimed(session, "two")
    assert (second.name, second.attempt, second.taken) == ("t_x#0", 2, {"a": 1})


def test_the_metadata_tell_of_every_attempt_that_was_lost() -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("a")
    lose_worker(session, "one")
    lose_worker(session, "two")
    lost = session.instance("t_x#0").metadata["lost_attempts"]
    assert [each["attempt"] for each in lost] == [1, 2]
    started = [datetime.fromisoformat(each["started_at"]) for each in lost]
    assert started == [NOW, NOW + LEASE]


@pytest.mark.parametrize(
    "report",
    [
        Finish(key=KEY, token="one", result='{"late":true}'),
        Fail(key=KEY, token="one"),
        Skip(key=KEY, token="one"),
        Retry(key=KEY, token="one"),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("has_successor", [False, True])
def test_a_late_report_of_a_lost_attempt_is_refused(report: Any, has_successor: bool) -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.fire("a")
    lose_worker(session, "one")
    if has_successor:
        assert isinstance(claimed(session, "two"), Instance)
    before = session.instance("t_x#0")
    late = session.do(report)
    assert (late.outcome, late.is_empty) == (False, True)
    assert session.instance("t_x#0") == before


def test_recovery_that_looks_twice_takes_an_instance_back_once() -> None:
    session = session_with_a_running_instance()
    session.move_on(60)
    assert list(recover(session).scheduled) == [KEY]
    assert recover(session).is_empty
    assert len(session.instance("t_x#0").metadata["lost_attempts"]) == 1


def test_an_instance_that_was_taken_back_is_sent_again_like_any_other() -> None:
    session = session_with_a_running_instance()
    session.move_on(60)
    recover(session)
    session.move_on(RESEND_AFTER.total_seconds())
    assert list(recover(session).scheduled) == [KEY]
    assert session.instance("t_x#0").sends == 1
    assert len(session.instance("t_x#0").metadata["lost_attempts"]) == 1


def test_what_a_lost_worker_has_not_done_keeps_its_task_unsettled() -> None:
    session = session_with_a_running_instance(t_end={"after": ["b", {"settled": "t_x"}]})
    session.fire("b")
    session.move_on(60)
    recover(session)
    assert session.statuses()["t_end#0"] == "unstarted"
    session.do(Claim(key=KEY, token="two"))
    session.do(Finish(key=KEY, token="two"))
    assert session.statuses()["t_end#0"] == "scheduled"


# -- the limit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_after_too_many_lost_workers_the_instance_fails_and_its_failure_is_fired(
    attempts: int,
) -> None:
    session = PureSession(
        t_x={"after": ["a"], "withParams": {"a": {"m": 2}}}, t_y={"after": ["t_x:failed"]}
    )
    session.fire("a", n=1)
    for number in range(1, attempts):
        lose_worker(session, f"token {number}", attempts=attempts)
        assert session.statuses() == {"t_x#0": "scheduled"}
    last = lose_worker(session, "last", attempts=attempts)
    assert list(last.scheduled) == [("t_y", 0)]
    failed = session.instance("t_x#0")
    assert (failed.status, failed.token, failed.due_at) == (Status.FAILED, None, None)
    assert len(failed.metadata["lost_attempts"]) == attempts
    exception = failed.metadata["exception"]
    assert exception["type"] == "triggers.exceptions.WorkerLost"
    assert exception["message"] == str(WorkerLost("t_x#0", attempts))
    assert "WorkerLost" in exception["types"]
    failure = session.kwargs_of(session.state.latest["t_x:failed"])
    assert failure["message"] == exception["message"]
    assert failure["type"] == exception["type"]
    assert failure["kwargs"] == {"a": {"n": 1, "m": 2}}
    assert failure["attempt"] == attempts


def test_a_filter_can_look_at_the_worker_that_was_lost() -> None:
    lost = {"types": {"contains": "WorkerLost"}}
    handler = {"after": ["t_x:failed"], "when": {"t_x:failed": lost}}
    session = session_with_a_running_instance(t_y=handler)
    session.move_on(60)
    recover(session, attempts=1)
    assert session.statuses() == {"t_x#0": "failed", "t_y#0": "scheduled"}


def test_an_overridden_fire_gets_the_failure_of_a_lost_worker_as_a_pending_cascade() -> None:
    session = session_with_a_running_instance(t_y={"after": ["t_x:failed"]})
    session.move_on(60)
    transition = recover(session, attempts=1, hooks=OVERRIDDEN)
    [pending] = transition.pending
    assert (pending.kind, pending.ref) == ("cascade", "cascade:t_x#0:failed")
    assert pending.data["trigger"] == "t_x:failed"
    assert transition.outcome == ()
    assert session.statuses() == {"t_x#0": "failed"}


def test_a_lost_worker_settles_its_task_only_when_somebody_gives_the_instance_up() -> None:
    session = session_with_a_running_instance(t_end={"after": ["b", {"settled": "t_x"}]})
    session.fire("b")
    session.move_on(60)
    recover(session, attempts=1)
    assert session.statuses()["t_end#0"] == "unstarted"
    session.skip_failed("t_x#0")
    assert session.statuses()["t_end#0"] == "scheduled"


def test_a_replay_after_the_limit_begins_to_count_again() -> None:
    session = session_with_a_running_instance()
    session.move_on(60)
    recover(session, attempts=1)
    assert session.replay("t_x#0") == "t_x#1"
    started = session.do(Claim(key=("t_x", 1), token="two")).outcome
    assert (started.attempt, started.metadata) == (1, {"parent": "t_x#0"})


def test_attempts_are_counted_across_workers_that_ended_by_hand() -> None:
    session = session_with_a_running_instance()
    session.set_status("t_x#0", Status.SCHEDULED)
    assert claimed(session, "two").attempt == 2
    session.move_on(60)
    recover(session, attempts=2)
    assert session.statuses() == {"t_x#0": "failed"}


def test_several_lost_workers_are_found_at_once_in_the_order_of_their_names() -> None:
    session = PureSession(t_x={"andEvery": "p"}, t_a={"after": ["p"]})
    session.fire_all("p p p")
    names = ["t_x#2", "t_x#0", "t_a#0"]
    for name in names:
        session.start(name)
    session.move_on(60)
    expected = [("t_a", 0), ("t_x", 0), ("t_x", 1), ("t_x", 2)]
    transition = recover(session)
    assert sorted(transition.scheduled) == expected
    assert list(transition.scheduled) == expected
    assert session.instance("t_x#1").sends == 1, "nobody has taken this one yet"
    assert "lost_attempts" not in session.instance("t_x#1").metadata


def test_in_a_cancelled_session_a_lost_worker_is_not_replaced_and_nothing_is_fired() -> None:
    session = session_with_a_running_instance(t_y={"after": ["t_x:failed"]})
    session.do(Cancel())
    session.move_on(60)
    transition = recover(session)
    assert (list(transition.scheduled), transition.firings) == ([], [])
    assert session.statuses() == {"t_x#0": "failed"}
    assert session.instance("t_x#0").metadata["exception"]["type"].endswith("WorkerLost")


def test_an_instance_that_was_resolved_is_never_due() -> None:
    session = session_with_a_running_instance()
    session.finish("t_x#0")
    session.move_on(timedelta(days=1).total_seconds())
    assert session.state.due == {}
    assert recover(session).is_empty


def test_the_message_about_lost_workers_says_what_to_look_for() -> None:
    error = WorkerLost("t_x#0", 3)
    assert (error.instance, error.attempts) == ("t_x#0", 3)
    assert str(error).startswith("t_x#0 was started 3 times")


@predicate("leases_is_known")
def is_known(kwargs: Mapping[str, Any]) -> bool:
    return True


def test_recovery_that_cannot_judge_a_failure_leaves_it_to_a_process_that_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = {"after": ["t_x:failed"], "when": {"t_x:failed": "leases_is_known"}}
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex, attempts=1))
    with run_tasks_locally(IdleRunner.name):
        runners.task_runners.register(IdleRunner)
        manager.update_configuration(
            {"t_x": {"after": ["a"], "run": "x"}, "t_y": {**handler, "run": "x"}}
        )
        manager.fire("a")
        started = manager.apply(Claim(key=KEY, token="one")).outcome
        known = _predicates.entries["leases_is_known"]
        monkeypatch.delitem(_predicates.entries, "leases_is_known")
        with frozen_time(started.due_at):
            with pytest.raises(UnregisteredFunction, match="leases_is_known"):
                recovery.recover(manager)
            assert manager.storage["t_x#0"].status == "running"
            monkeypatch.setitem(_predicates.entries, "leases_is_known", known)
            recovery.recover(manager)
        runners.task_runners.unregister(IdleRunner.name)
    assert manager.storage["t_x#0"].status == "failed"
    assert manager.storage["t_y#0"].status == "scheduled"
    manager.storage.delete()
