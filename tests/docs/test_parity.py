"""The page on parity names tests that are there, are collected, and that nobody expects to fail."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache

import pytest

from tests.servers import ROOT

PAGE = ROOT / "docs" / "parity.rst"
TESTS = ROOT / "tests"

LAST = {"E": 34, "P": 13, "B": 8, "Q": 11}
IDS = [f"{letter}{number:02}" for letter, last in LAST.items() for number in range(1, last + 1)]

_ROW = re.compile(
    r"^   \* - (?P<id>[EPBQ]\d\d)\n     - (?P<text>.+)\n     - (?P<state>done|not yet)\n"
    r"(?P<tests>(?:     .*\n?)+)",
    re.MULTILINE,
)
_TEST = re.compile(r"``(?P<path>[\w/]+\.py)::(?P<name>\w+)``")


def rows() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """State and tests of each row, by its id."""
    found = list(_ROW.finditer(PAGE.read_text()))
    assert len({match["id"] for match in found}) == len(found)
    return {match["id"]: (match["state"], named_in(match["tests"])) for match in found}


def named_in(text: str) -> list[tuple[str, str]]:
    """Path below ``tests``, and name, of each test that a text names."""
    return [(file_of(path), name) for path, name in _TEST.findall(text)]


def file_of(path: str) -> str:
    """Where a file is: those in ``acceptance`` are named without that."""
    return f"acceptance/{path}" if (TESTS / "acceptance" / path).exists() else path


@cache
def functions_of(path: str) -> dict[str, ast.FunctionDef]:
    """The test functions of a file, by name."""
    tree = ast.parse((TESTS / path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_on_the_page_in_order() -> None:
    assert list(rows()) == IDS


def test_what_is_done_names_tests_and_what_is_not_yet_names_none() -> None:
    for row, (state, tests) in rows().items():
        assert bool(tests) == (state == "done"), row


@pytest.mark.parametrize("row", [row for row, (state, _tests) in rows().items() if state == "done"])
def test_the_tests_of_a_row_are_there_and_are_meant_to_pass(row: str) -> None:
    for path, name in rows()[row][1]:
        assert name in functions_of(path), f"{path} has no {name}"
        marks = [ast.unparse(mark) for mark in functions_of(path)[name].decorator_list]
        assert not [mark for mark in marks if re.search(r"mark\.(xfail|skip)", mark)], name


def test_each_row_has_a_test_that_is_named_after_it() -> None:
    for row, (state, tests) in rows().items():
        if state == "done":
            assert any(row.lower() in name.split("_") for _path, name in tests), row


def test_pytest_collects_every_test_that_the_page_names() -> None:
    named = named_in(PAGE.read_text(encoding="utf-8"))
    files = sorted({str(TESTS / path) for path, _name in named})
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", *files]
    done = subprocess.run(
        collect, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2_000:]
    collected = set(re.findall(r"^tests/([\w/]+\.py)::(\w+)", done.stdout, re.MULTILINE))
    assert set(named) - collected == set()
