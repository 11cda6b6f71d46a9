"""Which servers a run may use: found at its start, named in its header and its summary."""

from collections import Counter
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests import servers

_left_out = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_left_out] = Counter()
    try:
        missing = [server for name in servers.required() if (server := servers.find(name)).problem]
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if missing:
        raise pytest.UsageError(
            f"{servers.REQUIRE} asks for what is not there: {'; '.join(map(str, missing))}"
        )
    servers.RUN_DIRECTORY.mkdir(mode=0o700, exist_ok=True)


def pytest_report_header() -> list[str]:
    return [f"server: {servers.find(name)}" for name in servers.NAMES]


@pytest.hookimpl(trylast=True)  # what -k and -m leave out is not ours to count
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("server"):
            for name in mark.args:
                if name not in servers.NAMES:
                    raise pytest.UsageError(f"{item.nodeid}: no server is called {name!r}")
                server = servers.find(name)
                if not server.available:
                    item.add_marker(pytest.mark.skip(reason=str(server)))
                    config.stash[_left_out][str(server)] += 1


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for reason, tests in config.stash[_left_out].items():
        terminalreporter.write_line(f"tests left out: {tests}, because {reason}", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def _servers(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Leave nothing behind; being set up first, this is torn down after the test databases."""
    yield
    with django_db_blocker.unblock():
        servers.clean_up()


@pytest.fixture
def redis_url() -> str:
    """Return the address of the Redis of this run; mark the test with ``server("redis")``."""
    return servers.redis_url()
