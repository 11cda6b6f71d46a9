"""Conditions: values that know which triggers they name and whether they hold.

A condition is asked about the triggers that an instance has *taken*, never about a session, a
clock or a storage. The engine uses nothing but the protocol, so a new kind of condition is a new
class here and a line in :mod:`triggers.configuration`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Protocol


class Condition(Protocol):
    """What the engine needs to know of a condition."""

    @property
    def names(self) -> tuple[str, ...]:
        """The triggers it looks at, each once, in a fixed order."""
        ...

    def holds(self, taken: Container[str]) -> bool:
        """Whether it is true, given the triggers taken so far."""
        ...


@dataclass(frozen=True, slots=True)
class AllOf:
    """True once every one of its triggers was taken; with none of them, true from the start."""

    names: tuple[str, ...]

    def holds(self, taken: Container[str]) -> bool:
        return all(name in taken for name in self.names)


@dataclass(frozen=True, slots=True)
class Never:
    """Never true: what an absent or empty ``unless`` means."""

    names: tuple[str, ...] = ()

    def holds(self, taken: Container[str]) -> bool:
        return False


def all_of(names: Iterable[str]) -> AllOf:
    """The condition of ``after``: every trigger, in any order."""
    return AllOf(tuple(sorted(set(names))))


def barred_by(names: Iterable[str]) -> Condition:
    """The condition of ``unless``: every trigger; without triggers it bars nothing."""
    condition = all_of(names)
    return condition if condition.names else Never()
