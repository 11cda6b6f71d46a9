"""The statements of the ``database`` storage: few, short, and each served by an index.

Written once in the SQL that SQLite, PostgreSQL, MySQL and MariaDB share; the few differences are
in :class:`Dialect`. Names are quoted because ``trigger`` and ``key`` are reserved words.

Longer than 400 lines because all statements stand in one place, where they can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from triggers import payload
from triggers.models import from_instant, to_instant
from triggers.types import Firing, Instance, Status

INSTANCE_COLUMNS = (
    "task",
    "number",
    "status",
    "taken",
    "replacement",
    "result",
    "metadata",
    "attempt",
    "token",
    "due_at",
    "not_before",
    "sends",
    "lineage",
    "retries",
    "depth",
    "created_at",
    "changed_at",
    "counted",
    "told",
    "timer_at",
    "decided_by",
)
FIRING_COLUMNS = ("seq", "trigger", "kwargs", "at", "key", "cause", "refused")

_CONTENTS = (
    "awaited",
    "timer",
    "passed",
    "pendingmark",
    "idempotencykey",
    "instance",
    "firing",
)

_FEW = 20
"""Rows that are still sent as statements of their own; the driver has a better way for many."""

UNSETTLED = tuple(each for each in Status if not each.is_resolved)
"""The statuses to which something can still happen."""


class Writer(Protocol):
    """What takes statements whose answers nobody needs."""

    def execute(self, sql: str, params: Sequence[Any] = ..., /) -> Any: ...
    def executemany(self, sql: str, params: Sequence[Sequence[Any]], /) -> Any: ...


class Cursor(Writer, Protocol):
    """The part of a database cursor that is used here."""

    rowcount: int

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Together:
    """Collects statements, to send them as one message: each message waits for its answer.

    :param cursor: of a database that takes several statements at once, separated by semicolons.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._statements: list[str] = []
        self._params: list[Any] = []

    def execute(self, sql: str, params: Sequence[Any] = (), /) -> None:
        self._statements.append(sql)
        self._params += params

    def executemany(self, sql: str, params: Sequence[Sequence[Any]], /) -> None:
        if len(params) > _FEW:
            self.send()
            self._cursor.executemany(sql, params)
            return
        for row in params:
            self.execute(sql, row)

    def send(self) -> None:
        """Send what was collected."""
        if self._statements:
            self._cursor.execute("; ".join(self._statements), self._params)
            self._statements, self._params = [], []


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between databases.

    :ivar now: expression for the server's time in microseconds since 1970; ``None`` where the
        database has no server, so that this process's clock is the storage's.
    :ivar greatest: the function that returns the larger of two values.
    :ivar or_set_seq: ends an ``INSERT`` that changes the row instead if it is there.
    :ivar returning: whether ``UPDATE … RETURNING`` works.
    :ivar wait_briefly: statement after which a transaction waits for a lock for a second at most.
    :ivar read_current: suffix of a read that must not come from an old snapshot.
    :ivar keep_row: suffixes of the reads, one after the other, that find a row which then stays.
    """

    now: str | None
    greatest: str = "GREATEST"
    returning: bool = True
    quote: str = '"'
    insert_or_ignore: str = "INSERT INTO {} ON CONFLICT DO NOTHING"
    or_set_seq: str = 'ON CONFLICT ("session_id", "task", "trigger") DO UPDATE SET "seq" = %s'
    wait_briefly: str = ""
    read_current: str = ""
    keep_row: tuple[str, ...] = ("",)

    def sql(self, text: str) -> str:
        """A statement in this dialect."""
        return text if self.quote == '"' else text.replace('"', self.quote)


DIALECTS = {
    "sqlite": Dialect(now=None, greatest="MAX"),
    "postgresql": Dialect(
        now="CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)",
        wait_briefly="SET LOCAL lock_timeout = '1s'",
        keep_row=(" FOR KEY SHARE",),
    ),
    "mysql": Dialect(
        now="TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
        returning=False,
        quote="`",
        insert_or_ignore="INSERT IGNORE INTO {}",
        or_set_seq='ON DUPLICATE KEY UPDATE "seq" = %s',
        read_current=" LOCK IN SHARE MODE",
        # Only what is there is locked: a lock on a gap would keep others from filling it.
        keep_row=("", " LOCK IN SHARE MODE"),
    ),
}


@lru_cache(maxsize=8)
def statements(vendor: str, nested: bool = False) -> Statements:
    """The statements for a database vendor, made once.

    :param nested: for use in a transaction that the caller has begun: under REPEATABLE READ,
        plain reads of MySQL and MariaDB would see the session as it was when that began.
    :raises KeyError: the vendor is not supported.
    """
    dialect = DIALECTS[vendor]
    return Statements(dialect, dialect.read_current if nested else "")


class Statements:
    """Every statement on the path of a firing."""

    def __init__(self, dialect: Dialect, current: str = "") -> None:
        self.dialect = dialect
        self.current = current
        sql = dialect.sql
        head = '"id", "seq", "clock", "configuration_id", "manager", "version", "phase"'
        instance = _columns(INSTANCE_COLUMNS)
        of_instance = '"session_id" = %s AND "task" = %s AND "number" = %s'

        self.touch_session = {
            own: sql(
                f'UPDATE "triggers_session" SET "seq" = "seq" + %s, "clock" = {dialect.greatest}'
                f'("clock", {"%s" if own else dialect.now}) WHERE "uid" = %s'
                + (f" RETURNING {head}" if dialect.returning else "")
            )
            for own in (True, False)
        }
        self.read_session = sql(f'SELECT {head} FROM "triggers_session" WHERE "uid" = %s' + current)
        self.open_session = sql(
            dialect.insert_or_ignore.format(
                '"triggers_session" ("uid", "seq", "clock", "version", "created_at")'
                " VALUES (%s, 0, %s, %s, %s)"
            )
        )
        self.close_session = sql(
            'UPDATE "triggers_session" SET "seq" = %s, "clock" = %s, "configuration_id" = %s,'
            ' "manager" = %s, "version" = %s, "phase" = %s WHERE "id" = %s'
        )
        self.add_configuration = sql(
            dialect.insert_or_ignore.format(
                '"triggers_configuration" ("digest", "body", "created_at") VALUES (%s, %s, %s)'
            )
        )
        has = 'SELECT 1 FROM "triggers_configuration" WHERE "digest" = %s'
        self.has_configuration = [sql(has + lock) for lock in dialect.keep_row]
        unused = (
            ' FROM "triggers_configuration" WHERE "created_at" < %s AND NOT EXISTS (SELECT 1 FROM'
            ' "triggers_session" s WHERE s."configuration_id" = "triggers_configuration"."digest")'
        )
        self.lock_unused = sql(f'SELECT "digest"{unused} ORDER BY "digest" LIMIT %s')
        self.remove_unused = sql(f'DELETE{unused} AND "digest" IN ({{}})')
        self.read_configuration = sql(
            'SELECT "body" FROM "triggers_configuration" WHERE "digest" = %s' + current
        )

        self.read_awaiting = sql(
            'SELECT "task", "number" FROM "triggers_awaited"'
            ' WHERE "session_id" = %s AND "trigger" = %s' + current
        )
        self.read_instances = sql(
            f'SELECT {instance} FROM "triggers_instance" WHERE "session_id" = %s'
        )
        self.read_instance = sql(
            f'SELECT {instance} FROM "triggers_instance" WHERE {of_instance}' + current
        )
        self.read_numbered = sql(
            f'SELECT {instance} FROM "triggers_instance"'
            ' WHERE "session_id" = %s AND "task" = %s AND "number" IN ({})' + current
        )
        self.read_waiting = sql(
            f'SELECT {instance} FROM "triggers_instance"'
            ' WHERE "session_id" = %s AND "status" = %s AND "task" = %s' + current
        )
        self.read_unresolved = sql(
            f'SELECT {instance} FROM "triggers_instance" WHERE "session_id" = %s'
            f' AND "status" IN ({", ".join(repr(each.value) for each in UNSETTLED)})' + current
        )
        self.due_instances = sql(
            f'SELECT {instance} FROM "triggers_instance" WHERE "session_id" = %s AND "due_at" <= %s'
            + current
        )
        # Not MAX(): PostgreSQL reads all rows for it as long as a table has no statistics.
        self.count = sql(
            '(SELECT "number" FROM "triggers_instance" WHERE "session_id" = %s AND "task" = %s'
            f' ORDER BY "number" DESC LIMIT 1{current})'
        )
        self.latest = sql(
            '(SELECT "seq" FROM "triggers_firing" WHERE "session_id" = %s AND "trigger" = %s'
            f' ORDER BY "seq" DESC LIMIT 1{current})'
        )
        self.add_instance = sql(
            f'INSERT INTO "triggers_instance" ("session_id", {instance})'
            f" VALUES (%s, {_marks(INSTANCE_COLUMNS)})"
        )
        self._change_instance = sql(f'UPDATE "triggers_instance" SET {{}} WHERE {of_instance}')
        self._changes: dict[tuple[str, ...], str] = {}
        self.add_awaited = sql(
            'INSERT INTO "triggers_awaited" ("session_id", "task", "number", "trigger")'
            " VALUES (%s, %s, %s, %s)"
        )
        self.remove_awaited = sql(f'DELETE FROM "triggers_awaited" WHERE {of_instance}')
        self.remove_awaited_trigger = sql(
            f'DELETE FROM "triggers_awaited" WHERE {of_instance} AND "trigger" = %s'
        )

        firing = _columns(FIRING_COLUMNS)
        self.read_firings = sql(f'SELECT {firing} FROM "triggers_firing" WHERE "session_id" = %s')
        self.read_firings_numbered = sql(
            f'SELECT {firing} FROM "triggers_firing" WHERE "session_id" = %s AND "seq" IN ({{}})'
            + current
        )
        self.read_latest_firings = sql(
            'SELECT MAX("seq") FROM "triggers_firing" WHERE "session_id" = %s GROUP BY "trigger"'
        )
        self.read_history = sql(
            'SELECT "seq", "trigger" FROM "triggers_firing" WHERE "session_id" = %s'
            f' ORDER BY "seq", "kwargs" IS NULL{current}'
        )
        self.read_keyed_firing = sql(
            f'SELECT {_columns(FIRING_COLUMNS, "f")} FROM "triggers_idempotencykey" k'
            ' JOIN "triggers_firing" f ON f."session_id" = k."session_id" AND f."seq" = k."seq"'
            ' AND f."trigger" = k."trigger"'
            ' WHERE k."session_id" = %s AND k."trigger" = %s AND k."key" = %s' + current
        )
        self.add_firing = sql(
            f'INSERT INTO "triggers_firing" ("session_id", {firing})'
            f" VALUES (%s, {_marks(FIRING_COLUMNS)})"
        )
        self.add_key = sql(
            'INSERT INTO "triggers_idempotencykey" ("session_id", "trigger", "key", "seq")'
            " VALUES (%s, %s, %s, %s)"
        )

        self.read_passed = sql(
            'SELECT "seq" FROM "triggers_passed"'
            ' WHERE "session_id" = %s AND "task" = %s AND "trigger" = %s' + current
        )
        self.set_passed = sql(
            'INSERT INTO "triggers_passed" ("session_id", "task", "trigger", "seq")'
            f" VALUES (%s, %s, %s, %s) {dialect.or_set_seq}"
        )
        self.remove_passed = sql(
            'DELETE FROM "triggers_passed"'
            ' WHERE "session_id" = %s AND "task" = %s AND "trigger" = %s'
        )
        # Each status by itself, so that each is the end of an index.
        of_status = {
            each: sql(
                f'SELECT "number" FROM (SELECT "number" FROM "triggers_instance" WHERE'
                f' "session_id" = %s AND "status" = {each.value!r} AND "task" = %s'
                f" LIMIT %s{current}) AS {each.value}_ones"
            )
            for each in UNSETTLED
        }
        self.read_unsettled = " UNION ALL ".join(of_status.values())
        of_status[Status.UNSTARTED] = sql(
            'SELECT "number" FROM (SELECT "number" FROM "triggers_timer" WHERE'
            f' "session_id" = %s AND "task" = %s LIMIT %s{current}) AS timed_ones'
        )
        self.read_ongoing = " UNION ALL ".join(of_status.values())
        self.read_timers = sql(
            'SELECT "task", "number" FROM "triggers_timer"'
            ' WHERE "session_id" = %s AND "due_at" <= %s' + current
        )
        self.add_timer = sql(
            'INSERT INTO "triggers_timer" ("session_id", "task", "number", "due_at")'
            " VALUES (%s, %s, %s, %s)"
        )
        self.move_timer = sql(f'UPDATE "triggers_timer" SET "due_at" = %s WHERE {of_instance}')
        self.remove_timer = sql(f'DELETE FROM "triggers_timer" WHERE {of_instance}')

        mark = '"ref", "kind", "data", "due_at"'
        self.read_pending = sql(
            f'SELECT {mark} FROM "triggers_pendingmark" WHERE "session_id" = %s AND "ref" = %s'
            + current
        )
        self.due_pending = sql(
            f'SELECT {mark} FROM "triggers_pendingmark" WHERE "session_id" = %s AND "due_at" <= %s'
            f' ORDER BY "id"{current}'
        )
        self.all_pending = sql(
            f'SELECT {mark} FROM "triggers_pendingmark" WHERE "session_id" = %s{current}'
        )
        self.count_deferred = sql(
            'SELECT COUNT(*) FROM "triggers_deferredfiring" WHERE "uid" ='
            ' (SELECT "uid" FROM "triggers_session" WHERE "id" = %s)'
        )
        self.add_pending = sql(
            f'INSERT INTO "triggers_pendingmark" ("session_id", {mark}) VALUES (%s, %s, %s, %s, %s)'
        )
        self.move_pending = sql(
            'UPDATE "triggers_pendingmark" SET "data" = %s, "due_at" = %s'
            ' WHERE "session_id" = %s AND "ref" = %s'
        )
        self.remove_pending = sql(
            'DELETE FROM "triggers_pendingmark" WHERE "session_id" = %s AND "ref" = %s'
        )
        self.remove_contents = [
            sql(f'DELETE FROM "triggers_{table}" WHERE "session_id" = %s') for table in _CONTENTS
        ]
        self.remove_deferred = sql(
            'DELETE FROM "triggers_deferredfiring" WHERE "id" = %s AND "uid" = %s'
        )

    def change_instance(self, columns: tuple[str, ...]) -> str:
        """The statement that changes these columns of an instance."""
        statement = self._changes.get(columns)
        if statement is None:
            assignments = self.dialect.sql(_assignments(columns))
            statement = self._changes[columns] = self._change_instance.format(assignments)
        return statement


def _listed(value: Mapping[str, Any]) -> str | None:
    return payload.dump(value) if value else None


def _mapped(value: Mapping[str, Any]) -> str:
    return payload.dump(value) if value else payload.EMPTY


_TO_COLUMN: Mapping[str, Callable[[Any], Any]] = {
    "status": lambda status: status.value,
    "taken": _mapped,
    "metadata": _mapped,
    "counted": _listed,
    "told": _listed,
    **dict.fromkeys(("due_at", "not_before", "created_at", "changed_at", "timer_at"), to_instant),
}


def instance_row(record: Instance, columns: Iterable[str] = INSTANCE_COLUMNS) -> list[Any]:
    """Values of an instance in the order of some columns."""
    values = vars(record)
    return [
        _TO_COLUMN[name](values[name]) if name in _TO_COLUMN else values[name] for name in columns
    ]


def changed_columns(known: Instance, record: Instance) -> tuple[str, ...]:
    """The columns in which an instance may differ from what was read."""
    before, after = vars(known), vars(record)
    return tuple(name for name in INSTANCE_COLUMNS if before[name] is not after[name])


def instance_of(row: Sequence[Any]) -> Instance:
    """The instance of a row of ``INSTANCE_COLUMNS``."""
    values: dict[str, Any] = dict(zip(INSTANCE_COLUMNS, row, strict=True))
    values["status"] = Status(values["status"])
    values["taken"] = payload.decode(values["taken"])
    values["metadata"] = payload.decode(values["metadata"])
    for name in ("counted", "told"):
        lists = payload.decode(values[name] or payload.EMPTY)
        values[name] = {key: tuple(items) for key, items in lists.items()}
    for name in ("due_at", "not_before", "created_at", "changed_at", "timer_at"):
        values[name] = from_instant(values[name])
    return Instance(**values)


def firing_rows(firing: Firing) -> list[list[Any]]:
    """A firing in rows of ``FIRING_COLUMNS``: one for each of its names."""
    at = to_instant(firing.at)
    refused = payload.dump(firing.refused) if firing.refused else None
    first = [firing.seq, firing.trigger, firing.kwargs, at, firing.key, firing.cause, refused]
    further = [[firing.seq, name, None, at, None, firing.cause, None] for name in firing.also]
    return [first, *further]


def firings_of(rows: Iterable[Sequence[Any]]) -> list[Firing]:
    """The firings of rows of ``FIRING_COLUMNS``, oldest first."""
    found: dict[int, dict[str, Any]] = {}
    also: dict[int, list[str]] = {}
    for row in rows:
        values: dict[str, Any] = dict(zip(FIRING_COLUMNS, row, strict=True))
        if values["kwargs"] is None:
            also.setdefault(values["seq"], []).append(values["trigger"])
        else:
            found[values["seq"]] = values
    for seq, values in found.items():
        values["at"] = from_instant(values["at"])
        values["refused"] = payload.decode(values["refused"] or payload.EMPTY)
        values["also"] = tuple(also.get(seq, ()))
    return [Firing(**found[seq]) for seq in sorted(found)]


def _columns(names: Iterable[str], table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{name}"' for name in names)


def _marks(names: Sequence[str]) -> str:
    return ", ".join(["%s"] * len(names))


def _assignments(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}" = %s' for name in names)
