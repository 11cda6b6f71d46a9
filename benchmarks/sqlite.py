"""One firing on SQLite, against a bare ``get`` and ``update`` of Django's ORM in a transaction.

Both sides have a database in a file, with the settings that triggers recommends: WAL,
``synchronous=NORMAL``, transactions that begin ``IMMEDIATE``. Each side has a file of its own, so
that each one pays for its own checkpoints. See :mod:`benchmarks.firing` for what is compared.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db import transaction

from benchmarks.firing import (
    LIFE,
    Limit,
    Yardstick,
    make_tables,
    make_yardstick,
    measure_in_database,
)
from benchmarks.measure import Row, pinned
from benchmarks.servers import Servers

LIMITS = dict.fromkeys(LIFE, Limit(most=2.0))
"""Times what a bare transaction takes."""

ALIAS = "yardstick"


def run(quick: bool, _servers: Servers) -> Iterator[Row]:
    """Fire into many sessions."""
    lives = 8 if quick else 1000
    make_tables("default")
    keys = make_yardstick(ALIAS, lives)

    def touch(life: int) -> None:
        with transaction.atomic(using=ALIAS):
            row = Yardstick.objects.using(ALIAS).get(pk=keys[life])
            Yardstick.objects.using(ALIAS).filter(pk=keys[life]).update(count=row.count + 1)

    with pinned():
        yield from measure_in_database("sqlite", "default", touch, lives=lives, limits=LIMITS)
