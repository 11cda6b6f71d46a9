"""Sessions in one of Django's databases: SQLite, PostgreSQL, MySQL, MariaDB. The default.

A decision is one short transaction of its own: the first statement writes the session's row, so
that others who decide on the same session wait for it; the next ones read what the event asked
for and write the difference. Its cost follows the rows that change, not the session's history.

Inside a transaction of the caller, ``fire`` only inserts a row that nobody else touches, and the
decision is made right after the commit (docs/decisions/0003).

Longer than 400 lines because each method of the port says here how a database does it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar, Unpack, cast

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db import Error as DatabaseError
from django.db.models import Min

from triggers import payload
from triggers.clock import overridden_time
from triggers.engine import Event, Hooks, MustSeeMore, Plan, Transition, Verdicts, decide
from triggers.engine.events import Fire
from triggers.engine.phases import Purge
from triggers.engine.plan import EMPTY_PLAN
from triggers.exceptions import (
    IdempotencyConflict,
    SettingsError,
    StateVersionError,
    StorageUnavailable,
)
from triggers.judging import with_verdicts
from triggers.limits import LimitOptions
from triggers.models import (
    DeferredFiring,
    IdempotencyKey,
    PendingMark,
    Session,
    Timer,
    from_instant,
    to_instant,
)
from triggers.models import (
    Instance as InstanceRow,
)
from triggers.storages.configurations import add_configuration, read_plan
from triggers.storages.document import STATE_VERSION, VERSION_OF_NAMES
from triggers.storages.failures import is_transient, persistently, reported
from triggers.storages.rows import Head, add_firings, read_more, read_state, write_transition
from triggers.storages.session import SessionStorage
from triggers.storages.sql import (
    DIALECTS,
    Cursor,
    Statements,
    Together,
    firings_of,
    instance_of,
    statements,
)
from triggers.transactions import after_commit, in_callers_transaction, in_outer_transaction
from triggers.types import Firing, Instance, Phase, Standing

T = TypeVar("T")

_OPENINGS = 10

DEFERRED_GRACE = timedelta(seconds=30)
"""How long a deferred firing is left to the process that committed it."""


class DatabaseStorageBackend(SessionStorage):
    """A session in a database.

    :param uid: the session's uid.
    :param using: alias of the database in ``DATABASES``.
    :param in_transaction: what ``fire`` does inside a transaction of the caller: ``"defer"``
        records the firing, and decides it right after the commit; ``"decide"`` decides at once
        and keeps the session locked until the commit.
    :param limits: see :class:`~triggers.limits.Limits`. ``server_timeout`` bounds how long an
        operation that others get in the way of is tried again; how long to wait for a server that
        does not answer, ``DATABASES`` says.
    :raises SettingsError: ``in_transaction`` is neither, or the database is not supported.
    """

    name = "database"

    def __init__(
        self,
        uid: str,
        *,
        using: str = DEFAULT_DB_ALIAS,
        in_transaction: str = "defer",
        **limits: Unpack[LimitOptions],
    ) -> None:
        super().__init__(uid, **limits)
        if in_transaction not in ("defer", "decide"):
            reason = f"in_transaction must be 'defer' or 'decide', got {in_transaction!r}."
            raise SettingsError(reason)
        if using not in connections:
            known = ", ".join(connections)
            reason = f"using must be an alias in DATABASES (known: {known}), got {using!r}."
            raise SettingsError(reason)
        if connections[using].vendor not in DIALECTS:
            known = ", ".join(DIALECTS)
            vendor = connections[using].vendor
            reason = f"using names database {using!r}, which is {vendor}; supported: {known}."
            raise SettingsError(reason)
        self.using = using
        self.in_transaction = in_transaction

    # -- the port -------------------------------------------------------------------------------

    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        return self._commit(lambda cursor: self._decide(cursor, event, verdicts))

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
            cursor.execute(sql + self._sql.current, params)
            found = [instance_of(row) for row in cursor.fetchall()]
            tasks = read_plan(cursor, self._sql, head.digest).tasks
            order = {name: index for index, name in enumerate(tasks)}
            # A task that was added in between comes last.
            last = len(order)
            return sorted(found, key=lambda each: (order.get(each.task, last), each.number))

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
        def work(cursor: Cursor) -> None:
            # The session's row first, so that whoever is deciding on it is waited for.
            head = self._lock(cursor, self._deciding, firings=0, opens_session=False)
            DeferredFiring.objects.using(self.using).filter(uid=self.uid).delete()
            if head is not None:
                Session.objects.using(self.using).filter(pk=head.id).delete()

        self._commit(work)

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        storage = cls("-", **options)
        using, now = storage.using, storage.now()
        sources = (
            (DeferredFiring, "uid", "created_at", now - DEFERRED_GRACE),
            (InstanceRow, "session__uid", "due_at", now),
            (PendingMark, "session__uid", "due_at", now),
        )
        uids: dict[str, None] = {}
        with reported():
            for model, uid, moment, latest in sources:
                rows = model._default_manager.using(using).filter(**{f"{moment}__lte": latest})
                # By session: many rows of one must not hide the others.
                by_session = rows.values_list(uid).annotate(since=Min(moment)).order_by("since")
                uids.update((found, None) for found, _since in by_session[:limit])
        return list(uids)[:limit]

    @classmethod
    def sessions(
        cls,
        limit: int,
        *,
        after: str = "",
        unchanged_since: datetime | None = None,
        **options: Any,
    ) -> list[str]:
        storage = cls("-", **options)
        rows = Session.objects.using(storage.using).filter(uid__gt=after)
        if unchanged_since is not None:
            rows = rows.filter(clock__lt=unchanged_since)
        with reported():
            found = rows.exclude(phase=Phase.PURGED).order_by("uid").values_list("uid", flat=True)
            return list(found[:limit])

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> Collection[str]:
        storage = cls("-", **options)
        due = Timer.objects.using(storage.using).filter(due_at__lte=until or storage.now())
        with reported():
            by_session = due.values_list("session__uid").annotate(since=Min("due_at"))
            return [uid for uid, _since in by_session.order_by("since")[:limit]]

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
        if self.in_transaction != "defer" or (self.using, self.uid) in _held_sessions():
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

    def standing(self) -> Standing:
        head = self._query(self._head)
        if head is None:
            return Standing()
        changed_at = from_instant(head.clock)
        return Standing(
            phase=Phase(head.phase), seq=head.seq, changed_at=changed_at, manager=head.manager
        )

    def decide_deferred(self, ref: int, hooks: Hooks) -> Transition | None:
        with reported():
            waiting = DeferredFiring.objects.using(self.using)
            row = waiting.filter(pk=ref, uid=self.uid).first()
        if row is None:
            return None
        event = Fire(
            trigger=row.trigger, kwargs=row.kwargs, key=row.key, deferred=True, hooks=hooks
        )

        def work(cursor: Cursor, verdicts: Verdicts) -> Transition:
            transition = self._decide(cursor, event, verdicts)
            cursor.execute(self._deciding.remove_deferred, [ref, self.uid])
            if not cursor.rowcount:
                raise _DecidedElsewhere
            return transition

        def commit(verdicts: Verdicts) -> Transition:
            return self._commit(lambda cursor: work(cursor, verdicts))

        try:
            return with_verdicts(self, event, commit)
        except _DecidedElsewhere:
            return None

    def drop_deferred(self, ref: int) -> None:
        with reported():
            DeferredFiring.objects.using(self.using).filter(pk=ref, uid=self.uid).delete()

    def transaction(self) -> AbstractContextManager[Any]:
        return transaction.atomic(using=self.using)

    def may_repeat(self, error: BaseException) -> bool:
        known: BaseException | None = error
        while isinstance(known, StorageUnavailable):
            known = known.__cause__
        return isinstance(known, DatabaseError) and is_transient(known)

    def when_committed(self, do: Callable[[], object]) -> None:
        after_commit(do, self.using)

    def acquire_lock(self) -> AbstractContextManager[Any]:
        """Keep every other writer out of this session for the length of a ``with`` block.

        The block is a transaction: what is changed within it is committed together, or not at all
        if it raises. A firing within it is decided at once.

        :returns: a context manager.
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
    def _locked(self) -> Iterator[DatabaseStorageBackend]:
        def lock(cursor: Cursor) -> None:
            self._lock(cursor, self._deciding, firings=0, opens_session=True)

        if not in_callers_transaction(self.using):
            self._commit(lock)  # two that open a session in longer transactions could deadlock
        held, mine = _held_sessions(), (self.using, self.uid)
        with transaction.atomic(using=self.using):
            self._query(lock)
            joined = mine in held
            held.add(mine)
            try:
                yield self
            finally:
                if not joined:
                    held.discard(mine)

    # -- how it is done -------------------------------------------------------------------------

    @property
    def _sql(self) -> Statements:
        """Statements for looking into the session."""
        held = (self.using, self.uid) in _held_sessions()
        return statements(connections[self.using].vendor, held)

    @property
    def _deciding(self) -> Statements:
        """Statements for deciding, while the session's row is locked."""
        return statements(connections[self.using].vendor, in_callers_transaction(self.using))

    @property
    def _takes_several(self) -> bool:
        """Whether one message may hold several statements: not if the server binds parameters."""
        connection = connections[self.using]
        options = connection.settings_dict["OPTIONS"]
        return connection.vendor == "postgresql" and not options.get("server_side_binding")

    def _query(self, read: Callable[[Cursor], T]) -> T:
        def attempt() -> T:
            with connections[self.using].cursor() as cursor:
                return read(cast(Cursor, cursor))

        timeout = self.limits.server_timeout
        return persistently(connections[self.using], attempt, timeout, changes_nothing=True)

    def _commit(self, work: Callable[[Cursor], T]) -> T:
        """Do ``work`` in a transaction, again if it lost against another one."""
        connection = connections[self.using]
        with reported():  # to ask it is to connect
            is_manual = not connection.in_atomic_block and not connection.get_autocommit()
        if is_manual:
            raise SettingsError(
                f"Database {self.using!r} is not in autocommit mode, so it cannot be known when "
                "a firing is committed. Use transaction.atomic() instead of set_autocommit(False)."
            )

        def attempt() -> T:
            with transaction.atomic(using=self.using), connection.cursor() as cursor:
                return work(cast(Cursor, cursor))

        return persistently(connection, attempt, self.limits.server_timeout)

    def _decide(self, cursor: Cursor, event: Event, verdicts: Verdicts) -> Transition:
        sql = self._deciding
        if event.gives_way and sql.dialect.wait_briefly and not in_outer_transaction(self.using):
            cursor.execute(sql.dialect.wait_briefly)
        head = self._lock(cursor, sql, event.firings, event.opens_session)
        if head is None:
            head = Head.absent(to_instant(self.now()))
        elif head.version > STATE_VERSION:
            raise StateVersionError(self.uid, head.version, STATE_VERSION)
        if isinstance(event, Purge):
            # Under the lock, so that none is decided meanwhile.
            event = replace(event, is_awaited=bool(self.deferred()))
        plan = read_plan(cursor, sql, head.digest)
        state = read_state(cursor, sql, head, plan, event, self.uid)
        clock = cast(Any, from_instant(head.clock))
        while True:
            try:
                transition = decide(event, state, clock, verdicts)
                break
            except MustSeeMore as more:
                read_more(cursor, sql, head, plan, more.reads, state)
        if transition.configured:
            add_configuration(self.using, cursor, sql, transition.plan, transition.clock)
        if self._takes_several:
            together = Together(cursor)
            write_transition(together, sql, head, state, transition)
            together.send()
        else:
            write_transition(cursor, sql, head, state, transition)
        return transition

    def _lock(
        self, cursor: Cursor, sql: Statements, firings: int, opens_session: bool
    ) -> Head | None:
        """Lock the session's row, moving on its clock and sequence number."""
        head = self._touch(cursor, sql, firings)
        # Again, for the case that somebody deletes the session just after it was opened.
        for _ in range(_OPENINGS if opens_session else 0):
            if head is not None:
                break
            now = to_instant(self.now())
            cursor.execute(sql.open_session, [self.uid, now, VERSION_OF_NAMES, now])
            head = self._touch(cursor, sql, firings)
        if head is None and opens_session:
            raise StorageUnavailable(self.name, f"session {self.uid!r} is deleted all the time")
        return head

    def _touch(self, cursor: Cursor, sql: Statements, firings: int) -> Head | None:
        own = sql.dialect.now is None or overridden_time() is not None
        now = [to_instant(super().now())] if own else []
        cursor.execute(sql.touch_session[own], [firings, *now, self.uid])
        if not sql.dialect.returning:
            return self._head(cursor, firings, sql)
        row = cursor.fetchone()
        return None if row is None else Head(firings, *row)

    def _head(
        self, cursor: Cursor, reserved: int = 0, sql: Statements | None = None
    ) -> Head | None:
        cursor.execute((sql or self._sql).read_session, [self.uid])
        row = cursor.fetchone()
        return None if row is None else Head(reserved, *row)

    def _read_plan(self, cursor: Cursor) -> Plan:
        head = self._head(cursor)
        return EMPTY_PLAN if head is None else read_plan(cursor, self._sql, head.digest)

    def _read_firings(
        self, cursor: Cursor, head: Head, seqs: Collection[int] | None
    ) -> Iterable[Firing]:
        if seqs is None:
            cursor.execute(self._sql.read_firings + self._sql.current, [head.id])
            return firings_of(cursor.fetchall())
        found: dict[int, Firing] = {}
        add_firings(cursor, self._sql, head.id, seqs, found)
        return found.values()


class _DecidedElsewhere(Exception):
    """Another process decided this deferred firing first; undo ours."""


_local = threading.local()


def _held_sessions() -> set[tuple[str, str]]:
    """Database alias and uid of the sessions that this thread holds by ``acquire_lock()``."""
    if not hasattr(_local, "held"):
        _local.held = set()
    held: set[tuple[str, str]] = _local.held
    return held
