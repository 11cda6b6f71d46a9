"""Leads a run: starts servers and processes, brings faults upon them, waits for the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.chaos.ledger import ENDED, RESTARTED, STARTED, STRUCK
from tests.chaos.plan import ROLES, Fault, Kind
from tests.chaos.servers import Server
from tests.chaos.setup import VARIABLE, Setup
from tests.servers import ROOT

TICK = 0.05  # seconds between two looks


@dataclass
class Process:
    """One process of a run, started again whenever it has ended."""

    role: str
    number: int
    setup: Setup
    shift: float = 0.0
    starts: int = 0
    handle: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.starts += 1
        log = (self.setup.directory / f"{self.role}{self.number}.log").open("ab")
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        itself = [self.role, str(self.number), str(self.shift)]
        given = {
            VARIABLE: str(self.setup.directory),
            "PYTHONPATH": path,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        }
        self.handle = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.process", *itself],
            env=os.environ | given,
            cwd=self.setup.directory,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()

    def ended(self) -> int | None:
        """Its exit code, if it has ended; what is left of its group is killed then."""
        assert self.handle is not None
        code = self.handle.poll()
        if code is not None:
            self.kill()
        return code

    def kill(self) -> None:
        """End it, and every process of its pool, at once."""
        assert self.handle is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.handle.pid, signal.SIGKILL)
        self.handle.wait()


@dataclass
class Course:
    """How a run went.

    :ivar happened: how often each fault was seen to happen, by its number.
    :ivar ends: by role, how often a process ended, and with which code.
    """

    began: datetime
    over: datetime | None = None
    seconds: float = 0.0
    happened: dict[int, int] = field(default_factory=dict)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    gave_up: str = ""


class Director:
    """Leads one run.

    :param look: called at every look, with the number of joins done.
    :param is_over: asks the storage whether everything is resolved that should be.
    """

    def __init__(
        self,
        setup: Setup,
        faults: list[Fault],
        servers: dict[str, Server],
        look: Callable[[int], None],
        is_over: Callable[[], bool],
        limit: float,
    ) -> None:
        self.setup = setup
        self.ledger = setup.ledger
        self.servers = servers
        self.look = look
        self.is_over = is_over
        self.limit = limit
        self.inner = [f for f in faults if f.kind not in (Kind.KILL, Kind.RESTART)]
        outer = [f for f in faults if f.kind in (Kind.KILL, Kind.RESTART)]
        self.outer = sorted(outer, key=lambda fault: (fault.when, fault.number))
        self.faults = {fault.number: fault for fault in faults}
        self.course = Course(began=datetime.now(UTC))
        self.processes = [
            Process(role, number, setup, setup.shift_of(role, number))
            for role, many in ROLES.items()
            for number in range(many)
        ]
        self._struck = 0
        self._last_change: tuple[float, tuple[int, ...]] = (time.monotonic(), ())
        self._started = 0
        self._attempts: dict[str, int] = {}
        self._stopped: dict[int, tuple[float, str]] = {}
        self._victims: dict[str, int] = {}

    def run(self) -> Course:
        """Have everything happen; returns when nothing is left to do, or time is up."""
        began = time.monotonic()
        for process in self.processes:
            process.start()
        try:
            while not self._is_over():
                if time.monotonic() - began > self.limit:
                    self.course.gave_up = f"not over after {self.limit:.0f} seconds"
                    break
                if self._is_stuck():
                    self.course.gave_up = f"nothing happened any more for {self.patience:.0f} s"
                    break
                time.sleep(TICK)
        finally:
            self._continue_stopped(everyone=True)
            for process in self.processes:
                process.kill()
            self._note_struck()
        self.course.seconds = time.monotonic() - began
        self.course.over = datetime.now(UTC)
        return self.course

    @property
    def patience(self) -> float:
        """Seconds without any task that make it pointless to wait on."""
        return max(60.0, 10 * self.setup.lease)

    def _is_stuck(self) -> bool:
        counts = tuple(map(self.ledger.count, (STARTED, ENDED, STRUCK)))
        if counts != self._last_change[1]:
            self._last_change = time.monotonic(), counts
        return time.monotonic() - self._last_change[0] > self.patience

    def _is_over(self) -> bool:
        done = self.ledger.count(ENDED)
        self.look(done)
        self._note_struck()
        self._continue_stopped()
        while self.outer and self.outer[0].when <= done:
            self._bring(self.outer.pop(0))
        playing = self._restart_ended()
        return not (playing or self.outer or self._stopped) and self.is_over()

    def _restart_ended(self) -> bool:
        """Start again what has died; returns whether a client still has something to fire."""
        playing = False
        for process in self.processes:
            code = process.ended()
            if process.role == "client" and code == 0:
                continue
            playing |= process.role == "client"
            if code is not None:
                key = process.role, code
                self.course.ends[key] = self.course.ends.get(key, 0) + 1
                process.start()
        return playing

    def _bring(self, fault: Fault) -> None:
        """Have a fault from outside happen now."""
        if fault.kind is Kind.RESTART:
            self.servers[fault.who].restart()
        else:
            running = [p for p in self.processes if p.role == fault.who and p.ended() is None]
            if not running:
                # They have all died just now: once they are started again.
                self._restart_ended()
                running = [p for p in self.processes if p.role == fault.who and p.ended() is None]
            if not running:
                return
            turn = self._victims.get(fault.who, 0)
            self._victims[fault.who] = turn + 1
            victim = running[turn % len(running)]
            victim.kill()
            if victim.handle is None or victim.handle.returncode != -signal.SIGKILL:
                return
        self.course.happened[fault.number] = self.course.happened.get(fault.number, 0) + 1

    def _note_struck(self) -> None:
        """See which faults the processes have brought upon themselves."""
        for record in self.ledger.read(STRUCK, self._struck):
            self._struck += 1
            fault = self.faults[record["fault"]]
            self.course.happened[fault.number] = self.course.happened.get(fault.number, 0) + 1
            if fault.kind is Kind.UNDER:
                for name, server in self.servers.items():
                    if name != "broker":
                        server.restart()
                self.ledger.write(RESTARTED, fault=fault.number)
            if fault.kind is Kind.STOP:
                # One that holds a lock on the session keeps its successor from starting.
                leases = 2 if "before the commit" in fault.point else 10
                latest = time.monotonic() + leases * self.setup.lease
                self._stopped[record["pid"]] = (latest, record["subject"])

    def _continue_stopped(self, everyone: bool = False) -> None:
        """Let a stopped process go on once somebody else has started what it was at."""
        if not self._stopped:
            return
        attempts = self._attempts
        for record in self.ledger.read(STARTED, self._started):
            self._started += 1
            if record["attempt"] > 1:
                attempts[f"{record['uid']} {record['instance']}"] = record["attempt"]
        for pid, (latest, subject) in list(self._stopped.items()):
            overdue = time.monotonic() > latest or not _is_there(pid)
            if everyone or overdue or attempts.get(subject, 0) > 1:
                del self._stopped[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _is_there(pid: int) -> bool:
    """Whether a process that was stopped is still one; all of its worker may have been killed."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
