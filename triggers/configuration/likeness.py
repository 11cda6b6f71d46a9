"""Which known name was meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache

CUTOFF = 0.84
"""From which ratio of :mod:`difflib` on two names are alike; ``refresh`` and ``fresh`` are not."""


def meant_by(name: str, known: Iterable[str], cutoff: float = CUTOFF) -> str | None:
    """The known name that this one was probably to be, or ``None``.

    Case, ``_`` and ``-`` make no difference, nor do letters in the wrong order after the first.

    :param name: the name that was found.
    :param known: the names that there are; ``name`` itself must not be among them.
    :param cutoff: how alike the names must be, from 0 to 1.
    """
    return _meant_by(name, tuple(sorted(known)), cutoff)


# Every configuration that is loaded asks this of the same few directives.
@lru_cache(maxsize=1024)
def _meant_by(name: str, known: tuple[str, ...], cutoff: float) -> str | None:
    text = _bare(name)
    by_text = {_bare(each): each for each in known}
    if text in by_text:
        return by_text[text]
    for each in by_text:
        if text[:1] == each[:1] and sorted(text) == sorted(each):
            return by_text[each]
    alike = get_close_matches(text, by_text, n=1, cutoff=cutoff)
    return by_text[alike[0]] if alike else None


def _bare(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
