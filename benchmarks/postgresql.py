"""One firing on PostgreSQL, against ``select_for_update``, ``get`` and ``update`` of the ORM.

The row lock belongs to the yardstick here: without it, two views that do the same at once would
lose one of the changes, which on SQLite the ``IMMEDIATE`` transaction prevents. See
:mod:`benchmarks.firing` for what is compared, and :mod:`benchmarks.growth` for the rows on growth.

The server is our own, on this machine, with its defaults: a commit waits for the disk on both
sides. Where the network is slow, the ratio follows the number of statements.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db import transaction

from benchmarks.firing import Limit, Yardstick, make_tables, make_yardstick, measure_in_database
from benchmarks.measure import Row, pinned
from benchmarks.project import POSTGRESQL, made_database
from benchmarks.servers import Servers

LIMITS = {"completes a join": Limit(most=2.0, aim=1.2)}
"""Times what a bare transaction takes."""


def run(quick: bool, servers: Servers) -> Iterator[Row]:
    """Fire into many sessions, in a database of our own that is dropped at the end.

    :raises LeftOut: no server answers, or its driver is not installed.
    """
    lives = 8 if quick else 600
    with made_database(POSTGRESQL, servers.postgresql()):
        make_tables(POSTGRESQL)
        keys = make_yardstick(POSTGRESQL, lives)
        with pinned():
            yield from measure_in_database(
                "postgresql",
                POSTGRESQL,
                lambda life: touch(keys[life]),
                lives=lives,
                limits=LIMITS,
            )


def touch(key: int) -> None:
    """The yardstick: change a row that is locked before it is read."""
    rows = Yardstick.objects.using(POSTGRESQL)
    with transaction.atomic(using=POSTGRESQL):
        row = rows.select_for_update().get(pk=key)
        rows.filter(pk=key).update(count=row.count + 1)
