"""Row E26: the pytest fixture, and every order of some firings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.rows.readers import TASKS
from tests.acceptance.rows.sessions import show
from triggers.manager import TriggerManager
from triggers.testing import any_order

# -- pytest -------------------------------------------------------------------------------------


def test_e26_the_fixture_has_done_everything_when_fire_returns(
    trigger_manager: TriggerManager,
) -> None:
    trigger_manager.update_configuration(TASKS)
    trigger_manager.fire("a", {"n": 1})
    storage = trigger_manager.storage
    assert [(each.name, each.status) for each in storage] == [
        ("t_done#0", "finished"),
        ("t_failed#0", "failed"),
        ("t_waits#0", "unstarted"),
        ("t_out#0", "abandoned"),
        ("t_skips#0", "skipped"),
        ("t_again#0", "replayed"),
        ("t_again#1", "finished"),
    ]


@pytest.mark.parametrize("round_", [1, 2])
def test_e26_the_fixture_gives_a_fresh_session_each_time(
    trigger_manager: TriggerManager, round_: int
) -> None:
    assert trigger_manager.storage.tasks == {}
    trigger_manager.update_configuration(TASKS)


bodies_run = []


@any_order(["a", ("b", {"n": 1}), "c"])
def test_e26_any_order_runs_a_test_body_for_every_order(
    trigger_manager: TriggerManager, order: Any
) -> None:
    bodies_run.append(str(order))
    manager = order.play({"t_x": {"after": ["a", "b", "c"], "run": show.name}})
    assert manager.storage["t_x#0"].metadata["result"] == {"got": {"a": {}, "b": {"n": 1}, "c": {}}}
    assert len(bodies_run) == len(set(bodies_run))
    assert trigger_manager.storage.tasks == {}


def test_e26_any_order_yields_each_order_once() -> None:
    orders = list(any_order(["a", "b", ("c", {"n": 1}), "d"]))
    assert len({str(order) for order in orders}) == len(orders) == 24


def test_e26_any_order_names_the_order_in_which_a_body_failed() -> None:
    @any_order(["a", "u"])
    def fails_after_unless(order: Any) -> None:
        tasks = {"t_x": {"after": ["a"], "unless": ["u"], "run": show.name}}
        assert order.play(tasks).storage["t_x#0"].status == "finished"

    with pytest.raises(AssertionError) as caught:
        fails_after_unless()
    assert caught.value.__notes__ == ["The order was: u, a"]


def test_e26_any_order_refuses_more_orders_than_a_test_should_take() -> None:
    with pytest.raises(ValueError, match="8 firings"):
        any_order("abcdefgh")
