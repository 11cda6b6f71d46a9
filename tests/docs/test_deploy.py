"""The settings and units of the page about deployment run, with real servers."""

from __future__ import annotations

import configparser
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


# -- what no process of ours reads ----------------------------------------------------------------


def parsed(unit: str) -> dict[str, dict[str, str]]:
    """A unit's options by section; one that stands twice is an error."""
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#", ";"))
    parser.optionxform = str  # as its documentation says
    parser.read_string(unit)
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_units_are_such_as_systemd_reads() -> None:
    for name, text in blocks("ini").items():
        unit = parsed(text)
        assert list(unit) == ["Unit", "Service", "Install"], name
        assert set(unit["Service"]) <= {
            "User",
            "WorkingDirectory",
            "EnvironmentFile",
            "ExecStart",
            "KillSignal",
            "KillMode",
            "TimeoutStopSec",
            "Restart",
        }
        assert Path(shlex.split(unit["Service"]["ExecStart"])[0]).is_absolute(), name


def test_the_unit_of_the_page_about_production_is_the_same_in_short() -> None:
    page = snippets.read(servers.ROOT / "docs" / "howto" / "run_in_production.rst")
    [short] = [parsed(each.text) for each in page.snippets if each.language == "ini"]
    whole = parsed(blocks("ini")["/etc/systemd/system/shop-triggers.service"])
    assert list(short) == ["Service"]
    assert short["Service"].items() <= whole["Service"].items()


def variables() -> set[str]:
    """The variables that the page's settings read."""
    return set(re.findall(r'os\.environ\.get\("(\w+)"', blocks("python")["shop/settings.py"]))


def test_the_file_of_variables_has_those_that_the_settings_read() -> None:
    [text] = [
        each.text
        for each in snippets.read(PAGE).snippets
        if each.language == "ini" and each.text.startswith("; /etc/")
    ]
    first, *lines = text.splitlines()
    [unit, *_others] = blocks("ini").values()
    assert parsed(unit)["Service"]["EnvironmentFile"] == first.removeprefix("; ")
    names = [line.partition("=")[0] for line in lines]
    assert len(set(names)) == len(names)
    assert set(names) <= variables() | {"DJANGO_SETTINGS_MODULE"}


def test_the_file_of_the_containers_is_whole() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    [text] = blocks("yaml").values()
    compose = yaml.safe_load(text)
    services = compose["services"]
    assert set(services) == {"migrate", "web", "worker", "triggers", "db", "broker"}
    for name, service in services.items():
        assert "image" in service, name
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], other
            else:
                assert how == {"condition": "service_completed_successfully"}
                assert "command" in services[other]
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"]
        # What is started from our image reads these and no others.
        if service["image"] == compose["x-shop"]["image"]:
            assert set(service["environment"]) <= variables(), name
            assert service["stop_signal"] == "SIGTERM"
