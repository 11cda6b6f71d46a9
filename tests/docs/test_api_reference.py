"""The reference has every public name, with types, units, defaults and errors.

Types are autodoc's to show, from the annotations that mypy checks. The rest has to stand in the
docstrings: ``public_names.py`` says which names are public, ``docstring_rules.py`` what is asked
of them.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs import public_names
from tests.docs.docstring_rules import complaints, parameters_of
from tests.docs.public_names import Name, decorators_of, names_of, public_modules
from tests.servers import ROOT

MODULES = public_modules()

# What every application, plug-in or test of one imports from. None of it may fall off the page.
EXPECTED = [
    "triggers.celery_tasks",
    "triggers.conditions",
    "triggers.conf",
    "triggers.exceptions",
    "triggers.explain",
    "triggers.limits",
    "triggers.locking",
    "triggers.logging",
    "triggers.manager",
    "triggers.recovery",
    "triggers.registry",
    "triggers.retention",
    "triggers.runners",
    "triggers.signals",
    "triggers.storages",
    "triggers.storages.base",
    "triggers.storages.cache",
    "triggers.storages.database",
    "triggers.storages.memory",
    "triggers.storages.redis",
    "triggers.storages.session",
    "triggers.supervisor",
    "triggers.task",
    "triggers.testing",
    "triggers.timers",
    "triggers.types",
    "triggers.workflows",
]


def all_names() -> dict[str, Name]:
    """Every public name, by its full name."""
    found = {}
    for module in ["triggers", *MODULES]:
        for name in names_of(module, MODULES.get(module, [])):
            found[name.full] = name
    return found


NAMES = all_names()


@dataclass(frozen=True)
class Built:
    """The page as Sphinx makes it: the names that it has a place for, and what stands there."""

    names: frozenset[str]
    sections: dict[str, str]

    def section_of(self, name: Name) -> str:
        """What stands below a name; empty if it has no place."""
        return next(
            (self.sections[each] for each in name.places(MODULES) if each in self.sections), ""
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The reference, built by Sphinx."""
    pytest.importorskip("sphinx", reason="the documentation is built with Sphinx")
    source, html = (tmp_path_factory.mktemp(name) for name in ("source", "html"))
    (source / "api.rst").write_text(public_names.PAGE.read_text(encoding="utf-8"))
    conf = ["-c", str(ROOT / "docs"), "-D", "root_doc=api", "-D", "html_theme=basic"]
    # References to other pages cannot be resolved here, so warnings are another test's matter.
    command = [sys.executable, "-m", "sphinx", "-Q", "-b", "html", *conf, str(source), str(html)]
    subprocess.run(command, check=True, timeout=300, cwd=ROOT)
    page = (html / "api.html").read_text(encoding="utf-8")
    parts = re.split(r'<dt class="sig [^"]*" id="([\w.]+)">', page)
    return Built(inventory(html / "objects.inv"), dict(zip(parts[1::2], parts[2::2], strict=True)))


def inventory(path: Path) -> frozenset[str]:
    """The names of Python objects in an inventory of Sphinx's."""
    compressed = path.read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(compressed).decode().splitlines()
    return frozenset(line.split()[0] for line in lines if line.split()[1].startswith("py:"))


def test_the_page_presents_the_modules_that_people_import_from() -> None:
    assert set(EXPECTED) <= set(MODULES)


def test_every_public_name_has_a_place_in_the_built_reference(built: Built) -> None:
    assert len(built.names) > 500
    missing = [each.full for each in NAMES.values() if built.names.isdisjoint(each.places(MODULES))]
    assert missing == []


def test_the_built_reference_shows_the_type_of_every_parameter_and_result(built: Built) -> None:
    untyped = []
    for name in NAMES.values():
        section = built.section_of(name)
        if not isinstance(name.node, ast.FunctionDef | ast.AsyncFunctionDef) or not section:
            continue
        is_method = name.owner is not None and "staticmethod" not in decorators_of(name.node)
        for argument, _default in parameters_of(name.node, is_method=is_method):
            if not re.search(rf"<strong>\*{{0,2}}{argument.arg}</strong> \(", section):
                untyped.append(f"{name.full}: {argument.arg}")
        is_property = not decorators_of(name.node).isdisjoint({"property", "cached_property"})
        shows = '<span class="pre">:</span>' if is_property else "Return type"
        if shows not in section:
            untyped.append(f"{name.full}: result")
    assert untyped == []


@pytest.mark.parametrize("module", sorted({each.module for each in NAMES.values()}))
def test_docstrings_say_units_defaults_results_and_errors(module: str) -> None:
    names = [each for each in NAMES.values() if each.module == module]
    assert names
    unsaid = [f"{each.path} {what}" for each in names for what in complaints(each)]
    assert unsaid == []
