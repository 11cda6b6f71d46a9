"""An event log on the memory storage with the synchronous runner, against the engine alone.

Both sides get the same cases and do the same work: parse the configuration, check every trigger's
name and kwargs, decide, apply, and then for each instance that is ready: claim it with a token of
its own, check its (empty) result, finish it, cascade. Both ask for the time once per decision and
make their tokens in the same way. What only one side has is what the manager, the storage, the
runner and the task add to the engine: sessions by uid, locks, hooks, dispatch, task
classes, their contexts, what happens when they raise. That may cost at most as much again.

That both really do the same is checked: they must end with the same instances.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count
from time import process_time
from typing import Any, Protocol
from uuid import uuid4

from benchmarks import receipt
from benchmarks.measure import Row, Samples, compare, in_turns, pinned, quiet
from benchmarks.servers import Servers
from triggers import payload
from triggers.configuration import parse
from triggers.engine import Event, SessionState, Transition, decide
from triggers.engine.configuring import Configure
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Finish
from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.types import check_name

LIMIT = 2.0
"""Times what the engine alone takes."""

_CASES_IN_TURN = 50


class Contestant(Protocol):
    """One session, driven in one way or the other."""

    def configure(self, workflow: Mapping[str, Any]) -> object: ...
    def fire(self, trigger: str, kwargs: Mapping[str, Any]) -> object: ...
    def statuses(self) -> Iterator[tuple[str, str]]: ...


class ThroughManager:
    """A session as an application sees it."""

    _uids = count()

    def __init__(self) -> None:
        self._manager = TriggerManager(MemoryStorageBackend(f"case:{next(self._uids)}"))
        self._manager.default_task_runner_name = "synchronous"
        self.configure = self._manager.update_configuration
        self.fire = self._manager.fire

    def statuses(self) -> Iterator[tuple[str, str]]:
        return ((each.task_name, each.status.value) for each in self._manager.storage)


class EngineAlone:
    """The least that does the same work: nothing but the engine and the checks of what goes in."""

    def __init__(self) -> None:
        self._state = SessionState()

    def configure(self, workflow: Mapping[str, Any]) -> None:
        self._make(Configure(configuration=parse(workflow), manager="default"))

    def fire(self, trigger: str, kwargs: Mapping[str, Any]) -> None:
        text = payload.encode(kwargs, what="kwargs")
        check_name(trigger, "a trigger name")
        ready = deque(self._make(Fire(trigger=trigger, kwargs=text)).scheduled)
        while ready:
            key = ready.popleft()
            token = uuid4().hex
            self._make(Claim(key=key, token=token))
            result = payload.encode({}, what="result")
            ready.extend(self._make(Finish(key=key, token=token, result=result)).scheduled)

    def statuses(self) -> Iterator[tuple[str, str]]:
        return ((each.task, each.status.value) for each in self._state.instances.values())

    def _make(self, event: Event) -> Transition:
        transition = decide(event, self._state, datetime.now(UTC))
        self._state.apply(transition)
        return transition


SIDES: tuple[type[Contestant], ...] = (ThroughManager, EngineAlone)
"""What is measured, and what it is measured against."""


def run(quick: bool, _servers: Servers) -> Iterator[Row]:
    """Play the log several times."""
    name, cases = receipt.cases()
    cases = cases[:60] if quick else cases
    parts = [
        cases[start : start + _CASES_IN_TURN] for start in range(0, len(cases), _CASES_IN_TURN)
    ]
    samples = Samples(process_time)
    for turn in range(1 if quick else 7):
        with pinned(), quiet():
            _play(parts, samples, turn)
    events = sum(map(len, cases))
    about = f"{name}: {len(cases):,} cases, {events:,} events"
    configure, fire = (
        [samples.of((side, what)) for side in SIDES] for what in ("configure", "fire")
    )
    whole = [
        [sum(pair) for pair in zip(*both, strict=True)]
        for both in zip(configure, fire, strict=True)
    ]
    for case, (ours, base), operations, limit, note in (
        ("the whole log, per event", whole, events, LIMIT, about),
        ("of that: firing, per event", fire, events, None, ""),
        ("of that: configuring, per session", configure, len(cases), None, ""),
    ):
        figures = compare(ours, base, group=len(parts), operations=operations)
        yield Row(benchmark="memory", case=case, figures=figures, limit=limit, note=note)


def _play(parts: Sequence[Sequence[receipt.Case]], samples: Samples, turn: int) -> None:
    """Let both sides play the whole log, part by part in turns."""
    played: dict[type[Contestant], list[Contestant]] = {side: [] for side in SIDES}
    for index, part in enumerate(parts):
        for side in in_turns(SIDES, turn + index):
            sessions = samples.time((side, "configure"), partial(_configure, side, len(part)))
            samples.time((side, "fire"), partial(_fire, sessions, part))
            played[side] += sessions
    ours, base = (_outcome(sessions) for sessions in played.values())
    if ours != base:
        raise AssertionError(f"The two sides did not do the same work: {ours} and {base}")
    MemoryStorageBackend.clear()


def _configure(side: type[Contestant], sessions: int) -> list[Contestant]:
    made = [side() for _session in range(sessions)]
    for session in made:
        session.configure(receipt.WORKFLOW)
    return made


def _fire(sessions: Sequence[Contestant], cases: Sequence[receipt.Case]) -> None:
    for session, events in zip(sessions, cases, strict=True):
        for trigger, kwargs in events:
            session.fire(trigger, kwargs)


def _outcome(sessions: Sequence[Contestant]) -> Counter[tuple[str, str]]:
    return Counter(status for session in sessions for status in session.statuses())
