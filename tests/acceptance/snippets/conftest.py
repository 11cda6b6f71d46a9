"""Runs the snippets of the design document as printed, in the surroundings that it implies.

Of what is printed, two things are repaired, and every repair is told where it is made: what the
extraction from the printed page has lost (indentation, prompts, a keyword), and the document's
own slips. ``...`` stands for something that the reader fills in; so do the tests.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from django.db import connection

from tests import servers
from tests.acceptance import app
from tests.acceptance.app import forms, models, runners, tasks
from triggers.manager import TriggerManager
from triggers.runners import task_runners
from triggers.storages.cache import CacheStorageBackend
from triggers.testing import run_tasks_locally

Play = Callable[..., dict[str, Any]]

MODULES = ("app", "my_app", "applicant_journey")
MODELS = (models.Subject, models.Questionnaire)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[None]:
    """A survey application under the names that the document uses."""
    for name, module in {
        "my_app": app,
        "my_app.models": models,
        "my_app.forms": forms,
        "my_app.triggers": types.ModuleType("my_app.triggers"),
        "my_app.triggers.runners": runners,
        "app": types.ModuleType("app"),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    with connection.schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    task_runners.register(runners.AwsLambdaRunner)
    forget_tasks()
    servers.forget_keys()
    with run_tasks_locally("synchronous"):
        yield
    servers.forget_keys()
    task_runners.unregister(runners.AwsLambdaRunner.name)
    runners.AwsLambdaRunner.sent.clear()
    forget_tasks()
    with connection.schema_editor() as editor:
        for model in MODELS:
            editor.delete_model(model)


def forget_tasks() -> None:
    """Forget the tasks of the application, so that the next snippet may define them anew."""
    for name in list(current_app.tasks):
        if name.partition(".")[0] in MODULES:
            del current_app.tasks[name]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run a snippet as a module of the application; return the names that it defined."""

    def run(text: str, module: str = "app.tasks", **surroundings: Any) -> dict[str, Any]:
        made = types.ModuleType(module)
        made.__dict__.update(surroundings)
        monkeypatch.setitem(sys.modules, module, made)
        exec(compile(textwrap.dedent(text), f"<snippet of {module}>", "exec"), made.__dict__)
        return made.__dict__

    return run


@pytest.fixture
def tasks_of_the_document() -> None:
    """Define a task for every name that the configurations of the document use."""
    for name in tasks.NAMES:
        tasks.define(name)


@pytest.fixture
def trigger_manager() -> TriggerManager:
    """What the document calls ``trigger_manager``, on a fresh session."""
    return TriggerManager(CacheStorageBackend("the document's session"))


def statuses(manager: TriggerManager) -> dict[str, str]:
    """The status of every instance, by name."""
    return {each.name: str(each.status) for each in manager.storage}


def load_json(text: str) -> dict[str, Any]:
    """Load JSON as the document prints it: with comments, and here and there without braces."""
    text = re.sub(r"//.*", "", text).strip()
    loaded: dict[str, Any] = json.loads(text if text.startswith("{") else f"{{{text}}}")
    return loaded
