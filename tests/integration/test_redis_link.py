"""The connection of the Redis storage: answers in pieces, long ones, and none at all."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis

from tests import servers
from triggers import TriggerManager
from triggers.engine.lifecycle import Claim, Finish
from triggers.exceptions import StorageUnavailable
from triggers.runners import task_runners
from triggers.storages.redis import RedisStorageBackend
from triggers.storages.redis.link import Link
from triggers.storages.redis.scripts import bulk
from triggers.storages.redis.server import Server, server_of
from triggers.testing.racing import IdleRunner, Recorded

pytestmark = [pytest.mark.server("redis"), pytest.mark.django_db]

PREFIX = f"{servers.RUN_ID}:link"
EVERY = {"t_x": {"run": Recorded.name, "andEvery": "p"}}


@pytest.fixture(autouse=True)
def client() -> Iterator[Any]:
    task_runners.register(IdleRunner)
    with redis.Redis.from_url(servers.redis_url(), decode_responses=True) as found:
        yield found
        for key in found.scan_iter(f"{{{PREFIX}:*", count=1000):
            found.unlink(key)
    task_runners.unregister(IdleRunner.name)


@pytest.fixture
def link() -> Iterator[Link]:
    made = link_to(servers.redis_url())
    yield made
    made.connection.disconnect()


def link_to(url: str) -> Link:
    pool = redis.ConnectionPool.from_url(url, protocol=2, socket_timeout=0.3)
    return Link(pool.make_connection(), redis.exceptions)


def session(url: str, **options: Any) -> TriggerManager:
    manager = TriggerManager(RedisStorageBackend(uuid4().hex, url=url, prefix=PREFIX, **options))
    manager.default_task_runner_name = IdleRunner.name
    return manager


def message(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


@contextmanager
def dribbling() -> Iterator[str]:
    """Address of a way to the server on which answers come byte by byte."""
    parts = urlsplit(servers.redis_url())
    server = (parts.hostname or "127.0.0.1", parts.port or 6379)

    def serve(accepted: socket.socket) -> None:
        with accepted, socket.create_connection(server) as upstream:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while request := accepted.recv(1 << 20):
                upstream.sendall(request)
                for byte in upstream.recv(1 << 20):
                    accepted.sendall(bytes([byte]))

    def accept() -> None:
        while True:
            try:
                accepted, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[accepted], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}{parts.path}"
        listener.shutdown(socket.SHUT_RDWR)


def test_answers_that_come_byte_by_byte_are_whole() -> None:
    with dribbling() as url:
        manager = session(url)
        manager.update_configuration(EVERY)
        assert manager.fire("p", {"n": 1}).created == ("t_x#0",)
        manager.apply(Claim(key=("t_x", 0), token="mine"))
        manager.apply(Finish(key=("t_x", 0), token="mine", result='{"sum":3}'))
        [instance] = manager.storage
        assert (instance.status, instance.metadata["result"]) == ("finished", {"sum": 3})


@pytest.mark.parametrize("size", [65_000, 65_536, 300_000, 1_000_000])
def test_answers_that_are_longer_than_what_is_read_at_once(size: int) -> None:
    manager = session(servers.redis_url())
    manager.update_configuration(EVERY)
    manager.fire("p", {"text": "é" * (size // 2)})
    transition = manager.apply(Claim(key=("t_x", 0), token="mine"))
    started = manager.storage.present(transition.outcome, transition.plan)
    assert started.kwargs == {"p": {"text": "é" * (size // 2)}}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("EVAL", "return 'x'", "0"), b"x"),
        (("EVAL", "return ''", "0"), b""),
        (("EVAL", "return 7", "0"), 7),
        (("EVAL", "return false", "0"), None),
        (("EVAL", "return redis.status_reply('FINE')", "0"), b"FINE"),
        (("EVAL", "return 'two\\r\\nlines'", "0"), b"two\r\nlines"),
    ],
)
def test_every_kind_of_answer_is_understood(link: Link, words: tuple[str], answer: Any) -> None:
    assert link.ask(message(*words)) == answer


def test_what_the_server_refuses_is_the_error_of_redis_py(link: Link) -> None:
    with pytest.raises(redis.exceptions.NoScriptError):
        link.ask(message("EVALSHA", "0" * 40, "0"))
    with pytest.raises(redis.exceptions.ResponseError, match="mine"):
        link.ask(message("EVAL", "return redis.error_reply('ERR mine')", "0"))
    # The connection goes on: the server has answered.
    assert link.connection._sock is not None
    assert link.ask(message("PING")) == b"PONG"


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(own_server: Any) -> None:
    link = link_to(own_server.connection_url)
    assert link.ask(message("PING")) == b"PONG"
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.client_pause(600)
    with pytest.raises(redis.exceptions.TimeoutError):
        link.ask(message("EVAL", "return 'too late'", "0"))
    assert link.connection._sock is None
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.client_unpause()
    assert link.ask(message("PING")) == b"PONG"
    link.connection.disconnect()


def test_a_wait_that_is_interrupted_leaves_no_answer_behind(own_server: Any) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(_number: int, _frame: Any) -> None:
        raise Interrupted

    client = redis.Redis.from_url(own_server.connection_url)
    manager = session(own_server.connection_url)
    manager.update_configuration(EVERY)
    manager.fire("p", {"n": 1})
    before = signal.signal(signal.SIGALRM, interrupt)
    client.client_pause(600)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupted):
            manager.fire("p", {"n": 2})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        client.client_unpause()
        client.close()
    # Nobody knows whether the server has got to the second one; but this is the answer to this.
    result = manager.fire("p", {"n": 3})
    assert result.seq in (2, 3)
    assert manager.storage.latest_kwargs["p"] == {"n": 3}
    assert result.created == (f"t_x#{result.seq - 1}",)


def test_several_answers_of_which_one_was_interrupted_leave_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(BaseException):
        pass

    server = Server(servers.redis_url(), 5)
    read = Server._answer

    def interrupted(self: Server, link: Link) -> Any:
        read(self, link)
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Server, "_answer", interrupted)
        with pytest.raises(Interrupted):
            server.commands(["ECHO", "one"], ["ECHO", "two"])
    assert server.commands(["ECHO", "three"]) == [b"three"]


@pytest.mark.parametrize("option", ["protocol=3", "decode_responses=1"])
def test_what_the_url_says_of_answers_does_not_matter(option: str) -> None:
    mark = "&" if "?" in servers.redis_url() else "?"
    manager = session(f"{servers.redis_url()}{mark}{option}")
    manager.update_configuration(EVERY)
    assert manager.fire("p", {"n": 1}).seq == 1
    assert manager.storage.latest_kwargs == {"p": {"n": 1}}


def test_a_server_that_closes_the_connection_is_asked_again(own_server: Any) -> None:
    manager = session(own_server.connection_url)
    manager.update_configuration(EVERY)
    manager.fire("p")
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert manager.fire("p").seq == 2


def test_a_server_that_says_nothing_is_an_error_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with pytest.raises(StorageUnavailable, match="server_timeout"):
            session(url, server_timeout=0.2).fire("p")


@pytest.mark.parametrize("what", ["sockets never block", "times are longer"])
def test_where_the_system_cannot_watch_the_time_python_does(
    own_server: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "sockets never block":  # as under gevent
        monkeypatch.setattr("triggers.storages.redis.link.os.get_blocking", lambda _number: False)
    else:
        monkeypatch.setattr("triggers.storages.redis.link.socket.SO_RCVTIMEO", 1_000_000)
    link = link_to(own_server.connection_url)
    assert link.ask(message("PING")) == b"PONG"
    assert link.connection._sock.gettimeout() == 0.3
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.client_pause(600)
    with pytest.raises(redis.exceptions.TimeoutError):
        link.ask(message("EVAL", "return 1", "0"))


def test_a_timeout_in_the_url_counts(own_server: Any) -> None:
    manager = session(f"{own_server.connection_url}?socket_timeout=0.2", server_timeout=2)
    manager.update_configuration(EVERY)
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.client_pause(700)
    # Each try waits that long; together they go on for as long as the limit says.
    assert manager.fire("p").seq == 1
    [link] = server_of(manager.storage.url, 2)._idle
    wanted = struct.pack("@ll", 0, 200_000)
    option = link.connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, len(wanted))
    assert 190_000 <= struct.unpack("@ll", option)[1] <= 210_000


@pytest.mark.parametrize(
    "ask",
    [lambda manager: manager.storage.latest_kwargs, lambda manager: manager.fire("p")],
    ids=["plain commands", "a script"],
)
def test_a_server_that_falls_silent_is_given_up(
    own_server: Any, ask: Callable[[TriggerManager], Any]
) -> None:
    manager = session(own_server.connection_url, server_timeout=0.3)
    manager.update_configuration(EVERY)
    manager.fire("p")
    client = redis.Redis.from_url(own_server.connection_url)
    client.client_pause(5000)
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match=r"answer in time.*server_timeout"):
        ask(manager)
    assert 0.2 < time.monotonic() - started < 2
    client.client_unpause()
    client.close()
    assert manager.storage.latest_kwargs == {"p": {}}
