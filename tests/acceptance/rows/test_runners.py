"""Rows E08, E28 (the default runner) and the threads of E31: who runs a task, and where."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import (
    PATIENCE,
    at_the_same_time,
    explode,
    registered,
    reopened,
    show,
    statuses,
)
from triggers import runners
from triggers.exceptions import ConfigurationWarning, UnknownBackend, UnknownTask
from triggers.manager import TriggerManager, manager_from, trigger_managers
from triggers.runners import (
    BaseTaskRunner,
    CeleryTaskRunner,
    SynchronousTaskRunner,
    ThreadingTaskRunner,
    task_runners,
)
from triggers.task import TaskContext, trigger_task
from triggers.types import TaskInstance


class NotingRunner(BaseTaskRunner):
    """Notes what it gets, and runs it in place."""

    name = "row-tests-noting"
    taken: ClassVar[list[str]] = []

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        self.taken.append(task_instance.name)
        self.execute(manager, task_instance)


class OtherRunner(NotingRunner):
    name = "row-tests-other"
    taken: ClassVar[list[str]] = []


class LambdaRunner(BaseTaskRunner):
    """Sends what it gets elsewhere, as text, where the test finds it."""

    name = "row-tests-lambda"
    sent: ClassVar[list[tuple[str, str]]] = []

    def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
        task = self.resolve(task_instance.config.run)
        self.sent.append((task.name, json.dumps(self.task_kwargs(manager, task_instance))))


class OwnDefaultManager(TriggerManager):
    name = "row-tests-own-default"
    default_task_runner_name = OtherRunner.name


@pytest.fixture(autouse=True)
def _registered_runners() -> Iterator[None]:
    trigger_managers.register(OwnDefaultManager)
    with registered(NotingRunner, OtherRunner, LambdaRunner):
        yield
    trigger_managers.unregister(OwnDefaultManager.name)
    for seen in (NotingRunner.taken, OtherRunner.taken, LambdaRunner.sent):
        seen.clear()


@pytest.fixture
def outside_of_tests(_tasks_run_in_place: None) -> Iterator[None]:
    """Choose runners as in production, where the test kit names none."""
    # Not by monkeypatch, which is torn down after the test kit, and would bring its choice back.
    before, runners.TESTING_TASK_RUNNER = runners.TESTING_TASK_RUNNER, None
    yield
    runners.TESTING_TASK_RUNNER = before


# -- E08 ----------------------------------------------------------------------------------------


def test_e08_using_names_the_runner_of_one_task(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": show.name, "using": NotingRunner.name},
        "t_y": {"after": ["a"], "run": show.name},
        "t_z": {"after": ["t_y"], "run": show.name, "using": NotingRunner.name},
    }
    manager = new_session(tasks)
    assert reopened(manager).storage.tasks["t_x"].using == NotingRunner.name
    manager.fire("a")
    assert sorted(NotingRunner.taken) == ["t_x#0", "t_z#0"]
    assert set(statuses(manager).values()) == {"finished"}


def test_e08_a_runner_that_is_not_here_is_warned_of_and_waited_for(
    new_session: NewSession, caplog: pytest.LogCaptureFixture
) -> None:
    manager = new_session()
    with pytest.warns(ConfigurationWarning, match=r"t_x\.using: no runner 'nobody'"):
        manager.update_configuration({"t_x": {"after": ["a"], "run": show.name, "using": "nobody"}})
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "scheduled"}
    assert "nobody" in caplog.text


def test_e08_a_runner_may_execute_elsewhere_from_plain_json(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"after": ["a"], "run": show.name, "using": LambdaRunner.name},
        "t_y": {"after": ["t_x"], "run": show.name, "using": LambdaRunner.name},
    }
    manager = new_session(tasks)
    manager.fire("a", {"n": 1})
    while LambdaRunner.sent:
        name, message = LambdaRunner.sent.pop()
        LambdaRunner().resolve(name).run(**json.loads(message))
    assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}


def test_e08_a_message_that_is_delivered_twice_runs_the_task_once(
    new_session: NewSession,
) -> None:
    task = {"after": ["a"], "run": explode.name, "using": LambdaRunner.name}
    manager = new_session({"t_x": task})
    manager.fire("a")
    [(name, message)] = LambdaRunner.sent
    with pytest.raises(LookupError, match="no such applicant"):
        LambdaRunner().resolve(name).run(**json.loads(message))
    LambdaRunner().resolve(name).run(**json.loads(message))
    assert statuses(manager) == {"t_x#0": "failed"}
    assert reopened(manager).storage["t_x#0"].record.attempt == 1


def test_e08_resolve_names_what_it_cannot_find() -> None:
    with pytest.raises(UnknownTask, match=r"my_app\.tasks\.NoSuchTask"):
        NotingRunner().resolve("my_app.tasks.NoSuchTask")


# -- E28 ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("outside_of_tests")
@pytest.mark.parametrize("chosen", [NotingRunner, NotingRunner.name])
def test_e28_the_global_default_can_be_overridden(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch, chosen: Any
) -> None:
    monkeypatch.setattr(runners, "DEFAULT_TASK_RUNNER", chosen)
    manager = new_session({"t_x": {"after": ["a"], "run": show.name}})
    manager.fire("a")
    assert NotingRunner.taken == ["t_x#0"]
    assert statuses(manager) == {"t_x#0": "finished"}


@pytest.mark.usefixtures("outside_of_tests")
def test_e28_using_goes_before_the_manager_and_the_manager_before_the_global_default(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "DEFAULT_TASK_RUNNER", "celery")
    tasks = {
        "t_x": {"after": ["a"], "run": show.name, "using": NotingRunner.name},
        "t_y": {"after": ["t_x"], "run": show.name},
    }
    manager = new_session(tasks, manager=OwnDefaultManager)
    manager.fire("a")
    assert (NotingRunner.taken, OtherRunner.taken) == (["t_x#0"], ["t_y#0"])


@pytest.mark.usefixtures("outside_of_tests")
def test_e28_a_worker_honours_the_managers_default_runner(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": show.name}}, manager=OwnDefaultManager)
    in_the_worker = manager_from(json.loads(json.dumps(manager.reference())))
    assert type(in_the_worker) is OwnDefaultManager
    in_the_worker.fire("a")
    assert OtherRunner.taken == ["t_x#0"]


def test_e28_a_manager_that_workers_could_not_find_is_refused(new_session: NewSession) -> None:
    class Unregistered(TriggerManager):
        name = "row-tests-unregistered"

    manager = new_session(manager=Unregistered)
    with pytest.raises(UnknownBackend, match="row-tests-unregistered"):
        manager.reference()


def test_e28_the_documented_runners_are_registered() -> None:
    assert {
        name: task_runners.get_class(name) for name in ("celery", "threading", "synchronous")
    } == {
        "celery": CeleryTaskRunner,
        "threading": ThreadingTaskRunner,
        "synchronous": SynchronousTaskRunner,
    }
    assert runners.DEFAULT_TASK_RUNNER in ("celery", CeleryTaskRunner)


# -- E31: threads -------------------------------------------------------------------------------

meeting = threading.Barrier(3)


@trigger_task
def meet_the_others(context: TaskContext) -> dict[str, str]:
    meeting.wait(PATIENCE)
    return {"thread": threading.current_thread().name}


def test_e31_threads_run_several_instances_at_the_same_time(new_session: NewSession) -> None:
    task = {"andEvery": "p", "run": meet_the_others.name, "using": "threading"}
    manager = new_session({"t_x": task})
    for _ in range(3):
        manager.fire("p")
    ThreadingTaskRunner.join_all(PATIENCE)
    instances = reopened(manager).storage.instances_of_task("t_x")
    assert [each.status for each in instances] == ["finished"] * 3
    assert len({each.metadata["result"]["thread"] for each in instances}) == 3


def test_e31_join_all_waits_for_what_other_threads_have_fired(new_session: NewSession) -> None:
    tasks = {
        "t_x": {"andEvery": "p", "run": show.name, "using": "threading"},
        "t_y": {"andEvery": "t_x", "run": show.name, "using": "threading"},
    }
    manager = new_session(tasks)
    at_the_same_time(*[lambda: reopened(manager).fire("p")] * 4)
    ThreadingTaskRunner.join_all(PATIENCE)
    assert len(statuses(manager)) == 8
    assert set(statuses(manager).values()) == {"finished"}


def test_e31_join_all_from_another_thread_is_refused() -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            ThreadingTaskRunner.join_all()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(PATIENCE)
    [error] = errors
    assert "main thread" in str(error)
