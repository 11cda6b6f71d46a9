"""Tasks run in processes of their own, one after the other and not inside each other."""

import logging
import os
import subprocess
import sys
import time
from typing import Any
from uuid import uuid4

import pytest

import plugin_tasks
from triggers import runners
from triggers.manager import TriggerManager, get_trigger_manager, trigger_managers
from triggers.runners import task_runners
from triggers.storages import storage_backends
from triggers_example_plugins.manager import IsolatingTriggerManager
from triggers_example_plugins.runner import ProcessRunner

PATIENCE = 60  # seconds


def manager_with(**tasks: dict[str, Any]) -> TriggerManager:
    manager = get_trigger_manager(uuid4().hex)
    manager.update_configuration(
        {name: {"run": plugin_tasks.tell.name, **task} for name, task in tasks.items()}
    )
    return manager


def ended(manager: TriggerManager, *instances: str) -> dict[str, str]:
    """Wait until these instances have ended; the statuses of all."""
    end = time.monotonic() + PATIENCE
    while True:
        statuses = {each.name: str(each.status) for each in manager.storage}
        if all(statuses.get(name) in ("finished", "failed") for name in instances):
            return statuses
        assert time.monotonic() < end, statuses
        time.sleep(0.05)


def result(manager: TriggerManager, instance: str) -> dict[str, Any]:
    found: dict[str, Any] = manager.storage[instance].metadata["result"]
    return found


def test_all_three_are_found_by_name() -> None:
    storage = storage_backends.get("directory", "s")
    assert type(trigger_managers.get("isolating", storage)) is IsolatingTriggerManager
    assert type(task_runners.get("process")) is ProcessRunner


def test_each_task_runs_in_a_process_of_its_own_that_this_one_has_started() -> None:
    manager = manager_with(
        t_x={"after": ["a", "b"]}, t_y={"after": ["t_x"]}, t_z={"after": ["t_y"]}
    )
    manager.fire("a", {"n": 1})
    manager.fire("b")
    assert set(ended(manager, "t_z#0").values()) == {"finished"}
    results = [result(manager, f"{name}#0") for name in ("t_x", "t_y", "t_z")]
    assert len({each["pid"] for each in results} | {os.getpid()}) == 4
    assert [each["parent"] for each in results] == [os.getpid()] * 3
    assert results[0]["kwargs"] == {"a": {"n": 1}, "b": {}}


def test_what_a_task_raises_is_recorded() -> None:
    manager = manager_with(t_x={"after": ["a"], "run": plugin_tasks.fail.name})
    manager.fire("a")
    assert ended(manager, "t_x#0") == {"t_x#0": "failed"}
    assert manager.storage["t_x#0"].metadata["exception"]["message"] == "no such applicant"


def test_a_task_that_ends_its_process_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    manager = manager_with(
        t_x={"after": ["a"], "run": plugin_tasks.crash.name}, t_y={"after": ["a"]}
    )
    manager.fire("a")
    end = time.monotonic() + PATIENCE
    while "t_x#0 ended with status 7" not in caplog.text:
        assert time.monotonic() < end, caplog.text
        time.sleep(0.05)
    # Its lease keeps it running; when that is over, recovery gives it another attempt.
    assert ended(manager, "t_y#0") == {"t_x#0": "running", "t_y#0": "finished"}


def test_a_program_ends_when_all_that_it_has_fired_is_done() -> None:
    uid = uuid4().hex
    program = f"""
import django
django.setup()
from triggers.manager import get_trigger_manager
manager = get_trigger_manager({uid!r})
run = {plugin_tasks.tell.name!r}
manager.update_configuration({{
    "t_x": {{"after": ["a"], "run": run}},
    **{{f"t_{{n}}": {{"after": ["t_x"], "run": run}} for n in range(3)}},
}})
manager.fire("a")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=PATIENCE)
    statuses = {each.name: str(each.status) for each in get_trigger_manager(uid).storage}
    assert statuses == dict.fromkeys(["t_x#0", "t_0#0", "t_1#0", "t_2#0"], "finished")


@pytest.mark.django_db
def test_in_a_test_that_is_one_transaction_tasks_run_in_place() -> None:
    manager = manager_with(t_x={"after": ["a"]})
    manager.fire("a")
    assert result(manager, "t_x#0")["pid"] == os.getpid()


def test_each_firing_is_in_the_trail(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IsolatingTriggerManager, "default_task_runner_name", "synchronous")
    assert runners.DEFAULT_TASK_RUNNER != "synchronous"
    manager = manager_with(t_x={"after": ["a"]})
    with caplog.at_level(logging.INFO, "triggers_example_plugins.manager"):
        manager.fire("a")
    trail = [record for record in caplog.records if "fired in" in record.getMessage()]
    assert sorted((each.trigger, each.started) for each in trail) == [
        ("a", ["t_x#0"]),
        ("t_x", []),
    ]
