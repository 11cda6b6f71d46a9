"""Row P13: what waits for what, why did this not run, why did it, and what came of a firing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.division import DIVIDE
from tests.acceptance.rows.sessions import explode, reopened, show, statuses
from triggers.explain import (
    FiringExplanation,
    InstanceExplanation,
    SessionExplanation,
    TaskExplanation,
)
from triggers.explain.values import Conditions, Decision
from triggers.manager import TriggerManager
from triggers.testing import frozen_time

SHOW = {"run": show.name}
START = datetime(2026, 11, 21, 12, tzinfo=UTC)

ACCOUNT: dict[str, Any] = {
    "t_open": {
        "after": [
            "signed",
            {"any": ["paid", {"atLeast": 2, "of": ["passport", "licence", "birth"]}]},
            {"trigger": "page", "times": 3},
        ],
        "unless": {"any": ["fraud", ["late", "unpaid"]]},
        "when": {"paid": {"amount": {"gte": 10}}},
        "within": "PT72H",
        **SHOW,
    },
    "t_other": {"after": ["never"], **SHOW},
}


@pytest.fixture(autouse=True)
def _at_the_start() -> Iterator[None]:
    with frozen_time(START):
        yield


@pytest.fixture
def account(new_session: NewSession) -> TriggerManager:
    manager = new_session(ACCOUNT)
    manager.fire("signed", {"by": "me"})
    with frozen_time(START + timedelta(hours=1)):
        manager.fire("paid", {"amount": 3})
        manager.fire("page", {"n": 1})
        manager.fire("late")
        manager.fire("passport")
    return reopened(manager)


def of_task(manager: TriggerManager, task: str) -> TaskExplanation:
    found = manager.explain(task)
    assert isinstance(found, TaskExplanation)
    return found


def of_instance(manager: TriggerManager, name: str) -> InstanceExplanation:
    found = manager.explain(name)
    assert isinstance(found, InstanceExplanation)
    return found


def conditions_of(manager: TriggerManager, name: str) -> Conditions:
    found = of_instance(manager, name).conditions
    assert found is not None
    return found


def decision_of(manager: TriggerManager, name: str) -> Decision:
    found = of_instance(manager, name).decision
    assert found is not None
    return found


def test_p13_what_holds_and_what_is_missing(account: TriggerManager) -> None:
    found = conditions_of(account, "t_open#0")
    assert found.verdict == "waits"
    signed, any_of, pages = found.ready.parts
    assert (signed.kind, signed.holds) == ("trigger", True)
    assert (any_of.kind, any_of.holds) == ("any", False)
    assert [(part.kind, part.have, part.needed) for part in any_of.parts] == [
        ("trigger", 0, 1),
        ("atLeast", 1, 2),
    ]
    assert (pages.kind, pages.holds, pages.have, pages.needed) == ("trigger", False, 1, 3)
    assert len(found.missing) == 2
    text = str(of_task(account, "t_open"))
    for words in ("paid", "licence", "birth", "1 of 3 held", "never fired"):
        assert words in text
    assert "t_open#0 waits for" in text


def test_p13_what_would_rule_it_out(account: TriggerManager) -> None:
    barred = conditions_of(account, "t_open#0").barred
    assert barred is not None
    assert (barred.kind, barred.holds) == ("any", False)
    fraud, both = barred.parts
    assert not fraud.holds
    assert [part.holds for part in both.parts] == [True, False]
    assert both.missing == ("unpaid",)


def test_p13_since_when_it_waits_and_which_deadline_is_next(account: TriggerManager) -> None:
    found = of_instance(account, "t_open#0")
    assert found.created_at == START
    assert found.created_by is not None
    assert (found.created_by.seq, found.created_by.names) == (1, ("signed",))
    deadline = conditions_of(account, "t_open#0").next
    assert deadline is not None
    assert (deadline.kind, deadline.at) == ("expires", START + timedelta(hours=72))
    assert not deadline.is_over
    with frozen_time(START + timedelta(hours=72)):
        over = conditions_of(account, "t_open#0")
        assert over.verdict == "expired"
        assert statuses(account) == {"t_open#0": "unstarted"}, "looking decides nothing"


def test_p13_which_firings_were_filtered_out_and_why(account: TriggerManager) -> None:
    [refused] = of_task(account, "t_open").filtered.latest
    assert (refused.task, refused.firing.seq, refused.firing.names) == ("t_open", 2, ("paid",))
    assert refused.reason == "filter on paid: amount gte 10, got 3"
    assert refused.reason in str(of_task(account, "t_open"))
    assert "filtered out" in str(of_task(account, "t_open"))


def test_p13_a_task_without_an_instance_says_what_would_make_one(account: TriggerManager) -> None:
    found = of_task(account, "t_other")
    assert (found.instances, found.made_by) == ((), ("never",))
    [name] = found.names
    assert (name.fired, name.latest, name.source) == (0, None, None)


def test_p13_a_name_that_nobody_fires_shows_what_may_have_been_meant(
    new_session: NewSession,
) -> None:
    manager = new_session({"t_x": {"after": ["firstPageReceived"], **SHOW}})
    manager.fire("firstPageRecieved")
    [name] = of_task(manager, "t_x").names
    assert (name.fired, name.meant) == (0, "firstPageRecieved")
    session = manager.explain()
    assert isinstance(session, SessionExplanation)
    assert [(each.name, each.fired) for each in session.unheard] == [("firstPageRecieved", 1)]


@pytest.mark.parametrize(
    ("fired", "reason"), [("fraud", "unless"), (None, "expired"), ("by hand", "by hand")]
)
def test_p13_why_something_will_never_run(
    account: TriggerManager, fired: str | None, reason: str
) -> None:
    with frozen_time(START + timedelta(hours=72 if fired is None else 2)):
        if fired == "by hand":
            account.update_instance_status("t_open#0", "abandoned")
        else:
            account.fire(fired or "other")
    found = decision_of(account, "t_open#0")
    assert (found.verb, found.reason) == ("abandoned", reason)
    causes = [link.firing.names for link in found.causes]
    assert causes == ([("fraud",)] if fired == "fraud" else [])
    assert "t_open#0 was abandoned" in str(account.explain("t_open#0"))


def test_p13_which_firing_made_it_run_and_what_had_led_to_that(new_session: NewSession) -> None:
    manager = new_session(
        {
            **DIVIDE,
            "t_help": {"after": ["t_divide:failed", "agreed"], **SHOW},
            "t_last": {"after": ["t_help:ended"], **SHOW},
        }
    )
    manager.fire("agreed")
    manager.fire("numbers", {"x": 4, "y": 0})
    found = decision_of(manager, "t_last#0")
    assert (found.verb, found.is_complete) == ("scheduled", True)
    steps = [(link.firing.names[0], link.firing.cause) for link in found.causes]
    assert steps == [
        ("t_help", "t_help#0"),
        ("t_divide:failed", "t_divide#0"),
        ("numbers", None),
    ]
    assert "t_divide#0" in str(manager.explain("t_last#0"))
    failure = of_instance(manager, "t_divide#0").failure
    assert failure is not None
    assert (failure.type, failure.message) == ("builtins.ZeroDivisionError", "division by zero")


def test_p13_a_retried_and_replayed_instance_shows_its_lineage(new_session: NewSession) -> None:
    manager = new_session({"t_x": {"after": ["a"], "run": explode.name}})
    manager.fire("a")
    manager.replay_failed_instance("t_x#0")
    first, second = of_instance(manager, "t_x#0"), of_instance(manager, "t_x#1")
    assert (first.replayed_as, second.parent, second.lineage) == ("t_x#1", "t_x#0", "t_x#0")


def test_p13_forward_what_a_firing_caused(new_session: NewSession) -> None:
    manager = new_session(
        {
            **DIVIDE,
            "t_help": {"after": ["t_divide:failed"], **SHOW},
            "t_picky": {"after": ["numbers"], "when": {"numbers": {"y": 1}}, **SHOW},
        }
    )
    seq = manager.fire("numbers", {"x": 4, "y": 0}).seq
    assert seq is not None
    found = manager.explain_firing(seq)
    assert isinstance(found, FiringExplanation)
    text = str(found)
    assert "numbers" in text
    for name in ("t_divide#0", "t_divide:failed", "t_help#0", "filtered out for t_picky"):
        assert name in text
    json.dumps(found.to_json())
    with pytest.raises(LookupError, match="99"):
        manager.explain_firing(99)


def test_p13_a_whole_session_is_explained_and_all_of_it_is_plain_json(
    account: TriggerManager,
) -> None:
    found = account.explain()
    assert isinstance(found, SessionExplanation)
    assert [task.name for task in found.tasks] == ["t_open", "t_other"]
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["kind"] == "session"
    assert plain["uid"] == account.storage.uid
    assert plain["tasks"][0]["instances"][0]["status"] == "unstarted"


def test_p13_of_a_closed_session_it_says_what_can_never_come(account: TriggerManager) -> None:
    account.close()
    found = account.explain("t_open#0")
    assert isinstance(found, InstanceExplanation)
    assert isinstance(found.conditions, Conditions)
    assert found.conditions.out_of_reach is not None
    assert "page" in found.conditions.out_of_reach.triggers
    assert "cannot be fired from outside any more, and no task runs that could" in str(found)


def test_p13_what_does_not_exist_is_named(account: TriggerManager) -> None:
    with pytest.raises(LookupError, match="did you mean 't_open'"):
        account.explain("t_opne")
    with pytest.raises(KeyError, match="t_open#7"):
        account.explain("t_open#7")


def test_p13_the_command_line_explains_the_same(account: TriggerManager, settings: Any) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": account.storage.name}}

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("triggers", "explain", account.storage.uid, *arguments, stdout=out)
        return out.getvalue().strip()

    assert run("t_open") == str(account.explain("t_open"))
    assert run() == str(account.explain())
    assert run("--firing", "2") == str(account.explain_firing(2))
    assert json.loads(run("t_open#0", "--json")) == account.explain("t_open#0").to_json()
    with pytest.raises(CommandError, match="t_nobody"):
        run("t_nobody")
