"""One firing in a session with a long past, against the same firing in a session with a short one.

Sessions that differ only in how many instances they have, 10 to 5,000, live side by side in one
storage. Each firing is made in all of them, in turns, so the ratio of their times says what the
past alone costs. A firing's cost must follow from what it changes, so 5,000 may cost at most 15 %
more than 10 (an index of 5,000 entries is a little deeper, and does not stay in the processor's
cache).

``finished``: the instances belong to a task with ``andEvery``, and have finished. The firings are
those that this task hears, those of other tasks in the same session, and one that nobody hears.
Every turn makes one more instance in each session; the sizes are those at the beginning.

``waiting``: the instances wait for a trigger that never comes, and the firings change none of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import Any

from django.db import transaction

from benchmarks.firing import KWARGS, make_tables, manager_of
from benchmarks.measure import Row, Samples, compare, in_turns, pinned, quiet
from benchmarks.project import MARIADB, POSTGRESQL, made_database
from benchmarks.servers import MARIADB_URL, Servers
from benchmarks.stubs import RUN, NoRunner, in_redis
from triggers.manager import TriggerManager
from triggers.runners.base import resolve
from triggers.storages.memory import MemoryStorageBackend

LIMIT, AIM = 1.15, 1.05
"""Times what it takes in the smallest session."""

EXECUTE = "claim and finish"

_BUILT_TOGETHER = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the many instances of a session are.

    :ivar configuration: for so many turns.
    :ivar build: makes the instances with these numbers, in a session that has its configuration.
    :ivar cases: trigger by case; ``{}`` stands for the number of the turn. One of the firings
        makes an instance of ``t_page`` ready, which is then executed.
    :ivar pages: how many instances of ``t_page`` there are before the first turn.
    """

    name: str
    configuration: Callable[[int], Mapping[str, Any]]
    build: Callable[[TriggerManager, Iterable[int]], None]
    cases: Mapping[str, str]
    pages: Callable[[int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A storage in which to measure.

    :ivar manager_of: the manager of a session, to measure with.
    :ivar builder_of: the same to prepare the session with, under ``building``.
    """

    name: str
    clock: Callable[[], float]
    manager_of: Callable[[str], TriggerManager]
    builder_of: Callable[[str], TriggerManager]
    building: Callable[[], AbstractContextManager[Any]]


def run(quick: bool, _servers: Servers) -> Iterator[Row]:
    """Measure in the storages that need no server."""
    make_tables("default")
    yield from _in_place(MEMORY, quick)
    MemoryStorageBackend.clear()
    yield from _in_place(in_database("sqlite", "default"), quick)


def on_postgresql(quick: bool, servers: Servers) -> Iterator[Row]:
    """Measure on PostgreSQL.

    Nothing has gathered statistics on the tables when it begins, as after the first busy hour of a
    new installation: the planner must find the right indexes without.

    :raises LeftOut: no server answers, or its driver is not installed.
    """
    yield from _on_server("postgresql", POSTGRESQL, servers.postgresql(), quick)


def on_mariadb(quick: bool, _servers: Servers) -> Iterator[Row]:
    """Measure on MariaDB or MySQL, on a server that is there already.

    :raises LeftOut: no server answers, or its driver is not installed.
    """
    url = os.environ.get(MARIADB_URL) or "mysql://root@127.0.0.1:3306/mysql"
    yield from _on_server("mariadb", MARIADB, url, quick)


def on_redis(quick: bool, servers: Servers) -> Iterator[Row]:
    """Measure on Redis.

    :raises LeftOut: no server can be started.
    """
    manager_of = in_redis(servers.redis("storage"))
    place = Place(
        name="redis",
        clock=perf_counter,
        manager_of=manager_of,
        builder_of=manager_of,
        building=nullcontext,
    )
    yield from _in_place(place, quick)


def _on_server(name: str, alias: str, url: str, quick: bool) -> Iterator[Row]:
    with made_database(alias, url):
        make_tables(alias)
        yield from _in_place(in_database(name, alias), quick)


def _in_place(place: Place, quick: bool) -> Iterator[Row]:
    sizes = (2, 4, 8) if quick else (10, 100, 1000, 5000)
    with pinned():
        yield from compare_sizes(place, sizes, turns=4 if quick else 200)


def compare_sizes(place: Place, sizes: Sequence[int], *, turns: int) -> Iterator[Row]:
    """Measure both kinds of instances in one storage; the smallest size is the yardstick."""
    for kind in (FINISHED, WAITING):
        samples = _measure(place, kind, sizes, turns)
        for case in (*kind.cases, EXECUTE):
            yield _row(place, kind, case, sizes, samples)


def _measure(place: Place, kind: Kind, sizes: Sequence[int], turns: int) -> Samples:
    managers = {}
    for size in sizes:
        uid = f"{size} {kind.name}"
        builder = place.builder_of(uid)
        with place.building():
            builder.update_configuration(kind.configuration(turns))
            builder.fire("opened")
        for number in range(0, size, _BUILT_TOGETHER):
            with place.building():
                kind.build(builder, range(number, min(size, number + _BUILT_TOGETHER)))
        managers[size] = place.manager_of(uid)
    samples = Samples(place.clock)
    with quiet():
        for turn in range(turns):
            for case, trigger in kind.cases.items():
                for size in in_turns(sizes, turn):
                    fire = partial(managers[size].fire, trigger.format(turn), KWARGS)
                    samples.time((case, size), fire)
            for size in in_turns(sizes, turn):
                execute = partial(_execute, managers[size], kind.pages(size) + turn)
                samples.time((EXECUTE, size), execute)
    return samples


def _row(
    place: Place,
    kind: Kind,
    case: str,
    sizes: Sequence[int],
    samples: Samples,
) -> Row:
    smallest, *others = sizes
    base = samples.of((case, smallest))
    compared = {size: compare(samples.of((case, size)), base) for size in others}
    *between, largest = others
    return Row(
        benchmark=f"growth, {place.name}",
        case=f"{largest:,} {kind.name}: {case}",
        figures=compared[largest],
        limit=LIMIT,
        aim=AIM,
        note=", ".join(f"{size:,}: {compared[size].ratio:.2f}" for size in between),
    )


def _execute(manager: TriggerManager, number: int) -> None:
    resolve(RUN).execute(manager, f"t_page#{number}")


PAGES: dict[str, Any] = {"t_page": {"run": RUN, "after": ["opened"], "andEvery": "page"}}


def _with_joins(turns: int) -> Mapping[str, Any]:
    """One join for each turn, so that each turn can create an instance and have one wait on."""
    after = ("left {}", "middle {}", "right {}")
    joins = {
        f"t_join {turn}": {"run": RUN, "after": [each.format(turn) for each in after]}
        for turn in range(turns)
    }
    return {**PAGES, **joins}


def _with_waiting(_turns: int) -> Mapping[str, Any]:
    return {**PAGES, "t_wait": {"run": RUN, "after": ["never"], "andEvery": "asked"}}


def _finish_pages(manager: TriggerManager, numbers: Iterable[int]) -> None:
    for number in numbers:
        manager.fire("page", KWARGS)
        _execute(manager, number)


def _let_wait(manager: TriggerManager, numbers: Iterable[int]) -> None:
    for _number in numbers:
        manager.fire("asked", KWARGS)


FINISHED = Kind(
    name="finished",
    configuration=_with_joins,
    build=_finish_pages,
    cases={
        "nobody listens": "unheard",
        "their task hears it, nothing changes": "opened",
        "creates a waiting instance": "left {}",
        "a waiting instance takes it": "middle {}",
        "completes a join of their task": "page",
    },
    pages=lambda size: size,
)

WAITING = Kind(
    name="waiting",
    configuration=_with_waiting,
    build=_let_wait,
    cases={
        "nobody listens": "unheard",
        "creates one more of them": "asked",
        "completes a join": "page",
    },
    pages=lambda _size: 0,
)


def _in_memory(uid: str) -> TriggerManager:
    manager = TriggerManager(MemoryStorageBackend(uid))
    manager.default_task_runner_name = NoRunner.name
    return manager


MEMORY = Place(
    name="memory",
    clock=process_time,
    manager_of=_in_memory,
    builder_of=_in_memory,
    building=nullcontext,
)


def in_database(name: str, alias: str) -> Place:
    """The place of a database."""
    return Place(
        name=name,
        clock=perf_counter,
        manager_of=partial(manager_of, alias=alias),
        # Many firings that prepare a session are one transaction; it would take minutes otherwise.
        builder_of=partial(manager_of, alias=alias, in_transaction="decide"),
        building=partial(transaction.atomic, using=alias),
    )
