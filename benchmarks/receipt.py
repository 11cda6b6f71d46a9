"""A municipality's receipt phase of permit applications: the log, and a workflow for it.

The log is public (4TU.ResearchData) but not part of this project. Where it does not lie beside it,
a synthetic one of the same shape stands in: as many cases, about as many events, the same share of
each frequent activity, attributes of about the same number and size.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.stubs import RUN

Case = list[tuple[str, dict[str, str]]]
"""One case's events in the order of time: trigger and kwargs."""

LOG = Path(__file__).resolve().parents[2] / "shared" / "data" / "receipt.csv.gz"

CONFIRMED = "Confirmation of receipt"
CHECKED = "T02 Check confirmation of receipt"
ADJUSTED = "T03 Adjust confirmation of receipt"
DETERMINED = "T04 Determine confirmation of receipt"
SENT = "T05 Print and send confirmation of receipt"
ADVICE_NEEDED = "T06 Determine necessity of stop advice"
STOP_NEEDED = "T10 Determine necessity to stop indication"

WORKFLOW: dict[str, dict[str, Any]] = {
    "t_decide": {"run": RUN, "after": [CONFIRMED, ADVICE_NEEDED]},
    "t_letter": {"run": RUN, "after": [CHECKED, DETERMINED, SENT], "unless": [ADJUSTED]},
    "t_check": {"run": RUN, "after": [CONFIRMED], "andEvery": CHECKED},
    "t_close": {"run": RUN, "after": ["t_decide", "t_letter", STOP_NEEDED]},
}

_SEED = 2011
_CASES = 1434
_RARE = [f"T{number} Rare step" for number in range(11, 31)]


def cases() -> tuple[str, Sequence[Case]]:
    """What the log is, in words, and its cases."""
    if LOG.exists():
        return "the receipt log", _read(LOG)
    return "a synthetic log in the shape of the receipt log", _make(random.Random(_SEED))


def _read(path: Path) -> Sequence[Case]:
    found: dict[str, list[tuple[datetime, str, dict[str, str]]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            time = datetime.fromisoformat(row["time:timestamp"])
            attributes = {name: cell for name, cell in row.items() if cell}
            found[row["case:concept:name"]].append((time, row["concept:name"], attributes))
    # The sort is stable: events of the same moment keep the order of the file.
    return [
        [(activity, attributes) for _time, activity, attributes in sorted(events, key=_moment)]
        for events in found.values()
    ]


def _moment(event: tuple[datetime, str, dict[str, str]]) -> datetime:
    return event[0]


def _make(choice: random.Random) -> Sequence[Case]:
    made: list[Case] = []
    for number in range(_CASES):
        activities = [CONFIRMED]
        if choice.random() < 0.92:
            activities += [CHECKED, DETERMINED, SENT, ADVICE_NEEDED, STOP_NEEDED]
            if choice.random() < 0.04:
                activities += [ADJUSTED, CHECKED]
            if choice.random() < 0.08:
                activities += choice.choices(_RARE, k=5)
            # The first stays where it is; of the others, two may have changed places.
            one, other = choice.sample(range(1, len(activities)), 2)
            activities[one], activities[other] = activities[other], activities[one]
        made.append([(each, _attributes(number, each, choice)) for each in activities])
    return made


def _attributes(number: int, activity: str, choice: random.Random) -> dict[str, str]:
    date = f"2011-{choice.randint(1, 12):02}-{choice.randint(1, 28):02}"
    moment = f"{date} {choice.randint(7, 18):02}:41:31.788000+01:00"
    attributes = {f"case:attribute {index}": f"{date} value {index}" for index in range(9)}
    return {
        **attributes,
        "case:concept:name": f"case-{number}",
        "concept:name": activity,
        "lifecycle:transition": "complete",
        "org:resource": f"Resource{choice.randint(1, 48):02}",
        "time:timestamp": moment,
    }
