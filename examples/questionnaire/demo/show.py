"""Tables, lines and progress for people: drawn on a terminal, plain text anywhere else."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from examples.questionnaire.demo.endings import NEVER_STARTED, Endings, endings_of
from examples.questionnaire.demo.orders import Differences
from examples.questionnaire.demo.play import Performance, Play
from examples.questionnaire.workflows import APPLICANT_WORKFLOW, QUESTIONNAIRE_WORKFLOW

TASKS = [*QUESTIONNAIRE_WORKFLOW, *APPLICANT_WORKFLOW]

TIMES = "\N{MULTIPLICATION SIGN}"

PLAIN_WIDTH = 1000
"""Characters of a line that nobody wraps."""


@contextmanager
def progress(out: OutputWrapper, title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how many of ``total`` steps are done; yields what the block calls after each."""
    if out.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)
        return

    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done * 4 // total > (done - 1) * 4 // total:
            out.write(f"{title} {done}/{total}")

    yield step


def table_of(play: Play, *, terminal: bool) -> str:
    """Every applicant's instances: one row for each applicant, one column for each task."""
    if terminal:
        console = Console(width=shutil.get_terminal_size().columns)
        table = Table(show_lines=True)
    else:
        console = Console(width=PLAIN_WIDTH)
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("applicant")
    for task in TASKS:
        table.add_column(_broken(task) if terminal else task)
    for performance in play.performances:
        table.add_row(*_row(performance))
    with console.capture() as captured:
        console.print(table)
    # Rich fills every line up with blanks.
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def on_order(differences: Differences) -> Iterator[str]:
    """What depended on the order, and what did not."""
    alike = [task for task in differences.alike if task not in differences.barred_by]
    yield (
        f"Did not depend on the order: {', '.join(alike) or 'none'} ended the same in every "
        "session, and wrote the same rows."
    )
    for task, reasons in differences.differing.items():
        for reason, sessions in reasons.items():
            of = differences.sessions[task]
            yield f"Depended on the order: {task} in {sessions} of {of} sessions, {reason}."
    for task in differences.alike:
        if task in differences.barred_by:
            unless = ", ".join(differences.barred_by[task])
            yield (
                f"May depend on the order, but did not in these two: {task}, because of its "
                f"unless ({unless})."
            )
    yield (
        f"In detail only: in {differences.renumbered} sessions the pages were numbered otherwise "
        "(t_importResponses#0, #1, …), and in "
        f"{differences.other_page} the browser was taken from another page."
    )


def _row(performance: Performance) -> Iterator[str]:
    endings: Endings = {task: Counter() for task in TASKS}
    for _kind, manager in performance.sessions():
        for task, ended in endings_of(manager).items():
            endings[task] += ended
    character = performance.character
    yield f"{character.name} ({character.trait})" if character.trait else character.name
    for task in TASKS:
        yield _cell(endings[task])


def _broken(task: str) -> str:
    """The name of a task on several lines, ``t_import`` and ``Subject``, to make room."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "\n", task)


def _cell(endings: Counter[str]) -> str:
    # What did happen comes first, and the most frequent of it.
    ranked = sorted(endings.items(), key=lambda item: (item[0] == NEVER_STARTED, -item[1], item[0]))
    return ", ".join(
        ending if times == 1 else f"{ending} {TIMES}{times}" for ending, times in ranked
    )
