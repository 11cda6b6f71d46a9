"""The benchmarks themselves: that each runs and reports every row. Never what they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

FIRING = [
    "nobody listens",
    "creates a waiting instance",
    "a waiting instance takes it",
    "completes a join",
    "claim and finish",
    "on average",
]
GROWTH = [
    "finished: nobody listens",
    "finished: their task hears it, nothing changes",
    "finished: creates a waiting instance",
    "finished: a waiting instance takes it",
    "finished: completes a join",
    "finished: claim and finish",
    "waiting: nobody listens",
    "waiting: creates one more of them",
    "waiting: completes a join",
    "waiting: claim and finish",
]
ROWS = {
    "memory": {"memory": ["the whole log", "firing", "configuring"]},
    "sqlite": {"sqlite": FIRING},
    "growth": {"growth, memory": GROWTH, "growth, sqlite": GROWTH},
    "postgresql": {"postgresql": FIRING, "growth, postgresql": GROWTH},
}
LIMITED = {"memory", "sqlite", "growth, memory", "growth, sqlite"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.mark.parametrize(
    "name",
    [
        "memory",
        "sqlite",
        "growth",
        pytest.param("postgresql", marks=pytest.mark.server("postgresql")),
    ],
)
def test_a_benchmark_prints_its_rows_and_writes_the_same_for_programs(
    name: str, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    done = run(name, "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for benchmark, cases in ROWS[name].items():
        rows = [row for row in written["rows"] if row["benchmark"] == benchmark]
        for case, row in zip(cases, rows, strict=True):
            assert case in row["case"]
            line = f"{benchmark}  {row['case']}  "
            assert any(each.startswith(line) for each in squeezed(done.stdout)), line
            assert (row["limit"] is None) == (row["verdict"] == "reported")
        assert any(row["limit"] for row in rows) == (benchmark in LIMITED)
    assert "figures mean nothing" in done.stdout


def test_without_a_name_all_of_them_run_and_what_cannot_is_named() -> None:
    nobody = {"TRIGGERS_TESTS_POSTGRESQL_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    done = run("--quick", **nobody)
    assert done.returncode == 0, done.stderr
    for benchmark in LIMITED:
        assert f"\n{benchmark}  " in done.stdout
    assert "postgresql was left out" in done.stderr


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed() -> None:
    done = run("disk")
    assert done.returncode == 2
    assert "memory, sqlite, growth, postgresql" in done.stderr


def squeezed(table: str) -> list[str]:
    """The lines of a table with its columns moved together."""
    return [
        "  ".join(filter(None, map(str.strip, line.split("  ")))) for line in table.splitlines()
    ]
