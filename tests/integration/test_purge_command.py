"""``manage.py triggers purge``: what it prints, and what it says of what was typed wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from triggers import retention
from triggers.commands.purge import duration
from triggers.manager import TriggerManager, get_trigger_manager
from triggers.retention import Purged
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import frozen_time, run_tasks_locally
from triggers.testing.racing import Recorded
from triggers.types import Phase

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    MemoryStorageBackend.clear()
    with run_tasks_locally("synchronous"), frozen_time(START + 100 * DAY):
        yield
    MemoryStorageBackend.clear()


def ended(uid: str) -> TriggerManager:
    """A session that came to its end long ago."""
    manager = get_trigger_manager(uid)
    with frozen_time(START):
        manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
        manager.fire("a")
    return manager


def phase(manager: TriggerManager) -> Phase:
    return get_trigger_manager(manager.storage.uid).storage.standing().phase


@pytest.mark.django_db(transaction=True)
def test_it_says_what_it_has_done(capsys: pytest.CaptureFixture[str]) -> None:
    managers = [ended(f"s{n}") for n in range(3)]
    call_command("triggers", "purge", "--older-than", "90d", "--dry-run")
    assert "3 │ sessions that would be purged" in capsys.readouterr().out
    assert {phase(manager) for manager in managers} == {Phase.OPEN}
    call_command("triggers", "purge", "--older-than", "P90D", "--batch", "2")
    output = capsys.readouterr()
    assert "3 │ sessions that were purged" in output.out
    assert "1 │ unused configurations that were removed" in output.out
    assert output.err == "", "it was over too soon for a line of progress"
    assert {phase(manager) for manager in managers} == {Phase.PURGED}


def test_it_fails_if_a_session_did(
    settings: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    ended("hurt")
    monkeypatch.setattr(MemoryStorageBackend, "transact", _hurt)
    with pytest.raises(CommandError, match="1 sessions could not be purged; the log says why"):
        call_command("triggers", "purge", "--older-than", "90d")
    assert "1 │ sessions that failed" in capsys.readouterr().out


def _hurt(storage: MemoryStorageBackend, event: Any) -> Any:
    raise RuntimeError("it is hurt")


def test_it_shows_progress_where_there_is_no_terminal(
    settings: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    monkeypatch.setattr("triggers.commands.purge._LINE_EVERY", 0.0)
    ended("s1")
    ended("s2")
    call_command("triggers", "purge", "--older-than", "90d", "--dry-run")
    assert capsys.readouterr().err.splitlines() == [
        "1 purged, 0 kept, 0 failed",
        "2 purged, 0 kept, 0 failed",
    ]
    call_command("triggers", "purge", "--older-than", "90d", "-v0")
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_how_far_it_has_come(
    settings: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    monkeypatch.setattr("django.core.management.base.OutputWrapper.isatty", lambda self: True)
    ended("s1")
    call_command("triggers", "purge", "--older-than", "90d")
    assert "sessions that were purged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90d", 90 * DAY),
        ("12h", timedelta(hours=12)),
        ("2w", 14 * DAY),
        ("P90D", 90 * DAY),
        ("PT1H30M", timedelta(minutes=90)),
    ],
)
def test_durations_are_read_in_two_forms(text: str, length: timedelta) -> None:
    assert duration(text) == length


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("3m", "'3m' is no duration; write an ISO 8601 duration"),
        ("P3M", "counts months or years"),
        ("90", "or shorter '90d', '12h'"),
        ("0d", "'0d' is not between zero and a thousand years"),
        ("999999999999w", "is not between zero and a thousand years"),
        ("-1d", "is no duration"),
    ],
)
def test_what_is_no_duration_is_said(text: str, problem: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        duration(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--older-than", "90d", "--using", "nobody"], "TRIGGERS has no alias 'nobody'"),
        (["--older-than", "90d", "--batch", "0"], "'0' is not a whole number above 0"),
        ([], "the following arguments are required: --older-than"),
    ],
)
def test_what_is_typed_wrong_is_said(arguments: list[str], problem: str, settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    with pytest.raises(CommandError, match=problem):
        call_command("triggers", "purge", *arguments)


def test_an_interrupted_purge_says_so(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}

    def interrupted(*_args: Any, **_kwargs: Any) -> Purged:
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "purge", interrupted)
    with pytest.raises(CommandError, match="Interrupted") as caught:
        call_command("triggers", "purge", "--older-than", "90d")
    assert caught.value.returncode == 130
