"""The firing processes: they say what happened, and say it again after a crash."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from django.db import connection, transaction
from django.db.utils import Error as DatabaseError

from tests.chaos.ledger import ENDED
from tests.chaos.setup import Setup
from tests.chaos.workload import Session, Step
from triggers import get_trigger_manager
from triggers.exceptions import StorageUnavailable
from triggers.manager import TriggerManager

T = TypeVar("T")

_log = logging.getLogger(__name__)

AHEAD = 120
"""Joins that the clients are ahead of the workers at most, so that no queue grows for ever.

In a small run, a quarter of all joins: faults must find the clients at work.
"""

TABLE = "CREATE TABLE chaos_sent (name varchar(200) PRIMARY KEY)"
"""What the clients write in transactions of their own, next to the firings."""


class Progress:
    """How many sessions a client is through with; read again after a crash."""

    def __init__(self, directory: Path, client: int) -> None:
        self.file = os.open(directory / f"client{client}", os.O_RDWR | os.O_CREAT, 0o600)

    def read(self) -> int:
        return int(os.pread(self.file, 20, 0) or 0)

    def write(self, done: int) -> None:
        os.pwrite(self.file, f"{done:<20}".encode(), 0)


def fire_all(setup: Setup, client: int) -> None:
    """Fire this client's half of everything, from where an earlier process of it was."""
    progress = Progress(setup.directory, client)
    sessions = setup.workload.sessions()
    done = progress.read()
    window = min(AHEAD, setup.joins // 4)
    ahead = sum(session.story.joins for session in sessions[:done])
    for session in sessions[done:]:
        while ahead - setup.ledger.count(ENDED) > window:
            time.sleep(0.02)
        persistently(partial(_play, session, client, setup))
        ahead += session.story.joins
        progress.write(session.index + 1)


def persistently(do: Callable[[], T]) -> T:
    """Do something that a server may be too dead for at the moment."""
    while True:
        try:
            return do()
        except (StorageUnavailable, DatabaseError) as error:
            _log.warning("trying again: %s", error)
            connection.close()
            time.sleep(0.1)


def _play(session: Session, client: int, setup: Setup) -> None:
    manager = get_trigger_manager(session.uid)
    manager.update_configuration(session.story.configuration)
    in_transaction = session.is_in_transaction and setup.storage != "redis"
    for step in session.steps():
        if step.client == client:
            (_fire_with_a_row if in_transaction else _fire)(manager, step)


def _fire(manager: TriggerManager, step: Step) -> None:
    manager.fire(step.trigger, step.kwargs, idempotency_key=step.key)


def _fire_with_a_row(manager: TriggerManager, step: Step) -> None:
    """Fire together with a row of the caller's; where the row is there, it is not done again.

    So nobody repeats a firing that was committed and not decided; recovery has to find it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        name = f"{manager.storage.uid} {step.key}"
        cursor.execute("SELECT count(*) FROM chaos_sent WHERE name = %s", [name])
        if cursor.fetchone()[0]:
            return
        cursor.execute("INSERT INTO chaos_sent VALUES (%s)", [name])
        _fire(manager, step)
