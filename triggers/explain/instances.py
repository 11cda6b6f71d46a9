"""Why an instance is what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from triggers.conditions.durations import format_duration
from triggers.conditions.tree import Elapsed, Never
from triggers.engine.holdings import Holdings
from triggers.engine.plan import TaskPlan
from triggers.explain.look import Look
from triggers.explain.parts import Parts, burst_end
from triggers.explain.reach import out_of_reach
from triggers.explain.values import (
    Conditions,
    Deadline,
    Decision,
    Failure,
    Filtered,
    InstanceExplanation,
    LostAttempt,
    Verdict,
)
from triggers.types import Instance, Status

_PATIENCE = timedelta(minutes=1)
"""How late recovery may be before it is taken not to run; it looks every second."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the engine does with a waiting instance as soon as it looks at it.

    :ivar facts: what the instance holds, as of the moment of which this is true.
    """

    facts: Holdings
    verdict: Verdict


def instance_of(look: Look, instance: Instance) -> InstanceExplanation:
    """Why an instance is what it is."""
    status, metadata = instance.status, instance.metadata
    config = look.plan.tasks[instance.task].config
    lease_until = instance.due_at if status is Status.RUNNING else None
    hand_on_at = instance.due_at if status is Status.SCHEDULED else None
    waited = status in (Status.UNSTARTED, Status.ABANDONED)
    made_by, successor = look.creator_of(instance), look.successors.get(instance.name)
    return InstanceExplanation(
        uid=look.uid,
        name=instance.name,
        task=instance.task,
        run=config.run,
        using=config.using,
        status=status,
        created_at=instance.created_at,
        changed_at=instance.changed_at,
        created_by=look.ref(made_by) if made_by else None,
        conditions=_conditions(look, instance) if waited else None,
        decision=None if status is Status.UNSTARTED else _decision(look, instance),
        held=tuple(look.held(name, seq) for name, seq in look.holds(instance)),
        attempt=instance.attempt,
        retries=instance.retries,
        lineage=f"{instance.task}#{instance.lineage}",
        parent=metadata.get("parent"),
        replayed_as=successor.name if successor else None,
        failure=_failure(metadata.get("exception")) if _has_failed(instance) else None,
        not_before=instance.not_before,
        sends=instance.sends,
        refusals=int(metadata.get("refused_by_workers", 0)),
        hand_on_at=hand_on_at,
        is_forgotten=hand_on_at is not None and hand_on_at + _PATIENCE < look.now,
        lease_until=lease_until,
        is_overdue=lease_until is not None and lease_until <= look.now,
        lost=tuple(
            LostAttempt(
                attempt=each["attempt"], started_at=datetime.fromisoformat(each["started_at"])
            )
            for each in metadata.get("lost_attempts", ())
        ),
        outcomes=tuple(look.ref(each) for each in look.outcomes.get(instance.name, ())),
        filtered=look.filtered(instance.task) if waited else Filtered(),
    )


def judge(look: Look, task: TaskPlan, instance: Instance) -> Judgement:
    """What the engine does with a waiting instance as soon as it looks at it.

    If time should have changed it and nobody has looked at the session since, that is decided as
    of the time when it was due; what other instances do meanwhile is left out.
    """
    for at in _moments(look, task, instance):
        facts = _facts(look, task, instance, at)
        if task.within is not None and instance.created_at + task.within <= at:
            return Judgement(facts, "expired")
        if task.barred.holds(facts):
            return Judgement(facts, "ruled out")
        if task.ready.holds(facts):
            return Judgement(facts, "ready")
    return Judgement(facts, "waits")


def _moments(look: Look, task: TaskPlan, instance: Instance) -> Iterator[datetime]:
    """The moments at which the engine looks at an instance, up to the present."""
    due = instance.timer_at
    if due is not None:
        known = {at for at, _kind, _text in _deadlines(look, task, instance)}
        yield from sorted(at for at in {due, *known} if due <= at < look.now)
    yield look.now


def _facts(look: Look, task: TaskPlan, instance: Instance, at: datetime) -> Holdings:
    """What an instance holds at a moment; a burst that is over by then no longer lasts."""
    facts = Holdings(instance, at, look.firings.__getitem__, look.is_settled)
    over = burst_end(task, facts)
    if over is None or over > at:
        return facts
    burst = task.config.and_every
    counted = {name: seqs for name, seqs in instance.counted.items() if name != burst}
    rested = replace(instance, counted=counted)
    return Holdings(rested, at, look.firings.__getitem__, look.is_settled)


def _deadlines(
    look: Look, task: TaskPlan, instance: Instance
) -> Iterator[tuple[datetime, str, str]]:
    """When time alone may change an instance: the moment, its kind, and what it is."""
    facts = Holdings(instance, look.now, look.firings.__getitem__, look.is_settled)
    if task.within is not None:
        length = format_duration(task.within)
        text = f"it expires if it still waits (within {length})"
        yield instance.created_at + task.within, "expires", text
    over = burst_end(task, facts)
    if over is not None:
        yield over, "burst", f"the burst of {task.config.and_every} ends"
    for root in (task.ready, task.barred):
        for part in root.parts():
            if isinstance(part, Elapsed):
                text = f"it is {format_duration(part.duration)} since {part.since}"
                yield from ((due, "elapsed", text) for due in part.dues(facts))


def _conditions(look: Look, instance: Instance) -> Conditions | None:
    task = look.plan.tasks[instance.task]
    is_waiting = instance.status is Status.UNSTARTED
    judgement = judge(look, task, instance) if is_waiting else _judged(look, task, instance)
    facts, verdict = judgement.facts, judgement.verdict
    parts = Parts(look, task, facts)
    ready = parts.part(task.ready)
    barred = None if isinstance(task.barred, Never) else parts.part(task.barred)
    if verdict == "ruled out" and not (barred and barred.holds):
        return None  # the configuration is another one since, so nobody can tell
    return Conditions(
        as_of=facts.now,
        verdict=verdict,
        ready=ready,
        barred=barred,
        missing=ready.missing,
        next=_next(look, task, instance),
        out_of_reach=out_of_reach(look, ready) if verdict == "waits" and is_waiting else None,
    )


def _judged(look: Look, task: TaskPlan, instance: Instance) -> Judgement:
    """What was found out about an instance when it was abandoned."""
    at = instance.changed_at
    was_settled = partial(look.is_settled, as_of=at)
    facts = Holdings(instance, at, look.firings.__getitem__, was_settled)
    verdicts: Mapping[object, Verdict] = {"unless": "ruled out", "expired": "expired"}
    return Judgement(facts, verdicts.get(instance.metadata.get("reason"), "waits"))


def _next(look: Look, task: TaskPlan, instance: Instance) -> Deadline | None:
    at = instance.timer_at
    if at is None:
        return None
    known = {due: (kind, text) for due, kind, text in reversed([*_deadlines(look, task, instance)])}
    kind, text = known.get(at, ("time", "time may change it"))
    return Deadline(at=at, kind=kind, text=text, is_over=at <= look.now)


def _decision(look: Look, instance: Instance) -> Decision:
    causes, is_complete = look.chain(instance)
    task, is_abandoned = look.plan.tasks[instance.task], instance.status is Status.ABANDONED
    otherwise = []
    if not causes and not is_abandoned:
        otherwise += ["time"] if task.is_timed else []
        otherwise += [f"{each} became settled" for each in task.watches]
        otherwise += ["a new configuration", "somebody by hand"]
    return Decision(
        verb="abandoned" if is_abandoned else "scheduled",
        reason=instance.metadata.get("reason") if is_abandoned else None,
        causes=causes,
        is_complete=is_complete,
        otherwise=tuple(otherwise),
    )


def _has_failed(instance: Instance) -> bool:
    """Whether it failed, be it that somebody has skipped or replayed it since."""
    return instance.status is Status.FAILED or "exception" in instance.metadata


def _failure(exception: object) -> Failure:
    if not isinstance(exception, Mapping):
        return Failure(type="", message="")
    return Failure(type=str(exception.get("type", "")), message=str(exception.get("message", "")))
