"""The two executors of the Redis storage, the scripts and the engine, held against each other.

A state machine leads two sessions through the same life, on a real server and by the same clock.
One decides as usual: what is plain by a script, the rest by the engine. The other has the engine
decide everything. After each step, both must have answered the same, and every key of the one must
hold what the key of the other holds, the indexes of their buckets included.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests import servers
from tests.language_configurations import DURATIONS, Drawer
from tests.machine import explore
from triggers.clock import set_time
from triggers.engine import Event, Transition, Verdicts
from triggers.engine.lifecycle import Claim, Extend, Fail, Finish, Retry
from triggers.engine.phases import Close
from triggers.exceptions import ConfigurationWarning, TriggersError
from triggers.manager import TriggerManager
from triggers.recovery import recover
from triggers.runners import BaseTaskRunner, task_runners
from triggers.storages.redis import RedisStorageBackend, keys
from triggers.storages.redis.records import firing_of, instance_of
from triggers.testing import frozen_time
from triggers.testing.racing import Recorded
from triggers.timers import fire_due_in
from triggers.types import Instance, TaskInstance

pytestmark = [pytest.mark.server("redis"), pytest.mark.django_db]

PREFIX = f"{servers.RUN_ID}:executors"
BEGINNING = datetime(2026, 11, 21, 12, tzinfo=UTC)

TASKS = ("t_0", "t_1", "t_2", "t_3")
TRIGGERS = ("a", "b", "c", "d", 'e "\\ ü')
OUTCOMES = ("", ":ended", ":failed", ":abandoned")

INTERESTING = (
    *("fire by a script", "fire by the engine", "finish by a script", "finish by the engine"),
    *("claim by a script", "created", "taken", "scheduled", "abandoned"),
    *("several taken", "carried", "filtered out", "several tasks", "cascade", "duplicate"),
    *("refused", "reconfigured", "closed", "andEvery", "limit", "time"),
)


class ByBoth(RedisStorageBackend):
    """Decides as usual, and counts who decided."""

    met: ClassVar[Counter[str]] = Counter()

    def _plainly(self, event: Event, verdicts: Verdicts) -> Transition | None:
        transition = super()._plainly(event, verdicts)
        who = "the engine" if transition is None else "a script"
        self.met[f"{type(event).__name__.lower()} by {who}"] += 1
        return transition


class ByEngine(RedisStorageBackend):
    """Has the engine decide everything."""

    def _plainly(self, event: Event, verdicts: Verdicts) -> Transition | None:
        return None


class Noting(BaseTaskRunner):
    """Notes the instances that it gets, and runs none."""

    name = "tests.noting"
    handed: ClassVar[list[Instance]] = []

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        self.handed.append(task_instance.record)


class Machine(RuleBasedStateMachine):
    """Two sessions that live the same life."""

    met: ClassVar[Counter[str]] = Counter()
    prefix: ClassVar[str] = PREFIX

    def __init__(self) -> None:
        super().__init__()
        ByBoth.met = self.met
        options = {"url": servers.redis_url(), "prefix": self.prefix, "firings_limit": 25}
        # In one bucket, so that its indexes must agree as well.
        uids = _in_one_bucket()
        self.managers = [
            TriggerManager(cls(uid, **options))
            for cls, uid in zip((ByBoth, ByEngine), uids, strict=True)
        ]
        for manager in self.managers:
            manager.default_task_runner_name = Noting.name
        self.client = redis.Redis.from_url(servers.redis_url(), decode_responses=True)
        self.moment = BEGINNING
        self.numbers = itertools.count()
        self.tokens: dict[str, str] = {}
        self.idempotency_keys: list[tuple[str, str, dict[str, Any]]] = []
        set_time(self.moment)

    def teardown(self) -> None:
        for manager in self.managers:
            manager.storage.delete()
        left = list(self.client.scan_iter(f"{{{self.prefix}:*}}:s:*"))
        left += self.client.scan_iter(f"{{{self.prefix}:*}}:plan:*")
        indexes = [self._bucket_index(0, name) for name in ("sessions", "due", "timers")]
        self.client.close()
        assert left == []
        assert indexes == [[], [], []]

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(0, 2), "fired before")):
            self._fire(data, TRIGGERS[data.draw(st.integers(0, 2))])
        self._configure(data, TASKS[: data.draw(st.integers(2, 4), "tasks")])

    @rule(data=st.data())
    def fire(self, data: st.DataObject) -> None:
        self._fire(data, data.draw(st.sampled_from(self._listened()), "trigger"))

    @rule(data=st.data(), seed=st.integers(0, 2**32))
    def fire_several(self, data: st.DataObject, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(chance.randint(1, 3)):
            self._fire(data, chance.choice(TRIGGERS[:3]))

    @rule(data=st.data())
    def fire_with_a_key(self, data: st.DataObject) -> None:
        trigger = data.draw(st.sampled_from(self._listened()), "trigger")
        key = data.draw(st.sampled_from(["k 1", 'k"2', "ü"]), "key")
        result = self._both(lambda manager: manager.fire(trigger, {"n": 1}, idempotency_key=key))
        self.met["duplicate"] += bool(getattr(result, "duplicate", False))

    @rule(data=st.data(), again=st.booleans())
    def claim(self, data: st.DataObject, again: bool) -> None:
        name = self._draw(data, "running" if again else "scheduled")
        if name is None:
            return
        token = self.tokens.setdefault(name, f"token {next(self.numbers)}")
        key = keys_of(name)
        self._both(lambda manager: manager.apply(Claim(key=key, token=token)).outcome)
        held = self._both(lambda manager: _arguments(manager, name))
        self.met["carried"] += len(held or ()) > 1

    @rule(data=st.data(), metadata=st.sampled_from([{}, {}, {"log_level": 20}]))
    def finish(self, data: st.DataObject, metadata: dict[str, Any]) -> None:
        name = self._draw(data, "running")
        if name is None:
            return
        result = f'{{"n":{next(self.numbers)}}}'
        # A report that comes again, since its answer was lost, is not accepted.
        token = self.tokens.get(name, "of nobody")
        event = Finish(key=keys_of(name), token=token, result=result, metadata=metadata)
        scheduled = self._both(lambda manager: _scheduled(manager.apply(event)))
        self.met["cascade"] += bool(scheduled)
        self._both(lambda manager: manager.apply(event).outcome)

    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        self.claim(data, again=False)
        self.finish(data, {})

    @rule(data=st.data(), how=st.sampled_from([Fail, Retry, Extend]))
    def end_otherwise(self, data: st.DataObject, how: Any) -> None:
        name = self._draw(data, "running")
        if name is None:
            return
        event = how(key=keys_of(name), token=self.tokens.get(name, ""))
        self._both(lambda manager: manager.apply(event).outcome)
        self.met["retried"] += how is Retry

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        name = self._draw(data, "failed")
        if name is not None:
            self._both(lambda manager: manager.replay_failed_instance(name).record)

    @rule(seconds=st.integers(1, 90), how=st.sampled_from(["only", "due", "recover"]))
    def let_time_pass(self, seconds: int, how: str) -> None:
        self.moment += timedelta(seconds=seconds)
        set_time(self.moment)
        if how == "due":
            self._both(fire_due_in)
        elif how == "recover":
            self._both(lambda manager: recover(manager).sent)

    @rule(seconds=st.integers(1, 90))
    def fire_with_a_clock_that_goes_back(self, seconds: int) -> None:
        with frozen_time(self.moment - timedelta(seconds=seconds)):
            self._both(lambda manager: manager.fire("a", {"late": True}))

    @rule(data=st.data())
    def configure(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3), "configure") == 3:
            self._configure(data, (data.draw(st.sampled_from(TASKS), "task"),))
            self.met["reconfigured"] += 1

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        # Not too early, since little happens in a session after that.
        if next(self.numbers) > 10 and data.draw(st.booleans(), "close"):
            self._both(lambda manager: manager.apply(Close()).outcome)
            self.met["closed"] += 1

    # How the rules do that.

    def _fire(self, data: st.DataObject, trigger: str) -> None:
        kwargs = {
            "n": next(self.numbers),
            "line\nfeed": "a\nb\u2028",
            "even": data.draw(st.booleans()),
        }
        before = self._statuses()
        result = self._both(lambda manager: manager.fire(trigger, kwargs))
        if result is None:
            return
        for what in ("created", "scheduled", "abandoned"):
            self.met[what] += bool(getattr(result, what))
        [firing] = self.managers[0].storage.find_firings(seqs=[result.seq])
        self.met["filtered out"] += bool(firing.refused)
        taken = [
            each
            for each in self.managers[0].storage.find_instances()
            if each.name in before and result.seq in each.taken.values()
        ]
        self.met["taken"] += bool(taken)
        self.met["several taken"] += len(taken) > 1
        self.met["several tasks"] += len({each.task for each in taken}) > 1
        self.met["andEvery"] += any(not name.endswith("#0") for name in result.created)

    def _configure(self, data: st.DataObject, names: tuple[str, ...]) -> None:
        config = {name: self._directives(data, name) for name in names}
        self._both(lambda manager: _configured(manager, config))

    def _directives(self, data: st.DataObject, name: str) -> dict[str, Any]:
        # Chosen evenly: what Hypothesis draws is small, and small configurations are all alike.
        chance = random.Random(data.draw(st.integers(0, 2**32), "configuration"))
        if chance.random() < 0.15:
            drawer = Drawer(lambda each: data.draw(each), (name,), {}, timed=True)
            self.met["time"] += 1
            return drawer.configuration()[name]
        outcomes = [f"{task}{each}" for task in TASKS for each in OUTCOMES]
        names = [*TRIGGERS[:3] * 6, *TRIGGERS, *TASKS * 2, *outcomes]
        after = sorted(set(chance.choices(names, k=chance.choice([1, 2, 2, 3]))))
        directives: dict[str, Any] = {"after": after}
        if chance.random() < 0.5:
            directives["andEvery"] = chance.choice(names)
        if chance.random() < 0.3:
            directives["unless"] = sorted(set(chance.choices(names, k=chance.choice([1, 2]))))
        if chance.random() < 0.2:
            directives["within"] = chance.choice(DURATIONS)
            self.met["time"] += 1
        if chance.random() < 0.2:
            directives["when"] = {after[0]: {"even": True}}
        return directives

    def _listened(self) -> list[str]:
        names = {*TRIGGERS, *TASKS}
        return sorted(names)

    def _statuses(self) -> dict[str, str]:
        found = self.managers[0].storage.find_instances()
        return {each.name: each.status.value for each in found}

    def _draw(self, data: st.DataObject, status: str) -> str | None:
        names = sorted(name for name, each in self._statuses().items() if each == status)
        return data.draw(st.sampled_from(names), "instance") if names else None

    def _both(self, do: Callable[[TriggerManager], Any]) -> Any:
        """Do the same in both sessions; return what both answered."""
        answers, handed = [], []
        for manager in self.managers:
            Noting.handed.clear()
            try:
                answers.append(do(manager))
            except TriggersError as error:
                answers.append((type(error), str(error).replace(manager.storage.uid, "…")))
            handed.append(list(Noting.handed))
        assert handed[0] == handed[1]
        assert answers[0] == answers[1]
        first, second = (self._portrait(manager.storage) for manager in self.managers)
        for part in first.keys() | second.keys():
            ours, theirs = first.get(part), second.get(part)
            assert ours == theirs, f"{part!r}: a script left {ours}, the engine {theirs}"
        if isinstance(answers[0], tuple) and isinstance(answers[0][0], type):
            self.met["refused"] += 1
            self.met["limit"] += answers[0][0].__name__ == "SessionFull"
            return None
        return answers[0]

    def _portrait(self, storage: Any) -> dict[str, Any]:
        """Return everything that is stored about a session, by part."""
        head = keys.head_key(self.prefix, storage.uid)
        portrait: dict[str, Any] = {}
        for key in self.client.scan_iter(f"{head}*", count=1000):
            part = key.removeprefix(head)
            kind = self.client.type(key)
            if kind == "hash":
                portrait[part] = self.client.hgetall(key)
            elif kind == "set":
                portrait[part] = self.client.smembers(key)
            else:
                portrait[part] = self.client.zrange(key, 0, -1, withscores=True)
        portrait.get("", {}).pop("rev", None)
        body = portrait.get(keys.BODY, {})
        for field, text in body.items():
            body[field] = instance_of(field, text) if "#" in field else firing_of(int(field), text)
        for index in ("sessions", "due", "timers"):
            found = self._bucket_index(keys.bucket_of(storage.uid), index)
            own = {name: at for name, at in found if keys.uid_of(name) == storage.uid}
            portrait[f"bucket {index}"] = {name.partition(" ")[2]: own[name] for name in own}
        return portrait

    def _bucket_index(self, bucket: int, name: str) -> list[tuple[str, float]]:
        found: list[tuple[str, float]] = self.client.zrange(
            keys.bucket_key(self.prefix, bucket, name), 0, -1, withscores=True
        )
        return found


def keys_of(name: str) -> tuple[str, int]:
    task, _mark, number = name.rpartition("#")
    return task, int(number)


def _in_one_bucket() -> Iterator[str]:
    uids = (uuid4().hex for _ in itertools.count())
    return itertools.islice((uid for uid in uids if keys.bucket_of(uid) == 0), 2)


def _configured(manager: TriggerManager, config: dict[str, Any]) -> Any:
    runnable = {name: {**task, "run": Recorded.name} for name, task in config.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConfigurationWarning)
        return manager.update_configuration(runnable)


def _scheduled(transition: Transition) -> list[Any]:
    return [transition.instances[key] for key in transition.scheduled]


def _arguments(manager: TriggerManager, name: str) -> Any:
    return json.loads(json.dumps(manager.storage[name].arguments, default=str))


def test_scripts_decide_as_the_engine_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # predicates fail on purpose, and limits are met
    task_runners.register(Noting)
    try:
        explore(
            Machine,
            at_least=1,
            interesting=INTERESTING,
            max_examples=50,
            stateful_step_count=40,
        )
    finally:
        task_runners.unregister(Noting.name)
        set_time(None)
