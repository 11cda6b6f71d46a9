"""Mistakes, each with the error that mypy must find on its line; nothing here is ever run."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from shop.workflows import orders
from triggers import MemoryStorageBackend, TaskContext, TriggerManager, TriggerTask, trigger_task
from triggers.exceptions import SessionClosed
from triggers.runners import BaseTaskRunner
from triggers.storages import storage_backends
from triggers.storages.base import BaseTriggerStorage
from triggers.testing import TriggerManagerTestCaseMixin, frozen_time
from triggers.types import FireResult, TaskConfig, TaskInstance
from triggers.workflows import on, settled


def firing(manager: TriggerManager) -> None:
    manager.fire(7)  # error: arg-type
    manager.fire("paid", ["card"])  # error: arg-type
    manager.fire("paid", {"by": "card"}, "once")  # error: call-arg
    manager.fire("paid", idempotency_key=7)  # error: arg-type
    manager.fire("paid", idempotent=True)  # error: call-arg
    manager.fire("paid").sheduled  # error: attr-defined
    manager.fire("paid").seq + 1  # error: operator
    manager.update_configuration(["t_ship"])  # error: call-overload
    manager.replay_failed_instance(0)  # error: arg-type
    manager.get_unresolved_tasks()[0].status  # error: attr-defined
    manager.explain(3)  # error: call-overload
    manager.explain("t_ship#0").status  # error: union-attr
    manager.storage.instances["t_ship#0"].staus  # error: attr-defined
    manager.storage["t_ship#0"].status = "failed"  # error: assignment, misc


async def waiting(manager: TriggerManager) -> None:
    manager.afire("paid").seq  # error: attr-defined
    manager.afire("paid")  # error: unused-coroutine
    await manager.afire("paid", {"by": "card"}, "once")  # error: call-arg


class Manager(TriggerManager):
    name = 7  # error: assignment

    def _post_fire(self, trigger_name: str) -> None:  # error: override
        pass

    def fire(self, trigger_name: str) -> FireResult:  # error: override
        return super().fire(trigger_name)


class Task(TriggerTask):
    max_retries = "3"  # error: assignment
    expires = "PT1H"  # error: assignment

    def _run(self, context: TaskInstance) -> None:  # error: override
        raise self.retry(cooldown="5 minutes")  # error: arg-type


class Result(TriggerTask):
    def _run(self, context: TaskContext) -> str:  # error: override
        context.trigger_kwargs["paid"] = 3  # error: assignment
        return context.instance  # error: attr-defined, no-any-return


class Storage(BaseTriggerStorage):
    name = "wrong"

    def _load_from_backend(self) -> dict[str, Any]:  # error: override
        return {}


class Runner(BaseTaskRunner):
    name = "wrong"

    def run(self, manager: TriggerManager, task_instance: str) -> None:  # error: override
        pass


def making() -> None:
    MemoryStorageBackend(42)  # error: arg-type
    MemoryStorageBackend("order:42", lese=30)  # error: call-arg
    Storage("order:42")  # error: abstract
    TriggerManager("order:42")  # error: arg-type
    storage_backends.get("memory")  # error: call-arg
    TaskConfig("t_ship", "shop.tasks.Ship")  # error: call-arg


@trigger_task(after=3)  # error: call-overload, untyped-decorator
def declared(context: TaskContext) -> None:
    pass


def declaring() -> None:
    on(7)  # error: arg-type
    on("paid").times("3")  # error: arg-type
    on("paid").within(weeks="1")  # error: arg-type
    on("paid") & 3  # error: operator
    settled(3)  # error: arg-type
    orders.task("t_x")  # error: call-arg
    orders.task("t_x", run=3)  # error: arg-type
    orders.task("t_x", run="shop.tasks.Ship", after=3)  # error: arg-type
    orders.task("t_x", run="shop.tasks.Ship", and_every=3)  # error: arg-type
    orders.task("t_x", run="shop.tasks.Ship", with_args={"to": "me"})  # error: arg-type


class Case(TriggerManagerTestCaseMixin):
    def test(self) -> None:
        self.assertInstanceFinished("t_ship#0", "P-1")  # error: arg-type
        self.assertInstanceShipped("t_ship#0")  # error: attr-defined
        with frozen_time(timedelta(1)):  # error: arg-type
            self.manager = None  # error: assignment


def failing(error: SessionClosed, kwargs: Mapping[str, Any]) -> int:
    return error.phase  # error: return-value
