"""Crash points: places in the framework at which the plan may end a process.

The framework has no hooks for this. Here its functions are wrapped, in the processes of a run only.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from functools import partial, wraps
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from tests.chaos.ledger import EXTENDED, REPORTED, RESTARTED, STRUCK, Ledger
from tests.chaos.plan import Fault, Kind
from tests.chaos.setup import Setup
from triggers.runners.celery import CeleryTaskRunner
from triggers.storages.session import SessionStorage
from triggers.task import TriggerTask
from triggers.types import Instance

NAMES = {
    "Fire": "fire",
    "Claim": "claim",
    "Finish": "finish",
    "Extend": "extend",
    "Recover": "recover",
    "Tick": "tick",
}
"""Events that have crash points around their commit."""

PATIENCE = 60.0  # seconds that a server may take to be there again

SPARED_AFTER = 1
"""Attempts of one instance that are struck; a fault that would strike the next one is put off.

Otherwise a dense plan would now and then use up all attempts of an instance that must finish.
"""

_doing: ContextVar[tuple[str, str] | None] = ContextVar("chaos_doing", default=None)
_committing: ContextVar[bool] = ContextVar("chaos_committing", default=False)


class Crashes:
    """The faults that the processes of one role bring upon themselves."""

    def __init__(self, setup: Setup, role: str) -> None:
        self.ledger: Ledger = setup.ledger
        self.role = role
        self.storage = setup.storage
        self.poisoned = {each.when: each for each in setup.faults() if each.kind is Kind.POISON}
        self.stopped: set[str] = set()
        self.stops = {each.number for each in setup.faults() if each.kind is Kind.STOP}
        self.attempts: dict[str, int] = {}
        self._planned: dict[str, list[Fault]] = {}
        for fault in setup.faults():
            if fault.who == role and fault.kind in (
                Kind.CRASH,
                Kind.STOP,
                Kind.TWICE,
                Kind.UNDER,
            ):
                counter = fault.point
                if fault.kind is not Kind.CRASH:
                    # Counted apart, since both may be planned for the same pass.
                    counter += f", {fault.kind}"
                self._planned.setdefault(counter, []).append(fault)

    def reach(self, point: str, subject: str = "") -> None:
        """Pass a crash point; does not return if the plan has this pass."""
        for counter in (point, f"{point}, {Kind.STOP}", f"{point}, {Kind.UNDER}"):
            fault = self._counted(counter, subject)
            if fault is not None:
                self.strike(fault, subject)

    def repeat(self, send: Callable[[], object], subject: str) -> None:
        """Send what was just sent a second time, if the plan has this pass.

        If the broker does not answer, or somebody kills this process meanwhile, the message of
        another pass will do.
        """
        counter = f"publish, {Kind.TWICE}"
        planned = self._planned.get(counter)
        if not planned:
            return
        number = self.ledger.pass_by(f"{self.role} {counter}")
        if self.attempts.get(subject, 0) > SPARED_AFTER:
            return
        while planned and planned[0].when <= number:
            fault = planned[0]
            with self.ledger.alone(f"fault {fault.number}"):
                if not any(each["fault"] == fault.number for each in self.ledger.read(STRUCK)):
                    send()
                    pid = os.getpid()
                    self.ledger.write(STRUCK, fault=fault.number, pid=pid, subject=subject)
                    number = 0  # one fault is enough for one message
            planned.pop(0)

    def strike(self, fault: Fault, subject: str) -> None:
        """Write down that a fault happens now, and have it happen."""
        self.ledger.write(STRUCK, fault=fault.number, pid=os.getpid(), subject=subject)
        if fault.kind is Kind.STOP:
            self.stopped.add(subject)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault.kind is Kind.UNDER:
            until = time.monotonic() + PATIENCE
            while not self._was_restarted(fault) and time.monotonic() < until:
                time.sleep(0.02)
        elif fault.whole:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    def has_reported(self, subject: str) -> bool:
        """Whether a process that was stopped at this instance, if one was, has reported since."""
        stops = sum(
            record["fault"] in self.stops and record["subject"] == subject
            for record in self.ledger.read(STRUCK)
        )
        reports = sum(record["subject"] == subject for record in self.ledger.read(REPORTED))
        return bool(reports >= stops)

    def _was_restarted(self, fault: Fault) -> bool:
        return any(record["fault"] == fault.number for record in self.ledger.read(RESTARTED))

    def _counted(self, counter: str, subject: str) -> Fault | None:
        """Count a pass; the fault that is planned for it, or was put off until now."""
        planned = self._planned.get(counter)
        if not planned:
            return None
        number = self.ledger.pass_by(f"{self.role} {counter}")
        if self.attempts.get(subject, 0) > SPARED_AFTER:
            return None
        while planned and planned[0].when <= number:
            # Of the processes that find it planned or put off, one takes it.
            fault = planned.pop(0)
            if self.ledger.take(f"fault {fault.number}"):
                return fault
        return None


def install(setup: Setup, role: str) -> Crashes:
    """Wrap what this process will pass through."""
    crashes = Crashes(setup, role)
    _wrap_decisions(crashes)
    _wrap_commits(crashes)
    _wrap_messages(crashes)
    _hurry(timedelta(seconds=setup.resend))
    return crashes


def _wrap_decisions(crashes: Crashes) -> None:
    original = SessionStorage.transact

    @wraps(original)
    def transact(self: SessionStorage, event: Any) -> Any:
        name = NAMES.get(type(event).__name__)
        if name is None:
            return original(self, event)
        key = getattr(event, "key", None)
        subject = f"{self.uid} {key[0]}#{key[1]}" if isinstance(key, tuple) else self.uid
        mark = _doing.set((name, subject))
        try:
            transition = original(self, event)
        finally:
            _doing.reset(mark)
        if name == "finish" and subject in crashes.stopped:
            crashes.stopped.discard(subject)
            accepted = bool(transition.outcome)
            crashes.ledger.write(REPORTED, subject=subject, pid=os.getpid(), accepted=accepted)
        if name == "claim" and not isinstance(transition.outcome, Instance):
            return transition
        if name in ("finish", "extend") and not transition.outcome:
            return transition
        if name == "extend" and isinstance(key, tuple):
            record = transition.instances[key]
            crashes.ledger.write(
                EXTENDED,
                uid=self.uid,
                instance=record.name,
                attempt=record.attempt,
                until=record.due_at.isoformat() if record.due_at else None,
            )
        if name == "claim":
            crashes.attempts[subject] = transition.outcome.attempt
        crashes.reach(f"{name}, after the commit", subject)
        return transition

    SessionStorage.transact = transact  # type: ignore[method-assign]

    from triggers.storages.database import DatabaseStorageBackend

    original_deferred = DatabaseStorageBackend.decide_deferred

    @wraps(original_deferred)
    def decide_deferred(self: DatabaseStorageBackend, ref: int, hooks: Any) -> Any:
        crashes.reach("committed, not decided", self.uid)
        mark = _doing.set(("fire", self.uid))
        try:
            transition = original_deferred(self, ref, hooks)
        finally:
            _doing.reset(mark)
        crashes.reach("fire, after the commit", self.uid)
        return transition

    DatabaseStorageBackend.decide_deferred = decide_deferred  # type: ignore[method-assign]


def _wrap_commits(crashes: Crashes) -> None:
    """Stop right before what was decided becomes true."""

    def before(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def commit(self: Any, *args: Any, **kwargs: Any) -> Any:
            doing = _doing.get()
            if doing is not None:
                name, subject = doing
                crashes.reach(f"{name}, before the commit", subject)
            return original(self, *args, **kwargs)

        return commit

    BaseDatabaseWrapper.commit = before(BaseDatabaseWrapper.commit)  # type: ignore[method-assign]
    if crashes.storage == "redis":
        from triggers.storages.redis.link import Link
        from triggers.storages.redis.server import Server

        # One script is the whole commit: before it is sent, and before its answer is read.
        Server.write = before(_marked(Server.write))  # type: ignore[method-assign]
        original = Link._send

        @wraps(original)
        def send(self: Link, message: bytes) -> Any:
            socket = original(self, message)
            doing = _doing.get()
            if doing is not None and _committing.get():
                name, subject = doing
                crashes.reach(f"{name}, commit sent and not answered", subject)
            return socket

        Link._send = send  # type: ignore[method-assign]


def _marked(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def write(*args: Any, **kwargs: Any) -> Any:
        mark = _committing.set(True)
        try:
            return original(*args, **kwargs)
        finally:
            _committing.reset(mark)

    return write


def _wrap_messages(crashes: Crashes) -> None:
    original_run = CeleryTaskRunner.run

    @wraps(original_run)
    def run(self: CeleryTaskRunner, manager: Any, task_instance: Any) -> None:
        subject = f"{manager.storage.uid} {task_instance.name}"
        original_run(self, manager, task_instance)
        crashes.repeat(partial(original_run, self, manager, task_instance), subject)
        crashes.reach("after the publish", subject)

    CeleryTaskRunner.run = run  # type: ignore[method-assign]

    original_received = TriggerTask.run

    @wraps(original_received)
    def received(self: TriggerTask, manager: Any, instance: str) -> Any:
        crashes.reach("message received", f"{manager['storage']['uid']} {instance}")
        return original_received(self, manager, instance)

    TriggerTask.run = received  # type: ignore[method-assign]


def _hurry(resend: timedelta) -> None:
    """Shorten the minute after which recovery takes up what nobody has taken up."""
    for name, module in list(sys.modules.items()):
        if name.startswith("triggers."):
            for constant in ("RESEND_AFTER", "DEFERRED_GRACE"):
                if hasattr(module, constant):
                    setattr(module, constant, resend)
