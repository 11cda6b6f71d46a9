"""``manage.py triggers backtest`` through the real manager and storages."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import pty
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests import servers
from triggers.backtest.job import Job
from triggers.backtest.workers import run_workers
from triggers.conditions import predicate, provider
from triggers.engine import Event, Transition
from triggers.exceptions import StorageUnavailable
from triggers.models import Session
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask

ROOT = Path(__file__).resolve().parents[2]

WORKFLOW = {
    "t_ship": {
        "after": ["ordered", "paid"],
        "unless": ["cancelled"],
        "run": "tests.integration.test_backtest.Explosive",
        "using": "celery",
    },
    "t_remind": {"after": ["ordered"], "andEvery": "late", "run": "no.such.Task"},
    "t_thank": {"after": ["t_ship"], "run": "no.such.Task"},
}

LOG = """\
case:concept:name,concept:name,time:timestamp,amount
A,paid,2026-03-02T10:00:00Z,12
B,ordered,2026-03-01T10:00:00Z,
A,ordered,2026-03-01T09:00:00Z,
B,cancelled,2026-03-02T10:00:00Z,
B,paid,2026-03-03T10:00:00Z,
C,late,2026-03-05T10:00:00Z,
C,ordered,2026-03-01T10:00:00Z,
C,late,2026-03-06T10:00:00Z,
D,late,2026-03-06T10:00:00Z,
E,opened,2026-03-06T10:00:00Z,
"""

OUTCOME = {
    "t_ship": {
        "sessions": {
            "finished": 1,
            "abandoned": 1,
            "waiting": 1,
            "failed": 0,
            "never_started": 2,
        },
        "instances": {"finished": 1, "total": 3},
        "abandoned": {"unless": 1},
    },
    "t_remind": {
        "sessions": {
            "finished": 1,
            "abandoned": 0,
            "waiting": 3,
            "failed": 0,
            "never_started": 1,
        },
        "instances": {"finished": 2, "total": 5},
        "abandoned": {},
    },
    "t_thank": {
        "sessions": {
            "finished": 1,
            "abandoned": 0,
            "waiting": 0,
            "failed": 0,
            "never_started": 4,
        },
        "instances": {"finished": 1, "total": 1},
        "abandoned": {},
    },
}


class Explosive(TriggerTask):
    """A task whose work must never be done by a backtest."""

    def _run(self, context: TaskContext) -> dict[str, Any]:
        raise AssertionError("A backtest has run a real task.")


@provider
def explosive_arguments(context: TaskContext) -> dict[str, Any]:
    """A provider that must not be called by a backtest either."""
    raise AssertionError("A backtest has called a provider.")


@predicate
def is_big(kwargs: dict[str, Any]) -> bool:
    """Whether the amount is above 20; raises where there is none."""
    return int(kwargs["amount"]) > 20


class RecordingStorage(MemoryStorageBackend):
    """The memory storage, under a name of its own, with a list of the sessions that were made."""

    name = "recording"
    made: ClassVar[list[RecordingStorage]] = []

    def __init__(self, uid: str) -> None:
        super().__init__(uid)
        self.made.append(self)


class Run:
    """What one call of the command has printed and written."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        stdout, stderr = io.StringIO(), io.StringIO()
        figures = directory / "figures.json"
        arguments = ("triggers", "backtest", "--json", str(figures), *arguments)
        call_command(*arguments, stdout=stdout, stderr=stderr)
        self.stdout = stdout.getvalue()
        self.stderr = stderr.getvalue()
        self.figures: dict[str, Any] = json.loads(figures.read_text())


Backtest = Callable[..., Run]


@pytest.fixture
def backtest(tmp_path: Path) -> Backtest:
    """Return a function that backtests a workflow on a log, both given as content."""

    def backtest(
        *options: str,
        workflow: object = WORKFLOW,
        log: str | bytes = LOG,
        name: str = "log.csv",
    ) -> Run:
        workflow_path, log_path = tmp_path / "workflow.json", tmp_path / name
        text = workflow if isinstance(workflow, str) else json.dumps(workflow)
        workflow_path.write_text(text)
        log_path.write_bytes(log.encode() if isinstance(log, str) else log)
        return Run(tmp_path, str(workflow_path), str(log_path), *options)

    return backtest


@pytest.fixture
def recording() -> Iterator[list[RecordingStorage]]:
    """Register the storage ``recording``; return the list of the sessions that it makes."""
    storage_backends.register(RecordingStorage)
    RecordingStorage.made.clear()
    yield RecordingStorage.made
    for storage in RecordingStorage.made:
        storage.delete()
    storage_backends.unregister("recording")


class TestOutcome:
    def test_each_case_is_a_session_and_each_event_a_firing(self, backtest: Backtest) -> None:
        figures = backtest().figures
        assert figures["tasks"] == OUTCOME
        assert (figures["cases"], figures["events"], figures["fired"]) == (5, 10, 10)
        assert figures["joins"] == 4
        assert figures["malformed"] == {"total": 0, "first": []}

    def test_the_same_log_in_xes_gives_the_same(self, backtest: Backtest) -> None:
        traces: dict[str, str] = {}
        for line in LOG.splitlines()[1:]:
            case, activity, time, _ = line.split(",")
            traces[case] = traces.get(case, "") + (
                f'<event><string key="concept:name" value="{activity}"/>'
                f'<date key="time:timestamp" value="{time}"/></event>\n'
            )
        body = "".join(
            f'<trace><string key="concept:name" value="{case}"/>\n{events}</trace>\n'
            for case, events in traces.items()
        )
        log = gzip.compress(f"<log>{body}</log>".encode())
        figures = backtest(log=log, name="log.xes.gz").figures
        assert figures["tasks"] == OUTCOME
        assert figures["format"] == "xes"

    def test_the_attributes_of_an_event_are_the_kwargs(
        self, backtest: Backtest, recording: list[RecordingStorage]
    ) -> None:
        backtest("--storage", "recording", "--keep")
        (storage,) = [each for each in recording if each.uid.endswith(":A")]
        assert storage["t_ship#0"].kwargs["paid"] == {
            "case:concept:name": "A",
            "concept:name": "paid",
            "time:timestamp": "2026-03-02T10:00:00Z",
            "amount": "12",
        }

    @pytest.mark.parametrize("workers", ["2", "5"])
    def test_threads_give_the_same(self, backtest: Backtest, workers: str) -> None:
        assert backtest("--workers", workers).figures["tasks"] == OUTCOME

    @pytest.mark.django_db(transaction=True)
    def test_the_database_gives_the_same(self, backtest: Backtest) -> None:
        assert backtest("--storage", "database").figures["tasks"] == OUTCOME

    @pytest.mark.django_db(transaction=True)
    def test_processes_give_the_same(self, backtest: Backtest) -> None:
        run = backtest("--storage", "database", "--workers", "2")
        assert run.figures["tasks"] == OUTCOME
        assert run.figures["fired"] == 10

    def test_in_a_random_order_the_same_seed_gives_the_same(self, backtest: Backtest) -> None:
        by_seed = {seed: backtest("--shuffle", str(seed)).figures for seed in range(12)}
        for seed, figures in by_seed.items():
            again = backtest("--shuffle", str(seed), "--workers", "3").figures
            assert again["tasks"] == figures["tasks"]
            assert (figures["order"], figures["seed"]) == ("shuffled", seed)
        shipped = {
            figures["tasks"]["t_ship"]["instances"]["finished"] for figures in by_seed.values()
        }
        assert shipped == {1, 2}, "B is shipped if its cancellation comes last, else not"

    def test_without_times_the_order_of_the_file_holds(self, backtest: Backtest) -> None:
        log = "".join(f"{line.rsplit(',', 2)[0]}\n" for line in LOG.splitlines())
        run = backtest(log=log.replace("B,cancelled\nB,paid\n", "B,paid\nB,cancelled\n"))
        assert run.figures["tasks"]["t_ship"]["instances"]["finished"] == 2
        assert run.figures["order"] == "file"
        assert "No event has a time" in run.stdout

    def test_providers_are_not_called(self, backtest: Backtest) -> None:
        tasks = {"t_a": {"after": ["paid"], "run": "x", "withArgs": "explosive_arguments"}}
        assert backtest(workflow=tasks).figures["tasks"]["t_a"]["sessions"]["finished"] == 2

    def test_filters_and_predicates_are_asked(self, backtest: Backtest) -> None:
        tasks = {
            "t_is": {"after": ["paid"], "run": "x", "when": {"paid": {"amount": "12"}}},
            "t_big": {"after": ["paid"], "run": "x", "when": {"paid": "is_big"}},
        }
        log = LOG.replace("10:00:00Z,12", "10:00:00Z,30").replace("03T10:00:00Z,", "03T10:00Z,12")
        finished = {
            name: task["instances"]["finished"]
            for name, task in backtest(workflow=tasks, log=log).figures["tasks"].items()
        }
        assert finished == {"t_is": 1, "t_big": 1}


class TestSessions:
    def test_no_session_is_left_behind(
        self, backtest: Backtest, recording: list[RecordingStorage]
    ) -> None:
        backtest("--storage", "recording")
        assert len(recording) >= 5
        for storage in recording:
            assert (list(storage), storage.tasks) == ([], {})

    def test_every_run_has_sessions_of_its_own(
        self, backtest: Backtest, recording: list[RecordingStorage]
    ) -> None:
        prefixes = set()
        for _ in range(2):
            run_id = backtest("--storage", "recording").figures["run_id"]
            assert {storage.uid for storage in recording} == {
                f"backtest:{run_id}:{case}" for case in "ABCDE"
            }
            prefixes.add(run_id)
            recording.clear()
        assert len(prefixes) == 2

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_the_database_keeps_them_only_if_asked_to(
        self, backtest: Backtest, workers: str
    ) -> None:
        options = ("--storage", "database", "--workers", workers)
        assert "kept" not in backtest(*options).stdout
        assert Session.objects.count() == 0

        run = backtest(*options, "--keep")
        prefix = f"backtest:{run.figures['run_id']}:"
        assert f"Session.objects.filter(uid__startswith='{prefix}')" in run.stdout
        kept = Session.objects.filter(uid__startswith=prefix)
        assert sorted(session.uid for session in kept) == [f"{prefix}{case}" for case in "ABCDE"]
        storage = storage_backends.get("database", f"{prefix}A")
        assert storage["t_ship#0"].status == "finished"

    def test_the_memory_storage_says_that_it_cannot_keep_them(self, backtest: Backtest) -> None:
        assert "its sessions were not kept" in backtest("--keep").stdout


class TestBadRows:
    LOG = LOG + "F,paid\nF,,2026-03-06T10:00:00Z,\nF,paid,some day,\nA,closed,2026-03-09T10:00Z,\n"

    def test_they_are_listed_with_their_lines_and_counted(self, backtest: Backtest) -> None:
        run = backtest(log=self.LOG)
        assert run.figures["malformed"] == {
            "total": 3,
            "first": [
                {"line": 12, "reason": "2 cells where the first row has 4"},
                {"line": 13, "reason": "no activity: column 'concept:name' is empty"},
                {"line": 14, "reason": "'some day' is no ISO 8601 timestamp"},
            ],
        }
        assert run.figures["tasks"] == OUTCOME
        assert run.figures["fired"] == 11
        assert "\n3 malformed:\n  line 12: 2 cells" in run.stdout

    def test_only_the_first_twenty_are_listed(self, backtest: Backtest) -> None:
        run = backtest(log=LOG + "bad\n" * 1234)
        assert run.figures["malformed"]["total"] == 1234
        assert [each["line"] for each in run.figures["malformed"]["first"]] == [*range(12, 32)]
        assert "\n1,234 malformed; the first 20:\n" in run.stdout

    def test_strict_stops_at_the_first_before_anything_is_fired(
        self, backtest: Backtest, recording: list[RecordingStorage]
    ) -> None:
        with pytest.raises(CommandError, match=r"log\.csv: Line 12: 2 cells"):
            backtest("--strict", "--storage", "recording", log=self.LOG)
        assert recording == []

    @pytest.mark.parametrize("workers", ["1", "3"])
    def test_an_event_that_cannot_be_fired_is_refused_and_the_others_count(
        self, backtest: Backtest, workers: str
    ) -> None:
        name = "x" * 300
        log = LOG + f"A,{name},2026-03-09T10:00Z,\n{name},paid,2026-03-09T10:00Z,\n"
        run = backtest("--workers", workers, log=log)
        assert run.figures["refused"]["total"] == 2
        assert [each["line"] for each in run.figures["refused"]["first"]] == [12, 13]
        assert (run.figures["events"], run.figures["fired"]) == (12, 10)
        assert run.figures["tasks"] == OUTCOME
        assert "\n2 refused:\n  line 12: " in run.stdout

    def test_strict_stops_there_too_and_leaves_no_session(
        self, backtest: Backtest, recording: list[RecordingStorage]
    ) -> None:
        log = LOG + f"A,{'x' * 300},2026-03-01T08:00Z,\n"
        with pytest.raises(CommandError, match=r"log\.csv: Line 12: "):
            backtest("--strict", "--storage", "recording", log=log)
        assert len(recording) == 1
        assert recording[0].tasks == {}

    def test_a_log_that_is_cut_off_is_told_and_what_was_read_counts(
        self, backtest: Backtest
    ) -> None:
        run = backtest(log=gzip.compress(LOG.encode())[:-10], name="log.csv.gz")
        assert run.figures["malformed"]["total"] == 1
        assert "the gzip data end in the middle" in run.stdout

    def test_times_without_an_offset_are_mentioned_once(self, backtest: Backtest) -> None:
        run = backtest(log=LOG.replace("Z,", ","))
        assert run.stdout.count("10 timestamps have no offset: they were taken as UTC.") == 1
        assert run.figures["tasks"] == OUTCOME

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_an_event_that_a_predicate_cannot_judge_is_refused(
        self, backtest: Backtest, workers: str
    ) -> None:
        tasks = {"t_big": {"after": ["paid"], "run": "x", "when": {"paid": "is_big"}}}
        run = backtest("--workers", workers, workflow=tasks)
        [refused] = run.figures["refused"]["first"]
        assert refused["line"] == 6
        assert refused["reason"].startswith("The predicate 'is_big' failed")
        assert run.figures["fired"] == 9

    def test_an_event_with_the_name_of_an_outcome_is_refused(self, backtest: Backtest) -> None:
        run = backtest(log=LOG + "A,t_ship:ended,2026-03-09T10:00Z,\n")
        assert [each["line"] for each in run.figures["refused"]["first"]] == [12]


class TestMistakes:
    @pytest.mark.parametrize(
        ("workflow", "message"),
        [
            ('{"t_a": {"after": ["a"],}}', r"Line 1, column \d+: this is not JSON"),
            ('{\n"t_a": nope}', r"Line 2, column 8: this is not JSON"),
            ("[]", "Expected a JSON object"),
            ('{"t_a": {}, "t_a": {}}', "The name 't_a' stands twice"),
            ("[" * 100_000, "nested too deeply"),
            ({"t_a": {"after": ["a"]}}, r"no usable workflow:\n  t_a\.run: is required"),
            ({"t_a": {"after": ["a"], "run": ""}}, r"t_a\.run: is empty"),
            ({"t_a": {"after": ["a"], "run": "x", "using": 3}}, r"t_a\.using: expected the name"),
            ({"t_a": {"after": "a", "run": "x"}}, r"t_a\.after: expected a list"),
            ({"t_a": 3}, "t_a: expected a mapping"),
            ({"t#a": {"after": ["a"], "run": "x"}}, "must contain neither '#' nor ':'"),
        ],
    )
    def test_a_workflow_that_cannot_be_used_is_explained(
        self, backtest: Backtest, workflow: object, message: str
    ) -> None:
        with pytest.raises(CommandError, match=message):
            backtest(workflow=workflow)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--case", "order"], "no column 'order' to take the case from.*--case COLUMN"),
            (["--activity", "step"], "columns are: case:concept:name, concept:name, time"),
            (["--time", "at"], "no column 'at' to take the time from"),
            (["--storage", "nope"], "Nothing is registered as 'nope'.*known:.*memory"),
            (["--workers", "0"], "'0' is not a whole number above 0"),
            (["--workers", "two"], "'two' is not a whole number above 0"),
            (["--delimiter", "::"], "'::' is not a single character"),
            (["--delimiter", "tab"], "The columns are: case:concept:name,concept:name,time"),
            (["--json", "."], r"Cannot write \.: Is a directory"),
        ],
    )
    def test_options_that_cannot_be_used_are_explained(
        self, backtest: Backtest, options: list[str], message: str
    ) -> None:
        with pytest.raises(CommandError, match=message):
            backtest(*options)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        workflow = tmp_path / "workflow.json"
        with pytest.raises(CommandError, match=r"the workflow .*workflow\.json: No such file"):
            call_command("triggers", "backtest", str(workflow), "log.csv")
        workflow.write_text("{}")
        with pytest.raises(CommandError, match=r"the log .*log\.csv: No such file"):
            call_command("triggers", "backtest", str(workflow), str(tmp_path / "log.csv"))
        with pytest.raises(CommandError, match=r"the log .*: Is a directory"):
            call_command("triggers", "backtest", str(workflow), str(tmp_path))

    def test_figures_that_could_not_be_written_are_told_before_the_work(
        self, tmp_path: Path
    ) -> None:
        target = tmp_path / "nowhere" / "figures.json"
        with pytest.raises(CommandError, match=r"There is no directory .*nowhere to write"):
            call_command("triggers", "backtest", "no.json", "no.csv", "--json", str(target))

    def test_a_log_without_a_first_row_is_refused(self, backtest: Backtest) -> None:
        with pytest.raises(CommandError, match=r"log\.csv: The file is empty"):
            backtest(log="")

    def test_a_hostile_xes_file_is_refused(self, backtest: Backtest) -> None:
        log = '<!DOCTYPE log [<!ENTITY a "aaaa">]><log/>'
        with pytest.raises(CommandError, match="declares the entity 'a'"):
            backtest(log=log, name="log.xes")

    def test_without_a_subcommand_the_choice_is_named(self) -> None:
        with pytest.raises(CommandError, match="SUBCOMMAND"):
            call_command("triggers")


class BrokenStorage(MemoryStorageBackend):
    """A storage whose server has gone away, which each operation says in its own way."""

    name = "broken"

    def transact(self, event: Event) -> Transition:
        raise StorageUnavailable("broken", "it has gone away while writing")

    def delete(self) -> None:
        raise StorageUnavailable("broken", "it has gone away while deleting")


class TestTrouble:
    def test_of_several_errors_of_a_storage_the_first_is_told(self, backtest: Backtest) -> None:
        storage_backends.register(BrokenStorage)
        try:
            with pytest.raises(CommandError, match="gone away while writing"):
                backtest("--storage", "broken")
        finally:
            storage_backends.unregister("broken")

    @pytest.mark.usefixtures("recording")
    def test_an_error_in_a_worker_process_is_told(self, backtest: Backtest) -> None:
        """The storage is registered in this process only, which is an easy mistake to make."""
        with pytest.raises(CommandError, match="process failed: Nothing is registered as 'record"):
            backtest("--storage", "recording", "--workers", "2")

    def test_an_error_in_a_thread_is_raised(self, tmp_path: Path) -> None:
        job = Job(run_id="x", storage="memory", workflow={}, spool=tmp_path / "no spool")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            run_workers(job, 2, lambda _done: None)

    @pytest.mark.django_db(transaction=True)
    def test_a_worker_process_that_dies_is_noticed(self, backtest: Backtest) -> None:
        killed: list[int] = []

        def kill_one() -> None:
            while not (children := multiprocessing.active_children()):
                time.sleep(0.01)
            children[0].kill()
            killed.append(1)

        killer = threading.Thread(target=kill_one)
        killer.start()
        try:
            with pytest.raises(CommandError, match="A worker process died"):
                backtest("--storage", "database", "--workers", "2")
        finally:
            killer.join(timeout=10)
        assert killed

    def test_processes_need_settings_that_they_can_load(
        self, backtest: Backtest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
        with pytest.raises(CommandError, match="DJANGO_SETTINGS_MODULE, which is not set"):
            backtest("--storage", "database", "--workers", "2")


class TestOutput:
    def test_the_table_can_be_searched_with_grep(self, backtest: Backtest) -> None:
        lines = backtest().stdout.splitlines()
        columns = "task finished abandoned waiting failed never started instances finished"
        assert lines[0].split() == columns.split()
        assert [line.split() for line in lines[1:4]] == [
            ["t_ship", "1", "1", "1", "0", "2", "1", "of", "3"],
            ["t_remind", "1", "0", "3", "0", "1", "2", "of", "5"],
            ["t_thank", "1", "0", "0", "0", "4", "1", "of", "1"],
        ]
        summary = {line.rsplit(None, 1)[0]: line.rsplit(None, 1)[1] for line in lines[5:9]}
        assert summary == {"cases": "5", "events": "10", "fired": "10", "malformed": "0"}
        assert [line.split()[0] for line in lines[9:12]] == ["firings/s", "joins/s", "elapsed"]

    def test_big_numbers_have_separators(self, backtest: Backtest) -> None:
        rows = "".join(f"case {n},paid\n" for n in range(1200))
        run = backtest(log="case:concept:name,concept:name\n" + rows)
        assert re.search(r"^t_ship +0 +0 +1,200 ", run.stdout, re.MULTILINE)
        assert run.figures["firings_per_second"] > 0
        assert run.figures["joins_per_second"] == 0
        assert run.figures["elapsed_seconds"] > 0

    def test_what_the_log_never_has_is_named(self, backtest: Backtest) -> None:
        workflow = {"t_a": {"after": ["paid", "Paid"], "unless": ["cancel"], "run": "x"}}
        run = backtest(workflow=workflow)
        assert run.figures["notes"] == [
            "The workflow waits for 'Paid', which the log does not have.",
            "The workflow waits for 'cancel', which the log does not have.",
        ]

    def test_outcomes_of_its_own_tasks_are_not_missed(self, backtest: Backtest) -> None:
        tasks = {
            "t_a": {"after": ["paid"], "run": "x"},
            "t_b": {"after": ["t_a:ended"], "unless": ["t_a:abandoned"], "run": "x"},
            "t_c": {"after": ["t_a:failed"], "unless": ["t_d:failed"], "run": "x"},
        }
        run = backtest(workflow=tasks)
        assert run.figures["notes"] == [
            "The workflow waits for 't_d:failed', which the log does not have.",
            "The workflow waits for 't_a:failed', which tasks that only finish never fire.",
        ]
        assert run.figures["tasks"]["t_b"]["sessions"]["finished"] == 2

    def test_what_a_workflow_can_hardly_mean_is_said(self, backtest: Backtest) -> None:
        run = backtest(workflow={"t_a": {"after": ["t_a"], "run": "x"}})
        assert "Task 't_a' waits for itself" in run.stdout

    def test_progress_is_told_in_lines(self, backtest: Backtest) -> None:
        rows = "".join(f"case {n},paid\n" for n in range(3000))
        run = backtest(log="case:concept:name,concept:name\n" + rows)
        told = re.findall(r"^Firing 3,000 events: (\d+) %$", run.stderr, re.MULTILINE)
        assert 5 <= len(told) <= 30
        assert told[-1] == "100"
        assert "Reading log.csv: 100 %" in run.stderr

    def test_progress_can_be_silenced(self, backtest: Backtest) -> None:
        assert backtest("--verbosity", "0").stderr == ""

    def test_events_without_a_time_among_others_are_mentioned(self, backtest: Backtest) -> None:
        name = '<string key="concept:name" value="{}"/>'
        time = '<date key="time:timestamp" value="2026-01-01T00:00Z"/>'
        events = f"<event>{name}{time}</event><event>{name}</event>".format("ordered", "paid")
        log = f"<log><trace>{name.format('A')}{events}</trace></log>"
        run = backtest(log=log, name="log.xes")
        assert "1 events have no time: each stayed behind the event before it." in run.stdout
        assert run.figures["order"] == "time"
        assert run.figures["tasks"]["t_ship"]["instances"]["finished"] == 1

    def test_an_empty_log_gives_zeros(self, backtest: Backtest) -> None:
        run = backtest(log="case:concept:name,concept:name\n")
        assert (run.figures["cases"], run.figures["fired"]) == (0, 0)
        assert run.figures["firings_per_second"] == 0


PROGRAM = """
import sys
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""


def start(
    directory: Path, *arguments: str, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """Start ``manage.py triggers`` in a process of its own, as people do."""
    terminal = {"COLUMNS": "120", "TERM": "xterm"}
    broker = {"CELERY_BROKER_URL": "memory://"}  # without one, a check complains about it
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "triggers", *arguments],
        cwd=directory,
        env=servers.subprocess_environment() | terminal | broker | (environment or {}),
        **options,
    )


def run(directory: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Return the exit status, what was printed, and what was complained about."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(directory, *arguments, text=True, environment=environment, **pipes) as process:
        stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


class TestProcess:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW))
        (tmp_path / "log.csv").write_text(LOG)
        return tmp_path

    def test_it_ends_with_0_and_prints_nothing_but_the_figures(self, directory: Path) -> None:
        status, stdout, stderr = run(directory, "backtest", "workflow.json", "log.csv")
        assert status == 0, stderr
        assert stdout.startswith("task")
        assert "100 %" not in stdout
        assert "100 %" in stderr

    def test_a_mistake_ends_it_with_1_and_a_sentence(self, directory: Path) -> None:
        status, _, stderr = run(directory, "backtest", "nope.json", "log.csv")
        assert status == 1
        assert stderr.strip() == (
            "CommandError: Cannot read the workflow nope.json: No such file or directory."
        )

    def test_common_options_may_stand_behind_the_subcommand(self, directory: Path) -> None:
        options = ("-v", "0", "--no-color", "--settings", "tests.settings")
        status, _, stderr = run(directory, "backtest", "workflow.json", "log.csv", *options)
        assert (status, stderr) == (0, "")

    def test_processes_need_a_database_that_they_can_open(self, directory: Path) -> None:
        options = ("--storage", "database", "--workers", "2")
        in_memory = {servers.DATABASE_NAMES: "{}"}
        status, _, stderr = run(
            directory, "backtest", "workflow.json", "log.csv", *options, **in_memory
        )
        assert status == 1
        assert "A SQLite database in memory belongs to one process" in stderr

    def test_a_terminal_gets_a_table_and_a_bar(self, directory: Path) -> None:
        try:
            ours, theirs = pty.openpty()
        except OSError as error:  # a container or chroot without /dev/pts
            pytest.skip(f"no pseudo-terminal can be had here: {error}")
        streams: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        with start(directory, "backtest", "workflow.json", "log.csv", **streams) as process:
            os.close(theirs)
            shown = b"".join(iter(lambda: read_terminal(ours), b""))
            status = process.wait(timeout=60)
        os.close(ours)
        assert status == 0, shown
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
        assert re.search(r"Firing 10 events ━+ +100%", text)
        assert re.search(r"│ t_ship +│ +1 │ +1 │ +1 │ +0 │ +2 │ +1 of 3 │", text)


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # How Linux says that nobody holds the other end any more.
        return b""


PAGE = ROOT / "docs" / "howto" / "backtest.rst"
VARYING = ("firings/s", "joins/s", "elapsed")


def blocks(page: Path) -> list[tuple[str, str]]:
    """The code blocks of a page in reStructuredText: language and content."""
    pattern = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.MULTILINE)
    return [
        (language, textwrap.dedent(code)) for language, code in pattern.findall(page.read_text())
    ]


def words(text: str) -> list[list[str]]:
    """Lines without those that differ from run to run, and without the width of columns."""
    return [line.split() for line in text.splitlines() if line and not line.startswith(VARYING)]


@pytest.mark.django_db(transaction=True)
def test_the_how_to_page_runs_as_printed(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(PROGRAM)
    environment = servers.subprocess_environment()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    output = ""
    compared = 0
    for language, code in blocks(PAGE):
        if language == "text":
            assert words(output) == words(code)
            compared += 1
            continue
        done = subprocess.run(
            ["bash", "-e", "-u", "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        output = done.stdout
    assert compared >= 6
