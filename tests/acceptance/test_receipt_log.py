"""A municipality and a help desk try workflows on what really happened to them.

The logs are public (4TU.ResearchData) but not part of this project, so these tests are left out
where they are not found beside it. What a backtest finds is compared with a small model that is
written from the meaning of workflows alone; the figures of one workflow are fixed as well.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.core.management import call_command

from triggers.backtest.eventlog import Event, EventLog
from triggers.backtest.spool import Spool, read_cases

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
RECEIPT = DATA / "receipt.csv.gz"
HELPDESK = DATA / "helpdesk.xes.gz"

pytestmark = pytest.mark.skipif(
    not (RECEIPT.exists() and HELPDESK.exists()), reason=f"the public event logs are not in {DATA}"
)

Tasks = dict[str, dict[str, Any]]
Cases = Mapping[str, Iterable[str]]

PERMIT: Tasks = {
    "t_decide": {
        "after": ["Confirmation of receipt", "T06 Determine necessity of stop advice"],
    },
    "t_letter": {
        "after": [
            "T02 Check confirmation of receipt",
            "T04 Determine confirmation of receipt",
            "T05 Print and send confirmation of receipt",
        ],
        "unless": ["T03 Adjust confirmation of receipt"],
    },
    "t_check": {
        "after": ["Confirmation of receipt"],
        "andEvery": "T02 Check confirmation of receipt",
    },
    "t_close": {"after": ["t_decide", "t_letter", "T10 Determine necessity to stop indication"]},
}

ADVICE: Tasks = {
    "t_advise": {
        "after": ["T06 Determine necessity of stop advice"],
        "andEvery": "T07-1 Draft intern advice aspect 1",
        "unless": ["T05 Print and send confirmation of receipt"],
    },
    "t_archive": {
        "after": ["t_advise", "T10 Determine necessity to stop indication"],
        "andEvery": "T06 Determine necessity of stop advice",
    },
    "t_document": {
        "after": [
            "T11 Create document X request unlicensed",
            "T15 Print document X request unlicensed",
        ],
        "unless": ["T13 Adjust document X request unlicensed"],
    },
}

TICKET: Tasks = {
    "t_measure": {"after": ["Assign seriousness"], "andEvery": "Take in charge ticket"},
    "t_survey": {"after": ["Resolve ticket", "Closed"], "unless": ["Wait"]},
    "t_escalate": {"after": ["Require upgrade", "t_measure"], "unless": ["Closed"]},
    "t_report": {"after": ["t_survey", "t_measure"], "andEvery": "Closed"},
}

REPAIR: Tasks = {
    "t_patient": {"after": ["Take in charge ticket"], "andEvery": "Wait"},
    "t_quick": {
        "after": ["Take in charge ticket", "Resolve ticket"],
        "unless": ["Wait", "Require upgrade"],
    },
    "t_anomaly": {"after": ["Create SW anomaly"], "andEvery": "Resolve SW anomaly"},
    "t_done": {"after": ["t_quick", "Closed"], "unless": ["t_anomaly"]},
}


def run_by_the_book(tasks: Tasks, cases: Cases) -> Counter[tuple[str, str]]:
    """What becomes of each task: instances by (task, status), over all cases.

    Written from the meaning alone. A firing reaches every task that names it. Each waiting
    instance that has not seen it yet takes it; where there is no instance it makes the first, and
    where none took it and it is the task's ``andEvery`` it makes the next. A new instance has seen
    whatever fired before. ``unless`` is asked first, then ``after``; a task that finishes fires
    its own name.
    """
    total: Counter[tuple[str, str]] = Counter()
    for activities in cases.values():
        instances: dict[str, list[dict[str, Any]]] = {name: [] for name in tasks}
        seen_by_task: dict[str, set[str]] = {name: set() for name in tasks}
        for activity in activities:
            queue = deque([activity])
            while queue:
                trigger = queue.popleft()
                for name, task in tasks.items():
                    every = task.get("andEvery")
                    needed = {*task["after"], *([every] if every else [])}
                    barred = set(task.get("unless", ()))
                    if trigger not in needed | barred:
                        continue
                    seen_by_task[name].add(trigger)
                    touched = [
                        each
                        for each in instances[name]
                        if each["status"] == "waiting" and trigger not in each["seen"]
                    ]
                    if not instances[name] or (not touched and trigger == every):
                        touched = [{"status": "waiting", "seen": set(seen_by_task[name])}]
                        instances[name] += touched
                    for each in touched:
                        each["seen"].add(trigger)
                        if barred and barred <= each["seen"]:
                            each["status"] = "abandoned"
                        elif needed <= each["seen"]:
                            each["status"] = "finished"
                            queue.append(name)
        for name, made in instances.items():
            total.update((name, each["status"]) for each in made)
            for status in {each["status"] for each in made} or {"never_started"}:
                total[name, f"sessions {status}"] += 1
    return total


@cache
def cases_in_order_of_time(path: Path) -> Cases:
    """The activities of each case, read with nothing of the package."""
    rows: list[tuple[str, str, str]]
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        if path == RECEIPT:
            rows = [
                (row["case:concept:name"], row["time:timestamp"], row["concept:name"])
                for row in csv.DictReader(file)
            ]
        else:
            rows = [
                (
                    value(trace, "concept:name"),
                    value(event, "time:timestamp"),
                    value(event, "concept:name"),
                )
                for trace in ElementTree.parse(file).getroot().findall("{*}trace")
                for event in trace.findall("{*}event")
            ]
    cases: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for case, time, activity in rows:
        cases[case].append((datetime.fromisoformat(time), activity))
    return {
        case: [activity for _, activity in sorted(found, key=lambda pair: pair[0])]
        for case, found in cases.items()
    }


def value(element: ElementTree.Element, key: str) -> str:
    return next(each.attrib["value"] for each in element if each.attrib.get("key") == key)


def cases_shuffled(path: Path, seed: int, directory: Path) -> Cases:
    """The order in which the backtest fires them, which only the backtest can know."""
    spool = Spool(directory / "spool", shuffle=seed)
    for record in EventLog(path):
        assert isinstance(record, Event)
        spool.add(record)
    spool.seal()
    return {
        case: [firing.trigger for firing in firings] for case, firings in read_cases(spool.path, 0)
    }


def backtest(tasks: Tasks, log: Path, directory: Path, *options: str) -> dict[str, Any]:
    workflow, figures = directory / "workflow.json", directory / "figures.json"
    workflow.write_text(
        json.dumps({name: {**task, "run": "a.Task"} for name, task in tasks.items()})
    )
    call_command(
        *("triggers", "backtest", str(workflow), str(log), "--json", str(figures), *options),
        stdout=io.StringIO(),
        stderr=io.StringIO(),
    )
    loaded: dict[str, Any] = json.loads(figures.read_text())
    assert loaded["malformed"]["total"] == loaded["refused"]["total"] == 0
    assert loaded["events"] == loaded["fired"]
    return loaded


def by_the_book(figures: dict[str, Any], book: Counter[tuple[str, str]]) -> None:
    """Assert that a backtest found what the model did."""
    for name, task in figures["tasks"].items():
        statuses = ("finished", "abandoned", "waiting")
        assert task["instances"] == {
            "finished": book[name, "finished"],
            "total": sum(book[name, status] for status in statuses),
        }
        assert task["sessions"] == {
            **{status: book[name, f"sessions {status}"] for status in statuses},
            "failed": 0,
            "never_started": book[name, "sessions never_started"],
        }


def test_the_permit_workflow_gives_the_known_figures(tmp_path: Path) -> None:
    figures = backtest(PERMIT, RECEIPT, tmp_path)
    tasks = figures["tasks"]
    assert (figures["cases"], figures["events"]) == (1434, 8577)
    assert tasks["t_decide"]["sessions"]["finished"] == 1309
    assert tasks["t_letter"]["sessions"] == {
        "finished": 1268,
        "abandoned": 37,
        "waiting": 11,
        "failed": 0,
        "never_started": 118,
    }
    assert tasks["t_check"]["instances"]["finished"] == 1368
    assert tasks["t_close"]["sessions"]["finished"] == 1247


# The workflows of one log share its sessions, as those of two departments would.
LOGS_AND_WORKFLOWS = [
    pytest.param(RECEIPT, {**PERMIT, **ADVICE}, id="receipt"),
    pytest.param(HELPDESK, {**TICKET, **REPAIR}, id="helpdesk"),
]


@pytest.mark.parametrize(("log", "tasks"), LOGS_AND_WORKFLOWS)
def test_in_order_of_time_every_figure_is_as_the_meaning_has_it(
    log: Path, tasks: Tasks, tmp_path: Path
) -> None:
    book = run_by_the_book(tasks, cases_in_order_of_time(log))
    by_the_book(backtest(tasks, log, tmp_path), book)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("log", "tasks"), LOGS_AND_WORKFLOWS)
def test_in_a_random_order_every_figure_is_as_the_meaning_has_it(
    log: Path, tasks: Tasks, seed: int, tmp_path: Path
) -> None:
    book = run_by_the_book(tasks, cases_shuffled(log, seed, tmp_path))
    assert book != run_by_the_book(tasks, cases_in_order_of_time(log))
    by_the_book(backtest(tasks, log, tmp_path, "--shuffle", str(seed)), book)


def test_threads_change_no_figure(tmp_path: Path) -> None:
    alone = backtest(PERMIT, RECEIPT, tmp_path, "--shuffle", "3")
    assert (
        backtest(PERMIT, RECEIPT, tmp_path, "--shuffle", "3", "--workers", "2")["tasks"]
        == (alone["tasks"])
    )
