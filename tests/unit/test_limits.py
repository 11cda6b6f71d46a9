"""What bounds a session: which limits can be set, and what happens where they are reached."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.unit.pure_session import PureSession
from triggers.engine import Hooks
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Finish
from triggers.exceptions import PayloadTooLarge, SessionFull, SettingsError
from triggers.limits import DEFAULT_LIMITS, Limits
from triggers.manager import TriggerManager, manager_from, trigger_managers
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, TriggerTask
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded
from triggers.types import FireResult

OVERRIDDEN = Hooks("mine", frozenset({"fire"}))


class Verbose(TriggerTask):
    """Returns more than a session takes that allows 200 bytes."""

    def _run(self, context: TaskContext) -> dict[str, Any]:
        return {"text": "x" * 200}


class PassingManager(TriggerManager):
    """Overrides ``fire``, so that cascades come through it."""

    name = "test-limits-passing"

    def fire(self, trigger_name: str, *args: Any, **kwargs: Any) -> FireResult:
        return super().fire(trigger_name, *args, **kwargs)


@pytest.fixture(autouse=True)
def _in_place() -> Iterator[None]:
    trigger_managers.register(PassingManager)
    with run_tasks_locally("synchronous"):
        yield
    trigger_managers.unregister(PassingManager.name)
    MemoryStorageBackend.clear()


def limited(manager: type[TriggerManager] = TriggerManager, **limits: Any) -> TriggerManager:
    return manager(MemoryStorageBackend(uuid4().hex, **limits))


# -- the numbers --------------------------------------------------------------------------------


def test_the_limits_are_what_the_documentation_says() -> None:
    assert (
        Limits(
            payload_limit=1024 * 1024,
            firings_limit=100_000,
            lease=60,
            heartbeat=15,
            attempts=3,
            server_timeout=5,
        )
        == DEFAULT_LIMITS
    )
    assert DEFAULT_LIMITS.chosen() == {}
    assert DEFAULT_LIMITS.lease_time == timedelta(minutes=1)


@pytest.mark.parametrize("name", ["payload_limit", "firings_limit", "attempts"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "3", None, True])
def test_a_limit_that_counts_must_be_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be an int of at least 1, got "):
        MemoryStorageBackend("s", **{name: value})


@pytest.mark.parametrize("name", ["lease", "heartbeat", "server_timeout"])
@pytest.mark.parametrize(
    "value", [0, -0.5, "3", None, True, float("nan"), float("inf"), timedelta(seconds=3)]
)
def test_a_limit_of_time_must_be_a_number_of_seconds_above_zero(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be a number of seconds above 0, got "):
        MemoryStorageBackend("s", **{name: value})


@pytest.mark.parametrize(("lease", "heartbeat"), [(60, 31), (20, 15), (1, 0.6)])
def test_one_lost_heartbeat_must_not_cost_a_lease(lease: float, heartbeat: float) -> None:
    with pytest.raises(SettingsError, match="at most half of lease"):
        Limits(lease=lease, heartbeat=heartbeat)
    Limits(lease=lease, heartbeat=lease / 2)


def test_an_unknown_limit_is_refused_where_the_storage_is_opened() -> None:
    with pytest.raises(SettingsError, match="'leese'; did you mean 'lease'"):
        MemoryStorageBackend("s", leese=3)  # type: ignore[call-arg]


def test_limits_that_were_chosen_travel_to_the_workers() -> None:
    chosen = {"lease": 2.5, "heartbeat": 1, "attempts": 7, "firings_limit": 9}
    manager = limited(**chosen)
    assert manager.storage.options == chosen
    elsewhere = manager_from(json.loads(json.dumps(manager.reference())))
    assert elsewhere.storage.limits == manager.storage.limits
    assert elsewhere.storage.limits.lease_time == timedelta(seconds=2.5)


# -- firings ------------------------------------------------------------------------------------


def test_a_full_session_refuses_firings_and_says_what_to_do() -> None:
    manager = limited(firings_limit=2)
    manager.fire("a", idempotency_key="k")
    manager.fire("b")
    with pytest.raises(SessionFull) as caught:
        manager.fire("c")
    assert (caught.value.limit, caught.value.uid) == (2, manager.storage.uid)
    assert "Begin another session, or raise OPTIONS['firings_limit']" in str(caught.value)
    assert manager.storage.standing().seq == 2
    assert manager.fire("a", idempotency_key="k").duplicate


def test_in_a_full_session_what_has_begun_goes_on() -> None:
    session = PureSession(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    session.do(Fire(trigger="a", limit=1))
    with pytest.raises(SessionFull):
        session.do(Fire(trigger="a", limit=1))
    session.run("t_x#0")
    assert session.statuses() == {"t_x#0": "finished", "t_y#0": "scheduled"}


def test_a_firing_that_was_promised_in_a_transaction_is_decided_in_a_full_session() -> None:
    session = PureSession()
    session.fire("a")
    assert session.do(Fire(trigger="b", limit=1, deferred=True)).outcome.seq == 2


def test_a_pending_cascade_is_fired_in_a_full_session() -> None:
    session = PureSession(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    session.fire("a")
    session.start("t_x#0")
    session.do(Finish(key=("t_x", 0), token="t_x#0", hooks=OVERRIDDEN))
    [ref] = session.state.pending
    cascade = Fire(trigger="t_x", cause="t_x#0", settles=ref, depth=1, limit=1, hooks=OVERRIDDEN)
    assert session.do(cascade).outcome.scheduled == ("t_y#0",)


@pytest.mark.parametrize("cls", [TriggerManager, PassingManager])
def test_the_limit_is_for_firings_from_outside_whoever_overrides_fire(
    cls: type[TriggerManager],
) -> None:
    manager = limited(cls, firings_limit=2)
    after = {"t_x": ["a"], "t_y": ["t_x"], "t_z": ["t_y"]}
    manager.update_configuration(
        {name: {"after": names, "run": Recorded.name} for name, names in after.items()}
    )
    manager.fire("a")
    assert {each.name: str(each.status) for each in manager.storage} == dict.fromkeys(
        ["t_x#0", "t_y#0", "t_z#0"], "finished"
    )
    assert manager.storage.standing().seq == 4
    with pytest.raises(SessionFull):
        manager.fire("b")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if getattr(each, "action", None) == "limit" and each.levelno == logging.WARNING
    ]


def test_warnings_are_logged_long_before_the_limit_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = limited(firings_limit=100)
    seen = {}
    for number in range(1, 101):
        caplog.clear()
        manager.fire("a")
        if found := warnings_of(caplog):
            seen[number] = found
    assert list(seen) == [50, 80, 95]
    session = repr(manager.storage.uid)
    assert seen[80] == [
        f"Session {session} has recorded 80 of the 100 firings that it may; then fire refuses"
    ]


def test_a_cascade_that_passes_a_mark_is_warned_about_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = limited(firings_limit=4)
    manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
    manager.fire("a")
    [message] = warnings_of(caplog)
    assert "2 of the 4" in message
    [record] = [each for each in caplog.records if getattr(each, "action", "") == "limit"]
    assert record.session == manager.storage.uid


# -- payloads -----------------------------------------------------------------------------------


def test_kwargs_up_to_the_limit_are_taken_and_one_byte_more_is_refused() -> None:
    manager = limited(payload_limit=20)
    text = "x" * (20 - len('{"t":""}'))
    manager.fire("a", {"t": text})
    with pytest.raises(PayloadTooLarge, match="the limit is 20"):
        manager.fire("a", {"t": text + "x"})
    assert manager.storage.standing().seq == 1


def test_bytes_are_counted_and_not_characters() -> None:
    manager = limited(payload_limit=20)
    with pytest.raises(PayloadTooLarge):
        manager.fire("a", {"t": "ü" * 12})


def test_a_result_that_is_too_large_fails_the_instance() -> None:
    manager = limited(payload_limit=200)
    manager.update_configuration({"t_x": {"after": ["a"], "run": Verbose.name}})
    manager.fire("a")
    instance = manager.storage["t_x#0"]
    assert instance.status == "failed"
    assert instance.metadata["exception"]["type"] == "triggers.exceptions.PayloadTooLarge"


def test_a_result_to_cascade_by_hand_is_bounded_too() -> None:
    manager = limited(payload_limit=200)
    manager.update_configuration({"t_x": {"after": ["a"], "run": Verbose.name}})
    manager.fire("a")
    with pytest.raises(PayloadTooLarge):
        manager.skip_failed_instance("t_x#0", cascade=True, result={"text": "x" * 200})
    assert manager.storage["t_x#0"].status == "failed"
