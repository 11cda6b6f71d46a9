"""Whether a session was finalized, and what is left to do before."""

from __future__ import annotations

from collections.abc import Iterator

from triggers import payload
from triggers.engine.finalizing import holds_up
from triggers.explain.look import Look
from triggers.explain.names import listed_states
from triggers.explain.values import Ending
from triggers.explain.wording import counted
from triggers.types import SESSION_FINALIZED, Firing, Phase


def ending_of(look: Look) -> Ending | None:
    """How far a session is from being finalized; ``None`` of one that does not finalize."""
    fired = look.fired.get(SESSION_FINALIZED)
    if not look.plan.configuration.finalizes:
        return None
    if fired:
        return Ending(firing=look.ref(fired[0]), left=())
    if look.phase is Phase.CANCELLED:
        return Ending(firing=None, left=("nothing: it was cancelled, so it is not finalized",))
    left = list(_left(look))
    if not left:
        # All else that holds it up is not among what an explanation reads.
        marks = "a cascade" if look.phase is Phase.OPEN else "a cascade or the call of a hook"
        left = [f"{marks} that was committed as to be done, and is not done yet"]
    return Ending(firing=None, left=tuple(left))


def is_own(look: Look, firing: Firing) -> bool:
    """Whether the session has fired this itself, as far as that can be told."""
    if not look.plan.fires_itself(look.names[firing.seq]):
        return False
    if firing.cause is not None or firing.key is not None or firing.kwargs != payload.EMPTY:
        return False
    if look.phase is not Phase.OPEN:
        return True
    # Where something was left, or nothing had been done, somebody fired it by hand.
    found = [look.by_being_settled(task, firing.at) for task in look.plan.finishing]
    return any(settled for settled, _others in found) and not any(others for _, others in found)


def _left(look: Look) -> Iterator[str]:
    """What is left to do, a phrase each."""
    is_open = look.phase is Phase.OPEN
    if is_open and not look.plan.finishing:
        yield "everything: it has no task to do, so it is finalized when it is closed"
    for task in look.plan.tasks:
        if task not in look.plan.finishing:
            continue
        instances = look.by_task.get(task, [])
        going_on = [each for each in instances if holds_up(each, look.phase)]
        if going_on:
            yield listed_states(going_on)
        elif is_open and not instances:
            yield f"{task} has no instance yet"
    if look.undecided and not is_open:
        yield f"{counted(look.undecided, 'firing')} recorded in a transaction, not decided yet"
