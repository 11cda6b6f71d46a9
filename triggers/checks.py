"""System checks: each way in which a set-up can be wrong, with an id of its own.

=================  ==============================================================================
``triggers.E001``  ``TRIGGERS`` has a wrong shape
``triggers.E002``  it names a manager, storage or runner that is not registered
``triggers.E003``  its ``OPTIONS`` do not fit the storage
``triggers.E004``  SQLite is older than 3.35, which first had ``RETURNING``
``triggers.E005``  a cache that sessions cannot be kept in, since it cannot lock
``triggers.W001``  SQLite without the options that let several writers wait for each other
``triggers.W002``  a storage that workers cannot see, with a runner that uses workers
``triggers.W003``  a database server that is waited for without end, if it does not answer
``triggers.W004``  an installed manager, storage or runner that cannot be used
``triggers.W005``  a storage that cannot list its sessions, so that nothing looks after them
``triggers.W006``  the Celery runner, where Celery knows of no broker
=================  ==============================================================================
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import Any

from celery import current_app
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from triggers import conf
from triggers.exceptions import SettingsError, UnknownBackend
from triggers.manager import trigger_managers
from triggers.rounds import unlisted
from triggers.runners import default_runner_name, task_runners
from triggers.storages import describe_unfit, open_session, storage_backends
from triggers.storages.cache import CacheStorageBackend

OLDEST_SQLITE = (3, 35)

SQLITE_HINT = (
    "In DATABASES[{alias!r}]['OPTIONS'] set 'transaction_mode': 'IMMEDIATE', 'timeout': 20 and "
    "'init_command': 'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;'."
)


@checks.register("triggers")
def check_aliases(**_kwargs: Any) -> list[CheckMessage]:
    """Check every alias of ``TRIGGERS``."""
    try:
        aliases = conf.aliases()
    except SettingsError as error:
        return [Error(str(error), id="triggers.E001")]
    return [message for alias in aliases.values() for message in _check_alias(alias)]


def _check_alias(alias: conf.Alias) -> Iterator[CheckMessage]:
    place = f"TRIGGERS[{alias.name!r}]"
    runner = alias.runner or default_runner_name()
    named = (
        ("MANAGER", trigger_managers, alias.manager),
        ("STORAGE", storage_backends, alias.storage),
        ("RUNNER", task_runners, runner),
    )
    missing = False
    for key, registry, name in named:
        try:
            registry.get_class(name)
        except UnknownBackend as error:
            missing = True
            yield Error(f"{place}[{key!r}]: {error}", id="triggers.E002")
    if missing:
        return
    try:
        storage = open_session(alias, "check")
    except (TypeError, ImproperlyConfigured, LookupError, ValueError) as error:
        yield Error(describe_unfit(alias, error), id="triggers.E003")
        return
    if isinstance(storage, CacheStorageBackend):
        yield from _check_cache(place, storage)
    if alias.storage == "memory" and runner == "celery":
        yield checks.Warning(
            f"{place}: the memory storage is not shared with Celery workers.",
            hint="Use the database storage, or the threading runner.",
            id="triggers.W002",
        )
    if reason := unlisted(alias):
        yield checks.Warning(
            f"{place}: {reason}",
            hint="If you call them, add 'triggers.W005' to SILENCED_SYSTEM_CHECKS.",
            id="triggers.W005",
        )
    using = getattr(storage, "using", None)
    if using is not None and connections[using].vendor == "sqlite":
        yield from _check_sqlite(using)


def _check_cache(place: str, storage: CacheStorageBackend) -> Iterator[CheckMessage]:
    try:
        storage.server()
    except (SettingsError, ImproperlyConfigured) as error:
        yield Error(f"{place}: {error}", id="triggers.E005")


def _check_sqlite(alias: str) -> Iterator[CheckMessage]:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield Error(
            f"DATABASES[{alias!r}] uses SQLite {sqlite3.sqlite_version}; 3.35 or later is needed.",
            id="triggers.E004",
        )
    options = connections[alias].settings_dict.get("OPTIONS", {})
    wanted = {
        "transaction_mode='IMMEDIATE'": options.get("transaction_mode", "") in _IMMEDIATE,
        "a timeout of 5 s or more": options.get("timeout", 5) >= 5,
        "journal_mode=WAL": "wal" in str(options.get("init_command", "")).lower(),
    }
    lacking = [what for what, there in wanted.items() if not there]
    if lacking:
        yield checks.Warning(
            f"DATABASES[{alias!r}] is SQLite without {', '.join(lacking)}: writers that meet "
            "may fail with 'database is locked' instead of waiting.",
            hint=SQLITE_HINT.format(alias=alias),
            id="triggers.W001",
        )


_IMMEDIATE = {"IMMEDIATE", "EXCLUSIVE", "immediate", "exclusive"}


@checks.register("triggers")
def check_plugins(**_kwargs: Any) -> list[CheckMessage]:
    """Check that what other distributions register can be used.

    A task's ``using``, or a manager, may name it too; that would only show in a worker. What
    ``TRIGGERS`` names is an error (``triggers.E002``), and not told twice.
    """
    return [
        checks.Warning(str(error), id="triggers.W004")
        for registry in (trigger_managers, storage_backends, task_runners)
        for error in registry.broken_plugins()
        if (registry.group, error.name) not in _named_in_settings()
    ]


def _named_in_settings() -> set[tuple[str, object]]:
    try:
        aliases = conf.aliases().values()
    except SettingsError:  # which is the other check's to say
        return set()
    return {
        (registry.group, name)
        for alias in aliases
        for registry, name in (
            (trigger_managers, alias.manager),
            (storage_backends, alias.storage),
            (task_runners, alias.runner or default_runner_name()),
        )
    }


@checks.register("triggers")
def check_server_timeouts(**_kwargs: Any) -> list[CheckMessage]:
    """Check that a database server which does not answer is not waited for without end."""
    try:
        aliases = conf.aliases()
    except SettingsError:  # which is the other check's to say
        return []
    databases: dict[str, str] = {}
    for alias in aliases.values():
        try:
            storage = storage_backends.get_class(alias.storage)("check", **alias.options)
        except Exception:  # which is the other check's to say
            continue
        using = getattr(storage, "using", None)
        if using is not None:
            databases.setdefault(using, f"TRIGGERS[{alias.name!r}]")
    return [
        checks.Warning(
            f"{place} uses DATABASES[{using!r}], which has no connect_timeout: if its server does "
            "not answer, firing waits for it, instead of raising StorageUnavailable.",
            hint=_TIMEOUT_HINTS[connections[using].vendor].format(alias=using),
            id="triggers.W003",
        )
        for using, place in databases.items()
        if _waits_without_end(using)
    ]


@checks.register("triggers")
def check_broker(**_kwargs: Any) -> list[CheckMessage]:
    """Check that Celery was told of a broker, if an alias has it send messages.

    Celery's configuration is read, as the first message would have it read; nothing is connected.
    """
    try:
        aliases = conf.aliases().values()
    except SettingsError:  # which is the other check's to say
        return []
    users = [each.name for each in aliases if default_runner_name(each.runner) == "celery"]
    if not users or _knows_a_broker():
        return []
    places = ", ".join(f"TRIGGERS[{name!r}]" for name in users)
    return [
        checks.Warning(
            f"{places}: the celery runner is used, and Celery knows of no broker, so its messages "
            "would go to its default, amqp://guest@localhost//.",
            hint=_BROKER_HINT,
            id="triggers.W006",
        )
    ]


def _knows_a_broker() -> bool:
    try:
        known = current_app.conf
        return bool(
            known.task_always_eager
            or known.broker_write_url
            or known.get("broker_transport")  # in parts, as it was done before there were URLs
        )
    except Exception:  # whatever its modules do; whoever uses Celery is told
        return True


_BROKER_HINT = (
    "Set CELERY_BROKER_URL, have a Celery app that reads it (namespace='CELERY'), and import that "
    "app in the __init__.py of the project, as docs/howto/celery.rst shows; or choose another "
    "RUNNER, such as 'threading'. If that broker is meant, add 'triggers.W006' to "
    "SILENCED_SYSTEM_CHECKS."
)


def _waits_without_end(using: str) -> bool:
    connection = connections[using]
    if connection.vendor not in _TIMEOUT_HINTS:
        return False
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor == "postgresql" and (
        "service" in options or os.environ.get("PGCONNECT_TIMEOUT")
    ):
        return False
    return not options.get("connect_timeout")


_TIMEOUT_HINTS = {
    "postgresql": (
        "In DATABASES[{alias!r}]['OPTIONS'] set 'connect_timeout': 5 (seconds), and for a server "
        "that goes away later 'tcp_user_timeout': 5000 (milliseconds)."
    ),
    "mysql": (
        "In DATABASES[{alias!r}]['OPTIONS'] set 'connect_timeout': 5, and for a server that goes "
        "away later 'read_timeout': 30 and 'write_timeout': 30 (seconds)."
    ),
}
