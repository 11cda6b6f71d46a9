"""The Django project that is measured: ``triggers``, SQLite, and PostgreSQL where there is one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

POSTGRESQL_URL = "TRIGGERS_TESTS_POSTGRESQL_URL"
"""Environment variable that says where the server is, the same as for the tests."""

_POSTGRESQL_HERE = "postgresql://postgres@127.0.0.1:5432/postgres"


def configure(directory: Path) -> None:
    """Set Django up, with its files in this directory."""
    postgresql = _postgresql(os.environ.get(POSTGRESQL_URL) or _POSTGRESQL_HERE)
    settings.configure(
        SECRET_KEY="only for benchmarks",
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["triggers"],
        DATABASES={
            "default": _sqlite(directory / "ours.sqlite3"),
            "yardstick": _sqlite(directory / "yardstick.sqlite3"),
            # The database that the address names only serves to make one of our own.
            "postgresql_server": postgresql,
            "postgresql": {**postgresql, "NAME": f"triggers_benchmark_{secrets.token_hex(4)}"},
        },
    )
    django.setup()


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


def _postgresql(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": {"connect_timeout": 3},
    }
