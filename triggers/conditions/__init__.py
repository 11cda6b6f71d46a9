"""What tasks wait for: conditions, filters on what was fired, durations; and code by name.

=================  ============================================================================
``tree``           conditions, and whether they hold
``filters``        which firings count for a task
``durations``      ISO 8601 durations
``registered``     predicates and providers: functions that a configuration refers to by name
=================  ============================================================================

Nothing here imports Django or Celery, or performs any input or output.
"""

from triggers.conditions.registered import predicate, provider

__all__ = ["predicate", "provider"]
