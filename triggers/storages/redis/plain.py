"""Plain firings, claims and finishes: decided on the server, in one round trip.

Each function here answers ``None`` if the engine must decide after all; nothing has been written
then. What is plain, and what the scripts make of it, is held against the engine by
``tests/integration/test_redis_executors.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from triggers import payload
from triggers.engine import Plan, Transition, Unjudged, Verdicts
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Finish
from triggers.engine.verdicts import Question
from triggers.storages.redis.records import (
    firing_of,
    instance_of,
    key_of,
    keyed_field,
    line,
    moment,
    name_of,
)
from triggers.storages.redis.scripts import NOTHING, bulk
from triggers.storages.redis.server import Server
from triggers.storages.redis.slices import refusals_by_task, slice_of
from triggers.types import FireResult, Firing, Instance

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Stale:
    """The session has another configuration than it was thought to have."""

    digest: str


def fire(
    server: Server, key: bytes, now: bytes, event: Fire, plan: Plan, verdicts: Verdicts
) -> Transition | Stale | None:
    """Decide a firing from outside.

    :param key: of the session's head, in the form of the wire.
    :param now: the present that tests have set, in the form of the wire.
    """
    if event.cause is not None or event.settles is not None or event.also or event.depth:
        return None
    if "post_fire" in event.hooks.names:
        return None
    trigger = event.trigger
    refusals: Mapping[tuple[str, str], str] = {}
    names = plan.names_of(trigger)
    if plan.asks_about(names):
        try:
            refusals = verdicts.of(plan, Question(names, event.kwargs, False))
        except Unjudged:
            # Whether this is the session's configuration at all, the general way will find out.
            return None
    slice_ = slice_of(plan, trigger, frozenset(refusals), False)
    if slice_ is None:
        return None
    idempotency, field = "", NOTHING
    if event.key is not None:
        idempotency, field = payload.dump(event.key), bulk(keyed_field(trigger, event.key))
    refused = payload.dump(refusals_by_task(refusals)) if refusals else ""
    tail = f"{payload.dump(trigger)}\n{idempotency}\n\n\n{refused}\n{line(event.kwargs)}"
    limit = NOTHING if event.limit is None or event.deferred else bulk(str(event.limit))
    return _answered(server.write("fire", key, now, bulk(tail), limit, field, slice_), plan)


def finish(
    server: Server, key: bytes, now: bytes, event: Finish, plan: Plan, _verdicts: Verdicts
) -> Transition | Stale | None:
    """Decide that an attempt has ended well, and what follows from it."""
    if not event.hooks.folds or "post_fire" in event.hooks.names:
        return None
    task = event.key[0]
    slice_ = slice_of(plan, task, frozenset(), True)
    if slice_ is None:
        return None
    name, result = name_of(event.key), line(event.result)
    tail = f"{payload.dump(task)}\n\n{payload.dump(name)}\n\n\n{result}"
    metadata = payload.dump(event.metadata) if event.metadata else ""
    own = map(bulk, (name, payload.dump(event.token), result, metadata))
    answer = server.write("fire", key, now, bulk(tail), NOTHING, NOTHING, slice_, *own)
    return _answered(answer, plan, event)


def claim(
    server: Server, key: bytes, now: bytes, event: Claim, _plan: Plan, _verdicts: Verdicts
) -> Started | None:
    """Decide that a worker starts an instance."""
    if event.expires is not None:
        return None
    name, token = name_of(event.key), payload.dump(event.token)
    lease, early = str(event.lease // _MICROSECOND), "1" if event.early else ""
    raw: bytes = server.write("claim", key, now, *map(bulk, (name, token, lease, early)))
    if raw == b"other":
        return None
    _done, at, digest, text, *held = raw.decode().split("\0")
    pairs = zip(held[::2], held[1::2], strict=True)
    firings = {int(seq): firing_of(int(seq), found) for seq, found in pairs}
    return Started(digest, at, instance_of(name, text), firings)


@dataclass(frozen=True, slots=True)
class Started:
    """An instance that was claimed.

    :ivar digest: of the session's configuration.
    :ivar at: the session's time, in microseconds.
    :ivar firings: those that the instance holds, by sequence number.
    """

    digest: str
    at: str
    instance: Instance
    firings: dict[int, Firing]

    def transition(self, plan: Plan) -> Transition:
        """The difference that was made, as far as it concerns who asked for it."""
        key = self.instance.task, self.instance.number
        return Transition(
            seq=0,
            clock=moment(self.at),
            plan=plan,
            instances={key: self.instance},
            outcome=self.instance,
        )


def _answered(raw: bytes, plan: Plan, event: Finish | None = None) -> Transition | Stale | None:
    """The difference that a script has made, as far as it concerns who asked for it.

    Of the instances, those are there that are to be handed on, and the one that has finished.
    """
    answer = raw.decode().split("\0")
    if answer[0] != "done":
        return Stale(answer[1]) if len(answer) > 1 else None
    seq, at = int(answer[2]), moment(answer[1])
    first = 6 + int(answer[3])
    last = first + 2 * int(answer[4])
    end = last + int(answer[5])
    names = answer[6:first], answer[first:last:2], answer[last:end]
    created, scheduled, abandoned = map(tuple, names)
    instances = {
        key_of(answer[place]): instance_of(answer[place], answer[place + 1])
        for place in range(first, last, 2)
    }
    ready = tuple(instances)
    outcome: Any
    if event is None:
        outcome = FireResult(seq=seq, created=created, scheduled=scheduled, abandoned=abandoned)
    else:
        own = instance_of(name_of(event.key), answer[end])
        instances[event.key] = own.but(result=event.result)
        outcome = True
    return Transition(
        seq=seq,
        clock=at,
        plan=plan,
        instances=instances,
        created=tuple(map(key_of, created)),
        scheduled=ready,
        outcome=outcome,
    )
