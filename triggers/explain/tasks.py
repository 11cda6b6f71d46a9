"""Why the instances of a task, and of a whole session, are what they are."""

from __future__ import annotations

from triggers.explain.ending import ending_of
from triggers.explain.instances import instance_of
from triggers.explain.look import Look
from triggers.explain.names import name_of
from triggers.explain.values import SessionExplanation, TaskExplanation, Unheard


def task_of(look: Look, task: str) -> TaskExplanation:
    """Why the instances of a task are what they are, and what would make another."""
    plan = look.plan.tasks[task]
    instances = look.by_task.get(task, [])
    and_every = plan.config.and_every
    another = (and_every,) if and_every else ()
    return TaskExplanation(
        uid=look.uid,
        name=task,
        at=look.now,
        instances=tuple(instance_of(look, each) for each in instances),
        made_by=another if instances else plan.names,
        names=tuple(name_of(look, task, each) for each in plan.names),
        filtered=look.filtered(task),
    )


def session_of(look: Look) -> SessionExplanation:
    """Why everything in a session is what it is."""
    unheard = (
        Unheard(name=name, fired=len(firings), latest=look.ref(firings[-1]))
        for name, firings in look.unheard.items()
    )
    return SessionExplanation(
        uid=look.uid,
        at=look.now,
        firings=len(look.firings),
        undecided=look.undecided,
        tasks=tuple(task_of(look, each) for each in look.plan.tasks),
        unheard=tuple(unheard),
        phase=look.phase,
        ending=ending_of(look),
    )
