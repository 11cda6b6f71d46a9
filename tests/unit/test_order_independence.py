"""Plain joins end the same in every order; and where the order decides, it decides as described.

Each check is made over the reference model and over a real manager on the memory storage.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any, Protocol
from uuid import uuid4

import pytest

from tests.machine import instances_of
from tests.reference import ReferenceSession
from tests.worker import Obedient, OnlookingManager, Worker
from triggers.storages import storage_backends

Config = dict[str, dict[str, Any]]

TRIGGERS = ("a", "b", "p")
LENGTH = 6  # firings; every order of every choice of this many, and of each beginning of it

JOINS: dict[str, Config] = {
    "two one-shot joins": {
        "t_x": {"after": ["a", "b"]},
        "t_y": {"after": ["p", "a"]},
    },
    "one join and every p": {"t_x": {"after": ["a", "b"], "andEvery": "p"}},
    "every a and every b, side by side": {
        "t_x": {"after": ["b"], "andEvery": "a"},
        "t_y": {"after": ["a", "p"], "andEvery": "b"},
    },
}
CHAIN: Config = {
    "t_x": {"after": ["a"], "andEvery": "p"},
    "t_y": {"after": ["t_x", "b"]},
    "t_z": {"after": ["a", "t_y"], "andEvery": "t_x"},
}


class Session(Protocol):
    def fire(self, trigger: str, kwargs: dict[str, Any] | None = None) -> object: ...
    def run(self, instance: str, result: dict[str, Any]) -> None: ...
    def instances(self) -> dict[str, dict[str, Any]]: ...


class ModelSession:
    def __init__(self, config: Config) -> None:
        self._model = ReferenceSession()
        self._model.configure(config)
        self.fire = self._model.fire

    def run(self, instance: str, result: dict[str, Any]) -> None:
        self._model.start(instance)
        self._model.finish(instance, result)

    def instances(self) -> dict[str, dict[str, Any]]:
        instances: dict[str, dict[str, Any]] = self._model.snapshot()["instances"]
        return instances


class RealSession:
    def __init__(self, config: Config) -> None:
        self._manager = OnlookingManager(storage_backends.get("memory", uuid4().hex))
        config = {name: {**task, "run": Obedient.name} for name, task in config.items()}
        self._manager.update_configuration(config)
        self.fire = self._manager.fire

    def run(self, instance: str, result: dict[str, Any]) -> None:
        Worker(self._manager, instance).end(lambda task, context: result)

    def instances(self) -> dict[str, dict[str, Any]]:
        return instances_of(self._manager.storage)


SESSIONS = {"model": ModelSession, "manager": RealSession}
Open = Callable[[Config], Session]


@pytest.fixture(params=SESSIONS)
def open_session(request: pytest.FixtureRequest) -> Open:
    return SESSIONS[request.param]


def up_to_numbering(session: Session) -> str:
    """Return what there is of each task, whichever number it got."""
    return json.dumps(
        sorted(
            [name.partition("#")[0], instance["status"], sorted(instance["kwargs"].items())]
            for name, instance in session.instances().items()
        )
    )


def run_what_is_scheduled(session: Session) -> int:
    """Run until nothing is scheduled any more; each task always gives the same result."""
    for count in itertools.count():
        found = session.instances().items()
        scheduled = [name for name, instance in found if instance["status"] == "scheduled"]
        if not scheduled:
            return count
        session.run(scheduled[0], {"from": scheduled[0].partition("#")[0]})
    raise AssertionError("unreachable")


@pytest.mark.parametrize("join", JOINS)
def test_plain_joins_end_the_same_in_every_order(open_session: Open, join: str) -> None:
    endings: dict[tuple[str, ...], set[str]] = {}
    for word in itertools.product(TRIGGERS, repeat=LENGTH):
        session = open_session(JOINS[join])
        for count, trigger in enumerate(word, start=1):
            session.fire(trigger, {"of": trigger})
            endings.setdefault(tuple(sorted(word[:count])), set()).add(up_to_numbering(session))

    assert [fired for fired, found in endings.items() if len(found) > 1] == []
    # It was not the same merely because few orders were tried, or because nothing came of them.
    assert len(endings) == sum(math.comb(count + 2, 2) for count in range(1, LENGTH + 1))
    outcomes = set.union(*endings.values())
    assert len(outcomes) >= 7
    assert sum("scheduled" in outcome for outcome in outcomes) >= 3


@pytest.mark.parametrize("eager", [True, False], ids=["as soon as it can", "at the end"])
def test_when_a_task_is_run_makes_no_difference_either(open_session: Open, eager: bool) -> None:
    endings, runs = set(), 0
    for word in set(itertools.permutations(("a", "b", "p", "p"))):
        session = open_session(CHAIN)
        for trigger in word:
            session.fire(trigger, {"of": trigger})
            if eager:
                runs += run_what_is_scheduled(session)
        runs += run_what_is_scheduled(session)
        endings.add(up_to_numbering(session))

    t_x, t_y = {"from": "t_x"}, {"from": "t_y"}
    a, b, p = {"of": "a"}, {"of": "b"}, {"of": "p"}
    assert [json.loads(ending) for ending in endings] == [
        [
            ["t_x", "finished", [["a", a], ["p", p]]],
            ["t_x", "finished", [["a", a], ["p", p]]],
            ["t_y", "finished", [["b", b], ["t_x", t_x]]],
            ["t_z", "finished", [["a", a], ["t_x", t_x], ["t_y", t_y]]],
            ["t_z", "finished", [["a", a], ["t_x", t_x], ["t_y", t_y]]],
        ]
    ]
    assert runs == 12 * 5


def test_with_unless_the_order_decides_whether_a_task_runs(open_session: Open) -> None:
    config: Config = {"t_x": {"after": ["a", "b"], "unless": ["u"]}}
    endings = {word: _end(open_session(config), word) for word in itertools.permutations("abu")}
    assert endings == {
        ("a", "b", "u"): {"t_x#0": "scheduled"},
        ("b", "a", "u"): {"t_x#0": "scheduled"},
        ("a", "u", "b"): {"t_x#0": "abandoned"},
        ("b", "u", "a"): {"t_x#0": "abandoned"},
        ("u", "a", "b"): {"t_x#0": "abandoned"},
        ("u", "b", "a"): {"t_x#0": "abandoned"},
    }


def test_unless_needs_all_of_its_triggers_before_the_last_of_after(open_session: Open) -> None:
    config: Config = {"t_x": {"after": ["a"], "unless": ["u", "v"]}}
    endings = {word: _end(open_session(config), word) for word in itertools.permutations("auv")}
    abandoned = [word for word, ending in endings.items() if ending == {"t_x#0": "abandoned"}]
    scheduled = [word for word, ending in endings.items() if ending == {"t_x#0": "scheduled"}]
    assert abandoned == [("u", "v", "a"), ("v", "u", "a")]
    assert len(scheduled) == 4


def test_with_and_every_the_order_decides_which_kwargs_come_together(open_session: Open) -> None:
    config: Config = {"t_x": {"after": ["a"], "andEvery": "p"}}

    def pairs(*firings: tuple[str, int]) -> list[tuple[int, int]]:
        session = open_session(config)
        for trigger, n in firings:
            session.fire(trigger, {"n": n})
        found = [instance["kwargs"] for instance in session.instances().values()]
        return [(kwargs["a"]["n"], kwargs["p"]["n"]) for kwargs in found]

    assert pairs(("a", 1), ("p", 1), ("a", 2), ("p", 2)) == [(1, 1), (2, 2)]
    assert pairs(("p", 1), ("a", 1), ("p", 2), ("a", 2)) == [(1, 1), (1, 2)]
    assert pairs(("p", 1), ("p", 2), ("a", 1), ("a", 2)) == [(1, 1), (1, 2)]
    assert pairs(("a", 1), ("a", 2), ("p", 1), ("p", 2)) == [(1, 1), (2, 2)]


def test_of_two_firings_of_one_trigger_a_one_shot_task_keeps_the_first(open_session: Open) -> None:
    config: Config = {"t_x": {"after": ["a", "b"]}}
    for first, second in [(1, 2), (2, 1)]:
        session = open_session(config)
        session.fire("a", {"n": first})
        session.fire("a", {"n": second})
        session.fire("b")
        assert session.instances()["t_x#0"]["kwargs"] == {"a": {"n": first}, "b": {}}


def _end(session: Session, word: tuple[str, ...]) -> dict[str, str]:
    for trigger in word:
        session.fire(trigger)
    return {name: instance["status"] for name, instance in session.instances().items()}
