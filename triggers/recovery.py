"""Recovery: doing again what was committed as to be done, and never was.

A crash between a commit and what should follow it leaves a trace in the committed state: an
instance that is ``scheduled`` and due, a pending mark, a deferred firing. Any number of processes
may look for such traces at a time; each trace is acted on by one of them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from triggers import conf
from triggers.engine import Pending, Transition
from triggers.engine.recovering import Recover, Unsent
from triggers.exceptions import InstanceNotFound
from triggers.logging import Fields, log
from triggers.manager import TriggerManager, trigger_managers
from triggers.outbox import follow_up, fulfil
from triggers.rounds import Rounds, aliases, go_round
from triggers.storages import storage_backends
from triggers.storages.session import SessionStorage
from triggers.types import Status


@dataclass(slots=True, kw_only=True)
class Recovered:
    """What a recovery did.

    :ivar sessions: how many sessions had something to recover.
    :ivar decided: deferred firings decided.
    :ivar sent: instances handed to a runner again.
    :ivar unsent: instances that were to be sent, but their broker does not answer.
    :ivar marks: hooks and cascades carried out.
    :ivar failed: sessions whose recovery raised; the reason is in the log.
    """

    sessions: int = 0
    decided: int = 0
    sent: int = 0
    unsent: int = 0
    marks: int = 0
    failed: int = 0

    def __iadd__(self, other: Recovered) -> Recovered:
        self.sessions += other.sessions
        self.decided += other.decided
        self.sent += other.sent
        self.unsent += other.unsent
        self.marks += other.marks
        self.failed += other.failed
        return self


def redeliver(
    using: str | None = None, *, batch: int = 100, rounds: Rounds | None = None
) -> Recovered:
    """Send again what was committed but never handed over, or never answered.

    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    :param batch: sessions to look up at a time.
    :param rounds: of a process that calls this again and again: when to stop, and which sessions
        have failed not long ago; by default every session is tried.
    :returns: how much there was to do.
    :raises StorageUnavailable: a storage could not be asked what is due.
    :raises ValueError: ``batch`` is below 1.
    :raises SettingsError: there is no such alias.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}.")
    total = Recovered()
    for alias in aliases(using):
        total.failed += go_round(
            alias,
            partial(_overdue, alias),
            partial(_recover_session, total, alias),
            action="recover",
            batch=batch,
            rounds=rounds,
        )
    return total


def recover(manager: TriggerManager) -> Recovered:
    """Do for one session what :func:`redeliver` does for all of them.

    :returns: how much there was to do.
    """
    found = Recovered(sessions=1)
    for ref, _name in manager.storage.deferred():
        found.decided += manager.decide_deferred(ref) is not None
    return _resend(manager, found, None)


def _overdue(alias: conf.Alias, limit: int) -> Collection[str]:
    backend: type[SessionStorage] = storage_backends.get_class(alias.storage)
    return backend.overdue(limit, **alias.options)


def _recover_session(total: Recovered, alias: conf.Alias, uid: str) -> None:
    """Recover a session with the managers that it belongs to."""
    storage = storage_backends.get_class(alias.storage)(uid, **alias.options)
    found = Recovered(sessions=1)
    failures: list[Exception] = []
    for ref, name in storage.deferred():
        try:
            found.decided += manager_of(name, storage, alias).decide_deferred(ref) is not None
        except Exception as error:
            # One that cannot be decided here holds up nothing else in the session.
            failures.append(error)
    manager = manager_of(storage.manager_name() or alias.manager, storage, alias)
    total += _resend(manager, found, alias)
    if failures:
        raise failures[0]


def _resend(manager: TriggerManager, found: Recovered, alias: conf.Alias | None) -> Recovered:
    transition = manager.storage.transact(_recover(manager))
    found.sent = len(list(transition.scheduled))
    found.marks = len(transition.pending)
    manager.storage.when_committed(partial(_carry_out, manager, transition, alias, found))
    return found


def _carry_out(
    manager: TriggerManager, transition: Transition, alias: conf.Alias | None, found: Recovered
) -> None:
    _tell_of_lost_workers(manager, transition)
    # A hook belongs to the manager that left its mark, which need not be the session's.
    theirs: dict[str, list[Pending]] = {}
    for mark in transition.pending:
        name = manager.name if alias is None else mark.data["manager"]
        theirs.setdefault(name, []).append(mark)
    # What is the session's own first: another manager may not even be known here.
    unsent = follow_up(manager, replace(transition, pending=theirs.pop(manager.name, [])))
    if unsent:
        found.sent -= len(unsent)
        found.unsent += len(unsent)
        with suppress(InstanceNotFound):  # the session was purged meanwhile
            manager.apply(Unsent(sends={key: transition.instances[key].sends for key in unsent}))
    for name, marks in theirs.items():
        fulfil(manager_of(name, manager.storage, alias), marks)


def _tell_of_lost_workers(manager: TriggerManager, transition: Transition) -> None:
    """Log which attempts ended with their workers."""
    for instance in transition.instances.values():
        lost = instance.metadata.get("lost_attempts") or [{}]
        if lost[-1].get("attempt") != instance.attempt or instance.changed_at != transition.clock:
            continue
        about: Fields = {
            "action": "lost",
            "session": manager.storage.uid,
            "instance": instance.name,
        }
        if instance.status is Status.FAILED:
            message = "%s failed: the workers of %d attempts were not heard of again"
            about["action"] = "fail"
            log(logging.ERROR, message, instance.name, instance.attempt, **about)
        elif instance.status is Status.SCHEDULED:
            message = "Attempt %d of %s was lost with its worker; it is given to another one"
            log(logging.WARNING, message, instance.attempt, instance.name, **about)


def _recover(manager: TriggerManager) -> Recover:
    attempts = manager.storage.limits.attempts
    return Recover(attempts=attempts, hooks=manager.overridden_hooks)


def manager_of(name: str, storage: SessionStorage, alias: conf.Alias | None) -> TriggerManager:
    """A manager of this name, as an alias describes it.

    :param name: the registered name of a manager class.
    :param alias: the alias, whose runner the manager gets; ``None``: no alias describes it.
    :raises UnknownBackend: no such class is registered here.
    """
    manager: TriggerManager = trigger_managers.get(name, storage)
    if alias is not None:
        manager.alias_runner = alias.runner or ""
    return manager
