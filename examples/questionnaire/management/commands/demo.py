"""``manage.py demo``: applicants whose pages arrive out of order, and at the same time."""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.test import override_settings

from examples.questionnaire.demo.audit import audit
from examples.questionnaire.demo.cast import Character, make_cast
from examples.questionnaire.demo.orders import compare
from examples.questionnaire.demo.play import Broken, Play, wait_for_tasks
from examples.questionnaire.demo.show import on_order, progress, table_of

# Celery workers, should there be any, do not know the database of the demo.
THREADS = {"default": {"STORAGE": "database", "RUNNER": "threading"}}


class Command(BaseCommand):
    help = (
        "Let applicants answer questionnaires in a database of their own. Their pages arrive out "
        "of order and at the same time, some twice, some never. Then all of it happens again in "
        "another order, and what depended on the order is told."
    )

    # Django 6.1 opens the default database for its checks; that is not the one that we use.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--applicants", type=_positive, default=12, metavar="N", help="how many (default: 12)"
        )
        parser.add_argument(
            "--seed", type=int, default=1, metavar="S", help="decides who comes, and what when"
        )
        parser.add_argument(
            "--keep", action="store_true", help="leave the database, and say where it is"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        seed, keep = options["seed"], options["keep"]
        with (
            _own_database(keep) as path,
            override_settings(TRIGGERS=THREADS),
            _logs(shown=options["verbosity"] > 1) as complaints,
        ):
            call_command("migrate", verbosity=0, interactive=False)
            cast = make_cast(options["applicants"], seed)
            try:
                plays = [self._play(cast, order) for order in (seed, seed + 1)]
            except Broken as error:
                raise CommandError(str(error)) from None
            problems = self._report(*plays) + complaints
            if keep:
                self.stdout.write(f"\nThe database is {path}")
        if problems:
            raise CommandError("\n".join(["This must not happen:", *problems]))
        self.stdout.write(
            "\nChecked: every join ran exactly once, every page was imported exactly once "
            f"({time.monotonic() - started:.1f} s)."
        )

    def _play(self, cast: list[Character], order: int) -> Play:
        play = Play(cast, order)
        with progress(self.stderr, f"Order {order}, requests", play.size) as on_sent:
            play.send(on_sent)
        wait_for_tasks()
        while repaired := play.repair():
            self.stdout.write(f"What failed in order {order}:")
            for line in repaired:
                self.stdout.write(f"  {line}")
            wait_for_tasks()
        return play

    def _report(self, play: Play, other: Play) -> list[str]:
        """Show how everything ended; returns what must not be so."""
        differences = compare(play, other)
        self.stdout.write(f"\nHow the tasks of every applicant ended in order {play.seed}:\n\n")
        self.stdout.write(table_of(play, terminal=self.stdout.isatty()) + "\n\n")
        for line in on_order(differences):
            self.stdout.write(line)
        return [*audit(play), *audit(other), *differences.unexplained]


@contextmanager
def _own_database(keep: bool) -> Iterator[Path]:
    """Use a database that nobody else has, for the length of a ``with`` block."""
    connection = connections["default"]
    # All threads share this dict; Django's test runner changes databases in the same way.
    settings = connection.settings_dict
    before = settings["NAME"]
    folder = Path(tempfile.mkdtemp(prefix="questionnaire-"))
    connection.close()
    settings["NAME"] = str(folder / "demo.sqlite3")
    try:
        yield folder / "demo.sqlite3"
    finally:
        connection.close()
        settings["NAME"] = before
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _logs(*, shown: bool) -> Iterator[list[str]]:
    """Keep what is logged off the screen; yields what the framework itself complains about.

    Tasks may log errors, as some of them are made to fail. The framework has no reason to.
    """
    complaints = _Complaints()
    framework, project = logging.getLogger("triggers"), logging.getLogger("examples")
    before = framework.handlers, project.handlers
    if shown:
        framework.handlers = [*framework.handlers, complaints]
    else:
        framework.handlers, project.handlers = [complaints], [logging.NullHandler()]
    try:
        yield complaints.messages
    finally:
        framework.handlers, project.handlers = before


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"logged by triggers: {record.getMessage()}")


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number
