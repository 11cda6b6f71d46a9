"""One worker's share of a backtest: session by session through the real manager and storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from time import perf_counter

from triggers.backtest.event import Malformed
from triggers.backtest.job import Job, Stop
from triggers.backtest.logtime import LogTimeSession, NoTime
from triggers.backtest.spool import Firing, read_cases
from triggers.backtest.tally import Tally
from triggers.exceptions import (
    InvalidPayload,
    InvalidTrigger,
    InvalidUid,
    PayloadTooLarge,
    PredicateFailed,
)
from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.storages.session import SessionStorage
from triggers.task import TaskContext, TriggerTask
from triggers.types import Instance

REFUSALS = (
    InvalidTrigger,
    InvalidPayload,
    InvalidUid,
    PayloadTooLarge,
    PredicateFailed,
    NoTime,
)
"""What is wrong with an event. Any other error is one of the set-up, and ends the backtest."""

_REPORT_EVERY = 100


class Rehearsal(TriggerTask):
    """Stands in for every task of a workflow: finishes at once, with an empty result."""

    def _run(self, context: TaskContext) -> dict[str, object]:
        return {}


def replay(job: Job, worker: int, *, advance: Callable[[int], None], stop: Stop) -> Tally:
    """Fire the events of all cases of one worker.

    :param worker: its number, from 0.
    :param advance: told every now and then how many more events are done.
    :param stop: asked before each event; a worker that stops tidies up what it has begun.
    """
    tally = Tally.of_tasks(job.workflow)
    seconds = 0.0
    for case, firings in read_cases(job.spool, worker, timed=job.until is not None):
        if stop.is_set():
            break
        seconds += _replay_case(job, case, _watched(firings, advance, stop), tally, stop)
    tally.close(seconds)
    return tally


def _replay_case(job: Job, case: str, firings: Iterator[Firing], tally: Tally, stop: Stop) -> float:
    """Replay one case and count what became of it.

    :returns: seconds spent in configuring and firing.
    """
    started = perf_counter()
    try:
        storage = storage_backends.get(job.storage, job.uid_prefix + case)
    except REFUSALS as error:
        # Not one event of this case can be fired, but each is still counted.
        for firing in firings:
            _refuse(job, firing, error, tally, stop)
        return 0.0
    with nullcontext() if job.keep else _deleted_afterwards(storage):
        session: _PresentSession | LogTimeSession
        if job.until is None:
            session = _PresentSession(job, storage)
        else:
            session = LogTimeSession(job, storage, job.until)
        for firing in firings:
            try:
                session.fire(firing)
            except REFUSALS as error:
                _refuse(job, firing, error, tally, stop)
            else:
                tally.fired += 1
        session.finish()
        seconds = perf_counter() - started
        tally.add_session(session.instances())
    return seconds


class _PresentSession:
    """One case, fired into a session by the clock of its storage."""

    def __init__(self, job: Job, storage: SessionStorage) -> None:
        self._manager = TriggerManager(storage)
        self._manager.update_configuration(job.workflow)

    def fire(self, firing: Firing) -> None:
        self._manager.fire(firing.trigger, firing.kwargs)

    def finish(self) -> None:
        """Nothing: its time goes on by itself."""

    def instances(self) -> Iterable[Instance]:
        return self._manager.storage.find_instances()


@contextmanager
def _deleted_afterwards(storage: SessionStorage) -> Iterator[None]:
    try:
        yield
    except BaseException:
        # If the storage is in trouble, the first error is the one that explains it.
        with suppress(Exception):
            storage.delete()
        raise
    storage.delete()


def _refuse(job: Job, firing: Firing, error: Exception, tally: Tally, stop: Stop) -> None:
    tally.refused.add(Malformed(line=firing.line, reason=str(error)))
    if job.strict:
        stop.set()


def _watched(
    firings: Iterator[Firing], advance: Callable[[int], None], stop: Stop
) -> Iterator[Firing]:
    """The firings, until told to stop; reports them in batches, and the rest at the end."""
    count = 0
    for firing in firings:
        if stop.is_set():
            break
        yield firing
        count += 1
        if count == _REPORT_EVERY:
            advance(count)
            count = 0
    advance(count)
