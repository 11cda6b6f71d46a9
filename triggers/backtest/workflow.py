"""A workflow as a team keeps it in a file, and its rehearsal: the same joins without effects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from triggers.conditions.durations import LONGEST
from triggers.conditions.tree import Elapsed
from triggers.configuration import Configuration
from triggers.engine.plan import TaskPlan, compile_plan
from triggers.exceptions import TriggersError

Workflow = dict[str, Any]

LATEST_TIME = datetime.max.replace(tzinfo=UTC) - LONGEST - timedelta(days=1)
"""The latest time from which every duration can be counted."""

REHEARSAL = "triggers.backtest.replay.Rehearsal"
"""Name of the trigger task that takes the place of every task."""

_ABOUT_TIME = ("within", "fresh", "atMostEvery", "debounce")
_NEVER = ("failed", "skipped")


class WorkflowError(TriggersError, ValueError):
    """A file does not hold a workflow in JSON."""


def load_workflow(path: Path) -> Workflow:
    """Read the mapping that ``update_configuration`` takes from a JSON file.

    What the mapping says is checked later, by the configuration itself.

    :raises OSError: the file cannot be read.
    :raises WorkflowError: it is no JSON (the message has line and column), no object, or names
        something twice.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkflowError(f"The file is not UTF-8 (byte {error.start + 1:,}).") from None
    try:
        loaded = json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        place = f"Line {error.lineno}, column {error.colno}"
        raise WorkflowError(f"{place}: this is not JSON ({error.msg}).") from None
    except RecursionError:
        raise WorkflowError("The JSON is nested too deeply.") from None
    if not isinstance(loaded, dict):
        raise WorkflowError(
            "Expected a JSON object with a task by each name, such as "
            '{"t_letter": {"after": ["received"], "run": "app.tasks.Letter"}}.'
        )
    return loaded


def rehearse(workflow: Mapping[str, Any]) -> Workflow:
    """The same workflow, but no task has effects and each runs in place.

    Only ``run``, ``using`` and ``withArgs`` (whose provider is part of a task's work) change, and
    only where they can be replaced without hiding a mistake: what is missing or of the wrong type
    is left for the configuration to complain about.
    """
    return {name: _rehearse_task(directives) for name, directives in workflow.items()}


def outside_triggers(configuration: Configuration) -> set[str]:
    """The triggers that a workflow waits for and that no task of its own fires."""
    tasks = configuration.tasks
    return {name for name in _named(configuration) if name.partition(":")[0] not in tasks}


def unheard_outcomes(configuration: Configuration) -> set[str]:
    """The outcomes that a workflow waits for and that tasks which all finish never have."""
    outcomes = {name: name.partition(":")[2] for name in _named(configuration)}
    outside = outside_triggers(configuration)
    return {name for name, outcome in outcomes.items() if outcome in _NEVER} - outside


def directives_about_time(configuration: Configuration) -> dict[str, list[str]]:
    """What would mean nothing without the times of events: by task, if it has any."""
    tasks = compile_plan(configuration).tasks
    return {name: found for name, task in tasks.items() if (found := list(_about_time(task)))}


def _named(configuration: Configuration) -> set[str]:
    return {name for task in configuration.tasks.values() for name in task.after | task.unless}


def _about_time(task: TaskPlan) -> Iterator[str]:
    yield from (name for name in _ABOUT_TIME if name in task.config.directives)
    parts = [*task.ready.parts(), *task.barred.parts()]
    if any(isinstance(part, Elapsed) for part in parts):
        yield "elapsed"


def _rehearse_task(directives: Any) -> Any:
    if not isinstance(directives, dict):
        return directives
    run, using = directives.get("run"), directives.get("using", "")
    replaced = dict(directives)
    if isinstance(run, str) and run.strip():
        replaced["run"] = REHEARSAL
    if isinstance(using, str) and (using or "using" not in directives):
        replaced["using"] = "synchronous"
    if isinstance(replaced.get("withArgs"), str) and replaced["withArgs"].strip():
        del replaced["withArgs"]
    return replaced


def _without_repetition(pairs: list[tuple[str, Any]]) -> Workflow:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WorkflowError(f"The name {twice!r} stands twice in one JSON object.")
    return mapping
