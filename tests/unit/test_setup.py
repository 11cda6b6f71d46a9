"""Settings, registries and system checks: what is wrong with a set-up is said where it is."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections
from django.test import override_settings

from triggers import conf, exceptions
from triggers.exceptions import SettingsError, UnknownBackend
from triggers.manager import TriggerManager, get_trigger_manager, trigger_managers
from triggers.runners import BaseTaskRunner, task_runners
from triggers.storages import storage_backends
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.session import SessionStorage
from triggers.task import TriggerTask
from triggers.types import TaskConfig

FAST_SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL",
}


def found(settings: Any) -> list[tuple[str, str]]:
    with override_settings(TRIGGERS=settings):
        return [(each.id, each.msg) for each in run_checks(tags=["triggers"])]


def test_without_a_setting_there_is_the_default_alias() -> None:
    assert conf.get_alias() == conf.Alias(name="default")
    assert conf.get_alias().storage == "database"


def test_settings_are_read_anew_when_they_change() -> None:
    with override_settings(TRIGGERS={"default": {"STORAGE": "memory", "RUNNER": "threading"}}):
        manager = get_trigger_manager("s")
        assert isinstance(manager.storage, MemoryStorageBackend)
        assert manager.alias_runner == "threading"
    assert isinstance(get_trigger_manager("s").storage, DatabaseStorageBackend)


def test_a_storage_without_options_takes_those_of_its_alias() -> None:
    setting = {"a": {"STORAGE": "memory", "OPTIONS": {"payload_limit": 10}}}
    with override_settings(TRIGGERS=setting):
        assert storage_backends.get("memory", "s").payload_limit == 10
        assert storage_backends.get("memory", "s", payload_limit=11).payload_limit == 11
        assert storage_backends.get("database", "s").options == {}


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (["default"], "TRIGGERS: expected a dict of aliases, got list"),
        ({"default": "memory"}, "TRIGGERS['default']: expected a dict, got str"),
        ({"a": {"STORAGES": "x"}}, "TRIGGERS['a']: unknown key 'STORAGES'; allowed are MANAGER"),
        ({"a": {"STORAGE": DatabaseStorageBackend}}, "TRIGGERS['a']['STORAGE']: expected a reg"),
        ({"a": {"OPTIONS": []}}, "TRIGGERS['a']['OPTIONS']: expected a dict, got list"),
    ],
)
def test_a_setting_of_the_wrong_shape_is_refused_with_its_place(setting: Any, reason: str) -> None:
    with override_settings(TRIGGERS=setting), pytest.raises(SettingsError) as caught:
        conf.get_alias()
    assert reason in str(caught.value)
    [(check_id, message)] = found(setting)
    assert (check_id, message) == ("triggers.E001", str(caught.value))


def test_an_unknown_alias_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"no alias 'other' \(known: default\)"):
        get_trigger_manager("s", using="other")


@pytest.mark.parametrize("key", ["MANAGER", "STORAGE", "RUNNER"])
def test_a_name_that_is_not_registered_is_an_error_of_its_own(key: str) -> None:
    [(check_id, message)] = found({"default": {key: "nope"}})
    assert check_id == "triggers.E002"
    assert f"TRIGGERS['default']['{key}']" in message
    assert "'nope'" in message


@pytest.mark.parametrize(
    "options", [{"nope": 1}, {"using": "nope"}, {"in_transaction": "sometimes"}]
)
def test_options_that_do_not_fit_the_storage_are_an_error(options: dict[str, Any]) -> None:
    [(check_id, message)] = found({"default": {"OPTIONS": options}})
    assert check_id == "triggers.E003"
    assert "TRIGGERS['default']['OPTIONS']" in message


def test_memory_with_workers_is_a_warning() -> None:
    [(check_id, _message)] = found({"default": {"STORAGE": "memory"}})
    assert check_id == "triggers.W002"
    assert found({"default": {"STORAGE": "memory", "RUNNER": "threading"}}) == []


def test_sqlite_without_its_options_is_a_warning_that_gives_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})
    with override_settings(TRIGGERS={"default": {}}):
        [warning] = run_checks(tags=["triggers"])
    assert warning.id == "triggers.W001"
    assert "transaction_mode='IMMEDIATE', journal_mode=WAL" in warning.msg
    assert "'transaction_mode': 'IMMEDIATE'" in (warning.hint or "")
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", FAST_SQLITE)
    assert found({"default": {}}) == []


def test_a_sqlite_that_is_too_old_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from triggers import checks

    monkeypatch.setattr(checks, "OLDEST_SQLITE", (99, 0))
    [(check_id, message)] = found({"default": {}})
    assert check_id == "triggers.E004"
    assert "3.35 or later is needed" in message


def test_a_manager_on_a_storage_of_an_alias_uses_its_runner() -> None:
    setting = {"a": {"STORAGE": "memory", "RUNNER": "threading"}, "b": {"STORAGE": "memory"}}
    with override_settings(TRIGGERS=setting):
        manager = TriggerManager(MemoryStorageBackend("s"))
        task = TaskConfig(name="t_x", run="x")
        assert manager.runner_name(task) == "threading"
        assert TriggerManager(DatabaseStorageBackend("s")).runner_name(task) == "celery"
        assert get_trigger_manager("s", using="b").runner_name(task) == "celery"


def test_the_bundled_classes_are_registered_by_entry_points() -> None:
    assert {"cache", "database", "memory"} <= set(storage_backends.names())
    assert {"celery", "synchronous", "threading"} <= set(task_runners.names())
    assert trigger_managers.get_class("default") is TriggerManager
    assert dict(storage_backends.items())["memory"] is MemoryStorageBackend
    assert len(storage_backends) == len(storage_backends.names())
    assert "memory" in storage_backends
    assert "nope" not in storage_backends


def test_a_class_can_be_registered_in_this_process() -> None:
    class Mine(BaseTaskRunner):
        name = "test-mine"

        def run(self, manager: Any, task_instance: Any) -> None:
            raise NotImplementedError

    assert task_runners.register(Mine) is Mine
    assert isinstance(task_runners.get("test-mine"), Mine)
    task_runners.unregister("test-mine")
    task_runners.refresh()
    with pytest.raises(UnknownBackend, match=r"'test-mine' in triggers.runners .known: ") as caught:
        task_runners.get("test-mine")
    assert (caught.value.group, caught.value.name) == ("triggers.runners", "test-mine")
    assert isinstance(caught.value, LookupError)


def test_a_class_of_the_wrong_kind_is_refused() -> None:
    class NoRunner:
        name = "test-wrong"

    with pytest.raises(UnknownBackend, match=r"must extend triggers.runners.base.BaseTaskRunner"):
        task_runners.register(NoRunner)

    class Nameless(SessionStorage):
        name = ""

    with pytest.raises(UnknownBackend, match="give it a class attribute 'name'"):
        storage_backends.register(Nameless)


@pytest.mark.parametrize(
    ("alias", "hint"),
    [
        pytest.param("postgresql", "tcp_user_timeout", marks=pytest.mark.server("postgresql")),
        pytest.param("mariadb", "read_timeout", marks=pytest.mark.server("mariadb")),
    ],
)
def test_a_server_that_is_waited_for_without_end_is_warned_of(
    alias: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    settings = connections[alias].settings_dict
    monkeypatch.setitem(settings, "OPTIONS", {"application_name": "x"})
    setting = {
        "default": {"OPTIONS": {"using": alias}},
        "same": {"OPTIONS": {"using": alias}, "RUNNER": "threading"},
        "memory": {"STORAGE": "memory", "RUNNER": "threading"},
    }
    with override_settings(TRIGGERS=setting):
        [warning] = run_checks(tags=["triggers"])
    assert warning.id == "triggers.W003"
    assert f"TRIGGERS['default'] uses DATABASES[{alias!r}], which has no conn" in warning.msg
    assert hint in (warning.hint or "")
    monkeypatch.setitem(settings, "OPTIONS", {"connect_timeout": 5})
    assert found(setting) == []


@pytest.mark.server("postgresql")
def test_a_timeout_that_libpq_gets_elsewhere_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = {"default": {"OPTIONS": {"using": "postgresql"}}}
    settings = connections["postgresql"].settings_dict
    monkeypatch.setitem(settings, "OPTIONS", {"service": "main"})
    assert found(setting) == []
    monkeypatch.setitem(settings, "OPTIONS", {})
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "5")
    assert found(setting) == []
    monkeypatch.delenv("PGCONNECT_TIMEOUT")
    assert [check_id for check_id, _message in found(setting)] == ["triggers.W003"]


def test_an_unknown_option_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(SettingsError, match=r"has no option 'laese'; did you mean 'lease'\?"):
        MemoryStorageBackend("s", laese=10)  # type: ignore[call-arg]  # misspelled on purpose


@pytest.mark.parametrize(
    "url", [7, "localhost:6379", "redis://127.0.0.1:6379/abc", "redis://x:port", "http://x:1/0"]
)
def test_an_address_that_cannot_work_is_refused_when_it_is_given(url: Any) -> None:
    with pytest.raises(SettingsError, match="url"):
        storage_backends.get("redis", "s", url=url)


@pytest.mark.skipif(not find_spec("redis"), reason="the package redis is not installed")
def test_a_password_does_not_travel_and_a_worker_finds_its_own() -> None:
    secret = "redis://user:s3cret@redis.internal:6379/2"
    with override_settings(TRIGGERS={"default": {"STORAGE": "redis", "OPTIONS": {"url": secret}}}):
        storage = storage_backends.get("redis", "s")
        assert storage.options == {"url": "redis://redis.internal:6379/2"}
        assert storage_backends.get_class("redis")("s", **storage.options).url == secret
    elsewhere = storage_backends.get_class("redis")("s", **storage.options)
    assert elsewhere.url == "redis://redis.internal:6379/2"


@pytest.mark.parametrize(
    "error",
    [
        exceptions.InvalidUid("", "it is empty."),
        exceptions.StorageUnavailable("redis", "down"),
        exceptions.SessionClosed("closed", "order:1"),
        exceptions.PayloadTooLarge("kwargs", 3, 2),
        exceptions.WorkerLost("t_x#0", 3),
        exceptions.InstanceNotFound("t_x#0", "why"),
        exceptions.IdempotencyConflict("a", "k", 1),
        exceptions.ConfigurationError([("t_x.after", "is no list")]),
    ],
)
def test_errors_reach_another_process_as_they_are(error: exceptions.TriggersError) -> None:
    there = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("time_limit", "a"),
        ("time_limit", -3),
        ("soft_time_limit", True),
        ("priority", "high"),
        ("priority", 256),
        ("queue", 7),
        ("queue", ""),
        ("transactional", "yes"),
        ("expires", True),
        ("autoretry_for", (OSError,)),
    ],
)
def test_options_of_a_task_that_no_worker_could_use_are_refused_when_it_is_defined(
    option: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        type("Odd", (TriggerTask,), {"abstract": True, option: value})


def test_a_soft_limit_that_comes_after_the_hard_one_is_refused() -> None:
    with pytest.raises(ValueError, match="soft_time_limit must be below time_limit"):
        type("Odd", (TriggerTask,), {"abstract": True, "time_limit": 5, "soft_time_limit": 6})
