"""The tasks of the workflows: what is done once their triggers have fired.

Each one gets a context with the kwargs of those triggers. What it returns becomes the kwargs of
the trigger that is named after it, for the tasks that wait for it.
"""

import filters as f
from django.db.models import Count

from examples.questionnaire import browsers, scoring
from examples.questionnaire.models import (
    BrowserMetadata,
    Comparison,
    Response,
    Score,
    Subject,
)
from triggers.exceptions import with_context
from triggers.task import TaskContext, TriggerTask, trigger_task


class ImportSubject(TriggerTask):
    """Import details about the applicant from the first page.

    Fails if they are not there; an administrator replays it then, with what was missing.
    """

    def _run(self, context: TaskContext) -> dict[str, int]:
        with context.get_logger_context() as logger:
            filtered_kwargs = context.filter_kwargs(
                {
                    "firstPageReceived": {
                        "questionnaire": f.Required | f.Int,
                        "responses": f.Required
                        | f.Type(dict)
                        | f.FilterMapper(
                            {
                                "birthday": f.Required | f.Date,
                                "givenName": f.Required | f.Unicode,
                            }
                        ),
                    }
                }
            )
            first_page = filtered_kwargs["firstPageReceived"]
            subject = Subject.objects.create(
                questionnaire_id=first_page["questionnaire"],
                given_name=first_page["responses"]["givenName"],
                birthday=first_page["responses"]["birthday"],
            )
            logger.info("Imported a subject.", extra={"context": {"subject": subject.pk}})
        return {"subjectId": subject.pk}


class ImportResponses(TriggerTask):
    """Import the responses of one page."""

    def _run(self, context: TaskContext) -> dict[str, int]:
        received = context.trigger_kwargs["pageReceived"]
        subject_id = context.trigger_kwargs["t_importSubject"]["subjectId"]
        with context.get_logger_context({"page": received["page"]}) as logger:
            response = Response.objects.create(
                subject_id=subject_id, page=received["page"], answers=received["responses"]
            )
            logger.info("Imported the responses of a page.")
            self._report_if_last(context, subject_id)
        return {"responseId": response.pk}

    def _report_if_last(self, context: TaskContext, subject_id: int) -> None:
        """Fire a trigger of our own once the last page is there, whichever page that is.

        Two pages that are imported at the same moment may both find that nothing is missing, so
        both fire; the key makes that one firing.
        """
        subject = Subject.objects.select_related("questionnaire").get(pk=subject_id)
        found = subject.response_set.aggregate(pages=Count("page", distinct=True))
        if found["pages"] == subject.questionnaire.page_count:
            context.manager.fire("allResponsesImported", idempotency_key="the last page")


class ImportBrowserMetadata(TriggerTask):
    """Import what a third party knows about the browser."""

    max_retries = 3

    cooldown = 0.2
    """Seconds; short, as nobody likes to wait for a demo."""

    def _run(self, context: TaskContext) -> dict[str, int]:
        received = context.trigger_kwargs["pageReceived"]
        user_agent = received["userAgent"]
        is_retry = "parent" in context.task_instance.metadata
        with context.get_logger_context({"user_agent": user_agent}):
            try:
                browser = browsers.look_up(user_agent, again=is_retry)
            except browsers.ServiceBusy as error:
                raise self.retry(exc=error, cooldown=self.cooldown) from error
            except browsers.UnknownBrowser as error:
                # The log and the failed instance will show it.
                with_context(error, {"page": received["page"]})
                raise
            metadata = BrowserMetadata.objects.create(
                subject_id=context.trigger_kwargs["t_importSubject"]["subjectId"],
                page=received["page"],
                family=browser.family,
                version=browser.version,
            )
        return {"browserMetadataId": metadata.pk}


@trigger_task
def compute_score(context: TaskContext) -> dict[str, int]:
    """Compute a score with the model that the workflow names (``withParams``)."""
    subject_id = context.trigger_kwargs["t_importSubject"]["subjectId"]
    model = context.trigger_kwargs["scoring"]["model"]
    pages = Response.objects.filter(subject_id=subject_id).values_list("answers", flat=True)
    points = scoring.score(model, pages)
    Score.objects.create(subject_id=subject_id, model=model, points=points)
    return {"points": points}


class CompareResponses(TriggerTask):
    """Compare one page of each questionnaire; runs in the applicant's session."""

    def _run(self, context: TaskContext) -> dict[str, int]:
        flora = context.trigger_kwargs["flora_page3"]["responses"]
        fauna = context.trigger_kwargs["fauna_page6"]["responses"]
        applicant_id = int(context.manager.storage.uid.removeprefix("applicant:"))
        alike = sum(fauna.get(question) == answer for question, answer in flora.items())
        Comparison.objects.create(applicant_id=applicant_id, alike=alike)
        return {"alike": alike}
