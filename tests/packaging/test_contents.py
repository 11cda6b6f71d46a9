"""The sdist and the wheel hold what they should."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.packaging.distributions import Distributions, files_of_wheel


def test_the_wheel_holds_the_package_whole_and_nothing_beside_it(built: Distributions) -> None:
    found = files_of_wheel(built.wheel)
    package = {name: data for name, data in found.items() if ".dist-info/" not in name}
    assert package == {
        path.relative_to(built.source).as_posix(): path.read_bytes()
        for path in (built.source / "triggers").rglob("*")
        if path.is_file() and not _is_made(path.relative_to(built.source))
    }
    info = {name.partition(".dist-info/")[2] for name in found.keys() - package.keys()}
    wanted = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert info == wanted | {"top_level.txt"}


def test_what_is_no_python_file_is_in_the_wheel(built: Distributions) -> None:
    names = files_of_wheel(built.wheel).keys()
    assert "triggers/py.typed" in names
    assert "triggers/schema/configuration.schema.json" in names
    assert "triggers/migrations/0001_initial.py" in names
    assert {"commit", "fire"} <= {Path(each).stem for each in names if each.endswith(".lua")}


def test_the_sdist_makes_the_same_wheel_as_the_checkout(built: Distributions) -> None:
    assert files_of_wheel(built.wheel_of_sdist) == files_of_wheel(built.wheel)
    assert built.wheel_of_sdist.name == built.wheel.name


def test_the_sdist_holds_all_that_the_tests_and_the_documentation_need(
    built: Distributions,
) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {each.name for each in archive.getmembers() if each.isfile()}
    root = built.sdist.name.removesuffix(".tar.gz")
    found = {name.removeprefix(f"{root}/") for name in names}
    wanted = {"LICENSE", "README.rst", "CHANGELOG.rst", "pyproject.toml", "tox.ini", "Makefile"}
    for folder in ("triggers", "tests", "docs", "examples", "benchmarks"):
        wanted |= {
            path.relative_to(built.source).as_posix()
            for path in (built.source / folder).rglob("*")
            if path.is_file() and not _is_made(path.relative_to(built.source))
        }
    assert wanted - found == set()
    assert [name for name in found if _is_made(Path(name))] == []


def _is_made(path: Path) -> bool:
    """Whether it is no source, but something that a run or a build leaves behind."""
    made = {"__pycache__", "_build", "build", "dist"}
    return (
        not made.isdisjoint(path.parts)
        or path.suffix in {".pyc", ".pyo"}
        or ".sqlite3" in path.name
    )
