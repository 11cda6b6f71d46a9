"""Triggers: a durable, exact event join for Django and Celery.

Put ``"triggers"`` into ``INSTALLED_APPS``. Importing this package imports nothing else until one
of its names is used, so it is safe before Django is set up and without any optional dependency.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triggers.manager import TriggerManager, get_trigger_manager
    from triggers.storages.cache import CacheStorageBackend
    from triggers.storages.database import DatabaseStorageBackend
    from triggers.storages.memory import MemoryStorageBackend
    from triggers.storages.redis import RedisStorageBackend
    from triggers.task import TaskContext, TriggerTask, trigger_task

__version__ = "0.1.0"

_LAZY = {
    "CacheStorageBackend": "triggers.storages.cache",
    "DatabaseStorageBackend": "triggers.storages.database",
    "MemoryStorageBackend": "triggers.storages.memory",
    "RedisStorageBackend": "triggers.storages.redis",
    "TaskContext": "triggers.task",
    "TriggerManager": "triggers.manager",
    "TriggerTask": "triggers.task",
    "get_trigger_manager": "triggers.manager",
    "trigger_task": "triggers.task",
}

__all__ = [
    "CacheStorageBackend",
    "DatabaseStorageBackend",
    "MemoryStorageBackend",
    "RedisStorageBackend",
    "TaskContext",
    "TriggerManager",
    "TriggerTask",
    "get_trigger_manager",
    "trigger_task",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
