"""Whatever has happened in a session: its explanation says what the engine does, and nothing else.

Hypothesis draws configurations in the whole of the language, and sessions that live with them.
After each step everything is explained, and held against what the engine decides.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.explained import firing, whole
from tests.unit.pure_session import PureSession, key_of
from triggers.engine import Transition, decide
from triggers.engine.draft import Draft
from triggers.engine.events import Tick
from triggers.engine.rules import settle
from triggers.explain.values import InstanceExplanation, Part, Verdict
from triggers.types import Instance, Status

MANY = 40
"""Firings after which a session has told enough: some configurations go round in circles."""

OUTCOMES = ("failed", "abandoned", "expired", "ended")

met: Counter[str] = Counter()


def verdict_of(session: PureSession, record: Instance, explained: InstanceExplanation) -> Verdict:
    """Return what the engine does with a waiting instance at the moment that is explained."""
    assert explained.conditions is not None
    draft = Draft(session.state, explained.conditions.as_of)
    draft.is_at_rest = True
    settle(draft, session.state.plan.tasks[record.task], record)
    settled = draft.instance((record.task, record.number))
    if settled.status is Status.ABANDONED:
        return "expired" if settled.metadata["reason"] == "expired" else "ruled out"
    return "ready" if settled.status is Status.SCHEDULED else "waits"


def check_part(part: Part) -> None:
    """See to it that a condition and its members do not contradict each other."""
    met[f"{part.kind} {'holds' if part.holds else 'does not'}"] += 1
    if part.parts or part.kind == "all":
        assert part.have == sum(each.holds for each in part.parts)
        needed = {"all": len(part.parts), "any": 1}.get(part.kind, part.needed)
        assert part.holds == (part.have >= (needed or 0))
    elif part.kind == "trigger":
        assert part.holds == (part.needed is not None and part.have >= part.needed)
    assert bool(part.missing) == (not part.holds)
    assert part.text
    for each in part.parts:
        check_part(each)


def check_waiting(session: PureSession, record: Instance, explained: InstanceExplanation) -> None:
    conditions = explained.conditions
    assert conditions is not None
    assert conditions.verdict == verdict_of(session, record, explained)
    assert conditions.missing == conditions.ready.missing
    is_barred = conditions.barred is not None and conditions.barred.holds
    if conditions.verdict == "waits":
        assert (conditions.ready.holds, is_barred) == (False, False)
        assert conditions.missing
    else:
        assert conditions.next is not None
        assert conditions.next.is_over
        met[f"due: {conditions.verdict}"] += 1
    if conditions.next is not None:
        assert conditions.next.at == record.timer_at
        assert conditions.next.kind != "time"
        met[conditions.next.kind] += 1
    check_part(conditions.ready)
    if conditions.barred is not None:
        check_part(conditions.barred)


def check_abandoned(record: Instance, explained: InstanceExplanation) -> None:
    assert explained.decision is not None
    assert explained.decision.reason == record.metadata["reason"]
    if explained.decision.reason == "unless":
        assert explained.conditions is not None
        assert explained.conditions.barred is not None
        assert explained.conditions.barred.holds
        met["ruled out"] += 1


def check_due(session: PureSession, explained: Mapping[str, InstanceExplanation]) -> None:
    """Have decided what is due: what was explained happens, and then nothing is due."""
    state = session.state
    due = [
        each for each in state.instances.values() if each.timer_at and each.timer_at <= session.now
    ]
    if not due:
        return
    transition = decide(Tick(), state, session.now, session.verdicts)
    if len(due) == 1:
        record = due[0]
        told = explained[record.name].conditions
        assert told is not None
        ended = transition.instances.get((record.task, record.number), record)
        if told.verdict == "waits":
            assert ended.status is Status.UNSTARTED
        else:
            assert ended.changed_at == told.as_of
            assert ended.status is (
                Status.SCHEDULED if told.verdict == "ready" else Status.ABANDONED
            )
            met["one was due"] += 1


def check_created(
    session: PureSession, transition: Transition, explained: Mapping[str, InstanceExplanation]
) -> None:
    """Hold against the engine which firing is said to have made an instance."""
    seqs = {each.seq for each in transition.firings}
    for task, number in transition.created:
        told = explained[f"{task}#{number}"]
        if told.parent is not None:
            assert told.created_by is None
        elif told.created_by is not None:
            assert told.created_by.seq in seqs
            met["created by a firing"] += 1
        else:
            plan = session.state.plan.tasks[task]
            assert plan.fresh or plan.debounce or plan.filters or len(seqs) > 1


def check(session: PureSession, transition: Transition) -> None:
    whole_session = whole(session)
    plain = whole_session.to_json()
    assert json.loads(json.dumps(plain)) == plain
    explained = {each.name: each for task in whole_session.tasks for each in task.instances}
    assert all(f"{name} " in str(each) for name, each in explained.items())
    for record in session.state.instances.values():
        if record.status is Status.UNSTARTED:
            check_waiting(session, record, explained[record.name])
        elif record.status is Status.ABANDONED:
            check_abandoned(record, explained[record.name])
    for each in transition.firings[:3]:
        told = firing(session, each.seq)
        assert str(told).startswith(f"Firing {each.seq} of {each.trigger}")
        assert {refusal.task for refusal in told.effects.filtered} == each.refused.keys()
    check_created(session, transition, explained)
    check_due(session, explained)


class Drawing:
    """Draws tasks in the whole of the language."""

    def __init__(self, draw: Any, number: int) -> None:
        self.draw = draw
        self.tasks = [f"t_{n}" for n in range(number)]

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def configuration(self) -> dict[str, Any]:
        return {name: self.directives() for name in self.tasks}

    def directives(self) -> dict[str, Any]:
        every = self.one_of(None, None, "p", "q")
        directives: dict[str, Any] = {"after": self.members(0 if every else 1, every)}
        if every:
            directives["andEvery"] = every
        if self.chance(2):
            late = [{"elapsed": "PT2S", "since": self.one_of("a", "b")}]
            directives["unless"] = late if self.chance(3) else self.members(1, every)
        named = str(directives)
        if self.chance(4):
            directives["within"] = self.one_of("PT2S", "PT5S", "PT12S")
        if every and self.chance(3):
            directives["debounce"] = {"quiet": "PT3S", "most": "PT7S"}
        if self.chance(3) and "'a'" in named:
            directives["when"] = {"a": {"n": {"gte": 1}}}
        if self.chance(3) and "'b'" in named:
            directives["fresh"] = {"b": self.one_of("PT2S", "PT5S")}
        return directives

    def chance(self, one_in: int) -> bool:
        return bool(self.draw(st.integers(1, one_in)) == one_in)

    def members(self, least: int, every: str | None) -> list[Any]:
        return [self.condition(2, every) for _ in range(self.draw(st.integers(least, 2)))]

    def condition(self, depth: int, every: str | None) -> Any:
        kinds = ["name"] * 4 + ["times", "from", "settled", "settled", "elapsed"]
        kinds += ["any", "all", "atLeast"] if depth else []
        kind = self.one_of(*kinds)
        if kind in ("any", "all", "atLeast"):
            number = self.one_of(2, 3) if kind != "atLeast" else 3
            of = [self.condition(depth - 1, every) for _ in range(number)]
            return {"atLeast": 2, "of": of} if kind == "atLeast" else {kind: of}
        if kind == "settled":
            return {"settled": self.one_of(*self.tasks)}
        name = self.name()
        if kind == "elapsed":
            return {"elapsed": self.one_of("PT2S", "PT5S"), "since": name}
        if kind == "name" or name == every:
            return name
        times = self.draw(st.integers(1, 3)) if kind == "times" else {"from": "c.n"}
        return {"trigger": name, "times": times}

    def name(self) -> str:
        task = self.one_of(*self.tasks)
        return str(self.one_of("a", "b", "c", "p", "q", task, f"{task}:{self.one_of(*OUTCOMES)}"))


class Life:
    """One session, and what can happen to it."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.session = PureSession(is_checked=False)
        tasks = Drawing(draw, draw(st.integers(1, 4))).configuration()
        self.session.configure(**tasks)

    def live_on(self) -> None:
        self.one_of(["fire"] * 6 + ["wait"] * 3 + ["tick", "start", "end", "end", "replay"])()

    def one_of(self, choices: list[str]) -> Any:
        return getattr(self, self.draw(st.sampled_from(choices)))

    def named(self, status: Status) -> list[str]:
        return [
            each.name for each in self.session.state.instances.values() if each.status is status
        ]

    def fire(self) -> None:
        self.session.fire(self.draw(st.sampled_from("abcpqz")), n=self.draw(st.integers(0, 3)))

    def wait(self) -> None:
        self.session.move_on(self.draw(st.sampled_from([1, 2, 3, 5, 12])))

    def tick(self) -> None:
        self.session.tick()

    def start(self) -> None:
        for name in self.named(Status.SCHEDULED)[:2]:
            self.session.start(name)

    def end(self) -> None:
        for name in self.named(Status.RUNNING)[:1]:
            if self.draw(st.integers(0, 2)):
                self.session.finish(name, n=self.draw(st.integers(0, 3)))
            else:
                key = key_of(name)
                self.session.set_status(name, Status.FAILED)
                assert self.session.state.instances[key].status is Status.FAILED

    def replay(self) -> None:
        for name in self.named(Status.FAILED)[:1]:
            self.session.replay(name)


def test_explanations_say_what_the_engine_does() -> None:
    met.clear()

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def live(data: st.DataObject) -> None:
        life = Life(data.draw)
        session = life.session
        for _ in range(data.draw(st.integers(1, 20))):
            before = dict(session.state.firings)
            created = set(session.state.instances)
            life.live_on()
            if len(session.state.firings) > MANY:
                return
            happened = Transition(
                seq=session.state.seq,
                clock=session.now,
                plan=session.state.plan,
                firings=[each for seq, each in session.state.firings.items() if seq not in before],
                created=session.state.instances.keys() - created,
            )
            check(session, happened)

    for _ in range(8):
        live()
        if not rarely_met():
            return
    assert not rarely_met(), "these should have happened more often"


def rarely_met() -> dict[str, int]:
    return {what: met[what] for what in INTERESTING if met[what] < 3}


INTERESTING = (
    *(f"{kind} holds" for kind in ("trigger", "all", "any", "atLeast", "settled", "burst")),
    *(f"{kind} does not" for kind in ("trigger", "all", "any", "atLeast", "settled", "burst")),
    *("elapsed holds", "elapsed does not", "expires", "burst", "elapsed"),
    *("due: expired", "due: ready", "due: ruled out", "one was due"),
    *("ruled out", "created by a firing"),
)
"""What must be met, or else the drawing has become too tame to show anything."""
