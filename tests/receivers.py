"""Receivers of signals for worker processes: what they get is told to the test.

A worker gets them by having this module among its ``imports``.
"""

from __future__ import annotations

import os
from typing import Any

from django.dispatch import receiver

from tests.celery_app import report
from triggers.signals import FiredTrigger, instance_status_changed, trigger_fired


@receiver(trigger_fired, dispatch_uid="tests.tell_of_firing")
def tell_of_firing(session: str, trigger: str, firing: FiredTrigger, **_others: Any) -> None:
    about = {"seq": firing.seq, "cause": firing.cause, "kwargs": firing.kwargs}
    report("fired", session=session, trigger=trigger, pid=os.getpid(), **about)


@receiver(instance_status_changed, dispatch_uid="tests.tell_of_status")
def tell_of_status(session: str, instance: str, new_status: str, **_others: Any) -> None:
    report("status", session=session, instance=instance, status=new_status, pid=os.getpid())


@receiver(instance_status_changed, dispatch_uid="tests.stumble")
def stumble(**_others: Any) -> None:
    raise LookupError("a receiver of the worker stumbles")
