"""Predicates and providers are functions that any process finds by name, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from types import FunctionType
from typing import Any

import pytest

from triggers.conditions import predicate, provider, registered
from triggers.conditions.registered import get_predicate, get_provider, takes_args
from triggers.exceptions import CannotRegister, TriggersError, UnregisteredFunction


@predicate("registered_is_large")
def is_large(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs["amount"] > 100)


@predicate
def registered_bare(kwargs: dict[str, Any], *, args: dict[str, Any]) -> bool:
    return bool(args)


@predicate()
def registered_with_brackets(kwargs: dict[str, Any], *args: Any) -> bool:
    return not args


@provider("registered_build")
def build(context: Any) -> dict[str, Any]:
    return {"amount": context}


@provider
def registered_provider(context: Any, unit: str = "EUR") -> dict[str, Any]:
    return {"unit": unit}


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


@predicate("registered_traced")
@traced
def wrapped(kwargs: dict[str, Any], args: dict[str, Any]) -> bool:
    return kwargs == args


def other(kwargs: dict[str, Any]) -> bool:
    return True


def without_parameters() -> bool:
    return True


def with_two(kwargs: Any, more: Any) -> bool:
    return True


async def asynchronous(kwargs: Any) -> bool:
    return False


def generator(kwargs: Any) -> Iterator[bool]:
    yield False


async def asynchronous_generator(kwargs: Any) -> AsyncIterator[bool]:
    yield False


def made_inside() -> Callable[..., Any]:
    def inner(kwargs: Any) -> bool:
        return True

    return inner


class Callables:
    def method(self, kwargs: Any) -> bool:
        return True

    @staticmethod
    def static(kwargs: Any) -> bool:
        return True

    def __call__(self, kwargs: Any) -> bool:
        return True


def test_functions_are_found_by_the_name_given_or_by_their_own() -> None:
    assert get_predicate("registered_is_large") is is_large
    assert get_predicate("registered_bare") is registered_bare
    assert get_predicate("registered_with_brackets") is registered_with_brackets
    assert get_provider("registered_build") is build
    assert get_provider("registered_provider") is registered_provider


def test_decorated_functions_stay_what_they_are() -> None:
    assert is_large({"amount": 101})
    assert build(3) == {"amount": 3}


def test_a_predicate_takes_args_if_it_has_a_parameter_of_that_name() -> None:
    assert takes_args("registered_bare")
    assert takes_args("registered_traced")
    assert not takes_args("registered_is_large")
    assert not takes_args("registered_with_brackets")
    assert not takes_args("registered_nothing")


@pytest.mark.parametrize("register", [predicate, provider])
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda kwargs: True, "it is a lambda, which no other process finds by name"),
        (made_inside(), "made inside another function"),
        (Callables().method, "it is a method"),
        (Callables.method, "belongs to a class"),
        (Callables.static, "belongs to a class"),
        (Callables(), "it is a Callables"),
        (Callables, "it is a class"),
        (functools.partial(other), "it is a partial"),
        (len, "it is a builtin_function_or_method"),
        (asynchronous, "it is async or a generator"),
        (asynchronous_generator, "it is async or a generator"),
        (generator, "it is async or a generator"),
        (without_parameters, "it must be callable with"),
        (with_two, "it must be callable with"),
        (7, "it is a int"),
    ],
)
def test_what_no_worker_can_find_or_call_is_refused(
    register: Callable[..., Any], function: Any, reason: str
) -> None:
    with pytest.raises(CannotRegister) as caught:
        register("registered_odd")(function)
    assert reason in str(caught.value)
    assert caught.value.function is function
    assert isinstance(caught.value, TriggersError)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


def test_a_lambda_without_a_name_is_refused_as_a_lambda() -> None:
    with pytest.raises(CannotRegister, match=r"<lambda> as a predicate: it is a lambda"):
        predicate(lambda kwargs: True)


@pytest.mark.parametrize("name", ["", "a.b", "a:b", "1st", "with space", 7, "a\n"])
def test_a_name_is_a_word_and_never_an_import_path(name: Any) -> None:
    with pytest.raises(CannotRegister, match="is no name for it"):
        predicate(name)(other)


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(CannotRegister, match=r"is_large has the name 'registered_is_large'"):
        predicate("registered_is_large")(other)
    assert get_predicate("registered_is_large") is is_large


def test_a_predicate_and_a_provider_may_share_a_name() -> None:
    provider("registered_is_large")(build)
    assert get_provider("registered_is_large") is build
    assert get_predicate("registered_is_large") is is_large


def test_a_module_that_is_loaded_again_replaces_its_functions() -> None:
    again = FunctionType(is_large.__code__, globals(), "is_large")
    again.__qualname__, again.__module__ = is_large.__qualname__, is_large.__module__
    try:
        predicate("registered_is_large")(again)
        assert get_predicate("registered_is_large") is again
    finally:
        predicate("registered_is_large")(is_large)


def test_an_unregistered_name_is_an_error_that_says_what_is_registered() -> None:
    with pytest.raises(UnregisteredFunction) as caught:
        get_predicate("registered_nothing")
    assert isinstance(caught.value, LookupError)
    assert (caught.value.kind, caught.value.name) == ("predicate", "registered_nothing")
    assert "registered_bare" in str(caught.value)
    assert "workflows.py" in str(caught.value)
    assert "import path" not in str(caught.value)


def test_an_import_path_is_refused_with_a_hint_of_its_own() -> None:
    with pytest.raises(UnregisteredFunction, match="An import path is not accepted"):
        get_provider(f"{build.__module__}.build")


def test_where_nothing_is_registered_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered._providers, "entries", {})
    with pytest.raises(UnregisteredFunction, match=r"\(registered: none\)"):
        get_provider("registered_build")
