"""The rules of a firing, in the words of ``docs/reference/language.rst``.

:func:`fire` records a firing, :func:`take` finds the tasks for which it counts and their instances,
:func:`settle` decides an instance if its conditions allow. When time passes, and what happens once
nothing is left to decide, is in :mod:`triggers.engine.rest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from triggers import payload
from triggers.conditions.durations import format_duration, format_moment
from triggers.engine.draft import Cause, Draft, Planned, names_after
from triggers.engine.plan import TaskPlan
from triggers.engine.state import InstanceKey
from triggers.engine.verdicts import Question
from triggers.exceptions import CascadeTooDeep, class_names
from triggers.types import BY_HAND, Firing, Instance, Phase, Status, split_instance_name

MOST_CASCADES = 1000
"""How many cascades may follow from one another; the next one fails its instance."""


def fire(draft: Draft, planned: Planned) -> Firing:
    """Record a firing and let every task that names it take it."""
    draft.seq += 1
    firing = Firing(
        seq=draft.seq,
        trigger=planned.trigger,
        kwargs=planned.kwargs,
        at=draft.now,
        key=planned.key,
        cause=planned.cause.name if planned.cause else None,
        also=planned.also,
    )
    draft.note_firing(firing)
    scheduled = len(draft.scheduled)
    refused = take(draft, firing, draft.plan.names_of(firing.trigger, firing.also), planned)
    if refused:
        firing = replace(firing, refused=refused)
    draft.firings.append(firing)
    if planned.is_heard and "post_fire" in draft.hooks.names:
        ready = list(names_after(draft.scheduled, scheduled))
        data = {"trigger": firing.trigger, "scheduled": ready}
        draft.mark("post_fire", str(firing.seq), data)
    return firing


def take(
    draft: Draft,
    firing: Firing,
    names: tuple[str, ...],
    planned: Planned,
    only: frozenset[str] | None = None,
) -> dict[str, str]:
    """Let tasks take a firing: their waiting instances, or else a new one.

    :param only: these tasks; ``None`` means all.
    :returns: why it did not count, by task, for those where it did not.
    """
    draft.deciding = firing.seq
    refused: dict[str, str] = {}
    told: dict[str, list[str]] = {}
    passed: dict[tuple[str, str], int] = {}
    cause = planned.cause
    reached = draft.plan.takers(names)
    takers = draft.takers(names) if reached else {}
    for task, looked_at in reached:
        if only is not None and task.config.name not in only:
            continue
        passing = looked_at
        if task.tracked or cause is not None:
            reasons = {name: _refusal(draft, task, name, firing) for name in looked_at}
            for name in task.tracked & reasons.keys():
                if reasons[name] is None:
                    passed[task.config.name, name] = firing.seq
            for name in looked_at if cause is not None else ():
                reasons[name] = reasons[name] or _repetition(draft, task, name, cause)
            passing = tuple(name for name in looked_at if reasons[name] is None)
            for reason in reasons.values():
                if reason is not None:
                    refused.setdefault(task.config.name, reason)
            for name in passing if cause is not None else ():
                told.setdefault(name, []).append(task.config.name)
        if passing:
            _offer(draft, task, passing, firing.seq, takers, planned.depth)
    # Only now: what a new instance carries over is what was before.
    draft.passed.update(passed)
    for trigger in (firing.trigger, *firing.also):
        draft.note_latest(trigger, firing.seq)
    if told and cause is not None:
        tell(draft, cause, told)
    draft.deciding = None
    return refused


def _repetition(draft: Draft, task: TaskPlan, name: str, cause: Cause | None) -> str | None:
    """Why an outcome does not count for a task although it passes: it has had it."""
    if cause is None or not is_told(draft, cause, name, task.config.name):
        return None
    return f"{name} of lineage {cause.task}#{cause.lineage} was taken before"


def is_told(draft: Draft, cause: Cause, name: str, task: str) -> bool:
    """Whether a task has taken this outcome of a lineage."""
    return task in draft.instance((cause.task, cause.lineage)).told.get(name, ())


def tell(draft: Draft, cause: Cause, told: Mapping[str, list[str]]) -> None:
    """Note with a lineage which tasks have taken its outcome, by name."""
    root = draft.instance((cause.task, cause.lineage))
    known = {name: (*root.told.get(name, ()), *tasks) for name, tasks in told.items()}
    draft.put(root.but(told={**root.told, **known}))


def tell_carried(draft: Draft, task: TaskPlan, carried: Mapping[str, int]) -> None:
    """Note with the lineages whose outcomes an instance carries over that the task has them."""
    for name, seq in carried.items():
        if name.partition(":")[0] in draft.plan.tasks:
            cause = cause_of(draft, draft.firing(seq).cause)
            if cause is not None and not is_told(draft, cause, name, task.config.name):
                tell(draft, cause, {name: [task.config.name]})


def cause_of(draft: Draft, name: str | None) -> Cause | None:
    """The instance of this name as the cause of a firing."""
    return None if name is None else Cause.of(draft.instance(split_instance_name(name)))


def settle(draft: Draft, task: TaskPlan, instance: Instance) -> None:
    """Decide a waiting instance if its conditions allow; ``unless`` wins over ``after``."""
    if task.is_timed:
        if _has_expired(draft, task, instance):
            abandon(draft, instance, "expired")
            return
        instance = _rested(draft, task, instance)
    facts = draft.holdings(instance)
    if task.fresh and task.counts:
        instance = task.trimmed(instance, facts)
        facts = draft.holdings(instance)
    if task.barred.holds(facts):
        abandon(draft, instance, "unless")
    elif task.ready.holds(facts) and (draft.is_at_rest or not task.is_barred_at_rest):
        draft.put(draft.moved(instance, Status.SCHEDULED, decided_by=draft.deciding))
    else:
        if task.is_timed or instance.timer_at is not None:
            timer_at = next_timer(draft, task, instance)
            if timer_at != instance.timer_at:
                instance = instance.but(timer_at=timer_at)
        key = (instance.task, instance.number)
        if task.watches and not draft.is_at_rest:
            draft.restless[key] = None
        if instance is not (draft.instances.get(key) or draft.state.instances.get(key)):
            draft.put(instance)


def abandon(draft: Draft, instance: Instance, reason: str) -> None:
    """Rule a waiting instance out, and plan the firing that says so."""
    metadata = {**instance.metadata, "reason": reason}
    decided_by = None if reason == "expired" else draft.deciding
    abandoned = draft.moved(instance, Status.ABANDONED, metadata=metadata, decided_by=decided_by)
    draft.put(abandoned)
    draft.abandoned[instance.task, instance.number] = None
    outcome = "expired" if reason == "expired" else "abandoned"
    announce(draft, abandoned, f"{instance.task}:{outcome}", payload.dump({"reason": reason}))


def fail(draft: Draft, instance: Instance, metadata: Mapping[str, Any]) -> Instance:
    """End an instance as failed where no task can report it, and plan the firing that says so.

    :param metadata: added to those of the instance; ``exception`` says why.
    """
    exception = metadata["exception"]
    failure = {
        "type": exception["type"],
        "types": exception["types"],
        "message": exception["message"],
        "kwargs": arguments_of(draft, (instance.task, instance.number)),
        "attempt": instance.retries + max(instance.attempt, 1),
    }
    failed = draft.moved(instance, Status.FAILED, metadata={**instance.metadata, **metadata})
    draft.put(failed)
    announce(draft, failed, f"{instance.task}:failed", payload.dump(failure))
    return failed


def announce(
    draft: Draft, instance: Instance, trigger: str, kwargs: str, also: tuple[str, ...] = ()
) -> None:
    """Fire an outcome of an instance, after what is being decided now; not if all is cancelled.

    If the manager overrides ``fire``, a mark is left instead.
    """
    if draft.state.phase is Phase.CANCELLED:
        return
    if instance.depth >= MOST_CASCADES:
        metadata = {**instance.metadata, "exception": too_deep(instance)}
        draft.put(instance.but(metadata=metadata))
        return
    depth = instance.depth + 1
    is_heard = trigger == instance.task or draft.plan.is_listened_to(trigger)
    if draft.hooks.folds or not is_heard:
        planned = Planned(
            trigger=trigger,
            kwargs=kwargs,
            also=also,
            cause=Cause.of(instance),
            depth=depth,
            is_heard=is_heard,
        )
        draft.queue.append(planned)
        return
    data = {
        "trigger": trigger,
        "also": list(also),
        "kwargs": kwargs,
        "cause": instance.name,
        "depth": depth,
    }
    # A status is entered once, so this is the only cascade of its kind.
    draft.require("cascade", f"{instance.name}:{instance.status}", data)


def _offer(
    draft: Draft,
    task: TaskPlan,
    names: tuple[str, ...],
    seq: int,
    takers: Mapping[str, Mapping[int, list[str]]],
    depth: int,
) -> None:
    """Let one task take a firing that counts for it."""
    name, and_every = task.config.name, task.config.and_every
    waiting = takers.get(name, {})
    is_another = and_every is not None and and_every in names
    if task.looks_up:
        draft.see_held(draft.instance((name, number)) for number in waiting)
    for number in sorted(waiting):
        instance = draft.instance((name, number))
        if _has_expired(draft, task, instance):
            # At the deadline itself, by what something else that was due then has fired.
            abandon(draft, instance, "expired")
            continue
        wanted = [each for each in waiting[number] if each in names]
        if task.counts:
            facts = draft.holdings(instance)
            wanted = [each for each in wanted if task.wants(each, instance, facts)]
        if not wanted:
            continue
        is_another = is_another and and_every not in wanted
        settle(draft, task, task.taking(instance, wanted, seq, depth))
    if is_another or not (waiting or draft.count(name)):
        carried = {}
        for each in task.names:
            if each not in names and (last := draft.latest_for(task, each)):
                carried[each] = last
        made = draft.next_instance(name, taken={})
        if made.number == 0:
            # What was before the task, or did not reach it; of what came later it was told.
            tell_carried(draft, task, carried)
        if carried:
            made = task.carrying(made, carried)
        settle(draft, task, task.taking(made, names, seq, depth))


def _refusal(draft: Draft, task: TaskPlan, name: str, firing: Firing) -> str | None:
    """Why a firing does not pass the filters of a task."""
    if name in task.filters:
        refusals = draft.verdicts.of(draft.plan, question_again(draft, firing))
        if (task.config.name, name) in refusals:
            return refusals[task.config.name, name]
    pause = task.at_most_every
    if pause is not None and name == task.config.and_every:
        last = draft.latest_for(task, name)
        if last and draft.now - draft.firing(last).at < pause:
            at = format_moment(draft.firing(last).at)
            return f"{name} at most every {format_duration(pause)}: the last one was at {at}"
    return None


def passes_filter(draft: Draft, task: TaskPlan, name: str, firing: Firing) -> bool:
    """Whether an earlier firing passes what the task says of it now."""
    if name not in task.filters:
        return True
    question = question_again(draft, firing)
    return (task.config.name, name) not in draft.verdicts.of(draft.plan, question)


def question_of(
    draft: Draft, names: tuple[str, ...], kwargs: str, cause: InstanceKey | None
) -> Question:
    """What filters are to be asked about a firing of these names.

    :param cause: the instance whose outcome it is.
    """
    arguments = None
    if cause is not None and draft.plan.asks_about_arguments(names):
        arguments = payload.dump(arguments_of(draft, cause))
    is_inner = cause is not None or (draft.is_ending and draft.plan.fires_itself(names))
    return Question(names, kwargs, is_inner, arguments)


def question_again(draft: Draft, firing: Firing) -> Question:
    """The same about a firing that was recorded."""
    names = draft.plan.names_of(firing.trigger, firing.also)
    cause = None if firing.cause is None else split_instance_name(firing.cause)
    return question_of(draft, names, firing.kwargs, cause)


def ask_about(draft: Draft, planned: Iterable[Planned]) -> None:
    """See to it that filters have been asked about all of these firings.

    All at once, since each time that an answer is missing, deciding begins again.

    :raises Unjudged: they have not.
    """
    questions = []
    for each in planned:
        names = draft.plan.names_of(each.trigger, each.also)
        if draft.plan.asks_about(names):
            cause = None if each.cause is None else (each.cause.task, each.cause.number)
            questions.append(question_of(draft, names, each.kwargs, cause))
    draft.verdicts.require(draft.plan, questions)


def arguments_of(draft: Draft, key: InstanceKey) -> dict[str, Any]:
    """What the task of an instance got, or would have got: kwargs by trigger name."""
    instance, config = draft.instance(key), draft.plan.tasks[key[0]].config
    kwargs = payload.decode(instance.replacement or payload.EMPTY)
    for name, seq in instance.taken.items():
        if seq != BY_HAND and config.passes_on(name):
            kwargs[name] = payload.decode(draft.firing(seq).kwargs)
    return payload.merged(config.with_params, kwargs)


def _has_expired(draft: Draft, task: TaskPlan, instance: Instance) -> bool:
    return task.within is not None and instance.created_at + task.within <= draft.now


def _rested(draft: Draft, task: TaskPlan, instance: Instance) -> Instance:
    """The instance, without a burst that is over."""
    over = _burst_ends(draft, task, instance)
    if over is None or over > draft.now:
        return instance
    and_every = task.config.and_every
    counted = {name: seqs for name, seqs in instance.counted.items() if name != and_every}
    return instance.but(counted=counted)


def _burst_ends(draft: Draft, task: TaskPlan, instance: Instance) -> datetime | None:
    and_every = task.config.and_every
    if task.debounce is None or and_every is None or and_every not in instance.counted:
        return None
    first, last = instance.counted[and_every]
    return min(
        draft.firing(last).at + task.debounce.quiet, draft.firing(first).at + task.debounce.most
    )


def next_timer(draft: Draft, task: TaskPlan, instance: Instance) -> datetime | None:
    """When time alone may change a waiting instance next."""
    facts = draft.holdings(instance)
    dues = [*task.ready.dues(facts), *task.barred.dues(facts)]
    if task.within is not None:
        dues.append(instance.created_at + task.within)
    over = _burst_ends(draft, task, instance)
    if over is not None:
        dues.append(over)
    return min((due for due in dues if due > draft.now), default=None)


def too_deep(instance: Instance) -> dict[str, Any]:
    """What the metadata of an instance say that ended a chain of too many cascades."""
    return described(CascadeTooDeep(instance.name, MOST_CASCADES))


def described(error: Exception) -> dict[str, Any]:
    """What the metadata of an instance say about an exception of this package."""
    return {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "types": class_names(type(error)),
        "message": str(error),
        "context": {},
    }
