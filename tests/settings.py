"""Django settings of the suite. Which databases there are depends on the servers that answer."""

from tests import servers

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "triggers",
]

DATABASES = servers.database_settings()

CACHES = servers.cache_settings()
