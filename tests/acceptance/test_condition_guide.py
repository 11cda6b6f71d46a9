"""A guide to another system's trigger conditions, section by section, in the idiom of this one.

The guide shows tasks with conditions on the status, result or exception of other tasks and on
events, with filters and arguments. Its tasks are here under their names; what its builder says with
``on_status``, ``on_result``, ``on_exception``, ``on_event`` and ``with_logic`` is said with ``on``,
``&`` and ``|``. Nothing here fires by the clock: a schedule is a trigger that a scheduler fires.
The module is long because the guide is; each section stands by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from triggers.conditions import predicate, provider
from triggers.exceptions import CannotRegister, ConfigurationWarning
from triggers.manager import TriggerManager, get_trigger_manager
from triggers.storages import storage_backends
from triggers.storages.memory import MemoryStorageBackend
from triggers.task import TaskContext, trigger_task
from triggers.testing import frozen_time, run_tasks_locally
from triggers.workflows import Workflow, on

Session = Callable[[Workflow], TriggerManager]


@pytest.fixture(autouse=True)
def _in_place() -> Iterator[None]:
    with run_tasks_locally("synchronous"):
        yield
    MemoryStorageBackend.clear()


@pytest.fixture(
    params=["memory", pytest.param("database", marks=pytest.mark.django_db(transaction=True))]
)
def session(request: pytest.FixtureRequest) -> Session:
    """Make a session of a workflow."""

    def make(workflow: Workflow) -> TriggerManager:
        manager = TriggerManager(storage_backends.get(request.param, uuid4().hex))
        manager.update_configuration(workflow)
        return manager

    return make


def texts(manager: TriggerManager, task: str) -> list[str]:
    """What the instances of a task returned."""
    instances = manager.storage.instances_of_task(task)
    return [each.metadata["result"]["text"] for each in instances if each.status == "finished"]


def begun(manager: TriggerManager, *, but: str) -> list[str]:
    """The tasks that have an instance."""
    names = dict.fromkeys(instance.task_name for instance in manager.storage)
    return [name for name in names if name != but]


# -- Prerequisites: where the state of the conditions is kept -----------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("storage", ["memory", "database"])
def test_the_settings_choose_where_state_is_kept(settings: Any, storage: str) -> None:
    settings.TRIGGERS = {"default": {"STORAGE": storage}}
    manager = get_trigger_manager("guide")
    assert manager.storage.name == storage
    manager.update_configuration(BASIC)
    manager.fire("asked", {"x": 3})
    assert texts(get_trigger_manager("guide"), "t_notification") == ["Source task completed"]


# -- Basic trigger usage ------------------------------------------------------------------------

BASIC = Workflow("guide-basic")


@trigger_task(workflow=BASIC, task="t_source", and_every="asked")
def source_task(context: TaskContext) -> dict[str, Any]:
    return {"text": f"Processed {context.trigger_kwargs['asked']['x']}"}


@trigger_task(workflow=BASIC, task="t_notification", and_every=on(source_task))
def notification_task(context: TaskContext) -> dict[str, Any]:
    return {"text": "Source task completed"}


def test_a_task_runs_when_another_has_completed(session: Session) -> None:
    manager = session(BASIC)
    manager.fire("asked", {"x": 3})
    assert texts(manager, "t_source") == ["Processed 3"]
    assert texts(manager, "t_notification") == ["Source task completed"]


# -- Schedules ----------------------------------------------------------------------------------


def test_a_schedule_is_a_trigger_that_a_scheduler_fires(session: Session) -> None:
    workflow = Workflow("guide-schedule")
    workflow.task("t_minutely", run=notification_task, and_every="everyMinute")
    half_hourly = on("everyMinute").at_most_every(minutes=30)
    workflow.task("t_half_hourly", run=notification_task, and_every=half_hourly)
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    with frozen_time(noon):
        manager = session(workflow)
    for minute in range(61):
        moment = noon + timedelta(minutes=minute)
        with frozen_time(moment):
            manager.fire("everyMinute", idempotency_key=moment.isoformat())
            manager.fire("everyMinute", idempotency_key=moment.isoformat())
    assert len(texts(manager, "t_minutely")) == 61
    assert len(texts(manager, "t_half_hourly")) == 3


# -- Task results and statuses ------------------------------------------------------------------

DIVISION = Workflow("guide-division")


@trigger_task(workflow=DIVISION, task="t_division", and_every="asked")
def division_task(context: TaskContext) -> dict[str, Any]:
    asked = context.trigger_kwargs["asked"]
    return {"quotient": asked["x"] / asked["y"]}


@trigger_task(workflow=DIVISION, task="t_success", and_every=on("t_division"))
def success_handler() -> dict[str, Any]:
    return {"text": "Division completed successfully"}


@trigger_task(workflow=DIVISION, task="t_result", and_every=on("t_division").ended())
def result_handler() -> dict[str, Any]:
    return {"text": "Division produced a result or error"}


@trigger_task(workflow=DIVISION, task="t_specific", and_every=on("t_division").where(quotient=2.5))
def specific_result_handler() -> dict[str, Any]:
    return {"text": "Division produced exactly 2.5"}


@trigger_task(workflow=DIVISION, task="t_and", after=on("t_division") & on("t_division").ended())
def combined_and_trigger() -> dict[str, Any]:
    return {"text": "Both conditions were met"}


@trigger_task(workflow=DIVISION, task="t_or", after=on("t_division") | on("t_division").ended())
def combined_or_trigger() -> dict[str, Any]:
    return {"text": "At least one condition was met"}


@pytest.mark.parametrize(
    ("x", "y", "handlers"),
    [
        (4, 2, ["t_success", "t_result", "t_and", "t_or"]),
        (5, 2, ["t_success", "t_result", "t_specific", "t_and", "t_or"]),
        (5, 0, ["t_result", "t_and", "t_or"]),
    ],
)
def test_handlers_of_success_of_any_result_and_of_a_given_result(
    session: Session, x: int, y: int, handlers: list[str]
) -> None:
    manager = session(DIVISION)
    manager.fire("asked", {"x": x, "y": y})
    assert begun(manager, but="t_division") == handlers


def test_and_waits_for_both_conditions_and_or_for_one(session: Session) -> None:
    manager = session(DIVISION)
    manager.fire("asked", {"x": 5, "y": 0})
    assert (texts(manager, "t_and"), len(texts(manager, "t_or"))) == ([], 1)
    manager.fire("asked", {"x": 5, "y": 1})
    assert texts(manager, "t_and") == ["Both conditions were met"]


# -- Exceptions ---------------------------------------------------------------------------------

EXCEPTIONS = Workflow("guide-exceptions")


@provider("guide-from-exception")
def build_args_from_exception(context: TaskContext) -> dict[str, Any]:
    failure = context.exception
    assert failure is not None
    asked = failure["kwargs"]["asked"]
    return {
        "original_args": f"x={asked['x']}, y={asked['y']}",
        "exception_type": failure["type"].rpartition(".")[2],
        "exception_message": failure["message"],
    }


@trigger_task(workflow=EXCEPTIONS, task="t_divide", and_every="asked")
def divide(context: TaskContext) -> dict[str, Any]:
    asked = context.trigger_kwargs["asked"]
    if asked["x"] < 0 or asked["y"] < 0:
        raise ValueError("Negative numbers not allowed")
    return {"quotient": asked["x"] / asked["y"]}


@trigger_task(
    workflow=EXCEPTIONS,
    task="t_report_zero",
    and_every=on("t_divide").failed("ZeroDivisionError"),
    with_args=build_args_from_exception,
)
def report_div_zero_error(
    original_args: str, exception_type: str, exception_message: str
) -> dict[str, Any]:
    return {"text": f"Division with {original_args} failed: {exception_type}: {exception_message}"}


@trigger_task(
    workflow=EXCEPTIONS,
    task="t_report_value",
    and_every=on("t_divide").failed(ValueError),
    with_args=build_args_from_exception,
)
def report_value_error(
    original_args: str, exception_type: str, exception_message: str
) -> dict[str, Any]:
    return {"text": f"Division with {original_args} failed: {exception_type}: {exception_message}"}


@trigger_task(
    workflow=EXCEPTIONS,
    task="t_report_any",
    and_every=on("t_divide").failed(),
    with_args=build_args_from_exception,
)
def report_any_exception(
    original_args: str, exception_type: str, exception_message: str
) -> dict[str, Any]:
    return {"text": f"Division with {original_args} failed: {exception_type}: {exception_message}"}


def test_handlers_of_exceptions_get_what_the_task_was_given(session: Session) -> None:
    manager = session(EXCEPTIONS)
    manager.fire("asked", {"x": 1, "y": 0})
    manager.fire("asked", {"x": -1, "y": 1})
    manager.fire("asked", {"x": 1, "y": 1})
    zero = "Division with x=1, y=0 failed: ZeroDivisionError: division by zero"
    value = "Division with x=-1, y=1 failed: ValueError: Negative numbers not allowed"
    assert texts(manager, "t_report_zero") == [zero]
    assert texts(manager, "t_report_value") == [value]
    assert texts(manager, "t_report_any") == [zero, value]


# -- Arguments from providers -------------------------------------------------------------------

ARGUMENTS = Workflow("guide-arguments")


@trigger_task(workflow=ARGUMENTS, task="t_process", and_every="received")
def process_data(context: TaskContext) -> dict[str, Any]:
    return {"processed": context.trigger_kwargs["received"]}


@trigger_task(
    workflow=ARGUMENTS,
    task="t_notify_static",
    and_every=on(process_data),
    with_params={"notification": {"level": "info", "details": True}},
)
def notify_with_static_args(context: TaskContext) -> dict[str, Any]:
    notification = context.trigger_kwargs["notification"]
    return {"text": f"Notification sent with level {notification['level']}"}


@provider("guide-from-result")
def generate_notification_args(context: TaskContext) -> dict[str, Any]:
    result = context.result
    assert result is not None
    is_urgent = result["processed"].get("priority") == "high"
    return {
        "notification_level": "urgent" if is_urgent else "info",
        "include_details": is_urgent,
        "source_data": result["processed"],
    }


@trigger_task(
    workflow=ARGUMENTS,
    task="t_notify_dynamic",
    and_every=on(process_data),
    with_args=generate_notification_args,
)
def notify_with_dynamic_args(
    notification_level: str, include_details: bool, source_data: dict[str, Any]
) -> dict[str, Any]:
    if include_details:
        return {"text": f"{notification_level.upper()} notification with data: {source_data}"}
    return {"text": f"{notification_level.upper()} notification sent"}


def test_arguments_are_static_or_come_from_a_function(session: Session) -> None:
    manager = session(ARGUMENTS)
    manager.fire("received", {"priority": "high"})
    manager.fire("received", {"priority": "low"})
    assert texts(manager, "t_notify_static") == ["Notification sent with level info"] * 2
    assert texts(manager, "t_notify_dynamic") == [
        "URGENT notification with data: {'priority': 'high'}",
        "INFO notification sent",
    ]


# -- Filters on arguments and results -----------------------------------------------------------

ORDERS = Workflow("guide-orders")


@trigger_task(workflow=ORDERS, task="t_order", and_every="orderPlaced")
def process_order(context: TaskContext) -> dict[str, Any]:
    order = context.trigger_kwargs["orderPlaced"]
    return {"order": order["order"], "status": "completed", "amount": order["amount"]}


@predicate("guide-is-large-order")
def is_large_order(kwargs: dict[str, Any], args: dict[str, Any]) -> bool:
    return bool(args["orderPlaced"].get("amount", 0) > 1000)


@predicate("guide-needs-approval")
def needs_approval(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs.get("amount", 0) > 5000)


@trigger_task(
    workflow=ORDERS,
    task="t_notify_high_priority",
    and_every=on(process_order).where_args(orderPlaced__priority="high"),
)
def notify_high_priority() -> dict[str, Any]:
    return {"text": "High priority order processed"}


@trigger_task(
    workflow=ORDERS, task="t_notify_large", and_every=on(process_order).where(is_large_order)
)
def notify_large_order() -> dict[str, Any]:
    return {"text": "Large order processed"}


@trigger_task(
    workflow=ORDERS, task="t_log_completed", and_every=on(process_order).where(status="completed")
)
def log_completed_order() -> dict[str, Any]:
    return {"text": "Order completed successfully"}


@trigger_task(
    workflow=ORDERS, task="t_request_approval", and_every=on(process_order).where(needs_approval)
)
def request_manager_approval() -> dict[str, Any]:
    return {"text": "Manager approval requested for large order"}


@pytest.mark.parametrize(
    ("order", "handlers"),
    [
        ({"amount": 10}, ["t_log_completed"]),
        ({"amount": 10, "priority": "high"}, ["t_notify_high_priority", "t_log_completed"]),
        ({"amount": 2000}, ["t_notify_large", "t_log_completed"]),
        ({"amount": 6000}, ["t_notify_large", "t_log_completed", "t_request_approval"]),
    ],
)
def test_filters_look_at_arguments_and_results(
    session: Session, order: dict[str, Any], handlers: list[str]
) -> None:
    manager = session(ORDERS)
    manager.fire("orderPlaced", {"order": "o1", **order})
    assert begun(manager, but="t_order") == handlers


# -- Events -------------------------------------------------------------------------------------

LOGINS = Workflow("guide-logins")


@trigger_task(workflow=LOGINS, task="t_log", and_every="user.login")
def log_user_login() -> dict[str, Any]:
    return {"text": "User login event logged"}


@trigger_task(workflow=LOGINS, task="t_admin", and_every=on("user.login").where(role="admin"))
def notify_admin_login() -> dict[str, Any]:
    return {"text": "Admin user logged in"}


@provider("guide-from-event")
def extract_user_data(context: TaskContext) -> dict[str, Any]:
    event = context.trigger_kwargs["user.login"]
    return {"user_id": event["user_id"], "source_ip": event["ip_address"]}


@trigger_task(workflow=LOGINS, task="t_record", and_every="user.login", with_args=extract_user_data)
def record_login_attempt(user_id: str, source_ip: str) -> dict[str, Any]:
    return {"text": f"Login recorded for user {user_id} from {source_ip}"}


def emit_login_event(
    manager: TriggerManager, user_id: str, ip_address: str, role: str = "user"
) -> int | None:
    event = {"user_id": user_id, "ip_address": ip_address, "role": role}
    return manager.fire("user.login", event).seq


def test_tasks_react_to_events_and_to_what_is_in_them(session: Session) -> None:
    manager = session(LOGINS)
    assert emit_login_event(manager, "u1", "::1") is not None
    assert emit_login_event(manager, "u2", "::2", role="admin") is not None
    assert len(texts(manager, "t_log")) == 2
    assert texts(manager, "t_admin") == ["Admin user logged in"]
    assert texts(manager, "t_record") == [
        "Login recorded for user u1 from ::1",
        "Login recorded for user u2 from ::2",
    ]


# -- Conditions made by a program ---------------------------------------------------------------


@trigger_task
def data_processor(context: TaskContext) -> dict[str, Any]:
    return {"processed": "bad" not in context.trigger_kwargs["received"]}


@predicate("guide-is-processed")
def is_processed_successfully(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("processed", False) is True


@provider("guide-success")
def generate_success_args(context: TaskContext) -> dict[str, Any]:
    return {"result": context.result, "level": "success"}


@trigger_task
def leveled_notification(result: dict[str, Any], level: str = "info") -> dict[str, Any]:
    return {"text": f"{level.upper()}: Data processed with result {result}"}


def test_conditions_are_put_together_by_a_program(session: Session) -> None:
    workflow = Workflow("guide-program")
    workflow.task("t_processor", run=data_processor, and_every="received")
    manager = session(workflow)
    more = Workflow("guide-more").task(
        "t_notify",
        run=leveled_notification,
        and_every=on("t_processor").where(is_processed_successfully),
        with_args=generate_success_args,
    )
    manager.update_configuration(more)
    manager.fire("received", {"bad": True})
    manager.fire("received", {"good": True})
    expected = "SUCCESS: Data processed with result {'processed': True}"
    assert texts(manager, "t_notify") == [expected]


# -- Features: what a condition can be made of, all at once -------------------------------------


def test_conditions_of_all_kinds_make_one(session: Session) -> None:
    done = on("t_division").where(quotient__gt=2)
    failed = on("t_division").failed("ZeroDivisionError")
    approved = on("approved").where(by="boss").times(2)
    workflow = Workflow("guide-features")
    workflow.task("t_division", run=division_task, and_every="asked")
    workflow.task("t_x", run=success_handler, after=(done & approved) | (failed & on("forced")))
    assert workflow.to_json()["t_x"]["after"] == {
        "any": [
            {"all": ["t_division", {"trigger": "approved", "times": 2}]},
            {"all": ["t_division:failed", "forced"]},
        ]
    }
    manager = session(workflow)
    manager.fire("asked", {"x": 4, "y": 4})
    for by in ("boss", "me", "boss"):
        manager.fire("approved", {"by": by})
    assert texts(manager, "t_x") == []
    manager.fire("asked", {"x": 9, "y": 3})
    assert texts(manager, "t_x") == ["Division completed successfully"]


# -- Best practices -----------------------------------------------------------------------------


def test_an_event_that_is_told_twice_counts_once(session: Session) -> None:
    manager = session(LOGINS)
    event = {"user_id": "u1", "ip_address": "::1"}
    first = manager.fire("user.login", event, idempotency_key="evt_1")
    again = manager.fire("user.login", event, idempotency_key="evt_1")
    assert (first.seq, again.seq, again.duplicate) == (1, 1, True)
    assert len(texts(manager, "t_log")) == 1


def test_filters_and_providers_are_named_functions() -> None:
    with pytest.raises(CannotRegister, match="lambda"):
        predicate("guide-lambda")(lambda kwargs: True)
    with pytest.raises(CannotRegister, match="lambda"):
        provider("guide-lambda")(lambda context: {})


# -- Troubleshooting ----------------------------------------------------------------------------


def test_what_has_not_run_says_what_it_holds_and_which_firings_did_not_count(
    session: Session,
) -> None:
    admin = on("user.login").where(role="admin")
    workflow = Workflow("guide-trouble").task("t_x", run=log_user_login, after=admin & on("armed"))
    manager = session(workflow)
    manager.fire("armed")
    manager.fire("user.login", {"role": "user"})
    [waiting] = manager.get_unresolved_instances()
    assert (waiting.status, waiting.kwargs) == ("unstarted", {"armed": {}})
    explanation = str(manager.explain("t_x"))
    assert "t_x#0 waits for user.login" in explanation
    assert 'filter on user.login: role eq "admin", got "user"' in explanation


def test_what_can_never_run_is_pointed_out_at_once(session: Session) -> None:
    manager = session(Workflow("guide-trouble"))
    never = Workflow("guide-never").task("t_x", run=log_user_login, after="a", unless="a")
    with pytest.warns(ConfigurationWarning, match="t_x: can never run"):
        manager.update_configuration(never)
