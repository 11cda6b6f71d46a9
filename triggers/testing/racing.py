"""What the storage contract races with: a task that notes its runs, runners, threads, processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.db import connections

from triggers.manager import TriggerManager
from triggers.runners.base import BaseTaskRunner
from triggers.task import TaskContext, TriggerTask
from triggers.types import TaskInstance

RUN_LOG = "TRIGGERS_CONTRACT_RUNS"
"""Environment variable with the file in which :class:`Recorded` notes each run."""


class Recorded(TriggerTask):
    """Notes that it ran, in a file that all processes of a test share, and returns its name."""

    name = "triggers.testing.racing.Recorded"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        path = os.environ.get(RUN_LOG)
        if path:
            line = f"{context.manager.storage.uid} {context.instance_name}\n"
            with Path(path).open("ab", buffering=0) as file:  # one write: lines do not mix
                file.write(line.encode())
        return {"instance": context.instance_name}


class BrokenRunner(BaseTaskRunner):
    """A runner whose broker is down."""

    name = "contract-broken"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        raise ConnectionError("the broker is down")


class IdleRunner(BaseTaskRunner):
    """A runner that takes instances and leaves them to the test."""

    name = "contract-idle"

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        pass


def in_threads(*work: Callable[[], None]) -> None:
    """Do all of this at once, and raise what any of it raises."""
    errors: list[BaseException] = []

    def guarded(do: Callable[[], None]) -> None:
        try:
            do()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=guarded, args=[each]) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a writer hangs"
    if errors:
        raise errors[0]


def in_processes(orders: list[dict[str, Any]], environment: Mapping[str, str]) -> None:
    """Start a process for each order, let them go at once, and wait for all.

    They find the modules that this process finds, and open the databases that it has open: those
    of the test, where a lock of the session may be.

    :param orders: what :mod:`triggers.testing.firing_process` is to do.
    :param environment: variables beside those of this process.
    """
    databases = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    path = os.pathsep.join(each or "." for each in sys.path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "triggers.testing.firing_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **environment},
            text=True,
        )
        for _ in orders
    ]
    try:
        for process, order in zip(processes, orders, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps({"databases": databases, **order}) + "\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout is not None
            answer = process.stdout.readline()
            assert answer == "ready\n", answer + process.communicate(timeout=120)[1]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
