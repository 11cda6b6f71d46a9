"""What it means to add tasks to a session, or to replace them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from triggers.configuration import Configuration, check_outcomes
from triggers.engine.draft import Draft, Planned, names_after
from triggers.engine.events import Event
from triggers.engine.plan import Plan, TaskPlan, compile_plan
from triggers.engine.rest import come_to_rest, conclude, pass_own_time
from triggers.engine.rules import (
    cause_of,
    passes_filter,
    question_again,
    settle,
    take,
    tell_carried,
)
from triggers.engine.state import NO_HOOKS, Hooks, InstanceKey, MustSeeMore, Reads, Transition
from triggers.types import FireResult, Firing, Instance, Phase, Status, split_instance_name


@dataclass(frozen=True, kw_only=True)
class Configure(Event):
    """Tasks were added or replaced. Outcome: a :class:`~triggers.types.FireResult`.

    :ivar apply_history: let the new tasks take what was fired before they came.
    :ivar manager: name of the manager class that looks after the session.
    """

    configuration: Configuration
    manager: str | None = None
    apply_history: bool = False
    hooks: Hooks = NO_HOOKS
    opens_session = True
    refused_when = frozenset(Phase) - {Phase.OPEN}

    def reads(self, plan: Plan) -> Reads:
        merged = self._merged(plan)
        tasks = tuple(self.configuration.tasks)
        names = {each for name in tasks for each in merged.tasks[name].names}
        recorded = {trigger for each in names for trigger in merged.recorded_as(each)}
        return Reads(
            counts=tasks,
            waiting=tuple(name for name in tasks if name in plan.tasks),
            latest=tuple(sorted(recorded)),
            history=self._sees_history(plan),
        )

    def apply(self, draft: Draft) -> Transition:
        before, plan = draft.plan, self._merged(draft.plan)
        check_outcomes(plan.configuration)
        made = len(draft.created), len(draft.scheduled), len(draft.abandoned)
        draft.replace_plan(plan)
        fresh = frozenset(name for name in self.configuration.tasks if not draft.count(name))
        if self._sees_history(before):
            self._take_history(draft, fresh)
        for name in self.configuration.tasks:
            if name not in before.tasks or plan.tasks[name].config != before.tasks[name].config:
                if name not in fresh or not self._sees_history(before):
                    self._look_back(draft, name, before)
                if name in before.tasks:
                    self._carry_over(draft, name, before)
        come_to_rest(draft)
        outcome = FireResult(
            created=tuple(names_after(draft.created, made[0])),
            scheduled=tuple(names_after(draft.scheduled, made[1])),
            abandoned=tuple(names_after(draft.abandoned, made[2])),
        )
        known = draft.state.manager
        return conclude(
            draft,
            configured=plan.configuration != before.configuration,
            manager=self.manager if self.manager != known else None,
            outcome=outcome,
        )

    def _merged(self, plan: Plan) -> Plan:
        return compile_plan(plan.configuration.merged_with(self.configuration))

    def _sees_history(self, plan: Plan) -> bool:
        return self.apply_history or not plan.tasks

    def _take_history(self, draft: Draft, fresh: frozenset[str]) -> None:
        """Let new tasks take everything that was fired before they came, in its order."""
        history = {
            seq: draft.plan.names_of(names[0], names[1:])
            for seq, names in sorted(draft.past().items())
        }
        tasks = [draft.plan.tasks[name] for name in fresh]
        listened = {each for task in tasks for each in task.names}
        # All of them at once, since each time something is missing, deciding begins again.
        firings = see_firings(
            draft, [seq for seq, names in history.items() if not listened.isdisjoint(names)]
        )
        see_causes(draft, firings)
        ask_filters(draft, firings)
        for name in fresh:
            for each in draft.plan.tasks[name].tracked:
                draft.passed[name, each] = 0
        draft.begin_history()
        for firing in firings:
            pass_own_time(draft, firing.at)
            draft.now = firing.at
            take(draft, firing, history[firing.seq], planned_again(draft, firing), only=fresh)
        pass_own_time(draft, draft.present)
        draft.end_history()

    def _look_back(self, draft: Draft, name: str, before: Plan) -> None:
        """Find the latest firings that a task lets pass, where it did not choose so before."""
        task, known, plan = draft.plan.tasks[name], before.tasks.get(name), draft.plan
        wanted = [
            each
            for each in task.names
            if each in task.tracked and (known is None or known.chooses(each) != task.chooses(each))
        ]
        seqs = {each: max(draft.latest(old) for old in plan.recorded_as(each)) for each in wanted}
        firings = see_firings(draft, {seq for seq in seqs.values() if seq})
        see_causes(draft, firings)
        ask_filters(draft, firings)
        found = {firing.seq: firing for firing in firings}
        for each, seq in seqs.items():
            passes = bool(seq) and passes_filter(draft, task, each, found[seq])
            draft.passed[name, each] = seq if passes else 0

    def _carry_over(self, draft: Draft, name: str, before: Plan) -> None:
        """Let the waiting instances of a replaced task wait on under its new conditions."""
        task = draft.plan.tasks[name]
        waiting = [
            instance
            for instance in {**draft.state.instances, **draft.instances}.values()
            if instance.task == name and instance.status is Status.UNSTARTED
        ]
        known = before.tasks[name]
        newly = [each for each in task.names if each not in known.names]
        seen = {each: draft.latest_for(task, each) for each in newly}
        seen = {each: seq for each, seq in seen.items() if seq}
        for instance in sorted(waiting, key=lambda each: each.number):
            settle(draft, task, task.carrying(without_burst(instance, task, known), seen))
        if waiting:
            tell_carried(draft, task, seen)


def planned_again(draft: Draft, firing: Firing) -> Planned:
    """A firing that was recorded, as it was planned."""
    return Planned(
        trigger=firing.trigger,
        kwargs=firing.kwargs,
        also=firing.also,
        cause=cause_of(draft, firing.cause),
    )


def see_firings(draft: Draft, seqs: Iterable[int]) -> list[Firing]:
    """These firings, in their order.

    :raises MustSeeMore: some of them have not been read.
    """
    seqs = sorted(seqs)
    missing = tuple(seq for seq in seqs if not draft.knows_firing(seq))
    if missing:
        raise MustSeeMore(Reads(firings=missing))
    return [draft.firing(seq) for seq in seqs]


def see_causes(draft: Draft, firings: Iterable[Firing]) -> None:
    """See to it that the instances are known whose outcomes these firings are.

    :raises MustSeeMore: some of them have not been read.
    """
    keys = {split_instance_name(each.cause) for each in firings if each.cause}
    _see_instances(draft, keys)
    _see_instances(draft, {(key[0], draft.instance(key).lineage) for key in keys})


def _see_instances(draft: Draft, keys: set[InstanceKey]) -> None:
    missing = tuple(sorted(key for key in keys if not draft.knows_instance(key)))
    if missing:
        raise MustSeeMore(Reads(instances=missing))


def ask_filters(draft: Draft, firings: Iterable[Firing]) -> None:
    """See to it that filters have been asked about these firings.

    :raises Unjudged: they have not.
    """
    asked = [each for each in firings if draft.plan.asks_about(_names_of(draft, each))]
    draft.verdicts.require(draft.plan, [question_again(draft, each) for each in asked])


def _names_of(draft: Draft, firing: Firing) -> tuple[str, ...]:
    return draft.plan.names_of(firing.trigger, firing.also)


def without_burst(instance: Instance, task: TaskPlan, known: TaskPlan) -> Instance:
    """An instance that holds of each name what it may under another configuration of its task.

    A burst that lasts goes on only if its name is still debounced; if not, its last firing counts.
    """
    counted = {
        name: seqs
        for name, seqs in instance.counted.items()
        if (task.replaces(name) if known.replaces(name) else name in task.counts)
    }
    newest = {
        name: seqs[-1]
        for name, seqs in instance.counted.items()
        if name not in counted and name in task.fresh
    }
    return instance.but(counted=counted, taken={**instance.taken, **newest})
