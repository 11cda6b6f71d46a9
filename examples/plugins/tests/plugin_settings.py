"""Django settings of these tests, and of the processes that they start."""

import os
import tempfile
from pathlib import Path

# Of this run; the processes inherit it.
DIRECTORY = Path(os.environ.setdefault("PLUGIN_TESTS_DIRECTORY", tempfile.mkdtemp()))

SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "triggers"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "db.sqlite3",
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
TRIGGERS = {
    "default": {
        "MANAGER": "isolating",
        "STORAGE": "directory",
        "OPTIONS": {"directory": str(DIRECTORY / "sessions")},
    }
}
