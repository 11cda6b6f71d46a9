"""What the code of a task is called with: the context, or what a provider makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from triggers.conditions.registered import get_provider
from triggers.context import TaskContext

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


def provider_of(context: TaskContext) -> str | None:
    """The task's ``withArgs``."""
    name: str | None = context.task_instance.config.directives.get("withArgs")
    return name


def call_method(method: Callable[..., Any], context: TaskContext) -> Any:
    """Call ``_run`` with the context, and with the arguments of the task's provider.

    :raises TypeError: the provider returned no arguments, or ``_run`` does not take them.
    :raises UnregisteredFunction: this process has no provider of that name.
    """
    if provider_of(context) is None:
        return method(context)
    arguments = _provided(context)
    _check(inspect.signature(method), (context,), arguments, method, context)
    return method(context, **arguments)


def caller(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls this one for a context and the arguments of its provider.

    Where the task has a provider, ``function`` gets its arguments, and the context if it has a
    parameter of that name. Without one it gets the context: as that parameter, or else as its
    first one; or nothing, if it takes nothing.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    named = "context" in parameters and parameters["context"].kind in _BY_NAME
    placed = any(each.kind in _BY_POSITION for each in parameters.values())

    def call(context: TaskContext, /, **arguments: Any) -> Any:
        positional: tuple[Any, ...] = ()
        if named:
            arguments["context"] = context
        elif placed and provider_of(context) is None:
            positional = (context,)
        _check(signature, positional, arguments, function, context)
        return function(*positional, **arguments)

    return call


def _provided(context: TaskContext) -> dict[str, Any]:
    name = provider_of(context)
    assert name is not None
    what = f"The provider {name!r} of {context.instance_name}"
    made: object = get_provider(name)(context)
    if not isinstance(made, Mapping):
        kind = type(made).__name__
        raise TypeError(f"{what} must return a mapping of arguments by name, and returned {kind}.")
    for key in made:
        if not isinstance(key, str) or not key.isidentifier():
            raise TypeError(f"{what} returned {key!r}, which cannot be the name of an argument.")
        if key == "context":
            raise TypeError(f"{what} returned 'context', the name under which a task gets its own.")
    return dict(made)


def _check(
    signature: inspect.Signature,
    positional: tuple[Any, ...],
    named: Mapping[str, Any],
    function: Callable[..., Any],
    context: TaskContext,
) -> None:
    """Refuse a call that Python would refuse too, and say where the arguments come from."""
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        name = provider_of(context)
        if name is None:
            origin = "without withArgs a task gets the context and nothing else"
        else:
            given = ", ".join(each for each in named if each != "context") or "no arguments"
            origin = f"the provider {name!r} gave {given}"
        what = f"{function.__module__}.{function.__qualname__}"
        raise TypeError(f"{what} cannot be called: {error} ({origin}).") from error
