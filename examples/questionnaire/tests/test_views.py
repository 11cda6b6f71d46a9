"""The views, with real commits: what a request fires is decided right after its transaction.

Tasks run in threads, and see only what was committed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

from django.db import connections, transaction
from django.test import Client, TransactionTestCase
from django.urls import reverse

from examples.questionnaire.models import (
    Applicant,
    Comparison,
    Questionnaire,
    Response,
    Score,
    Subject,
)
from examples.questionnaire.workflows import applicant_session, questionnaire_session
from triggers.models import DeferredFiring
from triggers.runners import ThreadingTaskRunner
from triggers.testing import TriggerManagerTestCaseMixin

FIRST_PAGE = {"page": 1, "responses": {"givenName": "Marcus", "birthday": "1990-03-01", "q1": 1}}


class ViewsTestCase(TriggerManagerTestCaseMixin, TransactionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.applicant = Applicant.objects.create(nickname="marcus")
        self.questionnaire = self.start("flora")
        self.manager = questionnaire_session(self.questionnaire)

    def start(self, kind: str) -> int:
        body = {"applicant": self.applicant.pk, "kind": kind}
        response = self.client.post(reverse("start"), body, content_type="application/json")
        self.assertEqual(response.status_code, 201, response.content)
        questionnaire: int = response.json()["questionnaire"]
        return questionnaire

    def post(
        self, view: str, body: Any = None, *, questionnaire: int | None = None, **headers: str
    ) -> int:
        # A client of its own, as several threads may be at it.
        response = Client(headers={"User-Agent": "Firefox/144.0"}).post(
            reverse(view, args=[questionnaire or self.questionnaire]),
            {} if body is None else body,
            content_type="application/json",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        return response.status_code

    def test_a_questionnaire_is_imported_whatever_its_pages_do(self) -> None:
        self.post("complete")
        self.post("page", {"page": 3, "responses": {"q1": 2}})
        self.post("page", FIRST_PAGE)
        self.post("page", {"page": 2, "responses": {"q1": 3}})
        ThreadingTaskRunner.join_all()

        self.assertUnresolvedInstances([])
        self.assertUnresolvedTasks([])
        self.assertEqual(Subject.objects.get().questionnaire_id, self.questionnaire)
        self.assertEqual(Response.objects.count(), 3)
        self.assertEqual(Score.objects.get().points, 3 * (1 + 2 + 3))

    def test_both_questionnaires_of_an_applicant_meet_in_one_session(self) -> None:
        fauna = self.start("fauna")
        self.post("page", {"page": 6, "responses": {"q1": 2}}, questionnaire=fauna)
        self.post("page", {"page": 3, "responses": {"q1": 2}})
        ThreadingTaskRunner.join_all()

        self.manager = applicant_session(self.applicant.pk)
        self.assertInstanceFinished("t_compareResponses#0", {"alike": 1})
        self.assertEqual(Comparison.objects.get().applicant, self.applicant)

    def test_a_page_that_is_sent_twice_is_imported_once(self) -> None:
        self.post("complete")
        for _time in range(2):
            self.post("page", FIRST_PAGE, Idempotency_Key="a1")
        ThreadingTaskRunner.join_all()

        self.assertInstanceFinished("t_importResponses#0")
        self.assertInstanceMissing("t_importResponses#1")
        self.assertEqual(Response.objects.count(), 1)

    def test_what_completes_a_join_at_the_same_instant_runs_it_once(self) -> None:
        for _round in range(10):
            questionnaire = self.start("flora")
            at_once(
                partial(self.post, "page", FIRST_PAGE, questionnaire=questionnaire),
                partial(self.post, "complete", questionnaire=questionnaire),
            )
            ThreadingTaskRunner.join_all()

            self.assertEqual(Subject.objects.filter(questionnaire=questionnaire).count(), 1)
            self.assertEqual(
                Response.objects.filter(subject__questionnaire=questionnaire).count(), 1
            )

    def test_a_request_that_is_rolled_back_has_fired_nothing(self) -> None:
        class Rollback(Exception):
            pass

        with self.assertRaises(Rollback), transaction.atomic():
            self.assertEqual(self.post("complete"), 202)
            self.assertTrue(DeferredFiring.objects.exists())
            raise Rollback

        self.assertFalse(DeferredFiring.objects.exists())
        self.assertInstanceMissing("t_importSubject#0")

    def test_what_makes_no_sense_is_refused_and_fires_nothing(self) -> None:
        bodies = [
            "no JSON",
            [],
            {},
            {"page": 0, "responses": {}},
            {"page": True, "responses": {}},
            {"page": 4, "responses": {}},
            {"page": 1, "responses": []},
        ]
        for body in bodies:
            with self.subTest(body=body):
                self.assertEqual(self.post("page", body), 400)
        self.assertEqual(self.post("page", FIRST_PAGE, questionnaire=99), 404)
        self.assertEqual(self.manager.storage.latest_kwargs, {})

    def test_a_questionnaire_of_no_known_kind_is_not_started(self) -> None:
        for body in ({"applicant": self.applicant.pk, "kind": "fungi"}, {"kind": "flora"}):
            with self.subTest(body=body):
                response = self.client.post(reverse("start"), body, content_type="application/json")
                self.assertEqual(response.status_code, 400)
        self.assertEqual(Questionnaire.objects.count(), 1)


def at_once(*requests: Callable[[], int]) -> None:
    """Make several requests at the same instant, each in a thread of its own."""
    barrier = Barrier(len(requests))

    def make(request: Callable[[], int]) -> int:
        try:
            barrier.wait()
            return request()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(requests)) as threads:
        assert set(threads.map(make, requests)) == {202}
