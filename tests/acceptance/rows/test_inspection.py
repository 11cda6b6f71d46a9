"""Row E20: looking into a session, with a storage alone."""

from __future__ import annotations

from pprint import pformat
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import explode, got, reopened, show, statuses
from triggers.exceptions import UnknownTask
from triggers.storages import storage_backends
from triggers.storages.session import SessionStorage
from triggers.types import TaskConfig, TaskInstance

TASKS = {
    "t_done": {"after": ["a"], "run": show.name},
    "t_failed": {"after": ["a"], "run": explode.name},
    "t_pages": {"after": ["b"], "andEvery": "p", "run": show.name},
    "t_never": {"after": ["never"], "run": show.name},
    "t_ruled_out": {"after": ["b"], "unless": ["a"], "run": show.name},
}


@pytest.fixture
def storage(new_session: NewSession) -> SessionStorage:
    """A session that was left in the middle, opened without a manager."""
    manager = new_session(TASKS)
    manager.fire("p", {"page": 1})
    manager.fire("a", {"n": 1})
    manager.fire("p", {"page": 2})
    storage: SessionStorage = reopened(manager).storage
    return storage


def names(values: Any) -> list[str]:
    return [each.name for each in values]


def test_e20_tasks_are_found_by_name_in_the_order_of_the_configuration(
    storage: SessionStorage,
) -> None:
    assert list(storage.tasks) == list(TASKS)
    task = storage.tasks["t_pages"]
    assert isinstance(task, TaskConfig)
    assert (task.name, task.run, task.and_every) == ("t_pages", show.name, "p")
    assert task.after == {"b", "p"}
    assert storage.tasks["t_ruled_out"].unless == {"a"}
    assert repr(task) == "<TaskConfig 't_pages'>"
    with pytest.raises(KeyError):
        storage.tasks["t_pages#0"]


def test_e20_instances_are_found_by_instance_name(storage: SessionStorage) -> None:
    instance = storage.instances["t_pages#1"]
    assert isinstance(instance, TaskInstance)
    assert instance == storage["t_pages#1"]
    assert repr(instance) == "<TaskInstance 't_pages#1'>"
    assert (instance.name, instance.task_name, instance.number) == ("t_pages#1", "t_pages", 1)
    assert instance.config == storage.tasks["t_pages"]
    assert instance.kwargs == {"p": {"page": 2}}
    assert len(storage.instances) == 5
    assert "t_pages#1" in storage.instances
    assert "t_pages" not in storage.instances


@pytest.mark.parametrize("name", ["t_pages", "t_pages#2", "t_nobody#0", "t_pages#-1", "", "#0"])
def test_e20_a_task_name_or_anything_else_raises_a_key_error(
    storage: SessionStorage, name: str
) -> None:
    with pytest.raises(KeyError) as caught:
        storage.instances[name]
    assert caught.value.args == (name,)
    with pytest.raises(KeyError):
        storage[name]
    assert storage.instances.get(name) is None


def test_e20_iteration_yields_every_instance_once(storage: SessionStorage) -> None:
    expected = ["t_done#0", "t_failed#0", "t_pages#0", "t_pages#1", "t_ruled_out#0"]
    assert sorted(names(storage)) == expected
    assert sorted(storage.instances) == expected
    assert sorted(names(storage.instances.values())) == expected


def test_e20_instances_of_task_takes_a_name_or_a_task_and_returns_a_list(
    storage: SessionStorage,
) -> None:
    by_name = storage.instances_of_task("t_pages")
    assert isinstance(by_name, list)
    assert names(by_name) == ["t_pages#0", "t_pages#1"]
    assert storage.instances_of_task(storage.tasks["t_pages"]) == by_name
    assert storage.instances_of_task("t_never") == []


def test_e20_latest_kwargs_holds_the_latest_firing_of_every_trigger(
    storage: SessionStorage,
) -> None:
    assert storage.latest_kwargs == {
        "p": {"page": 2},
        "a": {"n": 1},
        "t_done": {"got": {"a": {"n": 1}}},
    }
    assert "a" in storage.latest_kwargs
    assert "b" not in storage.latest_kwargs


def test_e20_metadata_keeps_track_of_what_fired(storage: SessionStorage) -> None:
    assert set(storage.metadata["latest_firings"]) == {"p", "a", "t_done"}


def test_e20_unresolved_tasks_have_no_instance_or_an_unresolved_one(
    storage: SessionStorage,
) -> None:
    assert names(storage.get_unresolved_tasks()) == ["t_failed", "t_pages", "t_never"]
    assert all(isinstance(each, TaskConfig) for each in storage.get_unresolved_tasks())


def test_e20_unresolved_instances_are_those_that_exist(storage: SessionStorage) -> None:
    found = storage.get_unresolved_instances()
    assert isinstance(found, list)
    assert sorted(names(found)) == ["t_failed#0", "t_pages#0", "t_pages#1"]


def test_e20_the_manager_finds_unresolved_tasks_too(new_session: NewSession) -> None:
    manager = new_session(TASKS)
    assert names(manager.get_unresolved_tasks()) == list(TASKS)
    assert manager.get_unresolved_instances() == []


def test_e20_a_task_whose_every_instance_is_resolved_is_resolved(new_session: NewSession) -> None:
    manager = new_session({"t_pages": {"andEvery": "p", "run": show.name}})
    manager.fire("p")
    manager.fire("p")
    assert manager.get_unresolved_tasks() == []


def test_e20_debug_repr_shows_every_task_and_every_instance(storage: SessionStorage) -> None:
    shown = storage.debug_repr()
    assert set(shown) == {"tasks", "instances", "metadata"}
    assert set(shown["tasks"]) == set(TASKS)
    text = pformat(shown, width=10_000)
    for part in ("t_pages#1", "unstarted", "no such applicant", "failed", show.name):
        assert part in text


def test_e20_a_session_that_nobody_has_touched_is_empty(storage_name: str) -> None:
    storage = storage_backends.get(storage_name, uuid4().hex)
    assert (storage.tasks, dict(storage.instances), list(storage)) == ({}, {}, [])
    assert storage.latest_kwargs == {}
    assert storage.get_unresolved_tasks() == []
    assert storage.get_unresolved_instances() == []
    assert storage.get_instances_with_unresolved_logs() == []
    assert storage.instances_of_task("t_x") == []


def test_e20_what_is_handed_out_is_a_copy(storage: SessionStorage) -> None:
    instance = storage["t_failed#0"]
    instance.kwargs["a"]["n"] = 2
    instance.metadata["exception"]["message"] = "changed"
    storage.tasks.clear()
    storage.latest_kwargs["a"]["n"] = 2
    storage.metadata["latest_firings"].clear()
    assert instance.kwargs == {"a": {"n": 1}}
    assert instance.metadata["exception"]["message"] == "no such applicant"
    assert storage.latest_kwargs["a"] == {"n": 1}
    assert len(storage.tasks) == 5


def test_e20_an_instance_shows_what_was_when_it_was_read(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a", "b"], "run": show.name}})
    manager.fire("a", {"n": 1})
    before = manager.storage["t_x#0"]
    manager.fire("b", {"n": 2})
    assert before.status == "unstarted"
    assert before.kwargs == {"a": {"n": 1}}
    assert manager.storage["t_x#0"].status == "finished"


def test_e20_create_instance_makes_the_next_one(storage: SessionStorage) -> None:
    made = storage.create_instance(storage.tasks["t_pages"])
    assert (made.name, made.status, made.kwargs) == ("t_pages#2", "unstarted", {})
    assert storage["t_pages#2"] == made
    other = storage.create_instance("t_pages", kwargs={"p": {"page": 9}}, metadata={"by": "hand"})
    assert (other.name, other.kwargs) == ("t_pages#3", {"p": {"page": 9}})
    assert other.metadata == {"by": "hand"}


def test_e20_an_instance_made_by_hand_takes_what_fires_from_then_on(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["a", "b"], "run": show.name}})
    manager.storage.create_instance("t_x", kwargs={"a": {"n": 1}})
    manager.fire("a", {"n": 2})
    manager.fire("b", {"n": 3})
    assert statuses(manager) == {"t_x#0": "finished"}
    assert got(manager, "t_x#0") == {"a": {"n": 1}, "b": {"n": 3}}


@pytest.mark.parametrize("task", ["t_nobody", "t_pages#0"])
def test_e20_an_instance_of_an_unknown_task_cannot_be_made(
    storage: SessionStorage, task: str
) -> None:
    with pytest.raises(UnknownTask, match=task):
        storage.create_instance(task)


def test_e20_clone_instance_copies_name_or_object_into_the_session(
    storage: SessionStorage,
) -> None:
    copy = storage.clone_instance("t_pages#1")
    assert (copy.name, copy.status) == ("t_pages#2", "unstarted")
    assert copy.kwargs == {"p": {"page": 2}}
    assert copy.metadata["parent"] == "t_pages#1"
    again = storage.clone_instance(copy)
    assert (again.name, again.metadata["parent"]) == ("t_pages#3", "t_pages#2")
    assert storage["t_pages#3"] == again


def test_e20_a_lock_and_a_save_by_hand_are_accepted(storage: SessionStorage) -> None:
    with storage.acquire_lock():
        storage.create_instance("t_pages")
        storage.save()
    assert storage["t_pages#2"].status == "unstarted"
