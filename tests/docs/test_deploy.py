"""The settings and units of the page about deployment run, with real servers."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_urlsafe
from uuid import uuid4

import pytest

from tests import servers
from tests.docs import snippets

PAGE = servers.ROOT / "docs" / "howto" / "deploy.rst"
PATIENCE = 60  # seconds

TASKS = """
from triggers import get_trigger_manager, trigger_task


@trigger_task
def ship(context):
    return {"paid by": context.trigger_kwargs["paid"]["by"]}


WORKFLOW = {
    "t_ship": {"after": ["ordered", "paid"], "run": "orders.tasks.ship"},
    "t_sigh": {"after": ["ordered", "never"], "within": "PT1S", "run": "orders.tasks.ship"},
}


def play():
    manager = get_trigger_manager("order:1")
    manager.update_configuration(WORKFLOW)
    manager.fire("ordered")
    manager.fire("paid", {"by": "card"})


def show():
    import json

    storage = get_trigger_manager("order:1").storage
    print(json.dumps({each.name: str(each.status) for each in storage}))
"""


def blocks(language: str) -> dict[str, str]:
    """The blocks of the page that say in their first line where they go, by that line."""
    found = {}
    for snippet in snippets.read(PAGE).snippets:
        named = re.match(r"# (.+)\n", snippet.text)
        if snippet.language == language and named is not None:
            found[named[1]] = snippet.text + "\n"
    return found


def started_by(unit: str) -> tuple[list[str], signal.Signals]:
    """What a unit starts, with this Python in place of the deployed one, and how it is stopped."""
    options = dict(re.findall(r"^(\w+)=(.*)$", blocks("ini")[unit], re.MULTILINE))
    program, *arguments = shlex.split(options["ExecStart"])
    own = Path(sys.executable).parent / Path(program).name
    return [str(own), *arguments], signal.Signals[options["KillSignal"]]


class Project:
    """What ``startproject`` makes, with the files of the page in it."""

    def __init__(self, directory: Path, broker: str, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = {
            **{key: value for key, value in os.environ.items() if "DJANGO" not in key},
            "PYTHONPATH": f"{directory}{os.pathsep}{servers.ROOT}",
            "SHOP_SECRET_KEY": token_urlsafe(50),
            **environment,
        }
        self.call("django-admin", "startproject", "shop", ".")
        (directory / "orders").mkdir()
        (directory / "orders" / "__init__.py").touch()
        (directory / "orders" / "tasks.py").write_text(TASKS)
        files = blocks("python")
        with (directory / "shop" / "settings.py").open("a") as settings:
            settings.write(files["shop/settings.py"])
            settings.write(files[f"add to shop/settings.py: {broker}"])
        (directory / "shop" / "celery.py").write_text(files["shop/celery.py"])
        (directory / "shop" / "__init__.py").write_text("from shop.celery import app\n")

    def call(self, program: str, *arguments: str) -> str:
        """What a program prints; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments]
            if program == "django-admin"
            else [sys.executable, program, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def shell(self, code: str) -> str:
        return self.call("manage.py", "shell", "--verbosity", "0", "-c", code)

    def statuses(self) -> dict[str, str]:
        statuses: dict[str, str] = json.loads(self.shell("import orders.tasks as t; t.show()"))
        return statuses

    @contextmanager
    def running(self, unit: str) -> Iterator[None]:
        """The process of a unit; it must end with 0 when it is stopped as the unit says."""
        command, stop = started_by(unit)
        log = self.directory / f"{Path(unit).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield
                assert process.poll() is None, log.read_text()
                process.send_signal(stop)
                assert process.wait(PATIENCE) == 0, log.read_text()
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@pytest.fixture
def database() -> Iterator[dict[str, str]]:
    """An empty PostgreSQL database, as the page's settings name it."""
    import psycopg

    url = servers.find("postgresql").url
    name = f"triggers_docs_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        info = connection.info
        try:
            yield {
                "SHOP_DATABASE": name,
                "SHOP_DATABASE_HOST": info.host,
                "SHOP_DATABASE_PORT": str(info.port),
                "SHOP_DATABASE_USER": info.user,
                "SHOP_DATABASE_PASSWORD": info.password or "",
            }
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def queue() -> Iterator[Callable[[str], dict[str, str]]]:
    """A queue of this test in a broker, and what is left of it removed at the end."""
    from kombu import Connection

    name = f"triggers_docs_{uuid4().hex[:8]}"
    with ExitStack() as stack:

        def at(url: str) -> dict[str, str]:
            connection = stack.enter_context(Connection(url))
            stack.callback(lambda: connection.default_channel.queue_delete(name))
            return {"SHOP_BROKER_URL": url, "SHOP_QUEUE": name}

        yield at


def wait_until(condition: Callable[[], bool], why: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.2)


@pytest.mark.server("postgresql")
@pytest.mark.parametrize(
    "broker",
    [
        pytest.param("redis", marks=pytest.mark.server("redis")),
        pytest.param("rabbitmq", marks=pytest.mark.server("rabbitmq")),
    ],
)
def test_the_settings_and_units_of_the_page_run(
    broker: str,
    tmp_path: Path,
    database: dict[str, str],
    queue: Callable[[str], dict[str, str]],
) -> None:
    url = servers.redis_url() if broker == "redis" else servers.rabbitmq_url()
    project = Project(tmp_path, broker, {**database, **queue(url)})
    [check] = re.findall(
        r"^ +\$ python (manage\.py check .*)$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    project.call(*shlex.split(check))
    project.call("manage.py", "migrate", "--verbosity", "0")
    units = list(blocks("ini"))
    assert len(units) == 2
    with ExitStack() as stack:
        for unit in units:
            stack.enter_context(project.running(unit))
        project.shell("import orders.tasks as t; t.play()")
        expected = {"t_ship#0": "finished", "t_sigh#0": "abandoned"}
        wait_until(lambda: project.statuses() == expected, project.statuses)


def test_the_containers_start_what_the_units_start() -> None:
    [compose] = blocks("yaml").values()
    commands = set(re.findall(r"^ +command: (.*)$", compose, re.MULTILINE))
    for unit in blocks("ini"):
        [program, *arguments], _stop = started_by(unit)
        assert shlex.join([Path(program).name, *arguments]) in commands


def test_the_page_names_settings_that_celery_and_triggers_know() -> None:
    """So that a name that is misspelled in the text is found, too."""
    from celery.app.defaults import NAMESPACES, flatten

    known = {f"CELERY_{name.upper()}" for name, _option in flatten(NAMESPACES)}
    named = set(re.findall(r"\bCELERY_[A-Z_]+\b", PAGE.read_text(encoding="utf-8")))
    assert named - known == set()
    assert len(named) >= 5
