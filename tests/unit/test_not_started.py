"""What is never started: it comes too late, or nobody knows its task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.unit.pure_session import PureSession, key_of
from triggers.engine.lifecycle import Claim, Refuse, Retry
from triggers.engine.recovering import Recover
from triggers.types import Instance, Status

EXPIRES = timedelta(seconds=30)
CHAIN: dict[str, Any] = {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x:failed"]}}


def claim_of(session: PureSession, name: str = "t_x#0", **fields: Any) -> Any:
    fields = {"token": name, "expires": EXPIRES, **fields}
    return session.do(Claim(key=key_of(name), **fields)).outcome


def test_what_is_claimed_in_time_is_started() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    session.move_on(30)
    assert claim_of(session).status is Status.RUNNING


def test_what_is_claimed_too_late_fails_and_its_handlers_hear_of_it() -> None:
    session = PureSession(**CHAIN)
    session.fire("a", n=1)
    session.move_on(30.5)
    failed = claim_of(session)
    assert isinstance(failed, Instance)
    assert session.statuses() == {"t_x#0": "failed", "t_y#0": "scheduled"}
    error = failed.metadata["exception"]
    assert error["type"] == "triggers.exceptions.TaskExpired"
    assert {"TaskExpired", "TimeoutError", "TriggersError"} < set(error["types"])
    assert error["message"].startswith(
        "t_x#0 was not started within 0:00:30 of being ready, but after 0:00:30.5"
    )
    assert session.kwargs_of(2) == {
        "type": error["type"],
        "types": error["types"],
        "message": error["message"],
        "kwargs": {"a": {"n": 1}},
        "attempt": 1,
    }
    assert failed.attempt == 0
    assert claim_of(session) is None


def test_who_never_expires_is_never_too_late() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    session.move_on(10_000_000)
    assert claim_of(session, expires=None).status is Status.RUNNING


def test_the_time_begins_when_the_cooldown_ends() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    session.start("t_x#0")
    cooldown = timedelta(seconds=100)
    session.do(Retry(key=("t_x", 0), token="t_x#0", cooldown=cooldown))
    session.move_on(90)
    assert claim_of(session, "t_x#1") == timedelta(seconds=10)
    session.move_on(40)
    assert claim_of(session, "t_x#1").status is Status.RUNNING


def test_the_time_begins_anew_when_a_lost_worker_gives_its_instance_back() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    assert claim_of(session).status is Status.RUNNING
    session.move_on(61)
    session.do(Recover())
    assert session.statuses() == {"t_x#0": "scheduled"}
    session.move_on(30)
    assert claim_of(session, token="another").status is Status.RUNNING


def test_sending_again_does_not_prolong_the_time() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    session.move_on(61)
    session.do(Recover())
    assert session.instance("t_x#0").sends == 1
    assert claim_of(session).status is Status.FAILED


def test_a_claim_that_is_repeated_late_is_still_the_same_attempt() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    started = claim_of(session)
    session.move_on(40)
    assert claim_of(session) == started


def refuse(session: PureSession, name: str) -> Any:
    described = {"type": "m.Unknown", "types": ["Unknown"], "message": "nobody knows it"}
    event = Refuse(key=key_of(name), metadata={"exception": described, "traceback": ""})
    return session.do(event).outcome


def test_what_nobody_can_start_fails_and_its_handlers_hear_of_it() -> None:
    session = PureSession(**CHAIN)
    session.fire("a", n=1)
    assert refuse(session, "t_x#0") is True
    assert session.statuses() == {"t_x#0": "failed", "t_y#0": "scheduled"}
    assert session.instance("t_x#0").metadata["exception"]["message"] == "nobody knows it"
    assert session.kwargs_of(2)["kwargs"] == {"a": {"n": 1}}


def test_what_somebody_has_started_meanwhile_is_not_refused() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    session.start("t_x#0")
    assert refuse(session, "t_x#0") is False
    session.finish("t_x#0")
    assert refuse(session, "t_x#0") is False
    assert session.statuses() == {"t_x#0": "finished"}


def test_who_failed_without_being_started_can_be_replayed() -> None:
    session = PureSession(**CHAIN)
    session.fire("a")
    assert refuse(session, "t_x#0") is True
    session.run(session.replay("t_x#0"))
    assert session.statuses() == {"t_x#0": "replayed", "t_y#0": "scheduled", "t_x#1": "finished"}
