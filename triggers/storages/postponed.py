"""What waits for a commit that a test will never make.

Inside Django's ``TestCase`` everything happens in one transaction that is rolled back, so what is
to be done "after the commit" would never be done. It is kept here as well, per thread, and the
test kit does it when the test waits for its tasks or looks at the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_local = threading.local()


def postpone(do: Callable[[], None]) -> Callable[[], None]:
    """Keep ``do`` for :func:`run_postponed`; returns what a real commit may call instead.

    Whichever comes first does it; the other does nothing.
    """
    waiting = _waiting()

    def once() -> None:
        if once in waiting:
            waiting.remove(once)
            do()

    waiting.append(once)
    return once


def run_postponed() -> None:
    """Do what this thread has postponed, and what is postponed by that."""
    waiting = _waiting()
    while waiting:
        waiting[0]()


def forget_postponed() -> None:
    """Drop what this thread has postponed: the test that did it is over."""
    _waiting().clear()


def _waiting() -> list[Callable[[], None]]:
    if not hasattr(_local, "waiting"):
        _local.waiting = []
    waiting: list[Callable[[], None]] = _local.waiting
    return waiting
