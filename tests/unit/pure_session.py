"""A session that is nothing but engine and state: time moves when it is told to, nothing is stored.

Each step is decided three times: on the whole session, once more, and on a part of the session that
has only what the decision asks to see, as a database would read it. All three must agree, and none
may change what it reads. Filters are asked in between, as storages do it.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from triggers import payload
from triggers.configuration import parse
from triggers.engine import (
    Event,
    MustSeeMore,
    Question,
    Reads,
    SessionState,
    Transition,
    Unjudged,
    decide,
    reads_of,
)
from triggers.engine.by_hand import Replay, SetStatus, SkipFailed
from triggers.engine.configuring import Configure
from triggers.engine.events import Fire, Tick
from triggers.engine.lifecycle import Claim, Fail, Finish, Retry, Skip
from triggers.engine.plan import Plan, held
from triggers.engine.state import InstanceKey
from triggers.engine.verdicts import NO_VERDICTS, Refusals
from triggers.types import FireResult, Instance, Status, split_instance_name

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class PureSession:
    """A state, and the events that made it.

    :param is_checked: whether each decision is made three times; once is faster.
    """

    def __init__(self, *, is_checked: bool = True, **tasks: Any) -> None:
        self.state = SessionState()
        self.now = NOW
        self.verdicts = NO_VERDICTS
        self.is_checked = is_checked
        if tasks:
            self.configure(**tasks)

    # What happens to it.

    def do(self, event: Event) -> Transition:
        while True:
            try:
                transition = self._decided(event)
            except Unjudged as unjudged:
                self._judge(unjudged)
            else:
                self.state.apply(transition)
                return transition

    def configure(
        self, *, apply_history: bool = False, finalize: bool | None = None, **tasks: Any
    ) -> FireResult:
        parsed = parse({name: {"run": "x", **each} for name, each in tasks.items()})
        event = Configure(
            configuration=parsed,
            manager="default",
            apply_history=apply_history,
            finalize=finalize,
        )
        result: FireResult = self.do(event).outcome
        return result

    def fire(self, trigger: str, /, **kwargs: Any) -> FireResult:
        result: FireResult = self.do(Fire(trigger=trigger, kwargs=payload.dump(kwargs))).outcome
        return result

    def fire_all(self, triggers: str) -> None:
        for trigger in triggers.split():
            self.fire(trigger)

    def move_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def tick(self, seconds: float = 0) -> Transition:
        """Let time pass, and have what is due decided."""
        self.move_on(seconds)
        return self.do(Tick())

    def start(self, name: str) -> None:
        assert isinstance(self.do(Claim(key=key_of(name), token=name)).outcome, Instance)

    def finish(self, name: str, **result: Any) -> None:
        assert self.do(Finish(key=key_of(name), token=name, result=payload.dump(result))).outcome

    def run(self, name: str, **result: Any) -> None:
        self.start(name)
        self.finish(name, **result)

    def fail(self, name: str, **failure: Any) -> None:
        """Start it and have it fail."""
        self.start(name)
        event = Fail(key=key_of(name), token=name, failure=payload.dump(failure))
        assert self.do(event).outcome

    def retry(self, name: str) -> None:
        """Start it and have it ask for another try."""
        self.start(name)
        assert self.do(Retry(key=key_of(name), token=name)).outcome

    def skip(self, name: str) -> None:
        """Start it and have it skip itself."""
        self.start(name)
        assert self.do(Skip(key=key_of(name), token=name)).outcome

    def replay(self, name: str) -> str:
        made: Instance = self.do(Replay(key=key_of(name))).outcome
        return made.name

    def skip_failed(self, name: str, *, cascade: bool = False, **result: Any) -> None:
        self.do(SkipFailed(key=key_of(name), cascade=cascade, result=payload.dump(result)))

    def set_status(
        self, name: str, status: Status, *, cascade: bool = False, **kwargs: Any
    ) -> None:
        text = payload.dump(kwargs)
        self.do(SetStatus(key=key_of(name), status=status, cascade=cascade, kwargs=text))

    # What it looks like.

    def statuses(self) -> dict[str, str]:
        return {each.name: str(each.status) for each in self.state.instances.values()}

    def instance(self, name: str) -> Instance:
        return self.state.instances[key_of(name)]

    def held(self, name: str) -> dict[str, tuple[int, ...]]:
        """Sequence numbers of the firings that an instance holds, by name."""
        instance = self.instance(name)
        task = self.state.plan.tasks[instance.task]
        return {
            each: (seq,) if task.replaces(each) else held(instance, each)
            for each, seq in instance.taken.items()
        }

    def fired(self) -> list[tuple[str, ...]]:
        """The names of each firing, in order."""
        return [
            self.state.plan.names_of(each.trigger, each.also)
            for each in self.state.firings.values()
        ]

    def refused(self) -> dict[str, str]:
        """The tasks for which the last firing did not pass, and why."""
        return dict(self.state.firings[self.state.seq].refused)

    def kwargs_of(self, seq: int) -> dict[str, Any]:
        kwargs: dict[str, Any] = payload.decode(self.state.firings[seq].kwargs)
        return kwargs

    def seconds_of(self, seq: int) -> float:
        """When a firing happened, counted from the beginning."""
        return (self.state.firings[seq].at - NOW).total_seconds()

    # How it is done.

    def _decided(self, event: Event) -> Transition:
        if not self.is_checked:
            return decide(event, self.state, self.now, self.verdicts)
        before = copy.deepcopy(self.state)
        try:
            transition = decide(event, self.state, self.now, self.verdicts)
        finally:
            assert self.state == before, "a decision must not change what it reads"
        again = decide(event, self.state, self.now, self.verdicts)
        assert again == transition, "nor depend on anything else"
        assert self._decided_on_a_part(event) == transition, "nor on more than it asks to see"
        return transition

    def _decided_on_a_part(self, event: Event) -> Transition:
        whole = self.state
        clock = max(whole.clock or self.now, self.now)
        part = SessionState(
            plan=whole.plan,
            is_whole=False,
            phase=whole.phase,
            seq=whole.seq,
            clock=clock,
            manager=whole.manager,
        )
        read(whole, reads_of(event, whole.plan, clock), part)
        while True:
            try:
                return decide(event, part, clock, self.verdicts)
            except MustSeeMore as more:
                read(whole, more.reads, part)

    def _judge(self, unjudged: Unjudged) -> None:
        answers = {each: self._refusals(unjudged.plan, each) for each in unjudged.questions}
        self.verdicts = self.verdicts.joined_with(unjudged.plan, answers)

    def _refusals(self, plan: Plan, question: Question) -> Refusals:
        refusals = {}
        for task, names in plan.takers(question.names):
            for name in names:
                judge = task.filters.get(name)
                if judge is not None:
                    kwargs = payload.decode(question.kwargs)
                    given = payload.decode(question.arguments or payload.EMPTY)
                    reason = judge.refusal(kwargs, lambda given=given: given)
                    if reason is not None:
                        refusals[task.config.name, name] = reason
        return refusals


def read(whole: SessionState, reads: Reads, part: SessionState) -> None:
    """Add to a part of a session what a decision asks to see, and as little else as possible."""
    keys = [*reads.instances]
    counts, latest = [*reads.counts], [*reads.latest]
    for name in reads.triggers:
        part.awaiting[name] = dict(whole.awaiting.get(name, {}))
        keys += part.awaiting[name]
        waiting = {task for task, _number in part.awaiting[name]}
        for listener in whole.plan.listening(name):
            if listener.config.name not in waiting:
                counts.append(listener.config.name)
                for each in listener.names:
                    if each != name and each not in listener.tracked:
                        latest += whole.plan.recorded_as(each)
    keys += [
        key
        for key, each in whole.instances.items()
        if each.task in reads.waiting and each.status is Status.UNSTARTED
    ]
    if reads.timers_until is not None:
        keys += [key for at, key in whole.timers if at <= reads.timers_until]
        part.timers_until = reads.timers_until
    _read_instances(whole, keys, part)
    part.counts.update((name, whole.counts.get(name, 0)) for name in counts)
    part.latest.update((name, whole.latest.get(name, 0)) for name in latest)
    part.passed.update((key, whole.passed.get(key, 0)) for key in reads.passed)
    part.firings.update((seq, whole.firings[seq]) for seq in reads.firings)
    for task, limit in reads.unsettled:
        part.unsettled[task] = set(sorted(whole.find_unsettled(task))[:limit])
        part.unsettled_limits[task] = limit
    if reads.key in whole.keys:
        seq = part.keys[reads.key] = whole.keys[reads.key]
        part.firings[seq] = whole.firings[seq]
    if reads.ref in whole.pending:
        part.pending[reads.ref] = whole.pending[reads.ref]
    if reads.due:
        part.due.update(whole.due)
        part.pending.update(whole.pending)
        _read_instances(whole, list(whole.due), part)
    if reads.unresolved:
        unresolved = [key for key, each in whole.instances.items() if not each.status.is_resolved]
        _read_instances(whole, unresolved, part)
        part.pending.update(whole.pending)
    if reads.ongoing is not None:
        among, most = reads.ongoing
        part.ongoing = set(sorted(whole.find_ongoing(among))[:most])
        part.ongoing_limit = most
    if reads.marks:
        part.pending.update(whole.pending)
        part.deferred = 0
    if reads.history:
        part.history = dict(whole.past())


def _read_instances(whole: SessionState, keys: list[InstanceKey], part: SessionState) -> None:
    part.instances.update((key, whole.instances[key]) for key in keys if key in whole.instances)
    found = ((each.timer_at, key) for key, each in part.instances.items() if each.timer_at)
    part.timers = sorted(found)


def key_of(name: str) -> InstanceKey:
    return split_instance_name(name)
