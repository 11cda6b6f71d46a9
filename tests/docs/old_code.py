"""For the page about migration: the code to migrate from has an app and a table of its own.

Comes before ``tasks_in_place.py``. At the end of the page its models are forgotten.
"""

from celery import _state
from django.apps import apps as django_apps
from django.db import connection

celery_apps_before = set(_state._get_active_apps())
models_before = {label: dict(models) for label, models in django_apps.all_models.items()}


def make_table(model: type) -> None:
    """What a migration would do."""
    with connection.schema_editor() as editor:
        editor.create_model(model)


def tear_down() -> None:
    for label, models in list(django_apps.all_models.items()):
        for name, model in list(models.items()):
            if name not in models_before.get(label, {}):
                with connection.schema_editor() as editor:
                    editor.delete_model(model)
                del django_apps.all_models[label][name]
    django_apps.clear_cache()
    for app in set(_state._get_active_apps()) - celery_apps_before:
        app.close()
