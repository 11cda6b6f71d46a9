"""A newcomer runs the example project: its tests, its demo, its migrations."""

# ruff: noqa: RUF001  # the demo writes a multiplication sign, and means it

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

TASKS = [
    "t_importSubject",
    "t_importResponses",
    "t_importBrowserMetadata",
    "t_computeScore",
    "t_compareResponses",
]

SABOTEUR = '''
from django.apps import AppConfig
from django.db.models.signals import post_save


class Saboteur(AppConfig):
    """Writes every page that is imported a second time, as a task that ran twice would."""

    name = "saboteur"

    def ready(self):
        from examples.questionnaire.models import Response

        def repeat(instance, created, **kwargs):
            if created:
                copy = Response(subject=instance.subject, page=instance.page, answers={})
                Response.objects.bulk_create([copy])

        post_save.connect(repeat, sender=Response, weak=False)
'''


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Return the directory in which the example keeps its temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def manage(
    temporary: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    inherited = dict(os.environ)
    # These would lead it to other settings than those of somebody who just cloned it.
    for name in ("DJANGO_SETTINGS_MODULE", "TRIGGERS_BROKER_URL"):
        inherited.pop(name, None)
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env=inherited
        | {"TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8"}
        | {"QUESTIONNAIRE_DATABASE": str(temporary.parent / "questionnaire.sqlite3")}
        | environment,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def rows_of(output: str) -> dict[str, dict[str, str]]:
    """Take the table apart: for every applicant, what is written under each task."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("applicant "))
    header, *others = lines[start:]
    columns = [(name.start(), name.group()) for name in re.finditer(r"\S+", header)]
    ends = [begin for begin, _name in columns[1:]] + [None]
    rows = {}
    for line in others[: others.index("")]:
        cells = [line[begin:end].strip() for (begin, _name), end in zip(columns, ends, strict=True)]
        names = [name for _begin, name in columns[1:]]
        rows[cells[0]] = dict(zip(names, cells[1:], strict=True))
    return rows


def test_its_own_tests_pass(temporary: Path) -> None:
    result = manage(temporary, "test")

    assert result.returncode == 0, result.stderr
    ran = re.search(r"^Ran (\d+) tests", result.stderr, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) >= 20


def test_its_models_have_the_migrations_that_they_need(temporary: Path) -> None:
    result = manage(temporary, "makemigrations", "--check", "--dry-run")

    assert result.returncode == 0, result.stdout


def test_the_demo_shows_what_became_of_everybody_and_leaves_nothing_behind(
    temporary: Path,
) -> None:
    result = manage(temporary, "demo", "--applicants", "6", "--seed", "2")

    assert result.returncode == 0, result.stderr
    assert "Order 2, requests" in result.stderr
    assert "Order 3, requests" in result.stderr
    assert "Ada, flora: t_importSubject#0 failed" in result.stdout
    rows = rows_of(result.stdout)
    assert list(rows) == [
        "Ada (no given name)",
        "Blaise (embedded)",
        "Carl (service busy)",
        "Dorothy (odd browser)",
        "Emmy (leaves early)",
        "Felix (embedded)",
    ]
    assert all(list(row) == TASKS for row in rows.values())
    assert rows["Ada (no given name)"] == {
        "t_importSubject": "failed → replayed → finished, finished",
        "t_importResponses": "finished ×9",
        "t_importBrowserMetadata": "finished ×2",
        "t_computeScore": "finished ×2",
        "t_compareResponses": "finished",
    }
    assert rows["Carl (service busy)"]["t_importBrowserMetadata"] == "retried → finished ×2"
    assert rows["Dorothy (odd browser)"]["t_importBrowserMetadata"] == "failed → skipped ×2"
    assert rows["Emmy (leaves early)"] == {
        "t_importSubject": "finished, waiting",
        "t_importResponses": "waiting ×5, finished ×3",
        "t_importBrowserMetadata": "finished, waiting",
        "t_computeScore": "finished, never started",
        "t_compareResponses": "waiting",
    }
    independent = re.search(
        r"^Did not depend on the order: (.*) ended", result.stdout, re.MULTILINE
    )
    assert independent is not None
    assert {*TASKS} - {*independent[1].split(", ")} == {"t_importBrowserMetadata"}
    # Which of the two it is may depend on how fast this machine is.
    assert re.search(
        r"^(Depended on the order|May depend .*): t_importBrowserMetadata",
        result.stdout,
        re.MULTILINE,
    )
    assert "\nChecked: every join ran exactly once" in result.stdout
    assert list(temporary.iterdir()) == []
    assert not (temporary.parent / "questionnaire.sqlite3").exists()


def test_the_demo_can_leave_its_database_for_a_closer_look(temporary: Path) -> None:
    result = manage(temporary, "demo", "--applicants", "1", "--keep")

    assert result.returncode == 0, result.stderr
    kept = re.search(r"^The database is (.*)$", result.stdout, re.MULTILINE)
    assert kept is not None
    assert Path(kept[1]).is_relative_to(temporary)
    assert Path(kept[1]).read_bytes().startswith(b"SQLite format 3")


def test_the_demo_fails_if_a_page_is_imported_twice(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "saboteur.py").write_text(SABOTEUR)
    (tmp_path / "sabotaged_settings.py").write_text(
        "from examples.questionnaire.settings import *\n"
        "INSTALLED_APPS = [*INSTALLED_APPS, 'saboteur.Saboteur']\n"
    )

    result = manage(
        temporary,
        "demo",
        "--applicants=1",
        "--settings=sabotaged_settings",
        f"--pythonpath={tmp_path}",
    )

    assert result.returncode != 0
    assert "This must not happen:" in result.stderr
    assert "imported pages: expected" in result.stderr
    assert "Checked:" not in result.stdout
