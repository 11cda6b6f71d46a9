"""For pages whose tasks run in place: what ``TRIGGERS`` says at the top of those pages.

Where a page has several setup files, this one comes last.
"""

from collections.abc import Callable
from contextlib import ExitStack

from django.test import override_settings

from triggers.storages.memory import MemoryStorageBackend

stack = ExitStack()
stack.callback(MemoryStorageBackend.clear)
other: Callable[[], None] | None = globals().get("tear_down")
if other is not None:
    stack.callback(other)
stack.enter_context(override_settings(TRIGGERS={"default": {"RUNNER": "synchronous"}}))


def tear_down() -> None:
    stack.close()
