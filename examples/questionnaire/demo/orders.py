"""Two plays of the same cast in different orders: what depended on the order, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from examples.questionnaire.demo.endings import History, endings_of
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
from triggers.types import TaskConfig


@dataclass(kw_only=True)
class Differences:
    """What two plays of the same cast have in common.

    :ivar sessions: by task, how many sessions have it.
    :ivar barred_by: by task, the triggers of its ``unless``, if it has one.
    :ivar differing: by task, in how many of them it ended in another way; and how that came
        about, in words.
    :ivar unexplained: differences that no order can excuse, in sentences.
    :ivar renumbered: sessions in which the pages went to other instance numbers.
    :ivar other_page: questionnaires whose browser was read from another page.
    """

    sessions: Counter[str] = field(default_factory=Counter)
    barred_by: dict[str, list[str]] = field(default_factory=dict)
    differing: dict[str, Counter[str]] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)
    renumbered: int = 0
    other_page: int = 0

    @property
    def alike(self) -> list[str]:
        """Tasks that ended in the same way in every session."""
        return [task for task in self.sessions if task not in self.differing]


def compare(one: Play, other: Play) -> Differences:
    """Compare how every task ended, and what was written, applicant by applicant."""
    differences = Differences()
    for performances in zip(one.performances, other.performances, strict=True):
        sessions = zip(*[each.sessions() for each in performances], strict=True)
        for (kind, manager), (_, other_manager) in sessions:
            _compare_sessions(
                differences, f"{performances[0].character.name}, {kind}", manager, other_manager
            )
        _compare_rows(differences, *performances)
    return differences


def _compare_sessions(
    differences: Differences, who: str, one: TriggerManager, other: TriggerManager
) -> None:
    histories = History(one), History(other)
    endings = endings_of(one), endings_of(other)
    for name, task in one.storage.tasks.items():
        differences.sessions[name] += 1
        if task.unless:
            differences.barred_by[name] = sorted(task.unless)
        ended = endings[0][name], endings[1][name]
        if ended[0] == ended[1]:
            continue
        reasons = differences.differing.setdefault(name, Counter())
        reason = _reason(task, histories)
        if reason is None:
            reason = "for no reason that the order could give"
            differences.unexplained.append(f"{who}: {name} ended as {ended[0]} and as {ended[1]}")
        reasons[reason] += 1
    if _numbering(one) != _numbering(other):
        differences.renumbered += 1


def _reason(task: TaskConfig, histories: tuple[History, History]) -> str | None:
    """Why a task ended differently in two orders: only its ``unless`` may make a difference."""
    barred = [history.barred_first(task) for history in histories]
    if barred[0] == barred[1]:
        return None
    free = histories[barred.index(False)]
    what = free.last_of(task.unless) or " and ".join(sorted(task.unless))
    than = free.last_of(task.after)
    return f"abandoned where {what} came before {than}, not where it came after"


def _numbering(manager: TriggerManager) -> list[int]:
    """The page that each number of ``t_importResponses`` got."""
    instances = manager.storage.instances_of_task("t_importResponses")
    return [instance.kwargs["pageReceived"]["page"] for instance in instances]


def _compare_rows(differences: Differences, one: Performance, other: Performance) -> None:
    rows = [_rows(each) for each in (one, other)]
    if rows[0] != rows[1]:
        name = one.character.name
        differences.unexplained.append(f"{name}: wrote {rows[0]} and {rows[1]}")
    pages = [_browser_pages(each) for each in (one, other)]
    common = pages[0].keys() & pages[1].keys()
    differences.other_page += sum(pages[0][kind] != pages[1][kind] for kind in common)


def _rows(performance: Performance) -> dict[str, Sequence[object]]:
    """What the tasks wrote whose work must be the same in every order."""
    mine = {"subject__questionnaire__applicant": performance.applicant}
    kind, subjects = "subject__questionnaire__kind", Subject.objects
    return {
        "subjects": sorted(
            subjects.filter(questionnaire__applicant=performance.applicant).values_list(
                "questionnaire__kind", "given_name", "birthday"
            )
        ),
        "pages": sorted(
            (questionnaire, page, sorted(answers.items()))
            for questionnaire, page, answers in Response.objects.filter(**mine).values_list(
                kind, "page", "answers"
            )
        ),
        "scores": sorted(Score.objects.filter(**mine).values_list(kind, "points")),
        "comparisons": sorted(
            Comparison.objects.filter(applicant=performance.applicant).values_list("alike")
        ),
    }


def _browser_pages(performance: Performance) -> dict[str, int]:
    found = BrowserMetadata.objects.filter(
        subject__questionnaire__applicant=performance.applicant,
        subject__questionnaire__kind__in=Questionnaire.Kind.values,
    )
    return dict(found.values_list("subject__questionnaire__kind", "page"))
