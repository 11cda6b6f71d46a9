"""A session in a cache is exact even where its lock is lost: the save compares."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import redis

from tests.integration.cache_sessions import EVERY, PATIENCE, fired, lock_of, session, until
from tests.servers import redis_url, subprocess_environment
from triggers.exceptions import StorageUnavailable
from triggers.manager import TriggerManager
from triggers.storages import cache_server
from triggers.storages.base import Conflict
from triggers.storages.cache import CacheStorageBackend
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded, in_threads

pytestmark = pytest.mark.server("redis")

TRIPLE = {"t_x": {"after": ["a", "b", "c"], "run": Recorded.name}}


@pytest.fixture(autouse=True)
def _tasks_in_place() -> Iterator[None]:
    with run_tasks_locally("synchronous"):
        yield


@pytest.fixture
def raw() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url()) as client:
        yield client


class Interrupted(CacheStorageBackend):
    """Lets a test do something between the decision and the save, and counts lost saves."""

    name = "tests-interrupted"
    interruptions: ClassVar[list[Callable[[], object]]] = []
    conflicts: ClassVar[list[str]] = []

    def _save(self) -> None:
        if self.interruptions:
            self.interruptions.pop(0)()
        try:
            super()._save()
        except Conflict:
            self.conflicts.append(self.uid)
            raise


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    Interrupted.interruptions.clear()
    Interrupted.conflicts.clear()


def elsewhere(do: Callable[[], object]) -> Callable[[], None]:
    """The same in a thread of its own, as another process would do it."""
    return lambda: in_threads(lambda: do())


def test_a_lock_deleted_under_its_holder_loses_nothing_and_doubles_nothing(
    raw: redis.Redis,
) -> None:
    manager = session(TRIPLE, Interrupted)
    uid = manager.storage.uid

    def steal() -> None:
        assert raw.delete(lock_of(uid)) == 1
        assert TriggerManager(CacheStorageBackend(uid)).fire("b").created == ("t_x#0",)

    Interrupted.interruptions.append(elsewhere(steal))
    assert manager.fire("a").created == ()
    assert Interrupted.conflicts == [uid]
    assert manager.fire("c").scheduled == ("t_x#0",)
    assert fired(uid) == {"a": 1, "b": 1, "c": 1, "t_x": 1}
    assert set(manager.storage["t_x#0"].kwargs) == {"a", "b", "c"}


def test_many_writers_lose_nothing_while_their_locks_are_deleted(raw: redis.Redis) -> None:
    uid = session(EVERY).storage.uid
    stop = threading.Event()
    deleted = 0

    def delete() -> None:
        nonlocal deleted
        while not stop.is_set():
            deleted += int(raw.delete(lock_of(uid)))

    def write() -> None:
        manager = TriggerManager(Interrupted(uid))
        for n in range(15):
            manager.fire("p", {"n": n})

    def write_together() -> None:
        try:
            in_threads(*[write] * 4)
        finally:
            stop.set()

    in_threads(delete, write_together)
    assert deleted > 0
    assert Interrupted.conflicts, "nobody was overtaken"
    assert fired(uid) == {"p": 60, "t_x": 60}
    assert [each.number for each in CacheStorageBackend(uid)] == list(range(60))


def test_a_session_deleted_under_a_saver_begins_anew(raw: redis.Redis) -> None:
    manager = session(TRIPLE, Interrupted)
    uid = manager.storage.uid
    manager.fire("b")

    def steal() -> None:
        assert raw.delete(lock_of(uid)) == 1
        CacheStorageBackend(uid).delete()
        TriggerManager(CacheStorageBackend(uid)).update_configuration(TRIPLE)

    Interrupted.interruptions.append(elsewhere(steal))
    assert manager.fire("a").created == ("t_x#0",)
    assert fired(uid) == {"a": 1}


def test_reading_with_the_same_object_between_load_and_save_hides_no_conflict(
    raw: redis.Redis,
) -> None:
    manager = session(TRIPLE, Interrupted)
    uid = manager.storage.uid

    def steal() -> None:
        assert raw.delete(lock_of(uid)) == 1
        TriggerManager(CacheStorageBackend(uid)).fire("b")
        assert manager.storage["t_x#0"].status == "unstarted"

    Interrupted.interruptions.append(elsewhere(steal))
    manager.fire("a")
    assert fired(uid) == {"a": 1, "b": 1}


def test_changes_by_hand_under_a_lost_lock_are_refused_and_start_nothing(raw: redis.Redis) -> None:
    manager = session({"t_x": {"after": ["a"], "run": Recorded.name}})
    uid = manager.storage.uid

    def change() -> None:
        with manager.storage.acquire_lock():
            assert manager.fire("a").scheduled == ("t_x#0",)
            assert raw.delete(lock_of(uid)) == 1
            elsewhere(lambda: TriggerManager(CacheStorageBackend(uid)).fire("b"))()

    with pytest.raises(StorageUnavailable, match="the lock of the session was lost"):
        change()
    assert fired(uid) == {"b": 1}
    assert list(manager.storage) == []


def test_a_save_by_hand_that_was_overtaken_says_so(raw: redis.Redis) -> None:
    manager = session(TRIPLE)
    uid = manager.storage.uid

    def change() -> None:
        with manager.storage.acquire_lock() as storage:
            manager.fire("a")
            storage.save()
            manager.fire("b")
            raw.delete(lock_of(uid))
            elsewhere(lambda: TriggerManager(CacheStorageBackend(uid)).fire("d"))()
            with pytest.raises(StorageUnavailable, match="others have changed it"):
                storage.save()

    with pytest.raises(StorageUnavailable, match="others have changed it"):
        change()
    assert fired(uid) == {"a": 1, "d": 1}


PROCESS = """
import sys
import django
django.setup()
from triggers.exceptions import StorageUnavailable
from triggers.manager import TriggerManager
from triggers.storages import cache_server
from triggers.storages.cache import CacheStorageBackend

cache_server.LOCK_EXPIRY = 1

def pause(word):
    print(word, flush=True)
    sys.stdin.readline()

class Pausing(CacheStorageBackend):
    paused = False

    def _save(self):
        if not Pausing.paused:
            Pausing.paused = True
            pause("about to save")
        super()._save()

"""
FIRE = PROCESS + "print(TriggerManager(Pausing(sys.argv[1])).fire('a'))\n"
CHANGE_BY_HAND = (
    PROCESS
    + """
manager = TriggerManager(CacheStorageBackend(sys.argv[1]))
try:
    with manager.storage.acquire_lock():
        manager.fire("a")
        pause("about to save")
except StorageUnavailable as error:
    print(error)
"""
)


@contextmanager
def about_to_save(code: str, uid: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, uid],
        env=subprocess_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "about to save\n"
            yield process
        finally:
            process.kill()


def is_stopped(process: subprocess.Popen[str]) -> bool:
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("code", "says", "firings"),
    [
        (FIRE, "created=()", {"a": 1, "b": 1}),
        (CHANGE_BY_HAND, "the lock of the session was lost", {"b": 1}),
    ],
    ids=["a firing", "changes by hand"],
)
def test_a_paused_process_that_outlives_its_lock_overwrites_nothing(
    code: str, says: str, firings: dict[str, int], raw: redis.Redis
) -> None:
    uid = session(TRIPLE).storage.uid
    with about_to_save(code, uid) as process:
        assert raw.exists(lock_of(uid))
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: is_stopped(process))
        until(lambda: not raw.exists(lock_of(uid)))
        assert TriggerManager(CacheStorageBackend(uid)).fire("b").created == ("t_x#0",)
        os.kill(process.pid, signal.SIGCONT)
        output, _errors = process.communicate("go on\n", timeout=PATIENCE)
    assert says in output
    assert fired(uid) == firings


def test_a_holder_that_is_killed_is_replaced(raw: redis.Redis) -> None:
    uid = session(TRIPLE).storage.uid
    with about_to_save(CHANGE_BY_HAND, uid) as process:
        assert raw.exists(lock_of(uid))
        process.kill()
        process.wait()
        started = time.monotonic()
        TriggerManager(CacheStorageBackend(uid)).fire("b")
    assert time.monotonic() - started < 5
    assert fired(uid) == {"b": 1}


def test_a_lock_is_renewed_for_as_long_as_it_is_held(
    raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_server, "LOCK_EXPIRY", 1)
    manager = session(TRIPLE)
    lives: list[int] = []

    def has_been_renewed_twice() -> bool:
        lives.append(int(raw.pttl(lock_of(manager.storage.uid))))  # type: ignore[arg-type]
        return sum(later > sooner for sooner, later in pairwise(lives)) == 2

    with manager.storage.acquire_lock():
        until(has_been_renewed_twice)
    assert min(lives) > 0
    assert not raw.exists(lock_of(manager.storage.uid))


def test_who_waits_longer_than_a_server_may_take_to_answer_still_gets_the_lock() -> None:
    uid = session(TRIPLE).storage.uid
    waits, is_through = threading.Event(), threading.Event()

    def wait() -> None:
        waits.set()
        TriggerManager(CacheStorageBackend(uid, server_timeout=0.2)).fire("b")
        is_through.set()

    thread = threading.Thread(target=wait)
    with CacheStorageBackend(uid).acquire_lock():
        thread.start()
        assert waits.wait(PATIENCE)
        assert not is_through.wait(0.7)
    thread.join(PATIENCE)
    assert is_through.is_set()
    assert fired(uid) == {"b": 1}
