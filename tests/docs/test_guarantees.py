"""Each promise of the page on guarantees names commands that show it, and that find tests."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from tests.servers import ROOT

PAGE = ROOT / "docs" / "explanation" / "guarantees.rst"

_PROMISE = re.compile(
    r"^\*\*(?P<promise>[^*]+)\*\*(?:(?!^\*\*).)*?"
    r"^:Shown by: (?P<shown>.*?)\n:Costs: (?P<costs>.*?)\n\n",
    re.MULTILINE | re.DOTALL,
)


@cache
def promises() -> dict[str, str]:
    """What shows each promise, by the promise."""
    text = PAGE.read_text(encoding="utf-8")
    part = text[text.index("Promises\n---") : text.index("Not promised\n---")]
    found = {match["promise"]: match["shown"] for match in _PROMISE.finditer(part)}
    assert list(found) == re.findall(r"^\*\*([^*]+)\*\*", part, re.MULTILINE), (
        "every promise says what shows it, and what it costs"
    )
    return found


def commands() -> list[list[str]]:
    """Every command on the page that runs pytest, as its arguments."""
    shown = " ".join(promises().values())
    return [
        shlex.split(" ".join(command.split()))
        for command in re.findall(r"``python -m pytest (.*?)``", shown, re.DOTALL)
    ]


@cache
def collected_from(files: tuple[str, ...]) -> list[str]:
    """What pytest collects from some files."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--no-header", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return [line for line in done.stdout.splitlines() if "::" in line]


def all_files() -> tuple[str, ...]:
    return tuple(sorted({each for command in commands() for each in command if ".py" in each}))


def test_every_promise_is_shown_by_a_command() -> None:
    assert len(promises()) >= 15
    for promise, shown in promises().items():
        assert re.search(r"``(python -m|make|ruff) ", shown), promise


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_command_finds_tests(command: list[str]) -> None:
    files = [each for each in command if each.endswith(".py")]
    collected = collected_from(all_files())
    for file in files:
        assert (ROOT / file).is_file()
        found = [each for each in collected if each.startswith(f"{file}::")]
        assert found, f"{file} has no tests"
    if "-k" in command:
        words = command[command.index("-k") + 1].split(" or ")
        for word in words:
            assert re.fullmatch(r"\w+", word), (
                "words joined by 'or', so that this test can read them"
            )
            assert any(word in each for each in collected if each.startswith(tuple(files))), word


def test_the_benchmark_that_is_named_exists() -> None:
    from benchmarks.__main__ import BENCHMARKS

    named = set(re.findall(r"``python -m benchmarks (\w+)``", " ".join(promises().values())))
    assert named
    assert named <= set(BENCHMARKS)
