"""Row E34: installing, the extras for tests and documentation, tox, ``make html``.

What is in the distributions, and what they do in an environment of their own, is in
``tests/packaging``, which needs the extra ``dev``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers import ROOT

NOT_COPIED = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "docs")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_e34_pip_installs_a_checkout(tmp_path: Path) -> None:
    # A copy, since pip builds in the folder itself; without an index, so without dependencies.
    checkout = shutil.copytree(ROOT, tmp_path / "checkout", ignore=NOT_COPIED)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--no-compile", "--target", tmp_path / "site"]
    run(*pip, *options, checkout, cwd=tmp_path)
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n" + (
        "import triggers; from importlib.metadata import version\n"
        "print(triggers.__file__, triggers.__version__, version('triggers'))"
    )
    where, inner, outer = run(sys.executable, "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(tmp_path / "site")
    assert inner == outer == metadata("triggers")["Version"]


def test_e34_the_extras_of_the_documents_are_there() -> None:
    extras = metadata("triggers").get_all("Provides-Extra") or []
    assert {"test-runner", "docs-builder"} <= set(extras)


def test_e34_tox_has_an_environment_for_each_python_and_django(tmp_path: Path) -> None:
    if find_spec("tox") is None:
        pytest.skip("tox is not installed (the extra test-runner has it)")
    tox = (sys.executable, "-m", "tox", "list", "--no-desc", "--workdir", tmp_path)
    listed = run(*tox, cwd=ROOT).split()
    known = {each for each in listed if re.fullmatch(r"py3\d+-django\d\d(-plain)?", each)}
    # Django 5.2 on every Python; the newer ones do without Python 3.11.
    pairs = {f"py{python}-django52" for python in (311, 312, 313)}
    pairs |= {f"py{python}-django{django}" for python in (312, 313) for django in (60, 61)}
    assert {each for each in known if not each.endswith("-plain")} == pairs
    assert {"py311-django52-plain", "py313-django61-plain"} <= known


def test_e34_make_html_is_how_the_documentation_is_built() -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    # tests/docs/test_make_html.py builds it, with Sphinx, which these tests do without.
    [command] = run("make", "--dry-run", "html", cwd=ROOT / "docs").splitlines()
    assert re.search(r"-m sphinx .*-n -W .*-b html \. _build/html$", command)
    docs = tomllib.loads((ROOT / "pyproject.toml").read_text())
    builder = docs["project"]["optional-dependencies"]["docs-builder"]
    assert any(each.startswith("sphinx>=") for each in builder)
