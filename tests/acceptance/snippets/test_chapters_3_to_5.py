"""Chapters 3 to 5: configuration, basic concepts, getting started."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory

from tests.acceptance.app.forms import QuestionnaireResponsesForm
from tests.acceptance.app.models import Questionnaire
from tests.acceptance.snippets.conftest import Play, load_json, statuses
from triggers import CacheStorageBackend
from triggers.manager import TriggerManager

pytestmark = [
    pytest.mark.server("redis"),
    pytest.mark.usefixtures("tasks_of_the_document"),
]


def test_chapter_3_first_configuration(trigger_manager: TriggerManager) -> None:
    configuration = load_json("""
        {
            // Give your task a name.
            "t_processStepData": {

                // This task runs after these two triggers are fired.
                // Note that order doesn't matter here.
                "after": ["module1Received", "module4Received"],

                // Specify the celery task to run when the above conditions are
                // met.
                "run": "my_app.tasks.ProcessStepData"
            }
        }
    """)
    trigger_manager.update_configuration(configuration)
    trigger_manager.fire("module4Received")
    assert statuses(trigger_manager) == {"t_processStepData#0": "unstarted"}
    trigger_manager.fire("module1Received")
    assert statuses(trigger_manager) == {"t_processStepData#0": "finished"}


def test_chapter_4_1_1_trigger_kwargs(play: Play) -> None:
    # Repaired: the indentation of the body, and what stands for the arguments of TriggerManager.
    names = play(
        """
        def process_module_1 (module_data):
            \"\"\"
            Processes the data received from module 1.
            \"\"\"
            # Store the module data to a document database.
            document_id = db.store(module_data)

            # Create a Trigger Manager instance (more on this later).
            trigger_manager = TriggerManager(storage)

            # Fire a trigger, with kwargs.
            trigger_manager.fire('module1Received', {'document_id': document_id})
        """,
        db=Documents(),
        TriggerManager=TriggerManager,
        storage=CacheStorageBackend("42"),
    )
    names["process_module_1"]({"answer": 42})
    assert CacheStorageBackend("42").latest_kwargs == {"module1Received": {"document_id": 1}}


class Documents:
    """A document database."""

    def __init__(self) -> None:
        self.stored: list[Any] = []

    def store(self, document: Any) -> int:
        self.stored.append(document)
        return len(self.stored)


def test_chapter_4_2_1_task_configurations(trigger_manager: TriggerManager) -> None:
    configuration = load_json("""
        {
          "t_createApplicant": {
            "after": ["startSession", "observationsReceived"],
            "run": "applicant_journey.tasks.Import_CreateApplicant"
        },

        "t_computeScore": {
            "after": ["t_createApplicant", "sessionFinalized"],
            "run": "applicant_journey.tasks.Score_ComputePsychometric"
        }
        }
    """)
    trigger_manager.update_configuration(configuration)
    for trigger in ("sessionFinalized", "observationsReceived", "startSession"):
        trigger_manager.fire(trigger)
    assert statuses(trigger_manager) == {
        "t_createApplicant#0": "finished",
        "t_computeScore#0": "finished",
    }


def test_chapter_4_5_trigger_managers(play: Play) -> None:
    names = play("""
        from triggers import CacheStorageBackend, TriggerManager

        # Specify the session UID.
        sessionUid = '...'

        # Create the trigger manager instance.
        trigger_manager = TriggerManager(CacheStorageBackend(sessionUid))

        # Fire triggers.
        trigger_manager.fire('ventCoreFrogBlasted')
    """)
    assert names["trigger_manager"].storage.latest_kwargs == {"ventCoreFrogBlasted": {}}


QUESTIONNAIRE = """
    "t_importSubject": {
     // Imports data from the first page, but cannot run until
     // the questionnaire is completed.
      "after": ["firstPageReceived", "questionnaireComplete"],
      "run": "app.tasks.ImportSubject"
    },
    "t_importResponses": {
     // Imports response data from EVERY page, but cannot run
      // until the subject data are imported.
     "after": ["t_importSubject"],
      "andEvery": "pageReceived",
      "run": "app.tasks.ImportResponses"
    },
    "t_importBrowserMetadata": {
     // Loads the user agent string from any ONE page of
     // responses (we don't care which one), but cannot run
     // until the subject data are imported...
     "after": ["t_importSubject", "pageReceived"],
      // ... unless the application determines that the requests
      // are coming from an embedded app, in which case, this
      // task should NOT run.
      "unless": ["isEmbeddedApplication"],
      "run": "app.tasks.ImportBrowserMetadata"
    }
"""  # Repaired: the first name was printed as "t importSubject".


@pytest.mark.parametrize(
    ("directives", "fired", "expected"),
    [
        # Task that runs once.
        (
            """
            "after": ["<trigger>", "<other trigger>"],
            "run": "<celery task>"
            """,
            ["<trigger>", "<other trigger>", "<trigger>", "<other trigger>"],
            ["finished"],
        ),
        # Task that can run multiple times.
        (
            """
            "after": ["<trigger>", "<other trigger>"],
            "andEvery": "<third trigger>",
            "run": "<celery task>"
            """,
            ["<third trigger>", "<trigger>", "<other trigger>", "<third trigger>"],
            ["finished", "finished"],
        ),
        # Task that will run unless certain condition is met. Filled in: "after" and "run", which
        # the outline leaves out, and which every task needs.
        (
            """
            "after": ["<trigger>"],
            "unless": ["<other trigger>"],
            "run": "<celery task>"
            """,
            ["<other trigger>", "<trigger>"],
            ["abandoned"],
        ),
    ],
    ids=["once", "multiple times", "unless"],
)
def test_chapter_5_2_outlines_of_tasks(
    trigger_manager: TriggerManager, directives: str, fired: list[str], expected: list[str]
) -> None:
    # Filled in: "..." in a list, which stands for further triggers.
    printed = directives.replace("<celery task>", "app.tasks.ImportSubject")
    trigger_manager.update_configuration(load_json(f'"<task name>": {{ {printed} }}'))
    for trigger in fired:
        trigger_manager.fire(trigger)
    assert list(statuses(trigger_manager).values()) == expected


def test_chapter_5_2_questionnaire_workflow(trigger_manager: TriggerManager) -> None:
    trigger_manager.update_configuration(load_json(QUESTIONNAIRE))
    trigger_manager.fire("pageReceived", {"page": 2})
    trigger_manager.fire("firstPageReceived")
    trigger_manager.fire("pageReceived", {"page": 1})
    trigger_manager.fire("questionnaireComplete")
    assert statuses(trigger_manager) == {
        "t_importSubject#0": "finished",
        "t_importResponses#0": "finished",
        "t_importResponses#1": "finished",
        "t_importBrowserMetadata#0": "finished",
    }
    kwargs = trigger_manager.storage["t_importBrowserMetadata#0"].kwargs
    assert kwargs["pageReceived"] == {"page": 2}


def test_chapter_5_2_questionnaire_workflow_of_an_embedded_application(
    trigger_manager: TriggerManager,
) -> None:
    trigger_manager.update_configuration(load_json(QUESTIONNAIRE))
    trigger_manager.fire("isEmbeddedApplication")
    for trigger in ("firstPageReceived", "pageReceived", "questionnaireComplete"):
        trigger_manager.fire(trigger)
    assert statuses(trigger_manager)["t_importBrowserMetadata#0"] == "abandoned"


def test_chapter_5_4_fire_triggers(play: Play) -> None:
    names = play(
        """
        from triggers import TriggerManager, CacheStorageBackend

        storage_backend =\\
           CacheStorageBackend(
            # Session UID (required)
            uid = session_uid,

            # Name of cache to use.
            cache = 'default',

        # TTL to use when setting values.
            # Depending on which cache you use (e.g., Redis), setting
            # ``timeout=None`` may store values permanently, or it
            # may use the cache's default timeout value.
            timeout = 3600,
        )

        trigger_manager = TriggerManager(storage_backend)

        trigger_manager.fire(trigger_name)
        """,
        session_uid="42",
        trigger_name="pageReceived",
    )
    assert CacheStorageBackend("42").latest_kwargs == {"pageReceived": {}}
    assert names["storage_backend"].options == {"cache": "default", "timeout": 3600}


def test_chapter_5_4_1_view_that_fires_with_kwargs(play: Play) -> None:
    # Repaired: indentation, quotes of the docstring, and the keyword "uid", which are lost. A
    # slip of the document: "responses" is the view itself; the data are in "responses_form".
    names = play(
        """
        def responses(request):
          \"\"\"
          Django view that processes a page of response data from
          the client.
          \"\"\"
          responses_form = QuestionnaireResponsesForm(request.POST)
          if responses_form.is_valid():
            trigger_manager = TriggerManager(
              storage = CacheStorageBackend(
                uid = responses_form.cleaned_data['questionnaire_id'],
                cache = 'default',
                timeout = 3600,
              ),
            )
            trigger_manager.fire(
              trigger_name = 'pageReceived',
              trigger_kwargs = {'responses': responses_form.cleaned_data},
            )
        """,
        CacheStorageBackend=CacheStorageBackend,
        QuestionnaireResponsesForm=QuestionnaireResponsesForm,
        TriggerManager=TriggerManager,
    )
    page = {"questionnaire_id": "42", "page_number": 3, "answer": "blue"}
    names["responses"](RequestFactory().post("/", page))
    assert CacheStorageBackend("42").latest_kwargs == {"pageReceived": {"responses": page}}


def test_chapter_5_5_an_empty_configuration(play: Play, trigger_manager: TriggerManager) -> None:
    play(
        """
        trigger_manager.update_configuration({
            # Configuration from Step 2 goes here.
        })
        """,
        trigger_manager=trigger_manager,
    )
    assert trigger_manager.storage.tasks == {}
    trigger_manager.update_configuration(load_json(QUESTIONNAIRE))
    assert set(trigger_manager.storage.tasks) == set(load_json(QUESTIONNAIRE))


def test_chapter_5_5_initialize_configuration(play: Play) -> None:
    # Repaired: indentation, the keyword "cache", and two closing braces, which are lost.
    names = play(
        """
        def start_questionnaire(request):
            \"\"\"
            Django view tha processes a request to start a new questionnaire.
            \"\"\"
            # Create the new questionnaire instance.
            # For this example, we will use the PK value of the
            # new database record as the session UID.
            new_questionnaire = Questionnaire.objects.create()

            trigger_manager = TriggerManager(
              storage = CacheStorageBackend(
                # The session UID must be a string value.
                uid = str(new_questionnaire.pk),
                cache = 'default',
                timeout = 3600,
              ),
            )
            trigger_manager.update_configuration({
              't_importSubject': {
                'after': ['firstPageReceived', 'questionnaireComplete'],
                'run': 'app.tasks.ImportSubject',
              },
              't_importResponses': {
                'after': ['t_importSubject'],
                'andEvery': 'pageReceived',
                'run': 'app.tasks.ImportResponses',
              },
              't_importBrowserMetadata': {
                'after': ['t_importSubject', 'pageReceived'],
                'unless': ['isEmbeddedApplication'],
                'run': 'app.tasks.ImportBrowserMetadata',
              },
            })
        """,
        CacheStorageBackend=CacheStorageBackend,
        Questionnaire=Questionnaire,
        TriggerManager=TriggerManager,
    )
    names["start_questionnaire"](RequestFactory().post("/"))
    storage = CacheStorageBackend(str(Questionnaire.objects.get().pk))
    printed = load_json(QUESTIONNAIRE)
    assert {name: dict(task.directives) for name, task in storage.tasks.items()} == printed
