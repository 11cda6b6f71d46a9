"""The Redis storage: what goes wrong with servers and connections, keys, lists, deploys, forks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from redis.crc import key_slot

from tests import servers
from triggers import TriggerManager
from triggers.clock import frozen_time
from triggers.engine import Transition, Verdicts
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Finish
from triggers.engine.phases import Purge
from triggers.engine.plan import EMPTY_PLAN
from triggers.exceptions import (
    SessionClosed,
    SettingsError,
    StateVersionError,
    StorageUnavailable,
)
from triggers.runners import task_runners
from triggers.storages import storage_backends
from triggers.storages.redis import RedisStorageBackend, keys, plans
from triggers.storages.redis.server import Server
from triggers.testing.racing import IdleRunner, Recorded, in_threads

pytestmark = [pytest.mark.server("redis"), pytest.mark.django_db]

PREFIX = f"{servers.RUN_ID}:storage"
JOIN = {"t_x": {"run": Recorded.name, "after": ["a", "b"]}}
EVERY = {"t_x": {"run": Recorded.name, "andEvery": "p"}}


@pytest.fixture(autouse=True)
def _idle() -> Iterator[None]:
    task_runners.register(IdleRunner)
    yield
    task_runners.unregister(IdleRunner.name)


@pytest.fixture
def client() -> Iterator[Any]:
    with redis.Redis.from_url(servers.redis_url(), decode_responses=True) as found:
        yield found
        for key in found.scan_iter(f"{{{PREFIX}:*", count=1000):
            found.unlink(key)


def session(tasks: Any = None, uid: str | None = None, **options: Any) -> TriggerManager:
    """A manager whose instances wait to be started."""
    chosen = {"url": servers.redis_url(), "prefix": PREFIX, **options}
    manager = TriggerManager(RedisStorageBackend(uid or uuid4().hex, **chosen))
    manager.default_task_runner_name = IdleRunner.name
    if tasks:
        manager.update_configuration(tasks)
    return manager


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in manager.storage}


def count_commands(client: Any, do: Callable[[], Any]) -> dict[str, int]:
    """Commands that this client's server has run for ``do``, scripts counted by EVALSHA."""
    client.config_resetstat()
    do()
    found = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()}


class Proxy:
    """Stands between client and server, and breaks the connection after a request if told to.

    :ivar drops: how many answers are still to be lost.
    :ivar holds: whether the next message is to be held up, and its connection to break.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}{parts.path}"
        self._database = parts.path.strip("/") or "0"
        self.drops = 0
        self.dropped = threading.Event()
        self.holds = False
        self._held = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def send_late(self) -> bytes:
        """Pass on the message that was held up; returns what the server answers."""
        with redis.Redis(*self._target, db=int(self._database)) as late:
            connection = late.connection_pool.get_connection()
            connection.send_packed_command([self._held])
            answer: bytes = connection.read_response()
            return answer

    def _accept(self) -> None:
        while True:
            try:
                accepted, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[accepted], daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, socket.create_connection(self._target) as server:
            while request := accepted.recv(1 << 20):
                if self.holds and b"EVALSHA" in request:
                    self.holds, self._held = False, request
                    return
                server.sendall(request)
                answer = server.recv(1 << 20)
                if self.drops and b"EVALSHA" in request:
                    # The server has done it, and nobody hears of it.
                    self.drops -= 1
                    self.dropped.set()
                    return
                accepted.sendall(answer)


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


# -- one round trip ------------------------------------------------------------------------------


def live(manager: TriggerManager, do: Callable[[Callable[[], Any]], Any]) -> None:
    """Fire, claim and finish, each by ``do``."""
    do(lambda: manager.fire("a", {"n": 1}))
    do(lambda: manager.fire("b", {"n": 2}, idempotency_key="once"))
    do(lambda: manager.apply(Claim(key=("t_x", 0), token="mine")))
    do(lambda: manager.apply(Finish(key=("t_x", 0), token="mine", result="{}")))
    assert statuses(manager) == {"t_x#0": "finished"}


def test_a_plain_firing_a_claim_and_a_finish_take_one_script_each(own_server: Any) -> None:
    # The first time, the server has to learn the scripts.
    live(session(JOIN, url=own_server.connection_url), lambda do: do())
    with redis.Redis.from_url(own_server.connection_url) as client:

        def once(do: Callable[[], Any]) -> None:
            commands = count_commands(client, do)
            assert commands.pop("evalsha") == 1
            # What the script itself called is counted, too; nothing else was asked.
            assert not {"get", "hgetall", "script|load"} & commands.keys()

        live(session(JOIN, url=own_server.connection_url), once)


def test_what_a_claimed_instance_holds_comes_with_the_claim(own_server: Any) -> None:
    manager = session(JOIN, url=own_server.connection_url)
    manager.fire("a", {"n": 1})
    manager.fire("b", {"n": 2})
    started = manager.apply(Claim(key=("t_x", 0), token="mine"))
    with redis.Redis.from_url(own_server.connection_url) as client:
        instance = manager.storage.present(started.outcome, started.plan)
        commands = count_commands(client, lambda: instance.kwargs)
    assert instance.kwargs == {"a": {"n": 1}, "b": {"n": 2}}
    assert "hmget" not in commands


@pytest.mark.parametrize("finished", [10, 3000])
def test_the_commands_of_a_firing_do_not_depend_on_what_has_finished(
    own_server: Any, finished: int
) -> None:
    manager = session({**EVERY, "t_y": JOIN["t_x"]}, url=own_server.connection_url)
    for number in range(finished):
        manager.fire("p", {"n": number})
    manager.fire("a")
    with redis.Redis.from_url(own_server.connection_url) as client:
        commands = count_commands(client, lambda: manager.fire("b"))
    commands.pop("config|resetstat", None)
    assert commands == {
        "evalsha": 1,
        "hmget": 1,
        "time": 1,
        "smembers": 1,
        "hget": 1,
        "set": 1,
        "hset": 2,
        "srem": 1,
        "sadd": 1,
        "zadd": 1,
    }


# -- servers and connections ---------------------------------------------------------------------


@pytest.mark.parametrize("drops", [1, 3])
def test_a_commit_whose_answer_is_lost_is_done_once(client: Any, drops: int) -> None:
    with proxied(servers.redis_url()) as proxy:
        manager = session(EVERY, url=proxy.url)
        manager.fire("p")
        for do in (
            lambda: manager.fire("p", {"by": "a script"}),
            lambda: manager.replay_failed_instance("t_x#0"),
        ):
            before = len(statuses(manager))
            if before == 2:
                failed(manager, "t_x#0")
            proxy.drops = drops
            proxy.dropped.clear()
            made = do()
            assert proxy.dropped.is_set()
            assert proxy.drops == 0
            assert len(statuses(manager)) == before + 1
            assert (getattr(made, "scheduled", None) or (made.name,)) == (f"t_x#{before}",)


def test_a_message_that_comes_after_its_repetition_has_no_effect(client: Any) -> None:
    with proxied(servers.redis_url()) as proxy:
        manager = session(EVERY, url=proxy.url)
        manager.fire("p")
        proxy.holds = True
        assert manager.fire("p").scheduled == ("t_x#1",)
        assert not proxy.holds
        before = client.hgetall(keys_of(client, manager)[0])
        assert proxy.send_late() == b"late"
        assert client.hgetall(keys_of(client, manager)[0]) == before
    assert [each.seq for each in manager.storage.find_firings()] == [1, 2]


def keys_of(client: Any, manager: TriggerManager) -> list[str]:
    """The keys of a session, its head first."""
    found = client.scan_iter(f"{{{PREFIX}:*{manager.storage.uid}*", count=1000)
    return sorted(found, key=len)


def test_a_server_that_took_over_without_the_last_commits_takes_no_decision_on_them(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = {"t_x": {"run": Recorded.name, "after": ["a", "b"], "within": "PT1H"}}
    uid = uuid4().hex
    manager, other = session(tasks, uid), session(tasks, uid)
    manager.fire("first")
    binary = redis.Redis.from_url(servers.redis_url())
    names = [name.encode() for name in keys_of(client, manager)]
    replicated = {name: binary.dump(name) for name in names}
    manager.fire("lost")
    write = Server.write

    def taking_over(server: Server, name: str, *args: Any) -> Any:
        monkeypatch.undo()
        binary.delete(*names)
        for each, content in replicated.items():
            binary.restore(each, 0, content)
        other.fire("a")
        return write(server, name, *args)

    monkeypatch.setattr(Server, "write", taking_over)
    with binary:
        manager.fire("b")
    assert statuses(manager) == {"t_x#0": "scheduled"}
    fired = [each.trigger for each in manager.storage.find_firings()]
    assert fired == ["first", "a", "b"]


def failed(manager: TriggerManager, name: str) -> None:
    manager.apply(Claim(key=(name[:-2], int(name[-1])), token="mine"))
    manager.update_instance_status(name, "failed")


def test_an_answer_is_found_again_though_others_have_committed_meanwhile(client: Any) -> None:
    with proxied(servers.redis_url()) as proxy:
        uid = uuid4().hex
        manager, other = session(EVERY, uid, url=proxy.url), session(EVERY, uid)
        manager.fire("p")
        original = proxy._serve

        def serve(accepted: socket.socket) -> None:
            if proxy.dropped.is_set():
                for _ in range(20):
                    other.fire("p")
            original(accepted)

        proxy._serve = serve  # type: ignore[method-assign]
        proxy.drops = 1
        result = manager.fire("p")
        assert result.seq == 2
        assert len(statuses(other)) == 22


def test_a_server_that_has_forgotten_the_scripts_learns_them_again(own_server: Any) -> None:
    manager = session(JOIN, url=own_server.connection_url)
    manager.fire("a")
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.script_flush()
    assert manager.fire("b").scheduled == ("t_x#0",)


def test_a_server_that_is_restarted_goes_on_with_what_it_has_saved(own_server: Any) -> None:
    manager = session(JOIN, url=own_server.connection_url)
    manager.fire("a")
    url = own_server.connection_url
    own_server.stop()
    with pytest.raises(StorageUnavailable):
        session(uid=manager.storage.uid, url=url, server_timeout=0.2).fire("b")
    own_server.start()
    assert manager.fire("b").scheduled == ("t_x#0",)


def test_a_server_that_is_down_is_an_error_within_the_time_that_it_may_take() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    manager = session(url=f"redis://127.0.0.1:{port}/0", server_timeout=0.3)
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match=r"Connection refused \(given up after 0\.3 s"):
        manager.fire("a")
    assert 0.2 < time.monotonic() - started < 2


def test_a_server_that_hangs_is_an_error_within_the_time_that_it_may_take(own_server: Any) -> None:
    manager = session(url=own_server.connection_url, server_timeout=0.3)
    manager.fire("a")
    with redis.Redis.from_url(own_server.connection_url) as client:
        process = client.info("server")["process_id"]  # type: ignore[index]
    os.kill(process, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            manager.fire("a")
        assert time.monotonic() - started < 2
    finally:
        os.kill(process, signal.SIGCONT)
    assert manager.fire("a").seq in (2, 3)


def test_a_server_that_wants_a_password_says_where_it_belongs(own_server: Any) -> None:
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.config_set("requirepass", "secret")
        try:
            started = time.monotonic()
            with pytest.raises(
                StorageUnavailable, match="put the user and the password into the URL"
            ):
                session(url=own_server.connection_url).fire("a")
            assert time.monotonic() - started < 2, "trying again does not help"
        finally:
            client.config_set("requirepass", "")


def test_a_full_server_refuses_a_firing_as_a_whole(own_server: Any) -> None:
    manager = session(JOIN, url=own_server.connection_url, server_timeout=0.2)
    manager.fire("a")
    with redis.Redis.from_url(own_server.connection_url) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(StorageUnavailable, match="more memory"):
                manager.fire("b")
            with pytest.raises(StorageUnavailable, match="more memory"):
                manager.update_configuration(EVERY)
        finally:
            client.config_set("maxmemory", "0")
    assert statuses(manager) == {"t_x#0": "unstarted"}
    assert manager.fire("b").seq == 2


def test_a_forked_process_has_connections_of_its_own(client: Any) -> None:
    manager = session(EVERY)
    manager.fire("p")
    context = multiprocessing.get_context("fork")

    def fire() -> None:
        for _ in range(50):
            manager.fire("p")

    children = [context.Process(target=fire) for _ in range(2)]
    for child in children:
        child.start()
    fire()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len(statuses(manager)) == 151
    assert [each.seq for each in manager.storage.find_firings()] == list(range(1, 152))


def test_threads_share_no_connection(client: Any) -> None:
    manager = session(EVERY)

    def fire() -> None:
        for _ in range(30):
            manager.fire("p")

    in_threads(*[fire] * 8)
    assert len(statuses(manager)) == 240


class Contended(RedisStorageBackend):
    """Has the engine decide everything, so that others get in the way."""

    def _plainly(self, event: Any, verdicts: Verdicts) -> Transition | None:
        return None


def test_those_who_get_in_each_others_way_all_commit(client: Any) -> None:
    manager = session(EVERY)
    uid, options = manager.storage.uid, manager.storage.options

    def fire() -> None:
        storage = Contended(uid, **options)
        for _ in range(20):
            storage.transact(Fire(trigger="p"))

    in_threads(*[fire] * 4)
    assert len(statuses(manager)) == 80


# -- settings ------------------------------------------------------------------------------------


def test_the_address_is_the_option_or_else_the_setting_or_else_the_environment(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.delenv("TRIGGERS_REDIS_URL", raising=False)
    assert RedisStorageBackend("u").url == "redis://localhost:6379/0"
    monkeypatch.setenv("TRIGGERS_REDIS_URL", "redis://there/3")
    assert storage_backends.get("redis", "u").url == "redis://there/3"
    settings.TRIGGERS_REDIS_URL = "redis://elsewhere/2"
    assert RedisStorageBackend("u").url == "redis://elsewhere/2"
    assert RedisStorageBackend("u", url="redis://here/1").url == "redis://here/1"


def test_an_address_that_workers_find_by_themselves_does_not_travel(settings: Any) -> None:
    settings.TRIGGERS_REDIS_URL = "redis://:password@here/1"
    assert RedisStorageBackend("u", prefix="shop", lease=90.0).options == {
        "prefix": "shop",
        "lease": 90.0,
    }
    assert RedisStorageBackend("u", url="redis://there/1").options == {"url": "redis://there/1"}


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b", 7])
def test_a_prefix_that_would_break_the_hash_tag_is_refused(prefix: Any) -> None:
    with pytest.raises(SettingsError, match="prefix must be a non-empty string without braces"):
        RedisStorageBackend("u", prefix=prefix)


def test_nothing_imports_redis_before_a_session_is_used() -> None:
    code = "import sys, triggers; triggers.RedisStorageBackend('u'); print('redis' in sys.modules)"
    # Without settings, since those of the tests look for servers.
    environment = {**servers.subprocess_environment()}
    del environment["DJANGO_SETTINGS_MODULE"]
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n", done.stderr


# -- keys ----------------------------------------------------------------------------------------


def test_all_keys_of_a_session_lie_in_one_slot(client: Any) -> None:
    uid = "{odd}:uid}:ü\n#"
    manager = session({**JOIN, "t_y": {"run": Recorded.name, "after": ["c{d}"]}}, uid)
    manager.fire("a", idempotency_key="k")
    found = list(client.scan_iter(f"{{{PREFIX}:*"))
    assert len({key_slot(key.encode()) for key in found}) == 1
    assert manager.fire("c{d}").scheduled == ("t_y#0",)
    assert list(RedisStorageBackend.sessions(10, **manager.storage.options)) == [uid]


def test_uids_that_look_like_parts_of_others_are_sessions_of_their_own(client: Any) -> None:
    managers = [session(JOIN, uid) for uid in ("x", "x:i", "x:f", "x:w:a", "s:x", "due")]
    for manager in managers:
        manager.fire("a", {"uid": manager.storage.uid})
    for manager in managers:
        assert manager.storage["t_x#0"].kwargs == {"a": {"uid": manager.storage.uid}}


def test_a_configuration_is_stored_as_long_as_a_session_has_it(client: Any) -> None:
    first, second = [session(JOIN, uid) for uid in _in_one_bucket(2)]
    [key] = client.scan_iter(f"{{{PREFIX}:*}}:plan:*")
    assert client.hget(key, "sessions") == "2"
    second.update_configuration(EVERY)
    assert client.hget(key, "sessions") == "1"
    first.storage.delete()
    assert not client.exists(key)
    second.apply(Purge())
    assert list(client.scan_iter(f"{{{PREFIX}:*}}:plan:*")) == []


def test_deleting_leaves_no_key(client: Any) -> None:
    after = ["c", "d", {"settled": "t_x"}]
    manager = session({**JOIN, "t_y": {"run": Recorded.name, "after": after, "within": "PT5S"}})
    for trigger in ("a", "b", "c"):
        manager.fire(trigger, idempotency_key="k")
    manager.storage.delete()
    left = [key for key in client.scan_iter(f"{{{PREFIX}:*") if ":done:" not in key]
    assert left == []


def test_purging_leaves_a_tombstone_that_is_not_listed(client: Any) -> None:
    manager = session(JOIN)
    manager.fire("a", idempotency_key="k")
    manager.apply(Purge())
    left = [key for key in client.scan_iter(f"{{{PREFIX}:*") if ":done:" not in key]
    assert left == [keys.head_key(PREFIX, manager.storage.uid)]
    assert RedisStorageBackend.sessions(10, **manager.storage.options) == []
    with pytest.raises(SessionClosed):
        manager.fire("a", idempotency_key="k")


def _in_one_bucket(count: int) -> list[str]:
    uids = (f"uid {number}" for number in range(10_000))
    return [uid for uid in uids if keys.bucket_of(uid) == 7][:count]


# -- lists ---------------------------------------------------------------------------------------


def test_sessions_are_listed_once_each_page_by_page(client: Any) -> None:
    uids = {f"session {number}" for number in range(150)}
    managers = [session(uid=uid) for uid in uids]
    for manager in managers:
        manager.fire("a")
    options = managers[0].storage.options
    found: list[str] = []
    while page := RedisStorageBackend.sessions(17, after=found[-1] if found else "", **options):
        found += page
    assert sorted(found) == sorted(uids)


def test_sessions_that_have_changed_since_are_left_out(client: Any) -> None:
    old, new = session(uid="old"), session(uid="new")
    moment = old.storage.now()
    with frozen_time(moment):
        old.fire("a")
    new.fire("a")
    since = new.storage.standing().changed_at
    options = old.storage.options
    assert RedisStorageBackend.sessions(9, unchanged_since=since, **options) == ["old"]


def test_what_is_due_first_comes_first(client: Any) -> None:
    managers = [session(JOIN, f"session {number}") for number in range(5)]
    options = managers[0].storage.options
    moment = managers[0].storage.now()
    for manager in reversed(managers):
        with frozen_time(moment):
            manager.fire("a")
            manager.fire("b")
        moment += managers[0].storage.limits.lease_time
    assert list(RedisStorageBackend.overdue(9, **options)) == []
    with frozen_time(moment):
        found = list(RedisStorageBackend.overdue(9, **options))
        assert found == [f"session {number}" for number in (4, 3, 2, 1, 0)][: len(found)]
        assert len(found) >= 4
        assert list(RedisStorageBackend.overdue(2, **options)) == ["session 4", "session 3"]


# -- deploys -------------------------------------------------------------------------------------


def test_a_configuration_that_this_process_has_forgotten_is_read_again(client: Any) -> None:
    manager = session(JOIN)
    manager.fire("a")
    forget_plans()
    assert manager.fire("b").scheduled == ("t_x#0",)


def forget_plans() -> None:
    """As happens when a process meets very many configurations."""
    plans._plans.clear()
    plans._plans[plans.NO_DIGEST] = EMPTY_PLAN


def test_a_session_of_a_newer_version_is_left_untouched(client: Any) -> None:
    manager = session(JOIN)
    manager.fire("a")
    head = keys.head_key(PREFIX, manager.storage.uid)
    client.hset(head, "version", "99")
    before = client.hgetall(head)
    for do in (
        lambda: manager.fire("b"),
        lambda: manager.update_configuration(EVERY),
        lambda: manager.apply(Claim(key=("t_x", 0), token="mine")),
    ):
        with pytest.raises(StateVersionError):
            do()
    assert client.hgetall(head) == before


def test_fields_that_a_newer_version_adds_are_left_alone(client: Any) -> None:
    manager = session(JOIN)
    manager.fire("a", {"n": 1})
    part = keys.head_key(PREFIX, manager.storage.uid) + keys.BODY
    client.hset(part, "t_x#0", client.hget(part, "t_x#0") + "\nsomething newer")
    assert manager.fire("b").scheduled == ("t_x#0",)
    assert client.hget(part, "t_x#0").endswith("\nsomething newer")
    assert manager.storage["t_x#0"].kwargs == {"a": {"n": 1}, "b": {}}


def test_another_process_changing_the_configuration_is_noticed_at_the_next_firing(
    client: Any,
) -> None:
    manager = session(JOIN)
    manager.fire("z")
    environment = {**servers.subprocess_environment()}
    code = (
        "import django; django.setup()\n"
        "from triggers import RedisStorageBackend, TriggerManager\n"
        f"manager = TriggerManager(RedisStorageBackend({manager.storage.uid!r},"
        f" **{manager.storage.options!r}))\n"
        f"manager.update_configuration({EVERY!r} | {{'t_new': {EVERY['t_x']!r}}})"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert manager.fire("p").created == ("t_x#0", "t_new#0")
