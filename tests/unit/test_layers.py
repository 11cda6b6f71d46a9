"""Imports point in one direction only, and the core knows neither Django nor Celery."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import triggers

PACKAGE = Path(triggers.__file__).parent

# Each layer may import from itself and from those above it in this list.
LAYERS = [
    ["exceptions", "payload", "clock", "limits"],
    ["types"],
    ["conditions", "configuration"],
    ["engine", "registry", "workflows"],
    ["conf", "logging"],
    ["judging", "explain"],
    ["locking", "transactions", "storages.session", "storages.whole", "storages.document"],
    ["storages", "storages.base", "runners.base", "runners"],
    ["changes", "signals"],
    ["asynchronous", "heartbeat", "attempt", "outbox", "manager", "context", "arguments", "task"],
    ["models", "storages.failures", "storages.sql", "storages.configurations", "storages.rows"],
    ["storages.cache_server"],
    ["storages.memory", "storages.database", "storages.cache", "storages.redis"],
    ["runners.celery_broker", "runners.celery_signals", "runners.celery_requests"],
    ["runners.synchronous", "runners.threads", "runners.celery"],
    ["rounds"],
    ["recovery"],
    ["timers"],
    ["supervisor", "retention"],
    ["celery_tasks"],
    ["checks", "apps", "backtest", "commands", "management"],
    ["testing"],
]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.startswith("migrations.") and name != "__init__":
            yield name.removesuffix(".__init__"), path


def layer_of(module: str) -> str:
    """The longest entry of ``LAYERS`` that the module belongs to."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in RANKS:
            return name
    raise AssertionError(f"triggers.{module} belongs to no layer; add it to LAYERS")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Modules of this package that a file imports when it runs, with the line numbers."""
    known = {name for name, _path in modules()}
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "triggers":
            assert node.level == 0, f"{path}:{node.lineno}: write absolute imports"
            module = (node.module or "").removeprefix("triggers").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                yield node.lineno, inner if inner in known else module
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "triggers":
                    yield node.lineno, alias.name.removeprefix("triggers").removeprefix(".")


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_to_the_left(module: str, path: Path) -> None:
    own = RANKS[layer_of(module)]
    wrong = [
        f"triggers/{path.relative_to(PACKAGE)}:{line} imports {imported}, which is to its right"
        for line, imported in imports(path)
        if imported and RANKS[layer_of(imported)] > own
    ]
    assert wrong == []


def test_a_wrong_arrow_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "engine.py"
    path.write_text("def late():\n    from triggers.storages import database\n")
    [(line, imported)] = imports(path)
    assert (line, imported) == (2, "storages.database")
    assert RANKS[layer_of(imported)] > RANKS[layer_of("engine")]


@pytest.mark.parametrize(
    ("imported", "forbidden"),
    [
        ("triggers", ["django", "celery", "kombu", "redis"]),
        ("triggers.engine", ["django", "celery", "kombu", "redis"]),
        ("triggers.conditions", ["django", "celery", "kombu", "redis"]),
        ("triggers.workflows", ["django", "celery", "kombu", "redis"]),
        ("triggers.testing.pytest_plugin", ["django", "celery", "triggers.manager"]),
        ("triggers.manager", ["redis", "triggers.models"]),
    ],
)
def test_importing_a_module_does_not_load(imported: str, forbidden: list[str]) -> None:
    code = f"import sys, {imported}; print(sorted(sys.modules.keys() & {set(forbidden)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
