"""Workers that a test leads step by step, and a runner that leaves all starting to them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from django.db import connections

from triggers.manager import TriggerManager
from triggers.runners import BaseTaskRunner, task_runners
from triggers.task import TaskContext, TriggerTask, execute

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
        answer = self._answer()
        assert answer != "is through", "the task ended instead of going on"
        return answer

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


def finishing(result: dict[str, Any], task: TriggerTask, context: TaskContext) -> Any:
    return result


def failing(task: TriggerTask, context: TaskContext) -> Any:
    raise ValueError("told to fail")


def retrying(kwargs: dict[str, Any] | None, task: TriggerTask, context: TaskContext) -> Any:
    raise task.retry(exc=ValueError("again"), cooldown=0, replacement_kwargs=kwargs)


def skipping(task: TriggerTask, context: TaskContext) -> Any:
    raise task.skip({"reason": "nothing to do"})
