"""Rows E01 to E03, E09 and E10: configurations, firings, and joins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from tests import servers
from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    IdleRunner,
    at_the_same_time,
    explode,
    got,
    reopened,
    show,
    statuses,
)
from triggers import DatabaseStorageBackend, TriggerManager
from triggers.exceptions import (
    ConfigurationError,
    InvalidPayload,
    InvalidTrigger,
)
from triggers.testing import any_order

SHOW = {"run": show.name}


# -- E01 ----------------------------------------------------------------------------------------


def test_e01_a_task_runs_once_in_whatever_order_its_triggers_fire(new_session: NewSession) -> None:
    for order in any_order([("a", {"n": 1}), ("b", {"n": 2}), "c"]):
        with order:
            manager = new_session({"t_x": {"after": ["a", "b", "c"], **SHOW}})
            order.fire(manager)
            assert statuses(manager) == {"t_x#0": "finished"}
            assert got(manager, "t_x#0") == {"a": {"n": 1}, "b": {"n": 2}, "c": {}}


def test_e01_several_servers_may_fire_at_once_and_the_join_still_runs_once(
    new_session: NewSession,
) -> None:
    for _round in range(10):
        manager = new_session({"t_x": {"after": ["a", "b", "c", "d"], **SHOW}})
        servers = [reopened(manager) for _ in range(8)]
        calls = [
            partial(server.fire, name, {"n": name})
            for server, name in zip(servers, "abcdabcd", strict=True)
        ]
        at_the_same_time(*calls)
        assert statuses(manager) == {"t_x#0": "finished"}
        assert reopened(manager).storage["t_x#0"].record.attempt == 1
        assert got(manager, "t_x#0") == {name: {"n": name} for name in "abcd"}


SERVER = """
import sys
import django
django.setup()
from tests.acceptance.rows.sessions import show
from triggers import DatabaseStorageBackend, TriggerManager
from triggers.testing import run_tasks_locally

using, name, *uids = sys.argv[1:]
managers = [TriggerManager(DatabaseStorageBackend(uid, using=using)) for uid in uids]
managers[0].storage.tasks
print("ready", flush=True)
sys.stdin.readline()
with run_tasks_locally("synchronous"):
    for manager in managers:
        manager.fire(name, {"n": name})
"""


@pytest.mark.parametrize("using", servers.database_params())
def test_e01_processes_that_fire_at_once_run_each_join_once(using: str) -> None:
    uids = [uuid4().hex for _ in range(20)]
    for uid in uids:
        made = TriggerManager(DatabaseStorageBackend(uid, using=using))
        made.update_configuration({"t_x": {"after": ["a", "b", "c"], **SHOW}})
    command, environment = [sys.executable, "-c", SERVER, using], servers.subprocess_environment()
    with ExitStack() as stack:
        processes = []
        for name in "abca":
            process = subprocess.Popen(
                [*command, name, *uids],
                env=environment,
                cwd=servers.ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        assert [each.stdout.readline() for each in processes if each.stdout] == ["ready\n"] * 4
        for each in processes:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        assert [each.wait(timeout=120) for each in processes] == [0] * 4
    for uid in uids:
        manager = TriggerManager(DatabaseStorageBackend(uid, using=using))
        assert statuses(manager) == {"t_x#0": "finished"}
        assert manager.storage["t_x#0"].record.attempt == 1
        assert got(manager, "t_x#0") == {name: {"n": name} for name in "abc"}
        fired = Counter(each.trigger for each in manager.storage.find_firings())
        assert fired == {"a": 2, "b": 1, "c": 1, "t_x": 1}


def test_e01_a_trigger_that_no_task_names_may_be_fired(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], **SHOW}})
    result = manager.fire("ventCoreFrogBlasted")
    assert (result.created, result.scheduled, result.abandoned) == ((), (), ())
    assert statuses(manager) == {}
    assert reopened(manager).storage.latest_kwargs == {"ventCoreFrogBlasted": {}}


@pytest.mark.parametrize("name", ["", None, 3, ["a"]])
def test_e01_what_is_no_trigger_name_is_refused(new_session: NewSession, name: Any) -> None:
    manager = new_session({"t_x": {"after": ["a"], **SHOW}})
    with pytest.raises(InvalidTrigger):
        manager.fire(name)


@pytest.mark.parametrize(
    ("kwargs", "place"),
    [
        ({"form": {"file": object()}}, "form.file"),
        ({"form": {3: "three"}}, "form"),
        ({"score": float("nan")}, "score"),
        ("responses", "kwargs of 'a'"),
    ],
)
def test_e01_kwargs_that_cannot_be_serialized_are_refused_where_they_are_fired(
    new_session: NewSession, kwargs: Any, place: str
) -> None:
    manager = new_session({"t_x": {"after": ["a"], **SHOW}})
    with pytest.raises(InvalidPayload, match=place):
        manager.fire("a", kwargs)
    assert statuses(manager) == {}


# -- E02 ----------------------------------------------------------------------------------------


def test_e02_plain_json_loads_unchanged(new_session: NewSession) -> None:
    text = """
    {"t_x": {"after": ["b", "a"], "andEvery": "p", "unless": ["u"], "run": "app.tasks.X",
             "withParams": {"a": {"n": 1}}, "extra": {"nested": [1, 2.5, null, true]}}}
    """
    manager = new_session(json.loads(text))
    task = reopened(manager).storage.tasks["t_x"]
    assert json.loads(json.dumps(dict(task.directives))) == json.loads(text)["t_x"]


def test_e02_sets_mean_the_same_as_lists(new_session: NewSession) -> None:
    lists = new_session({"t_x": {"after": ["a", "b"], "unless": ["u", "v"], **SHOW}})
    sets = new_session({"t_x": {"after": {"a", "b"}, "unless": frozenset({"u", "v"}), **SHOW}})
    assert reopened(sets).storage.tasks["t_x"] == reopened(lists).storage.tasks["t_x"]
    sets.fire("b")
    sets.fire("a")
    assert statuses(sets) == {"t_x#0": "finished"}


def test_e02_a_second_configuration_adds_and_replaces_tasks(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], **SHOW}, "t_y": {"after": ["b"], **SHOW}})
    manager.update_configuration({"t_y": {"after": ["c"], **SHOW}, "t_z": {"after": ["d"], **SHOW}})
    tasks = reopened(manager).storage.tasks
    assert {name: set(task.after) for name, task in tasks.items()} == {
        "t_x": {"a"},
        "t_y": {"c"},
        "t_z": {"d"},
    }
    manager.fire("b")
    assert statuses(manager) == {}


def test_e02_the_same_configuration_may_be_given_again_at_any_time(new_session: NewSession) -> None:
    configuration = {"t_x": {"after": ["a", "b"], **SHOW}}
    manager = new_session(configuration)
    manager.fire("a", {"n": 1})
    manager.update_configuration(configuration)
    manager.fire("b")
    manager.update_configuration(configuration)
    assert statuses(manager) == {"t_x#0": "finished"}
    assert got(manager, "t_x#0") == {"a": {"n": 1}, "b": {}}


@pytest.mark.parametrize(
    ("directives", "path"),
    [
        ({"after": "a", "run": "x"}, "t_bad.after"),
        ({"after": {"a": 1}, "run": "x"}, "t_bad.after"),
        ({"after": ["a", 3], "run": "x"}, r"t_bad.after\[1\]"),
        ({"after": [""], "run": "x"}, r"t_bad.after\[0\]"),
        ({"after": ["a"], "andEvery": ["p"], "run": "x"}, "t_bad.andEvery"),
        ({"after": ["a"], "unless": "u", "run": "x"}, "t_bad.unless"),
        ({"after": ["a"], "run": ""}, "t_bad.run"),
        ({"after": ["a"], "run": show}, "t_bad.run"),
        ({"after": ["a"]}, "t_bad.run"),
        ({"run": "x"}, "t_bad.after"),
        ({"after": ["a"], "run": "x", "using": IdleRunner}, "t_bad.using"),
        ({"after": ["a"], "run": "x", "limit": object()}, "t_bad.limit"),
        (["after", "run"], "t_bad"),
    ],
)
def test_e02_a_wrong_configuration_is_refused_as_a_whole_with_the_path_of_the_bad_value(
    new_session: NewSession, directives: Any, path: str
) -> None:
    manager = new_session({"t_x": {"after": ["a"], **SHOW}})
    with pytest.raises(ConfigurationError, match=path):
        manager.update_configuration({"t_good": {"after": ["a"], **SHOW}, "t_bad": directives})
    assert list(reopened(manager).storage.tasks) == ["t_x"]


@pytest.mark.parametrize("name", ["t#0", "t:failed", 3, ""])
def test_e02_a_name_that_no_task_may_have_is_refused(new_session: NewSession, name: Any) -> None:
    manager = new_session()
    with pytest.raises(ConfigurationError):
        manager.update_configuration({name: {"after": ["a"], **SHOW}})
    assert reopened(manager).storage.tasks == {}


# -- E03 ----------------------------------------------------------------------------------------


def test_e03_a_task_waits_for_all_of_its_triggers_other_tasks_included(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a"], **SHOW}, "t_y": {"after": ["t_x", "b"], **SHOW}})
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "unstarted"}
    manager.fire("b")
    assert statuses(manager)["t_y#0"] == "finished"


def test_e03_a_task_that_failed_does_not_count_as_a_trigger(new_session: NewSession) -> None:
    tasks = {"t_x": {"after": ["a"], "run": explode.name}, "t_y": {"after": ["t_x"], **SHOW}}
    manager = new_session(tasks)
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "failed"}


@pytest.mark.parametrize(
    "run",
    ["no.such.module.Task", "tests.acceptance.rows.sessions.NoSuchTask", "celery.backend_cleanup"],
)
def test_e03_a_run_that_names_no_trigger_task_fails_the_instance_and_says_so(
    new_session: NewSession, run: str
) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": run}})
    manager.fire("a")
    instance = reopened(manager).storage["t_x#0"]
    assert instance.status == "failed"
    assert run in instance.metadata["exception"]["message"]


# -- E09 ----------------------------------------------------------------------------------------


def test_e09_custom_directives_are_kept_as_extras(new_session: NewSession) -> None:
    custom = {"owner": "scoring team", "limits": {"perDay": 3}, "tags": ["x", "y"]}
    every = {"after": ["a"], "andEvery": "p", "unless": ["u"], "withParams": {}, **SHOW}
    manager = new_session({"t_x": {**every, **custom}, "t_y": every})
    tasks = reopened(manager).storage.tasks
    assert tasks["t_x"].extras == custom
    assert tasks["t_x"].extra == custom
    assert tasks["t_y"].extras == {}


def test_e09_changing_extras_in_place_changes_nothing_that_is_stored(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a"], "limits": {"perDay": 3}, **SHOW}})
    task = manager.storage.tasks["t_x"]
    task.extras["limits"]["perDay"] = 4
    assert task.extras == {"limits": {"perDay": 3}}
    assert reopened(manager).storage.tasks["t_x"].extras == {"limits": {"perDay": 3}}


# -- E10 ----------------------------------------------------------------------------------------


def test_e10_instances_are_numbered_from_zero_for_each_task(new_session: NewSession) -> None:
    tasks = {"t_x": {"andEvery": "p", **SHOW}, "t_y": {"andEvery": "q", **SHOW}}
    manager = new_session(tasks)
    assert manager.fire("p").created == ("t_x#0",)
    assert manager.fire("q").created == ("t_y#0",)
    assert manager.fire("p").created == ("t_x#1",)
    assert list(statuses(manager)) == ["t_x#0", "t_x#1", "t_y#0"]


def test_e10_numbers_go_on_past_nine_in_order(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"andEvery": "p", **SHOW}})
    for _ in range(12):
        manager.fire("p")
    instances = reopened(manager).storage.instances_of_task("t_x")
    assert [each.name for each in instances] == [f"t_x#{number}" for number in range(12)]
