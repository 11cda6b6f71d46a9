"""What a commit left to be done: handing instances to runners, hooks, and cascades.

Everything here was committed as to be done before it is tried. What fails is logged, and recovery
(:mod:`triggers.recovery`) tries it again.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triggers import payload
from triggers.engine import Pending, Transition
from triggers.engine.events import Done
from triggers.logging import log
from triggers.runners import task_runners

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.types import TaskInstance


@dataclass(frozen=True, slots=True)
class Cascade:
    """The cascade that a manager's own ``fire`` is being called for.

    :ivar ref: the mark that the firing fulfils.
    :ivar cause: the instance whose outcome it is.
    """

    trigger: str
    ref: str
    cause: str
    depth: int


_cascade: ContextVar[Cascade | None] = ContextVar("triggers_cascade", default=None)


def take_cascade(trigger: str) -> Cascade | None:
    """The cascade that ``fire`` is being called for; only its first firing fulfils it."""
    cascade = _cascade.get()
    if cascade is None or cascade.trigger != trigger:
        return None
    _cascade.set(None)
    return cascade


def follow_up(manager: TriggerManager, transition: Transition) -> None:
    """Do what a transition left to be done."""
    for key in transition.scheduled:
        record = transition.instances[key]
        _dispatch(manager, manager.storage.present(record, transition.plan))
    for pending in transition.pending:
        try:
            _fulfil(manager, pending)
        except Exception:
            message = "%s failed; recovery will repeat it"
            log(logging.ERROR, message, pending.kind, exc_info=True, **fields(manager, "hook"))


def fields(
    manager: TriggerManager, action: str, instance: TaskInstance | None = None
) -> dict[str, str]:
    """Fields of a log record about a session, or one of its instances."""
    about = {"action": action, "session": manager.storage.uid}
    if instance is not None:
        about.update(task=instance.task_name, instance=instance.name)
    return about


def _dispatch(manager: TriggerManager, instance: TaskInstance) -> None:
    name = manager.runner_name(instance.config)
    try:
        task_runners.get(name).run(manager, instance)
    except Exception:
        message = "Runner %r did not take %s; recovery will send it again"
        about = fields(manager, "dispatch", instance)
        log(logging.ERROR, message, name, instance.name, exc_info=True, **about)


def _fulfil(manager: TriggerManager, pending: Pending) -> None:
    data = pending.data
    if pending.kind == "cascade":
        cascade = Cascade(data["trigger"], pending.ref, data["cause"], data["depth"])
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
    manager.storage.transact(Done(ref=pending.ref))
