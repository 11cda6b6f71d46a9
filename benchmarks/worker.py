"""What a real Celery worker completes in a second, beside plain Celery tasks and beside chords.

One worker, with one process and Celery's own defaults otherwise, runs batches of everything in
turns. It stands still while a batch is sent, so that only its own work is measured: from a marker
that is sent before the batch to one that is sent behind it. All tasks do nothing, and keep no
result except where a chord needs it.

``completions``: each message is an instance of a session of its own, whose message the worker
claims, runs and finishes, with every status written to the Redis storage. Beside it, as many plain
tasks.

``joins``: two tasks run, and then a third. For us that is a workflow of three tasks; the other is a
chord of two. What the process that starts them takes is said in the note.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from celery import chord

from benchmarks.app import MARKS, QUEUE, app, body, mark, part, plain, use_broker
from benchmarks.firing import KWARGS
from benchmarks.measure import MICROSECONDS, Comparison, LeftOut, Row, compare, in_turns, pinned
from benchmarks.project import environment
from benchmarks.servers import Servers
from benchmarks.stubs import RUN, in_redis
from triggers.manager import TriggerManager
from triggers.types import Status

LIMIT, AIM = 0.5, 0.7
"""Times as many completions as plain tasks."""

SINGLE = {"t_done": {"run": RUN, "after": ["begun"]}}
JOIN = {
    "t_left": {"run": RUN, "after": ["begun"]},
    "t_right": {"run": RUN, "after": ["begun"]},
    "t_join": {"run": RUN, "after": ["t_left", "t_right"]},
}

OURS, PLAIN, OUR_JOIN, CHORD = "ours", "plain tasks", "our join", "a chord"

_PATIENCE = 120
"""Seconds until a batch must be through."""


def run(quick: bool, servers: Servers) -> Iterator[Row]:
    """Have a worker run batches of everything.

    :raises LeftOut: no server can be started, or the client is not installed.
    """
    rounds, size = (2, 10) if quick else (9, 100)
    manager_of = in_redis(servers.redis("storage"), runner="celery")
    broker = servers.redis("broker")
    use_broker(broker)
    numbers = range(rounds * size)
    sessions = [_configured(manager_of(f"worker {number}"), SINGLE) for number in numbers]
    joins = [_configured(manager_of(f"join {number}"), JOIN) for number in numbers]
    single, join = iter(sessions), iter(joins)
    senders: dict[str, Callable[[], object]] = {
        OURS: lambda: next(single).fire("begun", KWARGS),
        PLAIN: lambda: plain.apply_async(kwargs=KWARGS),
        OUR_JOIN: lambda: next(join).fire("begun", KWARGS),
        CHORD: lambda: chord([part.s(**KWARGS), part.s(**KWARGS)])(body.s()),
    }
    ran: dict[str, list[float]] = {kind: [] for kind in senders}
    sent: dict[str, list[float]] = {kind: [] for kind in senders}
    with pinned(), _worker(broker) as worker:
        for turn in range(rounds):
            for kind in in_turns(list(senders), turn):
                sending, running = worker.run_batch(senders[kind], size)
                if turn:  # the first round warms everything up
                    sent[kind].append(sending)
                    ran[kind].append(running)
    _check(sessions, "t_done#0")
    _check(joins, "t_join#0")
    figures = _speeds(ran[OURS], ran[PLAIN], size)
    yield Row(
        benchmark="worker",
        case="completions, beside plain tasks",
        figures=figures,
        limit=LIMIT,
        aim=AIM,
        at_least=True,
        note=_a_second(figures),
    )
    figures = _speeds(ran[OUR_JOIN], ran[CHORD], size)
    starting = compare(sent[OUR_JOIN], sent[CHORD], operations=size)
    note = f"{_a_second(figures)}; to start one: {starting.ours:,.0f} and {starting.base:,.0f} µs"
    case = "joins of two tasks, beside chords"
    yield Row(benchmark="worker", case=case, figures=figures, at_least=True, note=note)


def _configured(manager: TriggerManager, configuration: Mapping[str, Any]) -> TriggerManager:
    manager.update_configuration(configuration)
    return manager


def _check(sessions: list[TriggerManager], instance: str) -> None:
    found = {manager.storage[instance].status for manager in sessions}
    if found != {Status.FINISHED}:
        raise AssertionError(f"Not all of the instances {instance} have finished: {found}")


def _speeds(ours: list[float], base: list[float], size: int) -> Comparison:
    """How many times as fast ours is."""
    turned = compare(base, ours, operations=size)
    return replace(turned, ours=turned.base, base=turned.ours)


def _a_second(figures: Comparison) -> str:
    ours, base = (MICROSECONDS / each for each in (figures.ours, figures.base))
    return f"{ours:,.0f} a second; theirs {base:,.0f}"


class Worker:
    """A worker that works only while a batch is run."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._channel = app.connection_for_write().default_channel

    def run_batch(self, send: Callable[[], object], size: int) -> tuple[float, float]:
        """Send a batch, and have it run; returns the seconds that each of the two took."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            mark.apply_async(("begin", 0))
            begun = perf_counter()
            for _each in range(size):
                send()
            sending = perf_counter() - begun
            # What the batch itself sends while it runs is behind the marker, once.
            mark.apply_async(("end", 1))
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)
        first, last = self.wait_for("begin"), self.wait_for("end")
        return sending, last - first

    def wait_for(self, label: str) -> float:
        """The moment of the next marker."""
        found = self._channel.client.blpop(MARKS, timeout=_PATIENCE)
        if found is None:
            said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"The worker did not come to the marker {label!r}: {said}")
        moment, found_label = found[1].decode().split()
        assert found_label == label
        return float(moment)


@contextmanager
def _worker(broker: str) -> Iterator[Worker]:
    if not hasattr(os, "killpg"):
        raise LeftOut("this system cannot stop a process for a while")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = directory / "worker.log"
        output = stack.enter_context(log.open("wb"))
        celery = f"-m celery -A benchmarks.worker_app worker --concurrency 1 --queues {QUEUE}"
        quietly = "--loglevel WARNING --without-gossip --without-mingle --without-heartbeat"
        process = subprocess.Popen(
            [sys.executable, *celery.split(), *quietly.split()],
            env=environment(directory, {}, broker=broker),
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, so that it stands still as a whole.
            start_new_session=True,
        )
        try:
            worker = Worker(process, log)
            mark.apply_async(("up", 0))
            worker.wait_for("up")
            yield worker
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
