"""The engine, row by row of the tables in ``docs/reference/language.rst``.

Conditions, which firings pass, what an instance takes, and order; what is about outcomes and about
time is in modules of its own. The file is long because the tables are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from itertools import permutations
from typing import Any

import pytest

from tests.unit.pure_session import PureSession
from triggers.conditions import predicate
from triggers.configuration import parse
from triggers.engine.by_hand import Create, SetStatus
from triggers.exceptions import ConfigurationError
from triggers.types import BY_HAND, Status


@predicate("unit-is-even")
def is_even(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs["n"] % 2 == 0)


def times(trigger: str, number: Any) -> dict[str, Any]:
    return {"trigger": trigger, "times": number}


# -- conditions ---------------------------------------------------------------------------------

# Each with firings of which the last one completes it.
CONDITIONS: list[tuple[Any, str]] = [
    (["a"], "a"),
    (["a", "b"], "b b a"),
    ({"all": ["a", "b"]}, "a b"),
    (["a", ["b", {"all": ["c"]}]], "c a b"),
    ({"any": ["a", "b"]}, "b"),
    ({"any": [["a", "b"], ["c", "d"]]}, "a d c"),
    (["c", {"any": ["a", "b"]}], "a c"),
    ({"atLeast": 1, "of": ["a", "b"]}, "b"),
    ({"atLeast": 2, "of": ["a", "b", "c"]}, "c c a"),
    ({"atLeast": 3, "of": ["a", "b", "c"]}, "c b a"),
    ({"atLeast": 2, "of": ["a", ["b", "c"], {"any": ["d", "e"]}]}, "a b d"),
    ({"atLeast": 2, "of": ["a", "a", "b"]}, "a"),
    ({"trigger": "a"}, "a"),
    (times("a", 1), "a"),
    (times("a", 3), "a a a"),
    ([times("a", 2), "b"], "a b a"),
    ({"any": [times("a", 3), ["b", times("a", 2)]]}, "a a b"),
    ([times("a", 2), times("b", 2)], "a b b a"),
]


@pytest.mark.parametrize(("condition", "triggers"), CONDITIONS)
def test_after_holds_with_the_firing_that_completes_it(condition: Any, triggers: str) -> None:
    session = PureSession(t_x={"after": condition})
    *before, last = triggers.split()
    session.fire_all(" ".join(before))
    assert session.statuses() in ({}, {"t_x#0": "unstarted"})
    assert session.fire(last).scheduled == ("t_x#0",)


@pytest.mark.parametrize(("condition", "triggers"), CONDITIONS)
def test_unless_holds_with_the_firing_that_completes_it(condition: Any, triggers: str) -> None:
    session = PureSession(t_x={"after": ["never"], "unless": condition})
    *before, last = triggers.split()
    session.fire_all(" ".join(before))
    assert session.statuses() in ({}, {"t_x#0": "unstarted"})
    assert session.fire(last).abandoned == ("t_x#0",)
    assert session.instance("t_x#0").metadata == {"reason": "unless"}


@pytest.mark.parametrize(("condition", "triggers"), CONDITIONS)
def test_unless_wins_where_after_becomes_true_by_the_same_firing(
    condition: Any, triggers: str
) -> None:
    session = PureSession(t_x={"after": condition, "unless": condition})
    session.fire_all(triggers)
    assert session.statuses() == {"t_x#0": "abandoned"}


def test_an_empty_unless_never_holds_and_an_absent_after_always_does() -> None:
    session = PureSession(t_x={"andEvery": "p", "unless": []}, t_y={"after": [], "unless": ["u"]})
    session.fire("p")
    assert session.statuses() == {"t_x#0": "scheduled"}
    session.fire("u")
    assert session.statuses() == {"t_x#0": "scheduled", "t_y#0": "abandoned"}


def test_an_instance_is_ready_once_it_holds_its_and_every_trigger_too() -> None:
    session = PureSession(t_x={"after": {"any": ["a", "b"]}, "andEvery": "p"})
    session.fire_all("a b")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire_all("p p")
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "scheduled"}
    assert session.held("t_x#1") == {"a": (1,), "b": (2,), "p": (4,)}


def test_any_starts_with_what_has_arrived() -> None:
    session = PureSession(t_x={"after": ["c", {"any": ["a", "b"]}]})
    session.fire_all("b c a")
    assert session.held("t_x#0") == {"b": (1,), "c": (2,)}


def test_conditions_nest_freely() -> None:
    deep: Any = "a"
    for _level in range(15):
        deep = {"any": [{"all": [deep, "b"]}, "never"]}
    session = PureSession(t_x={"after": deep})
    session.fire_all("b a")
    assert session.statuses() == {"t_x#0": "scheduled"}


@pytest.mark.parametrize("empty", [{"all": []}, {"any": []}, {"atLeast": 1, "of": []}, ["a", []]])
def test_a_group_without_members_is_refused(empty: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"t_x\.after"):
        parse({"t_x": {"run": "x", "after": empty}})


# -- as often as another firing says ------------------------------------------------------------

AS_OFTEN = times("a", {"from": "b.in.all"})


def test_as_many_firings_are_needed_as_the_value_says() -> None:
    session = PureSession(t_x={"after": AS_OFTEN})
    session.fire("a")
    session.fire("b", **{"in": {"all": 3}})
    session.fire("a")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("a")
    assert session.statuses() == {"t_x#0": "scheduled"}
    assert session.held("t_x#0") == {"a": (1, 3, 4), "b": (2,)}


def test_a_value_of_zero_holds_at_once() -> None:
    session = PureSession(t_x={"after": AS_OFTEN})
    assert session.fire("b", **{"in": {"all": 0}}).scheduled == ("t_x#0",)


@pytest.mark.parametrize("value", [-1, True, 2.0, "2", None, [2], {"all": 1}])
def test_another_value_never_holds(value: Any) -> None:
    session = PureSession(t_x={"after": AS_OFTEN})
    session.fire("b", **{"in": {"all": value}})
    session.fire_all("a a a b a")
    assert session.statuses() == {"t_x#0": "unstarted"}


def test_a_path_that_leads_nowhere_never_holds() -> None:
    session = PureSession(t_x={"after": AS_OFTEN})
    session.fire("b", all=1)
    session.fire_all("a a")
    assert session.statuses() == {"t_x#0": "unstarted"}


def test_as_long_as_the_number_is_not_known_everything_is_taken() -> None:
    session = PureSession(t_x={"after": AS_OFTEN})
    session.fire_all("a a a")
    session.fire("b", **{"in": {"all": 2}})
    assert session.held("t_x#0")["a"] == (1, 2, 3)


def test_no_more_is_taken_than_the_number_says() -> None:
    session = PureSession(t_x={"after": [AS_OFTEN, "c"]})
    session.fire("b", **{"in": {"all": 2}})
    session.fire_all("a a a c")
    assert session.held("t_x#0")["a"] == (2, 3)


def test_a_name_may_have_a_number_of_its_own_and_one_from_a_firing() -> None:
    session = PureSession(t_x={"after": [AS_OFTEN, times("a", 3), "c"], "unless": times("a", 9)})
    session.fire("b", **{"in": {"all": 1}})
    session.fire_all("a a c")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("a")
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_the_trigger_of_from_counts_for_the_task() -> None:
    session = PureSession(t_x={"after": AS_OFTEN})
    assert session.fire("b").created == ("t_x#0",)
    assert session.state.plan.tasks["t_x"].config.after == {"a", "b"}


@pytest.mark.parametrize(("others", "trigger"), [([], "b"), (["b.in"], "b.in"), (["b"], "b")])
def test_the_trigger_of_from_is_the_longest_beginning_that_is_named_elsewhere(
    others: list[str], trigger: str
) -> None:
    session = PureSession(t_x={"after": [AS_OFTEN, *others]})
    session.fire("a")
    session.fire("b", **{"in": {"all": 1 if trigger == "b" else 7}})
    session.fire("b.in", all=1)
    assert session.statuses() == {"t_x#0": "scheduled"}
    expected = {"b": (2,), "b.in": (3,)} if others == ["b.in"] else {"b": (2,)}
    assert session.held("t_x#0") == {"a": (1,)} | {
        name: seqs for name, seqs in expected.items() if name == trigger
    }


def test_a_number_may_be_given_by_hand() -> None:
    session = PureSession(t_x={"after": AS_OFTEN})
    made = session.do(Create(task="t_x", kwargs='{"b":{"in":{"all":1}}}', given=("b",))).outcome
    assert (made.status, made.taken) == (Status.UNSTARTED, {"b": BY_HAND})
    session.fire("a")
    assert session.statuses()["t_x#0"] == "scheduled"


# -- settled ------------------------------------------------------------------------------------

FAN_OUT: dict[str, Any] = {
    "t_part": {"andEvery": "part"},
    "t_join": {"after": ["closed", {"settled": "t_part"}]},
}


def test_settled_needs_a_lineage() -> None:
    session = PureSession(**FAN_OUT)
    session.fire("closed")
    assert session.statuses() == {"t_join#0": "unstarted"}
    session.fire("part")
    session.run("t_part#0")
    assert session.statuses() == {"t_part#0": "finished", "t_join#0": "scheduled"}


def test_settled_is_asked_also_when_nothing_was_settled_just_now() -> None:
    session = PureSession(**FAN_OUT)
    session.fire("part")
    session.run("t_part#0")
    assert session.fire("closed").scheduled == ("t_join#0",)


@pytest.mark.parametrize("status", ["unstarted", "scheduled", "running", "failed"])
def test_an_instance_is_unsettled_while_it_is(status: str) -> None:
    session = PureSession(
        t_part={"after": ["a", "b"]}, t_join={"after": [{"settled": "t_part"}, "c"]}
    )
    session.fire("a")
    if status != "unstarted":
        session.fire("b")
    if status == "running":
        session.start("t_part#0")
    if status == "failed":
        session.fail("t_part#0")
    assert session.statuses() == {"t_part#0": status}
    session.fire("c")
    assert session.statuses()["t_join#0"] == "unstarted"


@pytest.mark.parametrize("status", ["finished", "skipped", "abandoned"])
def test_an_instance_is_settled_once_it_is(status: str) -> None:
    session = PureSession(
        t_part={"after": ["a", "b"], "unless": ["u"]},
        t_join={"after": [{"settled": "t_part"}, "c"]},
    )
    session.fire_all("c a")
    if status == "abandoned":
        session.fire("u")
    else:
        session.fire("b")
    if status == "finished":
        session.run("t_part#0")
    if status == "skipped":
        session.skip("t_part#0")
    assert session.statuses() == {"t_part#0": status, "t_join#0": "scheduled"}


def test_a_lineage_is_as_settled_as_its_latest_instance() -> None:
    session = PureSession(**FAN_OUT)
    session.fire_all("closed part")
    session.retry("t_part#0")
    session.fail("t_part#1")
    session.replay("t_part#1")
    assert session.statuses()["t_join#0"] == "unstarted"
    session.run("t_part#2")
    assert session.statuses() == {
        "t_part#0": "replayed",
        "t_part#1": "replayed",
        "t_part#2": "finished",
        "t_join#0": "scheduled",
    }


def test_settled_waits_for_all_lineages() -> None:
    session = PureSession(**FAN_OUT)
    session.fire_all("closed part part part")
    session.run("t_part#2")
    session.run("t_part#0")
    assert session.statuses()["t_join#0"] == "unstarted"
    session.run("t_part#1")
    assert session.statuses()["t_join#0"] == "scheduled"


def test_settled_names_no_trigger_and_brings_no_kwargs() -> None:
    session = PureSession(**FAN_OUT)
    assert session.state.plan.tasks["t_join"].config.after == {"closed"}
    session.fire("part")
    session.run("t_part#0", n=1)
    assert "t_join#0" not in session.statuses(), "a cascade of t_part is no firing for t_join"
    session.fire("closed")
    assert session.held("t_join#0") == {"closed": (3,)}


def test_settled_is_asked_only_when_no_cascade_is_left_to_decide() -> None:
    session = PureSession(
        t_join={"after": ["a", {"settled": "t_x"}], "unless": ["t_z:abandoned"]},
        t_x={"after": ["a"]},
        t_y={"after": ["never"], "unless": ["t_x", "a"]},
        t_z={"after": ["never"], "unless": ["t_y:abandoned"]},
    )
    session.fire("a")
    session.run("t_x#0")
    assert session.statuses()["t_join#0"] == "abandoned"


def test_a_cascade_that_begins_a_further_lineage_comes_before_settled() -> None:
    session = PureSession(
        t_join={"after": [times("m", 2), {"settled": "t_part"}]},
        t_more={"after": ["never"], "andEvery": "m", "unless": ["u"]},
        t_part={"andEvery": "t_more:abandoned"},
    )
    session.fire_all("m u")
    session.run("t_part#0")
    session.fire("m")
    assert session.statuses()["t_part#1"] == "scheduled"
    assert session.statuses()["t_join#0"] == "unstarted"
    session.run("t_part#1")
    assert session.statuses()["t_join#0"] == "scheduled"


def test_what_settled_decides_may_settle_more() -> None:
    session = PureSession(
        t_c={"after": ["a", {"settled": "t_b"}]},
        t_b={"after": ["never"], "unless": ["a", {"settled": "t_a"}]},
        t_a={"after": ["a"]},
    )
    session.fire("a")
    assert session.statuses() == {"t_c#0": "unstarted", "t_b#0": "unstarted", "t_a#0": "scheduled"}
    session.run("t_a#0")
    assert session.statuses() == {"t_c#0": "scheduled", "t_b#0": "abandoned", "t_a#0": "finished"}


def test_what_follows_from_one_that_is_asked_is_decided_before_the_next_is_asked() -> None:
    session = PureSession(
        t_first={"after": ["a", "never"], "unless": [{"settled": "t_part"}, "a"]},
        t_part={"andEvery": "a"},
        t_second={"after": ["a", {"settled": "t_part"}], "unless": ["t_first:abandoned"]},
    )
    session.fire("a")
    session.run("t_part#0")
    assert session.statuses()["t_first#0"] == "abandoned"
    assert session.statuses()["t_second#0"] == "abandoned"


@pytest.mark.parametrize("last", ["a", "t_part"])
def test_unless_wins_also_where_it_can_hold_only_at_rest(last: str) -> None:
    session = PureSession(
        t_part={"andEvery": "part"}, t_x={"after": [last], "unless": [{"settled": "t_part"}]}
    )
    session.fire("part")
    session.run("t_part#0")
    session.fire("a")
    assert session.statuses()["t_x#0"] == "abandoned"


def test_a_status_changed_by_hand_settles_too() -> None:
    session = PureSession(**FAN_OUT)
    session.fire_all("part closed")
    session.start("t_part#0")
    session.do(SetStatus(key=("t_part", 0), status=Status.FINISHED))
    assert session.statuses()["t_join#0"] == "scheduled"


def test_a_task_may_be_watched_only_once_somebody_asks_for_it() -> None:
    session = PureSession(t_part={"andEvery": "part"})
    session.fire_all("part part")
    session.run("t_part#0")
    session.configure(t_join={"after": ["closed", {"settled": "t_part"}]})
    session.fire("closed")
    assert session.statuses()["t_join#0"] == "unstarted"
    session.run("t_part#1")
    assert session.statuses()["t_join#0"] == "scheduled"


def test_a_waiting_instance_may_begin_to_ask_for_it() -> None:
    session = PureSession(t_part={"andEvery": "part"}, t_join={"after": ["closed", "never"]})
    session.fire_all("part part closed")
    session.run("t_part#0")
    session.configure(t_join={"after": ["closed", {"settled": "t_part"}]})
    assert session.statuses()["t_join#0"] == "unstarted"
    session.run("t_part#1")
    assert session.statuses()["t_join#0"] == "scheduled"


def test_what_time_decides_settles_too_even_while_it_begins_to_be_asked() -> None:
    session = PureSession(t_x={"after": ["a", "b"], "within": "PT10S"}, t_y={"after": ["a", "b"]})
    session.fire("a")
    session.move_on(10)
    session.configure(t_y={"after": ["a", {"settled": "t_x"}]})
    assert session.statuses() == {"t_x#0": "abandoned", "t_y#0": "scheduled"}


# -- which firings pass -------------------------------------------------------------------------

# What "when" says of "a"; kwargs that pass, kwargs that do not.
FILTERS: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    ({"n": 3}, {"n": 3}, {"n": 4}),
    ({"n": 3}, {"n": 3.0}, {"n": "3"}),
    ({"n": 1}, {"n": 1}, {"n": True}),
    ({"n": None}, {"n": None}, {"n": 0}),
    ({"n": [1, 2]}, {"n": [1, 2]}, {"n": [2, 1]}),
    ({"n": 1, "m": 2}, {"n": 1, "m": 2}, {"n": 1, "m": 1}),
    ({"n": {"eq": {"k": 1}}}, {"n": {"k": 1}}, {"n": {"k": 2}}),
    ({"n": {"ne": 1}}, {"n": 2}, {"n": 1}),
    ({"n": {"lt": 3}}, {"n": 2}, {"n": 3}),
    ({"n": {"lte": 3}}, {"n": 3}, {"n": 4}),
    ({"n": {"gt": 3}}, {"n": 4}, {"n": 3}),
    ({"n": {"gte": 3, "lt": 9}}, {"n": 3}, {"n": 9}),
    ({"n": {"gte": 3}}, {"n": 3}, {"n": "4"}),
    ({"n": {"in": ["web", "app"]}}, {"n": "app"}, {"n": "ap"}),
    ({"n": {"contains": 2}}, {"n": [1, 2]}, {"n": [12]}),
    ({"n": {"contains": "ill"}}, {"n": "village"}, {"n": ["village"]}),
    ({"n": {"contains": "k"}}, {"n": {"k": 1}}, {"n": {"l": "k"}}),
    ({"n": {"exists": True}}, {"n": None}, {"m": 1}),
    ({"n": {"exists": False}}, {"m": 1}, {"n": None}),
    ({"n": {"matches": "^v.*e$"}}, {"n": "village"}, {"n": "villages"}),
    ({"n": {"matches": "l+"}}, {"n": "village"}, {"n": 11}),
    ({"n": {"ne": 1}}, {"n": None}, {"m": 2}),
    ({"p.n": 1}, {"p": {"n": 1}}, {"p": {"m": {"n": 1}}}),
    ({"p.n": 1}, {"p": {"n": 2}, "p.n": 1}, {"p": {"n": 1}, "p.n": 2}),
    ({"p.0.n": 1}, {"p": [{"n": 1}]}, {"p": [{"n": 2}, {"n": 1}]}),
    ({"n": {"lt": "2026-03-01"}}, {"n": date(2026, 2, 9)}, {"n": date(2026, 3, 1)}),
    ("unit-is-even", {"n": 2}, {"n": 3}),
    (["unit-is-even", {"n": {"gt": 2}}], {"n": 4}, {"n": 2}),
    ([{"n": {"gt": 2}}, ["unit-is-even"]], {"n": 4}, {"n": 5}),
]


@pytest.mark.parametrize(("raw", "passing", "other"), FILTERS)
def test_a_firing_passes_if_every_test_does(
    raw: Any, passing: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    session = PureSession(t_x={"andEvery": "a", "when": {"a": raw}})
    assert session.fire("a", **other).created == ()
    assert list(session.refused()) == ["t_x"]
    assert session.fire("a", **passing).scheduled == ("t_x#0",)
    assert session.refused() == {}


def test_a_firing_that_does_not_pass_is_taken_by_no_instance() -> None:
    session = PureSession(t_x={"after": ["a", "b"], "when": {"a": {"n": 2}}})
    session.fire("b")
    session.fire("a", n=1)
    assert session.held("t_x#0") == {"b": (1,)}
    session.fire("a", n=2)
    assert session.held("t_x#0") == {"b": (1,), "a": (3,)}


def test_it_creates_none_and_none_carries_it_over() -> None:
    session = PureSession(t_x={"after": ["a"], "andEvery": "p", "when": {"a": {"n": {"lt": 9}}}})
    assert session.fire("a", n=9).created == ()
    session.fire("a", n=1)
    session.fire("p")
    session.fire("a", n=2)
    session.fire("a", n=10)
    session.fire("p")
    assert session.held("t_x#0") == {"a": (2,), "p": (3,)}
    assert session.held("t_x#1") == {"a": (4,), "p": (6,)}


def test_it_bars_nothing_and_times_does_not_count_it() -> None:
    session = PureSession(
        t_x={
            "after": [times("a", 2)],
            "unless": ["u"],
            "when": {"a": {"n": 1}, "u": {"n": 1}},
        }
    )
    for n in (1, 2):
        session.fire("a", n=n)
    session.fire("u", n=2)
    assert session.held("t_x#0") == {"a": (1,)}
    session.fire("a", n=1)
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_it_still_counts_for_other_tasks() -> None:
    session = PureSession(
        t_x={"after": ["a"], "when": {"a": {"n": 2}}}, t_y={"after": ["a"]}, t_z={"andEvery": "a"}
    )
    session.fire("a", n=1)
    assert session.statuses() == {"t_y#0": "scheduled", "t_z#0": "scheduled"}
    assert list(session.refused()) == ["t_x"]


def test_a_filter_of_one_name_does_not_touch_the_others() -> None:
    session = PureSession(t_x={"after": ["a", "b"], "when": {"a": {"n": 1}}})
    session.fire("b")
    session.fire("a", n=1)
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_arguments_of_the_source_task_can_be_asked_for() -> None:
    params = {"a": {"level": 5}, "own": {"level": 1}}
    session = PureSession(
        t_x={"andEvery": "a", "withParams": params},
        t_given={"andEvery": "t_x", "when": {"t_x": {"$args.a.n": 2}}},
        t_under={"andEvery": "t_x:ended", "when": {"t_x:ended": {"$args.a.level": 5}}},
        t_static={"andEvery": "t_x", "when": {"t_x": {"$args.own.level": 1, "n": 9}}},
    )
    session.fire("a", n=1)
    session.fire("a", n=2, level=4)
    session.run("t_x#0", n=9)
    assert set(session.refused()) == {"t_given"}
    session.run("t_x#1", n=8)
    assert set(session.refused()) == {"t_under", "t_static"}
    assert session.held("t_given#0") == {"t_x": (4,)}


def test_by_hand_there_are_no_arguments() -> None:
    session = PureSession(
        t_x={"andEvery": "a"},
        t_given={"andEvery": "t_x", "when": {"t_x": {"$args.a.n": {"exists": True}}}},
        t_none={"andEvery": "t_x", "when": {"t_x": {"$args.a.n": {"exists": False}}}},
    )
    session.fire("t_x")
    assert session.statuses() == {"t_none#0": "scheduled"}


def test_a_task_may_filter_one_name_of_a_firing_and_take_the_other() -> None:
    task = {"after": ["t_x"], "andEvery": "t_x:ended", "when": {"t_x": {"n": 1}}}
    session = PureSession(t_x={"andEvery": "a"}, t_y=task)
    session.fire_all("a a")
    session.run("t_x#0", n=2)
    assert session.held("t_y#0") == {"t_x:ended": (3,)}
    session.run("t_x#1", n=1)
    assert session.held("t_y#0") == {"t_x:ended": (3,), "t_x": (4,)}


# -- what an instance takes ---------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b", "p", "u", "v", "s", "f"])
def test_whichever_name_of_the_task_makes_the_first_instance(first: str) -> None:
    task = {
        "after": ["a", times("b", {"from": "f.n"})],
        "andEvery": "p",
        "unless": ["u", {"any": ["v", {"elapsed": "PT1S", "since": "s"}]}],
    }
    session = PureSession(t_x=task)
    assert session.fire(first).created == ("t_x#0",)
    assert session.held("t_x#0") == {first: (1,)}


def test_a_waiting_instance_takes_what_it_does_not_hold_and_keeps_the_first() -> None:
    session = PureSession(t_x={"after": ["a", "b"]})
    session.fire_all("a a")
    assert session.held("t_x#0") == {"a": (1,)}
    session.fire_all("b b a")
    assert session.held("t_x#0") == {"a": (1,), "b": (3,)}


def test_a_firing_is_taken_as_long_as_fewer_are_held_than_the_largest_times() -> None:
    after = {"any": [["c", times("a", 2)], times("a", 4)]}
    session = PureSession(t_x={"after": after, "unless": times("a", 5)})
    session.fire_all("a a a c")
    assert session.held("t_x#0") == {"a": (1, 2, 3), "c": (4,)}
    assert session.instance("t_x#0").taken == {"a": 1, "c": 4}, "trigger_kwargs has the first"


def test_what_has_been_counted_enough_changes_nothing() -> None:
    session = PureSession(t_x={"after": [times("a", 2), "b"]})
    session.fire_all("a a")
    assert session.state.awaiting.keys() == {"b"}
    assert session.fire("a").created == ()
    assert session.held("t_x#0") == {"a": (1, 2)}


def test_fresh_takes_the_newer_one_always() -> None:
    session = PureSession(t_x={"after": ["a", "b"], "fresh": {"a": "PT10S"}})
    session.fire_all("a a")
    assert session.held("t_x#0") == {"a": (2,)}
    session.fire_all("a b")
    assert session.held("t_x#0") == {"a": (3,), "b": (4,)}


@pytest.mark.parametrize(("age", "status"), [(9.999, "scheduled"), (10, "unstarted")])
def test_what_is_held_counts_only_while_it_is_fresh(age: float, status: str) -> None:
    session = PureSession(t_x={"after": ["a", "b"], "fresh": {"a": "PT10S"}})
    session.fire("a")
    session.move_on(age)
    session.fire("b")
    assert session.statuses() == {"t_x#0": status}
    session.fire("a")
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_fresh_with_times_holds_the_newest_each_while_it_is_fresh() -> None:
    session = PureSession(t_x={"after": [times("a", 2), "b"], "fresh": {"a": "PT10S"}})
    for _ in range(3):
        session.fire("a")
        session.move_on(6)
    assert session.held("t_x#0") == {"a": (2, 3)}
    session.fire("b")
    assert session.statuses() == {"t_x#0": "unstarted"}, "the older of the two is 12 s old"
    session.fire("a")
    assert session.held("t_x#0") == {"a": (3, 5), "b": (4,)}
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_fresh_with_a_number_from_a_firing_holds_the_newest_too() -> None:
    after = [times("a", {"from": "b.n"}), "c"]
    session = PureSession(t_x={"after": after, "fresh": {"a": "PT10S"}})
    session.fire("b", n=2)
    session.fire_all("a a a c")
    assert session.statuses() == {"t_x#0": "scheduled"}
    assert session.held("t_x#0")["a"] == (3, 4)


def test_fresh_with_a_number_from_a_firing_needs_that_many_that_are_fresh() -> None:
    after = [times("a", {"from": "b.n"})]
    session = PureSession(t_x={"after": after, "fresh": {"a": "PT10S"}})
    session.fire("b", n=2)
    session.fire("a")
    session.move_on(10)
    session.fire("a")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("a")
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_the_firing_with_the_number_may_have_to_be_fresh_as_well() -> None:
    session = PureSession(t_x={"after": [times("a", {"from": "b.n"})], "fresh": {"b": "PT10S"}})
    session.fire("b", n=3)
    session.fire("b", n=1)
    session.move_on(10)
    session.fire("a")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("b", n=1)
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_a_stale_firing_bars_nothing() -> None:
    session = PureSession(t_x={"after": ["a"], "unless": ["u", "v"], "fresh": {"u": "PT10S"}})
    session.fire("u")
    session.move_on(10)
    session.fire("v")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire("u")
    assert session.statuses() == {"t_x#0": "abandoned"}


def test_a_fresh_and_every_trigger_takes_the_place_of_the_older_one() -> None:
    session = PureSession(t_x={"after": ["a"], "andEvery": "p", "fresh": {"p": "PT10S"}})
    session.fire_all("p p")
    assert session.held("t_x#0") == {"p": (2,)}
    session.move_on(10)
    session.fire("a")
    assert session.statuses() == {"t_x#0": "unstarted"}
    session.fire_all("p p")
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "scheduled"}


def test_and_every_makes_the_next_instance_where_none_of_the_waiting_took_it() -> None:
    session = PureSession(t_x={"after": ["a"], "andEvery": "p"})
    session.fire_all("a p p")
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "scheduled"}
    other = PureSession(t_x={"after": ["a"], "andEvery": "p"})
    other.fire_all("p p p")
    assert [other.held(f"t_x#{n}") for n in range(3)] == [{"p": (1,)}, {"p": (2,)}, {"p": (3,)}]
    other.fire("a")
    assert other.statuses() == {f"t_x#{n}": "scheduled" for n in range(3)}


def test_a_name_that_no_instance_lacks_changes_nothing() -> None:
    session = PureSession(t_x={"after": ["a"], "andEvery": "p"}, t_y={"after": ["a"]})
    session.fire_all("a p a")
    result = session.fire("a")
    assert (result.created, result.scheduled, result.abandoned) == ((), (), ())
    assert session.statuses() == {"t_x#0": "scheduled", "t_y#0": "scheduled"}


def test_a_new_instance_starts_with_one_firing_of_each_other_name() -> None:
    session = PureSession(
        t_x={"after": [times("a", 2), "b"], "andEvery": "p", "unless": ["u", "v"]}
    )
    session.fire_all("a b a a u p p")
    assert session.held("t_x#0") == {"a": (1, 3), "b": (2,), "u": (5,), "p": (6,)}
    assert session.held("t_x#1") == {"a": (4,), "b": (2,), "u": (5,), "p": (7,)}
    session.fire("a")
    assert session.held("t_x#1")["a"] == (4, 8)
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "scheduled"}


def test_what_bars_is_carried_over_and_bars_every_further_instance() -> None:
    session = PureSession(t_x={"andEvery": "p", "unless": ["u"]})
    session.fire_all("p u p p")
    assert session.statuses() == {
        "t_x#0": "scheduled",
        "t_x#1": "abandoned",
        "t_x#2": "abandoned",
    }


def test_what_an_instance_carries_over_may_be_stale() -> None:
    session = PureSession(t_x={"after": ["a"], "andEvery": "p", "fresh": {"a": "PT10S"}})
    session.fire_all("a p")
    session.move_on(10)
    session.fire("p")
    assert session.held("t_x#1") == {"a": (1,), "p": (3,)}
    assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "unstarted"}


def test_a_task_that_comes_later_looks_at_the_latest_firing_of_each_name() -> None:
    session = PureSession(t_x={"after": ["never"]})
    session.fire("a", n=1)
    session.fire("a", n=2)
    session.fire("b", n=1)
    session.fire("b", n=2)
    when = {"a": {"n": 1}, "b": {"n": 2}}
    outcome = session.configure(t_y={"after": ["a", "b"], "andEvery": "p", "when": when}).created
    assert outcome == (), "nothing is created by adding it"
    session.fire("p")
    assert session.held("t_y#0") == {"b": (4,), "p": (5,)}, "the latest a does not pass"


def test_a_filter_that_changes_looks_at_the_latest_firing_again() -> None:
    task: dict[str, Any] = {"after": ["a"], "andEvery": "p", "when": {"a": {"n": 1}}}
    session = PureSession(t_x=task)
    session.fire("a", n=1)
    session.fire("a", n=2)
    session.configure(t_x={**task, "note": "nothing that matters"})
    session.fire("p")
    assert session.held("t_x#0") == {"a": (1,), "p": (3,)}
    session.configure(t_x={**task, "when": {"a": {"n": 2}}})
    session.fire("p")
    assert session.held("t_x#1") == {"a": (2,), "p": (4,)}
    session.configure(t_x={**task, "when": {"a": {"n": 3}}})
    session.fire("p")
    assert session.held("t_x#2") == {"p": (5,)}


def test_history_is_for_the_tasks_that_ask_for_it() -> None:
    session = PureSession(t_old={"andEvery": "a"})
    session.fire_all("a b")
    session.configure(apply_history=True, t_new={"after": ["a", "b"]}, t_also={"andEvery": "b"})
    assert session.statuses() == {
        "t_old#0": "scheduled",
        "t_new#0": "scheduled",
        "t_also#0": "scheduled",
    }


REFUSED_AT_LOAD: list[tuple[dict[str, Any], str]] = [
    ({"after": [times("p", 2)], "andEvery": "p"}, r"t_x\.after"),
    ({"andEvery": "p", "unless": times("p", 2)}, r"t_x\.unless"),
    ({"after": [times("p", {"from": "b.n"})], "andEvery": "p"}, r"t_x\.after"),
    (
        {
            "andEvery": "p",
            "fresh": {"p": "PT1S"},
            "debounce": {"quiet": "PT1S", "most": "PT9S"},
        },
        r"t_x\.fresh\.p",
    ),
    ({"after": ["a"], "atMostEvery": "PT1S"}, r"t_x\.atMostEvery"),
    ({"after": ["a"], "debounce": {"quiet": "PT1S", "most": "PT9S"}}, r"t_x\.debounce"),
    ({"after": ["a"], "when": {"b": {"n": 1}}}, r"t_x\.when\.b"),
    ({"after": ["a"], "fresh": {"b": "PT1S"}}, r"t_x\.fresh\.b"),
]


@pytest.mark.parametrize(("directives", "place"), REFUSED_AT_LOAD)
def test_what_does_not_fit_together_is_refused_at_load(
    directives: dict[str, Any], place: str
) -> None:
    with pytest.raises(ConfigurationError, match=place):
        parse({"t_x": {"run": "x", **directives}})


# -- order --------------------------------------------------------------------------------------

JOINS: list[tuple[dict[str, Any], str]] = [
    ({"after": ["a", "b", "c", "d", "e", "f"]}, "a b c d e f"),
    ({"after": ["a", {"all": ["b", ["c"]]}, "d"]}, "a b c d d"),
    ({"after": ["a", "b"], "andEvery": "p"}, "a b p p p"),
    ({"after": [times("a", 3), "b"]}, "a a a b b"),
    ({"after": [times("a", 2), times("b", 2), "c"]}, "a a b b c"),
    ({"after": [times("a", 4), "b"]}, "a a a b"),
]


@pytest.mark.parametrize(("task", "triggers"), JOINS)
def test_joins_and_times_end_the_same_in_every_order(task: Any, triggers: str) -> None:
    ends = set()
    for order in set(permutations(triggers.split())):
        session = PureSession(is_checked=False, t_x=task)
        session.fire_all(" ".join(order))
        ends.add(tuple(sorted(ending_of(session, name) for name in session.statuses())))
    assert len(ends) == 1


def ending_of(session: PureSession, name: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Status of an instance, and how many firings of each name it holds."""
    held = sorted((each, len(seqs)) for each, seqs in session.held(name).items())
    return session.statuses()[name], tuple(held)


# What depends on the order: the same firings in two orders, and what becomes of t_x.
DEPENDS: list[tuple[dict[str, Any], str, list[str], str, list[str]]] = [
    (
        {"after": ["a", "b"], "unless": ["u"]},
        "a b u",
        ["scheduled a=1 b=2"],
        "a u b",
        ["abandoned a=1 u=2"],
    ),
    ({"after": {"any": ["a", "b"]}}, "a b", ["scheduled a=1"], "b a", ["scheduled b=1"]),
    (
        {"after": {"atLeast": 2, "of": ["a", "b", "c"]}},
        "a b c",
        ["scheduled a=1 b=2"],
        "c b a",
        ["scheduled b=2 c=1"],
    ),
    (
        {"after": ["a", "b"], "fresh": {"a": "PT10S"}},
        "a 10 b",
        ["unstarted a=1 b=2"],
        "b 10 a",
        ["scheduled a=2 b=1"],
    ),
    (
        {"after": ["a"], "andEvery": "p", "atMostEvery": "PT10S"},
        "p a p",
        ["scheduled a=2 p=1"],
        "p a 10 p",
        ["scheduled a=2 p=1", "scheduled a=2 p=3"],
    ),
    (
        {"after": ["a"], "andEvery": "p", "debounce": {"quiet": "PT5S", "most": "PT20S"}},
        "a p 5 p 5",
        ["scheduled a=1 p=2", "scheduled a=1 p=3"],
        "a p 4 p 5",
        ["scheduled a=1 p=3"],
    ),
    (
        {"after": ["b", {"elapsed": "PT10S", "since": "a"}], "unless": ["u"]},
        "a 5 u 5 b",
        ["abandoned a=1 u=2"],
        "a b 10 u",
        ["scheduled a=1 b=2"],
    ),
    (
        {"after": ["a", "b"], "within": "PT10S"},
        "a 9 b",
        ["scheduled a=1 b=2"],
        "a 10 b",
        ["abandoned a=1"],
    ),
]


@pytest.mark.parametrize(("task", "one", "ends_one", "other", "ends_other"), DEPENDS)
def test_what_depends_on_the_order_ends_in_two_ways(
    task: Any, one: str, ends_one: list[str], other: str, ends_other: list[str]
) -> None:
    assert played(task, one) == ends_one
    assert played(task, other) == ends_other


def played(task: Any, steps: str) -> list[str]:
    """Status of each instance, and what it holds, after firings and pauses in seconds."""
    session = PureSession(t_x=task)
    for step in steps.split():
        if step.isdigit():
            session.tick(int(step))
        else:
            session.fire(step)
    return [
        " ".join([status, *(f"{each}={seq}" for each, [seq] in sorted(session.held(name).items()))])
        for name, status in session.statuses().items()
        if name.startswith("t_x")
    ]


def test_settled_depends_on_whether_all_have_begun() -> None:
    early, late = PureSession(**FAN_OUT), PureSession(**FAN_OUT)
    early.fire_all("part closed")
    early.run("t_part#0")
    assert early.statuses()["t_join#0"] == "scheduled"
    early.fire("part")
    late.fire_all("part closed part")
    late.run("t_part#0")
    assert late.statuses()["t_join#0"] == "unstarted"


@pytest.mark.parametrize("order", sorted(set(permutations(["part"] * 3 + ["t_part"] * 3))))
def test_a_number_from_a_firing_joins_a_fan_out_whatever_begins_when(order: list[str]) -> None:
    """What ``settled`` is too early for, ``times`` with ``from`` gets right."""
    session = PureSession(
        is_checked=False,
        t_part={"andEvery": "part"},
        t_join={"after": [times("t_part", {"from": "started.parts"})]},
    )
    session.fire("started", parts=3)
    begun, done = 0, 0
    for step in order:
        assert session.statuses()["t_join#0"] == "unstarted"
        if step == "part":
            session.fire("part")
            begun += 1
        elif done < begun:
            session.run(f"t_part#{done}")
            done += 1
    for number in range(done, 3):
        assert session.statuses()["t_join#0"] == "unstarted"
        session.run(f"t_part#{number}")
    assert session.statuses()["t_join#0"] == "scheduled"
    assert len(session.held("t_join#0")["t_part"]) == 3


def test_what_passed_an_older_filter_is_forgotten_when_history_is_taken_again() -> None:
    session = PureSession(t_x={"after": ["never"]})
    session.fire("a", n=1)
    session.configure(t_y={"after": ["a", "b"], "when": {"a": {"n": 1}}})
    session.configure(apply_history=True, t_y={"after": ["a", "b"], "when": {"a": {"n": 2}}})
    session.fire("b")
    assert session.statuses() == {"t_y#0": "unstarted"}
