"""The joins: sessions, what is fired into each, and what must have come of it.

Everything follows from the number of a session and the seed of the run, so that any process can
work out its share, and repeat it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TASK = "tests.chaos.tasks"

NEVER = "never"
"""A trigger that nobody fires; what waits for it must say so."""

PAGES = 3


@dataclass(frozen=True, kw_only=True)
class Step:
    """One firing.

    :ivar client: which half of the firing processes does it, so that the triggers of one join
        come from two processes at once.
    """

    client: int
    trigger: str
    kwargs: Mapping[str, Any]
    key: str


@dataclass(frozen=True, kw_only=True)
class Story:
    """What one kind of session is configured with, and what must come of it.

    :ivar triggers: what is fired, in this order, by two processes in turn.
    :ivar expected: status by instance, once all is over.
    :ivar joins: how many of the instances are joins that must have run to their end.
    """

    configuration: Mapping[str, Mapping[str, Any]]
    triggers: tuple[str, ...]
    expected: Mapping[str, str]
    joins: int


@dataclass(frozen=True, kw_only=True)
class Session:
    """One session of a run."""

    seed: int
    index: int
    kind: str

    @property
    def uid(self) -> str:
        return f"chaos-{self.seed}-{self.index}"

    @property
    def story(self) -> Story:
        return STORIES[self.kind]

    @property
    def is_in_transaction(self) -> bool:
        """Whether its triggers are fired inside a transaction of the caller."""
        return self.index % 5 == 3

    def steps(self) -> Iterator[Step]:
        seen: dict[str, int] = {}
        for position, trigger in enumerate(self.story.triggers):
            page = seen[trigger] = seen.get(trigger, -1) + 1
            yield Step(
                client=(position + self.index) % 2,
                trigger=trigger,
                kwargs={"n": self.index, "page": page},
                key=f"{trigger}-{page}",
            )


def _runs(name: str, **conditions: Any) -> dict[str, Any]:
    return {"run": f"{TASK}.{name}", **conditions}


_ORDER = Story(
    configuration={
        "t_reserve": _runs("Work", after=["ordered", "paid"]),
        "t_pack": _runs("Work", after=["t_reserve", "address"]),
        "t_ship": _runs("Work", after=["t_pack", "courier"]),
        "t_file": _runs("Work", after=["ordered", "paid", "address", "courier"]),
        "t_page": _runs("Work", after=["opened"], andEvery="page"),
        "t_book": _runs("Work", after=["cover", {"trigger": "t_page", "times": PAGES}]),
        "t_never": _runs("Work", after=["ordered", NEVER]),
    },
    triggers=(
        *("ordered", "page", "paid", "opened", "address", "page", "courier", "cover"),
        *["page"] * (PAGES - 2),
    ),
    expected={
        **dict.fromkeys(("t_reserve#0", "t_pack#0", "t_ship#0", "t_file#0"), "finished"),
        **{f"t_page#{number}": "finished" for number in range(PAGES)},
        "t_book#0": "finished",
        "t_never#0": "unstarted",
    },
    joins=5 + PAGES,
)

_RETRIED = Story(
    configuration={
        "t_flaky": _runs("Flaky", after=["a", "b"]),
        "t_then": _runs("Work", after=["t_flaky", "c"]),
    },
    triggers=("a", "b", "c"),
    expected={"t_flaky#0": "replayed", "t_flaky#1": "finished", "t_then#0": "finished"},
    joins=2,
)

_TIMED = Story(
    # Nothing else happens in its session, so that only a look at the clock schedules it.
    configuration={"t_timed": _runs("Work", after=["a", {"elapsed": "PT1S", "since": "a"}, "b"])},
    triggers=("b", "a"),
    expected={"t_timed#0": "finished"},
    joins=1,
)

_LONG = Story(
    # Runs for longer than its lease, so only heartbeats keep others from starting it again.
    configuration={"t_long": _runs("Long", after=["a", "b"])},
    triggers=("a", "b"),
    expected={"t_long#0": "finished"},
    joins=1,
)

_POISON = Story(
    # Kills whoever starts it; in the end somebody is told.
    configuration={
        "t_poison": _runs("Poison", after=["a", "b"]),
        "t_mourn": _runs("Work", after=["t_poison:failed", "c"]),
    },
    triggers=("a", "b", "c"),
    expected={"t_poison#0": "failed", "t_mourn#0": "finished"},
    joins=1,
)

STORIES = {
    "order": _ORDER,
    "retried": _RETRIED,
    "timed": _TIMED,
    "long": _LONG,
    "poison": _POISON,
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """All sessions of a run; the same for the same seed and number of joins.

    :ivar joins: how many joins there must be at least.
    """

    seed: int
    joins: int

    def sessions(self) -> list[Session]:
        made: list[str] = ["timed"] * max(4, self.joins // 100)
        made += ["retried"] * max(4, self.joins // 100)
        made += ["long"] * self.few
        made += ["poison"] * self.poisoned
        joins = sum(STORIES[kind].joins for kind in made)
        while joins < self.joins:
            made.append("order")
            joins += _ORDER.joins
        random.Random(f"{self.seed} order of sessions").shuffle(made)
        return [Session(seed=self.seed, index=index, kind=kind) for index, kind in enumerate(made)]

    @property
    def few(self) -> int:
        """How many of what takes seconds."""
        return max(2, min(self.joins // 1000, 40))

    @property
    def poisoned(self) -> int:
        """How many tasks kill whoever starts them."""
        return max(1, min(self.joins // 2500, 10))
