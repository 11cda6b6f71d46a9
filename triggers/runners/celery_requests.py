"""The messages of trigger tasks, as the main process of a worker sees them."""

from __future__ import annotations

from functools import partial

from celery.exceptions import TimeLimitExceeded
from celery.worker import state
from celery.worker.request import Request

from triggers.runners.celery_signals import aside, report_killed

GRACE = 1.0
"""Seconds that the process which is to be killed goes on at most, so that its end is recorded first
as what it is. Killed before, it would report that it was told to exit."""


class TriggerRequest(Request):  # type: ignore[misc]  # Celery is untyped
    """A message of a trigger task: its instance fails as soon as its time limit has passed.

    Celery kills the process that runs the task, so nothing there can report it.
    """

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Receive word that a time limit has passed.

        :param soft: whether the task only gets an exception, and can report itself.
        :param timeout: the limit in seconds.
        """
        super().on_timeout(soft, timeout)
        # When a worker is being stopped, its tasks are not too slow; others take them over.
        if not soft and not state.should_terminate:
            error = TimeLimitExceeded(timeout)
            manager, instance = self.kwargs["manager"], self.kwargs["instance"]
            report = partial(report_killed, self.id, manager, instance, error)
            aside(report, manager, instance).join(GRACE)
