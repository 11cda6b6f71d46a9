"""How every task ended in a session, and in which order things were decided there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from triggers import TriggerManager
from triggers.types import Status, TaskConfig, TaskInstance

NEVER_STARTED = "never started"

Endings = dict[str, Counter[str]]
"""By task: how many times it ended how, such as ``{"t_importResponses": {"finished": 3}}``."""


def endings_of(manager: TriggerManager) -> Endings:
    """How every task of a session ended, those that never got an instance included."""
    lineages: dict[str, dict[int, list[TaskInstance]]] = {
        name: {} for name in manager.storage.tasks
    }
    for instance in manager.storage:
        lineages[instance.task_name].setdefault(instance.record.lineage, []).append(instance)
    return {
        task: Counter(_ending(lineage) for lineage in found.values()) or Counter([NEVER_STARTED])
        for task, found in lineages.items()
    }


def _ending(lineage: list[TaskInstance]) -> str:
    """What an instance and its retries and replays went through, such as "retried → finished"."""
    return " → ".join(_steps(lineage))


def _steps(lineage: list[TaskInstance]) -> Iterator[str]:
    for instance, successor in pairwise(lineage):
        if successor.record.retries > instance.record.retries:
            yield "retried"
        else:
            yield "failed → replayed"
    last = lineage[-1]
    if last.status == Status.UNSTARTED:
        yield "waiting"
    elif last.status == Status.SKIPPED and "exception" in last.metadata:
        yield "failed → skipped"
    else:
        yield str(last.status)


class History:
    """In which order the triggers of a session were decided: their first firings."""

    def __init__(self, manager: TriggerManager) -> None:
        self._first: dict[str, int] = {}
        self.count: Counter[str] = Counter()
        for firing in manager.storage.find_firings():
            self._first.setdefault(firing.trigger, firing.seq)
            self.count[firing.trigger] += 1

    def barred_first(self, task: TaskConfig) -> bool:
        """Whether the ``unless`` of a task was complete before its ``after`` was."""
        barred, ready = self._complete(task.unless), self._complete(task.after)
        return barred is not None and (ready is None or barred < ready)

    def last_of(self, triggers: frozenset[str]) -> str | None:
        """The trigger that made these complete; ``None`` if they never were."""
        complete = self._complete(triggers)
        return next((each for each in triggers if self._first.get(each) == complete), None)

    def _complete(self, triggers: frozenset[str]) -> int | None:
        fired = [self._first.get(each) for each in triggers]
        known = [seq for seq in fired if seq is not None]
        return max(known) if known and len(known) == len(triggers) else None
