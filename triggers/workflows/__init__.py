"""Workflows declared in Python: conditions with operators, and workflows by name.

=================  ============================================================================
``expressions``    conditions as values: ``on("a") & on("b").times(3)``
``makers``         what they are made with: ``on``, ``all_of``, ``any_of``, …
``spelling``       durations and filters, from Python to JSON
``directives``     the directives of a task, from what a declaration says
``workflow``       tasks under a name, and the workflows that are known
=================  ============================================================================

Everything here makes the JSON of the configuration language, and nothing else: neither Django nor
Celery is needed for it. Django apps declare their workflows in a module ``workflows``, which is
imported when the apps are ready.
"""

from triggers.workflows.directives import Condition, Declaration
from triggers.workflows.expressions import Expression, Trigger
from triggers.workflows.makers import (
    all_of,
    any_of,
    at_least,
    elapsed,
    on,
    settled,
)
from triggers.workflows.workflow import (
    UnknownWorkflow,
    Workflow,
    define,
    get,
    names,
    register,
    unregister,
)

__all__ = [
    "Condition",
    "Declaration",
    "Expression",
    "Trigger",
    "UnknownWorkflow",
    "Workflow",
    "all_of",
    "any_of",
    "at_least",
    "define",
    "elapsed",
    "get",
    "names",
    "on",
    "register",
    "settled",
    "unregister",
]
