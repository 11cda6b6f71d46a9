"""What a worker of a backtest is told. It travels to other processes before Django is set up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One backtest, the same for all of its workers.

    :ivar run_id: told apart from all other runs by this; part of every session's uid.
    :ivar storage: registered name of the storage.
    :ivar workflow: the rehearsal of the workflow, see :func:`.workflow.rehearse`.
    :ivar spool: path of the sealed spool.
    :ivar until: the end of the log, aware: time goes by the log's clock, and is decided until
        then. ``None``: by the clock of the storage.
    :ivar strict: stop at the first event that is refused.
    :ivar keep: leave the sessions in the storage.
    """

    run_id: str
    storage: str
    workflow: dict[str, Any]
    spool: Path
    until: datetime | None = None
    strict: bool = False
    keep: bool = False

    @property
    def uid_prefix(self) -> str:
        """What the uids of all sessions of this run start with."""
        return f"backtest:{self.run_id}:"


class Stop(Protocol):
    """An event of ``threading`` or ``multiprocessing`` by which workers are told to stop."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...

    def set(self) -> None:
        """Tell all workers to stop."""
        ...
