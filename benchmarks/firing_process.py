"""A process of :mod:`benchmarks.throughput`: works for a moment whenever a line tells it to.

Lines are ``KIND WHERE ROUND SECONDS``; it prepares, answers ``ready``, waits for one more line,
works, and answers with operations a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

from benchmarks.project import POSTGRESQL, take_part

GIVEN = take_part()

# They import models, which need the project.
from benchmarks.firing import KWARGS, Yardstick, manager_of  # noqa: E402
from benchmarks.measure import quiet  # noqa: E402
from benchmarks.postgresql import touch  # noqa: E402
from benchmarks.redis import BARE, script  # noqa: E402
from benchmarks.stubs import RUN, in_redis  # noqa: E402
from triggers.manager import TriggerManager  # noqa: E402

PAGES = {"t_page": {"run": RUN, "after": ["opened"], "andEvery": "page"}}

Work = Callable[[], object]


def main(number: str) -> None:
    """Do as the lines say, until there are no more."""
    make_manager, yardstick_at = _in_redis() if GIVEN["place"] == "redis" else _in_postgresql()
    for line in sys.stdin:
        kind, where, turn, seconds = line.split()
        owner = "both" if where == "together" else number
        if kind == "firing":
            work = _firing(partial(make_manager, f"{owner} {turn}"))
        else:
            work = yardstick_at(0 if where == "together" else int(number))
        print("ready", flush=True)
        sys.stdin.readline()
        print(_speed(work, float(seconds)), flush=True)


def _speed(work: Work, seconds: float) -> float:
    with quiet():
        begun = now = perf_counter()
        operations = 0
        while now < begun + seconds:
            work()
            operations += 1
            now = perf_counter()
    return operations / (now - begun)


def _firing(make_manager: Callable[[], TriggerManager]) -> Work:
    manager = make_manager()
    manager.update_configuration(PAGES)
    manager.fire("opened")
    return lambda: make_manager().fire("page", KWARGS)


def _in_redis() -> tuple[Callable[[str], TriggerManager], Callable[[int], Work]]:
    bare = script(GIVEN["redis"], BARE)
    return in_redis(GIVEN["redis"]), lambda _place: partial(bare, None)


def _in_postgresql() -> tuple[Callable[[str], TriggerManager], Callable[[int], Work]]:
    keys = list(Yardstick.objects.using(POSTGRESQL).values_list("pk", flat=True))
    return partial(manager_of, alias=POSTGRESQL), lambda place: partial(touch, keys[place])


if __name__ == "__main__":
    main(sys.argv[1])
