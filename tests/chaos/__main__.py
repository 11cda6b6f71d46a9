"""Run the chaos suite: ``python -m tests.chaos --joins 10000 --seed 1 --storage postgresql``.

The exit code is 0 if no join was lost or doubled, every planned fault happened, and every instance
is resolved or says what it waits for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos.plan import HOLDS_THE_FILE, ONLY_IN_DATABASES, ONLY_IN_REDIS, Fault, Plan
from tests.chaos.servers import PostgreSQL, RabbitMQ, Redis, Server, Unavailable
from tests.chaos.setup import VARIABLE, Setup
from tests.chaos.workload import Workload

UNAVAILABLE = 4
"""The exit code when a server cannot be had on this machine."""


def main() -> int:
    options = _parser().parse_args()
    # Wide, so that each line stays one where no terminal says how wide it is.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    workload = Workload(seed=options.seed, joins=options.joins)
    restarted = {"postgresql": ("database",), "redis": ("redis",), "sqlite": ()}[options.storage]
    left_out = ONLY_IN_DATABASES if options.storage == "redis" else ONLY_IN_REDIS
    plan = Plan(
        workload=workload,
        servers=("broker", *restarted),
        left_out=left_out,
        not_stopped_at=HOLDS_THE_FILE if options.storage == "sqlite" else (),
    )
    faults = plan.faults()
    if options.plan:
        for fault in faults:
            console.print(str(fault), markup=False)
        return 0
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{options.seed}-"))
    servers: dict[str, Server] = {}
    good = False
    try:
        try:
            _start_servers(options, directory, servers)
        except Unavailable as problem:
            console.print(f"The chaos suite cannot run here: {problem}.", markup=False)
            return UNAVAILABLE
        good = _play(options, directory, servers, faults, console)
    finally:
        for server in servers.values():
            server.stop()
        if good and not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            console.print(f"Logs and records are in {directory}.", markup=False)
    return 0 if good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--joins", type=int, default=10_000, help="at least so many joins")
    parser.add_argument("--seed", type=int, default=1, help="of the plan and the workload")
    storages = ("postgresql", "redis", "sqlite")
    parser.add_argument("--storage", choices=storages, default="postgresql")
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), default="redis")
    parser.add_argument("--lease", type=float, default=6.0, help="seconds")
    parser.add_argument("--resend", type=float, default=5.0, help="seconds until the first resend")
    parser.add_argument("--attempts", type=int, default=5, help="starts of one instance at most")
    parser.add_argument("--limit", type=float, help="seconds after which the run is given up")
    parser.add_argument("--plan", action="store_true", help="print the faults, and do nothing")
    parser.add_argument("--keep", action="store_true", help="keep logs and records")
    return parser


def _start_servers(
    options: argparse.Namespace, directory: Path, servers: dict[str, Server]
) -> None:
    broker = directory / "broker"
    if options.broker == "rabbitmq":
        servers["broker"] = RabbitMQ("broker", broker)
    else:
        servers["broker"] = Redis("broker", broker, durable=False)
    if options.storage == "postgresql":
        servers["database"] = PostgreSQL("database", directory / "database")
    elif options.storage == "redis":
        servers["redis"] = Redis("redis", directory / "redis", durable=True)
    for server in servers.values():
        server.start()


def _play(
    options: argparse.Namespace,
    directory: Path,
    servers: dict[str, Server],
    faults: list[Fault],
    console: Console,
) -> bool:
    own = servers.get("database") or servers.get("redis")
    setup = Setup(
        directory=directory,
        seed=options.seed,
        joins=options.joins,
        storage=options.storage,
        storage_url=own.url if own else "",
        broker_url=servers["broker"].url,
        lease=options.lease,
        heartbeat=options.lease / 4,
        resend=options.resend,
        attempts=options.attempts,
    )
    setup.save(faults)
    os.environ[VARIABLE] = str(directory)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.chaos.settings"
    import django

    django.setup()
    # These need Django's settings.
    from django.core.management import call_command
    from django.db import connection

    from tests.chaos import ending, report
    from tests.chaos.clients import TABLE
    from tests.chaos.director import Director
    from tests.chaos.judge import judge

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
    connection.close()
    limit = options.limit or 120 + options.joins / 10
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # A bar needs a terminal; a log would get a line for each look.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("joins", total=ending.ends_of(setup))
        over = ending.Ending(setup)
        director = Director(
            setup,
            faults,
            servers,
            lambda done: progress.update(bar, completed=done),
            over.has_come,
            limit,
        )
        course = director.run()
    found = judge(setup, faults, course)
    report.show(console, setup, faults, course, found, options.broker)
    return found.is_good


if __name__ == "__main__":
    sys.exit(main())
