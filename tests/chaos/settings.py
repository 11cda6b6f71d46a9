"""Django settings of every process of a run."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.chaos.setup import load

SETUP = load()

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["triggers"]

if SETUP.storage == "postgresql":
    _parts = urlsplit(SETUP.storage_url)
    DATABASES: dict[str, dict[str, Any]] = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(_parts.path.lstrip("/")),
            "USER": unquote(_parts.username or ""),
            "HOST": _parts.hostname,
            "PORT": str(_parts.port),
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(SETUP.directory) / "chaos.sqlite3"),
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }

_OPTIONS = {"lease": SETUP.lease, "heartbeat": SETUP.heartbeat, "attempts": SETUP.attempts}

TRIGGERS = {
    "default": {
        "STORAGE": "redis" if SETUP.storage == "redis" else "database",
        "RUNNER": "celery",
        "OPTIONS": (
            {**_OPTIONS, "url": SETUP.storage_url} if SETUP.storage == "redis" else _OPTIONS
        ),
    }
}

CELERY_BROKER_URL = SETUP.broker_url
CELERY_TASK_DEFAULT_QUEUE = f"chaos-{SETUP.seed}"
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
if SETUP.broker_url.startswith("redis"):
    # So soon that messages of a worker that died come again while the run lasts.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 10}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
