"""The shop's own tests, with the test kit."""

import unittest
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_type

from django.test import TestCase, TransactionTestCase

from shop.managers import ShopManager
from shop.runners import AnnouncingRunner
from shop.tasks import Ship
from triggers import MemoryStorageBackend, TriggerManager, get_trigger_manager
from triggers.runners import ThreadingTaskRunner
from triggers.testing import Order, TriggerManagerTestCaseMixin, any_order, frozen_time
from triggers.types import TaskInstance

FIRINGS: list[tuple[str, Mapping[str, Any]]] = [
    ("ordered", {"items": 3}),
    ("paid", {"by": "card", "amount": 5}),
]
SHIP = {"t_ship": {"after": ["ordered", "paid"], "run": Ship.name}}


class ShipTest(TriggerManagerTestCaseMixin, TransactionTestCase):
    def setUp(self) -> None:
        self.manager = get_trigger_manager("order:1")
        self.manager.update_configuration(SHIP)

    def test_it_ships_what_was_ordered_and_paid(self) -> None:
        self.manager.fire("paid", {"by": "card"})
        self.assertInstanceUnstarted("t_ship#0")
        self.manager.fire("ordered", {"items": 3})
        ThreadingTaskRunner.join_all(60)
        self.assertInstanceFinished("t_ship#0", {"parcel": "P-3"})
        self.assertUnresolvedInstances([])
        instance = self.assertInstanceStatus("t_ship#0", "finished")
        assert_type(instance, TaskInstance)
        manager = self.manager
        assert isinstance(manager, ShopManager)
        self.assertCountEqual(manager.seen, ["paid", "ordered t_ship#0", "t_ship"])

    def test_an_order_of_nothing_is_skipped_and_an_unknown_address_fails(self) -> None:
        self.manager.fire("paid")
        self.manager.fire("ordered", {"items": 0})
        self.assertInstanceSkipped("t_ship#0")
        other = self.manager = get_trigger_manager("order:2")
        other.update_configuration(SHIP)
        other.fire("paid")
        other.fire("ordered", {"items": 1, "address": "unknown"})
        self.assertInstanceFailed("t_ship#0", LookupError)
        self.assertEqual(other.skip_failed_instance("t_ship#0").status, "skipped")


class ViewsTest(TestCase):
    def test_an_order_is_shipped_once_it_is_paid(self) -> None:
        self.assertEqual(self.client.get("/order/7").json()["seq"], 1)
        self.client.get("/pay/7")
        self.assertEqual(get_trigger_manager("7").storage["t_ship#0"].status, "finished")
        self.assertIn("t_ship", self.client.get("/why/7").content.decode())


class OrderTest(unittest.TestCase):
    @any_order(FIRINGS)
    def test_every_order_ends_the_same(self, order: Order) -> None:
        manager = order.play(SHIP)
        assert_type(manager, TriggerManager)
        self.assertEqual(manager.storage["t_ship#0"].status, "finished")

    def test_time_stands_still(self) -> None:
        moment = datetime(2100, 1, 1, tzinfo=UTC)
        manager = TriggerManager(MemoryStorageBackend("typed:time"))
        manager.update_configuration(SHIP)
        with frozen_time(moment):
            manager.fire("paid")
        self.assertEqual(manager.storage["t_ship#0"].created_at, moment)


class DocumentTest(unittest.TestCase):
    def test_a_session_in_a_storage_of_ones_own_runs_where_the_alias_says(self) -> None:
        manager = get_trigger_manager("order:3", using="documents")
        manager.update_configuration(SHIP)
        for name, kwargs in FIRINGS:
            manager.fire(name, kwargs)
        self.assertEqual(manager.storage["t_ship#0"].status, "finished")
        self.assertEqual(AnnouncingRunner.announced, [f"{Ship.name} for t_ship#0"])
