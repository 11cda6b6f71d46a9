"""Every code block of the READMEs and of the documentation runs as printed."""

from pathlib import Path

import pytest

from tests.docs import snippets
from tests.servers import ROOT

DOCS = ROOT / "docs"
READMES = [ROOT / "README.rst", *sorted((ROOT / "examples").glob("*/README.rst"))]
PAGES = [*READMES, *sorted(DOCS.rglob("*.rst"))]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path.relative_to(ROOT)))
        for path in PAGES
        if DOCS / "_build" not in path.parents
    ],
)
def test_code_of_the_page_runs_as_printed(path: Path, outcomes: list[snippets.Outcome]) -> None:
    outcomes.append(snippets.run(snippets.read(path), root=ROOT))
