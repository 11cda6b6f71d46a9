"""The test kit: everything that makes workflows a pleasure to test.

===============================  =================================================================
``TriggerManagerTestCaseMixin``  assertions and a runner for ``unittest`` and Django test cases
``any_order``                    a test body for every order of a few firings
``frozen_time``                  the clock of every storage, held at a moment
``StorageContract``              the conformance suite of storages, ours and yours
===============================  =================================================================

With pytest, the fixture ``trigger_manager`` is there without an import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triggers.clock import frozen_time
    from triggers.testing.cases import TriggerManagerTestCaseMixin
    from triggers.testing.contract import StorageContract
    from triggers.testing.environment import run_tasks_locally
    from triggers.testing.orders import Order, any_order

_LAZY = {
    "Order": "triggers.testing.orders",
    "StorageContract": "triggers.testing.contract",
    "TriggerManagerTestCaseMixin": "triggers.testing.cases",
    "any_order": "triggers.testing.orders",
    "frozen_time": "triggers.clock",
    "run_tasks_locally": "triggers.testing.environment",
}

__all__ = [
    "Order",
    "StorageContract",
    "TriggerManagerTestCaseMixin",
    "any_order",
    "frozen_time",
    "run_tasks_locally",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
