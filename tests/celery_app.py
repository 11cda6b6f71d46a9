"""The Celery app of the suite: what worker processes load, and what a test publishes with.

Names in the broker begin with the run's id, so that runs at the same time do not meet. A worker
that a test started tells it what happens, as lines of JSON on a pipe (see :mod:`tests.workers`).
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from celery import Celery, signals
from kombu import Exchange, Queue

BROKER = "TRIGGERS_TESTS_BROKER"
PREFIX = "TRIGGERS_TESTS_PREFIX"
REPORT = "TRIGGERS_TESTS_REPORT"
SETTINGS = "TRIGGERS_TESTS_CELERY_SETTINGS"

DEFAULT_QUEUE = "default"
QUEUES = (DEFAULT_QUEUE, "slow")
QUEUE_LIFETIME = 600  # seconds that a queue of RabbitMQ outlives its last worker


def make_app(broker: str, prefix: str, **settings: Any) -> Celery:
    """Make an app for one broker, with queues of its own."""
    app = Celery("tests", broker=broker, set_as_current=False)
    is_redis = broker.startswith("redis")
    arguments = {} if is_redis else {"x-expires": QUEUE_LIFETIME * 1000, "x-max-priority": 10}
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"global_keyprefix": f"{prefix}:"} if is_redis else {},
        task_default_queue=f"{prefix}.{DEFAULT_QUEUE}",
        task_queues=[
            Queue(
                f"{prefix}.{name}",
                Exchange("", type="direct"),
                routing_key=f"{prefix}.{name}",
                alias=name,  # by which tasks and workers know it
                queue_arguments=arguments,
            )
            for name in QUEUES
        ],
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=60,
    )
    app.conf.update(settings)
    return app


def report(event: str, **about: Any) -> None:
    """Tell the test that started this worker, if one did."""
    if REPORT in os.environ:
        line = json.dumps({"event": event, **about}, default=str) + "\n"
        os.write(int(os.environ[REPORT]), line.encode())


class _Report(logging.Handler):
    """Passes on what the package logs."""

    def emit(self, record: logging.LogRecord) -> None:
        about = {name: getattr(record, name, "") for name in ("action", "session", "instance")}
        report("log", level=record.levelname, message=record.getMessage(), **about)


def _worker_app() -> Celery:
    settings = json.loads(os.environ[SETTINGS])
    app = make_app(os.environ[BROKER], os.environ[PREFIX], **settings)
    log = logging.getLogger("triggers")
    log.addHandler(_Report())
    log.setLevel(logging.INFO)

    def on_ready(**_: Any) -> None:
        report("ready")

    def on_end(task: Any, kwargs: Any, state: str, **_: Any) -> None:
        session = kwargs["manager"]["storage"]["uid"]
        report("done", session=session, instance=kwargs["instance"], state=state)

    signals.worker_ready.connect(on_ready, weak=False)
    signals.task_postrun.connect(on_end, weak=False)
    return app


if BROKER in os.environ:
    app = _worker_app()
