"""Views that fire and ask, with and without async; and what errors carry."""

from datetime import timedelta
from typing import Any, assert_type

from django.http import HttpRequest, HttpResponse, JsonResponse

from shop.workflows import orders
from triggers import TriggerManager, get_trigger_manager
from triggers.exceptions import (
    ConfigurationError,
    IdempotencyConflict,
    InstanceNotFound,
    InvalidTransition,
    MissingPackages,
    PayloadTooLarge,
    SessionClosed,
    StorageUnavailable,
    TaskExpired,
    WorkerLost,
)
from triggers.explain import (
    FiringExplanation,
    InstanceExplanation,
    SessionExplanation,
    TaskExplanation,
)
from triggers.manager import trigger_managers
from triggers.recovery import Recovered, redeliver
from triggers.runners import BaseTaskRunner, task_runners
from triggers.storages import storage_backends
from triggers.storages.session import SessionStorage
from triggers.timers import Fired, fire_due
from triggers.types import FireResult, Phase, Status, TaskConfig, TaskInstance


def order(request: HttpRequest, uid: str) -> HttpResponse:
    manager = get_trigger_manager(uid)
    assert_type(manager, TriggerManager)
    assert_type(manager.update_configuration(orders), FireResult)
    done = manager.fire("ordered", {"items": 3}, idempotency_key="once")
    assert_type(done, FireResult)
    assert_type(done.scheduled, tuple[str, ...])
    return JsonResponse({"seq": done.seq, "pending": done.pending})


async def pay(request: HttpRequest, uid: str) -> HttpResponse:
    manager = get_trigger_manager(uid, using="default")
    try:
        done = await manager.afire("paid", {"by": "card", "amount": 5}, on_commit=True)
    except SessionClosed as error:
        assert_type(error.uid, str)
        return HttpResponse(error.phase, status=410)
    except IdempotencyConflict as error:
        assert_type(error.seq, int | None)
        return HttpResponse(error.key, status=409)
    except StorageUnavailable as error:
        return HttpResponse(error.storage, status=503)
    assert_type(done, FireResult)
    unresolved = await manager.aget_unresolved_instances()
    assert_type(unresolved, list[TaskInstance])
    return JsonResponse({"waits for": [each.name for each in unresolved]})


async def why(request: HttpRequest, uid: str) -> HttpResponse:
    manager = get_trigger_manager(uid)
    assert_type(await manager.aexplain(), SessionExplanation)
    assert_type(await manager.aexplain("t_ship"), TaskExplanation | InstanceExplanation)
    assert_type(await manager.aclose(), Phase)
    return HttpResponse(str(await manager.aexplain()))


def what_can_be_asked(manager: TriggerManager, task: TaskConfig, seq: int) -> dict[str, Any]:
    storage = manager.storage
    assert_type(storage, SessionStorage)
    instance = storage["t_ship#0"]
    assert_type(instance, TaskInstance)
    assert_type(instance.status, Status)
    assert_type(instance.kwargs, dict[str, dict[str, Any]])
    assert_type(instance.config.after, frozenset[str])
    assert_type(list(storage), list[TaskInstance])
    assert_type(storage.tasks, dict[str, TaskConfig])
    assert_type(manager.explain(), SessionExplanation)
    assert_type(manager.explain(task), TaskExplanation)
    assert_type(manager.explain(instance), InstanceExplanation)
    assert_type(manager.explain("t_ship#0"), TaskExplanation | InstanceExplanation)
    assert_type(manager.explain_firing(seq), FiringExplanation)
    assert_type(manager.replay_failed_instance(instance), TaskInstance)
    assert_type(manager.skip_failed_instance("t_ship#0", cascade=True), TaskInstance)
    with storage.acquire_lock():
        storage.save()
    return instance.metadata


def what_is_registered() -> None:
    assert_type(trigger_managers.get_class("shop"), type[TriggerManager])
    assert_type(storage_backends.get_class("document"), type[SessionStorage])
    assert_type(storage_backends.get("document", "order:1", prefix="a"), SessionStorage)
    assert_type(task_runners.get("announcing"), BaseTaskRunner)
    assert_type(storage_backends.names(), list[str])


def what_keeps_it_going() -> tuple[Recovered, Fired]:
    return redeliver("default"), fire_due(using="default")


def what_errors_carry(error: Exception) -> object:
    match error:
        case ConfigurationError():
            assert_type(error.problems, tuple[tuple[str, str], ...])
        case InstanceNotFound():
            return error.instance
        case InvalidTransition():
            assert_type(error.wanted, str)
        case PayloadTooLarge():
            assert_type(error.limit, int)
        case TaskExpired():
            assert_type(error.waited, timedelta)
        case WorkerLost():
            assert_type(error.attempts, int)
        case MissingPackages():
            assert_type(error.packages, tuple[str, ...])
    return None
