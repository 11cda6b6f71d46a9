"""Examples worked out by hand from the tables of the language, which hold the model of it.

Each is for any session that has the model's methods: here for the model, in
``test_engine_against_language`` for the real thing. The model is also broken on purpose, one rule
at a time: examples that cannot tell a wrong model from a right one would not notice a wrong engine
either. The file is long because the language has that many rules, each with its example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.reference_language import LanguageSession
from tests.reference_values import RefusedError


@pytest.fixture
def session() -> LanguageSession:
    return LanguageSession()


def statuses(session: Any) -> dict[str, str]:
    return {name: instance["status"] for name, instance in session.snapshot()["instances"].items()}


def kwargs_of(session: Any, name: str) -> dict[str, Any]:
    kwargs: dict[str, Any] = session.snapshot()["instances"][name]["kwargs"]
    return kwargs


def reason_of(session: Any, name: str) -> str | None:
    reason: str | None = session.snapshot()["instances"][name]["reason"]
    return reason


def fired(session: Any) -> list[list[str]]:
    return [sorted(firing["names"]) for firing in session.snapshot()["firings"]]


def last_fired(session: Any) -> dict[str, Any]:
    names: dict[str, Any] = session.snapshot()["firings"][-1]["names"]
    return names


def refused(session: Any) -> set[str]:
    return set(session.snapshot()["firings"][-1]["refused"])


def fire_all(session: Any, triggers: str) -> None:
    for trigger in triggers.split():
        session.fire(trigger)


def run(session: Any, name: str, result: dict[str, Any] | None = None) -> None:
    session.start(name)
    session.finish(name, result or {})


def run_and_fail(session: Any, name: str) -> None:
    session.start(name)
    session.fail(name, ValueError("no"))


# Conditions.


def test_a_name_or_a_list_holds_once_all_of_it_is_held(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"after": ["a", "b"]}})
    session.fire("a")
    assert statuses(session) == {"t_x#0": "scheduled", "t_y#0": "unstarted"}
    session.fire("b")
    assert statuses(session) == {"t_x#0": "scheduled", "t_y#0": "scheduled"}


def test_all_is_a_list_in_longer_words(session: Any) -> None:
    session.configure({"t_x": {"after": {"all": ["a", {"all": ["b"]}]}}})
    session.fire("b")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("a")
    assert statuses(session) == {"t_x#0": "scheduled"}


def test_any_holds_with_one_and_brings_the_kwargs_that_have_arrived(session: Any) -> None:
    session.configure({"t_x": {"after": ["c", {"any": ["a", "b"]}]}})
    session.fire("b", {"n": 1})
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("c", {"n": 2})
    session.fire("a", {"n": 3})
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"b": {"n": 1}, "c": {"n": 2}}


def test_at_least_counts_members(session: Any) -> None:
    session.configure({"t_x": {"after": {"atLeast": 2, "of": ["a", ["b", "c"], "d"]}}})
    fire_all(session, "d b")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("c")
    assert statuses(session) == {"t_x#0": "scheduled"}


def test_an_empty_unless_never_holds_and_an_empty_after_always(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": [], "andEvery": "a", "unless": []},
            "t_y": {"after": [], "unless": ["u", "v"]},
        }
    )
    fire_all(session, "a u")
    assert statuses(session) == {"t_x#0": "scheduled", "t_y#0": "scheduled"}


def test_unless_takes_any_condition_too(session: Any) -> None:
    unless = {"any": ["u", {"atLeast": 2, "of": ["v", "w", "x"]}]}
    session.configure({"t_x": {"after": ["a"], "unless": unless}})
    fire_all(session, "v w")
    assert statuses(session) == {"t_x#0": "abandoned"}
    assert reason_of(session, "t_x#0") == "unless"


def test_unless_wins_by_the_same_firing(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", {"any": ["u", "b"]}], "unless": ["u"]}})
    fire_all(session, "a u")
    assert statuses(session) == {"t_x#0": "abandoned"}


def test_and_every_is_needed_beside_after(session: Any) -> None:
    session.configure({"t_x": {"after": {"any": ["a", "b"]}, "andEvery": "p"}})
    session.fire("a")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("p")
    assert statuses(session) == {"t_x#0": "scheduled"}


# Counting.


def test_times_counts_firings_and_keeps_the_first_and_all(session: Any) -> None:
    session.configure({"t_x": {"after": [{"trigger": "a", "times": 2}, "b"]}})
    for n in (1, 2, 3):
        session.fire("a", {"n": n})
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("b")
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"a": {"n": 1}, "b": {}}
    session.start("t_x#0")
    assert session.context_firings("t_x#0") == {"a": [{"n": 1}, {"n": 2}], "b": [{}]}


def test_times_may_be_left_out(session: Any) -> None:
    session.configure({"t_x": {"after": [{"trigger": "a"}, "b"]}})
    session.fire("a", {"n": 1})
    session.fire("a", {"n": 2})
    session.fire("b")
    session.start("t_x#0")
    assert session.context_firings("t_x#0") == {"a": [{"n": 1}], "b": [{}]}


def test_the_largest_times_of_a_name_says_how_many_are_taken(session: Any) -> None:
    after = {"any": [["c", {"trigger": "a", "times": 2}], {"trigger": "a", "times": 4}]}
    session.configure({"t_x": {"after": after, "unless": {"trigger": "a", "times": 5}}})
    for n in (1, 2, 3):
        session.fire("a", {"n": n})
    session.fire("c")
    session.start("t_x#0")
    assert [each["n"] for each in session.context_firings("t_x#0")["a"]] == [1, 2, 3]


def test_times_in_unless_abandons_at_its_number(session: Any) -> None:
    session.configure({"t_x": {"after": ["b"], "unless": {"trigger": "a", "times": 3}}})
    fire_all(session, "a a")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("a")
    assert statuses(session) == {"t_x#0": "abandoned"}


def test_times_from_takes_its_number_from_a_firing(session: Any) -> None:
    count = {"trigger": "a", "times": {"from": "b.in.all"}}
    session.configure({"t_x": {"after": count}})
    session.fire("a", {"n": 1})
    session.fire("b", {"in": {"all": 2}})
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("a", {"n": 2})
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"a": {"n": 1}, "b": {"in": {"all": 2}}}


def test_as_long_as_the_number_is_not_known_everything_is_taken(session: Any) -> None:
    session.configure({"t_x": {"after": {"trigger": "a", "times": {"from": "b.n"}}}})
    fire_all(session, "a a a")
    session.fire("b", {"n": 2})
    assert statuses(session) == {"t_x#0": "scheduled"}
    session.start("t_x#0")
    assert session.context_firings("t_x#0")["a"] == [{}, {}, {}]


def test_a_number_of_zero_holds_at_once(session: Any) -> None:
    session.configure({"t_x": {"after": {"trigger": "a", "times": {"from": "b.n"}}}})
    session.fire("b", {"n": 0})
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"b": {"n": 0}}


@pytest.mark.parametrize("value", [-1, True, "2", 1.5, None, [2]])
def test_what_is_no_whole_number_never_holds(session: Any, value: object) -> None:
    session.configure({"t_x": {"after": {"trigger": "a", "times": {"from": "b.n"}}}})
    session.fire("b", {"n": value})
    fire_all(session, "a a a")
    assert statuses(session) == {"t_x#0": "unstarted"}


def test_the_trigger_in_from_is_the_longest_beginning_that_is_named_elsewhere(
    session: Any,
) -> None:
    count = {"trigger": "a", "times": {"from": "b.c.n"}}
    session.configure({"t_x": {"after": [count, "b.c"]}, "t_y": {"after": count}})
    session.fire("b.c", {"n": 1})
    session.fire("b", {"c": {"n": 2}})
    session.fire("a")
    assert statuses(session) == {"t_x#0": "scheduled", "t_y#0": "unstarted"}


def test_a_name_that_is_also_named_alone_is_taken_whatever_the_number(session: Any) -> None:
    count = {"trigger": "a", "times": {"from": "b.n"}}
    session.configure({"t_x": {"after": [count, "a"]}})
    session.fire("b", {"n": 0})
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("a", {"n": 1})
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"a": {"n": 1}, "b": {"n": 0}}


# Settled.

FAN_OUT: dict[str, Any] = {
    "t_part": {"andEvery": "part"},
    "t_join": {"after": ["closed", {"settled": "t_part"}]},
}


def test_settled_waits_until_no_lineage_is_unsettled(session: Any) -> None:
    session.configure(FAN_OUT)
    fire_all(session, "part part closed")
    run(session, "t_part#0")
    assert statuses(session)["t_join#0"] == "unstarted"
    run_and_fail(session, "t_part#1")
    assert statuses(session)["t_join#0"] == "unstarted"
    session.replay("t_part#1")
    assert statuses(session)["t_join#0"] == "unstarted"
    run(session, "t_part#2")
    assert statuses(session)["t_join#0"] == "scheduled"
    assert kwargs_of(session, "t_join#0") == {"closed": {}}


def test_settled_needs_a_lineage(session: Any) -> None:
    session.configure(FAN_OUT)
    session.fire("closed")
    assert statuses(session) == {"t_join#0": "unstarted"}
    session.fire("part")
    run(session, "t_part#0")
    assert statuses(session)["t_join#0"] == "scheduled"


def test_settled_holds_at_once_if_everything_is_settled_already(session: Any) -> None:
    session.configure(FAN_OUT)
    session.fire("part")
    session.start("t_part#0")
    session.skip("t_part#0")
    session.fire("closed")
    assert statuses(session)["t_join#0"] == "scheduled"


def test_a_cascade_that_rules_an_instance_out_comes_before_settled(session: Any) -> None:
    session.configure(
        {
            "t_join": {"after": ["a", {"settled": "t_x"}], "unless": ["t_y:abandoned"]},
            "t_x": {"after": ["a"]},
            "t_y": {"after": ["b"], "unless": ["t_x", "a"]},
        }
    )
    session.fire("a")
    run(session, "t_x#0")
    assert statuses(session)["t_y#0"] == "abandoned"
    assert statuses(session)["t_join#0"] == "abandoned"


def test_what_settled_abandons_may_settle_more(session: Any) -> None:
    session.configure(
        {
            "t_z": {"after": ["a", {"settled": "t_y"}]},
            "t_y": {"after": ["a", "b"], "unless": {"settled": "t_x"}},
            "t_x": {"after": ["a"]},
        }
    )
    session.fire("a")
    run(session, "t_x#0")
    assert statuses(session)["t_y#0"] == "abandoned"
    assert statuses(session)["t_z#0"] == "scheduled"


def test_unless_settled_wins_by_the_same_firing_too(session: Any) -> None:
    session.configure(
        {"t_x": {"after": ["a"]}, "t_y": {"after": ["b"], "unless": {"settled": "t_x"}}}
    )
    session.fire("a")
    run(session, "t_x#0")
    session.fire("b")
    assert statuses(session)["t_y#0"] == "abandoned"


# Which firings pass.


def test_a_firing_that_does_not_pass_has_not_happened_for_that_task(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": ["a", "b"], "when": {"a": {"n": 2}}},
            "t_y": {"andEvery": "a", "when": {"a": {"n": {"gte": 2}}}},
            "t_z": {"andEvery": "a"},
        }
    )
    session.fire("a", {"n": 1})
    assert statuses(session) == {"t_z#0": "scheduled"}
    assert refused(session) == {"t_x", "t_y"}
    session.fire("a", {"n": 2})
    session.fire("b")
    assert kwargs_of(session, "t_x#0") == {"a": {"n": 2}, "b": {}}
    assert statuses(session) == {
        "t_x#0": "scheduled",
        "t_y#0": "scheduled",
        "t_z#0": "scheduled",
        "t_z#1": "scheduled",
    }


def test_what_is_carried_over_is_the_latest_firing_that_passed(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"], "andEvery": "p", "when": {"a": {"c": "web"}}}})
    session.fire("a", {"n": 1, "c": "web"})
    session.fire("p", {"n": 1})
    session.fire("a", {"n": 2, "c": "web"})
    session.fire("a", {"n": 3, "c": "app"})
    session.fire("p", {"n": 2})
    assert kwargs_of(session, "t_x#1") == {"a": {"n": 2, "c": "web"}, "p": {"n": 2}}


TABLE = [
    ({"n": 3}, {"n": 3}, {"n": 4}),
    ({"n": {"eq": 1}}, {"n": 1}, {"n": True}),
    ({"n": {"ne": 1}}, {"n": 2}, {"n": 1}),
    ({"n": {"lt": 1}}, {"n": 0}, {"n": 1}),
    ({"n": {"lte": 1}}, {"n": 1}, {"n": 2}),
    ({"n": {"gt": 1}}, {"n": 2}, {"n": 1}),
    ({"n": {"gte": 1}}, {"n": 1}, {"n": "2"}),
    ({"n": {"gte": 1, "lt": 3}}, {"n": 2}, {"n": 3}),
    ({"n": {"in": [1, "x"]}}, {"n": "x"}, {"n": 2}),
    ({"n": {"contains": "x"}}, {"n": ["x"]}, {"n": ["xy"]}),
    ({"n": {"contains": "x"}}, {"n": "axe"}, {"n": "ape"}),
    ({"n": {"contains": "x"}}, {"n": {"x": 1}}, {"n": {"y": "x"}}),
    ({"n": {"exists": True}}, {"n": None}, {"m": 1}),
    ({"n": {"exists": False}}, {"m": 1}, {"n": None}),
    ({"n": {"matches": "^a.c"}}, {"n": "abcd"}, {"n": "xabc"}),
    ({"n": {"matches": "1"}}, {"n": "21"}, {"n": 1}),
    ({"n": {"ne": 1}}, {"n": 2}, {"m": 2}),
    ({"p.n": 1, "c": "web"}, {"p": {"n": 1}, "c": "web"}, {"p": {"n": 1}}),
    ({"p.1.n": 1}, {"p": [{}, {"n": 1}]}, {"p": [{"n": 1}]}),
    (
        {"p.q.n": 1},
        {"p.q": {"n": 1}, "p": {"q": {"n": 2}}},
        {"p.q": {"n": 2}, "p": {"q": {"n": 1}}},
    ),
    ([{"n": {"gte": 1}}, "tests_is_even"], {"n": 2}, {"n": 3}),
    ("tests_is_even", {"n": 2}, {"n": 1}),
]


@pytest.mark.parametrize(("given", "passing", "refused"), TABLE)
def test_each_kind_of_filter(session: Any, given: Any, passing: Any, refused: Any) -> None:
    session.configure({"t_x": {"andEvery": "a", "when": {"a": given}}})
    session.fire("a", refused)
    assert statuses(session) == {}
    session.fire("a", passing)
    assert statuses(session) == {"t_x#0": "scheduled"}


def test_arguments_of_the_source_task_can_be_asked_for(session: Any) -> None:
    with_params = {"a": {"level": 5}, "own": {"level": 1}}
    session.configure(
        {
            "t_x": {"andEvery": "a", "withParams": with_params},
            "t_own": {"after": ["t_x"], "when": {"t_x": {"$args.own.level": 1}}},
            "t_given": {"andEvery": "t_x", "when": {"t_x": {"$args.a.n": 2, "n": 9}}},
            "t_under": {"after": ["t_x:ended"], "when": {"t_x:ended": {"$args.a.level": 5}}},
            "t_none": {"after": ["t_x"], "when": {"t_x": {"$args.a.n": {"exists": False}}}},
        }
    )
    session.fire("a", {"n": 1, "level": 4})
    run(session, "t_x#0", {"n": 9})
    assert statuses(session) == {"t_x#0": "finished", "t_own#0": "scheduled"}
    session.fire("a", {"n": 2})
    run(session, "t_x#1", {"n": 9})
    assert statuses(session).keys() == {"t_x#0", "t_x#1", "t_own#0", "t_given#0", "t_under#0"}
    session.fire("t_x", {"n": 9})
    assert statuses(session)["t_none#0"] == "scheduled"


def test_arguments_are_known_also_of_what_ends_as_it_begins(session: Any) -> None:
    session.configure(
        {
            "t_x": {"andEvery": "a", "unless": ["u"]},
            "t_y": {"after": ["t_x:abandoned"], "when": {"t_x:abandoned": {"$args.a.n": 2}}},
        }
    )
    fire_all(session, "u a")
    assert "t_y#0" not in statuses(session)
    session.fire("a", {"n": 2})
    assert statuses(session)["t_y#0"] == "scheduled"


def test_a_predicate_that_raises_refuses_a_firing_from_outside(session: Any) -> None:
    session.configure(
        {"t_x": {"andEvery": "a"}, "t_y": {"after": ["a"], "when": {"a": "tests_is_fragile"}}}
    )
    with pytest.raises(RefusedError):
        session.fire("a", {"n": 0})
    assert session.snapshot() == {"instances": {}, "firings": [], "phase": "open"}
    session.fire("a", {"n": 1})
    assert statuses(session) == {"t_x#0": "scheduled", "t_y#0": "scheduled"}


def test_a_predicate_that_raises_in_a_transition_has_not_let_it_pass(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": ["a"]},
            "t_y": {"after": ["t_x"], "when": {"t_x": "tests_is_fragile"}},
            "t_z": {"after": ["t_x"]},
        }
    )
    session.fire("a")
    run(session, "t_x#0", {"n": 0})
    assert statuses(session) == {"t_x#0": "finished", "t_z#0": "scheduled"}
    assert refused(session) == {"t_y"}


def test_at_most_every_filters_what_comes_too_soon_after_one_that_passed(session: Any) -> None:
    session.configure({"t_x": {"andEvery": "p", "atMostEvery": "PT10S"}})
    session.fire("p", {"n": 1})
    session.move_on(9)
    session.fire("p", {"n": 2})
    assert refused(session) == {"t_x"}
    session.move_on(1)
    session.fire("p", {"n": 3})
    session.move_on(9)
    session.fire("p", {"n": 4})
    assert [kwargs_of(session, name)["p"]["n"] for name in statuses(session)] == [1, 3]


def test_at_most_every_asks_only_about_what_the_filter_let_pass(session: Any) -> None:
    when = {"p": {"n": {"gte": 1}}}
    session.configure({"t_x": {"andEvery": "p", "atMostEvery": "PT10S", "when": when}})
    session.fire("p", {"n": 0})
    session.fire("p", {"n": 1})
    assert kwargs_of(session, "t_x#0") == {"p": {"n": 1}}


def test_at_most_every_is_about_and_every_only(session: Any) -> None:
    task = {"after": {"trigger": "a", "times": 2}, "andEvery": "p", "atMostEvery": "PT10S"}
    session.configure({"t_x": task})
    fire_all(session, "p a a")
    assert statuses(session) == {"t_x#0": "scheduled"}


# What an instance takes.


def test_with_times_a_new_instance_carries_one_of_each_name_over(session: Any) -> None:
    session.configure({"t_x": {"after": {"trigger": "a", "times": 2}, "andEvery": "p"}})
    for n in (1, 2):
        session.fire("a", {"n": n})
    fire_all(session, "p p")
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "unstarted"}
    session.fire("a", {"n": 3})
    session.start("t_x#1")
    assert [each["n"] for each in session.context_firings("t_x#1")["a"]] == [2, 3]


def test_fresh_takes_the_newer_one_and_forgets_what_is_old(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "fresh": {"a": "PT10S"}}})
    session.fire("a", {"n": 1})
    session.fire("a", {"n": 2})
    session.move_on(10)
    session.fire("b", {"n": 3})
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("a", {"n": 4})
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"a": {"n": 4}, "b": {"n": 3}}


def test_what_is_younger_than_its_limit_is_fresh(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "fresh": {"a": "PT10S"}}})
    session.fire("a", {"n": 1})
    session.fire("a", {"n": 2})
    session.move_on(9)
    session.fire("b")
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0")["a"] == {"n": 2}


def test_fresh_with_times_holds_the_newest_each_while_it_is_fresh(session: Any) -> None:
    after = [{"trigger": "a", "times": 2}, "b"]
    session.configure({"t_x": {"after": after, "fresh": {"a": "PT10S"}}})
    for n in (1, 2):
        session.fire("a", {"n": n})
        session.move_on(6)
    session.fire("b")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("a", {"n": 3})
    session.start("t_x#0")
    assert [each["n"] for each in session.context_firings("t_x#0")["a"]] == [2, 3]


def test_fresh_with_times_from_holds_the_newest_too(session: Any) -> None:
    count = {"trigger": "a", "times": {"from": "b.n"}}
    session.configure({"t_x": {"after": [count, "c"], "fresh": {"a": "PT10S"}}})
    for n in (1, 2, 3):
        session.fire("a", {"n": n})
    session.fire("b", {"n": 2})
    assert kwargs_of(session, "t_x#0")["a"] == {"n": 2}
    session.fire("a", {"n": 4})
    session.fire("c")
    assert kwargs_of(session, "t_x#0")["a"] == {"n": 3}
    session.start("t_x#0")
    assert [each["n"] for each in session.context_firings("t_x#0")["a"]] == [3, 4]


def test_a_number_of_what_is_stale_is_not_known(session: Any) -> None:
    count = {"trigger": "a", "times": {"from": "b.n"}}
    session.configure({"t_x": {"after": [count], "fresh": {"b": "PT10S"}}})
    session.fire("b", {"n": 1})
    session.move_on(10)
    session.fire("a")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("b", {"n": 1})
    assert statuses(session) == {"t_x#0": "scheduled"}


def test_what_is_stale_has_not_elapsed(session: Any) -> None:
    after = [{"elapsed": "PT10S", "since": "a"}]
    session.configure({"t_x": {"after": after, "fresh": {"a": "PT10S"}}})
    session.fire("a")
    session.move_on(10)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "unstarted"}


def test_what_is_carried_over_may_be_stale(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"], "andEvery": "p", "fresh": {"a": "PT10S"}}})
    fire_all(session, "a p")
    session.move_on(9)
    session.fire("p")
    session.move_on(1)
    session.fire("p")
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "scheduled", "t_x#2": "unstarted"}


DEBOUNCED = {"andEvery": "p", "debounce": {"quiet": "PT5S", "most": "PT12S"}}


def test_a_burst_is_one_instance_with_the_last_kwargs(session: Any) -> None:
    session.configure({"t_x": DEBOUNCED})
    session.fire("p", {"n": 1})
    session.move_on(4)
    session.fire("p", {"n": 2})
    session.move_on(4)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.move_on(1)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"p": {"n": 2}}
    session.start("t_x#0")
    assert session.context_firings("t_x#0") == {"p": [{"n": 2}]}


def test_a_firing_at_the_end_of_a_burst_begins_the_next(session: Any) -> None:
    session.configure({"t_x": DEBOUNCED})
    session.fire("p", {"n": 1})
    session.move_on(5)
    session.fire("p", {"n": 2})
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "unstarted"}
    assert kwargs_of(session, "t_x#0") == {"p": {"n": 1}}


def test_a_burst_lasts_no_longer_than_its_most(session: Any) -> None:
    session.configure({"t_x": DEBOUNCED})
    for n in range(4):
        session.fire("p", {"n": n})
        session.move_on(4)
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "unstarted"}
    assert kwargs_of(session, "t_x#0") == {"p": {"n": 2}}


def test_a_burst_that_is_over_waits_for_the_rest(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"], **DEBOUNCED}})
    session.fire("p", {"n": 1})
    session.move_on(6)
    session.fire("p", {"n": 2})
    session.fire("a")
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "unstarted"}


def test_a_burst_holds_in_unless_when_it_is_over(session: Any) -> None:
    session.configure({"t_x": {"unless": ["p"], **DEBOUNCED}})
    session.fire("p")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.move_on(5)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "abandoned"}


def test_a_number_is_not_known_before_the_burst_that_says_it_is_over(session: Any) -> None:
    as_often = {"trigger": "a", "times": {"from": "p.n"}}
    session.configure({"t_x": {"after": [as_often], **DEBOUNCED}})
    session.fire("p", {"n": 1})
    session.fire("a", {"number": 1})
    session.move_on(4)
    session.fire("p", {"n": 2})
    session.fire("a", {"number": 2})
    session.move_on(5)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "scheduled"}
    session.start("t_x#0")
    firings = session.context_firings("t_x#0")
    assert firings == {"p": [{"n": 2}], "a": [{"number": 1}, {"number": 2}]}


def test_what_has_elapsed_since_a_burst_counts_from_its_last_firing(session: Any) -> None:
    elapsed = {"elapsed": "PT2S", "since": "p"}
    session.configure({"t_x": {"unless": [elapsed], **DEBOUNCED}, "t_y": DEBOUNCED})
    session.fire("p")
    session.move_on(4)
    session.fire("p")
    session.fire_due()
    assert statuses(session) == {"t_x#0": "unstarted", "t_y#0": "unstarted"}
    session.move_on(5)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "abandoned", "t_y#0": "scheduled"}


def test_a_burst_can_be_ruled_out(session: Any) -> None:
    session.configure({"t_x": {"unless": ["u"], **DEBOUNCED}})
    fire_all(session, "p u")
    assert statuses(session) == {"t_x#0": "abandoned"}


# Outcomes.


def test_finishing_fires_the_name_and_ended(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x", "t_x:ended"]}})
    session.fire("a")
    run(session, "t_x#0", {"n": 1})
    assert last_fired(session) == {"t_x": {"n": 1}, "t_x:ended": {"n": 1}}
    assert session.snapshot()["firings"][-1]["cause"] == "t_x#0"
    assert statuses(session) == {"t_x#0": "finished", "t_y#0": "scheduled"}
    assert kwargs_of(session, "t_y#0") == {"t_x": {"n": 1}, "t_x:ended": {"n": 1}}


def test_all_names_of_one_change_are_one_firing(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": ["a"]},
            "t_y": {"after": ["t_x"], "andEvery": "t_x:ended", "unless": ["u"]},
        }
    )
    session.fire("a")
    run(session, "t_x#0")
    assert statuses(session) == {"t_x#0": "finished", "t_y#0": "scheduled"}


def test_failing_fires_failed_with_what_a_handler_needs(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x:failed"]}})
    session.fire("a", {"n": 1})
    session.start("t_x#0")
    session.fail("t_x#0", KeyError("gone"))
    names = last_fired(session)
    assert names.keys() == {"t_x:failed", "t_x:ended"}
    assert names["t_x:failed"] == names["t_x:ended"]
    failure = kwargs_of(session, "t_y#0")["t_x:failed"]
    assert failure["message"] == "'gone'"
    assert failure["kwargs"] == {"a": {"n": 1}}
    assert failure["attempt"] == 1
    for name in ("KeyError", "builtins.KeyError", "LookupError", "Exception"):
        assert name in failure["types"]
    assert failure["type"] in failure["types"]
    assert statuses(session) == {"t_x#0": "failed", "t_y#0": "scheduled"}


def test_a_handler_may_ask_for_a_class_of_errors_and_for_the_attempt(session: Any) -> None:
    session.configure(
        {
            "t_x": {"andEvery": "a"},
            "t_y": {
                "after": ["t_x:failed"],
                "when": {"t_x:failed": {"types": {"contains": "LookupError"}}},
            },
            "t_z": {"after": ["t_x:failed"], "when": {"t_x:failed": {"attempt": {"gte": 2}}}},
        }
    )
    fire_all(session, "a a")
    run_and_fail(session, "t_x#0")
    assert statuses(session).keys() == {"t_x#0", "t_x#1"}
    session.start("t_x#1")
    session.retry("t_x#1")
    session.start("t_x#2")
    session.fail("t_x#2", IndexError("far"))
    assert statuses(session)["t_y#0"] == "scheduled"
    assert statuses(session)["t_z#0"] == "scheduled"


def test_what_will_be_retried_has_not_failed(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}})
    session.fire("a")
    session.start("t_x#0")
    session.retry("t_x#0")
    assert fired(session) == [["a"]]
    run_and_fail(session, "t_x#1")
    assert fired(session) == [["a"], ["t_x:ended", "t_x:failed"]]
    assert last_fired(session)["t_x:failed"]["attempt"] == 2


def test_a_replay_does_not_retry(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}})
    session.fire("a")
    run_and_fail(session, "t_x#0")
    session.replay("t_x#0")
    run_and_fail(session, "t_x#1")
    assert last_fired(session)["t_x:failed"]["attempt"] == 1


def test_skipping_fires_skipped_with_the_result_given(session: Any) -> None:
    session.configure({"t_x": {"andEvery": "a"}, "t_y": {"after": ["t_x"]}})
    fire_all(session, "a a")
    session.start("t_x#0")
    session.skip("t_x#0")
    assert last_fired(session) == {"t_x:skipped": {}, "t_x:ended": {}}
    run_and_fail(session, "t_x#1")
    session.skip_failed("t_x#1", False, {"n": 1})
    assert last_fired(session) == {"t_x:skipped": {"n": 1}, "t_x:ended": {"n": 1}}
    assert "t_y#0" not in statuses(session)


def test_a_skip_with_cascade_has_three_names(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x", "t_x:skipped"]}})
    session.fire("a")
    run_and_fail(session, "t_x#0")
    session.skip_failed("t_x#0", True, {"n": 1})
    result = {"n": 1}
    assert last_fired(session) == {"t_x": result, "t_x:skipped": result, "t_x:ended": result}
    assert kwargs_of(session, "t_y#0") == {"t_x": result, "t_x:skipped": result}


def test_being_abandoned_fires_abandoned_with_the_reason(session: Any) -> None:
    session.configure(
        {"t_x": {"after": ["a"], "unless": ["u"]}, "t_y": {"andEvery": "t_x:abandoned"}}
    )
    session.fire("u")
    reason = {"reason": "unless"}
    assert last_fired(session) == {"t_x:abandoned": reason, "t_x:ended": reason}
    assert kwargs_of(session, "t_y#0") == {"t_x:abandoned": reason}
    assert statuses(session) == {"t_x#0": "abandoned", "t_y#0": "scheduled"}


def test_by_hand_is_a_reason_too(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"]}})
    session.fire("a")
    session.set_status("t_x#0", "abandoned")
    assert reason_of(session, "t_x#0") == "by hand"
    reason = {"reason": "by hand"}
    assert last_fired(session) == {"t_x:abandoned": reason, "t_x:ended": reason}


def test_firing_a_task_by_hand_fires_ended_and_other_outcomes_are_refused(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x", "t_x:ended"]}})
    session.fire("t_x", {"n": 1})
    assert kwargs_of(session, "t_y#0") == {"t_x": {"n": 1}, "t_x:ended": {"n": 1}}
    for outcome in ("failed", "skipped", "expired", "abandoned", "ended"):
        with pytest.raises(RefusedError):
            session.fire(f"t_x:{outcome}")
    assert fired(session) == [["t_x", "t_x:ended"]]


def test_outcomes_are_decided_first_in_first_out_in_the_order_of_the_configuration(
    session: Any,
) -> None:
    session.configure(
        {
            "t_b": {"after": ["x"], "unless": ["u"]},
            "t_a": {"after": ["x"], "unless": ["u"]},
            "t_c": {"after": ["x"], "unless": ["t_b:abandoned"]},
            "t_d": {"after": ["x"], "unless": ["t_a:abandoned"]},
        }
    )
    session.fire("u")
    assert [names[0] for names in fired(session)] == [
        "u",
        "t_b:abandoned",
        "t_a:abandoned",
        "t_c:abandoned",
        "t_d:abandoned",
    ]


# Lineages.


def test_a_task_takes_a_lineage_once_per_name(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": ["a"]},
            "t_failed": {"andEvery": "t_x:failed"},
            "t_ended": {"andEvery": "t_x:ended"},
            "t_done": {"andEvery": "t_x"},
        }
    )
    session.fire("a")
    run_and_fail(session, "t_x#0")
    session.replay("t_x#0")
    run_and_fail(session, "t_x#1")
    assert len(fired(session)) == 3
    assert refused(session) == {"t_failed", "t_ended"}
    session.replay("t_x#1")
    run(session, "t_x#2")
    assert {name for name in statuses(session) if not name.startswith("t_x")} == {
        "t_failed#0",
        "t_ended#0",
        "t_done#0",
    }


def test_a_task_takes_each_outcome_of_a_lineage(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x:failed", "t_x"]}})
    session.fire("a")
    run_and_fail(session, "t_x#0")
    session.replay("t_x#0")
    run(session, "t_x#1", {"n": 1})
    assert statuses(session)["t_y#0"] == "scheduled"
    assert kwargs_of(session, "t_y#0")["t_x"] == {"n": 1}


def test_another_lineage_is_taken(session: Any) -> None:
    session.configure({"t_x": {"andEvery": "a"}, "t_y": {"andEvery": "t_x:failed"}})
    fire_all(session, "a a")
    run_and_fail(session, "t_x#0")
    run_and_fail(session, "t_x#1")
    assert statuses(session)["t_y#1"] == "scheduled"


def test_a_lineage_is_taken_the_first_time_that_it_passes_the_filter(session: Any) -> None:
    when = {"t_x:failed": {"attempt": {"gte": 2}}}
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"andEvery": "t_x:failed", "when": when}})
    session.fire("a")
    run_and_fail(session, "t_x#0")
    assert "t_y#0" not in statuses(session)
    session.replay("t_x#0")
    session.start("t_x#1")
    session.retry("t_x#1")
    run_and_fail(session, "t_x#2")
    assert statuses(session)["t_y#0"] == "scheduled"


def test_times_counts_lineages(session: Any) -> None:
    session.configure(
        {"t_x": {"andEvery": "a"}, "t_y": {"after": {"trigger": "t_x:failed", "times": 2}}}
    )
    fire_all(session, "a a")
    run_and_fail(session, "t_x#0")
    session.replay("t_x#0")
    run_and_fail(session, "t_x#2")
    assert statuses(session)["t_y#0"] == "unstarted"
    run_and_fail(session, "t_x#1")
    assert statuses(session)["t_y#0"] == "scheduled"


def test_what_a_task_has_not_taken_again_is_still_carried_over(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x:failed"], "andEvery": "p"}})
    fire_all(session, "a p")
    session.start("t_x#0")
    session.fail("t_x#0", ValueError("first"))
    session.replay("t_x#0")
    session.start("t_x#1")
    session.fail("t_x#1", ValueError("second"))
    session.fire("p")
    assert kwargs_of(session, "t_y#1")["t_x:failed"]["message"] == "second"


def test_unless_on_failed_is_final(session: Any) -> None:
    session.configure(
        {"t_x": {"after": ["a"]}, "t_y": {"after": ["t_x"], "unless": ["t_x:failed"]}}
    )
    session.fire("a")
    run_and_fail(session, "t_x#0")
    assert statuses(session)["t_y#0"] == "abandoned"
    session.replay("t_x#0")
    run(session, "t_x#1")
    assert statuses(session)["t_y#0"] == "abandoned"


def test_a_cascade_by_hand_uses_up_the_lineage(session: Any) -> None:
    session.configure({"t_x": {"after": ["a"]}, "t_y": {"andEvery": "t_x"}})
    session.fire("a")
    session.set_status("t_x#0", "failed", True, {"n": 1})
    assert kwargs_of(session, "t_y#0")["t_x"]["n"] == 1
    session.replay("t_x#0")
    run(session, "t_x#1", {"n": 2})
    assert "t_y#1" not in statuses(session)
    session.fire("t_x", {"n": 3})
    assert kwargs_of(session, "t_y#1") == {"t_x": {"n": 3}}


# Time.


def test_within_abandons_what_still_waits_at_its_own_time(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "within": "PT10S"}})
    session.fire("a")
    session.move_on(9)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.move_on(5)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "abandoned"}
    assert reason_of(session, "t_x#0") == "expired"
    firing = session.snapshot()["firings"][-1]
    reason = {"reason": "expired"}
    assert firing["names"] == {"t_x:expired": reason, "t_x:abandoned": reason, "t_x:ended": reason}
    assert firing["at"] == 10
    assert firing["cause"] == "t_x#0"


def test_a_firing_exactly_at_the_deadline_comes_too_late(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "within": "PT10S"}})
    session.fire("a")
    session.move_on(10)
    session.fire("b")
    assert statuses(session) == {"t_x#0": "abandoned"}
    assert [names[0] for names in fired(session)] == ["a", "t_x:abandoned", "b"]


def test_what_expires_at_the_same_moment_takes_nothing_any_more(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": ["a", "b"], "within": "PT10S"},
            "t_y": {"after": ["a"], "andEvery": "t_x:expired", "within": "PT10S"},
        }
    )
    session.fire("a")
    session.move_on(10)
    session.fire_due()
    assert statuses(session) == {
        "t_x#0": "abandoned",
        "t_y#0": "abandoned",
        "t_y#1": "scheduled",
    }
    assert kwargs_of(session, "t_y#0") == {"a": {}}


def test_a_deadline_counts_from_the_creation(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "andEvery": "p", "within": "PT10S"}})
    session.fire("a")
    session.move_on(6)
    fire_all(session, "p p")
    session.move_on(6)
    session.fire("b")
    assert statuses(session) == {"t_x#0": "abandoned", "t_x#1": "scheduled"}


def test_elapsed_starts_a_task_some_time_after_a_firing(session: Any) -> None:
    session.configure({"t_x": {"after": ["b", {"elapsed": "PT10S", "since": "a"}]}})
    session.fire("a", {"n": 1})
    session.move_on(4)
    session.fire("b")
    session.move_on(5)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.move_on(1)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"a": {"n": 1}, "b": {}}


def test_elapsed_counts_from_the_firing_also_where_it_was_carried_over(session: Any) -> None:
    after = {"elapsed": "PT10S", "since": "a"}
    session.configure({"t_x": {"after": after, "andEvery": "p"}})
    fire_all(session, "a p")
    session.move_on(7)
    session.fire("p")
    session.move_on(3)
    session.fire("p")
    session.fire_due()
    assert set(statuses(session).values()) == {"scheduled"}
    assert len(statuses(session)) == 3


def test_elapsed_in_unless_gives_up(session: Any) -> None:
    unless = {"elapsed": "PT10S", "since": "a"}
    session.configure({"t_x": {"after": ["a", "b"], "unless": unless}})
    session.fire("a")
    session.move_on(20)
    session.fire("b")
    assert statuses(session) == {"t_x#0": "abandoned"}
    assert [firing["at"] for firing in session.snapshot()["firings"]] == [0, 10, 20]


def test_where_an_instance_expires_and_becomes_ready_it_expires(session: Any) -> None:
    after = {"elapsed": "PT10S", "since": "a"}
    session.configure({"t_x": {"after": after, "within": "PT10S"}})
    session.fire("a")
    session.move_on(10)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "abandoned"}
    assert reason_of(session, "t_x#0") == "expired"


def test_what_is_due_is_applied_in_order_of_the_due_times(session: Any) -> None:
    session.configure(
        {
            "t_y": {"after": ["x"], "unless": {"elapsed": "PT9S", "since": "a"}},
            "t_x": {"after": ["x"], "unless": {"elapsed": "PT7S", "since": "a"}},
            "t_w": {"after": ["x"], "unless": {"elapsed": "PT9S", "since": "a"}},
        }
    )
    session.fire("a")
    session.move_on(100)
    session.fire("b")
    names = [names[0] for names in fired(session)]
    assert names == ["a", "t_x:abandoned", "t_y:abandoned", "t_w:abandoned", "b"]
    assert [firing["at"] for firing in session.snapshot()["firings"]] == [0, 7, 9, 9, 100]


def test_what_falls_due_by_what_is_due_is_applied_in_the_same_transition(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": ["a", "b"], "within": "PT10S"},
            "t_y": {"after": ["t_x:expired", "b"], "within": "PT10S"},
            "t_z": {"after": {"elapsed": "PT3S", "since": "t_y:expired"}},
        }
    )
    session.fire("a")
    session.move_on(100)
    session.fire_due()
    assert [firing["at"] for firing in session.snapshot()["firings"]] == [0, 10, 20]
    assert statuses(session)["t_z#0"] == "scheduled"


def test_settled_is_asked_at_the_time_of_what_was_due(session: Any) -> None:
    session.configure(
        {
            "t_x": {"after": ["a", "b"], "within": "PT10S"},
            "t_y": {"after": ["a", {"settled": "t_x"}], "within": "PT20S"},
        }
    )
    session.fire("a")
    session.move_on(100)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "abandoned", "t_y#0": "scheduled"}


def test_every_transition_applies_what_is_due(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "within": "PT10S"}, "t_y": {"andEvery": "a"}})
    session.fire("a")
    session.move_on(10)
    session.start("t_y#0")
    assert statuses(session) == {"t_x#0": "abandoned", "t_y#0": "running"}


@pytest.mark.parametrize(
    ("duration", "length"),
    [("PT0.5S", 0.5), ("PT1M30S", 90), ("PT1H", 3_600), ("P1DT1S", 86_401), ("P1W", 604_800)],
)
def test_durations(session: Any, duration: str, length: float) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "within": duration}})
    session.fire("a")
    session.move_on(length - 0.25)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.move_on(0.25)
    session.fire_due()
    assert statuses(session) == {"t_x#0": "abandoned"}


# Configurations that come later.


def test_the_first_configuration_sees_what_was_fired_before_it(session: Any) -> None:
    for n in (1, 2, 3):
        session.fire("a", {"n": n})
    session.fire("b")
    session.configure(
        {
            "t_x": {"after": [{"trigger": "a", "times": 2}, "b"], "when": {"a": {"n": {"gte": 2}}}},
            "t_y": {"andEvery": "a"},
        }
    )
    assert len(statuses(session)) == 4
    session.start("t_x#0")
    assert [each["n"] for each in session.context_firings("t_x#0")["a"]] == [2, 3]


def test_a_task_that_comes_later_looks_at_the_latest_firing_of_each_name(session: Any) -> None:
    session.configure({"t_x": {"after": ["x"]}})
    session.fire("a", {"n": 2})
    session.fire("a", {"n": 1})
    session.fire("b", {"n": 1})
    when = {"a": {"n": {"gte": 2}}, "b": {"n": 1}}
    session.configure({"t_y": {"after": ["b", "c"], "unless": ["a", "d"], "when": when}})
    assert statuses(session) == {}
    session.fire("b", {"n": 2})
    assert statuses(session) == {}
    session.fire("d")
    assert statuses(session) == {"t_y#0": "unstarted"}  # the latest a did not pass
    session.fire("c")
    assert statuses(session) == {"t_y#0": "scheduled"}
    assert kwargs_of(session, "t_y#0") == {"b": {"n": 1}, "c": {}}


def test_what_a_later_task_carries_over_uses_up_its_lineage(session: Any) -> None:
    session.configure({"t_x": {"andEvery": "a"}})
    fire_all(session, "a a")
    run_and_fail(session, "t_x#0")
    session.configure({"t_y": {"after": ["b", {"trigger": "t_x:failed", "times": 2}]}})
    session.fire("b")
    session.replay("t_x#0")
    run_and_fail(session, "t_x#2")
    assert statuses(session)["t_y#0"] == "unstarted"
    run_and_fail(session, "t_x#1")
    assert statuses(session)["t_y#0"] == "scheduled"


def test_a_later_task_begins_a_burst_with_what_it_carries_over(session: Any) -> None:
    session.configure({"t_x": {"after": ["x"]}})
    session.fire("p", {"n": 1})
    session.configure({"t_y": {"after": ["a"], **DEBOUNCED}})
    session.fire("a")
    session.fire("p", {"n": 2})
    assert statuses(session) == {"t_y#0": "unstarted"}
    session.move_on(5)
    session.fire_due()
    assert kwargs_of(session, "t_y#0")["p"] == {"n": 2}


def test_at_most_every_looks_at_what_fired_before_the_task_came(session: Any) -> None:
    session.configure({"t_x": {"after": ["x"]}})
    session.fire("p", {"n": 1})
    session.configure({"t_y": {"andEvery": "p", "atMostEvery": "PT10S"}})
    session.fire("p", {"n": 2})
    assert statuses(session) == {}
    session.move_on(10)
    session.fire("p", {"n": 3})
    assert kwargs_of(session, "t_y#0") == {"p": {"n": 3}}


def test_a_configuration_sees_what_was_due_before_it_came(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "within": "PT10S"}})
    session.fire("a")
    session.move_on(20)
    session.configure({"t_y": {"after": ["t_x:expired"]}}, apply_history=True)
    assert statuses(session) == {"t_x#0": "abandoned", "t_y#0": "scheduled"}


def test_a_later_task_carries_over_what_was_due_before_it_came(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "within": "PT10S"}})
    session.fire("a")
    session.move_on(20)
    session.configure({"t_y": {"after": ["t_x:expired", "c"]}})
    session.fire("c")
    assert statuses(session)["t_y#0"] == "scheduled"


def test_a_task_that_comes_later_sees_everything_if_it_shall(session: Any) -> None:
    session.configure({"t_x": {"andEvery": "a"}})
    fire_all(session, "a a")
    run_and_fail(session, "t_x#0")
    run_and_fail(session, "t_x#1")
    session.replay("t_x#0")
    run_and_fail(session, "t_x#2")
    config = {"t_y": {"andEvery": "t_x:failed"}}
    session.configure(config, apply_history=True)
    assert [name for name in statuses(session) if "t_y" in name] == ["t_y#0", "t_y#1"]


def test_loading_again_changes_nothing(session: Any) -> None:
    config = {"t_x": {"after": {"trigger": "a", "times": 2}, "andEvery": "p"}}
    session.configure(config)
    fire_all(session, "a p")
    before = session.snapshot()
    session.configure(config)
    session.configure(config, apply_history=True)
    assert session.snapshot() == before


# -- the end of a session -----------------------------------------------------------------------

ENDING = {"t_x": {"after": ["a"]}, "t_end": {"after": ["sessionFinalized"]}}


def endings(session: Any) -> int:
    return fired(session).count(["sessionFinalized"])


def test_the_end_is_fired_once_when_nothing_is_left(session: Any) -> None:
    session.configure({**ENDING, "t_y": {"andEvery": "b"}}, False, True)
    fire_all(session, "a b")
    run(session, "t_x#0")
    assert endings(session) == 0
    run(session, "t_y#0")
    assert fired(session)[-1] == ["sessionFinalized"]
    assert last_fired(session) == {"sessionFinalized": {}}
    assert statuses(session)["t_end#0"] == "scheduled"
    session.fire("b")
    run(session, "t_y#1")
    assert endings(session) == 1


def test_what_has_failed_or_not_begun_is_left(session: Any) -> None:
    session.configure({**ENDING, "t_y": {"after": ["b"]}}, False, True)
    session.fire("a")
    run(session, "t_x#0")
    assert endings(session) == 0
    session.fire("b")
    run_and_fail(session, "t_y#0")
    assert endings(session) == 0
    session.skip_failed("t_y#0")
    assert endings(session) == 1


def test_who_names_the_end_in_unless_is_left_and_who_waits_for_it_is_not(session: Any) -> None:
    config = {
        "t_y": {"after": ["a", "c"], "unless": ["sessionFinalized"]},
        "t_end": {"after": ["a", {"any": ["sessionFinalized", "never"]}]},
    }
    session.configure({**ENDING, **config}, False, True)
    session.fire("a")
    run(session, "t_x#0")
    assert endings(session) == 0
    session.fire("c")
    run(session, "t_y#0")
    assert statuses(session)["t_end#0"] == "scheduled"


def test_the_end_comes_after_what_waits_for_tasks_to_be_settled(session: Any) -> None:
    config = {"t_sum": {"after": ["a", {"settled": "t_x"}]}}
    session.configure({**ENDING, **config}, False, True)
    session.fire("a")
    run(session, "t_x#0")
    assert (statuses(session)["t_sum#0"], endings(session)) == ("scheduled", 0)
    run(session, "t_sum#0")
    assert endings(session) == 1


def test_a_deadline_may_be_the_end(session: Any) -> None:
    session.configure({"t_x": {"after": ["a", "b"], "within": "PT10S"}}, False, True)
    session.fire("a")
    session.move_on(20)
    session.fire("b")
    assert fired(session)[-2:] == [["sessionFinalized"], ["b"]]
    assert session.snapshot()["firings"][-2]["at"] == 10


def test_a_firing_of_the_end_by_hand_is_the_end(session: Any) -> None:
    session.configure(ENDING, False, True)
    fire_all(session, "a sessionFinalized")
    run(session, "t_x#0")
    assert endings(session) == 1


def test_without_a_task_to_do_the_end_comes_when_the_session_is_closed(session: Any) -> None:
    session.configure({"t_end": {"after": ["sessionFinalized"]}}, False, True)
    session.fire("a")
    assert endings(session) == 0
    session.close_session()
    assert endings(session) == 1


def test_in_a_closed_session_only_what_goes_on_is_left(session: Any) -> None:
    config = {"t_wait": {"after": ["a", "never"]}, "t_never": {"after": ["never"]}}
    session.configure({**ENDING, **config}, False, True)
    session.fire("a")
    session.close_session()
    run_and_fail(session, "t_x#0")
    assert endings(session) == 0
    session.skip_failed("t_x#0")
    assert endings(session) == 1


def test_in_a_closed_session_what_time_may_change_is_left(session: Any) -> None:
    config = {
        "t_x": {"after": ["a", {"elapsed": "PT5S", "since": "a"}, "never"]},
        "t_y": {"after": ["a", "never"], "within": "PT10S"},
        "t_end": {"after": ["a", "sessionFinalized"], "within": "PT1H"},
    }
    session.configure(config, False, True)
    session.fire("a")
    session.close_session()
    for seconds in (5, 5):
        assert endings(session) == 0
        session.move_on(seconds)
        session.fire_due()
    assert endings(session) == 1
    assert statuses(session) == {"t_x#0": "unstarted", "t_y#0": "abandoned", "t_end#0": "scheduled"}


def test_a_cancelled_session_has_no_end(session: Any) -> None:
    session.configure(ENDING, False, True)
    session.fire("a")
    session.start("t_x#0")
    session.cancel_session()
    session.finish("t_x#0", {})
    session.close_session()
    assert endings(session) == 0


def test_the_end_may_be_declared_late_and_taken_back(session: Any) -> None:
    session.configure(ENDING, False, True)
    session.configure({}, False, False)
    session.fire("a")
    run(session, "t_x#0")
    assert endings(session) == 0
    session.configure({}, False, None)
    assert endings(session) == 0
    session.configure({}, False, True)
    assert endings(session) == 1


def examples() -> Iterator[tuple[str, Callable[..., None]]]:
    """Return all examples, those of a table for each of its rows."""
    for name, test in list(globals().items()):
        if not name.startswith("test_") or "session" not in inspect.signature(test).parameters:
            continue
        marks = [each for each in getattr(test, "pytestmark", []) if each.name == "parametrize"]
        if not marks:
            yield name, test
        for mark in marks:
            names, rows = mark.args
            for number, row in enumerate(rows):
                values = [row] if isinstance(names, str) else row
                keys = [names] if isinstance(names, str) else names
                yield f"{name}[{number}]", _bound(test, dict(zip(keys, values, strict=True)))


def _bound(test: Callable[..., None], values: Mapping[str, Any]) -> Callable[..., None]:
    return lambda session: test(session, **values)


EXAMPLES = dict(examples())
"""Each of the tests above by its name, to be called with a session."""
