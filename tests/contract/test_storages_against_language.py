"""Every storage that outlives a process, held against the model of the configuration language."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.contract.custom_storage import FolderStorage
from tests.language_machine import LanguageMachine
from tests.language_session import RealSession, let_time_run
from tests.machine import explore
from triggers.storages import storage_backends

INTERESTING = (
    *("abandoned", "expired", "failed", "finished", "replayed", "skipped"),
    *("any", "atLeast", "times", "from", "settled", "when", "within", "withParams"),
    *("filtered out", "several firings of one name", "later tasks", "cascade by hand"),
)


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    let_time_run()


def live(open_storage: Any, alias: str | None = None) -> None:
    class Machine(LanguageMachine):
        def make_subject(self) -> RealSession:
            return RealSession(open_storage, alias)

    explore(
        Machine,
        at_least=1,
        interesting=INTERESTING,
        max_examples=12,
        stateful_step_count=40,
    )


@pytest.mark.parametrize("alias", servers.database_params())
def test_a_session_in_a_database_lives_as_the_language_says(alias: str, settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "database", "OPTIONS": {"using": alias}}}
    live(lambda uid: storage_backends.get("database", uid, using=alias), "default")


@pytest.mark.server("redis")
@pytest.mark.django_db(transaction=True)
def test_a_session_in_a_cache_lives_as_the_language_says() -> None:
    live(lambda uid: storage_backends.get("cache", uid, cache="default"))


@pytest.mark.django_db(transaction=True)
def test_a_session_in_a_custom_storage_lives_as_the_language_says(tmp_path: Path) -> None:
    live(lambda uid: FolderStorage(uid, folder=str(tmp_path)))
