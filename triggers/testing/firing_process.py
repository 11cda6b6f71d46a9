"""A process of the storage contract: fires triggers into sessions when it is told to go.

It reads its order as one line of JSON, says ``ready``, and waits for one more line.
"""

from __future__ import annotations

import json
import sys

import django
from django.db import connections
from django.utils.module_loading import import_string


def main() -> None:
    """Read the order, wait, fire."""
    django.setup()
    from triggers.manager import TriggerManager
    from triggers.testing.environment import run_tasks_locally

    order = json.loads(sys.stdin.readline())
    for alias, name in order["databases"].items():
        connections[alias].settings_dict["NAME"] = name
    storage = import_string(order["storage"].replace(":", "."))
    managers = [TriggerManager(storage(uid, **order["options"])) for uid in order["uids"]]
    for manager in managers:
        manager.storage.plan()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with run_tasks_locally("synchronous"):
        for _ in range(order["repeat"]):
            for manager in managers:
                for trigger in order["triggers"]:
                    manager.fire(trigger)


if __name__ == "__main__":
    main()
