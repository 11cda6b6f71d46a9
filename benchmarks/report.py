"""What a run of benchmarks has found, which passes from one process to another as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.measure import Comparison, Row


@dataclass
class Report:
    """What one benchmark has found, or several.

    :ivar rows: the lines of the table.
    :ivar about: the machine that it was measured on, and versions.
    :ivar servers: versions of the servers, by their names.
    :ivar left_out: why a benchmark cannot run here, by its name.
    :ivar failed: what a benchmark has broken off with, by its name.
    """

    rows: list[Row] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def limits(self) -> int:
        """How many rows have a limit."""
        return sum(row.limit is not None for row in self.rows)

    @property
    def missed(self) -> Sequence[Row]:
        """Those that do not keep to it."""
        return [row for row in self.rows if row.verdict == "MISSED"]

    def add(self, other: Report) -> None:
        """Add what another run on the same machine has found."""
        self.rows += other.rows
        self.servers |= other.servers
        self.left_out |= other.left_out
        self.failed |= other.failed

    def as_json(self) -> str:
        """All of it, for programs."""
        rows = [{**asdict(row), "verdict": row.verdict} for row in self.rows]
        return json.dumps({**vars(self), "rows": rows}, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """What :meth:`as_json` was made of."""
        report = cls(**json.loads(text))
        report.rows = [_row(**row) for row in json.loads(text)["rows"]]
        return report


def _row(figures: dict[str, float], verdict: str, **others: Any) -> Row:
    return Row(figures=Comparison(**figures), **others)
