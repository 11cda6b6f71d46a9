"""The heart: a state machine without I/O.

``decide(event, state, now)`` says what one event does to one session, as a
:class:`~triggers.engine.state.Transition` that a storage commits. Nothing in this package reads a
clock, draws a random number, logs, or knows Django, Celery or a storage; whatever varies comes in
as an argument, so a decision can be repeated safely when a commit met a conflict.

==================  ==========================================================================
``transitions``     which status may follow which, as one table
``plan``            a configuration compiled for deciding: who listens to which trigger
``state``           what a decision reads, and the difference that it makes
``verdicts``        what filters, which may call user code, said about a firing beforehand
``holdings``        what one instance holds, as conditions are asked about it
``draft``           what a decision changes, and how it sees the session meanwhile
``rules``           the rules of a firing: who takes it, who is created, ready or ruled out
``rest``            what follows by itself: outcomes, tasks that are settled, time
``finalizing``      when a session says that nothing is left to do in it
``events``          what can happen to a session, one value each
``configuring``     one of these: tasks are added or replaced
``replacing``       what becomes of the instances of a task that is replaced
``previewing``      what a configuration would do, decided and not committed
``seeing``          seeing to it that a decision knows all that it looks at
``lifecycle``       what workers do to an instance: claim, finish, fail, retry
``recovering``      what recovery does about what was committed, and not carried out
``phases``          how a session is closed, cancelled, and removed
``by_hand``         what somebody does to an instance by hand
==================  ==========================================================================
"""

from triggers.engine.draft import Draft
from triggers.engine.events import Event, decide, reads_of
from triggers.engine.plan import Plan, TaskPlan, compile_plan
from triggers.engine.state import (
    Hooks,
    MustSeeMore,
    Pending,
    Reads,
    SessionState,
    Transition,
)
from triggers.engine.transitions import ALLOWED_TRANSITIONS, check_transition
from triggers.engine.verdicts import Question, Unjudged, Verdicts

__all__ = [
    "ALLOWED_TRANSITIONS",
    "Draft",
    "Event",
    "Hooks",
    "MustSeeMore",
    "Pending",
    "Plan",
    "Question",
    "Reads",
    "SessionState",
    "TaskPlan",
    "Transition",
    "Unjudged",
    "Verdicts",
    "check_transition",
    "compile_plan",
    "decide",
    "reads_of",
]
