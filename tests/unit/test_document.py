"""The stored form of a session: it loads for ever, and a newer one is left untouched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triggers import payload
from triggers.exceptions import SessionClosed, StateVersionError
from triggers.manager import TriggerManager
from triggers.storages.document import STATE_VERSION, dump_state, load_state, plain
from triggers.storages.memory import MemoryStorageBackend
from triggers.testing import run_tasks_locally
from triggers.testing.racing import Recorded

GOLDEN = Path(__file__).parent.parent / "golden"


def saved(path: Path) -> tuple[Any, Any, Any]:
    document = json.loads(path.read_text())
    return document["configs"], document["instances"], document["metas"]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("session_v*.json")), ids=lambda p: p.stem)
def test_sessions_that_older_versions_saved_load_and_go_on(path: Path) -> None:
    state = load_state("golden", *saved(path))
    expected = json.loads(path.with_suffix(".expected").read_text())
    found = {each.name: str(each.status) for each in state.instances.values()}
    assert found == expected["statuses"]
    assert state.seq == expected["seq"]
    storage = MemoryStorageBackend("golden")
    storage._session().state = state
    if "phase" in expected:
        assert state.phase == expected["phase"]
        with pytest.raises(SessionClosed, match=expected["phase"]):
            TriggerManager(storage).fire("second")
        storage.delete()
        return
    with run_tasks_locally("synchronous"):
        TriggerManager(storage).fire("second")
    assert storage["t_join#0"].status == "finished"
    assert storage["t_join#0"].kwargs == payload.decode(json.dumps(expected["kwargs"]))
    fired = [each.trigger for each in storage.find_firings()][expected["seq"] :]
    assert fired == ["second", *expected.get("ending", ["t_join"])]
    storage.delete()


def test_the_present_version_has_a_golden_file() -> None:
    assert (GOLDEN / f"session_v{STATE_VERSION}.json").exists()


def test_a_session_has_a_version_no_higher_than_it_needs() -> None:
    storage = MemoryStorageBackend("needed")
    manager = TriggerManager(storage)
    found = []
    for change in (
        lambda: manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}}),
        lambda: manager.update_configuration({}, finalize=True),
        lambda: manager.update_configuration({}, finalize=False),
        manager.close,
    ):
        change()
        metas = dump_state(storage._session().state)
        found.append((metas["version"], "finalizes" in metas))
    assert found == [(2, False), (4, True), (2, False), (3, False)]
    storage.delete()


def test_saving_and_loading_changes_nothing() -> None:
    storage = MemoryStorageBackend("saved")
    with run_tasks_locally("synchronous"):
        manager = TriggerManager(storage)
        manager.update_configuration(
            {
                "t_x": {"after": ["a"], "andEvery": "p", "run": "no.task"},
                "t_y": {"after": ["t_x:failed", "never"], "within": "PT1H", "run": "no.task"},
                "t_z": {
                    "after": [{"trigger": "p", "times": 3}],
                    "when": {"p": {"n": 1}},
                    "run": "no.task",
                },
            }
        )
        manager.fire("p", {"n": 1}, idempotency_key="k")
        manager.fire("p", {"n": 2})
        manager.fire("p", {"n": 1})
        manager.fire("a")
        manager.replay_failed_instance("t_x#0", {"p": {"n": 2}})
        manager.skip_failed_instance("t_x#1", cascade=True)
    state = storage._session().state
    instances = plain({each.name: each for each in storage})
    records = state.instances.values()
    assert any(each.counted for each in records), "something is counted"
    assert any(each.told for each in records), "somebody was told"
    assert any(each.timer_at for each in records), "something is due"
    assert state.passed
    assert any(each.also and not each.refused for each in state.firings.values())
    assert any(each.refused for each in state.firings.values())
    manager.update_configuration({}, finalize=True)
    text = json.dumps([plain(state.plan.configuration.tasks), instances, dump_state(state)])
    assert load_state("saved", *json.loads(text)) == state
    storage.delete()


def test_a_newer_version_is_left_untouched() -> None:
    with pytest.raises(StateVersionError, match="Upgrade the triggers package") as caught:
        load_state("s", {}, {}, {"version": STATE_VERSION + 1})
    assert (caught.value.found, caught.value.known) == (STATE_VERSION + 1, STATE_VERSION)


@pytest.mark.django_db(transaction=True)
def test_a_newer_version_in_the_database_is_left_untouched() -> None:
    from triggers.models import Firing, Session
    from triggers.storages.database import DatabaseStorageBackend

    manager = TriggerManager(DatabaseStorageBackend("newer"))
    manager.update_configuration({"t_x": {"after": ["a"], "run": Recorded.name}})
    Session.objects.filter(uid="newer").update(version=STATE_VERSION + 1)
    before = Session.objects.filter(uid="newer").values().get()
    with pytest.raises(StateVersionError):
        manager.fire("a")
    assert Session.objects.filter(uid="newer").values().get() == before
    assert not Firing.objects.exists()
