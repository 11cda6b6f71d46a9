"""Sessions that are nothing but engine and state, and short ways to have them explained."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NoReturn

from tests.unit.pure_session import NOW, PureSession, key_of
from triggers.engine import Event, Plan, Transition, Verdicts
from triggers.engine.lifecycle import Fail
from triggers.explain.effects import FiringExplanation
from triggers.explain.values import (
    Conditions,
    InstanceExplanation,
    Part,
    SessionExplanation,
    TaskExplanation,
)
from triggers.storages.session import SessionStorage
from triggers.storages.whole import select_firings, select_instances, standing_of
from triggers.types import Firing, Instance, Standing

FIVE_PAGES = {"trigger": "page", "times": 5}
AS_MANY_PAGES = {"trigger": "page", "times": {"from": "started.pages"}}


class Looked(SessionStorage):
    """A storage that can be looked at; whoever changes something fails."""

    name = "looked"

    def __init__(self, session: PureSession) -> None:
        super().__init__("order:1")
        self.session = session

    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        raise AssertionError("an explanation changes nothing")

    def plan(self) -> Plan:
        return self.session.state.plan

    def find_instances(
        self, *, task: str | None = None, number: int | None = None
    ) -> Iterable[Instance]:
        return select_instances(self.session.state, task, number)

    def find_firings(
        self, *, seqs: Collection[int] | None = None, latest: bool = False
    ) -> Iterable[Firing]:
        return select_firings(self.session.state, seqs, latest=latest)

    def standing(self) -> Standing:
        return standing_of(self.session.state)

    def delete(self) -> NoReturn:
        raise AssertionError("an explanation changes nothing")

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        return ()

    def now(self) -> datetime:
        return self.session.now


def a_task(**directives: Any) -> PureSession:
    """Return a session with one task, ``t_x``."""
    return PureSession(t_x=directives)


def instance(session: PureSession, name: str = "t_x#0") -> InstanceExplanation:
    found = Looked(session).explain(name)
    assert isinstance(found, InstanceExplanation)
    return found


def conditions(session: PureSession, name: str = "t_x#0") -> Conditions:
    found = instance(session, name).conditions
    assert found is not None
    return found


def ready(session: PureSession, name: str = "t_x#0") -> Part:
    return conditions(session, name).ready


def barred(session: PureSession, name: str = "t_x#0") -> Part:
    found = conditions(session, name).barred
    assert found is not None
    return found


def task(session: PureSession, name: str = "t_x") -> TaskExplanation:
    found = Looked(session).explain(name)
    assert isinstance(found, TaskExplanation)
    return found


def whole(session: PureSession) -> SessionExplanation:
    found = Looked(session).explain()
    assert isinstance(found, SessionExplanation)
    return found


def firing(session: PureSession, seq: int) -> FiringExplanation:
    return Looked(session).explain_firing(seq)


def summary(session: PureSession, name: str = "t_x#0") -> str:
    return str(instance(session, name)).splitlines()[0]


def told(session: PureSession, what: str | None = None) -> list[str]:
    """Return the lines of an explanation, without what indents them."""
    return [line.strip() for line in str(Looked(session).explain(what)).splitlines()]


def fire_at(session: PureSession, seconds: float, trigger: str, /, **kwargs: Any) -> int:
    """Fire so long after the beginning; return the number of the firing."""
    session.now = NOW + timedelta(seconds=seconds)
    seq = session.fire(trigger, **kwargs).seq
    assert seq is not None
    return seq


def after(seconds: float = 0, **units: float) -> datetime:
    return NOW + timedelta(seconds=seconds, **units)


def replaced(record: Instance, **fields: Any) -> Instance:
    return replace(record, **fields)


def fail(session: PureSession, name: str, kind: str = "builtins.ValueError") -> None:
    session.start(name)
    exception = {"type": kind, "message": "There is no name."}
    metadata = {"exception": exception}
    assert session.do(Fail(key=key_of(name), token=name, metadata=metadata)).outcome
