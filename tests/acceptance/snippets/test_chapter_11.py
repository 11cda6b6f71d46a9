"""Chapter 11: testing trigger tasks."""

from __future__ import annotations

import sys
import textwrap
import types
import unittest
from typing import Any

import pytest

from tests.acceptance.app.models import Subject
from tests.acceptance.snippets.conftest import Play
from triggers import CacheStorageBackend, TriggerManager
from triggers.runners import ThreadingTaskRunner
from triggers.task import TriggerTask

pytestmark = pytest.mark.server("redis")


def run_test_case(case: type[unittest.TestCase]) -> None:
    """Run the tests of a class; they must all pass."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    assert suite.countTestCases() > 0
    result = unittest.TestResult()
    suite.run(result)
    assert [text for _test, text in result.failures + result.errors] == []


IMPORT_SUBJECT = """
    from my_app.models import Subject
    from triggers.task import TriggerTask

    class ImportSubject(TriggerTask):
        def _run(self, context):
            responses = context.trigger_kwargs['firstPageReceived']['responses']
            subject = Subject.objects.create(firstName=responses['firstName'])
            return {'subjectId': subject.pk}
"""

TEST_CASE = '''
    from my_app.models import Subject
    from triggers.runners import ThreadingTaskRunner
    from triggers.testing import TriggerManagerTestCaseMixin
    from unittest import TestCase
    class ImportSubjectTestCase(TriggerManagerTestCaseMixin, TestCase):
      def setUp(self):
        super(TriggerTaskTestCase, self).setUp()
        self.manager =\\
         TriggerManager(CacheStorageBackend(self._testMethodName))

      def test_successful_import(self):
        """
        Successfully importing a new subject record.
        """
        # Configure trigger tasks.
        self.manager.update_configuration({
         't_importSubject': {
           'after': ['firstPageReceived', 'questionnaireComplete'],
            'run': 'app.tasks.ImportSubject',
         },
        })
        responses = {
         'firstName': 'Marcus',
          # etc.
        }
        # Fire triggers (in this case, simulating successful
        # questionnaire completion).
        self.manager.fire(
         trigger_name = 'firstPageReceived',
         trigger_kwargs = {'responses': responses},
        )
        self.manager.fire('questionnaireComplete')
        # Wait for tasks to complete.
        ThreadingTaskRunner.join_all()
        # Perform assertions.
        subject = Subject.objects.latest()
        self.assertInstanceFinished(
         't_importSubject#0',
         { 'subjectId': subject.pk},
        )
        self.assertEqual(subject.firstName, responses['firstName'])
        # etc.
'''
# Repaired: indentation, braces and the quotes of the docstring. A slip of the document: "super"
# names another class than the one that it stands in; the tests let both names mean the same.


def test_chapter_11_1_a_test_case_has_its_manager(play: Play) -> None:
    names = play(
        """
        from triggers.testing import TriggerManagerTestCaseMixin
        from unittest import TestCase

        class ImportSubjectTestCase(TriggerManagerTestCaseMixin, TestCase):
            def setUp(self):
                super(TriggerTaskTestCase, self).setUp()

                self.manager = \\
                    TriggerManager(CacheStorageBackend(self._testMethodName))

            def test_manager(self):
                self.assertInstanceMissing('t_importSubject#0')
        """,
        "app.tests",
        CacheStorageBackend=CacheStorageBackend,
        TriggerManager=TriggerManager,
    )
    names["TriggerTaskTestCase"] = names["ImportSubjectTestCase"]
    run_test_case(names["ImportSubjectTestCase"])


def test_chapter_11_1_and_11_2_a_whole_test_case(play: Play) -> None:
    play(IMPORT_SUBJECT)
    names = play(
        TEST_CASE,
        "app.tests",
        CacheStorageBackend=CacheStorageBackend,
        TriggerManager=TriggerManager,
    )
    names["TriggerTaskTestCase"] = names["ImportSubjectTestCase"]
    run_test_case(names["ImportSubjectTestCase"])
    assert Subject.objects.count() == 1


class Timeout(OSError):
    """What the client of the snippet raises, under the name that it has in requests."""


def test_chapter_11_2_4_assertions(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two examples use the same instance name for different outcomes, so each has a test of its
    # own. requests, which is no dependency of ours, stands for any library.
    requests = types.ModuleType("requests.exceptions")
    monkeypatch.setattr(requests, "Timeout", Timeout, raising=False)
    monkeypatch.setitem(sys.modules, "requests", types.ModuleType("requests"))
    monkeypatch.setitem(sys.modules, "requests.exceptions", requests)
    play(
        """
        from triggers.task import TriggerTask

        class ImportSubject(TriggerTask):
            def _run(self, context):
                return {'subjectId': 42}

        class ImportBrowserMetadata(TriggerTask):
            def _run(self, context):
                raise Timeout('too slow')

        class RetryBrowserMetadata(TriggerTask):
            max_retries = 2

            def _run(self, context):
                try:
                    raise Timeout('too slow')
                except Timeout as e:
                    raise self.retry(exc=e, cooldown=10)
        """,
        Timeout=Timeout,
    )
    names = play(
        textwrap.dedent("""
        from triggers.testing import TriggerManagerTestCaseMixin
        from unittest import TestCase

        class Assertions(TriggerManagerTestCaseMixin, TestCase):
            def setUp(self):
                self.manager = TriggerManager(CacheStorageBackend(self._testMethodName))

            def play(self, name, run):
                self.manager.update_configuration({name: {'after': ['a'], 'run': run}})
                self.manager.fire('a')
                ThreadingTaskRunner.join_all()

            def test_finished(self):
                self.play('t_importSubject', 'app.tasks.ImportSubject')
                # Check that the task instance finished successfully.
                # Note that we provide the name of the *instance*, not the *task*
                # (hence the ``#0`` suffix):
                self.assertInstanceFinished(
                 instance_name = 't_importSubject#0',
                 expected_result = {'subjectId': 42},
                )

            def test_failed(self):
                self.play('t_importBrowserMetadata', 'app.tasks.ImportBrowserMetadata')
                # Check that the task instance failed with the expected error:
                from requests.exceptions import Timeout
                self.assertInstanceFailed(
                  instance_name = 't_importBrowserMetadata#0',
                  exc_type
                                 = Timeout,
                )

            def test_retried(self):
                self.play('t_importBrowserMetadata', 'app.tasks.RetryBrowserMetadata')
                # Check that an instance retried automatically on error (until it hit
                # ``max_retries``):
                self.assertInstanceReplayed('t_importBrowserMetadata#0')
                self.assertInstanceReplayed('t_importBrowserMetadata#1')
                self.assertInstanceFailed('t_importBrowserMetadata#2', Timeout)
        """),
        "app.tests",
        CacheStorageBackend=CacheStorageBackend,
        ThreadingTaskRunner=ThreadingTaskRunner,
        Timeout=Timeout,
        TriggerManager=TriggerManager,
    )
    run_test_case(names["Assertions"])


def test_chapter_11_2_3_waiting_for_cascades(play: Play) -> None:
    class Named(TriggerTask):
        name = "app.tasks.Named"

        def _run(self, context: Any) -> dict[str, str]:
            return {"name": context.instance_name}

    names = play(
        """
        from triggers.testing import TriggerManagerTestCaseMixin
        from unittest import TestCase
        from triggers.runners import ThreadingTaskRunner

        class Waiting(TriggerManagerTestCaseMixin, TestCase):
            def test_waiting(self):
                self.manager = TriggerManager(CacheStorageBackend('waiting'))
                self.manager.update_configuration({
                    't_a': {'after': ['a', 'b', 'c'], 'run': 'app.tasks.Named'},
                    't_b': {'after': ['t_a'], 'run': 'app.tasks.Named'},
                })
                self.manager.fire('a')
                self.manager.fire('b')
                self.manager.fire('c')
                ThreadingTaskRunner.join_all()
                self.assertInstanceFinished('t_b#0', {'name': 't_b#0'})
        """,
        "app.tests",
        CacheStorageBackend=CacheStorageBackend,
        TriggerManager=TriggerManager,
    )
    run_test_case(names["Waiting"])
