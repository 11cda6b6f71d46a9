"""What the language says about order: what ends the same in every order, and what does not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from triggers.clock import set_time
from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, trigger_task
from triggers.testing import Order, any_order, frozen_time, run_tasks_locally

Config = dict[str, dict[str, Any]]

BEGINNING = datetime(2026, 11, 21, 12, tzinfo=UTC)


@trigger_task
def work(context: TaskContext) -> dict[str, Any]:
    """Say which firings of which triggers there were; each trigger always has the same kwargs."""
    return {"triggers": sorted(context.trigger_kwargs)}


@trigger_task
def fail_if_bad(context: TaskContext) -> None:
    if context.trigger_kwargs["a"].get("bad"):
        raise ValueError("bad")


@trigger_task
def count_parts(context: TaskContext) -> dict[str, Any]:
    parts = context.manager.storage.instances_of_task("t_part")
    return {"finished": sum(part.status == "finished" for part in parts)}


def runnable(config: Mapping[str, Mapping[str, Any]]) -> Config:
    return {name: {"run": work.name, **task} for name, task in config.items()}


def up_to_numbering(manager: TriggerManager) -> str:
    return json.dumps(
        sorted(
            [each.task_name, str(each.status), sorted(each.kwargs.items())]
            for each in manager.storage
        )
    )


def different_orders(firings: Sequence[Any]) -> Iterator[Order]:
    """Yield each order once, also where some of the firings are the same."""
    seen: set[str] = set()
    for order in any_order(firings):
        if str(order) not in seen:
            seen.add(str(order))
            yield order


def parts_of(firings: Sequence[Any]) -> list[list[Any]]:
    """Return every choice of these firings, those that are the same only once."""
    choices = {
        json.dumps(choice)
        for size in range(1, len(firings) + 1)
        for choice in itertools.combinations(firings, size)
    }
    return [json.loads(choice) for choice in sorted(choices)]


PAGE = {"page": {"number": 3, "channel": "web"}}
INDEPENDENT: dict[str, tuple[Config, list[Any]]] = {
    "all, nested": (
        {
            "t_x": {"after": {"all": ["a", ["b", {"all": ["c"]}]]}},
            "t_y": {"after": ["t_x", "d"]},
            "t_z": {"after": ["t_y", "a"]},
        },
        ["a", "b", "c", "d", "a", "b"],
    ),
    "all with andEvery": (
        {"t_x": {"after": ["a"], "andEvery": "p"}, "t_y": {"after": ["b"], "andEvery": "t_x"}},
        ["a", "a", "b", "p", "p", "p"],
    ),
    "times": (
        {
            "t_x": {"after": [{"trigger": "a", "times": 3}, "b"]},
            "t_y": {"after": [{"trigger": "a", "times": 2}, {"trigger": "b", "times": 2}, "t_x"]},
        },
        ["a", "a", "a", "a", "b", "b"],
    ),
    "times of outcomes": (
        {
            "t_x": {"andEvery": "a"},
            "t_y": {
                "after": [{"trigger": "t_x", "times": 2}, {"trigger": "t_x:ended", "times": 3}]
            },
            "t_z": {"after": ["t_y:ended", "b"]},
        },
        ["a", "a", "a", "a", "b", "c"],
    ),
    "times from": (
        {
            "t_x": {"after": [{"trigger": "a", "times": {"from": "b.of.n"}}, "c"]},
            "t_y": {"after": {"trigger": "c", "times": {"from": "d.n"}}},
        },
        ["a", "a", "a", ["b", {"of": {"n": 2}}], "c", ["d", {"n": 1}]],
    ),
    "filters": (
        {
            "t_x": {"after": ["a", "b"], "when": {"a": {"page.number": {"gte": 3}}}},
            "t_y": {
                "after": [{"trigger": "a", "times": 2}],
                "when": {"a": {"page.number": {"in": [3, 4]}}},
            },
            "t_w": {"after": ["b"], "andEvery": "p", "when": {"p": {"n": {"ne": 1}}}},
            "t_z": {"after": ["t_x"], "when": {"t_x": {"$args.a.page.channel": "web"}}},
        },
        [["a", PAGE], ["a", PAGE], "a", "b", ["p", {"n": 2}], ["p", {"n": 1}]],
    ),
}


@pytest.mark.parametrize("construct", INDEPENDENT)
def test_it_ends_the_same_in_every_order(construct: str) -> None:
    config, firings = INDEPENDENT[construct]
    endings: dict[str, set[str]] = {}
    tried = 0
    for choice in parts_of(firings):
        for order in different_orders(choice):
            ending = up_to_numbering(order.play(runnable(config)))
            endings.setdefault(json.dumps(choice), set()).add(ending)
            tried += 1
    assert [choice for choice, found in endings.items() if len(found) > 1] == []
    # It was not the same merely because few orders were tried, or because nothing came of them.
    assert tried > 50
    everything = set.union(*endings.values())
    assert len(everything) > 4
    assert any("finished" in ending for ending in everything)
    assert all(f'"{task}", "finished"' in "".join(everything) for task in config)


# What depends on the order: for each construct, two outcomes of the same firings.


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in manager.storage}


def endings_by_order(config: Config, firings: Sequence[Any]) -> dict[str, dict[str, str]]:
    return {
        str(order): statuses(order.play(runnable(config))) for order in different_orders(firings)
    }


def test_unless_depends_on_whether_it_is_complete_before_the_join() -> None:
    endings = endings_by_order({"t_x": {"after": ["a"], "unless": {"any": ["u", "v"]}}}, ["a", "u"])
    assert endings == {"a, u": {"t_x#0": "finished"}, "u, a": {"t_x#0": "abandoned"}}


def test_any_depends_on_which_kwargs_have_arrived() -> None:
    config: Config = {"t_x": {"after": {"any": ["a", "b"]}}}
    kwargs = {
        str(order): order.play(runnable(config)).storage["t_x#0"].kwargs
        for order in any_order(["a", "b"])
    }
    assert kwargs == {"a, b": {"a": {}}, "b, a": {"b": {}}}


def test_at_least_depends_on_which_kwargs_have_arrived() -> None:
    config: Config = {"t_x": {"after": {"atLeast": 2, "of": ["a", "b", "c"]}}}
    found = {
        frozenset(order.play(runnable(config)).storage["t_x#0"].kwargs)
        for order in any_order(["a", "b", "c"])
    }
    assert found == {frozenset("ab"), frozenset("ac"), frozenset("bc")}


def test_settled_depends_on_whether_all_have_begun_and_times_from_does_not() -> None:
    config: Config = {
        "t_part": {"andEvery": "part"},
        "t_settled": {"after": ["begun", {"settled": "t_part"}], "run": count_parts.name},
        "t_counted": {
            "after": {"trigger": "t_part", "times": {"from": "begun.parts"}},
            "run": count_parts.name,
        },
    }
    settled, counted = {}, {}
    for order in different_orders([["begun", {"parts": 2}], "part", "part"]):
        storage = order.play(runnable(config)).storage
        triggers = " ".join(trigger for trigger, _ in order.firings)
        settled[triggers] = storage["t_settled#0"].metadata["result"]["finished"]
        counted[triggers] = storage["t_counted#0"].metadata["result"]["finished"]
    assert settled == {"begun part part": 1, "part begun part": 1, "part part begun": 2}
    assert set(counted.values()) == {2}


def test_times_from_a_zero_depends_on_which_kwargs_have_arrived() -> None:
    config: Config = {"t_x": {"after": {"trigger": "a", "times": {"from": "b.n"}}}}
    kwargs = {
        order.firings[0][0]: set(order.play(runnable(config)).storage["t_x#0"].kwargs)
        for order in any_order(["a", ("b", {"n": 0})])
    }
    assert kwargs == {"a": {"a", "b"}, "b": {"b"}}


def test_unless_on_an_outcome_depends_on_when_it_comes() -> None:
    config: Config = {
        "t_x": {"andEvery": "a", "run": fail_if_bad.name},
        "t_y": {"after": ["b"], "unless": ["t_x:failed"]},
    }
    endings = {
        order.firings[0][0]: statuses(order.play(runnable(config)))["t_y#0"]
        for order in any_order([("a", {"bad": True}), "b"])
    }
    assert endings == {"a": "abandoned", "b": "finished"}


def test_with_and_every_times_depends_on_what_a_new_instance_carries_over() -> None:
    config: Config = {"t_x": {"after": [{"trigger": "a", "times": 2}], "andEvery": "p"}}
    endings = endings_by_order(config, ["a", "a", "p", "p"])
    assert endings["p, p, a, a"] == {"t_x#0": "finished", "t_x#1": "finished"}
    assert endings["a, a, p, p"] == {"t_x#0": "finished", "t_x#1": "unstarted"}


# With time: the same firings at the same moments, in another order.


def at_moments(
    config: Config, firings: Sequence[Any], moments: Sequence[int], end: int
) -> dict[str, TriggerManager]:
    """Play every order, each firing at the moment (in seconds) of its place, until an end."""
    found = {}
    for order in different_orders(firings):
        manager = TriggerManager(MemoryStorageBackend(f"order:{uuid4()}"))
        with frozen_time(BEGINNING), run_tasks_locally("synchronous"):
            manager.update_configuration(runnable(config))
            for (trigger, kwargs), moment in zip(order.firings, moments, strict=True):
                set_time(BEGINNING + timedelta(seconds=moment))
                manager.fire(trigger, kwargs)
            set_time(BEGINNING + timedelta(seconds=end))
            manager.fire("nothing")
        found[str(order)] = manager
    return found


def test_fresh_depends_on_what_came_first() -> None:
    config: Config = {"t_x": {"after": ["a", "b"], "fresh": {"a": "PT10S"}}}
    found = at_moments(config, ["a", "b"], [0, 10], 10)
    assert {order: statuses(each) for order, each in found.items()} == {
        "a, b": {"t_x#0": "unstarted"},
        "b, a": {"t_x#0": "finished"},
    }


ONE, TWO = ("p", {"n": 1}), ("p", {"n": 2})


def test_at_most_every_depends_on_what_came_first() -> None:
    found = at_moments({"t_x": {"andEvery": "p", "atMostEvery": "PT10S"}}, [ONE, TWO], [0, 9], 30)
    kwargs = {order: each.storage["t_x#0"].kwargs["p"] for order, each in found.items()}
    assert list(kwargs.values()) == [{"n": 1}, {"n": 2}]
    assert [len(each.storage.instances) for each in found.values()] == [1, 1]


def test_debounce_depends_on_what_came_last() -> None:
    debounce = {"quiet": "PT5S", "most": "PT1M"}
    found = at_moments({"t_x": {"andEvery": "p", "debounce": debounce}}, [ONE, TWO], [0, 4], 30)
    kwargs = {order: each.storage["t_x#0"].kwargs["p"] for order, each in found.items()}
    assert list(kwargs.values()) == [{"n": 2}, {"n": 1}]
    assert [len(each.storage.instances) for each in found.values()] == [1, 1]


def test_elapsed_depends_on_when_its_trigger_came() -> None:
    config: Config = {"t_x": {"after": ["b", {"elapsed": "PT10S", "since": "a"}]}}
    found = at_moments(config, ["a", "b"], [0, 5], 10)
    assert {order: statuses(each) for order, each in found.items()} == {
        "a, b": {"t_x#0": "finished"},
        "b, a": {"t_x#0": "unstarted"},
    }


def test_within_depends_on_what_came_before_the_deadline() -> None:
    config: Config = {"t_x": {"after": ["a", "b"], "unless": ["u"], "within": "PT10S"}}
    found = at_moments(config, ["a", "b", "x"], [0, 5, 10], 20)
    endings = {order: statuses(each)["t_x#0"] for order, each in found.items()}
    assert endings["a, b, x"] == "finished"
    assert endings["a, x, b"] == "abandoned"
