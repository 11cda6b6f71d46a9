"""A broker that is down costs who fires a moment, and then nothing; what was not sent is sent."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from celery import Celery
from django.core.management import CommandError, call_command

from tests import celery_app, servers, worker_tasks
from tests.integration.celery_sessions import (
    BROKERS,
    current,
    fetch_message,
    messages_in,
    new_prefix,
    statuses,
    url_of,
)
from tests.wires import Wire, wire_to
from triggers import get_trigger_manager
from triggers.engine.draft import RESEND_AFTER
from triggers.manager import TriggerManager
from triggers.recovery import recover
from triggers.runners import CeleryTaskRunner
from triggers.runners.celery_broker import Broker, broker_of, close_brokers
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import frozen_time, run_tasks_locally

TIMEOUT = 0.4  # seconds for one publishing
SLACK = 2.0  # seconds by which a busy machine may be late; Celery itself needs longer, or for ever

SCHEMES = ["redis", "amqp"]
DEFAULT_PORTS = {"redis": 6379, "amqp": 5672}


@pytest.fixture(autouse=True)
def _really_sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(CeleryTaskRunner, "publish_timeout", TIMEOUT)
    with run_tasks_locally("celery"):
        yield


@contextmanager
def refused() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    yield port


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def unreachable() -> Iterator[int]:
    """A port that does not even answer who wants to connect, as behind a firewall."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        # They fill its queue, so that the next ones are left without an answer.
        waiting = [socket.socket() for _ in range(3)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(address)
            yield address[1]
        finally:
            for each in waiting:
                each.close()


def app_at(scheme: str, port: int) -> Celery:
    database = "0" if scheme == "redis" else ""
    return celery_app.make_app(f"{scheme}://127.0.0.1:{port}/{database}", servers.RUN_ID)


def manager_with_many(instances: int) -> TriggerManager:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    tasks = {f"t_{n}": {"after": ["a"], "run": worker_tasks.Tell.name} for n in range(instances)}
    manager.update_configuration(tasks)
    return manager


@pytest.mark.parametrize("place", [refused, black_hole, unreachable])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_firing_that_starts_a_hundred_tasks_waits_for_a_dead_broker_once(
    scheme: str,
    place: Callable[[], AbstractContextManager[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = manager_with_many(100)
    with place() as port, current(app_at(scheme, port)), caplog.at_level(logging.WARNING):
        started = time.monotonic()
        result = manager.fire("a")
        took = time.monotonic() - started
    assert len(result.scheduled) == 100
    assert set(statuses(manager).values()) == {"scheduled"}
    assert took < TIMEOUT + SLACK
    messages = [record.getMessage() for record in caplog.records if record.name == "triggers"]
    assert len([each for each in messages if "does not answer" in each]) == 1
    assert len([each for each in messages if "as the broker did not answer" in each]) == 99


def test_a_dead_broker_is_one_line_in_the_log_and_a_traceback_for_who_debugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = manager_with_many(1)
    with refused() as port, current(app_at("redis", port)):
        caplog.set_level(logging.INFO, "triggers")
        manager.fire("a")
        [record] = [each for each in caplog.records if vars(each).get("action") == "dispatch"]
        assert record.levelno == logging.ERROR
        assert record.exc_info is None
        assert "\n" not in record.getMessage()
        where = f"redis://:**@127.0.0.1:{port}/0"  # as Celery writes it, password or none
        told = f"The broker {where} does not answer (OperationalError: Error 111 connecting to "
        assert record.getMessage().startswith(told)
        assert "recovery sends it" in record.getMessage()
        about = (vars(record)["session"], vars(record)["task"], vars(record)["instance"])
        assert about == (manager.storage.uid, "t_0", "t_0#0")

        close_brokers()
        caplog.clear()
        caplog.set_level(logging.DEBUG, "triggers")
        manager_with_many(1).fire("a")
        _line, traced = [each for each in caplog.records if vars(each).get("action") == "dispatch"]
        assert traced.levelno == logging.DEBUG
        assert traced.exc_info


def test_what_was_not_sent_is_sent_by_recovery(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = manager_with_many(3)
    with refused() as port, current(app_at("redis", port)):
        manager.fire("a")
    due_at = max(each.record.due_at for each in manager.storage)
    with current(celery_app.make_app(redis_url, new_prefix())) as app:
        with frozen_time(due_at):
            assert recover(manager).sent == 3
        assert messages_in(app) == 3
        sent = {fetch_message(app).payload[1]["instance"] for _ in range(3)}
    assert sent == {each.name for each in manager.storage}


def test_what_a_broker_refuses_for_hours_is_sent_a_minute_after_it_is_back(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CeleryTaskRunner, "pause", 0.0)
    manager = manager_with_many(2)
    with refused() as port, current(app_at("redis", port)):
        manager.fire("a")
        for _minute in range(20):
            due_at = max(each.record.due_at for each in manager.storage)
            with frozen_time(due_at):
                found = recover(manager)
            assert (found.sent, found.unsent) == (0, 2)
            again = {each.record.due_at - due_at for each in manager.storage}
            assert again == {RESEND_AFTER}
    assert {each.record.sends for each in manager.storage} == {0}
    with (
        current(celery_app.make_app(redis_url, new_prefix())) as app,
        frozen_time(due_at + RESEND_AFTER),
    ):
        assert recover(manager).sent == 2
        assert messages_in(app) == 2
    assert {each.record.sends for each in manager.storage} == {1}


@pytest.mark.parametrize("run", [worker_tasks.Tell.name, "elsewhere.tasks.Ship"])
def test_a_result_backend_that_is_down_holds_nothing_up(redis_url: str, run: str) -> None:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration({"t_x": {"after": ["a"], "run": run}})
    with refused() as port, current(celery_app.make_app(redis_url, new_prefix())) as app:
        app.conf.result_backend = f"redis://127.0.0.1:{port}/0"
        app.conf.task_ignore_result = False
        started = time.monotonic()
        manager.fire("a")
        assert time.monotonic() - started < TIMEOUT + SLACK
        assert messages_in(app) == 1
        message = fetch_message(app)
        assert message.headers["ignore_result"] is True


@pytest.mark.django_db(transaction=True)
def test_one_pass_of_recovery_fails_where_the_broker_refuses_what_is_to_be_sent(
    settings: Any,
) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "database", "RUNNER": "celery"}}
    manager = get_trigger_manager(uuid4().hex)
    manager.update_configuration({"t_x": {"after": ["a"], "run": worker_tasks.Tell.name}})
    with refused() as port, current(app_at("redis", port)):
        manager.fire("a")
        with (
            frozen_time(manager.storage["t_x#0"].record.due_at),
            pytest.raises(CommandError, match=r"0 sent again.*1 not sent.*The log says why"),
        ):
            call_command("triggers", "run", "--once")


def test_after_a_pause_one_tries_again_and_the_others_do_not_wait_for_it() -> None:
    with refused() as port:
        broker = Broker(app_at("redis", port), timeout=TIMEOUT, pause=0.05)
        calls: list[str] = []
        begun, may_go_on = threading.Event(), threading.Event()

        def slow(**_options: object) -> None:
            calls.append("slow")
            begun.set()
            assert may_go_on.wait(10)

        with pytest.raises(OSError, match="no"):
            broker.publish(failing(calls))
        assert broker.publish(failing(calls)) is False
        broker._paused_until = time.monotonic()
        broker.pause = 60
        thread = threading.Thread(target=broker.publish, args=[slow])
        thread.start()
        assert begun.wait(10)
        assert broker.publish(failing(calls)) is False
        may_go_on.set()
        thread.join(10)
        # It works again, so nobody is held up any more.
        assert broker.publish(lambda **options: calls.append("quick")) is True
    # An error that comes at once may be that of an idle connection, and is tried a second time.
    assert calls == ["failed", "failed", "slow", "quick"]


def failing(calls: list[str]) -> Callable[..., None]:
    def send(**_options: object) -> None:
        calls.append("failed")
        raise ConnectionError("no")

    return send


def test_an_error_of_the_message_is_no_error_of_the_broker(redis_url: str) -> None:
    def unfit(**_options: object) -> None:
        raise TypeError("unfit")

    broker = Broker(celery_app.make_app(redis_url, servers.RUN_ID), timeout=TIMEOUT, pause=60)
    for _ in range(2):
        with pytest.raises(TypeError):
            broker.publish(unfit)


def test_other_settings_make_another_broker(redis_url: str) -> None:
    app = celery_app.make_app(redis_url, servers.RUN_ID)
    first = broker_of(app, 1.0, 2.0)
    assert broker_of(app, 1.0, 2.0) is first
    assert broker_of(app, 3.0, 2.0).timeout == 3.0
    assert broker_of(app, 1.0, 2.0) is first


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> str:
    """The address of a broker that works."""
    return url_of(request.param)


def test_each_of_several_brokers_is_tried(url: str) -> None:
    prefix = new_prefix()
    with refused() as port:
        dead = app_at(urlsplit(url).scheme, port).conf.broker_url
        with current(celery_app.make_app(f"{dead};{url}", prefix)):
            manager_with_many(2).fire("a")
    with current(celery_app.make_app(url, prefix)) as app:
        assert messages_in(app) == 2


@contextmanager
def wired_to(url: str, prefix: str) -> Iterator[Wire]:
    """Publish to a broker through a wire that can be cut."""
    parts = urlsplit(url)
    login = f"{parts.username}:{parts.password}@" if parts.username else ""
    with wire_to(url, DEFAULT_PORTS[parts.scheme]) as wire:
        broker = f"{parts.scheme}://{login}127.0.0.1:{wire.port}{parts.path}"
        with current(celery_app.make_app(broker, prefix)) as app:
            if parts.scheme == "amqp":
                # Otherwise what was published may still be on the wire when it is cut.
                app.conf.broker_transport_options = {"confirm_publish": True}
            yield wire


def test_an_idle_connection_that_has_died_is_replaced_at_once(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = new_prefix()
    with wired_to(url, prefix) as wire:
        manager_with_many(1).fire("a")
        wire.cut()
        manager_with_many(1).fire("a")
    with current(celery_app.make_app(url, prefix)) as app:
        assert messages_in(app) == 2
    assert [each for each in caplog.records if each.name == "triggers"] == []


def test_a_broker_that_falls_silent_on_an_open_connection_is_not_waited_for(url: str) -> None:
    with wired_to(url, new_prefix()) as wire:
        manager_with_many(1).fire("a")
        wire.hold()
        manager = manager_with_many(100)
        started = time.monotonic()
        manager.fire("a")
        took = time.monotonic() - started
        wire.cut()
    assert took < TIMEOUT + SLACK
    assert set(statuses(manager).values()) == {"scheduled"}
