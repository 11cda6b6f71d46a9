"""The demo must notice when something is wrong, or its last line would be worth nothing."""

from __future__ import annotations

from collections.abc import Callable

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
    def play(self, seed: int) -> Play:
        play = Play(make_cast(5, 1), seed)
        with self.assertLogs("examples", "WARNING"):
            play.send(lambda: None)
            wait_for_tasks()
            self.assertNotEqual(play.repair(), [])
            wait_for_tasks()
        self.assertEqual(play.repair(), [])
        return play

    def test_two_plays_are_sound_and_every_tampering_with_them_is_noticed(self) -> None:
        play, other = self.play(1), self.play(2)
        self.assertEqual(audit(play) + audit(other), [])
        self.assertEqual(compare(play, other).unexplained, [])

        first_page = {
            "page": 1,
            "subject__questionnaire__applicant": play.performances[1].applicant,
        }
        page = Response.objects.filter(**first_page).first()
        assert page is not None

        def repeat(row: Response | Score) -> None:
            copy = type(row).objects.get(pk=row.pk)
            copy.pk = None
            copy.save()

        def stuck(task: str, status: str) -> Callable[[], object]:
            instance = Instance.objects.filter(task=task, status="finished").first()
            assert instance is not None
            return lambda: Instance.objects.filter(pk=instance.pk).update(status=status)

        tamperings: dict[str, Callable[[], object]] = {
            "a page imported twice": lambda: repeat(page),
            "a page not imported": lambda: Response.objects.filter(pk=page.pk).delete(),
            "a score computed twice": lambda: repeat(page.subject.score_set.get()),
            "a subject lost": lambda: Subject.objects.filter(pk=page.subject_id).delete(),
            "a comparison lost": lambda: Comparison.objects.all()[:1].get().delete(),
            "a task that hangs": stuck("t_importResponses", "running"),
            "a failure that nobody repaired": stuck("t_computeScore", "failed"),
            "a browser abandoned for nothing": stuck("t_importBrowserMetadata", "abandoned"),
        }
        for name, tamper in tamperings.items():
            with self.subTest(name), transaction.atomic():
                tamper()
                self.assertNotEqual(audit(play) + audit(other), [])
                transaction.set_rollback(True)

    def test_an_ending_that_no_order_explains_is_told(self) -> None:
        play, other = self.play(1), self.play(2)
        emmy = play.performances[4]
        Instance.objects.filter(
            session__uid=f"questionnaire:{emmy.questionnaires['fauna']}", task="t_importSubject"
        ).update(status="abandoned")
        Response.objects.filter(subject__questionnaire__applicant=emmy.applicant).delete()

        unexplained = compare(play, other).unexplained

        self.assertEqual(len(unexplained), 2)
        self.assertIn("Emmy, fauna: t_importSubject ended as", unexplained[0])
        self.assertIn("Emmy: wrote", unexplained[1])
