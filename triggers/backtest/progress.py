"""How far a long operation has come: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LINE_EVERY_SECONDS = 5.0
_LINE_EVERY_PERCENT = 10


class Phase(Protocol):
    """One part of the operation, whose size is known."""

    def reach(self, done: int) -> None:
        """Show that this much of the total is done."""
        ...


class Output(Protocol):
    """Where lines are written; every stream, and the wrapper of Django's commands."""

    def write(self, text: str, /) -> object:
        """Write a line with its line end."""
        ...


class Reporter(Protocol):
    """Shows phases, one after the other."""

    def phase(self, title: str, total: int) -> AbstractContextManager[Phase]:
        """Show one phase from its start to its end.

        :param title: what is being done.
        :param total: its size in any unit; may be 0.
        """
        ...


class Bars:
    """Progress bars.

    :param console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def phase(self, title: str, total: int) -> Iterator[Phase]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(show_speed=False),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self._console) as progress:
            yield _Bar(progress, title, total)


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)

    def reach(self, done: int) -> None:
        self._progress.update(self._task, completed=done)


class Lines:
    """A plain line whenever another 10 % are done, and at least every 5 seconds.

    :param output: where to write them.
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    @contextmanager
    def phase(self, title: str, total: int) -> Iterator[Phase]:
        yield _Line(self._output, title, total)


class _Line:
    def __init__(self, output: Output, title: str, total: int) -> None:
        self._output = output
        self._title = title
        self._total = total
        self._percent = 0
        self._at = monotonic()

    def reach(self, done: int) -> None:
        percent = 100 if done >= self._total else done * 100 // self._total
        now = monotonic()
        if percent == self._percent:
            return
        step = percent // _LINE_EVERY_PERCENT > self._percent // _LINE_EVERY_PERCENT
        if step or now - self._at >= _LINE_EVERY_SECONDS:
            self._percent = percent
            self._at = now
            self._output.write(f"{self._title}: {percent} %\n")


class Silence:
    """No progress at all."""

    @contextmanager
    def phase(self, title: str, total: int) -> Iterator[Phase]:
        yield _Nothing()


class _Nothing:
    def reach(self, done: int) -> None:
        pass
