"""One look at a session: everything that is stored about it, read once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

from triggers.configuration.likeness import meant_by
from triggers.engine.plan import held
from triggers.explain.values import Filtered, FiringRef, Held, Link, Name, Refusal
from triggers.types import BY_HAND, SESSION_FINALIZED, Firing, Instance, Status

if TYPE_CHECKING:
    from triggers.storages.session import SessionStorage

CHAIN = 20
"""How many steps back an explanation goes."""

_SHOWN = 5
_LIKENESS = 0.65
_SHORTEST = 4


class Look:
    """A session as it is at one moment.

    A few queries read it, however many instances and firings there are. It takes no lock: where
    the session changes meanwhile, a firing may be known whose effects are not.

    :ivar now: the session's time, as far as it can be told without changing it.
    :ivar told: what was found out about a trigger, by task and name.
    """

    def __init__(self, storage: SessionStorage) -> None:
        self.uid = storage.uid
        self.phase = storage.standing().phase
        # In this order, so that each can only refer to what is in the next.
        instances = list(storage.find_instances())
        self.firings = {each.seq: each for each in storage.find_firings()}
        self.plan = storage.plan()
        # A session that is deleted meanwhile has no tasks any more.
        self.instances = {each.name: each for each in instances if each.task in self.plan.tasks}
        self.undecided = len(storage.deferred())
        self.told: dict[tuple[str, str], Name] = {}
        moments = [each.changed_at for each in self.instances.values()]
        moments += [each.at for each in self.firings.values()]
        # A session's time never goes back, even where the clock of its storage does.
        self.now = max([storage.now(), *moments])

    # -- what belongs to what -------------------------------------------------------------------

    @cached_property
    def by_task(self) -> dict[str, list[Instance]]:
        """Instances by task, in order of number."""
        return _grouped((each.task, each) for each in self.instances.values())

    @cached_property
    def names(self) -> dict[int, tuple[str, ...]]:
        """All names of each firing."""
        return {
            seq: self.plan.names_of(each.trigger, each.also) for seq, each in self.firings.items()
        }

    @cached_property
    def fired(self) -> dict[str, list[Firing]]:
        """Firings by name, oldest first."""
        return _grouped((name, self.firings[seq]) for seq in self.names for name in self.names[seq])

    @cached_property
    def outcomes(self) -> dict[str, list[Firing]]:
        """Firings by the name of the instance that caused them, oldest first."""
        return _grouped((each.cause, each) for each in self.firings.values() if each.cause)

    @cached_property
    def decided(self) -> dict[int, list[Instance]]:
        """Instances by the firing that decided them, retries and replays of these included."""
        found = self.instances.values()
        return _grouped((each.decided_by, each) for each in found if each.decided_by is not None)

    @cached_property
    def holders(self) -> dict[int, list[Instance]]:
        """Instances by the firings that they hold."""
        return _grouped(
            (seq, each) for each in self.instances.values() for seq in set(self.seqs(each))
        )

    @cached_property
    def successors(self) -> dict[str, Instance]:
        """By name of an instance, the one that retries or replays it."""
        return {
            each.metadata.get("parent", ""): each
            for each in self.instances.values()
            if self.is_successor(each)
        }

    @cached_property
    def created(self) -> dict[int, list[Instance]]:
        """Instances by the firing that made them, as far as that can be told."""
        found = ((self.creator_of(each), each) for each in self.instances.values())
        return _grouped((made_by.seq, each) for made_by, each in found if made_by)

    @cached_property
    def unheard(self) -> dict[str, list[Firing]]:
        """Firings by name, of names that no task names, outcomes of tasks left out."""
        tasks = self.plan.tasks
        return {
            name: firings
            for name, firings in self.fired.items()
            if not self.plan.listening(name) and name.partition(":")[0] not in tasks
        }

    @cached_property
    def _refused(self) -> dict[str, list[Refusal]]:
        """What was filtered out, by task, newest first."""
        return _grouped(
            (task, Refusal(firing=self.ref(each), task=task, reason=reason))
            for each in reversed(self.firings.values())
            for task, reason in each.refused.items()
        )

    @cached_property
    def _at(self) -> dict[datetime, list[Firing]]:
        return _grouped((each.at, each) for each in self.firings.values())

    # -- questions ------------------------------------------------------------------------------

    def ref(self, firing: Firing) -> FiringRef:
        """A firing, in short."""
        return FiringRef(
            seq=firing.seq, names=self.names[firing.seq], at=firing.at, cause=firing.cause
        )

    def held(self, name: str, seq: int, *, counts: bool = True) -> Held:
        """Something that an instance holds."""
        firing = None if seq == BY_HAND else self.ref(self.firings[seq])
        return Held(name=name, firing=firing, counts=counts)

    def seqs(self, instance: Instance) -> list[int]:
        """The firings that an instance holds and that count, without those given by hand."""
        return [seq for _name, seq in self.holds(instance) if seq != BY_HAND]

    def holds(self, instance: Instance) -> list[tuple[str, int]]:
        """Names and firings that an instance holds, oldest first."""
        task = self.plan.tasks[instance.task]
        found = [
            (seq, name)
            for name, first in instance.taken.items()
            for seq in ((first,) if task.replaces(name) else held(instance, name))
        ]
        return [(name, seq) for seq, name in sorted(found)]

    def by_being_settled(
        self, task: str, as_of: datetime | None = None
    ) -> tuple[list[Instance], list[Instance]]:
        """Instances of a task that are settled, and the others; or how that was at a moment.

        A status that is resolved is final, so the time of its change says when it became so. What
        happened at that very moment counts for being settled.
        """
        settled, others = [], []
        for each in self.by_task.get(task, []):
            if each.status.is_resolved and (as_of is None or each.changed_at <= as_of):
                settled.append(each)
            elif as_of is None or each.created_at < as_of:
                others.append(each)
        return settled, others

    def is_settled(self, task: str, as_of: datetime | None = None) -> bool:
        """Whether a task has lineages, all settled; or had them so at a moment."""
        settled, others = self.by_being_settled(task, as_of)
        return bool(settled) and not others

    def is_successor(self, instance: Instance) -> bool:
        """Whether an instance retries or replays another."""
        return instance.lineage != instance.number

    def filtered(self, task: str) -> Filtered:
        """What was filtered out for a task."""
        found = self._refused.get(task, [])
        return Filtered(latest=tuple(found[:_SHOWN]), more=max(0, len(found) - _SHOWN))

    def refusals(self, firing: Firing) -> tuple[Refusal, ...]:
        """For which tasks a firing was filtered out."""
        return tuple(
            Refusal(firing=self.ref(firing), task=task, reason=reason)
            for task, reason in firing.refused.items()
        )

    def chain(self, instance: Instance | None) -> tuple[tuple[Link, ...], bool]:
        """What decided an instance, and what had led to that; whether that is all of it."""
        links: list[Link] = []
        while instance is not None and instance.decided_by in self.firings:
            if len(links) == CHAIN:
                return tuple(links), False
            firing = self.firings[instance.decided_by]
            verb = "ruled out" if instance.status is Status.ABANDONED else "scheduled"
            links.append(Link(firing=self.ref(firing), verb=verb))
            instance = self.instances.get(firing.cause) if firing.cause else None
        return tuple(links), True

    def meant(self, name: str) -> str | None:
        """What a name that was never fired is perhaps a misspelling of.

        One that was fired, and that no task names; or a task; or what the session fires itself.
        """
        if len(name) < _SHORTEST:
            return None
        known = [each for each in self.unheard if len(each) >= _SHORTEST]
        known += [each for each in self.plan.tasks if each not in self.fired]
        alike = get_close_matches(name, known, 1, _LIKENESS)
        if alike or name == SESSION_FINALIZED:
            return next(iter(alike), None)
        return meant_by(name, (SESSION_FINALIZED,))

    def creator_of(self, instance: Instance) -> Firing | None:
        """The firing that made an instance; ``None`` if that was none, or cannot be told."""
        if "parent" in instance.metadata or BY_HAND in instance.taken.values():
            return None
        task, own = self.plan.tasks[instance.task], set(self.seqs(instance))
        and_every = task.config.and_every
        makers = task.names if instance.number == 0 else (and_every,)
        found = []
        for firing in self._at.get(instance.created_at, ()):
            number = sum(name in makers for name in self.names[firing.seq])
            if number and (instance.task not in firing.refused or firing.seq in own):
                found.append(firing)
            elif number > 1:
                return None  # it may have passed under one of its names, and not under another
        if instance.number and len(found) > 1:
            # Each made an instance, which holds it still, unless a later one took its place.
            replaced = and_every in task.fresh or task.debounce is not None
            found = [] if replaced else [each for each in found if each.seq in own]
        return found[0] if found else None


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, member in pairs:
        groups[key].append(member)
    return dict(groups)
