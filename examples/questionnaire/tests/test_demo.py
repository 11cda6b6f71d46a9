"""The demo must notice when something is wrong, or its last line would be worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from django.db import transaction
from django.test import SimpleTestCase, TransactionTestCase

from examples.questionnaire.demo.audit import audit
from examples.questionnaire.demo.cast import make_cast
from examples.questionnaire.demo.orders import compare
from examples.questionnaire.demo.play import Play, wait_for_tasks
from examples.questionnaire.models import Comparison, Response, Score, Subject
from triggers.models import Instance
from triggers.testing import TriggerManagerTestCaseMixin


class CastTestCase(SimpleTestCase):
    def test_the_same_seed_makes_the_same_cast(self) -> None:
        self.assertEqual(make_cast(14, 3), make_cast(14, 3))
        self.assertNotEqual(make_cast(14, 3), make_cast(14, 4))

    def test_everybody_has_a_name_of_their_own(self) -> None:
        cast = make_cast(40, 1)
        self.assertEqual(len({each.name for each in cast}), 40)


class PlayTestCase(TriggerManagerTestCaseMixin, TransactionTestCase):
    def test_two_plays_are_sound_and_whatever_is_wrong_with_them_is_noticed(self) -> None:
        # One test, as it takes seconds to play.
        plays = self.play(1), self.play(2)

        self.assertEqual(audit(plays[0]) + audit(plays[1]), [])
        self.assertEqual(compare(*plays).unexplained, [])
        for name, tamper in tamperings(plays[0]).items():
            with self.subTest(name), transaction.atomic():
                tamper()
                self.assertNotEqual(audit(plays[0]), [])
                transaction.set_rollback(True)
        with self.subTest("an ending that no order explains"):
            self.check_that_an_ending_without_a_reason_is_told(*plays)

    def play(self, seed: int) -> Play:
        play = Play(make_cast(5, 1), seed)
        with self.assertLogs("examples", "WARNING"):
            play.send(lambda: None)
            wait_for_tasks()
            self.assertNotEqual(play.repair(), [])
            wait_for_tasks()
        self.assertEqual(play.repair(), [])
        return play

    def check_that_an_ending_without_a_reason_is_told(self, play: Play, other: Play) -> None:
        emmy = play.performances[4]
        Instance.objects.filter(
            session__uid=f"questionnaire:{emmy.questionnaires['fauna']}", task="t_importSubject"
        ).update(status="abandoned")
        Response.objects.filter(subject__questionnaire__applicant=emmy.applicant).delete()

        unexplained = compare(play, other).unexplained

        self.assertEqual(len(unexplained), 2)
        self.assertIn("Emmy, fauna: t_importSubject ended as", unexplained[0])
        self.assertIn("Emmy: wrote", unexplained[1])


def tamperings(play: Play) -> dict[str, Callable[[], object]]:
    """What could go wrong in a play, and how to make it look as if it had."""
    carl = play.performances[2]
    mine = {"subject__questionnaire": carl.questionnaires["flora"]}
    page = Response.objects.get(page=1, **mine)
    score = Score.objects.get(**mine)

    def repeat(row: Response | Score) -> None:
        row.pk = None
        row.save()

    def change(task: str, status: str) -> object:
        session = f"questionnaire:{carl.questionnaires['flora']}"
        found = Instance.objects.filter(session__uid=session, task=task, status="finished")
        assert found.exists()
        return found.update(status=status)

    return {
        "a page imported twice": lambda: repeat(copy(page)),
        "a page not imported": lambda: Response.objects.filter(pk=page.pk).delete(),
        "a score computed twice": lambda: repeat(copy(score)),
        "a subject lost": lambda: Subject.objects.filter(pk=page.subject_id).delete(),
        "a comparison lost": lambda: Comparison.objects.filter(applicant=carl.applicant).delete(),
        "a task that hangs": lambda: change("t_importResponses", "running"),
        "a failure that nobody repaired": lambda: change("t_computeScore", "failed"),
        "a browser abandoned for nothing": lambda: change("t_importBrowserMetadata", "abandoned"),
    }
