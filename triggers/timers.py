"""Time: deciding what has become due where nothing else happens.

Every transition decides first what is due in its session, so a deadline never depends on this. But
a session in which nothing is fired any more needs somebody to look: call :func:`fire_due` as often
as you want deadlines to be noticed, from one process or from many.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from triggers import conf
from triggers.engine.events import Tick
from triggers.logging import log
from triggers.manager import TriggerManager
from triggers.recovery import manager_of
from triggers.storages import storage_backends
from triggers.types import Status


@dataclass(slots=True, kw_only=True)
class Fired:
    """What :func:`fire_due` did.

    :ivar sessions: how many sessions had something due.
    :ivar instances: instances that time alone has scheduled or abandoned, with what followed.
    :ivar failed: sessions that raised; the reason is in the log, and the next call tries again.
    """

    sessions: int = 0
    instances: int = 0
    failed: int = 0


def fire_due(now: datetime | None = None, using: str | None = None, *, batch: int = 100) -> Fired:
    """Decide everything that is due, each exactly once however many processes call this.

    :param now: what is due by this moment, aware; by default the present of each storage. A
        session's time moves on to what was due, not to ``now``.
    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    :param batch: sessions to look up at a time.
    :raises TypeError: ``now`` is no datetime.
    :raises ValueError: ``now`` has no time zone, or ``batch`` is below 1.
    :raises SettingsError: there is no such alias.
    """
    until = _aware(now)
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}.")
    total = Fired()
    for alias in [conf.get_alias(using)] if using is not None else conf.aliases().values():
        backend = storage_backends.get_class(alias.storage)
        seen: set[str] = set()
        failed = 0
        # Sessions that fail stay due; asking for more than were seen keeps the others moving.
        while fresh := set(backend.ticking(batch + len(seen), until, **alias.options)) - seen:
            seen |= fresh
            for uid in sorted(fresh):
                try:
                    storage = backend(uid, **alias.options)
                    manager = manager_of(storage.manager_name() or alias.manager, storage, alias)
                    total.instances += fire_due_in(manager, until)
                    total.sessions += 1
                except Exception:
                    failed += 1
                    message = "What is due in session %r could not be decided; the others go on"
                    log(logging.ERROR, message, uid, exc_info=True, action="tick", session=uid)
        total.failed += failed
    return total


def fire_due_in(manager: TriggerManager, now: datetime | None = None) -> int:
    """Do for one session what :func:`fire_due` does for all of them.

    For storages that cannot list their sessions (those that only load and save).

    :returns: how many instances were scheduled or abandoned.
    :raises TypeError: ``now`` is no datetime.
    :raises ValueError: ``now`` has no time zone.
    """
    transition = manager.apply(Tick(until=_aware(now)))
    decided = (Status.SCHEDULED, Status.ABANDONED)
    return sum(each.status in decided for each in transition.instances.values())


def _aware(now: datetime | None) -> datetime | None:
    if now is None:
        return None
    if not isinstance(now, datetime):
        raise TypeError(f"now must be a datetime, got {type(now).__name__}: {now!r}.")
    if now.utcoffset() is None:
        raise ValueError(f"{now!r} has no time zone; make it aware.")
    return now.astimezone(UTC)
