"""The table of a run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.chaos.director import Course
from tests.chaos.judge import Findings
from tests.chaos.plan import Fault
from tests.chaos.setup import Setup

SHOWN = 30


def show(
    console: Console,
    setup: Setup,
    faults: list[Fault],
    course: Course,
    found: Findings,
    broker: str,
) -> None:
    """Print what was planned, what happened, and what came of it."""
    title = f"{setup.storage}, broker {broker}, seed {setup.seed}, {found.expected} joins"
    table = Table(title=title, title_justify="left")
    table.add_column("fault")
    table.add_column("where")
    table.add_column("planned", justify="right")
    table.add_column("happened", justify="right")
    counts: dict[tuple[str, str], list[int]] = {}
    for fault in faults:
        count = counts.setdefault((str(fault.kind), fault.label), [0, 0])
        count[0] += 1
        count[1] += fault.number in course.happened
    for (kind, where), (planned, happened) in counts.items():
        table.add_row(kind, where, str(planned), str(happened))
    console.print(table)
    summary = Table(show_header=False)
    summary.add_column()
    summary.add_column(justify="right")
    restarts = sum(course.ends.values())
    for name, value in (
        ("joins that ran", found.joins),
        ("joins lost", len(found.lost)),
        ("started twice without an expired lease", len(found.doubled)),
        ("started again after an expired lease", found.again),
        ("not resolved, and saying why", found.waiting),
        ("tasks started", found.starts),
        ("processes started again", restarts),
        ("planned faults", len(faults)),
        ("planned faults that did not happen", len(found.faults)),
        ("seconds", round(course.seconds)),
        ("joins a second", round(found.joins / course.seconds, 1)),
    ):
        summary.add_row(name, str(value))
    console.print(summary)
    odd = {f"{role} {code}": times for (role, code), times in course.ends.items() if code != -9}
    if odd:
        console.print(f"Processes that ended otherwise than by kill -9: {odd}", markup=False)
    against = list(found.all())
    for line in against[:SHOWN]:
        console.print(line, markup=False)
    if len(against) > SHOWN:
        console.print(f"… and {len(against) - SHOWN} more", markup=False)
