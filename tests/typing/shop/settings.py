from pathlib import Path
from tempfile import gettempdir

SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["triggers", "shop"]
ROOT_URLCONF = "shop.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(gettempdir()) / "shop.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
TRIGGERS = {
    "default": {"MANAGER": "shop", "RUNNER": "threading", "OPTIONS": {"lease": 30}},
    "documents": {"STORAGE": "document", "RUNNER": "announcing"},
}
