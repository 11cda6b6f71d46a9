"""Sessions in one of Django's databases: SQLite, PostgreSQL, MySQL, MariaDB. The default.

A decision is one short transaction of its own: the first statement writes the session's row, so
that others who decide on the same session wait for it; the next ones read what the event asked
for and write the difference. Its cost follows the rows that change, not the session's history.

Inside a transaction of the caller, ``fire`` only inserts a row that nobody else touches, and the
decision is made right after the commit (design: docs/decisions/0003).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from triggers import payload
from triggers.clock import overridden_time
from triggers.configuration import restore
from triggers.engine import Event, Plan, Transition, compile_plan, decide
from triggers.engine.events import Fire
from triggers.engine.plan import EMPTY_PLAN
from triggers.exceptions import (
    IdempotencyConflict,
    SettingsError,
    StateVersionError,
)
from triggers.models import (
    DeferredFiring,
    IdempotencyKey,
    PendingMark,
    Session,
    from_instant,
    to_instant,
)
from triggers.models import (
    Instance as InstanceRow,
)
from triggers.storages.document import STATE_VERSION
from triggers.storages.failures import persistently, reported
from triggers.storages.rows import Head, read_state, write_transition
from triggers.storages.session import SessionStorage
from triggers.storages.sql import (
    DIALECTS,
    Cursor,
    Statements,
    firing_of,
    instance_of,
    statements,
)
from triggers.transactions import after_commit, in_callers_transaction
from triggers.types import Firing, Instance

T = TypeVar("T")

DEFERRED_GRACE = timedelta(seconds=30)
"""How long a deferred firing is left to the process that committed it."""

_ATTEMPTS = 20


class DatabaseStorageBackend(SessionStorage):
    """A session in a database.

    :param uid: the session's uid.
    :param using: alias of the database in ``DATABASES``.
    :param in_transaction: what ``fire`` does inside a transaction of the caller: ``"defer"``
        records the firing, and decides it right after the commit; ``"decide"`` decides at once
        and keeps the session locked until the commit.
    :param payload_limit: bytes of JSON that the kwargs of one firing, or one result, may take.
    :raises SettingsError: ``in_transaction`` is neither, or the database is not supported.
    """

    name = "database"

    def __init__(
        self,
        uid: str,
        *,
        using: str = DEFAULT_DB_ALIAS,
        in_transaction: str = "defer",
        payload_limit: int = payload.DEFAULT_LIMIT,
    ) -> None:
        super().__init__(uid, payload_limit=payload_limit)
        if in_transaction not in ("defer", "decide"):
            reason = f"in_transaction must be 'defer' or 'decide', got {in_transaction!r}."
            raise SettingsError(reason)
        if using not in connections:
            known = ", ".join(connections)
            raise SettingsError(f"DATABASES has no alias {using!r} (known: {known}).")
        if connections[using].vendor not in DIALECTS:
            known = ", ".join(DIALECTS)
            reason = f"database {using!r} is {connections[using].vendor}; supported: {known}."
            raise SettingsError(reason)
        self.using = using
        self.in_transaction = in_transaction
        self._holders: set[int] = set()  # threads that are inside acquire_lock()

    # -- the port -------------------------------------------------------------------------------

    def transact(self, event: Event) -> Transition:
        return self._commit(lambda cursor: self._decide(cursor, event))

    def plan(self) -> Plan:
        return self._query(self._read_plan)

    def find_instances(
        self, *, task: str | None = None, number: int | None = None
    ) -> Iterable[Instance]:
        def read(cursor: Cursor) -> list[Instance]:
            head = self._head(cursor)
            if head is None:
                return []
            sql = self._sql.read_instances
            params: list[Any] = [head.id]
            for column, value in (("task", task), ("number", number)):
                if value is not None:
                    sql += self._sql.dialect.sql(f' AND "{column}" = %s')
                    params.append(value)
            cursor.execute(sql, params)
            found = [instance_of(row) for row in cursor.fetchall()]
            order = {name: index for index, name in enumerate(self._plan_of(cursor, head).tasks)}
            return sorted(found, key=lambda each: (order[each.task], each.number))

        return self._query(read)

    def find_firings(
        self, *, seqs: Collection[int] | None = None, latest: bool = False
    ) -> Iterable[Firing]:
        def read(cursor: Cursor) -> list[Firing]:
            head = self._head(cursor)
            if head is None:
                return []
            wanted = seqs
            if latest:
                cursor.execute(self._sql.read_latest_firings, [head.id])
                wanted = [row[0] for row in cursor.fetchall()]
            return sorted(self._read_firings(cursor, head, wanted), key=lambda each: each.seq)

        return self._query(read)

    def delete(self) -> None:
        with reported():
            DeferredFiring.objects.using(self.using).filter(uid=self.uid).delete()
            Session.objects.using(self.using).filter(uid=self.uid).delete()

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        storage = cls("-", **options)
        using, now = storage.using, storage.now()
        instances = InstanceRow.objects.using(using).filter(due_at__lte=now).order_by("due_at")
        marks = PendingMark.objects.using(using).filter(due_at__lte=now).order_by("due_at")
        deferred = DeferredFiring.objects.using(using).filter(created_at__lte=now - DEFERRED_GRACE)
        with reported():
            uids: list[str] = [
                *deferred.order_by("created_at").values_list("uid", flat=True)[:limit],
                *instances.values_list("session__uid", flat=True)[:limit],
                *marks.values_list("session__uid", flat=True)[:limit],
            ]
        return list(dict.fromkeys(uids))[:limit]

    # -- transactions of the caller -------------------------------------------------------------

    @property
    def options(self) -> dict[str, Any]:
        chosen: dict[str, Any] = super().options
        if self.using != DEFAULT_DB_ALIAS:
            chosen["using"] = self.using
        if self.in_transaction != "defer":
            chosen["in_transaction"] = self.in_transaction
        return chosen

    @property
    def defers_firings(self) -> bool:
        if self.in_transaction != "defer" or threading.get_ident() in self._holders:
            return False
        return in_callers_transaction(self.using)

    def defer(self, event: Fire, manager: str, then: Callable[[int], None]) -> None:
        if event.key is not None:
            self._refuse_conflict(event, event.key)
        with reported():
            row = DeferredFiring.objects.using(self.using).create(
                uid=self.uid,
                trigger=event.trigger,
                kwargs=event.kwargs,
                key=event.key,
                manager=manager,
                created_at=self.now(),
            )
        self.when_committed(lambda: then(row.pk))

    def _refuse_conflict(self, event: Fire, key: str) -> None:
        """Refuse a key that is known to have other kwargs, while the caller can still be told.

        Without a lock: of two that are recorded at once, the second is refused when decided.
        """
        same = {"trigger": event.trigger, "key": key}
        keys = IdempotencyKey.objects.using(self.using).filter(session__uid=self.uid, **same)
        waiting = DeferredFiring.objects.using(self.using).filter(uid=self.uid, **same)
        with reported():
            firings = self.find_firings(seqs=list(keys.values_list("seq", flat=True)))
            known: list[tuple[int | None, str]] = [(each.seq, each.kwargs) for each in firings]
            known += [(None, text) for text in waiting.values_list("kwargs", flat=True)]
        for seq, text in known:
            if not payload.is_same(text, event.kwargs):
                raise IdempotencyConflict(event.trigger, key, seq)

    def deferred(self) -> Collection[tuple[int, str]]:
        waiting = DeferredFiring.objects.using(self.using).filter(uid=self.uid)
        with reported():
            return list(waiting.order_by("pk").values_list("pk", "manager"))

    def manager_name(self) -> str | None:
        head = self._query(self._head)
        return head.manager if head else None

    def decide_deferred(self, ref: int, hooks: frozenset[str]) -> Transition | None:
        with reported():
            row = DeferredFiring.objects.using(self.using).filter(pk=ref).first()
        if row is None:
            return None
        event = Fire(trigger=row.trigger, kwargs=row.kwargs, key=row.key, hooks=hooks)

        def work(cursor: Cursor) -> Transition | None:
            transition = self._decide(cursor, event)
            cursor.execute(self._sql.remove_deferred, [ref])
            if not cursor.rowcount:
                raise _DecidedElsewhere
            return transition

        try:
            return self._commit(work)
        except _DecidedElsewhere:
            return None

    def drop_deferred(self, ref: int) -> None:
        with reported():
            DeferredFiring.objects.using(self.using).filter(pk=ref).delete()

    def when_committed(self, do: Callable[[], None]) -> None:
        after_commit(do, self.using)

    def acquire_lock(self) -> AbstractContextManager[Any]:
        """Keep every other writer out of this session for the length of a ``with`` block.

        The block is a transaction: what is changed within it is committed together, or not at all
        if it raises. A firing within it is decided at once.
        """
        return self._locked()

    def now(self) -> Any:
        if overridden_time() is not None or self._sql.dialect.now is None:
            return super().now()

        def read(cursor: Cursor) -> Any:
            cursor.execute(f"SELECT {self._sql.dialect.now}")
            return from_instant(int(cursor.fetchone()[0]))

        return self._query(read)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        me = threading.get_ident()
        with transaction.atomic(using=self.using):
            self._query(lambda cursor: self._lock(cursor, firings=0, opens_session=True))
            joined = me in self._holders
            self._holders.add(me)
            try:
                yield
            finally:
                if not joined:
                    self._holders.discard(me)

    # -- how it is done -------------------------------------------------------------------------

    @property
    def _sql(self) -> Statements:
        return statements(connections[self.using].vendor)

    def _query(self, read: Callable[[Cursor], T]) -> T:
        def attempt() -> T:
            with connections[self.using].cursor() as cursor:
                return read(cast(Cursor, cursor))

        return persistently(connections[self.using], attempt)

    def _commit(self, work: Callable[[Cursor], T]) -> T:
        """Do ``work`` in a transaction, again if it lost against another one."""

        def attempt() -> T:
            with transaction.atomic(using=self.using), connections[self.using].cursor() as cursor:
                return work(cast(Cursor, cursor))

        return persistently(connections[self.using], attempt)

    def _decide(self, cursor: Cursor, event: Event) -> Transition:
        head = self._lock(cursor, event.firings, event.opens_session)
        if head is None:
            head = Head.absent(to_instant(self.now()))
        elif head.version > STATE_VERSION:
            raise StateVersionError(self.uid, head.version, STATE_VERSION)
        plan = self._plan_of(cursor, head)
        state = read_state(cursor, self._sql, head, plan, event, self.uid)
        clock = cast(Any, from_instant(head.clock))
        transition = decide(event, state, clock)
        write_transition(cursor, self._sql, head, state, transition)
        return transition

    def _lock(self, cursor: Cursor, firings: int, opens_session: bool) -> Head | None:
        """Lock the session's row, moving on its clock and sequence number."""
        head = self._touch(cursor, firings)
        if head is None and opens_session:
            now = to_instant(self.now())
            cursor.execute(self._sql.open_session, [self.uid, now, STATE_VERSION, now])
            head = self._touch(cursor, firings)
        return head

    def _touch(self, cursor: Cursor, firings: int) -> Head | None:
        own = self._sql.dialect.now is None or overridden_time() is not None
        now = [to_instant(super().now())] if own else []
        cursor.execute(self._sql.touch_session[own], [firings, *now, self.uid])
        if not self._sql.dialect.returning:
            return self._head(cursor, firings)
        row = cursor.fetchone()
        return None if row is None else Head(firings, *row)

    def _head(self, cursor: Cursor, reserved: int = 0) -> Head | None:
        cursor.execute(self._sql.read_session, [self.uid])
        row = cursor.fetchone()
        return None if row is None else Head(reserved, *row)

    def _read_plan(self, cursor: Cursor) -> Plan:
        head = self._head(cursor)
        return EMPTY_PLAN if head is None else self._plan_of(cursor, head)

    def _plan_of(self, cursor: Cursor, head: Head) -> Plan:
        if head.digest is None:
            return EMPTY_PLAN
        # A digest names its text for ever, so what was read once holds for every database.
        plan = _plans().get(head.digest)
        if plan is None:
            cursor.execute(self._sql.read_configuration, [head.digest])
            plan = compile_plan(restore(cursor.fetchone()[0]))
            if len(_plans()) >= 1024:
                _plans().clear()
            _plans()[head.digest] = plan
        return plan

    def _read_firings(
        self, cursor: Cursor, head: Head, seqs: Collection[int] | None
    ) -> Iterable[Firing]:
        if seqs is None:
            cursor.execute(self._sql.read_firings, [head.id])
            return [firing_of(row) for row in cursor.fetchall()]
        found = []
        wanted = sorted(seqs)
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            marks = ", ".join(["%s"] * len(some))
            sql = self._sql.read_firings + self._sql.dialect.sql(f' AND "seq" IN ({marks})')
            cursor.execute(sql, [head.id, *some])
            found += [firing_of(row) for row in cursor.fetchall()]
        return found


class _DecidedElsewhere(Exception):
    """Another process decided this deferred firing first; undo ours."""


@lru_cache(maxsize=1)
def _plans() -> dict[str, Plan]:
    """Plans by the digest of their configuration, for this process."""
    return {}
