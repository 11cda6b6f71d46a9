"""Explanations of stored sessions, through the manager and ``manage.py triggers explain``."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext, override_settings

from tests import servers
from tests.worker import OnlookingManager
from triggers.clock import frozen_time
from triggers.engine.lifecycle import Claim, Fail, Finish
from triggers.exceptions import UnknownTask
from triggers.explain import FiringNotFound
from triggers.storages.database import DatabaseStorageBackend
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.session import SessionStorage

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

WORKFLOW = {
    "t_import": {"andEvery": "pageReceived", "run": "tests.worker.Obedient"},
    "t_join": {
        "after": [
            "started",
            {"trigger": "t_import", "times": {"from": "started.pages"}},
        ],
        "unless": ["cancelled"],
        "within": "P3D",
        "when": {"started": {"pages": {"gte": 2}}},
        "run": "tests.worker.Obedient",
    },
    "t_remind": {
        "after": {"elapsed": "P1D", "since": "started"},
        "unless": ["t_join"],
        "run": "tests.worker.Obedient",
    },
    "t_thank": {"after": ["t_join"], "run": "tests.worker.Obedient"},
}


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    MemoryStorageBackend.clear()


def live(storage: SessionStorage) -> OnlookingManager:
    """Let the same things happen in a session, at the same times."""
    manager = OnlookingManager(storage)
    with frozen_time(NOW):
        manager.update_configuration(WORKFLOW)
        manager.fire("started", {"pages": 1})
    with frozen_time(NOW + timedelta(minutes=1)):
        manager.fire("started", {"pages": 3})
        manager.fire("odd", idempotency_key="evt_1")
        for _ in range(2):
            manager.fire("pageReceived")
        manager.apply(Claim(key=("t_import", 0), token="t"))
        manager.apply(Finish(key=("t_import", 0), token="t", result='{"id":7}'))
        manager.apply(Claim(key=("t_import", 1), token="t"))
        error = {"type": "builtins.ValueError", "message": "no name"}
        manager.apply(Fail(key=("t_import", 1), token="t", metadata={"exception": error}))
    return manager


TOLD = """\
t_join#0 waits for 2 more of t_import (1 of 3 held; 3 comes from started.pages)
  waiting since 2026-11-21T12:01:00Z, made by firing 2 of started
  after, all of these
    [x] started: firing 2, 2026-11-21T12:01:00Z
    [ ] 2 more of t_import (1 of 3 held; 3 comes from started.pages)
  unless (would rule it out)
    [ ] cancelled: never fired
  next, on 2026-11-24T12:01:00Z: it expires if it still waits (within P3D)
  filtered out for t_join
    firing 1 of started, 2026-11-21T12:00:00Z: filter on started: pages gte 2, got 1
"""


class TestStorages:
    @pytest.mark.parametrize("alias", servers.database_params())
    def test_the_database_explains_as_memory_does(self, alias: str) -> None:
        uid = uuid4().hex
        stored = live(DatabaseStorageBackend(uid, using=alias))
        remembered = live(MemoryStorageBackend(uid))
        with frozen_time(NOW + timedelta(hours=2)):
            for what in (None, "t_join", "t_join#0", "t_import#0", "t_import#1", "t_remind#0"):
                expected = remembered.explain(what)
                assert stored.explain(what) == expected
                assert str(stored.explain(what)) == str(expected)
            for seq in range(1, 8):
                assert stored.explain_firing(seq) == remembered.explain_firing(seq)
            assert f"{stored.explain('t_join#0')}\n" == TOLD

    @pytest.mark.parametrize("alias", servers.database_params())
    def test_a_few_queries_read_it_however_big_it_is(self, alias: str) -> None:
        small = OnlookingManager(DatabaseStorageBackend(uuid4().hex, using=alias))
        small.update_configuration(WORKFLOW)
        small.fire("pageReceived")
        big = OnlookingManager(DatabaseStorageBackend(uuid4().hex, using=alias))
        big.update_configuration(WORKFLOW)
        for _ in range(200):
            big.fire("pageReceived")
        asked = []
        for manager in (small, big):
            for explain in (manager.explain, lambda: manager.explain_firing(1)):  # noqa: B023
                with CaptureQueriesContext(connections[alias]) as queries:
                    text = str(explain())
                assert "t_import#0" in text
                asked.append([each["sql"].split(None, 1)[0] for each in queries])
        assert len(big.explain("t_import").instances) == 200  # type: ignore[union-attr]
        assert asked[0] == asked[1] == asked[2] == asked[3]
        assert len(asked[0]) <= 10
        assert set(asked[0]) == {"SELECT"}

    @pytest.mark.django_db(transaction=True)
    def test_nobody_is_kept_waiting(self) -> None:
        manager = live(DatabaseStorageBackend(uuid4().hex))
        with transaction.atomic(), CaptureQueriesContext(connections["default"]) as queries:
            assert str(manager.explain())
        assert [each["sql"] for each in queries if "UPDATE" in each["sql"]] == []

    @pytest.mark.django_db(transaction=True)
    def test_what_waits_for_a_commit_is_counted(self) -> None:
        manager = live(DatabaseStorageBackend(uuid4().hex))
        with transaction.atomic():
            assert manager.fire("cancelled").pending
            assert "not decided yet: 1 firing recorded in a transaction" in str(manager.explain())
        assert "not decided yet" not in str(manager.explain())

    @pytest.mark.django_db(transaction=True)
    def test_a_deadline_that_passed_unseen_is_told(self) -> None:
        manager = live(DatabaseStorageBackend(uuid4().hex))
        with frozen_time(NOW + timedelta(days=2)):
            text = str(manager.explain("t_remind#0"))
            assert text.startswith(
                "t_remind#0 is due to be scheduled since 2026-11-22T12:00:00Z: what happens next"
            )
            manager.fire("odd")
            assert str(manager.explain("t_remind#0")).startswith("t_remind#0 is scheduled since")

    @pytest.mark.django_db(transaction=True)
    def test_the_storage_explains_without_a_manager(self) -> None:
        manager = live(DatabaseStorageBackend(uuid4().hex))
        storage = DatabaseStorageBackend(manager.storage.uid)
        with frozen_time(NOW + timedelta(hours=2)):
            assert storage.explain() == manager.explain()
            assert storage.explain_firing(3) == manager.explain_firing(3)
        with pytest.raises(UnknownTask):
            storage.explain("t_improt")
        with pytest.raises(FiringNotFound):
            storage.explain_firing(99)


class Printed(io.StringIO):
    """What a command writes; perhaps to a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def uid(transactional_db: None) -> str:
    """Live a session in the default database."""
    manager = live(DatabaseStorageBackend(f"order:{uuid4().hex}"))
    return manager.storage.uid


def run(*arguments: str, **options: Any) -> str:
    stdout = Printed()
    with frozen_time(NOW + timedelta(hours=2)):
        call_command("triggers", "explain", *arguments, stdout=stdout, **options)
    return stdout.getvalue()


class TestCommand:
    def test_a_session(self, uid: str) -> None:
        lines = run(uid).splitlines()
        assert lines[0] == f"Session {uid}, 2026-11-21T14:00:00Z: 4 tasks, 7 firings"
        assert "  t_thank: no instance yet" in lines
        assert "    odd (once, last as firing 3)" in lines

    def test_a_task(self, uid: str) -> None:
        lines = run(uid, "t_join").splitlines()
        assert lines[0] == f"t_join in session {uid}, 2026-11-21T14:00:00Z: 1 instance"

    def test_an_instance(self, uid: str) -> None:
        assert run(uid, "t_join#0") == TOLD

    def test_a_firing(self, uid: str) -> None:
        assert run(uid, "--firing", "3") == (
            "Firing 3 of odd, 2026-11-21T12:01:00Z, fired from outside\n"
            "  kwargs: {}\n"
            "  idempotency key: evt_1\n"
            "  no task names it\n"
        )

    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [([], "session"), (["t_join"], "task"), (["t_join#0"], "instance")],
    )
    def test_as_json(self, uid: str, arguments: list[str], kind: str) -> None:
        found = json.loads(run(uid, *arguments, "--json"))
        assert (found["kind"], found["uid"]) == (kind, uid)

    def test_a_firing_as_json(self, uid: str) -> None:
        found = json.loads(run(uid, "--firing", "2", "--json"))
        assert found["effects"]["created"] == ["t_join#0"]
        assert found["kwargs"] == {"pages": 3}

    def test_in_a_terminal_it_is_a_tree_in_colours(
        self, uid: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        stdout = Printed(terminal=True)
        with frozen_time(NOW + timedelta(hours=2)):
            call_command("triggers", "explain", uid, "t_join#0", stdout=stdout)
        text = stdout.getvalue()
        assert "\x1b[32m[x] started: firing 2" in text
        assert "\x1b[31m[ ] 2 more of t_import" in text
        plain = re.sub(r"\x1b\[[\d;]*m", "", text)
        assert (
            "├── after, all of these\n│   ├── [x] started: firing 2, 2026-11-21T12:01:00Z\n"
            in plain
        )

    def test_in_a_terminal_without_colours(self, uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "60")
        stdout = Printed(terminal=True)
        call_command("triggers", "explain", uid, stdout=stdout, no_color=True)
        text = stdout.getvalue()
        assert "\x1b" not in text
        assert "├── t_import: 2 instances" in text
        assert max(map(len, text.splitlines())) <= 60

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["t_jion"], "has no task 't_jion' (known: t_import, t_join, t_remind, t_thank; did "),
            (["t_join#7"], "There is no instance 't_join#7' (session "),
            (["--firing", "99"], "has no firing 99; it has 7 firings, numbered from 1 to 7."),
            (["--using", "nowhere"], "TRIGGERS has no alias 'nowhere' (known: default)."),
            (["t_join", "--firing", "1"], "not both."),
        ],
    )
    def test_what_is_unknown_is_an_error(self, uid: str, arguments: list[str], said: str) -> None:
        with pytest.raises(CommandError) as caught:
            run(uid, *arguments)
        assert said in str(caught.value)
        assert caught.value.returncode == 1

    @pytest.mark.django_db(transaction=True)
    def test_an_unknown_session_is_an_error(self) -> None:
        with pytest.raises(CommandError) as caught:
            run("order:nowhere")
        assert str(caught.value) == (
            "There is no session 'order:nowhere' in the database storage of 'default'. "
            "Is the uid right?"
        )
        with pytest.raises(CommandError, match="it has none; is the uid right"):
            run("order:nowhere", "t_join")
        with pytest.raises(CommandError, match="is no session uid"):
            run("")

    @pytest.mark.django_db(transaction=True)
    def test_a_session_that_is_nothing_but_declared_to_finalize_is_explained(self) -> None:
        uid = uuid4().hex
        OnlookingManager(DatabaseStorageBackend(uid)).update_configuration({}, finalize=True)
        assert run(uid).splitlines() == [
            f"Session {uid} has no tasks, and nothing was fired in it.",
            "  not finalized yet; left to do:",
            "    everything: it has no task to do, so it is finalized when it is closed",
        ]
        assert json.loads(run(uid, "--json"))["ending"]["firing"] is None

    @override_settings(
        TRIGGERS={"default": {}, "other": {"STORAGE": "memory"}, "lost": {"STORAGE": "lost"}}
    )
    def test_another_alias_may_be_named(self) -> None:
        live(MemoryStorageBackend("order:other"))
        assert "4 tasks" in run("order:other", "--using", "other")
        with pytest.raises(CommandError, match="lost"):
            run("order:other", "--using", "lost")

    def test_as_a_process(self, uid: str, tmp_path: Path) -> None:
        done = in_process(tmp_path, uid, "t_join")
        assert (done.returncode, done.stderr) == (0, "")
        assert "    t_join#0 " not in done.stdout
        assert done.stdout.startswith(f"t_join in session {uid}, ")
        done = in_process(tmp_path, uid, "--json")
        assert (done.returncode, json.loads(done.stdout)["firings"]) == (0, 7)

    def test_a_process_that_finds_nothing_fails(self, uid: str, tmp_path: Path) -> None:
        done = in_process(tmp_path, uid, "t_jion")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"CommandError: Session '{uid}' has no task 't_jion'")
        done = in_process(tmp_path, "order:nowhere")
        assert (done.returncode, done.stdout) == (1, "")
        assert "There is no session 'order:nowhere'" in done.stderr


PROGRAM = """
import sys
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""


def in_process(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "triggers", "explain", *arguments],
        cwd=directory,
        env=servers.subprocess_environment() | {"CELERY_BROKER_URL": "memory://"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
