"""Filters are asked outside of decisions, and what is remembered about them never decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from triggers.clock import frozen_time
from triggers.conditions import predicate
from triggers.conditions.registered import _predicates
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Finish
from triggers.engine.recovering import Recover, Unsent
from triggers.exceptions import PredicateFailed, UnregisteredFunction
from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing.racing import IdleRunner, Recorded
from triggers.timers import fire_due_in

asked: list[dict[str, Any]] = []
broken: list[bool] = []


@predicate("judging_is_asked")
def is_asked(kwargs: Mapping[str, Any], args: Mapping[str, Any] | None = None) -> bool:
    asked.append({"kwargs": dict(kwargs), "args": args})
    if broken:
        raise KeyError("lines")
    return True


@pytest.fixture
def manager(request: pytest.FixtureRequest) -> Iterator[TriggerManager]:
    from triggers.runners import task_runners

    asked.clear()
    broken.clear()
    task_runners.register(IdleRunner)
    made = TriggerManager(MemoryStorageBackend(uuid4().hex))
    made.default_task_runner_name = IdleRunner.name
    yield made
    made.storage.delete()
    task_runners.unregister(IdleRunner.name)


def configure(manager: TriggerManager, **tasks: dict[str, Any]) -> None:
    manager.update_configuration(
        {name: {"run": Recorded.name, **each} for name, each in tasks.items()}
    )


def test_a_filter_that_was_removed_is_not_asked_any_more(manager: TriggerManager) -> None:
    configure(manager, t_x={"after": ["a"], "when": {"a": "judging_is_asked"}})
    broken.append(True)
    for _ in range(2):
        with pytest.raises(PredicateFailed, match="for 'a': KeyError: 'lines'"):
            manager.fire("a")
    configure(manager, t_x={"after": ["a"]})
    assert manager.fire("a").scheduled == ("t_x#0",)


def test_a_repeated_firing_is_a_duplicate_though_its_predicate_fails_now(
    manager: TriggerManager,
) -> None:
    configure(manager, t_x={"after": ["a"], "when": {"a": "judging_is_asked"}})
    manager.fire("a", idempotency_key="k")
    broken.append(True)
    assert manager.fire("a", idempotency_key="k").duplicate


def test_a_predicate_is_asked_about_arguments_only_with_arguments(manager: TriggerManager) -> None:
    configure(
        manager,
        t_x={"after": [], "andEvery": "a"},
        t_y={"after": [], "andEvery": "t_x", "when": {"t_x": "judging_is_asked"}},
    )
    for number in range(2):
        manager.fire("a", {"n": number})
        manager.apply(Claim(key=("t_x", number), token="token"))
        manager.apply(Finish(key=("t_x", number), token="token", result='{"r":1}'))
    assert asked == [{"kwargs": {"r": 1}, "args": {"a": {"n": number}}} for number in range(2)]


def test_equal_outcomes_are_asked_about_once(manager: TriggerManager) -> None:
    configure(
        manager,
        t_x={"after": ["b"], "andEvery": "a", "unless": ["u"]},
        t_y={"after": ["t_x:abandoned"], "when": {"t_x:abandoned": {"reason": "unless"}}},
        t_z={"after": ["t_x:abandoned"], "when": {"t_x:abandoned": "judging_is_quick"}},
    )
    quick.clear()
    for _ in range(50):
        manager.fire("a")
    manager.fire("u")
    statuses = [each.status for each in manager.storage.instances_of_task("t_x")]
    assert statuses == ["abandoned"] * 50
    assert quick == [{"reason": "unless"}]


def test_what_can_wait_is_left_to_a_process_that_knows_the_predicate(
    manager: TriggerManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(
        manager,
        t_x={"after": ["a", "never"], "within": "PT1H"},
        t_y={"after": ["t_x:expired"], "when": {"t_x:expired": "judging_is_asked"}},
        t_z={"after": ["b"], "when": {"b": "judging_is_asked"}},
    )
    manager.fire("a")
    later = manager.storage.now() + timedelta(hours=2)
    known = _predicates.entries["judging_is_asked"]
    monkeypatch.delitem(_predicates.entries, "judging_is_asked")
    with pytest.raises(UnregisteredFunction, match="judging_is_asked"):
        fire_due_in(manager, later)
    with pytest.raises(UnregisteredFunction, match="judging_is_asked"):
        manager.apply(Fire(trigger="b", deferred=True))
    for event in (Recover(), Unsent(sends={("t_x", 0): 1})):
        with frozen_time(later), pytest.raises(UnregisteredFunction, match="judging_is_asked"):
            manager.apply(event)
    assert [each.name for each in manager.storage] == ["t_x#0"], "nothing is lost"
    assert manager.storage["t_x#0"].status == "unstarted"
    monkeypatch.setitem(_predicates.entries, "judging_is_asked", known)
    assert manager.apply(Fire(trigger="b", deferred=True)).outcome.scheduled == ("t_z#0",)
    fire_due_in(manager, later)
    assert manager.storage["t_y#0"].status == "scheduled"


quick: list[dict[str, Any]] = []


@predicate("judging_is_quick")
def is_quick(kwargs: Mapping[str, Any]) -> bool:
    quick.append(dict(kwargs))
    return True
