"""What must be true after a play, whatever the order: counted in the database.

What is expected follows from what was sent, and from the meaning of the workflow in words; what is
found are the rows that tasks wrote, and the instances that say that they did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from examples.questionnaire.demo.endings import Endings, History, endings_of
from examples.questionnaire.demo.play import Performance, Play
from examples.questionnaire.models import (
    BrowserMetadata,
    Comparison,
    Questionnaire,
    Response,
    Score,
    Subject,
)
from triggers import TriggerManager
from triggers.models import DeferredFiring


def audit(play: Play) -> list[str]:
    """Everything that is not as it must be, in sentences; empty if all is well."""
    problems = [
        f"{performance.character.name}, {problem}"
        for performance in play.performances
        for problem in _audit_performance(performance)
    ]
    if undecided := DeferredFiring.objects.count():
        problems.append(f"{undecided} firings were committed but not decided")
    return problems


def _audit_performance(performance: Performance) -> Iterator[str]:
    for kind, manager in performance.sessions():
        session = _Session(manager)
        yield from (f"{kind}: {problem}" for problem in session.unsettled())
        if kind == "applicant":
            check = _check_applicant(performance, session)
        else:
            check = _check_questionnaire(performance, kind, session)
        yield from (f"{kind}: {problem}" for problem in check)


def _check_questionnaire(performance: Performance, kind: str, session: _Session) -> Iterator[str]:
    character = performance.character
    pages = character.pages(kind)
    is_complete = bool(character.sent(kind, "complete"))
    of_questionnaire = {"subject__questionnaire": performance.questionnaires[kind]}
    expected_pages = pages if is_complete and 1 in pages else set()

    # A page that was sent twice was received once.
    yield from _compare("page firings", len(pages), session.history.count["pageReceived"])

    subjects = Subject.objects.filter(questionnaire=performance.questionnaires[kind]).count()
    yield from _compare("subjects", int(bool(expected_pages)), subjects)
    yield from _compare("t_importSubject", subjects, session.finished("t_importSubject"))

    found = Counter(Response.objects.filter(**of_questionnaire).values_list("page", flat=True))
    yield from _compare("imported pages", dict.fromkeys(expected_pages, 1), dict(found))
    yield from _compare("t_importResponses", found.total(), session.finished("t_importResponses"))

    scores = Score.objects.filter(**of_questionnaire).count()
    is_whole = len(expected_pages) == Questionnaire.PAGES[Questionnaire.Kind(kind)]
    yield from _compare("scores", int(is_whole), scores)
    yield from _compare("t_computeScore", scores, session.finished("t_computeScore"))

    task = "t_importBrowserMetadata"
    browsers = BrowserMetadata.objects.filter(**of_questionnaire).count()
    yield from _compare(task, browsers, session.finished(task))
    if expected_pages:
        decided = sum(session.endings[task].values())
        yield from _compare(f"{task}, whatever became of it", 1, decided)
    barred = session.history.barred_first(session.manager.storage.tasks[task])
    yield from _compare(f"abandoned {task}", int(barred), session.endings[task]["abandoned"])


def _check_applicant(performance: Performance, session: _Session) -> Iterator[str]:
    character = performance.character
    both = 3 in character.pages("flora") and 6 in character.pages("fauna")
    comparisons = Comparison.objects.filter(applicant=performance.applicant).count()
    yield from _compare("comparisons", int(both), comparisons)
    yield from _compare("t_compareResponses", comparisons, session.finished("t_compareResponses"))


class _Session:
    """What the audit asks of a session."""

    def __init__(self, manager: TriggerManager) -> None:
        self.manager = manager
        self.endings: Endings = endings_of(manager)
        self.history = History(manager)

    def finished(self, task: str) -> int:
        """How many times a task did its work."""
        ended = self.endings[task].items()
        return sum(count for ending, count in ended if ending.endswith("finished"))

    def unsettled(self) -> Iterator[str]:
        """What should not be there any more when everything is done."""
        for instance in self.manager.get_unresolved_instances():
            if instance.status in ("scheduled", "running", "failed"):
                yield f"{instance.name} is still {instance.status}"


def _compare(what: str, expected: object, found: object) -> Iterator[str]:
    if expected != found:
        yield f"{what}: expected {expected}, found {found}"
