"""What became of a trigger that a task names."""

from __future__ import annotations

from triggers.explain.look import Look
from triggers.explain.values import Name
from triggers.explain.wording import listed, moment, often
from triggers.types import SESSION_FINALIZED, Instance, Phase, Status

STATES = {
    Status.UNSTARTED: "waits",
    Status.SCHEDULED: "is scheduled",
    Status.RUNNING: "is running",
    Status.FINISHED: "finished",
    Status.FAILED: "failed",
    Status.REPLAYED: "was replayed",
    Status.SKIPPED: "was skipped",
    Status.ABANDONED: "was abandoned",
}
"""What a status says of an instance, for the middle of a sentence."""

_DECLARE = "update_configuration({}, finalize=True)"

_SHOWN = 3


def name_of(look: Look, task: str, name: str) -> Name:
    """A trigger that a task names.

    :param task: name of the task.
    """
    if (task, name) not in look.told:
        look.told[task, name] = _name_of(look, task, name)
    return look.told[task, name]


def _name_of(look: Look, task: str, name: str) -> Name:
    fired = look.fired.get(name, [])
    filtered = sum(task in each.refused for each in fired)
    source = name.partition(":")[0]
    is_known = source in look.plan.tasks or look.plan.fires_itself((name,))
    meant = None if fired or is_known else look.meant(name)
    if fired:
        text = f"fired {often(len(fired))}"
        if filtered == len(fired):
            text += f", filtered out for {task}" + (" each time" if filtered > 1 else "")
        else:
            text += f", last on {moment(fired[-1].at)}"
            text += f", filtered out for {task} {often(filtered)}" if filtered else ""
    elif source in look.plan.tasks:
        text = state_of(look, source)
    elif look.plan.fires_itself((name,)):
        text = "fired by the session itself when nothing is left to do"
    else:
        text = "never fired"
        if name == SESSION_FINALIZED:
            text += "; this session is not declared to finalize"
            text += f": {_DECLARE}" if look.phase is Phase.OPEN else ""
        if meant is not None:
            text += f"; did you mean {meant!r}, which {_known_as(look, meant)}?"
    return Name(
        name=name,
        fired=len(fired),
        filtered=filtered,
        latest=look.ref(fired[-1]) if fired else None,
        source=source if source in look.plan.tasks else None,
        meant=meant,
        text=text,
    )


def _known_as(look: Look, name: str) -> str:
    """What is known of a name that another one was perhaps meant to be."""
    if name in look.plan.tasks:
        return "is a task"
    if name in look.unheard:
        return "was fired and nobody waits for"
    if look.plan.fires_itself((name,)):
        return "the session fires itself when nothing is left to do"
    return "the session would fire itself if it were declared to finalize"


def state_of(look: Look, task: str) -> str:
    """How far a task is: its unsettled instances, or else its last one."""
    instances = look.by_task.get(task, [])
    if not instances:
        return f"{task} has no instance yet"
    _settled, others = look.by_being_settled(task)
    return listed_states(others or instances[-1:])


def listed_states(instances: list[Instance], *, later: bool = False) -> str:
    """Instances, and the status of each.

    :param later: say of those that are settled that they were not at the time.
    """
    told = [
        f"{each.name} {STATES[each.status]}{' later' if later and each.status.is_resolved else ''}"
        for each in instances
    ]
    return listed(told, _SHOWN)
