"""Trigger tasks that halt in the middle, where a test may stop or kill their process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group

from triggers.task import TaskContext, TriggerTask

halt: Callable[[TaskContext], None] | None = None
"""What to do in the middle of a task; nothing in the process of the test itself."""


class Halting(TriggerTask):
    """Says after its halt who has run it."""

    def _run(self, context: TaskContext) -> dict[str, Any]:
        if halt is not None:
            halt(context)
        return {"by": "successor" if halt is None else "process"}


class HaltingBooking(TriggerTask):
    """Books something before its halt, in the transaction that its end is part of."""

    transactional = True

    def _run(self, context: TaskContext) -> dict[str, Any]:
        storage: Any = context.manager.storage
        attempt = context.task_instance.attempt
        Group.objects.using(storage.using).create(name=f"{storage.uid} {attempt}")
        context.manager.fire("booked", {"attempt": attempt})
        if halt is not None:
            halt(context)
        return {"by": "successor" if halt is None else "process"}
