"""One firing on PostgreSQL, against ``select_for_update``, ``get`` and ``update`` of the ORM.

The row lock belongs to the yardstick here: without it, two views that do the same at once would
lose one of the changes, which on SQLite the ``IMMEDIATE`` transaction prevents. See
:mod:`benchmarks.firing` for what is compared, and :mod:`benchmarks.growth` for the rows on growth.
Only reported: how long the network and the server's disk take differs too much from place to place
to promise a ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.utils import OperationalError

from benchmarks.firing import Yardstick, make_tables, make_yardstick, measure
from benchmarks.growth import compare_sizes, in_database
from benchmarks.measure import LeftOut, Row

ALIAS = "postgresql"
SERVER = "postgresql_server"


def run(quick: bool) -> Iterator[Row]:
    """Fire into many sessions, in a database of our own that is dropped at the end.

    :raises LeftOut: no server answers, or its driver is not installed.
    """
    lives = 8 if quick else 400
    with _database():
        make_tables(ALIAS)
        yardsticks = [partial(_touch, key) for key in make_yardstick(ALIAS, lives)]
        yield from measure("postgresql", ALIAS, lives=lives, limit=None, yardsticks=yardsticks)
        # Nothing has gathered statistics on these tables yet, as after the first busy hour of a new
        # installation: the planner must find the right indexes without.
        sizes, turns = ((2, 8), 4) if quick else ((10, 1000), 60)
        place = in_database("postgresql", ALIAS)
        yield from compare_sizes(place, sizes, turns=turns, limit=None)


def _touch(key: int) -> None:
    with transaction.atomic(using=ALIAS):
        row = Yardstick.objects.using(ALIAS).select_for_update().get(pk=key)
        Yardstick.objects.using(ALIAS).filter(pk=key).update(count=row.count + 1)


@contextmanager
def _database() -> Iterator[None]:
    name = connections.settings[ALIAS]["NAME"]
    try:
        _on_server(f'CREATE DATABASE "{name}"')
    except (ImproperlyConfigured, OperationalError) as error:
        raise LeftOut(str(error).strip().splitlines()[0]) from error
    try:
        yield
    finally:
        connections[ALIAS].close()
        _on_server(f'DROP DATABASE "{name}"')
        connections[SERVER].close()


def _on_server(statement: str) -> None:
    with connections[SERVER].cursor() as cursor:
        cursor.execute(statement)
