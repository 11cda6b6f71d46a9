"""Chapter 6: how to configure."""

from __future__ import annotations

import pytest

from tests.acceptance.app.runners import AwsLambdaRunner
from tests.acceptance.snippets.conftest import Play, forget_tasks, statuses
from triggers.exceptions import ConfigurationError
from triggers.manager import TriggerManager

pytestmark = [
    pytest.mark.server("redis"),
    pytest.mark.usefixtures("tasks_of_the_document"),
]


def test_chapter_6_three_tasks(play: Play, trigger_manager: TriggerManager) -> None:
    # Filled in: each "..." within braces is the directives of a task.
    play(
        """
        trigger_manager.update_configuration({
          't_importSubject': {**directives},
          't_importResponses': {**directives},
          't_importDeviceMetadata': {**directives},
        })
        """,
        directives={"after": ["a"], "run": "app.tasks.ImportSubject"},
        trigger_manager=trigger_manager,
    )
    trigger_manager.fire("a")
    assert statuses(trigger_manager) == {
        "t_importSubject#0": "finished",
        "t_importResponses#0": "finished",
        "t_importDeviceMetadata#0": "finished",
    }


def test_chapter_6_three_tasks_that_nobody_has_filled_in(
    play: Play, trigger_manager: TriggerManager
) -> None:
    # As printed, it is Python: a set that holds an ellipsis.
    with pytest.raises(ConfigurationError) as refused:
        play(
            """
            trigger_manager.update_configuration({
              't_importSubject': {...},
              't_importResponses': {...},
              't_importDeviceMetadata': {...},
            })
            """,
            trigger_manager=trigger_manager,
        )
    assert [path for path, _reason in refused.value.problems] == [
        "t_importSubject",
        "t_importResponses",
        "t_importDeviceMetadata",
    ]
    assert trigger_manager.storage.tasks == {}


def test_chapter_6_1_reads_like_a_sentence(play: Play, trigger_manager: TriggerManager) -> None:
    play(
        """
        trigger_manager.update_configuration({
           't_importResponses': {
              'after': ['t_importSubject'],
              'andEvery': 'pageReceived',
              'run': 'app.tasks.ImportResponses',
            },
        })
        """,
        trigger_manager=trigger_manager,
    )
    trigger_manager.fire("t_importSubject")
    trigger_manager.fire("pageReceived")
    trigger_manager.fire("pageReceived")
    assert statuses(trigger_manager) == {
        "t_importResponses#0": "finished",
        "t_importResponses#1": "finished",
    }


def test_chapter_6_1_1_after(play: Play, trigger_manager: TriggerManager) -> None:
    # Filled in: "..." is the run directive.
    play(
        """
        trigger_manager.update_configuration({
          't_importSubject': {
            'after': ['firstPageReceived', 'questionnaireComplete'],
            **run,
          },
        })
        """,
        run={"run": "app.tasks.ImportSubject"},
        trigger_manager=trigger_manager,
    )
    trigger_manager.fire("firstPageReceived")
    assert statuses(trigger_manager) == {"t_importSubject#0": "unstarted"}
    trigger_manager.fire("questionnaireComplete")
    assert statuses(trigger_manager) == {"t_importSubject#0": "finished"}


def test_chapter_6_1_1_run(trigger_manager: TriggerManager) -> None:
    # The snippet is lost; the text around it says what it holds.
    task = {"after": ["firstPageReceived"], "run": "my_app.tasks.ImportSubject"}
    trigger_manager.update_configuration({"t_importSubject": task})
    trigger_manager.fire("firstPageReceived", {"responses": "1"})
    result = trigger_manager.storage["t_importSubject#0"].metadata["result"]
    assert result == {"got": {"firstPageReceived": {"responses": "1"}}}


@pytest.mark.parametrize("missing", ["after", "run"])
def test_chapter_6_1_1_required_directives(trigger_manager: TriggerManager, missing: str) -> None:
    task = {"after": ["firstPageReceived"], "run": "app.tasks.ImportSubject"}
    del task[missing]
    with pytest.raises(ConfigurationError, match="t_importSubject"):
        trigger_manager.update_configuration({"t_importSubject": task})


def test_chapter_6_1_1_task_names_are_triggers(play: Play, trigger_manager: TriggerManager) -> None:
    # Filled in: "..." is the run directive.
    play(
        """
        trigger_manager.update_configuration({
           't_importDeviceMetadata': {
              'after': ['pageReceived', 't_importSubject'],
              'run': 'app.tasks.ImportBrowserMetadata',
            },
        })
        """,
        trigger_manager=trigger_manager,
    )
    trigger_manager.fire("t_importSubject", {"subjectId": 42})
    trigger_manager.fire("pageReceived")
    instance = trigger_manager.storage["t_importDeviceMetadata#0"]
    assert instance.status == "finished"
    assert instance.kwargs["t_importSubject"] == {"subjectId": 42}


def test_chapter_6_1_2_and_every(play: Play, trigger_manager: TriggerManager) -> None:
    # Filled in: "..." is the run directive.
    play(
        """
        trigger_manager.update_configuration({
           't_importResponses': {
              'after': ['t_importSubject'],
              'andEvery': 'pageReceived',
              **run
           },
        })
        """,
        run={"run": "app.tasks.ImportResponses"},
        trigger_manager=trigger_manager,
    )
    trigger_manager.fire("pageReceived")
    trigger_manager.fire("pageReceived")
    assert set(statuses(trigger_manager).values()) == {"unstarted"}
    trigger_manager.fire("t_importSubject")
    assert statuses(trigger_manager) == {
        "t_importResponses#0": "finished",
        "t_importResponses#1": "finished",
    }


@pytest.mark.parametrize("first", [["isEmbeddedApplication"], ["pageReceived"]])
def test_chapter_6_1_2_unless(
    play: Play, trigger_manager: TriggerManager, first: list[str]
) -> None:
    # Filled in: "..." is the run directive.
    play(
        """
        trigger_manager.update_configuration({
           't_importBrowserMetadata': {
             'after': ['t_importSubject', 'pageReceived'],
             'unless': ['isEmbeddedApplication'],
             **run
            },
        })
        """,
        run={"run": "app.tasks.ImportBrowserMetadata"},
        trigger_manager=trigger_manager,
    )
    for trigger in [*first, "isEmbeddedApplication", "t_importSubject", "pageReceived"]:
        trigger_manager.fire(trigger)
    assert statuses(trigger_manager) == {"t_importBrowserMetadata#0": "abandoned"}


def test_chapter_6_1_2_with_params(trigger_manager: TriggerManager) -> None:
    # The two snippets are lost; the text around them says what they hold.
    after = {"after": ["sessionFinalized"], "run": "my_app.tasks.ComputeScore"}
    params = {"sessionFinalized": {"model": "Psych 01"}}
    trigger_manager.update_configuration({"t_computeScore": {**after, "withParams": params}})
    trigger_manager.fire("sessionFinalized")
    result = trigger_manager.storage["t_computeScore#0"].metadata["result"]
    assert result == {"got": {"sessionFinalized": {"model": "Psych 01"}}}
    with pytest.raises(ConfigurationError, match=r"t_computeScore\.withParams\.model"):
        trigger_manager.update_configuration(
            {"t_computeScore": {**after, "withParams": {"model": "Psych 01"}}}
        )


def test_chapter_6_1_2_using(play: Play, trigger_manager: TriggerManager) -> None:
    # Filled in: "..." is the after directive; my_app.tasks has the task.
    forget_tasks()
    play(
        """
        from triggers.task import TriggerTask

        class ComputeScore(TriggerTask):
            def _run(self, context):
                return {'score': 42}
        """,
        "my_app.tasks",
    )
    play(
        """
        from my_app.tasks import ComputeScore
        from my_app.triggers.runners import AwsLambdaRunner

        trigger_manager.update_configuration({
           't_computePsychometricScore': {
                'after': ['sessionFinalized'],
                'run': ComputeScore.name,
                'using': AwsLambdaRunner.name,
            },
        })
        """,
        trigger_manager=trigger_manager,
    )
    trigger_manager.fire("sessionFinalized")
    assert AwsLambdaRunner.sent == ["t_computePsychometricScore#0"]
    instance = trigger_manager.storage["t_computePsychometricScore#0"]
    assert instance.metadata["result"] == {"score": 42}
