"""Seeing to it that a decision knows what it is about to look at, all of it at once.

Each time that something is missing, it is read, or asked, and deciding begins again.
"""

from __future__ import annotations

from collections.abc import Iterable

from triggers.engine.draft import Draft
from triggers.engine.rules import question_again
from triggers.engine.state import InstanceKey, MustSeeMore, Reads
from triggers.types import Firing, split_instance_name


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


def ask_filters(draft: Draft, firings: Iterable[Firing]) -> None:
    """See to it that filters have been asked about these firings.

    :raises Unjudged: they have not.
    """
    asked = [each for each in firings if draft.plan.asks_about(_names_of(draft, each))]
    draft.verdicts.require(draft.plan, [question_again(draft, each) for each in asked])


def _see_instances(draft: Draft, keys: set[InstanceKey]) -> None:
    missing = tuple(sorted(key for key in keys if not draft.knows_instance(key)))
    if missing:
        raise MustSeeMore(Reads(instances=missing))


def _names_of(draft: Draft, firing: Firing) -> tuple[str, ...]:
    return draft.plan.names_of(firing.trigger, firing.also)
