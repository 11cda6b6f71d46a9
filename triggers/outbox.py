"""What a commit left to be done: handing instances to runners, hooks, and cascades.

Everything here was committed as to be done before it is tried. What fails is logged, and recovery
(:mod:`triggers.recovery`) tries it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triggers import payload
from triggers.engine import Pending, Transition
from triggers.engine.recovering import Done
from triggers.engine.state import InstanceKey
from triggers.logging import log
from triggers.runners import task_runners
from triggers.types import FireResult

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.storages.session import SessionStorage
    from triggers.types import TaskInstance


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


@contextmanager
def inside(storage: SessionStorage) -> Iterator[None]:
    """Code in this block (a task, a hook) is part of what goes on in the session."""
    token = _inside.set(_session(storage))
    try:
        yield
    finally:
        _inside.reset(token)


def is_inside(storage: SessionStorage) -> bool:
    """Whether this is called by a task or a hook of the session."""
    return _inside.get() == _session(storage)


def follow_up(manager: TriggerManager, transition: Transition) -> None:
    """Do what a transition left to be done."""
    for key in transition.scheduled:
        _dispatch(manager, transition, key)
    for pending in transition.pending:
        try:
            with inside(manager.storage):
                _fulfil(manager, pending)
        except Exception:
            # What comes after it waits too: a hook is called after the cascade that it is about.
            message = "%s failed; recovery will repeat it"
            log(logging.ERROR, message, pending.kind, exc_info=True, **fields(manager, "hook"))
            break


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
            message = "The session has recorded %d of the %d firings that it may; then fire refuses"
            about = {"action": "limit", "session": manager.storage.uid}
            log(logging.WARNING, message, transition.seq, limit, **about)


def fields(
    manager: TriggerManager, action: str, instance: TaskInstance | None = None
) -> dict[str, str]:
    """Fields of a log record about a session, or one of its instances."""
    about = {"action": action, "session": manager.storage.uid}
    if instance is not None:
        about.update(task=instance.task_name, instance=instance.name)
    return about


def _dispatch(manager: TriggerManager, transition: Transition, key: InstanceKey) -> None:
    name = "?"
    try:
        instance = manager.storage.present_written(transition, key)
        name = manager.runner_name(instance.config)
        task_runners.get(name).run(manager, instance)
    except Exception:
        message = "Runner %r did not take %s; recovery will send it again"
        its_name = f"{key[0]}#{key[1]}"
        about = {**fields(manager, "dispatch"), "task": key[0], "instance": its_name}
        log(logging.ERROR, message, name, its_name, exc_info=True, **about)


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
