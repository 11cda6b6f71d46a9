"""Sessions in Redis, or Valkey: many firings a second."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Unpack

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from triggers.clock import overridden_time
from triggers.engine import (
    Event,
    MustSeeMore,
    Plan,
    Reads,
    SessionState,
    Transition,
    Verdicts,
    decide,
)
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Finish
from triggers.engine.plan import EMPTY_PLAN
from triggers.exceptions import StateVersionError, StorageUnavailable
from triggers.limits import LimitOptions
from triggers.storages.document import STATE_VERSION
from triggers.storages.redis import keys, plain
from triggers.storages.redis.address import checked, stripped
from triggers.storages.redis.listing import list_due, list_sessions
from triggers.storages.redis.plain import Stale, Started
from triggers.storages.redis.plans import (
    NO_DIGEST,
    guess,
    known_plan,
    remember_digest,
    remember_plan,
    remember_text,
)
from triggers.storages.redis.reading import HEAD_FIELDS, Head, Question, question_about
from triggers.storages.redis.records import firing_of, instance_of, instant, moment
from triggers.storages.redis.scripts import NOTHING, bulk
from triggers.storages.redis.server import Server, server_of
from triggers.storages.redis.slices import is_never_plain
from triggers.storages.redis.writing import change_of, deletion_of, newly_watched
from triggers.storages.session import SessionStorage
from triggers.storages.whole import require_instance
from triggers.types import Firing, Instance, Standing

DEFAULT_URL = "redis://localhost:6379/0"
URL_NAME = "TRIGGERS_REDIS_URL"
"""The setting, or else the environment variable, with the address of the server."""

_PLAIN: Mapping[type, Callable[..., Transition | Started | Stale | None]] = {
    Fire: plain.fire,
    Finish: plain.finish,
    Claim: plain.claim,
}
"""Who has the server decide which event."""

_PORTION = 1000
_LONGEST_PAUSE = 0.05  # seconds


class RedisStorageBackend(SessionStorage):
    """A session in Redis.

    :param uid: the session's uid.
    :param url: address of the server, as for ``redis.from_url``; by default the Django setting or
        environment variable ``TRIGGERS_REDIS_URL``, or else ``redis://localhost:6379/0``.
    :param prefix: what all keys begin with, behind a brace: ``{triggers:43}:…``, with the number of
        the bucket that a session belongs to. Sessions under another prefix are others.
    :param limits: see :class:`~triggers.limits.Limits`.
    :raises SettingsError: ``url``, ``prefix`` or a limit cannot be used, or redis-py is not
        installed.
    """

    name = "redis"

    def __init__(
        self,
        uid: str,
        *,
        url: str | None = None,
        prefix: str = "triggers",
        **limits: Unpack[LimitOptions],
    ) -> None:
        super().__init__(uid, **limits)
        self.url = checked(url or _default_url())
        self.prefix = keys.check_prefix(prefix)
        self._key = keys.head_key(prefix, uid)
        self._wire_key = bulk(self._key)
        self._place = (self.url, prefix)
        self._held: dict[int, Firing] = {}

    @property
    def options(self) -> dict[str, Any]:
        chosen: dict[str, Any] = super().options
        # What workers find by themselves does not travel, and passwords never do.
        if self.url != _default_url():
            chosen["url"] = stripped(self.url)
        if self.prefix != "triggers":
            chosen["prefix"] = self.prefix
        return chosen

    # -- the port -------------------------------------------------------------------------------

    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        self._held = {}
        transition = self._plainly(event, verdicts)
        if transition is not None:
            return transition
        started = time.monotonic()
        pause = 0.001
        while True:
            transition = self._try(event, verdicts)
            if transition is not None:
                return transition
            if time.monotonic() - started > self.limits.server_timeout:
                reason = f"others keep changing session {self.uid!r}"
                raise StorageUnavailable(self.name, reason)
            # Full jitter, so that those who met once do not meet again.
            time.sleep(random.uniform(0, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def plan(self) -> Plan:
        return self._plan_of(self._head())

    def standing(self) -> Standing:
        head = self._head()
        if head.revision is None:
            return Standing()
        return Standing(phase=head.phase, seq=head.seq, changed_at=head.clock, manager=head.manager)

    def find_instances(
        self, *, task: str | None = None, number: int | None = None
    ) -> Iterable[Instance]:
        if task is not None and number is not None:
            names = [f"{task}#{number}"]
        elif task is not None:
            [count] = self._server.commands(["HGET", self._key, keys.count_field(task)])
            names = [f"{task}#{number}" for number in range(int(count or 0))]
        else:
            counts = self._head_fields("c:")
            names = [f"{name}#{n}" for name, count in counts.items() for n in range(count)]
        texts = self._body(names)
        found = [
            instance_of(name, text.decode())
            for name, text in zip(names, texts, strict=True)
            if text is not None
        ]
        if task is None and found:
            order = self.plan().positions
            # A task that was added in between comes last.
            found.sort(key=lambda each: (order.get(each.task, len(order)), each.number))
        return found

    def find_firings(
        self, *, seqs: Collection[int] | None = None, latest: bool = False
    ) -> Iterable[Firing]:
        if seqs is not None and self._held.keys() >= set(seqs):
            return [self._held[seq] for seq in sorted(seqs)]
        if latest:
            seqs = set(self._head_fields("l:").values())
        elif seqs is None:
            seqs = range(1, self.standing().seq + 1)
        wanted = sorted(seqs)
        texts = self._body(list(map(str, wanted)))
        return [
            firing_of(seq, text.decode())
            for seq, text in zip(wanted, texts, strict=True)
            if text is not None
        ]

    def delete(self) -> None:
        while True:
            head = self._head()
            change = deletion_of(self.uid, head, self._plan_of(head))
            if self._server.write("commit", self._wire_key, *change) == b"done":
                return

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        storage = cls("-", **options)
        return list_due(storage._server, storage.prefix, "due", limit, storage.now())

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> Collection[str]:
        storage = cls("-", **options)
        latest = until or storage.now()
        return list_due(storage._server, storage.prefix, "timers", limit, latest)

    @classmethod
    def sessions(
        cls,
        limit: int,
        *,
        after: str = "",
        unchanged_since: datetime | None = None,
        **options: Any,
    ) -> list[str]:
        storage = cls("-", **options)
        return list_sessions(storage._server, storage.prefix, limit, after, unchanged_since)

    def now(self) -> datetime:
        if overridden_time() is not None:
            return super().now()
        [(seconds, microseconds)] = self._server.commands(["TIME"])
        return moment(seconds.decode() + microseconds.decode().rjust(6, "0"))

    # -- how it is done -------------------------------------------------------------------------

    def _plainly(self, event: Event, verdicts: Verdicts) -> Transition | None:
        """Have the server decide; ``None`` if the engine must."""
        decide_plainly = _PLAIN.get(type(event))
        if decide_plainly is None:
            return None
        for _ in range(2):
            plan = known_plan(guess(self._place, self._key))
            if plan is None or (type(event) is Fire and is_never_plain(plan, event.trigger)):
                return None
            server, now = self._server, self._given()
            answer = decide_plainly(server, self._wire_key, now, event, plan, verdicts)
            if isinstance(answer, Transition):
                return answer
            if isinstance(answer, Started):
                self._held = answer.firings
                return answer.transition(self._plan_named(answer.digest))
            if answer is None:
                return None
            remember_digest(self._place, self._key, answer.digest)
        return None

    @property
    def _server(self) -> Server:
        return server_of(self.url, self.limits.server_timeout)

    def _try(self, event: Event, verdicts: Verdicts) -> Transition | None:
        """Read, decide, write; ``None`` if somebody else has written in between."""
        digest = guess(self._place, self._key)
        plan = known_plan(digest)
        if plan is None:
            digest, plan = NO_DIGEST, EMPTY_PLAN
        answer = self._ask(question := question_about(event, plan, digest))
        head = Head.of(answer["head"])
        if head.version > STATE_VERSION:
            raise StateVersionError(self.uid, head.version, STATE_VERSION)
        if head.digest != digest:
            plan = self._plan_of(head)
            answer = self._ask(question := question_about(event, plan, head.digest), head)
            if not answer.get("answered"):
                return None
        now = moment(answer["now"])
        state = SessionState(
            plan=plan,
            is_whole=False,
            phase=head.phase,
            seq=head.seq,
            clock=head.clock,
            manager=head.manager,
        )
        question.add_to(state, answer, now)
        for key in question.reads.instances:
            require_instance(state.instances, key, self.uid)
        while True:
            try:
                transition = decide(event, state, now, verdicts)
                break
            except MustSeeMore as more:
                if not self._see(more.reads, head, state, event, now):
                    return None
        if transition.is_empty:
            return transition
        unsettled: Mapping[str, Collection[int]] = {}
        if transition.configured:
            found = self._unsettled(head, state, transition, now)
            if found is None:
                return None
            unsettled = found
        change = change_of(self.uid, head, state, transition, unsettled)
        if self._server.write("commit", self._wire_key, *change) != b"done":
            return None
        if transition.configured:
            digest = transition.plan.configuration.digest
            remember_plan(digest, transition.plan)
            remember_digest(self._place, self._key, digest)
        return transition

    def _ask(self, question: Question, head: Head | None = None) -> dict[str, Any]:
        args = self._given() + question.arguments(None if head is None else head.revision)
        return question.parsed(self._server.read("read", self._wire_key, args, 1 + question.size))

    @staticmethod
    def _given() -> bytes:
        """The present as tests have set it, for a script; nothing while the server's counts."""
        given = overridden_time()
        return NOTHING if given is None else bulk(instant(given))

    def _see(
        self, reads: Reads, head: Head, state: SessionState, event: Event, now: datetime
    ) -> bool:
        """Read more of the session into a state; whether it has not changed meanwhile."""
        question = Question(state.plan, head.digest, reads, event.until or now)
        answer = self._ask(question, head)
        if not answer.get("answered"):
            return False
        question.add_to(state, answer, now)
        return True

    def _unsettled(
        self, head: Head, state: SessionState, transition: Transition, now: datetime
    ) -> dict[str, set[int]] | None:
        """What there is of tasks that are watched from now on; ``None``: it has changed again."""
        tasks = newly_watched(state, transition)
        if not tasks or head.revision is None:
            return {task: set() for task in tasks}
        found = SessionState(plan=state.plan, is_whole=False)
        reads = Reads(unsettled=tuple((task, 1) for task in tasks))
        answer = self._ask(question := Question(state.plan, head.digest, reads, now), head)
        if not answer.get("answered"):
            return None
        question.add_to(found, answer, now)
        return {task: found.unsettled[task] for task in tasks}

    def _head(self) -> Head:
        [fields] = self._server.commands(["HMGET", self._key, *HEAD_FIELDS])
        return Head.of([False if each is None else each.decode() for each in fields])

    def _plan_of(self, head: Head) -> Plan:
        """The configuration of a session."""
        plan = self._plan_named(head.digest)
        if head.revision is not None:
            remember_digest(self._place, self._key, head.digest)
        return plan

    def _plan_named(self, digest: str) -> Plan:
        """The configuration of this digest, which is read once per process."""
        plan = known_plan(digest)
        while plan is None:
            bucket = keys.bucket_of(self.uid)
            key = keys.bucket_key(self.prefix, bucket, f"plan:{digest}")
            [text] = self._server.commands(["HGET", key, "text"])
            if text is not None:
                return remember_text(digest, text.decode())
            # The session has got another one meanwhile, and nobody else has this one.
            digest = self._head().digest
            plan = known_plan(digest)
        return plan

    def _head_fields(self, prefix: str) -> dict[str, int]:
        """Numbers in the head, by what follows on a prefix."""
        [pairs] = self._server.commands(["HGETALL", self._key])
        fields = zip(pairs[::2], pairs[1::2], strict=True)
        named = ((name.decode(), value) for name, value in fields)
        return {
            name.removeprefix(prefix): int(value)
            for name, value in named
            if name.startswith(prefix)
        }

    def _body(self, fields: list[str]) -> list[bytes | None]:
        """Texts of instances or firings."""
        portions = [fields[start : start + _PORTION] for start in range(0, len(fields), _PORTION)]
        if not portions:
            return []
        key = self._key + keys.BODY
        answers = self._server.commands(*(["HMGET", key, *some] for some in portions))
        return [each for answer in answers for each in answer]


def _default_url() -> str:
    """The address that is meant where none is given."""
    try:
        configured = _configured_url()
    except ImproperlyConfigured:  # a script or a test without Django settings
        configured = None
    return configured or os.environ.get(URL_NAME) or DEFAULT_URL


@lru_cache(maxsize=1)
def _configured_url() -> str | None:
    # Django looks up slowly what is not there, and every message asks.
    return getattr(settings, URL_NAME, None)


def _forget_url(*, setting: str, **_more: object) -> None:
    if setting == URL_NAME:
        _configured_url.cache_clear()


setting_changed.connect(_forget_url, dispatch_uid="triggers.storages.redis")
