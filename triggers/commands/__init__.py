"""What ``manage.py triggers <subcommand>`` can do: a module here for each subcommand.

A subcommand parses, calls and prints; what it calls lives elsewhere in the package. To add one,
write its class and name it in :data:`SUBCOMMANDS`.
"""

from __future__ import annotations

SUBCOMMANDS = {
    "backtest": "triggers.commands.backtest.Backtest",
    "explain": "triggers.commands.explain.Explain",
    "purge": "triggers.commands.purge.PurgeSessions",
    "run": "triggers.commands.run.Run",
}
"""Import path of the :class:`~triggers.commands.base.Subcommand`, by the name that people type."""
