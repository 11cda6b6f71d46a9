"""One firing, against the least that can make anything durable in the same place.

In a database, the yardstick is what a view would do without triggers: in a transaction, ``get`` a
row by its primary key and ``update`` it. In Redis, it is one round trip (:mod:`benchmarks.redis`).

Ours is all that an application calls: make the manager of a session, fire with kwargs, decide,
commit, and hand what is ready to a runner that does nothing with it (a broker's time is not ours).
Each case is one firing of a session's life, and each session is used for one life, so the tables
grow during the measurement as they would in production. Right before each firing, or right after
it, the yardstick is measured once; the ratio is the median of all such pairs. What belongs together
is measured in one round over all sessions: after a broker's client, for one, the processor's
caches hold little of us, and what follows on an answer is that much slower.

Such a median leaves out what happens only once in many transactions, above all that the database
moves what it logged into its tables. One more row therefore compares the sums over whole lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from time import perf_counter
from typing import Any

from django.core.management import call_command
from django.db import connections, models, transaction

from benchmarks.measure import Row, Samples, compare, in_turns, quiet
from benchmarks.stubs import RUN, NoRunner
from triggers.manager import TriggerManager
from triggers.runners.base import resolve
from triggers.storages.database import DatabaseStorageBackend

JOIN: dict[str, Any] = {"t_join": {"run": RUN, "after": ["first", "second", "third"]}}

LIFE = {
    "nobody listens": "unheard",
    "creates a waiting instance": "first",
    "a waiting instance takes it": "second",
    "completes a join": "third",
}
"""Trigger by case, in the order in which a session gets them."""

KWARGS = {"page": 3, "applicant": "Ada Lovelace", "answers": ["yes", "no", "yes"]}

EXECUTE = "claim and finish (2 commits)"

YARDSTICK = "yardstick"


class Yardstick(models.Model):
    """A small row, as any application has."""

    name = models.CharField(max_length=100, unique=True)
    count = models.IntegerField()

    objects: models.Manager[Yardstick] = models.Manager()

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return self.name


def make_tables(alias: str) -> None:
    """Make the tables of triggers."""
    call_command("migrate", database=alias, verbosity=0)


def make_yardstick(alias: str, rows: int) -> list[int]:
    """Make the yardstick's table with so many rows, and return their primary keys."""
    with connections[alias].schema_editor() as editor:
        editor.create_model(Yardstick)
    made = [Yardstick(name=f"row {number}", count=0) for number in range(rows)]
    return [row.pk for row in Yardstick.objects.using(alias).bulk_create(made)]


def manager_of(uid: str, alias: str, **options: Any) -> TriggerManager:
    """A manager that hands instances to a runner that does nothing."""
    manager = TriggerManager(DatabaseStorageBackend(uid, using=alias, **options))
    manager.default_task_runner_name = NoRunner.name
    return manager


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a ratio may be at most, and what we would like it to be."""

    most: float
    aim: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to do in each session, at its turn.

    :ivar yardstick: name of what it is compared with.
    """

    name: str
    do: Callable[[str], object]
    yardstick: str = YARDSTICK
    limit: Limit | None = None


def measure(
    benchmark: str,
    manager_of: Callable[[str], TriggerManager],
    yardsticks: Mapping[str, Callable[[int], object]],
    *,
    lives: int,
    limits: Mapping[str, Limit],
    building: Callable[[], AbstractContextManager[Any]] = nullcontext,
    builder_of: Callable[[str], TriggerManager] | None = None,
    more: Sequence[Sequence[Case]] = (),
    configuration: Mapping[str, Any] = JOIN,
) -> Iterator[Row]:
    """Fire into many sessions.

    :param yardsticks: by name; each is called with the number of the life.
    :param lives: how many sessions.
    :param limits: by case.
    :param building: within this the sessions are made.
    :param builder_of: manager to make them with.
    :param more: what else to do in each session, in rounds of their own: one with the first of
        these, then another with the second, and so on.
    """
    uids = [f"life {number}" for number in range(lives)]
    with building():
        for uid in uids:
            (builder_of or manager_of)(uid).update_configuration(configuration)

    def fire(trigger: str, uid: str) -> None:
        manager_of(uid).fire(trigger, KWARGS)

    def execute(uid: str) -> None:
        resolve(RUN).execute(manager_of(uid), "t_join#0")

    life = [Case(name=name, do=partial(fire, LIFE[name]), limit=limits.get(name)) for name in LIFE]
    life.append(Case(name=EXECUTE, do=execute, limit=limits.get(EXECUTE)))
    rounds = [life, *more]
    samples = Samples(perf_counter)
    turns = count()
    with quiet():
        for cases in rounds:
            for number, uid in enumerate(uids):
                for case in cases:
                    ours = partial(case.do, uid)
                    theirs = partial(yardsticks[case.yardstick], number)
                    both = [(case.name, ours), ((YARDSTICK, case.name), theirs)]
                    for what, do in in_turns(both, next(turns)):
                        samples.time(what, do)
    for case in chain.from_iterable(rounds):
        limit = case.limit
        yield Row(
            benchmark=benchmark,
            case=case.name,
            figures=compare(samples.of(case.name), samples.of((YARDSTICK, case.name))),
            limit=None if limit is None else limit.most,
            aim=None if limit is None else limit.aim,
            note="" if case.yardstick == YARDSTICK else f"against {case.yardstick}",
        )
    whole_lives, base = (
        [sum(whole) for whole in zip(*map(samples.of, series), strict=True)]
        for series in (LIFE, [(YARDSTICK, name) for name in LIFE])
    )
    group = max(1, lives // 5)
    figures = compare(whole_lives, base, group=group, operations=group * len(LIFE))
    yield Row(benchmark=benchmark, case="the four firings on average", figures=figures)


def measure_in_database(
    benchmark: str,
    alias: str,
    yardstick: Callable[[int], object],
    *,
    lives: int,
    limits: Mapping[str, Limit],
) -> Iterator[Row]:
    """Fire into many sessions of a database."""
    return measure(
        benchmark,
        partial(manager_of, alias=alias),
        {YARDSTICK: yardstick},
        lives=lives,
        limits=limits,
        building=partial(transaction.atomic, using=alias),
        builder_of=partial(manager_of, alias=alias, in_transaction="decide"),
    )
