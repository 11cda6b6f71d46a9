"""Which status may follow which. This table is the only place that says so."""

from __future__ import annotations

from collections.abc import Mapping

from triggers.exceptions import InvalidTransition
from triggers.types import Status

ALLOWED_TRANSITIONS: Mapping[Status, tuple[Status, ...]] = {
    Status.UNSTARTED: (Status.SCHEDULED, Status.ABANDONED),
    Status.SCHEDULED: (Status.RUNNING, Status.FAILED, Status.ABANDONED),
    # A worker that was lost gives its instance back.
    Status.RUNNING: (
        Status.FINISHED,
        Status.FAILED,
        Status.SKIPPED,
        Status.REPLAYED,
        Status.SCHEDULED,
    ),
    Status.FAILED: (Status.REPLAYED, Status.SKIPPED),
    Status.FINISHED: (),
    Status.REPLAYED: (),
    Status.SKIPPED: (),
    Status.ABANDONED: (),
}


def check_transition(instance: str, status: Status, wanted: Status) -> None:
    """Let an allowed change of status pass.

    :raises InvalidTransition: the table does not have it.
    """
    allowed = ALLOWED_TRANSITIONS[status]
    if wanted not in allowed:
        raise InvalidTransition(instance, status, wanted, allowed)
