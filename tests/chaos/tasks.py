"""The tasks of a run: each writes down that it starts and that it ends, and may be struck."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tests.chaos import process
from tests.chaos.ledger import ENDED, STARTED, WRONG
from tests.chaos.plan import BEATS
from triggers.exceptions import StorageUnavailable
from triggers.task import TaskContext, TriggerTask

PATIENCE = 3.0  # seconds to wait for a process that goes on


class _Recorded(TriggerTask):
    abstract = True

    def _run(self, context: TaskContext) -> Mapping[str, Any]:
        crashes = process.crashes()
        ledger = crashes.ledger
        record = context.task_instance.record
        uid, name = context.manager.storage.uid, context.instance_name
        about = {"uid": uid, "instance": name, "attempt": record.attempt}
        index = int(uid.rpartition("-")[2])
        ledger.write(
            STARTED,
            **about,
            pid=os.getpid(),
            host=process.host(),
            at=record.changed_at.isoformat(),
            until=record.due_at.isoformat() if record.due_at else None,
        )
        crashes.reach("at the start of the task", f"{uid} {name}")
        pages = []
        for trigger, kwargs in context.trigger_kwargs.items():
            if not trigger.endswith(":failed") and kwargs.get("n") != index:
                ledger.write(WRONG, **about, what=f"{trigger} came with {kwargs}")
            if trigger == "page":
                pages.append(kwargs.get("page"))
        crashes.reach("during the task", f"{uid} {name}")
        if record.attempt > 1:
            self._meet_the_stopped(crashes, f"{uid} {name}")
        self._work(context, index)
        ledger.write(ENDED, **about, pid=os.getpid(), pages=pages)
        crashes.reach("at the end of the task", f"{uid} {name}")
        return {"n": index, "attempt": record.attempt}

    def _meet_the_stopped(self, crashes: Any, subject: str) -> None:
        """Run until the process that was stopped at this instance has tried to finish it.

        It may have died meanwhile, so not for longer than it takes to be continued.
        """
        until = time.monotonic() + PATIENCE
        while not crashes.has_reported(subject) and time.monotonic() < until:
            time.sleep(0.05)

    def _work(self, context: TaskContext, index: int) -> None:
        """Do what this kind of task does."""


class Work(_Recorded):
    """Does nothing further."""


class Flaky(_Recorded):
    """Asks to be run again, the first time."""

    def _work(self, context: TaskContext, index: int) -> None:
        if not context.task_instance.record.retries:
            raise self.retry(ValueError("once more"))


class Long(_Recorded):
    """Lasts until its first lease is over, and heartbeats have extended it so many times."""

    def _work(self, context: TaskContext, index: int) -> None:
        storage = context.manager.storage
        mine = context.task_instance.record
        ends = {mine.due_at}
        while True:
            # The storage may be down; that is no reason for this task to fail.
            with suppress(StorageUnavailable):
                now = storage.require(context.instance_name)
                if (now.status, now.attempt) != (mine.status, mine.attempt):
                    return  # taken away; what comes of it is nobody's any more
                ends.add(now.due_at)
                if len(ends) > BEATS and mine.due_at and storage.now() > mine.due_at:
                    return
            time.sleep(0.1)


class Poison(_Recorded):
    """Kills whoever runs it."""

    def _work(self, context: TaskContext, index: int) -> None:
        crashes = process.crashes()
        subject = f"{context.manager.storage.uid} {context.instance_name}"
        crashes.strike(crashes.poisoned[index], subject)
