"""A database that is down is reported in time, whether it refuses connections or is silent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.gateway import black_hole
from tests.servers import subprocess_environment

CONNECT_TIMEOUT = 2  # seconds; the shortest that libpq keeps to

FIRE = """
import json, sys, time
from django.conf import settings
settings.configure(
    DATABASES={"default": json.loads(sys.argv[1])},
    INSTALLED_APPS=["django.contrib.contenttypes", "triggers"],
    TRIGGERS={"default": {"OPTIONS": {"server_timeout": 1}}},
)
import django
django.setup()
from triggers import get_trigger_manager
from triggers.exceptions import StorageUnavailable
began = time.monotonic()
try:
    get_trigger_manager("order:1").fire("paid")
except StorageUnavailable as error:
    print(json.dumps({"storage": error.storage, "seconds": time.monotonic() - began}))
"""

DATABASES = [
    pytest.param(
        {"ENGINE": "django.db.backends.postgresql", "USER": "postgres", "NAME": "postgres"},
        marks=pytest.mark.server("postgresql"),
        id="postgresql",
    ),
    pytest.param(
        {"ENGINE": "django.db.backends.mysql", "USER": "root", "NAME": "test"},
        marks=pytest.mark.server("mariadb"),
        id="mariadb",
    ),
]


def fire(database: dict[str, Any], port: int) -> float:
    """Fire in a process of its own; how many seconds it took to say that it cannot."""
    options = {"connect_timeout": CONNECT_TIMEOUT}
    database = {**database, "HOST": "127.0.0.1", "PORT": str(port), "OPTIONS": options}
    done = subprocess.run(
        [sys.executable, "-c", FIRE, json.dumps(database)],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["storage"] == "database"
    return float(said["seconds"])


@pytest.mark.parametrize("database", DATABASES)
def test_a_server_that_refuses_is_reported_at_once(database: dict[str, Any]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        assert fire(database, unused.getsockname()[1]) < CONNECT_TIMEOUT


@pytest.mark.parametrize("database", DATABASES)
def test_a_server_that_never_answers_is_reported_after_connect_timeout(
    database: dict[str, Any],
) -> None:
    with black_hole() as port:
        assert CONNECT_TIMEOUT * 0.9 < fire(database, port) < CONNECT_TIMEOUT + 5
