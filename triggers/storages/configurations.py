"""Configurations in the database: stored once, however many sessions have the same one."""

from __future__ import annotations

from datetime import datetime

from django.db import connections, transaction

from triggers.configuration import restore
from triggers.engine import Plan, compile_plan
from triggers.engine.plan import EMPTY_PLAN
from triggers.models import to_instant
from triggers.storages.failures import persistently
from triggers.storages.sql import Cursor, Statements, statements
from triggers.transactions import in_outer_transaction, in_tests_transaction

_KEPT = 1024

# A digest names its text for ever, so what was read once holds for every database.
_plans: dict[str, Plan] = {}


def read_plan(cursor: Cursor, sql: Statements, digest: str | None) -> Plan:
    """The compiled configuration of this digest; read and parsed once per process."""
    if digest is None:
        return EMPTY_PLAN
    plan = _plans.get(digest)
    if plan is None:
        cursor.execute(sql.read_configuration, [digest])
        plan = compile_plan(restore(cursor.fetchone()[0]))
        if len(_plans) >= _KEPT:
            _plans.clear()
        _plans[digest] = plan
    return plan


def add_configuration(
    using: str, cursor: Cursor, sql: Statements, plan: Plan, now: datetime
) -> None:
    """Store a configuration, if nobody has."""
    configuration = plan.configuration
    if _is_kept(cursor, sql, configuration.digest):
        return
    row = [configuration.digest, configuration.body, to_instant(now)]
    connection = connections[using]
    nested = in_outer_transaction(using) and not in_tests_transaction()
    if not nested or connection.vendor == "sqlite":
        cursor.execute(sql.add_configuration, row)
        return
    # Committed at once, on a connection of its own: as part of a long transaction it would make
    # every other session wait that gets the same configuration. If nobody uses it, no harm.
    own = connection.copy()
    try:
        with own.cursor() as another:
            another.execute(sql.add_configuration, row)
    finally:
        own.close()


def remove_unused_configurations(using: str, before: datetime, limit: int, timeout: float) -> int:
    """Remove configurations that no session has.

    :param before: only those that were stored before this moment.
    :param limit: how many at most.
    :param timeout: seconds after which it is not tried again if others get in the way.
    :returns: how many were removed.
    :raises StorageUnavailable: the database did not do its part.
    """
    connection = connections[using]
    sql = statements(connection.vendor)
    features = connection.features
    # Whoever has one of them locked is giving it to a session.
    lock = " FOR UPDATE" if features.has_select_for_update else ""
    if features.has_select_for_update_skip_locked:
        lock += " SKIP LOCKED"

    def attempt() -> int:
        with transaction.atomic(using=using), connection.cursor() as cursor:
            cursor.execute(sql.lock_unused + lock, [to_instant(before), limit])
            digests = [digest for (digest,) in cursor.fetchall()]
            if not digests:
                return 0
            # Asked again: until it was locked, somebody may have given one to a session.
            marks = ", ".join(["%s"] * len(digests))
            cursor.execute(sql.remove_unused.format(marks), [to_instant(before), *digests])
            removed: int = cursor.rowcount
            return removed

    return persistently(connection, attempt, timeout)


def _is_kept(cursor: Cursor, sql: Statements, digest: str) -> bool:
    """Whether a configuration is stored, and stays so until the end of this transaction."""
    for statement in sql.has_configuration:
        cursor.execute(statement, [digest])
        if cursor.fetchone() is None:
            return False
    return True
