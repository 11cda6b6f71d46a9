"""The names, parameters and properties that the document lists in prose, outside of snippets."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest

from triggers import CacheStorageBackend, TriggerManager
from triggers.exceptions import with_context
from triggers.runners import BaseTaskRunner, CeleryTaskRunner, ThreadingTaskRunner
from triggers.storages.base import BaseTriggerStorage
from triggers.task import TaskContext, TriggerTask
from triggers.testing import TriggerManagerTestCaseMixin
from triggers.types import Status, TaskInstance

IMPORTS = {
    "triggers": ["CacheStorageBackend", "TriggerManager"],
    "triggers.exceptions": ["with_context"],
    "triggers.manager": ["TriggerManager", "trigger_managers"],
    "triggers.runners": [
        "BaseTaskRunner",
        "CeleryTaskRunner",
        "DEFAULT_TASK_RUNNER",
        "ThreadingTaskRunner",
    ],
    "triggers.storages": ["storage_backends"],
    "triggers.storages.base": ["BaseTriggerStorage"],
    "triggers.storages.cache": ["CacheStorageBackend"],
    "triggers.task": ["MaxRetriesExceeded", "TaskContext", "TriggerTask"],
    "triggers.testing": ["TriggerManagerTestCaseMixin"],
    "triggers.types": ["TaskConfig", "TaskInstance"],
}

# What stands in brackets, in the document's tables of methods, may be left out.
SIGNATURES: list[tuple[Any, str]] = [
    (CacheStorageBackend.__init__, "uid, [cache], [timeout]"),
    (TriggerManager.__init__, "storage"),
    (TriggerManager.update_configuration, "configuration"),
    (TriggerManager.fire, "trigger_name, [trigger_kwargs]"),
    (TriggerManager.replay_failed_instance, "failed_instance, [replacement_kwargs]"),
    (TriggerManager.skip_failed_instance, "failed_instance, [cascade], [result]"),
    (
        TriggerManager.update_instance_status,
        "task_instance, status, [metadata], [cascade], [cascade_kwargs]",
    ),
    (TriggerManager.update_instance_metadata, "task_instance, metadata"),
    (TriggerManager.mark_instance_logs_resolved, "task_instance"),
    (TriggerManager._post_fire, "trigger_name, tasks_scheduled"),
    (TriggerManager._post_replay, "task_instance"),
    (TriggerManager._post_skip, "task_instance, cascade"),
    (BaseTriggerStorage.create_instance, "task_config"),
    (BaseTriggerStorage.clone_instance, "task_instance"),
    (BaseTriggerStorage.instances_of_task, "task_config"),
    (BaseTriggerStorage.get_instances_with_unresolved_logs, ""),
    (BaseTriggerStorage.get_unresolved_instances, ""),
    (BaseTriggerStorage.get_unresolved_tasks, ""),
    (BaseTriggerStorage.debug_repr, ""),
    (BaseTriggerStorage._load_from_backend, ""),
    (BaseTriggerStorage._save, ""),
    (BaseTaskRunner.run, "manager, task_instance"),
    (BaseTaskRunner.resolve, "name"),
    (TriggerTask._run, "context"),
    (TriggerTask.retry, "[exc], [cooldown], [replacement_kwargs]"),
    (TaskContext.filter_kwargs, "filters"),
    (TaskContext.get_logger_context, "[context]"),
    (with_context, "exc, context"),
    (TriggerManagerTestCaseMixin.assertInstanceAbandoned, "instance_name"),
    (TriggerManagerTestCaseMixin.assertInstanceFailed, "instance_name, [exc_type]"),
    (TriggerManagerTestCaseMixin.assertInstanceFinished, "instance_name, [expected_result]"),
    (TriggerManagerTestCaseMixin.assertInstanceMissing, "instance_name"),
    (TriggerManagerTestCaseMixin.assertInstanceReplayed, "instance_name"),
    (TriggerManagerTestCaseMixin.assertInstanceSkipped, "instance_name"),
    (TriggerManagerTestCaseMixin.assertInstanceUnstarted, "instance_name"),
    (TriggerManagerTestCaseMixin.assertUnresolvedTasks, "tasks"),
    (TriggerManagerTestCaseMixin.assertUnresolvedInstances, "instances"),
    (ThreadingTaskRunner.join_all, ""),
]


@pytest.mark.parametrize("module", IMPORTS)
def test_what_the_document_imports_is_there_and_public(module: str) -> None:
    imported = import_module(module)
    public = getattr(imported, "__all__", IMPORTS[module])
    for name in IMPORTS[module]:
        assert hasattr(imported, name), name
        assert name in public, name


@pytest.mark.parametrize(
    ("function", "documented"),
    [pytest.param(*each, id=each[0].__qualname__) for each in SIGNATURES],
)
def test_parameters_have_the_documented_names_in_their_order(
    function: Any, documented: str
) -> None:
    parameters = [
        each for each in inspect.signature(function).parameters.values() if each.name != "self"
    ]
    wanted = [each for each in documented.split(", ") if each]
    names = [each.strip("[]") for each in wanted]
    assert [each.name for each in parameters[: len(wanted)]] == names
    may_be_left_out = [each.default is not each.empty for each in parameters]
    assert may_be_left_out[: len(wanted)] == [each.startswith("[") for each in wanted]
    # Whoever calls it as documented needs nothing else.
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    assert all(
        each.default is not each.empty or each.kind in variable
        for each in parameters[len(wanted) :]
    )


def test_chapter_8_statuses() -> None:
    assert sorted(Status) == [
        "abandoned",
        "failed",
        "finished",
        "replayed",
        "running",
        "scheduled",
        "skipped",
        "unstarted",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "can_abandon",
        "can_replay",
        "can_run",
        "can_schedule",
        "can_skip",
        "config",
        "is_resolved",
        "kwargs",
        "log_level",
        "log_level_name",
        "metadata",
        "name",
        "status",
    ],
)
def test_chapters_8_to_10_attributes_of_an_instance(name: str) -> None:
    attribute = inspect.getattr_static(TaskInstance, name)
    assert isinstance(attribute, property) or inspect.ismemberdescriptor(attribute)


def test_chapter_14_the_runners_have_one_base() -> None:
    assert issubclass(CeleryTaskRunner, BaseTaskRunner)
    assert issubclass(ThreadingTaskRunner, BaseTaskRunner)
