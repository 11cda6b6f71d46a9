"""Leaves nothing behind."""

import shutil

from django.conf import settings


def pytest_sessionfinish() -> None:
    shutil.rmtree(settings.DIRECTORY, ignore_errors=True)
