"""Settings, registries and system checks: what is wrong with a set-up is said where it is."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.core.checks import run_checks
from django.db import connections
from django.test import override_settings

from tests.contract.custom_storage import FolderStorage
from tests.servers import ROOT
from triggers import checks, conf, exceptions
from triggers.exceptions import SettingsError, UnknownBackend
from triggers.manager import TriggerManager, get_trigger_manager, trigger_managers
from triggers.rounds import unlisted
from triggers.runners import BaseTaskRunner, task_runners
from triggers.storages import storage_backends
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.session import SessionStorage
from triggers.task import TriggerTask
from triggers.types import TaskConfig


@pytest.fixture(autouse=True)
def _broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery knows of a broker, whichever its app is: that is for one check alone to see."""
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")


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
        ({"a": {"OPTIONS": {1: 2}}}, "TRIGGERS['a']['OPTIONS']: expected names of options, got 1"),
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


class PickyStorage(FolderStorage):
    """Takes an option that must be there, and no limits."""

    name = "test-picky"

    def __init__(self, uid: str, *, folder: str, depth: int = 1) -> None:
        super().__init__(uid, folder=folder)
        if depth < 1:
            raise ValueError("it must be at least 1")


@pytest.fixture
def _picky() -> Iterator[None]:
    storage_backends.register(PickyStorage)
    yield
    storage_backends.unregister(PickyStorage.name)


DATABASE_TAKES = (
    "It takes: using, in_transaction, payload_limit, firings_limit, lease, heartbeat, attempts, "
    "server_timeout."
)


@pytest.mark.parametrize(
    ("storage", "options", "place", "reason"),
    [
        (
            "database",
            {"lease": 30, "nope": 1},
            "['nope']",
            f"has no option 'nope'. {DATABASE_TAKES}",
        ),
        ("database", {"usin": "x"}, "['usin']", "has no option 'usin'; did you mean 'using'? It"),
        (
            "database",
            {"using": "nope"},
            "['using']",
            "using must be an alias in DATABASES (known: default",
        ),
        ("database", {"using": 7}, "['using']", "got 7."),
        (
            "database",
            {"in_transaction": "maybe", "attempts": 4},
            "['in_transaction']",
            "in_transaction must be 'defer' or 'decide', got 'maybe'.",
        ),
        (
            "memory",
            {"lease": "5"},
            "['lease']",
            "lease must be a number of seconds above 0, got '5'",
        ),
        ("memory", {"lease": 5}, "['lease']", "heartbeat (15.0 s) must be at most half of lease"),
        (
            "memory",
            {"lease": 5, "attempts": 0},
            "",
            "attempts must be an int of at least 1, got 0.",
        ),
        ("cache", {"cache": 7}, "['cache']", "cache must be an alias in CACHES, a str, got 7."),
        ("cache", {"timeout": "x"}, "['timeout']", "above 0, or None for ever, got 'x'."),
        (
            "database",
            {"uid": "s"},
            "['uid']",
            f"'uid'. The database storage takes: {DATABASE_TAKES[10:]}",
        ),
        ("test-picky", {}, "", "'folder'. The test-picky storage takes: folder, depth."),
        ("test-picky", {"folder": "/f", "lease": 9}, "['lease']", "takes: folder, depth."),
    ],
)
@pytest.mark.usefixtures("_picky")
def test_an_option_that_does_not_fit_is_named_with_its_alias(
    storage: str, options: dict[str, Any], place: str, reason: str
) -> None:
    setting = {"other": {"STORAGE": storage, "RUNNER": "threading", "OPTIONS": options}}
    [(check_id, message)] = found(setting)
    assert check_id == "triggers.E003"
    assert message.startswith(f"TRIGGERS['other']['OPTIONS']{place}: ")
    assert reason in message
    with override_settings(TRIGGERS=setting), pytest.raises(SettingsError) as caught:
        get_trigger_manager("s", using="other")
    assert str(caught.value) == message
    assert caught.value.__cause__ is not None


@pytest.mark.usefixtures("_picky")
def test_what_a_storage_raises_itself_is_named_by_the_check_and_raised_as_it_is() -> None:
    options = {"folder": "/f", "depth": 0}
    setting = {"default": {"STORAGE": PickyStorage.name, "OPTIONS": options}}
    message = "TRIGGERS['default']['OPTIONS']['depth']: it must be at least 1"
    assert found(setting) == [("triggers.E003", message)]
    with override_settings(TRIGGERS=setting), pytest.raises(ValueError, match=r"^it must be"):
        get_trigger_manager("s")


def test_what_is_wrong_with_the_uid_is_not_blamed_on_the_options() -> None:
    with (
        override_settings(TRIGGERS={"default": {"OPTIONS": {"lease": 90}}}),
        pytest.raises(exceptions.InvalidUid),
    ):
        get_trigger_manager("")


class Folder(FolderStorage):
    name = "test-folder"


class ListsSome(Folder):
    name = "test-lists-some"

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> list[str]:
        return []


class ListsAll(ListsSome):
    name = "test-lists-all"

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> list[str]:
        return []


@pytest.fixture
def _folders() -> Iterator[None]:
    for cls in (Folder, ListsSome, ListsAll):
        storage_backends.register(cls)
    yield
    for cls in (Folder, ListsSome, ListsAll):
        storage_backends.unregister(cls.name)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (
            "test-folder",
            "nothing is recovered and no deadline is noticed in them. Write overdue() and",
        ),
        (
            "test-lists-some",
            "no deadline is noticed in them. Write ticking() for tests.unit.test_setup",
        ),
    ],
)
@pytest.mark.usefixtures("_folders")
def test_a_storage_that_cannot_list_its_sessions_is_a_warning(name: str, what: str) -> None:
    setting = {"a": {"STORAGE": name, "RUNNER": "threading", "OPTIONS": {"folder": "/f"}}}
    [(check_id, message)] = found(setting)
    assert check_id == "triggers.W005"
    assert f"TRIGGERS['a']: the {name} storage cannot list its sessions, so {what}" in message
    assert "or call triggers.recovery.recover() and triggers.timers.fire_due_in()" in message


@pytest.mark.usefixtures("_folders")
def test_storages_that_list_their_sessions_are_not_warned_of() -> None:
    setting = {"a": {"STORAGE": "test-lists-all", "OPTIONS": {"folder": "/f"}}}
    assert found(setting) == []
    bundled = conf.Alias(name="a", storage="database"), conf.Alias(name="b", storage="memory")
    assert [unlisted(each) for each in (*bundled, conf.Alias(name="c", storage="cache"))] == [
        ""
    ] * 3


@pytest.mark.parametrize("wrong", [None, "", 7])
def test_a_storage_without_a_name_says_so_when_it_is_made(wrong: Any) -> None:
    class Nameless(FolderStorage):
        name = wrong

    with pytest.raises(TypeError, match="Nameless needs a class attribute 'name'") as caught:
        Nameless("s", folder="/f")
    assert f"it is {wrong!r}." in str(caught.value)
    assert "such as name = 'folder'" in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (None, "it returned None"),
        ('{"configs": {}}', "it returned a value of type str"),
        ({"configs": {}, "instances": {}, "metas": {}}, "it returned a value of type dict"),
        (({}, {}), "it returned a tuple of 2"),
        (({}, {}, "[]"), "it returned a value of type str as the metadata"),
        (([1], {}, {}), "it returned a value of type list as the configurations"),
        (({}, {"t_x#0": {"task": "t_x"}}, {}), "what it returned is not that (KeyError: "),
        (({}, {}, {"version": "four"}), "what it returned is not that (TypeError: "),
        (({"t_x": "after a"}, {}, {}), "what it returned is not that ("),
    ],
)
def test_what_a_storage_loads_in_the_wrong_shape_is_said(returned: Any, problem: str) -> None:
    class Odd(FolderStorage):
        name = "test-odd"
        saves_at_once = True

        def _load_from_backend(self) -> Any:
            return returned

    with pytest.raises(TypeError) as caught:
        TriggerManager(Odd("order:1", folder="/f")).get_unresolved_tasks()
    message = str(caught.value)
    assert "Odd._load_from_backend() must return a tuple of three, configurations, inst" in message
    assert f"for session 'order:1' {problem}" in message


def test_a_session_of_a_newer_version_is_still_said_to_be_one() -> None:
    class Newer(FolderStorage):
        name = "test-newer"
        saves_at_once = True

        def _load_from_backend(self) -> Any:
            return [None, {}, {"version": 99}]

    with pytest.raises(exceptions.StateVersionError, match="99"):
        TriggerManager(Newer("order:1", folder="/f")).get_unresolved_tasks()


def test_memory_with_workers_is_a_warning() -> None:
    [(check_id, _message)] = found({"default": {"STORAGE": "memory"}})
    assert check_id == "triggers.W002"
    assert found({"default": {"STORAGE": "memory", "RUNNER": "threading"}}) == []


NO_BROKER = "the celery runner is used, and Celery knows of no broker, so its messages would go to "


@pytest.fixture
def celery_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The current app, of which nothing is configured."""
    monkeypatch.delenv("CELERY_BROKER_URL")
    app = Celery("test-checks", set_as_current=False, loader="app")
    monkeypatch.setattr(checks, "current_app", app)
    yield app
    app.close()


@pytest.mark.usefixtures("celery_app")
def test_celery_without_a_broker_is_a_warning_that_says_what_to_do() -> None:
    setting: Any = {
        "default": {},
        "memory": {"STORAGE": "memory", "RUNNER": "threading"},
        "other": {"RUNNER": "celery", "OPTIONS": {"lease": 90}},
    }
    with override_settings(TRIGGERS=setting):
        [warning] = run_checks(tags=["triggers"])
    assert warning.id == "triggers.W006"
    assert warning.msg == (
        f"TRIGGERS['default'], TRIGGERS['other']: {NO_BROKER}its default, amqp://guest@localhost//."
    )
    hint = warning.hint or ""
    for remedy in ("CELERY_BROKER_URL", "__init__.py", "docs/howto/celery", "'triggers.W006'"):
        assert remedy in hint
    assert found({"default": {"RUNNER": "synchronous"}}) == []
    with override_settings(TRIGGERS=["default"]):
        assert checks.check_broker() == [], "that it is no dict is said by another check"


@pytest.mark.parametrize(
    "options",
    [
        {"broker_url": "redis://nobody.invalid:1/0"},
        {"broker_write_url": "redis://nobody.invalid:1/0"},
        {"broker_transport": "memory"},
        {"task_always_eager": True},
    ],
)
def test_celery_that_knows_a_broker_or_needs_none_is_not_warned_of(
    options: dict[str, Any], celery_app: Celery
) -> None:
    celery_app.conf.update(options)
    assert found({"default": {}}) == []


def test_a_broker_in_the_environment_is_one(
    celery_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://nobody.invalid:1/0")
    assert found({"default": {}}) == []


def test_a_configuration_that_celery_cannot_read_is_left_for_celery_to_refuse(
    celery_app: Celery,
) -> None:
    celery_app.config_from_object("no_such_module")
    assert found({"default": {}}) == []


IMPORTED = """
    from celery import Celery
    app = Celery("shop")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks(["orders"])
"""


SQLITE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}


@pytest.mark.parametrize(
    ("package", "is_warned_of"), [("", True), (IMPORTED, False)], ids=["no app", "an app"]
)
def test_a_project_is_checked_for_a_broker_without_its_tasks_or_the_broker(
    package: str, is_warned_of: bool, tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(textwrap.dedent(package))
    (tmp_path / "shop" / "settings.py").write_text(
        'SECRET_KEY = "only for tests"\n'
        'INSTALLED_APPS = ["triggers"]\n'
        'CELERY_BROKER_URL = "amqp://nobody.invalid//"\n'
        f"DATABASES = {{'default': {SQLITE | {'NAME': str(tmp_path / 'db')}!r}}}\n"
    )
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "__init__.py").touch()
    (tmp_path / "orders" / "tasks.py").write_text("raise SystemExit('imported by surprise')")
    environment = {key: value for key, value in os.environ.items() if "CELERY" not in key}
    environment |= {
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert ("(triggers.W006)" in said) == is_warned_of, said
    assert ("no issues" in said) != is_warned_of, said


@pytest.mark.parametrize(
    ("uid", "reason"),
    [
        ("a\x00b", "it contains U+0000, which not every storage can hold."),
        ("\ud800", "it contains a lone surrogate, which is no text."),
    ],
)
def test_a_text_that_is_no_uid_or_no_name_is_refused_in_a_sentence(uid: str, reason: str) -> None:
    with pytest.raises(exceptions.InvalidUid) as caught:
        get_trigger_manager(uid)
    assert str(caught.value) == f"{uid!r} is no session uid: {reason}"
    manager = TriggerManager(MemoryStorageBackend("s"))
    with pytest.raises(exceptions.InvalidTrigger) as refused:
        manager.fire(uid)
    assert str(refused.value) == f"Cannot fire {uid!r}: a trigger name{reason[2:]}"


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


def test_of_a_storage_that_adds_options_all_are_known() -> None:
    class Sharded(DatabaseStorageBackend):
        name = "sharded"

        def __init__(self, uid: str, *, shard: int = 0, lease: float = 5, **options: Any) -> None:
            super().__init__(uid, lease=lease, **options)

    with pytest.raises(SettingsError, match="did you mean 'using'") as caught:
        Sharded("s", usin="x")
    taken = str(caught.value).rpartition("It takes: ")[2].rstrip(".").split(", ")
    assert taken[:4] == ["shard", "lease", "using", "in_transaction"]
    assert len(taken) == len(set(taken))


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
