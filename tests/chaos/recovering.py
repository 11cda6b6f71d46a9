"""The processes that look after what is due."""

from __future__ import annotations

from django.core.management import call_command

INTERVAL = 0.2  # seconds between two passes


def recover() -> None:
    """Be ``manage.py triggers run``, until this process is killed."""
    call_command("triggers", "run", "--interval", str(INTERVAL))
