"""What type checkers see of the installed package: a project with types, and one with mistakes."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from tests.packaging.distributions import Distributions, install_beside, require, run
from tests.servers import ROOT

SAMPLE = ROOT / "tests" / "typing"
WRONG = "shop/wrong.py"

_MARK = re.compile(r"# error: ([\w-]+(?:, [\w-]+)*)$")
_ERROR = re.compile(r"(?P<path>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$")

Errors = dict[tuple[str, int], set[str]]


@pytest.fixture(scope="module")
def beside(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel in place of the checkout."""
    require("mypy", "mypy_django_plugin")
    return install_beside(built.wheel, tmp_path_factory.mktemp("beside"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, outside the checkout."""
    return Path(shutil.copytree(SAMPLE, tmp_path_factory.mktemp("sample") / "project"))


@pytest.fixture(scope="module")
def report(beside: Path, sample: Path) -> str:
    """What mypy says of the project."""
    return run(beside, "-m", "mypy", "--no-pretty", cwd=sample, status=1)


def expected() -> Errors:
    return {
        (WRONG, number): set(found[1].split(", "))
        for number, line in enumerate((SAMPLE / WRONG).read_text().splitlines(), start=1)
        if (found := _MARK.search(line))
    }


def test_mypy_accepts_the_project_and_finds_every_mistake(report: str) -> None:
    found: Errors = defaultdict(set)
    for line in report.splitlines():
        if error := _ERROR.match(line):
            found[error["path"], int(error["line"])].add(error["code"])
    assert len(expected()) > 40
    assert dict(found) == expected(), report


def test_types_come_from_the_installed_package(beside: Path, sample: Path) -> None:
    code = "import triggers; print(triggers.__file__)"
    package = Path(run(beside, "-c", code, cwd=sample).strip()).parent
    assert package.is_relative_to(beside.parent.parent)
    assert (package / "py.typed").is_file()


def test_without_the_mark_the_package_would_have_no_types(
    built: Distributions, tmp_path: Path
) -> None:
    """So the test above rests on ``py.typed``."""
    require("mypy")
    unmarked = install_beside(built.wheel, tmp_path)
    [mark] = tmp_path.rglob("triggers/py.typed")
    mark.unlink()
    (tmp_path / "some.py").write_text("import triggers\n")
    said = run(unmarked, "-m", "mypy", "--strict", "some.py", cwd=tmp_path, status=1)
    assert '"triggers"' in said
    assert "import-untyped" in said


def test_the_project_works(beside: Path, sample: Path) -> None:
    said = run(beside, "-W", "error", "manage.py", "test", cwd=sample)
    assert re.search(r"Ran [1-9]\d* tests", said), said
    assert "\nOK" in said
