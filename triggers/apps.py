"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class TriggersConfig(AppConfig):
    """Put ``"triggers"`` into ``INSTALLED_APPS``."""

    name = "triggers"
    verbose_name = "Triggers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Registering system checks is what importing this module does.
        from triggers import checks  # noqa: F401  # importing is what registers them
