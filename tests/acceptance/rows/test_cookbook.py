"""Row E32: the recipes of the documents' cookbook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    PATIENCE,
    explode_unless_told_otherwise,
    got,
    reopened,
    show,
    statuses,
)
from triggers import get_trigger_manager
from triggers.exceptions import SettingsError
from triggers.manager import TriggerManager, trigger_managers
from triggers.runners import ThreadingTaskRunner
from triggers.storages import storage_backends
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import any_order, run_tasks_locally
from triggers.types import TaskInstance


class FinalizingTriggerManager(TriggerManager):
    """The recipe, with the name that registration wants."""

    name = "row-tests-finalizing"
    TRIGGER_SESSION_FINALIZED = "sessionFinalized"

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        # Prevent infinite recursion.
        if trigger_name == self.TRIGGER_SESSION_FINALIZED:
            return

        # A session can only be finalized once.
        if self.TRIGGER_SESSION_FINALIZED in self.storage.latest_kwargs:
            return

        # Check for any unresolved tasks...
        for config in self.get_unresolved_tasks():
            # ... ignoring any that are waiting for session finalized.
            if self.TRIGGER_SESSION_FINALIZED not in config.after:
                return

        # If we get here, we are ready to finalize the session.
        self.fire(self.TRIGGER_SESSION_FINALIZED)


@pytest.fixture(autouse=True)
def _registered_manager() -> Iterator[None]:
    trigger_managers.register(FinalizingTriggerManager)
    yield
    trigger_managers.unregister(FinalizingTriggerManager.name)


# -- choosing manager and storage by settings ---------------------------------------------------


def manager_of_the_settings(uid: str) -> TriggerManager:
    storage = storage_backends.get(settings.TRIGGER_STORAGE_TYPE, uid)
    manager: TriggerManager = trigger_managers.get(settings.TRIGGER_MANAGER_TYPE, storage)
    return manager


@pytest.mark.parametrize("manager", ["default", FinalizingTriggerManager.name])
def test_e32_settings_choose_manager_and_storage(storage_name: str, manager: str) -> None:
    with override_settings(TRIGGER_MANAGER_TYPE=manager, TRIGGER_STORAGE_TYPE=storage_name):
        made = manager_of_the_settings("applicant:42")
    assert (made.name, made.storage.name, made.storage.uid) == (
        manager,
        storage_name,
        "applicant:42",
    )
    made.update_configuration({"t_x": {"after": ["a"], "run": show.name}})
    made.fire("a")
    assert statuses(made) == {"t_x#0": "finished"}


def test_e32_the_triggers_setting_does_the_same_without_code(storage_name: str) -> None:
    aliases = {
        "default": {"STORAGE": storage_name, "MANAGER": FinalizingTriggerManager.name},
        "small": {"STORAGE": storage_name, "OPTIONS": {"payload_limit": 100}},
    }
    with override_settings(TRIGGERS=aliases):
        made = get_trigger_manager("applicant:42")
        assert type(made) is FinalizingTriggerManager
        assert made.storage.name == storage_name
        small = get_trigger_manager("applicant:42", using="small")
        assert type(small) is TriggerManager
        assert small.storage.payload_limit == 100
        with pytest.raises(SettingsError, match="large"):
            get_trigger_manager("applicant:42", using="large")


def test_e32_settings_are_read_when_they_are_needed() -> None:
    with override_settings(TRIGGERS={"default": {"STORAGE": "memory"}}):
        assert type(get_trigger_manager("42").storage) is MemoryStorageBackend
    assert type(get_trigger_manager("42").storage) is DatabaseStorageBackend


# -- finalizing a session -----------------------------------------------------------------------

SURVEY: dict[str, Any] = {
    "t_import": {"after": ["a", "b"], "run": explode_unless_told_otherwise.name},
    "t_pages": {"after": ["t_import"], "andEvery": "p", "run": show.name},
    "t_embedded": {"after": ["p"], "unless": ["a"], "run": show.name},
    "t_close": {"after": ["sessionFinalized", "t_import"], "run": show.name},
}


def finalized(manager: TriggerManager) -> int:
    """How many times the session was finalized."""
    firings = reopened(manager).storage.find_firings()
    return [each.trigger for each in firings].count("sessionFinalized")


def test_e32_a_session_is_finalized_once_when_everything_else_is_resolved(
    new_session: NewSession,
) -> None:
    for order in any_order(["p", ("a", {"good": True}), "b"]):
        manager = new_session(SURVEY, manager=FinalizingTriggerManager)
        for trigger, kwargs in order.firings:
            assert finalized(manager) == 0
            manager.fire(trigger, kwargs)
        triggers = [trigger for trigger, _kwargs in order.firings]
        ran = statuses(manager)["t_embedded#0"] == "finished"
        assert ran == (triggers.index("p") < triggers.index("a")), order
        assert finalized(manager) == 1, order
        assert statuses(manager)["t_close#0"] == "finished"


def test_e32_what_fires_after_the_end_does_not_finalize_again(new_session: NewSession) -> None:
    manager = new_session(SURVEY, manager=FinalizingTriggerManager)
    manager.fire("a", {"good": True})
    manager.fire("b")
    manager.fire("p", {"page": 1})
    assert finalized(manager) == 1
    manager.fire("p", {"page": 2})
    assert statuses(manager)["t_pages#1"] == "finished"
    assert finalized(manager) == 1


def test_e32_a_failed_task_keeps_the_session_open_until_somebody_deals_with_it(
    new_session: NewSession,
) -> None:
    manager = new_session(SURVEY, manager=FinalizingTriggerManager)
    for trigger in ("a", "b", "p"):
        manager.fire(trigger)
    assert statuses(manager)["t_import#0"] == "failed"
    assert finalized(manager) == 0
    manager.replay_failed_instance("t_import#0", {"a": {"good": True}})
    assert finalized(manager) == 1
    assert statuses(manager)["t_close#0"] == "finished"


def test_e32_with_threads_what_waits_for_the_end_runs_once(new_session: NewSession) -> None:
    with run_tasks_locally("threading"):
        manager = new_session(SURVEY, manager=FinalizingTriggerManager)
        manager.fire("p")
        manager.fire("a", {"good": True})
        manager.fire("b")
        ThreadingTaskRunner.join_all(PATIENCE)
    # Hooks of several threads may find the session ready to be finalized before one of them has
    # fired, and then each of them fires; a one-shot task does not mind.
    assert finalized(manager) >= 1
    assert [name for name in statuses(manager) if name.startswith("t_close")] == ["t_close#0"]
    assert statuses(manager)["t_close#0"] == "finished"


def test_e32_what_is_built_in_finalizes_where_the_recipe_does(new_session: NewSession) -> None:
    for order in any_order(["p", ("a", {"good": True}), "b", ("a", {})]):
        recipe = new_session(SURVEY, manager=FinalizingTriggerManager)
        built_in = new_session(SURVEY)
        built_in.update_configuration({}, finalize=True)
        for trigger, kwargs in order.firings:
            for manager in (recipe, built_in):
                manager.fire(trigger, kwargs)
            assert statuses(built_in) == statuses(recipe), order
            assert finalized(built_in) == finalized(recipe), order
        if statuses(recipe)["t_import#0"] == "failed":
            assert finalized(built_in) == 0
            for manager in (recipe, built_in):
                manager.replay_failed_instance("t_import#0", {"a": {"good": True}})
        assert statuses(built_in) == statuses(recipe), order
        assert finalized(built_in) == finalized(recipe) == 1, order


def test_e32_what_is_built_in_fires_once_where_the_recipe_may_not(new_session: NewSession) -> None:
    with run_tasks_locally("threading"):
        manager = new_session(SURVEY)
        manager.update_configuration({}, finalize=True)
        manager.fire("p")
        manager.fire("a", {"good": True})
        manager.fire("b")
        ThreadingTaskRunner.join_all(PATIENCE)
    assert finalized(manager) == 1
    assert statuses(manager)["t_close#0"] == "finished"


# -- namespaced sessions ------------------------------------------------------------------------


def test_e32_a_super_session_compares_what_happens_in_several_questionnaires(
    new_session: NewSession,
) -> None:
    tasks = {"t_compareResponses": {"after": ["flora_page3", "fauna_page6"], "run": show.name}}
    for order in any_order(["flora_page3", "fauna_page6", "fauna_page3"]):
        above = new_session(tasks)
        other = new_session(tasks)
        order.fire(above)
        assert statuses(above) == {"t_compareResponses#0": "finished"}
        assert got(above, "t_compareResponses#0") == {"flora_page3": {}, "fauna_page6": {}}
        assert statuses(other) == {}
