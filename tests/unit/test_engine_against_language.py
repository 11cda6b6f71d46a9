"""The real thing on the memory storage, held against the model of the configuration language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.language_machine import INTERESTING, LanguageMachine
from tests.language_session import RealSession, let_time_run
from tests.machine import explore
from tests.unit.test_language_reference import EXAMPLES
from triggers.storages import storage_backends


def open_storage(uid: str) -> Any:
    return storage_backends.get("memory", uid)


@pytest.fixture(autouse=True)
def _memory(settings: Any) -> Iterator[None]:
    settings.TRIGGERS = {"default": {"STORAGE": "memory"}}
    yield
    let_time_run()


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_a_session_does_as_the_examples_say(example: Callable[[Any], None]) -> None:
    session = RealSession(open_storage, "default")
    try:
        example(session)
    finally:
        session.close()


class MemoryMachine(LanguageMachine):
    def make_subject(self) -> RealSession:
        return RealSession(open_storage, "default")


def test_a_session_in_memory_lives_as_the_language_says() -> None:
    explore(
        MemoryMachine,
        at_least=3,
        interesting=INTERESTING,
        max_examples=100,
        stateful_step_count=40,
    )
