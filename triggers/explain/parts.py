"""Conditions, each with whether it holds and by what, or what it would need.

Whether it holds is always the condition's own answer, never worked out here; so an explanation
cannot say anything else than the engine does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from triggers.conditions.durations import format_duration
from triggers.conditions.filters import MISSING
from triggers.conditions.tree import (
    AllHeld,
    Condition,
    Elapsed,
    Held,
    HeldAsOften,
    Quorum,
    Rested,
    Settled,
)
from triggers.engine.holdings import Holdings
from triggers.engine.plan import TaskPlan
from triggers.explain.look import Look
from triggers.explain.names import listed_states, name_of
from triggers.explain.values import Held as HeldValue
from triggers.explain.values import Part
from triggers.explain.wording import counted, listed, moment, shown
from triggers.types import Status


class Parts:
    """Turns the conditions of one task into parts of an explanation.

    :param facts: what one instance of the task holds, at the moment that is explained.
    """

    def __init__(self, look: Look, task: TaskPlan, facts: Holdings) -> None:
        self.look = look
        self.task = task
        self.facts = facts
        self.begun = facts.instance.created_at

    def part(self, condition: Condition) -> Part:
        """One condition, with all in it."""
        if isinstance(condition, AllHeld):
            return self._all_held(condition)
        if isinstance(condition, Held):
            return self._counted(condition, condition.times, "", condition.fresh)
        if isinstance(condition, HeldAsOften):
            return self._as_often(condition)
        if isinstance(condition, Rested):
            return self._rested(condition)
        if isinstance(condition, Settled):
            return self._settled(condition)
        if isinstance(condition, Elapsed):
            return self._elapsed(condition)
        if isinstance(condition, Quorum):
            return self._quorum(condition)
        raise TypeError(f"nobody has said how to explain {condition!r}")

    # -- names ----------------------------------------------------------------------------------

    def _all_held(self, condition: AllHeld) -> Part:
        if len(condition.names) == 1:
            return self._name(condition)
        names = [self._name(AllHeld((name,))) for name in condition.names]
        return self._group("all", len(names), names, holds=condition.holds(self.facts))

    def _name(self, condition: AllHeld) -> Part:
        (name,) = condition.names
        holds = condition.holds(self.facts)
        held = self._held(name)
        return Part(
            kind="trigger",
            holds=holds,
            text=f"{name}: {self._by(held)}" if holds else name,
            note="" if holds else self._note(name),
            since=self.facts.time_of(self.facts.taken[name]) if holds else self.begun,
            names=(name,),
            have=len(held),
            firings=held,
        )

    def _counted(
        self, condition: Held | HeldAsOften, needed: int, because: str, fresh: timedelta | None
    ) -> Part:
        """A name of which so many firings are needed, perhaps fresh ones."""
        facts, name = self.facts, condition.name
        held = self._held(name, fresh)
        times = [facts.time_of(seq) for seq in facts.held(name)]
        counting = times if fresh is None else [at for at in times if facts.now - at < fresh]
        stale = len(times) - len(counting)
        holds = condition.holds(facts)
        since: datetime | None = self.begun
        if holds:
            since = counting[needed - 1] if needed else None
        elif fresh is not None and stale:
            since = max(set(times) - set(counting)) + fresh
        lacking = needed - len(counting)
        if holds and needed == 1 and not because:
            text = f"{name}: {self._by([each for each in held if each.counts])}"
        elif holds:
            text = f"{name}: {self._tally(len(counting), needed, because, fresh)}"
            text += f" ({self._numbers(held)})" if counting else ""
        elif needed == 1 and not because and fresh is not None and stale:
            too_old = f"that of {moment(max(times))} is no longer fresh ({format_duration(fresh)})"
            text = f"a new {name}: {too_old}"
        elif needed == 1 and not because:
            text = name
        else:
            tally = self._tally(len(counting), needed, because, fresh, stale)
            text = f"{lacking:,} more of {name} ({tally})"
        return Part(
            kind="trigger",
            holds=holds,
            text=text,
            note="" if holds or times else self._note(name),
            since=since,
            names=condition.names,
            have=len(counting),
            needed=needed,
            firings=held,
            until=min(counting) + fresh if fresh is not None and counting else None,
        )

    def _as_often(self, condition: HeldAsOften) -> Part:
        facts, name, source = self.facts, condition.name, condition.source
        needed = condition.needed(facts)
        place = f"{source}.{condition.path}"
        if needed is not None:
            part = self._counted(
                condition, needed, f"{needed:,} comes from {place}", condition.fresh
            )
            if part.holds:
                known = facts.time_of(facts.taken[source])
                since = None if condition.source_rests else max(known, part.since or known)
                part = replace(part, since=since)
            return replace(part, firings=(*self._held(source), *part.firings))
        held = self._held(name, condition.fresh)
        have = sum(each.counts for each in held)
        note = ""
        if condition.source_rests and not facts.is_resting(source):
            text = f"the burst of {source} to end: {condition.path} of its last firing says how "
            text += f"many of {name} are needed"
        elif source in facts.taken:
            found = facts.value(source, facts.taken[source], condition.path)
            is_what = "is not there" if found is MISSING else "is not a whole number from 0"
            told = "" if found is MISSING else f": {shown(found)}"
            text = f"a number of {name} that is not known: {place} {is_what}{told}"
        else:
            text = f"{source}, whose {condition.path} says how many of {name} are needed"
            note = self._note(source)
        return Part(
            kind="trigger",
            holds=condition.holds(facts),
            text=f"{text} ({have:,} held)",
            note=note,
            since=self.begun,
            names=condition.names,
            have=have,
            needed=None,
            firings=(*self._held(source), *held),
        )

    def _rested(self, condition: Rested) -> Part:
        facts, name = self.facts, condition.name
        holds, held = condition.holds(facts), self._held(name)
        over = burst_end(self.task, facts)
        since: datetime | None = None
        if holds:
            text = f"{name}: {self._by(held)}, the last of its burst"
        elif over is None:
            text, since = name, self.begun
        else:
            first = facts.instance.counted[name][0]
            since = facts.time_of(first)
            at_most = since + self.task.debounce.most if self.task.debounce else over
            more = "" if at_most == over else f", and until {moment(at_most)} at most if more come"
            text = f"the burst of {name} to end: it lasts until {moment(over)}{more}"
        return Part(
            kind="burst",
            holds=holds,
            text=text,
            note="" if held else self._note(name),
            since=since,
            names=(name,),
            have=len(held),
            firings=held,
            due=over,
        )

    # -- other conditions -----------------------------------------------------------------------

    def _settled(self, condition: Settled) -> Part:
        task = condition.task
        holds = condition.holds(self.facts)
        is_past = self.facts.instance.status is Status.ABANDONED
        settled, others = self.look.by_being_settled(task, self.facts.now if is_past else None)
        since: datetime | None = self.begun
        if holds:
            text = f"{task}: settled, with {counted(len(settled), 'instance')}"
            since = max(each.changed_at for each in settled)
        elif others:
            text = f"{task} to be settled: {listed_states(others, later=True)}"
            since = min(each.created_at for each in others)
        else:
            text = f"{task} to be settled: it {'had' if is_past else 'has'} no instance yet"
        return Part(
            kind="settled",
            holds=holds,
            text=text,
            since=since,
            names=(task,),
            have=len(settled),
            needed=len(settled) + len(others) or None,
        )

    def _elapsed(self, condition: Elapsed) -> Part:
        facts, name = self.facts, condition.since
        length = f"{format_duration(condition.duration)} since {name}"
        due = next(condition.dues(facts), None)
        holds = condition.holds(facts)
        if condition.rests and not facts.is_resting(name):
            text, since = f"{length}, once its burst is over", self.begun
        elif due is None:
            text, since = length, self.begun
        elif holds:
            text, since = f"{length}: over since {moment(due)}", due
            if condition.rests:  # and since the burst is over, of which nothing is left to be seen
                text, since = f"{length}: over", None
        else:
            text, since = f"{length}: on {moment(due)}", facts.time_of(facts.taken[name])
        held = self._held(name)
        return Part(
            kind="elapsed",
            holds=holds,
            text=text,
            note="" if held else self._note(name),
            since=since,
            names=(name,),
            have=int(holds),
            firings=held,
            due=due,
        )

    def _quorum(self, condition: Quorum) -> Part:
        parts = [self.part(each) for each in condition.of]
        holds = condition.holds(self.facts)
        if condition.needed == len(parts):
            # All of all of something is all of it.
            flat = [each for part in parts for each in (part.parts if _is_all(part) else [part])]
            if len(flat) == 1:
                return flat[0]
            return self._group("all", len(flat), flat, holds=holds)
        kind = "any" if condition.needed == 1 else "atLeast"
        return self._group(kind, condition.needed, parts, holds=holds)

    def _group(self, kind: str, needed: int, parts: Sequence[Part], *, holds: bool) -> Part:
        have = sum(part.holds for part in parts)
        lacking = [_as_one(part) for part in parts if not part.holds]
        if holds:
            text = f"{have} of {len(parts)} hold" if parts else "nothing"
            times = [part.since for part in parts if part.holds and part.since]
            since = sorted(times)[needed - 1] if needed and len(times) >= needed else None
        else:
            since = min(
                (part.since for part in parts if not part.holds and part.since), default=None
            )
            more = "one" if needed - have == 1 else f"{needed - have:,}"
            if kind == "all":
                text = " and ".join(lacking)
            elif kind == "any":
                text = f"any one of: {'; '.join(lacking)}"
            else:
                text = f"{needed} of {len(parts)}: any {more} more of: {'; '.join(lacking)}"
        return Part(
            kind=kind,
            holds=holds,
            text=text,
            since=since,
            names=tuple(dict.fromkeys(name for part in parts for name in part.names)),
            have=have,
            needed=needed,
            parts=tuple(parts),
        )

    # -- words ----------------------------------------------------------------------------------

    def _held(self, name: str, fresh: timedelta | None = None) -> tuple[HeldValue, ...]:
        facts = self.facts
        return tuple(
            self.look.held(
                name, seq, counts=fresh is None or facts.now - facts.time_of(seq) < fresh
            )
            for held, seq in self.look.holds(facts.instance)
            if held == name
        )

    def _note(self, name: str) -> str:
        """What is known about a name that is missing."""
        return name_of(self.look, self.task.config.name, name).text

    @staticmethod
    def _by(held: Iterable[HeldValue]) -> str:
        """What a name is held by: the first that counts."""
        firing = next(iter(held)).firing
        return f"firing {firing.seq}, {moment(firing.at)}" if firing else "given by hand"

    @staticmethod
    def _numbers(held: Iterable[HeldValue]) -> str:
        counting = [each.firing for each in held if each.counts]
        told = [f"{each.seq}" if each else "by hand" for each in counting]
        return f"firing{'s' if len(told) > 1 else ''} {listed(told)}"

    @staticmethod
    def _tally(
        have: int, needed: int, because: str, fresh: timedelta | None, stale: int = 0
    ) -> str:
        if not needed:
            return f"none needed; {because}"
        text = f"{have:,} of {needed:,} held"
        if fresh is not None:
            text += f" and fresh ({format_duration(fresh)})"
            text += f", {stale:,} too old" if stale else ""
        return f"{text}; {because}" if because else text


def burst_end(task: TaskPlan, facts: Holdings) -> datetime | None:
    """When the burst that an instance is in will be over; ``None`` if it is in none."""
    burst = facts.instance.counted.get(task.config.and_every or "")
    if task.debounce is None or burst is None:
        return None
    first, last = (facts.time_of(seq) for seq in burst)
    return min(last + task.debounce.quiet, first + task.debounce.most)


def _is_all(part: Part) -> bool:
    return part.kind == "all"


def _as_one(part: Part) -> str:
    return f"({part.text})" if len(part.missing) > 1 else part.text
