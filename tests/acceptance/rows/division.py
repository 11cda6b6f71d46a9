"""A task that divides, for tests of what may follow, and tasks that listen to it."""

from __future__ import annotations

from typing import Any

from tests.acceptance.rows.sessions import show, statuses
from triggers.manager import TriggerManager
from triggers.task import TaskContext, trigger_task


class Odd(ArithmeticError):
    """What :func:`divide` raises about an odd number."""


@trigger_task
def divide(context: TaskContext) -> dict[str, Any] | None:
    """Divide ``x`` by ``y`` of the trigger ``numbers``; nothing for nothing."""
    numbers = context.trigger_kwargs["numbers"]
    if not numbers:
        return None
    if numbers["x"] % 2:
        raise Odd(f"{numbers['x']} is odd")
    return {"ratio": numbers["x"] / numbers["y"]}


DIVIDE = {"t_divide": {"andEvery": "numbers", "run": divide.name}}


def listening(*names: str, **directives: Any) -> dict[str, Any]:
    """Tasks ``t_on_0``, ``t_on_1``, …, each for every firing of one of these names."""
    return {
        f"t_on_{number}": {"andEvery": name, "run": show.name, **directives}
        for number, name in enumerate(names)
    }


def began(manager: TriggerManager, *, but: str = "t_divide") -> list[str]:
    """The instances of all other tasks."""
    return [name for name in statuses(manager) if not name.startswith(but)]
