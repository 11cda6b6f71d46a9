"""What becomes of the instances of a task that is replaced: each row of the table in the docs."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.pure_session import NOW, PureSession, key_of
from triggers.configuration import parse
from triggers.engine.by_hand import Clone, Create
from triggers.engine.configuring import Configure
from triggers.engine.previewing import Foreseen, Preview
from triggers.engine.replacing import Carried
from triggers.exceptions import ConfigurationError, ReplacementRefused
from triggers.types import Status


def gets(session: PureSession, name: str) -> dict[str, int]:
    """Which firings give an instance its kwargs, by name."""
    instance = session.instance(name)
    config = session.state.plan.tasks[instance.task].config
    return {each: seq for each, seq in instance.taken.items() if config.passes_on(each)}


def foresee(session: PureSession, **tasks: Any) -> tuple[Carried, ...]:
    """What would become of the waiting instances of tasks that are replaced."""
    parsed = parse({name: {"run": "x", **each} for name, each in tasks.items()})
    with pytest.raises(Foreseen) as raised:
        session.do(Preview(configuration=parsed, manager="default"))
    return raised.value.foresight.carried


def refusal(session: PureSession, **tasks: Any) -> ReplacementRefused:
    before = copy.deepcopy(session.state)
    with pytest.raises(ReplacementRefused) as raised:
        session.configure(**tasks)
    assert session.state == before, "a refusal must not store anything"
    return raised.value


@pytest.mark.parametrize("order", [("t_a", "t_b"), ("t_b", "t_a")])
def test_replacing_two_at_once_keeps_what_one_has_told_the_other(order: tuple[str, str]) -> None:
    session = PureSession(
        t_a={"after": ["go", "x"], "unless": ["n"]},
        t_b={"after": ["b"], "unless": ["stop", "halt"]},
    )
    session.fire_all("stop b go")
    session.fail("t_b#0")
    new = {"t_a": {"after": ["go", "x"], "andEvery": "t_b:failed"}, "t_b": {"after": ["b"]}}
    session.configure(**{name: new[name] for name in order})
    assert dict(session.instance("t_b#0").told) == {"t_b:failed": ("t_a",)}
    session.fail(session.replay("t_b#0"))
    assert [name for name in session.statuses() if name.startswith("t_a")] == ["t_a#0"]


class TestNames:
    def test_a_name_that_is_taken_away_gives_up_what_is_held_of_it(self) -> None:
        session = PureSession(t_x={"after": ["a", "b", "c"]})
        session.fire_all("a b")
        session.configure(t_x={"after": ["b", "c"]})
        assert session.held("t_x#0") == {"b": (2,)}
        assert session.fire("c").scheduled == ("t_x#0",)
        assert gets(session, "t_x#0") == {"b": 2, "c": 3}

    def test_if_it_comes_again_its_latest_firing_counts_and_must_pass(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire("a", n=5)
        session.configure(t_x={"after": ["b"]})
        session.fire("a", n=1)
        session.configure(t_x={"after": ["a", "b"], "when": {"a": {"n": {"gte": 3}}}})
        assert session.held("t_x#0") == {}
        session.fire("a", n=4)
        assert session.held("t_x#0") == {"a": (3,)}

    def test_of_a_new_name_the_latest_firing_counts(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire_all("a n n")
        session.configure(t_x={"after": ["a", "b", "n", "never"]})
        assert session.held("t_x#0") == {"a": (1,), "n": (3,)}

    def test_what_holds_already_starts_at_once(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]}, t_y={"after": ["a", "b"]})
        session.fire_all("a n")
        result = session.configure(
            t_x={"after": ["a", "n"]}, t_y={"after": [{"atLeast": 1, "of": ["a", "b"]}]}
        )
        assert (result.created, result.scheduled) == ((), ("t_x#0", "t_y#0"))

    def test_a_name_that_moves_to_unless_has_fired_and_one_that_moves_back_gives_kwargs(
        self,
    ) -> None:
        session = PureSession(
            t_x={"after": ["a", "b"]}, t_y={"after": ["b", "c"], "unless": ["a", "u"]}
        )
        session.fire("a")
        result = session.configure(
            t_x={"after": ["b"], "unless": ["a"]}, t_y={"after": ["a", "b", "c"], "unless": ["u"]}
        )
        assert result.abandoned == ("t_x#0",)
        assert gets(session, "t_x#0") == {}
        assert session.held("t_y#0") == {"a": (1,)} == {"a": (gets(session, "t_y#0")["a"],)}

    def test_an_outcome_that_becomes_a_new_name_uses_up_its_lineage(self) -> None:
        session = PureSession(t_y={"after": ["y"]}, t_x={"after": ["a", "b"]})
        session.fire_all("a y")
        session.fail("t_y#0")
        session.configure(t_x={"after": [{"trigger": "t_y:failed", "times": 2}]})
        assert session.held("t_x#0") == {"t_y:failed": (3,)}
        replayed = session.replay("t_y#0")
        session.fail(replayed)
        assert session.held("t_x#0") == {"t_y:failed": (3,)}
        assert "taken before" in session.refused()["t_x"]

    def test_what_was_given_by_hand_stays_given(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.do(Create(task="t_x", given=("a",), kwargs='{"a": {"n": 1}}'))
        session.fire("a")
        session.configure(t_x={"after": ["b"]})
        for n in (7, 8):
            session.configure(t_x={"after": ["a", "b"], "when": {"a": {"n": n}}})
        assert session.held("t_x#0") == {"a": (0,)}


class TestCounts:
    def test_a_higher_number_goes_on_from_what_is_held(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire_all("a a a")
        session.configure(t_x={"after": [{"trigger": "a", "times": 3}]})
        assert session.held("t_x#0") == {"a": (1,)}
        session.fire("a")
        assert session.fire("a").scheduled == ("t_x#0",)

    def test_of_a_lower_number_the_first_count(self) -> None:
        session = PureSession(
            t_x={"after": ["b", {"trigger": "a", "times": 5}]},
            t_y={"after": ["b", {"trigger": "a", "times": 5}]},
        )
        session.fire_all("a a a a")
        session.configure(
            t_x={"after": ["b", {"trigger": "a", "times": 2}]}, t_y={"after": ["a", "b"]}
        )
        assert session.held("t_x#0") == {"a": (1, 2)}
        assert session.held("t_y#0") == {"a": (1,)}

    def test_of_a_lower_number_of_fresh_ones_the_newest_count(self) -> None:
        fresh = {"fresh": {"a": "PT1H"}}
        session = PureSession(t_x={"after": ["b", {"trigger": "a", "times": 5}], **fresh})
        session.fire_all("a a a a")
        session.configure(t_x={"after": ["b", {"trigger": "a", "times": 2}], **fresh})
        assert session.held("t_x#0") == {"a": (3, 4)}
        session.configure(t_x={"after": ["b", "a"], **fresh})
        assert session.held("t_x#0") == {"a": (4,)}

    def test_where_a_firing_says_how_many_all_that_are_held_stay(self) -> None:
        counted = {"after": ["b", {"trigger": "a", "times": {"from": "c.n"}}]}
        session = PureSession(t_x={"after": ["b", {"trigger": "a", "times": 5}]})
        session.fire_all("a a a")
        session.configure(t_x=counted)
        session.fire("c", n=2)
        assert session.held("t_x#0") == {"a": (1, 2, 3), "c": (4,)}
        assert session.fire("b").scheduled == ("t_x#0",)


class TestFilters:
    def test_what_still_passes_stays(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire("a", n=5)
        session.configure(t_x={"after": ["a", "b"], "when": {"a": {"n": {"gte": 3}}}})
        assert session.held("t_x#0") == {"a": (1,)}

    def test_what_does_not_pass_any_more_is_refused(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"], "andEvery": "p"})
        session.fire("p")
        session.fire("a", n=1)
        session.fire("p")
        stricter = {"after": ["a", "b"], "andEvery": "p", "when": {"a": {"n": {"gte": 3}}}}
        refused = refusal(session, t_x=stricter)
        (_task, instances, reason) = refused.refusals[0]
        told = "t_x#0, t_x#1 took firing 2 of 'a', which does not pass now (n gte 3, got 1)."
        assert (instances, reason) == (("t_x#0", "t_x#1"), told)
        assert refused.instances == ("t_x#0", "t_x#1")

    def test_every_firing_that_is_counted_must_pass(self) -> None:
        counted = {"after": [{"trigger": "a", "times": 3}]}
        session = PureSession(t_x={**counted, "when": {"a": {"n": {"exists": True}}}})
        session.fire("a", n=5)
        session.fire("a", n=1)
        refused = refusal(session, t_x={**counted, "when": {"a": {"n": {"gte": 3}}}})
        assert "t_x#0 took firing 2 of 'a'" in str(refused)

    def test_the_latest_that_passes_now_counts_where_none_did(self) -> None:
        strict = {"after": ["a", "b"], "when": {"a": {"n": {"gte": 9}}}}
        session = PureSession(t_x=strict, t_y=strict)
        session.fire("b")
        session.fire("a", n=1)
        session.fire("a", n=5)
        result = session.configure(
            t_x={"after": ["a", "b"], "when": {"a": {"n": {"gte": 3}}}},
            t_y={"after": ["a", "b", "c"]},
        )
        assert result.scheduled == ("t_x#0",)
        assert session.held("t_x#0") == {"b": (1,), "a": (3,)} == session.held("t_y#0")

    def test_a_filter_that_stays_is_not_asked_again(self) -> None:
        kept = {"when": {"a": {"n": {"gte": 3}}}}
        session = PureSession(t_x={"after": ["a", "b"], **kept})
        session.fire("a", n=5)
        session.fire("a", n=1)
        asked = len(session.verdicts.answers)
        session.configure(t_x={"after": ["a", "c"], **kept})
        assert len(session.verdicts.answers) == asked
        assert session.held("t_x#0") == {"a": (1,)}


class TestTime:
    def test_fresh_takes_the_newest(self) -> None:
        counted = {"trigger": "c", "times": 2}
        session = PureSession(t_x={"after": ["a", "b", counted]})
        session.fire_all("a c")
        session.move_on(10)
        session.fire("a")
        both = {"a": "PT5S", "c": "PT5S"}
        session.configure(t_x={"after": ["a", "b", counted], "fresh": both})
        assert session.held("t_x#0") == {"a": (3,), "c": (2,)}
        session.fire_all("b c")
        assert session.fire("c").scheduled == ("t_x#0",)
        assert session.held("t_x#0")["c"] == (5, 6)

    def test_fresh_takes_the_newest_that_has_passed(self) -> None:
        kept = {"when": {"a": {"n": {"gte": 3}}}}
        session = PureSession(t_x={"after": ["a", "b"], **kept})
        for n in (3, 4, 1):
            session.fire("a", n=n)
        session.configure(t_x={"after": ["a", "b"], **kept, "fresh": {"a": "PT5S"}})
        assert session.held("t_x#0") == {"a": (2,)}

    def test_an_outcome_that_fresh_takes_uses_up_its_lineage(self) -> None:
        session = PureSession(t_y={"andEvery": "y"}, t_x={"after": ["t_y:failed", "b"]})
        session.fire_all("y y")
        session.fail("t_y#0")
        session.fail("t_y#1")
        fresh = {"after": ["t_y:failed", "b"], "fresh": {"t_y:failed": "PT5S"}}
        session.configure(t_x=fresh)
        assert session.held("t_x#0") == {"t_y:failed": (4,)}
        told = {"t_y:failed": ("t_x",)}
        assert [session.instance(f"t_y#{n}").told for n in (0, 1)] == [told, told]

    def test_what_fresh_takes_is_said(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire_all("a a")
        (carried,) = foresee(session, t_x={"after": ["a", "b"], "fresh": {"a": "PT5S"}})
        assert (carried.gained, carried.lost) == ({"a": 2}, {"a": (1,)})

    def test_a_deadline_counts_from_the_beginning_of_the_instance(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire("a")
        session.move_on(10)
        session.configure(t_x={"after": ["a", "b"], "within": "PT20S"})
        assert session.instance("t_x#0").timer_at == NOW + timedelta(seconds=20)
        result = session.configure(t_x={"after": ["a", "b"], "within": "PT5S"})
        assert result.abandoned == ("t_x#0",)
        assert session.fired()[-1] == ("t_x:expired", "t_x:abandoned", "t_x:ended")

    def test_what_is_due_comes_first(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"], "within": "PT5S"})
        session.fire("a")
        session.move_on(10)
        result = session.configure(t_x={"after": ["a"]})
        assert (result.scheduled, result.abandoned) == ((), ())
        assert session.statuses() == {"t_x#0": "abandoned"}

    def test_a_pause_of_another_length_counts_from_the_last_that_was_taken(self) -> None:
        session = PureSession(t_x={"after": [], "andEvery": "p", "atMostEvery": "PT10S"})
        session.fire("p")
        session.move_on(5)
        assert session.fire("p").created == ()
        session.configure(t_x={"after": [], "andEvery": "p", "atMostEvery": "PT6S"})
        session.move_on(2)
        assert session.fire("p").created == ("t_x#1",)

    @pytest.mark.parametrize("quiet", ["PT2S", None])
    def test_a_burst_goes_on_under_the_new_lengths_or_is_over(self, quiet: str | None) -> None:
        debounce = {"debounce": {"quiet": "PT9S", "most": "PT9S"}}
        session = PureSession(t_x={"after": [], "andEvery": "p", **debounce})
        session.fire_all("p p")
        shorter = {"debounce": {"quiet": quiet, "most": quiet}} if quiet else {}
        result = session.configure(t_x={"after": [], "andEvery": "p", **shorter})
        if quiet:
            assert session.statuses() == {"t_x#0": "unstarted"}
            session.tick(2)
        else:
            assert result.scheduled == ("t_x#0",)
        assert session.statuses() == {"t_x#0": "scheduled"}
        assert session.held("t_x#0") == {"p": (2,)}


class TestAndEvery:
    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("p", None, "told apart by 'p'; without 'andEvery' the task runs once, and all of"),
            ("p", "q", "told apart by 'p'; with 'q' in 'andEvery', all of them would take its"),
        ],
    )
    def test_several_that_wait_cannot_be_told_apart_by_another_name(
        self, old: str, new: str | None, reason: str
    ) -> None:
        session = PureSession(t_x={"after": ["a"], "andEvery": old})
        session.fire_all("p p")
        other = {"andEvery": new} if new else {}
        refused = refusal(session, t_x={"after": ["a", "p"], **other})
        assert (refused.tasks, refused.instances) == (("t_x",), ("t_x#0", "t_x#1"))
        assert f"t_x: t_x#0, t_x#1 wait, {reason}" in str(refused)

    def test_nor_by_one_where_there_was_none(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire("a")
        session.do(Clone(key=key_of("t_x#0")))
        refused = refusal(session, t_x={"after": ["a"], "andEvery": "b"})
        assert "t_x#0, t_x#1 wait; with 'b' in 'andEvery', all of them would" in str(refused)

    def test_nor_by_one_of_which_the_newest_counts(self) -> None:
        session = PureSession(t_x={"after": ["a"], "andEvery": "p"})
        session.fire_all("p p")
        fresh = {"after": ["a"], "andEvery": "p", "fresh": {"p": "PT1H"}}
        assert "with 'p' in 'fresh', all of them" in str(refusal(session, t_x=fresh))

    def test_one_that_waits_can_be_nothing_else(self) -> None:
        session = PureSession(t_x={"after": ["a"], "andEvery": "p"})
        session.fire_all("p a p a q")
        assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "scheduled"}
        session.configure(t_x={"after": ["b"], "andEvery": "p"})
        session.fire("p")
        session.configure(t_x={"after": ["b"], "andEvery": "q"})
        assert session.held("t_x#2") == {"q": (5,)}
        session.configure(t_x={"after": ["b", "q"]})
        assert session.fire("b").scheduled == ("t_x#2",)

    def test_one_that_waits_for_fresh_ones_keeps_its_own(self) -> None:
        session = PureSession(t_x={"after": ["a"], "andEvery": "p"})
        session.fire_all("p p")
        session.set_status("t_x#1", Status.SCHEDULED)
        session.configure(t_x={"after": ["a"], "andEvery": "p", "fresh": {"p": "PT1H"}})
        assert session.held("t_x#0") == {"p": (1,)}

    def test_several_stay_apart_where_it_stays(self) -> None:
        session = PureSession(t_x={"after": ["a"], "andEvery": "p"})
        session.fire_all("p p b")
        session.configure(t_x={"after": ["b"], "andEvery": "p"})
        assert [session.held(f"t_x#{n}") for n in (0, 1)] == [
            {"p": (1,), "b": (3,)},
            {"p": (2,), "b": (3,)},
        ]

    def test_many_that_are_in_the_way_are_named_in_part(self) -> None:
        session = PureSession(t_x={"after": ["a"], "andEvery": "p"}, is_checked=False)
        for _ in range(12):
            session.fire("p")
        refused = refusal(session, t_x={"after": ["a"]})
        assert "t_x#8, t_x#9 and 2 more wait" in str(refused)
        assert len(refused.instances) == 12


class TestOthers:
    def test_what_says_nothing_about_waiting_touches_no_instance(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire("a")
        session.do(Clone(key=key_of("t_x#0")))
        transition = session.do(
            Configure(
                configuration=PureSession(
                    t_x={"after": ["a", "b"], "withParams": {"a": {"m": 1}}, "using": "r", "z": 1}
                ).state.plan.configuration,
                manager="default",
            )
        )
        assert transition.configured
        assert transition.instances == {}
        assert session.fire("b").scheduled == ("t_x#0", "t_x#1")

    def test_a_complete_copy_starts_only_under_other_conditions(self) -> None:
        session = PureSession(t_x={"after": ["a"]})
        session.fire("a")
        session.do(Clone(key=key_of("t_x#0")))
        session.configure(t_x={"after": ["a"], "withParams": {"a": {"m": 1}}})
        assert session.statuses()["t_x#1"] == "unstarted"
        assert session.configure(t_x={"after": ["a"], "unless": ["u"]}).scheduled == ("t_x#1",)

    def test_what_has_begun_keeps_what_it_has_begun_with(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"], "unless": ["u", "v"]})
        session.fire_all("u a b")
        held = session.held("t_x#0")
        for unless in (["u", "w"], ["w"]):
            session.configure(t_x={"after": ["b"], "unless": unless})
            assert gets(session, "t_x#0") == {"a": 2, "b": 3}
        session.configure(t_x={"after": ["b", "u"]})
        assert gets(session, "t_x#0") == {"a": 2, "b": 3}
        assert held == {"u": (1,), "a": (2,), "b": (3,)}
        session.run("t_x#0")
        session.configure(t_x={"after": ["c"]})
        assert gets(session, "t_x#0") == {"a": 2, "b": 3}

    @pytest.mark.parametrize("status", ["scheduled", "running", "failed"])
    def test_what_has_begun_is_not_deprived_of_its_kwargs(self, status: str) -> None:
        session = PureSession(t_x={"after": ["a", "b"]})
        session.fire_all("a b")
        if status == "running":
            session.start("t_x#0")
        elif status == "failed":
            session.fail("t_x#0")
        refused = refusal(session, t_x={"after": ["b"], "unless": ["a", "u"]})
        assert f"t_x#0 ({status}) took kwargs of a; those of 'unless' reach no task" in str(refused)
        if status == "scheduled":
            session.start("t_x#0")
        if status == "failed":
            session.skip_failed("t_x#0")
        else:
            session.finish("t_x#0")
        session.configure(t_x={"after": ["b"], "unless": ["a", "u"]})

    @pytest.mark.parametrize("status", ["scheduled", "running", "failed"])
    def test_what_has_begun_is_not_deprived_by_a_detour_either(self, status: str) -> None:
        session = PureSession(t_x={"after": ["a"]})
        session.fire("a", n=1)
        if status == "running":
            session.start("t_x#0")
        elif status == "failed":
            session.fail("t_x#0")
        session.configure(t_x={"after": ["c"]})
        assert gets(session, "t_x#0") == {"a": 1}
        refused = refusal(session, t_x={"after": ["c"], "unless": ["a"]})
        assert f"t_x#0 ({status}) took kwargs of a; those of 'unless' reach no task" in str(refused)
        assert gets(session, "t_x#0") == {"a": 1}

    def test_kwargs_given_by_hand_reach_the_task_in_any_case(self) -> None:
        session = PureSession(t_x={"after": ["a"]})
        session.do(Create(task="t_x", given=("a",), kwargs='{"a": {"n": 1}}'))
        assert session.statuses() == {"t_x#0": "scheduled"}
        session.configure(t_x={"after": ["b"], "unless": ["a"]})

    def test_all_tasks_that_cannot_be_replaced_are_named_at_once(self) -> None:
        session = PureSession(t_x={"after": ["a"], "andEvery": "p"}, t_y={"after": ["a", "b"]})
        session.fire_all("p p")
        session.fire("a", n=1)
        session.fire_all("p p")
        session.configure(t_x={"after": ["z"], "andEvery": "p"})
        session.fire_all("p p")
        refused = refusal(
            session,
            t_x={"after": ["z"]},
            t_y={"after": ["a", "b"], "when": {"a": {"n": 2}}},
            t_z={"after": ["a"]},
        )
        assert refused.tasks == ("t_x", "t_y")
        assert dict(refused.problems).keys() == {"t_x", "t_y"}
        assert isinstance(refused, ConfigurationError)
        assert "give the new task a name of its own" in str(refused)
        again = pickle.loads(pickle.dumps(refused))  # noqa: S301
        assert (str(again), again.refusals) == (str(refused), refused.refusals)

    def test_a_task_without_instances_takes_history_as_if_it_were_new(self) -> None:
        session = PureSession(t_x={"after": ["a", "b"]}, t_y={"after": ["z"]})
        session.fire("n", k=1)
        session.fire("n", k=2)
        session.configure(t_x={"after": ["n", "never"]}, apply_history=True)
        assert session.held("t_x#0") == {"n": (1,)}
