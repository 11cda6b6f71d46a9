"""What an explanation says about the end of a session that finalizes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.explained import Looked, firing, told, whole
from tests.unit.pure_session import PureSession
from triggers.engine import Hooks
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Finish
from triggers.engine.phases import Cancel, Close
from triggers.payload import dump
from triggers.types import SESSION_FINALIZED

TASKS: dict[str, Any] = {
    "t_x": {"andEvery": "a"},
    "t_y": {"after": ["b"]},
    "t_wait": {"after": ["a", "never"], "within": "PT1H"},
    "t_close": {"after": [SESSION_FINALIZED]},
}


def session(**tasks: Any) -> PureSession:
    made = PureSession()
    made.configure(finalize=True, **(tasks or TASKS))
    return made


def left(explained: PureSession) -> tuple[str, ...]:
    ending = whole(explained).ending
    assert ending is not None
    assert ending.firing is None
    lines = told(explained)
    assert lines[-len(ending.left) - 1 :] == ["not finalized yet; left to do:", *ending.left]
    shown = Looked(explained).debug_repr()["ending"]
    assert shown == {"firing": None, "left": list(ending.left)}
    return ending.left


def test_a_session_that_does_not_finalize_says_nothing_of_it() -> None:
    plain = PureSession(**TASKS)
    assert whole(plain).ending is None
    assert whole(plain).to_json()["ending"] is None
    assert "ending" not in Looked(plain).debug_repr()


def test_an_open_session_names_every_task_that_holds_its_end_up() -> None:
    explained = session()
    explained.fire_all("a a a a")
    explained.start("t_x#0")
    explained.fail("t_x#1")
    explained.run("t_x#2")
    assert left(explained) == (
        "t_x#0 is running, t_x#1 failed, t_x#3 is scheduled",
        "t_y has no instance yet",
        "t_wait#0 waits",
    )


def test_a_closed_session_names_only_what_goes_on() -> None:
    explained = session(**TASKS, t_idle={"after": ["a", "never"]})
    explained.fire_all("a a")
    explained.run("t_x#0")
    explained.do(Close())
    assert left(explained) == ("t_x#1 is scheduled", "t_wait#0 waits")
    looked = Looked(explained)
    looked.deferred = lambda: [(1, "default")]  # type: ignore[method-assign]
    ending = looked.explain().ending
    assert ending is not None
    assert ending.left[2:] == ("1 firing recorded in a transaction, not decided yet",)


@pytest.mark.parametrize("hooks", [["fire"], ["post_fire"]])
def test_where_nothing_else_is_left_something_is_pending(hooks: list[str]) -> None:
    explained = session(t_x={"after": ["a"]})
    explained.fire("a")
    if hooks == ["post_fire"]:
        explained.do(Close())
    explained.start("t_x#0")
    overridden = Hooks("mine", frozenset(hooks))
    explained.do(Finish(key=("t_x", 0), token="t_x#0", hooks=overridden))
    [found] = left(explained)
    assert found.endswith("committed as to be done, and is not done yet")
    assert ("hook" in found) == (hooks == ["post_fire"])


def test_a_session_without_tasks_to_do_says_when_it_ends() -> None:
    assert left(session(t_close=TASKS["t_close"])) == (
        "everything: it has no task to do, so it is finalized when it is closed",
    )


def test_a_cancelled_session_says_that_it_is_not_finalized() -> None:
    explained = session()
    explained.fire("a")
    explained.do(Cancel())
    assert left(explained) == ("nothing: it was cancelled, so it is not finalized",)


def test_the_end_is_told_and_who_fired_it() -> None:
    explained = session(t_x={"after": ["a"]}, t_close=TASKS["t_close"])
    explained.fire("a")
    assert "sessionFinalized (fired by the session itself when nothing is left to do)" in str(
        Looked(explained).explain("t_close")
    )
    explained.run("t_x#0")
    ending = whole(explained).ending
    assert ending is not None
    assert ending.firing is not None
    assert (ending.firing.seq, ending.left) == (3, ())
    assert told(explained)[-1].startswith("finalized by firing 3 of sessionFinalized, 2026-11-21")
    assert firing(explained, 3).by_session
    assert "fired by the session itself, as nothing was left to do" in str(firing(explained, 3))
    assert not firing(explained, 1).by_session


@pytest.mark.parametrize("kwargs", [{}, {"why": "enough"}])
def test_an_end_that_somebody_fired_is_told_from_one_of_the_session(kwargs: dict[str, Any]) -> None:
    explained = session(t_x={"after": ["a"]}, t_close=TASKS["t_close"])
    explained.fire("a")
    explained.move_on(1)
    explained.fire(SESSION_FINALIZED, **kwargs)
    explained.move_on(1)
    explained.run("t_x#0")
    assert not firing(explained, 2).by_session
    assert "fired from outside" in str(firing(explained, 2))


def test_an_end_that_somebody_fired_before_anything_else_is_not_of_the_session() -> None:
    for kwargs in ({}, {"why": "never mind"}):
        explained = session()
        explained.fire(SESSION_FINALIZED, **kwargs)
        assert not firing(explained, 1).by_session


def test_in_a_closed_session_only_kwargs_tell_who_fired_the_end() -> None:
    for kwargs in ({}, {"why": "enough"}):
        explained = session()
        explained.fire("a")
        explained.do(Close())
        explained.do(Fire(trigger=SESSION_FINALIZED, kwargs=dump(kwargs), is_inside=True))
        assert firing(explained, 2).by_session == (not kwargs)


def test_who_waits_for_the_end_of_a_session_that_does_not_finalize_is_told() -> None:
    explained = PureSession(t_score={"after": [SESSION_FINALIZED]}, t_x={"after": ["a"]})
    undeclared = "never fired; this session is not declared to finalize"
    how = f"{undeclared}: update_configuration({{}}, finalize=True)"
    assert f"sessionFinalized ({how})" in str(Looked(explained).explain("t_score"))
    explained.do(Close())
    assert f"sessionFinalized ({undeclared})" in str(Looked(explained).explain("t_score"))
    # Nobody says so of other names, nor where somebody has fired it.
    assert "not declared" not in str(Looked(explained).explain("t_x"))
    explained = PureSession(t_score={"andEvery": SESSION_FINALIZED})
    explained.fire(SESSION_FINALIZED)
    assert "not declared" not in str(Looked(explained).explain("t_score"))
    assert "sessionFinalized (fired once" in str(Looked(explained).explain("t_score"))


def test_a_name_that_looks_like_it_is_not_suggested_in_its_place() -> None:
    explained = session(t_x={"after": ["a"]}, t_close=TASKS["t_close"])
    explained.fire("sessionFinalised")
    assert "did you mean" not in str(Looked(explained).explain("t_close"))


@pytest.mark.parametrize(
    "name", ["sessionFinalised", "session_finalized", "SessionFinalized", "sessionFinalize"]
)
@pytest.mark.parametrize(
    ("finalize", "known"),
    [
        (True, "the session fires itself when nothing is left to do"),
        (False, "the session would fire itself if it were declared to finalize"),
    ],
)
def test_a_misspelling_of_it_is_recognized(name: str, finalize: bool, known: str) -> None:
    explained = PureSession()
    explained.configure(finalize=finalize, t_score={"after": [name]})
    text = str(Looked(explained).explain("t_score"))
    assert f"{name} (never fired; did you mean 'sessionFinalized', which {known}?)" in text


@pytest.mark.parametrize("name", ["finalized", "sessionClosed", "sessionStarted", "finalSession"])
def test_what_is_merely_like_it_is_none(name: str) -> None:
    explained = PureSession()
    explained.configure(finalize=True, t_score={"after": [name]})
    assert "did you mean" not in str(Looked(explained).explain("t_score"))


def test_what_was_fired_is_suggested_before_it() -> None:
    explained = session(t_score={"after": ["sessionFinalzed"]})
    explained.fire("sessionFinalised")
    text = str(Looked(explained).explain("t_score"))
    assert "did you mean 'sessionFinalised', which was fired and nobody waits for?" in text
