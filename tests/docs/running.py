"""Processes of pages that do not end by themselves: started, waited for, and ended."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers

PATIENCE = 60  # seconds

_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Command:
    """A line of a ``console`` block that begins with ``$``, and what the block shows below it."""

    text: str
    shown: str

    @property
    def does_not_end(self) -> bool:
        return self.text.endswith(" &") or "runserver" in self.text


def commands_of(text: str) -> list[Command]:
    """The commands of a ``console`` block; those that go on in a line with ``>`` are joined."""
    found: list[tuple[str, list[str]]] = []
    goes_on = False
    for line in text.splitlines():
        if goes_on:
            command, shown = found.pop()
            found.append((command.removesuffix("\\") + line.removeprefix("> "), shown))
        elif line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
            continue
        goes_on = line.endswith("\\")
    return [Command(command, "\n".join(shown)) for command, shown in found]


@dataclass(kw_only=True)
class Place:
    """Where the commands of a page are run: a directory, an environment, and a port of our own."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_port())

    @property
    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if "DJANGO" not in key}
        path = os.pathsep.join([str(_BIN), inherited["PATH"]])
        python_path = os.pathsep.join([str(self.directory), str(servers.ROOT)])
        own = {"PATH": path, "PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}
        return {**inherited, **own, **self.environment}

    def run(self, script: str) -> str:
        """What a script writes to its standard output; it must succeed."""
        done = subprocess.run(
            ["bash", "-e", "-c", self._with_port(script)],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def running(self, script: str, *, stop: signal.Signals = signal.SIGTERM) -> Iterator[Path]:
        """Start what does not end, yield the file that it writes to, and end it afterwards."""
        number = len(list(self.directory.glob("output-*.txt")))
        log = self.directory / f"output-{number}.txt"
        command = shlex.split(self._with_port(script).removesuffix(" &"))
        program = shutil.which(command[0], path=self._environment["PATH"]) or command[0]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, *command[1:]],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield log
                assert process.poll() is None, log.read_text()
                process.send_signal(stop)
                process.wait(PATIENCE)
            finally:
                # Also the children, such as those of a server that loads itself again.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _with_port(self, script: str) -> str:
        script = script.replace("localhost:8000", f"localhost:{self.port}")
        return script.replace("manage.py runserver", f"manage.py runserver {self.port}")

    def wait_for_server(self, log: Path) -> None:
        """Wait until something answers at the port."""

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(answers, log.read_text)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], why: Callable[[], object]) -> None:
    """Wait until something holds; ``why`` says what to show if it never does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.2)
