"""A state machine that leads a real session and the reference model through the same life.

Hypothesis draws configurations and then one operation after the other. Each goes to a manager on a
real storage and to :class:`tests.reference.ReferenceSession`; after each, an observer who opens the
session anew must see in both the same. Nothing starts by itself: the runner only looks on, so the
machine decides when an instance is started, by how many workers at once, and how each one ends.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    get_state_machine_test,
    initialize,
    invariant,
    rule,
)

from tests import chance
from tests.reference import ReferenceSession
from tests.worker import (
    Obedient,
    OnlookingManager,
    OnlookingRunner,
    Worker,
    failing,
    finishing,
    retrying,
    skipping,
)
from triggers.exceptions import ConfigurationWarning, IdempotencyConflict, InvalidTransition
from triggers.payload import decode
from triggers.types import FireResult, Firing

TRIGGERS = ("a", "b", "c", "d", "e", "f")
TASKS = ("t_0", "t_1", "t_2", "t_3", "t_4")
KEYS = (None, None, None, "key_1", "key_2")
INTERESTING = (
    *("unstarted", "scheduled", "running", "finished"),
    *("failed", "replayed", "skipped", "abandoned"),
    "added tasks",
    "added tasks with history",
    "configured after a firing",
    "duplicate",
    "key refused",
    "message dropped",
    "overlapping",
    "replacement kwargs",
    "retried",
    "skipped from inside",
    "skipped with cascade",
    "transition refused",
)
ROUNDS = 12  # at most, until everything interesting has been met


@st.composite
def task_directives(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any]:
    """Draw one task; with short lists, as a join of many rarely comes together."""

    def some(least: int, most: int) -> list[str]:
        return draw(st.lists(st.sampled_from(names), unique=True, min_size=least, max_size=most))

    directives: dict[str, Any] = {"run": Obedient.name}
    if every := draw(st.none() | st.sampled_from(names)):
        directives["andEvery"] = every
    directives["after"] = some(least=0 if every else 1, most=3)
    if draw(st.integers(0, 2)) == 0:
        directives["unless"] = some(least=0, most=2)
    return directives


class SessionMachine(RuleBasedStateMachine):
    """A session and its model; a subclass says which storage the session is on."""

    model_class: ClassVar[type[ReferenceSession]] = ReferenceSession
    met: ClassVar[Counter[str]]

    @classmethod
    def open_storage(cls, uid: str) -> Any:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.uid = uuid4().hex
        self.model = self.model_class()
        self.workers: dict[str, Worker] = {}
        self.numbers = itertools.count()
        self.looks = itertools.count()
        # Two servers that stay up, and take turns.
        servers = [OnlookingManager(self.open_storage(self.uid)) for _ in range(2)]
        self.managers = itertools.cycle(servers)
        self.triggers: tuple[str, ...] = ()
        self.tasks: tuple[str, ...] = ()
        self.last_seq = 0
        OnlookingRunner.handed.clear()

    def teardown(self) -> None:
        for worker in self.workers.values():
            worker.end(failing)

    # Configurations.

    @initialize(data=st.data(), triggers=st.integers(2, 6), tasks=st.integers(1, 5))
    def begin(self, data: st.DataObject, triggers: int, tasks: int) -> None:
        self.triggers, self.tasks = TRIGGERS[:triggers], TASKS[:tasks]
        early = data.draw(st.lists(st.sampled_from(self.triggers), max_size=4), "fired before")
        for trigger in early:
            self._fire(trigger, {"n": next(self.numbers)})
        first = self._draw_some(data, self.tasks, "tasks")
        apply_history = data.draw(st.booleans(), "with history")
        self._configure(self._draw_tasks(data, first), apply_history=apply_history)
        if early:
            self.met["configured after a firing"] += 1

    def configure_again(self, data: st.DataObject) -> None:
        apply_history = data.draw(st.booleans(), "with history")
        missing = self._missing_tasks()
        names = self._draw_some(data, missing, "tasks") if missing else []
        config = self._draw_tasks(data, names)
        if not names or data.draw(st.booleans(), "with the old ones"):
            config = {**self.model.tasks, **config}
        self._configure(config, apply_history=apply_history)
        if names:
            self.met["added tasks with history" if apply_history else "added tasks"] += 1

    def _missing_tasks(self) -> list[str]:
        return [task for task in self.tasks if task not in self.model.tasks]

    def _draw_some(self, data: st.DataObject, names: Sequence[str], label: str) -> list[str]:
        some = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
        return data.draw(some, label)

    def _draw_tasks(self, data: st.DataObject, names: list[str]) -> dict[str, Any]:
        directives = task_directives(self.triggers + self.tasks)
        return {name: data.draw(directives, name) for name in names}

    def _configure(self, config: dict[str, Any], *, apply_history: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConfigurationWarning)  # circles, among others
            result = next(self.managers).update_configuration(config, apply_history=apply_history)
        with self._comparing(result):
            self.model.configure(config, apply_history=apply_history)

    @rule(data=st.data())
    def live_on(self, data: st.DataObject) -> None:
        """Do one thing that is possible now.

        One rule for all of them, as Hypothesis leaves out about half of the rules in an example:
        a life in which nothing is ever started, or nothing ever ends, is soon seen.
        """
        possible = [self.fire] * 4 + [self.configure_again] * (2 if self._missing_tasks() else 1)
        if self.model.instances:
            possible += [self.deliver_a_message_too_many, self.recover]
        if self._named("scheduled"):
            possible += [self.start] * 4
        if self._named("failed"):
            possible += [self.recover] * 2
        if self.workers:
            possible += [self.end] * 3 + [self.fire_from_inside_a_running_task]
        names = [operation.__name__ for operation in possible]
        before = self._statuses()
        getattr(self, data.draw(st.sampled_from(names), "operation"))(data)
        self.met.update(_changed(before, self._statuses()).values())

    # Firings.

    def fire(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(KEYS), "key")
        trigger = self._draw_trigger(data)
        number = data.draw(st.integers(0, 1)) if key else next(self.numbers)
        kwargs = None if not key and data.draw(st.booleans(), "bare") else {"n": number}
        known = self.model.keys.get((trigger, key))
        if known is None or known == kwargs:
            self._fire(trigger, kwargs, key)
            return
        with pytest.raises(IdempotencyConflict):
            next(self.managers).fire(trigger, kwargs, idempotency_key=key)
        self.met["key refused"] += 1

    def fire_from_inside_a_running_task(self, data: st.DataObject) -> None:
        worker = self.workers[self._draw_name(data, self.workers)]
        trigger = self._draw_trigger(data)
        kwargs = {"n": next(self.numbers)}
        result = worker.do(lambda task, context: context.manager.fire(trigger, kwargs))
        self._fire_model(result, trigger, kwargs)

    def _fire(self, trigger: str, kwargs: dict[str, Any] | None, key: str | None = None) -> None:
        result = next(self.managers).fire(trigger, kwargs, idempotency_key=key)
        self._fire_model(result, trigger, kwargs, key)

    def _fire_model(
        self, result: FireResult, trigger: str, kwargs: Any, key: str | None = None
    ) -> None:
        with self._comparing(result):
            happened = self.model.fire(trigger, kwargs, key)
        assert result.duplicate is not happened
        assert result.seq is not None
        if happened:
            assert result.seq > self.last_seq
            self.last_seq = result.seq
        else:
            assert 0 < result.seq <= self.last_seq
            self.met["duplicate"] += 1

    @contextmanager
    def _comparing(self, result: FireResult) -> Iterator[None]:
        """Compare what the manager said that it did with what the model does in this block."""
        before = self._statuses()
        yield
        changed = _changed(before, self._statuses())
        assert not result.pending
        assert sorted(result.created) == sorted(changed.keys() - before.keys())
        assert sorted(result.scheduled) == sorted(_with_status(changed, "scheduled"))
        assert sorted(result.abandoned) == sorted(_with_status(changed, "abandoned"))

    # Instances, from outside.

    def start(self, data: st.DataObject) -> None:
        name = self._draw_name(data, self._named("scheduled"))
        worker = Worker(next(self.managers), name)
        assert worker.runs, f"{name} was scheduled, but did not start"
        self.workers[name] = worker
        self.model.start(name)
        self.met["overlapping"] += len(self.workers) > 1

    def deliver_a_message_too_many(self, data: st.DataObject) -> None:
        names = [name for name, status in self._statuses().items() if status != "scheduled"]
        if names:
            assert not Worker(next(self.managers), self._draw_name(data, names)).runs
            self.met["message dropped"] += 1

    def recover(self, data: st.DataObject) -> None:
        """Replay or skip an instance, which is refused for any that has not failed."""
        how = data.draw(st.sampled_from(["replay", "skip", "skip with cascade"]), "how")
        name = self._draw_name(data, self._named("failed") or self.model.instances)
        manager = next(self.managers)
        kwargs = self._draw_replacement(data, name) if how == "replay" else None
        result = {"n": next(self.numbers)} if data.draw(st.booleans(), "with result") else None
        cascade = how == "skip with cascade"

        def act() -> None:
            if how == "replay":
                manager.replay_failed_instance(name, kwargs)
            else:
                manager.skip_failed_instance(name, cascade=cascade, result=result)

        if self._statuses()[name] != "failed":
            with pytest.raises(InvalidTransition):
                act()
            self.met["transition refused"] += 1
            return
        act()
        if how == "replay":
            self.model.replay(name, kwargs)
        else:
            self.model.skip_failed(name, cascade=cascade, result=result)
            self.met["skipped with cascade"] += cascade

    # Instances, from inside.

    def end(self, data: st.DataObject) -> None:
        how = data.draw(st.sampled_from(["finish", "fail", "fail", "retry", "skip"]), "how")
        name = self._draw_name(data, self.workers)
        if how == "finish":
            result = {"n": next(self.numbers)}
            order, follow = partial(finishing, result), partial(self.model.finish, name, result)
        elif how == "fail":
            order, follow = failing, partial(self.model.fail, name)
        elif how == "retry":
            kwargs = self._draw_replacement(data, name)
            order, follow = partial(retrying, kwargs), partial(self.model.retry, name, kwargs)
            self.met["retried"] += 1
        else:
            order, follow = skipping, partial(self.model.skip, name)
            self.met["skipped from inside"] += 1
        self.workers.pop(name).end(order)
        follow()

    # What an observer sees.

    @invariant()
    def an_observer_sees_the_same_in_both(self) -> None:
        expected = self.model.snapshot()
        # One look is of somebody who has just come, the next of a server that was there before.
        is_new = next(self.looks) % 2 == 0
        storage = self.open_storage(self.uid) if is_new else next(self.managers).storage
        assert instances_of(storage) == expected["instances"]
        latest = dict(firing for firing in expected["fired"] if ":" not in firing[0])
        assert storage.latest_kwargs == latest
        assert [_recorded(each) for each in storage.find_firings()] == expected["fired"]

    @invariant()
    def everything_that_was_scheduled_was_handed_to_the_runner(self) -> None:
        statuses = self._statuses()
        unheard = {"unstarted", "abandoned"}
        begun = [name for name, status in statuses.items() if status not in unheard]
        assert sorted(OnlookingRunner.handed) == sorted(begun)

    # How the rules draw.

    def _statuses(self) -> dict[str, str]:
        return {name: instance["status"] for name, instance in self.model.instances.items()}

    def _named(self, status: str) -> list[str]:
        return _with_status(self._statuses(), status)

    def _draw_trigger(self, data: st.DataObject) -> str:
        """Draw a trigger, mostly one that a task names."""
        named = {self.triggers[-1]}
        for directives in self.model.tasks.values():
            named.update(directives["after"], directives.get("unless", ()))
            named.update({directives["andEvery"]} if "andEvery" in directives else ())
        return data.draw(st.sampled_from(sorted(named)), "trigger")

    def _draw_name(self, data: st.DataObject, names: Collection[str]) -> str:
        return data.draw(st.sampled_from(sorted(names)), "instance")

    def _draw_replacement(self, data: st.DataObject, name: str) -> dict[str, Any] | None:
        kwargs = self.model.snapshot()["instances"][name]["kwargs"]
        if not data.draw(st.booleans(), "with replacement kwargs"):
            return None
        kept = data.draw(st.sets(st.sampled_from(sorted(kwargs))), "replaced") if kwargs else ()
        self.met["replacement kwargs"] += 1
        return {trigger: {"n": next(self.numbers)} for trigger in sorted(kept)}


def instances_of(storage: Any) -> dict[str, dict[str, Any]]:
    """Return what a storage tells of its instances, in the form of the model's snapshot."""
    return {
        instance.name: {
            "status": instance.status,
            "kwargs": instance.kwargs,
            "parent": instance.metadata.get("parent"),
        }
        for instance in storage
    }


def _recorded(firing: Firing) -> tuple[str, dict[str, Any]]:
    """Return what the model, too, knows of a firing: it knows nothing of exceptions."""
    kwargs = decode(firing.kwargs)
    if firing.trigger.endswith(":failed"):
        kwargs = {key: kwargs[key] for key in ("kwargs", "attempt")}
    return firing.trigger, kwargs


def explore(
    machine: Any, *, at_least: int = 0, interesting: Sequence[str] = INTERESTING, **how: Any
) -> None:
    """Run a machine, in several rounds if need be, until it has seen enough.

    Each round has a seed of its own, the same in every run of the tests, unless chance is asked for
    (see :mod:`tests.chance`).

    :param machine: a class that counts in ``met`` what happens.
    :param at_least: how often each of ``interesting`` must have happened.
    :param how: settings of Hypothesis, for each round.
    """
    machine.met = Counter()
    chosen = settings(
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
        **how,
    )
    for number in range(ROUNDS):
        chance.with_seed(get_state_machine_test(machine, settings=chosen), number)()
        rare = {what: machine.met[what] for what in interesting if machine.met[what] < at_least}
        if not rare:
            return
    raise AssertionError(f"These should have happened {at_least} times and more: {rare}")


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    return {name: status for name, status in after.items() if before.get(name) != status}


def _with_status(statuses: Mapping[str, str], status: str) -> list[str]:
    return [name for name, found in statuses.items() if found == status]
