"""The same join by three systems on Redis, each against one round trip that a script answers.

Two things happen, and then a task must be sent, once. Only what that costs is measured, in one
process: no task runs, nobody waits.

``triggers``: two firings into a session; the second sends the Celery message.

``Celery``: a chord of two. It knows tasks only, so two messages are sent for its parts, and what
the worker does at the end of each part is done here: note its result and, with the last one, send
the body. Picking up and running the parts is not counted.

``pynenc``: two events, and a round of the loop that looks which tasks have all their events. The
loop is one for all joins of an application, and takes longer the more there are; here there is one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

from celery import chord
from celery.app.task import Context

from benchmarks.app import QUEUE, app, body, part, use_broker
from benchmarks.firing import KWARGS
from benchmarks.measure import Row, Samples, compare, in_turns, pinned, quiet
from benchmarks.redis import BARE, script
from benchmarks.servers import Servers
from benchmarks.stubs import RUN, in_redis

CONFIGURATION = {"t_join": {"run": RUN, "after": ["left", "right"]}}

YARDSTICK = "yardstick"


def run(quick: bool, servers: Servers) -> Iterator[Row]:
    """Join two things, again and again, in each system.

    :raises LeftOut: no server can be started, or the client is not installed.
    """
    turns = 4 if quick else 300
    storage, broker = servers.redis("storage"), servers.redis("broker")
    manager_of = in_redis(storage, runner="celery")
    use_broker(broker)
    managers = [manager_of(f"compared {number}") for number in range(turns)]
    for manager in managers:
        manager.update_configuration(CONFIGURATION)
    samples = Samples(perf_counter)
    bare = script(storage, BARE)
    note = ""
    joins: dict[str, Callable[[int], float]] = {
        "triggers: two firings": lambda turn: _ours(managers[turn]),
        "Celery: a chord of two": lambda _turn: _chord(),
    }
    try:
        pynenc = Pynenc(servers.redis("pynenc"))
        joins["pynenc: two events and its loop"] = lambda _turn: pynenc.join()
    except ImportError as missing:
        note = f"{missing.name} is not installed"
    spent: dict[str, list[float]] = {name: [] for name in joins}
    with pinned(), quiet():
        for turn in range(turns):
            for name in in_turns(list(joins), turn):
                samples.time((YARDSTICK, name), lambda: bare(0))
                spent[name].append(joins[name](turn))
    for name in joins:
        figures = compare(spent[name], samples.of((YARDSTICK, name)))
        yield Row(benchmark="joins", case=name, figures=figures, note=note)


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    begun = perf_counter()
    result = do()
    return perf_counter() - begun, result


def _ours(manager: Any) -> float:
    left, _result = _timed(lambda: manager.fire("left", KWARGS))
    right, _result = _timed(lambda: manager.fire("right", KWARGS))
    with app.connection_for_write() as connection:
        if connection.default_channel.queue_purge(QUEUE) != 1:
            raise AssertionError("The join did not send one message")
    return left + right


def _chord() -> float:
    parts = [part.s(**KWARGS), part.s(**KWARGS)]
    spent, _result = _timed(lambda: chord(parts)(body.s()))
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        requests = [_request_of(channel.client.rpop(QUEUE)) for _part in parts]
        for request in requests:
            # What a worker calls when a task has returned.
            done = partial(app.backend.mark_as_done, request.id, None, request=request)
            seconds, _result = _timed(done)
            spent += seconds
        if channel.queue_purge(QUEUE) != 1:
            raise AssertionError("The chord did not send its body")
    return spent


def _request_of(message: bytes) -> Context:
    """What a worker makes of a message."""
    content = json.loads(message)
    _args, _kwargs, embedded = json.loads(base64.b64decode(content["body"]))
    return Context({**content["headers"], "chord": embedded["chord"], "ignore_result": False})


class Pynenc:
    """An application of pynenc with one join, on a Redis of its own, for it lists all keys.

    :raises ImportError: pynenc or its plug-in for Redis is not installed.
    """

    def __init__(self, url: str) -> None:
        import pynenc_redis  # noqa: F401
        from pynenc.builder import PynencBuilder
        from pynenc.trigger.conditions import CompositeLogic
        from pynenc.trigger.trigger_builder import on_event

        self._app = (
            PynencBuilder()
            .app_id("benchmarks")
            .redis(url=url)
            .redis_trigger()
            .logging_level("error")
            .build()
        )
        both = on_event("left").on_event("right").with_logic(CompositeLogic.AND)
        self._app.task(triggers=both)(joined)
        # As its runner does when it begins.
        self._app.register_deferred_triggers()

    def join(self) -> float:
        def do() -> None:
            self._app.trigger.emit_event("left", KWARGS)
            self._app.trigger.emit_event("right", KWARGS)
            self._app.trigger.trigger_loop_iteration()

        spent, _result = _timed(do)
        if self._app.broker.count_invocations() != 1:
            raise AssertionError("pynenc did not send the task once")
        self._app.broker.purge()
        return spent


def joined() -> None:
    """What pynenc runs at the end of its join."""
