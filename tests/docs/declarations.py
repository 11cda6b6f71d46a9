"""For pages that declare workflows, predicates and providers: at the end these are forgotten.

Comes before ``tasks_in_place.py``.
"""

from triggers import workflows
from triggers.conditions import registered

workflows_before = set(workflows.names())
functions = (registered._predicates.entries, registered._providers.entries)
functions_before = [set(known) for known in functions]


def tear_down() -> None:
    for name in set(workflows.names()) - workflows_before:
        workflows.unregister(name)
    for known, before in zip(functions, functions_before, strict=True):
        for name in set(known) - before:
            del known[name]
