"""The Redis storage against the published contract, and against both models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests import servers
from tests.contract.test_storages import CHILD_ENVIRONMENT
from tests.contract.test_storages_against_language import live
from tests.machine import SessionMachine, explore
from triggers.storages import storage_backends
from triggers.storages.redis import RedisStorageBackend
from triggers.testing import StorageContract

PREFIX = servers.RUN_ID
"""Keeps runs apart that share a server."""

pytestmark = [pytest.mark.server("redis"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module", autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    if servers.find("redis").available:
        with redis.Redis.from_url(servers.redis_url()) as client:
            for key in client.scan_iter(f"{{{PREFIX}:*", count=1000):
                client.unlink(key)


def options() -> dict[str, Any]:
    return {"url": servers.redis_url(), "prefix": PREFIX}


class TestRedis(StorageContract):
    storage = "triggers.storages.redis:RedisStorageBackend"
    environment = CHILD_ENVIRONMENT

    @property
    def options(self) -> dict[str, Any]:  # type: ignore[override]
        return options()


def test_a_session_in_redis_lives_as_the_reference_says() -> None:
    class Machine(SessionMachine):
        @classmethod
        def open_storage(cls, uid: str) -> Any:
            return RedisStorageBackend(uid, **options())

    explore(Machine, at_least=1, max_examples=16, stateful_step_count=50)


def test_a_session_in_redis_lives_as_the_language_says(settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": "redis", "OPTIONS": options()}}
    live(lambda uid: storage_backends.get("redis", uid, **options()), "default")
