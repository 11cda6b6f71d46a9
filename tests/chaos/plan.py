"""The plan of a run: which faults happen, and when. The same seed makes the same plan.

A fault at a crash point happens when processes of a role have passed that point so many times, all
together. A fault from outside happens when so many of the joins are done. So a plan does not
depend on how fast the machine is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.workload import Workload


class Kind(StrEnum):
    """What a fault does."""

    CRASH = "kill -9 at a crash point"
    KILL = "kill -9 at any moment"
    STOP = "stopped for longer than its lease"
    POISON = "a task that kills whoever runs it"
    TWICE = "message delivered twice"
    RESTART = "server killed and restarted"
    UNDER = "storage killed and restarted under it"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    :ivar who: role of the process, or name of the server.
    :ivar point: the crash point, if it is at one.
    :ivar when: the pass of that point at which it happens; or, from outside, the joins done.
    :ivar whole: of a worker, whether the whole of it dies, and not just the process of its pool.
    """

    number: int
    kind: Kind
    who: str
    point: str = ""
    when: int = 0
    whole: bool = True

    @property
    def label(self) -> str:
        """What faults are counted by."""
        return f"{self.who} {self.point}".strip()

    def __str__(self) -> str:
        moment = f"pass {self.when}" if self.point else f"after {self.when} joins"
        if self.kind is Kind.POISON:
            moment = f"session {self.when}"
        part = " (one process of the pool)" if not self.whole else ""
        return f"{self.number:4}  {self.kind}: {self.label}, {moment}{part}"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A crash point.

    :ivar passes: how often it is passed at least in a run with this workload.
    """

    who: str
    name: str
    passes: Callable[[Workload], int]


def _steps(workload: Workload) -> int:
    return sum(1 for session in workload.sessions() for _ in session.steps())


def _joins(workload: Workload) -> int:
    return workload.joins


def _timed(workload: Workload) -> int:
    # Some are decided by other processes, or by a process that is looking at the same time.
    return sum(session.kind == "timed" for session in workload.sessions()) // 2


BEATS = 2
"""Heartbeats of a task that lasts longer than its lease, at least, on a busy machine too."""

BEATS_APART = 10


def _beats(workload: Workload) -> int:
    return BEATS * workload.few


def _lost(workload: Workload) -> int:
    # Every crash before a publish leaves something to recover; every worker that dies does, too.
    return 4 * size_of(workload)


POINTS = (
    Point(who="client", name="fire, before the commit", passes=_steps),
    Point(who="client", name="fire, after the commit", passes=_steps),
    Point(who="client", name="after the publish", passes=lambda w: _joins(w) // 3),
    Point(who="client", name="committed, not decided", passes=lambda w: _steps(w) // 8),
    Point(who="client", name="fire, commit sent and not answered", passes=_steps),
    Point(who="worker", name="message received", passes=_joins),
    Point(who="worker", name="claim, before the commit", passes=_joins),
    Point(who="worker", name="claim, after the commit", passes=_joins),
    Point(who="worker", name="claim, commit sent and not answered", passes=_joins),
    Point(who="worker", name="at the start of the task", passes=_joins),
    Point(who="worker", name="during the task", passes=_joins),
    Point(who="worker", name="at the end of the task", passes=_joins),
    Point(who="worker", name="finish, before the commit", passes=_joins),
    Point(who="worker", name="finish, after the commit", passes=_joins),
    Point(who="worker", name="finish, commit sent and not answered", passes=_joins),
    Point(who="worker", name="after the publish", passes=lambda w: _joins(w) // 5),
    Point(who="worker", name="extend, before the commit", passes=_beats),
    Point(who="worker", name="extend, after the commit", passes=_beats),
    Point(who="recovery", name="recover, before the commit", passes=_lost),
    Point(who="recovery", name="recover, after the commit", passes=_lost),
    Point(who="recovery", name="after the publish", passes=_lost),
    Point(who="recovery", name="tick, before the commit", passes=_timed),
    Point(who="recovery", name="tick, after the commit", passes=_timed),
)

ONLY_IN_DATABASES = ("committed, not decided",)
ONLY_IN_REDIS = tuple(each.name for each in POINTS if "not answered" in each.name)

STOPPABLE = (
    "claim, after the commit",
    "during the task",
    "at the end of the task",
    "finish, before the commit",
)
RESTARTED_AT = ("claim, after the commit", "at the end of the task")
"""Where a worker waits until the server of its storage has been killed and started again."""

HOLDS_THE_FILE = ("finish, before the commit",)
"""Whoever is stopped there on SQLite keeps every other process from writing."""

ROLES = {"client": 2, "worker": 2, "recovery": 2}
"""How many processes of each role there are."""


def size_of(workload: Workload) -> int:
    """How many faults of each sort."""
    return max(1, min(round(math.pow(workload.joins / 1000, 0.7)), 25))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All faults of a run.

    :ivar servers: names of the servers that are restarted: the broker, and that of the storage.
    :ivar left_out: crash points that do not exist with these servers.
    :ivar not_stopped_at: points at which a process that is stopped holds up all others.
    """

    workload: Workload
    servers: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    not_stopped_at: tuple[str, ...] = ()

    def faults(self) -> list[Fault]:
        made = list(self._made())
        return [
            Fault(
                number=number,
                kind=each.kind,
                who=each.who,
                point=each.point,
                when=each.when,
                whole=each.whole,
            )
            for number, each in enumerate(made, start=1)
        ]

    def _made(self) -> Iterator[Fault]:
        workload, size = self.workload, size_of(self.workload)
        chance = random.Random(f"{workload.seed} faults")
        for point in POINTS:
            if point.name in self.left_out:
                continue
            for when in self._moments(chance, point, size):
                whole = point.who != "worker" or chance.random() < 0.15
                yield Fault(
                    number=0,
                    kind=Kind.CRASH,
                    who=point.who,
                    point=point.name,
                    when=when,
                    whole=whole,
                )
        for name in STOPPABLE:
            if name in self.not_stopped_at:
                continue
            for when in _spread(chance, size, 0.1, 0.8, workload.joins):
                yield Fault(number=0, kind=Kind.STOP, who="worker", point=name, when=when)
        for who, share in (("client", 3), ("worker", 5)):
            for when in _spread(chance, 5 * size, 0.05, 0.9, workload.joins // share):
                yield Fault(number=0, kind=Kind.TWICE, who=who, point="publish", when=when)
        for who in ROLES:
            # Clients are through when the workers are not, by as much as they may be ahead.
            latest = 0.5 if who == "client" else 0.85
            for when in _spread(chance, size, 0.1, latest, workload.joins):
                yield Fault(number=0, kind=Kind.KILL, who=who, when=when)
        for name in RESTARTED_AT if self.servers[1:] else ():
            for when in _spread(chance, (size + 1) // 2, 0.2, 0.8, workload.joins):
                yield Fault(number=0, kind=Kind.UNDER, who="worker", point=name, when=when)
        for server in self.servers:
            for when in _spread(chance, (size + 1) // 2, 0.2, 0.8, workload.joins):
                yield Fault(number=0, kind=Kind.RESTART, who=server, when=when)
        for index in [each.index for each in workload.sessions() if each.kind == "poison"]:
            yield Fault(
                number=0,
                kind=Kind.POISON,
                who="worker",
                point="poison",
                when=index,
                whole=False,
            )

    def _moments(self, chance: random.Random, point: Point, size: int) -> list[int]:
        passes = point.passes(self.workload)
        if point.passes is _beats:
            # So far apart that no task dies of it again and again.
            first = 1 if "before" in point.name else min(BEATS_APART // 2 + 1, passes)
            return list(range(first, max(passes, first + 1), BEATS_APART))[:size]
        if point.who == "recovery":
            # How often these are passed depends on the other faults, so the first passes count.
            return [1 + 2 * n for n in range(max(1, min(size, passes // 2)))]
        return _spread(chance, size, 0.05, 0.9, passes)


def _spread(chance: random.Random, number: int, low: float, high: float, of: int) -> list[int]:
    """So many different numbers between two shares of a whole, in order."""
    choices = range(max(1, round(low * of)), max(round(high * of), number + 2))
    return sorted(chance.sample(choices, number))
