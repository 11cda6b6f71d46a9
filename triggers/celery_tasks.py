"""What ``manage.py triggers run`` does, as Celery tasks for ``celery beat``.

::

    # project/celery.py
    from triggers.celery_tasks import beat_schedule

    app.conf.beat_schedule = {**beat_schedule(), "mine": ...}

Importing this module needs no settings, so it may as well be imported by the settings themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import shared_task

from triggers.conditions.durations import format_duration, parse_duration

if TYPE_CHECKING:
    from triggers.rounds import Rounds

INTERVAL = 5.0
"""Seconds between two looks at what has become due."""

RECOVERY_INTERVAL = 15.0
"""Seconds between two looks at what is to be done again."""

# Celery has no types.
_shared_task: Callable[..., Callable[[Any], Any]] = shared_task


def beat_schedule(
    *,
    interval: float = INTERVAL,
    recovery_interval: float | None = None,
    purge_older_than: timedelta | None = None,
    using: str | None = None,
    queue: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Entries for ``app.conf.beat_schedule``.

    Each message expires when the next one is due, so that none pile up while workers are busy.

    :param interval: seconds between two calls of ``triggers.fire_due``.
    :param recovery_interval: seconds between two calls of ``triggers.redeliver``; ``None``: 15,
        or ``interval`` if that is longer.
    :param purge_older_than: purge, once a day, sessions that ended so long ago; ``None``: none.
    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    :param queue: name of the Celery queue for them; Celery's routing decides unless given.
    :returns: entries by name, for ``beat_schedule`` of the Celery app.
    :raises ValueError: a time is not above 0.
    """
    if recovery_interval is None:
        recovery_interval = max(interval, RECOVERY_INTERVAL)
    for name, value in (("interval", interval), ("recovery_interval", recovery_interval)):
        if not value > 0:
            raise ValueError(f"{name} must be above 0 seconds, got {value}.")
    schedule = {
        "triggers.fire_due": _entry(fire_due, interval, queue, using=using),
        "triggers.redeliver": _entry(redeliver, recovery_interval, queue, using=using),
    }
    if purge_older_than is not None:
        if purge_older_than <= timedelta(0):
            raise ValueError(f"purge_older_than must be above zero, got {purge_older_than}.")
        day = timedelta(days=1).total_seconds()
        older_than = format_duration(purge_older_than)
        schedule["triggers.purge"] = _entry(purge, day, queue, older_than=older_than, using=using)
    return schedule


@_shared_task(name="triggers.fire_due", ignore_result=True)
def fire_due(using: str | None = None) -> None:
    """Decide what has become due; see :func:`triggers.timers.fire_due`.

    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    """
    from triggers import timers

    timers.fire_due(using=using, rounds=_rounds())


@_shared_task(name="triggers.redeliver", ignore_result=True)
def redeliver(using: str | None = None) -> None:
    """Do again what was not done; see :func:`triggers.recovery.redeliver`.

    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    """
    from triggers import recovery

    recovery.redeliver(using, rounds=_rounds())


@_shared_task(name="triggers.purge", ignore_result=True)
def purge(older_than: str, using: str | None = None) -> None:
    """Remove sessions that ended long ago; see :func:`triggers.retention.purge`.

    :param older_than: a duration in ISO 8601, such as ``P90D``.
    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    """
    from triggers import retention

    retention.purge(parse_duration(older_than), using)


def _entry(task: Any, seconds: float, queue: str | None, **kwargs: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"expires": seconds}
    if queue is not None:
        options["queue"] = queue
    return {"task": task.name, "schedule": seconds, "kwargs": kwargs, "options": options}


_local = threading.local()


def _rounds() -> Rounds:
    """Which sessions have failed in this thread: they are not tried every few seconds."""
    from triggers.rounds import Rounds

    if not hasattr(_local, "rounds"):
        _local.rounds = Rounds()
    rounds: Rounds = _local.rounds
    rounds.forget_old()
    return rounds
