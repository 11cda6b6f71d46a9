"""Measuring in turns, and what becomes of the measurements: ratios, their median, their spread."""

from __future__ import annotations

import gc
import os
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeVar

T = TypeVar("T")

MICROSECONDS = 1_000_000
"""In a second."""

CAN_PIN = hasattr(os, "sched_setaffinity")
"""Whether the system lets a process choose its processor."""

_PROCESSORS = os.sched_getaffinity(0) if CAN_PIN else set()


class LeftOut(Exception):
    """A benchmark cannot run here; the text says why."""


class Samples:
    """Seconds by what was measured, in the order in which they were measured.

    :param clock: ``process_time`` for what only computes, so that a neighbour who takes the
        processor away for a moment is not counted; ``perf_counter`` for what waits for a disk or a
        server.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds: dict[Hashable, list[float]] = defaultdict(list)

    def time(self, what: Hashable, do: Callable[[], T]) -> T:
        """Call ``do`` once, note how long it took, and return what it returned."""
        clock = self._clock
        started = clock()
        result = do()
        self._seconds[what].append(clock() - started)
        return result

    def of(self, what: Hashable) -> Sequence[float]:
        """All measurements of one thing."""
        return self._seconds[what]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two series of measurements relate.

    :ivar ours: median time of the first, in microseconds.
    :ivar base: median time of the second, in microseconds.
    :ivar ratio: median of the ratios.
    :ivar low: their lower quartile.
    :ivar high: their upper quartile.
    """

    ours: float
    base: float
    ratio: float
    low: float
    high: float


def compare(
    ours: Sequence[float],
    base: Sequence[float],
    *,
    group: int = 1,
    operations: int | None = None,
) -> Comparison:
    """Compare two series that were measured in turns.

    :param group: how many neighbouring measurements count as one. A group should be long enough to
        hold its share of what happens only now and then, such as a checkpoint of the database.
    :param operations: how many operations a group consists of, for the times in the result; by
        default one per measurement.
    """
    ours_sums, base_sums = _sums(ours, group), _sums(base, group)
    ratios = [mine / theirs for mine, theirs in zip(ours_sums, base_sums, strict=True)]
    low, _middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    unit = MICROSECONDS / (operations or group)
    return Comparison(
        ours=median(ours_sums) * unit,
        base=median(base_sums) * unit,
        ratio=median(ratios),
        low=low,
        high=high,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    :ivar limit: what the ratio may be at most; ``None`` if it is only reported.
    :ivar aim: what we would like it to be.
    :ivar at_least: the ratio is one of speeds, and ``limit`` and ``aim`` are what it must reach.
    :ivar note: anything else worth knowing.
    """

    benchmark: str
    case: str
    figures: Comparison
    limit: float | None = None
    aim: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "reported"
        if not self._reaches(self.limit):
            return "MISSED"
        return "aim reached" if self.aim is not None and self._reaches(self.aim) else "kept"

    def _reaches(self, bound: float) -> bool:
        ratio = self.figures.ratio
        return ratio >= bound if self.at_least else ratio <= bound


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of what is measured within, for all sides alike.

    What there is already gets out of its way, too, so that it does not matter who came first.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def pinned(*, server: bool = False) -> Iterator[None]:
    """Stay on one processor, where the system lets us; so do the processes that begin within.

    Servers get one processor and their clients another, so that neither waits for the other's.
    A server that is not ours may be anywhere, so its client should not be pinned: beside a busy
    neighbour, it would have to queue for its processor after every answer.

    :param server: the processor of the servers, not of this process.
    """
    if not CAN_PIN:
        yield
        return
    allowed = os.sched_getaffinity(0)
    # The first one usually serves the interrupts, as a server does.
    os.sched_setaffinity(0, {min(_PROCESSORS) if server else max(_PROCESSORS)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def in_turns(things: Sequence[T], turn: int) -> Sequence[T]:
    """The same things in another order each time, the same in every run.

    What comes after a big one finds the processor's cache emptied, so none may always be next.
    """
    return random.Random(turn).sample(things, len(things))


def _sums(seconds: Sequence[float], group: int) -> list[float]:
    whole = len(seconds) - len(seconds) % group
    return [sum(seconds[start : start + group]) for start in range(0, whole, group)]
