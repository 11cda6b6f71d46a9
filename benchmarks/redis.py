"""One firing on Redis, against one round trip that a script answers.

The yardstick is the least that any storage in Redis can cost: one ``EVALSHA`` through the same
client, which sends 300 bytes to a script that does nothing with them. A firing that also sends a
Celery message is compared with a bare ``apply_async`` of a plain task with the same kwargs.

Two Redis servers share one processor, of which only one is busy at a time: the storage, and
Celery's broker. See :mod:`benchmarks.firing` for what is compared, and :mod:`benchmarks.growth` for
the rows on growth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.app import QUEUE, app, plain, use_broker
from benchmarks.firing import JOIN, KWARGS, LIFE, YARDSTICK, Case, Limit, measure
from benchmarks.measure import LeftOut, Row, pinned
from benchmarks.servers import Servers
from benchmarks.stubs import RUN, in_redis

COMPLETES_NOTHING = Limit(most=1.6, aim=1.3)
COMPLETES = Limit(most=1.8, aim=1.35)
SENDS = Limit(most=1.7, aim=1.4)
LOADS = Limit(most=3.0, aim=2.2)

LIMITS = {
    **dict.fromkeys(LIFE, COMPLETES_NOTHING),
    "completes a join": COMPLETES,
}

APPLY_ASYNC = "apply_async"

CONFIGURATION: Mapping[str, Any] = {
    **JOIN,
    "t_sent": {"run": RUN, "using": "celery", "after": ["left", "right"]},
    "t_any": {"run": RUN, "after": ["begun", {"any": ["by card", "by cash"]}]},
}

BYTES = b"x" * 300

BARE = "return 1"
STORING = "redis.call('SET', KEYS[1], ARGV[1]) return 1"
"""Scripts for :func:`script`."""


def run(quick: bool, servers: Servers) -> Iterator[Row]:
    """Fire into many sessions.

    :raises LeftOut: no server can be started, or the client is not installed.
    """
    storage, broker = servers.redis("storage"), servers.redis("broker")
    manager_of = in_redis(storage)
    use_broker(broker)
    bare, storing = script(storage, BARE), script(storage, STORING)

    def fire(trigger: str) -> Callable[[str], object]:
        return lambda uid: manager_of(uid).fire(trigger, KWARGS)

    def send(_life: object) -> None:
        plain.apply_async(kwargs=KWARGS)

    alone = [
        Case(name="begins a join that Celery runs", do=fire("left"), limit=COMPLETES_NOTHING),
        Case(name="any: load, compare and swap, begins", do=fire("begun"), limit=LOADS),
        Case(name="any: load, compare and swap, completes", do=fire("by card"), limit=LOADS),
        Case(name="for comparison: a script that stores the bytes", do=storing),
    ]
    sending = [
        Case(
            name="completes it, and sends the message",
            do=fire("right"),
            yardstick=APPLY_ASYNC,
            limit=SENDS,
        ),
        Case(name="for comparison: apply_async", do=send),
    ]
    with pinned():
        yield from measure(
            "redis",
            manager_of,
            {YARDSTICK: bare, APPLY_ASYNC: send},
            lives=20 if quick else 2000,
            limits=LIMITS,
            configuration=CONFIGURATION,
            more=[alone, sending],
        )
    with app.connection_for_write() as connection:
        connection.default_channel.queue_purge(QUEUE)


def script(url: str, lua: str) -> Callable[[object], object]:
    """A function that has a server run a script with ``BYTES``, in one round trip.

    :raises LeftOut: the client is not installed.
    """
    try:
        import redis
    except ImportError as missing:
        raise LeftOut(f"the package {missing.name} is missing") from missing
    client = redis.Redis.from_url(url)
    sha = client.script_load(lua)

    def call(_life: object) -> object:
        return client.evalsha(sha, 1, "yardstick", BYTES)

    return call
