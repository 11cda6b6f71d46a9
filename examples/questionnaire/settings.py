"""Settings for a laptop: SQLite, and threads in place of Celery workers.

``TRIGGERS_BROKER_URL`` names a message broker; with it, tasks run in Celery workers.
``QUESTIONNAIRE_DATABASE`` names another database file.
"""

import os
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BROKER_URL = os.environ.get("TRIGGERS_BROKER_URL", "")

SECRET_KEY = "only for an example"
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "triggers",
    "examples.questionnaire",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "examples.questionnaire.urls"

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("QUESTIONNAIRE_DATABASE") or HERE / "questionnaire.sqlite3",
        # What a view writes and what it fires become true together, or not at all.
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {
            # Readers do not block writers; after a power cut the last commits may be missing, but
            # what is there is whole.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            # A transaction that begins with reading and then writes waits for its turn at the
            # beginning, where waiting still helps.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
        # Tasks in other threads cannot share a database in memory.
        "TEST": {"NAME": Path(tempfile.gettempdir()) / f"questionnaire-test-{os.getpid()}.sqlite3"},
    }
}

TRIGGERS = {
    "default": {
        "STORAGE": "database",
        "RUNNER": "celery" if BROKER_URL else "threading",
    }
}

CELERY_BROKER_URL = BROKER_URL
# What became of a task is kept in its session.
CELERY_TASK_IGNORE_RESULT = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short"}},
    "loggers": {
        "triggers": {"handlers": ["console"], "level": "WARNING"},
        "examples": {"handlers": ["console"], "level": "WARNING"},
    },
}
