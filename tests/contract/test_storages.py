"""Every storage that we ship, and a custom one, against the published contract."""

from __future__ import annotations

import pytest
from django.conf import settings

from tests.servers import RUN_DIRECTORY, subprocess_environment
from triggers.testing import StorageContract

CHILD_ENVIRONMENT = {**subprocess_environment(), "DJANGO_SETTINGS_MODULE": "tests.settings"}


def on(alias: str) -> list[pytest.MarkDecorator]:
    """Marks of a suite that stores in this database."""
    known = alias in settings.DATABASES
    return [
        pytest.mark.skipif(not known, reason=f"no {alias} server answers"),
        pytest.mark.django_db(transaction=True, databases=[alias] if known else ["default"]),
    ]


class TestMemory(StorageContract):
    storage = "triggers.storages.memory:MemoryStorageBackend"
    shared = False


class TestSQLite(StorageContract):
    pytestmark = on("default")
    storage = "triggers.storages.database:DatabaseStorageBackend"
    environment = CHILD_ENVIRONMENT


class TestPostgreSQL(StorageContract):
    pytestmark = on("postgresql")
    storage = "triggers.storages.database:DatabaseStorageBackend"
    options = {"using": "postgresql"}
    environment = CHILD_ENVIRONMENT


class TestMariaDB(StorageContract):
    pytestmark = on("mariadb")
    storage = "triggers.storages.database:DatabaseStorageBackend"
    options = {"using": "mariadb"}
    environment = CHILD_ENVIRONMENT


class TestCustomStorage(StorageContract):
    pytestmark = on("default")
    storage = "tests.contract.custom_storage:FolderStorage"
    options = {"folder": str(RUN_DIRECTORY / "folder")}
    lists_overdue = False
    environment = CHILD_ENVIRONMENT
    sessions = 60


@pytest.mark.server("redis")
class TestCache(StorageContract):
    storage = "triggers.storages.cache:CacheStorageBackend"
    environment = CHILD_ENVIRONMENT
    sessions = 60


@pytest.mark.server("redis")
class TestCacheOfDjangoRedis(TestCache):
    options = {"cache": "django-redis"}
