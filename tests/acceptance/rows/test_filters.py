"""Rows P06 and P07: filters on events, and on the arguments of the source task."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import explode, got, reopened, show, statuses
from triggers.conditions import predicate
from triggers.exceptions import ConfigurationError, PredicateFailed
from triggers.manager import TriggerManager

SHOW = {"run": show.name}


@predicate("rows-is-large")
def is_large(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs["amount"] > 1000)


@predicate("rows-by-a-customer")
def by_a_customer(kwargs: dict[str, Any], *, args: dict[str, Any]) -> bool:
    """Whether the task was started by an order of a known customer."""
    return "customer" in args.get("orderPlaced", {})


@predicate("rows-greedy")
def greedy(kwargs: dict[str, Any]) -> bool:
    """Change the kwargs, which are nobody else's."""
    kwargs.clear()
    return True


def refusals(manager: TriggerManager) -> list[dict[str, str]]:
    """Why firings did not count, by task, in order."""
    return [dict(each.refused) for each in reopened(manager).storage.find_firings()]


# -- P06 ----------------------------------------------------------------------------------------


def test_p06_a_task_starts_on_an_event(new_session: NewSession) -> None:
    manager = new_session({"t_log": {"andEvery": "user.login", **SHOW}})
    manager.fire("user.login", {"user": 1})
    manager.fire("user.login", {"user": 2})
    users = [got(manager, f"t_log#{number}")["user.login"]["user"] for number in range(2)]
    assert users == [1, 2]


def test_p06_the_payload_is_filtered_by_values(new_session: NewSession) -> None:
    when = {"user.login": {"role": "admin"}}
    manager = new_session(
        {
            "t_log": {"andEvery": "user.login", **SHOW},
            "t_admin": {"andEvery": "user.login", "when": when, **SHOW},
        }
    )
    for role in ("user", "admin", None):
        manager.fire("user.login", {"role": role})
    assert statuses(manager).keys() == {"t_log#0", "t_log#1", "t_log#2", "t_admin#0"}
    assert got(manager, "t_admin#0") == {"user.login": {"role": "admin"}}
    assert [list(each) for each in refusals(manager) if each] == [["t_admin"], ["t_admin"]]


PAGES: list[dict[str, Any]] = [
    {"page": {"number": 1}, "channel": "web"},
    {"page": {"number": 3}, "channel": "app"},
    {"page": {"number": 4}, "channel": "fax", "tags": ["late", "long"]},
    {"page": {"number": 9}, "channel": "web", "tags": []},
    {"channel": "web"},
]


@pytest.mark.parametrize(
    ("tests", "passing"),
    [
        ({"page.number": {"gte": 3}, "channel": {"in": ["web", "app"]}}, [1, 3]),
        ({"page.number": {"gt": 1, "lt": 9}}, [1, 2]),
        ({"page.number": {"lte": 3}}, [0, 1]),
        ({"page.number": {"ne": 3}}, [0, 2, 3]),
        ({"page": {"exists": False}}, [4]),
        ({"page.number": {"exists": True}}, [0, 1, 2, 3]),
        ({"tags": {"contains": "late"}}, [2]),
        ({"tags.1": "long"}, [2]),
        ({"channel": {"matches": "^(w|f)"}}, [0, 2, 3, 4]),
        ({"page": {"eq": {"number": 4}}}, [2]),
        ([{"channel": "web"}, {"tags": []}], [3]),
    ],
)
def test_p06_the_payload_is_filtered_by_tests_on_paths(
    new_session: NewSession, tests: Any, passing: list[int]
) -> None:
    manager = new_session(
        {"t_x": {"andEvery": "pageReceived", "when": {"pageReceived": tests}, **SHOW}}
    )
    for page in PAGES:
        manager.fire("pageReceived", page)
    seen = [got(manager, name)["pageReceived"] for name in statuses(manager)]
    assert seen == [PAGES[index] for index in passing]


def test_p06_dates_numbers_and_ids_compare_with_what_the_configuration_spells(
    new_session: NewSession,
) -> None:
    tests = {
        "at": {"gte": "2026-11-21T12:00:00+00:00"},
        "day": "2026-11-21",
        "price": {"lt": "10.00"},
        "id": "00000000-0000-0000-0000-00000000002a",
    }
    manager = new_session({"t_x": {"andEvery": "a", "when": {"a": tests}, **SHOW}})
    good = {
        "at": datetime(2026, 11, 21, 14, tzinfo=UTC),
        "day": date(2026, 11, 21),
        "price": Decimal("9.99"),
        "id": UUID(int=42),
    }
    for changed in (
        {},
        {"at": datetime(2026, 11, 21, 11, 59, tzinfo=UTC)},
        {"day": date(2026, 11, 22)},
        {"price": Decimal("10.00")},
        {"id": UUID(int=43)},
    ):
        manager.fire("a", {**good, **changed})
    assert list(statuses(manager)) == ["t_x#0"]


def test_p06_a_predicate_may_judge_the_payload(new_session: NewSession) -> None:
    when = {"orderPlaced": "rows-is-large"}
    manager = new_session({"t_x": {"andEvery": "orderPlaced", "when": when, **SHOW}})
    for amount in (10, 5000):
        manager.fire("orderPlaced", {"amount": amount})
    assert got(manager, "t_x#0") == {"orderPlaced": {"amount": 5000}}
    assert refusals(manager)[0] == {"t_x": "filter on orderPlaced: predicate rows-is-large"}


def test_p06_a_predicate_that_raises_refuses_what_comes_from_outside(
    new_session: NewSession,
) -> None:
    when = {"orderPlaced": "rows-is-large"}
    manager = new_session(
        {
            "t_x": {"andEvery": "orderPlaced", "when": when, **SHOW},
            "t_y": {"andEvery": "orderPlaced", **SHOW},
        }
    )
    with pytest.raises(PredicateFailed, match="rows-is-large") as caught:
        manager.fire("orderPlaced", {"n": 1})
    assert isinstance(caught.value.__cause__, KeyError)
    assert statuses(manager) == {}
    assert refusals(manager) == []


def test_p06_what_a_predicate_does_to_its_kwargs_reaches_nobody(new_session: NewSession) -> None:
    when = {"a": ["rows-greedy", {"n": 1}]}
    manager = new_session({"t_x": {"andEvery": "a", "when": when, **SHOW}})
    manager.fire("a", {"n": 1})
    assert got(manager, "t_x#0") == {"a": {"n": 1}}


def test_p06_a_firing_that_does_not_pass_is_as_if_it_had_not_happened(
    new_session: NewSession,
) -> None:
    when = {"started": {"kind": "real"}, "cancelled": {"for": "real"}}
    tasks = {
        "t_x": {
            "after": ["started"],
            "andEvery": "page",
            "unless": ["cancelled"],
            "when": when,
            **SHOW,
        }
    }
    manager = new_session(tasks)
    manager.fire("started", {"kind": "test", "n": 1})
    assert statuses(manager) == {}
    manager.fire("started", {"kind": "real", "n": 2})
    manager.fire("cancelled", {"for": "test"})
    manager.fire("page", {"n": 1})
    manager.fire("started", {"kind": "test", "n": 3})
    manager.fire("page", {"n": 2})
    manager.fire("started", {"kind": "real", "n": 4})
    manager.fire("page", {"n": 3})
    seen = [got(manager, f"t_x#{number}") for number in range(3)]
    assert [(each["started"]["n"], each["page"]["n"]) for each in seen] == [(2, 1), (2, 2), (4, 3)]
    manager.fire("cancelled", {"for": "real"})
    manager.fire("page")
    assert statuses(manager)["t_x#3"] == "abandoned"


@pytest.mark.parametrize(
    ("when", "place"),
    [
        ({"a": {"n": {"gte": 3, "above": 9}}}, "t_x.when.a.n.above"),
        ({"a": {"n": {}}}, "t_x.when.a.n"),
        ({"a": {}}, "t_x.when.a"),
        ({"a": []}, "t_x.when.a"),
        ({"a": 3}, "t_x.when.a"),
        ({"a": {"n..m": 3}}, "t_x.when.a.n..m"),
        ({"a": {"n": {"in": "web"}}}, "t_x.when.a.n.in"),
        ({"a": {"n": {"exists": "yes"}}}, "t_x.when.a.n.exists"),
        ({"a": {"n": {"matches": "("}}}, "t_x.when.a.n.matches"),
        ({"a": {"n": {"lt": None}}}, "t_x.when.a.n.lt"),
        ({"b": {"n": 3}}, "t_x.when.b"),
    ],
)
def test_p06_what_is_no_filter_is_refused_at_its_place(
    new_session: NewSession, when: Any, place: str
) -> None:
    manager = new_session()
    with pytest.raises(ConfigurationError) as caught:
        manager.update_configuration({"t_x": {"after": ["a"], "when": when, **SHOW}})
    assert place in str(caught.value)
    assert reopened(manager).storage.tasks == {}


# -- P07 ----------------------------------------------------------------------------------------

ORDERS: dict[str, Any] = {"t_order": {"andEvery": "orderPlaced", **SHOW}}


def test_p07_the_arguments_of_the_source_task_are_filtered_by_values(
    new_session: NewSession,
) -> None:
    manager = new_session(
        {
            **ORDERS,
            "t_urgent": {
                "andEvery": "t_order",
                "when": {"t_order": {"$args.orderPlaced.priority": "high"}},
                **SHOW,
            },
            "t_large": {
                "andEvery": "t_order:ended",
                "when": {"t_order:ended": {"$args.orderPlaced.amount": {"gt": 1000}}},
                **SHOW,
            },
        }
    )
    orders = [("low", 10), ("high", 20), ("low", 2000), ("high", 3000)]
    for priority, amount in orders:
        manager.fire("orderPlaced", {"priority": priority, "amount": amount})
    begun = {name.partition("#")[0]: 0 for name in statuses(manager)}
    for name in statuses(manager):
        begun[name.partition("#")[0]] += 1
    assert begun == {"t_order": 4, "t_urgent": 2, "t_large": 2}
    urgent = [got(manager, f"t_urgent#{n}")["t_order"]["got"]["orderPlaced"] for n in range(2)]
    assert [each["amount"] for each in urgent] == [20, 3000]


def test_p07_static_kwargs_of_the_source_task_count_too(new_session: NewSession) -> None:
    params = {"orderPlaced": {"priority": "normal"}, "settings": {"region": "eu"}}
    when = {
        "t_order": {"$args.orderPlaced.priority": "normal", "$args.settings.region": {"in": ["eu"]}}
    }
    manager = new_session(
        {
            "t_order": {"andEvery": "orderPlaced", "withParams": params, **SHOW},
            "t_next": {"andEvery": "t_order", "when": when, **SHOW},
        }
    )
    manager.fire("orderPlaced", {"priority": "high"})
    manager.fire("orderPlaced")
    assert statuses(manager).keys() == {"t_order#0", "t_order#1", "t_next#0"}


def test_p07_the_arguments_of_a_failed_task_are_filtered_like_any(new_session: NewSession) -> None:
    when = {"t_order:failed": {"$args.orderPlaced.amount": 7, "types": {"contains": "LookupError"}}}
    manager = new_session(
        {
            "t_order": {"andEvery": "orderPlaced", "run": explode.name},
            "t_help": {"andEvery": "t_order:failed", "when": when, **SHOW},
        }
    )
    for amount in (6, 7):
        manager.fire("orderPlaced", {"amount": amount})
    assert got(manager, "t_help#0")["t_order:failed"]["kwargs"] == {"orderPlaced": {"amount": 7}}
    assert "t_help#1" not in statuses(manager)


def test_p07_a_predicate_may_judge_the_arguments(new_session: NewSession) -> None:
    manager = new_session(
        {
            **ORDERS,
            "t_next": {"andEvery": "t_order", "when": {"t_order": "rows-by-a-customer"}, **SHOW},
        }
    )
    manager.fire("orderPlaced", {"customer": 3})
    manager.fire("orderPlaced", {})
    manager.fire("t_order", {"by": "hand"})
    assert [name for name in statuses(manager) if name.startswith("t_next")] == ["t_next#0"]


def test_p07_of_a_firing_by_hand_there_are_no_arguments(new_session: NewSession) -> None:
    when = {"t_order": {"$args.orderPlaced": {"exists": False}}}
    manager = new_session({**ORDERS, "t_next": {"andEvery": "t_order", "when": when, **SHOW}})
    manager.fire("orderPlaced", {"n": 1})
    manager.fire("t_order", {"n": 2})
    assert got(manager, "t_next#0") == {"t_order": {"n": 2}}
    assert "t_next#1" not in statuses(manager)


def test_p07_a_replay_is_judged_by_its_own_arguments(new_session: NewSession) -> None:
    when = {"t_order": {"$args.a.good": True}}
    manager = new_session(
        {
            "t_order": {
                "after": ["a"],
                "run": "tests.acceptance.rows.sessions.explode_unless_told_otherwise",
            },
            "t_next": {"andEvery": "t_order", "when": when, **SHOW},
        }
    )
    manager.fire("a", {"good": False})
    manager.replay_failed_instance("t_order#0", {"a": {"good": True}})
    assert statuses(manager) == {
        "t_order#0": "replayed",
        "t_order#1": "finished",
        "t_next#0": "finished",
    }


def test_p07_arguments_that_came_by_the_same_firing_are_known(new_session: NewSession) -> None:
    """The instance is created, or completed, and ruled out by the firing that is judged."""
    when = {"t_x:abandoned": {"$args.a.n": 1}}
    tasks = {
        "t_x": {"after": ["a", "b"], "unless": ["u", "a"], **SHOW},
        "t_next": {"after": ["t_x:abandoned"], "when": when, **SHOW},
    }
    waiting, fresh = new_session(tasks), new_session(tasks)
    waiting.fire("b")
    for manager in (waiting, fresh):
        manager.fire("u")
        manager.fire("a", {"n": 1})
        assert statuses(manager) == {"t_x#0": "abandoned", "t_next#0": "finished"}


def test_p07_an_instance_that_ends_as_it_begins_can_be_judged(new_session: NewSession) -> None:
    when = {"t_x:abandoned": {"$args.a.n": {"exists": False}}}
    manager = new_session(
        {
            "t_x": {"after": ["a"], "unless": ["u"], **SHOW},
            "t_next": {"after": ["t_x:abandoned"], "when": when, **SHOW},
        }
    )
    manager.fire("u")
    assert statuses(manager) == {"t_x#0": "abandoned", "t_next#0": "finished"}


@pytest.mark.parametrize(
    ("when", "place"),
    [
        ({"a": {"$args.b.n": 1}}, "t_y.when.a.$args.b.n"),
        ({"t_order": {"$args.unknown.n": 1}}, "t_y.when.t_order.$args.unknown.n"),
        ({"t_order": {"$args": {"exists": True}}}, "t_y.when.t_order.$args"),
    ],
)
def test_p07_arguments_that_no_task_gets_are_refused(
    new_session: NewSession, when: Any, place: str
) -> None:
    manager = new_session()
    with pytest.raises(ConfigurationError) as caught:
        manager.update_configuration(
            {**ORDERS, "t_y": {"after": ["a", "t_order"], "when": when, **SHOW}}
        )
    assert place in str(caught.value)
