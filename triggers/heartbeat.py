"""Heartbeats: how the storage knows that the workers which have started an instance still live.

One thread per process renews the leases of all instances that run in it. It is started with the
first one, and ends after a minute without any. It opens storages of its own, so that it shares
nothing with the tasks that it watches over. A task that runs in a transaction may have locked what
its heartbeat must change; such a heartbeat waits in a thread of its own, so that others go on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connections

from triggers.engine.lifecycle import Extend
from triggers.exceptions import InstanceNotFound
from triggers.logging import log

if TYPE_CHECKING:
    from triggers.attempt import Attempt

IDLE = 60.0
"""Seconds after which the thread ends if there is nothing to watch over."""


@dataclass(slots=True)
class _Watched:
    attempt: Attempt
    next_beat: float
    is_beating: bool = False


_watched: dict[str, _Watched] = {}
_changed = threading.Condition()
_thread: threading.Thread | None = None
_wakes_at = 0.0


def begin(attempt: Attempt) -> None:
    """Renew the lease of an attempt from now on, until :func:`end`.

    An attempt in a test's transaction, which no other thread can see, is left alone.
    """
    global _thread
    storage = attempt.manager.storage
    if storage.is_confined:
        return
    next_beat = time.monotonic() + storage.limits.heartbeat
    with _changed:
        _watched[attempt.token] = _Watched(attempt, next_beat)
        if _thread is None:
            _thread = threading.Thread(target=_run, name="triggers-heartbeat", daemon=True)
            _thread.start()
        elif next_beat < _wakes_at:
            _changed.notify_all()


def end(attempt: Attempt) -> None:
    """Let the lease of an attempt be: it has ended."""
    with _changed:
        _watched.pop(attempt.token, None)


def _run() -> None:
    while True:
        due = _wait()
        if due is None:
            return
        for watched in due:
            if watched.attempt.is_in_transaction:
                _beat_apart(watched)
            else:
                _beat(watched)
        # A connection of this thread that waits for the next beat would only be in the way.
        if settings.configured:
            connections.close_all()


def _wait() -> list[_Watched] | None:
    """Wait until heartbeats are due; ``None`` when the thread may end."""
    global _thread, _wakes_at
    with _changed:
        while True:
            now = time.monotonic()
            due = [each for each in _watched.values() if each.next_beat <= now]
            if due:
                _wakes_at = 0.0
                return due
            idle = not _watched
            _wakes_at = min((each.next_beat for each in _watched.values()), default=now + IDLE)
            if not _changed.wait(_wakes_at - now) and idle and not _watched:
                _thread = None
                return None


def _beat_apart(watched: _Watched) -> None:
    """Renew a lease in a thread that may have to wait; one at a time for each attempt."""

    def work() -> None:
        try:
            _beat(watched)
        finally:
            watched.is_beating = False
            connections.close_all()

    if not watched.is_beating:
        watched.is_beating = True
        threading.Thread(target=work, name="triggers-heartbeat-apart", daemon=True).start()
    with _changed:
        watched.next_beat = time.monotonic() + watched.attempt.manager.storage.limits.heartbeat


def _beat(watched: _Watched) -> None:
    attempt = watched.attempt
    storage = attempt.manager.storage
    own = type(storage)(storage.uid, **storage.options)
    lease = storage.limits.lease_time
    about = {"action": "heartbeat", "session": storage.uid, "instance": attempt.instance.name}
    try:
        event = Extend(key=attempt.key, token=attempt.token, lease=lease)
        is_ours = own.transact(event).outcome
    except InstanceNotFound:
        is_ours = False
    except Exception:
        # The lease outlasts more than one heartbeat.
        log(logging.WARNING, "A heartbeat failed; the next one follows", exc_info=True, **about)
        is_ours = True
    with _changed:
        watched.next_beat = time.monotonic() + storage.limits.heartbeat
        if not is_ours and _watched.pop(attempt.token, None) is not None:
            attempt.is_lost = True
            message = "%s was taken away from this worker: its lease had run out, or it was changed"
            log(logging.WARNING, message, attempt.instance.name, **about)


def _forget() -> None:
    """Start afresh in a forked process, which has none of its parent's threads or attempts."""
    global _thread, _changed, _wakes_at
    _watched.clear()
    _changed = threading.Condition()
    _thread = None
    _wakes_at = 0.0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
