"""``manage.py triggers backtest`` with directives about time, which go by the times of the log."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from triggers.clock import overridden_time
from triggers.engine.events import Tick
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend
from triggers.types import Instance

END = ("Z", "the end", "2026-01-31T00:00Z")
"""An event of another case, so that time has passed for the others."""

Row = tuple[str, str, str]
"""Case, activity and time."""


class Run:
    """What one call of the command has printed and written."""

    def __init__(self, stdout: str, figures: dict[str, Any]) -> None:
        self.stdout = stdout
        self.figures = figures

    def outcome(self, task: str = "t_x") -> dict[str, int]:
        """How many instances of a task finished, were abandoned (by reason), and wait."""
        found = self.figures["tasks"][task]
        finished, total = found["instances"]["finished"], found["instances"]["total"]
        waiting = total - finished - sum(found["abandoned"].values())
        counted = {"finished": finished, **found["abandoned"], "waiting": waiting}
        return {how: number for how, number in counted.items() if number}


Backtest = Callable[..., Run]


@pytest.fixture
def backtest(tmp_path: Path) -> Backtest:
    """Return a function that backtests tasks on a log: rows of a CSV file, or the text of XES."""

    def backtest(tasks: dict[str, Any], log: Collection[Row] | str, *options: str) -> Run:
        if isinstance(log, str):
            name, text = "log.xes", log
        else:
            name, text = "log.csv", "case:concept:name,concept:name,time:timestamp\n"
            text += "".join(",".join(row) + "\n" for row in log)
        (tmp_path / name).write_text(text)
        workflow = {
            task: {"run": "no.such.Task", **directives} for task, directives in tasks.items()
        }
        (tmp_path / "workflow.json").write_text(json.dumps(workflow))
        stdout, figures = io.StringIO(), tmp_path / "figures.json"
        paths = str(tmp_path / "workflow.json"), str(tmp_path / name)
        command = ("triggers", "backtest", *paths, "--json", str(figures), *options)
        call_command(*command, stdout=stdout, stderr=io.StringIO())
        return Run(stdout.getvalue(), json.loads(figures.read_text()))

    return backtest


class KeptStorage(MemoryStorageBackend):
    """The memory storage, under a name of its own."""

    name = "kept"


class OwnTimeStorage(MemoryStorageBackend):
    """A storage that tells its own time, whatever :mod:`triggers.clock` says."""

    name = "own_time"

    def now(self) -> datetime:
        return datetime.now(UTC)


class WatchedStorage(MemoryStorageBackend):
    """A storage in which another process decides what is due, just before anybody looks."""

    name = "watched"
    looks: ClassVar[list[datetime | None]] = []

    def find_instances(self, **which: Any) -> Any:
        self.looks.append(overridden_time())
        self.transact(Tick())
        return super().find_instances(**which)


@pytest.fixture(autouse=True)
def storages() -> Iterator[None]:
    """Register the storages of this module."""
    classes = KeptStorage, OwnTimeStorage, WatchedStorage
    for cls in classes:
        storage_backends.register(cls)
    yield
    for cls in classes:
        storage_backends.unregister(cls.name)
    MemoryStorageBackend.clear()


def kept(run: Run, case: str) -> KeptStorage:
    return KeptStorage(f"backtest:{run.figures['run_id']}:{case}")


def instance(storage: KeptStorage, name: str) -> Instance:
    return storage.require(name)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


WITHIN = {"t_x": {"after": ["a", "b"], "within": "PT72H"}}
REMIND = {
    "t_remind": {"after": [{"elapsed": "P1D", "since": "a"}], "unless": ["paid"]},
    "t_call": {"after": [{"elapsed": "P1D", "since": "t_remind"}], "unless": ["paid"]},
    "t_note": {"after": ["t_call"], "unless": ["paid"]},
}


class TestTimeOfTheLog:
    @pytest.mark.parametrize(
        ("time", "outcome"),
        [
            ("2026-01-04T08:59:59.999999Z", "finished"),
            ("2026-01-04T09:00:00Z", "expired"),
            ("2026-01-04T10:00:00+01:00", "expired"),
            ("2026-01-30T09:00:00Z", "expired"),
        ],
    )
    def test_a_deadline_passes_between_two_events(
        self, backtest: Backtest, time: str, outcome: str
    ) -> None:
        log = [("A", "a", "2026-01-01T09:00:00Z"), ("A", "b", time)]
        assert backtest(WITHIN, log).outcome() == {outcome: 1}

    @pytest.mark.parametrize(
        ("end", "outcome"),
        [("2026-01-04T08:59:59.999999Z", "waiting"), ("2026-01-04T09:00:00Z", "expired")],
    )
    def test_what_is_due_by_the_very_last_event_of_the_log_is_decided(
        self, backtest: Backtest, end: str, outcome: str
    ) -> None:
        log = [("Z", "anything", end), ("A", "a", "2026-01-01T09:00:00Z")]
        run = backtest(WITHIN, log)
        assert run.outcome() == {outcome: 1}
        assert datetime.fromisoformat(run.figures["until"]) == datetime.fromisoformat(end)

    def test_the_order_of_the_file_does_not_matter(self, backtest: Backtest) -> None:
        log = [("A", "b", "2026-01-02T09:00Z"), END, ("A", "a", "2026-01-01T09:00Z")]
        assert backtest(WITHIN, log).outcome() == {"finished": 1}

    def test_what_time_makes_ready_has_finished_before_the_next_event(
        self, backtest: Backtest
    ) -> None:
        log = [("A", "a", "2026-01-01T09:00Z"), ("A", "paid", "2026-01-05T09:00Z")]
        run = backtest(REMIND, log)
        assert [run.outcome(task) for task in REMIND] == [{"finished": 1}] * 3

    def test_each_due_time_counts_as_the_time_of_what_follows_from_it(
        self, backtest: Backtest
    ) -> None:
        log = [("A", "a", "2026-01-01T09:00Z"), ("A", "paid", "2026-01-03T08:59Z")]
        run = backtest(REMIND, log, "--storage", "kept", "--keep")
        outcomes = [run.outcome(task) for task in REMIND]
        assert outcomes == [{"finished": 1}, {"unless": 1}, {"unless": 1}]
        session = kept(run, "A")
        assert instance(session, "t_remind#0").changed_at == at("2026-01-02T09:00")
        assert instance(session, "t_call#0").created_at == at("2026-01-02T09:00")
        assert instance(session, "t_call#0").changed_at == at("2026-01-03T08:59")

    def test_time_goes_on_after_the_last_event_of_a_case(self, backtest: Backtest) -> None:
        log = [("A", "a", "2026-01-01T09:00Z"), END]
        run = backtest(REMIND, log, "--storage", "kept", "--keep")
        assert [run.outcome(task) for task in REMIND] == [{"finished": 1}] * 3
        session = kept(run, "A")
        assert instance(session, "t_note#0").changed_at == at("2026-01-03T09:00")
        assert [firing.at for firing in session.find_firings()] == [
            at("2026-01-01T09:00"),
            at("2026-01-02T09:00"),
            at("2026-01-03T09:00"),
            at("2026-01-03T09:00"),
        ]

    def test_fresh_looks_at_the_times_of_the_events(self, backtest: Backtest) -> None:
        tasks = {"t_x": {"after": ["a", "b"], "fresh": {"a": "PT12H"}}}
        log = [
            ("A", "a", "2026-01-01T00:00Z"),
            ("A", "b", "2026-01-01T11:59Z"),
            ("B", "a", "2026-01-01T00:00Z"),
            ("B", "b", "2026-01-01T12:00Z"),
            END,
        ]
        assert backtest(tasks, log).outcome() == {"finished": 1, "waiting": 1}

    def test_at_most_every_looks_at_the_times_of_the_events(self, backtest: Backtest) -> None:
        tasks = {"t_x": {"andEvery": "a", "atMostEvery": "PT12H"}}
        hours = (0, 11, 12, 13, 23, 25)
        log = [("A", "a", f"2026-01-{1 + hour // 24:02}T{hour % 24:02}:00Z") for hour in hours]
        assert backtest(tasks, log).outcome() == {"finished": 3}

    def test_debounce_looks_at_the_times_of_the_events(self, backtest: Backtest) -> None:
        tasks = {"t_x": {"andEvery": "a", "debounce": {"quiet": "PT5M", "most": "PT12M"}}}
        minutes = (0, 4, 8, 11, 13, 30, 59)
        log = [("A", "a", f"2026-01-01T09:{minute:02}Z") for minute in minutes]
        assert backtest(tasks, log).outcome() == {"finished": 3, "waiting": 1}

    @pytest.mark.parametrize("workers", ["1", "2", "5"])
    def test_workers_have_a_time_each(self, backtest: Backtest, workers: str) -> None:
        log = [END]
        for number in range(60):
            day = 1 + number % 20
            log.append((f"case {number}", "a", f"2026-01-{day:02}T09:00Z"))
            log.append((f"case {number}", "b", f"2026-01-{day + 2 + number % 3:02}T09:00Z"))
        run = backtest(WITHIN, log, "--workers", workers)
        assert run.outcome() == {"finished": 20, "expired": 40}

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_the_database_follows_it_too(self, backtest: Backtest, workers: str) -> None:
        log = [("A", "a", "2026-01-01T09:00Z"), ("A", "paid", "2026-01-05T09:00Z"), END]
        log += [("B", "a", "1969-07-20T20:17Z"), ("B", "paid", "1969-07-21T02:56Z")]
        run = backtest(REMIND, log, "--storage", "database", "--workers", workers, "--keep")
        assert run.outcome("t_note") == {"finished": 1, "unless": 1}
        session = storage_backends.get("database", f"backtest:{run.figures['run_id']}:B")
        assert session.require("t_note#0").created_at == at("1969-07-21T02:56")

    def test_a_workflow_without_directives_about_time_has_the_machines(
        self, backtest: Backtest
    ) -> None:
        before = datetime.now(UTC)
        tasks = {"t_x": {"after": ["a"]}}
        log = [("A", "a", "2026-01-01T09:00Z")]
        run = backtest(tasks, log, "--storage", "kept", "--keep")
        assert run.figures["until"] is None
        assert "log's clock" not in run.stdout
        assert before <= instance(kept(run, "A"), "t_x#0").created_at <= datetime.now(UTC)

    def test_times_without_an_offset_are_utc(self, backtest: Backtest) -> None:
        log = [("A", "a", "2026-01-01 09:00"), ("A", "b", "2026-01-04T10:30+02:00"), END]
        assert backtest(WITHIN, log).outcome() == {"finished": 1}
        log[1] = ("A", "b", "2026-01-04T10:30+01:00")
        assert backtest(WITHIN, log).outcome() == {"expired": 1}


class TestMissingTimes:
    NAME = '<string key="concept:name" value="{}"/>'
    TIME = '<date key="time:timestamp" value="{}"/>'

    def xes(self, *rows: tuple[str, str | None]) -> str:
        """Events of cases, whose names they begin with, in a log that has an end."""
        traces: dict[str, str] = {}
        for name, time in [*rows, ("Z end", "2026-01-31T00:00Z")]:
            case, activity = name.split()
            timestamp = "" if time is None else self.TIME.format(time)
            event = f"<event>{self.NAME.format(activity)}{timestamp}</event>\n"
            traces[case] = traces.get(case, "") + event
        all_of_it = (f"<trace>{self.NAME.format(case)}{e}</trace>" for case, e in traces.items())
        return f"<log>{''.join(all_of_it)}</log>"

    def test_an_event_without_a_time_happens_with_the_one_before_it(
        self, backtest: Backtest
    ) -> None:
        late = self.xes(("A a", "2026-01-01T09:00Z"), ("A c", "2026-01-09T09:00Z"), ("A b", None))
        assert backtest(WITHIN, late).outcome() == {"expired": 1}
        early = self.xes(("A a", "2026-01-01T09:00Z"), ("A b", None), ("A c", "2026-01-09T09:00Z"))
        run = backtest(WITHIN, early)
        assert run.outcome() == {"finished": 1}
        assert "1 events have no time: each stayed behind the event before it." in run.stdout

    def test_at_the_start_of_a_case_it_happens_with_the_first_that_has_one(
        self, backtest: Backtest
    ) -> None:
        log = self.xes(("A a", None), ("A x", None), ("A c", "2026-01-09T09:00Z"))
        run = backtest(WITHIN, log, "--storage", "kept", "--keep")
        found = instance(kept(run, "A"), "t_x#0")
        assert (found.created_at, found.changed_at) == (
            at("2026-01-09T09:00"),
            at("2026-01-12T09:00"),
        )

    def test_a_case_without_any_time_is_refused(self, backtest: Backtest) -> None:
        log = self.xes(("A a", None), ("A b", None), ("B a", "2026-01-09T09:00Z"))
        run = backtest(WITHIN, log)
        assert (run.figures["fired"], run.figures["refused"]["total"]) == (2, 2)
        reason = "no event of its case has a time, which the workflow goes by"
        assert run.figures["refused"]["first"][0] == {"line": 1, "reason": reason}
        assert run.outcome() == {"expired": 1}
        assert run.figures["tasks"]["t_x"]["sessions"]["never_started"] == 2
        with pytest.raises(CommandError, match=reason):
            backtest(WITHIN, log, "--strict")

    def test_a_log_without_any_is_refused(self, backtest: Backtest) -> None:
        log = self.xes(("A a", None)).replace(self.TIME.format("2026-01-31T00:00Z"), "")
        with pytest.raises(CommandError, match=r"No event has a time.*--time.*\(t_x: within\)"):
            backtest(WITHIN, log)
        assert backtest({"t_x": {"after": ["a"]}}, log).outcome() == {"finished": 1}

    def test_an_empty_log_gives_zeros(self, backtest: Backtest) -> None:
        figures = backtest(WITHIN, []).figures
        assert (figures["cases"], figures["until"]) == (0, None)

    @pytest.mark.parametrize(
        ("directives", "named"),
        [
            ({"after": ["a", "b"], "within": "PT1H"}, "within"),
            ({"after": ["a", "b"], "fresh": {"a": "PT1H"}}, "fresh"),
            ({"andEvery": "a", "atMostEvery": "PT1H"}, "atMostEvery"),
            ({"andEvery": "a", "debounce": {"quiet": "PT1S", "most": "PT5S"}}, "debounce"),
            ({"after": [{"any": ["b", {"elapsed": "PT1H", "since": "a"}]}]}, "elapsed"),
            ({"after": ["a"], "unless": {"elapsed": "PT1H", "since": "b"}}, "elapsed"),
        ],
    )
    def test_a_random_order_has_none(
        self, backtest: Backtest, directives: dict[str, Any], named: str
    ) -> None:
        tasks = {"t_plain": {"after": ["a"]}, "t_x": directives}
        with pytest.raises(
            CommandError, match=r"leave out --shuffle.*time \(t_x: " + named + r"\)"
        ):
            backtest(tasks, [("A", "a", "2026-01-01T09:00Z")], "--shuffle", "1")

    def test_an_event_at_the_end_of_the_calendar_is_malformed(self, backtest: Backtest) -> None:
        end = "9999-12-31T23:59:59"
        log = [("A", "a", f"{end}Z"), ("B", "a", "2026-01-01T09:00Z")]
        run = backtest(WITHIN, log)
        assert run.figures["malformed"]["first"] == [
            {
                "line": 2,
                "reason": f"{end}+00:00 is too late for durations to be counted from it",
            }
        ]
        assert run.outcome() == {"waiting": 1}
        assert backtest({"t_x": {"after": ["a"]}}, log).outcome() == {"finished": 2}

    def test_the_longest_duration_can_be_counted_from_the_latest_time(
        self, backtest: Backtest
    ) -> None:
        tasks = {"t_x": {"after": ["a", "b"], "within": "P366000D"}}
        log = [("A", "a", "8997-01-01T00:00Z"), ("A", "b", "8997-06-01T00:00Z")]
        assert backtest(tasks, log).outcome() == {"finished": 1}


class TestOtherClocks:
    LOG: ClassVar[list[Row]] = [("A", "a", "2026-01-01T09:00Z"), END]

    def test_a_storage_with_a_time_of_its_own_is_noticed(self, backtest: Backtest) -> None:
        with pytest.raises(CommandError, match=r":A' it is 20.*and in the log 2026-01-01 09:00"):
            backtest(WITHIN, self.LOG, "--storage", "own_time")

    def test_it_is_noticed_if_another_process_decides_what_is_due(self, backtest: Backtest) -> None:
        WatchedStorage.looks.clear()
        with pytest.raises(CommandError, match="use a storage that it does not look after"):
            backtest(WITHIN, self.LOG, "--storage", "watched")
        assert WatchedStorage.looks == [None]

    def test_without_directives_about_time_neither_matters(self, backtest: Backtest) -> None:
        tasks = {"t_x": {"after": ["a"]}}
        assert backtest(tasks, self.LOG, "--storage", "own_time").outcome() == {"finished": 1}
        assert backtest(tasks, self.LOG, "--storage", "watched").outcome() == {"finished": 1}


class TestReport:
    LOG: ClassVar[list[Row]] = [
        ("A", "a", "2026-01-01T09:00Z"),
        ("B", "a", "2026-01-01T09:00Z"),
        ("B", "no", "2026-01-02T09:00Z"),
        END,
    ]
    TASKS: ClassVar[dict[str, Any]] = {
        "t_x": {"after": ["a", "b"], "unless": ["no"], "within": "PT72H"},
        "t_sorry": {"after": ["t_x:expired"]},
    }

    def test_expired_instances_have_a_column_beside_all_that_were_abandoned(
        self, backtest: Backtest
    ) -> None:
        run = backtest(self.TASKS, self.LOG)
        header, x, sorry = (line.split() for line in run.stdout.splitlines()[:3])
        columns = "task finished abandoned waiting failed expired never started instances finished"
        assert header == columns.split()
        assert x == ["t_x", "0", "2", "0", "0", "1", "1", "0", "of", "2"]
        assert sorry == ["t_sorry", "1", "0", "0", "0", "0", "2", "1", "of", "1"]
        assert run.figures["tasks"]["t_x"] == {
            "sessions": {
                "finished": 0,
                "abandoned": 2,
                "waiting": 0,
                "failed": 0,
                "expired": 1,
                "never_started": 1,
            },
            "instances": {"finished": 0, "total": 2},
            "abandoned": {"expired": 1, "unless": 1},
        }

    def test_where_nothing_expired_there_is_no_such_column(self, backtest: Backtest) -> None:
        run = backtest(self.TASKS, self.LOG[1:3])
        assert "expired" not in run.stdout.splitlines()[0]
        assert "expired" not in run.figures["tasks"]["t_x"]["sessions"]

    def test_the_end_of_the_log_is_told(self, backtest: Backtest) -> None:
        run = backtest(self.TASKS, self.LOG)
        told = "Time went by the log's clock, until its end at 2026-01-31 00:00:00+00:00."
        assert run.stdout.splitlines().count(told) == 1
        assert told in run.figures["notes"]
