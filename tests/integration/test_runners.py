"""Runners in this process, and the message that goes to others."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import current_app

from triggers import runners
from triggers.attempt import claim
from triggers.engine.lifecycle import Claim, Retry
from triggers.exceptions import (
    InstanceNotFound,
    InvalidTrigger,
    StorageUnavailable,
    UnknownBackend,
    UnknownTask,
)
from triggers.manager import TriggerManager, manager_from
from triggers.runners import (
    BaseTaskRunner,
    CeleryTaskRunner,
    SynchronousTaskRunner,
    ThreadingTaskRunner,
    task_runners,
)
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask, execute, trigger_task
from triggers.testing import run_tasks_locally
from triggers.types import TaskInstance

_Timer = threading.Timer


class Relay(TriggerTask):
    """Says in which thread it ran."""

    def _run(self, context: TaskContext) -> Mapping[str, Any]:
        return {"thread": threading.current_thread().name}


class Meeting(TriggerTask):
    """Waits until another instance runs at the same time."""

    barrier = threading.Barrier(2)

    def _run(self, context: TaskContext) -> None:
        self.barrier.wait(30)


class Flaky(TriggerTask):
    """Fails until it has been retried often enough, with a long pause each time."""

    max_retries = 2

    def _run(self, context: TaskContext) -> Mapping[str, Any]:
        if context.task_instance.record.retries < 2:
            raise self.retry(ValueError("not yet"), cooldown=3600)
        return {"retries": context.task_instance.record.retries}


@trigger_task(max_retries=7, queue="slow")
def plain_function(context: TaskContext) -> dict[str, Any]:
    """Do something."""
    return {"name": context.instance_name}


@trigger_task(name="tests.without-context")
def without_context() -> None:
    pass


@trigger_task
def undecorated() -> dict[str, int]:
    return {"n": 1}


@current_app.task(name="tests.plain-celery")
def plain_celery() -> None:
    pass


@pytest.fixture(autouse=True)
def _in_threads() -> Iterator[None]:
    with run_tasks_locally():
        yield


def manager_with(**tasks: dict[str, Any]) -> TriggerManager:
    manager = TriggerManager(MemoryStorageBackend(uuid4().hex))
    manager.update_configuration({name: {"run": Relay.name, **t} for name, t in tasks.items()})
    return manager


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {each.name: str(each.status) for each in manager.storage}


def test_joining_waits_for_cascades_too() -> None:
    chain = {f"t_{n}": {"after": [f"t_{n - 1}" if n else "a"]} for n in range(20)}
    manager = manager_with(**chain)
    manager.fire("a")
    ThreadingTaskRunner.join_all()
    assert set(statuses(manager).values()) == {"finished"}
    assert len(statuses(manager)) == 20
    result = manager.storage["t_19#0"].metadata["result"]
    assert result["thread"] != threading.current_thread().name


def test_instances_run_at_the_same_time() -> None:
    manager = manager_with(t_m={"andEvery": "p", "run": Meeting.name})
    manager.fire("p")
    manager.fire("p")
    ThreadingTaskRunner.join_all()
    assert statuses(manager) == {"t_m#0": "finished", "t_m#1": "finished"}


def test_joining_can_be_limited_in_time() -> None:
    manager = manager_with(t_m={"andEvery": "p", "run": Meeting.name})
    manager.fire("p")
    with pytest.raises(TimeoutError, match="1 task instances are still running"):
        ThreadingTaskRunner.join_all(timeout=0.05)
    manager.fire("p")
    ThreadingTaskRunner.join_all(timeout=30)


def test_joining_from_another_thread_raises() -> None:
    errors: list[BaseException] = []

    def join() -> None:
        try:
            ThreadingTaskRunner.join_all()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=join)
    thread.start()
    thread.join(30)
    assert "main thread" in str(errors[0])


def test_the_test_kit_does_not_wait_for_cooldowns() -> None:
    manager = manager_with(t_f={"after": ["a"], "run": Flaky.name})
    manager.fire("a")
    ThreadingTaskRunner.join_all(timeout=30)
    assert statuses(manager) == {"t_f#0": "replayed", "t_f#1": "replayed", "t_f#2": "finished"}
    assert manager.storage["t_f#2"].metadata["result"] == {"retries": 2}


def test_outside_the_test_kit_a_cooldown_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Brief(TriggerTask):
        def _run(self, context: TaskContext) -> None:
            if not context.task_instance.record.retries:
                raise self.retry(ValueError("x"), cooldown=0.2)

    monkeypatch.setattr(ThreadingTaskRunner, "waits_for_cooldown", True)
    manager = manager_with(t_b={"after": ["a"], "run": Brief.name})
    manager.fire("a")
    ThreadingTaskRunner.join_all(timeout=30)
    first, second = manager.storage["t_b#0"].record, manager.storage["t_b#1"].record
    assert second.status == "finished"
    assert (second.changed_at - first.changed_at).total_seconds() >= 0.2


def test_who_wakes_a_moment_too_early_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pausing(TriggerTask):
        def _run(self, context: TaskContext) -> None:
            if not context.task_instance.record.retries:
                raise self.retry(ValueError("x"), cooldown=0.3)

    naps = []

    def sleep(seconds: float) -> None:
        # As if this clock and the storage's did not run at the same speed.
        naps.append(seconds)
        time.sleep(seconds * 0.9)

    monkeypatch.setattr("triggers.attempt.time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
    monkeypatch.setattr(ThreadingTaskRunner, "waits_for_cooldown", True)
    monkeypatch.setattr(threading, "Timer", lambda delay, *args: _Timer(delay * 0.5, *args))
    manager = manager_with(t_p={"after": ["a"], "run": Pausing.name})
    manager.fire("a")
    ThreadingTaskRunner.join_all(timeout=30)
    assert statuses(manager) == {"t_p#0": "replayed", "t_p#1": "finished"}
    assert len(naps) in (2, 3)


def test_a_long_chain_in_place_does_not_deepen_the_stack() -> None:
    chain = {f"t_{n}": {"after": [f"t_{n - 1}" if n else "a"]} for n in range(900)}
    manager = manager_with(**chain)
    manager.default_task_runner_name = SynchronousTaskRunner.name
    manager.fire("a")
    assert statuses(manager)["t_899#0"] == "finished"


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ("tests.nowhere.Task", "module 'tests.nowhere' cannot be imported"),
        ("no-dots", "Write the dotted path, such as 'orders.tasks.ship'."),
        ("tests.nowhere:task", "Write a dot: 'tests.nowhere.task'."),
        ("no_such_module.tasks:task", "cannot be imported (No module named 'no_such_module')"),
        ("no_such_module.tasks:task", "Write a dot: 'no_such_module.tasks.task'."),
        (f"{__name__}.NoSuchTask", "registers none called 'NoSuchTask'"),
        ("tests.plain-celery", "a Celery task but no trigger task"),
    ],
)
def test_a_task_that_nobody_knows_fails_its_instance(run: str, reason: str) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": run})
    manager.fire("a")
    ThreadingTaskRunner.join_all()
    failed = manager.storage["t_x#0"]
    assert failed.status == "failed"
    assert reason in failed.metadata["exception"]["message"]
    with pytest.raises(UnknownTask, match=run) as caught:
        SynchronousTaskRunner().resolve(run)
    assert caught.value.name == run
    assert isinstance(caught.value, LookupError)


def test_a_task_nobody_knows_that_was_decided_meanwhile_stays_as_it_is() -> None:
    manager = manager_with(t_x={"after": ["a"], "run": "no.such.task"})
    instance_before: list[TaskInstance] = []

    class Keeping(BaseTaskRunner):
        name = "test-keeping"

        def run(self, manager: TriggerManager, task_instance: TaskInstance) -> None:
            instance_before.append(task_instance)

    task_runners.register(Keeping)
    manager.default_task_runner_name = Keeping.name
    manager.fire("a")
    for _ in range(2):
        SynchronousTaskRunner().execute(manager, instance_before[0])
    assert statuses(manager) == {"t_x#0": "failed"}
    task_runners.unregister(Keeping.name)


def test_the_runner_is_the_tasks_then_the_managers_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = manager_with(t_x={"after": ["a"]}, t_y={"after": ["a"], "using": "synchronous"})
    config, own = manager.storage.tasks["t_x"], manager.storage.tasks["t_y"]
    # Undone here and not at the end of the test, when the test kit has gone already.
    with monkeypatch.context() as patch:
        patch.setattr(runners, "TESTING_TASK_RUNNER", None)
        assert manager.runner_name(config) == "celery"
        patch.setattr(runners, "DEFAULT_TASK_RUNNER", ThreadingTaskRunner)
        assert manager.runner_name(config) == "threading"
        manager.alias_runner = "celery"
        assert manager.runner_name(config) == "celery"
    assert manager.runner_name(config) == "threading"
    manager.default_task_runner_name = "celery"
    assert manager.runner_name(config) == "celery"
    assert manager.runner_name(own) == "synchronous"


def test_a_function_becomes_a_task_with_celerys_options() -> None:
    assert (plain_function.name, plain_function.max_retries) == (f"{__name__}.plain_function", 7)
    assert plain_function.message_options == {"queue": "slow"}
    assert plain_function.__doc__ == "Do something."
    assert current_app.tasks[plain_function.name] is plain_function
    manager = manager_with(
        t_x={"after": ["a"], "run": plain_function.name},
        t_y={"after": ["a"], "run": without_context.name},
        t_z={"after": ["a"], "run": undecorated.name},
    )
    manager.fire("a")
    ThreadingTaskRunner.join_all()
    results = {each.name: each.metadata["result"] for each in manager.storage}
    assert results == {"t_x#0": {"name": "t_x#0"}, "t_y#0": {}, "t_z#0": {"n": 1}}
    assert undecorated.function() == {"n": 1}


def test_an_instance_can_be_executed_by_name_once() -> None:
    manager = manager_with(t_x={"after": ["a"], "using": "celery"})
    manager.default_task_runner_name = "threading"
    with run_tasks_locally("synchronous"):
        manager.storage.create_instance("t_x", kwargs={"a": {}})
        assert statuses(manager) == {"t_x#0": "scheduled"}
        execute(manager, "t_x#0")
        execute(manager, "t_x#0")
    assert manager.storage["t_x#0"].record.attempt == 1


def test_celery_executes_the_message_of_the_runner() -> None:
    """Celery's eager mode takes the message through its own serializer and task machinery."""
    current_app.conf.update(task_always_eager=True, task_store_eager_result=False)
    try:
        manager = manager_with(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
        manager.default_task_runner_name = "celery"
        with run_tasks_locally("celery"):
            manager.fire("a")
        assert statuses(manager) == {"t_x#0": "finished", "t_y#0": "finished"}
    finally:
        current_app.conf.update(task_always_eager=False)


def test_a_message_names_the_manager_the_storage_and_the_instance() -> None:
    manager = manager_with(t_x={"after": ["a", "b"]})
    manager.fire("a")
    message = CeleryTaskRunner().task_kwargs(manager, manager.storage["t_x#0"])
    assert message["instance"] == "t_x#0"
    rebuilt = manager_from(message["manager"])
    assert type(rebuilt) is TriggerManager
    assert statuses(rebuilt) == {"t_x#0": "unstarted"}


def test_a_manager_that_workers_could_not_find_is_refused_with_the_reason() -> None:
    class Unregistered(TriggerManager):
        pass

    with pytest.raises(UnknownBackend, match="is not what 'default' stands for"):
        Unregistered(MemoryStorageBackend("s")).reference()


def test_what_a_task_raises_reaches_celery_after_it_was_recorded() -> None:
    class Broken(TriggerTask):
        max_retries = 0

        def _run(self, context: TaskContext) -> None:
            if context.trigger_kwargs["a"].get("retry"):
                raise self.retry(KeyError("inner"))
            raise ZeroDivisionError("x")

    for kwargs, expected in (({}, ZeroDivisionError), ({"retry": True}, Exception)):
        manager = manager_with(t_x={"after": ["a"], "run": Broken.name})
        manager.storage.create_instance("t_x", kwargs={"a": kwargs})
        message = CeleryTaskRunner().task_kwargs(manager, manager.storage["t_x#0"])
        with pytest.raises(expected):
            current_app.tasks[Broken.name].run(**message)
        assert statuses(manager) == {"t_x#0": "failed"}


def test_the_end_of_the_process_is_recorded_on_its_way_out() -> None:
    class Stopped(TriggerTask):
        def _run(self, context: TaskContext) -> None:
            raise SystemExit(3)

    manager = manager_with(t_x={"after": ["a"], "run": Stopped.name})
    manager.storage.create_instance("t_x", kwargs={"a": {}})
    with pytest.raises(SystemExit):
        execute(manager, "t_x#0")
    failed = manager.storage["t_x#0"]
    assert failed.status == "failed"
    assert failed.metadata["exception"]["type"] == "builtins.SystemExit"


def test_a_task_without_run_says_so() -> None:
    class Empty(TriggerTask):
        pass

    manager = manager_with(t_x={"after": ["a"], "run": Empty.name})
    manager.fire("a")
    ThreadingTaskRunner.join_all()
    assert "must define _run" in manager.storage["t_x#0"].metadata["exception"]["message"]


@trigger_task
def returning(context: TaskContext) -> Any:
    how = context.trigger_kwargs["a"]["how"]
    if how == "retry":
        return returning.retry()
    if how == "skip":
        return returning.skip()
    if how == "generator":
        return (each for each in "ab")
    return later() if how == "coroutine" else letters()


async def later() -> None:
    raise AssertionError("it is never run")


async def letters() -> AsyncIterator[str]:
    yield "a"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("retry", "TaskRetry is an exception; write 'raise', not 'return', before the retry(…)."),
        ("skip", "TaskSkip is an exception; write 'raise', not 'return', before the skip(…)."),
        ("generator", "got generator: the task is a generator, so a call does not run it; write a"),
        ("coroutine", "got coroutine: the task is async, so a call does not run it; write a plain"),
        ("letters", "got async_generator: the task is async, so a call does not run it; write"),
    ],
)
def test_what_is_no_result_says_what_to_write_instead(how: str, reason: str) -> None:
    manager = manager_with(t_x={"after": ["a"], "run": returning.name})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager.fire("a", {"how": how})
        ThreadingTaskRunner.join_all()
        gc.collect()
    failed = manager.storage["t_x#0"]
    assert failed.status == "failed"
    message = failed.metadata["exception"]["message"]
    assert message.startswith(f"the result of t_x#0: {reason}")


@pytest.mark.parametrize(
    "call",
    [
        lambda task: task(),
        lambda task: task({"order": 1}),
        lambda task: task(order=1),
        lambda task: task(manager={}, instance="t_x#0", order=1),
        lambda task: task.delay(),
        lambda task: task.delay({"order": 1}),
        lambda task: task.apply_async(kwargs={"order": 1, "instance": "t_x#0"}),
        lambda task: task.apply(throw=True),
    ],
)
def test_a_trigger_task_is_not_called_as_others_are(call: Any) -> None:
    reason = rf"^{plain_function.name} is a trigger task, which is started by firing what it waits"
    with pytest.raises(TypeError, match=reason):
        call(plain_function)


def test_celerys_own_retry_options_are_refused_with_the_one_to_use() -> None:
    with pytest.raises(TypeError, match="does not take countdown, eta; use cooldown"):
        Relay().retry(countdown=3, eta=None)


def test_one_instance_that_cannot_be_executed_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_that_raises.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    manager = manager_with(
        t_a={"after": ["a"], "run": "module_that_raises.Task"}, t_b={"after": ["a"]}
    )
    manager.default_task_runner_name = SynchronousTaskRunner.name
    manager.fire("a")
    assert statuses(manager) == {"t_a#0": "failed", "t_b#0": "finished"}
    assert "division by zero" in manager.storage["t_a#0"].metadata["exception"]["message"]


def test_what_cannot_be_executed_at_all_is_logged_and_left_to_recovery(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = manager_with(t_x={"after": ["a"]}, t_y={"after": ["a"]})
    manager.default_task_runner_name = SynchronousTaskRunner.name
    execute_all = BaseTaskRunner.execute

    def execute_others(self: BaseTaskRunner, manager: Any, instance: Any, **options: Any) -> None:
        if instance.name == "t_x#0":
            raise StorageUnavailable("memory", "it is down")
        execute_all(self, manager, instance, **options)

    for runner in (SynchronousTaskRunner, ThreadingTaskRunner):
        monkeypatch.setattr(runner, "execute", execute_others)
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "scheduled", "t_y#0": "finished"}
    ThreadingTaskRunner().run(manager, manager.storage["t_x#0"])
    ThreadingTaskRunner.join_all(30)
    records = [each for each in caplog.records if vars(each).get("action") == "execute"]
    assert [each.getMessage() for each in records] == [
        f"t_x#0 could not be executed; recovery will try again (session {manager.storage.uid!r})"
    ] * 2
    assert {(vars(each)["instance"], each.levelname) for each in records} == {("t_x#0", "ERROR")}
    assert all(each.exc_info is not None for each in records)


@pytest.mark.parametrize("cooldown", [-1, 1e13, float("inf")])
def test_a_cooldown_that_makes_no_sense_fails_the_task(cooldown: float) -> None:
    class Impatient(TriggerTask):
        def _run(self, context: TaskContext) -> None:
            raise self.retry(ValueError("x"), cooldown=cooldown)

    manager = manager_with(t_x={"after": ["a"], "run": Impatient.name})
    manager.default_task_runner_name = SynchronousTaskRunner.name
    manager.fire("a")
    assert statuses(manager) == {"t_x#0": "failed"}
    del current_app.tasks[Impatient.name]


def test_a_worker_that_comes_a_little_early_waits() -> None:
    manager = manager_with(t_f={"after": ["a"], "run": Flaky.name, "using": "celery"})
    storage = manager.storage
    storage.create_instance("t_f", kwargs={"a": {}})
    key, soon = ("t_f", 0), timedelta(seconds=0.3)
    storage.transact(Claim(key=key, token="1"))
    storage.transact(Retry(key=key, token="1", cooldown=soon))
    started = time.monotonic()
    attempt = claim(manager, "t_f#1")
    assert attempt is not None
    assert time.monotonic() - started >= 0.2
    storage.transact(Retry(key=("t_f", 1), token=attempt.token, cooldown=timedelta(hours=1)))
    assert claim(manager, "t_f#2") is None
    assert statuses(manager)["t_f#2"] == "scheduled"


def test_a_status_that_does_not_exist_is_refused_with_those_that_do() -> None:
    manager = manager_with(t_x={"after": ["a", "b"]})
    manager.fire("a")
    with pytest.raises(ValueError, match="no status 'runing'; did you mean 'running'") as caught:
        manager.update_instance_status("t_x#0", "runing")
    assert str(caught.value).endswith(", failed, replayed, skipped, abandoned.")
    with pytest.raises(ValueError, match=r"^there is no status 7\. There are: unstarted, "):
        manager.storage.create_instance("t_x", status=7)  # type: ignore[arg-type]
    assert statuses(manager) == {"t_x#0": "unstarted"}


@pytest.mark.parametrize(
    "change",
    [
        lambda manager, name: manager.replay_failed_instance(name),
        lambda manager, name: manager.skip_failed_instance(name),
        lambda manager, name: manager.update_instance_status(name, "skipped"),
        lambda manager, name: manager.update_instance_status(name, "failed"),
        lambda manager, name: manager.update_instance_metadata(name, {"n": 1}),
        lambda manager, name: manager.mark_instance_logs_resolved(name),
    ],
)
def test_an_instance_that_is_not_there_is_refused_with_those_that_are(change: Any) -> None:
    manager = manager_with(t_x={"after": ["a", "b"]})
    manager.fire("a")
    with pytest.raises(InstanceNotFound) as caught:
        change(manager, "t_x#7")
    assert str(caught.value).endswith("has no such instance; known: t_x#0)")
    with pytest.raises(InstanceNotFound) as caught:
        change(manager, "t_xx#0")
    assert str(caught.value).endswith("(known: t_x; did you mean 't_x'?))")
    assert caught.value.__suppress_context__, "it is told once"
    assert caught.value.instance == "t_xx#0"


def test_an_instance_that_comes_while_it_is_not_found_stays_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = manager_with(t_x={"after": ["a", "b"]})

    def refuse(_event: Any) -> Any:
        manager.storage.create_instance("t_x")
        raise InstanceNotFound("t_x#0", "not yet")

    monkeypatch.setattr(manager, "apply", refuse)
    with pytest.raises(InstanceNotFound, match="not yet"):
        manager.skip_failed_instance("t_x#0")
    with pytest.raises(InstanceNotFound, match=r"'t_x#0' \(not yet\)"):
        manager.skip_failed_instance("t_x#1")


@pytest.mark.parametrize(
    "options", [{"kwargs": {"a": 5}}, {"status": "nonsense"}, {"status": "finished"}]
)
def test_an_instance_that_cannot_be_made_is_not_made(options: dict[str, Any]) -> None:
    manager = manager_with(t_x={"after": ["a", "b"]})
    with pytest.raises((ValueError, TypeError)):
        manager.storage.create_instance("t_x", **options)
    assert statuses(manager) == {}


def test_an_empty_idempotency_key_is_refused() -> None:
    manager = manager_with(t_x={"andEvery": "p"})
    with pytest.raises(InvalidTrigger, match="an idempotency key must not be empty"):
        manager.fire("p", idempotency_key="")


def test_a_forked_process_has_threads_of_its_own() -> None:
    manager = manager_with(t_x={"andEvery": "p"})
    manager.fire("p")
    ThreadingTaskRunner.join_all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads, on purpose
        child = os.fork()
    if not child:
        try:
            manager.fire("p")
            ThreadingTaskRunner.join_all(timeout=30)
            os._exit(0 if statuses(manager)["t_x#1"] == "finished" else 1)
        finally:
            os._exit(2)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_an_abstract_base_of_tasks_is_not_registered() -> None:
    class Base(TriggerTask):
        abstract = True

    class Concrete(Base):
        pass

    assert f"{__name__}.Base" not in current_app.tasks
    assert current_app.tasks[f"{__name__}.Concrete"].name == Concrete.name
