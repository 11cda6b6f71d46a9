"""``python -m benchmarks [NAME …] [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import django

from benchmarks import measure, project, table
from benchmarks.measure import LeftOut, Row

NAMES = ("memory", "sqlite", "growth", "postgresql")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    options = _options(arguments)
    about = {
        "python": platform.python_version(),
        "django": django.__version__,
        "sqlite": sqlite3.sqlite_version,
        "processors": os.cpu_count(),
        "pinned": measure.CAN_PIN,
        "quick": options.quick,
    }
    with tempfile.TemporaryDirectory(prefix="triggers-benchmarks-") as directory:
        project.configure(Path(directory))
        rows = list(_rows(options.names or NAMES, options.quick))
    print(table.render(rows))
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if options.quick:
        print("A quick run only shows that the benchmarks work; its figures mean nothing.")
    if options.json is not None:
        options.json.write_text(table.as_json(rows, about), encoding="utf-8")


def _rows(names: Sequence[str], quick: bool) -> Iterator[Row]:
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            # Only now, for they import models, which need the project.
            yield from import_module(f"benchmarks.{name}").run(quick)
        except LeftOut as reason:
            print(f"{name} was left out: {reason}", file=sys.stderr)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = ", ".join(NAMES)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {known}; default: all")
    parser.add_argument("--quick", action="store_true", help="only show that they work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; there are {known}")
    return options


if __name__ == "__main__":
    main()
