"""Which servers a run may use: found at its start, named in its header and its summary."""

from collections import Counter
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests import chance, servers


def pytest_configure(config: pytest.Config) -> None:
    chance.set_up(config.getoption("--hypothesis-seed"))
    try:
        missing = [server for name in servers.required() if (server := servers.find(name)).problem]
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if missing:
        raise pytest.UsageError(
            f"{servers.REQUIRE} asks for what is not there: {'; '.join(map(str, missing))}"
        )
    servers.make_run_directory()


def pytest_report_header() -> list[str]:
    return [f"server: {servers.find(name)}" for name in servers.NAMES]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("server"):
            for name in mark.args:
                if name not in servers.NAMES:
                    raise pytest.UsageError(f"{item.nodeid}: no server is called {name!r}")
                server = servers.find(name)
                if not server.available:
                    item.add_marker(pytest.mark.skip(reason=str(server)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once per reason how many tests were left out."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"left out, {number}: {reason}", yellow=True)


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


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test() -> Iterator[None]:
    """What a test has started and left running (a worker that is lost) is not kept alive."""
    yield
    from triggers import heartbeat

    for watched in list(heartbeat._watched.values()):
        heartbeat.end(watched.attempt)
