"""What is wrong with a storage of somebody's own is said: the class, the method, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from tests.contract.custom_storage import FolderStorage
from triggers.exceptions import StorageUnavailable
from triggers.manager import TriggerManager, get_trigger_manager
from triggers.storages import storage_backends
from triggers.storages.base import Conflict

pytestmark = pytest.mark.django_db


class Own(FolderStorage):
    name = "test-own"

    moment: Any = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def now(self) -> datetime:
        moment: datetime = self.moment
        return moment


@pytest.fixture
def registered() -> Iterator[Callable[[type], type]]:
    classes: list[Any] = []

    def register(cls: Any) -> Any:
        classes.append(cls)
        return storage_backends.register(cls)

    yield register
    for cls in classes:
        storage_backends.unregister(cls.name)


# -- time ---------------------------------------------------------------------------------------

IN_BERLIN = datetime(2026, 11, 21, 13, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    "moment", [None, "2026-11-21T12:00:00+00:00", 1.5, datetime(2026, 11, 21), IN_BERLIN]
)
def test_a_time_that_is_none_poisons_no_session(
    moment: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = Own("order:1", folder=str(tmp_path))
    manager = TriggerManager(storage)
    with storage.acquire_lock():
        monkeypatch.setattr(Own, "moment", moment)
        for do in (
            lambda: manager.fire("a"),
            lambda: manager.update_configuration({"t_x": {"after": ["a"], "run": "x"}}),
            lambda: manager.update_configuration({}, preview=True),
        ):
            with pytest.raises(TypeError) as caught:
                do()
            assert str(caught.value) == (
                f"{__name__}.Own.now() must return an aware datetime in UTC, such as "
                f"datetime.now(UTC), it returned {moment!r}; for session 'order:1' nothing was "
                "done."
            )
    assert list(tmp_path.iterdir()) == []


def test_a_time_in_utc_by_another_name_is_one(tmp_path: Path) -> None:
    storage = Own("order:1", folder=str(tmp_path))
    storage.moment = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(0), "Zulu"))
    TriggerManager(storage).fire("a")
    assert storage.standing().changed_at == Own.moment


# -- what it is called and made with ------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "", 7])
def test_a_lock_without_a_name_is_not_taken(wrong: Any, tmp_path: Path) -> None:
    class Nameless(Own):
        lock_name = wrong

    with pytest.raises(TypeError, match=r"Nameless\.lock_name must be a property with a non-") as e:
        TriggerManager(Nameless("s", folder=str(tmp_path))).fire("a")
    assert str(e.value).endswith(f"got {wrong!r}.")


def test_an_init_that_does_not_call_that_of_the_base_class_is_named(registered: Any) -> None:
    @registered
    class Uninitialised(Own):
        name = "test-uninitialised"

        def __init__(self, uid: str, **limits: Any) -> None:
            self.uid = uid

    message = r"Uninitialised\.__init__\(\) must call super\(\)\.__init__\(uid, \*\*limits\)"
    with pytest.raises(TypeError, match=message):
        storage_backends.get(Uninitialised.name, "s")
    with (
        override_settings(TRIGGERS={"default": {"STORAGE": Uninitialised.name}}),
        pytest.raises(TypeError, match=message),
    ):
        get_trigger_manager("s")


def test_options_that_leave_an_argument_out_are_an_error_where_they_are_used(
    registered: Any,
) -> None:
    registered(Own)
    with pytest.raises(TypeError) as caught:
        storage_backends.get(Own.name, "s", lease=7)
    message = str(caught.value)
    assert message.startswith(f"{__name__}.Own cannot be made with lease: ")
    assert "'folder'. It takes: folder, " in message
    assert "its property 'options' returned, which must hold every argument" in message


# -- deleting -----------------------------------------------------------------------------------


class Comparing(Own):
    """Knows when others have saved since it loaded, as one whose lock can be lost."""

    name = "test-comparing"

    def _stored(self) -> int:
        metas = super()._load_from_backend()[2]
        return int(metas.get("revision", 0))

    def _save(self) -> None:
        if self._stored() != self._metas.get("revision", 0):
            raise Conflict
        self._metas["revision"] = self._stored() + 1
        super()._save()


class Removing(Comparing):
    name = "test-removing"

    def _delete_from_backend(self) -> None:
        self.path.unlink(missing_ok=True)


@pytest.mark.parametrize("cls", [Comparing, Removing])
def test_what_is_saved_after_a_deletion_expects_what_the_deletion_has_left(
    cls: type[Own], tmp_path: Path
) -> None:
    manager = TriggerManager(cls("s", folder=str(tmp_path)))
    manager.fire("a")
    manager.fire("b")
    with manager.storage.acquire_lock():
        manager.fire("c")
        manager.storage.delete()
        manager.storage.delete()
        manager.fire("d")
    assert manager.storage.latest_kwargs == {"d": {}}
    manager.fire("e")
    assert manager.storage.latest_kwargs == {"d": {}, "e": {}}


def test_a_deletion_that_fails_undoes_nothing_of_what_was_done_before(tmp_path: Path) -> None:
    class Failing(Own):
        def _delete_from_backend(self) -> None:
            raise StorageUnavailable(self.name, "it is down")

    manager = TriggerManager(Failing("s", folder=str(tmp_path)))
    with manager.storage.acquire_lock():
        manager.fire("a")
        with pytest.raises(StorageUnavailable):
            manager.storage.delete()
        manager.fire("b")
    assert manager.storage.latest_kwargs == {"a": {}, "b": {}}
