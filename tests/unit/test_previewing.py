"""A preview is the decision itself, and replacing a task never lets something happen unsaid."""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st

import tests.language_session  # noqa: F401  # its predicates
from tests.language_configurations import TRIGGERS, Drawer
from tests.unit.pure_session import PureSession
from triggers.configuration import parse
from triggers.engine import Draft, SessionState, Unjudged, decide
from triggers.engine.configuring import Configure
from triggers.engine.plan import held
from triggers.engine.previewing import Foreseen, Foresight, Preview
from triggers.engine.rules import question_again
from triggers.exceptions import ConfigurationError, ReplacementRefused, SessionClosed
from triggers.types import BY_HAND, Instance, Phase, Status

TASKS = ("t_0", "t_1", "t_2")
EXAMPLES = int(os.environ.get("TRIGGERS_TESTS_PREVIEWS", "100"))
# To explain takes minutes here, and says little.
PHASES = tuple(set(HypothesisPhase) - {HypothesisPhase.explain})


def foresee(session: PureSession, event: Preview) -> Foresight:
    """What an event finds, by a decision that must not change what it reads."""
    before = copy.deepcopy(session.state)
    while True:
        try:
            decide(event, session.state, session.now, session.verdicts)
        except Unjudged as unjudged:
            session._judge(unjudged)
        except Foreseen as foreseen:
            assert session.state == before, "a preview must not change what it reads"
            return foreseen.foresight
        else:
            raise AssertionError("a preview must not end as a decision")


class Life:
    """A session that has lived a little, and a configuration for it."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.session = PureSession(is_checked=False)
        self.config: dict[str, Any] = {}
        self.configure(TASKS[: self.draw(1, 3)], timed=True)
        for _ in range(self.draw(0, 12)):
            self.live_on()

    def draw(self, least: int, most: int) -> int:
        return self.data.draw(st.integers(least, most))

    def drawn(self, names: tuple[str, ...], *, timed: bool) -> dict[str, Any]:
        config = Drawer(self.data.draw, names, self.config, timed=timed).configuration()
        for task in config.values():
            # A predicate that raises is another matter, and not for a pure session.
            whens = task.get("when", {})
            whens.update((name, "tests_is_even") for name in whens if "fragile" in str(whens[name]))
        self.config.update(config)
        return {name: {"run": "x", **each} for name, each in config.items()}

    def configure(self, names: tuple[str, ...], *, timed: bool) -> None:
        self.session.configure(**self.drawn(names, timed=timed))

    def live_on(self) -> None:
        session = self.session
        by_status: dict[Status, list[str]] = {}
        for instance in session.state.instances.values():
            by_status.setdefault(instance.status, []).append(instance.name)
        what = self.draw(0, 9)
        if what < 6:
            names = [*TRIGGERS, *self.config]
            session.fire(self.data.draw(st.sampled_from(names)), n=self.draw(0, 3))
        elif what < 7:
            session.move_on(self.draw(1, 6))
        elif scheduled := by_status.get(Status.SCHEDULED):
            if what == 7:
                session.run(scheduled[0], n=self.draw(0, 3))
            elif what == 8:
                session.fail(scheduled[0], types=["builtins.LookupError"], attempt=1)
            else:
                session.start(scheduled[0])


def waiting(state: SessionState) -> dict[str, Instance]:
    return {each.name: each for each in state.instances.values() if each.status == "unstarted"}


def given_to(state: SessionState) -> dict[str, dict[str, int]]:
    """Which firings gave their kwargs to the instances that have begun, and are not done."""
    return {
        each.name: {
            name: seq
            for name, seq in each.taken.items()
            if state.plan.tasks[each.task].config.passes_on(name)
        }
        for each in state.instances.values()
        if each.status in (Status.SCHEDULED, Status.RUNNING, Status.FAILED)
    }


def shared(state: SessionState) -> Counter[tuple[str, int]]:
    """How many waiting instances of a task hold the same firing of its andEvery."""
    found: Counter[tuple[str, int]] = Counter()
    for each in waiting(state).values():
        and_every = state.plan.tasks[each.task].config.and_every
        # A set, as a burst may begin and end with the same one.
        found.update({(each.task, seq) for seq in held(each, and_every or "") if seq != BY_HAND})
    return found


def filtered_out(session: PureSession) -> Iterator[tuple[str, str, int]]:
    """What waiting instances hold although it does not pass."""
    state = session.state
    draft = Draft(state, session.now)
    for each in waiting(state).values():
        task = state.plan.tasks[each.task]
        for name in task.filters:
            for seq in held(each, name):
                if seq != BY_HAND:
                    question = question_again(draft, state.firings[seq])
                    if (each.task, name) in session._refusals(state.plan, question):
                        yield each.name, name, seq


@settings(
    max_examples=EXAMPLES, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(st.data())
def test_what_a_preview_says_happens_and_nothing_else(data: st.DataObject) -> None:
    life = Life(data)
    session = life.session
    session.is_checked = True
    names = data.draw(st.lists(st.sampled_from((*TASKS, "t_new")), min_size=1, unique=True))
    before = copy.deepcopy(session.state)
    given = {
        "configuration": parse(life.drawn(tuple(names), timed=bool(life.draw(0, 1)))),
        "manager": "default",
        "apply_history": bool(life.draw(0, 1)),
    }
    try:
        foresight = foresee(session, Preview(**given))
    except ConfigurationError as error:  # another task asks for what a replaced one had
        with pytest.raises(ConfigurationError, match=re.escape(str(error))):
            session.do(Configure(**given))
        return
    if foresight.transition is None:
        event("refused: " + " ".join(foresight.objections[0][2].split()[-4:]))
        with pytest.raises(ReplacementRefused) as raised:
            session.do(Configure(**given))
        assert raised.value.refusals == foresight.objections
        assert session.state == before
        return
    transition = session.do(Configure(**given))
    event("carried over" if foresight.carried else "nothing waits")
    assert foresight.transition == transition
    assert foresight.objections == ()
    # What waited waits under the new conditions, with nothing that would not count.
    for each in foresight.carried:
        task = session.state.plan.tasks[each.before.task]
        event(f"status: {session.instance(each.before.name).status}")
        event("loses something" if each.lost else "gains something" if each.gained else "same")
        assert set(each.after.taken) <= {*task.names, *_by_hand(each.after)}
        assert set(each.after.counted) <= set(each.after.taken)
        for name, seqs in each.after.counted.items():
            assert not task.counts.get(name) or len(seqs) <= task.counts[name] or task.fresh
    assert list(filtered_out(session)) == []
    had = shared(before)
    doubled = {key for key, number in shared(session.state).items() if number > 1}
    assert all(had[key] > 1 for key in doubled)
    # What had begun still has what it began with.
    after = given_to(session.state)
    for name, kwargs in given_to(before).items():
        assert after[name] == kwargs


def _by_hand(instance: Instance) -> set[str]:
    return {name for name, seq in instance.taken.items() if seq == BY_HAND}


def test_what_is_due_is_told_apart() -> None:
    session = PureSession(t_x={"after": ["a", "b"], "within": "PT5S"}, t_y={"after": ["c", "d"]})
    session.fire_all("a c")
    session.move_on(5)
    tasks = parse({"t_y": {"after": ["c"], "run": "x"}})
    foresight = foresee(session, Preview(configuration=tasks, manager="default"))
    assert foresight.due is not None
    assert foresight.due.abandoned == ("t_x#0",)
    assert foresight.transition is not None
    assert foresight.transition.outcome.scheduled == ("t_y#0",)
    assert foresight.transition.outcome.abandoned == ()


def test_a_closed_session_refuses_it_like_the_real_one() -> None:
    session = PureSession(t_x={"after": ["a"]})
    session.state.phase = Phase.CLOSED
    with pytest.raises(SessionClosed):
        foresee(session, Preview(configuration=session.state.plan.configuration))
