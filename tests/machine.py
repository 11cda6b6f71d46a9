"""A state machine that leads a real session and the reference model through the same life.

Hypothesis draws configurations and then one operation after the other. Each goes to a manager on a
real storage and to :class:`tests.reference.ReferenceSession`; after each, an observer who opens the
session anew must see in both the same. Nothing starts by itself: the runner only looks on, so the
machine decides when an instance is started, by how many workers at once, and how each one ends.
"""

from __future__ import annotations

import itertools
import queue
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from django.db import connections
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.reference import ReferenceSession
from triggers.exceptions import ConfigurationWarning, IdempotencyConflict, InvalidTransition
from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner, task_runners
from triggers.task import TaskContext, TriggerTask, execute
from triggers.types import FireResult

TRIGGERS = ("a", "b", "c", "d", "e", "f")
TASKS = ("t_0", "t_1", "t_2", "t_3", "t_4")
KEYS = ("key_1", "key_2")
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
PATIENCE = 60  # seconds that a thread may take for one step before the test gives up

Order = Callable[[TriggerTask, TaskContext], Any]

_current = threading.local()


class Obedient(TriggerTask):
    """A task that does what the worker whose thread it runs in is told."""

    max_retries = 1_000_000

    def _run(self, context: TaskContext) -> dict[str, Any]:
        worker: Worker = _current.worker
        return worker.obey(self, context)


class OnlookingRunner(BaseTaskRunner):
    """A runner that starts nothing and remembers what it was handed."""

    name = "tests.onlooking"
    handed: ClassVar[list[str]] = []

    def run(self, manager: TriggerManager, task_instance: Any) -> None:
        self.handed.append(task_instance.name)


task_runners.register(OnlookingRunner)


class OnlookingManager(TriggerManager):
    name = "tests.onlooking"
    default_task_runner_name = OnlookingRunner.name


class Worker:
    """One attempt to execute an instance, step by step, in a thread of its own."""

    def __init__(self, manager: TriggerManager, instance: str) -> None:
        self._orders: queue.SimpleQueue[tuple[Order, bool]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(manager, instance), daemon=True)
        self._thread.start()
        self.runs = self._answer() == "runs"

    def do(self, order: Order) -> Any:
        """Have something done inside the running task, and return what it gave."""
        self._orders.put((order, False))
        return self._answer()

    def end(self, order: Order) -> None:
        """Have the running task end by returning or raising what the order does."""
        self._orders.put((order, True))
        assert self._answer() == "is through"

    def obey(self, task: TriggerTask, context: TaskContext) -> dict[str, Any]:
        self._answers.put("runs")
        while True:
            order, is_last = self._orders.get()
            if is_last:
                result: dict[str, Any] = order(task, context)
                return result
            self._answers.put(order(task, context))

    def _work(self, manager: TriggerManager, instance: str) -> None:
        _current.worker = self
        answer: Any = "is through"
        try:
            execute(manager, instance)
        except BaseException as error:  # it belongs to the thread of the test
            answer = error
        finally:
            connections.close_all()
        self._answers.put(answer)

    def _answer(self) -> Any:
        answer = self._answers.get(timeout=PATIENCE)
        if answer == "is through" or isinstance(answer, BaseException):
            self._thread.join(PATIENCE)
        if isinstance(answer, BaseException):
            raise answer
        return answer


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
        # Two servers that stay up, and take turns.
        servers = [OnlookingManager(self.open_storage(self.uid)) for _ in range(2)]
        self.managers = itertools.cycle(servers)
        self.triggers: tuple[str, ...] = ()
        self.tasks: tuple[str, ...] = ()
        self.last_seq = 0
        OnlookingRunner.handed.clear()

    def teardown(self) -> None:
        for worker in self.workers.values():
            worker.end(_failing)
        instances = self.model.snapshot()["instances"].values()
        self.met.update(instance["status"] for instance in instances)

    # Configurations.

    @initialize(triggers=st.integers(2, 6), tasks=st.integers(1, 5), data=st.data())
    def begin(self, triggers: int, tasks: int, data: st.DataObject) -> None:
        self.triggers, self.tasks = TRIGGERS[:triggers], TASKS[:tasks]
        early = data.draw(st.lists(st.sampled_from(self.triggers), max_size=4), "fired before")
        for trigger in early:
            self._fire(trigger, {"n": next(self.numbers)})
        first = data.draw(st.lists(st.sampled_from(self.tasks), min_size=1, unique=True), "tasks")
        self._configure(self._draw_tasks(data, first), apply_history=data.draw(st.booleans()))
        if early:
            self.met["configured after a firing"] += 1

    @rule(data=st.data(), apply_history=st.booleans())
    def configure_again(self, data: st.DataObject, apply_history: bool) -> None:
        missing = self._missing_tasks()
        names = data.draw(st.lists(st.sampled_from(missing), unique=True)) if missing else []
        config = self._draw_tasks(data, names)
        if not names or data.draw(st.booleans(), "with the old ones"):
            config = {**self.model.tasks, **config}
        self._configure(config, apply_history=apply_history)
        if names:
            self.met["added tasks with history" if apply_history else "added tasks"] += 1

    def _missing_tasks(self) -> list[str]:
        return [task for task in self.tasks if task not in self.model.tasks]

    def _draw_tasks(self, data: st.DataObject, names: list[str]) -> dict[str, Any]:
        directives = task_directives(self.triggers + self.tasks)
        return {name: data.draw(directives, name) for name in names}

    def _configure(self, config: dict[str, Any], *, apply_history: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConfigurationWarning)  # circles, among others
            next(self.managers).update_configuration(config, apply_history=apply_history)
        self.model.configure(config, apply_history=apply_history)

    # Firings.

    @rule(data=st.data(), bare=st.booleans())
    def fire(self, data: st.DataObject, bare: bool) -> None:
        trigger = self._draw_trigger(data)
        self._fire(trigger, None if bare else {"n": next(self.numbers)})

    @rule(data=st.data(), key=st.sampled_from(KEYS), n=st.integers(0, 1))
    def fire_with_a_key(self, data: st.DataObject, key: str, n: int) -> None:
        trigger = data.draw(st.sampled_from(self.triggers[:2]), "trigger")
        known = self.model.keys.get((trigger, key))
        if known in (None, {"n": n}):
            self._fire(trigger, {"n": n}, key)
        else:
            with pytest.raises(IdempotencyConflict):
                next(self.managers).fire(trigger, {"n": n}, idempotency_key=key)
            self.met["key refused"] += 1

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def fire_from_inside_a_running_task(self, data: st.DataObject) -> None:
        worker = self.workers[self._draw_name(data, self.workers)]
        trigger = self._draw_trigger(data)
        kwargs = {"n": next(self.numbers)}
        self._compare_firing(
            worker.do(lambda task, context: context.manager.fire(trigger, kwargs)),
            lambda: self.model.fire(trigger, kwargs),
        )

    def _fire(self, trigger: str, kwargs: dict[str, Any] | None, key: str | None = None) -> None:
        self._compare_firing(
            next(self.managers).fire(trigger, kwargs, idempotency_key=key),
            lambda: self.model.fire(trigger, kwargs, key),
        )

    def _compare_firing(self, result: FireResult, fire_model: Callable[[], bool]) -> None:
        before = self._statuses()
        happened = fire_model()
        changed = {name: s for name, s in self._statuses().items() if before.get(name) != s}
        assert result.duplicate is not happened
        assert not result.pending
        assert sorted(result.created) == sorted(changed.keys() - before.keys())
        assert sorted(result.scheduled) == sorted(_with_status(changed, "scheduled"))
        assert sorted(result.abandoned) == sorted(_with_status(changed, "abandoned"))
        assert result.seq is not None
        if happened:
            assert result.seq > self.last_seq
            self.last_seq = result.seq
        else:
            assert 0 < result.seq <= self.last_seq
            self.met["duplicate"] += 1

    # Instances, from outside.

    @precondition(lambda self: self._named("scheduled"))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        name = self._draw_name(data, self._named("scheduled"))
        worker = Worker(next(self.managers), name)
        assert worker.runs, f"{name} was scheduled, but did not start"
        self.workers[name] = worker
        self.model.start(name)
        self.met["overlapping"] += len(self.workers) > 1

    @precondition(lambda self: self._named("failed"))
    @rule(data=st.data(), how=st.sampled_from(["replay", "skip", "skip with cascade"]))
    def recover(self, data: st.DataObject, how: str) -> None:
        name = self._draw_name(data, self._named("failed"))
        manager = next(self.managers)
        if how == "replay":
            kwargs = self._draw_replacement(data, name)
            manager.replay_failed_instance(name, kwargs)
            self.model.replay(name, kwargs)
            return
        result = {"n": next(self.numbers)} if data.draw(st.booleans(), "with result") else None
        cascade = how == "skip with cascade"
        manager.skip_failed_instance(name, cascade=cascade, result=result)
        self.model.skip_failed(name, cascade=cascade, result=result)
        self.met["skipped with cascade"] += cascade

    @precondition(lambda self: self.model.instances)
    @rule(data=st.data(), what=st.sampled_from(["start", "replay", "skip"]))
    def attempt_what_is_not_possible(self, data: st.DataObject, what: str) -> None:
        possible = "scheduled" if what == "start" else "failed"
        names = [name for name, status in self._statuses().items() if status != possible]
        if not names:
            return
        name, manager = self._draw_name(data, names), next(self.managers)
        if what == "start":
            assert not Worker(manager, name).runs
            self.met["message dropped"] += 1
        else:
            replay, skip = manager.replay_failed_instance, manager.skip_failed_instance
            with pytest.raises(InvalidTransition):
                (replay if what == "replay" else skip)(name)
            self.met["transition refused"] += 1

    # Instances, from inside.

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), how=st.sampled_from(["finish", "fail", "retry", "skip"]))
    def end(self, data: st.DataObject, how: str) -> None:
        name = self._draw_name(data, self.workers)
        if how == "finish":
            result = {"n": next(self.numbers)}
            order, follow = partial(_finishing, result), partial(self.model.finish, name, result)
        elif how == "fail":
            order, follow = _failing, partial(self.model.fail, name)
        elif how == "retry":
            kwargs = self._draw_replacement(data, name)
            order, follow = partial(_retrying, kwargs), partial(self.model.retry, name, kwargs)
            self.met["retried"] += 1
        else:
            order, follow = _skipping, partial(self.model.skip, name)
            self.met["skipped from inside"] += 1
        self.workers.pop(name).end(order)
        follow()

    # What an observer sees.

    @invariant()
    def an_observer_sees_the_same_in_both(self) -> None:
        expected = self.model.snapshot()
        storage = self.open_storage(self.uid)
        assert instances_of(storage) == expected["instances"]
        assert dict(storage.latest_kwargs) == dict(expected["fired"])

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
        named = {
            name
            for directives in self.model.tasks.values()
            for name in (
                *directives["after"],
                *directives.get("unless", ()),
                directives.get("andEvery", self.triggers[0]),
            )
        }
        return data.draw(st.sampled_from([*sorted(named), self.triggers[-1]]), "trigger")

    def _draw_name(self, data: st.DataObject, names: Any) -> str:
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


def explore(machine: type[SessionMachine], **how: Any) -> Counter[str]:
    """Run a machine, and return how often it met each status and each special event.

    :param how: settings of Hypothesis.
    """
    machine.met = Counter()
    run_state_machine_as_test(
        machine,
        settings=settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], **how),
    )
    return machine.met


def _finishing(result: dict[str, Any], task: TriggerTask, context: TaskContext) -> Any:
    return result


def _failing(task: TriggerTask, context: TaskContext) -> Any:
    raise ValueError("told to fail")


def _retrying(kwargs: dict[str, Any] | None, task: TriggerTask, context: TaskContext) -> Any:
    raise task.retry(exc=ValueError("again"), cooldown=0, replacement_kwargs=kwargs)


def _skipping(task: TriggerTask, context: TaskContext) -> Any:
    raise task.skip({"reason": "nothing to do"})


def _with_status(statuses: Mapping[str, str], status: str) -> list[str]:
    return [name for name, found in statuses.items() if found == status]
