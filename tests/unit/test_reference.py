"""Examples worked out by hand from the documents, which hold the reference model itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reference import ReferenceSession, RefusedError

QUESTIONNAIRE: dict[str, dict[str, Any]] = {
    "t_importSubject": {
        "after": ["firstPageReceived", "questionnaireComplete"],
        "run": "app.tasks.ImportSubject",
    },
    "t_importResponses": {
        "after": ["t_importSubject"],
        "andEvery": "pageReceived",
        "run": "app.tasks.ImportResponses",
    },
    "t_importBrowserMetadata": {
        "after": ["t_importSubject", "pageReceived"],
        "unless": ["isEmbeddedApplication"],
        "run": "app.tasks.ImportBrowserMetadata",
    },
}


def questionnaire() -> ReferenceSession:
    session = ReferenceSession()
    session.configure(QUESTIONNAIRE)
    return session


def session_with(**tasks: dict[str, Any]) -> ReferenceSession:
    session = ReferenceSession()
    session.configure(tasks)
    return session


def statuses(session: ReferenceSession) -> dict[str, str]:
    return {name: instance["status"] for name, instance in session.snapshot()["instances"].items()}


def kwargs_of(session: ReferenceSession, name: str) -> dict[str, Any]:
    return session.snapshot()["instances"][name]["kwargs"]


def failed_subject() -> ReferenceSession:
    session = questionnaire()
    session.fire("firstPageReceived", {"responses": 1})
    session.fire("questionnaireComplete")
    session.start("t_importSubject#0")
    session.fail("t_importSubject#0")
    return session


def test_a_configured_session_has_no_instances_until_something_is_fired() -> None:
    assert questionnaire().snapshot() == {"instances": {}, "fired": []}


def test_the_questionnaire_runs_from_its_first_page_to_its_last_task() -> None:
    session = questionnaire()

    session.fire("firstPageReceived", {"responses": 1})
    assert statuses(session) == {"t_importSubject#0": "unstarted"}

    session.fire("pageReceived", {"page": 1})
    session.fire("pageReceived", {"page": 2})
    assert statuses(session) == {
        "t_importSubject#0": "unstarted",
        "t_importResponses#0": "unstarted",
        "t_importResponses#1": "unstarted",
        "t_importBrowserMetadata#0": "unstarted",
    }

    session.fire("questionnaireComplete")
    assert statuses(session)["t_importSubject#0"] == "scheduled"
    assert kwargs_of(session, "t_importSubject#0") == {
        "firstPageReceived": {"responses": 1},
        "questionnaireComplete": {},
    }

    session.start("t_importSubject#0")
    assert statuses(session)["t_importSubject#0"] == "running"
    session.finish("t_importSubject#0", {"subjectId": 42})
    session.fire("pageReceived", {"page": 3})
    assert statuses(session) == {
        "t_importSubject#0": "finished",
        "t_importResponses#0": "scheduled",
        "t_importResponses#1": "scheduled",
        "t_importResponses#2": "scheduled",
        "t_importBrowserMetadata#0": "scheduled",
    }
    assert [kwargs_of(session, f"t_importResponses#{n}") for n in range(3)] == [
        {"t_importSubject": {"subjectId": 42}, "pageReceived": {"page": page}} for page in (1, 2, 3)
    ]
    assert kwargs_of(session, "t_importBrowserMetadata#0") == {
        "t_importSubject": {"subjectId": 42},
        "pageReceived": {"page": 1},
    }
    assert session.snapshot()["fired"] == [
        ("firstPageReceived", {"responses": 1}),
        ("pageReceived", {"page": 1}),
        ("pageReceived", {"page": 2}),
        ("questionnaireComplete", {}),
        ("t_importSubject", {"subjectId": 42}),
        ("pageReceived", {"page": 3}),
    ]


def test_an_embedded_application_abandons_the_browser_metadata_for_good() -> None:
    session = questionnaire()
    session.fire("isEmbeddedApplication", {"ignored": True})
    assert session.snapshot()["instances"] == {
        "t_importBrowserMetadata#0": {"status": "abandoned", "kwargs": {}, "parent": None}
    }
    session.fire("pageReceived")
    session.fire("t_importSubject")
    assert statuses(session) == {
        "t_importBrowserMetadata#0": "abandoned",
        "t_importResponses#0": "scheduled",
    }


def test_unless_comes_too_late_for_what_is_already_scheduled() -> None:
    session = questionnaire()
    session.fire("pageReceived")
    session.fire("t_importSubject")
    session.fire("isEmbeddedApplication")
    assert statuses(session) == {
        "t_importResponses#0": "scheduled",
        "t_importBrowserMetadata#0": "scheduled",
    }


def test_unless_needs_all_of_its_triggers() -> None:
    session = session_with(t_x={"after": ["a"], "unless": ["u", "v"]})
    session.fire("u")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("v")
    assert statuses(session) == {"t_x#0": "abandoned"}


def test_unless_wins_when_the_same_firing_fulfils_after_too() -> None:
    session = session_with(t_x={"after": ["a", "b"], "unless": ["b"]})
    session.fire("a", {"n": 1})
    session.fire("b", {"n": 2})
    assert session.snapshot()["instances"] == {
        "t_x#0": {"status": "abandoned", "kwargs": {"a": {"n": 1}, "b": {"n": 2}}, "parent": None}
    }


def test_a_second_firing_neither_runs_a_one_shot_task_again_nor_replaces_its_kwargs() -> None:
    session = session_with(t_x={"after": ["a", "b"]})
    session.fire("a", {"n": 1})
    session.fire("a", {"n": 2})
    session.fire("b")
    session.fire("a", {"n": 3})
    session.fire("b")
    assert session.snapshot()["instances"] == {
        "t_x#0": {"status": "scheduled", "kwargs": {"a": {"n": 1}, "b": {}}, "parent": None}
    }


def test_every_further_and_every_firing_carries_the_latest_of_the_other_triggers_in() -> None:
    session = session_with(t_x={"after": ["a"], "andEvery": "p"})
    session.fire("a", {"n": 1})
    session.fire("p", {"n": 2})
    session.fire("a", {"n": 3})
    session.fire("p", {"n": 4})
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "scheduled"}
    assert kwargs_of(session, "t_x#0") == {"a": {"n": 1}, "p": {"n": 2}}
    assert kwargs_of(session, "t_x#1") == {"a": {"n": 3}, "p": {"n": 4}}


def test_a_waiting_instance_absorbs_the_and_every_trigger_instead_of_a_new_one() -> None:
    session = session_with(t_x={"after": ["a", "b"], "andEvery": "p"})
    session.fire("a")
    session.fire("p")
    assert statuses(session) == {"t_x#0": "unstarted"}
    session.fire("p")
    assert statuses(session) == {"t_x#0": "unstarted", "t_x#1": "unstarted"}
    session.fire("b")
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "scheduled"}


def test_what_unless_saw_is_carried_into_later_instances_too() -> None:
    session = session_with(t_x={"after": [], "andEvery": "p", "unless": ["u"]})
    session.fire("p")
    session.fire("u")
    session.fire("p")
    assert statuses(session) == {"t_x#0": "scheduled", "t_x#1": "abandoned"}


def test_a_task_that_waits_for_itself_starts_again_each_time_it_finishes() -> None:
    session = session_with(t_x={"after": ["a"], "andEvery": "t_x"})
    session.fire("a")
    session.fire("t_x", {"n": 0})
    session.start("t_x#0")
    session.finish("t_x#0", {"n": 1})
    assert statuses(session) == {"t_x#0": "finished", "t_x#1": "scheduled"}
    assert kwargs_of(session, "t_x#1") == {"a": {}, "t_x": {"n": 1}}


def test_the_first_configuration_behaves_as_if_it_had_been_there_all_the_time() -> None:
    session = ReferenceSession()
    for n in range(3):
        session.fire("pageReceived", {"page": n})
    session.fire("t_importSubject")
    session.configure(QUESTIONNAIRE)
    assert statuses(session) == {
        "t_importResponses#0": "scheduled",
        "t_importResponses#1": "scheduled",
        "t_importResponses#2": "scheduled",
        "t_importBrowserMetadata#0": "scheduled",
    }
    assert kwargs_of(session, "t_importBrowserMetadata#0")["pageReceived"] == {"page": 0}
    assert kwargs_of(session, "t_importResponses#2")["pageReceived"] == {"page": 2}


def test_a_later_configuration_waits_for_a_firing_that_brings_the_latest_ones_with_it() -> None:
    session = session_with(t_x={"after": ["a"]})
    session.fire("b", {"n": 1})
    session.fire("b", {"n": 2})
    session.configure({"t_late": {"after": ["b", "c"]}})
    assert statuses(session) == {}
    session.fire("c", {"n": 3})
    assert session.snapshot()["instances"] == {
        "t_late#0": {
            "status": "scheduled",
            "kwargs": {"b": {"n": 2}, "c": {"n": 3}},
            "parent": None,
        }
    }


def test_a_later_configuration_looks_back_when_it_is_asked_to() -> None:
    session = session_with(t_x={"after": ["a"]})
    session.fire("b", {"n": 1})
    session.fire("b", {"n": 2})
    session.configure({"t_late": {"after": ["b", "c"]}}, apply_history=True)
    session.fire("c", {"n": 3})
    assert session.snapshot()["instances"] == {
        "t_late#0": {
            "status": "scheduled",
            "kwargs": {"b": {"n": 1}, "c": {"n": 3}},
            "parent": None,
        }
    }


def test_a_task_that_was_loaded_without_a_look_back_can_still_have_one() -> None:
    session = session_with(t_x={"after": ["b"]})
    session.fire("b", {"n": 1})
    session.configure({"t_late": {"after": ["b"]}})
    session.configure({"t_late": {"after": ["b"]}}, apply_history=True)
    assert statuses(session) == {"t_x#0": "scheduled", "t_late#0": "scheduled"}


def test_loading_the_same_configuration_again_changes_nothing() -> None:
    session = questionnaire()
    session.fire("pageReceived")
    session.fire("t_importSubject")
    before = session.snapshot()
    session.configure(QUESTIONNAIRE)
    session.configure(QUESTIONNAIRE, apply_history=True)
    assert session.snapshot() == before


def test_a_replay_is_a_new_instance_with_the_kwargs_of_its_parent() -> None:
    session = failed_subject()
    assert session.replay("t_importSubject#0") == "t_importSubject#1"
    first, second = "t_importSubject#0", "t_importSubject#1"
    kwargs = {"firstPageReceived": {"responses": 1}, "questionnaireComplete": {}}
    assert session.snapshot()["instances"] == {
        first: {"status": "replayed", "kwargs": kwargs, "parent": None},
        second: {"status": "scheduled", "kwargs": kwargs, "parent": first},
    }


def test_replacement_kwargs_are_used_instead_of_the_old_ones_not_merged_into_them() -> None:
    session = failed_subject()
    session.replay("t_importSubject#0", {"firstPageReceived": {"responses": 2}})
    assert kwargs_of(session, "t_importSubject#1") == {"firstPageReceived": {"responses": 2}}
    assert kwargs_of(session, "t_importSubject#0")["firstPageReceived"] == {"responses": 1}


def test_a_retry_from_inside_gives_the_next_number_and_only_its_success_cascades() -> None:
    session = session_with(t_x={"after": ["a"], "andEvery": "p"}, t_y={"after": ["t_x"]})
    session.fire("a")
    session.fire("p", {"n": 1})
    session.fire("p", {"n": 2})
    session.start("t_x#0")
    assert session.retry("t_x#0", {"a": {}, "p": {"n": 9}}) == "t_x#2"
    assert statuses(session) == {"t_x#0": "replayed", "t_x#1": "scheduled", "t_x#2": "scheduled"}
    assert kwargs_of(session, "t_x#2") == {"a": {}, "p": {"n": 9}}
    session.start("t_x#2")
    session.finish("t_x#2", {"done": True})
    assert kwargs_of(session, "t_y#0") == {"t_x": {"done": True}}


def test_skipping_fires_the_name_only_if_a_failed_instance_is_asked_to_cascade() -> None:
    session = failed_subject()
    session.skip_failed("t_importSubject#0")
    assert "t_importSubject" not in dict(session.fired)

    session = failed_subject()
    session.skip_failed("t_importSubject#0", cascade=True, result={"subjectId": 42})
    assert session.fired[-1] == ("t_importSubject", {"subjectId": 42})
    assert statuses(session)["t_importSubject#0"] == "skipped"
    assert statuses(session)["t_importResponses#0"] == "unstarted"

    session = session_with(t_x={"after": ["a"]})
    session.fire("a")
    session.start("t_x#0")
    session.skip("t_x#0")
    assert statuses(session) == {"t_x#0": "skipped"}
    assert session.fired == [("a", {}), ("t_x:skipped", {})]


def test_each_failure_skip_and_abandonment_is_recorded_and_no_retry() -> None:
    session = session_with(
        t_x={"after": [], "andEvery": "a"}, t_y={"after": ["b"], "unless": ["u"]}
    )
    for n in (1, 2):
        session.fire("a", {"n": n})
    session.start("t_x#0")
    session.retry("t_x#0")
    session.start("t_x#2")
    session.fail("t_x#2")
    session.skip_failed("t_x#2", result={"n": 3})
    session.start("t_x#1")
    session.fail("t_x#1")
    session.skip_failed("t_x#1", cascade=True)
    session.fire("u")
    assert session.fired == [
        ("a", {"n": 1}),
        ("a", {"n": 2}),
        ("t_x:failed", {"kwargs": {"a": {"n": 1}}, "attempt": 2}),
        ("t_x:skipped", {"n": 3}),
        ("t_x:failed", {"kwargs": {"a": {"n": 2}}, "attempt": 1}),
        ("t_x", {}),
        ("u", {}),
        ("t_y:abandoned", {"reason": "unless"}),
    ]


def test_the_same_key_does_nothing_twice_and_is_refused_with_other_kwargs() -> None:
    session = session_with(t_x={"after": [], "andEvery": "p"})
    assert session.fire("p", {"n": 1}, key="evt_1")
    assert not session.fire("p", {"n": 1}, key="evt_1")
    assert statuses(session) == {"t_x#0": "scheduled"}
    with pytest.raises(RefusedError):
        session.fire("p", {"n": 2}, key="evt_1")
    assert session.fire("q", {"n": 2}, key="evt_1")
    assert session.fire("p", {"n": 1}, key="evt_2")
    assert session.fire("p", {"n": 1})
    assert session.fired == [("p", {"n": 1}), ("q", {"n": 2}), ("p", {"n": 1}), ("p", {"n": 1})]


@pytest.mark.parametrize("operation", ["finish", "fail", "retry", "skip", "replay", "skip_failed"])
def test_what_is_only_scheduled_can_be_started_and_nothing_else(
    operation: str,
) -> None:
    session = session_with(t_x={"after": ["a"]})
    session.fire("a")
    before = session.snapshot()
    with pytest.raises(RefusedError):
        getattr(session, operation)("t_x#0", *([{}] if operation == "finish" else []))
    assert session.snapshot() == before


@pytest.mark.parametrize("ending", ["finish", "fail", "retry", "skip"])
def test_an_instance_is_started_only_once(ending: str) -> None:
    session = session_with(t_x={"after": ["a"]})
    session.fire("a")
    session.start("t_x#0")
    with pytest.raises(RefusedError):
        session.start("t_x#0")
    getattr(session, ending)("t_x#0", *([{}] if ending == "finish" else []))
    with pytest.raises(RefusedError):
        session.start("t_x#0")


def test_a_snapshot_is_a_copy() -> None:
    session = session_with(t_x={"after": ["a", "b"]})
    session.fire("a", {"n": [1]})
    first = session.snapshot()
    first["instances"]["t_x#0"]["kwargs"]["a"]["n"].append(2)
    first["fired"].clear()
    assert kwargs_of(session, "t_x#0") == {"a": {"n": [1]}}
    assert session.snapshot()["fired"] == [("a", {"n": [1]})]
