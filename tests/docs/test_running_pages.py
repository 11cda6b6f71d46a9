"""What pages start and does not end (servers, workers, beat, recovery) runs as they show it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import servers
from tests.docs import snippets
from tests.docs.running import Command, Place, commands_of, wait_until

DOCS = servers.ROOT / "docs"
FIRST = DOCS / "tutorial" / "first_workflow.rst"
CELERY = DOCS / "howto" / "celery.rst"
OTHERS = DOCS / "howto" / "from_other_systems.rst"
PRODUCTION = DOCS / "howto" / "run_in_production.rst"

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def blocks_of(path: Path, language: str = "console") -> list[str]:
    found = [each.text for each in snippets.read(path).snippets if each.language == language]
    assert found
    return found


def block_with(path: Path, text: str, language: str = "console") -> str:
    """The only block of a page with this text in it."""
    [found] = [each for each in blocks_of(path, language) if text in each]
    return found


def play(place: Place, command: Command) -> str:
    """Run a command that ends, quietly; what it prints must be what the page shows."""
    printed = place.run(re.sub(r"^curl ", "curl --silent --show-error ", command.text)).rstrip()
    if command.shown:
        assert printed == command.shown
    return printed


@pytest.fixture
def broker() -> Iterator[dict[str, Any]]:
    """Settings of Celery for a queue of this test alone, which is removed at the end."""
    from kombu import Connection

    name = f"triggers_docs_{uuid4().hex[:8]}"
    url = servers.redis_url()
    yield {"CELERY_BROKER_URL": url, "CELERY_TASK_DEFAULT_QUEUE": name}
    with Connection(url) as connection:
        connection.default_channel.queue_delete(name)


def written(settings: dict[str, Any]) -> str:
    return "".join(f"{name} = {value!r}\n" for name, value in settings.items())


# -- the first workflow ---------------------------------------------------------------------------


@needs_curl
def test_the_server_of_the_first_workflow_answers_as_shown(tmp_path: Path) -> None:
    """And what is played after it ends as the page says, though some of it was sent already."""
    place = Place(directory=tmp_path)
    page = snippets.read(FIRST).snippets
    shell = [each for each in page if each.language in ("bash", "console")]
    server = next(n for n, each in enumerate(shell) if "runserver" in each.text)
    for each in shell[:server]:
        if not each.not_run:
            texts = [each.text]
            if each.language == "console":
                texts = [command.text for command in commands_of(each.text)]
            for text in texts:
                place.run(text)
    [start] = commands_of(shell[server].text)
    requests = commands_of(shell[server + 1].text)
    assert len(requests) == 2
    with place.running(start.text) as log:
        place.wait_for_server(log)
        assert [play(place, each) for each in requests] == ["{}", "{}"]
        ask = "from orders.models import Parcel; print(list(Parcel.objects.values_list('order')))"

        def parcels() -> str:
            return place.run(f'python shop/manage.py shell --verbosity 0 --command "{ask}"').strip()

        wait_until(lambda: parcels() == "[(1,)]", parcels)
    following = page.index(shell[server + 2])
    assert page[following + 1].is_output
    assert place.run(page[following].text).rstrip() == page[following + 1].text


# -- the questionnaire ----------------------------------------------------------------------------


@needs_curl
@pytest.mark.server("redis")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(DOCS / "tutorial" / "questionnaire.rst", id="tutorial"),
        pytest.param(servers.ROOT / "examples" / "questionnaire" / "README.rst", id="readme"),
    ],
)
def test_the_questionnaire_with_workers_runs_as_shown(
    path: Path, tmp_path: Path, broker: dict[str, Any]
) -> None:
    for entry in servers.ROOT.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "own_settings.py").write_text(
        "from examples.questionnaire.settings import *\n"
        f"CELERY_TASK_DEFAULT_QUEUE = {broker['CELERY_TASK_DEFAULT_QUEUE']!r}\n"
    )
    place = Place(
        directory=tmp_path,
        environment={
            "DJANGO_SETTINGS_MODULE": "own_settings",
            "QUESTIONNAIRE_DATABASE": str(tmp_path / "questionnaire.sqlite3"),
            "TRIGGERS_BROKER_URL": broker["CELERY_BROKER_URL"],
        },
    )
    blocks = [text.replace(".venv/bin/", "") for text in blocks_of(path)]
    start = next(n for n, text in enumerate(blocks) if "runserver" in text)
    requests = [command for text in blocks[start + 1 :] for command in commands_of(text)]
    with ExitStack() as stack:
        for command in commands_of(blocks[start]):
            if command.does_not_end:
                log = stack.enter_context(place.running(command.text))
            elif re.match(r"export TRIGGERS_BROKER_URL=redis:|python -m pip install", command.text):
                pass  # the address is ours, and it is installed
            else:
                place.run(command.text)
        place.wait_for_server(log)
        for command in requests[:-1]:
            play(place, command)
        assert " explain " in requests[-1].text

        def explained() -> str:
            return place.run(requests[-1].text).rstrip()

        wait_until(lambda: "t_importSubject#0 finished" in explained(), explained)
        if requests[-1].shown:
            wait_until(lambda: explained() == requests[-1].shown, explained)


# -- beat -----------------------------------------------------------------------------------------


@pytest.mark.server("redis")
def test_beat_fires_at_fixed_times_as_shown(tmp_path: Path, broker: dict[str, Any]) -> None:
    place = Place(directory=tmp_path)
    place.run("python -m django startproject shop .")
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "__init__.py").touch()
    (tmp_path / "clock" / "tasks.py").write_text(block_with(OTHERS, "# clock/tasks.py", "python"))
    (tmp_path / "shop" / "celery.py").write_text(block_with(CELERY, "# shop/celery.py", "python"))
    (tmp_path / "shop" / "__init__.py").write_text("from shop.celery import app\n")
    with (tmp_path / "shop" / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["triggers", "clock"]\n')
        settings.write(written(broker))
        settings.write(block_with(OTHERS, "# shop/settings.py", "python"))
        # Twice an hour is too seldom for a test; the task is another matter.
        settings.write('\nCELERY_BEAT_SCHEDULE["half hour"]["schedule"] = 1.0\n')
    place.run("python manage.py migrate --verbosity 0")
    ask = (
        "from triggers import get_trigger_manager; "
        "found = get_trigger_manager('housekeeping').storage.find_firings(); "
        "print([each.trigger for each in found])"
    )

    def fired() -> str:
        return place.run(f'python manage.py shell --verbosity 0 --command "{ask}"').strip()

    commands = commands_of(block_with(OTHERS, "celery -A shop beat"))
    assert len(commands) == 2
    with ExitStack() as stack:
        for command in commands:
            stack.enter_context(place.running(command.text))
        wait_until(lambda: fired() != "[]", fired)
        log = tmp_path / "output-0.txt"
        wait_until(lambda: log.read_text().count("succeeded") >= 3, log.read_text)
    # The key is the minute, which may have ended once meanwhile.
    assert fired() in ("['halfHour']", "['halfHour', 'halfHour']")


# -- recovery -------------------------------------------------------------------------------------


def test_recovery_says_what_the_page_shows(tmp_path: Path) -> None:
    for entry in servers.ROOT.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    environment = {"QUESTIONNAIRE_DATABASE": str(tmp_path / "questionnaire.sqlite3")}
    place = Place(directory=tmp_path, environment=environment)
    place.run("python manage.py migrate --verbosity 0")
    [command] = commands_of(block_with(PRODUCTION, "manage.py triggers run\n"))
    stopped = block_with(PRODUCTION, "Stopped: ", "text")
    with place.running(command.text) as log:
        wait_until(lambda: "Looking" in log.read_text(), log.read_text)
    first, last = log.read_text().splitlines()
    assert first == command.shown
    assert re.sub(r"\d+", "N", last) == re.sub(r"\d+", "N", stopped)
