"""What becomes of the instances of a task that is replaced.

An instance that waits is carried over: what it has taken stays taken under the names that the old
and the new conditions share, and it waits for the rest. Where that would be a guess, the task is
not replaced; :meth:`Replacement.objections` says why. The whole of it is a table for people in
``docs/howto/change_a_configuration.rst``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from triggers.engine.draft import Draft
from triggers.engine.plan import Plan, TaskPlan, held
from triggers.engine.rules import question_again, settle, tell_carried
from triggers.engine.seeing import ask_filters, see_causes, see_firings
from triggers.types import BY_HAND, Instance, Status

Objection = tuple[str, tuple[str, ...], str]
"""A task, names of its instances, and why these keep it from being replaced."""

_CONDITIONS = ("after", "andEvery", "unless", "when", "within", "fresh", "atMostEvery", "debounce")
"""The directives that say what an instance waits for; all others count once it is started."""

_SHOWN = 10
"""How many instances a reason names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A waiting instance of a task that is replaced.

    :ivar before: as it was.
    :ivar after: as it is, before anything is decided about it.
    :ivar gained: firings of the past that count for it from now on, by name.
    """

    before: Instance
    after: Instance
    gained: Mapping[str, int]

    @property
    def lost(self) -> dict[str, tuple[int, ...]]:
        """Firings that it held and that do not count for it any more, by name."""
        lost = {}
        for name in self.before.taken:
            kept = held(self.after, name)
            if gone := tuple(seq for seq in held(self.before, name) if seq not in kept):
                lost[name] = gone
        return lost


class Replacement:
    """A task takes the place of another of the same name.

    :param draft: has the new configuration already, and knows what has passed its filters.
    :param before: the old configuration.
    """

    def __init__(self, draft: Draft, name: str, before: Plan) -> None:
        self.name = name
        self._draft = draft
        self._task, self._known = draft.plan.tasks[name], before.tasks[name]
        everyone = {**draft.state.instances, **draft.instances}.values()
        own = sorted((each for each in everyone if each.task == name), key=lambda each: each.number)
        self._begun = [
            each
            for each in own
            if each.status is not Status.UNSTARTED and not each.status.is_resolved
        ]
        waiting = [each for each in own if each.status is Status.UNSTARTED]
        if waits_otherwise(self._task, self._known):
            anew = self._chosen_anew()
            newer = self._newly_fresh()
            self.carried = [self._carried(each, anew, newer) for each in waiting]
        else:
            self.carried = [Carried(before=each, after=each, gained={}) for each in waiting]

    def objections(self) -> Iterator[Objection]:
        """Where it would be a guess what becomes of instances."""
        yield from self._indistinct()
        yield from self._filtered_out()
        yield from self._deprived()

    def apply(self) -> None:
        """Let the instances go on under the new configuration."""
        if not waits_otherwise(self._task, self._known):
            return
        draft, silent = self._draft, bars(self._known) - bars(self._task)
        for known in self._begun:
            # As it is by now: another replacement may have told it who has taken its outcome.
            instance = draft.instance((known.task, known.number))
            # What only 'unless' looked at never reached the task, and must not now.
            taken = {name: seq for name, seq in instance.taken.items() if name not in silent}
            if taken != instance.taken:
                draft.put(instance.but(taken=taken))
        gained: dict[str, int] = {}
        for each in self.carried:
            gained.update(each.gained)
            settle(draft, self._task, each.after)
        tell_carried(draft, self._task, gained)

    # -- what waiting instances hold ------------------------------------------------------------

    def _chosen_anew(self) -> dict[str, int]:
        """The latest firing of each name that the task did not name before, or not so."""
        names = [
            name
            for name in self._task.names
            if name not in self._known.names or self._is_judged_otherwise(name)
        ]
        latest = {name: self._draft.latest_for(self._task, name) for name in names}
        return {name: seq for name, seq in latest.items() if seq}

    def _newly_fresh(self) -> dict[str, int]:
        """The latest firing of each name of which now the newer one counts."""
        names = [
            name
            for name in self._task.fresh
            if name in self._known.names
            and name not in self._known.fresh
            and name != self._task.config.and_every
        ]
        return {name: self._draft.latest_for(self._task, name) for name in names}

    def _carried(
        self, instance: Instance, anew: Mapping[str, int], newer: Mapping[str, int]
    ) -> Carried:
        """What an instance holds of each name under the new conditions."""
        task, known = self._task, self._known
        carried = without_burst(instance, task, known)
        taken = {
            name: seq
            for name, seq in carried.taken.items()
            if seq == BY_HAND or (name in task.names and name in known.names)
        }
        counted = {name: seqs for name, seqs in carried.counted.items() if name in taken}
        for name in counted.keys() & task.counts.keys() - task.fresh.keys():
            # As many as are needed, if that is a number; of fresh ones the newest stay, not these.
            counted[name] = counted[name][: task.counts[name] or None]
        carried = carried.but(taken=taken, counted=counted)
        gained = {name: seq for name, seq in anew.items() if name not in taken}
        carried = task.carrying(carried, gained)
        for name, seq in newer.items():
            if name in taken and seq > max(held(carried, name)):
                carried = task.taking(carried, [name], seq, carried.depth)
                gained[name] = seq
        return Carried(before=instance, after=carried, gained=gained)

    def _is_judged_otherwise(self, name: str) -> bool:
        return _filter_of(self._task, name) != _filter_of(self._known, name)

    # -- what would be a guess ------------------------------------------------------------------

    def _indistinct(self) -> Iterator[Objection]:
        """Several that wait, each for a firing of its own, would come to wait for the same one."""
        old, new = self._known.config.and_every, self._task.config.and_every
        is_newly_fresh = new in self._task.fresh and new not in self._known.fresh
        if len(self.carried) < 2 or (old == new and not is_newly_fresh):
            return
        names = tuple(each.before.name for each in self.carried)
        if new is None:
            then = "without 'andEvery' the task runs once, and all of them would run"
        elif old == new:
            then = f"with {new!r} in 'fresh', all of them would take its next firing"
        else:
            then = f"with {new!r} in 'andEvery', all of them would take its next firing"
        apart = f", told apart by {old!r}" if old else ""
        yield self.name, names, f"{_listed(names)} wait{apart}; {then}."

    def _filtered_out(self) -> Iterator[Objection]:
        """One that waits holds a firing that does not pass any more."""
        draft = self._draft
        names = [
            name
            for name in self._task.filters
            if name in self._known.names and self._is_judged_otherwise(name)
        ]
        kept: dict[tuple[str, int], list[str]] = {}
        for each in self.carried:
            for name in names:
                for seq in held(each.after, name):
                    if seq != BY_HAND and each.gained.get(name) != seq:
                        kept.setdefault((name, seq), []).append(each.before.name)
        firings = see_firings(draft, {seq for _name, seq in kept})
        see_causes(draft, firings)
        ask_filters(draft, firings)
        for (name, seq), holders in kept.items():
            refusals = draft.verdicts.of(draft.plan, question_again(draft, draft.firing(seq)))
            why = refusals.get((self.name, name))
            if why is not None:
                what = f"{_listed(holders)} took firing {seq} of {name!r}, which does not pass now"
                yield self.name, tuple(holders), f"{what} ({why})."

    def _deprived(self) -> Iterator[Objection]:
        """One that does not wait any more would lose kwargs that it was decided with."""
        turned = turned_names(self._task, self._known)
        deprived: dict[tuple[str, ...], list[Instance]] = {}
        for each in self._begun:
            given = [name for name, seq in each.taken.items() if seq != BY_HAND]
            lost = tuple(sorted(turned.intersection(given)))
            if lost:
                deprived.setdefault(lost, []).append(each)
        for lost, instances in deprived.items():
            told = _listed(f"{each.name} ({each.status})" for each in instances)
            reason = f"{told} took kwargs of {_listed(lost)}; those of 'unless' reach no task."
            yield self.name, tuple(each.name for each in instances), reason


def waits_otherwise(task: TaskPlan, known: TaskPlan) -> bool:
    """Whether what instances wait for is not the same as before."""
    new, old = task.config.directives, known.config.directives
    return any(new.get(each) != old.get(each) for each in _CONDITIONS)


def must_see_begun(task: TaskPlan, known: TaskPlan) -> bool:
    """Whether the instances that have been decided, and are not done, must be looked at."""
    return bool(turned_names(task, known) or bars(known) - bars(task))


def turned_names(task: TaskPlan, known: TaskPlan) -> frozenset[str]:
    """The names whose kwargs may have reached a task, and of which it now asks in ``unless`` only.

    An instance may hold one that the task has asked for before, under a configuration long gone.
    """
    return bars(task) - bars(known)


def bars(task: TaskPlan) -> frozenset[str]:
    """The names of which a task asks in ``unless`` only."""
    return task.config.unless - task.config.after


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


def _filter_of(task: TaskPlan, name: str) -> object:
    return (task.config.directives.get("when") or {}).get(name)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")
