"""Chapter 15: the cookbook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.shortcuts import get_object_or_404
from django.test import RequestFactory

from tests.acceptance.app.forms import QuestionnaireResponsesForm
from tests.acceptance.app.models import Questionnaire
from tests.acceptance.app.tasks import define
from tests.acceptance.snippets.conftest import Play, statuses
from triggers import CacheStorageBackend
from triggers.manager import TriggerManager, trigger_managers

pytestmark = pytest.mark.server("redis")


def test_chapter_15_1_manager_and_storage_from_settings(play: Play) -> None:
    play(
        """
        # my_app/settings.py

        TRIGGER_MANAGER_TYPE = 'default'
        TRIGGER_STORAGE_TYPE = 'cache'
        """,
        "my_app.settings",
    )
    names = play(
        '''
        # my_app/triggers.py

        from typing import Text
        from triggers import TriggerManager
        from triggers.manager import trigger_managers
        from triggers.storages import storage_backends

        from my_app.settings import TRIGGER_MANAGER_TYPE, \\
           TRIGGER_STORAGE_TYPE

        def get_trigger_manager(uid):
           # type: (Text) -> TriggerManager
           """
           Given a session UID, returns a configured trigger manager.
           """
           storage = storage_backends.get(TRIGGER_STORAGE_TYPE, uid)
           manager = trigger_managers.get(TRIGGER_MANAGER_TYPE, storage)
           return manager
        ''',
        "my_app.triggers",
    )
    manager = names["get_trigger_manager"]("42")
    assert type(manager) is TriggerManager
    assert type(manager.storage) is CacheStorageBackend
    assert manager.storage.uid == "42"


@pytest.fixture
def finalizing(play: Play) -> Iterator[TriggerManager]:
    # Repaired: indentation. The recipe has no name, but what is registered needs one of its own.
    names = play(
        """
        class FinalizingTriggerManager(TriggerManager):
           TRIGGER_SESSION_FINALIZED = "sessionFinalized"

           def _post_fire(self, trigger_name, tasks_scheduled):
               # Prevent infinite recursion.
               if trigger_name == self.TRIGGER_SESSION_FINALIZED:
                   return

               # A session can only be finalized once.
               if self.TRIGGER_SESSION_FINALIZED in self.storage.latest_kwargs:
                   return

               # Check for any unresolved tasks...
               for config in self.get_unresolved_tasks():
                   # ... ignoring any that are waiting for session finalized.
                   if self.TRIGGER_SESSION_FINALIZED not in config.after:
                       return

               # If we get here, we are ready to finalize the session.
               self.fire(self.TRIGGER_SESSION_FINALIZED)
        """,
        "my_app.triggers",
        TriggerManager=TriggerManager,
    )
    names["FinalizingTriggerManager"].name = "finalizing"
    trigger_managers.register(names["FinalizingTriggerManager"])
    define("app.tasks.ImportSubject")
    yield names["FinalizingTriggerManager"](CacheStorageBackend("42"))
    trigger_managers.unregister("finalizing")


def test_chapter_15_2_finalizing_a_session(finalizing: TriggerManager) -> None:
    run = {"run": "app.tasks.ImportSubject"}
    finalizing.update_configuration(
        {
            "t_importSubject": {"after": ["firstPageReceived", "questionnaireComplete"], **run},
            "t_setStatus": {"after": ["sessionFinalized"], **run},
        }
    )
    finalizing.fire("firstPageReceived")
    assert statuses(finalizing) == {"t_importSubject#0": "unstarted"}
    finalizing.fire("questionnaireComplete")
    assert statuses(finalizing) == {
        "t_importSubject#0": "finished",
        "t_setStatus#0": "finished",
    }
    firings = [each.trigger for each in finalizing.storage.find_firings()]
    assert firings.count("sessionFinalized") == 1


VIEWS = '''
    from my_app.models import Questionnaire
    def start_questionnaire(request):
     """
     Django view that is called when the user clicks the "start" button
     on a questionnaire.
     """
     questionnaire = get_object_or_404(
       klass = Questionnaire,
       pk    = request.POST["questionnaire_id"],
     )
     # Prepare our regular triggers session for the questionnaire.
     trigger_manager = TriggerManager(storage_of(questionnaire))
     trigger_manager.update_configuration(configuration)
     # Prepare our "super session", which will maintain state across
     # multiple questionnaires.
     # Note that the UID is tied to the applicant, not a particular
     # questionnaire. We also add a prefix, to avoid conflicts with
     # regular trigger session UIDs.
     super_trigger_manager = TriggerManager(
       storage = CacheStorageBackend(
         uid = 'applicant:{}'.format(request.session.applicant_id),
       ),
     )
     super_trigger_manager.update_configuration({
       # This task will run after the applicant completes page 3 in the
        # Flora questionnaire, and page 6 in the Fauna questionnaire.
       't_compareResponses': {
         'after': ['flora_page3', 'fauna_page6'],
         'run': CompareResponses.name,
       },
     })
    def responses(request):
     """
     Django view that processes a page of response data from
     the client.
     """
     questionnaire = get_object_or_404(
       klass = Questionnaire,
       pk = request.POST["questionnaire_id"],
     )
     responses_form = QuestionnaireResponsesForm(request.POST)
     if responses_form.is_valid():
       # Regular triggers session for the questionnaire.
       trigger_manager = TriggerManager(storage_of(questionnaire))
       trigger_manager.fire('pageReceived')
       # Fire triggers for "super session".
       super_trigger_manager = TriggerManager(
        storage = CacheStorageBackend(
          uid = 'applicant:{}'.format(request.session.applicant_id),
        ),
       )
       super_trigger_manager.fire(
        # E.g., "fauna_page3", etc.
        trigger_name = '{}_page{}'.format(
          questionnaire.name,
          responses_form.cleaned_data['page_number'],
        ),
         trigger_kwargs = {'responses': responses_form.cleaned_data},
       )
'''
# Repaired: indentation, the keyword "pk", closing braces, the quotes of the docstrings. Filled
# in: what stands for the regular session, "...".


class Session:
    """The web session of an applicant."""

    applicant_id = 42


def post(**data: Any) -> Any:
    request = RequestFactory().post("/", data)
    request.session = Session()
    return request


def test_chapter_15_3_namespaced_session_uids(play: Play) -> None:
    views = play(
        VIEWS,
        "my_app.views",
        CacheStorageBackend=CacheStorageBackend,
        CompareResponses=define("my_app.tasks.CompareResponses"),
        QuestionnaireResponsesForm=QuestionnaireResponsesForm,
        TriggerManager=TriggerManager,
        configuration={"t_x": {"andEvery": "pageReceived", "run": "my_app.tasks.CompareResponses"}},
        get_object_or_404=get_object_or_404,
        storage_of=lambda questionnaire: CacheStorageBackend(str(questionnaire.pk)),
    )
    keys = {name: Questionnaire.objects.create(name=name).pk for name in ("flora", "fauna")}
    for key in keys.values():
        views["start_questionnaire"](post(questionnaire_id=key))
    above = TriggerManager(CacheStorageBackend("applicant:42"))
    for name, page in [("fauna", 6), ("fauna", 3), ("flora", 3)]:
        assert statuses(above).get("t_compareResponses#0") != "finished"
        views["responses"](post(questionnaire_id=keys[name], page_number=page, answer="blue"))
    assert statuses(above) == {"t_compareResponses#0": "finished"}
    got = above.storage["t_compareResponses#0"].metadata["result"]["got"]
    assert got["fauna_page6"]["responses"]["page_number"] == 6
    assert len(CacheStorageBackend(str(keys["fauna"])).instances) == 2
