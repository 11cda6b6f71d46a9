"""The judge of a run notices what it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import judge as judging
from tests.chaos import process, tasks
from tests.chaos.crashes import Crashes
from tests.chaos.director import Course
from tests.chaos.judge import Findings
from tests.chaos.ledger import ENDED, EXTENDED, STARTED, STRUCK
from tests.chaos.plan import Fault, Kind
from tests.chaos.setup import Setup
from tests.chaos.workload import Session
from triggers import get_trigger_manager
from triggers.storages.memory import MemoryStorageBackend


class SmallWorkload:
    def __init__(self, *sessions: Session) -> None:
        self._sessions = sessions

    def sessions(self) -> list[Session]:
        return list(self._sessions)


@dataclass(frozen=True, kw_only=True)
class SmallSetup(Setup):
    played: tuple[Session, ...]

    @property
    def workload(self) -> Any:
        return SmallWorkload(*self.played)


ORDER = Session(seed=0, index=0, kind="order")
RETRIED = Session(seed=0, index=1, kind="retried")


@pytest.fixture
def setup(tmp_path: Path, settings: Any) -> Iterator[SmallSetup]:
    settings.TRIGGERS = {"default": {"STORAGE": "memory", "RUNNER": "synchronous"}}
    MemoryStorageBackend.clear()
    made = SmallSetup(
        directory=tmp_path,
        seed=0,
        joins=1,
        storage="sqlite",
        storage_url="",
        broker_url="",
        lease=4,
        heartbeat=1,
        resend=1,
        attempts=3,
        played=(ORDER, RETRIED),
    )
    made.save([])
    process._here.update(crashes=Crashes(made, "worker"), host="0.0")
    yield made
    process._here.clear()
    MemoryStorageBackend.clear()


def play(without: Callable[[str], bool] = lambda trigger: False) -> None:
    for session in (ORDER, RETRIED):
        manager = get_trigger_manager(session.uid)
        manager.update_configuration(session.story.configuration)
        for step in session.steps():
            if not without(step.trigger):
                manager.fire(step.trigger, step.kwargs, idempotency_key=step.key)


def judge(setup: Setup, *faults: Fault, happened: dict[int, int] | None = None) -> Findings:
    now = datetime.now(UTC)
    course = Course(began=now, over=now, happened=happened or {})
    return judging.judge(setup, list(faults), course)


def test_a_run_without_faults_is_good(setup: SmallSetup) -> None:
    play()
    found = judge(setup)
    assert list(found.all()) == []
    joins = ORDER.story.joins + RETRIED.story.joins
    assert (found.joins, found.expected, found.waiting) == (joins, joins, 1)


def test_a_lost_firing_is_seen_in_all_that_should_have_come_of_it(setup: SmallSetup) -> None:
    play(without=lambda trigger: trigger == "address")
    found = judge(setup)
    lost = {line.split()[1].rstrip(":") for line in found.lost}
    assert lost == {"t_pack#0", "t_ship#0", "t_file#0"}
    assert any("waits for address" in line for line in found.lost)


def test_a_second_start_of_one_attempt_is_doubled(setup: SmallSetup) -> None:
    play()
    setup.ledger.write(STARTED, **next(setup.ledger.read(STARTED)))
    assert [line for line in judge(setup).doubled if "attempt 1 was started 2 times" in line]


@pytest.mark.parametrize(("after", "doubled"), [(1.0, False), (-1.0, True)])
def test_another_attempt_may_begin_when_the_lease_is_over(
    setup: SmallSetup, after: float, doubled: bool
) -> None:
    play()
    first = next(setup.ledger.read(STARTED))
    extended = datetime.fromisoformat(first["until"]) + timedelta(minutes=5)
    about = {name: first[name] for name in ("uid", "instance", "attempt")}
    setup.ledger.write(EXTENDED, **about, until=extended.isoformat())
    later = extended + timedelta(seconds=after)
    setup.ledger.write(STARTED, **{**first, "attempt": 2, "at": later.isoformat()})
    found = judge(setup)
    assert found.again == 1
    assert bool(found.doubled) is doubled


def test_a_start_that_nobody_expects_is_doubled(setup: SmallSetup) -> None:
    play()
    get_trigger_manager(ORDER.uid).fire("page", {"n": 0, "page": 7})
    found = judge(setup)
    assert any("t_page#3 should not be there" in line for line in found.doubled)
    assert any("pages were [0, 1, 2, 7]" in line for line in found.wrong)
    assert any("recorded firings" in line for line in found.wrong)


def test_a_task_that_is_finished_and_never_ran_is_lost(setup: SmallSetup) -> None:
    play()
    (setup.directory / ENDED).write_bytes(b"")
    assert any("its task did not run" in line for line in judge(setup).lost)


def test_a_result_of_an_attempt_that_was_taken_back_is_noticed(
    setup: SmallSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tasks.Work._run
    monkeypatch.setattr(
        tasks.Work, "_run", lambda self, context: {**ran(self, context), "attempt": 7}
    )
    play()
    wrong = judge(setup).wrong
    assert wrong
    assert all("was finished by attempt 7, after 1 had begun" in line for line in wrong)


def test_a_task_that_gets_the_kwargs_of_another_session_is_noticed(setup: SmallSetup) -> None:
    manager = get_trigger_manager(ORDER.uid)
    manager.update_configuration(ORDER.story.configuration)
    manager.fire("ordered", {"n": 5})
    manager.fire("paid", {"n": 0})
    assert any("ordered came with" in line for line in judge(setup).wrong)


def test_a_planned_fault_that_did_not_happen_is_named(setup: SmallSetup) -> None:
    play()
    fault = Fault(number=1, kind=Kind.CRASH, who="worker", point="during the task", when=9)
    poison = Fault(number=2, kind=Kind.POISON, who="worker", point="poison", when=9)
    assert judge(setup, fault, poison, happened={1: 1, 2: 3}).is_good
    found = judge(setup, fault, poison)
    assert len(found.faults) == 2
    assert "during the task, pass 9" in found.faults[0]


def test_times_of_a_host_whose_clock_is_wrong_are_noticed(setup: SmallSetup) -> None:
    play()
    moment = datetime.now(UTC) + timedelta(minutes=5)
    course = Course(began=moment, over=moment)
    assert any("wrong host's time" in line for line in judging.judge(setup, [], course).wrong)


def test_records_of_many_processes_are_counted_apart(setup: SmallSetup) -> None:
    ledger = setup.ledger
    assert [ledger.pass_by("x") for _ in range(3)] == [1, 2, 3]
    assert setup.ledger.pass_by("x") == 4
    assert ledger.write(STRUCK, fault=1) == 1
    assert setup.ledger.write(STRUCK, fault=2) == 2
    with pytest.raises(ValueError, match="a record of"):
        ledger.write(STRUCK, what="x" * 1000)
