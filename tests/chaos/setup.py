"""What every process of a run must know, handed on by way of the environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.ledger import Ledger
from tests.chaos.plan import Fault, Kind
from tests.chaos.workload import Workload

VARIABLE = "TRIGGERS_CHAOS"

CLOCKS = {("client", 1): 180.0, ("worker", 1): -300.0, ("recovery", 1): 420.0}
"""Seconds by which the clocks of some processes are wrong: those of the second host."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One run.

    :ivar storage: ``postgresql``, ``sqlite`` or ``redis``.
    :ivar storage_url: address of its server, or path of its file.
    :ivar lease: seconds.
    :ivar heartbeat: seconds.
    :ivar resend: seconds until recovery sends again what nobody claimed.
    :ivar attempts: how often an instance may be started.
    """

    directory: Path
    seed: int
    joins: int
    storage: str
    storage_url: str
    broker_url: str
    lease: float
    heartbeat: float
    resend: float
    attempts: int = 5

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.directory)

    @property
    def workload(self) -> Workload:
        return Workload(seed=self.seed, joins=self.joins)

    @property
    def has_hosts(self) -> bool:
        """Whether some processes play a second host; the file of an SQLite is on one host only."""
        return self.storage != "sqlite"

    def shift_of(self, role: str, number: int) -> float:
        """Seconds by which the clocks of a process are wrong."""
        return CLOCKS.get((role, number), 0.0) if self.has_hosts else 0.0

    def save(self, faults: list[Fault]) -> None:
        """Write it for the other processes, with the plan."""
        values = {**asdict(self), "directory": str(self.directory)}
        (self.directory / "setup.json").write_text(json.dumps(values, indent=1))
        plan = [asdict(fault) for fault in faults]
        (self.directory / "plan.json").write_text(json.dumps(plan))
        (self.directory / "plan.txt").write_text("\n".join(map(str, faults)) + "\n")

    def faults(self) -> list[Fault]:
        plan: list[dict[str, Any]] = json.loads((self.directory / "plan.json").read_text())
        return [Fault(**{**each, "kind": Kind(each["kind"])}) for each in plan]


def load() -> Setup:
    """The run that this process takes part in."""
    values = json.loads((Path(os.environ[VARIABLE]) / "setup.json").read_text())
    return Setup(**{**values, "directory": Path(values["directory"])})
