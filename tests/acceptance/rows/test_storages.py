"""Row E29: a storage of one's own needs a name, a load and a save."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from tests.acceptance.rows.sessions import at_the_same_time, explode, got, show, statuses
from triggers.exceptions import UnknownBackend
from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.storages.base import BaseTriggerStorage
from triggers.types import TaskConfig, TaskInstance

pytestmark = pytest.mark.django_db(transaction=True)


class TextStorage(BaseTriggerStorage):
    """Keeps each session as one text."""

    name = "row-tests-text"
    saved: ClassVar[dict[str, str]] = {}

    def _load_from_backend(self) -> tuple[Any, Any, Any]:
        if self.uid not in self.saved:
            return {}, {}, {}
        configs, instances, metas = json.loads(self.saved[self.uid])
        return configs, instances, metas

    def _save(self) -> None:
        parts = (self._configs, self._instances, self._metas)
        self.saved[self.uid] = json.dumps([self._serialize(part) for part in parts])


class ScatteredStorage(BaseTriggerStorage):
    """Keeps the three parts, and each instance, in a place of its own."""

    name = "row-tests-scattered"
    configs: ClassVar[dict[str, str]] = {}
    instances: ClassVar[dict[str, dict[str, str]]] = {}
    metas: ClassVar[dict[str, str]] = {}

    def _load_from_backend(self) -> tuple[Any, Any, Any]:
        if self.uid not in self.metas:
            return None, None, None
        instances = {key: json.loads(text) for key, text in self.instances[self.uid].items()}
        return json.loads(self.configs[self.uid]), instances, json.loads(self.metas[self.uid])

    def _save(self) -> None:
        self.configs[self.uid] = json.dumps(self._serialize(self._configs))
        self.instances[self.uid] = {
            name: json.dumps(self._serialize(instance))
            for name, instance in self._instances.items()
        }
        self.metas[self.uid] = json.dumps(self._serialize(self._metas))


class FullDiskStorage(TextStorage):
    """Cannot save while the disk is full."""

    name = "row-tests-full-disk"
    saved: ClassVar[dict[str, str]] = {}
    full: ClassVar[bool] = False

    def _save(self) -> None:
        if FullDiskStorage.full:
            raise OSError("no space left on device")
        super()._save()


OWN = [TextStorage, ScatteredStorage, FullDiskStorage]
TASKS = {
    "t_x": {"after": ["a", "b"], "run": show.name, "withParams": {"a": {"m": 1}}},
    "t_y": {"after": ["t_x"], "andEvery": "p", "unless": ["u"], "run": show.name, "extra": 1},
    "t_z": {"after": ["a"], "run": explode.name},
}


@pytest.fixture(autouse=True)
def _registered_storages() -> Iterator[None]:
    for storage in OWN:
        storage_backends.register(storage)
    FullDiskStorage.full = False
    yield
    for storage in OWN:
        storage_backends.unregister(storage.name)


@pytest.fixture(params=OWN, ids=lambda storage: storage.name)
def manager(request: pytest.FixtureRequest) -> TriggerManager:
    """A manager on a fresh session in a storage of one's own."""
    made = TriggerManager(request.param(uuid4().hex))
    made.update_configuration(TASKS)
    return made


def test_e29_a_whole_workflow_runs_on_it(manager: TriggerManager) -> None:
    manager.fire("p", {"page": 1})
    manager.fire("a", {"n": 1})
    manager.fire("b")
    manager.fire("p", {"page": 2})
    manager.fire("u")
    manager.fire("p", {"page": 3})
    manager.replay_failed_instance("t_z#0")
    assert statuses(manager) == {
        "t_x#0": "finished",
        "t_y#0": "finished",
        "t_y#1": "finished",
        "t_y#2": "abandoned",
        "t_z#0": "replayed",
        "t_z#1": "failed",
    }
    assert got(manager, "t_x#0") == {"a": {"m": 1, "n": 1}, "b": {}}
    assert got(manager, "t_y#1")["p"] == {"page": 2}


def test_e29_everything_comes_back_as_it_was_saved(manager: TriggerManager) -> None:
    manager.fire("a", {"n": 1})
    manager.update_instance_metadata("t_z#0", {"ticket": 7})
    fresh = type(manager.storage)(manager.storage.uid)
    assert fresh.debug_repr() == manager.storage.debug_repr()
    assert fresh.tasks == manager.storage.tasks
    assert fresh.tasks["t_y"].extras == {"extra": 1}
    assert fresh.latest_kwargs == {"a": {"n": 1}}
    assert fresh["t_z#0"].metadata["ticket"] == 7


def test_e29_save_finds_tasks_instances_and_metadata_to_save() -> None:
    found: dict[str, Any] = {}

    class Curious(TextStorage):
        name = "row-tests-curious"

        def _save(self) -> None:
            super()._save()
            found.update(configs=self._configs, instances=self._instances, metas=self._metas)

    manager = TriggerManager(Curious(uuid4().hex))
    manager.update_configuration(TASKS)
    manager.fire("a")
    assert all(isinstance(each, TaskConfig) for each in found["configs"].values())
    assert all(isinstance(each, TaskInstance) for each in found["instances"].values())
    assert set(found["configs"]) == set(TASKS)
    assert set(found["instances"]) == {"t_x#0", "t_z#0"}
    assert found["metas"]


def test_e29_it_is_exact_when_many_fire_at_once(manager: TriggerManager) -> None:
    def another() -> TriggerManager:
        return TriggerManager(type(manager.storage)(manager.storage.uid))

    calls = [partial(another().fire, name, {"by": name}) for name in "abab"]
    calls += [partial(another().fire, "p", {"page": page}) for page in range(8)]
    at_the_same_time(*calls)
    found = statuses(manager)
    assert found == {
        "t_x#0": "finished",
        **{f"t_y#{number}": "finished" for number in range(len(found) - 2)},
        "t_z#0": "failed",
    }
    instances = manager.storage.instances_of_task("t_y")
    assert sorted(each.kwargs["p"]["page"] for each in instances) == list(range(8))
    assert {each.record.attempt for each in manager.storage} == {1}


def test_e29_firings_are_not_lost_between_two_objects_that_were_opened_before(
    manager: TriggerManager,
) -> None:
    first, second = (TriggerManager(type(manager.storage)(manager.storage.uid)) for _ in "12")
    assert list(first.storage) == list(second.storage) == []
    first.fire("a")
    second.fire("b")
    assert statuses(first)["t_x#0"] == "finished"


def test_e29_a_save_that_fails_changes_nothing_and_runs_nothing() -> None:
    manager = TriggerManager(FullDiskStorage(uuid4().hex))
    manager.update_configuration(TASKS)
    manager.fire("a", {"n": 1})
    before = statuses(manager)
    FullDiskStorage.full = True
    with pytest.raises(OSError, match="no space left"):
        manager.fire("b", {"n": 2})
    assert statuses(manager) == before
    FullDiskStorage.full = False
    assert manager.fire("b", {"n": 3}).scheduled == ("t_x#0",)
    assert got(manager, "t_x#0")["b"] == {"n": 3}


def test_e29_several_changes_by_hand_under_the_lock_are_saved_together(
    manager: TriggerManager,
) -> None:
    storage = manager.storage
    with storage.acquire_lock():
        storage.create_instance("t_x", kwargs={"a": {"n": 1}})
        storage.clone_instance("t_x#0")
        storage.save()
    assert statuses(manager) == {"t_x#0": "unstarted", "t_x#1": "unstarted"}
    assert manager.fire("b").scheduled == ("t_x#0", "t_x#1")
    assert statuses(manager)["t_x#1"] == "finished"


def test_e29_a_message_for_a_worker_names_the_storage(manager: TriggerManager) -> None:
    reference = json.loads(json.dumps(manager.reference()))
    storage = reference["storage"]
    opened = storage_backends.get(storage["name"], storage["uid"], **storage["options"])
    assert type(opened) is type(manager.storage)
    assert opened.tasks == manager.storage.tasks


@pytest.mark.parametrize("missing", ["_load_from_backend", "_save"])
def test_e29_a_storage_without_load_or_save_cannot_be_made(missing: str) -> None:
    methods = {"_load_from_backend": lambda self: ({}, {}, {}), "_save": lambda self: None}
    del methods[missing]
    incomplete = type("Incomplete", (BaseTriggerStorage,), {"name": "incomplete", **methods})
    with pytest.raises(TypeError, match=missing):
        incomplete("42")


def test_e29_what_is_no_storage_cannot_be_registered() -> None:
    class NoStorage:
        name = "row-tests-no-storage"

    with pytest.raises(UnknownBackend, match="must extend"):
        storage_backends.register(NoStorage)
