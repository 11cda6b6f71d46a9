"""Going round the sessions that a storage lists as due: each once, and none in another's way."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from triggers import conf
from triggers.exceptions import StorageUnavailable
from triggers.logging import Action, log
from triggers.storages import storage_backends
from triggers.storages.base import BaseTriggerStorage
from triggers.storages.session import SessionStorage

FIRST_PAUSE = 5.0
"""Seconds for which a session that has failed is left alone; doubled each time that it fails."""

LONGEST_PAUSE = 3600.0
"""The longest time in seconds for which a session that keeps failing is left alone."""


class Stop(Protocol):
    """Says when to stop; a ``threading.Event`` does."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...

    def wait(self, timeout: float, /) -> object:
        """Wait so many seconds, or less: until it is time to stop."""
        ...


class Rounds:
    """What a process that goes round again and again remembers from one time to the next.

    A session that fails is left alone for a while, longer each time that it fails.

    :param stop: ends a round early, between two sessions.
    :param clock: seconds that only increase.
    """

    def __init__(
        self, stop: Stop | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stop = stop
        self._clock = clock
        self._failed: dict[tuple[str, str, str], tuple[int, float]] = {}
        self._told: set[str] = set()

    def is_over(self) -> bool:
        """Whether the round is to end now."""
        return self._stop is not None and self._stop.is_set()

    def ordered(self, uids: Collection[str]) -> Iterable[str]:
        """The sessions in an order of chance, so that processes which list the same ones part."""
        return random.sample(sorted(uids), len(uids))

    def leaves_alone(self, action: str, alias: str, uid: str) -> bool:
        """Whether the session has failed not long ago."""
        known = self._failed.get((action, alias, uid))
        return known is not None and self._clock() < known[1]

    def note(self, action: str, alias: str, uid: str, *, failed: bool) -> None:
        """Remember how it went."""
        key = (action, alias, uid)
        if not failed:
            self._failed.pop(key, None)
            return
        failures = self._failed.get(key, (0, 0.0))[0] + 1
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 16), LONGEST_PAUSE)
        self._failed[key] = failures, self._clock() + pause

    def tell_of_unlisted(self, alias: conf.Alias) -> None:
        """Log, the first time, that nothing is found in a storage that cannot list its sessions."""
        if alias.name in self._told:
            return
        self._told.add(alias.name)
        reason = unlisted(alias)
        if reason:
            message = "Not all that is due in sessions of %r is looked for: %s"
            log(logging.WARNING, message, alias.name, reason, action="supervise")

    def forget_old(self) -> None:
        """Forget sessions that have not been met again for long after they were worth a try."""
        old = self._clock() - LONGEST_PAUSE
        for key in [key for key, (_, until) in self._failed.items() if until < old]:
            del self._failed[key]


class Once(Rounds):
    """Remembers nothing: every session is tried, in order."""

    def ordered(self, uids: Collection[str]) -> Iterable[str]:
        return sorted(uids)

    def note(self, action: str, alias: str, uid: str, *, failed: bool) -> None:
        pass

    def tell_of_unlisted(self, alias: conf.Alias) -> None:
        pass


def aliases(using: str | None) -> list[conf.Alias]:
    """The alias of this name, or all that there are.

    :raises SettingsError: there is no such alias.
    """
    return [conf.get_alias(using)] if using is not None else list(conf.aliases().values())


def unlisted(alias: conf.Alias) -> str:
    """Why deadlines are not noticed, or nothing is recovered, in an alias's sessions.

    So it is where the storage cannot list its sessions: who goes round finds none. Firing works
    all the same, and decides what is due in its own session.

    :returns: a sentence for people, with what to do; empty if the sessions are looked after.
    :raises UnknownBackend: the storage is not registered here.
    """
    backend = storage_backends.get_class(alias.storage)
    lacking = {}
    if _is_inherited("overdue", backend, BaseTriggerStorage):
        lacking["overdue()"] = "nothing is recovered"
    if _is_inherited("ticking", backend, SessionStorage):
        lacking["ticking()"] = "no deadline is noticed"
    if not lacking:
        return ""
    what, missing = " and ".join(lacking.values()), " and ".join(lacking)
    return (
        f"the {alias.storage} storage cannot list its sessions, so {what} in them. Write {missing} "
        f"for {backend.__module__}.{backend.__qualname__}, or call triggers.recovery.recover() and "
        "triggers.timers.fire_due_in() for the sessions that you know of."
    )


def _is_inherited(method: str, cls: Any, base: Any) -> bool:
    """Whether a class method is the one of the base class, which finds nothing."""
    return getattr(getattr(cls, method), "__func__", None) is getattr(base, method).__func__


def go_round(
    alias: conf.Alias,
    listed: Callable[[int], Collection[str]],
    act: Callable[[str], None],
    *,
    action: Action,
    batch: int,
    rounds: Rounds | None,
) -> int:
    """Act once on each session that is listed, until there are no others.

    What a session raises is logged, and the others go on.

    :param listed: lists so many sessions that are due, the most urgent ones first.
    :param act: acts on one; normally it is not listed any more after that.
    :param action: what this is called in the log.
    :param batch: how many to list at a time.
    :returns: how many sessions have failed.
    :raises StorageUnavailable: they could not be listed.
    """
    rounds = rounds or Once()
    rounds.tell_of_unlisted(alias)
    seen: set[str] = set()
    failed = stuck = 0
    while not rounds.is_over():
        limit = batch + stuck
        found = listed(limit)
        fresh = set(found) - seen
        # Asking for more than those that stay listed keeps the others moving.
        stuck = len(found) - len(fresh)
        if not fresh and len(found) < limit:
            break
        for uid in rounds.ordered(fresh):
            if rounds.is_over():
                break
            seen.add(uid)
            if rounds.leaves_alone(action, alias.name, uid):
                continue
            try:
                act(uid)
            except Exception as error:
                failed += 1
                rounds.note(action, alias.name, uid, failed=True)
                message = _MESSAGES[action]
                log(logging.ERROR, message, uid, exc_info=True, action=action, session=uid)
                if isinstance(error, StorageUnavailable):
                    break  # whether that is so for all of them, listing them again will tell
            else:
                rounds.note(action, alias.name, uid, failed=False)
    return failed


_MESSAGES: dict[Action, str] = {
    "tick": "What is due in session %r could not be decided; the others go on",
    "recover": "Session %r could not be recovered; the others go on",
    "purge": "Session %r could not be purged; the others go on",
}
