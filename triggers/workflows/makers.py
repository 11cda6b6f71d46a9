"""What expressions are made with: ``on``, ``all_of``, ``any_of``, ``at_least``, …."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triggers.workflows.expressions import (
    AllOf,
    AnyOf,
    AtLeast,
    Elapsed,
    Expression,
    Settled,
    Trigger,
    combined,
    members_from,
    refuse_repeated,
)
from triggers.workflows.spelling import Duration, duration, trigger_name, whole_number

if TYPE_CHECKING:
    from triggers.task import TriggerTask


def on(trigger: str | TriggerTask, /) -> Trigger:
    """A firing of this trigger; of a task's name: the task has finished.

    :param trigger: the name; or a function that ``@trigger_task`` has put into a workflow.
    :raises TypeError: it is neither.
    """
    return Trigger(name=trigger_name(trigger, "on()"))


def all_of(*members: Expression | str) -> AllOf:
    """All of these: the same as joining them with ``&``.

    :param members: expressions, or names of triggers; at least one.
    :returns: one condition.
    :raises TypeError: a member is neither an expression nor a name.
    :raises ValueError: there is none, or one has a deadline.
    """
    return combined(AllOf, *members)


def any_of(*members: Expression | str) -> AnyOf:
    """Any of these: the same as joining them with ``|``.

    :param members: expressions, or names of triggers; at least one.
    :returns: one condition.
    :raises TypeError: a member is neither an expression nor a name.
    :raises ValueError: there is none, one has a deadline, or one stands twice.
    """
    return combined(AnyOf, *members)


def at_least(least: int, /, *members: Expression | str) -> AtLeast:
    """At least so many of these.

    :param least: how many, from 1 up to as many as there are.
    :param members: expressions, or names of triggers.
    :returns: one condition.
    :raises ValueError: there are not so many, or one of them stands twice.
    """
    of = members_from(members)
    if not 1 <= whole_number(least, "at_least()") <= len(of):
        raise ValueError(f"at_least({least}, …) of {len(of)} can never hold, or always does.")
    refuse_repeated(of)
    return AtLeast(members=tuple(of), least=least)


def settled(task: str | Trigger | TriggerTask, /) -> Settled:
    """This task has run at least once, and nothing of it waits, runs or has failed.

    :param task: its name; or a function that ``@trigger_task`` has put into a workflow.
    :returns: one condition.
    :raises TypeError: an expression that says more than a name was given.
    """
    return Settled(task=_name_alone(task, "settled()", "task"))


def elapsed(
    value: Duration | None = None, /, *, since: str | Trigger | TriggerTask, **units: float
) -> Elapsed:
    """So much time has passed since a firing: ``elapsed(since="invoiceSent", days=3)``.

    :param value: the duration: ISO 8601 text, a ``timedelta``, or seconds; by default ``units`` say
        it.
    :param since: the trigger; a filter or the like belongs to another mention of it.
    :param units: ``weeks``, ``days``, ``hours``, ``minutes``, ``seconds``.
    :returns: one condition.
    :raises TypeError: ``since`` says more than a name; or there are both ``value`` and ``units``,
        or neither.
    :raises ValueError: the language does not know such a duration.
    """
    return Elapsed(since=_name_alone(since, "since", "trigger"), length=duration(value, units))


def _name_alone(value: Any, place: str, what: str) -> str:
    """A name, or that of an ``on(…)`` which says nothing more."""
    if isinstance(value, Trigger) and value == Trigger(name=value.name):
        return value.name
    if isinstance(value, Expression):
        raise TypeError(
            f"{place} takes the name of a {what}, and no more than that; got {value!r}."
        )
    return trigger_name(value, place)
