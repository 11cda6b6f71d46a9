"""Workflows, filters and providers, declared in Python."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, assert_type

from triggers import TaskContext
from triggers.conditions import predicate, provider
from triggers.workflows import (
    Expression,
    Trigger,
    Workflow,
    all_of,
    any_of,
    at_least,
    define,
    elapsed,
    on,
    settled,
)


@predicate
def is_large(kwargs: Mapping[str, Any], args: Mapping[str, Any]) -> bool:
    return bool(kwargs["items"] > 10)


@predicate("is_small")
def small(kwargs: Mapping[str, Any]) -> bool:
    return not is_large(kwargs, {})


@provider
def letter_args(context: TaskContext) -> dict[str, Any]:
    return {"to": context.trigger_kwargs["paid"]["by"], "lines": 3}


assert_type(is_large({"items": 3}, {}), bool)

orders = define("orders")
paid = on("paid").where(amount__gt=0)

orders.task(
    "t_ship",
    run="shop.tasks.Ship",
    after=(on("ordered") & paid).within(days=3),
    unless=["cancelled", on("t_letter").failed(LookupError)],
    with_params={"ordered": {"items": 1}},
).task(
    "t_letter",
    run="shop.tasks.Letter",
    and_every=on("reminderDue").debounce(quiet=60, most=timedelta(hours=1)),
    with_args=letter_args,
    at_most_every="PT1H",
    using="synchronous",
).task(
    "t_audit",
    run="shop.tasks.Announce",
    after=any_of(
        all_of("audited", on("ordered").where(is_large)),
        at_least(2, "paid", "refunded", elapsed(since="cancelled", hours=1)),
        settled("t_ship"),
    ),
    when={"audited": [small, {"depth": {"gte": 2}}]},
    fresh={"paid": "P1D"},
    owner="accounting",
)

assert_type(orders, Workflow)
assert_type(on("a"), Trigger)
assert_type(on("a").times(3).fresh(days=1), Trigger)
assert_type(on("a").times(from_="started.pages").within(hours=2), Trigger)
assert_type(orders["t_ship"], dict[str, Any])


def either(one: Expression, other: Expression | str) -> Expression:
    return one | other
