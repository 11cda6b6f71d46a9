"""What an instance of a closed session waits for in vain, and how often workers refused one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.explained import (
    AS_MANY_PAGES,
    FIVE_PAGES,
    a_task,
    conditions,
    instance,
    replaced,
    told,
)
from tests.unit.pure_session import PureSession
from triggers.engine.phases import Close
from triggers.types import SESSION_FINALIZED

ELAPSED = {"elapsed": "PT1H", "since": "b"}


def closed(session: PureSession, *fired: str) -> PureSession:
    for each in fired:
        session.fire(each)
    session.do(Close())
    return session


def lost(session: PureSession, name: str = "t_x#0") -> tuple[str, ...]:
    """What an instance cannot get any more from outside."""
    found = conditions(session, name).out_of_reach
    return () if found is None else found.triggers


def test_an_instance_of_a_closed_session_is_told_what_nobody_can_fire_any_more() -> None:
    session = closed(a_task(after=["a", "b", "c"]), "a")
    line = "the session is closed: b, c cannot be fired from outside any more, and no task runs"
    assert f"{line} that could" in told(session, "t_x#0")
    found = instance(session).to_json()["conditions"]["out_of_reach"]
    assert found == {"triggers": ["b", "c"], "tasks_run": False}


def test_a_task_that_is_still_to_run_could_fire_it() -> None:
    session = PureSession(t_x={"after": ["a", "b"]}, t_run={"after": ["a"]})
    closed(session, "a")
    line = "the session is closed: b cannot be fired from outside any more, and only a task"
    assert f"{line} that is still to run could" in told(session, "t_x#0")
    session.run("t_run#0")
    assert "only a task" not in str(instance(session))
    assert lost(session) == ("b",)


def test_in_an_open_session_everything_is_in_reach() -> None:
    session = a_task(after=["a", "b"])
    session.fire("a")
    assert conditions(session).out_of_reach is None


@pytest.mark.parametrize(
    ("condition", "triggers"),
    [
        (["a", "b"], ("b",)),
        (["a", "t_run"], ()),
        (["a", "t_run:failed"], ()),
        (["a", "t_run", "b"], ("b",)),
        (["a", FIVE_PAGES], ("page",)),
        (["a", AS_MANY_PAGES], ("started",)),
        (["a", {"any": ["b", "c"]}], ("b", "c")),
        (["a", {"any": ["b", "t_run"]}], ()),
        (["a", {"atLeast": 2, "of": ["b", "c", "t_run"]}], ("b", "c")),
        (["a", {"atLeast": 2, "of": ["b", "t_run", "t_run:failed"]}], ()),
        (["a", {"any": [{"all": ["b", "c"]}, {"all": ["t_run", "d"]}]}], ("b", "c", "d")),
        (["a", {"settled": "t_run"}], ()),
        (["a", ELAPSED], ("b",)),
        (["b", "a", ELAPSED, "c"], ("c",)),
    ],
)
def test_only_what_it_cannot_do_without_is_out_of_reach(
    condition: Any, triggers: tuple[str, ...]
) -> None:
    session = PureSession(t_x={"after": condition}, t_run={"after": ["go"]})
    fired = ["go", "a"] + ["b"] * (condition[0] == "b")
    assert lost(closed(session, *fired)) == triggers


def test_a_known_number_of_firings_that_are_missing_is_out_of_reach() -> None:
    session = a_task(after=["a", AS_MANY_PAGES])
    session.fire("started", pages=2)
    assert lost(closed(session, "a")) == ("page",)


def test_the_trigger_of_the_session_itself_is_in_reach() -> None:
    session = PureSession()
    tasks = {"t_x": {"after": ["a", SESSION_FINALIZED]}, "t_run": {"after": ["a"]}}
    session.configure(finalize=True, **tasks)
    assert lost(closed(session, "a")) == ()
    session = closed(a_task(after=["a", SESSION_FINALIZED]), "a")
    assert lost(session) == (SESSION_FINALIZED,)


def test_what_is_decided_is_not_said_to_wait_in_vain() -> None:
    session = closed(a_task(after=["a", "b"], unless=["c"]), "a", "c")
    assert conditions(session).out_of_reach is None
    assert "the session is closed" not in str(instance(session))


def test_how_often_workers_refused_a_message_is_told_of_what_is_scheduled() -> None:
    session = a_task(after=["a"], run="orders.tasks.shipp")
    session.fire("a")
    assert instance(session).refusals == 0
    refused = replaced(session.instance("t_x#0"), metadata={"refused_by_workers": 2})
    session.state.instances["t_x", 0] = refused
    assert instance(session).refusals == 2
    assert "refused twice by workers that do not know 'orders.tasks.shipp'" in told(
        session, "t_x#0"
    )
    session.run("t_x#0")
    assert "refused" not in str(instance(session))
