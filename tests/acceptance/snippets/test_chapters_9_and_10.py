"""Chapters 9 and 10: inspecting state, error recovery, logging."""

from __future__ import annotations

import doctest
import logging
import textwrap
from typing import Any

import pytest

from tests.acceptance.app.tasks import define
from tests.acceptance.snippets.conftest import Play, statuses
from triggers import CacheStorageBackend
from triggers.manager import TriggerManager
from triggers.task import TriggerTask
from triggers.types import TaskConfig, TaskInstance

pytestmark = pytest.mark.server("redis")

CONFIGURATION = {
    "t_importSubject": {
        "after": ["firstPageReceived", "questionnaireComplete"],
        "run": "app.tasks.ImportSubject",
    },
    "t_waits": {"after": ["t_importSubject"], "run": "app.other.Waits"},
}


class Fussy(TriggerTask):
    """Fails unless the page has a name."""

    abstract = True

    def _run(self, context: Any) -> dict[str, Any]:
        return {"name": context.trigger_kwargs["firstPageReceived"]["responses"]["name"]}


@pytest.fixture
def failed(trigger_manager: TriggerManager) -> TriggerManager:
    """A manager whose ``t_importSubject#0`` has failed."""
    define("app.other.Waits")
    type("ImportSubject", (Fussy,), {"name": "app.tasks.ImportSubject"})
    trigger_manager.update_configuration(CONFIGURATION)
    trigger_manager.fire("firstPageReceived", {"responses": {}})
    trigger_manager.fire("questionnaireComplete", {"at": "noon"})
    assert statuses(trigger_manager) == {"t_importSubject#0": "failed"}
    return trigger_manager


def test_chapter_9_2_1_task_and_instance(play: Play, failed: TriggerManager) -> None:
    names = play(
        """
        task = trigger_manager.storage.tasks['t_importSubject']
        instance = trigger_manager.storage.instances['t_importSubject#0']
        """,
        trigger_manager=failed,
    )
    assert isinstance(names["task"], TaskConfig)
    assert isinstance(names["instance"], TaskInstance)


def run_doctest(text: str, **surroundings: Any) -> None:
    """Run a printed dialogue, and compare what it shows."""
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    test = parser.get_doctest(textwrap.dedent(text), surroundings, "snippet", None, 0)
    shown: list[str] = []
    runner.run(test, out=shown.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert "".join(shown) == ""


def test_chapter_9_2_2_a_task_name_is_no_instance_name(failed: TriggerManager) -> None:
    # Repaired: a printed "TaskInstance(...)" is, two pages on, "<TaskInstance '...'>"; the
    # dialogue leaves out the lines "Traceback (most recent call last):".
    run_doctest(
        """
        # Using instance name:
        >>> trigger_manager.storage.instances['t_importSubject#0']
        <TaskInstance 't_importSubject#0'>

        # Using task name:
        >>> trigger_manager.storage.instances['t_importSubject']
        Traceback (most recent call last):
        KeyError: 't_importSubject'
        """,
        trigger_manager=failed,
    )


def test_chapter_9_2_2_instances_by_task(play: Play, failed: TriggerManager) -> None:
    # A slip of the document: the brackets are meant as a call.
    names = play(
        """
        instances =\\
           trigger_manager.storage.instances_of_task('t_importSubject')
        """,
        trigger_manager=failed,
    )
    assert [each.name for each in names["instances"]] == ["t_importSubject#0"]


def test_chapter_9_2_2_unresolved_tasks_and_instances() -> None:
    # Repaired: prompts, indentation, and the last call, which are lost. Changed: the two calls
    # whose value the dialogue does not show keep it in "_".
    run_doctest("""
        >>> from uuid import uuid4
        >>> from triggers import TriggerManager
        >>> from triggers.storages.cache import CacheStorageBackend
        >>> trigger_manager =\\
        ... TriggerManager(CacheStorageBackend(uuid4().hex))
        ...
        >>> _ = trigger_manager.update_configuration({
        ...   't_importSubject': {
        ...     'after': ['firstPageReceived', 'questionnaireComplete'],
        ...     'run': '...',
        ...   },
        ... })
        >>> # ``t_importSubject`` hasn't run yet, so it is unresolved.
        >>> trigger_manager.storage.get_unresolved_tasks()
        [<TaskConfig 't_importSubject'>]
        >>> # None of the triggers in ``t_importSubject.after`` have fired
        >>> # yet, so no task instance has been created yet.
        >>> trigger_manager.storage.get_unresolved_instances()
        []
        >>> _ = trigger_manager.fire('firstPageReceived')
        >>> # After the trigger fires, the trigger manager creates an
        >>> # instance for ``t_importSubject``, but it can't run yet, because
        >>> # it's still waiting for the other trigger.
        >>> trigger_manager.storage.get_unresolved_instances()
        [<TaskInstance 't_importSubject#0'>]
    """)


def test_chapter_9_2_2_the_full_picture(
    play: Play, failed: TriggerManager, capsys: pytest.CaptureFixture[str]
) -> None:
    play(
        """
        from pprint import pprint
        pprint(trigger_manager.storage.debug_repr())
        """,
        trigger_manager=failed,
    )
    printed = capsys.readouterr().out
    assert "t_importSubject#0" in printed
    assert "failed" in printed


def test_chapter_9_3_metadata_of_a_failed_instance(
    play: Play, failed: TriggerManager, capsys: pytest.CaptureFixture[str]
) -> None:
    play(
        """
        from pprint import pprint
        failed_instance =\\
           trigger_manager.storage.instances['t_importSubject#0']

        pprint(failed_instance.metadata)
        """,
        trigger_manager=failed,
    )
    printed = capsys.readouterr().out
    assert "KeyError" in printed
    assert "Traceback" in printed


def test_chapter_9_3_1_replaying(play: Play, failed: TriggerManager) -> None:
    play("trigger_manager.replay_failed_instance('t_importSubject#0')", trigger_manager=failed)
    assert statuses(failed) == {"t_importSubject#0": "replayed", "t_importSubject#1": "failed"}


def test_chapter_9_3_1_replaying_with_other_kwargs(play: Play, failed: TriggerManager) -> None:
    # Filled in: "{...}" is a page. Repaired: the last brace.
    play(
        """
        trigger_manager.replay_failed_instance(
          failed_instance = 't_importSubject#0',

        replacement_kwargs = {
            'firstPageReceived': {'responses': {'name': 'Marcus'}},
            'questionnaireComplete': {},
            },
        )
        """,
        trigger_manager=failed,
    )
    assert statuses(failed)["t_importSubject#1"] == "finished"
    assert failed.storage["t_importSubject#1"].kwargs == {
        "firstPageReceived": {"responses": {"name": "Marcus"}},
        "questionnaireComplete": {},
    }


def test_chapter_9_3_1_replaying_with_merged_kwargs(play: Play, failed: TriggerManager) -> None:
    # Filled in: "{...}" is a page.
    play(
        """
        failed_instance =\\
            trigger_manager.storage.instances['t_importSubject#0']

        # Change the ``firstPageReceived`` trigger kwargs
        # for the replay, but keep the rest the same.
        replacement_kwargs = failed_instance.kwargs
        replacement_kwargs['firstPageReceived'] = {'responses': {'name': 'Marcus'}}

        trigger_manager.replay_failed_instance(
            failed_instance,
            replacement_kwargs,
        )
        """,
        trigger_manager=failed,
    )
    assert statuses(failed)["t_importSubject#1"] == "finished"
    assert failed.storage["t_importSubject#1"].kwargs == {
        "firstPageReceived": {"responses": {"name": "Marcus"}},
        "questionnaireComplete": {"at": "noon"},
    }
    assert failed.storage["t_importSubject#0"].kwargs["firstPageReceived"] == {"responses": {}}


def test_chapter_9_3_2_skipping(play: Play, failed: TriggerManager) -> None:
    play("trigger_manager.skip_failed_instance('t_importSubject#0')", trigger_manager=failed)
    assert statuses(failed) == {"t_importSubject#0": "skipped"}


def test_chapter_9_3_2_skipping_with_a_cascade(play: Play, failed: TriggerManager) -> None:
    play(
        """
        trigger_manager.skip_failed_instance(
           failed_instance = 't_importSubject#0',

        # Trigger a cascade.
        cascade = True,

        # Simulate the result from ``t_importSubject#0``.
        result = {'subjectId': 42},
        )
        """,
        trigger_manager=failed,
    )
    assert statuses(failed) == {"t_importSubject#0": "skipped", "t_waits#0": "finished"}
    assert failed.storage.latest_kwargs["t_importSubject"] == {"subjectId": 42}
    skipped = failed.storage["t_waits#0"].kwargs
    # "The above code has basically the same effect as if [it] finished […] and caused a cascade"
    other = TriggerManager(CacheStorageBackend("another session"))
    other.update_configuration(CONFIGURATION)
    play(
        """
        trigger_manager.fire(
          trigger_name = 't_importSubject',
          trigger_kwargs = {'subjectId': 42},
        )
        """,
        trigger_manager=other,
    )
    assert statuses(other) == {"t_waits#0": "finished"}
    assert other.storage["t_waits#0"].kwargs == skipped


# -- chapter 10 ---------------------------------------------------------------------------------


def run_task(manager: TriggerManager, page: Any) -> TaskInstance:
    """Run the task that a snippet has just defined, on this page."""
    manager.update_configuration({"t_importSubject": CONFIGURATION["t_importSubject"]})
    manager.fire("firstPageReceived", {"responses": page})
    manager.fire("questionnaireComplete")
    return manager.storage["t_importSubject#0"]


def test_chapter_10_logger_context(play: Play, trigger_manager: TriggerManager) -> None:
    # Repaired: indentation.
    play("""
        from triggers.task import TaskContext, TriggerTask

        class ImportSubject(TriggerTask):
            def _run(self, context):
                # type: (TaskContext) -> dict
                with context.get_logger_context() as logger:
                    ...
    """)
    instance = run_task(trigger_manager, {})
    assert (instance.status, instance.log_level) == ("finished", logging.NOTSET)


def test_chapter_10_1_context_variables(
    play: Play, trigger_manager: TriggerManager, caplog: pytest.LogCaptureFixture
) -> None:
    # Repaired: indentation, and "trigger_kwarqs". A slip of the document: "extras=" on a logging
    # call is "extra=".
    play("""
        from my_app.models import Subject
        from triggers.task import TaskContext, TriggerTask
        class ImportSubject (TriggerTask):
          def _run(self, context):
            # type: (TaskContext) -> dict
            with context.get_logger_context() as logger:
              page_data =\\
                context.trigger_kwargs['firstPageReceived']['responses']
              given_names = page_data.get('givenNames')
              if not given_names:
                logger.warning(
                  'Missing givenNames in response data.',
                  # Attach the ``page_data`` to the log message via its context dict.
                  extra={'context': {
                    'page_data': page_data,
                  } } ,
                )
    """)
    instance = run_task(trigger_manager, {"page": 1})
    assert (instance.status, instance.log_level_name) == ("finished", "WARNING")
    [record] = caplog.records
    assert record.getMessage() == "Missing givenNames in response data."
    assert record.context == {"page_data": {"page": 1}}


def test_chapter_10_1_context_for_every_message(
    play: Play, trigger_manager: TriggerManager, caplog: pytest.LogCaptureFixture
) -> None:
    # Repaired: indentation, and the name "__run". Filled in: "..." logs something.
    caplog.set_level(logging.INFO)
    play(
        """
        from my_app import __version__

        class ImportSubject(TriggerTask):
            def _run(self, context):
                # type: (TaskContext) -> dict

                extra_context = {
                    "app_version": __version__,
                }

                with context.get_logger_context(extra_context) as logger:
                    # The application version number will be attached to every
                    # log emitted by ``logger``.
                    logger.info('Importing.')
        """,
        TriggerTask=TriggerTask,
    )
    instance = run_task(trigger_manager, {})
    assert instance.log_level_name == "INFO"
    [record] = [each for each in caplog.records if each.getMessage() == "Importing."]
    assert record.context == {"app_version": "1.2.3"}


def test_chapter_10_1_1_exception_context(
    play: Play, trigger_manager: TriggerManager, caplog: pytest.LogCaptureFixture
) -> None:
    # The snippet is lost; the text around it says what it holds.
    play("""
        from triggers.exceptions import with_context
        from triggers.task import TaskContext, TriggerTask

        class ImportSubject(TriggerTask):
            def _run(self, context):
                with context.get_logger_context() as logger:
                    raise with_context(
                        ValueError('Responses look like spam.'),
                        {'spam_score': 0.9, 'threshold': 0.5},
                    )
    """)
    instance = run_task(trigger_manager, {})
    assert (instance.status, instance.log_level_name) == ("failed", "ERROR")
    [record] = [each for each in caplog.records if "spam" in each.getMessage()]
    assert record.context == {"spam_score": 0.9, "threshold": 0.5}


def test_chapter_10_2_log_levels(play: Play, failed: TriggerManager) -> None:
    instance = play(
        """
        task_instance = trigger_manager.storage['t_importSubject#0']

        task_instance.log_level  # e.g.: logging.INFO
        task_instance.log_level_name  # e.g.: 'INFO'
        """,
        trigger_manager=failed,
    )["task_instance"]
    assert (instance.log_level, instance.log_level_name) == (logging.NOTSET, "NOTSET")


def test_chapter_10_2_2_resolving_logs(play: Play, trigger_manager: TriggerManager) -> None:
    play(
        """
        class ImportSubject(TriggerTask):
            def _run(self, context):
                with context.get_logger_context() as logger:
                    logger.error('Imported half of it.')
        """,
        TriggerTask=TriggerTask,
    )
    run_task(trigger_manager, {})
    assert trigger_manager.storage.get_instances_with_unresolved_logs() != []
    play(
        "trigger_manager.mark_instance_logs_resolved('t_importSubject#0')",
        "app.admin",
        trigger_manager=trigger_manager,
    )
    assert trigger_manager.storage.get_instances_with_unresolved_logs() == []
