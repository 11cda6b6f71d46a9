"""From rows to the part of a session that an event must see, and from its difference to rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from triggers import payload
from triggers.engine import (
    Event,
    Pending,
    Plan,
    Reads,
    SessionState,
    TaskPlan,
    Transition,
    reads_of,
)
from triggers.engine.plan import SETTLED
from triggers.engine.state import InstanceKey
from triggers.models import from_instant, to_instant
from triggers.storages.document import VERSION_OF_NAMES, VERSION_OF_PHASES, needed_version
from triggers.storages.sql import (
    UNSETTLED,
    Cursor,
    Statements,
    Writer,
    changed_columns,
    firing_rows,
    firings_of,
    instance_of,
    instance_row,
)
from triggers.storages.whole import require_instance
from triggers.types import Firing, Instance, Phase, Status


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
    phase: str

    @classmethod
    def absent(cls, now: int | None) -> Head:
        """Stands for a session that does not exist."""
        return cls(0, 0, 0, now or 0, None, None, 0, Phase.OPEN.value)


def read_state(
    cursor: Cursor, sql: Statements, head: Head, plan: Plan, event: Event, uid: str
) -> SessionState:
    """Read what an event must see, as far as that is known before it is decided.

    :raises InstanceNotFound: the event names an instance that does not exist.
    """
    state = SessionState(
        plan=plan,
        is_whole=False,
        phase=Phase(head.phase),
        seq=head.seq - head.reserved,
        clock=from_instant(head.clock),
        manager=head.manager,
    )
    reads = reads_of(event, plan, cast(Any, state.clock))
    read_more(cursor, sql, head, plan, reads, state)
    for key in reads.instances:
        require_instance(state.instances, key, uid)
    return state


def read_more(
    cursor: Cursor, sql: Statements, head: Head, plan: Plan, reads: Reads, state: SessionState
) -> None:
    """Add to a state what a decision must see."""
    for task, number in reads.instances:
        cursor.execute(sql.read_instance, [head.id, task, number])
        _add_instances(state, cursor.fetchall())
    tasks, names = dict.fromkeys(reads.counts), dict.fromkeys(reads.latest)
    for trigger in reads.triggers:
        state.awaiting[trigger] = {}
        if not plan.listening(trigger) and not trigger.endswith(SETTLED):
            continue
        cursor.execute(sql.read_awaiting, [head.id, trigger])
        awaiting = state.awaiting[trigger] = dict.fromkeys(cursor.fetchall())
        _read_numbered(cursor, sql, head, state, awaiting)
        waiting = {task for task, _number in awaiting}
        for listener in plan.listening(trigger):
            # Where none is waiting, a new instance may begin, with what was fired before.
            if listener.config.name not in waiting:
                tasks[listener.config.name] = None
                names.update(_carried(plan, listener, trigger))
    _read_maxima(cursor, sql, head, tasks, names, state)
    if reads.timers_until is not None:
        cursor.execute(sql.read_timers, [head.id, to_instant(reads.timers_until)])
        _read_numbered(cursor, sql, head, state, cursor.fetchall())
        state.timers = sorted(
            (instance.timer_at, key)
            for key, instance in state.instances.items()
            if instance.timer_at is not None
        )
        state.timers_until = reads.timers_until
    _read_rarely(cursor, sql, head, reads, state)


def _carried(plan: Plan, task: TaskPlan, trigger: str) -> dict[str, None]:
    """The triggers whose latest firings a new instance may begin with."""
    return {
        recorded: None
        for name in task.names
        if name != trigger and name not in task.tracked
        for recorded in plan.recorded_as(name)
    }


def write_transition(
    cursor: Writer, sql: Statements, head: Head, state: SessionState, transition: Transition
) -> None:
    """Write the difference that a decision makes."""
    plan, configuration = transition.plan, transition.plan.configuration
    clock = to_instant(transition.clock)
    is_later = clock is not None and clock > head.clock
    version, phase = _needed_version(head, transition), transition.phase or head.phase
    is_other = version != head.version or phase != head.phase or transition.configured
    if is_other or transition.manager or transition.seq != head.seq or is_later:
        digest = configuration.digest if transition.configured else head.digest
        manager = transition.manager or head.manager
        if transition.phase is Phase.PURGED:
            _remove_contents(cursor, sql, head)
            digest = manager = None
        row = [transition.seq, clock, digest, manager, version, str(phase), head.id]
        cursor.execute(sql.close_session, row)
    _write_firings(cursor, sql, head, transition.firings)
    _write_instances(cursor, sql, head, state, transition)
    _write_awaited(cursor, sql, head, state, transition.instances.values(), plan)
    _write_timers(cursor, sql, head, state, transition.instances.values())
    for (task, trigger), seq in transition.passed.items():
        if seq:
            cursor.execute(sql.set_passed, [head.id, task, trigger, seq, seq])
        else:
            cursor.execute(sql.remove_passed, [head.id, task, trigger])
    for pending in transition.pending:
        data, due_at = payload.dump(pending.data), to_instant(pending.due_at)
        if pending.ref in state.pending:
            cursor.execute(sql.move_pending, [data, due_at, head.id, pending.ref])
        else:
            cursor.execute(sql.add_pending, [head.id, pending.ref, pending.kind, data, due_at])
    for ref in transition.done:
        cursor.execute(sql.remove_pending, [head.id, ref])


def _needed_version(head: Head, transition: Transition) -> int:
    """The version of what is stored: not more than it needs, for the sake of older processes."""
    needed = head.version
    if transition.configured:
        finalizes = transition.plan.configuration.finalizes
        needed = max(needed, needed_version(Phase.OPEN, finalizes=finalizes))
    if any(each.also for each in transition.firings):
        needed = max(needed, VERSION_OF_NAMES)
    if transition.phase is not None:
        needed = max(needed, VERSION_OF_PHASES)
    return needed


def _remove_contents(cursor: Writer, sql: Statements, head: Head) -> None:
    for statement in sql.remove_contents:
        cursor.execute(statement, [head.id])


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
    cursor: Cursor,
    sql: Statements,
    head: Head,
    tasks: Mapping[str, None],
    names: Mapping[str, None],
    state: SessionState,
) -> None:
    """Read counts of instances and latest firings: one row, each value from the end of an index."""
    parts = [*((sql.count, task) for task in tasks), *((sql.latest, name) for name in names)]
    # SQLite allows 999 parameters in a statement where it is old, and 2,000 columns.
    maxima: list[int | None] = []
    for start in range(0, len(parts), 400):
        some = parts[start : start + 400]
        params = [param for _part, name in some for param in (head.id, name)]
        cursor.execute("SELECT " + ", ".join(part for part, _name in some), params)
        maxima.extend(cursor.fetchone())
    for task, number in zip(tasks, maxima, strict=False):
        state.counts[task] = 0 if number is None else number + 1
    for name, seq in zip(names, maxima[len(tasks) :], strict=True):
        state.latest[name] = seq or 0


def _read_rarely(
    cursor: Cursor, sql: Statements, head: Head, reads: Reads, state: SessionState
) -> None:
    """Read what a plain firing does not need."""
    for task, trigger in reads.passed:
        cursor.execute(sql.read_passed, [head.id, task, trigger])
        row = cursor.fetchone()
        state.passed[task, trigger] = row[0] if row else 0
    if reads.firings:
        add_firings(cursor, sql, head.id, reads.firings, state.firings)
    for task, limit in reads.unsettled:
        cursor.execute(sql.read_unsettled, [head.id, task, limit] * len(UNSETTLED))
        state.unsettled[task] = {number for (number,) in cursor.fetchall()}
        state.unsettled_limits[task] = limit
    for task in reads.waiting:
        cursor.execute(sql.read_waiting, [head.id, Status.UNSTARTED.value, task])
        _add_instances(state, cursor.fetchall())
    if reads.key is not None:
        cursor.execute(sql.read_keyed_firing, [head.id, *reads.key])
        for firing in firings_of(cursor.fetchall()):
            state.firings[firing.seq] = firing
            state.keys[reads.key] = firing.seq
    if reads.ongoing is not None:
        tasks, limit = reads.ongoing
        state.ongoing = _read_ongoing(cursor, sql, head, tasks, limit)
        state.ongoing_limit = limit
    if reads.unresolved:
        cursor.execute(sql.read_unresolved, [head.id])
        _add_instances(state, cursor.fetchall())
    if reads.marks:
        cursor.execute(sql.count_deferred, [head.id])
        [state.deferred] = cursor.fetchone()
    if reads.unresolved or reads.marks:
        cursor.execute(sql.all_pending, [head.id])
        _add_pending(state, cursor.fetchall())
    if reads.ref is not None:
        cursor.execute(sql.read_pending, [head.id, reads.ref])
        _add_pending(state, cursor.fetchall())
    if reads.due:
        cursor.execute(sql.due_instances, [head.id, head.clock])
        state.due.update(dict.fromkeys(_add_instances(state, cursor.fetchall())))
        cursor.execute(sql.due_pending, [head.id, head.clock])
        _add_pending(state, cursor.fetchall())
    if reads.history:
        cursor.execute(sql.read_history, [head.id])
        history: dict[int, tuple[str, ...]] = {}
        for seq, trigger in cursor.fetchall():
            history[seq] = (*history.get(seq, ()), trigger)
        state.history = history


def _read_ongoing(
    cursor: Cursor, sql: Statements, head: Head, tasks: tuple[str, ...], limit: int
) -> set[InstanceKey]:
    """Read which instances of these tasks go on by themselves, or must be looked after."""
    found: set[InstanceKey] = set()
    for task in tasks:
        left = limit - len(found)
        if left <= 0:
            break
        cursor.execute(sql.read_ongoing, [head.id, task, left] * len(UNSETTLED))
        found.update((task, number) for (number,) in cursor.fetchall())
    return found


def add_firings(
    cursor: Cursor, sql: Statements, session: int, seqs: Iterable[int], found: dict[int, Firing]
) -> None:
    """Read the firings with these sequence numbers."""
    wanted = sorted(seqs)
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        marks = ", ".join(["%s"] * len(some))
        cursor.execute(sql.read_firings_numbered.format(marks), [session, *some])
        found.update((firing.seq, firing) for firing in firings_of(cursor.fetchall()))


def _add_instances(state: SessionState, rows: Iterable[Any]) -> list[InstanceKey]:
    found = {(row[0], row[1]): instance_of(row) for row in rows}
    state.instances.update(found)
    return list(found)


def _add_pending(state: SessionState, rows: Iterable[Any]) -> None:
    for ref, kind, data, due_at in rows:
        due = cast(Any, from_instant(due_at))
        mark = Pending(ref=ref, kind=kind, data=payload.decode(data), due_at=due)
        state.pending[ref] = mark


def _write_firings(cursor: Writer, sql: Statements, head: Head, firings: list[Firing]) -> None:
    rows = [[head.id, *row] for firing in firings for row in firing_rows(firing)]
    _each(cursor, sql.add_firing, rows)
    for firing in firings:
        if firing.key is not None:
            cursor.execute(sql.add_key, [head.id, firing.trigger, firing.key, firing.seq])


def _write_instances(
    cursor: Writer, sql: Statements, head: Head, state: SessionState, transition: Transition
) -> None:
    added: list[list[Any]] = []
    changed: dict[tuple[str, ...], list[list[Any]]] = {}
    for key, instance in transition.instances.items():
        if key in transition.created:
            added.append([head.id, *instance_row(instance)])
            continue
        columns = changed_columns(state.instances[key], instance)
        if columns:
            row = [*instance_row(instance, columns), head.id, *key]
            changed.setdefault(columns, []).append(row)
    _each(cursor, sql.add_instance, added)
    for columns, rows in changed.items():
        _each(cursor, sql.change_instance(columns), rows)


def _write_awaited(
    cursor: Writer,
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


def _write_timers(
    cursor: Writer,
    sql: Statements,
    head: Head,
    state: SessionState,
    instances: Iterable[Instance],
) -> None:
    """Keep the index of what is due when in step with the instances."""
    removed, moved, added = [], [], []
    for instance in instances:
        key = (instance.task, instance.number)
        known = state.instances.get(key)
        before = None if known is None else known.timer_at
        if before == instance.timer_at:
            continue
        due_at = to_instant(instance.timer_at)
        if due_at is None:
            removed.append([head.id, *key])
        elif before is None:
            added.append([head.id, *key, due_at])
        else:
            moved.append([due_at, head.id, *key])
    _each(cursor, sql.remove_timer, removed)
    _each(cursor, sql.move_timer, moved)
    _each(cursor, sql.add_timer, added)


def _each(cursor: Writer, statement: str, rows: list[list[Any]]) -> None:
    if len(rows) == 1:
        cursor.execute(statement, rows[0])
    elif rows:
        cursor.executemany(statement, rows)
