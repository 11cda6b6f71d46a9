"""Exceptions: one tree, each also a built-in, with its data as attributes, in any process."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from triggers import exceptions
from triggers.exceptions import TriggersError, get_context, with_context
from triggers.explain import FiringNotFound
from triggers.workflows import UnknownWorkflow

# Each exception as it is raised, the built-in by which a caller may catch it, and what it carries.
EXAMPLES: list[tuple[TriggersError, type[Exception], dict[str, Any]]] = [
    (
        exceptions.ConfigurationError([("t_x.after", "is no list")]),
        ValueError,
        {"problems": (("t_x.after", "is no list"),)},
    ),
    (
        exceptions.ReplacementRefused([("t_x", ["t_x#0"], "it runs")]),
        ValueError,
        {
            "problems": (("t_x", "it runs"),),
            "refusals": (("t_x", ("t_x#0",), "it runs"),),
            "tasks": ("t_x",),
            "instances": ("t_x#0",),
        },
    ),
    (exceptions.SettingsError("TRIGGERS has no alias 'x'."), ValueError, {}),
    (exceptions.MissingPackages("redis", ["redis"]), ValueError, {"packages": ("redis",)}),
    (
        exceptions.InvalidTrigger("t_x:failed", "it is reserved."),
        ValueError,
        {"trigger": "t_x:failed"},
    ),
    (exceptions.InvalidUid("", "it is empty."), ValueError, {"uid": ""}),
    (
        exceptions.InvalidPayload("kwargs of 'a'.form", "object", "it is no JSON."),
        TypeError,
        {"path": "kwargs of 'a'.form", "value_type": "object"},
    ),
    (exceptions.PayloadTooLarge("The result", 3, 2), ValueError, {"size": 3, "limit": 2}),
    (
        exceptions.IdempotencyConflict("paid", "evt_1", 7),
        ValueError,
        {"trigger": "paid", "key": "evt_1", "seq": 7},
    ),
    (
        exceptions.UnknownBackend("triggers.storages", "mongo", "There is none.", ["mongo = m:M"]),
        LookupError,
        {"group": "triggers.storages", "name": "mongo", "entry_points": ("mongo = m:M",)},
    ),
    (exceptions.UnknownTask("app.tasks.X", "There is none."), LookupError, {"name": "app.tasks.X"}),
    (
        exceptions.CannotRegister("predicate", len, "it is built in."),
        TypeError,
        {"kind": "predicate", "function": len},
    ),
    (
        exceptions.UnregisteredFunction("provider", "shop.args", ["other"]),
        LookupError,
        {"kind": "provider", "name": "shop.args"},
    ),
    (
        exceptions.PredicateFailed("is_large", "paid", "KeyError: 'amount'"),
        ValueError,
        {"predicate": "is_large", "trigger": "paid", "reason": "KeyError: 'amount'"},
    ),
    (exceptions.InstanceNotFound("t_x", "it is a task"), KeyError, {"instance": "t_x"}),
    (
        exceptions.InvalidTransition("t_x#0", "finished", "running", []),
        ValueError,
        {"instance": "t_x#0", "status": "finished", "wanted": "running"},
    ),
    (exceptions.CascadeTooDeep("t_x#9", 9), RecursionError, {"instance": "t_x#9", "limit": 9}),
    (exceptions.SessionClosed("closed", "42"), RuntimeError, {"phase": "closed", "uid": "42"}),
    (exceptions.SessionFull(100, "42"), OverflowError, {"limit": 100, "uid": "42"}),
    (
        exceptions.TaskExpired("t_x#0", timedelta(hours=1), timedelta(hours=2)),
        TimeoutError,
        {"instance": "t_x#0", "expires": timedelta(hours=1), "waited": timedelta(hours=2)},
    ),
    (exceptions.NotSent("t_x#0"), ConnectionError, {"instance": "t_x#0"}),
    (exceptions.WorkerLost("t_x#0", 3), RuntimeError, {"instance": "t_x#0", "attempts": 3}),
    (exceptions.StorageUnavailable("redis", "it is down."), ConnectionError, {"storage": "redis"}),
    (
        exceptions.StateVersionError("42", 9, 3),
        RuntimeError,
        {"uid": "42", "found": 9, "known": 3},
    ),
    (
        exceptions.MaxRetriesExceeded("t_x#3", 3),
        RuntimeError,
        {"instance": "t_x#3", "max_retries": 3},
    ),
    (FiringNotFound(9, "There are 3."), LookupError, {"seq": 9}),
    (UnknownWorkflow("imports", ["exports"]), LookupError, {"name": "imports"}),
]

every_example = pytest.mark.parametrize(
    ("error", "built_in", "data"),
    [pytest.param(*each, id=type(each[0]).__name__) for each in EXAMPLES],
)


def every_class(of: type = TriggersError) -> Iterator[type]:
    for each in of.__subclasses__():
        # Those of the backtest do not leave its command; others are the tests' own.
        module = each.__module__
        if module.startswith("triggers.") and not module.startswith("triggers.backtest."):
            yield each
            yield from every_class(each)


def test_every_class_of_the_tree_has_an_example() -> None:
    assert {type(error) for error, _built_in, _data in EXAMPLES} == set(every_class())


@every_example
def test_each_is_caught_as_a_built_in_too(
    error: TriggersError, built_in: type[Exception], data: dict[str, Any]
) -> None:
    assert isinstance(error, built_in)
    assert built_in.__module__ == "builtins"
    assert built_in is not Exception


@every_example
def test_each_carries_its_data_and_the_docstring_names_all_of_it(
    error: TriggersError, built_in: type[Exception], data: dict[str, Any]
) -> None:
    public = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    assert public == data
    docs = [inspect.getdoc(each) or "" for each in type(error).__mro__ if each is not built_in]
    for name in data:
        assert any(re.search(rf"^:ivar {name}:", doc, re.MULTILINE) for doc in docs), name


@every_example
def test_each_comes_out_of_another_process_and_a_copy_as_it_was(
    error: TriggersError, built_in: type[Exception], data: dict[str, Any]
) -> None:
    error = with_context(copy.copy(error), {"page": 3})
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  # our own
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert get_context(again) == {"page": 3}
