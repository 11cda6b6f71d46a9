"""The process in which :class:`~triggers_example_plugins.runner.ProcessRunner` runs one instance.

It reads its order from the standard input. What follows from its task, it does not start itself,
or a chain of tasks would be a chain of processes that wait for each other: it prints the orders,
and the process that has started it carries them out.
"""

from __future__ import annotations

import json
import os
import sys

import django


def main() -> None:
    """Carry out one order."""
    # What the task prints shall not get between the orders.
    orders = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    django.setup()
    from triggers.manager import manager_from
    from triggers_example_plugins.runner import ProcessRunner

    def hand_over(order: str) -> None:
        orders.write(f"{order}\n")
        orders.flush()

    ProcessRunner.hand_over = hand_over
    order = json.load(sys.stdin)
    manager = manager_from(order["manager"])
    ProcessRunner().execute(manager, manager.storage[order["instance"]])


if __name__ == "__main__":
    main()
