"""The Celery app, for those who have a broker: ``celery -A examples.questionnaire worker``."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.questionnaire.settings")

app = Celery("questionnaire")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
