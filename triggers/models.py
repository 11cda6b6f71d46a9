"""The tables of the ``database`` storage.

The ORM is for the schema, migrations and inspection. Deciding a firing uses the statements of
:mod:`triggers.storages.sql` on the same tables. Nothing here changes a session; only a storage
does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import models

from triggers.types import NAME_LIMIT, UID_LIMIT, Phase, Status

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_instant(moment: datetime | None) -> int | None:
    """Microseconds since 1970 in UTC."""
    return None if moment is None else (moment - EPOCH) // MICROSECOND


def from_instant(instant: int | None) -> datetime | None:
    """The aware UTC datetime of :func:`to_instant`."""
    return None if instant is None else EPOCH + timedelta(microseconds=instant)


class InstantField(models.BigIntegerField):  # type: ignore[type-arg]  # generic only in stubs
    """An aware UTC datetime, stored as microseconds since 1970.

    So that raw statements read and write the same value on every database, whatever its time
    zone settings and the precision of its own type.
    """

    description = "A moment in UTC"

    def from_db_value(self, value: int | None, *_args: Any) -> datetime | None:
        return from_instant(value)

    def get_prep_value(self, value: Any) -> Any:
        return to_instant(value) if isinstance(value, datetime) else super().get_prep_value(value)

    def to_python(self, value: Any) -> Any:
        return from_instant(value) if isinstance(value, int) else value


OUTCOME_LIMIT = NAME_LIMIT + 10
"""Characters of a task name and an outcome, such as ``:abandoned``."""


class NameField(models.CharField):  # type: ignore[type-arg]  # generic only in stubs
    """A string that equals only itself.

    The usual collations of MySQL and MariaDB take ``a``, ``A`` and ``a `` for the same name.
    """

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            exact = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
            parameters["collation"] = exact
        return parameters


class Configuration(models.Model):
    """A configuration, shared by all sessions that have the same one."""

    digest = models.CharField(max_length=64, primary_key=True)
    body = models.TextField()
    created_at = InstantField()

    def __str__(self) -> str:
        return str(self.digest)[:12]


class Session(models.Model):
    """A session, and the row whose lock every decision on it holds."""

    uid = NameField(max_length=UID_LIMIT, unique=True)
    configuration = models.ForeignKey(Configuration, on_delete=models.PROTECT, null=True)
    manager = models.CharField(max_length=NAME_LIMIT, null=True)  # noqa: DJ001  # unknown yet
    seq = models.BigIntegerField(default=0)
    clock = InstantField()
    version = models.IntegerField(default=1)
    created_at = InstantField()
    # With a default of the database, since older processes write rows too during a deploy.
    phase = models.CharField(
        max_length=10,
        choices=[(each.value, each.value) for each in Phase],
        default=Phase.OPEN.value,
        db_default=Phase.OPEN.value,
    )

    def __str__(self) -> str:
        return str(self.uid)


class Firing(models.Model):
    """A firing that has been decided. A further row, without kwargs, for each further name."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, db_index=False)
    seq = models.BigIntegerField()
    trigger = NameField(max_length=OUTCOME_LIMIT)
    kwargs = models.TextField(null=True)  # noqa: DJ001  # a further name has none
    at = InstantField()
    key = NameField(max_length=NAME_LIMIT, null=True)  # none was given
    cause = models.CharField(max_length=NAME_LIMIT + 20, null=True)  # noqa: DJ001  # the world
    refused = models.TextField(null=True)  # noqa: DJ001  # it counted for every task

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "seq", "trigger"], name="triggers_firing_name"
            )
        ]
        indexes = [
            models.Index(fields=["session", "trigger", "seq"], name="triggers_firing_trigger")
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.trigger}"


class IdempotencyKey(models.Model):
    """Which firing of a trigger had which idempotency key."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, db_index=False)
    trigger = NameField(max_length=NAME_LIMIT)
    key = NameField(max_length=NAME_LIMIT)
    seq = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "trigger", "key"], name="triggers_key_firing"
            )
        ]

    def __str__(self) -> str:
        return f"{self.trigger} {self.key}"


class Instance(models.Model):
    """A task instance; the fields are those of :class:`triggers.types.Instance`."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, db_index=False)
    task = NameField(max_length=NAME_LIMIT)
    number = models.IntegerField()
    status = models.CharField(max_length=10, choices=[(each.value, each.value) for each in Status])
    taken = models.TextField()
    replacement = models.TextField(null=True)  # noqa: DJ001  # absent is not empty
    result = models.TextField(null=True)  # noqa: DJ001  # absent is not empty
    metadata = models.TextField()
    attempt = models.IntegerField()
    token = models.CharField(max_length=64, null=True)  # noqa: DJ001  # absent is not empty
    due_at = InstantField(null=True, db_index=True)
    not_before = InstantField(null=True)
    sends = models.IntegerField()
    lineage = models.IntegerField()
    retries = models.IntegerField()
    depth = models.IntegerField()
    created_at = InstantField()
    changed_at = InstantField()
    counted = models.TextField(null=True)  # noqa: DJ001  # nothing is held more than once
    told = models.TextField(null=True)  # noqa: DJ001  # nobody has taken an outcome
    timer_at = InstantField(null=True)
    decided_by = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "task", "number"], name="triggers_instance_number"
            )
        ]
        indexes = [
            # Not with the task before the status: without statistics, a planner would take it for
            # as good as the unique one, and read all instances of a task to find one.
            models.Index(fields=["session", "status", "task"], name="triggers_instance_status")
        ]

    def __str__(self) -> str:
        return f"{self.task}#{self.number}"


class Awaited(models.Model):
    """A trigger that can still change a waiting instance."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, db_index=False)
    trigger = NameField(max_length=OUTCOME_LIMIT)
    task = NameField(max_length=NAME_LIMIT)
    number = models.IntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "task", "number", "trigger"], name="triggers_awaited_name"
            )
        ]
        indexes = [
            # All of it, so that a planner with statistics has no reason to prefer another way.
            models.Index(
                fields=["session", "trigger", "task", "number"], name="triggers_awaited_trigger"
            )
        ]

    def __str__(self) -> str:
        return f"{self.task}#{self.number} awaits {self.trigger}"


class Passed(models.Model):
    """The latest firing of a trigger that passed the filter of a task."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, db_index=False)
    task = NameField(max_length=NAME_LIMIT)
    trigger = NameField(max_length=OUTCOME_LIMIT)
    seq = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "task", "trigger"], name="triggers_passed_trigger"
            )
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.trigger} passed {self.task}"


class Timer(models.Model):
    """When time alone changes a waiting instance."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, db_index=False)
    task = NameField(max_length=NAME_LIMIT)
    number = models.IntegerField()
    due_at = InstantField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "task", "number"], name="triggers_timer_instance"
            )
        ]
        indexes = [models.Index(fields=["session", "due_at"], name="triggers_timer_session")]

    def __str__(self) -> str:
        return f"{self.task}#{self.number} at {self.due_at}"


class PendingMark(models.Model):
    """Something that must still be done for a session (an overridden hook or cascade)."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, db_index=False)
    ref = NameField(max_length=NAME_LIMIT + 40)
    kind = models.CharField(max_length=20)
    data = models.TextField()
    due_at = InstantField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "ref"], name="triggers_pending_ref")
        ]

    def __str__(self) -> str:
        return str(self.ref)


class DeferredFiring(models.Model):
    """A firing recorded in a caller's transaction, to be decided right after its commit.

    It refers to its session by uid, not by key: recording must not touch the session's row, or
    two views that fire on the same sessions would wait for each other.
    """

    uid = NameField(max_length=UID_LIMIT, db_index=True)
    trigger = NameField(max_length=NAME_LIMIT)
    kwargs = models.TextField()
    key = NameField(max_length=NAME_LIMIT, null=True)  # none was given
    manager = models.CharField(max_length=NAME_LIMIT)
    created_at = InstantField(db_index=True)

    def __str__(self) -> str:
        return f"{self.uid} {self.trigger}"


class SessionLock(models.Model):
    """A row to lock, for storages that cannot commit atomically (:mod:`triggers.locking`)."""

    digest = models.CharField(max_length=64, primary_key=True)

    def __str__(self) -> str:
        return str(self.digest)[:12]
