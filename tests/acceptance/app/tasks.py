"""Tasks under the names that the snippets' configurations use."""

from __future__ import annotations

from typing import Any

from triggers.task import TaskContext, TriggerTask

NAMES = [
    "app.tasks.ImportSubject",
    "app.tasks.ImportResponses",
    "app.tasks.ImportBrowserMetadata",
    "applicant_journey.tasks.Import_CreateApplicant",
    "applicant_journey.tasks.Score_ComputePsychometric",
    "my_app.tasks.ProcessStepData",
    "my_app.tasks.ImportSubject",
    "my_app.tasks.ComputeScore",
    "my_app.tasks.CompareResponses",
]


class Show(TriggerTask):
    """Return the kwargs that the task got."""

    abstract = True

    def _run(self, context: TaskContext) -> dict[str, Any]:
        return {"got": context.trigger_kwargs}


def define(name: str) -> type[TriggerTask]:
    """Define the task of this name."""
    module, _dot, attribute = name.rpartition(".")
    made: type[TriggerTask] = type(attribute, (Show,), {"name": name, "__module__": module})
    return made
