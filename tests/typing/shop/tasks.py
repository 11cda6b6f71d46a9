"""Tasks: classes and functions, with retries, skips, filters of their kwargs and a logger."""

from datetime import timedelta
from typing import Any, assert_type

from shop.workflows import orders, paid
from triggers import TaskContext, TriggerTask, trigger_task
from triggers.attempt import TaskRetry, TaskSkip
from triggers.exceptions import with_context
from triggers.logging import TaskLogger
from triggers.manager import TriggerManager
from triggers.types import TaskInstance


class AddressUnknown(LookupError):
    pass


class Ship(TriggerTask):
    max_retries = 5
    expires = timedelta(hours=1)
    queue = "parcels"

    def _run(self, context: TaskContext) -> dict[str, str]:
        assert_type(context.manager, TriggerManager)
        assert_type(context.task_instance, TaskInstance)
        assert_type(context.trigger_kwargs, dict[str, dict[str, Any]])
        assert_type(context.firings, dict[str, list[dict[str, Any]]])
        assert_type(context.result, dict[str, Any] | None)
        assert_type(context.is_lost, bool)
        order = context.trigger_kwargs["ordered"]
        with context.get_logger_context({"order": order}) as logger:
            assert_type(logger, TaskLogger)
            logger.info("Shipping %s items", order["items"])
            if order["items"] == 0:
                raise self.skip({"reason": "nothing to ship"})
            if order.get("address") == "unknown":
                raise with_context(AddressUnknown("unknown"), {"order": order})
            if order.get("is_late"):
                raise self.retry(cooldown=timedelta(minutes=5))
        return {"parcel": f"P-{order['items']}"}


class Letter(TriggerTask):
    """Its provider says what it is called with."""

    def _run(self, context: TaskContext, *, to: str, lines: int = 1) -> None:
        context.manager.fire("written", {"to": to, "lines": lines})


class Announce(TriggerTask):
    def _run(self, context: TaskContext, **arguments: Any) -> None:
        raise NotImplementedError


@trigger_task
def thank(context: TaskContext) -> None:
    print("Thank you,", context.trigger_kwargs["paid"]["by"])


@trigger_task(workflow=orders, after=paid & "thanked", max_retries=0, queue="mail")
def invoice(context: TaskContext) -> dict[str, int]:
    return {"number": len(context.firings)}


assert_type(thank, TriggerTask)
assert_type(invoice, TriggerTask)
assert_type(thank.name, str)


def what_a_task_may_raise(task: TriggerTask) -> None:
    assert_type(task.retry(ValueError("again"), 30), TaskRetry)
    assert_type(task.skip(), TaskSkip)
