"""The short form of the chaos suite: every fault once or a few times, a hundred joins.

``make chaos`` runs the long one. Each run has servers and processes of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.chaos.__main__ import UNAVAILABLE
from tests.servers import ROOT

LIMIT = 240  # seconds, on a machine that does much else


def run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
        check=False,
    )


def run_short(storage: str) -> subprocess.CompletedProcess[str]:
    size = ("--joins", "90", "--seed", "7")
    times = ("--lease", "2", "--resend", "0.5", "--limit", str(LIMIT))
    return run("--storage", storage, *size, *times)


def test_no_join_in_a_database_is_lost_or_doubled_whatever_is_killed() -> None:
    course = run_short("postgresql")
    if course.returncode == UNAVAILABLE:
        # No PostgreSQL of its own can be started here.
        course = run_short("sqlite")
    if course.returncode == UNAVAILABLE:
        pytest.skip(course.stdout.strip())
    assert course.returncode == 0, course.stdout + course.stderr


def test_no_join_in_redis_is_lost_or_doubled_whatever_is_killed() -> None:
    course = run_short("redis")
    if course.returncode == UNAVAILABLE:
        pytest.skip(course.stdout.strip())
    assert course.returncode == 0, course.stdout + course.stderr


def test_the_same_seed_makes_the_same_plan() -> None:
    plans = [run("--plan", "--joins", "500", "--seed", seed).stdout for seed in ("3", "3", "4")]
    assert plans[0] == plans[1] != plans[2]
    assert "kill -9 at a crash point: worker claim, after the commit" in plans[0]
