"""Plain firings, claims and finishes: decided on the server, in one round trip.

Each function here answers ``None`` if the engine must decide after all; nothing has been written
then. What is plain, and what the scripts make of it, is held against the engine by
``tests/integration/test_redis_executors.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from triggers import payload
from triggers.engine import Plan, Transition, Unjudged, Verdicts
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Finish
from triggers.engine.state import InstanceKey
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
    args = b"".join((now, bulk(tail), limit, field, NOTHING, slice_.wire))
    return _answered(server.write("fire", key, args, 5 + slice_.size), plan)


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
    own = bulk(f"{payload.dump(event.token)}\n{result}\n{metadata}\n{name}")
    args = b"".join((now, bulk(tail), NOTHING, NOTHING, own, slice_.wire))
    return _answered(server.write("fire", key, args, 5 + slice_.size), plan, event)


def claim(
    server: Server, key: bytes, now: bytes, event: Claim, _plan: Plan, _verdicts: Verdicts
) -> Started | None:
    """Decide that a worker starts an instance."""
    if event.expires is not None:
        return None
    name, token = name_of(event.key), payload.dump(event.token)
    lease, early = str(event.lease // _MICROSECOND), "1" if event.early else ""
    raw: bytes = server.write(
        "claim", key, now + b"".join(map(bulk, (name, token, lease, early))), 5
    )
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


class Written(Mapping[InstanceKey, Instance]):
    """Instances that a script has written; each is read when it is looked at.

    :param texts: as they are stored, but for the result of the one that has finished.
    :param event: by which it has.
    """

    def __init__(self, texts: Mapping[InstanceKey, str], event: Finish | None) -> None:
        self._texts = texts
        self._event = event
        self._read: dict[InstanceKey, Instance] = {}

    def __getitem__(self, key: InstanceKey) -> Instance:
        found = self._read.get(key)
        if found is None:
            found = instance_of(name_of(key), self._texts[key])
            if self._event is not None and key == self._event.key:
                found = found.but(result=self._event.result)
            self._read[key] = found
        return found

    def __iter__(self) -> Iterator[InstanceKey]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _answered(raw: bytes, plan: Plan, event: Finish | None = None) -> Transition | Stale | None:
    """The difference that a script has made, as far as it concerns who asked for it.

    Of the instances, those are there that are to be handed on, and the one that has finished.
    """
    answer = raw.decode().split("\0")
    if answer[0] != "done":
        return Stale(answer[1]) if len(answer) > 1 else None
    seq = int(answer[2])
    created: list[str] = []
    scheduled: list[str] = []
    abandoned: list[str] = []
    texts: dict[InstanceKey, str] = {}
    parts = iter(answer[3:])
    for part in parts:
        kind, name = part[0], part[1:]
        if kind == "+":
            created.append(name)
        elif kind == "!":
            scheduled.append(name)
            texts[key_of(name)] = next(parts)
        elif kind == "-":
            abandoned.append(name)
    ready = tuple(texts)
    outcome: Any
    if event is None:
        outcome = FireResult(
            seq=seq,
            created=tuple(created),
            scheduled=tuple(scheduled),
            abandoned=tuple(abandoned),
        )
    else:
        # The server did not send the result back.
        texts[event.key] = answer[-1][1:]
        outcome = True
    return Transition(
        seq=seq,
        clock=moment(answer[1]),
        plan=plan,
        instances=Written(texts, event) if texts else {},
        created=tuple(map(key_of, created)),
        scheduled=ready,
        outcome=outcome,
    )
