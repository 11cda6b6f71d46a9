"""Chapter 7: writing Celery tasks. (Chapter 8, on statuses, has no snippets.)"""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from django.test import RequestFactory

from tests.acceptance.app.forms import QuestionnaireResponsesForm
from tests.acceptance.app.models import Subject
from tests.acceptance.app.tasks import define
from tests.acceptance.snippets.conftest import Play, statuses
from triggers.manager import TriggerManager

pytestmark = pytest.mark.server("redis")

IMPORT_SUBJECT = """
    from my_app.models import Subject
    from triggers.task import TaskContext, TriggerTask
    class ImportSubject (TriggerTask):
     def _run(self, context):
        # type: (TaskContext) -> dict
        # Load kwargs provided when the ``firstPageReceived``
        # trigger was fired by the application.
        page_data =\\
         context.trigger_kwargs['firstPageReceived']['responses']
        # Create a new ``subject`` record.
        new_subject =\\
          Subject.objects.create(
           birthday = page_data['birthday'],
           name = page_data['name'],
          )
        # Make the PK value accessible to tasks that are
        # waiting for a cascade.
        return {
          'subjectId': new_subject.pk,
        }
"""  # Repaired: indentation, and two closing braces.

CONFIGURE = """
    trigger_manager.update_configuration({
       't_importSubject': {
          'after': ['firstPageReceived', 'questionnaireComplete'],
          'run': 'app.tasks.ImportSubject',
        },
    })
"""  # Left out: "...", for further tasks.

PAGE = {"birthday": "1980-01-02", "name": "Marcus"}


def complete(manager: TriggerManager, page: Any = None) -> None:
    manager.fire("firstPageReceived", {"responses": PAGE if page is None else page})
    manager.fire("questionnaireComplete")


def test_chapter_7_view_that_attaches_the_page(play: Play, trigger_manager: TriggerManager) -> None:
    # Repaired: indentation and the last brace. A slip of the document: both "responses" that are
    # asked for their validity and their data are "responses_form".
    names = play(
        """
        def first_page_responses(request):
            \"\"\"
            Django view that processes the first page of response data
            from the client.
            \"\"\"
            responses_form = QuestionnaireResponsesForm(request.POST)
            if responses_form.is_valid():
                ...
                trigger_manager.fire(
                    trigger_name = 'firstPageReceived',
                    trigger_kwargs = {'responses': responses_form.cleaned_data},
                )
            ...
        """,
        QuestionnaireResponsesForm=QuestionnaireResponsesForm,
        trigger_manager=trigger_manager,
    )
    page = {"questionnaire_id": "42", "page_number": 1, "answer": "blue"}
    names["first_page_responses"](RequestFactory().post("/", page))
    assert trigger_manager.storage.latest_kwargs["firstPageReceived"] == {"responses": page}


def test_chapter_7_import_subject(play: Play, trigger_manager: TriggerManager) -> None:
    play(IMPORT_SUBJECT)
    play(CONFIGURE, "app.configuration", trigger_manager=trigger_manager)
    complete(trigger_manager)
    subject = Subject.objects.get()
    assert (subject.name, subject.birthday) == ("Marcus", date(1980, 1, 2))
    result = trigger_manager.storage["t_importSubject#0"].metadata["result"]
    assert result == {"subjectId": subject.pk}


FILTER_KWARGS = """
    from triggers.task import TriggerTask

    import filters as f
    class ImportSubject (TriggerTask):
       def _run(self, context):
        # type: (TaskContext) -> dict
        filtered_kwargs =\\
           context.filter_kwargs({
             'firstPageReceived': {
               'responses':
                   f.Required
                 | f.Type(dict)
                 | f.FilterMapper({
                     'birthday': f.Required | f.Date,
                     'name':     f.Required | f.Unicode,
                   }),
             },
           })
        page_data = filtered_kwargs['firstPageReceived']['responses']
        return {'page_data': page_data}
"""  # Repaired: indentation, and the place of 'name'. Added: the first import, and the result.


def test_chapter_7_1_2_filter_kwargs(play: Play, trigger_manager: TriggerManager) -> None:
    play(FILTER_KWARGS)
    play(CONFIGURE, "app.configuration", trigger_manager=trigger_manager)
    complete(trigger_manager)
    result = trigger_manager.storage["t_importSubject#0"].metadata["result"]
    assert result == {"page_data": {"birthday": date(1980, 1, 2), "name": "Marcus"}}


def test_chapter_7_1_2_filter_kwargs_that_do_not_pass(
    play: Play, trigger_manager: TriggerManager
) -> None:
    play(FILTER_KWARGS)
    play(CONFIGURE, "app.configuration", trigger_manager=trigger_manager)
    complete(trigger_manager, {"birthday": "soon"})
    message = trigger_manager.storage["t_importSubject#0"].metadata["exception"]["message"]
    assert "firstPageReceived.responses.birthday" in message
    assert "firstPageReceived.responses.name" in message


def test_chapter_7_2_cascading(play: Play, trigger_manager: TriggerManager) -> None:
    play(IMPORT_SUBJECT)
    play(CONFIGURE, "app.configuration", trigger_manager=trigger_manager)
    waits = define("app.other.Waits")
    after = {"after": ["t_importSubject"], "run": waits.name}
    trigger_manager.update_configuration({"t_waits": after})
    complete(trigger_manager)
    # "the trigger manager will cascade like this"
    expected = {
        "trigger_name": "t_importSubject",
        "trigger_kwargs": {"subjectId": Subject.objects.get().pk},
    }
    got = trigger_manager.storage["t_waits#0"].metadata["result"]["got"]
    assert got == {expected["trigger_name"]: expected["trigger_kwargs"]}


def test_chapter_7_2_a_cascade_is_the_same_as_firing_by_hand(
    play: Play, trigger_manager: TriggerManager
) -> None:
    waits = define("app.other.Waits")
    after = {"after": ["t_importSubject"], "run": waits.name}
    trigger_manager.update_configuration({"t_waits": after})
    play(
        """
        trigger_manager.fire(
          trigger_name = 't_importSubject',
          trigger_kwargs = {'subjectId': new_subject.pk},
        )
        """,
        new_subject=Subject.objects.create(name="Marcus"),
        trigger_manager=trigger_manager,
    )
    got = trigger_manager.storage["t_waits#0"].metadata["result"]["got"]
    assert got == {"t_importSubject": {"subjectId": Subject.objects.get().pk}}


class HttpError(OSError):
    """What the client of the snippet raises."""


class ApiClient:
    """A client of a service that is down for the first ``failures`` calls."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def post(self, *_args: Any) -> dict[str, str]:
        self.calls += 1
        if self.calls <= self.failures:
            raise HttpError("503")
        return {"browser": "Netscape"}


RETRYING = """
    class ImportBrowserMetadata(TriggerTask):
        # Specify the max number of retries allowed.
        max_retries = 3

        def _run(self, context):
            # type: (TaskContext) -> dict
            ...

            try:
                # Try to load data from 3rd-party API...
                metadata = api_client.post(...)
            except HttpError as e:
                # ... but if we are unable to connect,
                # retry after a delay.
                raise self.retry(exc=e, cooldown=10)

            return metadata
"""  # Repaired: indentation. Added: the result.


def retrying(play: Play, manager: TriggerManager, failures: int) -> None:
    """Play the snippet against a service that fails this often."""
    from triggers.task import TriggerTask

    play(RETRYING, api_client=ApiClient(failures), HttpError=HttpError, TriggerTask=TriggerTask)
    task = {"after": ["pageReceived"], "run": "app.tasks.ImportBrowserMetadata"}
    manager.update_configuration({"t_importBrowserMetadata": task})
    manager.fire("pageReceived")


def test_chapter_7_4_retrying_until_it_works(play: Play, trigger_manager: TriggerManager) -> None:
    retrying(play, trigger_manager, failures=2)
    assert statuses(trigger_manager) == {
        "t_importBrowserMetadata#0": "replayed",
        "t_importBrowserMetadata#1": "replayed",
        "t_importBrowserMetadata#2": "finished",
    }


def test_chapter_7_4_retrying_until_max_retries(
    play: Play, trigger_manager: TriggerManager
) -> None:
    retrying(play, trigger_manager, failures=100)
    assert list(statuses(trigger_manager).values()) == ["replayed"] * 3 + ["failed"]
    exception = trigger_manager.storage["t_importBrowserMetadata#3"].metadata["exception"]
    assert exception["type"].endswith(".MaxRetriesExceeded")
    assert exception["cause"]["type"].endswith(".HttpError")
