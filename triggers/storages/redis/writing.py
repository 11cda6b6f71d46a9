"""From the difference that a decision makes to the commands that write it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import count
from typing import Any

from triggers import payload
from triggers.engine import Plan, SessionState, Transition
from triggers.engine.plan import SETTLED
from triggers.storages.document import (
    VERSION_OF_FINALIZING,
    VERSION_OF_NAMES,
    VERSION_OF_PHASES,
)
from triggers.storages.redis import keys
from triggers.storages.redis.plans import NO_DIGEST
from triggers.storages.redis.reading import Head
from triggers.storages.redis.records import (
    firing_text,
    instance_text,
    instant,
    keyed_field,
    name_of,
    pending_text,
)
from triggers.storages.redis.scripts import bulks
from triggers.types import Instance, Phase, Status

_PORTION = 1000
"""Members of one command: what a script passes on goes through a stack of bounded depth."""


def change_of(
    uid: str,
    head: Head,
    state: SessionState,
    transition: Transition,
    unsettled: Mapping[str, Collection[int]],
) -> tuple[bytes, int]:
    """What the script ``commit.lua`` is to do: its arguments, and how many they are.

    :param unsettled: of tasks that are watched from now on: the unsettled instances there were.
    """
    writes = Writes(uid)
    plan = lists = None
    if transition.phase is Phase.PURGED:
        writes.remove_all(state.plan)
        plan, lists = [head.digest, NO_DIGEST, ""], "gone"
    elif head.revision is None:
        lists = "listed"
    if transition.configured:
        configuration = transition.plan.configuration
        plan = [head.digest, configuration.digest, configuration.body]
        writes.watch(state.plan, transition, unsettled)
    writes.set_head(head, transition)
    if transition.firings or transition.passed:
        writes.add_firings(transition)
    if transition.instances:
        writes.put_instances(state, transition)
    if transition.pending or transition.done:
        writes.pass_marks(transition)
    return writes.arguments(head, plan, lists)


def deletion_of(uid: str, head: Head, plan: Plan) -> tuple[bytes, int]:
    """What ``commit.lua`` is to do to leave nothing of a session."""
    writes = Writes(uid)
    writes.remove_all(plan)
    return writes.arguments(head, [head.digest, NO_DIGEST, ""], "gone")


class Writes:
    """The commands of one commit, and the indexes that they concern.

    :ivar commands: each as text, its words ended by NUL, after the number of its words. In place of
        the key stands the part of the session (empty: the head), or ``!`` and that of its bucket.
    :ivar removals: those that remove all that there was.
    :ivar head: fields of the session's head.
    :ivar body: names or numbers, and texts, of instances and firings, in turns.
    :ivar due: when recovery is to look at what from now on.
    :ivar timers: when time changes which instance from now on.
    """

    def __init__(self, uid: str) -> None:
        self._uid = uid
        self.removals: list[str] = []
        self.commands: list[str] = []
        self.head: dict[str, str] = {}
        self.body: list[str] = []
        self.due = _Times()
        self.timers = _Times()

    def arguments(self, head: Head, plan: list[str] | None, lists: str | None) -> tuple[bytes, int]:
        """All of it in the form of the wire, and how many arguments that are.

        :param head: as it was read; the commit is void if it has changed.
        :param plan: digests of the configurations before and after, and the text of the latter.
        :param lists: whether the session is ``listed`` from now on, or ``gone`` from the list.
        """
        if self.head:
            self.head["rev"] = _new_revision()
        change: dict[str, Any] = {}
        # These come first: a server that is full refuses a script only before it has written.
        head_fields = [each for pair in self.head.items() for each in pair]
        first = [*self.removals]
        _put(first, "HSET", "", head_fields)
        _put(first, "HSET", keys.BODY, self.body)
        if self.due.set or self.due.unset:
            member = keys.member_of(self._uid)
            self._add("ZADD", "!due", self.due.of(member))
            if self.due.unset:
                self._add("ZREM", "!due", [f"{member} {what}" for what in self.due.unset])
        if self.timers.set or self.timers.unset or lists == "gone":
            self._add("ZADD", keys.TIMERS, self.timers.of())
            self._add("ZREM", keys.TIMERS, self.timers.unset)
            change["timers"] = True
        if plan is not None and plan[0] != plan[1]:
            change["plan"] = plan
        if lists is not None:
            change["lists"] = lists
        said = payload.dump(change) if change else ""
        return bulks([head.revision or "", said, "".join(first + self.commands)]), 3

    def remove_all(self, plan: Plan) -> None:
        """Remove every key of the session."""
        names = [*plan.listeners, *(task + SETTLED for task in plan.watched), keys.NOTHING_OPEN]
        parts = ["", *keys.PARTS, *map(keys.awaited, names), *map(keys.unsettled, plan.watched)]
        self.removals = [f"2\0UNLINK\0{part}\0" for part in parts]

    def set_head(self, head: Head, transition: Transition) -> None:
        """Write what concerns the session as a whole."""
        fields = self.head
        fields["seq"] = str(transition.seq)
        fields["clock"] = instant(transition.clock)
        if head.revision is None or transition.phase is not None:
            fields["phase"] = (transition.phase or head.phase).value
            is_open = transition.phase is None
            needed = VERSION_OF_NAMES if is_open else VERSION_OF_PHASES
            fields["version"] = str(max(head.version, needed))
        if transition.configured:
            fields["digest"] = transition.plan.configuration.digest
            if transition.plan.configuration.finalizes:
                fields["version"] = str(max(head.version, VERSION_OF_FINALIZING))
        if transition.manager is not None:
            fields["manager"] = transition.manager

    def add_firings(self, transition: Transition) -> None:
        """Record the firings, and what they are the latest of."""
        idempotency: list[str] = []
        for firing in transition.firings:
            seq = str(firing.seq)
            self.body += (seq, firing_text(firing))
            self.head[keys.latest_field(firing.trigger)] = seq
            for trigger in firing.also:
                self.head[keys.latest_field(trigger)] = seq
            if firing.key is not None:
                idempotency += (keyed_field(firing.trigger, firing.key), seq)
        if idempotency:
            self._add("HSET", keys.IDEMPOTENCY, idempotency)
        for (task, trigger), passed in transition.passed.items():
            if passed:
                self.head[keys.passed_field(task, trigger)] = str(passed)
            else:
                self._add("HDEL", "", [keys.passed_field(task, trigger)])

    def put_instances(self, state: SessionState, transition: Transition) -> None:
        """Write instances, and keep in step who waits for what, and what is due when."""
        before, after = state.plan, transition.plan
        watched = before.watched & after.watched
        moved: dict[tuple[str, str], list[str]] = {}
        for key, instance in transition.instances.items():
            name = name_of(key)
            known = state.instances.get(key)
            self.body += (name, instance_text(instance))
            awaited = () if known is None else _awaits(before, known)
            awaits = _awaits(after, instance)
            if awaited != awaits:
                for trigger in awaited:
                    if trigger not in awaits:
                        moved.setdefault(("SREM", trigger), []).append(name)
                for trigger in awaits:
                    if trigger not in awaited:
                        moved.setdefault(("SADD", trigger), []).append(name)
            due_at, timer_at = (None, None) if known is None else (known.due_at, known.timer_at)
            if instance.due_at != due_at:
                self.due.note(f"i:{name}", instance.due_at)
                if due_at is None or instance.due_at is None:
                    verb = "SADD" if due_at is None else "SREM"
                    self._add(verb, keys.ACTIVE, [name])
            if instance.timer_at != timer_at:
                self.timers.note(name, instance.timer_at)
            if instance.task in watched:
                verb = "SREM" if instance.status.is_resolved else "SADD"
                self._add(verb, keys.unsettled(instance.task), [str(instance.number)])
        for task, number in transition.created:
            field = keys.count_field(task)
            self.head[field] = str(max(int(self.head.get(field, 0)), number + 1))
        for (verb, trigger), members in moved.items():
            _put(self.commands, verb, keys.awaited(trigger), members)

    def pass_marks(self, transition: Transition) -> None:
        """Write the pending marks that were left, moved or fulfilled."""
        texts: list[str] = []
        for mark in transition.pending:
            self.due.note(f"p:{mark.ref}", mark.due_at)
            texts += (mark.ref, pending_text(mark))
        for ref in transition.done:
            self.due.note(f"p:{ref}", None)
        self._add("HSET", keys.PENDING, texts)
        self._add("HDEL", keys.PENDING, list(transition.done))

    def watch(
        self, before: Plan, transition: Transition, unsettled: Mapping[str, Collection[int]]
    ) -> None:
        """Begin or end to keep track of the unsettled instances of tasks."""
        after = transition.plan.watched
        for task in before.watched - after:
            self.commands.append(f"2\0UNLINK\0{keys.unsettled(task)}\0")
        for task, known in unsettled.items():
            numbers = set(known)
            for (name, number), instance in transition.instances.items():
                if name == task:
                    change = numbers.discard if instance.status.is_resolved else numbers.add
                    change(number)
            self._add("SADD", keys.unsettled(task), list(map(str, sorted(numbers))))

    def _add(self, verb: str, part: str, arguments: list[str]) -> None:
        _put(self.commands, verb, part, arguments)


def _put(commands: list[str], verb: str, part: str, arguments: list[str]) -> None:
    """Add a command, in portions of an even length, since many arguments come in pairs."""
    while len(arguments) > _PORTION:
        _put(commands, verb, part, arguments[:_PORTION])
        arguments = arguments[_PORTION:]
    if arguments:
        commands.append("\0".join((str(len(arguments) + 2), verb, part, *arguments, "")))


class _Times:
    """What is due at another time from now on, or not any more.

    :ivar set: what, and when.
    :ivar unset: what.
    """

    __slots__ = ("set", "unset")

    def __init__(self) -> None:
        self.set: list[tuple[str, str]] = []
        self.unset: list[str] = []

    def note(self, what: str, moment: datetime | None) -> None:
        """Something is due at this moment from now on."""
        if moment is None:
            self.unset.append(what)
        else:
            self.set.append((what, instant(moment)))

    def of(self, member: str = "") -> list[str]:
        """Times and members, in turns.

        :param member: the session, where members are of several.
        """
        prefix = f"{member} " if member else ""
        return [each for what, at in self.set for each in (at, prefix + what)]


def _awaits(plan: Plan, instance: Instance) -> tuple[str, ...]:
    """What an instance is indexed under, while it waits."""
    if instance.status is not Status.UNSTARTED:
        return ()
    return plan.tasks[instance.task].open_names(instance) or (keys.NOTHING_OPEN,)


_process = secrets.token_hex(6)
_count = count()


def _new_revision() -> str:
    """A text that no commit has ever had: a mere count would come again after commits were lost.

    So it is when a replica takes over that had not got them yet. Taken from the system's random
    numbers each time, it would take longer than all else that is written here.
    """
    return f"{_process}{next(_count):x}"


def _start_afresh() -> None:
    """In a forked process, which must not count on from where its parent is."""
    global _process
    _process = secrets.token_hex(6)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def newly_watched(state: SessionState, transition: Transition) -> frozenset[str]:
    """Tasks whose unsettled instances must be kept track of under a new configuration."""
    return transition.plan.watched - state.plan.watched
