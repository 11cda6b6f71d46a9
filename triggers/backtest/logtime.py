"""A session by the clock of its log: each event at its own time, and what is due in between.

As if a process had been watching the time: what is due before an event is decided at its own time,
and the tasks that become ready by it have finished, before the event is fired.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from heapq import heappop, heappush

from triggers.backtest.job import Job
from triggers.backtest.spool import Firing
from triggers.clock import local_time
from triggers.engine import Event, Transition
from triggers.engine.events import Tick
from triggers.exceptions import TriggersError
from triggers.manager import TriggerManager
from triggers.storages.session import SessionStorage
from triggers.types import Instance


class NoTime(TriggersError, ValueError):
    """No event of a case has a time, and the workflow goes by time."""

    def __init__(self) -> None:
        super().__init__("no event of its case has a time, which the workflow goes by")


class Disturbed(TriggersError, RuntimeError):
    """A session's time is later than that of the log, so what became of it would be wrong.

    :ivar uid: uid of the session.
    """

    def __init__(self, uid: str, expected: datetime, found: datetime) -> None:
        self.uid = uid
        super().__init__(
            f"In session {uid!r} it is {found}, and in the log {expected}. Either a process that "
            "calls fire_due() or redeliver() has looked after the session by its own clock: use a "
            "storage that it does not look after. Or the storage does not follow triggers.clock."
        )


class LogTimeSession:
    """One case, fired into a session by the clock of the log.

    :param storage: a session that nobody else has touched.
    :param until: the end of the log.
    """

    def __init__(self, job: Job, storage: SessionStorage, until: datetime) -> None:
        self._workflow = job.workflow
        self._until = until
        self._manager = _WatchingManager(storage)
        self._has_begun = False

    def fire(self, firing: Firing) -> None:
        """Fire an event at its time, after all that is due until then.

        :param firing: at the time of the one that came before it, or later.
        :raises NoTime: it has none.
        :raises Disturbed: the session's time is another.
        """
        if firing.at is None:
            raise NoTime
        if not self._has_begun:
            self._has_begun = True
            with local_time(firing.at):
                self._manager.update_configuration(self._workflow)
        self._pass_time(firing.at)
        with local_time(firing.at):
            self._manager.fire(firing.trigger, firing.kwargs)
        self._check(firing.at)

    def finish(self) -> None:
        """Decide what is due until the end of the log."""
        self._pass_time(self._until)

    def instances(self) -> Collection[Instance]:
        """What came of it, all instances.

        :raises Disturbed: the session's time is another.
        """
        instances = list(self._manager.storage.find_instances())
        if self._has_begun:
            # Only now: whoever decided something before they were read has moved the time.
            self._tick(self._until)
            self._check(self._until)
        return instances

    def _pass_time(self, until: datetime) -> None:
        """Decide what is due until a moment (and at it), each at its own time."""
        dues = self._manager.dues
        while dues and dues[0] <= until:
            self._tick(dues[0])

    def _tick(self, at: datetime) -> None:
        dues = self._manager.dues
        while dues and dues[0] <= at:
            heappop(dues)
        with local_time(at):
            self._manager.apply(Tick())

    def _check(self, expected: datetime) -> None:
        if self._manager.reached > expected:
            raise Disturbed(self._manager.storage.uid, expected, self._manager.reached)


class _WatchingManager(TriggerManager):
    """A manager that knows when time alone will change its session.

    :ivar dues: a heap. What was decided in the meantime stays in it: nothing will be due then,
        which does no harm.
    :ivar reached: the session's time after the latest decision.
    """

    def __init__(self, storage: SessionStorage) -> None:
        super().__init__(storage)
        self.dues: list[datetime] = []
        self.reached = datetime.min.replace(tzinfo=UTC)

    def apply(self, event: Event) -> Transition:
        transition = super().apply(event)
        self.reached = max(self.reached, transition.clock)
        for instance in transition.instances.values():
            if instance.timer_at is not None:
                heappush(self.dues, instance.timer_at)
        return transition
