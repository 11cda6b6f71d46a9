"""Retention: removing what is stored of sessions that have come to their end long ago.

Of each a tombstone is left: that there was such a session. So nothing begins again under its uid,
and an idempotency key that was used in it is never taken for a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from triggers import conf
from triggers.engine.phases import Purge
from triggers.exceptions import StorageUnavailable
from triggers.logging import log
from triggers.models import Configuration
from triggers.recovery import manager_of
from triggers.registry import place_of
from triggers.rounds import aliases
from triggers.storages import storage_backends
from triggers.storages.configurations import remove_unused_configurations
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.session import SessionStorage, present_of
from triggers.types import Phase

CONFIGURATIONS_KEPT = timedelta(days=7)
"""How old a configuration is at least that is removed since no session has it."""

_PATIENCE = 3
"""After so many sessions in a row that the storage did nothing for, it is taken to be down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a purge did; in a dry run, what it would do.

    :ivar sessions: sessions of which only a tombstone is left.
    :ivar kept: old sessions that were left alone: something in them is still to be done, or was
        done meanwhile. To have been looked at counts as a change, so they are looked at again only
        when as much time has passed once more.
    :ivar failed: sessions that raised; the reason is in the log.
    :ivar configurations: configurations removed that no session had.
    :ivar unlisted: aliases whose storage cannot list its sessions, so that none were looked at.
    """

    sessions: int = 0
    kept: int = 0
    failed: int = 0
    configurations: int = 0
    unlisted: tuple[str, ...] = ()


def purge(
    older_than: timedelta,
    using: str | None = None,
    *,
    batch: int = 100,
    progress: Callable[[Purged], object] | None = None,
    dry_run: bool = False,
) -> Purged:
    """Remove sessions that are resolved and in which nothing was fired for so long.

    A session that is open is resolved when each of its tasks has an instance and all instances are
    resolved; one that is closed or cancelled, when all instances are. Each is purged by a
    transaction of its own, which looks again, so any number of purges may run while others fire.

    :param older_than: for how long nothing has happened, by the storage's clock: a ``timedelta``.
    :param using: alias in ``TRIGGERS``; every alias unless one is named.
    :param batch: sessions to list at a time, and configurations to remove in one transaction.
    :param progress: is told after each session what was done so far; by default nobody is.
    :param dry_run: change nothing, only count. Each session is read for that.
    :returns: what was done; in a dry run, what would be.
    :raises TypeError: ``older_than`` is no timedelta; or a storage lists its sessions wrongly, so
        that this would never end.
    :raises ValueError: it is not longer than zero, or ``batch`` is below 1.
    :raises SettingsError: there is no such alias.
    :raises StorageUnavailable: a storage was down; what was purged before that is.
    """
    if not isinstance(older_than, timedelta):
        raise TypeError(f"older_than must be a timedelta, got {type(older_than).__name__}.")
    if older_than <= timedelta(0):
        raise ValueError(f"older_than must be longer than zero, got {older_than}.")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}.")
    run = _Run(older_than, batch, progress, dry_run)
    for alias in aliases(using):
        run.go_through(alias)
    return run.purged


class _Run:
    """One purge over some aliases."""

    def __init__(
        self,
        older_than: timedelta,
        batch: int,
        progress: Callable[[Purged], object] | None,
        dry_run: bool,
    ) -> None:
        self.older_than = older_than
        self.batch = batch
        self.progress = progress
        self.dry_run = dry_run
        self.purged = Purged()
        self._known: set[tuple[str, str]] = set()

    def go_through(self, alias: conf.Alias) -> None:
        same = (alias.storage, repr(sorted(alias.options.items())))
        if same in self._known:
            return
        self._known.add(same)
        backend = storage_backends.get_class(alias.storage)
        storage: SessionStorage = backend("-", **alias.options)
        since = present_of(storage) - self.older_than
        after, failures = "", 0
        page: Collection[str] = ()
        while True:
            before = page
            try:
                page = backend.sessions(
                    self.batch, after=after, unchanged_since=since, **alias.options
                )
            except NotImplementedError:
                self._tell(replace(self.purged, unlisted=(*self.purged.unlisted, alias.name)))
                return
            if problem := _mislisted(page, before):
                raise TypeError(
                    f"{place_of(backend)}.sessions() must return a list of "
                    "at most `limit` uids, in order of uid (or another order that stays), "
                    f"beginning after the uid `after`; for after={after!r} {problem}."
                )
            if not page:
                break
            for uid in page:
                after = uid
                try:
                    done = self._purge(backend(uid, **alias.options), alias, since)
                except Exception as error:
                    failures = failures + 1 if isinstance(error, StorageUnavailable) else 0
                    if failures >= _PATIENCE:
                        raise
                    message = "Session %r could not be purged; the others go on"
                    log(logging.ERROR, message, uid, exc_info=True, action="purge", session=uid)
                    self._tell(replace(self.purged, failed=self.purged.failed + 1))
                    continue
                failures = 0
                if done:
                    self._tell(replace(self.purged, sessions=self.purged.sessions + 1))
                else:
                    self._tell(replace(self.purged, kept=self.purged.kept + 1))
        if isinstance(storage, DatabaseStorageBackend):
            self._remove_configurations(storage)

    def _purge(self, storage: SessionStorage, alias: conf.Alias, since: datetime) -> bool:
        standing = storage.standing()
        if standing.phase is Phase.PURGED or storage.deferred():
            return False
        if self.dry_run:
            return _may_be_purged(storage, since)
        manager = manager_of(standing.manager or alias.manager, storage, alias)
        return bool(manager.apply(Purge(unchanged_since=since)).outcome)

    def _remove_configurations(self, storage: DatabaseStorageBackend) -> None:
        before = storage.now() - CONFIGURATIONS_KEPT
        if self.dry_run:
            unused = Configuration.objects.using(storage.using).filter(created_at__lt=before)
            count = unused.filter(session__isnull=True).count()
            self._tell(replace(self.purged, configurations=self.purged.configurations + count))
            return
        while removed := remove_unused_configurations(
            storage.using, before, self.batch, storage.limits.server_timeout
        ):
            self._tell(replace(self.purged, configurations=self.purged.configurations + removed))

    def _tell(self, purged: Purged) -> None:
        self.purged = purged
        if self.progress is not None:
            self.progress(self.purged)


def _mislisted(page: Any, before: Collection[str]) -> str:
    """What is wrong with a page of uids that comes after another one; empty if it is right."""
    if isinstance(page, str) or not isinstance(page, Collection):
        return f"it returned {page!r}"
    known = set(before)
    again = next((uid for uid in page if uid in known), None)
    return "" if again is None else f"it returned {again!r}, which was on the page before"


def _may_be_purged(storage: SessionStorage, since: datetime) -> bool:
    """What :class:`Purge` would say, as far as can be seen from outside."""
    standing = storage.standing()
    if any(firing.at > since for firing in storage.find_firings(seqs=[standing.seq])):
        return False
    if standing.phase is Phase.OPEN:
        return bool(storage.tasks) and not storage.get_unresolved_tasks()
    return not storage.get_unresolved_instances()
