"""What a decision must see, as a question to the server; and its answer, as a session's state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from triggers import payload
from triggers.engine import Event, Plan, Reads, SessionState
from triggers.engine.events import Fire
from triggers.engine.plan import SETTLED
from triggers.storages.redis.keys import NOTHING_OPEN, count_field, latest_field, passed_field
from triggers.storages.redis.plans import NO_DIGEST
from triggers.storages.redis.records import (
    EPOCH,
    firing_of,
    instance_of,
    instant,
    key_of,
    keyed_field,
    moment,
    name_of,
    pending_of,
)
from triggers.storages.redis.scripts import bulk, bulks
from triggers.types import Phase


class Head(NamedTuple):
    """The head of a session, as it was read.

    :ivar revision: changes with every commit; ``None``: there is no such session.
    :ivar clock: the time of the latest commit.
    """

    revision: str | None
    version: int = 0
    phase: Phase = Phase.OPEN
    seq: int = 0
    clock: datetime | None = None
    digest: str = NO_DIGEST
    manager: str | None = None

    @classmethod
    def of(cls, fields: Sequence[str | Literal[False]]) -> Head:
        """The head in the answer of a script: text where there is a field, else false."""
        revision, version, phase, seq, clock, digest, manager = fields
        if not revision:
            return cls(None)
        return cls(
            revision,
            int(version),
            _PHASES[phase or "open"],
            int(seq),
            moment(clock) if clock else None,
            digest or NO_DIGEST,
            manager or None,
        )


_PHASES = {each.value: each for each in Phase}

HEAD_FIELDS = ("rev", "version", "phase", "seq", "clock", "digest", "manager")


class Question:
    """What to read for a decision, and how the answer is to be understood.

    :ivar reads: what is to be read.
    :ivar size: how many arguments of the script it takes.

    :param plan: the configuration that the session is thought to have.
    :param until: the moment until which to look for what time changes; ``None``: the present.
    """

    def __init__(self, plan: Plan, digest: str, reads: Reads, until: datetime | None) -> None:
        self.reads = reads
        self._awaiting = [name for name in reads.triggers if _is_indexed(plan, name)]
        tasks, names = dict.fromkeys(reads.counts), dict.fromkeys(reads.latest)
        passed = dict.fromkeys(reads.passed)
        for trigger in self._awaiting:
            for task in plan.listening(trigger):
                # In case that a new instance begins, with what was fired before.
                tasks[task.config.name] = None
                for name in task.names:
                    if name == trigger:
                        continue
                    if name in task.tracked:
                        passed[task.config.name, name] = None
                    else:
                        names.update(dict.fromkeys(plan.recorded_as(name)))
        self._tasks, self._latest, self._passed = list(tasks), list(names), list(passed)
        self._watched = [each for each in reads.unsettled if each[0] in plan.watched]
        self._unwatched = [task for task, _limit in reads.unsettled if task not in plan.watched]
        self._until = until
        ask: dict[str, Any] = {}
        fields = [*map(count_field, self._tasks), *map(latest_field, self._latest)]
        fields += [passed_field(*each) for each in self._passed]
        _put(ask, "instances", [name_of(key) for key in reads.instances])
        _put(ask, "firings", [str(seq) for seq in reads.firings])
        _put(ask, "unsettled", [[task, str(limit)] for task, limit in self._watched])
        _put(ask, "unsettled_of", dict.fromkeys(self._unwatched, True))
        if reads.waiting:
            listened = {name for task in reads.waiting for name in plan.tasks[task].names}
            watched = {
                name + SETTLED for task in reads.waiting for name in plan.tasks[task].watches
            }
            ask["waiting"] = {
                "names": [NOTHING_OPEN, *sorted(listened | watched)],
                "tasks": dict.fromkeys(reads.waiting, True),
            }
        if reads.timers_until is not None:
            ask["timers"] = "" if until is None else instant(until)
        if reads.key is not None:
            ask["key"] = keyed_field(*reads.key)
        if reads.ref is not None:
            ask["ref"] = reads.ref
        if reads.ongoing is not None:
            among, most = reads.ongoing
            ask["ongoing"] = {"tasks": dict.fromkeys(among, True), "most": most}
        for name in ("due", "unresolved", "marks", "history"):
            if getattr(reads, name):
                ask[name] = True
        self._asks_more = bool(ask)
        asked = [payload.dump(ask) if ask else "", str(len(fields)), *fields, *self._awaiting]
        self._fields = len(fields)
        self._digest, self._asked = bulk(digest), bulks(asked)
        self.size = 2 + len(asked)
        self._at_any_revision = b"".join((self._digest, bulk(""), self._asked))

    def arguments(self, revision: str | None = None) -> bytes:
        """The question, as the script wants it, in the form of the wire.

        :param revision: answer only if the session still has this one.
        """
        if not revision:
            return self._at_any_revision
        return b"".join((self._digest, bulk(revision), self._asked))

    def parsed(self, raw: bytes) -> dict[str, Any]:
        """The parts of an answer of the script, by name."""
        parts = raw.decode().split("\0")
        answer: dict[str, Any] = {"now": parts[0], "head": parts[1:8]}
        if len(parts) == 8:
            return answer
        at = 9 + self._fields
        if parts[-1]:
            answer.update(json.loads(parts[-1]))
        answer["answered"], answer["fields"] = True, parts[9:at]
        awaiting = answer["awaiting"] = []
        for _ in self._awaiting:
            end = at + 1 + int(parts[at])
            awaiting.append(parts[at + 1 : end])
            at = end
        names, texts = parts[at + 1 : -1 : 2], parts[at + 2 : -1 : 2]
        answer["instances"] = dict(zip(names, texts, strict=True))
        return answer

    def add_to(self, state: SessionState, answer: Mapping[str, Any], now: datetime) -> None:
        """Put what was answered into a state.

        :param now: the time of the decision.
        """
        for name, text in (answer.get("instances") or {}).items():
            state.instances[key_of(name)] = instance_of(name, text)
        for trigger in self.reads.triggers:
            state.awaiting[trigger] = {}
        for trigger, names in zip(self._awaiting, answer.get("awaiting") or (), strict=True):
            state.awaiting[trigger] = dict.fromkeys(map(key_of, names))
        fields = iter(answer.get("fields") or ())
        for task in self._tasks:
            state.counts[task] = int(next(fields) or 0)
        for name in self._latest:
            state.latest[name] = int(next(fields) or 0)
        for each in self._passed:
            state.passed[each] = int(next(fields) or 0)
        if self._asks_more:
            self._add_more(state, answer, now)

    def _add_more(self, state: SessionState, answer: Mapping[str, Any], now: datetime) -> None:
        """Put in what is asked less often."""
        if self.reads.timers_until is not None:
            self._add_timers(state, answer, now)
        for seq, text in answer.get("firings") or ():
            state.firings[int(seq)] = firing_of(int(seq), text)
        if self.reads.key is not None and answer.get("key"):
            state.keys[self.reads.key] = int(answer["key"])
        for ref, text in answer.get("pending") or ():
            state.pending[ref] = pending_of(ref, text)
        if self.reads.due:
            state.due.update(dict.fromkeys(map(key_of, answer.get("due") or ())))
        self._add_unsettled(state, answer)
        if self.reads.ongoing is not None:
            state.ongoing = set(map(key_of, answer.get("ongoing") or ()))
            state.ongoing_limit = self.reads.ongoing[1]
        if self.reads.marks:
            state.deferred = 0
        if self.reads.history:
            state.history = {
                int(seq): (json.loads(trigger), *(json.loads(also) if also else ()))
                for seq, trigger, also in answer.get("history") or ()
            }

    def _add_timers(self, state: SessionState, answer: Mapping[str, Any], now: datetime) -> None:
        keys = map(key_of, answer.get("timers") or ())
        due = {key: state.instances[key].timer_at for key in keys}
        state.timers = sorted((at, key) for key, at in due.items() if at is not None)
        state.timers_until = self._until or now

    def _add_unsettled(self, state: SessionState, answer: Mapping[str, Any]) -> None:
        found = answer.get("unsettled") or ()
        for (task, limit), numbers in zip(self._watched, found, strict=False):
            state.unsettled[task] = set(map(int, numbers))
            state.unsettled_limits[task] = limit
        for task in self._unwatched:
            unsettled = (
                number
                for (name, number), instance in state.instances.items()
                if name == task and not instance.status.is_resolved
            )
            state.unsettled[task] = set(unsettled)
            # All of them were read.
            state.unsettled_limits[task] = len(state.unsettled[task]) + 1_000_000_000


_KEPT = 4096

_questions: dict[tuple[str, str], Question] = {}


def question_about(event: Event, plan: Plan, digest: str) -> Question:
    """What must be seen for an event, as far as that is known before it is decided."""
    if not isinstance(event, Fire) or event.key or event.cause or event.settles or event.also:
        return _question_about(event, plan, digest)
    # The same for every session of this configuration.
    known = _questions.get((digest, event.trigger))
    if known is None:
        if len(_questions) >= _KEPT:
            _questions.clear()
        known = _questions[digest, event.trigger] = _question_about(event, plan, digest)
    return known


def _question_about(event: Event, plan: Plan, digest: str) -> Question:
    reads = event.reads(plan)
    if plan.is_timed:
        # Until when, the question says by itself: only the server knows what its present is.
        reads = replace(reads, timers_until=event.until or EPOCH)
    return Question(plan, digest, reads, event.until)


def _is_indexed(plan: Plan, name: str) -> bool:
    return bool(plan.listening(name)) or name.endswith(SETTLED)


def _put(ask: dict[str, Any], name: str, value: Iterable[Any]) -> None:
    if value:
        ask[name] = value
