"""The port of every storage, and what people ask of a session.

Longer than 400 lines because that is one thing to its users: a session to look into.

A storage writes the seven methods that :class:`SessionStorage` marks as abstract. Everything else
here, the inspection of chapter "Inspecting State" included, is built on them once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Unpack, overload

from triggers import payload
from triggers.clock import current_time
from triggers.engine import Hooks
from triggers.engine.by_hand import Annotate, Clone, Create
from triggers.engine.events import Event, Fire
from triggers.engine.holdings import Holdings
from triggers.engine.plan import EMPTY_PLAN, Plan
from triggers.engine.plan import held as held_by
from triggers.engine.previewing import Foreseen, Foresight, Preview
from triggers.engine.state import InstanceKey, Transition
from triggers.engine.verdicts import Verdicts
from triggers.exceptions import InstanceNotFound, SettingsError, UnknownTask
from triggers.explain import (
    FiringExplanation,
    InstanceExplanation,
    SessionExplanation,
    TaskExplanation,
    explain,
    explain_ending,
    explain_firing,
)
from triggers.judging import with_verdicts
from triggers.limits import DEFAULT_LIMITS, LimitOptions, limits_of
from triggers.logging import has_unresolved_logs
from triggers.registry import place_of
from triggers.transactions import in_tests_transaction
from triggers.types import (
    BY_HAND,
    Firing,
    Instance,
    Standing,
    Status,
    TaskConfig,
    TaskInstance,
    check_uid,
    instance_name,
    split_instance_name,
)


class SessionStorage(ABC):
    """One session in a storage.

    :param uid: the session's uid, a non-empty string.
    :param limits: what bounds the session and the work on it, by name: the fields of
        :class:`~triggers.limits.Limits`.
    :raises InvalidUid: ``uid`` is no usable session uid.
    :raises SettingsError: a limit is no usable number.
    :raises TypeError: the class has no ``name``.
    """

    name: ClassVar[str]
    """The name under which the storage is registered."""

    def __init__(self, uid: str, **limits: Unpack[LimitOptions]) -> None:
        if not isinstance(getattr(self, "name", None), str) or not self.name:
            raise TypeError(_nameless(type(self)))
        self.uid = check_uid(uid)
        self.limits = limits_of(type(self), limits) if limits else DEFAULT_LIMITS

    @property
    def payload_limit(self) -> int:
        """Bytes of JSON that the kwargs of one firing, or one result, may take."""
        return self.limits.payload_limit

    # -- the port: what a storage writes --------------------------------------------------------

    @abstractmethod
    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        """Decide an event with :func:`triggers.engine.decide` and commit what it makes, atomically.

        The event may be decided several times if the commit meets a conflict. What ``decide``
        raises undoes everything, and is raised on.

        :returns: what was decided and committed.
        :raises InstanceNotFound: the event names an instance that does not exist.
        :raises StorageUnavailable: the server did not do its part, or its answer was lost.
        """

    @abstractmethod
    def plan(self) -> Plan:
        """The session's configuration, compiled (an empty one for an unknown session)."""

    @abstractmethod
    def find_instances(
        self, *, task: str | None = None, number: int | None = None
    ) -> Iterable[Instance]:
        """The session's instances, of one task and number if given, in order of number.

        :param task: only of this task; ``None``: of all.
        :param number: position among the task's instances, from 0: only that one; ``None``: all.
        """

    @abstractmethod
    def find_firings(
        self, *, seqs: Collection[int] | None = None, latest: bool = False
    ) -> Iterable[Firing]:
        """Firings by sequence number, oldest first: these, or the latest of each trigger.

        :param seqs: only those with these sequence numbers; ``None``: all.
        :param latest: only the latest of each trigger.
        """

    @abstractmethod
    def standing(self) -> Standing:
        """How far the session has come, without its contents (of an unknown one: the default)."""

    @abstractmethod
    def delete(self) -> None:
        """Remove everything that is stored about this session, that it existed included."""

    @classmethod
    @abstractmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        """Uids of at most ``limit`` sessions that recovery should look at now.

        :param options: the keyword arguments with which the storage is constructed.
        """

    # -- what a storage may refine --------------------------------------------------------------

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> Collection[str]:
        """Uids of at most ``limit`` sessions in which something is due by a moment.

        :param until: the moment; ``None`` means the storage's present.
        :param options: the keyword arguments with which the storage is constructed.
        """
        return ()

    @classmethod
    def sessions(
        cls,
        limit: int,
        *,
        after: str = "",
        unchanged_since: datetime | None = None,
        **options: Any,
    ) -> list[str]:
        """Uids of at most ``limit`` sessions, in an order that stays.

        Those that have been purged are not among them.

        :param after: begin after this uid.
        :param unchanged_since: only those that were last decided on before this moment; ``None``:
            all.
        :param options: the keyword arguments with which the storage is constructed.
        :raises NotImplementedError: the storage cannot list its sessions.
        """
        raise NotImplementedError(f"The {cls.name} storage cannot list its sessions.")

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that make a worker open exactly this storage, in plain JSON."""
        return self.limits.chosen()

    @property
    def defers_firings(self) -> bool:
        """Whether a firing made now must wait for the caller's transaction to be committed."""
        return False

    def defer(self, event: Fire, manager: str, then: Callable[[int], None]) -> None:
        """Record a firing in the caller's transaction; call ``then`` right after its commit.

        :param event: the firing.
        :param manager: registered name of the manager class that decides it.
        :param then: called after the commit, with the number of the firing among the deferred ones.
        """
        raise NotImplementedError(f"The {self.name} storage has no transactions to wait for.")

    def deferred(self) -> Collection[tuple[int, str]]:
        """Ref and manager name of each deferred firing that nobody has decided yet.

        :returns: of each, its number among them and the name of the manager class that decides it.
        """
        return ()

    def drop_deferred(self, ref: int) -> None:
        """Remove a deferred firing that can never be decided.

        :param ref: its number among the deferred ones.
        """
        raise NotImplementedError(f"The {self.name} storage has no deferred firings.")

    def manager_name(self) -> str | None:
        """Name of the manager class that configured the session, if somebody did."""
        return self.standing().manager

    def decide_deferred(self, ref: int, hooks: Hooks) -> Transition | None:
        """Decide a deferred firing; ``None`` if somebody else has done so.

        :param ref: its number among the deferred ones.
        """
        return None

    @property
    def is_confined(self) -> bool:
        """Whether other threads could not see what happens here (in a test's transaction)."""
        return in_tests_transaction()

    def transaction(self) -> AbstractContextManager[Any]:
        """A transaction that what the storage commits in a ``with`` block becomes part of.

        :raises SettingsError: the storage is not in a database.
        """
        raise SettingsError(
            f"The {self.name} storage has no transactions, which a task with transactional=True "
            "needs. Use the database storage, or leave transactional out."
        )

    def may_repeat(self, error: BaseException) -> bool:
        """Whether what raised this in :meth:`transaction` may well succeed when it is repeated.

        :param error: what was raised.
        """
        return False

    def decide_only(self, event: Preview, verdicts: Verdicts) -> Transition:
        """Decide an event that raises what it finds, so that nothing is committed.

        A storage that can see a consistent session without keeping others out may do that here.

        :param event: the event.
        :returns: what was decided, if nothing was raised.
        """
        return self.commit(event, verdicts)

    def when_committed(self, do: Callable[[], object]) -> None:
        """Call ``do`` once what was stored is visible to others: at once, or at the commit."""
        do()

    def acquire_lock(self) -> AbstractContextManager[Any]:
        """Keep other writers out of this session for the length of a ``with`` block.

        Only for code that changes several things by hand; the operations of the manager are
        atomic without it. On storages that commit each operation by themselves it does nothing.

        :returns: a context manager that yields the storage.
        """
        return nullcontext(self)

    def save(self) -> None:
        """Store changes made under :meth:`acquire_lock`; operations store themselves already."""
        return

    def now(self) -> datetime:
        """The storage's time, aware UTC."""
        return current_time()

    # -- deciding -------------------------------------------------------------------------------

    def transact(self, event: Event) -> Transition:
        """Have an event decided and committed, with what filters say about it.

        :returns: what was decided and committed.
        :raises InstanceNotFound: the event names an instance that does not exist.
        :raises PredicateFailed: a predicate raised an exception about kwargs from outside.
        :raises StorageUnavailable: the server did not do its part, or its answer was lost.
        """
        return with_verdicts(self, event, partial(self.commit, event))

    def rehearse(self, event: Preview) -> Foresight:
        """Have an event decided on the session as it is, with what filters say, and undone.

        Nothing is stored by it, and no other writer waits for longer than it takes to decide.

        :param event: the event.
        :returns: what came of it.
        :raises StorageUnavailable: the server did not do its part.
        :raises TypeError: the storage swallows what deciding raises, which is a fault of it.
        """
        try:
            with_verdicts(self, event, partial(self.decide_only, event))
        except Foreseen as foreseen:
            return foreseen.foresight
        raise TypeError(f"the {self.name} storage has swallowed what decide() raised")

    # -- the session's state for people ---------------------------------------------------------

    @property
    def tasks(self) -> dict[str, TaskConfig]:
        """The configured tasks by name, in configuration order."""
        return dict(self.plan().configuration.tasks)

    @property
    def instances(self) -> Mapping[str, TaskInstance]:
        """The task instances by name; a name that is not there raises ``KeyError``."""
        return InstanceMap(self)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the framework keeps about the session, such as the latest firing by trigger."""
        latest = {name: firing.seq for name, firing in self._latest_firings()}
        return {"uid": self.uid, "storage": self.name, "latest_firings": latest}

    @property
    def latest_kwargs(self) -> dict[str, dict[str, Any]]:
        """Kwargs of the latest firing of every trigger that was ever fired, by trigger name."""
        return {name: payload.decode(firing.kwargs) for name, firing in self._latest_firings()}

    def _latest_firings(self) -> Iterator[tuple[str, Firing]]:
        # Oldest first, so that of two that share a name the latest remains in a dict.
        firings = list(self.find_firings(latest=True))
        plan = self.plan() if any(":" in each.trigger for each in firings) else EMPTY_PLAN
        for firing in firings:
            for name in (firing.trigger, *firing.also):
                # Outcomes that no task waits for are kept for those that may come.
                if plan.reserved_for(name) is None or plan.is_listened_to(name):
                    yield name, firing

    def __getitem__(self, key: str | TaskInstance) -> TaskInstance:
        return self.present(self.require(key))

    def __iter__(self) -> Iterator[TaskInstance]:
        return iter(self.present_all(self.find_instances()))

    def instances_of_task(self, task_config: str | TaskConfig) -> list[TaskInstance]:
        """All instances of a task, given by name or configuration, in order of number.

        :param task_config: the task, by name or as its configuration.
        """
        name = task_config.name if isinstance(task_config, TaskConfig) else task_config
        return self.present_all(self.find_instances(task=name))

    def get_unresolved_tasks(self) -> list[TaskConfig]:
        """Tasks that have no instance yet, or at least one that is not resolved."""
        resolved: dict[str, bool] = {}
        for instance in self.find_instances():
            so_far = resolved.get(instance.task, True)
            resolved[instance.task] = so_far and instance.status.is_resolved
        return [task for name, task in self.tasks.items() if not resolved.get(name, False)]

    def get_unresolved_instances(self) -> list[TaskInstance]:
        """Instances that are not resolved."""
        return [each for each in self if not each.is_resolved]

    def get_instances_with_unresolved_logs(self) -> list[TaskInstance]:
        """Instances that logged at ``UNRESOLVED_LOG_LEVEL`` or above, not marked as resolved."""
        return [each for each in self if has_unresolved_logs(each)]

    @overload
    def explain(self, what: None = None) -> SessionExplanation: ...
    @overload
    def explain(self, what: TaskConfig) -> TaskExplanation: ...
    @overload
    def explain(self, what: TaskInstance) -> InstanceExplanation: ...
    @overload
    def explain(self, what: str) -> TaskExplanation | InstanceExplanation: ...
    @overload
    def explain(
        self, what: str | TaskInstance | TaskConfig | None
    ) -> SessionExplanation | TaskExplanation | InstanceExplanation: ...
    def explain(
        self, what: str | TaskInstance | TaskConfig | None = None
    ) -> SessionExplanation | TaskExplanation | InstanceExplanation:
        """Say what waits for what, what was decided by which firing, and what was filtered out.

        Only reads; no predicate is called. See :mod:`triggers.explain`.

        :param what: a task or an instance, by name or as object; ``None`` means the session.
        :returns: sentences through ``str()``, plain JSON through ``to_json()``.
        :raises UnknownTask: (a ``LookupError``) the session has no such task.
        :raises InstanceNotFound: (a ``KeyError``) the session has no such instance.
        """
        return explain(self, what)

    def explain_firing(self, seq: int) -> FiringExplanation:
        """Say where a firing came from, and what it caused.

        :param seq: position in the session's history, from 1; ``FireResult.seq``.
        :returns: sentences through ``str()``, plain JSON through ``to_json()``.
        :raises FiringNotFound: (a ``LookupError``) the session has no such firing.
        """
        return explain_firing(self, seq)

    def debug_repr(self) -> dict[str, Any]:
        """Everything about the session, for reading while debugging only."""
        tasks = {name: dict(task.directives) for name, task in self.tasks.items()}
        instances = {each.name: _debug_instance(each) for each in self}
        shown = {"tasks": tasks, "instances": instances, "metadata": self.metadata}
        ending = explain_ending(self)
        return shown if ending is None else {**shown, "ending": ending.to_json()}

    # -- changes by hand ------------------------------------------------------------------------

    def create_instance(
        self,
        task_config: str | TaskConfig,
        *,
        kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        status: str | None = None,
    ) -> TaskInstance:
        """Make the next instance of a task by hand.

        It is scheduled at once if its conditions hold, but not handed to a runner: recovery does
        that, or ``manager.update_instance_status``.

        :param task_config: the task, by name or as its configuration.
        :param kwargs: kwargs by trigger name; these triggers count as taken; by default none.
        :param metadata: plain JSON; by default empty.
        :param status: the status to give it; the table of transitions holds. ``None``: what follows
            from its conditions.
        :returns: the new instance.
        :raises UnknownTask: the session has no such task.
        :raises InvalidPayload: ``kwargs`` are no mapping of mappings, or cannot be stored.
        :raises ValueError: there is no such status, or it cannot follow; nothing is made then.
        """
        name = task_config.name if isinstance(task_config, TaskConfig) else task_config
        if name not in self.plan().tasks:
            known = ", ".join(self.plan().tasks) or "none"
            raise UnknownTask(name, f"The session has no task {name!r} (known: {known}).")
        event = Create(
            task=name,
            kwargs=payload.encode_by_trigger(kwargs, f"kwargs of {name}") if kwargs else None,
            given=tuple(kwargs or ()),
            metadata=checked_metadata(metadata),
            status=None if status is None else Status(status),
        )
        made: Instance = self.transact(event).outcome
        return self.present(made)

    def clone_instance(self, task_instance: str | TaskInstance) -> TaskInstance:
        """Copy an instance under the next number, unstarted, with its ``parent`` in the metadata.

        :param task_instance: name of the instance (not of the task), or the instance.
        :returns: the new instance.
        :raises InstanceNotFound: the session has no such instance.
        """
        made: Instance = self.transact(Clone(key=self.key_of(task_instance))).outcome
        return self.present(made)

    def annotate(self, key: tuple[str, int], metadata: Mapping[str, Any]) -> Instance:
        """Add to an instance's metadata.

        :param key: name of the task, and number of the instance.
        :param metadata: values by name, in plain JSON.
        :returns: the changed record.
        """
        event = Annotate(key=key, metadata=checked_metadata(metadata))
        changed: Instance = self.transact(event).outcome
        return changed

    # -- from records to what people see --------------------------------------------------------

    def key_of(self, value: str | TaskInstance) -> tuple[str, int]:
        """Task and number of an instance that was given as name or as object.

        :param value: name of the instance (not of the task), or the instance.
        :returns: name of the task, and number of the instance.
        :raises InstanceNotFound: it is not the name of an instance.
        """
        return split_instance_name(instance_name(value))

    def require(self, value: str | TaskInstance) -> Instance:
        """The stored state of an instance.

        :param value: name of the instance (not of the task), or the instance.
        :raises InstanceNotFound: the session has none of this name.
        """
        task, number = self.key_of(value)
        for found in self.find_instances(task=task, number=number):
            return found
        raise InstanceNotFound(f"{task}#{number}", f"session {self.uid!r} has no such instance")

    def present(self, record: Instance, plan: Plan | None = None) -> TaskInstance:
        """What people see of one instance.

        :param record: its stored state.
        :param plan: the session's configuration, if the caller has just seen it; by default it is
            read.
        """
        return self.present_all([record], plan)[0]

    def present_written(self, transition: Transition, key: InstanceKey) -> TaskInstance:
        """What people see of an instance that a transition has written; read when looked at."""
        plan = transition.plan

        def read() -> Instance:
            return transition.instances[key]

        source = _Source(self, plan, lambda: (read(),))
        return TaskInstance(read, plan.tasks[key[0]].config, source)

    def present_all(
        self, records: Iterable[Instance], plan: Plan | None = None
    ) -> list[TaskInstance]:
        """What people see of some instances; their kwargs are fetched together, when asked for.

        :param records: their stored states.
        :param plan: the session's configuration, if the caller has just seen it; by default it is
            read.
        """
        records = list(records)
        plan = plan or self.plan()
        source = _Source(self, plan, lambda: records)
        return [TaskInstance(record, plan.tasks[record.task].config, source) for record in records]


class InstanceMap(Mapping[str, TaskInstance]):
    """A session's instances by name; looks up one without reading the others."""

    def __init__(self, storage: SessionStorage) -> None:
        self._storage = storage

    def __getitem__(self, name: str) -> TaskInstance:
        try:
            return self._storage[name]
        except InstanceNotFound:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (instance.name for instance in self._storage.find_instances())

    def __len__(self) -> int:
        return sum(1 for _ in self._storage.find_instances())

    def __repr__(self) -> str:
        return repr({instance.name: instance for instance in self._storage})


class _Source:
    """What some instances hold: the firings are read once, when the first of them is asked."""

    def __init__(
        self, storage: SessionStorage, plan: Plan, records: Callable[[], Collection[Instance]]
    ) -> None:
        self._storage = storage
        self._plan = plan
        self._records = records
        self._found: dict[int, Firing] | None = None
        self._now: datetime | None = None
        self._settled: dict[str, bool] = {}

    def firings(self, record: Instance) -> dict[str, list[dict[str, Any]]]:
        task = self._plan.tasks[record.task]
        given = payload.decode(record.replacement) if record.replacement else {}
        kwargs = {name: [values] for name, values in given.items()}
        for name, taken in record.taken.items():
            seqs = (taken,) if task.replaces(name) else held_by(record, name)
            if seqs != (BY_HAND,) and task.config.passes_on(name):
                kwargs[name] = [self._kwargs(seq, given.get(name, {})) for seq in seqs]
        return kwargs

    def _kwargs(self, seq: int, given: dict[str, Any]) -> dict[str, Any]:
        return given if seq == BY_HAND else payload.decode(self.find(seq).kwargs)

    def is_ready(self, record: Instance) -> bool:
        task = self._plan.tasks[record.task]
        if not task.is_plain and record.status is Status.SCHEDULED:
            return True
        return task.ready.holds(self._holdings(record))

    def is_barred(self, record: Instance) -> bool:
        return self._plan.tasks[record.task].barred.holds(self._holdings(record))

    def find(self, seq: int) -> Firing:
        """A firing that one of the instances holds."""
        if self._found is None:
            held = {
                seq
                for record in self._records()
                for name in record.taken
                for seq in held_by(record, name)
            }
            firings = self._storage.find_firings(seqs=held - {BY_HAND})
            self._found = {firing.seq: firing for firing in firings}
        return self._found[seq]

    def _holdings(self, record: Instance) -> Holdings:
        if self._plan.tasks[record.task].is_plain:
            # Its conditions do not look at the time, so nobody needs to be asked for it.
            return Holdings(record, record.changed_at, self.find, self._is_settled)
        if self._now is None:
            self._now = self._storage.now()
        return Holdings(record, self._now, self.find, self._is_settled)

    def _is_settled(self, task: str) -> bool:
        if task not in self._settled:
            instances = list(self._storage.find_instances(task=task))
            settled = bool(instances) and all(each.status.is_resolved for each in instances)
            self._settled[task] = settled
        return self._settled[task]


def checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata that is safe to store.

    :raises InvalidPayload: it holds something that JSON cannot give back.
    """
    return payload.decode(payload.encode(metadata, what="metadata"))


def present_of(storage: SessionStorage) -> datetime:
    """The time of a storage that others have written, if sessions can be kept with it.

    :raises TypeError: its ``now()`` returned something else than an aware datetime in UTC.
    """
    moment: Any = storage.now()
    if isinstance(moment, datetime) and moment.utcoffset() == _NOTHING:
        return moment
    raise TypeError(
        f"{place_of(type(storage))}.now() must return an aware datetime in UTC, such as "
        f"datetime.now(UTC), it returned {moment!r}; for session {storage.uid!r} nothing was done."
    )


_NOTHING = timedelta(0)


def _nameless(cls: type) -> str:
    """What to say of a storage class that nobody could look up."""
    found = getattr(cls, "name", None)
    return (
        f"{place_of(cls)} needs a class attribute 'name', by which workers find the class: "
        f"a non-empty string, such as name = 'folder'; it is {found!r}."
    )


def _debug_instance(instance: TaskInstance) -> dict[str, Any]:
    return {
        "status": str(instance.status),
        "kwargs": instance.kwargs,
        "metadata": instance.metadata,
        "attempt": instance.record.attempt,
        "created_at": instance.record.created_at.isoformat(),
        "changed_at": instance.record.changed_at.isoformat(),
    }
