"""Every task by itself, or with those that it waits for.

These are plain Django test cases: everything happens in one transaction that is rolled back, and
tasks run in place.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.test import TestCase

from examples.questionnaire.browsers import UnknownBrowser
from examples.questionnaire.models import (
    Applicant,
    BrowserMetadata,
    Comparison,
    Questionnaire,
    Response,
    Score,
    Subject,
)
from examples.questionnaire.workflows import (
    APPLICANT_WORKFLOW,
    QUESTIONNAIRE_WORKFLOW,
    applicant_session,
    questionnaire_session,
)
from triggers.runners import ThreadingTaskRunner
from triggers.testing import TriggerManagerTestCaseMixin


class QuestionnaireTestCase(TriggerManagerTestCaseMixin, TestCase):
    """A flora questionnaire, which has three pages, and its session."""

    def setUp(self) -> None:
        super().setUp()
        self.applicant = Applicant.objects.create(nickname="marcus")
        self.questionnaire = Questionnaire.objects.create(applicant=self.applicant, kind="flora")
        self.manager = questionnaire_session(self.questionnaire.pk)
        self.manager.update_configuration(QUESTIONNAIRE_WORKFLOW)

    def receive(self, page: int, user_agent: str = "Firefox/144.0", **responses: Any) -> None:
        received = {
            "questionnaire": self.questionnaire.pk,
            "page": page,
            "responses": responses,
            "userAgent": user_agent,
        }
        if page == 1:
            self.manager.fire("firstPageReceived", received)
        self.manager.fire("pageReceived", received)

    def receive_first_page(self, **changes: Any) -> None:
        self.receive(1, **{"givenName": "Marcus", "birthday": "1990-03-01", "q1": 2, **changes})

    def complete(self) -> None:
        self.manager.fire("questionnaireComplete")
        ThreadingTaskRunner.join_all()


class ImportSubjectTestCase(QuestionnaireTestCase):
    def test_the_first_page_becomes_a_subject_when_the_questionnaire_is_complete(self) -> None:
        self.receive_first_page()
        self.complete()

        subject = Subject.objects.get()
        self.assertInstanceFinished("t_importSubject#0", {"subjectId": subject.pk})
        self.assertEqual(subject.given_name, "Marcus")
        self.assertEqual(subject.birthday, date(1990, 3, 1))

    def test_an_incomplete_questionnaire_has_no_subject(self) -> None:
        self.receive_first_page()
        ThreadingTaskRunner.join_all()

        self.assertInstanceUnstarted("t_importSubject#0")
        self.assertFalse(Subject.objects.exists())

    def test_without_a_given_name_it_fails_and_says_what_is_missing(self) -> None:
        self.receive_first_page(givenName="")
        with self.assertLogs("examples", "ERROR"):
            self.complete()

        self.assertInstanceFailed("t_importSubject#0", ValueError)
        failed = self.manager.storage["t_importSubject#0"]
        self.assertIn("firstPageReceived.responses.givenName", failed.metadata["traceback"])
        self.assertUnresolvedTasks([*QUESTIONNAIRE_WORKFLOW])

    def test_replayed_with_a_name_it_lets_the_waiting_pages_go_on(self) -> None:
        self.receive_first_page(givenName="")
        self.receive(2, q1=3)
        with self.assertLogs("examples", "ERROR"):
            self.complete()
        self.assertInstanceUnstarted("t_importResponses#0")

        kwargs = self.manager.storage["t_importSubject#0"].kwargs
        kwargs["firstPageReceived"]["responses"]["givenName"] = "Marcus"
        self.manager.replay_failed_instance("t_importSubject#0", kwargs)
        ThreadingTaskRunner.join_all()

        self.assertInstanceReplayed("t_importSubject#0")
        self.assertInstanceFinished("t_importSubject#1")
        self.assertInstanceFinished("t_importResponses#0")
        self.assertInstanceFinished("t_importResponses#1")
        self.assertEqual(Subject.objects.get().given_name, "Marcus")

    def test_skipped_with_a_result_it_lets_them_go_on_with_a_subject_made_by_hand(self) -> None:
        self.receive_first_page(birthday="in spring")
        with self.assertLogs("examples", "ERROR"):
            self.complete()
        subject = Subject.objects.create(
            questionnaire=self.questionnaire, given_name="Marcus", birthday=date(1990, 3, 1)
        )

        self.manager.skip_failed_instance(
            "t_importSubject#0", cascade=True, result={"subjectId": subject.pk}
        )
        ThreadingTaskRunner.join_all()

        self.assertInstanceSkipped("t_importSubject#0")
        self.assertInstanceFinished("t_importResponses#0")
        self.assertEqual(Response.objects.get().subject, subject)


class ImportResponsesTestCase(QuestionnaireTestCase):
    def test_every_page_is_imported_once_whether_it_comes_before_the_subject_or_after(self) -> None:
        self.receive(3, q1=5)
        self.receive_first_page()
        self.complete()
        self.receive(2, q1=3)
        ThreadingTaskRunner.join_all()

        for number in range(3):
            self.assertInstanceFinished(f"t_importResponses#{number}")
        self.assertInstanceMissing("t_importResponses#3")
        imported = dict(Response.objects.values_list("page", "answers"))
        self.assertEqual(imported[3], {"q1": 5})
        self.assertEqual(imported[2], {"q1": 3})
        self.assertEqual(sorted(imported), [1, 2, 3])

    def test_the_last_page_to_be_imported_fires_a_trigger_once(self) -> None:
        self.receive_first_page()
        self.receive(2)
        self.complete()
        self.assertNotIn("allResponsesImported", self.manager.storage.latest_kwargs)

        self.receive(3)
        self.receive(3, q1=1)
        ThreadingTaskRunner.join_all()

        self.assertIn("allResponsesImported", self.manager.storage.latest_kwargs)
        self.assertEqual(Response.objects.count(), 4)
        self.assertEqual(Score.objects.count(), 1)


class ImportBrowserMetadataTestCase(QuestionnaireTestCase):
    def import_browser(self, user_agent: str) -> None:
        self.receive_first_page(user_agent=user_agent)
        self.complete()

    def test_the_browser_of_one_page_is_imported(self) -> None:
        self.receive(2)
        self.import_browser("Safari/19.1")

        browser = BrowserMetadata.objects.get()
        self.assertInstanceFinished("t_importBrowserMetadata#0", {"browserMetadataId": browser.pk})
        self.assertInstanceMissing("t_importBrowserMetadata#1")

    def test_a_busy_service_is_asked_again(self) -> None:
        with self.assertLogs("examples", "WARNING"):
            self.import_browser("Opera/120.0")

        self.assertInstanceReplayed("t_importBrowserMetadata#0")
        self.assertInstanceFinished("t_importBrowserMetadata#1")
        self.assertEqual(str(BrowserMetadata.objects.get()), "Opera 120.0")

    def test_an_unknown_browser_fails_at_once_and_can_be_skipped(self) -> None:
        with self.assertLogs("examples", "ERROR") as logs:
            self.import_browser("Gopher/0.3")

        self.assertInstanceFailed("t_importBrowserMetadata#0", UnknownBrowser)
        self.assertEqual(vars(logs.records[0])["context"], {"user_agent": "Gopher/0.3", "page": 1})
        self.manager.skip_failed_instance("t_importBrowserMetadata#0")
        self.assertInstanceSkipped("t_importBrowserMetadata#0")
        self.assertFalse(BrowserMetadata.objects.exists())

    def test_an_embedded_questionnaire_has_no_browser(self) -> None:
        self.manager.fire("isEmbeddedApplication")
        self.import_browser("Safari/19.1")

        self.assertInstanceAbandoned("t_importBrowserMetadata#0")
        self.assertFalse(BrowserMetadata.objects.exists())

    def test_hearing_too_late_that_it_is_embedded_changes_nothing(self) -> None:
        self.import_browser("Safari/19.1")
        self.manager.fire("isEmbeddedApplication")
        ThreadingTaskRunner.join_all()

        self.assertInstanceFinished("t_importBrowserMetadata#0")


class ComputeScoreTestCase(QuestionnaireTestCase):
    def answer_everything(self) -> None:
        self.receive_first_page(q1=1)
        self.receive(2, q2=2)
        self.receive(3, q3=4)
        self.complete()

    def test_the_score_weighs_the_answers_of_all_pages_with_the_model_of_the_workflow(self) -> None:
        self.answer_everything()

        self.assertInstanceFinished("t_computeScore#0", {"points": 3 * 1 + 2 * 2 + 1 * 4})
        self.assertEqual(Score.objects.get().model, "Psych 01")

    def test_a_workflow_that_names_an_unknown_model_makes_the_task_fail(self) -> None:
        task = QUESTIONNAIRE_WORKFLOW["t_computeScore"]
        self.manager.update_configuration(
            {"t_computeScore": {**task, "withParams": {"scoring": {"model": "Psych 99"}}}}
        )
        self.answer_everything()

        self.assertInstanceFailed("t_computeScore#0", ValueError)
        self.assertFalse(Score.objects.exists())


class CompareResponsesTestCase(TriggerManagerTestCaseMixin, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.applicant = Applicant.objects.create(nickname="marcus")
        self.manager = applicant_session(self.applicant.pk)
        self.manager.update_configuration(APPLICANT_WORKFLOW)

    def test_it_counts_the_answers_that_two_questionnaires_share(self) -> None:
        self.manager.fire("fauna_page6", {"responses": {"q1": 1, "q2": 2, "q3": 3}})
        self.manager.fire("flora_page2", {"responses": {"q1": 5}})
        self.assertInstanceUnstarted("t_compareResponses#0")

        self.manager.fire("flora_page3", {"responses": {"q1": 1, "q2": 5, "q3": 3}})
        ThreadingTaskRunner.join_all()

        self.assertInstanceFinished("t_compareResponses#0", {"alike": 2})
        self.assertEqual(Comparison.objects.get().applicant, self.applicant)
