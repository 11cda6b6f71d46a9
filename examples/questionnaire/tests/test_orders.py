"""The workflow in every order of what may happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.test import TestCase

from examples.questionnaire.models import Applicant, Questionnaire, Response, Subject
from examples.questionnaire.workflows import QUESTIONNAIRE_WORKFLOW
from triggers.testing import any_order
from triggers.types import Status


class EveryOrderTestCase(TestCase):
    def test_only_the_browser_depends_on_the_order(self) -> None:
        applicant = Applicant.objects.create(nickname="marcus")
        questionnaire = Questionnaire.objects.create(applicant=applicant, kind="flora")
        first: dict[str, Any] = {
            "questionnaire": questionnaire.pk,
            "page": 1,
            "responses": {"givenName": "Marcus", "birthday": "1990-03-01"},
            "userAgent": "Firefox/144.0",
        }
        firings: list[str | tuple[str, Mapping[str, Any]]] = [
            ("firstPageReceived", first),
            ("pageReceived", first),
            ("pageReceived", {**first, "page": 2, "responses": {"q1": 4}}),
            "questionnaireComplete",
            "isEmbeddedApplication",
        ]
        browsers = set()

        for order in any_order(firings):
            with order:
                Subject.objects.all().delete()
                storage = order.play(QUESTIONNAIRE_WORKFLOW).storage

                self.assertEqual(Subject.objects.count(), 1)
                self.assertEqual(storage["t_importSubject#0"].status, Status.FINISHED)
                pages = Response.objects.order_by("page").values_list("page", flat=True)
                self.assertEqual(list(pages), [1, 2])
                imported = storage.instances_of_task("t_importResponses")
                self.assertEqual([each.status for each in imported], [Status.FINISHED] * 2)

                names = [trigger for trigger, _kwargs in order.firings]
                needed = ["firstPageReceived", "questionnaireComplete", "pageReceived"]
                ready = max(names.index(each) for each in needed)
                too_late = names.index("isEmbeddedApplication") > ready
                expected = Status.FINISHED if too_late else Status.ABANDONED
                self.assertEqual(storage["t_importBrowserMetadata#0"].status, expected)
                browsers.add(expected)

        self.assertEqual(browsers, {Status.FINISHED, Status.ABANDONED})
