"""Configurations in the database: stored once, however many sessions have the same one."""

from __future__ import annotations

from datetime import datetime

from django.db import connections

from triggers.configuration import restore
from triggers.engine import Plan, compile_plan
from triggers.engine.plan import EMPTY_PLAN
from triggers.models import to_instant
from triggers.storages.sql import Cursor, Statements
from triggers.transactions import in_callers_transaction, in_tests_transaction

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
    cursor.execute(sql.has_configuration, [configuration.digest])
    if cursor.fetchone() is not None:
        return
    row = [configuration.digest, configuration.body, to_instant(now)]
    connection = connections[using]
    nested = in_callers_transaction(using) and not in_tests_transaction()
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
