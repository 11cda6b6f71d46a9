"""One attempt to run an instance: the claim that lets it in, and the report of how it ended."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery.exceptions import SoftTimeLimitExceeded

from triggers import heartbeat, payload
from triggers.engine import Transition
from triggers.engine.lifecycle import Claim, Fail, Finish, Report, Retry, Skip
from triggers.exceptions import (
    InstanceNotFound,
    InvalidPayload,
    MaxRetriesExceeded,
    PayloadTooLarge,
    StorageUnavailable,
    class_names,
    get_context,
)
from triggers.logging import Action, ControlFlow, Fields, log
from triggers.types import Instance, Status, TaskInstance, split_instance_name

if TYPE_CHECKING:
    from triggers.manager import TriggerManager


REPORT_PAUSES = (0.1, 0.5, 2.0)
"""Seconds between the tries to tell something to a storage that does not answer; the last one
is repeated."""

LONGEST_WAIT = timedelta(seconds=5)
"""How long a worker that comes a little early waits for the end of a cool-down, each time."""

WAITS = 3
"""How often it does so before it leaves the instance to recovery."""


class TaskRetry(ControlFlow):
    """Raised by a task to be run again; made by :meth:`triggers.task.TriggerTask.retry`.

    :ivar exc: why; ``None`` if no exception led to it.
    :ivar cooldown: how long to wait, as a ``timedelta``.
    :ivar replacement_kwargs: trigger kwargs instead of those of the instance; ``None`` means the
        same again.
    """

    log_level = logging.WARNING

    def __init__(
        self,
        exc: BaseException | None,
        cooldown: timedelta,
        replacement_kwargs: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        self.exc = exc
        self.cooldown = cooldown
        self.replacement_kwargs = replacement_kwargs
        reason = f": {type(exc).__name__}: {exc}" if exc is not None else ""
        super().__init__(f"will be retried{reason}")


class TaskSkip(ControlFlow):
    """Raised by a task to end as ``skipped``; made by :meth:`triggers.task.TriggerTask.skip`.

    :ivar metadata: added to the instance's metadata.
    """

    def __init__(self, metadata: Mapping[str, Any] | None) -> None:
        self.metadata = metadata or {}
        super().__init__("skipped by the task itself")


class AttemptLost(Exception):
    """An attempt may not report any more, so what it did in its transaction is undone."""


class Attempt:
    """One run of an instance, fenced by its token: reports what came of it, once.

    :ivar instance: the instance, as it was claimed.
    :ivar log_level: the highest level that the task has logged.
    :ivar is_lost: whether another attempt may have begun meanwhile, since the lease ran out; this
        one cannot report any more.
    :ivar is_reporting: whether it is being reported how it ended.
    :ivar is_in_transaction: whether the task runs in :meth:`transaction` now.
    """

    def __init__(self, manager: TriggerManager, instance: TaskInstance, token: str) -> None:
        self.manager = manager
        self.instance = instance
        self.token = token
        self.log_level = logging.NOTSET
        self.is_lost = False
        self.is_reporting = False
        self.is_in_transaction = False
        self.key = split_instance_name(instance.name)

    def encode(self, returned: Any) -> str:
        """What the task returned, as text.

        :raises InvalidPayload: it cannot be stored.
        :raises PayloadTooLarge: it is too much.
        """
        what = f"the result of {self.instance.name}"
        return payload.encode(returned, what=what, limit=self.manager.storage.payload_limit)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction that the task's effects and its finish share: both happen, or neither.

        :raises SettingsError: the session is stored elsewhere than in a database.
        """
        with self.manager.storage.transaction():
            self.is_in_transaction = True
            try:
                yield
            finally:
                self.is_in_transaction = False

    def finish(self, result: str) -> None:
        """The task returned this.

        :raises AttemptLost: in :meth:`transaction`, if the report was not accepted.
        """
        metadata = self._log_metadata()
        event = Finish(key=self.key, token=self.token, metadata=metadata, result=result)
        self._report(lambda: event)

    def fail(self, error: BaseException, *, is_ending: bool = False) -> None:
        """The task raised.

        :param is_ending: the process is being ended, so that there is little time.
        """
        metadata = {**self._log_metadata(), **_describe(error)}

        def event() -> Fail:
            # Reads what the task got, so it belongs to what is tried again.
            failure = payload.dump(failure_of(self.instance, metadata["exception"]))
            return Fail(key=self.key, token=self.token, metadata=metadata, failure=failure)

        self._report(event, is_ending=is_ending)

    def skip(self, skip: TaskSkip) -> None:
        """The task skipped itself."""
        try:
            metadata = payload.decode(payload.encode(skip.metadata, what="skip metadata"))
        except (InvalidPayload, PayloadTooLarge) as error:
            self.fail(error)
            return
        metadata = {**self._log_metadata(), **metadata}
        event = Skip(key=self.key, token=self.token, metadata=metadata)
        self._report(lambda: event)

    def retry(self, retry: TaskRetry, limit: int | None) -> BaseException | None:
        """The task asked for another try; returns the exception if it may not have one."""
        name = self.instance.name
        if limit is not None and self.instance.record.retries >= limit:
            exceeded = MaxRetriesExceeded(name, limit)
            exceeded.__cause__ = retry.exc
            self.fail(exceeded)
            return exceeded
        replacement = None
        what = f"replacement kwargs of {name}"
        try:
            if retry.replacement_kwargs is not None:
                replacement = payload.encode_by_trigger(retry.replacement_kwargs, what)
        except (InvalidPayload, PayloadTooLarge) as error:
            self.fail(error)
            return error
        cause = _describe(retry.exc) if retry.exc is not None else {}
        event = Retry(
            key=self.key,
            token=self.token,
            metadata={**self._log_metadata(), **cause},
            cooldown=retry.cooldown,
            replacement=replacement,
        )
        self._report(lambda: event)
        return None

    def _report(self, make: Callable[[], Report], *, is_ending: bool = False) -> None:
        name, about = self.instance.name, self._about("drop")
        self.is_reporting = True
        try:
            try:
                event, transition, is_repeated = self._apply(make, is_ending)
            except SoftTimeLimitExceeded:
                if self.is_in_transaction:
                    raise
                # It comes once. The task is over, and must not run again for want of a record.
                event, transition, is_repeated = self._apply(make, is_ending, tries=1)
            is_accepted = bool(transition.outcome)
        except InstanceNotFound:
            message = "The end of %s was not recorded: there is no such instance any more"
            log(logging.WARNING, message, name, **about)
            is_accepted, is_repeated, event = False, False, None
        finally:
            # Not before: the lease counts until the report is in.
            heartbeat.end(self)
        what = type(event).__name__.lower()
        if is_accepted and transition.instances[self.key].status is Status.FAILED:
            if isinstance(event, Finish):
                reason = transition.instances[self.key].metadata["exception"]["message"]
                log(logging.ERROR, "%s", reason, **self._about("cascade"))
        elif is_repeated and not is_accepted:
            message = "%s of %s was reported again, as no answer had come, and had been decided"
            log(logging.WARNING, message, what, name, **about)
        elif event is not None and not is_accepted:
            message = "%s of %s was not recorded: the instance was decided elsewhere meanwhile"
            log(logging.WARNING, message, what, name, **about)
        if not is_accepted and self.is_in_transaction:
            raise AttemptLost(name)

    def _apply(
        self, make: Callable[[], Report], is_ending: bool, *, tries: int = 0
    ) -> tuple[Report, Transition, bool]:
        """Report, again while the storage is away: the work is done, and must not be lost.

        The token makes repeating safe: if the first try was committed, the next is not accepted.
        It goes on for as long as a lease at most. In a transaction, only all could be repeated.

        :param tries: how often it was tried before.
        :returns: the event, what it made, and whether it was a repetition.
        """
        deadline = time.monotonic() + (0 if is_ending else self.manager.storage.limits.lease)
        while True:
            try:
                event = make()
                return event, self.manager.apply(event), tries > 0
            except StorageUnavailable:
                is_over = tries >= len(REPORT_PAUSES) and time.monotonic() > deadline
                if self.is_in_transaction or is_over:
                    raise
            time.sleep(REPORT_PAUSES[min(tries, len(REPORT_PAUSES) - 1)])
            tries += 1

    def _about(self, action: Action) -> Fields:
        return _about(self.manager, action, self.instance.name)

    def _log_metadata(self) -> dict[str, Any]:
        return {"log_level": self.log_level} if self.log_level else {}


def claim(
    manager: TriggerManager,
    instance: str,
    *,
    early: bool = False,
    owner: str = "",
    expires: timedelta | None = None,
) -> Attempt | None:
    """Start an instance; ``None`` (and a log record) if it may not be started here and now.

    :param early: do not wait for the end of a retry's cool-down.
    :param owner: id of the message that starts it, with which its token begins.
    :param expires: how long after it could have been started it is too late, and it fails.
    """
    token = f"{beginning_of(owner)}{uuid4().hex[:16]}" if owner else uuid4().hex
    lease = manager.storage.limits.lease_time
    key = split_instance_name(instance)
    event = Claim(key=key, token=token, early=early, lease=lease, expires=expires)
    try:
        transition = _claimed(manager, event)
        # The clocks of this host and of the storage need not agree to the second, and one who has
        # slept for as long as it was told may still be early by a moment.
        for _ in range(WAITS):
            wait = transition.outcome
            if not isinstance(wait, timedelta) or wait > LONGEST_WAIT:
                break
            time.sleep(wait.total_seconds())
            transition = _claimed(manager, event)
    except InstanceNotFound:
        _log_dropped(manager, instance, "there is no such instance")
        return None
    if not isinstance(transition.outcome, Instance):
        reason = "it is not waiting to run"
        if isinstance(transition.outcome, timedelta):
            reason = f"its cool-down ends in {transition.outcome}, and recovery sends it then"
        _log_dropped(manager, instance, reason)
        return None
    if transition.outcome.status is Status.FAILED:
        reason = transition.outcome.metadata["exception"]["message"]
        log(logging.ERROR, "%s", reason, **_about(manager, "fail", instance))
        return None
    claimed = manager.storage.present(transition.outcome, transition.plan)
    attempt = Attempt(manager, claimed, token)
    heartbeat.begin(attempt)
    return attempt


def _claimed(manager: TriggerManager, event: Claim) -> Transition:
    """Claim, again if no answer comes: a claim that was committed is answered as such again."""
    for pause in REPORT_PAUSES[:-1]:
        try:
            return manager.apply(event)
        except StorageUnavailable:
            time.sleep(pause)
    return manager.apply(event)


def beginning_of(owner: str) -> str:
    """How the tokens of attempts begin that this message has started."""
    return f"{owner[:40]}:"


def _log_dropped(manager: TriggerManager, instance: str, reason: str) -> None:
    about = _about(manager, "drop", instance)
    log(logging.INFO, "start of %s was dropped: %s", instance, reason, **about)


def _about(manager: TriggerManager, action: Action, instance: str) -> Fields:
    """Fields of a log record about an attempt."""
    return {"action": action, "session": manager.storage.uid, "instance": instance}


def _describe(error: BaseException) -> dict[str, Any]:
    """What an instance's metadata says about the exception that ended it."""
    try:
        text = "".join(traceback.format_exception(error))
        return {"exception": _describe_one(error), "traceback": payload.safe_text(text)}
    except Exception:  # whatever an exception does when it is looked at
        name = type(error).__name__
        described = {"type": name, "types": [name], "message": f"<{name} that cannot be described>"}
        return {"exception": {**described, "context": {}}, "traceback": ""}


def _describe_one(error: BaseException) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "types": class_names(type(error)),
        "message": payload.safe_text(_printed(error), 10_000),
        "context": {
            payload.safe_text(str(name)): payload.describe(value)
            for name, value in get_context(error).items()
        },
    }
    if isinstance(error, MaxRetriesExceeded) and error.__cause__ is not None:
        described["cause"] = _describe_one(error.__cause__)
    return described


def failure_of(instance: TaskInstance, exception: Any) -> dict[str, Any]:
    """What the outcome ``t_x:failed`` of an instance carries.

    :param exception: what the instance's metadata say about the exception, if there was one.
    """
    known = exception if isinstance(exception, Mapping) else {}
    types = list(known.get("types", []))
    if isinstance(known.get("cause"), Mapping):
        # After its last retry: who handles what led to it need not know of retries.
        types += [name for name in known["cause"].get("types", []) if name not in types]
    return {
        "type": known.get("type", ""),
        "types": types,
        "message": known.get("message", "set by hand"),
        "kwargs": instance.arguments,
        "attempt": instance.retries + max(instance.attempt, 1),
    }


def _printed(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} that cannot be printed>"
