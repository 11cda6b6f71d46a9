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
from triggers.logging import Fields, log

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
_pace = IDLE
"""The shortest time between two heartbeats of one attempt so far."""
_busy_at = 0.0
"""When an attempt has begun or ended last."""


def begin(attempt: Attempt) -> None:
    """Renew the lease of an attempt from now on, until :func:`end`.

    An attempt in a test's transaction, which no other thread can see, is left alone.
    """
    global _busy_at, _pace, _thread
    storage = attempt.manager.storage
    if storage.is_confined:
        return
    pace, now = storage.limits.heartbeat, time.monotonic()
    next_beat = now + pace
    with _changed:
        _busy_at, _pace = now, min(_pace, pace)
        _watched[attempt.token] = _Watched(attempt, next_beat)
        if _thread is None or not _thread.is_alive():
            thread = threading.Thread(target=_run, name="triggers-heartbeat", daemon=True)
            thread.start()
            _thread = thread
        elif next_beat < _wakes_at:
            _changed.notify_all()


def end(attempt: Attempt) -> None:
    """Let the lease of an attempt be: it has ended."""
    global _busy_at
    with _changed:
        _busy_at = time.monotonic()
        _watched.pop(attempt.token, None)


def _run() -> None:
    while True:
        due = _wait()
        if due is None:
            return
        for watched in due:
            _begin_beat(watched)


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
            if _watched:
                _wakes_at = min(each.next_beat for each in _watched.values())
            elif now - _busy_at >= IDLE:
                _thread = None
                return None
            else:
                # Not longer: an attempt that begins now has its first heartbeat after that, so it
                # need not wake this thread; most attempts end before.
                _wakes_at = min(now + _pace, _busy_at + IDLE)
            _changed.wait(_wakes_at - now)


def _begin_beat(watched: _Watched) -> None:
    """Renew a lease in a thread of its own: one that has to wait must not cost others theirs."""
    with _changed:
        watched.next_beat = time.monotonic() + watched.attempt.manager.storage.limits.heartbeat
        if watched.is_beating:
            return
        watched.is_beating = True
    name = "triggers-heartbeat-beat"
    try:
        threading.Thread(target=_beat, args=[watched], name=name, daemon=True).start()
    except RuntimeError:  # the system has no more threads to give; perhaps the next time
        watched.is_beating = False
        log(
            logging.WARNING,
            "A heartbeat of %s could not begin",
            watched.attempt.instance.name,
            exc_info=True,
            action="heartbeat",
            session=watched.attempt.manager.storage.uid,
            instance=watched.attempt.instance.name,
        )


def _beat(watched: _Watched) -> None:
    attempt = watched.attempt
    storage, name = attempt.manager.storage, attempt.instance.name
    about: Fields = {"action": "heartbeat", "session": storage.uid, "instance": name}
    try:
        is_ours = _renew(attempt)
    except InstanceNotFound:
        is_ours = False
    except Exception:
        # The lease outlasts more than one heartbeat.
        message = "A heartbeat failed of %s; the next one follows"
        log(logging.WARNING, message, name, exc_info=True, **about)
        is_ours = True
    finally:
        watched.is_beating = False
        # Threads have connections of their own, and this one ends.
        if settings.configured:
            connections.close_all()
    with _changed:
        is_watched = attempt.token in _watched
        if is_ours or attempt.is_reporting or not is_watched:
            return
        del _watched[attempt.token]
    attempt.is_lost = True
    message = "%s was taken away from this worker: its lease had run out, or it was changed"
    log(logging.WARNING, message, name, **about)


def _renew(attempt: Attempt) -> bool:
    """Renew a lease; whether the instance is still the attempt's own."""
    storage = attempt.manager.storage
    own = type(storage)(storage.uid, **storage.options)
    event = Extend(key=attempt.key, token=attempt.token, lease=storage.limits.lease_time)
    return bool(own.transact(event).outcome)


def _forget() -> None:
    """Start afresh in a forked process, which has none of its parent's threads or attempts."""
    global _thread, _changed, _wakes_at
    _watched.clear()
    _changed = threading.Condition()
    _thread = None
    _wakes_at = 0.0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
