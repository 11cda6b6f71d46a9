"""Publishing to the broker of a Celery app: in bounded time, and not at all for a while after that
has failed.

Celery itself tries for seconds to reach a broker that refuses connections, and for ever to reach a
Redis that accepts them and does not answer. A caller who fires a trigger need not wait for either:
what is to be sent was committed before, and recovery sends it later.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import LimitExceeded, OperationalError
from kombu.pools import ProducerPool

BROKER_ERRORS = (OperationalError, LimitExceeded, OSError)
"""What says that the broker could not be reached, or did not answer in time."""

Send = Callable[..., Any]


class Broker:
    """How this process publishes to the broker of one Celery app.

    The connections are its own, since those of the app wait without limit.

    :ivar address: where it is, without the password.

    :param timeout: seconds that one publishing may take, about.
    :param pause: seconds for which nothing is tried after it has failed.
    """

    def __init__(self, app: Celery, timeout: float, pause: float) -> None:
        self.timeout = timeout
        self.pause = pause
        # Half for connecting and half for what follows, so that both together keep the time.
        self._step = timeout / 2
        connection = _impatient(app, self._step)
        self.address = connection.as_uri()
        limit = app.conf.broker_pool_limit
        self._connections = connection.Pool(limit=limit)
        self._producers = ProducerPool(self._connections, limit=limit)
        self._lock = threading.Lock()
        self._fails = False
        self._paused_until = 0.0

    def publish(self, send: Send) -> bool:
        """Have something published.

        :param send: called with options of ``apply_async`` that it must pass on.
        :returns: whether it was tried; it is not for a while after a failure.
        :raises OperationalError: the broker did not answer; or another of ``BROKER_ERRORS``.
        """
        if not self._admits():
            return False
        started = time.monotonic()
        try:
            try:
                self._publish(send)
            except BROKER_ERRORS:
                # A connection that has been idle may be dead, which shows at once.
                if time.monotonic() - started > self.timeout / 4:
                    raise
                self._publish(send)
        except BROKER_ERRORS:
            with self._lock:
                self._fails = True
                self._paused_until = time.monotonic() + self.pause
            raise
        # No lock: who reads an old value tries a little later, or a little earlier.
        self._fails = False
        return True

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        self._producers.force_close_all(close_pool=False)
        self._connections.force_close_all(close_pool=False)

    def _publish(self, send: Send) -> None:
        # Entering the producer too: leaving it with an error replaces its connection.
        with self._producers.acquire(block=True, timeout=self._step) as producer:
            send(producer=producer, retry=False, timeout=self._step, confirm_timeout=self._step)

    def _admits(self) -> bool:
        """Whether to try: always, or while it fails, once in a while."""
        if not self._fails:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._paused_until:
                return False
            # This one finds out; the others need not wait for the answer.
            self._paused_until = now + self.pause
            return True


def broker_of(app: Celery, timeout: float, pause: float) -> Broker:
    """The broker of an app, as this process knows it; see :class:`Broker`."""
    with _making:
        known = _brokers.setdefault(app, {})
        if (timeout, pause) not in known:
            known[timeout, pause] = Broker(app, timeout, pause)
        return known[timeout, pause]


def close_brokers() -> None:
    """Close this process's connections to every broker, and try again what has failed before."""
    with _making:
        for known in _brokers.values():
            for broker in known.values():
                broker.close()
        _brokers.clear()


def _impatient(app: Celery, step: float) -> Connection:
    """A connection, not opened yet, on which nothing takes longer than ``step`` seconds."""
    connection = app.connection_for_write(connect_timeout=step)
    options: dict[str, Any] = {
        # Each address once, and no pause in between.
        "max_retries": len(connection.alt or [""]) - 1,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
    }
    kind = connection.transport.driver_type
    if kind == "redis":
        options |= {
            "socket_timeout": step,
            "socket_connect_timeout": step,
            "retry_on_timeout": False,
        }
    elif kind == "amqp":
        options |= {"read_timeout": step, "write_timeout": step}
    impatient: Connection = app.connection_for_write(
        connect_timeout=step, transport_options=options
    )
    return impatient


_making = threading.Lock()
_brokers: WeakKeyDictionary[Celery, dict[tuple[float, float], Broker]] = WeakKeyDictionary()


def _start_afresh() -> None:
    """In a forked process: the connections belong to its parent, and a lock may be held there."""
    global _making, _brokers
    _inherited.append(_brokers)  # kept, for closing them would end them for the parent too
    _making = threading.Lock()
    _brokers = WeakKeyDictionary()


_inherited: list[Any] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
