"""Why has this not run, why did it, and what came of it: a session explained.

==============  ================================================================================
``look``        one look at everything that is stored about a session
``values``      what an explanation says, as values for programs
``wording``     words that all explanations share
``sentences``   the same for people
``parts``       conditions: which part holds, by what, and what the others need
``names``       what became of a trigger that a task names
``instances``   why an instance is what it is
``reach``       what it waits for in vain, as the session is closed
``tasks``       the same for a task and a session
``ending``      whether a session was finalized, and what is left to do before
``effects``     what a firing caused
``preview``     what a configuration would do
==============  ================================================================================

Explaining only reads: nothing is locked, written, or decided, and no predicate is called. What
holds and what does not is the answer of the engine's own conditions.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, overload

from triggers.exceptions import InstanceNotFound, TriggersError, UnknownTask
from triggers.explain.effects import FiringExplanation, firing_of
from triggers.explain.ending import ending_of
from triggers.explain.instances import instance_of
from triggers.explain.look import Look
from triggers.explain.preview import ConfigurationPreview
from triggers.explain.tasks import session_of, task_of
from triggers.explain.values import (
    Ending,
    Explanation,
    InstanceExplanation,
    SessionExplanation,
    TaskExplanation,
)
from triggers.explain.wording import counted, listed, shown
from triggers.types import TaskConfig, TaskInstance, instance_name, split_instance_name

if TYPE_CHECKING:
    from triggers.storages.session import SessionStorage

__all__ = [
    "ConfigurationPreview",
    "Explanation",
    "FiringExplanation",
    "FiringNotFound",
    "InstanceExplanation",
    "SessionExplanation",
    "TaskExplanation",
    "explain",
    "explain_ending",
    "explain_firing",
]


class FiringNotFound(TriggersError, LookupError):
    """The session has no firing of this number.

    :ivar seq: the number asked for.
    """

    def __init__(self, seq: object, reason: str) -> None:
        self.seq = seq
        super().__init__(reason)


@overload
def explain(storage: SessionStorage, what: None = None) -> SessionExplanation: ...
@overload
def explain(storage: SessionStorage, what: TaskConfig) -> TaskExplanation: ...
@overload
def explain(storage: SessionStorage, what: TaskInstance) -> InstanceExplanation: ...
@overload
def explain(storage: SessionStorage, what: str) -> TaskExplanation | InstanceExplanation: ...
@overload
def explain(
    storage: SessionStorage, what: str | TaskInstance | TaskConfig | None
) -> SessionExplanation | TaskExplanation | InstanceExplanation: ...
def explain(
    storage: SessionStorage, what: str | TaskInstance | TaskConfig | None = None
) -> SessionExplanation | TaskExplanation | InstanceExplanation:
    """Explain a task, an instance, or the whole session.

    :param what: a task or an instance, by name or as object; ``None`` means the session.
    :returns: sentences through ``str()``, plain JSON through ``to_json()``.
    :raises UnknownTask: (a ``LookupError``) the session has no such task.
    :raises InstanceNotFound: (a ``KeyError``) the session has no such instance.
    :raises TypeError: it is something else.
    """
    if not isinstance(what, str | TaskInstance | TaskConfig | None):
        raise TypeError(
            "explain() takes a task or an instance, by name or as object, or None for the whole "
            f"session; got {shown(what)}. A firing is explained by explain_firing(seq)."
        )
    look = Look(storage)
    if what is None:
        return session_of(look)
    name = what.name if isinstance(what, TaskConfig) else instance_name(what)
    if "#" in name:
        found = look.instances.get(name)
        if found is None:
            raise InstanceNotFound(name, _other_instances(look, name))
        return instance_of(look, found)
    if name not in look.plan.tasks:
        reason = f"Session {look.uid!r} has no task {name!r} {_others(look, name)}"
        raise UnknownTask(name, f"{reason}{_trigger(look, name)}.")
    return task_of(look, name)


def explain_ending(storage: SessionStorage) -> Ending | None:
    """Explain how far a session is from being finalized; ``None`` if it does not finalize."""
    return ending_of(Look(storage)) if storage.plan().configuration.finalizes else None


def explain_firing(storage: SessionStorage, seq: int) -> FiringExplanation:
    """Explain where a firing came from, and what it caused.

    :param seq: position in the session's history, from 1; what ``fire`` returned as ``seq``.
    :returns: sentences through ``str()``, plain JSON through ``to_json()``.
    :raises FiringNotFound: (a ``LookupError``) the session has no such firing.
    """
    look = Look(storage)
    firing = look.firings.get(seq)
    if firing is None:
        known = f"it has {counted(len(look.firings), 'firing')}"
        if look.firings:
            known += f", numbered from {min(look.firings)} to {max(look.firings)}"
        raise FiringNotFound(seq, f"Session {look.uid!r} has no firing {seq!r}; {known}.")
    return firing_of(look, firing)


def _other_instances(look: Look, name: str) -> str:
    task, _number = split_instance_name(name)
    if task not in look.plan.tasks:
        return f"session {look.uid!r} has no task {task!r} {_others(look, task)}"
    known = listed([each.name for each in look.by_task.get(task, [])]) or "none"
    return f"session {look.uid!r} has no such instance; known: {known}"


def _trigger(look: Look, name: str) -> str:
    """What to ask instead, if a name is that of a trigger."""
    firings, listening = look.fired.get(name), look.plan.listening(name)
    if firings:
        return f"; {name!r} is a trigger; see explain_firing({firings[-1].seq}), its latest firing"
    if listening:
        tasks = listed([each.config.name for each in listening])
        return f"; {name!r} is a trigger that was never fired, and that these name: {tasks}"
    return ""


def _others(look: Look, name: str) -> str:
    known = list(look.plan.tasks)
    meant = next(iter(get_close_matches(name, known, 1)), None)
    hint = f"; did you mean {meant!r}?" if meant else ""
    return f"(known: {listed(known)}{hint})" if known else "(it has none; is the uid right?)"
