"""Every order of a few firings: the way to find out whether a workflow depends on it."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import uuid4

from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing.environment import run_tasks_locally

MOST_FIRINGS = 7
"""Seven firings have 5,040 orders; with one more, a test would take minutes."""

Firing = str | tuple[str, Mapping[str, Any]]
"""A trigger name, or a pair of name and kwargs."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order. A ``with`` block around the test body names it when the body fails.

    :ivar firings: pairs of trigger name and kwargs, in this order.
    """

    firings: tuple[tuple[str, Mapping[str, Any]], ...]

    def __str__(self) -> str:
        return ", ".join(
            f"{trigger} {dict(kwargs)}" if kwargs else trigger for trigger, kwargs in self.firings
        )

    def __enter__(self) -> Order:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            exc.add_note(f"The order was: {self}")

    def fire(self, manager: TriggerManager) -> None:
        """Fire everything into a session, in this order."""
        for trigger, kwargs in self.firings:
            manager.fire(trigger, kwargs)

    def play(self, configuration: Mapping[str, Any]) -> TriggerManager:
        """Fire everything into a fresh session in memory, whose tasks run in place.

        :param configuration: directives by task name, as for ``update_configuration``.
        :returns: the session's manager, for looking at how it ended.
        """
        manager = TriggerManager(MemoryStorageBackend(f"order:{uuid4()}"))
        with run_tasks_locally("synchronous"):
            manager.update_configuration(configuration)
            self.fire(manager)
        return manager


class Orders:
    """What :func:`any_order` returns: iterate over it, or decorate a test with it.

    :param firings: trigger names, or pairs of name and kwargs.
    """

    def __init__(self, firings: Sequence[Firing]) -> None:
        self._firings: list[tuple[str, Mapping[str, Any]]] = [
            (each, {}) if isinstance(each, str) else (each[0], each[1]) for each in firings
        ]

    def __iter__(self) -> Iterator[Order]:
        for firings in itertools.permutations(self._firings):
            yield Order(firings)

    def __call__(self, test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)
        others = [each for name, each in signature.parameters.items() if name != "order"]

        @functools.wraps(test)
        def run_all(*args: Any, **kwargs: Any) -> None:
            for order in self:
                with order:
                    test(*args, order=order, **kwargs)

        # So that pytest does not look for a fixture called "order".
        shown = signature.replace(parameters=others)
        run_all.__signature__ = shown  # type: ignore[attr-defined]  # any function may have one
        return run_all


def any_order(firings: Sequence[Firing]) -> Orders:
    """Run a test body for every order of some firings.

    As a decorator, the test gets each one as ``order``; as an iterable, it yields them::

        @any_order(["firstPageReceived", ("pageReceived", {"page": 2})])
        def test_import(order):
            manager = order.play(CONFIGURATION)
            assert manager.storage["t_import#0"].status == "finished"

    :param firings: trigger names, or pairs of name and kwargs; at most :data:`MOST_FIRINGS`.
    :raises ValueError: there are more of them.
    """
    if len(firings) > MOST_FIRINGS:
        raise ValueError(
            f"{len(firings)} firings have too many orders; give at most {MOST_FIRINGS}."
        )
    return Orders(firings)
