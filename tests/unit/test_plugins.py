"""What other distributions register: found by name, and what is wrong with it said by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from triggers.exceptions import UnknownBackend
from triggers.manager import trigger_managers
from triggers.registry import Registry
from triggers.runners import BaseTaskRunner, task_runners
from triggers.storages import storage_backends
from triggers.storages.base import BaseTriggerStorage
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.session import SessionStorage


@pytest.fixture(autouse=True)
def _broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery knows of a broker, whichever its app is: that is for one check alone to see."""
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")


GROUP = "tests.group"
PLUGINS_PY = """
from triggers.runners import BaseTaskRunner

class Good(BaseTaskRunner):
    name = "good"
    def run(self, manager, task_instance): ...

class Other(Good):
    pass

class Inner:
    class Good(Good):
        pass

class Unwritten(BaseTaskRunner):
    name = "x"

class NoRunner:
    name = "wrong-base"

def function(): ...
"""


class Installed:
    """Puts distributions on the path, as an installer leaves them there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch

    def __call__(self, name: str, *entries: str, group: str = GROUP, **modules: str) -> Registry:
        """Install one; a registry that has not looked for entry points yet."""
        site = self.folder / name
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *entries, ""]))
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text)
            self.monkeypatch.delitem(sys.modules, module, raising=False)
        self.monkeypatch.syspath_prepend(str(site))
        return Registry(GROUP, "triggers.runners.base.BaseTaskRunner")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    before = set(sys.modules)
    yield Installed(tmp_path, monkeypatch)
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def test_what_an_entry_point_names_is_imported_when_it_is_asked_for(installed: Installed) -> None:
    entries = ["good = my_plugins:Good", "broken = no_such_module:Cls"]
    registry = installed("my-dist", *entries, my_plugins=PLUGINS_PY)
    assert registry.names() == ["broken", "good"]
    assert "my_plugins" not in sys.modules
    assert registry.get_class("good").__qualname__ == "Good"
    assert isinstance(registry.get("good"), BaseTaskRunner)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("x = no.such.module:Cls", "there is no module 'no.such.module'."),
        ("x = my_plugins.deeper:Cls", "'my_plugins.deeper'"),
        ("x = my_plugins:Missing", "the module 'my_plugins' has no 'Missing'."),
        ("x = my_plugins:Inner.Missing", "the module 'my_plugins' has no 'Inner.Missing'."),
        ("x = my_plugins", "no class."),
        ("x = my_plugins:function", "no class."),
        ("x = my plugins!", "'my plugins!' is not of the form module:Class."),
        ("x = needing:Cls", "'needing' needs the module 'no_such_module', which is not installed."),
        ("x = raising:Cls", "importing 'raising' raised RuntimeError: not today."),
        ("x = exclaiming:Cls", "importing 'exclaiming' raised RuntimeError: Not today. Mend that"),
        ("x = silent:Cls", "importing 'silent' raised RuntimeError. Mend that"),
        ("x = my_plugins:Unwritten", "my_plugins.Unwritten is abstract; write run(). Mend that"),
        ("x = unreadable:Cls", "importing 'unreadable' raised SyntaxError:"),
        (
            "x = my_plugins:NoRunner",
            "my_plugins.NoRunner must extend triggers.runners.base.BaseTaskRunner.",
        ),
        (
            "x = my_plugins:Good",
            "the class attribute 'name' of my_plugins.Good is 'good', and workers look a class up "
            "by that: set name = 'x', or rename the entry point.",
        ),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named_with_what_to_do(
    installed: Installed, entry: str, problem: str
) -> None:
    registry = installed(
        "my-dist",
        entry,
        my_plugins=PLUGINS_PY,
        needing="import no_such_module",
        raising="raise RuntimeError('not today')",
        exclaiming="raise RuntimeError('Not today.')",
        silent="raise RuntimeError",
        unreadable="def",
    )
    for _ in range(2):  # the second time, a part of it may have been imported
        with pytest.raises(UnknownBackend) as caught:
            registry.get_class("x")
        described = f"'{entry}' of distribution my-dist 1.0"
        assert str(caught.value).startswith(
            f"Entry point {described}, group tests.group, cannot be used: "
        )
        assert problem in str(caught.value)
        assert str(caught.value).endswith("Mend that and install my-dist again, or uninstall it.")
        assert (caught.value.group, caught.value.name) == (GROUP, "x")
        assert caught.value.entry_points == (described,)
    [broken] = registry.broken_plugins()
    assert str(broken) == str(caught.value)


def test_a_class_within_a_class_can_be_named(installed: Installed) -> None:
    registry = installed("my-dist", "good = my_plugins:Inner.Good", my_plugins=PLUGINS_PY)
    assert registry.get_class("good").__qualname__ == "Inner.Good"
    assert list(registry.broken_plugins()) == []


@pytest.mark.parametrize("second", ["good = their_plugins:Good", "good = my_plugins:Good"])
def test_a_name_that_two_distributions_declare_is_an_error_that_names_both(
    installed: Installed, second: str
) -> None:
    installed("my-dist", "good = my_plugins:Good", my_plugins=PLUGINS_PY)
    registry = installed("their-dist", second, their_plugins=PLUGINS_PY)
    claims = {
        "'good = my_plugins:Good' of distribution my-dist 1.0",
        f"'{second}' of distribution their-dist 1.0",
    }
    with pytest.raises(UnknownBackend, match="is declared more than once") as caught:
        registry.get_class("good")
    assert set(caught.value.entry_points) == claims
    assert all(claim in str(caught.value) for claim in claims)
    assert "Uninstall all of these distributions but one, or rename" in str(caught.value)
    assert registry.names() == ["good"]
    assert [str(each) for each in registry.broken_plugins()] == [str(caught.value)]


def test_a_name_of_ours_that_another_distribution_declares_is_to_be_renamed_there(
    installed: Installed,
) -> None:
    installed("their-dist", "threading = their_plugins:Good", group=task_runners.group)
    registry = Registry(task_runners.group, "triggers.runners.base.BaseTaskRunner")
    with pytest.raises(UnknownBackend) as caught:
        registry.get_class("threading")
    message = str(caught.value)
    assert "'threading = their_plugins:Good' of distribution their-dist 1.0" in message
    assert "This name is triggers' own, so rename the other: both the entry point and" in message
    assert "Uninstall" not in message


def test_a_distribution_that_is_on_the_path_twice_declares_its_names_once(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = installed("my-dist", "good = my_plugins:Good", my_plugins=PLUGINS_PY)
    shutil.copytree(tmp_path / "my-dist", tmp_path / "again")
    monkeypatch.syspath_prepend(str(tmp_path / "again"))
    assert registry.get_class("good").name == "good"


def make_runner(qualname: str, name: str) -> type[BaseTaskRunner]:
    body = {"name": name, "run": lambda *_: None, "__qualname__": qualname}
    body["__module__"] = __name__
    return type(qualname, (BaseTaskRunner,), body)


class WritesLoad(BaseTriggerStorage):
    name = "writes-load"

    def _load_from_backend(self) -> Any:
        return None, None, None


class WritesNothing(SessionStorage):
    name = "writes-nothing"


@pytest.mark.parametrize(
    ("cls", "lacking"),
    [
        (WritesLoad, "_save()."),
        (
            WritesNothing,
            "commit(), delete(), find_firings(), find_instances(), overdue(), plan() and "
            "standing().",
        ),
    ],
)
def test_a_class_of_which_no_object_can_be_made_is_refused(cls: type, lacking: str) -> None:
    with pytest.raises(UnknownBackend) as caught:
        storage_backends.register(cls)
    place = f"{__name__}.{cls.__name__}"
    assert str(caught.value) == (
        f"{place} cannot be registered in triggers.storages: it is abstract; write {lacking}"
    )


def test_a_class_that_is_no_storage_is_told_which_one_to_extend() -> None:
    class Mine:
        name = "mine"

    with pytest.raises(UnknownBackend) as caught:
        storage_backends.register(Mine)
    assert str(caught.value).endswith(
        "it must extend triggers.storages.base.BaseTriggerStorage (or "
        "triggers.storages.session.SessionStorage)."
    )


WITHOUT_THE_APP = """
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes"])
import django
from triggers.storages import storage_backends
from triggers.storages.base import BaseTriggerStorage
if {ready}:
    django.setup()
storage_backends.get("database", "s")
"""


@pytest.mark.parametrize("ready", [True, False])
def test_a_project_without_our_app_is_told_to_add_it(ready: bool) -> None:
    program = WITHOUT_THE_APP.format(ready=ready)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    message = done.stderr.strip().splitlines()[-1]
    advice = "add 'triggers' to INSTALLED_APPS, and run 'manage.py migrate'."
    assert message.endswith(advice) is ready
    assert message.startswith("triggers.exceptions.UnknownBackend: ")
    assert ".." not in message


def test_a_second_class_of_a_registered_name_is_refused_and_the_first_one_stays() -> None:
    registry = Registry(GROUP, "triggers.runners.base.BaseTaskRunner")
    first, second = make_runner("First", "mine"), make_runner("Second", "mine")
    registry.register(first)
    with pytest.raises(UnknownBackend) as caught:
        registry.register(second)
    assert str(caught.value) == (
        f"{__name__}.Second cannot be registered as 'mine' in tests.group: the name belongs to "
        f"{__name__}.First. Give one of them another class attribute 'name'."
    )
    assert registry.get_class("mine") is first
    registry.unregister("mine")
    assert registry.register(second) is registry.get_class("mine")


def test_a_class_may_be_registered_again_and_after_its_module_was_loaded_again() -> None:
    registry = Registry(GROUP, "triggers.runners.base.BaseTaskRunner")
    older, newer = make_runner("Mine", "mine"), make_runner("Mine", "mine")
    for cls in (older, older, newer):
        registry.register(cls)
        assert registry.get_class("mine") is cls


def test_two_classes_of_the_same_function_are_two_classes() -> None:
    registry = Registry(GROUP, "triggers.runners.base.BaseTaskRunner")
    registry.register(make_runner("make.<locals>.Mine", "mine"))
    with pytest.raises(UnknownBackend, match="the name belongs to"):
        registry.register(make_runner("make.<locals>.Mine", "mine"))


def test_a_name_of_an_entry_point_is_taken(installed: Installed) -> None:
    registry = installed("my-dist", "good = my_plugins:Good", my_plugins=PLUGINS_PY)
    with pytest.raises(UnknownBackend) as caught:
        registry.register(make_runner("Mine", "good"))
    assert str(caught.value) == (
        f"{__name__}.Mine cannot be registered as 'good' in tests.group: the name belongs to "
        "my_plugins.Good, by 'good = my_plugins:Good' of distribution my-dist 1.0. Give one of "
        "them another class attribute 'name'."
    )
    assert caught.value.entry_points == ("'good = my_plugins:Good' of distribution my-dist 1.0",)
    assert registry.register(registry.get_class("good")).__module__ == "my_plugins"


def test_a_bundled_name_is_taken() -> None:
    class Mine(MemoryStorageBackend):
        pass

    with pytest.raises(UnknownBackend, match=r"as 'memory' in triggers\.storages: the name bel"):
        storage_backends.register(Mine)
    assert storage_backends.get_class("memory") is MemoryStorageBackend


REGISTERING_PY = """
from my_registry import registry
from triggers.runners import BaseTaskRunner

@registry.register
class Good(BaseTaskRunner):
    name = "good"
    def run(self, manager, task_instance): ...
"""


@pytest.mark.parametrize("entry", ["good = both_ways:Good", "good = front:Good"])
@pytest.mark.parametrize("imported_first", [True, False])
def test_a_class_may_have_an_entry_point_and_register_itself_too(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, entry: str, imported_first: bool
) -> None:
    registry = installed(
        "my-dist", entry, both_ways=REGISTERING_PY, front="from both_ways import Good"
    )
    monkeypatch.setitem(sys.modules, "my_registry", SimpleNamespace(registry=registry))
    if imported_first:
        import_module("both_ways")
    assert registry.get_class("good") is import_module("both_ways").Good


def test_another_class_that_took_the_name_before_it_could_be_known_shows_when_it_is_asked_for(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # While it registers itself, the entry point's own module is not imported to its end.
    entry = "good = both_ways:Later"
    text = f"{REGISTERING_PY}\nclass Later(Good):\n    pass\n"
    registry = installed("my-dist", entry, both_ways=text)
    monkeypatch.setitem(sys.modules, "my_registry", SimpleNamespace(registry=registry))
    import_module("both_ways")
    with pytest.raises(UnknownBackend, match=r"belongs to both_ways\.Later, by 'good = "):
        registry.get_class("good")


def test_a_registered_class_under_a_name_whose_entry_point_is_broken_is_not_taken_for_it(
    installed: Installed,
) -> None:
    registry = installed("my-dist", "good = no_such_module:Good")
    registry.register(make_runner("Mine", "good"))
    with pytest.raises(UnknownBackend, match="there is no module 'no_such_module'"):
        registry.get_class("good")


def test_what_is_installed_later_is_found_after_a_refresh(installed: Installed) -> None:
    registry = installed("my-dist", "good = my_plugins:Good", my_plugins=PLUGINS_PY)
    first = registry.get_class("good")
    installed("their-dist", "more = their_plugins:Good", their_plugins=PLUGINS_PY)
    assert "more" not in registry
    registry.refresh()
    assert "more" in registry
    assert registry.get_class("good") is first
    installed("rival-dist", "good = their_plugins:Good")
    assert registry.get_class("good") is first
    registry.refresh()
    with pytest.raises(UnknownBackend, match="rival-dist"):
        registry.get_class("good")


def found(settings: Any) -> list[tuple[str, str]]:
    """Ids and messages of the system checks under this setting of ``TRIGGERS``."""
    with override_settings(TRIGGERS=settings):
        return [(each.id or "", each.msg) for each in run_checks(tags=["triggers"])]


@pytest.mark.parametrize("registry", [trigger_managers, storage_backends, task_runners])
def test_a_plugin_that_cannot_be_used_is_a_warning_until_the_settings_name_it(
    installed: Installed, registry: Registry
) -> None:
    key = registry.group.removeprefix("triggers.").removesuffix("s").upper()
    assert found({}) == []
    installed("my-dist", "x = no_such_module:Cls", group=registry.group)
    registry.refresh()
    try:
        [(check_id, message)] = found({})
        assert check_id == "triggers.W004"
        assert "'x = no_such_module:Cls' of distribution my-dist 1.0" in message
        [(check_id, named)] = found({"default": {key: "x"}})
        assert check_id == "triggers.E002"
        assert named == f"TRIGGERS['default'][{key!r}]: {message}"
        assert {each for each, _message in found(["no", "dict"])} == {
            "triggers.E001",
            "triggers.W004",
        }
    finally:
        registry.refresh()
