"""What a configuration would do to a session, in the words of explanations.

The decision itself is the engine's own, made on the session as it is and never committed
(:mod:`triggers.engine.previewing`). What instances would then wait for is explained as it would be
after the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, cast

from triggers.engine.plan import Plan, held
from triggers.engine.previewing import Preview
from triggers.engine.replacing import Carried
from triggers.engine.state import Transition
from triggers.exceptions import StorageUnavailable
from triggers.explain.instances import instance_of
from triggers.explain.look import Look
from triggers.explain.values import Conditions, Explanation, Held, Value
from triggers.explain.wording import Outline, counted, listed, moment
from triggers.types import (
    BY_HAND,
    SESSION_FINALIZED,
    FireResult,
    Firing,
    Instance,
    Standing,
    Status,
)

if TYPE_CHECKING:
    from triggers.storages.session import SessionStorage

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes(Value):
    """Instances that something changes, by name.

    :ivar created: those that it makes.
    :ivar scheduled: those that it makes ready to run.
    :ivar abandoned: those that it rules out, or that expire.
    """

    created: tuple[str, ...] = ()
    scheduled: tuple[str, ...] = ()
    abandoned: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: FireResult | None) -> Changes:
        """The same as a result says.

        :param result: what a firing, or a configuration, did.
        """
        known = result or FireResult()
        return cls(created=known.created, scheduled=known.scheduled, abandoned=known.abandoned)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOver(Value):
    """A waiting instance of a task that would be replaced.

    :ivar name: the instance's name, such as ``t_x#0``.
    :ivar task: the task's name.
    :ivar status: what it would be then; ``unstarted`` means that it waits on.
    :ivar missing: what it would still wait for, a phrase each; all of it is needed.
    :ivar conditions: the new conditions, each with whether it holds; ``None`` if it would not wait.
    :ivar gains: firings of the past that would count for it from then on.
    :ivar loses: firings that it has taken, and that would not count for it any more.
    """

    name: str
    task: str
    status: Status
    missing: tuple[str, ...] = ()
    conditions: Conditions | None = None
    gains: tuple[Held, ...] = ()
    loses: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacementRefusal(Value):
    """Why a task cannot be replaced now.

    :ivar task: the task's name.
    :ivar instances: names of the instances that are in the way.
    :ivar reason: what speaks against it, for people.
    """

    task: str
    instances: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationPreview(Explanation):
    """What ``update_configuration`` would do now. Nothing of it was done.

    :ivar uid: the session's uid.
    :ivar at: the session's time for which this is true; ``None`` if it would be refused.
    :ivar created: names of the instances that it would create.
    :ivar scheduled: names of the instances that it would make ready to run.
    :ivar abandoned: names of the instances that it would rule out.
    :ivar due: what time decides in the session before that, whether it is configured or not.
    :ivar fires: names that would be fired by all this: outcomes of instances.
    :ivar new: tasks that the session does not have yet.
    :ivar replaced: tasks that would take the place of others of the same name.
    :ivar unchanged: tasks that the session has already, exactly so.
    :ivar finalizes: whether the session would fire ``sessionFinalized`` when nothing is left to do;
        ``None``: as before.
    :ivar finalized: whether ``sessionFinalized`` was fired already, so that it is not fired again;
        looked up only if ``finalizes`` is not ``None``.
    :ivar waiting: the waiting instances of ``replaced``, and what would become of them.
    :ivar unknown: why tasks cannot be run by this process, by name of the task; a worker may know
        what this process does not.
    :ivar refusals: why it would be refused as a whole; empty if it would not.
    """

    kind: ClassVar[str] = "preview"

    uid: str
    at: datetime | None
    created: tuple[str, ...] = ()
    scheduled: tuple[str, ...] = ()
    abandoned: tuple[str, ...] = ()
    due: Changes = Changes()
    fires: tuple[str, ...] = ()
    new: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    finalizes: bool | None = None
    finalized: bool = False
    waiting: tuple[CarriedOver, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[ReplacementRefusal, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether it would raise :class:`~triggers.exceptions.ReplacementRefused`."""
        return bool(self.refusals)

    def outline(self) -> Outline:
        return _outline(self)


def foresee(
    storage: SessionStorage, event: Preview, unknown: Mapping[str, str]
) -> ConfigurationPreview:
    """Find out what a configuration would do to a session.

    :param event: the configuration, as an event that only looks.
    :param unknown: why tasks cannot be run by this process, by name of the task.
    :returns: sentences through ``str()``, plain JSON through ``to_json()``.
    :raises SessionClosed: the session does not take a configuration any more.
    :raises ConfigurationError: it does not fit the tasks that the session has.
    :raises StorageUnavailable: the storage did not do its part.
    """
    for _ in range(_ATTEMPTS):
        foresight = storage.rehearse(event)
        new, replaced, unchanged = _tasks(foresight.before, event)
        declares = event.finalize != foresight.before.configuration.finalizes
        latest = storage.find_firings(latest=True) if declares else ()
        found = ConfigurationPreview(
            uid=storage.uid,
            at=None,
            new=new,
            replaced=replaced,
            unchanged=unchanged,
            finalizes=event.finalize if declares else None,
            finalized=any(each.trigger == SESSION_FINALIZED for each in latest),
            unknown={name: unknown[name] for name in (*new, *replaced) if name in unknown},
        )
        transition = foresight.transition
        if transition is None:
            refusals = tuple(
                ReplacementRefusal(task=task, instances=names, reason=reason)
                for task, names, reason in foresight.objections
            )
            return replace(found, refusals=refusals)
        waiting = _waiting(storage, foresight.carried, transition)
        if waiting is not None:
            result: FireResult = transition.outcome
            marks = (each.data["trigger"] for each in transition.pending if each.kind == "cascade")
            return replace(
                found,
                at=transition.clock,
                created=result.created,
                scheduled=result.scheduled,
                abandoned=result.abandoned,
                due=Changes.of(foresight.due),
                fires=(*(each.trigger for each in transition.firings), *marks),
                waiting=waiting,
            )
    raise StorageUnavailable(storage.name, f"session {storage.uid!r} is removed again and again")


def _tasks(before: Plan, event: Preview) -> tuple[tuple[str, ...], ...]:
    """The tasks that are new, those that are replaced, and those that stay as they are."""
    given, known = event.configuration.tasks, before.configuration.tasks
    both = [name for name in given if name in known]
    return (
        tuple(name for name in given if name not in known),
        tuple(name for name in both if given[name] != known[name]),
        tuple(name for name in both if given[name] == known[name]),
    )


def _waiting(
    storage: SessionStorage, carried: Collection[Carried], transition: Transition
) -> tuple[CarriedOver, ...] | None:
    """What would become of waiting instances; ``None`` if they have been removed meanwhile."""
    if not carried:
        return ()
    look = Look(cast("SessionStorage", _Foreseen(storage, transition)))
    seqs = {seq for each in carried for seq in (*_seqs(each.before), *_seqs(each.after))}
    names = {each.before.name for each in carried}
    if not (names <= look.instances.keys() and seqs <= look.firings.keys()):
        return None
    return tuple(_carried_over(look, each) for each in carried)


def _carried_over(look: Look, carried: Carried) -> CarriedOver:
    before = carried.before
    then = instance_of(look, look.instances[before.name])
    conditions = then.conditions if then.status is Status.UNSTARTED else None
    lost = ((name, seq) for name, seqs in carried.lost.items() for seq in seqs)
    return CarriedOver(
        name=before.name,
        task=before.task,
        status=then.status,
        missing=conditions.missing if conditions else (),
        conditions=conditions,
        gains=tuple(look.held(name, seq) for name, seq in carried.gained.items()),
        loses=tuple(look.held(name, seq) for name, seq in lost),
    )


def _seqs(instance: Instance) -> Iterator[int]:
    for name in instance.taken:
        yield from (seq for seq in held(instance, name) if seq != BY_HAND)


class _Foreseen:
    """A session for a look into it, as if a transition had been committed."""

    def __init__(self, storage: SessionStorage, transition: Transition) -> None:
        self.uid = storage.uid
        self._storage = storage
        self._transition = transition

    def standing(self) -> Standing:
        return self._storage.standing()

    def deferred(self) -> Collection[tuple[int, str]]:
        return self._storage.deferred()

    def find_instances(self) -> Iterable[Instance]:
        changed: Mapping[tuple[str, int], Instance] = self._transition.instances
        stored = {(each.task, each.number): each for each in self._storage.find_instances()}
        return {**stored, **changed}.values()

    def find_firings(self) -> Iterable[Firing]:
        own = self._transition.firings
        latest = self._transition.seq - len(own)
        return [*(each for each in self._storage.find_firings() if each.seq <= latest), *own]

    def plan(self) -> Plan:
        return self._transition.plan

    def now(self) -> datetime:
        return self._transition.clock


# -- sentences --------------------------------------------------------------------------------


def _outline(found: ConfigurationPreview) -> Outline:
    if found.is_refused:
        refusals = tuple(
            Outline(f"{each.task}: {each.reason}", (), "bad") for each in found.refusals
        )
        return Outline(f"Session {found.uid} would refuse this configuration", refusals, "title")
    at = f", {moment(found.at)}" if found.at else ""
    lines = tuple(_lines(found)) or (Outline("nothing would change", (), "good"),)
    return Outline(f"What would become of session {found.uid}{at}", lines, "title")


def _lines(found: ConfigurationPreview) -> Iterator[Outline]:
    due = [*_changes(found.due)]
    if due:
        yield Outline("first, what is due in any case", tuple(due), "open")
    for name in found.new:
        yield Outline(f"{name} is new", tuple(_unknown(found, name)))
    for name in found.replaced:
        waiting = [each for each in found.waiting if each.task == name]
        number = f"{counted(len(waiting), 'instance')} of it wait{'s' if len(waiting) == 1 else ''}"
        yield Outline(
            f"{name} is replaced; {number if waiting else 'no instance of it waits'}",
            (*(_fate(each) for each in waiting), *_unknown(found, name)),
        )
    if found.unchanged:
        yield Outline(f"as before: {listed(found.unchanged)}")
    if found.finalizes is not None:
        fires = f"{'fires' if found.finalizes else 'no longer fires'} {SESSION_FINALIZED}"
        text = f"from then on the session {fires} when nothing is left to do"
        if found.finalized:
            text = f"{SESSION_FINALIZED} was fired already, and is not fired again"
        yield Outline(text)
    yield from _changes(found)
    if found.fires:
        yield Outline(f"fired by all this: {listed(found.fires)}")


def _unknown(found: ConfigurationPreview, task: str) -> Iterator[Outline]:
    if task in found.unknown:
        text = f"its run is not known in this process; a worker may know it. {found.unknown[task]}"
        yield Outline(text, (), "bad")


def _changes(found: Changes | ConfigurationPreview) -> Iterator[Outline]:
    for what, names in (
        ("created", found.created),
        ("scheduled", found.scheduled),
        ("abandoned", found.abandoned),
    ):
        if names:
            yield Outline(f"{what}: {listed(names)}")


def _fate(each: CarriedOver) -> Outline:
    lines = [
        Outline(f"{verb}: {listed([_told(one) for one in some])}")
        for verb, some in (("takes", each.gains), ("gives up", each.loses))
        if some
    ]
    if each.status is Status.UNSTARTED:
        lacking = f" for {'; '.join(each.missing)}" if each.missing else ""
        return Outline(f"{each.name} waits on{lacking}", tuple(lines), "open")
    tone = "bad" if each.status is Status.ABANDONED else "good"
    return Outline(f"{each.name} is {each.status} at once", tuple(lines), tone)


def _told(each: Held) -> str:
    if each.firing is None:
        return f"{each.name}, given by hand"
    return (
        f"{each.firing}" if each.name == each.firing.names[0] else f"{each.firing} as {each.name}"
    )
