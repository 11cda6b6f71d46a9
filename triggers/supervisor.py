"""A process of its own for what nobody else does: deadlines, recovery, workers that were lost.

Any number of them may run, on any hosts: each thing is done by one of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import close_old_connections

from triggers import conf
from triggers.exceptions import SettingsError
from triggers.logging import log
from triggers.recovery import Recovered, redeliver
from triggers.rounds import Rounds, Stop, aliases
from triggers.storages import storage_backends
from triggers.timers import Fired, fire_due

INTERVAL = 1.0
"""Seconds between two passes."""

LONGEST_INTERVAL = 86_400.0
"""The longest interval, in seconds: a day."""

LONGEST_PAUSE = 30.0
"""The longest time in seconds for which a storage that is down is left alone."""


@dataclass(slots=True, kw_only=True)
class Passed:
    """What one pass over the sessions of one alias did, or all passes together.

    :ivar using: the alias in ``TRIGGERS``; empty if it is about all of them.
    :ivar fired: what had become due.
    :ivar recovered: what was done again.
    :ivar outages: how often a storage turned out to be down.
    """

    using: str = ""
    fired: Fired = field(default_factory=Fired)
    recovered: Recovered = field(default_factory=Recovered)
    outages: int = 0

    def __iadd__(self, other: Passed) -> Passed:
        self.fired += other.fired
        self.recovered += other.recovered
        self.outages += other.outages
        return self

    def __bool__(self) -> bool:
        """Whether there was anything to do."""
        return self != Passed(using=self.using)

    def __str__(self) -> str:
        fired, recovered = self.fired, self.recovered
        counts = {
            "decided by time": fired.instances,
            "sent again": recovered.sent,
            "deferred firings decided": recovered.decided,
            "hooks and cascades": recovered.marks,
            "sessions failed": fired.failed + recovered.failed,
            "not sent": recovered.unsent,
            "outages": self.outages,
        }
        return ", ".join(f"{number} {what}" for what, number in counts.items())


def run(
    using: str | None = None,
    *,
    stop: Stop,
    interval: float = INTERVAL,
    batch: int = 100,
    on_pass: Callable[[Passed], object] | None = None,
) -> Passed:
    """Look after every session until it is time to stop.

    Nothing ends it earlier but settings that cannot be used, which only a restart mends. A storage
    that is down is logged when that begins and when it ends, and asked less and less often in
    between. A session that fails is logged each time, and tried less and less often.

    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    :param stop: when to stop; the session that is being looked at is finished before.
    :param interval: seconds between two passes.
    :param batch: sessions to look up at a time.
    :param on_pass: is told of each pass over an alias in which there was something to do; by
        default nobody is.
    :returns: what all passes did together.
    :raises SettingsError: there is no such alias, or its storage cannot be used as it is set up.
    :raises UnknownBackend: its storage is not registered here.
    :raises ValueError: ``interval`` is not above 0, or longer than a day, or ``batch`` is below 1.
    """
    if not 0 < interval <= LONGEST_INTERVAL:
        raise ValueError(
            f"interval must be above 0 and at most {LONGEST_INTERVAL:,} seconds, got {interval}."
        )
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}.")
    total = Passed()
    rounds = Rounds(stop)
    watched = [_Watched(alias, interval) for alias in aliases(using)]
    for each in watched:
        storage_backends.get_class(each.alias.storage)
    while not stop.is_set():
        for each in watched:
            done = each.look(batch, rounds)
            total += done
            if on_pass is not None and done:
                on_pass(done)
        rounds.forget_old()
        # A connection that the server has ended is found out here, and not by the next pass.
        close_old_connections()
        stop.wait(interval)
    return total


def look(using: str | None = None, *, batch: int = 100) -> Passed:
    """Look after every session once.

    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    :param batch: sessions to look up at a time.
    :returns: how much there was to do.
    :raises SettingsError: there is no such alias.
    :raises StorageUnavailable: a storage could not be asked what is due.
    """
    return Passed(fired=fire_due(using=using, batch=batch), recovered=redeliver(using, batch=batch))


class _Watched:
    """The sessions of one alias, and whether their storage answers."""

    def __init__(self, alias: conf.Alias, interval: float) -> None:
        self.alias = alias
        self.interval = interval
        self.failures = 0
        self.next_look = time.monotonic()

    def look(self, batch: int, rounds: Rounds) -> Passed:
        done = Passed(using=self.alias.name)
        if rounds.is_over() or time.monotonic() < self.next_look:
            return done
        try:
            done.fired = fire_due(using=self.alias.name, batch=batch, rounds=rounds)
            if not rounds.is_over():
                done.recovered = redeliver(self.alias.name, batch=batch, rounds=rounds)
        except SettingsError:
            raise
        except Exception:
            self.failures += 1
            pause = min(self.interval * 2 ** min(self.failures, 16), LONGEST_PAUSE)
            self.next_look = time.monotonic() + max(pause, self.interval)
            if self.failures == 1:
                done.outages = 1
                message = "Sessions of %r cannot be looked after; it is tried again until they can"
                log(logging.ERROR, message, self.alias.name, exc_info=True, action="supervise")
        else:
            if self.failures:
                message = "Sessions of %r are looked after again"
                log(logging.WARNING, message, self.alias.name, action="supervise")
            self.failures = 0
        return done
