#!/usr/bin/env python
"""Run the example project: ``python manage.py demo``, ``migrate``, ``runserver``, ``test`` …"""

import os
import sys
from pathlib import Path


def main() -> None:
    root = str(Path(__file__).resolve().parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.questionnaire.settings")
    try:
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "django":
            raise
        sys.exit(
            "Django is not installed for this Python: run `make demo`, "
            "or `pip install -e .` in a virtual environment."
        )
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
