"""The figures of a backtest, as they are counted by each worker and added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from triggers.backtest.event import Malformed
from triggers.types import Instance, Status

LISTED = 20
"""How many malformed or refused events are kept with line and reason."""

EXPIRED = "expired"
"""Why ``within`` abandons an instance, as its metadata say."""

_NOT_JOINED = frozenset({Status.UNSTARTED, Status.ABANDONED})


@dataclass(slots=True, kw_only=True)
class TaskTally:
    """What became of one task.

    :ivar sessions: by status, in how many sessions at least one instance ended in it.
    :ivar never_started: in how many sessions there was no instance.
    :ivar instances: how many there were in all sessions together.
    :ivar finished: how many of these finished.
    :ivar abandoned: by reason (``unless`` or ``expired``), how many of these were abandoned.
    :ivar expired: in how many sessions at least one instance was abandoned by ``within``.
    """

    sessions: Counter[Status] = field(default_factory=Counter)
    never_started: int = 0
    instances: int = 0
    finished: int = 0
    abandoned: Counter[str] = field(default_factory=Counter)
    expired: int = 0


@dataclass(slots=True, kw_only=True)
class Trouble:
    """Events that could not be used: how many, and the first :data:`LISTED` in order of lines."""

    total: int = 0
    first: list[Malformed] = field(default_factory=list)

    def add(self, malformed: Malformed) -> None:
        """Count one more."""
        self.total += 1
        self._keep([malformed])

    def merge(self, other: Trouble) -> None:
        """Add those that another worker met."""
        self.total += other.total
        self._keep(other.first)

    def _keep(self, more: Iterable[Malformed]) -> None:
        # A worker meets the lines in the order of its cases, hence the sort.
        self.first = sorted((*self.first, *more), key=lambda each: each.line)[:LISTED]


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one worker, or all together, have counted.

    :ivar tasks: by task name, in the order of the configuration.
    :ivar cases: sessions that were replayed.
    :ivar fired: events that a manager has accepted.
    :ivar refused: events that it has not.
    :ivar joins: instances whose condition came true, so that they were scheduled.
    :ivar seconds: time spent in configuring and firing, added up over the workers.
    :ivar firings_per_second: of all workers together, counting only that time.
    :ivar joins_per_second: likewise.
    """

    tasks: dict[str, TaskTally] = field(default_factory=dict)
    cases: int = 0
    fired: int = 0
    refused: Trouble = field(default_factory=Trouble)
    joins: int = 0
    seconds: float = 0.0
    firings_per_second: float = 0.0
    joins_per_second: float = 0.0

    @classmethod
    def of_tasks(cls, names: Iterable[str]) -> Tally:
        """An empty tally of these tasks."""
        return cls(tasks={name: TaskTally() for name in names})

    def add_session(self, instances: Iterable[Instance]) -> None:
        """Count a session that is over.

        :param instances: all that it has.
        """
        self.cases += 1
        by_task: dict[str, Counter[Status]] = {name: Counter() for name in self.tasks}
        reasons: dict[str, Counter[str]] = {}
        for instance in instances:
            by_task[instance.task][instance.status] += 1
            if instance.status is Status.ABANDONED:
                found = reasons.setdefault(instance.task, Counter())
                found[str(instance.metadata.get("reason"))] += 1
        for name, found in reasons.items():
            self.tasks[name].abandoned += found
            self.tasks[name].expired += EXPIRED in found
        for name, statuses in by_task.items():
            task = self.tasks[name]
            task.sessions.update(statuses.keys())
            task.never_started += not statuses
            task.instances += statuses.total()
            task.finished += statuses[Status.FINISHED]
            self.joins += sum(n for status, n in statuses.items() if status not in _NOT_JOINED)

    def close(self, seconds: float) -> None:
        """Set the time that one worker has spent, and with it the rates."""
        self.seconds = seconds
        if seconds > 0:
            self.firings_per_second = self.fired / seconds
            self.joins_per_second = self.joins / seconds

    def merge(self, other: Tally) -> None:
        """Add what another worker, which ran at the same time, has counted."""
        for name, theirs in other.tasks.items():
            task = self.tasks[name]
            task.sessions += theirs.sessions
            task.never_started += theirs.never_started
            task.instances += theirs.instances
            task.finished += theirs.finished
            task.abandoned += theirs.abandoned
            task.expired += theirs.expired
        self.cases += other.cases
        self.fired += other.fired
        self.refused.merge(other.refused)
        self.joins += other.joins
        self.seconds += other.seconds
        self.firings_per_second += other.firings_per_second
        self.joins_per_second += other.joins_per_second
