"""One firing in a database, against a bare transaction of Django's ORM.

The yardstick is what a view would do without triggers: in a transaction, ``get`` a row by its
primary key and ``update`` it. That is the least that can make anything durable through the ORM.

Ours is all that an application calls: make the manager of a session, fire with kwargs, decide,
commit, and hand what is ready to a runner that does nothing with it (a broker's time is not ours).
Each case is one firing of a session's life, and each session is used for one life, so the tables
grow during the measurement as they would in production. Right before each firing, or right after
it, the yardstick is measured once; the ratio is the median of all such pairs.

Such a median leaves out what happens only once in many transactions, above all that the database
moves what it logged into its tables. One more row therefore compares the sums over whole lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

from django.core.management import call_command
from django.db import connections, models, transaction

from benchmarks.measure import Row, Samples, compare, quiet
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


def measure(
    benchmark: str,
    alias: str,
    *,
    lives: int,
    limit: float | None,
    yardsticks: Sequence[Callable[[], object]],
) -> Iterator[Row]:
    """Fire into many sessions.

    :param lives: how many.
    :param yardsticks: one for each session.
    """
    uids = [f"life {number}" for number in range(lives)]
    with transaction.atomic(using=alias):
        for uid in uids:
            manager_of(uid, alias, in_transaction="decide").update_configuration(JOIN)
    samples = Samples(perf_counter)
    turns = count()
    with quiet():
        for uid, yardstick in zip(uids, yardsticks, strict=True):
            for case, trigger in LIFE.items():
                fire = partial(_fire, uid, alias, trigger)
                _in_turn(samples, case, fire, yardstick, next(turns))
            _in_turn(samples, EXECUTE, partial(_execute, uid, alias), yardstick, next(turns))
    for case in (*LIFE, EXECUTE):
        figures = compare(samples.of(case), samples.of((YARDSTICK, case)))
        case_limit = limit if case in LIFE else None
        yield Row(benchmark=benchmark, case=case, figures=figures, limit=case_limit)
    ours, base = (
        [sum(life) for life in zip(*map(samples.of, series), strict=True)]
        for series in (LIFE, [(YARDSTICK, case) for case in LIFE])
    )
    group = max(1, lives // 5)
    figures = compare(ours, base, group=group, operations=group * len(LIFE))
    yield Row(benchmark=benchmark, case="the four firings on average", figures=figures)


def _in_turn(
    samples: Samples,
    case: str,
    ours: Callable[[], object],
    yardstick: Callable[[], object],
    turn: int,
) -> None:
    both = [(case, ours), ((YARDSTICK, case), yardstick)]
    for what, do in both if turn % 2 else reversed(both):
        samples.time(what, do)


def _fire(uid: str, alias: str, trigger: str) -> None:
    manager_of(uid, alias).fire(trigger, KWARGS)


def _execute(uid: str, alias: str) -> None:
    resolve(RUN).execute(manager_of(uid, alias), "t_join#0")
