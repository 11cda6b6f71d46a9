"""Signals of Django's: what was fired in a session, and which instances have another status.

They are sent after the commit, in the process that has committed it: a view, a worker, recovery. No
lock of ours is held then, and no transaction is open but one that the caller has around it on
another database. Inside a transaction on the database that stores the session they wait for its
commit; if it is rolled back, nothing is sent.

Of one commit, first the firings are sent in their order, then the changes of status in the order in
which they began; after that, instances are handed to their runners. A receiver may fire triggers.
What comes of that is sent when the present signals have been, so receivers never see one thing
within another, and in each thread they see commits in their order; only what such a firing makes
ready is handed on before it is told. Across threads, processes and
hosts there is no order: compare ``firing.seq``, or look into the session.

Each commit is sent once at most. It is not sent at all if the process dies just after the commit,
or if the answer of the storage was lost. What must happen is a task, or a hook of the manager:
those are part of the commit, and recovery repeats them.

An exception in a receiver is logged, and changes nothing else. Only Celery's
``SoftTimeLimitExceeded`` is meant for the task, not for the receiver: if a task fires, its call of
``fire`` raises that too, when what follows the commit is done (not in a transaction of the task's
own: there Django calls what follows, and logs what it raises). A receiver holds up what follows in
its thread, the handing on included, so it should be brief.

While nobody is connected, nothing is prepared and nothing is read. With somebody connected, the
Redis storage reads the firing back, one round trip more.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.dispatch import Signal

from triggers import payload
from triggers.logging import Fields, log
from triggers.types import FireResult, Firing

if TYPE_CHECKING:
    from triggers.changes import Changes
    from triggers.manager import TriggerManager


@dataclass(frozen=True, slots=True)
class FiredTrigger:
    """A firing, as receivers of :data:`trigger_fired` get it.

    :ivar seq: position in the session's history, an ``int`` from 1.
    :ivar trigger: the name that was fired.
    :ivar also: further names that were fired with it, as one (a tuple of ``str``).
    :ivar cause: name of the instance whose outcome it is, such as ``t_x#0``; ``None`` if it came
        from outside.
    :ivar key: the caller's idempotency key, or ``None``.
    :ivar at: when it was decided, an aware ``datetime`` in UTC.
    """

    seq: int
    trigger: str
    also: tuple[str, ...]
    cause: str | None
    key: str | None
    at: datetime
    _kwargs: str

    @property
    def kwargs(self) -> dict[str, Any]:
        """What was fired with it: a fresh copy each time, so receivers do not meet in it."""
        return payload.decode(self._kwargs)

    @classmethod
    def of(cls, firing: Firing) -> FiredTrigger:
        """A firing that was recorded."""
        return cls(
            firing.seq,
            firing.trigger,
            firing.also,
            firing.cause,
            firing.key,
            firing.at,
            firing.kwargs,
        )


class CommitSignal(Signal):
    """A signal of this module. Who fails in it is named in the log of ``triggers``."""

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        # Django's would not name the session, and fails itself for receivers without a name.
        pass


trigger_fired = CommitSignal(use_caching=True)
"""A trigger was fired and recorded: from outside, as the outcome of an instance, or by a deadline.

Arguments that receivers get:

* ``sender``: the class of the manager that has committed it.
* ``manager``: that :class:`~triggers.manager.TriggerManager`, for looking further, or for firing.
* ``session``: uid of the session, a ``str``.
* ``trigger``: the name that was fired, a ``str``.
* ``firing``: a :class:`FiredTrigger`: ``seq``, ``kwargs``, ``cause``, ``at`` and so on.
* ``result``: the :class:`~triggers.types.FireResult` that the call of ``fire`` returns; ``None``
  for a firing that nobody has called: a cascade that was decided with what caused it, an outcome.
"""

instance_status_changed = CommitSignal(use_caching=True)
"""An instance has been created, or has another status than before the commit.

Sent once for each instance and commit: who was created and scheduled by one firing is sent as new
and ``scheduled``. Not sent if an instance takes a further trigger and waits on, gets metadata, or
is removed with its session.

Arguments that receivers get:

* ``sender``: the class of the manager that has committed it.
* ``manager``: that :class:`~triggers.manager.TriggerManager`; ``manager.storage[instance]`` is the
  instance, as it is by then.
* ``session``: uid of the session, a ``str``.
* ``task``: name of the task, a ``str`` such as ``t_x``.
* ``instance``: name of the instance, a ``str`` such as ``t_x#0``.
* ``old_status``: the :class:`~triggers.types.Status` before; ``None`` if the instance is new.
* ``new_status``: the :class:`~triggers.types.Status` after.
* ``at``: when that was decided, an aware ``datetime`` in UTC.
"""


def is_heard(sender: type[TriggerManager]) -> bool:
    """Whether anybody listens to what managers of this class commit."""
    # The lists first: in most projects both are empty, and this is asked at every commit.
    if not trigger_fired.receivers and not instance_status_changed.receivers:
        return False
    return trigger_fired.has_listeners(sender) or instance_status_changed.has_listeners(sender)


LONGEST_CHAIN = 10
"""How many firings of receivers may follow from one another before receivers are told no more."""


class _Outgoing(threading.local):
    """What this thread is still to send; somebody further up is sending while there is a queue.

    :ivar depth: how many firings of receivers led to what is being sent.
    """

    queue: deque[tuple[int, CommitSignal, TriggerManager, dict[str, Any]]] | None = None
    depth = 0


_outgoing = _Outgoing()


def is_time_up(error: BaseException) -> bool:
    """Whether Celery has raised this, wherever the process was, as a task's soft limit has passed.

    :param error: what was raised.
    """
    # Who has not loaded the module has not raised it either.
    limit = getattr(sys.modules.get("billiard.exceptions"), "SoftTimeLimitExceeded", None)
    return limit is not None and isinstance(error, limit)


def send(manager: TriggerManager, changes: Changes, result: FireResult | None) -> Exception | None:
    """Send what a commit has changed. Raises nothing that a receiver raises.

    Called by a receiver (because it fires), it leaves the sending to who has called that.

    :param result: what the call of ``fire`` that has led to the commit returns, if one has.
    :returns: that the time of a task was up meanwhile, for its sake; else ``None``.
    """
    made = _signals_of(manager, changes, result)
    queue = _outgoing.queue
    if queue is not None:
        depth = _outgoing.depth + 1
        if depth <= LONGEST_CHAIN:
            queue.extend((depth, *each) for each in made)
        else:
            _give_up(manager, changes)
        return None
    queue = _outgoing.queue = deque((0, *each) for each in made)
    time_up: Exception | None = None
    try:
        while queue:
            _outgoing.depth, signal, who, arguments = queue.popleft()
            time_up = _send(signal, who, arguments) or time_up
    finally:
        _outgoing.queue = None
    return time_up


def _give_up(manager: TriggerManager, changes: Changes) -> None:
    """Say that receivers fire what they listen to; they are not told of what came of it."""
    message = (
        "%d firings of receivers have followed from one another; no receiver is told of the next "
        "one. A receiver that fires should look at 'trigger' first"
    )
    trigger = changes.firings[0].trigger if changes.firings else ""
    about: Fields = {"action": "signal", "session": manager.storage.uid, "trigger": trigger}
    log(logging.ERROR, message, LONGEST_CHAIN, **about)


def _signals_of(
    manager: TriggerManager, changes: Changes, result: FireResult | None
) -> Iterator[tuple[CommitSignal, TriggerManager, dict[str, Any]]]:
    for firing in changes.firings:
        arguments: dict[str, Any] = {
            "trigger": firing.trigger,
            "firing": FiredTrigger.of(firing),
            "result": result if result is not None and result.seq == firing.seq else None,
        }
        yield trigger_fired, manager, arguments
    for change in changes.statuses:
        arguments = {
            "task": change.key[0],
            "instance": change.instance,
            "old_status": change.old,
            "new_status": change.new,
            "at": change.at,
        }
        yield instance_status_changed, manager, arguments


def _send(
    signal: CommitSignal, manager: TriggerManager, arguments: dict[str, Any]
) -> Exception | None:
    """Send one signal; what receivers raise is logged.

    :returns: that the time of a task was up meanwhile; else ``None``.
    """
    name = "trigger_fired" if signal is trigger_fired else "instance_status_changed"
    about: Fields = {
        "action": "signal",
        "session": manager.storage.uid,
        "trigger": arguments.get("trigger", ""),
        "instance": arguments.get("instance", ""),
    }
    try:
        answers = signal.send_robust(
            type(manager), manager=manager, session=about["session"], **arguments
        )
    except Exception as error:
        # Asynchronous receivers cannot be called from within an event loop, for example.
        message = "%s could not be sent to all of its receivers"
        log(logging.ERROR, message, name, exc_info=True, **about)
        return error if is_time_up(error) else None
    time_up: Exception | None = None
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            message = "Receiver %s of %s raised %s: %s"
            args = (_name_of(receiver), name, type(answer).__name__, answer)
            log(logging.ERROR, message, *args, exc_info=answer, **about)
            time_up = answer if is_time_up(answer) else time_up
    return time_up


def _name_of(receiver: Any) -> str:
    name = getattr(receiver, "__qualname__", None)
    return repr(receiver) if name is None else f"{receiver.__module__}.{name}"
