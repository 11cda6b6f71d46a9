"""Functions that a configuration calls by name: predicates (in ``when``) and providers.

A name is all that is stored, so every process that meets it must have imported the module which
registers it. That is why only functions that a module has by name are accepted: importing the
module again gives the same function, in any worker.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar, overload

from triggers.exceptions import CannotRegister, UnregisteredFunction

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[^\W\d][\w-]*")
_KEYWORDS = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True, slots=True)
class _Entry:
    function: Callable[..., Any]
    takes_args: bool

    @property
    def origin(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"


class _Register:
    """The functions of one kind, by name.

    :param kind: what they are, for sentences: ``"predicate"``.
    :param given: what such a function is called with, for sentences.
    """

    def __init__(self, kind: str, given: str, *, may_take_args: bool) -> None:
        self.kind = kind
        self.given = given
        self.may_take_args = may_take_args
        self.entries: dict[str, _Entry] = {}

    def decorate(self, name: Any) -> Any:
        if callable(name):  # used without a name, or without brackets
            return self.add(getattr(name, "__name__", None), name)
        return lambda function: self.add(
            getattr(function, "__name__", None) if name is None else name, function
        )

    def add(self, name: object, function: F) -> F:
        self._check_function(function)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise CannotRegister(
                self.kind,
                function,
                f"{name!r} is no name for it; use letters, digits, '_' and '-', such as "
                f"@{self.kind}('is_large').",
            )
        entry = _Entry(function, self._check_parameters(function))
        known = self.entries.get(name)
        # A module that is loaded again brings the same function anew.
        if known is not None and known.origin != entry.origin:
            reason = f"{known.origin} has the name {name!r} already; choose another."
            raise CannotRegister(self.kind, function, reason)
        self.entries[name] = entry
        return function

    def get(self, name: str) -> _Entry:
        entry = self.entries.get(name)
        if entry is None:
            raise UnregisteredFunction(self.kind, name, sorted(self.entries))
        return entry

    def _check_function(self, function: object) -> None:
        found = getattr(function, "__qualname__", "")
        if not isinstance(function, FunctionType):
            reason = f"it is a {_kind(function)}, and only a function of a module has a name there."
        elif found == "<lambda>" or found.endswith(".<lambda>"):
            reason = "it is a lambda, which no other process finds by name; write a def."
        elif "<locals>" in found:
            reason = (
                "it is made inside another function, so no other process finds it by name; move "
                "it to the module (a decorator around it needs functools.wraps)."
            )
        elif "." in found:
            reason = "it belongs to a class; move it to the module."
        elif (
            inspect.iscoroutinefunction(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            reason = "it is async or a generator, so a call gives no value; write a plain def."
        else:
            return
        raise CannotRegister(self.kind, function, reason)

    def _check_parameters(self, function: Callable[..., Any]) -> bool:
        """Whether it takes ``args``; refuse it if it cannot be called as it will be."""
        signature = inspect.signature(function)
        named = signature.parameters.get("args")
        takes_args = self.may_take_args and named is not None and named.kind in _KEYWORDS
        try:
            signature.bind({}, **({"args": {}} if takes_args else {}))
        except TypeError as error:
            reason = f"it must be callable with {self.given}: {error}."
            raise CannotRegister(self.kind, function, reason) from error
        return takes_args


_predicates = _Register(
    "predicate", "the kwargs of a firing (and 'args', if it names that)", may_take_args=True
)
_providers = _Register("provider", "one argument, the context", may_take_args=False)


@overload
def predicate(name: F) -> F: ...
@overload
def predicate(name: str | None = None) -> Callable[[F], F]: ...
def predicate(name: Any = None) -> Any:
    """Register a function that ``when`` may name: ``"when": {"orderPlaced": "is_large"}``.

    It is called with the kwargs of the firing, a dict of its own, and decides by what it returns
    (true or false) whether the firing passes. If it has a parameter named ``args``, it gets there
    the arguments of the source task: kwargs by trigger name, empty unless the firing is the
    outcome of an instance. It runs before the transition, more than once if that is repeated, so
    it should be quick and change nothing.

    :param name: the name; without it (or without brackets) that of the function.
    :raises CannotRegister: it is no function of a module, cannot be called so, or the name belongs
        to another function.
    """
    return _predicates.decorate(name)


@overload
def provider(name: F) -> F: ...
@overload
def provider(name: str | None = None) -> Callable[[F], F]: ...
def provider(name: Any = None) -> Any:
    """Register a function that ``withArgs`` may name: ``"withArgs": "build_args"``.

    It is called in the worker with the :class:`~triggers.task.TaskContext` and returns a mapping
    of keyword arguments for the task.

    :param name: the name; without it (or without brackets) that of the function.
    :raises CannotRegister: it is no function of a module, cannot be called so, or the name belongs
        to another function.
    """
    return _providers.decorate(name)


def get_predicate(name: str) -> Callable[..., Any]:
    """The predicate of this name.

    :raises UnregisteredFunction: (a ``LookupError``) there is none in this process.
    """
    return _predicates.get(name).function


def get_provider(name: str) -> Callable[..., Any]:
    """The provider of this name.

    :raises UnregisteredFunction: (a ``LookupError``) there is none in this process.
    """
    return _providers.get(name).function


def takes_args(name: str) -> bool:
    """Whether there is a predicate of this name that wants the source task's arguments."""
    entry = _predicates.entries.get(name)
    return entry is not None and entry.takes_args


def _kind(value: object) -> str:
    return "class" if isinstance(value, type) else type(value).__name__
