"""Explanations as sentences: each a short tree, the most important thing first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from triggers.explain.wording import MARKS, MOST, Outline, counted, listed, moment, often
from triggers.types import Phase, Status

if TYPE_CHECKING:
    from triggers.explain.effects import Effects, FiringExplanation
    from triggers.explain.values import (
        Conditions,
        Decision,
        Ending,
        Filtered,
        FiringRef,
        Held,
        InstanceExplanation,
        Link,
        Name,
        OutOfReach,
        Part,
        SessionExplanation,
        TaskExplanation,
    )

_LONGEST_KWARGS = 200

_DUE = {
    "ready": "is due to be scheduled",
    "ruled out": "is due to be ruled out",
    "expired": "is due to expire",
}
"""What the verdict on an instance means that nobody has looked at since it became due."""

_LEFT = {"ready": "has all that it waits for", "ruled out": "has what rules it out"}
"""What it means for a copy of an instance, which nobody looks at."""

_OPEN = (Status.UNSTARTED, Status.SCHEDULED, Status.RUNNING, Status.FAILED)
"""What is shown first, and in full."""


def of_session(session: SessionExplanation) -> Outline:
    """A session: its tasks, then what nobody listens to."""
    if session.is_empty:
        what = f"Session {session.uid}{_phase(session)}"
        if session.phase is Phase.PURGED:
            return Outline(f"{what} is purged: its data have been removed.", tone="title")
        ending = () if session.ending is None else (_ending(session.ending),)
        return Outline(f"{what} has no tasks, and nothing was fired in it.", ending, "title")
    size = f"{counted(len(session.tasks), 'task')}, {counted(session.firings, 'firing')}"
    lines = [of_task(task, in_session=True) for task in session.tasks]
    if session.undecided:
        waiting = f"{counted(session.undecided, 'firing')} recorded in a transaction"
        lines.append(Outline(f"not decided yet: {waiting}", tone="open"))
    if session.unheard:
        lines.append(
            _limited(
                "fired, and named by no task",
                [
                    Outline(f"{each.name} ({often(each.fired)}, last as firing {each.latest.seq})")
                    for each in session.unheard
                ],
            )
        )
    if session.ending is not None:
        lines.append(_ending(session.ending))
    what = f"Session {session.uid}{_phase(session)}"
    return Outline(f"{what}, {moment(session.at)}: {size}", tuple(lines), "title")


def _ending(ending: Ending) -> Outline:
    """How far a session is from being finalized."""
    if ending.firing is not None:
        return Outline(f"finalized by {ending.firing}, {moment(ending.firing.at)}", tone="good")
    left = tuple(Outline(each) for each in ending.left)
    return Outline("not finalized yet; left to do:", left, "open")


def _phase(session: SessionExplanation) -> str:
    is_told = session.phase in (Phase.CLOSED, Phase.CANCELLED)
    return f" ({session.phase})" if is_told else ""


def of_task(task: TaskExplanation, *, in_session: bool = False) -> Outline:
    """A task: its instances, those first to which something can still happen."""
    lines: list[Outline] = []
    if task.instances:
        lines += _instances(task.instances)
        if task.made_by:
            lines.append(Outline(f"another one is made by: {_named(task, task.made_by)}"))
    elif task.made_by:
        lines.append(
            Outline(f"the first firing of any of these makes one: {_named(task, task.made_by)}")
        )
    else:
        lines.append(Outline("it names no trigger, so nothing that is fired makes an instance"))
    lines += _filtered(task.name, task.filtered)
    number = counted(len(task.instances), "instance") if task.instances else "no instance yet"
    where = "" if in_session else f" in session {task.uid}, {moment(task.at)}"
    return Outline(f"{task.name}{where}: {number}", tuple(lines), "title")


def of_instance(instance: InstanceExplanation, *, alone: bool = True) -> Outline:
    """An instance: what it waits for, or why it was decided as it was.

    :param alone: tell all of it, what was filtered out for its task included.
    """
    lines = list(_origin(instance))
    if instance.conditions is not None:
        lines += _conditions(instance.status, instance.conditions)
    if instance.decision is not None:
        lines += _decision(instance, instance.decision)
    lines += _attempts(instance)
    if instance.conditions is None and instance.held:
        lines.append(Outline(f"it holds: {listed([_held(each) for each in instance.held])}"))
    if instance.outcomes:
        told = listed([f"{each}" for each in instance.outcomes])
        lines.append(Outline(f"it has fired: {told}"))
    if alone:
        lines += _filtered(instance.task, instance.filtered)
    return Outline(summary(instance), tuple(lines), _tone(instance))


def of_firing(explanation: FiringExplanation) -> Outline:
    """A firing: where it came from, then what it caused."""
    effects = explanation.effects
    firing = effects.firing
    kwargs = json.dumps(explanation.kwargs, ensure_ascii=False)
    if len(kwargs) > _LONGEST_KWARGS:
        kwargs = kwargs[: _LONGEST_KWARGS - 1] + "…"
    lines = [Outline(f"kwargs: {kwargs}")]
    if explanation.key is not None:
        lines.append(Outline(f"idempotency key: {explanation.key}"))
    origin = _fired_by(firing, explanation.causes, explanation.is_complete)
    if explanation.by_session:
        origin = "fired by the session itself, as nothing was left to do"
    lines += _effects(effects)
    text = f"{_capital(f'{firing}')}, {moment(firing.at)}, {origin or 'fired from outside'}"
    return Outline(text, tuple(lines), "title")


def summary(instance: InstanceExplanation) -> str:
    """What is most important about an instance, in a sentence."""
    name, since = instance.name, moment(instance.changed_at)
    match instance.status:
        case Status.UNSTARTED:
            return f"{name} {_waiting(instance.conditions) if instance.conditions else 'waits'}"
        case Status.SCHEDULED:
            using = f", using {instance.using}" if instance.using else ""
            what = f"(it runs {instance.run}{using})"
            return f"{name} is scheduled since {since}: no worker has started it yet {what}"
        case Status.RUNNING:
            return f"{name} is running since {since}{_lease(instance)}"
        case Status.FINISHED:
            return f"{name} finished on {since}"
        case Status.REPLAYED:
            how = f" as {instance.replayed_as}" if instance.replayed_as else ""
            return f"{name} was replayed{how} on {since}"
        case Status.SKIPPED:
            return f"{name} was skipped on {since}"
        case Status.FAILED:
            return f"{name} failed on {since}: {_failure(instance)}"
    return f"{name} was abandoned on {since}: {_abandoned(instance)}"


def _lease(instance: InstanceExplanation) -> str:
    if instance.lease_until is None:
        return ""
    until = moment(instance.lease_until)
    if instance.is_overdue:
        return f", but nothing was heard of its worker until {until}: recovery will take it back"
    return f"; its worker has a lease until {until}"


def _waiting(conditions: Conditions) -> str:
    if conditions.verdict == "waits":
        return f"waits for {'; '.join(conditions.missing)}"
    if conditions.next is not None and conditions.next.is_over:
        return (
            f"{_DUE[conditions.verdict]} since {moment(conditions.as_of)}: what happens next in "
            "the session decides it, or triggers.timers.fire_due()"
        )
    return f"{_LEFT[conditions.verdict]}, but is a copy made by hand: change its status by hand"


def _abandoned(instance: InstanceExplanation) -> str:
    decision = instance.decision
    reason = decision.reason if decision else None
    if reason == "expired":
        missing = instance.conditions.missing if instance.conditions else ()
        lacked = f" for {'; '.join(missing)}" if missing else ""
        return f"it expired, still waiting{lacked}"
    if reason == "unless":
        return f"its unless held{_by_firing(decision)}"
    if reason == "cancelled":
        return "the session was cancelled"
    return reason or "nobody knows why"


def _by_firing(decision: Decision | None) -> str:
    return f", by {decision.causes[0].firing}" if decision and decision.causes else ""


def _failure(instance: InstanceExplanation) -> str:
    failure = instance.failure
    if failure is None or not failure.type:
        return "set by hand"
    return f"{failure.type.removeprefix('builtins.')}: {failure.message}".removesuffix(": ")


def _origin(instance: InstanceExplanation) -> Iterator[Outline]:
    if instance.parent and instance.lineage == instance.name:
        how = f"a copy of {instance.parent}, made by hand"
    elif instance.parent:
        how = f"to {'retry' if instance.retries else 'replay'} {instance.parent}"
        if instance.parent != instance.lineage:
            how += f"; first of its lineage was {instance.lineage}"
    elif instance.created_by is not None:
        how = f"made by {instance.created_by}"
    else:
        how = ""
    begun = "waiting since" if instance.status is Status.UNSTARTED else "created on"
    yield Outline(f"{begun} {moment(instance.created_at)}{f', {how}' if how else ''}")


def _conditions(status: Status, conditions: Conditions) -> Iterator[Outline]:
    yield _root("after", conditions.ready)
    if conditions.barred is not None:
        would = " (would rule it out)" if status is Status.UNSTARTED else ""
        yield _root("unless", conditions.barred, would)
    if conditions.out_of_reach is not None:
        yield _out_of_reach(conditions.out_of_reach)
    deadline = conditions.next
    if deadline is not None:
        passed = "; nobody has looked since" if deadline.is_over else ""
        yield Outline(f"next, on {moment(deadline.at)}: {deadline.text}{passed}", tone="open")


def _out_of_reach(lost: OutOfReach) -> Outline:
    """What nobody outside can fire any more."""
    who = "only a task that is still to run" if lost.tasks_run else "no task runs that"
    names = listed(lost.triggers)
    text = f"the session is closed: {names} cannot be fired from outside any more, and {who} could"
    return Outline(text, tone="bad")


def _root(directive: str, part: Part, more: str = "") -> Outline:
    """A condition under its directive; a list of all of them needs no line of its own."""
    if part.kind != "all":
        return Outline(f"{directive}{more}", (_part(part),))
    if not part.parts:
        return Outline(f"{directive}: nothing", tone="good")
    lines = tuple(_part(each) for each in part.parts)
    return Outline(f"{directive}, all of these{more}", lines)


def _part(part: Part) -> Outline:
    tone = "good" if part.holds else "bad"
    if not part.parts:
        note = f": {part.note}" if part.note else ""
        return Outline(f"{MARKS[part.holds]}{part.text}{note}", (), tone)
    number = f"{part.needed} of these {len(part.parts)}"
    number = {"all": "all of these", "any": "any of these"}.get(part.kind, number)
    lines = tuple(_part(each) for each in part.parts)
    return Outline(f"{MARKS[part.holds]}{number}:", lines, tone)


def _decision(instance: InstanceExplanation, decision: Decision) -> Iterator[Outline]:
    verb = "ruled out" if decision.verb == "abandoned" else "scheduled"
    if decision.causes:
        first = decision.causes[0].firing
        origin = _fired_by(first, decision.causes[1:], decision.is_complete)
        more = f", {origin}" if origin else ""
        yield Outline(f"{verb} by {first}, {moment(first.at)}{more}")
    elif decision.otherwise:
        yield Outline(f"{verb} by no firing; by {' or '.join(decision.otherwise)}")


def _fired_by(firing: FiringRef, causes: Sequence[Link], is_complete: bool) -> str:
    """Where a firing came from, step by step; empty if from outside."""
    steps = []
    for link in causes:
        steps.append(f"fired by {firing.cause}, which was {link.verb} by {link.firing}")
        firing = link.firing
    if firing.cause is not None:
        more = "which no firing decided" if is_complete else "and so on"
        steps.append(f"fired by {firing.cause}, {more}")
    return ", ".join(steps)


def _attempts(instance: InstanceExplanation) -> Iterator[Outline]:
    if instance.status is Status.SCHEDULED:
        if instance.not_before is not None:
            yield Outline(f"not before {moment(instance.not_before)}, the end of its cool-down")
        if instance.sends:
            yield Outline(f"handed to a runner again {often(instance.sends)}")
        if instance.refusals:
            times = often(instance.refusals)
            text = f"refused {times} by workers that do not know {instance.run!r}"
            yield Outline(text, tone="bad")
        if instance.hand_on_at is not None and instance.is_forgotten:
            due = f"it was to be handed on again on {moment(instance.hand_on_at)}"
            yield Outline(f"{due}; nobody has: is 'manage.py triggers run' alive?", tone="bad")
    if instance.attempt > 1:
        yield Outline(f"started {often(instance.attempt)}")
    for lost in instance.lost:
        since = moment(lost.started_at)
        yield Outline(f"attempt {lost.attempt}, started on {since}, was lost with its worker")
    if instance.failure is not None and instance.status is not Status.FAILED:
        yield Outline(f"it had failed: {_failure(instance)}")


def _held(held: Held) -> str:
    return f"{held.name} ({f'firing {held.firing.seq}' if held.firing else 'given by hand'})"


def _filtered(task: str, filtered: Filtered) -> Iterator[Outline]:
    if not filtered.latest:
        return
    lines = [
        Outline(f"{each.firing}, {moment(each.firing.at)}: {each.reason}")
        for each in filtered.latest
    ]
    if filtered.more:
        lines.append(Outline(f"and {filtered.more:,} before"))
    yield Outline(f"filtered out for {task}", tuple(lines), "bad")


def _instances(instances: Sequence[InstanceExplanation]) -> Iterator[Outline]:
    """Some instances in full; of the others, how many there are."""
    first = [each for each in instances if each.status in _OPEN]
    first += [each for each in reversed(instances) if each.status not in _OPEN]
    for each in first[:MOST]:
        yield of_instance(each, alone=False)
    rest = Counter(each.status for each in first[MOST:])
    if rest:
        told = ", ".join(f"{number:,} {status}" for status, number in rest.items())
        yield Outline(f"and more: {told}")


def _named(task: TaskExplanation, names: Iterable[str]) -> str:
    known: dict[str, Name] = {each.name: each for each in task.names}
    return listed([f"{name} ({known[name].text})" for name in names])


def _effects(effects: Effects) -> Iterator[Outline]:
    done = {*effects.created, *effects.scheduled, *effects.abandoned}
    for verb, instances in (
        ("created", effects.created),
        ("scheduled", effects.scheduled),
        ("ruled out", effects.abandoned),
        ("also held by", tuple(each for each in effects.held_by if each not in done)),
    ):
        if instances:
            yield Outline(f"{verb} {listed(instances)}", tone="good")
    for refusal in effects.filtered[:MOST]:
        yield Outline(f"filtered out for {refusal.task}: {refusal.reason}", tone="bad")
    for unchanged in effects.unchanged[:MOST]:
        yield Outline(f"changed nothing in {unchanged.task}: {unchanged.reason}")
    hidden = len(effects.filtered[MOST:]) + len(effects.unchanged[MOST:])
    if hidden:
        yield Outline(f"and {counted(hidden, 'task')} more in which it changed nothing")
    if not (effects.held_by or done or effects.filtered or effects.unchanged):
        yield Outline("no task names it", tone="open")
    for each in effects.further:
        text = f"then {each.firing}, {moment(each.firing.at)}, fired by {each.firing.cause}"
        yield Outline(text, tuple(_effects(each)))
    if effects.left_out:
        yield Outline(f"and {counted(effects.left_out, 'firing')} more that follow from it")


def _limited(text: str, lines: Sequence[Outline]) -> Outline:
    rest = len(lines) - MOST
    more = [Outline(f"and {rest:,} more")] if rest > 0 else []
    return Outline(text, (*lines[:MOST], *more), "open")


def _tone(instance: InstanceExplanation) -> str:
    if instance.status is Status.FAILED:
        return "bad"
    return "open" if instance.status in _OPEN else "good"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
