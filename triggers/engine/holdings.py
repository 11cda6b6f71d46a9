"""What one instance holds, as conditions are asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from triggers import payload
from triggers.conditions.filters import look_up
from triggers.engine.plan import held
from triggers.types import BY_HAND, Firing, Instance


class Holdings:
    """The :class:`~triggers.conditions.tree.Facts` about one instance.

    :param now: the session's time.
    :param find_firing: gives a firing that the instance holds.
    :param is_settled: says whether a task is settled, if that may be asked now.
    """

    __slots__ = ("_find_firing", "instance", "is_settled", "now", "taken")

    def __init__(
        self,
        instance: Instance,
        now: datetime,
        find_firing: Callable[[int], Firing],
        is_settled: Callable[[str], bool],
    ) -> None:
        self.instance = instance
        self.taken: Mapping[str, int] = instance.taken
        self.now = now
        self.is_settled = is_settled
        self._find_firing = find_firing

    def held(self, name: str) -> Sequence[int]:
        return held(self.instance, name)

    def is_resting(self, name: str) -> bool:
        return name not in self.instance.counted

    def time_of(self, seq: int) -> datetime:
        if seq == BY_HAND:
            return self.instance.created_at
        return self._find_firing(seq).at

    def value(self, name: str, seq: int, path: str) -> Any:
        if seq == BY_HAND:
            given = payload.decode(self.instance.replacement or payload.EMPTY)
            return look_up(given.get(name, {}), path)
        return look_up(payload.decode(self._find_firing(seq).kwargs), path)
