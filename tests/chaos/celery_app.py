"""The Celery application of a run, and its workers."""

from __future__ import annotations

from celery import Celery

app = Celery("chaos")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tests.chaos"])
app.set_default()


def work(number: int) -> None:
    """Be a worker. One acknowledges messages before it runs a task, the other one afterwards."""
    from tests.chaos import tasks  # noqa: F401  # before the pool forks

    late = number % 2 == 1
    app.conf.update(task_acks_late=late, task_reject_on_worker_lost=late)
    named = ["-n", f"worker{number}@%h"]
    quietly = ["-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "--pool=prefork", "--concurrency=3", *named, *quietly])
