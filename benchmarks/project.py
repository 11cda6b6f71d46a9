"""The Django project that is measured: ``triggers``, SQLite, and whatever servers there are.

A process that a benchmark starts finds in its environment where they are, and becomes a part of
the same project.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import OperationalError

from benchmarks.measure import LeftOut

_ROOT = Path(__file__).resolve().parents[1]

POSTGRESQL = "postgresql"
MARIADB = "mariadb"
"""Aliases of the databases on servers."""

ENVIRONMENT = "TRIGGERS_BENCHMARKS_PROJECT"


def configure(directory: Path, servers: Mapping[str, str] | None = None) -> None:
    """Set Django up, with its files in this directory.

    :param servers: addresses of databases by alias.
    """
    settings.configure(
        SECRET_KEY="only for benchmarks",
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["triggers"],
        DATABASES={
            "default": _sqlite(directory / "ours.sqlite3"),
            "yardstick": _sqlite(directory / "yardstick.sqlite3"),
            **{alias: database(url) for alias, url in (servers or {}).items()},
        },
    )
    django.setup()


def environment(directory: Path, servers: Mapping[str, str], **more: str) -> dict[str, str]:
    """The environment of a process that takes part in the project.

    :param servers: addresses of databases by alias; they name the databases that exist.
    :param more: anything else that the process finds through :func:`take_part`.
    """
    given = {"directory": str(directory), "servers": dict(servers), **more}
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {ENVIRONMENT: json.dumps(given), "PYTHONPATH": path}


def take_part() -> Mapping[str, Any]:
    """Set Django up in a process that a benchmark has started, and return what it was given."""
    given: Mapping[str, Any] = json.loads(os.environ[ENVIRONMENT])
    configure(Path(given["directory"]), given["servers"])
    return given


@contextmanager
def made_database(alias: str, server: str) -> Iterator[str]:
    """Make a database of our own on a server, for as long as the block lasts.

    :param server: address of the server, naming a database that serves to reach it.
    :returns: the address of the new one, which ``alias`` stands for from now on.
    :raises LeftOut: the server does not answer, or its driver is not installed.
    """
    name = f"triggers_benchmark_{secrets.token_hex(4)}"
    reach = f"{alias} server"
    _add(reach, server)
    quote = "`" if alias == MARIADB else '"'
    try:
        with connections[reach].cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {quote}{name}{quote}")
    except (ImproperlyConfigured, OperationalError) as error:
        reason = str(error).strip().splitlines()[0]
        raise LeftOut(f"{alias} does not answer: {reason}") from error
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    _add(alias, url)
    try:
        yield url
    finally:
        with connections[reach].cursor() as cursor:
            _forget(alias)
            cursor.execute(f"DROP DATABASE {quote}{name}{quote}")
        _forget(reach)


def _add(alias: str, url: str) -> None:
    made = connections.configure_settings({DEFAULT_DB_ALIAS: {}, alias: database(url)})
    connections.settings[alias] = made[alias]


def _forget(alias: str) -> None:
    # Whoever uses the alias next may mean another database.
    connections[alias].close()
    del connections[alias]


def database(url: str) -> dict[str, Any]:
    """An entry of ``DATABASES`` for an address."""
    parts = urlsplit(url)
    postgresql = parts.scheme.startswith("postgres")
    return {
        "ENGINE": f"django.db.backends.{'postgresql' if postgresql else 'mysql'}",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": {"connect_timeout": 3} if postgresql else {"charset": "utf8mb4"},
    }


def _sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
