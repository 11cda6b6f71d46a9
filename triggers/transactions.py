"""The caller's transaction, and what waits for its commit.

Inside Django's ``TestCase`` everything happens in one transaction that is rolled back, so what is
to be done after a commit would never be done. There it is kept here as well, per thread, and the
test kit does it when the test waits for its tasks or looks at the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction

_local = threading.local()


def in_callers_transaction(using: str = DEFAULT_DB_ALIAS) -> bool:
    """Whether the caller has opened a transaction on this database.

    The ones that ``TestCase`` puts around a test and around its class do not count.
    """
    connection = connections[using]
    blocks = connection.atomic_blocks
    return connection.in_atomic_block and not all(_is_tests(block) for block in blocks)


def in_outer_transaction(using: str) -> bool:
    """Whether a transaction of the caller is around the one that is open here."""
    blocks = [each for each in connections[using].atomic_blocks if not _is_tests(each)]
    return len(blocks) > 1


def in_tests_transaction() -> bool:
    """Whether ``TestCase`` has put a transaction around what this thread does.

    Then other threads do not see what happens here, and nothing here will be committed.
    """
    if not settings.configured:  # then nothing has opened a connection
        return False
    opened = connections.all(initialized_only=True)
    return any(_is_tests(block) for connection in opened for block in connection.atomic_blocks)


def after_commit(do: Callable[[], object], using: str = DEFAULT_DB_ALIAS) -> None:
    """Call ``do`` after the commit of the caller's transaction; at once if there is none."""
    if not in_callers_transaction(using):
        do()
        return
    if in_tests_transaction():
        do = _postpone(do, using)
    transaction.on_commit(do, using=using, robust=True)


def _is_tests(block: Any) -> bool:
    """Whether an atomic block is one that Django's ``TestCase`` made."""
    return bool(getattr(block, "_from_testcase", False))


def _postpone(do: Callable[[], object], using: str) -> Callable[[], None]:
    """Keep ``do`` for :func:`run_postponed`; returns what a real commit may call instead.

    Whichever comes first does it; the other does nothing.
    """
    waiting = _waiting()

    def once() -> None:
        if (using, once) in waiting:
            waiting.remove((using, once))
            do()

    waiting.append((using, once))
    return once


def run_postponed() -> None:
    """Do what this thread has postponed, and what is postponed by that.

    What was rolled back is not done: Django has struck it from the connection's list.
    """
    waiting = _waiting()
    while waiting:
        using, once = waiting[0]
        if any(entry[1] is once for entry in connections[using].run_on_commit):
            once()
        else:
            waiting.remove((using, once))


def forget_postponed() -> None:
    """Drop what this thread has postponed: the test that did it is over."""
    _waiting().clear()


def _waiting() -> list[tuple[str, Callable[[], None]]]:
    if not hasattr(_local, "waiting"):
        _local.waiting = []
    waiting: list[tuple[str, Callable[[], None]]] = _local.waiting
    return waiting
