"""Trigger tasks: the code that an instance runs, and what it is given.

Longer than 400 lines because half of it is the reference of ``TriggerTask`` and ``trigger_task``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Set
from contextlib import nullcontext
from dataclasses import fields
from datetime import timedelta
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from celery import Task
from celery._state import _get_active_apps, connect_on_app_finalize

from triggers import heartbeat
from triggers.arguments import call_method, caller
from triggers.attempt import Attempt, AttemptLost, TaskRetry, TaskSkip, claim
from triggers.configuration.likeness import meant_by
from triggers.context import TaskContext
from triggers.exceptions import CannotRegister, InvalidPayload, MaxRetriesExceeded
from triggers.outbox import at_work, elsewhere
from triggers.runners.base import execute as execute_instance
from triggers.runners.base import resolve
from triggers.workflows import Condition, Declaration, Trigger, Workflow, define
from triggers.workflows.spelling import Duration, Filter, Provider

if TYPE_CHECKING:
    from triggers.manager import TriggerManager

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "MaxRetriesExceeded",
    "TaskContext",
    "TaskRetry",
    "TaskSkip",
    "TriggerTask",
    "execute",
    "trigger_task",
]


LONGEST_COOLDOWN = timedelta(days=3650)

_TRIES = 5
"""How often a task with its own transaction begins anew when that loses against another one."""

_MESSAGE_OPTIONS = ("queue", "exchange", "routing_key", "delivery_mode", "priority")

_ARGUMENTS = frozenset({"manager", "instance"})
"""What a message brings, and :meth:`TriggerTask.run` takes."""

_PLAIN_DEF = {
    True: (
        "is async, so a call does not run it; write a plain def, and call what is async in it "
        "with asyncio.run(…) or asgiref's async_to_sync(…)."
    ),
    False: "is a generator, so a call does not run it; write a plain def that returns.",
}
"""What is to be written in place of what is async (``True``), or a generator (``False``)."""


class TriggerTask(Task):  # type: ignore[misc]  # Celery is untyped
    """A Celery task that runs when its triggers have fired.

    Define a subclass with :meth:`_run`: it registers itself under ``name``, which is
    ``module.Class`` unless you set it. Set ``abstract = True`` on a base class of your own.

    All options of a Celery task (``time_limit``, ``rate_limit``, …) work as usual. Those that say
    where its messages go (``queue``, ``priority``, …) are kept in ``message_options``.
    """

    name: str
    """The name under which it is registered, for ``run``; by default ``module.Class``."""

    abstract = True
    is_trigger_task = True
    """What tells it from other Celery tasks."""
    Request = "triggers.runners.celery_requests:TriggerRequest"

    max_retries: int | None = 3
    """How often :meth:`retry` may be used in one lineage; ``None`` means without limit."""

    message_options: Mapping[str, Any] = {}
    """Options of ``apply_async`` for the messages that start it, such as ``queue``."""

    transactional: bool = False
    """Whether the task runs in a transaction on the database that stores the session.

    Its effects there and its end as ``finished`` are then committed together: they happen exactly
    once. Whatever it raises, a retry or a skip included, undoes its effects. With a storage that
    is not in a database, the instance fails.
    """

    expires: float | timedelta | None = None
    """Seconds, or a ``timedelta``, within which an instance must be started once it is ready: its
    condition holds, and a cool-down is over. Started later, it fails with
    :class:`~triggers.exceptions.TaskExpired`. ``None`` means that it is never too late."""

    declared_as: str | None = None
    """The task's name in the workflow to which ``@trigger_task`` added it; ``None``: to none."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # As attributes of a task, Celery 5.7 deprecates them; as options of a message it does not.
        own = {name: cls.__dict__[name] for name in _MESSAGE_OPTIONS if name in cls.__dict__}
        for name in own:
            delattr(cls, name)
        cls.message_options = {**cls.message_options, **own}
        _expiry(cls)
        _check_options(cls)
        _check_plain(cls._run, cls, "its _run")
        if cls.__dict__.get("abstract", False):
            return
        cls.abstract = False
        if not cls.__dict__.get("name"):
            cls.name = f"{cls.__module__}.{cls.__name__}"
        _register(cls)

    # To type checkers, `*args: Any, **kwargs: Any` means that a subclass may take any, or none.
    def _run(self, context: TaskContext, *args: Any, **kwargs: Any) -> Mapping[str, Any] | None:
        """Do the work.

        A task with ``withArgs`` also gets what the provider returned, as keyword arguments:
        ``_run(self, context, **kwargs)``, or with a name for each.

        :returns: kwargs for the firing of the task's own name (``None`` means none).
        """
        raise NotImplementedError(f"{type(self).__name__} must define _run(self, context).")

    def retry(
        self,
        exc: BaseException | None = None,
        cooldown: float | timedelta = 0,
        replacement_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        **unsupported: Any,
    ) -> TaskRetry:
        """An exception to raise: run this again, as a new instance, after a cool-down.

        :param exc: why; by default the exception that is being handled. It is raised (under a
            :class:`~triggers.exceptions.MaxRetriesExceeded`) when ``max_retries`` is used up.
        :param cooldown: seconds to wait, or a ``timedelta``.
        :param replacement_kwargs: trigger kwargs *instead of* those of this instance; by default
            the same again.
        :param unsupported: there is no other argument; Celery's own are refused with an
            explanation.
        :returns: the exception, for ``raise``.
        :raises TypeError: Celery's ``countdown`` or ``eta`` were given.
        :raises ValueError: ``cooldown`` is negative, or longer than ``LONGEST_COOLDOWN``.
        """
        if unsupported:
            given = ", ".join(sorted(unsupported))
            raise TypeError(f"retry() does not take {given}; use cooldown=SECONDS.")
        pause = cooldown if isinstance(cooldown, timedelta) else timedelta(seconds=cooldown or 0)
        if not timedelta(0) <= pause <= LONGEST_COOLDOWN:
            raise ValueError(f"cooldown must be from 0 to {LONGEST_COOLDOWN}, got {pause}.")
        return TaskRetry(exc or sys.exc_info()[1], pause, replacement_kwargs)

    def skip(self, metadata: Mapping[str, Any] | None = None) -> TaskSkip:
        """An exception to raise: end this instance as ``skipped``, without a cascade.

        :param metadata: added to the instance's metadata; by default nothing.
        :returns: the exception, for ``raise``.
        """
        return TaskSkip(metadata)

    @classmethod
    def __header__(cls, *args: Any, **kwargs: Any) -> None:
        """What Celery asks before it sends a message: whether the task takes these arguments.

        :raises TypeError: it does not, so somebody calls it as they would another Celery task.
        """
        if len(args) + len(kwargs) != len(_ARGUMENTS) or not kwargs.keys() <= _ARGUMENTS:
            raise _not_called(cls.name)

    def run(
        self, manager: Mapping[str, Any] | None = None, instance: str | None = None, **others: Any
    ) -> Any:
        """What a Celery worker calls, with the message of a runner's ``task_kwargs``.

        :param manager: plain JSON that stands for the manager and its storage; ``None`` is refused.
        :param instance: name of the instance; ``None`` is refused.
        :param others: there is no other argument; they are refused with an explanation.
        :raises TypeError: these are not the arguments of a message: a trigger task is started by
            firing, not by a call.
        :raises Exception: what the task raised, after it was recorded, so that Celery and its
            monitors see the failure too.
        """
        from triggers.manager import manager_from

        if manager is None or instance is None or others:
            raise _not_called(self.name)
        owner = self.request.id or ""
        return self.execute(manager_from(manager), instance, reraise=True, owner=owner)

    def execute(
        self,
        manager: TriggerManager,
        instance: str,
        *,
        early: bool = False,
        reraise: bool = False,
        owner: str = "",
    ) -> Mapping[str, Any] | None:
        """Run an instance to its end in this thread.

        Does nothing if the instance is not ``scheduled`` any more, or gone.

        :param instance: name of the instance.
        :param early: do not wait for the end of a retry's cool-down.
        :param reraise: raise what the task raised, after it was recorded.
        :param owner: whose attempt it is, such as the id of a Celery message.
        :returns: what the task returned, if it finished.
        :raises ValueError: the task's ``expires`` cannot be used.
        """
        expires = _expiry(type(self))
        with elsewhere():
            attempt = claim(manager, instance, early=early, owner=owner, expires=expires)
            if attempt is None:
                return None
            try:
                return self._carry_out(manager, attempt, reraise)
            finally:
                heartbeat.end(attempt)

    def _carry_out(
        self, manager: TriggerManager, attempt: Attempt, reraise: bool
    ) -> Mapping[str, Any] | None:
        """Do the work of an attempt, and report how it ended."""
        tries = _TRIES if self.transactional else 1
        while True:
            tries -= 1
            context = TaskContext(manager, attempt.instance, lambda: attempt.is_lost)
            try:
                with attempt.transaction() if self.transactional else nullcontext():
                    try:
                        with at_work(manager.storage):
                            returned: Mapping[str, Any] | None = call_method(self._run, context)
                    finally:
                        attempt.log_level = max(attempt.log_level, context.log_level)
                    if isinstance(returned, _NO_RESULTS):
                        raise _no_result(returned, attempt.instance.name)
                    result = attempt.encode(returned)
                    if self.transactional:
                        attempt.finish(result)
            except AttemptLost:
                return None
            except TaskSkip as skip:
                attempt.skip(skip)
            except TaskRetry as retry:
                exceeded = attempt.retry(retry, self.max_retries)
                if reraise and exceeded is not None:
                    raise exceeded from retry.exc
            except Exception as error:
                if tries and manager.storage.may_repeat(error):
                    continue  # the transaction lost against another one, and has had no effect
                attempt.fail(error)
                if reraise:
                    raise
            except BaseException as error:
                # The process is being ended; say so while it still can.
                attempt.fail(error, is_ending=True)
                raise
            else:
                if not self.transactional:
                    attempt.finish(result)
                return returned
            return None


_NO_RESULTS = (TaskRetry, TaskSkip, CoroutineType, GeneratorType, AsyncGeneratorType)


def _no_result(returned: Any, instance: str) -> InvalidPayload:
    """Why this is no result, and what was to be written instead of returning it."""
    kind = type(returned).__name__
    if isinstance(returned, TaskRetry | TaskSkip):
        way = "retry" if isinstance(returned, TaskRetry) else "skip"
        reason = f"{kind} is an exception; write 'raise', not 'return', before the {way}(…)."
    else:
        if isinstance(returned, CoroutineType | GeneratorType):
            returned.close()  # else Python warns that it was never awaited, which is said here
        is_async = not isinstance(returned, GeneratorType)
        reason = f"got {kind}: the task {_PLAIN_DEF[is_async]}"
    return InvalidPayload(f"the result of {instance}", kind, reason)


def _not_called(name: str) -> TypeError:
    return TypeError(
        f"{name} is a trigger task, which is started by firing what it waits for "
        "(manager.fire(…)), not by a call, delay() or apply_async(). What @trigger_task made of a "
        "function has that as its .function."
    )


def execute(manager: TriggerManager, instance: str) -> None:
    """Run a scheduled instance here and now, to its end; its errors are recorded, not raised.

    :param instance: name of the instance.
    :raises InstanceNotFound: the session has no such instance.
    """
    execute_instance(manager, manager.storage[instance], early=True)


@overload
def trigger_task(function: F, /) -> TriggerTask: ...
@overload
def trigger_task(
    *,
    name: str | None = None,
    base: type[TriggerTask] = ...,
    workflow: str | Workflow | None = None,
    task: str | None = None,
    after: Condition | None = None,
    unless: Condition | None = None,
    and_every: str | Trigger | None = None,
    when: Mapping[str, Filter | list[Filter]] | None = None,
    within: Duration | None = None,
    fresh: Mapping[str, Duration] | None = None,
    at_most_every: Duration | None = None,
    debounce: Mapping[str, Duration] | None = None,
    with_params: Mapping[str, Mapping[str, Any]] | None = None,
    with_args: Provider | None = None,
    using: str | None = None,
    custom: Mapping[str, Any] | None = None,
    **options: Any,
) -> Callable[[F], TriggerTask]: ...
def trigger_task(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    base: type[TriggerTask] = TriggerTask,
    workflow: str | Workflow | None = None,
    task: str | None = None,
    custom: Mapping[str, Any] | None = None,
    **options: Any,
) -> TriggerTask | Callable[[F], TriggerTask]:
    """Turn a function into a registered trigger task, and add it to a workflow if there is one.

    The function gets the :class:`TaskContext`: as its parameter ``context``, or else as its first
    one, if it takes any. With ``with_args`` it gets the arguments of the provider instead, and the
    context if it has a parameter of that name. Its return value is treated like that of ``_run``.
    The original stays reachable as ``.function``.

    :param function: does the work; left out, by default, where the decorator has arguments.
    :param name: the task's name for Celery, and for ``run``; by default ``module.function``.
    :param base: class to extend.
    :param workflow: the workflow to add it to, or its name; by default none.
    :param task: its name there; by default ``t_`` and the function's name.
    :param custom: directives of your own; by default none.
    :param options: as for ``celery.shared_task``: ``max_retries``, ``queue``, ``priority``,
        ``time_limit``, ….
    :param after: and ``unless``, ``and_every``, ``when``, ``within``, ``fresh``,
        ``at_most_every``, ``debounce``, ``with_params``, ``with_args``, ``using``: as for
        :meth:`triggers.workflows.Workflow.task`.
    :returns: the registered task; with arguments, a decorator that makes it.
    :raises TypeError: there are conditions, and no workflow; or an option looks like a misspelled
        one, or is Celery's ``bind``.
    :raises CannotRegister: (a ``TypeError``) the function is async or a generator; or there is a
        workflow, and it is a lambda.
    :raises ConfigurationError: something in the conditions is wrong, or the workflow has a task of
        this name.
    """
    _check_names(options.keys() - _CONDITIONS, base)
    conditions = {each: options.pop(each) for each in _CONDITIONS & options.keys()}
    given = {**conditions, "task": task, "custom": custom}
    said = sorted(each for each, value in given.items() if value is not None)

    def decorate(function: F) -> TriggerTask:
        _check_plain(function, function, "it")
        run = name or f"{function.__module__}.{function.__name__}"
        declared_as = None
        if workflow is not None:
            if function.__name__ == "<lambda>":
                reason = "it is a lambda, which no other process finds by name; write a def."
                raise CannotRegister("trigger task", function, reason)
            declared_as = task or f"t_{function.__name__}"
            declaration = Declaration(run=run, custom=custom or {}, **conditions)
            owner = workflow if isinstance(workflow, Workflow) else define(workflow)
            owner.add(declared_as, declaration)
        elif said:
            raise TypeError(f"{run}: {', '.join(said)} without a workflow; add workflow='…'.")
        call = caller(function)

        def _run(self: TriggerTask, context: TaskContext, /, **arguments: Any) -> Any:
            return call(context, **arguments)

        attributes = {
            "name": run,
            "_run": _run,
            "function": staticmethod(function),
            "declared_as": declared_as,
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            **options,
        }
        type(function.__name__, (base,), attributes)
        return resolve(run)

    return decorate if function is None else decorate(function)


_CONDITIONS = frozenset(each.name for each in fields(Declaration)) - {"run", "custom"}


def _check_names(options: Set[str], base: type[TriggerTask]) -> None:
    """Refuse what is probably a misspelled option; any other may be an attribute of one's own."""
    if "bind" in options:
        raise TypeError(
            "trigger_task() takes no 'bind': the function gets the context, and the task is what "
            "the decorator makes of it, as in 'raise ship.retry(…)'."
        )
    known = {*dir(base), *_MESSAGE_OPTIONS}
    unknown = sorted(options - known)
    if not unknown:
        return
    ours = _CONDITIONS | {"workflow"}
    theirs = {
        each
        for each in known
        if each.islower() and not each.startswith("_")
        if not callable(value := getattr(base, each, None)) and not isinstance(value, property)
    }
    for each in unknown:
        # Of what is alike, ours first: Celery's names are many.
        meant = meant_by(each, ours) or meant_by(each, theirs)
        if meant is not None:
            raise TypeError(f"trigger_task() takes no {each!r}; did you mean {meant!r}?")


def _check_plain(code: Callable[..., Any], owner: object, what: str) -> None:
    """Refuse what a call does not run: it would make a coroutine or a generator, and no result.

    What a decorator made of such a function counts as it is, as it may well run it.
    """
    is_async = inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code)
    if is_async or inspect.isgeneratorfunction(code):
        raise CannotRegister("trigger task", owner, f"{what} {_PLAIN_DEF[is_async]}")


def _check_options(cls: type[TriggerTask]) -> None:
    """Refuse options that would end a worker, or keep every message from being sent."""

    def refuse(option: str, wanted: str, given: object) -> NoReturn:
        name = cls.__qualname__
        raise ValueError(f"{name}.{option} must be {wanted}, got {given!r}.")

    for option in ("time_limit", "soft_time_limit"):
        limit = getattr(cls, option)
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if limit is not None and not (is_number and limit > 0):
            refuse(option, "a number of seconds above 0", limit)
    hard, soft = cls.time_limit, cls.soft_time_limit
    if hard is not None and soft is not None and soft >= hard:
        refuse("soft_time_limit", f"below time_limit, which is {hard}", soft)
    priority = cls.message_options.get("priority")
    is_whole = isinstance(priority, int) and not isinstance(priority, bool)
    if priority is not None and not (is_whole and 0 <= priority <= 255):
        refuse("priority", "a whole number from 0 to 255", priority)
    queue = cls.message_options.get("queue")
    if queue is not None and not (
        queue and (isinstance(queue, str) or hasattr(queue, "routing_key"))
    ):
        refuse("queue", "the name of a queue", queue)
    if not isinstance(cls.transactional, bool):
        refuse("transactional", "True or False", cls.transactional)
    if retried := getattr(cls, "autoretry_for", None):
        # Celery would try the message again, whose instance has failed by then.
        wanted = "left out (catch the exception and raise self.retry(cooldown=SECONDS) instead)"
        refuse("autoretry_for", wanted, retried)


def _expiry(cls: type[TriggerTask]) -> timedelta | None:
    """How long after it is ready an instance of the task may still be started."""
    given = cls.expires
    if given is None:
        return None
    try:
        if isinstance(given, bool):
            raise TypeError
        expiry = given if isinstance(given, timedelta) else timedelta(seconds=given)
        if expiry > timedelta(0):
            return expiry
    except (TypeError, OverflowError, ValueError):
        pass
    name = cls.__qualname__
    raise ValueError(f"{name}.expires must be seconds or a timedelta, above 0, got {given!r}.")


_defined: dict[str, type[TriggerTask]] = {}


def _register(cls: type[TriggerTask]) -> None:
    # What celery.shared_task does for functions: tell the apps there are, and those to come. Of
    # several of one name, which a reload makes, those to come get the last one.
    name = cls.name
    if name not in _defined:
        connect_on_app_finalize(lambda app: app.register_task(_defined[name]()))
    _defined[name] = cls
    for app in _get_active_apps():
        if app.finalized:
            app.register_task(cls())
