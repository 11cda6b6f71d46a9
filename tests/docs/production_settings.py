"""For the page about deployment: what ``startproject`` has put above the settings that it shows.

Comes before ``tasks_in_place.py``, and after ``celery_app.py``.
"""

INSTALLED_APPS: list[str] = []
