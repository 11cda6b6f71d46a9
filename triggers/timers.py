"""Time: deciding what has become due where nothing else happens.

Every transition decides first what is due in its session, so a deadline never depends on this. But
a session in which nothing is fired any more needs somebody to look: call :func:`fire_due` as often
as you want deadlines to be noticed, from one process or from many.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from triggers import conf
from triggers.engine.events import Tick
from triggers.manager import TriggerManager
from triggers.recovery import manager_of
from triggers.rounds import Rounds, aliases, go_round
from triggers.storages import storage_backends
from triggers.storages.session import SessionStorage
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

    def __iadd__(self, other: Fired) -> Fired:
        self.sessions += other.sessions
        self.instances += other.instances
        self.failed += other.failed
        return self


def fire_due(
    now: datetime | None = None,
    using: str | None = None,
    *,
    batch: int = 100,
    rounds: Rounds | None = None,
) -> Fired:
    """Decide everything that is due, each exactly once however many processes call this.

    :param now: what is due by this moment, aware; by default the present of each storage. A
        session's time moves on to what was due, not to ``now``.
    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    :param batch: sessions to look up at a time.
    :param rounds: of a process that calls this again and again: when to stop, and which sessions
        have failed not long ago; by default every session is tried.
    :returns: how much was due.
    :raises StorageUnavailable: a storage could not be asked what is due.
    :raises TypeError: ``now`` is no datetime.
    :raises ValueError: ``now`` has no time zone, or ``batch`` is below 1.
    :raises SettingsError: there is no such alias.
    """
    until = _aware(now)
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}.")
    total = Fired()
    for alias in aliases(using):
        total.failed += go_round(
            alias,
            partial(_ticking, alias, until),
            partial(_look_into, total, alias, until),
            action="tick",
            batch=batch,
            rounds=rounds,
        )
    return total


def fire_due_in(manager: TriggerManager, now: datetime | None = None) -> int:
    """Do for one session what :func:`fire_due` does for all of them.

    For storages that cannot list their sessions (those that only load and save).

    :param now: what is due by this moment, aware; by default the present of the storage.
    :returns: how many instances were scheduled or abandoned.
    :raises TypeError: ``now`` is no datetime.
    :raises ValueError: ``now`` has no time zone.
    """
    transition = manager.apply(Tick(until=_aware(now)))
    decided = (Status.SCHEDULED, Status.ABANDONED)
    return sum(each.status in decided for each in transition.instances.values())


def _ticking(alias: conf.Alias, until: datetime | None, limit: int) -> Collection[str]:
    backend: type[SessionStorage] = storage_backends.get_class(alias.storage)
    return backend.ticking(limit, until, **alias.options)


def _look_into(total: Fired, alias: conf.Alias, until: datetime | None, uid: str) -> None:
    storage = storage_backends.get_class(alias.storage)(uid, **alias.options)
    manager = manager_of(storage.manager_name() or alias.manager, storage, alias)
    total.instances += fire_due_in(manager, until)
    total.sessions += 1


def _aware(now: datetime | None) -> datetime | None:
    if now is None:
        return None
    if not isinstance(now, datetime):
        raise TypeError(f"now must be a datetime, got {type(now).__name__}: {now!r}.")
    if now.utcoffset() is None:
        raise ValueError(f"{now!r} has no time zone; make it aware.")
    return now.astimezone(UTC)
