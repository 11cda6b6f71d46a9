"""Conditions: values that say whether what an instance holds is enough.

A condition is asked about :class:`Facts`, never about a session, a clock or a storage. The meaning
of each is one row of the table in ``docs/reference/language.rst``; a new kind of condition is a new
row there, a class here, and a line in :func:`condition_of`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from triggers.conditions.durations import parse_duration
from triggers.conditions.filters import split_from


class Facts(Protocol):
    """What a condition may know: what one instance holds, and the time."""

    @property
    def now(self) -> datetime:
        """The session's time."""
        ...

    @property
    def taken(self) -> Mapping[str, int]:
        """Sequence number of the firing held first, by name."""
        ...

    def held(self, name: str) -> Sequence[int]:
        """Sequence numbers of all firings of this name that are held."""
        ...

    def is_resting(self, name: str) -> bool:
        """Whether no burst of this name lasts any more."""
        ...

    def time_of(self, seq: int) -> datetime:
        """When a firing that is held happened."""
        ...

    def value(self, name: str, seq: int, path: str) -> Any:
        """The value at a path of the kwargs of a firing that is held under a name."""
        ...

    def is_settled(self, task: str) -> bool:
        """Whether a task has lineages, all settled; never before the transition is at rest."""
        ...


class Condition(Protocol):
    """What the engine needs to know of a condition."""

    @property
    def names(self) -> tuple[str, ...]:
        """The triggers that it looks at, in a fixed order."""
        ...

    def holds(self, facts: Facts) -> bool:
        """Whether it is true."""
        ...

    def parts(self) -> Iterator[Condition]:
        """The condition itself and all conditions in it."""
        ...

    def dues(self, facts: Facts) -> Iterator[datetime]:
        """When time alone may make it true, as far as that can be known."""
        ...


class _Leaf:
    """A condition without others in it."""

    __slots__ = ()

    def parts(self) -> Iterator[Any]:
        yield self

    def dues(self, facts: Facts) -> Iterator[datetime]:
        return iter(())


@dataclass(frozen=True, slots=True)
class AllHeld(_Leaf):
    """Every one of these names is held; with none of them, true from the start."""

    names: tuple[str, ...]

    def holds(self, facts: Facts) -> bool:
        taken = facts.taken
        for name in self.names:  # noqa: SIM110  # twice as fast as all(…), and asked most often
            if name not in taken:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Never(_Leaf):
    """Never true: what an absent or empty ``unless`` means."""

    names: tuple[str, ...] = ()

    def holds(self, facts: Facts) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Held(_Leaf):
    """Enough firings of one name are held.

    :ivar fresh: firings of this age or older do not count.
    """

    name: str
    times: int = 1
    fresh: timedelta | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def holds(self, facts: Facts) -> bool:
        return _count(facts, self.name, self.fresh) >= self.times


@dataclass(frozen=True, slots=True)
class HeldAsOften(_Leaf):
    """As many firings of one name are held as a firing of another one says.

    :ivar fresh: firings of ``name`` of this age or older do not count.
    :ivar source_fresh: nor does one of ``source`` of that age.
    :ivar source_rests: whether ``source`` counts only when no burst of it lasts any more.
    """

    name: str
    source: str
    path: str
    fresh: timedelta | None = None
    source_fresh: timedelta | None = None
    source_rests: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, self.source)

    def needed(self, facts: Facts) -> int | None:
        """How many; ``None`` while that is not known, or is no whole number from 0."""
        counting = _counting(facts, self.source, self.source_fresh, self.source_rests)
        if not counting:
            return None
        value = facts.value(self.source, counting[0], self.path)
        return value if type(value) is int and value >= 0 else None

    def holds(self, facts: Facts) -> bool:
        needed = self.needed(facts)
        return needed is not None and _count(facts, self.name, self.fresh) >= needed


@dataclass(frozen=True, slots=True)
class Rested(_Leaf):
    """A firing of one name is held, and the burst that it was part of is over."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def holds(self, facts: Facts) -> bool:
        return self.name in facts.taken and facts.is_resting(self.name)


@dataclass(frozen=True, slots=True)
class Settled(_Leaf):
    """A task has lineages, and none is unsettled."""

    task: str
    names: tuple[str, ...] = ()

    def holds(self, facts: Facts) -> bool:
        return facts.is_settled(self.task)


@dataclass(frozen=True, slots=True)
class Elapsed(_Leaf):
    """Some time has gone by since the firing held under a name.

    :ivar fresh: one of this age or older does not count.
    :ivar rests: whether it counts only when no burst of the name lasts any more.
    """

    duration: timedelta
    since: str
    fresh: timedelta | None = None
    rests: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.since,)

    def holds(self, facts: Facts) -> bool:
        counting = _counting(facts, self.since, self.fresh, self.rests)
        return bool(counting) and facts.time_of(counting[0]) + self.duration <= facts.now

    def dues(self, facts: Facts) -> Iterator[datetime]:
        # Of several, a later one counts once the earlier ones are not fresh any more. From within
        # a burst nothing is known: when it ends, this is asked again.
        for seq in _counting(facts, self.since, None, self.rests):
            yield facts.time_of(seq) + self.duration
            if self.fresh is not None:
                yield facts.time_of(seq) + self.fresh


@dataclass(frozen=True, slots=True)
class Quorum:
    """At least so many of some conditions hold: all, any, or a number in between."""

    needed: int
    of: tuple[Condition, ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = dict.fromkeys(name for condition in self.of for name in condition.names)
        object.__setattr__(self, "names", tuple(names))

    def holds(self, facts: Facts) -> bool:
        missing = self.needed
        for condition in self.of:
            if missing == 0:
                break
            missing -= condition.holds(facts)
        return missing == 0

    def parts(self) -> Iterator[Condition]:
        yield self
        for condition in self.of:
            yield from condition.parts()

    def dues(self, facts: Facts) -> Iterator[datetime]:
        for condition in self.of:
            yield from condition.dues(facts)


@dataclass(frozen=True, slots=True)
class Language:
    """What a task's directives say about every condition in it.

    :ivar fresh: the age from which a firing does not count any more, by name.
    :ivar known: names that the task names elsewhere than in ``from``.
    :ivar debounced: the name that is held only when no burst of it lasts any more, if any.
    """

    fresh: Mapping[str, timedelta] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    debounced: str | None = None


PLAIN = Language()


def condition_of(raw: Any, language: Language = PLAIN) -> Condition:
    """The condition that a valid piece of JSON describes.

    :param raw: a name, a list or a mapping; see ``docs/reference/language.rst``.
    """
    if isinstance(raw, str):
        return _held(raw, 1, language)
    if isinstance(raw, list | tuple):
        return all_of(raw, language)
    if "all" in raw:
        return all_of(raw["all"], language)
    if "any" in raw:
        return Quorum(1, tuple(condition_of(each, language) for each in raw["any"]))
    if "atLeast" in raw:
        return Quorum(raw["atLeast"], tuple(condition_of(each, language) for each in raw["of"]))
    if "settled" in raw:
        return Settled(raw["settled"])
    if "elapsed" in raw:
        since = raw["since"]
        length, fresh = parse_duration(raw["elapsed"]), language.fresh.get(since)
        return Elapsed(length, since, fresh, since == language.debounced)
    return _held(raw["trigger"], raw.get("times", 1), language)


def all_of(members: Sequence[Any], language: Language = PLAIN) -> Condition:
    """The condition that all of these hold."""
    special = {*language.fresh, language.debounced}
    if all(isinstance(each, str) and each not in special for each in members):
        return AllHeld(tuple(sorted(set(members))))
    return Quorum(len(members), tuple(condition_of(each, language) for each in members))


def barring(raw: Any, language: Language = PLAIN) -> Condition:
    """The condition of ``unless``; an absent or empty one bars nothing."""
    return condition_of(raw, language) if raw else Never()


def _held(name: str, times: Any, language: Language) -> Condition:
    fresh = language.fresh.get(name)
    if isinstance(times, Mapping):
        source, path = split_from(times["from"], language.known)
        rests = source == language.debounced
        return HeldAsOften(name, source, path, fresh, language.fresh.get(source), rests)
    if name == language.debounced:
        return Rested(name)
    if times == 1 and fresh is None:
        return AllHeld((name,))
    return Held(name, times, fresh)


def _count(facts: Facts, name: str, fresh: timedelta | None) -> int:
    return len(_counting(facts, name, fresh))


def _counting(
    facts: Facts, name: str, fresh: timedelta | None, rests: bool = False
) -> Sequence[int]:
    """Sequence numbers of the firings held under a name that count.

    :param rests: whether none counts while a burst of the name lasts.
    """
    if rests and not facts.is_resting(name):
        return ()
    held = facts.held(name)
    if fresh is None:
        return held
    return [seq for seq in held if facts.now - facts.time_of(seq) < fresh]
