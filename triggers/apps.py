"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class TriggersConfig(AppConfig):
    """Put ``"triggers"`` into ``INSTALLED_APPS``."""

    name = "triggers"
    verbose_name = "Triggers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # System checks, and the tasks that Celery beat may send.
        from triggers import celery_tasks, checks  # noqa: F401  # importing registers them
        from triggers.runners import celery_signals

        # Only workers send the signals that this listens to.
        celery_signals.connect()

        # Like the admin: the module `workflows` of every installed app, in every process, so that
        # a worker knows the predicates and providers that a configuration names.
        autodiscover_modules("workflows")
