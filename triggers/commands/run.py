"""``manage.py triggers run``: the process that looks after deadlines and recovery."""

from __future__ import annotations

import argparse
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import CommandError, CommandParser

from triggers import supervisor
from triggers.commands.base import Subcommand
from triggers.exceptions import SettingsError, StorageUnavailable, UnknownBackend
from triggers.rounds import aliases, unlisted
from triggers.supervisor import LONGEST_INTERVAL, Passed


class Run(Subcommand):
    """Look after every session until SIGTERM or Ctrl-C."""

    help = (
        "Look after sessions: decide what has become due, send again what was not started, give "
        "back what lost workers had begun. Runs until SIGTERM or Ctrl-C. Any number of these may "
        "run at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--using", metavar="ALIAS", help="alias in TRIGGERS (default: all of them)"
        )
        parser.add_argument(
            "--interval",
            type=_seconds,
            default=supervisor.INTERVAL,
            metavar="S",
            help=f"seconds between two passes (default: {supervisor.INTERVAL:g})",
        )
        parser.add_argument("--once", action="store_true", help="make one pass and end, for cron")

    def handle(self, options: dict[str, Any]) -> None:
        using, verbosity = options["using"], options["verbosity"]
        try:
            found = aliases(using)
            names = ", ".join(f"{each.name} ({each.storage})" for each in found)
            for each in found:
                if reason := unlisted(each):
                    self._say(verbosity, f"{each.name!r}: {reason}")
            if options["once"]:
                self._once(using)
                return
            with _stopped_by_signals() as stop:
                self._say(verbosity, f"Looking after {names} every {options['interval']:g} s.")
                total = supervisor.run(
                    using,
                    stop=stop,
                    interval=options["interval"],
                    on_pass=self._report if verbosity >= 2 else None,
                )
        except (SettingsError, StorageUnavailable, UnknownBackend) as error:
            raise CommandError(str(error)) from None
        self._say(verbosity, f"Stopped: {total}.")

    def _once(self, using: str | None) -> None:
        done = supervisor.look(using)
        failed = done.fired.failed + done.recovered.failed + done.recovered.unsent
        if failed:
            raise CommandError(f"{done}. The log says why.")
        self.stdout.write(f"Done: {done}.")

    def _report(self, done: Passed) -> None:
        self._say(2, f"{done.using}: {done}")

    def _say(self, verbosity: int, line: str) -> None:
        if verbosity:
            self.stdout.write(line)
            self.stdout.flush()


class _Stop:
    """Set by a signal's handler, which must not wait for a lock, as an ``Event`` would."""

    def __init__(self) -> None:
        self._is_set = False
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._waker.send(b"\0")

    def wait(self, timeout: float, /) -> None:
        select.select([self._woken], [], [], timeout)

    def close(self) -> None:
        self._woken.close()
        self._waker.close()


@contextmanager
def _stopped_by_signals() -> Iterator[_Stop]:
    """Stop at the first SIGTERM or SIGINT; a second one ends the process as it always does."""
    stop = _Stop()
    before: dict[int, Any] = {}

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        stop.set()

    try:
        # Only the main thread of a process hears of signals.
        if threading.current_thread() is threading.main_thread():
            for number in (int(signal.SIGTERM), int(signal.SIGINT)):
                before[number] = signal.getsignal(number)
                signal.signal(number, on_signal)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_INTERVAL:
        wanted = f"a number of seconds above 0 and up to {LONGEST_INTERVAL:,.0f}"
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return seconds
