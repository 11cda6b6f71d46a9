"""What follows a commit: telling who watches, handing instances to runners, hooks, and cascades.

All but the telling was committed as to be done before it is tried. What fails of it is logged, and
recovery (:mod:`triggers.recovery`) tries it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triggers import changes, payload, signals
from triggers.changes import Changes, StatusChange
from triggers.engine import Pending, Transition
from triggers.engine.recovering import Done
from triggers.engine.state import InstanceKey
from triggers.exceptions import NotSent
from triggers.logging import Action, Fields, is_shown, log
from triggers.runners import task_runners
from triggers.types import FireResult, Status

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.storages.session import SessionStorage


WARN_AT = (50, 80, 95)
"""Percent of the firings that a session may record, at which a warning is logged."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """The cascade that a manager's own ``fire`` is being called for.

    :ivar session: storage name and uid of the session that it belongs to.
    :ivar ref: the mark that the firing fulfils.
    :ivar cause: the instance whose outcome it is.
    :ivar also: further names that are fired with the trigger.
    """

    session: tuple[str, str]
    trigger: str
    also: tuple[str, ...]
    ref: str
    cause: str
    depth: int


_cascade: ContextVar[Cascade | None] = ContextVar("triggers_cascade", default=None)


def take_cascade(storage: SessionStorage, trigger: str) -> Cascade | None:
    """The cascade that ``fire`` is being called for; only its first firing fulfils it.

    A manager's own ``fire`` may fire into other sessions as well, even the same name.
    """
    cascade = _cascade.get()
    if cascade is None or (cascade.session, cascade.trigger) != (_session(storage), trigger):
        return None
    _cascade.set(None)
    return cascade


_inside: ContextVar[tuple[str, str] | None] = ContextVar("triggers_inside", default=None)
_is_at_work: ContextVar[bool] = ContextVar("triggers_is_at_work", default=False)
"""Whether a task is running here, or a receiver or a hook that is called as it has fired."""


@contextmanager
def inside(storage: SessionStorage) -> Iterator[None]:
    """Code in this block (a task, a hook) is part of what goes on in the session."""
    token = _inside.set(_session(storage))
    try:
        yield
    finally:
        _inside.reset(token)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Code in this block is about another instance than the one whose task has led to it.

    What is meant for that task must not end the claim or the report of this one.
    """
    token = _is_at_work.set(False)
    try:
        yield
    finally:
        _is_at_work.reset(token)


@contextmanager
def at_work(storage: SessionStorage) -> Iterator[None]:
    """Code in this block is the task's own: what is meant for the task can be raised in it."""
    token = _is_at_work.set(True)
    try:
        with inside(storage):
            yield
    finally:
        _is_at_work.reset(token)


def is_inside(storage: SessionStorage) -> bool:
    """Whether this is called by a task or a hook of the session."""
    return _inside.get() == _session(storage)


@contextmanager
def _outside() -> Iterator[None]:
    """Code in this block (a receiver) is no part of what goes on in any session."""
    cascade, session = _cascade.set(None), _inside.set(None)
    try:
        yield
    finally:
        _inside.reset(session)
        _cascade.reset(cascade)


def is_watched(manager: TriggerManager) -> bool:
    """Whether anybody wants to know what this manager commits."""
    return is_shown(logging.INFO) or signals.is_heard(type(manager))


def follow_up(manager: TriggerManager, transition: Transition) -> list[InstanceKey]:
    """Do what is to be done after a commit.

    :returns: the instances that could not be handed on, as their broker does not answer.
    :raises celery.exceptions.SoftTimeLimitExceeded: the time of the task is up that has led to
        the commit and still runs. All was done or tried by then, and what has failed is left to
        recovery.
    """
    told = tell(manager, transition)
    handed = {key: _dispatch(manager, transition, key) for key in transition.scheduled}
    fulfilled = fulfil(manager, transition.pending)
    if _is_at_work.get():
        for failure in (told, *handed.values(), fulfilled):
            if failure is not None and signals.is_time_up(failure):
                raise failure
    return [key for key, failure in handed.items() if isinstance(failure, NotSent)]


def tell(manager: TriggerManager, transition: Transition) -> Exception | None:
    """Log what a commit has changed, and send signals about it. Never raises.

    :returns: what went wrong and may concern who has led to the commit; ``None``: nothing did.
    """
    is_heard = signals.is_heard(type(manager))
    if not is_heard and not is_shown(logging.INFO):
        return None
    try:
        if is_heard or is_shown(logging.DEBUG):
            changed = changes.found(manager.storage, transition)
        else:
            changed = changes.told(transition)
        if is_shown(logging.INFO):
            _narrate(manager, changed)
        if is_heard:
            result = transition.outcome if isinstance(transition.outcome, FireResult) else None
            with _outside():
                return signals.send(manager, changed, result)
    except Exception as error:
        message = "What a commit has changed could not be found out, so no signals are sent of it"
        log(logging.ERROR, message, exc_info=True, **fields(manager, "signal"))
        return error
    return None


def fulfil(manager: TriggerManager, marks: Iterable[Pending]) -> Exception | None:
    """Call the hooks, and carry out the cascades, that these marks stand for.

    :returns: what one of them has raised, which is logged; ``None``: nothing was raised.
    """
    for pending in marks:
        try:
            with inside(manager.storage):
                _fulfil(manager, pending)
        except Exception as error:
            # What comes after it waits too: a hook is called after the cascade that it is about.
            message = "%s failed; recovery will repeat it"
            about = fields(manager, "hook", pending.data.get("instance", ""))
            about["trigger"] = pending.data.get("trigger", "")
            log(logging.ERROR, message, pending.kind, exc_info=True, **about)
            return error
    return None


def warn_of_limit(manager: TriggerManager, transition: Transition) -> None:
    """Say so long before a session has recorded as many firings as it may."""
    limit = manager.storage.limits.firings_limit
    if transition.seq * 2 < limit:
        return
    before = transition.seq - len(transition.firings)
    fired = transition.outcome
    if isinstance(fired, FireResult) and fired.seq is not None and not fired.duplicate:
        # A storage that decides where the data live does not send firings back.
        before = min(before, fired.seq - 1)
    for percent in WARN_AT:
        if before < limit * percent / 100 <= transition.seq:
            message = "Session %r has recorded %d of the %d firings that it may; then fire refuses"
            args = (manager.storage.uid, transition.seq, limit)
            log(logging.WARNING, message, *args, **fields(manager, "limit"))


def fields(manager: TriggerManager, action: Action, instance: str = "") -> Fields:
    """Fields of a log record about a session, or one of its instances."""
    return {"action": action, "session": manager.storage.uid, "instance": instance}


_ACTIONS: dict[Status, Action] = {
    Status.UNSTARTED: "create",
    Status.SCHEDULED: "schedule",
    Status.RUNNING: "claim",
    Status.FINISHED: "finish",
    Status.FAILED: "fail",
    Status.REPLAYED: "replay",
    Status.SKIPPED: "skip",
    Status.ABANDONED: "abandon",
}
"""What has happened to an instance that has got a status."""

_NOTABLE = frozenset({Status.FAILED, Status.REPLAYED, Status.SKIPPED})
"""Statuses that are logged as INFO: the others are what happens when all goes well."""


def _narrate(manager: TriggerManager, changed: Changes) -> None:
    """Log what a commit has changed."""
    for firing in changed.firings if is_shown(logging.DEBUG) else ():
        about = fields(manager, "fire", firing.cause or "")
        about["trigger"] = firing.trigger
        log(logging.DEBUG, "Firing %d: %s", firing.seq, firing.trigger, **about)
    for change in changed.statuses:
        level = logging.INFO if change.new in _NOTABLE else logging.DEBUG
        if is_shown(level):
            _narrate_change(manager, change, level)


def _narrate_change(manager: TriggerManager, change: StatusChange, level: int) -> None:
    action = _ACTIONS[change.new]
    if change.new is Status.REPLAYED and change.old is Status.RUNNING:
        action = "retry"
    about = fields(manager, action, change.instance)
    about["trigger"] = change.trigger
    message, args = "%s: %s", [change.instance, change.new.value]
    if change.old is not None:
        message += ", was %s"
        args.append(change.old.value)
    if change.reason:
        message += ": %s"
        args.append(change.reason)
    log(level, message, *args, **about)


def _dispatch(
    manager: TriggerManager, transition: Transition, key: InstanceKey
) -> Exception | None:
    """Hand an instance to its runner; returns what that has raised, which is logged."""
    name, instance_name = "?", f"{key[0]}#{key[1]}"
    try:
        instance = manager.storage.present_written(transition, key)
        name = manager.runner_name(instance.config)
        task_runners.get(name).run(manager, instance)
    except NotSent as error:
        return error
    except Exception as error:
        message = "Runner %r did not take %s; recovery will send it again"
        about = fields(manager, "dispatch", instance_name)
        log(logging.ERROR, message, name, instance_name, exc_info=True, **about)
        return error
    return None


def _session(storage: SessionStorage) -> tuple[str, str]:
    return storage.name, storage.uid


def _fulfil(manager: TriggerManager, pending: Pending) -> None:
    data = pending.data
    if pending.kind == "cascade":
        session = _session(manager.storage)
        cascade = Cascade(
            session=session,
            trigger=data["trigger"],
            also=tuple(data.get("also", ())),
            ref=pending.ref,
            cause=data["cause"],
            depth=data["depth"],
        )
        token = _cascade.set(cascade)
        try:
            manager.fire(data["trigger"], payload.decode(data["kwargs"]))
        finally:
            _cascade.reset(token)
    elif pending.kind == "post_fire":
        scheduled = [manager.storage[name] for name in data["scheduled"]]
        manager._post_fire(data["trigger"], scheduled)
    elif pending.kind == "post_replay":
        manager._post_replay(manager.storage[data["instance"]])
    else:
        manager._post_skip(manager.storage[data["instance"]], data["cascade"])
    manager.apply(Done(ref=pending.ref))
