"""Firings a second, from one process and from two at once.

Processes fire without a pause, for a moment each time, in turns with the yardstick: a bare script
in Redis, a bare transaction of the ORM in PostgreSQL. The ratio compares the time per operation of
all processes together. *Into one session* (or at one row) means that both processes do: where a
session's firings are decided one after the other, they wait for each other.

Clients share one processor, so two processes are faster than one only as far as they wait for the
server. Each firing makes an instance of a task ready, for a runner that does nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.firing import make_tables, make_yardstick
from benchmarks.measure import MICROSECONDS, Row, compare, in_turns, pinned
from benchmarks.project import POSTGRESQL, environment, made_database
from benchmarks.servers import Servers
from benchmarks.stubs import in_redis

CASES = {
    "one process": (1, "apart"),
    "two processes": (2, "apart"),
    "two processes into one session": (2, "together"),
}
"""How many processes, and where they work, by case."""

KINDS = ("firing", "yardstick")


def on_redis(quick: bool, servers: Servers) -> Iterator[Row]:
    """Fire into Redis.

    :raises LeftOut: no server can be started, or the client is not installed.
    """
    url = servers.redis("storage")
    in_redis(url)
    yield from _measure("redis", {}, quick, redis=url)


def on_postgresql(quick: bool, servers: Servers) -> Iterator[Row]:
    """Fire into PostgreSQL.

    :raises LeftOut: no server answers, or its driver is not installed.
    """
    with made_database(POSTGRESQL, servers.postgresql()) as url:
        make_tables(POSTGRESQL)
        make_yardstick(POSTGRESQL, 3)
        yield from _measure("postgresql", {POSTGRESQL: url}, quick)


def _measure(place: str, databases: dict[str, str], quick: bool, **more: str) -> Iterator[Row]:
    rounds, seconds = (2, 0.05) if quick else (15, 0.4)
    spent: dict[tuple[str, str], list[float]] = {(k, case): [] for k in KINDS for case in CASES}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = environment(directory, databases, place=place, **more)
        stack.enter_context(pinned())
        firing = [stack.enter_context(FiringProcess(given, number)) for number in (1, 2)]
        for turn in range(rounds):
            for kind, case in in_turns(list(spent), turn):
                processes, where = CASES[case]
                work = f"{kind} {where} {turn} {seconds}"
                speed = _run(firing[:processes], work)
                spent[kind, case].append(1 / speed)
    for case in CASES:
        ours, base = spent["firing", case], spent["yardstick", case]
        figures = compare(ours, base)
        speed, other = (MICROSECONDS / each for each in (figures.ours, figures.base))
        note = f"{speed:,.0f} a second; the yardstick {other:,.0f}"
        yield Row(benchmark=f"throughput, {place}", case=case, figures=figures, note=note)


def _run(processes: Sequence[FiringProcess], work: str) -> float:
    """Have the processes work at once; returns operations a second of all together."""
    for process in processes:
        process.tell(work)
    for process in processes:
        process.hear()
    for process in processes:
        process.tell("go")
    return sum(float(process.hear()) for process in processes)


class FiringProcess:
    """A process that does what it is told (:mod:`benchmarks.firing_process`).

    :param given: its environment.
    :param number: which one it is.
    """

    def __init__(self, given: dict[str, str], number: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.firing_process", str(number)],
            env=given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> FiringProcess:
        return self

    def __exit__(self, *_error: object) -> None:
        # The end of its input ends it.
        self._process.communicate()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process that fires has ended; see above for its error")
        return line.strip()
