"""Task runners: how an instance that is ready gets executed.

================  ===============================================================================
``base``          the documented base class for custom runners
``celery``        Celery workers: the default
``threads``       threads of this process
``synchronous``   in place, before the caller goes on
================  ===============================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from triggers.registry import Registry
from triggers.runners.base import BaseTaskRunner

if TYPE_CHECKING:
    from triggers.runners.celery import CeleryTaskRunner
    from triggers.runners.synchronous import SynchronousTaskRunner
    from triggers.runners.threads import ThreadingTaskRunner

DEFAULT_TASK_RUNNER: str | type[BaseTaskRunner] = "celery"
"""The runner of tasks whose configuration and manager name none. Assign to change it."""

TESTING_TASK_RUNNER: str | None = None
"""What the test kit puts in place of the default and of the setting while a test runs."""

task_runners: Registry[BaseTaskRunner] = Registry(
    "triggers.runners", "triggers.runners.base.BaseTaskRunner"
)
"""The registry of runner classes, by name."""

_LAZY = {
    "CeleryTaskRunner": "triggers.runners.celery",
    "SynchronousTaskRunner": "triggers.runners.synchronous",
    "ThreadingTaskRunner": "triggers.runners.threads",
}

__all__ = [
    "DEFAULT_TASK_RUNNER",
    "BaseTaskRunner",
    "CeleryTaskRunner",
    "SynchronousTaskRunner",
    "ThreadingTaskRunner",
    "task_runners",
]


def default_runner_name(configured: str | None = None) -> str:
    """The runner of whoever names none.

    :param configured: the ``RUNNER`` of an alias in ``TRIGGERS``, if there is one.
    """
    chosen = TESTING_TASK_RUNNER or configured or DEFAULT_TASK_RUNNER
    return chosen if isinstance(chosen, str) else chosen.name


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
