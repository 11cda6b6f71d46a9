"""Real ``celery worker`` processes for tests, which hear of what happens in them as it happens.

::

    with running_worker(broker, prefix) as worker:
        manager.fire("a")
        worker.wait_for("done", instance="t_x#0")
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests import celery_app, servers

PATIENCE = 60  # seconds that something may take before the test gives up

Event = dict[str, Any]


class Worker:
    """One worker process with its children.

    :ivar events: all that it has told so far, oldest first.
    """

    def __init__(self, process: subprocess.Popen[bytes], reports: int, output: Any) -> None:
        self.process = process
        self.events: list[Event] = []
        self._reports = reports
        self._output = output
        self._partial = b""

    @property
    def output(self) -> str:
        """What it has printed so far."""
        self._output.seek(0)
        text: str = self._output.read().decode(errors="replace")
        return text

    def wait_for(self, event: str, *, times: int = 1, **about: Any) -> Event:
        """Wait until it has told of something, and return what.

        :param event: ``ready``, ``done`` (a task has ended) or ``log`` (see the package's log).
        :param times: how often it must have told it.
        :param about: what else must be so; a text need only contain the one that is given.
        """
        end = time.monotonic() + PATIENCE
        while True:
            found = self.told(event, **about)
            if len(found) >= times:
                return found[times - 1]
            if not self._read(end - time.monotonic()):
                wanted = f"{event} {about}" + (f", {times} times" if times > 1 else "")
                heard = "\n".join(map(str, self.events))
                raise AssertionError(
                    f"the worker did not tell of {wanted}\nbut of\n{heard}\n{self.output}"
                )

    def told(self, event: str, **about: Any) -> list[Event]:
        """What it has told of this kind, as far as it was read."""
        return [
            each
            for each in self.events
            if each["event"] == event
            and all(
                value in each.get(name, "") if isinstance(value, str) else each[name] == value
                for name, value in about.items()
            )
        ]

    def kill(self) -> None:
        """End it and its children at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def _read(self, seconds: float) -> bool:
        """Read what it tells next; ``False`` if it tells nothing any more."""
        if seconds <= 0 or not select.select([self._reports], [], [], seconds)[0]:
            return False
        found = os.read(self._reports, 65536)
        *lines, self._partial = (self._partial + found).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        return bool(found)


@contextmanager
def running_worker(
    broker: str,
    prefix: str,
    *,
    queues: Sequence[str] = (celery_app.DEFAULT_QUEUE,),
    concurrency: int = 1,
    pool: str = "prefork",
    settings: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[Worker]:
    """Start a worker, wait until it takes messages, and end it after the block.

    :param prefix: of the names in the broker, as for :func:`tests.celery_app.make_app`.
    :param settings: further settings of its app; ``imports`` names the modules of its tasks.
    """
    reports, own_end = os.pipe()
    settings = {"imports": ["tests.worker_tasks"], **(settings or {})}
    command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.celery_app", "worker"]
    command += ["--queues", ",".join(queues), "--concurrency", str(concurrency), "--pool", pool]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command += ["--loglevel", "INFO", "--hostname", f"{prefix}.{own_end}@%h"]
    with ExitStack() as stack:
        # A file and not a pipe, which nobody would empty.
        output = stack.enter_context(tempfile.TemporaryFile())
        stack.callback(os.close, reports)
        try:
            process = subprocess.Popen(
                command,
                cwd=servers.ROOT,
                env=servers.subprocess_environment()
                | {celery_app.BROKER: broker, celery_app.PREFIX: prefix}
                | {celery_app.REPORT: str(own_end), celery_app.SETTINGS: json.dumps(settings)}
                | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[own_end],
                start_new_session=True,
            )
        finally:
            os.close(own_end)
        worker = Worker(process, reports, output)
        stack.callback(worker.kill)
        worker.wait_for("ready")
        yield worker
