"""The code in docstrings, which the reference shows, does what it says."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_type_hints

import pytest
from celery import Celery
from django.test import override_settings

from tests.acceptance.rows.sessions import show
from tests.servers import ROOT
from triggers import conf
from triggers.runners import DEFAULT_TASK_RUNNER
from triggers.testing.contract import StorageContract

_LITERAL = re.compile(
    r"^(?P<indent> *)(?:\S.*)?(?<!:)::[^\S\n]*\n\n(?P<text>(?:(?P=indent) +\S.*\n|\n)+)",
    re.MULTILINE,
)

NOT_CODE = {"triggers.storages.redis.keys"}  # it lists keys
"""Modules whose literal blocks are no Python."""

APP = Celery("docstrings", set_as_current=False)
GIVEN: dict[str, dict[str, Any]] = {
    "triggers.celery_tasks": {"app": APP},
    "triggers.testing.orders": {
        "CONFIGURATION": {
            "t_import": {"after": ["firstPageReceived", "pageReceived"], "run": show.name}
        }
    },
}
"""What a reader of such a block has, beside the names of the module."""


def literal_blocks() -> Iterator[tuple[str, str]]:
    """The literal blocks of all docstrings, with their modules."""
    for path in sorted((ROOT / "triggers").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for found in _LITERAL.finditer((ast.get_docstring(node) or "") + "\n"):
                    yield module, textwrap.dedent(found["text"]).strip()


BLOCKS = list(literal_blocks())


def namespace_after(module: str) -> dict[str, Any]:
    """Execute the block of a module where a reader would; what is known afterwards."""
    [block] = [text for name, text in BLOCKS if name == module]
    known = {**vars(importlib.import_module(module)), **GIVEN.get(module, {})}
    exec(compile(block, f"<docstring of {module}>", "exec"), known)
    return known


def test_there_is_a_test_for_each_block() -> None:
    modules = sorted(module for module, _text in BLOCKS)
    assert modules == sorted(
        NOT_CODE
        | {"triggers.celery_tasks", "triggers.conf"}
        | {"triggers.testing.contract", "triggers.testing.orders"}
    )


def test_the_setting_is_what_counts_without_one() -> None:
    with override_settings(TRIGGERS=namespace_after("triggers.conf")["TRIGGERS"]):
        shown = conf.get_alias()
    assert shown.runner == DEFAULT_TASK_RUNNER
    assert replace(shown, runner=None) == conf.Alias(name="default")


def test_the_schedule_has_the_entries_of_ours_and_the_others() -> None:
    namespace_after("triggers.celery_tasks")
    assert set(APP.conf.beat_schedule) == {"triggers.fire_due", "triggers.redeliver", "mine"}


def test_the_contract_is_used_as_shown() -> None:
    own = namespace_after("triggers.testing.contract")["TestMyStorage"]
    assert issubclass(own, StorageContract)
    named = {name for name in vars(own) if not name.startswith("__")}
    declared = [get_type_hints(StorageContract), *map(vars, StorageContract.__mro__)]
    assert named <= {name for each in declared for name in each}


@pytest.mark.django_db
def test_the_test_of_every_order_passes() -> None:
    run_all = namespace_after("triggers.testing.orders")["test_import"]
    run_all()
