"""One firing on SQLite, against a bare ``get`` and ``update`` of Django's ORM in a transaction.

Both sides have a database in a file, with the settings that triggers recommends: WAL,
``synchronous=NORMAL``, transactions that begin ``IMMEDIATE``. Each side has a file of its own, so
that each one pays for its own checkpoints. See :mod:`benchmarks.firing` for what is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from django.db import transaction

from benchmarks.firing import Yardstick, make_tables, make_yardstick, measure
from benchmarks.measure import Row, pinned

LIMIT = 2.0
"""Times what a bare transaction takes."""

ALIAS = "yardstick"


def run(quick: bool) -> Iterator[Row]:
    """Fire into many sessions."""
    lives = 8 if quick else 1000
    make_tables("default")
    yardsticks = [partial(_touch, key) for key in make_yardstick(ALIAS, lives)]
    with pinned():
        yield from measure("sqlite", "default", lives=lives, limit=LIMIT, yardsticks=yardsticks)


def _touch(key: int) -> None:
    with transaction.atomic(using=ALIAS):
        row = Yardstick.objects.using(ALIAS).get(pk=key)
        Yardstick.objects.using(ALIAS).filter(pk=key).update(count=row.count + 1)
