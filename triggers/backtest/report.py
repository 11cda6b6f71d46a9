"""The figures of a backtest as text for people and as plain JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from triggers.backtest.tally import EXPIRED, TaskTally, Trouble
from triggers.backtest.trial import Figures, Trial
from triggers.types import Status

# What every table shows, and how it is called there; other statuses only appear where they occur.
_COLUMNS = {
    Status.FINISHED: "finished",
    Status.ABANDONED: "abandoned",
    Status.UNSTARTED: "waiting",
    Status.FAILED: "failed",
}
_RARE = tuple(status for status in Status if status not in _COLUMNS)

_HELD_BY_DATABASE = "database"


class Report:
    """The figures of one backtest, ready to be shown.

    :param trial: what was done.
    :param figures: what came out.
    """

    def __init__(self, trial: Trial, figures: Figures) -> None:
        self._trial = trial
        self._figures = figures
        tasks = figures.tally.tasks.values()
        shown = [status for status in _RARE if any(task.sessions[status] for task in tasks)]
        self._statuses = {**_COLUMNS, **{status: str(status) for status in shown}}
        self._shows_expired = any(task.expired for task in tasks)

    def as_json(self) -> dict[str, Any]:
        """Everything, in plain JSON; seconds and rates are floats."""
        trial, figures, tally = self._trial, self._figures, self._figures.tally
        return {
            "log": str(trial.log.path),
            "format": trial.log.format,
            "run_id": figures.run_id,
            "order": figures.order,
            "seed": trial.shuffle,
            "until": figures.until.isoformat() if figures.until else None,
            "storage": trial.storage,
            "workers": trial.workers,
            "kept": trial.keep,
            "tasks": {name: self._task_json(task) for name, task in tally.tasks.items()},
            "cases": tally.cases,
            "events": figures.events,
            "fired": tally.fired,
            "joins": tally.joins,
            "malformed": _trouble_json(figures.malformed),
            "refused": _trouble_json(tally.refused),
            "firings_per_second": tally.firings_per_second,
            "joins_per_second": tally.joins_per_second,
            "elapsed_seconds": figures.elapsed,
            "notes": list(self._notes()),
        }

    def as_text(self) -> str:
        """Aligned columns without decoration, for pipes and files."""
        rows = [self._header(), *self._rows()]
        widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
        lines = []
        for name, *numbers in rows:
            cells = [name.ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        lines.append("")
        summary = list(self._summary())
        label_width = max(len(label) for label, _ in summary)
        value_width = max(len(value) for _, value in summary)
        for label, value in summary:
            lines.append(f"{label.ljust(label_width)}  {value.rjust(value_width)}")
        return "\n".join([*lines, *self._remarks()]) + "\n"

    def as_terminal_text(self, *, width: int, color: bool) -> str:
        """The same with a drawn table.

        :param width: of the terminal, in characters.
        :param color: whether to write control sequences for colours.
        """
        console = Console(
            width=width, force_terminal=color, no_color=not color, highlight=False, markup=False
        )
        table = Table()
        first, *others = self._header()
        table.add_column(first, overflow="fold")
        for title in others:
            table.add_column(title, justify="right")
        for row in self._rows():
            table.add_row(*row)
        summary = Table.grid(padding=(0, 2))
        summary.add_column()
        summary.add_column(justify="right")
        for label, value in self._summary():
            summary.add_row(label, value)
        with console.capture() as capture:
            console.print(table)
            console.print(summary)
            for line in self._remarks():
                console.print(line, soft_wrap=True)
        return capture.get()

    def _header(self) -> list[str]:
        expired = [EXPIRED] if self._shows_expired else []
        return ["task", *self._statuses.values(), *expired, "never started", "instances finished"]

    def _rows(self) -> Iterator[list[str]]:
        for name, task in self._figures.tally.tasks.items():
            sessions = [f"{task.sessions[status]:,}" for status in self._statuses]
            if self._shows_expired:
                sessions.append(f"{task.expired:,}")
            of_all = f"{task.finished:,} of {task.instances:,}"
            yield [name, *sessions, f"{task.never_started:,}", of_all]

    def _summary(self) -> Iterator[tuple[str, str]]:
        figures, tally = self._figures, self._figures.tally
        yield "cases", f"{tally.cases:,}"
        yield "events", f"{figures.events:,}"
        yield "fired", f"{tally.fired:,}"
        yield "malformed", f"{figures.malformed.total:,}"
        if tally.refused.total:
            yield "refused", f"{tally.refused.total:,}"
        yield "firings/s", f"{tally.firings_per_second:,.0f}"
        yield "joins/s", f"{tally.joins_per_second:,.0f}"
        yield "elapsed", f"{figures.elapsed:,.1f} s"

    def _remarks(self) -> Iterator[str]:
        yield from _trouble_lines("malformed", self._figures.malformed)
        yield from _trouble_lines("refused", self._figures.tally.refused)
        notes = list(self._notes())
        if notes:
            yield ""
            yield from notes

    def _notes(self) -> Iterator[str]:
        figures = self._figures
        if figures.order == "file":
            yield "No event has a time: they were fired in the order of the file."
        elif figures.timeless:
            yield (
                f"{figures.timeless:,} events have no time: each stayed behind the event before it."
            )
        if figures.until is not None:
            yield f"Time went by the log's clock, until its end at {figures.until}."
        if figures.naive_times:
            yield f"{figures.naive_times:,} timestamps have no offset: they were taken as UTC."
        for trigger in figures.unknown_triggers:
            yield f"The workflow waits for {trigger!r}, which the log does not have."
        for outcome in figures.unheard_outcomes:
            yield f"The workflow waits for {outcome!r}, which tasks that only finish never fire."
        for task, reason in figures.doubts:
            yield f"Task {task!r} {reason}."
        if self._trial.keep:
            yield from self._where_kept()

    def _where_kept(self) -> Iterator[str]:
        prefix = f"backtest:{self._figures.run_id}:"
        if self._trial.storage == "memory":
            yield "The memory storage ends with this process: its sessions were not kept."
            return
        yield f"The sessions were kept; the uid of each is {prefix!r} and the name of its case."
        if self._trial.storage == _HELD_BY_DATABASE:
            query = f"Session.objects.filter(uid__startswith={prefix!r})"
            yield f"In the database: triggers.models.{query}"

    def _task_json(self, task: TaskTally) -> dict[str, Any]:
        sessions = {title: task.sessions[status] for status, title in self._statuses.items()}
        if self._shows_expired:
            sessions[EXPIRED] = task.expired
        return {
            "sessions": {**sessions, "never_started": task.never_started},
            "instances": {"finished": task.finished, "total": task.instances},
            "abandoned": dict(sorted(task.abandoned.items())),
        }


def _trouble_json(trouble: Trouble) -> dict[str, Any]:
    first = [{"line": each.line, "reason": each.reason} for each in trouble.first]
    return {"total": trouble.total, "first": first}


def _trouble_lines(title: str, trouble: Trouble) -> Sequence[str]:
    if not trouble.total:
        return ()
    shown = len(trouble.first)
    first = "" if shown == trouble.total else f"; the first {shown}"
    lines = [f"  line {each.line}: {each.reason}" for each in trouble.first]
    return ["", f"{trouble.total:,} {title}{first}:", *lines]
