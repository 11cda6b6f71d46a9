"""Rows Q07 and Q11: flows that follow one another; groups, chains and conditions of triggers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.rows.conftest import NewSession
from tests.acceptance.rows.division import divide, listening
from tests.acceptance.rows.sessions import got, reopened, show, statuses
from triggers.manager import TriggerManager
from triggers.storages import storage_backends
from triggers.task import TaskContext, trigger_task

SHOW = {"run": show.name}

# -- Q07 ----------------------------------------------------------------------------------------


UPSTREAM = {
    "t_extract": {"after": ["started"], **SHOW},
    "t_load": {"after": ["t_extract", "numbers"], "run": divide.name},
}


@pytest.mark.parametrize(
    ("numbers", "started"),
    [({"x": 4, "y": 2}, {"t_on_0#0", "t_on_2#0"}), ({"x": 4, "y": 0}, {"t_on_1#0", "t_on_2#0"})],
)
def test_q07_a_flow_starts_after_a_task_of_another_on_success_failure_or_always(
    new_session: NewSession, numbers: dict[str, int], started: set[str]
) -> None:
    manager = new_session({**UPSTREAM, **listening("t_load", "t_load:failed", "t_load:ended")})
    manager.fire("started")
    manager.fire("numbers", numbers)
    assert statuses(manager).keys() == {"t_extract#0", "t_load#0"} | started


def test_q07_a_flow_starts_after_all_tasks_of_another(new_session: NewSession) -> None:
    ended = [f"{task}:ended" for task in UPSTREAM]
    tasks = {
        **UPSTREAM,
        "t_success": {"after": list(UPSTREAM), **SHOW},
        "t_failure": {"after": {"any": [f"{task}:failed" for task in UPSTREAM]}, **SHOW},
        "t_always": {"after": ended, **SHOW},
        "t_at_rest": {"after": [*ended[1:], *({"settled": task} for task in UPSTREAM)], **SHOW},
    }
    good, bad = new_session(tasks), new_session(tasks)
    for manager, y in ((good, 2), (bad, 0)):
        manager.fire("started")
        manager.fire("numbers", {"x": 4, "y": y})
    assert {"t_success#0", "t_always#0", "t_at_rest#0"} <= statuses(good).keys()
    assert "t_failure#0" not in statuses(good)
    assert statuses(bad)["t_success#0"] == "unstarted"
    assert statuses(bad)["t_failure#0"] == "finished"
    assert statuses(bad)["t_always#0"] == "finished"
    assert statuses(bad)["t_at_rest#0"] == "unstarted", "a failure is not settled yet"
    bad.skip_failed_instance("t_load#0")
    assert statuses(bad)["t_at_rest#0"] == "finished"


@trigger_task
def tell_downstream(context: TaskContext) -> None:
    """Tell the session of another flow how this one ended."""
    storage = context.manager.storage
    other = storage_backends.get_class(storage.name)(f"{storage.uid}:downstream", **storage.options)
    failed = "message" in context.trigger_kwargs["t_load:ended"]
    TriggerManager(other).fire("upstreamEnded", {"failed": failed})


@pytest.mark.parametrize(("y", "started"), [(2, ["t_success#0"]), (0, ["t_failure#0"])])
def test_q07_a_flow_starts_after_a_flow_with_a_session_of_its_own(
    new_session: NewSession, y: int, started: list[str]
) -> None:
    tell = {"after": ["t_load:ended"], "run": tell_downstream.name}
    upstream = new_session({**UPSTREAM, "t_tell": tell})
    failed, ended = {"upstreamEnded": {"failed": True}}, {"upstreamEnded": {"failed": False}}
    downstream = new_session(
        {
            "t_always": {"after": ["upstreamEnded"], **SHOW},
            "t_success": {"after": ["upstreamEnded"], "when": ended, **SHOW},
            "t_failure": {"after": ["upstreamEnded"], "when": failed, **SHOW},
        },
        uid=f"{upstream.storage.uid}:downstream",
    )
    upstream.fire("started")
    upstream.fire("numbers", {"x": 4, "y": y})
    assert list(statuses(downstream)) == ["t_always#0", *started]


# -- Q11 ----------------------------------------------------------------------------------------


def test_q11_groups_of_triggers_in_groups(new_session: NewSession) -> None:
    papers = {"atLeast": 2, "of": ["passport", "licence", {"all": ["birth", "address"]}]}
    after = [papers, {"any": ["paid", {"all": ["invoiced", "trusted"]}]}]
    manager = new_session(
        {"t_open": {"after": after, "unless": {"any": ["fraud", "death"]}, **SHOW}}
    )
    for name in ("licence", "invoiced", "birth", "trusted"):
        manager.fire(name, {"of": name})
        assert statuses(manager) == {"t_open#0": "unstarted"}
    manager.fire("address", {"of": "address"})
    assert statuses(manager) == {"t_open#0": "finished"}
    names = ("licence", "invoiced", "birth", "trusted", "address")
    assert got(manager, "t_open#0") == {name: {"of": name} for name in names}


CHAIN = {
    "t_import": {"after": ["uploaded"], **SHOW},
    "t_check": {"after": ["t_import", "numbers"], "run": divide.name},
    "t_publish": {"after": ["t_check"], "unless": ["t_check:failed"], **SHOW},
    "t_mend": {
        "after": ["t_check:failed"],
        "when": {"t_check:failed": {"types": {"contains": "ArithmeticError"}}},
        **SHOW,
    },
    "t_report": {"after": {"any": ["t_publish", "t_mend"]}, **SHOW},
    "t_archive": {"after": ["t_report:ended"], **SHOW},
}


@pytest.mark.parametrize(
    ("numbers", "path", "publish"),
    [({"x": 4, "y": 2}, "t_publish", "finished"), ({"x": 4, "y": 0}, "t_mend", "abandoned")],
)
def test_q11_a_chain_goes_one_way_or_the_other(
    new_session: NewSession, numbers: dict[str, int], path: str, publish: str
) -> None:
    manager = new_session(CHAIN)
    manager.fire("uploaded")
    manager.fire("numbers", numbers)
    found = statuses(manager)
    assert found["t_publish#0"] == publish
    assert ("t_mend#0" in found) == (path == "t_mend")
    assert found["t_archive#0"] == "finished"
    assert got(manager, "t_report#0").keys() == {path}


def test_q11_every_step_of_a_chain_knows_what_caused_it(new_session: NewSession) -> None:
    manager = new_session(CHAIN)
    manager.fire("uploaded")
    manager.fire("numbers", {"x": 4, "y": 2})
    causes = {each.trigger: each.cause for each in reopened(manager).storage.find_firings()}
    assert causes == {
        "uploaded": None,
        "t_import": "t_import#0",
        "numbers": None,
        "t_check": "t_check#0",
        "t_publish": "t_publish#0",
        "t_report": "t_report#0",
        "t_archive": "t_archive#0",
    }


def test_q11_the_value_of_an_event_decides_what_follows(new_session: NewSession) -> None:
    def order(**tests: Any) -> dict[str, Any]:
        return {"andEvery": "order", "when": {"order": tests}, **SHOW}

    manager = new_session(
        {
            "t_small": order(amount={"lt": 100}),
            "t_large": order(amount={"gte": 100}, country="DE"),
            "t_export": order(amount={"gte": 100}, country={"ne": "DE"}),
        }
    )
    for amount, country in ((5, "FR"), (100, "DE"), (700, "FR")):
        manager.fire("order", {"amount": amount, "country": country})
    chosen = {
        name: got(manager, name)["order"]["amount"]
        for name in ("t_small#0", "t_large#0", "t_export#0")
    }
    assert chosen == {"t_small#0": 5, "t_large#0": 100, "t_export#0": 700}
    assert len(statuses(manager)) == 3


def test_q11_a_fan_out_is_joined_again_when_its_size_is_known_only_at_run_time(
    new_session: NewSession,
) -> None:
    tasks = {
        "t_page": {"andEvery": "page", "run": importing.name},
        "t_all": {
            "after": [{"trigger": "t_page", "times": {"from": "started.pages"}}],
            "run": add.name,
        },
    }
    for before in range(4):
        manager = new_session(tasks)
        for number in range(3):
            if number == before:
                manager.fire("started", {"pages": 3})
            manager.fire("page", {"n": number})
        if before == 3:
            manager.fire("started", {"pages": 3})
        assert statuses(manager)["t_all#0"] == "finished"
        result = reopened(manager).storage["t_all#0"].metadata["result"]
        assert result == {"numbers": [0, 1, 2]}


def test_q11_a_fan_out_of_nothing_is_joined_at_once(new_session: NewSession) -> None:
    after = [{"trigger": "t_page", "times": {"from": "started.pages"}}]
    manager = new_session(
        {"t_page": {"andEvery": "page", **SHOW}, "t_all": {"after": after, **SHOW}}
    )
    manager.fire("started", {"pages": 0})
    assert got(manager, "t_all#0") == {"started": {"pages": 0}}


def test_q11_a_fan_out_is_joined_when_all_that_began_is_settled_and_no_more_will_come(
    new_session: NewSession,
) -> None:
    tasks = {
        "t_page": {"andEvery": "page", "run": importing.name},
        "t_all": {"after": ["lastPage", {"settled": "t_page"}], **SHOW},
    }
    manager = new_session(tasks)
    manager.fire("lastPage")
    assert statuses(manager) == {"t_all#0": "unstarted"}, "nothing has begun"
    manager = new_session(tasks)
    for page in ({"n": 1}, {"broken": True}, {"n": 3}):
        manager.fire("page", page)
    manager.fire("lastPage", {"by": "me"})
    assert statuses(manager)["t_all#0"] == "unstarted", "one has failed"
    manager.replay_failed_instance("t_page#1", {"page": {"n": 2}})
    assert statuses(manager)["t_all#0"] == "finished"
    assert got(manager, "t_all#0") == {"lastPage": {"by": "me"}}


def test_q11_the_first_counted_firings_are_kept_and_later_ones_left(
    new_session: NewSession,
) -> None:
    after = [{"trigger": "vote", "times": 3}, "closed"]
    manager = new_session({"t_count": {"after": after, "run": votes.name}})
    for name in "abcd":
        manager.fire("vote", {"by": name})
    manager.fire("closed")
    assert reopened(manager).storage["t_count#0"].metadata["result"] == {"by": ["a", "b", "c"]}


@trigger_task
def importing(context: TaskContext) -> dict[str, Any]:
    """Fails without a number."""
    return {"n": context.trigger_kwargs["page"]["n"]}


@trigger_task
def add(context: TaskContext) -> dict[str, Any]:
    return {"numbers": sorted(each["n"] for each in context.firings["t_page"])}


@trigger_task
def votes(context: TaskContext) -> dict[str, Any]:
    return {"by": [each["by"] for each in context.firings["vote"]]}
