"""The processes of a run: ``python -m tests.chaos.process ROLE NUMBER CLOCK``.

A process of a host whose clock is wrong moves its clocks before anything else is imported.
"""

import os
import sys

if __name__ == "__main__":
    from tests.chaos import clock

    clock.install(float(sys.argv[3]))

from typing import Any

_here: dict[str, Any] = {}


def crashes() -> Any:
    """The crash points of this process."""
    return _here["crashes"]


def host() -> str:
    """By how many seconds the clocks of this process are wrong."""
    return str(_here["host"])


def main(role: str, number: int, shift: str) -> None:
    """Be one process of a run."""
    import django

    django.setup()
    from tests.chaos import celery_app, clients, crashes, recovering
    from tests.chaos.setup import load

    setup = load()
    _here.update(crashes=crashes.install(setup, role), host=shift)
    if role == "client":
        clients.fire_all(setup, number)
    elif role == "worker":
        celery_app.work(number)
    else:
        recovering.recover()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")
    # Tasks ask this module for the crash points, under its proper name.
    from tests.chaos import process

    process.main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
