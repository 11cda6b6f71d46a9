"""For the page about Celery: its app is forgotten at the end, and its settings are real ones.

Comes before ``tasks_in_place.py``.
"""

from celery import _state, current_app
from celery.app.defaults import NAMESPACES, flatten

app_before = current_app._get_current_object()
app_tasks_before = set(app_before.tasks)
apps_before = set(_state._get_active_apps())


def tear_down() -> None:
    app_before.set_current()
    app_before.set_default()
    for app in set(_state._get_active_apps()) - apps_before:
        app.close()
    for name in set(app_before.tasks) - app_tasks_before:
        del app_before.tasks[name]
    known = {name for name, _option in flatten(NAMESPACES)}
    # A misspelled setting has no effect, and nobody says so.
    shown = {name for name in globals() if name.startswith("CELERY_")}
    unknown = sorted(each for each in shown if each.removeprefix("CELERY_").lower() not in known)
    assert shown, "the page shows no settings any more"
    assert unknown == [], f"Celery does not know {', '.join(unknown)}"
