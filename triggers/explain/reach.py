"""What an instance of a closed session waits for, and nobody outside can fire any more."""

from __future__ import annotations

from collections.abc import Iterator

from triggers.explain.look import Look
from triggers.explain.values import OutOfReach, Part
from triggers.types import Phase, Status


def out_of_reach(look: Look, ready: Part) -> OutOfReach | None:
    """The triggers that an instance cannot do without, and that only tasks could still fire.

    ``None`` if there are none, or the session is open.

    :param ready: what the instance waits for.
    """
    if look.phase is Phase.OPEN or _can_hold(look, ready):
        return None
    names = dict.fromkeys(name for part in _leaves(ready) for name in _lost(look, part))
    runs = any(
        each.status in (Status.SCHEDULED, Status.RUNNING) for each in look.instances.values()
    )
    return OutOfReach(triggers=tuple(names), tasks_run=runs or bool(look.undecided))


def _can_hold(look: Look, part: Part) -> bool:
    """Whether a condition holds, or may come to hold without a firing from outside."""
    if part.holds:
        return True
    if not part.parts:
        return not _lost(look, part)
    possible = sum(_can_hold(look, each) for each in part.parts)
    needed = len(part.parts) if part.kind == "all" or part.needed is None else part.needed
    return possible >= needed


def _leaves(part: Part) -> Iterator[Part]:
    if not part.parts:
        yield part
    for each in part.parts:
        yield from _leaves(each)


def _lost(look: Look, part: Part) -> tuple[str, ...]:
    """The trigger that a part needs, if it is one that only comes from outside."""
    if part.holds or part.kind == "settled":
        return ()
    if part.kind in ("elapsed", "burst") and part.firings:
        return ()  # the rest is a matter of time
    # As long as it is not known how many are needed, the name that says so is what is missing.
    name = part.names[0] if part.needed is not None else part.names[-1]
    is_own = name.partition(":")[0] in look.plan.tasks or look.plan.fires_itself((name,))
    return () if is_own else (name,)
