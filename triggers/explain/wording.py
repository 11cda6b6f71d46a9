"""Words that all explanations share: moments, numbers of times, lists, an outline of sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from triggers.conditions.durations import format_moment

MOST = 10
"""How many of a kind a sentence names; of more, it says how many there are."""

_SHOWN = 60

_INDENT = "  "

MARKS = {True: "[x] ", False: "[ ] "}
"""What stands before a condition that holds, or does not."""

moment = format_moment
"""A moment for people."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A sentence, and those that say more about it.

    :ivar tone: ``good``, ``bad``, ``open``, ``title`` or empty; a terminal shows it as colour.
    """

    text: str
    lines: tuple[Outline, ...] = ()
    tone: str = ""

    def as_text(self) -> str:
        """All of it, indented, a line each."""
        return "\n".join(self._indented(0))

    def _indented(self, depth: int) -> Iterator[str]:
        yield _INDENT * depth + self.text
        for line in self.lines:
            yield from line._indented(depth + 1)


def often(number: int) -> str:
    """So many times: ``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def counted(number: int, noun: str) -> str:
    """So many of something: ``1 task``, ``2 tasks``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(members: Sequence[str], most: int = MOST) -> str:
    """Some of many, and how many more there are."""
    rest = len(members) - most
    more = f" and {rest:,} more" if rest > 0 else ""
    return ", ".join(members[:most]) + more


def shown(value: Any) -> str:
    """A value as Python writes it, shortened."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
