"""``make html`` in ``docs`` builds every page, and a warning is an error of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

pytest.importorskip("sphinx", reason="the documentation is built with Sphinx")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy, so that no build of somebody else is in the way; it includes files from beside it."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    for entry in ROOT.iterdir():
        if entry.name != "docs":
            (tmp_path / entry.name).symlink_to(entry)
    skipped = shutil.ignore_patterns("_build", "__pycache__")
    return Path(shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=skipped))


def make_html(docs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "html", f"PYTHON={sys.executable}"],
        cwd=docs,
        env={key: value for key, value in os.environ.items() if "DJANGO" not in key},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


def test_make_html_builds_the_documentation_and_bears_no_warning(docs: Path) -> None:
    done = make_html(docs)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower()
    html = docs / "_build" / "html"
    built = {each.relative_to(html) for each in html.rglob("*.html")}
    pages = {each.relative_to(docs).with_suffix(".html") for each in docs.rglob("*.rst")}
    assert pages - built == set()


def test_a_reference_that_leads_nowhere_ends_the_build_with_an_error(docs: Path) -> None:
    # One page is enough, and quicker.
    for page in docs.rglob("*.rst"):
        page.unlink()
    (docs / "index.rst").write_text("Title\n=====\n\n:doc:`/no/such/page`\n")
    done = make_html(docs)
    assert done.returncode != 0
    assert "unknown document" in done.stdout
