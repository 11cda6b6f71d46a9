"""What filters say about a firing: found out before a decision, and given to it as plain values.

A filter may call user code (a predicate), which must never run while a session is locked. So a
decision that meets a filter without a verdict stops with :class:`Unjudged`; whoever runs it asks
the filters, and runs it again with their :class:`Verdicts`. A verdict belongs to one
configuration, so one that has changed in between is asked anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from triggers.engine.plan import Plan


@dataclass(frozen=True, slots=True)
class Question:
    """A firing that filters must be asked about.

    :ivar names: all of its names.
    :ivar kwargs: JSON text.
    :ivar is_outcome: whether it is an outcome of an instance, and not from the outside world.
    :ivar arguments: what the instance's task got, JSON text; ``None`` if no filter looks at it.
    """

    names: tuple[str, ...]
    kwargs: str
    is_outcome: bool
    arguments: str | None = None


Refusals = Mapping[tuple[str, str], str]
"""Why a firing does not pass, by (task, name); what is not here passes."""


class Unjudged(Exception):
    """A decision needs verdicts that it was not given.

    :ivar plan: the configuration whose filters are to be asked.
    :ivar questions: what to ask them.
    """

    def __init__(self, plan: Plan, questions: tuple[Question, ...]) -> None:
        self.plan = plan
        self.questions = questions
        super().__init__(f"filters must be asked about {questions}")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Answers, by digest of the configuration and question."""

    answers: Mapping[tuple[str, Question], Refusals] = field(default_factory=dict)

    def of(self, plan: Plan, question: Question) -> Refusals:
        """Who refuses this firing, and why.

        :raises Unjudged: nobody was asked.
        """
        try:
            return self.answers[plan.configuration.digest, question]
        except KeyError:
            raise Unjudged(plan, (question,)) from None

    def require(self, plan: Plan, questions: Iterable[Question]) -> None:
        """See to it that there is an answer to each of these questions, if a filter is asked.

        :raises Unjudged: there is not.
        """
        missing = [
            question
            for question in dict.fromkeys(questions)
            if (plan.configuration.digest, question) not in self.answers
        ]
        if missing:
            raise Unjudged(plan, tuple(missing))

    def joined_with(self, plan: Plan, answers: Mapping[Question, Refusals]) -> Verdicts:
        """These verdicts and further answers."""
        digest = plan.configuration.digest
        more = {(digest, question): refusals for question, refusals in answers.items()}
        return Verdicts({**self.answers, **more})


NO_VERDICTS = Verdicts()
"""What a decision starts with; most configurations have no filters."""
