"""What it means to add tasks to a session, or to replace them."""

from __future__ import annotations

from dataclasses import dataclass

from triggers.configuration import Configuration, check_outcomes
from triggers.engine.draft import Draft, Planned, names_after
from triggers.engine.events import Event
from triggers.engine.plan import Plan, TaskPlan, compile_plan
from triggers.engine.replacing import Carried, Replacement, must_see_begun
from triggers.engine.rest import come_to_rest, conclude, pass_own_time
from triggers.engine.rules import cause_of, passes_filter, take
from triggers.engine.seeing import ask_filters, see_causes, see_firings
from triggers.engine.state import NO_HOOKS, Hooks, Reads, Transition
from triggers.exceptions import ReplacementRefused
from triggers.types import FireResult, Firing, Phase


@dataclass(frozen=True, kw_only=True)
class Configure(Event):
    """Tasks were added or replaced. Outcome: a :class:`~triggers.types.FireResult`.

    :ivar apply_history: let the new tasks take what was fired before they came.
    :ivar finalize: whether the session fires ``sessionFinalized`` when nothing is left to do;
        ``None``: as before.
    :ivar manager: name of the manager class that looks after the session.
    """

    configuration: Configuration
    manager: str | None = None
    apply_history: bool = False
    finalize: bool | None = None
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
            unresolved=any(
                must_see_begun(merged.tasks[name], plan.tasks[name])
                for name in tasks
                if name in plan.tasks
            ),
            history=self._sees_history(plan),
        )

    def apply(self, draft: Draft) -> Transition:
        return self.configure(draft)[0]

    def configure(self, draft: Draft) -> tuple[Transition, list[Carried]]:
        """What it does, and what becomes of the waiting instances of tasks that are replaced.

        :raises ConfigurationError: it does not fit the tasks that the session has.
        :raises ReplacementRefused: instances of a task that is replaced are in the way.
        """
        before, plan = draft.plan, self._merged(draft.plan)
        check_outcomes(plan.configuration)
        made = len(draft.created), len(draft.scheduled), len(draft.abandoned)
        draft.replace_plan(plan)
        fresh = frozenset(name for name in self.configuration.tasks if not draft.count(name))
        if self._sees_history(before):
            self._take_history(draft, fresh)
        changed = [
            name
            for name in self.configuration.tasks
            if name not in before.tasks or plan.tasks[name].config != before.tasks[name].config
        ]
        for name in changed:
            if name not in fresh or not self._sees_history(before):
                self._look_back(draft, name, before)
        # Of a task without instances, all that there is now has just been made for the new one.
        replaced = [name for name in changed if name in before.tasks and name not in fresh]
        replacements = [Replacement(draft, name, before) for name in replaced]
        objections = [each for replacement in replacements for each in replacement.objections()]
        if objections:
            raise ReplacementRefused(objections)
        for replacement in replacements:
            replacement.apply()
        come_to_rest(draft)
        outcome = FireResult(
            created=tuple(names_after(draft.created, made[0])),
            scheduled=tuple(names_after(draft.scheduled, made[1])),
            abandoned=tuple(names_after(draft.abandoned, made[2])),
        )
        known = draft.state.manager
        transition = conclude(
            draft,
            configured=plan.configuration != before.configuration,
            manager=self.manager if self.manager != known else None,
            outcome=outcome,
        )
        return transition, [each for replacement in replacements for each in replacement.carried]

    def _merged(self, plan: Plan) -> Plan:
        merged = plan.configuration.merged_with(self.configuration, finalize=self.finalize)
        return compile_plan(merged)

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
            if each in task.tracked and (known is None or _chooses_anew(task, known, each))
        ]
        seqs = {each: max(draft.latest(old) for old in plan.recorded_as(each)) for each in wanted}
        firings = see_firings(draft, {seq for seq in seqs.values() if seq})
        see_causes(draft, firings)
        ask_filters(draft, firings)
        found = {firing.seq: firing for firing in firings}
        for each, seq in seqs.items():
            passes = bool(seq) and passes_filter(draft, task, each, found[seq])
            draft.passed[name, each] = seq if passes else 0


def planned_again(draft: Draft, firing: Firing) -> Planned:
    """A firing that was recorded, as it was planned."""
    return Planned(
        trigger=firing.trigger,
        kwargs=firing.kwargs,
        also=firing.also,
        cause=cause_of(draft, firing.cause),
    )


def _chooses_anew(task: TaskPlan, known: TaskPlan, name: str) -> bool:
    """Whether what was kept as the latest firing that passed says nothing under a new task.

    Another length of the same pause lets it stand: it is still the last one that was taken.
    """
    (new, pause), (old, known_pause) = task.chooses(name), known.chooses(name)
    return name not in known.names or new != old or (pause is None) != (known_pause is None)
