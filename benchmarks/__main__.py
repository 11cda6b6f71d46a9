"""``python -m benchmarks [NAME …] [--quick] [--json FILE] [--rst FILE]``."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import django
from rich.console import Console

from benchmarks import measure, project, table
from benchmarks.measure import LeftOut
from benchmarks.report import Report
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
    names = options.names or list(BENCHMARKS)
    report = Report()
    if len(names) == 1:
        report.add(_measured(names[0], options.quick))
    else:
        for number, name in enumerate(names, start=1):
            _progress(f"[{number}/{len(names)}] {name} …")
            report.add(_measured_apart(name, options.quick))
    report.about = _about(options.quick)
    about = report.about | report.servers
    width = None if sys.stdout.isatty() else _WIDTH
    out = Console(width=width, highlight=False)
    out.print(table.render(report.rows))
    out.print(", ".join(f"{name} {value}" for name, value in about.items()))
    for name, reason in report.left_out.items():
        out.print(f"{name} was left out: {reason}")
    for name, reason in report.failed.items():
        out.print(f"{name} failed: {reason}")
    if options.json is not None:
        options.json.write_text(report.as_json(), encoding="utf-8")
    if options.rst is not None:
        command = " ".join(["python -m benchmarks", *options.names])
        text = table.as_rst(report.rows, about, command)
        options.rst.write_text(text, encoding="utf-8")
    if options.quick:
        out.print("A quick run only shows that the benchmarks work; its figures mean nothing.")
        return 1 if report.failed else 0
    out.print(f"{len(report.missed)} of {report.limits} limits were missed.")
    return 1 if report.missed or report.failed else 0


def _measured(name: str, quick: bool) -> Report:
    """Run one benchmark."""
    report = Report()
    begun = monotonic()
    module, function = BENCHMARKS[name].split(".")
    with tempfile.TemporaryDirectory(prefix="triggers-benchmarks-") as directory:
        project.configure(Path(directory))
        with Servers(Path(directory)) as servers:
            try:
                # Only now, for they import models, which need the project.
                run = getattr(import_module(f"benchmarks.{module}"), function)
                for row in run(quick, servers):
                    figure = f"{row.figures.ratio:.2f} {row.verdict}"
                    _progress(f"    {row.benchmark}: {row.case}: {figure}")
                    report.rows.append(row)
            except LeftOut as reason:
                report.left_out[name] = str(reason)
                _progress(f"    {name} was left out: {reason}")
            except Exception as error:
                # What it has measured, for minutes, must not be lost.
                traceback.print_exc()
                report.failed[name] = f"{type(error).__name__}: {error}"
        report.servers = servers.versions
    _progress(f"    {monotonic() - begun:.0f} s")
    return report


def _measured_apart(name: str, quick: bool) -> Report:
    """Run one benchmark in a process and with servers of its own.

    What another one has left in memory would make it slower, ours more than what it is compared
    with: the figures would depend on what was measured before.
    """
    with tempfile.TemporaryDirectory(prefix="triggers-benchmarks-") as directory:
        file = Path(directory) / "report.json"
        command = [sys.executable, "-m", "benchmarks", name, "--json", str(file)]
        command += ["--quick"] if quick else []
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if not file.exists():
            return Report(failed={name: f"its process ended with status {status}"})
        return Report.from_json(file.read_text(encoding="utf-8"))


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _about(quick: bool) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "django": django.__version__,
        "sqlite": sqlite3.sqlite_version,
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
