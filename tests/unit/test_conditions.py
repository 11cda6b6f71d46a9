"""Conditions hold for what an instance holds as the table of the language says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from triggers.conditions.filters import look_up
from triggers.conditions.tree import Condition, Facts, Language, Rested, barring, condition_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Holding:
    """An instance that holds firings: number ``n`` came ``n`` hours before noon."""

    firings: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    bursting: str = ""
    settled: str = ""
    now: datetime = NOON

    @property
    def taken(self) -> Mapping[str, int]:
        return {name: seqs[0] for name, seqs in self.firings.items() if seqs}

    def held(self, name: str) -> Sequence[int]:
        return self.firings.get(name, ())

    def is_resting(self, name: str) -> bool:
        return name != self.bursting

    def time_of(self, seq: int) -> datetime:
        return NOON - timedelta(hours=seq)

    def value(self, name: str, seq: int, path: str) -> Any:
        return look_up(self.kwargs.get(name, {}), path)

    def is_settled(self, task: str) -> bool:
        return task == self.settled


def holds(raw: Any, facts: Facts, language: Language | None = None) -> bool:
    return condition_of(raw, language or Language()).holds(facts)


def holding(*names: str) -> Holding:
    return Holding({name: [1] for name in names})


@pytest.mark.parametrize(
    ("raw", "enough", "too_little"),
    [
        ([], ["", "a"], []),
        (["a", "b"], ["ab", "abc"], ["", "a", "b"]),
        ({"all": ["a", "b"]}, ["ab"], ["a"]),
        ({"all": ["a", {"any": ["b", "c"]}]}, ["ab", "ac", "abc"], ["a", "bc"]),
        ({"any": ["a", ["b", "c"]]}, ["a", "bc", "abc"], ["", "b", "c"]),
        ({"atLeast": 2, "of": ["a", "b", "c"]}, ["ab", "bc", "abc"], ["", "a", "c"]),
        ({"trigger": "a"}, ["a"], ["", "b"]),
        ({"trigger": "a", "times": 1}, ["a"], [""]),
        ("a", ["a"], ["b"]),
    ],
)
def test_groups_hold_for_enough_of_their_members(
    raw: Any, enough: list[str], too_little: list[str]
) -> None:
    assert [names for names in enough if not holds(raw, holding(*names))] == []
    assert [names for names in too_little if holds(raw, holding(*names))] == []


def test_times_counts_the_firings_that_are_held() -> None:
    thrice = {"trigger": "a", "times": 3}
    assert not holds(thrice, Holding({"a": [3, 2]}))
    assert holds(thrice, Holding({"a": [3, 2, 1]}))


def test_fresh_counts_only_what_is_younger() -> None:
    language = Language(fresh={"a": timedelta(hours=3)})
    assert holds(["a", "b"], Holding({"a": [2], "b": [9]}), language)
    assert not holds(["a", "b"], Holding({"a": [3], "b": [9]}), language)
    twice = {"trigger": "a", "times": 2}
    assert holds(twice, Holding({"a": [2, 1]}), language)
    assert not holds(twice, Holding({"a": [3, 1]}), language)


@pytest.mark.parametrize(
    ("number", "held", "expected"),
    [(2, [1, 2], True), (2, [1], False), (0, [], True), (-1, [1], False), (True, [1], False),
     (1.0, [1], False), ("1", [1], False), (None, [1], False)],
)  # fmt: skip
def test_a_number_from_an_earlier_firing_is_a_whole_number_or_never_reached(
    number: Any, held: list[int], expected: bool
) -> None:
    raw = {"trigger": "a", "times": {"from": "app.started.pages"}}
    language = Language(known=frozenset({"app.started"}))
    facts = Holding({"app.started": [9], "a": held}, {"app.started": {"pages": number}})
    assert holds(raw, facts, language) is expected
    assert not holds(raw, Holding({"a": held}), language)
    assert condition_of(raw, language).names == ("a", "app.started")


def test_elapsed_holds_from_the_very_moment_on() -> None:
    raw = {"any": [{"elapsed": "PT3H", "since": "a"}, "b"]}
    condition = condition_of(raw)
    assert not condition.holds(Holding())
    assert not condition.holds(Holding({"a": [2]}))
    assert condition.holds(Holding({"a": [3]}))
    assert list(condition.dues(Holding({"a": [2]}))) == [NOON + timedelta(hours=1)]
    assert list(condition.dues(Holding())) == []


def test_settled_asks_about_a_task_and_names_no_trigger() -> None:
    condition = condition_of([{"settled": "t_x"}, "a"])
    assert condition.names == ("a",)
    assert condition.holds(Holding({"a": [1]}, settled="t_x"))
    assert not condition.holds(Holding({"a": [1]}, settled="t_y"))


def test_a_burst_counts_when_it_is_over() -> None:
    assert Rested("p").names == ("p",)
    assert Rested("p").holds(holding("p"))
    assert not Rested("p").holds(Holding({"p": [1]}, bursting="p"))
    assert not Rested("p").holds(holding("a"))


def test_nothing_is_known_from_within_a_burst() -> None:
    language = Language(known=frozenset({"p"}), debounced="p")
    facts = Holding({"p": [9, 8], "a": [1]}, {"p": {"n": 1}}, bursting="p")
    often = condition_of({"trigger": "a", "times": {"from": "p.n"}}, language)
    elapsed = condition_of({"elapsed": "PT1H", "since": "p"}, language)
    for condition in (often, elapsed):
        assert not condition.holds(facts)
        assert list(condition.dues(facts)) == []
        assert condition.holds(replace(facts, bursting=""))
    assert list(elapsed.dues(replace(facts, bursting=""))) == [
        NOON - timedelta(hours=8),
        NOON - timedelta(hours=7),
    ]


def test_nothing_bars_where_unless_is_absent_or_empty() -> None:
    assert [barring(raw).holds(holding("a")) for raw in (None, [], ["a"], {"any": ["a"]})] == [
        False,
        False,
        True,
        True,
    ]
    assert barring([]).names == ()


def test_names_come_once_and_parts_in_the_order_of_reading() -> None:
    condition = condition_of([{"any": ["b", {"trigger": "a", "times": 2}]}, "b"])
    names = sorted(condition.names)
    parts: list[Condition] = list(condition.parts())
    assert names == ["a", "b"]
    assert [type(part).__name__ for part in parts] == [
        "Quorum",
        "Quorum",
        "AllHeld",
        "Held",
        "AllHeld",
    ]
    assert parts[3].names == ("a",)
