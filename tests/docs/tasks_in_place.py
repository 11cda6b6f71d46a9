"""For pages whose tasks run in place: what ``TRIGGERS`` says at the top of those pages."""

from contextlib import ExitStack

from django.test import override_settings

from triggers.storages.memory import MemoryStorageBackend

stack = ExitStack()
stack.enter_context(override_settings(TRIGGERS={"default": {"RUNNER": "synchronous"}}))
MemoryStorageBackend.clear()


def tear_down() -> None:
    stack.close()
    MemoryStorageBackend.clear()
