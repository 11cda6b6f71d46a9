"""The benchmarks themselves: that each runs and reports every row. Never what they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Comparison, Row
from benchmarks.report import Report

ROOT = Path(__file__).resolve().parents[2]

FIRING = [
    "nobody listens",
    "creates a waiting instance",
    "a waiting instance takes it",
    "completes a join",
    "claim and finish",
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
ON_REDIS = [
    "begins a join that Celery runs",
    "any: load, compare and swap, begins",
    "any: load, compare and swap, completes",
    "a script that stores the bytes",
    "completes it, and sends the message",
    "apply_async",
]
THROUGHPUT = ["one process", "two processes", "two processes into one session"]
JOINS = ["triggers", "Celery", "pynenc"]

ROWS = {
    "memory": {"memory": ["the whole log", "firing", "configuring"]},
    "sqlite": {"sqlite": [*FIRING, "on average"]},
    "redis": {"redis": [*FIRING, *ON_REDIS, "on average"]},
    "postgresql": {"postgresql": [*FIRING, "on average"]},
    "growth": {"growth, memory": GROWTH, "growth, sqlite": GROWTH},
    "growth-redis": {"growth, redis": GROWTH},
    "growth-postgresql": {"growth, postgresql": GROWTH},
    "growth-mariadb": {"growth, mariadb": GROWTH},
    "throughput-redis": {"throughput, redis": THROUGHPUT},
    "throughput-postgresql": {"throughput, postgresql": THROUGHPUT},
    "worker": {"worker": ["completions", "joins"]},
    "joins": {"joins": JOINS},
}
ONLY_REPORTED = {"throughput, redis", "throughput, postgresql", "joins"}
SERVERS = ("redis", "postgresql", "mariadb")
NO_POSTGRESQL = {"TRIGGERS_BENCHMARKS_POSTGRESQL_URL": "postgresql://nobody@127.0.0.1:1/nothing"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=180,
    )


def param(name: str) -> Any:
    needed = [server for server in SERVERS if server in name]
    if name in ("worker", "joins"):
        needed = ["redis"]
    marks = [pytest.mark.server(server) for server in needed]
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [param(name) for name in ROWS])
def test_a_benchmark_prints_its_rows_and_writes_the_same_for_programs(
    name: str, tmp_path: Path
) -> None:
    file, for_docs = tmp_path / "figures.json", tmp_path / "table.inc"
    done = run(name, "--quick", "--json", str(file), "--rst", str(for_docs))
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for benchmark, cases in ROWS[name].items():
        rows = [row for row in written["rows"] if row["benchmark"] == benchmark]
        if rows and "is not installed" in rows[-1]["note"]:
            cases = cases[: len(rows)]
        for case, row in zip(cases, rows, strict=True):
            assert case in row["case"]
            line = f"{benchmark}  {row['case']}  "
            assert any(each.startswith(line) for each in squeezed(done.stdout)), line
            assert (row["limit"] is None) == (row["verdict"] == "reported")
        assert any(row["limit"] for row in rows) == (benchmark not in ONLY_REPORTED)
        assert f"   * - {benchmark}\n" in for_docs.read_text(encoding="utf-8")
    assert "figures mean nothing" in done.stdout


def test_what_cannot_run_is_named_and_the_others_run() -> None:
    done = run("memory", "postgresql", "--quick", **NO_POSTGRESQL)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("memory  ") for line in squeezed(done.stdout))
    assert "postgresql was left out: postgresql does not answer" in done.stdout


def test_one_whose_process_dies_is_named_and_the_others_run(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'sqlite' in sys.orig_argv and 'memory' not in sys.orig_argv:\n"
        "    os._exit(7)\n"
    )
    done = run("memory", "sqlite", "--quick", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert any(line.startswith("memory  ") for line in squeezed(done.stdout))
    assert "sqlite failed: its process ended with status 7" in done.stdout


def test_a_report_stays_the_same_on_its_way_between_processes() -> None:
    figures = Comparison(ours=1, base=2, ratio=0.5, low=0.4, high=0.6)
    report = Report(
        rows=[Row(benchmark="b", case="c", figures=figures, limit=1.5, note="n")],
        about={"pinned": True},
        servers={"redis": "7.0.15"},
        left_out={"d": "no server"},
        failed={"e": "ValueError"},
    )
    assert Report.from_json(report.as_json()) == report


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed() -> None:
    done = run("disk")
    assert done.returncode == 2
    assert "memory, sqlite, redis, postgresql" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("ratio", "at_least", "verdict"),
    [
        (1.2, False, "aim reached"),
        (1.4, False, "kept"),
        (1.7, False, "MISSED"),
        (1.7, True, "aim reached"),
        (1.4, True, "kept"),
        (1.2, True, "MISSED"),
    ],
)
def test_a_ratio_is_held_against_its_limit_and_its_aim(
    ratio: float, at_least: bool, verdict: str
) -> None:
    figures = Comparison(ours=1, base=1, ratio=ratio, low=ratio, high=ratio)
    limit, aim = (1.3, 1.5) if at_least else (1.6, 1.3)
    row = Row(benchmark="b", case="c", figures=figures, limit=limit, aim=aim, at_least=at_least)
    assert row.verdict == verdict


def squeezed(table: str) -> list[str]:
    """The lines of a table with its columns moved together."""
    return [
        "  ".join(filter(None, map(str.strip, line.split("  ")))) for line in table.splitlines()
    ]
