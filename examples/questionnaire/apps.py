"""The Django app."""

from django.apps import AppConfig


class QuestionnaireConfig(AppConfig):
    name = "examples.questionnaire"
