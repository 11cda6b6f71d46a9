"""How to see that a run is over: everything is as it must be, and no message is left."""

from __future__ import annotations

import time

from django.db import connection
from django.db.utils import Error as DatabaseError

from tests.chaos.celery_app import app
from tests.chaos.setup import Setup
from triggers import get_trigger_manager
from triggers.exceptions import StorageUnavailable

PAUSE = 0.5  # seconds between two looks at the storage


def ends_of(setup: Setup) -> int:
    """How often a task ends in a run in which nothing is repeated."""
    return sum(session.story.joins for session in setup.workload.sessions())


class Ending:
    """Looks whether everything has come to its end; what was seen to has not to be seen again."""

    def __init__(self, setup: Setup) -> None:
        self.queue = f"chaos-{setup.seed}"
        self.open = setup.workload.sessions()
        self.next_look = 0.0

    def has_come(self) -> bool:
        """Whether every session is as it must be in the end, and the queue is empty."""
        if time.monotonic() < self.next_look:
            return False
        self.next_look = time.monotonic() + PAUSE
        try:
            while self.open:
                session = self.open[-1]
                storage = get_trigger_manager(session.uid).storage
                found = {each.name: str(each.status) for each in storage.find_instances()}
                if found != session.story.expected:
                    return False
                self.open.pop()
            return self._waiting() == 0
        except (StorageUnavailable, DatabaseError, OSError):
            connection.close()
            return False

    def _waiting(self) -> int:
        with app.connection_for_read() as broker, broker.channel() as channel:
            try:
                declared = channel.queue_declare(self.queue, passive=True)
            except broker.channel_errors:  # Redis has no queue that is empty
                return 0
            return int(declared.message_count)
