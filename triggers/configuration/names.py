"""What the conditions of a task name, and what must be true before they hold.

All of this reads conditions as JSON, after they were accepted; how they are evaluated is for
:mod:`triggers.conditions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from triggers.conditions.durations import parse_duration
from triggers.conditions.filters import split_from

Fact = tuple[Any, ...]
"""Something that can be true of an instance, such as ``("held", "a")`` or ``("times", "a", 3)``."""


def names_of_task(directives: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """All trigger names of ``after`` with ``andEvery``, and all of ``unless``."""
    after, unless = directives.get("after") or (), directives.get("unless") or ()
    of_after, of_unless = frozenset(_own_names(after)), frozenset(_own_names(unless))
    if directives.get("andEvery"):
        of_after |= {directives["andEvery"]}
    known = of_after | of_unless
    if not is_plain(after):
        of_after |= frozenset(_sources(after, known))
    if not is_plain(unless):
        of_unless |= frozenset(_sources(unless, known))
    return of_after, of_unless


def names_beside_from(directives: Mapping[str, Any]) -> frozenset[str]:
    """All trigger names of a task but those that only a ``from`` names."""
    conditions = (directives.get(key) or () for key in ("after", "unless", "andEvery"))
    return frozenset(name for condition in conditions for name in _own_names(condition))


def is_plain(condition: Any) -> bool:
    """Whether a condition is a list of names and nothing else."""
    return isinstance(condition, list | tuple) and all(isinstance(each, str) for each in condition)


def leaves(condition: Any) -> Iterator[Any]:
    """What a condition is made of in the end: names, and mappings without members."""
    if isinstance(condition, str) or (members := members_of(condition)) is None:
        yield condition
    else:
        for member in members:
            yield from leaves(member)


def members_of(condition: Any) -> Any:
    """The members of a list or group; ``None`` of another mapping."""
    if isinstance(condition, Mapping):
        return next((condition[key] for key in ("all", "any", "of") if key in condition), None)
    return condition


def needed_of(condition: Any) -> int:
    """How many of its members a list or group needs."""
    if isinstance(condition, Mapping):
        if "any" in condition:
            return 1
        if "atLeast" in condition:
            return int(condition["atLeast"])
    return len(members_of(condition))


def _own_names(condition: Any) -> Iterable[str]:
    if is_plain(condition):  # most are, and every session is given its tasks anew
        names: Iterable[str] = condition
        return names
    return (
        leaf if isinstance(leaf, str) else leaf.get("trigger") or leaf["since"]
        for leaf in leaves(condition)
        if isinstance(leaf, str) or "settled" not in leaf
    )


def _sources(condition: Any, known: frozenset[str]) -> Iterator[str]:
    for leaf in leaves(condition):
        if not isinstance(leaf, str) and isinstance(leaf.get("times"), Mapping):
            yield split_from(leaf["times"]["from"], known)[0]


def facts_of(condition: Any, known: frozenset[str], fresh: Container[str] = ()) -> set[Fact]:
    """What is true whenever this condition holds.

    :param known: the names of the task.
    :param fresh: those whose firings may be held without counting.
    """
    if isinstance(condition, str):
        return {("held", condition)}
    if is_plain(condition):
        return {("held", name) for name in condition}
    members = members_of(condition)
    if members is None:
        return set(_facts_of_leaf(condition, known, fresh))
    # Of n members k hold: what more than n - k of them need, one that holds needs.
    counts = Counter(fact for each in members for fact in facts_of(each, known, fresh))
    spare = len(members) - needed_of(condition)
    return {fact for fact, count in counts.items() if count > spare}


def _facts_of_leaf(
    leaf: Mapping[str, Any], known: frozenset[str], fresh: Container[str]
) -> Iterator[Fact]:
    looked_at = None
    if "settled" in leaf:
        yield ("settled", leaf["settled"])
    elif "elapsed" in leaf:
        looked_at = leaf["since"]
        yield ("elapsed", looked_at, parse_duration(leaf["elapsed"]))
    elif isinstance(leaf.get("times"), Mapping):
        looked_at, path = split_from(leaf["times"]["from"], known)
        yield ("as often", leaf["trigger"], looked_at, path)
    else:
        yield ("held", leaf["trigger"])
        yield ("times", leaf["trigger"], leaf.get("times", 1))
    if looked_at is not None and looked_at not in fresh:
        yield ("held", looked_at)


def is_certain(condition: Any, facts: set[Fact], known: frozenset[str]) -> bool:
    """Whether a condition holds whenever all of these facts are true."""
    if isinstance(condition, str):
        return ("held", condition) in facts
    members = members_of(condition)
    if members is not None:
        return sum(is_certain(each, facts, known) for each in members) >= needed_of(condition)
    if "trigger" in condition and not isinstance(condition.get("times"), Mapping):
        trigger, least = condition["trigger"], condition.get("times", 1)
        return any(
            fact[1] == trigger and (least == 1 if fact[0] == "held" else fact[2] >= least)
            for fact in facts
            if fact[0] in ("held", "times")
        )
    if "elapsed" in condition:
        duration = parse_duration(condition["elapsed"])
        return any(
            fact[0] == "elapsed" and fact[1] == condition["since"] and fact[2] >= duration
            for fact in facts
        )
    return next(_facts_of_leaf(condition, known, ())) in facts
