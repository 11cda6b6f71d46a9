"""The trigger manager: what an application calls.

Every method turns into one event (:mod:`triggers.engine.events`) that the storage decides and
commits; :meth:`TriggerManager.apply` is the one place where that happens, and where what was
committed as ready is handed to the runners (:mod:`triggers.outbox`).

Longer than 400 lines because it is the public API, and half of it is the reference.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, overload

from triggers import conf, outbox, payload, runners
from triggers.asynchronous import AsyncMethods
from triggers.attempt import failure_of
from triggers.configuration import check_flags, parse, suspicions
from triggers.engine import Event, Hooks, Transition
from triggers.engine.by_hand import Annotate, Replay, SetStatus, SkipFailed
from triggers.engine.configuring import Configure
from triggers.engine.events import Fire, Tick
from triggers.engine.lifecycle import Refuse
from triggers.engine.phases import Cancel, Close, Purge
from triggers.engine.previewing import Preview
from triggers.engine.state import NO_HOOKS
from triggers.exceptions import (
    ConfigurationWarning,
    IdempotencyConflict,
    InstanceNotFound,
    InvalidTrigger,
    SessionClosed,
    SessionFull,
    UnknownBackend,
    UnknownTask,
    class_names,
)
from triggers.explain import (
    ConfigurationPreview,
    FiringExplanation,
    InstanceExplanation,
    SessionExplanation,
    TaskExplanation,
)
from triggers.explain.preview import foresee
from triggers.logging import log
from triggers.registry import Registry
from triggers.runners import task_runners
from triggers.runners.base import resolve
from triggers.storages import open_session, storage_backends
from triggers.storages.session import SessionStorage, checked_metadata
from triggers.transactions import after_commit, in_callers_transaction
from triggers.types import (
    FireResult,
    Phase,
    Status,
    TaskConfig,
    TaskInstance,
    check_name,
    split_instance_name,
)
from triggers.workflows import Workflow

trigger_managers: Registry[TriggerManager] = Registry(
    "triggers.managers", "triggers.manager.TriggerManager"
)
"""The registry of manager classes, by name."""


_HOOKS = {
    "fire": "fire",
    "post_fire": "_post_fire",
    "post_replay": "_post_replay",
    "post_skip": "_post_skip",
}
_HOOKED = frozenset(_HOOKS.values())


class TriggerManager(AsyncMethods):
    """Fires triggers into one session and looks after its task instances.

    :param storage: the session, in a storage: ``DatabaseStorageBackend("order:42")``.
    """

    name: ClassVar[str] = "default"
    """The name under which the manager is registered, so that workers find it."""

    default_task_runner_name: str | None = None
    """Runner of tasks without ``using``; ``None``: ``triggers.runners.DEFAULT_TASK_RUNNER``."""

    alias_runner: str | None = None
    """Runner that this manager's alias in ``TRIGGERS`` names (empty: it names none). ``None``: the
    manager was made without an alias, and the first one that uses the same storage counts."""

    def __init__(self, storage: SessionStorage) -> None:
        self.storage = storage

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.storage.name}:{self.storage.uid!r}>"

    # -- what an application calls --------------------------------------------------------------

    @overload
    def update_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: Literal[False] = False,
    ) -> FireResult: ...

    @overload
    def update_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: Literal[True],
    ) -> ConfigurationPreview: ...

    @overload
    def update_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: bool,
    ) -> FireResult | ConfigurationPreview: ...

    def update_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: bool = False,
    ) -> FireResult | ConfigurationPreview:
        """Add tasks to the session, or replace those of the same name.

        The first configuration of a session sees what was fired before it. Waiting instances of a
        task that is replaced are carried over to the new conditions, unless that would be a guess.

        :param configuration: directives by task name, as in JSON, or a workflow.
        :param apply_history: let tasks without instances take what was fired before they came.
        :param finalize: whether the session fires ``sessionFinalized``, once, when nothing is left
            to do; ``None``: as the workflow says, or else as before, which is no at first.
        :param preview: only find out what would happen now. Nothing is stored, no hook is called,
            and no runner; filters are asked, as they take part in it, and the modules of the tasks
            are imported, to say which tasks this process does not know.
        :returns: the instances created, scheduled and abandoned by that, if any; with ``preview``,
            a :class:`~triggers.explain.ConfigurationPreview`.
        :raises ConfigurationError: something in it is wrong; nothing was stored.
        :raises ReplacementRefused: (a ``ConfigurationError``, not with ``preview``) instances of a
            task that would be replaced are in the way; nothing was stored.
        :raises SessionClosed: the session has been closed, cancelled or purged.
        :raises StorageUnavailable: the storage did not do its part.
        :warns ConfigurationWarning: a task can be stored, but will hardly ever run, or has a
            directive, or the name of a task, that looks misspelled.
        """
        check_flags(apply_history=apply_history, preview=preview)
        parsed = parse(configuration)
        if finalize is None and isinstance(configuration, Workflow):
            finalize = configuration.finalize
        # Before anything is stored: who has warnings raised gets all of it refused.
        merged = self.storage.plan().configuration.merged_with(parsed, finalize=finalize)
        for name, reason in suspicions(merged):
            if name in parsed.tasks or finalize:
                warnings.warn(ConfigurationWarning(f"{name}: {reason}."), stacklevel=2)
        for name, task in parsed.tasks.items():
            if task.using is not None and task.using not in task_runners:
                known = ", ".join(task_runners.names())
                message = (
                    f"{name}.using: no runner {task.using!r} is registered in this process "
                    f"(known: {known}); what only such a process can run will wait for one."
                )
                warnings.warn(ConfigurationWarning(message), stacklevel=2)
        kind = Preview if preview else Configure
        event = kind(
            configuration=parsed,
            manager=self.name,
            apply_history=apply_history,
            finalize=finalize,
            hooks=self.overridden_hooks,
        )
        if isinstance(event, Preview):
            return foresee(self.storage, event, _unknown_here(parsed.tasks))
        outcome: FireResult = self.apply(event).outcome
        return outcome

    def fire(
        self,
        trigger_name: str,
        trigger_kwargs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        on_commit: bool = False,
    ) -> FireResult:
        """Fire a trigger into the session.

        Inside a transaction of the caller on the database that stores the session, the firing
        becomes part of that transaction and is decided right after its commit.

        :param trigger_name: the trigger.
        :param trigger_kwargs: values for the tasks that it starts; JSON, plus dates, times,
            ``Decimal`` and ``UUID``; by default none.
        :param idempotency_key: a second firing of this trigger with the same key does nothing; by
            default every firing counts.
        :param on_commit: with a storage that is not in the database: wait for the commit of the
            caller's transaction on the default database, if there is one.
        :returns: what the firing did; ``pending`` if it waits for a commit.
        :raises InvalidTrigger: the name cannot be fired.
        :raises InvalidPayload: ``trigger_kwargs`` cannot be stored as JSON.
        :raises PayloadTooLarge: they exceed the storage's ``payload_limit``.
        :raises IdempotencyConflict: the key was used with other kwargs.
        :raises SessionClosed: the session has been closed, cancelled or purged.
        :raises SessionFull: the session has recorded as many firings as it may.
        :raises StorageUnavailable: the storage did not do its part. Nothing was stored, unless it
            answered too late or its answer was lost: with ``idempotency_key``, fire again safely.
        """
        what = f"kwargs of {trigger_name!r}"
        kwargs = payload.encode(trigger_kwargs, what=what, limit=self.storage.payload_limit)
        event = Fire(
            trigger=check_name(trigger_name, "a trigger name"),
            kwargs=kwargs,
            key=_checked_key(idempotency_key),
            limit=self.storage.limits.firings_limit,
            is_inside=outbox.is_inside(self.storage),
        )
        cascade = outbox.take_cascade(self.storage, trigger_name)
        if cascade is not None:
            return self._fire(
                replace(
                    event,
                    also=cascade.also,
                    cause=cascade.cause,
                    depth=cascade.depth,
                    settles=cascade.ref,
                )
            )
        if self.storage.defers_firings:
            self._refuse_early(event)
            self.storage.defer(event, self.name, self._decide_deferred)
            return FireResult(pending=True)
        if on_commit and in_callers_transaction():
            self._refuse_early(event)
            after_commit(partial(self._fire, event))
            return FireResult(pending=True)
        return self._fire(event)

    def replay_failed_instance(
        self,
        failed_instance: str | TaskInstance,
        replacement_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> TaskInstance:
        """Run a failed instance again, as a new instance; the failed one becomes ``replayed``.

        :param failed_instance: name of the instance (not of the task), or the instance.
        :param replacement_kwargs: kwargs by trigger name, *instead of* those that it had; by
            default the same again.
        :returns: the new instance, whose metadata names the failed one as ``parent``.
        :raises InvalidTransition: (a ``ValueError``) the instance has not failed.
        :raises InstanceNotFound: (a ``KeyError``) there is no such instance.
        """
        key = self.storage.key_of(failed_instance)
        replacement = None
        if replacement_kwargs is not None:
            what = f"replacement kwargs of {key[0]}#{key[1]}"
            replacement = payload.encode_by_trigger(replacement_kwargs, what)
        event = Replay(key=key, replacement=replacement)
        with self._changing(key):
            return self._presented(self.apply(event))

    def skip_failed_instance(
        self,
        failed_instance: str | TaskInstance,
        cascade: bool = False,
        result: Mapping[str, Any] | None = None,
    ) -> TaskInstance:
        """Give a failed instance up, so that it counts as resolved.

        :param failed_instance: name of the instance (not of the task), or the instance.
        :param cascade: fire the task's name all the same, as if it had finished.
        :param result: the result to cascade; by default an empty one.
        :returns: the skipped instance.
        :raises InvalidTransition: (a ``ValueError``) the instance has not failed.
        :raises InstanceNotFound: (a ``KeyError``) there is no such instance.
        """
        key = self.storage.key_of(failed_instance)
        event = SkipFailed(
            key=key,
            cascade=cascade,
            result=None if result is None else self._encoded(result, f"result of {key[0]}"),
        )
        with self._changing(key):
            return self._presented(self.apply(event))

    def update_instance_status(
        self,
        task_instance: str | TaskInstance,
        status: str,
        metadata: Mapping[str, Any] | None = None,
        cascade: bool = False,
        cascade_kwargs: Mapping[str, Any] | None = None,
    ) -> TaskInstance:
        """Change the status of an instance by hand.

        A running attempt of it can no longer report its outcome. An instance that becomes
        ``scheduled`` is handed to its runner.

        :param task_instance: name of the instance (not of the task), or the instance.
        :param status: the new status; only the changes of the status diagram are possible.
        :param metadata: added to the instance's metadata; by default nothing.
        :param cascade: fire the task's name too, with ``cascade_kwargs``. The outcome that the
            status is (``t_x:failed``, …) is fired in any case.
        :param cascade_kwargs: kwargs of that firing, and of the outcome; by default none.
        :returns: the changed instance.
        :raises ValueError: there is no such status.
        :raises InvalidTransition: (a ``ValueError``) the status cannot follow the present one.
        :raises InstanceNotFound: (a ``KeyError``) there is no such instance.
        """
        key = self.storage.key_of(task_instance)
        wanted = Status(status)
        checked = checked_metadata(metadata)
        self._encoded(cascade_kwargs, f"cascade kwargs of {key[0]}")
        outcome = dict(cascade_kwargs or {}) if cascade else {}
        with self._changing(key):
            if wanted is Status.FAILED:
                instance = self.storage[f"{key[0]}#{key[1]}"]
                outcome = {**failure_of(instance, checked.get("exception")), **outcome}
            elif wanted is Status.ABANDONED:
                outcome = {"reason": "by hand", **outcome}
            event = SetStatus(
                key=key,
                status=wanted,
                metadata=checked,
                cascade=bool(cascade),
                kwargs=payload.dump(outcome),
            )
            return self._presented(self.apply(event))

    def update_instance_metadata(
        self, task_instance: str | TaskInstance, metadata: Mapping[str, Any]
    ) -> TaskInstance:
        """Add to an instance's metadata.

        :param task_instance: name of the instance (not of the task), or the instance.
        :param metadata: values by name, in plain JSON; they replace those of the same name.
        :returns: the changed instance.
        :raises InvalidPayload: ``metadata`` cannot be stored as JSON.
        :raises InstanceNotFound: (a ``KeyError``) there is no such instance.
        """
        key = self.storage.key_of(task_instance)
        event = Annotate(key=key, metadata=checked_metadata(metadata))
        # Not by the storage alone: what is due is decided too, and must be handed on and told.
        with self._changing(key):
            return self._presented(self.apply(event))

    def mark_instance_logs_resolved(self, task_instance: str | TaskInstance) -> TaskInstance:
        """Note that somebody has dealt with what an instance logged.

        :param task_instance: name of the instance (not of the task), or the instance.
        :returns: the changed instance.
        :raises InstanceNotFound: (a ``KeyError``) there is no such instance.
        """
        return self.update_instance_metadata(task_instance, {"logs_resolved": True})

    def get_unresolved_tasks(self) -> list[TaskConfig]:
        """Tasks that have no instance yet, or at least one that is not resolved."""
        return self.storage.get_unresolved_tasks()

    def get_unresolved_instances(self) -> list[TaskInstance]:
        """Instances that are not resolved."""
        return self.storage.get_unresolved_instances()

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

        Only reads; no predicate is called.

        :param what: a task or an instance, by name or as object; ``None`` means the session.
        :returns: sentences through ``str()``, plain JSON through ``to_json()``.
        :raises UnknownTask: (a ``LookupError``) the session has no such task.
        :raises InstanceNotFound: (a ``KeyError``) the session has no such instance.
        :raises TypeError: it is something else.
        """
        return self.storage.explain(what)

    def explain_firing(self, seq: int) -> FiringExplanation:
        """Say where a firing came from, and what it caused.

        :param seq: position in the session's history, from 1; ``FireResult.seq``.
        :returns: sentences through ``str()``, plain JSON through ``to_json()``.
        :raises FiringNotFound: (a ``LookupError``) the session has no such firing.
        """
        return self.storage.explain_firing(seq)

    # -- the end of a session -------------------------------------------------------------------

    def close(self) -> Phase:
        """Take no more firings or tasks from outside; what has begun goes on to its end.

        :returns: the session's phase now.
        :raises StorageUnavailable: the storage did not do its part.
        """
        phase: Phase = self.apply(Close()).outcome
        return phase

    def cancel(self) -> Phase:
        """Have nothing go on any more: who has not been started is abandoned.

        Instances that run may still report how they ended; nothing follows from it. No outcome is
        fired by this.

        :returns: the session's phase now.
        :raises StorageUnavailable: the storage did not do its part.
        """
        phase: Phase = self.apply(Cancel()).outcome
        return phase

    def erase(self) -> None:
        """Remove everything that is stored about the session, except that it existed.

        Whatever runs cannot report any more, and firing raises
        :class:`~triggers.exceptions.SessionClosed`. ``manager.storage.delete()`` removes that too.

        :raises StorageUnavailable: the storage did not do its part.
        """
        for ref, _manager in self.storage.deferred():
            self.storage.drop_deferred(ref)
        self.apply(Purge())

    # -- hooks for subclasses -------------------------------------------------------------------

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        """Called after every firing, cascades included, at least once each."""

    def _post_replay(self, task_instance: TaskInstance) -> None:
        """Called with the new instance after ``replay_failed_instance``, at least once."""

    def _post_skip(self, task_instance: TaskInstance, cascade: bool) -> None:
        """Called after ``skip_failed_instance`` and its cascade, at least once."""

    # -- what runners, workers and recovery call ------------------------------------------------

    @property
    def overridden_hooks(self) -> Hooks:
        """The hooks that this manager overrides; only those cost anything."""
        if vars(self).keys().isdisjoint(_HOOKED):
            return _overridden_in_class(type(self))
        return _overridden_in(self)

    def apply(self, event: Event) -> Transition:
        """Have the storage decide and commit an event, then do what follows it.

        That is to send signals to those who listen, and to hand on what has become ready.

        :param event: one of the events of :mod:`triggers.engine`.
        :returns: what was decided and committed; its ``outcome`` is the answer.
        """
        hooks = self.overridden_hooks
        if hooks is not event.hooks and hooks != event.hooks:
            event = event.under(hooks)
        transition = self.storage.transact(event)
        outbox.warn_of_limit(self, transition)
        if transition.scheduled or transition.pending or outbox.is_watched(self):
            self.storage.when_committed(partial(outbox.follow_up, self, transition))
        return transition

    def reference(self) -> dict[str, Any]:
        """Plain JSON from which :func:`manager_from` makes this manager in another process.

        :raises UnknownBackend: a process that only has the registries would not find it.
        """
        for registry, cls in ((trigger_managers, type(self)), (storage_backends, self._storage)):
            if registry.get_class(cls.name) is not cls:
                reason = (
                    f"{cls.__module__}.{cls.__qualname__} is not what {cls.name!r} stands for in "
                    f"{registry.group}, so workers could not find it. Register it under a name "
                    "of its own."
                )
                raise UnknownBackend(registry.group, cls.name, reason)
        storage = self.storage
        return {
            "name": self.name,
            "runner": self.alias_runner,
            "storage": {"name": storage.name, "uid": storage.uid, "options": storage.options},
        }

    def fail_unresolved(self, instance: TaskInstance, error: UnknownTask) -> None:
        """Record that an instance cannot be run, since nobody knows its task.

        :param error: why, naming the value of ``run``.
        """
        described = {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            "types": class_names(type(error)),
            "message": str(error),
            "context": {"run": error.name},
        }
        event = Refuse(
            key=split_instance_name(instance.name),
            metadata={"exception": described, "traceback": ""},
        )
        if self.apply(event).outcome:
            log(logging.ERROR, "%s", error, **outbox.fields(self, "fail", instance.name))
        else:
            about = outbox.fields(self, "drop", instance.name)
            log(logging.INFO, "%s has been decided elsewhere", instance.name, **about)

    def runner_name(self, task: TaskConfig) -> str:
        """The runner of a task: its ``using``, else the manager's, else the global default.

        :param task: its configuration.
        """
        chosen = task.using or self.default_task_runner_name
        if chosen:
            return chosen
        configured = self.alias_runner
        if configured is None:
            configured = conf.runner_of(self.storage)
        return runners.default_runner_name(configured)

    def decide_deferred(self, ref: int) -> FireResult | None:
        """Decide a firing that was recorded in a transaction; ``None`` if somebody else has.

        A firing that turns out to be impossible is logged and dropped.

        :param ref: number of the firing among the deferred ones.
        """
        try:
            transition = self.storage.decide_deferred(ref, self.overridden_hooks)
        except (InvalidTrigger, IdempotencyConflict, SessionClosed) as error:
            about = outbox.fields(self, "fire")
            if not isinstance(error, SessionClosed):
                about["trigger"] = str(error.trigger)
            log(logging.ERROR, "A deferred firing was dropped: %s", error, **about)
            # At once, for it may have been all that held up the session's end.
            with self.storage.transaction():
                self.storage.drop_deferred(ref)
                self.apply(Tick(stirs=True))
            return None
        if transition is None:
            return None
        outbox.warn_of_limit(self, transition)
        self.storage.when_committed(partial(outbox.follow_up, self, transition))
        result: FireResult = transition.outcome
        return result

    # -- how it is done -------------------------------------------------------------------------

    @property
    def _storage(self) -> type[SessionStorage]:
        return type(self.storage)

    def _fire(self, event: Fire) -> FireResult:
        result: FireResult = self.apply(event).outcome
        return result

    @contextmanager
    def _changing(self, key: tuple[str, int]) -> Iterator[None]:
        """Say which instances there are, if this one is not."""
        name = f"{key[0]}#{key[1]}"
        try:
            yield
        except InstanceNotFound as error:
            if error.instance != name:
                raise
            try:
                self.storage.explain(name)
            except InstanceNotFound as told:  # the same, with the instances that there are
                raise told from None
            raise  # it has come since

    def _decide_deferred(self, ref: int) -> None:
        """Decide right after the commit; whatever fails is left to recovery."""
        try:
            self.decide_deferred(ref)
        except Exception:
            message = "A deferred firing is not decided yet; recovery will do it"
            log(logging.ERROR, message, exc_info=True, **outbox.fields(self, "fire"))

    def _presented(self, transition: Transition) -> TaskInstance:
        return self.storage.present(transition.outcome, transition.plan)

    def _encoded(self, kwargs: Mapping[str, Any] | None, what: str) -> str:
        return payload.encode(kwargs, what=what, limit=self.storage.payload_limit)

    def _refuse_early(self, event: Fire) -> None:
        """Refuse what would be refused later too, while the caller can still be told."""
        is_outcome = ":" in event.trigger
        task = self.storage.plan().reserved_for(event.trigger) if is_outcome else None
        if task is not None:
            reason = f"the name is reserved for the outcome of task {task!r}."
            raise InvalidTrigger(event.trigger, reason)
        standing, limit = self.storage.standing(), self.storage.limits.firings_limit
        goes_on = standing.phase is Phase.CLOSED and event.is_inside
        if (standing.phase is Phase.OPEN or goes_on) and standing.seq < limit:
            return
        if event.key is not None:
            known = ((each.trigger, each.key) for each in self.storage.find_firings())
            if (event.trigger, event.key) in known:
                return  # it was taken before; so it will be found to be a duplicate
        if standing.phase is not Phase.OPEN and not goes_on:
            raise SessionClosed(standing.phase.value, self.storage.uid)
        raise SessionFull(limit, self.storage.uid)


def _unknown_here(tasks: Mapping[str, TaskConfig]) -> dict[str, str]:
    """Why this process could not run tasks, by their names, for those that it could not."""
    found = {}
    for name, task in tasks.items():
        try:
            resolve(task.run)
        except UnknownTask as error:
            found[name] = str(error)
    return found


def _overridden_in(owner: Any) -> Hooks:
    names = (
        hook
        for hook, method in _HOOKS.items()
        if getattr(getattr(owner, method), "__func__", getattr(owner, method))
        is not getattr(TriggerManager, method)
    )
    return Hooks(owner.name, frozenset(names))


def _overridden_in_class(cls: type[TriggerManager]) -> Hooks:
    # Kept with the class itself, for every commit asks; not inherited by its subclasses.
    hooks: Hooks | None = vars(cls).get("_own_hooks")
    if hooks is None:
        found = _overridden_in(cls)
        hooks = NO_HOOKS if found == NO_HOOKS else found
        setattr(cls, "_own_hooks", hooks)  # noqa: B010  # not declared, so that it is not inherited
    return hooks


def manager_from(reference: Mapping[str, Any]) -> TriggerManager:
    """The manager that :meth:`TriggerManager.reference` described, in this process.

    :param reference: plain JSON, as it came out of a message.
    :raises UnknownBackend: its class, or its storage's, is not registered here.
    """
    storage = reference["storage"]
    cls = storage_backends.get_class(storage["name"])
    manager: TriggerManager = trigger_managers.get(
        reference["name"], cls(storage["uid"], **storage["options"])
    )
    manager.alias_runner = reference.get("runner")
    return manager


def get_trigger_manager(uid: str, using: str = conf.DEFAULT_ALIAS) -> TriggerManager:
    """The manager of a session, as the ``TRIGGERS`` setting describes it.

    :param uid: the session's uid.
    :param using: alias in ``TRIGGERS``.
    :raises SettingsError: there is no such alias, or its ``OPTIONS`` do not fit the storage.
    :raises InvalidUid: ``uid`` is no usable session uid.
    """
    alias = conf.get_alias(using)
    manager: TriggerManager = trigger_managers.get(alias.manager, open_session(alias, uid))
    manager.alias_runner = alias.runner or ""
    return manager


def _checked_key(key: str | None) -> str | None:
    return None if key is None else check_name(key, "an idempotency key")
