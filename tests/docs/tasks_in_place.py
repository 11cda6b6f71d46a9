"""For pages whose tasks run in place: what ``TRIGGERS`` says at the top of those pages.

Where a page has several setup files, this one comes last. At the end of the page its tasks, and
what it has registered, are forgotten, so that another page may use the same names.
"""

from collections.abc import Callable
from contextlib import ExitStack

from celery import _state, current_app
from django.test import override_settings

from triggers import task as defining
from triggers.manager import trigger_managers
from triggers.runners import task_runners
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend

stack = ExitStack()
other: Callable[[], None] | None = globals().get("tear_down")
if other is not None:
    stack.callback(other)
stack.callback(MemoryStorageBackend.clear)
stack.enter_context(override_settings(TRIGGERS={"default": {"RUNNER": "synchronous"}}))
current_app.finalize()  # or it would take up the tasks of a page when that is over
apps = list(_state._get_active_apps())
tasks_before = [set(app.tasks) for app in apps]
finalizers_before = set(_state._on_app_finalizers)
defined_before = set(defining._defined)
registries = (trigger_managers, storage_backends, task_runners)
names_before = [set(registry.names()) for registry in registries]


def tear_down() -> None:
    for app, known in zip(apps, tasks_before, strict=True):
        for name in set(app.tasks) - known:
            del app.tasks[name]
    # An app that is made later would get all tasks that were ever defined.
    _state._on_app_finalizers.intersection_update(finalizers_before)
    for name in set(defining._defined) - defined_before:
        del defining._defined[name]
    for registry, known in zip(registries, names_before, strict=True):
        for name in set(registry.names()) - known:
            registry.unregister(name)
    stack.close()
