"""A municipality tries deadlines, reminders, counts and filters on what really happened to it.

The log is public (4TU.ResearchData) but not part of this project, so these tests are left out
where it is not found beside it. What a backtest finds is compared with what a few lines of plain
Python, task by task, find in the same log; and the figures are fixed as well.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
RECEIPT = DATA / "receipt.csv.gz"

pytestmark = pytest.mark.skipif(
    not RECEIPT.exists(), reason=f"the public event log is not in {DATA}"
)

RECEIVED = "Confirmation of receipt"
CHECKED = "T02 Check confirmation of receipt"
DETERMINED = "T04 Determine confirmation of receipt"
SENT = "T05 Print and send confirmation of receipt"
ADVICE = "T06 Determine necessity of stop advice"
DRAFTED = "T07-1 Draft intern advice aspect 1"
STOP = "T10 Determine necessity to stop indication"
REPORTED = "T16 Report reasons to hold request"

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

TASKS: dict[str, dict[str, Any]] = {
    "t_greet": {
        "after": {"any": [RECEIVED, SENT]},
        "when": {
            RECEIVED: {"case:channel": {"in": ["Desk", "Post"]}},
            SENT: {"org:group": {"ne": "EMPTY"}, "org:resource": {"matches": "Resource0[1-6]$"}},
        },
    },
    "t_answer": {"after": [RECEIVED, SENT], "within": "P7D"},
    "t_apologise": {"after": ["t_answer:expired"]},
    "t_celebrate": {"after": ["t_answer", STOP], "unless": ["t_answer:expired"]},
    "t_recheck": {
        "after": [{"trigger": CHECKED, "times": 2}],
        "unless": {"any": [DRAFTED, REPORTED]},
    },
    "t_advise": {"after": [ADVICE, STOP], "fresh": {ADVICE: "PT1H"}},
    "t_remind": {"after": [{"elapsed": "PT36H", "since": RECEIVED}], "unless": [SENT]},
    "t_escalate": {"after": [{"elapsed": "P4D", "since": "t_remind"}], "unless": [SENT]},
    "t_audit": {"andEvery": CHECKED, "atMostEvery": "P1D"},
    "t_digest": {"andEvery": CHECKED, "debounce": {"quiet": "P2D", "most": "P5D"}},
    "t_determine": {"after": [DETERMINED], "andEvery": CHECKED, "within": "PT12H"},
    "t_quiet": {"after": [STOP, {"settled": "t_audit"}]},
    "t_file": {
        "after": {
            "atLeast": 2,
            "of": ["t_answer:ended", "t_advise", {"trigger": CHECKED, "times": 2}],
        },
        "unless": ["t_escalate"],
    },
}


@dataclass(frozen=True)
class Event:
    at: datetime
    name: str
    attributes: Mapping[str, str]


Case = list[Event]
"""In the order of time."""

Outcome = tuple[str, datetime]
"""How an instance ended (``finished``, ``unless`` or ``expired``), and when; or that it waits."""


class Log:
    """Some cases of the log, read with nothing of the package.

    :ivar end: the time of the very last event of these cases.
    """

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        self.cases: dict[str, Case] = defaultdict(list)
        for row in rows:
            at = datetime.fromisoformat(row["time:timestamp"])
            event = Event(at, row["concept:name"], {k: v for k, v in row.items() if v})
            self.cases[row["case:concept:name"]].append(event)
        for case in self.cases.values():
            case.sort(key=lambda event: event.at)
        self.end = max(case[-1].at for case in self.cases.values())


@cache
def rows() -> tuple[dict[str, str], ...]:
    with gzip.open(RECEIPT, "rt", encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


# -- by hand: what becomes of the instances of each task, in one case -----------------------------


def first(case: Case, *names: str) -> datetime | None:
    """When the first event of one of these names was."""
    return next((event.at for event in case if event.name in names), None)


def greet(case: Case, end: datetime) -> Iterator[Outcome]:
    for event in case:
        group, resource = (event.attributes.get(f"org:{key}") for key in ("group", "resource"))
        by_desk = event.name == RECEIVED and event.attributes["case:channel"] in ("Desk", "Post")
        by_few = group not in (None, "EMPTY") and resource in [f"Resource0{n}" for n in range(1, 7)]
        if by_desk or (event.name == SENT and by_few):
            yield "finished", event.at
            return


def answer(case: Case, end: datetime) -> Iterator[Outcome]:
    begun, received, sent = first(case, RECEIVED, SENT), first(case, RECEIVED), first(case, SENT)
    if begun is None:
        return
    if received and sent and max(received, sent) < begun + 7 * DAY:
        yield "finished", max(received, sent)
    elif begun + 7 * DAY <= end:
        yield "expired", begun + 7 * DAY
    else:
        yield "waiting", begun


def apologise(case: Case, end: datetime) -> Iterator[Outcome]:
    yield from (("finished", at) for how, at in answer(case, end) if how == "expired")


def celebrate(case: Case, end: datetime) -> Iterator[Outcome]:
    stopped, answered = first(case, STOP), list(answer(case, end))
    for how, at in answered:
        if how == "expired":
            yield "unless", at
        elif how == "finished" and stopped:
            yield "finished", max(at, stopped)
        elif how == "finished" or stopped:
            yield "waiting", at
    if stopped and not answered:
        yield "waiting", stopped


def recheck(case: Case, end: datetime) -> Iterator[Outcome]:
    checks = 0
    for event in case:
        if event.name in (DRAFTED, REPORTED):
            yield "unless", event.at
            return
        checks += event.name == CHECKED
        if checks == 2:
            yield "finished", event.at
            return
    if checks:
        yield "waiting", case[-1].at


def advise(case: Case, end: datetime) -> Iterator[Outcome]:
    advised = stopped = None
    for event in case:
        if event.name == ADVICE:
            advised = event.at
        elif event.name == STOP:
            stopped = event.at
        else:
            continue
        if stopped and advised and event.at - advised < HOUR:
            yield "finished", event.at
            return
    if advised or stopped:
        yield "waiting", case[-1].at


def elapsed(
    since: datetime | None, pause: timedelta, case: Case, end: datetime
) -> Iterator[Outcome]:
    """A task that runs a while after something, unless the answer has been sent by then."""
    sent = first(case, SENT)
    if sent and (since is None or sent < since + pause):
        yield "unless", sent
    elif since and since + pause <= end:
        yield "finished", since + pause
    elif since:
        yield "waiting", since


def remind(case: Case, end: datetime) -> Iterator[Outcome]:
    return elapsed(first(case, RECEIVED), 36 * HOUR, case, end)


def escalate(case: Case, end: datetime) -> Iterator[Outcome]:
    reminded = next((at for how, at in remind(case, end) if how == "finished"), None)
    return elapsed(reminded, 4 * DAY, case, end)


def audit(case: Case, end: datetime) -> Iterator[Outcome]:
    last = None
    for event in case:
        if event.name == CHECKED and (last is None or event.at - last >= DAY):
            last = event.at
            yield "finished", event.at


def digest(case: Case, end: datetime) -> Iterator[Outcome]:
    checks = [event.at for event in case if event.name == CHECKED]
    while checks:
        begun = latest = checks.pop(0)
        while checks and checks[0] < min(latest + 2 * DAY, begun + 5 * DAY):
            latest = checks.pop(0)
        over = min(latest + 2 * DAY, begun + 5 * DAY)
        yield ("finished", over) if over <= end else ("waiting", begun)


def determine(case: Case, end: datetime) -> Iterator[Outcome]:
    determined = some = False
    waiting: list[tuple[str, datetime]] = []  # for which event, and since when
    for event in [*case, Event(end, "the end", {})]:
        expired = [each for each in waiting if each[1] + 12 * HOUR <= event.at]
        yield from (("expired", begun + 12 * HOUR) for _name, begun in expired)
        ready = [each for each in waiting if each not in expired and each[0] == event.name]
        yield from (("finished", event.at) for _each in ready)
        waiting = [each for each in waiting if each not in expired + ready]
        if event.name == CHECKED and not ready:
            some = True
            if determined:
                yield "finished", event.at
            else:
                waiting.append((DETERMINED, event.at))
        elif event.name == DETERMINED and not some:
            some = True
            waiting.append((CHECKED, event.at))
        determined = determined or event.name == DETERMINED
    yield from (("waiting", begun) for _name, begun in waiting)


def quiet(case: Case, end: datetime) -> Iterator[Outcome]:
    stopped, audited = first(case, STOP), first(case, CHECKED)
    if stopped:
        yield ("finished", max(stopped, audited)) if audited else ("waiting", stopped)


def file(case: Case, end: datetime) -> Iterator[Outcome]:
    ended = [at for how, at in answer(case, end) if how != "waiting"]
    advised = [at for how, at in advise(case, end) if how == "finished"]
    checks = [event.at for event in case if event.name == CHECKED]
    escalated = [at for how, at in escalate(case, end) if how == "finished"]
    holds = sorted([*ended, *advised, *checks[1:2]])[1:2]
    if holds and (not escalated or holds[0] < escalated[0]):
        yield "finished", holds[0]
    elif escalated:
        yield "unless", escalated[0]
    elif ended or advised or checks:
        yield "waiting", case[0].at


BY_HAND: dict[str, Callable[[Case, datetime], Iterator[Outcome]]] = {
    f"t_{function.__name__}": function
    for function in (
        *(greet, answer, apologise, celebrate, recheck, advise, remind, escalate),
        *(audit, digest, determine, quiet, file),
    )
}


Figures = dict[str, dict[str, Any]]


def by_hand(log: Log) -> Figures:
    """What a backtest should say of each task."""
    figures: Figures = {}
    for task, outcomes in BY_HAND.items():
        found = [
            Counter(how for how, _at in outcomes(case, log.end)) for case in log.cases.values()
        ]
        instances = sum(found, Counter[str]())
        sessions = Counter(how for each in found for how in each)
        figures[task] = {
            "sessions": {
                "finished": sessions["finished"],
                "abandoned": sum(bool(each["unless"] or each["expired"]) for each in found),
                "waiting": sessions["waiting"],
                "failed": 0,
                "expired": sessions["expired"],
                "never_started": sum(not each for each in found),
            },
            "instances": {"finished": instances["finished"], "total": instances.total()},
            "abandoned": {how: instances[how] for how in ("expired", "unless") if instances[how]},
        }
    return figures


def backtest(directory: Path, log: Path, *options: str) -> dict[str, Any]:
    workflow, figures = directory / "workflow.json", directory / "figures.json"
    workflow.write_text(
        json.dumps({name: {**task, "run": "a.Task"} for name, task in TASKS.items()})
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


def instances(figures: Figures) -> Iterator[tuple[str, int, int, int, int]]:
    """Per task, how many instances finished, were abandoned, expired, and wait."""
    for task, found in figures.items():
        finished, total = found["instances"]["finished"], found["instances"]["total"]
        abandoned, expired = (found["abandoned"].get(how, 0) for how in ("unless", "expired"))
        yield task, finished, abandoned, expired, total - finished - abandoned - expired


def test_the_known_figures(tmp_path: Path) -> None:
    found = backtest(tmp_path, RECEIPT)
    assert (found["cases"], found["events"]) == (1434, 8577)
    assert found["until"] == "2012-01-23T14:42:54.644000+00:00"
    assert list(instances(found["tasks"])) == [
        ("t_greet", 636, 0, 0, 0),
        ("t_answer", 1141, 0, 290, 3),
        ("t_apologise", 290, 0, 0, 0),
        ("t_celebrate", 1122, 290, 0, 19),
        ("t_recheck", 33, 48, 0, 1236),
        ("t_advise", 1212, 0, 0, 97),
        ("t_remind", 478, 955, 0, 1),
        ("t_escalate", 328, 1105, 0, 0),
        ("t_audit", 1339, 0, 0, 0),
        ("t_digest", 1333, 0, 0, 4),
        ("t_determine", 1161, 0, 207, 0),
        ("t_quiet", 1282, 0, 0, 1),
        ("t_file", 1039, 320, 0, 74),
    ]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_figure_is_as_found_by_hand(workers: str, tmp_path: Path) -> None:
    log = Log(rows())
    found = backtest(tmp_path, RECEIPT, "--workers", workers)
    assert found["tasks"] == by_hand(log)
    assert datetime.fromisoformat(found["until"]) == log.end


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_database_finds_the_same_in_a_part_of_the_cases(workers: str, tmp_path: Path) -> None:
    chosen = set(islice(dict.fromkeys(row["case:concept:name"] for row in rows()), 0, None, 12))
    part = [row for row in rows() if row["case:concept:name"] in chosen]
    with (tmp_path / "part.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, part[0])
        writer.writeheader()
        writer.writerows(part)
    found = backtest(tmp_path, tmp_path / "part.csv", "--storage", "database", "--workers", workers)
    assert found["cases"] == len(chosen) == 120
    assert found["tasks"] == by_hand(Log(part))


def test_another_order_of_the_file_changes_no_figure(tmp_path: Path) -> None:
    with (tmp_path / "backwards.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows()[0])
        writer.writeheader()
        writer.writerows(reversed(rows()))
    assert backtest(tmp_path, tmp_path / "backwards.csv")["tasks"] == by_hand(Log(rows()))
