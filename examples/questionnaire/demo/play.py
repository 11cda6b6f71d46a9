"""Sends what a cast has to say, in an order of its own, and repairs what failed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.test import Client
from django.urls import reverse

from examples.questionnaire.demo.cast import Character, Message
from examples.questionnaire.models import Applicant, Questionnaire
from examples.questionnaire.workflows import applicant_session, questionnaire_session
from triggers import TriggerManager
from triggers.runners import ThreadingTaskRunner
from triggers.types import Status, TaskInstance

SENDERS = 8
"""Requests at a time."""

MOMENTS = 6
"""In how many bursts everything arrives."""

BETWEEN_MOMENTS = 0.15
"""Seconds in which nothing arrives, so that some tasks are done before the next burst."""

PATIENCE = 60
"""Seconds that tasks may take to be done, before we say that something hangs."""


class Broken(Exception):
    """The demo cannot go on."""


@dataclass(kw_only=True)
class Performance:
    """One applicant in one play: the rows and sessions that came into being.

    :ivar questionnaires: primary keys by kind.
    """

    character: Character
    applicant: Applicant
    questionnaires: dict[str, int] = field(default_factory=dict)

    def sessions(self) -> Iterator[tuple[str, TriggerManager]]:
        """The applicant's sessions, by kind of questionnaire; the super session comes last."""
        for kind, pk in sorted(self.questionnaires.items()):
            yield kind, questionnaire_session(pk)
        yield "applicant", applicant_session(self.applicant.pk)


class Play:
    """The same cast, other orders: every play has applicants and sessions of its own.

    :param cast: who takes part.
    :param seed: decides the order in which things arrive.
    """

    def __init__(self, cast: list[Character], seed: int) -> None:
        self.seed = seed
        self.performances = [
            Performance(
                character=each, applicant=Applicant.objects.create(nickname=f"{each.name} ({seed})")
            )
            for each in cast
        ]
        self.moments = list(self._moments(random.Random(f"order {seed}")))

    @property
    def size(self) -> int:
        """How many requests there are."""
        starts = len(Questionnaire.Kind) * len(self.performances)
        return starts + sum(len(moment) for moment in self.moments)

    def send(self, on_sent: Callable[[], None]) -> None:
        """Send everything through the views, moment after moment, each one all at once.

        :param on_sent: called after every request.
        :raises Broken: a view refused something.
        """
        starts = [(each, kind) for each in self.performances for kind in Questionnaire.Kind]
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="browser") as browsers:
            for _done in browsers.map(_start, *zip(*starts, strict=True)):
                on_sent()
            for moment in self.moments:
                for _done in browsers.map(_send, *zip(*moment, strict=True)):
                    on_sent()
                time.sleep(BETWEEN_MOMENTS)

    def repair(self) -> list[str]:
        """Do what an administrator does about failed tasks; says what that was.

        A subject without a name is imported again, with a name. A browser that nobody knows is
        given up. Whatever else failed is left as it is.
        """
        return [
            f"{performance.character.name}, {kind}: {what}"
            for performance in self.performances
            for kind, manager in performance.sessions()
            for instance in manager.get_unresolved_instances()
            if instance.status == Status.FAILED
            for what in _repair(manager, instance, performance.character)
        ]

    def _moments(self, chance: random.Random) -> Iterator[list[tuple[Performance, Message]]]:
        arriving: list[list[tuple[Performance, Message]]] = [[] for _ in range(MOMENTS)]
        for performance in chance.sample(self.performances, len(self.performances)):
            messages = performance.character.messages
            for message in chance.sample(messages, len(messages)):
                # What one applicant sends in one moment stays together, so that it meets.
                for moment in chance.choices(arriving, k=message.times):
                    moment.append((performance, message))
        return filter(None, arriving)


def wait_for_tasks() -> None:
    """Wait until no task runs or is about to.

    :raises Broken: something hangs.
    """
    try:
        ThreadingTaskRunner.join_all(timeout=PATIENCE)
    except TimeoutError as error:
        raise Broken(f"After {PATIENCE} seconds, {error}") from None


def _start(performance: Performance, kind: Questionnaire.Kind) -> None:
    body = {"applicant": performance.applicant.pk, "kind": kind.value}
    answer = _post(reverse("start"), body)
    performance.questionnaires[kind.value] = answer["questionnaire"]


def _send(performance: Performance, message: Message) -> None:
    path = reverse(message.view, args=[performance.questionnaires[message.kind]])
    headers = {"Idempotency-Key": message.key, "User-Agent": performance.character.user_agent}
    _post(path, message.body, headers)


def _post(
    path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    try:
        response = Client(SERVER_NAME="localhost").post(
            path, body, content_type="application/json", headers=headers
        )
    finally:
        # As a server does after each request; this thread's connection would stay open.
        connections.close_all()
    if response.status_code >= 400:
        raise Broken(f"{path} answered {response.status_code}: {response.content.decode()}")
    answer: dict[str, Any] = response.json()
    return answer


def _repair(manager: TriggerManager, failed: TaskInstance, character: Character) -> Iterator[str]:
    why = failed.metadata["exception"]["message"]
    if failed.task_name == "t_importSubject":
        kwargs = failed.kwargs
        kwargs["firstPageReceived"]["responses"]["givenName"] = character.name
        manager.replay_failed_instance(failed, kwargs)
        yield f"{failed.name} failed ({why}); replayed with a name"
    elif failed.task_name == "t_importBrowserMetadata":
        manager.skip_failed_instance(failed)
        yield f"{failed.name} failed ({why}); skipped, as nothing waits for it"
