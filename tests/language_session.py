"""A real session with the methods of the model, for examples and the machine to drive."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from tests.reference_language import ATTEMPTS, LEASE
from tests.reference_values import Kwargs, RefusedError
from tests.worker import (
    Obedient,
    OnlookingManager,
    Worker,
    failing,
    finishing,
    retrying,
    skipping,
)
from triggers import heartbeat, recovery, timers
from triggers.clock import set_time
from triggers.conditions import predicate
from triggers.exceptions import (
    ConfigurationWarning,
    InvalidTransition,
    InvalidTrigger,
    PredicateFailed,
    SessionClosed,
)
from triggers.limits import Limits
from triggers.manager import trigger_managers
from triggers.payload import decode
from triggers.task import TaskContext, TriggerTask
from triggers.types import Firing, TaskInstance

trigger_managers.register(OnlookingManager)

BEGINNING = datetime(2026, 11, 21, 12, tzinfo=UTC)
LIMITS = Limits(lease=LEASE, heartbeat=LEASE / 2, attempts=ATTEMPTS)


@predicate("tests_is_even")
def is_even(kwargs: Kwargs) -> bool:
    return kwargs.get("n", 0) % 2 == 0  # type: ignore[no-any-return]


@predicate("tests_is_fragile")
def is_fragile(kwargs: Kwargs) -> float:
    return 1 / kwargs.get("n", 1)  # type: ignore[no-any-return]


class RealSession:
    """A session on a storage, which takes one step at a time and runs nothing by itself.

    It holds the clock of the process at a moment; :func:`let_time_run` ends that.

    :param open_storage: opens a storage by uid, anew at each call.
    :param alias: name in ``TRIGGERS`` of the same storage; without it, time is applied to this
        session alone, as must be where a storage cannot list its sessions.
    """

    def __init__(self, open_storage: Callable[[str], Any], alias: str | None = None) -> None:
        self.uid = uuid4().hex
        self.open_storage = open_storage
        # Two servers that stay up, and take turns.
        servers = [OnlookingManager(open_storage(self.uid)) for _ in range(2)]
        self._managers = itertools.cycle(servers)
        for server in servers:
            server.storage.limits = LIMITS
        self._workers: dict[str, Worker] = {}
        self._lost: list[Worker] = []
        self._moment = BEGINNING
        self._alias = alias
        set_time(self._moment)

    def close(self) -> None:
        for worker in (*self._workers.values(), *self._lost):
            worker.end(failing)
        self.open_storage(self.uid).delete()  # or it would be due again, for others too

    def move_on(self, seconds: float) -> None:
        self._moment += timedelta(seconds=seconds)
        set_time(self._moment)

    def fire_due(self) -> None:
        if self._alias is None:
            timers.fire_due_in(self._manager)
        else:
            assert timers.fire_due(using=self._alias).failed == 0

    def configure(
        self, config: Mapping[str, Any], apply_history: bool = False, finalize: bool | None = None
    ) -> None:
        runnable = {name: {**task, "run": Obedient.name} for name, task in config.items()}
        with warnings.catch_warnings(), refusing():
            warnings.simplefilter("ignore", ConfigurationWarning)  # circles, among others
            self._manager.update_configuration(
                runnable, apply_history=apply_history, finalize=finalize
            )

    def fire(self, trigger: str, kwargs: Kwargs | None = None) -> None:
        with refusing():
            self._manager.fire(trigger, kwargs)

    def start(self, name: str) -> None:
        worker = Worker(self._manager, name)
        if not worker.runs:
            raise RefusedError(f"{name} did not start.")
        self._workers[name] = worker
        self._silence(name)
        while self._lost:
            self._lost.pop().end(partial(finishing, {"late": True}))

    def _silence(self, name: str) -> None:
        """Let no heartbeat of an attempt come: only the clock of the test counts."""
        token = self.open_storage(self.uid)[name].record.token
        with heartbeat._changed:
            heartbeat._watched.pop(token)

    def lose_worker(self, name: str) -> None:
        end = self.open_storage(self.uid)[name].record.due_at
        self._moment = max(self._moment, end)
        set_time(self._moment)
        recovery.recover(self._manager)
        storage = self.open_storage(self.uid)
        for each in [each for each in self._workers if storage[each].status != "running"]:
            # It reports when the next one has begun.
            self._lost.append(self._workers.pop(each))

    def close_session(self) -> None:
        self._manager.close()

    def cancel_session(self) -> None:
        self._manager.cancel()

    def context_firings(self, name: str) -> dict[str, list[Kwargs]]:
        firings = self._workers[name].do(lambda task, context: context.firings)
        return {trigger: [dict(each) for each in firings[trigger]] for trigger in firings}

    def finish(self, name: str, result: Kwargs) -> None:
        self._workers.pop(name).end(partial(finishing, result))

    def fail(self, name: str, error: Exception) -> None:
        self._workers.pop(name).end(partial(_raising, error))

    def retry(self, name: str, replacement: dict[str, Kwargs] | None = None) -> None:
        self._workers.pop(name).end(partial(retrying, replacement))

    def skip(self, name: str) -> None:
        self._workers.pop(name).end(skipping)

    def replay(self, name: str, replacement: dict[str, Kwargs] | None = None) -> None:
        with refusing():
            self._manager.replay_failed_instance(name, replacement)

    def skip_failed(self, name: str, cascade: bool = False, result: Kwargs | None = None) -> None:
        with refusing():
            self._manager.skip_failed_instance(name, cascade, result)

    def set_status(
        self, name: str, status: str, cascade: bool = False, kwargs: Kwargs | None = None
    ) -> None:
        with refusing():
            self._manager.update_instance_status(name, status, None, cascade, kwargs)
        if name in self._workers:
            self._workers.pop(name).end(failing)  # nobody listens to it any more

    def snapshot(self) -> dict[str, Any]:
        storage = self.open_storage(self.uid)
        instances = {instance.name: _instance(instance) for instance in storage}
        tasks = set(storage.tasks)
        firings = [_firing(each, tasks) for each in storage.find_firings()]
        phase = str(storage.standing().phase)
        return {"instances": instances, "firings": firings, "phase": phase}

    @property
    def _manager(self) -> OnlookingManager:
        return next(self._managers)


@contextmanager
def refusing() -> Iterator[None]:
    try:
        yield
    except (InvalidTransition, InvalidTrigger, PredicateFailed, SessionClosed) as error:
        raise RefusedError(str(error)) from error


def let_time_run() -> None:
    set_time(None)


def _raising(error: Exception, task: TriggerTask, context: TaskContext) -> Any:
    raise error


def _instance(instance: TaskInstance) -> dict[str, Any]:
    abandoned = instance.status == "abandoned"
    return {
        "status": str(instance.status),
        "kwargs": instance.kwargs,
        "parent": instance.metadata.get("parent"),
        "reason": instance.metadata.get("reason") if abandoned else None,
    }


def _firing(firing: Firing, tasks: set[str]) -> dict[str, Any]:
    """Return a firing in the model's form, with the names that others imply."""
    names = {firing.trigger, *firing.also}
    for name in list(names):
        task, _, outcome = name.partition(":")
        if task in tasks:
            names.add(f"{task}:ended")
        if outcome == "expired":
            names.add(f"{task}:abandoned")
    kwargs = decode(firing.kwargs)
    return {
        "names": dict.fromkeys(names, kwargs),
        "at": (firing.at - BEGINNING).total_seconds(),
        "cause": firing.cause,
        "refused": set(firing.refused),
    }
