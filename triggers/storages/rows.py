"""From rows to the part of a session that an event must see, and from its difference to rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from triggers import payload
from triggers.engine import Event, Pending, Plan, Reads, SessionState, Transition
from triggers.engine.state import InstanceKey
from triggers.models import from_instant, to_instant
from triggers.storages.sql import (
    Cursor,
    Statements,
    firing_of,
    firing_row,
    instance_of,
    instance_row,
)
from triggers.storages.whole import require_instance
from triggers.types import Firing, Instance, Status


@dataclass(frozen=True, slots=True)
class Head:
    """The row of a session, locked by this transaction.

    :ivar reserved: how many numbers the statement that locked the row has taken for the event.
    :ivar seq: sequence number as stored, ``reserved`` included.
    :ivar clock: the time of this decision, microseconds since 1970.
    :ivar digest: the configuration's digest, or ``None``.
    """

    reserved: int
    id: int
    seq: int
    clock: int
    digest: str | None
    manager: str | None
    version: int

    @classmethod
    def absent(cls, now: int | None) -> Head:
        """Stands for a session that does not exist."""
        return cls(0, 0, 0, now or 0, None, None, 0)


def read_state(
    cursor: Cursor, sql: Statements, head: Head, plan: Plan, event: Event, uid: str
) -> SessionState:
    """Read what an event must see.

    :raises InstanceNotFound: the event names an instance that does not exist.
    """
    reads = event.reads(plan)
    state = SessionState(
        plan=plan,
        seq=head.seq - head.reserved,
        clock=from_instant(head.clock),
        manager=head.manager,
    )
    for task, number in reads.instances:
        cursor.execute(sql.read_instance, [head.id, task, number])
        for row in cursor.fetchall():
            state.instances[task, number] = instance_of(row)
        require_instance(state.instances, (task, number), uid)
    for trigger in reads.triggers:
        if plan.listening(trigger):
            cursor.execute(sql.read_awaiting, [head.id, trigger])
            state.awaiting[trigger] = dict.fromkeys(cursor.fetchall())
            _read_numbered(cursor, sql, head, state, state.awaiting[trigger])
    _read_maxima(cursor, sql, head, plan, reads, state)
    _read_rarely(cursor, sql, head, reads, state)
    return state


def write_transition(
    cursor: Cursor, sql: Statements, head: Head, state: SessionState, transition: Transition
) -> None:
    """Write the difference that a decision makes."""
    plan, configuration = transition.plan, transition.plan.configuration
    if transition.configured or transition.manager or transition.seq != head.seq:
        digest = configuration.digest if transition.configured else head.digest
        manager = transition.manager or head.manager
        cursor.execute(sql.close_session, [transition.seq, digest, manager, head.id])
    _write_firings(cursor, sql, head, transition.firings)
    _write_instances(cursor, sql, head, transition)
    _write_awaited(cursor, sql, head, state, transition.instances.values(), plan)
    for pending in transition.pending:
        due_at = to_instant(pending.due_at)
        if pending.ref in state.pending:
            cursor.execute(sql.move_pending, [due_at, head.id, pending.ref])
        else:
            data = payload.dump(pending.data)
            cursor.execute(sql.add_pending, [head.id, pending.ref, pending.kind, data, due_at])
    for ref in transition.done:
        cursor.execute(sql.remove_pending, [head.id, ref])


def _read_numbered(
    cursor: Cursor,
    sql: Statements,
    head: Head,
    state: SessionState,
    keys: Iterable[InstanceKey],
) -> None:
    """Read these instances."""
    numbers: dict[str, list[int]] = {}
    for task, number in keys:
        numbers.setdefault(task, []).append(number)
    for task, wanted in numbers.items():
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            marks = ", ".join(["%s"] * len(some))
            cursor.execute(sql.read_numbered.format(marks), [head.id, task, *some])
            _add_instances(state, cursor.fetchall())


def _read_maxima(
    cursor: Cursor, sql: Statements, head: Head, plan: Plan, reads: Reads, state: SessionState
) -> None:
    """Read counts of instances and latest firings: one row, each value from the end of an index."""
    tasks, names = dict.fromkeys(reads.counts), dict.fromkeys(reads.latest)
    for trigger in reads.triggers:
        for listener in plan.listening(trigger):
            tasks[listener.config.name] = None
            names.update((name, None) for name in listener.names if name != trigger)
    parts = [*((sql.count, task) for task in tasks), *((sql.latest, name) for name in names)]
    # SQLite allows 999 parameters in a statement where it is old, and 2,000 columns.
    maxima: list[int | None] = []
    for start in range(0, len(parts), 400):
        some = parts[start : start + 400]
        params = [param for _part, name in some for param in (head.id, name)]
        cursor.execute("SELECT " + ", ".join(part for part, _name in some), params)
        maxima.extend(cursor.fetchone())
    for task, number in zip(tasks, maxima, strict=False):
        if number is not None:
            state.counts[task] = number + 1
    for name, seq in zip(names, maxima[len(tasks) :], strict=True):
        if seq is not None:
            state.latest[name] = seq


def _read_rarely(
    cursor: Cursor, sql: Statements, head: Head, reads: Reads, state: SessionState
) -> None:
    """Read what a plain firing does not need."""
    for task in reads.waiting:
        cursor.execute(sql.read_waiting, [head.id, Status.UNSTARTED.value, task])
        _add_instances(state, cursor.fetchall())
    if reads.key is not None:
        cursor.execute(sql.read_keyed_firing, [head.id, *reads.key])
        for row in cursor.fetchall():
            firing = firing_of(row)
            state.firings[firing.seq] = firing
            state.keys[reads.key] = firing.seq
    if reads.ref is not None:
        cursor.execute(sql.read_pending, [head.id, reads.ref])
        _add_pending(state, cursor.fetchall())
    if reads.due:
        cursor.execute(sql.due_instances, [head.id, head.clock])
        _add_instances(state, cursor.fetchall())
        state.due.update(dict.fromkeys(state.instances))
        cursor.execute(sql.due_pending, [head.id, head.clock])
        _add_pending(state, cursor.fetchall())
    if reads.history:
        cursor.execute(sql.read_history, [head.id])
        at = cast(Any, state.clock)
        for seq, trigger in cursor.fetchall():
            # Their kwargs stay where they are: history is about who takes which firing.
            state.firings[seq] = Firing(seq=seq, trigger=trigger, kwargs=payload.EMPTY, at=at)


def _add_instances(state: SessionState, rows: Iterable[Any]) -> None:
    for row in rows:
        instance = instance_of(row)
        state.instances[instance.task, instance.number] = instance


def _add_pending(state: SessionState, rows: Iterable[Any]) -> None:
    for ref, kind, data, due_at in rows:
        due = cast(Any, from_instant(due_at))
        mark = Pending(ref=ref, kind=kind, data=payload.decode(data), due_at=due)
        state.pending[ref] = mark


def _write_firings(cursor: Cursor, sql: Statements, head: Head, firings: list[Firing]) -> None:
    _each(cursor, sql.add_firing, [[head.id, *firing_row(firing)] for firing in firings])
    for firing in firings:
        if firing.key is not None:
            cursor.execute(sql.add_key, [head.id, firing.trigger, firing.key, firing.seq])


def _write_instances(cursor: Cursor, sql: Statements, head: Head, transition: Transition) -> None:
    added, changed = [], []
    for key, instance in transition.instances.items():
        row = instance_row(instance)
        if key in transition.created:
            added.append([head.id, *row])
        else:
            changed.append([*row[2:], head.id, *key])
    _each(cursor, sql.add_instance, added)
    _each(cursor, sql.change_instance, changed)


def _write_awaited(
    cursor: Cursor,
    sql: Statements,
    head: Head,
    state: SessionState,
    instances: Iterable[Instance],
    plan: Plan,
) -> None:
    """Keep the index of who awaits what in step with the instances."""
    decided, taken, opened = [], [], []
    for instance in instances:
        key = (instance.task, instance.number)
        known = state.instances.get(key)
        before: set[str] = set()
        if known is not None:
            before.update(state.plan.tasks[instance.task].open_names(known))
        after = set(plan.tasks[instance.task].open_names(instance))
        if before and not after:
            decided.append([head.id, *key])
        else:
            taken += [[head.id, *key, name] for name in sorted(before - after)]
        opened += [[head.id, *key, name] for name in sorted(after - before)]
    _each(cursor, sql.remove_awaited, decided)
    _each(cursor, sql.remove_awaited_trigger, taken)
    _each(cursor, sql.add_awaited, opened)


def _each(cursor: Cursor, statement: str, rows: list[list[Any]]) -> None:
    if len(rows) == 1:
        cursor.execute(statement, rows[0])
    elif rows:
        cursor.executemany(statement, rows)
