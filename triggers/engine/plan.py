"""A configuration, compiled once for deciding many firings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

from triggers.conditions.durations import parse_duration
from triggers.conditions.filters import Filter, filter_of
from triggers.conditions.tree import (
    AllHeld,
    Condition,
    Elapsed,
    Facts,
    Held,
    HeldAsOften,
    Language,
    Never,
    Rested,
    Settled,
    barring,
    condition_of,
)
from triggers.configuration import Configuration
from triggers.types import SESSION_FINALIZED, Instance, Status, TaskConfig

SETTLED = ":settled"
"""Ends the name under which waiting instances are indexed that ask whether a task is settled."""

OUTCOMES: Mapping[str, tuple[str, ...]] = {
    "": ("ended",),
    "failed": ("ended",),
    "skipped": ("ended",),
    "abandoned": ("ended",),
    "expired": ("abandoned", "ended"),
    "ended": (),
}
"""The outcomes of a task, the empty one its plain name, and those that each brings with it."""


@dataclass(frozen=True, slots=True)
class Debounce:
    """When a burst of firings is over.

    :ivar quiet: so long after its last one …
    :ivar most: … but not later than so long after its first.
    """

    quiet: timedelta
    most: timedelta


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task as the engine sees it.

    :ivar ready: the condition of ``after`` and ``andEvery``.
    :ivar barred: the condition of ``unless``.
    :ivar names: every trigger that either of them looks at.
    :ivar counts: how many firings of a name an instance holds at most; 0: as many as there are.
    :ivar fresh: the age from which a firing does not count any more, by name.
    :ivar filters: which firings of a name count.
    :ivar tracked: names whose latest firing that passed is kept for this task.
    :ivar watches: tasks of which it waits that they are settled.
    :ivar is_barred_at_rest: whether its ``unless`` asks that; then it starts only at rest.
    :ivar looks_up: names of which conditions look at the time or the kwargs of what is held.
    :ivar is_plain: whether an instance takes each name once, and nothing else changes it.
    :ivar is_timed: whether time alone can change an instance.
    """

    config: TaskConfig
    ready: Condition
    barred: Condition
    names: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    fresh: Mapping[str, timedelta] = field(default_factory=dict)
    filters: Mapping[str, Filter] = field(default_factory=dict)
    tracked: frozenset[str] = frozenset()
    watches: tuple[str, ...] = ()
    is_barred_at_rest: bool = False
    within: timedelta | None = None
    at_most_every: timedelta | None = None
    debounce: Debounce | None = None
    looks_up: frozenset[str] = frozenset()
    is_plain: bool = True
    is_timed: bool = False

    def open_names(self, instance: Instance) -> tuple[str, ...]:
        """What can still change this instance; nothing once it has been decided.

        A name whose number of firings another firing says stays open; :meth:`wants` knows better.
        """
        if instance.status is not Status.UNSTARTED:
            return ()
        if not (self.counts or self.fresh or instance.counted):
            # Each name is taken once. Most tasks are so, and this is asked of every change.
            taken = instance.taken
            still_open = tuple([name for name in self.names if name not in taken])
            return still_open + self.settlings if self.watches else still_open
        found = [name for name in self.names if self._is_open(name, instance)]
        return (*found, *self.settlings)

    @property
    def settlings(self) -> tuple[str, ...]:
        """Under which names an instance is indexed that waits for tasks to be settled."""
        return tuple(task + SETTLED for task in self.watches)

    def _is_open(self, name: str, instance: Instance) -> bool:
        if name not in instance.taken or name in self.fresh:
            return True
        if name in self.counts:
            most = self.counts[name]
            return not most or len(held(instance, name)) < most
        return name in instance.counted

    def most(self, name: str, facts: Facts) -> int | None:
        """How many firings of a name a waiting instance holds at most; ``None``: not known yet."""
        if name not in self.counts or self.counts[name]:
            return self.counts.get(name, 1)
        known = 0
        for condition in (*self.ready.parts(), *self.barred.parts()):
            if isinstance(condition, HeldAsOften) and condition.name == name:
                needed = condition.needed(facts)
                if needed is None:
                    return None
                known = max(known, needed)
            elif isinstance(condition, Held) and condition.name == name:
                known = max(known, condition.times)
            elif isinstance(condition, AllHeld | Elapsed | HeldAsOften) and name in condition.names:
                known = max(known, 1)
        return known

    def wants(self, name: str, instance: Instance, facts: Facts) -> bool:
        """Whether a waiting instance takes one more firing of a name that is open."""
        if name not in self.counts or self.counts[name] or name in self.fresh:
            return True
        most = self.most(name, facts)
        return most is None or len(held(instance, name)) < most

    def trimmed(self, instance: Instance, facts: Facts) -> Instance:
        """The instance with the newest firings only, of names where the newest count."""
        for name in self.counts.keys() & self.fresh.keys() & instance.counted.keys():
            seqs, most = instance.counted[name], self.most(name, facts)
            if most is not None and len(seqs) > max(most, 1):
                newest = seqs[-max(most, 1) :]
                instance = instance.but(
                    counted={**instance.counted, name: newest},
                    taken={**instance.taken, name: newest[0]},
                )
        return instance

    def taking(
        self, instance: Instance, names: Iterable[str], seq: int, depth: int = 0
    ) -> Instance:
        """The instance, holding a firing under these names.

        :param depth: how many cascades led to the firing.
        """
        taken, counted = dict(instance.taken), instance.counted
        for name in names:
            if name in self.counts:
                seqs = (*held(instance, name), seq)
                counted = {**counted, name: seqs}
                taken[name] = seqs[0]
            elif self.replaces(name):
                first = counted[name][0] if name in counted else seq
                counted = {**counted, name: (first, seq)}
                taken[name] = seq
            else:
                taken[name] = seq
        return instance.but(taken=taken, counted=counted, depth=depth)

    def replaces(self, name: str) -> bool:
        """Whether of a burst of this name only the last firing counts."""
        return self.debounce is not None and name == self.config.and_every

    def carrying(self, instance: Instance, seqs: Mapping[str, int]) -> Instance:
        """The instance, holding these earlier firings too, one of each name."""
        counted = instance.counted
        bursts = {name: (seq, seq) for name, seq in seqs.items() if self.replaces(name)}
        if bursts:
            counted = {**counted, **bursts}
        return instance.but(taken={**instance.taken, **seqs}, counted=counted)

    def chooses(self, name: str) -> tuple[Any, Any]:
        """What says which firings of a name pass."""
        directives = self.config.directives
        pause = directives.get("atMostEvery") if name == self.config.and_every else None
        return (directives.get("when") or {}).get(name), pause


@dataclass(frozen=True, slots=True)
class Plan:
    """All tasks of a configuration, and who listens to which trigger, in configuration order.

    :ivar settling: tasks of which others wait that they are settled.
    :ivar finishing: the tasks that must be done before the session fires that it is finalized: all
        but those that wait for that; none if it does not finalize.
    :ivar watched: all of these, whose unsettled instances are kept track of.
    :ivar is_timed: whether time alone can change an instance of some task.
    """

    configuration: Configuration
    tasks: Mapping[str, TaskPlan]
    listeners: Mapping[str, tuple[TaskPlan, ...]]
    positions: Mapping[str, int]
    settling: frozenset[str] = frozenset()
    finishing: frozenset[str] = frozenset()
    watched: frozenset[str] = frozenset()
    is_timed: bool = False
    _takers: dict[tuple[str, ...], tuple[tuple[TaskPlan, tuple[str, ...]], ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def listening(self, trigger: str) -> tuple[TaskPlan, ...]:
        """The tasks that name this trigger anywhere, in configuration order."""
        return self.listeners.get(trigger, ())

    def is_listened_to(self, trigger: str) -> bool:
        """Whether a task names this trigger, or what it brings with it."""
        return any(name in self.listeners for name in self.names_of(trigger))

    def reserved_for(self, trigger: str) -> str | None:
        """The task whose outcome this name stands for (``t_x:failed``), if there is one."""
        if ":" not in trigger:
            return None
        task, _mark, _outcome = trigger.partition(":")
        return task if task in self.tasks else None

    def fires_itself(self, names: tuple[str, ...]) -> bool:
        """Whether the session fires these names when it is finalized."""
        return self.configuration.finalizes and names == (SESSION_FINALIZED,)

    def names_of(self, trigger: str, also: tuple[str, ...] = ()) -> tuple[str, ...]:
        """All names of a firing: those given, and what each brings with it."""
        if not also and ":" not in trigger and trigger not in self.tasks:
            return (trigger,)
        names = dict.fromkeys((trigger, *also))
        for name in (trigger, *also):
            task, _mark, outcome = name.partition(":")
            if task in self.tasks:
                names.update((f"{task}:{each}", None) for each in OUTCOMES.get(outcome, ()))
        return tuple(names)

    def recorded_as(self, name: str) -> tuple[str, ...]:
        """The triggers under which a firing may be recorded that has this name."""
        if ":" not in name:
            return (name,)
        task, _mark, outcome = name.partition(":")
        if task not in self.tasks:
            return (name,)
        brought = [each for each, others in OUTCOMES.items() if outcome in others]
        return (name, *(f"{task}:{each}" if each else task for each in brought))

    def asks_about(self, names: Iterable[str]) -> bool:
        """Whether some task has a filter for one of these names."""
        return any(name in task.filters for name in names for task in self.listening(name))

    def asks_about_arguments(self, names: Iterable[str]) -> bool:
        """Whether a filter for one of these names looks at the arguments of the source task."""
        found = (task.filters.get(name) for name in names for task in self.listening(name))
        return any(judge is not None and judge.uses_args for judge in found)

    def takers(self, names: tuple[str, ...]) -> tuple[tuple[TaskPlan, tuple[str, ...]], ...]:
        """The tasks that a firing of these names reaches, with the names that each looks at.

        In configuration order.
        """
        found = self._takers.get(names)
        if found is None:
            reached = {task.config.name: task for name in names for task in self.listening(name)}
            found = tuple(
                (reached[name], tuple(each for each in names if each in reached[name].names))
                for name in sorted(reached, key=self.positions.__getitem__)
            )
            if found:
                self._takers[names] = found
        return found


def held(instance: Instance, name: str) -> tuple[int, ...]:
    """Sequence numbers of all firings of a name that an instance holds, oldest first."""
    if name in instance.counted:
        return instance.counted[name]
    return (instance.taken[name],) if name in instance.taken else ()


@lru_cache(maxsize=256)
def compile_plan(configuration: Configuration) -> Plan:
    """Compile a configuration; equal ones are compiled once per process."""
    tasks = {name: _task_plan(config) for name, config in configuration.tasks.items()}
    listeners: dict[str, list[TaskPlan]] = {}
    for task in tasks.values():
        for trigger in task.names:
            listeners.setdefault(trigger, []).append(task)
    finishing = _finishing(configuration)
    settling = frozenset(watched for task in tasks.values() for watched in task.watches)
    return Plan(
        configuration=configuration,
        tasks=tasks,
        listeners={trigger: tuple(found) for trigger, found in listeners.items()},
        positions={name: position for position, name in enumerate(tasks)},
        settling=settling,
        finishing=finishing,
        watched=settling | finishing,
        is_timed=any(task.is_timed for task in tasks.values()),
    )


def _finishing(configuration: Configuration) -> frozenset[str]:
    if not configuration.finalizes:
        return frozenset()
    tasks = configuration.tasks.items()
    return frozenset(name for name, task in tasks if SESSION_FINALIZED not in task.after)


def _task_plan(config: TaskConfig) -> TaskPlan:
    directives, and_every = config.directives, config.and_every
    fresh = _durations(directives.get("fresh"))
    debounce = directives.get("debounce")
    language = Language(fresh, _named(directives), and_every if debounce else None)
    after = directives.get("after") or []
    if and_every:
        after = [*after, and_every] if isinstance(after, list | tuple) else [after, and_every]
    ready = condition_of(after, language)
    barred = barring(directives.get("unless"), language)
    parts = [*ready.parts(), *barred.parts()]
    filters = {name: filter_of(raw) for name, raw in (directives.get("when") or {}).items()}
    at_most_every = _duration(directives.get("atMostEvery"))
    within = _duration(directives.get("within"))
    watches = dict.fromkeys(part.task for part in parts if isinstance(part, Settled))
    return TaskPlan(
        config=config,
        ready=ready,
        barred=barred,
        names=tuple(dict.fromkeys((*ready.names, *barred.names))),
        counts=_counts(parts),
        fresh=fresh,
        filters=filters,
        tracked=frozenset(filters) | ({and_every} if and_every and at_most_every else set()),
        watches=tuple(watches),
        is_barred_at_rest=any(isinstance(part, Settled) for part in barred.parts()),
        within=within,
        at_most_every=at_most_every,
        debounce=Debounce(*(parse_duration(debounce[each]) for each in ("quiet", "most")))
        if debounce
        else None,
        looks_up=frozenset(fresh).union(
            (part.since for part in parts if isinstance(part, Elapsed)),
            (part.source for part in parts if isinstance(part, HeldAsOften)),
            (part.name for part in parts if isinstance(part, Rested)),
        ),
        is_plain=isinstance(ready, AllHeld) and isinstance(barred, AllHeld | Never) and not fresh,
        is_timed=bool(within or debounce or any(isinstance(part, Elapsed) for part in parts)),
    )


def _counts(parts: Iterable[Condition]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        if isinstance(part, HeldAsOften):
            counts[part.name] = 0
        elif isinstance(part, Held) and part.times > 1:
            known = counts.get(part.name)
            counts[part.name] = part.times if known is None else known and max(known, part.times)
    return counts


def _named(raw: Any) -> frozenset[str]:
    """Every name that the conditions of a task mention outside of ``from``."""
    if isinstance(raw, str):
        return frozenset({raw})
    if isinstance(raw, list | tuple):
        return frozenset().union(*(_named(each) for each in raw))
    looked_at = ("after", "unless", "andEvery", "all", "any", "of", "trigger", "since")
    return frozenset().union(*(_named(raw[key]) for key in looked_at if raw.get(key)))


def _durations(raw: Mapping[str, str] | None) -> dict[str, timedelta]:
    return {name: parse_duration(text) for name, text in (raw or {}).items()}


def _duration(text: str | None) -> timedelta | None:
    return None if text is None else parse_duration(text)


EMPTY_PLAN = compile_plan(Configuration())
"""The plan of a session that has no configuration yet."""
