"""Explanations of tasks, sessions and firings, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.unit.explained import (
    Looked,
    a_task,
    fail,
    fire_at,
    firing,
    instance,
    summary,
    task,
    told,
    whole,
)
from tests.unit.pure_session import NOW, PureSession
from triggers import payload
from triggers.conditions import predicate
from triggers.engine.events import Fire
from triggers.engine.phases import Cancel, Close, Purge
from triggers.exceptions import InstanceNotFound, UnknownTask
from triggers.explain import FiringNotFound, effects
from triggers.explain.values import SessionExplanation
from triggers.explain.wording import Outline, listed, moment, often, shown
from triggers.types import Firing


class TestTasks:
    def test_without_instances_it_says_what_makes_one(self) -> None:
        session = a_task(after=["a"], unless=["c"], when={"a": {"n": 1}})
        session.fire("a")
        found = task(session)
        assert (found.instances, found.made_by) == ((), ("a", "c"))
        names = "a (fired once, filtered out for t_x), c (never fired)"
        assert str(found).splitlines() == [
            "t_x in session order:1, 2026-11-21T12:00:00Z: no instance yet",
            f"  the first firing of any of these makes one: {names}",
            "  filtered out for t_x",
            "    firing 1 of a, 2026-11-21T12:00:00Z: n is not there",
        ]

    def test_without_names_nothing_makes_one(self) -> None:
        session = PureSession(t_y={"after": ["a"]}, t_x={"after": [{"settled": "t_y"}]})
        assert task(session).made_by == ()
        assert "it names no trigger, so nothing that is fired makes an instance" in told(
            session, "t_x"
        )

    def test_and_every_makes_another(self) -> None:
        session = a_task(after=["a"], andEvery="p")
        session.fire_all("a p")
        assert task(session).made_by == ("p",)
        assert "another one is made by: p (fired once, last on 2026-11-21T12:00:00Z)" in told(
            session, "t_x"
        )

    def test_without_and_every_there_is_just_one(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("a")
        assert task(session).made_by == ()
        assert "makes" not in str(task(session))

    def test_what_is_open_comes_first_and_of_many_there_is_a_number(self) -> None:
        session = PureSession(is_checked=False, t_x={"andEvery": "p"})
        session.fire_all("p " * 14)
        for number in range(12):
            session.run(f"t_x#{number}")
        lines = [line for line in str(task(session)).splitlines() if line[2:5] == "t_x"]
        assert [line.split()[0] for line in lines][:3] == ["t_x#12", "t_x#13", "t_x#11"]
        assert len(lines) == 10
        assert "and more: 4 finished" in told(session, "t_x")
        assert len(task(session).instances) == 14
        assert told(session, "t_x")[0].endswith(": 14 instances")

    def test_what_was_filtered_out_is_told_newest_first(self) -> None:
        session = a_task(after=["a", "b"], when={"b": {"n": {"gte": 9}}})
        session.fire("a")
        for n in range(7):
            fire_at(session, n, "b", n=n)
        filtered = task(session).filtered
        assert [each.firing.seq for each in filtered.latest] == [8, 7, 6, 5, 4]
        assert [each.reason for each in filtered.latest][:2] == ["n gte 9, got 6", "n gte 9, got 5"]
        assert filtered.more == 2
        assert told(session, "t_x")[-7:] == [
            "filtered out for t_x",
            "firing 8 of b, 2026-11-21T12:00:06Z: n gte 9, got 6",
            "firing 7 of b, 2026-11-21T12:00:05Z: n gte 9, got 5",
            "firing 6 of b, 2026-11-21T12:00:04Z: n gte 9, got 4",
            "firing 5 of b, 2026-11-21T12:00:03Z: n gte 9, got 3",
            "firing 4 of b, 2026-11-21T12:00:02Z: n gte 9, got 2",
            "and 2 before",
        ]
        assert str(task(session)).count("filtered out for t_x\n") == 1

    def test_what_comes_too_often_is_filtered_out(self) -> None:
        session = a_task(andEvery="p", atMostEvery="PT12H")
        fire_at(session, 0, "p")
        fire_at(session, 60, "p")
        (refusal,) = task(session).filtered.latest
        assert refusal.firing.seq == 2
        assert refusal.reason == "p at most every PT12H: the last one was at 2026-11-21T12:00:00Z"

    def test_when_the_last_one_came_is_told_to_the_millisecond(self) -> None:
        session = a_task(andEvery="p", atMostEvery="PT12H")
        fire_at(session, 0.1234, "p")
        fire_at(session, 60, "p")
        (refusal,) = task(session).filtered.latest
        assert refusal.reason.endswith("the last one was at 2026-11-21T12:00:00.123Z")

    def test_what_a_lineage_fired_before_is_filtered_out(self) -> None:
        session = PureSession(t_y={"after": ["a"]}, t_x={"andEvery": "t_y:failed"})
        session.fire("a")
        session.fail("t_y#0")
        session.replay("t_y#0")
        session.fail("t_y#1")
        (refusal,) = task(session).filtered.latest
        assert (refusal.firing.seq, refusal.firing.cause, refusal.task) == (3, "t_y#1", "t_x")
        assert refusal.reason == "t_y:failed of lineage t_y#0 was taken before"

    def test_the_whole_session(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]}, t_y={"after": ["t_x"]})
        session.fire_all("a odd odd")
        assert (
            str(whole(session))
            == """\
Session order:1, 2026-11-21T12:00:00Z: 2 tasks, 3 firings
  t_x: 1 instance
    t_x#0 waits for b
      waiting since 2026-11-21T12:00:00Z, made by firing 1 of a
      after, all of these
        [x] a: firing 1, 2026-11-21T12:00:00Z
        [ ] b: never fired
  t_y: no instance yet
    the first firing of any of these makes one: t_x (t_x#0 waits)
  fired, and named by no task
    odd (twice, last as firing 3)"""
        )

    def test_outcomes_are_not_unheard(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.run("t_x#0")
        assert whole(session).unheard == ()
        assert "named by no task" not in str(whole(session))

    def test_of_much_that_nobody_hears_there_is_a_number(self) -> None:
        session = a_task(after=["a"])
        session.fire_all(" ".join(f"odd{n}" for n in range(13)))
        assert len(whole(session).unheard) == 13
        few = a_task(after=["a"])
        few.fire_all(" ".join(f"odd{n}" for n in range(10)))
        assert told(few)[-1] == "odd9 (once, last as firing 10)"
        few.fire("more")
        assert told(few)[-1] == "and 1 more"
        assert told(session)[-1] == "and 3 more"
        assert told(session)[-2] == "odd9 (once, last as firing 10)"

    def test_a_session_that_is_over_says_so(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("a")
        session.do(Close())
        title = "Session order:1 (closed), 2026-11-21T12:00:00Z: 1 task, 1 firing"
        assert told(session)[0] == title
        session.do(Cancel())
        assert told(session)[0].startswith("Session order:1 (cancelled), ")
        assert summary(session).endswith("12:00:00Z: the session was cancelled")
        session.do(Purge())
        assert told(session) == ["Session order:1 is purged: its data have been removed."]
        assert whole(session).to_json()["phase"] == "purged"

    def test_an_empty_session_says_so(self) -> None:
        found = whole(PureSession())
        assert found.is_empty
        assert str(found) == "Session order:1 has no tasks, and nothing was fired in it."
        assert not whole(a_task(after=["a"])).is_empty
        session = PureSession()
        session.fire("a")
        assert not whole(session).is_empty

    def test_an_empty_session_that_finalizes_says_what_is_left(self) -> None:
        session = PureSession()
        session.configure(finalize=True)
        assert whole(session).is_empty
        assert told(session) == [
            "Session order:1 has no tasks, and nothing was fired in it.",
            "not finalized yet; left to do:",
            "everything: it has no task to do, so it is finalized when it is closed",
        ]
        session.do(Cancel())
        session.do(Purge())
        assert told(session) == ["Session order:1 is purged: its data have been removed."]

    def test_firings_that_are_not_decided_yet_are_counted(self) -> None:
        class Deferring(Looked):
            def deferred(self) -> Collection[tuple[int, str]]:
                return [(1, "default"), (2, "default")]

        found = Deferring(a_task(after=["a"])).explain()
        assert isinstance(found, SessionExplanation)
        assert found.undecided == 2
        assert "not decided yet: 2 firings recorded in a transaction" in str(found)
        assert not Deferring(PureSession()).explain().is_empty  # type: ignore[union-attr]


class TestAsking:
    @pytest.mark.parametrize("what", [3, True, b"t_x", ["t_x"]])
    def test_what_can_be_asked_about_is_said(self, what: Any) -> None:
        with pytest.raises(TypeError) as caught:
            Looked(a_task(after=["a"])).explain(what)
        assert str(caught.value) == (
            "explain() takes a task or an instance, by name or as object, or None for the whole "
            f"session; got {what!r}. A firing is explained by explain_firing(seq)."
        )

    def test_who_asks_for_a_trigger_is_told_how_to(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire_all("a a odd")

        def answer(name: str) -> str:
            with pytest.raises(UnknownTask) as caught:
                Looked(session).explain(name)
            return str(caught.value).removeprefix(f"Session 'order:1' has no task {name!r} ")

        assert answer("a") == (
            "(known: t_x); 'a' is a trigger; see explain_firing(2), its latest firing."
        )
        assert answer("odd") == (
            "(known: t_x); 'odd' is a trigger; see explain_firing(3), its latest firing."
        )
        assert answer("b") == (
            "(known: t_x); 'b' is a trigger that was never fired, and that these name: t_x."
        )
        assert answer("c") == "(known: t_x)."

    def test_a_task_or_an_instance_may_be_given_as_object(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("a")
        storage = Looked(session)
        assert storage.explain(storage["t_x#0"]) == storage.explain("t_x#0")
        assert storage.explain(storage.tasks["t_x"]) == storage.explain("t_x")

    def test_an_unknown_task_is_refused_with_those_that_are_known(self) -> None:
        session = PureSession(t_import={"after": ["a"]}, t_ship={"after": ["a"]})
        with pytest.raises(UnknownTask) as caught:
            Looked(session).explain("t_improt")
        assert caught.value.name == "t_improt"
        assert str(caught.value) == (
            "Session 'order:1' has no task 't_improt' (known: t_import, t_ship; did you mean "
            "'t_import'?)."
        )
        with pytest.raises(UnknownTask, match=r"\(known: t_import, t_ship\)\."):
            Looked(session).explain("zzz")

    def test_a_session_without_tasks_may_be_the_wrong_one(self) -> None:
        with pytest.raises(UnknownTask, match=r"\(it has none; is the uid right\?\)\."):
            Looked(PureSession()).explain("t_x")

    def test_an_unknown_instance_is_refused_with_those_that_are_known(self) -> None:
        session = a_task(andEvery="p")
        session.fire_all("p p")
        with pytest.raises(InstanceNotFound) as caught:
            Looked(session).explain("t_x#2")
        assert caught.value.instance == "t_x#2"
        assert str(caught.value) == (
            "'t_x#2' (session 'order:1' has no such instance; known: t_x#0, t_x#1)"
        )

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("t_y#0", "has no task 't_y' (known: t_x; did you mean 't_x'?)"),
            ("t_x#x", "an instance name looks like 't_x#0'"),
            ("t_x#0", "has no such instance; known: none"),
        ],
    )
    def test_what_is_no_instance_is_refused(self, name: str, hint: str) -> None:
        with pytest.raises(InstanceNotFound) as caught:
            Looked(a_task(after=["a"])).explain(name)
        assert hint in str(caught.value)

    def test_an_unknown_firing_is_refused_with_those_that_are_known(self) -> None:
        session = a_task(after=["a"])
        session.fire_all("a b")
        with pytest.raises(FiringNotFound) as caught:
            Looked(session).explain_firing(3)
        assert caught.value.seq == 3
        assert str(caught.value) == (
            "Session 'order:1' has no firing 3; it has 2 firings, numbered from 1 to 2."
        )
        with pytest.raises(LookupError, match=r"no firing 1; it has 0 firings\.$"):
            Looked(PureSession()).explain_firing(1)

    def test_a_session_may_be_deleted_meanwhile(self) -> None:
        class Vanishing(Looked):
            def find_firings(self, **which: Any) -> Iterable[Firing]:
                self.session = PureSession()
                return []

        session = a_task(after=["a", "b"])
        session.fire("a")
        assert Vanishing(session).explain().is_empty  # type: ignore[union-attr]

    def test_no_predicate_is_called(self) -> None:
        session = a_task(after=["a", "b"], when={"a": "counts_its_calls"})
        session.fire_all("b a")
        before = len(CALLS)
        assert before > 0
        assert "t_x" in str(whole(session))
        assert firing(session, 1).effects.held_by == ("t_x#0",)
        assert len(CALLS) == before


CALLS: list[Mapping[str, Any]] = []


@predicate("counts_its_calls")
def counts_its_calls(kwargs: Mapping[str, Any]) -> bool:
    CALLS.append(kwargs)
    return True


class TestEffects:
    def session(self) -> PureSession:
        session = PureSession(
            t_made={"after": ["a", "b"]},
            t_run={"after": ["a"]},
            t_no={"after": ["a", "c"], "unless": ["a"]},
            t_picky={"after": ["a", "d"], "when": {"a": {"n": {"gte": 3}}}},
            t_next={"after": ["t_run"]},
            t_after_no={"after": ["t_no:abandoned", "z"]},
        )
        fire_at(session, 1, "a", n=1)
        session.run("t_run#0", id=7)
        return session

    def test_the_whole_of_it(self) -> None:
        session = self.session()
        assert (
            str(firing(session, 1))
            == """\
Firing 1 of a, 2026-11-21T12:00:01Z, fired from outside
  kwargs: {"n": 1}
  created t_made#0, t_run#0, t_no#0
  scheduled t_run#0
  ruled out t_no#0
  filtered out for t_picky: n gte 3, got 1
  then firing 2 of t_no:abandoned, 2026-11-21T12:00:01Z, fired by t_no#0
    created t_after_no#0
  then firing 3 of t_run, 2026-11-21T12:00:01Z, fired by t_run#0
    created t_next#0
    scheduled t_next#0"""
        )

    def test_as_values(self) -> None:
        effects = firing(self.session(), 1).effects
        assert effects.created == ("t_made#0", "t_run#0", "t_no#0")
        assert (effects.scheduled, effects.abandoned) == (("t_run#0",), ("t_no#0",))
        assert effects.held_by == ("t_made#0", "t_run#0", "t_no#0")
        assert [(each.task, each.reason) for each in effects.filtered] == [
            ("t_picky", "n gte 3, got 1")
        ]
        assert effects.unchanged == ()
        assert [each.firing.seq for each in effects.further] == [2, 3]
        assert effects.left_out == 0

    def test_where_it_came_from(self) -> None:
        session = self.session()
        found = firing(session, 3)
        assert [(each.firing.seq, each.verb) for each in found.causes] == [(1, "scheduled")]
        assert str(found).splitlines()[0] == (
            "Firing 3 of t_run, 2026-11-21T12:00:01Z, fired by t_run#0, which was scheduled by "
            "firing 1 of a"
        )
        assert (dict(found.kwargs), found.key, found.is_complete) == ({"id": 7}, None, True)
        assert firing(session, 1).causes == ()

    def test_its_key_and_kwargs(self) -> None:
        session = a_task(after=["a"])
        kwargs = payload.encode({"at": datetime(2026, 1, 1, tzinfo=UTC)}, what="kwargs")
        session.do(Fire(trigger="a", kwargs=kwargs, key="evt_1"))
        assert firing(session, 1).key == "evt_1"
        assert "  idempotency key: evt_1" in str(firing(session, 1)).splitlines()
        assert json.dumps(firing(session, 1).to_json())

    def test_kwargs_are_readable(self) -> None:
        session = a_task(after=["a"])
        session.fire("a", name="Zoë")
        assert '  kwargs: {"name": "Zoë"}' in str(firing(session, 1)).splitlines()

    def test_long_kwargs_are_cut(self) -> None:
        session = a_task(after=["a"])
        most = 200 - len('{"text": ""}')
        session.fire("b", text="x" * most)
        session.fire("b", text="x" * (most + 1))
        whole_of_it, cut = (str(firing(session, seq)).splitlines()[1] for seq in (1, 2))
        assert whole_of_it == f'  kwargs: {{"text": "{"x" * most}"}}'
        assert cut == f'  kwargs: {{"text": "{"x" * (most + 1)}…'
        assert len(whole_of_it) == len(cut)

    def test_what_it_was_carried_into(self) -> None:
        session = a_task(after=["a"], andEvery="p")
        session.fire_all("a p p")
        found = firing(session, 1).effects
        assert (found.created, found.held_by) == (("t_x#0",), ("t_x#0", "t_x#1"))
        assert "  also held by t_x#1" in str(firing(session, 1)).splitlines()

    def test_who_had_it_already(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire_all("a a")
        (unchanged,) = firing(session, 2).effects.unchanged
        assert (unchanged.task, unchanged.reason) == ("t_x", "no instance was waiting for it")
        assert (
            "  changed nothing in t_x: no instance was waiting for it"
            in str(firing(session, 2)).splitlines()
        )

    @pytest.mark.parametrize(
        "directives",
        [
            {"after": ["a", "b"], "fresh": {"a": "PT1H"}},
            {"after": ["b"], "andEvery": "a", "debounce": {"quiet": "PT1H", "most": "PT2H"}},
        ],
    )
    def test_whose_place_a_later_one_took(self, directives: dict[str, Any]) -> None:
        session = a_task(**directives)
        fire_at(session, 0, "a")
        fire_at(session, 1, "a")
        fire_at(session, 2, "a")
        (unchanged,) = firing(session, 2).effects.unchanged
        assert unchanged.reason == "a later one has taken its place"
        assert firing(session, 3).effects.held_by == ("t_x#0",)
        assert firing(session, 1).effects.created == ("t_x#0",)

    def test_whose_place_no_later_one_took(self) -> None:
        session = a_task(after=["a"], andEvery="p")
        session.fire_all("a p a a p")
        (unchanged,) = firing(session, 3).effects.unchanged
        assert unchanged.reason == "no instance was waiting for it"
        assert firing(session, 4).effects.held_by == ("t_x#1",)

    def test_who_came_later(self) -> None:
        session = PureSession(t_y={"after": ["z"]})
        fire_at(session, 0, "a")
        session.move_on(5)
        session.configure(t_x={"after": ["a", "b"]})
        (unchanged,) = firing(session, 1).effects.unchanged
        assert (unchanged.task, unchanged.reason) == (
            "t_x",
            "it was configured later, or configured anew",
        )

    def test_what_nobody_hears(self) -> None:
        session = a_task(after=["a"])
        session.fire("odd")
        assert "  no task names it" in str(firing(session, 1)).splitlines()
        session.fire("a")
        assert "no task names it" not in str(firing(session, 2))

    def test_what_changes_nothing_is_heard_all_the_same(self) -> None:
        session = a_task(after=["a", "b"], when={"b": {"n": 1}})
        session.fire_all("a a b")
        assert "no task names it" not in str(firing(session, 2))
        assert "no task names it" not in str(firing(session, 3))
        session = a_task(andEvery="p", debounce={"quiet": "PT5S", "most": "PT1M"})
        session.fire_all("p p")
        assert (firing(session, 1).effects.created, firing(session, 1).effects.held_by) == (
            ("t_x#0",),
            (),
        )
        assert "no task names it" not in str(firing(session, 1))

    def test_outcomes_of_replays_belong_to_it(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.fail("t_x#0")
        session.replay("t_x#0")
        session.run("t_x#1")
        found = firing(session, 1).effects
        assert [(each.firing.seq, each.firing.cause) for each in found.further] == [
            (2, "t_x#0"),
            (3, "t_x#1"),
        ]
        assert found.scheduled == ("t_x#0",)

    def test_a_long_chain_is_cut_by_depth(self) -> None:
        length = effects.DEPTH + 5
        session = PureSession(
            is_checked=False,
            **{f"t_{n}": {"after": [f"t_{n - 1}" if n else "a"]} for n in range(length)},
        )
        session.fire("a")
        for n in range(length):
            session.run(f"t_{n}#0")
        found = firing(session, 1).effects
        for _ in range(effects.DEPTH):
            (found,) = found.further
        assert (found.further, found.left_out) == ((), 5)
        assert firing(session, 1).effects.left_out == 5
        assert "and 5 firings more that follow from it" in str(firing(session, 1))

    def test_a_broad_tree_is_cut_by_number(self) -> None:
        number = effects.FIRINGS + 7
        session = PureSession(
            is_checked=False, **{f"t_{n}": {"after": ["a"]} for n in range(number)}
        )
        session.fire("a")
        for n in range(number):
            session.run(f"t_{n}#0")
        found = firing(session, 1).effects
        assert (len(found.further), found.left_out) == (effects.FIRINGS, 7)
        assert len(found.scheduled) == number
        assert (
            f"  scheduled {listed([f't_{n}#0' for n in range(number)])}"
            in str(firing(session, 1)).splitlines()
        )

    def test_of_many_tasks_in_which_it_changed_nothing_there_is_a_number(self) -> None:
        when = {"a": {"n": 1}}
        session = PureSession(
            is_checked=False,
            **{f"t_{n}": {"after": ["a", "b"], "when": when} for n in range(12)},
            **{f"t_x{n}": {"after": ["a", "b"]} for n in range(13)},
        )
        session.fire_all("a a")
        lines = str(firing(session, 2)).splitlines()
        assert sum("filtered out for" in line for line in lines) == 10
        assert sum("changed nothing in" in line for line in lines) == 10
        assert "  and 5 tasks more in which it changed nothing" in lines


class TestJson:
    def test_the_form_of_an_instance(self) -> None:
        session = a_task(after=["a", "b"], within="PT1H", when={"b": {"n": 1}})
        session.fire_all("a b")
        ref = {"seq": 1, "names": ["a"], "at": "2026-11-21T12:00:00+00:00", "cause": None}
        held = {"name": "a", "firing": ref, "counts": True}
        part = {
            "kind": "trigger",
            "holds": True,
            "text": "a: firing 1, 2026-11-21T12:00:00Z",
            "note": "",
            "since": "2026-11-21T12:00:00+00:00",
            "names": ["a"],
            "have": 1,
            "needed": 1,
            "firings": [held],
            "due": None,
            "until": None,
            "parts": [],
        }
        note = "fired once, filtered out for t_x"
        missing = {**part, "holds": False, "text": "b", "note": note, "names": ["b"]}
        missing = {**missing, "have": 0, "firings": []}
        assert instance(session).to_json() == {
            "kind": "instance",
            "uid": "order:1",
            "name": "t_x#0",
            "task": "t_x",
            "run": "x",
            "using": None,
            "status": "unstarted",
            "created_at": "2026-11-21T12:00:00+00:00",
            "changed_at": "2026-11-21T12:00:00+00:00",
            "created_by": ref,
            "conditions": {
                "as_of": "2026-11-21T12:00:00+00:00",
                "verdict": "waits",
                "ready": {
                    **part,
                    "kind": "all",
                    "holds": False,
                    "text": "b",
                    "names": ["a", "b"],
                    "needed": 2,
                    "firings": [],
                    "parts": [part, missing],
                },
                "barred": None,
                "missing": ["b"],
                "next": {
                    "at": "2026-11-21T13:00:00+00:00",
                    "kind": "expires",
                    "text": "it expires if it still waits (within PT1H)",
                    "is_over": False,
                },
                "out_of_reach": None,
            },
            "decision": None,
            "held": [held],
            "attempt": 0,
            "retries": 0,
            "lineage": "t_x#0",
            "parent": None,
            "replayed_as": None,
            "failure": None,
            "not_before": None,
            "sends": 0,
            "refusals": 0,
            "hand_on_at": None,
            "is_forgotten": False,
            "lease_until": None,
            "is_overdue": False,
            "lost": [],
            "outcomes": [],
            "filtered": {
                "latest": [
                    {
                        "firing": {**ref, "seq": 2, "names": ["b"]},
                        "task": "t_x",
                        "reason": "n is not there",
                    }
                ],
                "more": 0,
            },
        }

    def test_the_form_of_a_decision(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        fail(session, "t_x#0")
        found = instance(session).to_json()
        ref = {"seq": 1, "names": ["a"], "at": "2026-11-21T12:00:00+00:00", "cause": None}
        assert found["decision"] == {
            "verb": "scheduled",
            "reason": None,
            "causes": [{"firing": ref, "verb": "scheduled"}],
            "is_complete": True,
            "otherwise": [],
        }
        assert found["failure"] == {"type": "builtins.ValueError", "message": "There is no name."}
        assert found["status"] == "failed"
        assert type(found["status"]) is str
        assert found["outcomes"] == [
            {
                "seq": 2,
                "names": ["t_x:failed", "t_x:ended"],
                "at": "2026-11-21T12:00:00+00:00",
                "cause": "t_x#0",
            }
        ]

    def test_the_form_of_a_session_and_a_task(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("odd")
        found = whole(session).to_json()
        ref = {"seq": 1, "names": ["odd"], "at": "2026-11-21T12:00:00+00:00", "cause": None}
        never = {
            "fired": 0,
            "filtered": 0,
            "latest": None,
            "source": None,
            "meant": None,
            "text": "never fired",
        }
        assert found == {
            "kind": "session",
            "uid": "order:1",
            "at": "2026-11-21T12:00:00+00:00",
            "firings": 1,
            "undecided": 0,
            "tasks": [
                {
                    "uid": "order:1",
                    "name": "t_x",
                    "at": "2026-11-21T12:00:00+00:00",
                    "instances": [],
                    "made_by": ["a", "b"],
                    "names": [{"name": "a", **never}, {"name": "b", **never}],
                    "filtered": {"latest": [], "more": 0},
                }
            ],
            "unheard": [{"name": "odd", "fired": 1, "latest": ref}],
            "phase": "open",
            "ending": None,
        }
        assert task(session).to_json() == {"kind": "task", **found["tasks"][0]}

    def test_the_form_of_a_firing(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire_all("a a")
        ref = {"seq": 2, "names": ["a"], "at": "2026-11-21T12:00:00+00:00", "cause": None}
        assert firing(session, 2).to_json() == {
            "kind": "firing",
            "uid": "order:1",
            "key": None,
            "kwargs": {},
            "causes": [],
            "is_complete": True,
            "effects": {
                "firing": ref,
                "created": [],
                "scheduled": [],
                "abandoned": [],
                "held_by": [],
                "filtered": [],
                "unchanged": [{"task": "t_x", "reason": "no instance was waiting for it"}],
                "further": [],
                "left_out": 0,
            },
            "by_session": False,
        }

    def test_everything_of_a_long_life_is_plain(self) -> None:
        session = TestEffects().session()
        text = json.dumps(whole(session).to_json())
        assert json.loads(text) == whole(session).to_json()
        assert json.loads(json.dumps(firing(session, 1).to_json()))["effects"]["further"]


class TestWords:
    def test_moments_are_in_utc(self) -> None:
        local = datetime(2026, 11, 21, 14, tzinfo=timezone(timedelta(hours=2)))
        assert moment(local) == "2026-11-21T12:00:00Z"
        assert moment(NOW + timedelta(microseconds=7890)) == "2026-11-21T12:00:00.007Z"

    def test_numbers_of_times(self) -> None:
        assert [often(n) for n in (1, 2, 3, 1000)] == ["once", "twice", "3 times", "1,000 times"]

    def test_lists_are_cut(self) -> None:
        assert listed(["a", "b"], 2) == "a, b"
        assert listed(["a", "b", "c"], 2) == "a, b and 1 more"

    def test_values_are_cut(self) -> None:
        assert shown("x" * 58) == "'" + "x" * 58 + "'"
        assert shown("x" * 59) == "'" + "x" * 58 + "…"

    def test_an_outline_is_indented(self) -> None:
        outline = Outline("a", (Outline("b", (Outline("c"),)), Outline("d")))
        assert outline.as_text() == "a\n  b\n    c\n  d"
