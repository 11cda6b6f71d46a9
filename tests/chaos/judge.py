"""What must hold after a run, whatever has happened in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.chaos.director import Course
from tests.chaos.ledger import ENDED, EXTENDED, STARTED, WRONG
from tests.chaos.plan import Fault, Kind
from tests.chaos.setup import Setup
from tests.chaos.workload import NEVER, PAGES, Session
from triggers import get_trigger_manager
from triggers.types import TaskInstance

CLOSE = timedelta(seconds=60)
"""How far the storage's clock may be from the one of this machine; wrong hosts are farther."""

Start = dict[str, Any]

REASONS = {"unstarted": NEVER, "failed": "WorkerLost"}
"""What an instance that is not resolved must give as the reason."""


@dataclass
class Findings:
    """What a run came to.

    :ivar joins: joins that ran to their end.
    :ivar expected: joins that should have.
    :ivar lost: instances that did not come to their expected end.
    :ivar doubled: starts that came while another attempt had its lease, or that nobody expects.
    :ivar again: starts of another attempt after the lease of the last one was over.
    :ivar waiting: instances that are not resolved, as expected, and say why.
    :ivar wrong: whatever else is not as it must be.
    """

    joins: int = 0
    expected: int = 0
    starts: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    again: int = 0
    waiting: int = 0
    wrong: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.faults)

    def all(self) -> Iterator[str]:
        """Everything that speaks against the run."""
        for name in ("lost", "doubled", "wrong", "faults"):
            for each in getattr(self, name):
                yield f"{name}: {each}"


def judge(setup: Setup, faults: list[Fault], course: Course) -> Findings:
    """Hold the storage and the ledger against what must have come of the workload."""
    found = Findings()
    ledger = setup.ledger
    starts: dict[tuple[str, str], list[Start]] = defaultdict(list)
    for record in ledger.read(STARTED):
        starts[record["uid"], record["instance"]].append(record)
    ended = Counter((record["uid"], record["instance"]) for record in ledger.read(ENDED))
    pages: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for record in ledger.read(ENDED):
        pages[record["uid"]][record["instance"]] = tuple(record["pages"])
    found.starts = sum(map(len, starts.values()))
    _judge_starts(found, starts, leases_of(setup))
    expected = set()
    for session in setup.workload.sessions():
        expected |= {(session.uid, name) for name in session.story.expected}
        _judge_session(found, session, course, ended)
        if session.kind == "order":
            seen = sorted(page for each in pages[session.uid].values() for page in each)
            if seen != list(range(PAGES)):
                found.wrong.append(f"{session.uid}: its pages were {seen}")
    for uid, name in starts.keys() - expected:
        found.doubled.append(f"{uid} {name} was started, and should not even be there")
    found.wrong += [str(record) for record in ledger.read(WRONG)]
    found.wrong += [course.gave_up] if course.gave_up else []
    _judge_faults(found, setup, faults, course)
    hosts = {record["host"] for each in starts.values() for record in each}
    if setup.has_hosts and len(hosts) < 2:
        found.faults.append(f"tasks ran on hosts with these clocks only: {sorted(hosts)}")
    return found


def leases_of(setup: Setup) -> dict[tuple[str, str, int], datetime]:
    """The end of each attempt's lease, as far as it was written down."""
    ends: dict[tuple[str, str, int], datetime] = {}
    for kind in (STARTED, EXTENDED):
        for record in setup.ledger.read(kind):
            if record["until"] is not None:
                key = record["uid"], record["instance"], record["attempt"]
                until = datetime.fromisoformat(record["until"])
                ends[key] = max(ends.get(key, until), until)
    return ends


def _judge_starts(
    found: Findings,
    starts: dict[tuple[str, str], list[Start]],
    leases: dict[tuple[str, str, int], datetime],
) -> None:
    for (uid, name), records in starts.items():
        attempts = Counter(record["attempt"] for record in records)
        for attempt, times in attempts.items():
            if times > 1:
                found.doubled.append(f"{uid} {name}: attempt {attempt} was started {times} times")
        in_order = sorted(records, key=lambda record: record["attempt"])
        for earlier, later in pairwise(in_order):
            if earlier["attempt"] == later["attempt"]:
                continue
            found.again += 1
            lease = leases.get((uid, name, earlier["attempt"]))
            at = datetime.fromisoformat(later["at"])
            if lease is None or at < lease:
                found.doubled.append(
                    f"{uid} {name}: attempt {later['attempt']} was started at {at}, but the lease "
                    f"of attempt {earlier['attempt']} was until {lease}"
                )


def _judge_session(
    found: Findings, session: Session, course: Course, ended: Counter[tuple[str, str]]
) -> None:
    manager = get_trigger_manager(session.uid)
    story = session.story
    found.expected += story.joins
    instances = {each.name: each for each in manager.storage}
    for name in instances.keys() - story.expected.keys():
        found.doubled.append(f"{session.uid} {name} should not be there")
    joins = 0
    for name, status in story.expected.items():
        instance = instances.get(name)
        if instance is None or instance.status != status:
            why = "is not there" if instance is None else explained(instance, manager)
            found.lost.append(f"{session.uid} {name}: should be {status}, {why}")
            continue
        if status == "finished":
            joins += 1
            if not ended[session.uid, name]:
                found.lost.append(f"{session.uid} {name} is finished, but its task did not run")
            by, last = instance.metadata["result"].get("attempt"), instance.record.attempt
            if by != last:
                found.wrong.append(
                    f"{session.uid} {name} was finished by attempt {by}, after {last} had begun"
                )
        elif status in REASONS:
            if REASONS[status] in str(manager.explain(name)):
                found.waiting += 1
            else:
                found.wrong.append(f"{session.uid} {name} is {status}, and does not say why")
        _judge_times(found, session, instance, course)
    found.joins += min(joins, story.joins)
    fired = Counter(each.trigger for each in manager.storage.find_firings() if each.cause is None)
    if fired != Counter(story.triggers):
        found.wrong.append(f"{session.uid}: recorded firings are {dict(fired)}")


def explained(instance: TaskInstance, manager: Any) -> str:
    """What an instance says about itself, on one line."""
    return f"is {instance.status}: {' '.join(str(manager.explain(instance.name)).split())[:300]}"


def _judge_times(found: Findings, session: Session, instance: TaskInstance, course: Course) -> None:
    record = instance.record
    for moment in (record.created_at, record.changed_at):
        assert course.over is not None
        if not course.began - CLOSE < moment < course.over + CLOSE:
            found.wrong.append(f"{session.uid} {instance.name} has a wrong host's time, {moment}")


def _judge_faults(found: Findings, setup: Setup, faults: list[Fault], course: Course) -> None:
    for fault in faults:
        times = course.happened.get(fault.number, 0)
        # A task that kills whoever runs it may also be killed by others.
        most = setup.attempts if fault.kind is Kind.POISON else 1
        if not 1 <= times <= most:
            found.faults.append(f"happened {times} times: {fault}")
