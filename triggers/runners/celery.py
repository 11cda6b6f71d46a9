"""Execution by Celery workers."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from celery import current_app

from triggers.engine.draft import LONGEST_COUNTDOWN
from triggers.exceptions import NotSent, UnknownTask
from triggers.logging import Fields, log
from triggers.runners.base import BaseTaskRunner
from triggers.runners.celery_broker import BROKER_ERRORS, broker_of

if TYPE_CHECKING:
    from triggers.manager import TriggerManager
    from triggers.types import TaskInstance


class CeleryTaskRunner(BaseTaskRunner):
    """Sends a Celery message for each instance; routing and queues are Celery's own.

    The message names the manager, the storage and the instance; kwargs stay in the storage. It is
    JSON, whatever ``task_serializer`` says.

    A broker that is down costs the caller at most :attr:`publish_timeout`, and nothing at all in
    the :attr:`pause` after that: recovery sends what was not sent.
    """

    name = "celery"

    publish_timeout: ClassVar[float] = 1.0
    """Seconds that sending one message may take, about, connecting included. Looking up the
    broker's host name is not, which Python cannot limit."""

    pause: ClassVar[float] = 10.0
    """Seconds after a failure for which this process leaves sending to recovery."""

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        """Send an instance's message.

        :raises NotSent: the broker does not answer, or did not just now; the log says why.
        """
        # An instance that was not started in time fails, where handlers see it, and so is not
        # dropped by the broker, where nobody does: a message must not expire.
        options: dict[str, Any] = {"serializer": "json", "expires": None}
        # The storage keeps the result, and erases it when asked to. A result backend would not,
        # and Celery asks it before it sends, for as long as that takes.
        options["ignore_result"] = True
        # What ``celery inspect`` and monitors show of a message; Celery would take it from all of
        # the kwargs, which takes longer than all else that is done here.
        about_it = {"session": manager.storage.uid, "instance": task_instance.name}
        options |= {"argsrepr": "()", "kwargsrepr": repr(about_it)}
        not_before = task_instance.record.not_before
        if not_before is not None:
            wait = not_before - manager.storage.now()
            # Brokers deliver a message again that nobody acknowledges for long.
            if wait > LONGEST_COUNTDOWN:
                return
            options["countdown"] = max(0.0, wait.total_seconds())
        name, kwargs = task_instance.config.run, self.task_kwargs(manager, task_instance)
        app = current_app._get_current_object()
        try:
            task = self.resolve(name)
        except UnknownTask:
            # The workers may know a task that this process does not even have installed.
            send = partial(app.send_task, name, kwargs=kwargs, **options)
        else:
            options = {**task.message_options, **options}
            send = partial(task.apply_async, kwargs=kwargs, **options)
            if app.conf.task_always_eager:
                send()
                return
        about: Fields = {
            "action": "dispatch",
            "session": manager.storage.uid,
            "instance": task_instance.name,
        }
        broker = broker_of(app, self.publish_timeout, self.pause)
        try:
            is_tried = broker.publish(send)
        except BROKER_ERRORS as error:
            message = (
                "The broker %s does not answer (%s: %s), so %s was not sent, and nothing is for "
                "%g s; recovery sends it"
            )
            reason = (type(error).__name__, error)
            log(
                logging.ERROR,
                message,
                broker.address,
                *reason,
                task_instance.name,
                self.pause,
                **about,
            )
            log(logging.DEBUG, "How the broker failed", exc_info=True, **about)
            raise NotSent(task_instance.name) from error
        if not is_tried:
            message = "%s was not sent, as the broker did not answer just now; recovery sends it"
            log(logging.WARNING, message, task_instance.name, **about)
            raise NotSent(task_instance.name)
