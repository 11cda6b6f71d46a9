"""The survey of the documents as a small Django project: ``python manage.py demo``."""

# Tasks must find this app, and with it the broker, wherever Django runs, not in workers alone.
from examples.questionnaire.celery import app as celery_app

__all__ = ["celery_app"]
