"""Row E11: sessions share nothing but code."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.sessions import at_the_same_time, got, reopened, show, statuses
from triggers.exceptions import InvalidUid
from triggers.manager import TriggerManager
from triggers.storages import storage_backends

TASKS = {"t_x": {"after": ["a", "b"], "run": show.name}}
UIDS = ["42", "applicant:42", "applicant:42:page", "Applicant:42", "späte Anmeldung/7 #1"]


def test_e11_what_happens_in_one_session_is_not_seen_in_another(new_session: NewSession) -> None:
    managers = [new_session(TASKS, uid=uid) for uid in UIDS]
    managers[0].fire("a", {"n": 1})
    managers[1].fire("b", {"n": 2})
    managers[1].fire("a", {"n": 3})
    assert statuses(managers[0]) == {"t_x#0": "unstarted"}
    assert statuses(managers[1]) == {"t_x#0": "finished"}
    assert [statuses(manager) for manager in managers[2:]] == [{}, {}, {}]
    managers[2].update_configuration({"t_y": {"after": ["c"], "run": show.name}})
    assert [len(reopened(manager).storage.tasks) for manager in managers] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize("uid", ["", None, 42, "x" * 256, "a\x00b"])
def test_e11_what_cannot_be_a_uid_is_refused(storage_name: str, uid: object) -> None:
    with pytest.raises(InvalidUid):
        storage_backends.get(storage_name, uid)


def compare_when_both_are_there(
    storage_name: str, questionnaire: str, request: HttpRequest
) -> HttpResponse:
    """The view of the documents: one session per questionnaire, and one above them."""
    trigger_manager = TriggerManager(storage_backends.get(storage_name, questionnaire))
    trigger_manager.fire("pageReceived", {"page": request.POST["page"]})
    super_trigger_manager = TriggerManager(
        storage_backends.get(storage_name, f"applicant:{request.POST['applicant']}")
    )
    super_trigger_manager.fire(
        f"{questionnaire}_page{request.POST['page']}", {"page": request.POST["page"]}
    )
    return HttpResponse()


def start_both(new_session: NewSession) -> tuple[TriggerManager, TriggerManager, TriggerManager]:
    pages = {"t_page": {"andEvery": "pageReceived", "run": show.name}}
    compare = {"t_compare": {"after": ["flora_page3", "fauna_page6"], "run": show.name}}
    return (
        new_session(pages, uid="flora"),
        new_session(pages, uid="fauna"),
        new_session(compare, uid="applicant:42"),
    )


@pytest.mark.parametrize("in_transaction", [False, True])
def test_e11_one_view_fires_into_two_sessions(
    new_session: NewSession,
    storage_name: str,
    request: pytest.FixtureRequest,
    in_transaction: bool,
) -> None:
    if in_transaction and storage_name == "memory":
        request.getfixturevalue("transactional_db")
    flora, fauna, above = start_both(new_session)
    requests = RequestFactory()
    for questionnaire, page in [("flora", 3), ("flora", 4), ("fauna", 6)]:
        assert statuses(above).get("t_compare#0") != "finished"
        view = partial(compare_when_both_are_there, storage_name, questionnaire)
        if in_transaction:
            view = transaction.atomic(view)
        view(requests.post("/responses", {"page": page, "applicant": 42}))
    assert statuses(flora) == {"t_page#0": "finished", "t_page#1": "finished"}
    assert statuses(fauna) == {"t_page#0": "finished"}
    assert got(above, "t_compare#0") == {"flora_page3": {"page": "3"}, "fauna_page6": {"page": "6"}}


def test_e11_views_of_two_questionnaires_at_once_compare_once(
    new_session: NewSession, storage_name: str
) -> None:
    _flora, _fauna, above = start_both(new_session)
    requests = RequestFactory()
    calls = [
        partial(
            compare_when_both_are_there,
            storage_name,
            questionnaire,
            requests.post("/responses", {"page": page, "applicant": 42}),
        )
        for questionnaire, page in [("flora", 3), ("fauna", 6)] * 3
    ]
    at_the_same_time(*calls)
    assert statuses(above) == {"t_compare#0": "finished"}
