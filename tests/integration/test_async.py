"""Async code does with a manager what other code does, by the methods that begin with ``a``."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient
from django.urls import path

from tests import servers
from triggers.asynchronous import AsyncMethods
from triggers.exceptions import InvalidTransition, SessionClosed
from triggers.manager import TriggerManager, get_trigger_manager, trigger_managers
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, trigger_task
from triggers.testing import run_tasks_locally
from triggers.types import FireResult, Phase

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@trigger_task
def divide(context: TaskContext) -> dict[str, Any]:
    return {"result": 12 / context.trigger_kwargs["a"]["by"]}


TASKS: dict[str, Any] = {
    "t_x": {"after": ["a"], "run": divide.name},
    "t_y": {"after": ["t_x", "b"], "run": divide.name},
}


class TenantManager(TriggerManager):
    """Its ``fire`` reads a context variable, and sets one."""

    name = "async-tenant"
    seen: ClassVar[list[tuple[str, str]]] = []

    def fire(self, trigger_name: str, *args: Any, **kwargs: Any) -> FireResult:
        self.seen.append((trigger_name, tenant.get()))
        tenant.set("set by fire")
        return super().fire(trigger_name, *args, **kwargs)


async def fire_view(request: HttpRequest, uid: str, trigger: str) -> JsonResponse:
    manager = get_trigger_manager(uid)
    result = await manager.afire(trigger, json.loads(request.body))
    return JsonResponse({"seq": result.seq, "scheduled": result.scheduled})


urlpatterns = [path("fire/<uid>/<trigger>", fire_view)]


@pytest.fixture(autouse=True)
def _clean(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["testserver"]
    MemoryStorageBackend.clear()
    TenantManager.seen.clear()
    trigger_managers.register(TenantManager)
    with run_tasks_locally("synchronous"):
        yield
    trigger_managers.unregister(TenantManager.name)
    MemoryStorageBackend.clear()


@pytest.mark.parametrize("alias", servers.database_params())
def test_an_async_view_fires(alias: str, settings: Any) -> None:
    settings.TRIGGERS = {"default": {"OPTIONS": {"using": alias}, "RUNNER": "synchronous"}}
    manager = get_trigger_manager(uuid4().hex)
    manager.update_configuration(TASKS)

    async def requests() -> list[Any]:
        client = AsyncClient()
        url = f"/fire/{manager.storage.uid}/a"
        answer = await client.post(url, {"by": 4}, content_type="application/json")
        return [answer.status_code, answer.json()]

    assert async_to_sync(requests)() == [200, {"seq": 1, "scheduled": ["t_x#0"]}]
    assert manager.storage["t_x#0"].metadata["result"] == {"result": 3.0}


@pytest.mark.django_db(transaction=True)
def test_many_requests_at_once_fire_each() -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex))
    manager.update_configuration({"t_x": {"andEvery": "a", "run": divide.name}})

    async def fire(number: int) -> int | None:
        result = await TriggerManager(manager.storage).afire("a", {"by": number + 1})
        return result.seq

    async def requests() -> list[int | None]:
        return await asyncio.gather(*(fire(number) for number in range(8)))

    seqs = async_to_sync(requests)()
    assert len(set(seqs)) == 8
    assert [str(each.status) for each in manager.storage] == ["finished"] * 8


@pytest.mark.parametrize("storage", ["memory", *servers.database_params()])
def test_each_method_does_what_its_namesake_does(storage: str, settings: Any) -> None:
    alias = {"STORAGE": "memory"} if storage == "memory" else {"OPTIONS": {"using": storage}}
    settings.TRIGGERS = {"default": {**alias, "RUNNER": "synchronous"}}
    async_to_sync(everything)(get_trigger_manager(uuid4().hex))


async def everything(manager: TriggerManager) -> None:
    await manager.aupdate_configuration(TASKS)
    assert [each.name for each in await manager.aget_unresolved_tasks()] == ["t_x", "t_y"]
    fired = await manager.afire("a", {"by": 0}, idempotency_key="evt_1")
    again = await manager.afire("a", {"by": 0}, idempotency_key="evt_1")
    assert (fired.seq, again.duplicate) == (1, True)
    assert [each.name for each in await manager.aget_unresolved_instances()] == ["t_x#0"]
    replayed = await manager.areplay_failed_instance("t_x#0", {"a": {"by": 0}})
    assert replayed.name == "t_x#1"
    assert "t_x#1" in str(await manager.aexplain("t_x#1"))
    assert "fired from outside" in str(await manager.aexplain_firing(1))
    noted = await manager.aupdate_instance_metadata("t_x#1", {"note": "seen"})
    assert noted.metadata["note"] == "seen"
    resolved = await manager.amark_instance_logs_resolved("t_x#1")
    assert resolved.logs_resolved
    skipped = await manager.askip_failed_instance("t_x#1", cascade=True, result={"result": 1})
    assert str(skipped.status) == "skipped"
    with pytest.raises(InvalidTransition):
        await manager.areplay_failed_instance("t_x#1")
    changed = await manager.aupdate_instance_status("t_y#0", "abandoned", {"why": "by hand"})
    assert str(changed.status) == "abandoned"
    assert await manager.aclose() is Phase.CLOSED
    with pytest.raises(SessionClosed):
        await manager.afire("a")
    assert await manager.acancel() is Phase.CANCELLED
    await manager.aerase()
    phase = await sync_to_async(lambda: manager.storage.standing().phase)()
    assert phase is Phase.PURGED


def test_an_overridden_method_is_overridden_for_async_code_too() -> None:
    manager = TenantManager(MemoryStorageBackend("s"))
    manager.update_configuration(TASKS)

    async def fire() -> str:
        tenant.set("acme")
        await manager.afire("b", {"by": 1})
        return tenant.get()

    assert async_to_sync(fire)() == "set by fire", "context variables carry over, there and back"
    assert manager.seen == [("b", "acme")]


@pytest.mark.django_db(transaction=True)
def test_it_takes_part_in_a_transaction_of_synchronous_code() -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex))
    manager.update_configuration(TASKS)

    async def in_a_transaction() -> FireResult:
        begun = transaction.atomic()
        await sync_to_async(begun.__enter__)()
        result = await manager.afire("a", {"by": 1})
        await sync_to_async(begun.__exit__)(ValueError, ValueError(), None)  # it is rolled back
        return result

    assert async_to_sync(in_a_transaction)().pending
    assert list(manager.storage.find_firings()) == []


CALLS: dict[str, tuple[Any, ...]] = {
    "update_configuration": (TASKS,),
    "fire": ("a",),
    "replay_failed_instance": ("t_x#0",),
    "skip_failed_instance": ("t_x#0",),
    "update_instance_status": ("t_x#0", "failed"),
    "update_instance_metadata": ("t_x#0", {}),
    "get_unresolved_tasks": (),
    "get_unresolved_instances": (),
    "explain": (),
    "explain_firing": (1,),
    "close": (),
    "cancel": (),
    "erase": (),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", CALLS)
def test_where_django_refuses_a_query_in_async_code_the_way_out_is_named(method: str) -> None:
    manager = TriggerManager(DatabaseStorageBackend(uuid4().hex))
    manager.update_configuration(TASKS)

    async def view() -> None:
        getattr(manager, method)(*CALLS[method])

    with pytest.raises(SynchronousOnlyOperation) as caught:
        async_to_sync(view)()
    [note] = caught.value.__notes__
    assert note.startswith("In async code, await the namesake of the manager's method")
    assert hasattr(manager, f"a{method}")


def test_every_method_has_a_namesake_with_the_same_signature() -> None:
    methods = {
        name: method
        for name, method in vars(AsyncMethods).items()
        if inspect.iscoroutinefunction(method)
    }
    assert len(methods) == 14
    for name, method in methods.items():
        namesake = getattr(TriggerManager, name.removeprefix("a"))
        assert inspect.signature(method) == inspect.signature(namesake), name
