"""A process that runs one instance, led by a test: it may be stopped, continued or killed midway.

The process reads its order as one line of JSON. In the middle of the task it says ``halted``, and
waits for one of two lines: ``return``, or ``return when lost``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers import ROOT, subprocess_environment

PATIENCE = 60  # seconds


class LedProcess:
    """What a test can do to the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_until_it_halts(self) -> None:
        line = self._line()
        assert line == "halted\n", line + self._process.communicate(timeout=PATIENCE)[1]

    def stop(self) -> None:
        """Pause it, and see to it that it is paused."""
        os.kill(self._process.pid, signal.SIGSTOP)
        _pid, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        assert self._process.wait(PATIENCE) == -signal.SIGKILL

    def end(self, how: str = "return") -> str:
        """Let the task return; gives what the process has printed since, its log included."""
        assert self._process.stdin is not None
        output, errors = self._process.communicate(f"{how}\n", timeout=PATIENCE)
        assert self._process.returncode == 0, errors
        return output + errors

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def led_process(storage: Any, instance: str) -> Iterator[LedProcess]:
    """Start a process that runs an instance of this session."""
    cls = type(storage)
    order = {
        "storage": f"{cls.__module__}.{cls.__qualname__}",
        "uid": storage.uid,
        "options": storage.options,
        "instance": instance,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.led_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=subprocess_environment() | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        cwd=ROOT,
        text=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        yield LedProcess(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


def main() -> None:
    """Run the instance."""
    import django

    django.setup()
    import logging

    from django.utils.module_loading import import_string

    from tests import led_tasks
    from triggers.manager import TriggerManager
    from triggers.task import TaskContext, execute
    from triggers.testing import run_tasks_locally

    def halt(context: TaskContext) -> None:
        sys.stdout.write("halted\n")
        sys.stdout.flush()
        if sys.stdin.readline() == "return when lost\n":
            end = time.monotonic() + PATIENCE
            while not context.is_lost:
                assert time.monotonic() < end, "nobody told it that it was lost"
                time.sleep(0.01)
            sys.stdout.write("knows that it was lost\n")

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    order = json.loads(sys.stdin.readline())
    led_tasks.halt = halt
    cls = import_string(order["storage"])
    with run_tasks_locally("synchronous"):
        execute(TriggerManager(cls(order["uid"], **order["options"])), order["instance"])


if __name__ == "__main__":
    main()
