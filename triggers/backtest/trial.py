"""A whole backtest: from the log through the spool and the workers to the figures."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Literal

from triggers.backtest.event import Event, Malformed
from triggers.backtest.eventlog import EventLog
from triggers.backtest.job import Job
from triggers.backtest.progress import Reporter
from triggers.backtest.spool import Spool
from triggers.backtest.tally import Tally, Trouble
from triggers.backtest.workers import check_workers, run_workers
from triggers.backtest.workflow import (
    LATEST_TIME,
    Workflow,
    directives_about_time,
    outside_triggers,
    rehearse,
    unheard_outcomes,
)
from triggers.configuration import parse, suspicions
from triggers.exceptions import TriggersError
from triggers.storages import storage_backends

Order = Literal["time", "file", "shuffled"]


class Stopped(TriggersError, ValueError):
    """A strict backtest has met an event that it cannot use.

    :ivar malformed: where it stands in the log, and what is wrong with it.
    """

    def __init__(self, malformed: Malformed) -> None:
        self.malformed = malformed
        super().__init__(f"Line {malformed.line}: {malformed.reason}.")


class NoLogTime(TriggersError, ValueError):
    """A workflow goes by time, and there are no times to go by.

    :ivar directives: those that are about time, by task.
    """

    def __init__(self, reason: str, directives: Mapping[str, Sequence[str]]) -> None:
        self.directives = directives
        which = "; ".join(f"{task}: {', '.join(found)}" for task, found in directives.items())
        super().__init__(f"{reason} The workflow has directives about time ({which}).")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a backtest found out.

    :ivar run_id: part of the uid of every session.
    :ivar order: in which order the events of each case were fired.
    :ivar events: those that the log holds, without the malformed ones.
    :ivar malformed: records of the log that are no events.
    :ivar naive_times: timestamps without an offset, which were taken as UTC.
    :ivar timeless: events without any time.
    :ivar until: the end of the log, aware UTC, if time went by its clock; ``None`` if by that of
        the storage, which a workflow without directives about time does not look at.
    :ivar unknown_triggers: what the workflow waits for and the log never has, sorted.
    :ivar unheard_outcomes: what it waits for and no task of a backtest fires, sorted.
    :ivar doubts: pairs of task and reason why it may not mean what its author thinks.
    :ivar elapsed: seconds from the first byte of the log to the last session.
    """

    run_id: str
    order: Order
    events: int
    malformed: Trouble
    naive_times: int
    timeless: int
    until: datetime | None
    unknown_triggers: tuple[str, ...]
    unheard_outcomes: tuple[str, ...]
    doubts: tuple[tuple[str, str], ...]
    tally: Tally
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A workflow, a log, and how to bring them together.

    :ivar workflow: as ``update_configuration`` takes it; its tasks are never run.
    :ivar storage: registered name of the storage.
    :ivar workers: how many cases are replayed at a time, in threads for ``memory``, otherwise in
        processes.
    :ivar shuffle: seed of a random order of the events of each case; ``None`` for their order in
        time. Not for a workflow with directives about time.
    :ivar strict: stop at the first record that is no event, and the first event that is refused.
    :ivar keep: leave the sessions in the storage.
    """

    workflow: Workflow
    log: EventLog
    storage: str = "memory"
    workers: int = 1
    shuffle: int | None = None
    strict: bool = False
    keep: bool = False
    run_id: str = field(default_factory=lambda: secrets.token_hex(6))

    def run(self, reporter: Reporter) -> Figures:
        """Do it.

        :raises ConfigurationError: the workflow cannot be used.
        :raises NoLogTime: the workflow has directives about time, and the events are shuffled or
            have no times.
        :raises UnknownBackend: there is no such storage.
        :raises EventLogError: the log turns out to be no event log.
        :raises Stopped: ``strict``, and not everything is well. Nothing was fired if it is the log
            that is at fault.
        :raises Disturbed: another process has decided something in a session by its own clock.
        :raises WorkersError: the workers cannot run as processes, or one of them failed.
        """
        started = perf_counter()
        rehearsal = rehearse(self.workflow)
        # Before the log is read, which may take minutes: what is wrong with the rest?
        configuration = parse(rehearsal)
        about_time = directives_about_time(configuration)
        if about_time and self.shuffle is not None:
            raise NoLogTime("A random order has no times; leave out --shuffle.", about_time)
        storage_backends.get_class(self.storage)
        check_workers(self.storage, self.workers)
        with tempfile.TemporaryDirectory(prefix="triggers-backtest-") as directory:
            path = Path(directory) / "spool.sqlite3"
            spool = Spool(path, workers=self.workers, shuffle=self.shuffle)
            missing = outside_triggers(configuration)
            with closing(spool):
                malformed = self._fill(spool, missing, reporter, timed=bool(about_time))
            if about_time and spool.events and spool.ends_at is None:
                raise NoLogTime("No event has a time; name its column with --time.", about_time)
            until = spool.ends_at.astimezone(UTC) if about_time and spool.ends_at else None
            job = Job(
                run_id=self.run_id,
                storage=self.storage,
                workflow=rehearsal,
                spool=path,
                until=until,
                strict=self.strict,
                keep=self.keep,
            )
            tally = self._fire(job, spool.events, reporter)
        return Figures(
            run_id=self.run_id,
            order=self._order(spool),
            events=spool.events,
            malformed=malformed,
            naive_times=self.log.naive_times,
            timeless=spool.timeless,
            until=until,
            unknown_triggers=tuple(sorted(missing)),
            unheard_outcomes=tuple(sorted(unheard_outcomes(configuration))),
            doubts=tuple(suspicions(configuration)),
            tally=tally,
            elapsed=perf_counter() - started,
        )

    def _fill(self, spool: Spool, missing: set[str], reporter: Reporter, *, timed: bool) -> Trouble:
        """Put the log into the spool, and strike out of ``missing`` what it has.

        :param timed: durations will be counted from the times of the events.
        """
        malformed = Trouble()
        with reporter.phase(f"Reading {self.log.path.name}", self.log.size) as phase:
            position = 0
            for record in self.log:
                if self.log.position != position:
                    position = self.log.position
                    phase.reach(position)
                if timed:
                    record = _countable(record)
                if isinstance(record, Malformed):
                    if self.strict:
                        raise Stopped(record)
                    malformed.add(record)
                    continue
                missing.discard(record.activity)
                spool.add(record)
            spool.seal()
            phase.reach(self.log.size)
        return malformed

    def _fire(self, job: Job, events: int, reporter: Reporter) -> Tally:
        done = 0
        with reporter.phase(f"Firing {events:,} events", events) as phase:

            def advance(more: int) -> None:
                nonlocal done
                done += more
                phase.reach(done)

            tallies = run_workers(job, self.workers, advance)
        total = Tally.of_tasks(job.workflow)
        for tally in tallies:
            total.merge(tally)
        if self.strict and total.refused.first:
            raise Stopped(total.refused.first[0])
        return total

    def _order(self, spool: Spool) -> Order:
        if self.shuffle is not None:
            return "shuffled"
        return "file" if spool.events and spool.timeless == spool.events else "time"


def _countable(record: Event | Malformed) -> Event | Malformed:
    """The record, unless its time is so late that durations from it would leave the calendar."""
    if isinstance(record, Malformed) or record.time is None or record.time <= LATEST_TIME:
        return record
    reason = f"{record.time.isoformat()} is too late for durations to be counted from it"
    return Malformed(line=record.line, reason=reason)
