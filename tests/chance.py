"""What is drawn by chance, and is the same in every run all the same.

A change must neither fail for what an earlier one has left to be found, nor pass for its luck. So
the tests draw from fixed seeds. ``make fuzz`` goes on where that ends: it gives pytest one seed
after the other (``--hypothesis-seed``), from which all is drawn then.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import seed, settings

_given: object = None


def set_up(given: object) -> None:
    """Say from what is drawn; call this before a test is imported.

    :param given: a seed; ``None``: the same for every run.
    """
    global _given
    _given = given
    # No deadline: how long an example takes says how busy the machine is.
    settings.register_profile("triggers", derandomize=given is None, deadline=None)
    settings.load_profile("triggers")


def with_seed(test: Callable[[], None], number: int) -> Callable[[], None]:
    """A test of Hypothesis that draws what belongs to this number."""
    return seed(f"{_given} {number}")(test)
