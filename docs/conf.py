"""Sphinx configuration. The build needs no network and no server."""

import logging
import sys
import tomllib
from pathlib import Path

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# autodoc imports the models, and Django wants to be set up before.
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "triggers"],
    USE_TZ=True,
)
django.setup()

_metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _metadata["name"]
author = "triggers contributors"
copyright = "2026, triggers contributors"
version = release = _metadata["version"]

# For pictures, our own extension, and type_checking.
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
from type_checking import import_names  # noqa: E402

import_names("triggers", leave_out=("migrations", "management"))

extensions = ["sphinx.ext.autodoc", "pictures"]
exclude_patterns = ["_build", "_ext"]
# A section may still be without pages. Sphinx names no type for this warning, so that
# suppress_warnings cannot.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)

html_theme = "furo"
html_title = f"{project} {version}"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "all"

nitpicky = True
# Type variables: autodoc shows their names in signatures, and they have no place of their own.
nitpick_ignore = [
    ("py:class", "triggers.conditions.registered.F"),
    ("py:class", "triggers.exceptions.E"),
    ("py:class", "triggers.registry.C"),
    ("py:class", "triggers.registry.T"),
    ("py:class", "triggers.task.F"),
    ("py:class", "triggers.workflows.expressions.E"),
    # Where autodoc cannot resolve all of a signature, it prints it as it is written.
    ("py:class", "timedelta"),
]
# Without intersphinx, which needs a network, nothing outside the package can be linked to.
nitpick_ignore_regex = [
    (r"py:.*", r"(builtins|collections|contextlib|datetime|decimal|enum)(\..*)?"),
    (r"py:.*", r"(logging|pathlib|types|typing|uuid)(\..*)?"),
    # Nor is there a place for what is private.
    (r"py:.*", r"triggers\.(.*\.)?_\w+"),
    (r"py:.*", r"(celery|class_registry|django|filters|kombu|_?pytest|redis|unittest)(\..*)?"),
]
