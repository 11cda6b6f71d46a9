"""What a commit has changed in a session, for those who watch: the log, and Django's signals.

A decision of the engine says it all. A storage that decides where the data live (Redis) tells only
who asked what he must know; the rest is read afterwards, and only if somebody watches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

from triggers.engine.state import InstanceKey, Transition
from triggers.types import FireResult, Firing, Instance, Status, split_instance_name

if TYPE_CHECKING:
    from triggers.storages.session import SessionStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """An instance has another status after a commit than it had before.

    :ivar key: task name and number of the instance.
    :ivar old: the status before; ``None``: there was no such instance.
    :ivar new: the status after.
    :ivar at: when that was decided, aware UTC.
    :ivar trigger: the firing of this commit that decided it; empty if none did.
    :ivar reason: of an instance that has failed or was abandoned: why, if that is known.
    """

    key: InstanceKey
    old: Status | None
    new: Status
    at: datetime
    trigger: str = ""
    reason: str = ""

    @property
    def instance(self) -> str:
        """Name of the instance."""
        return f"{self.key[0]}#{self.key[1]}"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a commit has changed.

    :ivar firings: what was fired, in that order.
    :ivar statuses: one entry for each instance whose status is another one, in the order in which
        they began to change.
    """

    firings: list[Firing]
    statuses: list[StatusChange]


def told(transition: Transition) -> Changes:
    """What has changed, as far as the decision tells; reads nothing."""
    firings = transition.firings
    triggers = {firing.seq: firing.trigger for firing in firings}
    statuses = [
        _change(transition.instances[key], old, triggers)
        for key, old in (transition.previous or {}).items()
    ]
    return Changes(firings, statuses)


def found(storage: SessionStorage, transition: Transition) -> Changes:
    """What has changed; reads what a storage that decides where the data live does not tell.

    :raises StorageUnavailable: the storage did not do its part.
    """
    if transition.previous is not None or transition.phase is not None:
        return told(transition)
    outcome = transition.outcome
    if isinstance(outcome, Instance):
        return Changes([], [_change(outcome, Status.SCHEDULED, {})])
    if isinstance(outcome, FireResult):
        return _of_a_firing(transition, _firings_of(storage, transition, len(outcome.abandoned)))
    for key, instance in transition.instances.items():
        if instance.status is Status.FINISHED:
            firings = _firings_of(storage, transition, None)
            changes = _of_a_firing(transition, firings)
            finished = StatusChange(
                key=key, old=Status.RUNNING, new=Status.FINISHED, at=transition.clock
            )
            return Changes(firings, [finished, *changes.statuses])
    return Changes([], [])


def _change(instance: Instance, old: Status | None, triggers: dict[int, str]) -> StatusChange:
    decided_by = instance.decided_by
    if instance.status is Status.UNSTARTED:
        decided_by = max(instance.taken.values(), default=None)
    reason = ""
    if instance.status is Status.FAILED:
        exception = instance.metadata.get("exception") or {}
        reason = f"{exception.get('type', '')}: {exception.get('message', '')}".strip(": ")
    elif instance.status is Status.ABANDONED:
        reason = str(instance.metadata.get("reason", ""))
    return StatusChange(
        key=(instance.task, instance.number),
        old=old,
        new=instance.status,
        at=instance.changed_at,
        trigger=triggers.get(decided_by, "") if decided_by is not None else "",
        reason=reason,
    )


def _firings_of(
    storage: SessionStorage, transition: Transition, abandoned: int | None
) -> list[Firing]:
    """The firing that a server has decided, and the outcomes that followed from it.

    These are of instances that it has ruled out, and are recorded right after it.

    :param abandoned: how many instances it has ruled out; ``None``: that was not told.
    """
    first = transition.seq
    if abandoned is not None:
        return list(storage.find_firings(seqs=range(first, first + abandoned + 1)))
    firings: list[Firing] = []
    for seq in count(first):
        for firing in storage.find_firings(seqs=(seq,)):
            if seq == first or _was_ruled_out_by(storage, first, firing):
                firings.append(firing)
                break
        else:
            break
    return firings


def _was_ruled_out_by(storage: SessionStorage, seq: int, firing: Firing) -> bool:
    """Whether this says that an instance was abandoned, and another firing has decided that."""
    if firing.cause is None or not firing.trigger.endswith(":abandoned"):
        return False
    task, number = split_instance_name(firing.cause)
    instances = storage.find_instances(task=task, number=number)
    return any(each.decided_by == seq for each in instances)


def _of_a_firing(transition: Transition, firings: list[Firing]) -> Changes:
    """What a server has changed by a firing: it tells names, in an order that it does not tell."""
    created = set(transition.created)
    new = dict.fromkeys(created, Status.UNSTARTED)
    new.update(dict.fromkeys(transition.scheduled, Status.SCHEDULED))
    new.update(dict.fromkeys(_abandoned(firings), Status.ABANDONED))
    positions = transition.plan.positions
    trigger = firings[0].trigger if firings else ""
    statuses = [
        StatusChange(
            key=key,
            old=None if key in created else Status.UNSTARTED,
            new=new[key],
            at=transition.clock,
            trigger=trigger,
            reason="unless" if new[key] is Status.ABANDONED else "",
        )
        # A firing reaches tasks in the order of the configuration, their instances in that of
        # their numbers.
        for key in sorted(new, key=lambda key: (positions[key[0]], key[1]))
    ]
    return Changes(firings, statuses)


def _abandoned(firings: list[Firing]) -> Iterable[InstanceKey]:
    for firing in firings[1:]:
        if firing.cause is not None:
            yield split_instance_name(firing.cause)
