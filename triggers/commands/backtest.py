"""``manage.py triggers backtest``: try a workflow on an event log before deploying it."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console

from triggers.backtest.event import ACTIVITY, CASE, TIME, Columns, EventLogError, MissingColumn
from triggers.backtest.eventlog import EventLog
from triggers.backtest.logtime import Disturbed
from triggers.backtest.progress import Bars, Lines, Reporter, Silence
from triggers.backtest.report import Report
from triggers.backtest.trial import NoLogTime, Stopped, Trial
from triggers.backtest.workers import WorkersError
from triggers.backtest.workflow import Workflow, WorkflowError, load_workflow
from triggers.commands.base import Subcommand
from triggers.exceptions import (
    ConfigurationError,
    SettingsError,
    StorageUnavailable,
    UnknownBackend,
)

_INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C has ended."""

_TOLD = (
    UnknownBackend,
    SettingsError,
    StorageUnavailable,
    WorkersError,
    NoLogTime,
    Disturbed,
)
"""Errors that explain themselves."""


class Backtest(Subcommand):
    """Fire the events of a log on sessions of their own, and show what became of each task."""

    help = (
        "Try a workflow on an event log (CSV or XES, plain or gzip). Each case becomes a session "
        "and each event a firing; tasks finish at once, without doing their work. Directives about "
        "time go by the times of the log."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "workflow",
            type=Path,
            metavar="WORKFLOW.json",
            help="the configuration, as update_configuration() takes it, in JSON",
        )
        parser.add_argument("log", type=Path, metavar="LOG", help="the event log")
        parser.add_argument(
            "--case", default=CASE, metavar="COL", help=f"column of the case (default: {CASE})"
        )
        parser.add_argument(
            "--activity",
            default=ACTIVITY,
            metavar="COL",
            help=f"column of the activity, which becomes the trigger (default: {ACTIVITY})",
        )
        parser.add_argument(
            "--time",
            metavar="COL",
            help=f"column of the time, in ISO 8601 (default: {TIME}, if the log has it)",
        )
        parser.add_argument(
            "--delimiter",
            type=_delimiter,
            metavar="CHAR",
            help="character between the cells of a CSV log, or 'tab' (default: found out)",
        )
        parser.add_argument(
            "--shuffle",
            type=int,
            metavar="SEED",
            help="fire the events of each case in a random order, the same for the same seed",
        )
        parser.add_argument(
            "--storage", default="memory", metavar="NAME", help="storage to use (default: memory)"
        )
        parser.add_argument(
            "--workers",
            type=_positive,
            default=1,
            metavar="N",
            help="replay N cases at a time: threads for memory, else processes (default: 1)",
        )
        parser.add_argument(
            "--strict",
            action="store_true",
            help="stop at the first malformed row or refused event",
        )
        parser.add_argument(
            "--keep", action="store_true", help="do not delete the sessions afterwards"
        )
        parser.add_argument(
            "--json", type=Path, metavar="FILE", help="also write the figures to FILE as JSON"
        )

    def handle(self, options: dict[str, Any]) -> None:
        destination: Path | None = options["json"]
        if destination is not None and not destination.parent.is_dir():
            raise CommandError(f"There is no directory {destination.parent} to write --json to.")
        trial = Trial(
            workflow=_load_workflow(options["workflow"]),
            log=_open_log(options),
            storage=options["storage"],
            workers=options["workers"],
            shuffle=options["shuffle"],
            strict=options["strict"],
            keep=options["keep"],
        )
        report = Report(trial, self._run(trial, options))
        self._print(report, no_color=options["no_color"])
        if destination is not None:
            _write_json(destination, report)

    def _run(self, trial: Trial, options: dict[str, Any]) -> Any:
        try:
            return trial.run(self._reporter(options))
        except ConfigurationError as error:
            problems = "\n".join(f"  {path}: {problem}" for path, problem in error.problems)
            raise CommandError(
                f"{options['workflow']} is no usable workflow:\n{problems}"
            ) from None
        except (Stopped, EventLogError) as error:
            raise CommandError(f"{options['log']}: {error}") from None
        except _TOLD as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=_INTERRUPTED) from None

    def _reporter(self, options: dict[str, Any]) -> Reporter:
        if options["verbosity"] == 0:
            return Silence()
        if self.stderr.isatty():
            return Bars(Console(stderr=True, no_color=options["no_color"] or None))
        return Lines(self.stderr)

    def _print(self, report: Report, *, no_color: bool) -> None:
        if self.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            text = report.as_terminal_text(width=columns, color=not no_color)
        else:
            text = report.as_text()
        self.stdout.write(text)


def _load_workflow(path: Path) -> Workflow:
    try:
        return load_workflow(path)
    except OSError as error:
        raise CommandError(f"Cannot read the workflow {path}: {error.strerror}.") from None
    except WorkflowError as error:
        raise CommandError(f"{path}: {error}") from None


def _open_log(options: dict[str, Any]) -> EventLog:
    path = options["log"]
    columns = Columns(case=options["case"], activity=options["activity"], time=options["time"])
    try:
        return EventLog(path, columns, delimiter=options["delimiter"])
    except OSError as error:
        raise CommandError(f"Cannot read the log {path}: {error.strerror}.") from None
    except MissingColumn as error:
        hint = f"Choose one with --{error.role} COLUMN."
        raise CommandError(f"{path}: {error} {hint}") from None
    except EventLogError as error:
        raise CommandError(f"{path}: {error}") from None


def _write_json(path: Path, report: Report) -> None:
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False)
    try:
        path.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.") from None


def _delimiter(text: str) -> str:
    character = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(character) != 1 or character in '"\r\n':
        raise argparse.ArgumentTypeError(f"{text!r} is not a single character, or 'tab'")
    return character


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number
