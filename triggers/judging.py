"""Asking filters about firings, outside of every lock and transaction.

A decision that needs a verdict stops and says what it must know (:mod:`triggers.engine.verdicts`).
Here it is found out, and the decision is made again; what has changed in between counts then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from triggers import payload
from triggers.engine import Event, Plan, Transition, Unjudged, Verdicts
from triggers.engine.verdicts import NO_VERDICTS, Question, Refusals
from triggers.exceptions import (
    PredicateFailed,
    SessionClosed,
    SessionFull,
    UnregisteredFunction,
)
from triggers.logging import log

if TYPE_CHECKING:
    from triggers.storages.session import SessionStorage

_KEPT = 1024

_last_plans: dict[tuple[type, str, str], Plan] = {}
"""Configurations that were found to have filters: a hint that saves a decision made in vain."""


def with_verdicts(
    storage: SessionStorage, event: Event, commit: Callable[[Verdicts], Transition]
) -> Transition:
    """Have an event decided with the verdicts that it turns out to need.

    :param commit: decides and commits the event.
    :raises PredicateFailed: a predicate raised an exception about kwargs from outside; for other
        firings, that counts as not passed.
    :raises SessionClosed: the session does not take the event any more.
    :raises SessionFull: the session has recorded as many firings as it may.
    """
    verdicts, learned = NO_VERDICTS, None
    session = (type(storage), storage.uid, repr(storage.options)) if _last_plans else None
    plan = _last_plans.get(session) if session else None
    if plan is not None:
        likely = tuple(each for each in event.questions(plan) if _can_be_guessed(plan, each))
        # Whether it matters if that fails, the decision will say.
        with suppress(PredicateFailed, UnregisteredFunction):
            verdicts = _judged(storage, event, plan, likely, verdicts)
    while True:
        try:
            transition = commit(verdicts)
            break
        except (SessionClosed, SessionFull) as refused:
            refused.uid = storage.uid
            raise
        except Unjudged as unjudged:
            learned, questions = unjudged.plan, unjudged.questions
        verdicts = _judged(storage, event, learned, questions, verdicts)
    if learned is not None:
        # Not before: a configuration that was only looked at, or refused, is not the session's.
        if len(_last_plans) >= _KEPT:
            _last_plans.clear()
        _last_plans[type(storage), storage.uid, repr(storage.options)] = learned
    return transition


def _can_be_guessed(plan: Plan, question: Question) -> bool:
    if question.is_outcome and plan.asks_about_arguments(question.names):
        return False
    return plan.asks_about(question.names)


def _judged(
    storage: SessionStorage,
    event: Event,
    plan: Plan,
    questions: tuple[Question, ...],
    verdicts: Verdicts,
) -> Verdicts:
    answers = {question: _refusals(storage, plan, question, event) for question in questions}
    return verdicts.joined_with(plan, answers)


def _refusals(storage: SessionStorage, plan: Plan, question: Question, event: Event) -> Refusals:
    """Who refuses a firing, and why.

    :raises PredicateFailed: a predicate raised an exception, and who fired can be told.
    :raises UnregisteredFunction: there is no such predicate in this process, and who fired can be
        told, or another process can decide the event later.
    """
    is_from_outside = event.comes_from_outside and not question.is_outcome
    kwargs = payload.decode(question.kwargs)

    def args() -> Mapping[str, Any]:
        return payload.decode(question.arguments or payload.EMPTY)

    refusals: dict[tuple[str, str], str] = {}
    for task, names in plan.takers(question.names):
        for name in names:
            judge = task.filters.get(name)
            if judge is None:
                continue
            try:
                reason = judge.refusal(kwargs, args)
            except (PredicateFailed, UnregisteredFunction) as error:
                if isinstance(error, PredicateFailed):
                    error.trigger = name
                if is_from_outside:
                    raise
                if event.can_wait and isinstance(error, UnregisteredFunction):
                    raise
                reason = str(error)
                if isinstance(error, PredicateFailed):
                    reason = f"predicate {error.predicate} raised {error.reason}"
                log(
                    logging.ERROR,
                    "%s does not count for %s: %s",
                    name,
                    task.config.name,
                    error,
                    exc_info=True,
                    action="filter",
                    session=storage.uid,
                    task=task.config.name,
                    trigger=name,
                )
            if reason is not None:
                refusals[task.config.name, name] = f"filter on {name}: {reason}"
    return refusals
