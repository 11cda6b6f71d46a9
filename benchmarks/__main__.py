"""``python -m benchmarks [NAME …] [--quick] [--json FILE] [--rst FILE]``."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import django
from rich.console import Console

from benchmarks import measure, project, table
from benchmarks.measure import LeftOut, Row
from benchmarks.servers import Servers

BENCHMARKS = {
    "memory": "memory.run",
    "sqlite": "sqlite.run",
    "redis": "redis.run",
    "postgresql": "postgresql.run",
    "growth": "growth.run",
    "growth-redis": "growth.on_redis",
    "growth-postgresql": "growth.on_postgresql",
    "growth-mariadb": "growth.on_mariadb",
    "throughput-redis": "throughput.on_redis",
    "throughput-postgresql": "throughput.on_postgresql",
    "worker": "worker.run",
    "joins": "joins.run",
}
"""Module and function by name."""

_WIDTH = 210
"""Columns of the table where the output is no terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one table, and return the exit status: 1 if a limit or a benchmark failed."""
    # What was started is stopped also when somebody ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options(arguments)
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="triggers-benchmarks-") as directory:
        project.configure(Path(directory))
        with Servers(Path(directory)) as servers:
            names = options.names or list(BENCHMARKS)
            rows += _rows(names, options.quick, servers, left_out, failed)
        about = _about(servers, options.quick)
    width = None if sys.stdout.isatty() else _WIDTH
    out = Console(width=width, highlight=False)
    out.print(table.render(rows))
    out.print(", ".join(f"{name} {value}" for name, value in about.items()))
    for name, reason in left_out.items():
        out.print(f"{name} was left out: {reason}")
    for name, reason in failed.items():
        out.print(f"{name} failed: {reason}")
    if options.json is not None:
        options.json.write_text(table.as_json(rows, about), encoding="utf-8")
    if options.rst is not None:
        command = " ".join(["python -m benchmarks", *options.names])
        options.rst.write_text(table.as_rst(rows, about, command), encoding="utf-8")
    missed = [row for row in rows if row.verdict == "MISSED"]
    if options.quick:
        out.print("A quick run only shows that the benchmarks work; its figures mean nothing.")
        return 1 if failed else 0
    out.print(f"{len(missed)} of {sum(row.limit is not None for row in rows)} limits were missed.")
    return 1 if missed or failed else 0


def _rows(
    names: Sequence[str],
    quick: bool,
    servers: Servers,
    left_out: dict[str, str],
    failed: dict[str, str],
) -> Iterator[Row]:
    for number, name in enumerate(names, start=1):
        begun = monotonic()
        _progress(f"[{number}/{len(names)}] {name} …")
        module, function = BENCHMARKS[name].split(".")
        try:
            # Only now, for they import models, which need the project.
            run = getattr(import_module(f"benchmarks.{module}"), function)
            for row in run(quick, servers):
                _progress(f"    {row.benchmark}: {row.case}: {row.figures.ratio:.2f} {row.verdict}")
                yield row
        except LeftOut as reason:
            left_out[name] = str(reason)
            _progress(f"{name} was left out: {reason}")
        except Exception as error:
            # What the others measured, for minutes, must not be lost.
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
        _progress(f"    {monotonic() - begun:.0f} s")


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _about(servers: Servers, quick: bool) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "django": django.__version__,
        "sqlite": sqlite3.sqlite_version,
        **servers.versions,
        "pinned": measure.CAN_PIN,
        "load": ", ".join(f"{each:.1f}" for each in os.getloadavg()),
        "quick": quick,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = ", ".join(BENCHMARKS)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {known}; default: all")
    parser.add_argument("--quick", action="store_true", help="only show that they work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write a table for the docs")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; there are {known}")
    return options


if __name__ == "__main__":
    sys.exit(main())
