"""A Celery app, for the worker that is measured and for the process that sends to it."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

QUEUE = "benchmarks"

MARKS = "benchmarks:marks"
"""A list in the broker: when each marker was reached, and its label."""

app = Celery("benchmarks", set_as_current=True)

app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


def use_broker(url: str) -> None:
    """Send to this Redis, and keep there what a chord needs."""
    app.conf.update(broker_url=url, result_backend=url)


@app.task(name="benchmarks.plain")
def plain(**kwargs: Any) -> None:
    """A Celery task that does nothing."""


@app.task(name="benchmarks.part", ignore_result=False)
def part(**kwargs: Any) -> None:
    """One of those that a chord joins; a chord needs its result."""


@app.task(name="benchmarks.body")
def body(results: list[Any]) -> None:
    """What a chord runs at its end."""


@app.task(name="benchmarks.mark")
def mark(label: str, again: int) -> None:
    """Note the time at which everything that was sent before has run.

    :param again: how often to go back to the end of the queue first, behind what has been sent by
        what ran meanwhile.
    """
    if again:
        mark.apply_async((label, again - 1))
        return
    moment = time.perf_counter()
    with app.connection_for_write() as connection:
        connection.default_channel.client.rpush(MARKS, f"{moment!r} {label}")
