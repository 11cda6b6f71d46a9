"""Counts what ran of the documentation's code, and lists what did not."""

import sys

import pytest

from tests.docs.snippets import Outcome
from tests.servers import ROOT

# The extensions that draw the pictures, as docs/conf.py finds them.
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

outcomes_key = pytest.StashKey[list[Outcome]]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    outcomes = config.stash.get(outcomes_key, [])
    if not outcomes:
        return
    run = sum(outcome.run for outcome in outcomes)
    not_run = [line for outcome in outcomes for line in outcome.not_run]
    terminalreporter.write_line(
        f"documentation: {run} code blocks run, {len(not_run)} not run, on {len(outcomes)} pages"
    )
    for line in not_run:
        terminalreporter.write_line(f"  not run: {line}")


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    return request.config.stash.setdefault(outcomes_key, [])
