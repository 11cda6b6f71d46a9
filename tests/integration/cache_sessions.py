"""Sessions in a cache, for the tests of that storage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django.core.cache import caches

from triggers.manager import TriggerManager
from triggers.storages.cache import CacheStorageBackend
from triggers.testing.racing import Recorded

PATIENCE = 30  # seconds
JOIN = {"t_x": {"after": ["a", "b"], "run": Recorded.name}}
EVERY = {"t_x": {"andEvery": "p", "run": Recorded.name}}


def session(
    tasks: dict[str, Any] | None = None,
    storage: type[CacheStorageBackend] = CacheStorageBackend,
    **options: Any,
) -> TriggerManager:
    """A manager on a fresh session."""
    manager = TriggerManager(storage(uuid4().hex, **options))
    manager.update_configuration(tasks or JOIN)
    return manager


def key_of(uid: str, alias: str = "default") -> str:
    """The key under which a session is kept."""
    return caches[alias].make_key(f"triggers:session:{uid}")


def lock_of(uid: str) -> str:
    """The key of a session's lock."""
    return f"lock:{key_of(uid)}"


def fired(uid: str) -> Counter[str]:
    """How often each name was fired."""
    return Counter(each.trigger for each in CacheStorageBackend(uid).find_firings())


def until(condition: Callable[[], object]) -> None:
    """Look again and again at something that another process or the server does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)
