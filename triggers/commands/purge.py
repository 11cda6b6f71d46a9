"""``manage.py triggers purge``: remove what is stored of sessions that ended long ago."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from triggers import retention
from triggers.commands.base import Subcommand
from triggers.conditions.durations import LONGEST, parse_duration
from triggers.exceptions import SettingsError, StorageUnavailable, UnknownBackend
from triggers.retention import Purged

_INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C has ended."""

_LINE_EVERY = 5.0
"""Seconds between two lines of progress, where there is no terminal."""

# No "m": who means months by it must not lose what is minutes old.
_UNITS = {"w": "weeks", "d": "days", "h": "hours"}
_SHORT = re.compile(r"([0-9]{1,12})([wdh])")

Show = Callable[[Purged], None]


class PurgeSessions(Subcommand):
    """Purge sessions, and show how many."""

    help = (
        "Remove what is stored of sessions that are resolved and in which nothing has happened "
        "for a while. What is left of each is that it existed: firing into it is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            required=True,
            metavar="TIME",
            help="how long nothing has happened: 90d, 12h, or in ISO 8601: P90D, PT12H",
        )
        parser.add_argument(
            "--using", metavar="ALIAS", help="alias in TRIGGERS (default: all of them)"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing; say what would be removed"
        )
        parser.add_argument(
            "--batch",
            type=_positive,
            default=100,
            metavar="N",
            help="sessions to list at a time (default: 100)",
        )

    def handle(self, options: dict[str, Any]) -> None:
        try:
            with self._progress(options) as progress:
                purged = retention.purge(
                    options["older_than"],
                    options["using"],
                    batch=options["batch"],
                    progress=progress,
                    dry_run=options["dry_run"],
                )
        except (SettingsError, StorageUnavailable, UnknownBackend) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. What was purged is; run it again for the rest.",
                returncode=_INTERRUPTED,
            ) from None
        self._print(purged, dry_run=options["dry_run"], no_color=options["no_color"])
        if purged.failed:
            raise CommandError(f"{purged.failed} sessions could not be purged; the log says why.")

    @contextmanager
    def _progress(self, options: dict[str, Any]) -> Iterator[Show]:
        if options["verbosity"] == 0:
            yield lambda purged: None
        elif not self.stderr.isatty():
            yield self._lines()
        else:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            console = Console(stderr=True, no_color=options["no_color"] or None)
            with Progress(*columns, console=console, transient=True) as bar:
                task = bar.add_task("")
                yield lambda purged: bar.update(task, description=_so_far(purged))

    def _lines(self) -> Show:
        last = monotonic()

        def show(purged: Purged) -> None:
            nonlocal last
            if monotonic() - last >= _LINE_EVERY:
                last = monotonic()
                self.stderr.write(_so_far(purged))

        return show

    def _print(self, purged: Purged, *, dry_run: bool, no_color: bool) -> None:
        would = "would be " if dry_run else ""
        rows = {
            f"sessions that {would or 'were '}purged": purged.sessions,
            "old sessions that are not resolved, or not old any more": purged.kept,
            "sessions that failed": purged.failed,
            f"unused configurations that {would or 'were '}removed": purged.configurations,
        }
        is_terminal = self.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else 100
        color = is_terminal and not no_color
        console = Console(width=width, force_terminal=color, no_color=not color, highlight=False)
        table = Table(show_header=False)
        table.add_column(style="bold", justify="right")
        table.add_column()
        for what, number in rows.items():
            table.add_row(f"{number:,}", what)
        with console.capture() as capture:
            console.print(table)
        self.stdout.write(capture.get())
        for alias in purged.unlisted:
            self.stdout.write(f"{alias!r}: its storage cannot list its sessions; none looked at.")


def _so_far(purged: Purged) -> str:
    return f"{purged.sessions:,} purged, {purged.kept:,} kept, {purged.failed:,} failed"


def duration(text: str) -> timedelta:
    """A length of time as people type it: ``90d``, ``12h``, or in ISO 8601.

    :raises ArgumentTypeError: it is none.
    """
    found = _SHORT.fullmatch(text)
    try:
        if found is None:
            return parse_duration(text)
        length = timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        length = LONGEST * 2
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, or shorter '90d', '12h'") from None
    if not timedelta(0) < length <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not between zero and a thousand years")
    return length


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number
