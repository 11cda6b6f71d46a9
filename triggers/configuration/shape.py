"""The form of a configuration: what the published JSON Schema says of it, in sentences of our own.

The schema is the only place that says which keys and types there are. A sentence is made of the
keyword that was not met and of the ``title`` of the part of the schema that has it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from os import PathLike
from typing import Any, NamedTuple

from triggers.conditions.durations import parse_duration
from triggers.conditions.filters import ARGS, is_of_args
from triggers.configuration.likeness import meant_by

_POSTPONED = "postponed"
_NESTING = frozenset({"#/$defs/member", "#/$defs/filter"})
_NAMES = ("A trigger name", "A task name", "A directive")
_RUN = "The name of a trigger task, such as 'app.tasks.ImportSubject'"
_SEVERAL = "; for several triggers, write a task for each, with the same 'run'"
_LISTS = ("A list of trigger names", "A list of conditions", "A list of values")


class Problem(NamedTuple):
    """Something that is wrong, and where: the keys and positions that lead there."""

    path: tuple[Any, ...]
    reason: str


class Rendered(str):
    """The end of a path that is text already, such as ``responses[0].birthday``."""

    __slots__ = ()


def render(path: tuple[Any, ...]) -> str:
    """A path as people write it, such as ``t_x.after[0].any[1]``."""
    text = str(path[0])
    for part in path[1:]:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = isinstance(part, Rendered) and part.startswith("[")
            text += part if bare else f".{part}"
    return text


@cache
def read_schema() -> str:
    """The text of the published schema."""
    return (files("triggers") / "schema" / "configuration.schema.json").read_text("utf-8")


def problems_of_shape(tasks: Any) -> Iterator[Problem]:
    """Everything in a configuration that the schema refuses.

    :param tasks: a configuration whose sets and tuples were made lists.
    """
    # Conditions and filters in others are looked at one after another: the library would recurse
    # so deeply that a configuration could exhaust the caller's stack.
    left = deque([((), _validator(), tasks)])
    while left:
        path, validator, value = left.popleft()
        found: list[Problem] = []
        for error in validator.iter_errors(value):
            place = (*path, *error.absolute_path)
            if error.validator == _POSTPONED:
                left.append((place, _validator(error.message), error.instance))
            else:
                found.extend(Problem(*each) for each in _explained(error, place))
        yield from dict.fromkeys(found)


@cache
def _validator(ref: str | None = None) -> Any:
    """What checks a value against the whole schema, or against one of its definitions."""
    # Here, since it is slow to load and most processes never need it.
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    resolve = Draft202012Validator.VALIDATORS["$ref"]

    def postpone(validator: Any, ref: str, instance: Any, schema: Any) -> Any:
        if ref in _NESTING and not isinstance(instance, str):
            error = ValidationError(ref, validator=_POSTPONED, instance=instance)
            return iter([error])
        return resolve(validator, ref, instance, schema)

    schema = json.loads(read_schema())
    whole = extend(Draft202012Validator, {"$ref": postpone})(schema)
    return whole if ref is None else whole.evolve(schema=_resolved(schema, ref))


def _resolved(schema: Mapping[str, Any], ref: str) -> Any:
    return schema["$defs"][ref.rpartition("/")[2]]


def kind(value: object) -> str:
    """The name of a value's type, for sentences."""
    return type(value).__name__


def _explained(error: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """What an error of the library means, and where."""
    found, schema = error.instance, error.schema
    if "propertyNames" in error.absolute_schema_path:
        path = (*path, str(found))  # no position
    if error.validator == "required":
        for key in error.validator_value:
            if key not in found:
                yield (*path, key), f"is required: {_title_of(schema, key)}"
    elif error.validator == "dependentRequired":
        for key in error.validator_value:
            if key in found and "andEvery" not in found:
                yield (*path, key), "needs 'andEvery': it is about the firings of that trigger"
    elif error.validator == "additionalProperties":
        for key in found:
            if key not in schema["properties"]:
                yield (*path, key), _of_stranger(schema)
    elif error.validator == "anyOf" and "run" in schema.get("required", ()):
        either = f"is required: {_title_of(schema, 'after')}; or 'andEvery', a trigger name"
        yield (*path, "after"), either + _of_strays(found, schema)
    elif error.validator == "type" and path[1:] == ("andEvery",):
        yield path, _of_type(found, schema) + _SEVERAL * isinstance(found, list | Mapping)
    else:
        yield path, _SENTENCES[error.validator](found, schema)


def _of_strays(found: Mapping[Any, Any], schema: Mapping[str, Any]) -> str:
    """What stands there in place of ``after`` or ``andEvery``, as far as one can guess."""
    strays = (key for key in found if isinstance(key, str) and key not in schema["properties"])
    meant = {key: meant_by(key, ("after", "andEvery")) for key in strays}
    return "".join(
        f" (did you mean {known!r} by {key!r}?)" for key, known in meant.items() if known
    )


def _title(schema: Mapping[str, Any]) -> str:
    title: str = schema["title"]
    return title[0].lower() + title[1:]


def _title_of(schema: Mapping[str, Any], key: str) -> str:
    described = schema["properties"][key]
    if "title" not in described:
        described = _resolved(json.loads(read_schema()), described["$ref"])
    return _title(described)


def _of_stranger(schema: Mapping[str, Any]) -> str:
    known = ", ".join(schema["properties"])
    if schema["title"] == "A mapping of operators":
        return (
            f"is no operator; the operators are {known} (a longer path is one key, joined by "
            'dots; a mapping to compare with is written {"eq": {…}})'
        )
    return f"does not belong here; the form is {_title(schema)}"


def _of_type(found: Any, schema: Mapping[str, Any]) -> str:
    title, what = schema["title"], _title(schema)
    if callable(getattr(found, "to_json", None)):  # an expression; of which nothing is known here
        return (
            f"expected {what}, got the expression {found!r}; declare the task with "
            "Workflow(…).task(…), or write the expression's .to_json()"
        )
    if title in _NAMES and isinstance(found, list | Mapping):
        return f"expected a single {what.removeprefix('a ')}, got {kind(found)}"
    if title in _NAMES:
        return f"{what} must be a string, got {kind(found)}"
    if title == "A condition":
        return f"a trigger name must be a string, got {kind(found)}"
    hint = ""
    if title == "A mapping of tasks":
        hint = _of_no_mapping(found)
    elif title in _LISTS and isinstance(found, str):
        hint = f"; write [{found!r}]"
    elif title == _RUN and isinstance(getattr(found, "name", None), str):
        return f"expected a name, got the task itself; write {found.name!r}"
    elif title == "A duration" and isinstance(found, int | float):
        hint = "; write the unit too, as in 'PT72H' for 72 hours, 'PT5S' or 'P3D'"
    elif callable(found):
        hint = "; a function is meant by the name that it is registered with"
    return f"expected {what}, got {kind(found)}{hint}"


def _of_no_mapping(found: Any) -> str:
    """How to make a configuration of what stands in its place."""
    if isinstance(found, str | bytes) and found.lstrip()[:1] in ("{", b"{"):
        return "; read the JSON with json.loads(…)"
    if isinstance(found, PathLike) or hasattr(found, "read"):
        return "; read the file with json.load(…)"
    if isinstance(found, str):
        return (
            "; the workflow of a name is triggers.workflows.get(…), and what is in a file is read "
            "with json.load(…)"
        )
    return ""


def _of_too_short(found: str, schema: Mapping[str, Any]) -> str:
    if schema["title"] in _NAMES:
        return f"{_title(schema)} must not be empty"
    return f"expected {_title(schema)}, got an empty {kind(found)}"


def _of_too_long(found: str, schema: Mapping[str, Any]) -> str:
    return f"{_title(schema)} has {len(found)} characters; {schema['maxLength']} are allowed"


def _of_pattern(found: str, schema: Mapping[str, Any]) -> str:
    match schema["title"]:
        case "A task name":
            return "a task name must contain neither '#' nor ':'"
        case "A duration":
            return why_no_duration(found) or f"{found!r} is no duration"
        case "A path":
            if found == ARGS:
                return f"leads nowhere; write '{ARGS}.', a trigger name, a dot and a path"
            if found.startswith("$") and not is_of_args(found):
                return f"begins with '$', which only '{ARGS}.' does; keys begin otherwise"
            return "has an empty part; a path is keys joined by dots, such as 'page.number'"
    return f"is empty; expected {_title(schema)}"


def why_no_duration(text: str) -> str | None:
    """What is wrong with a duration; ``None`` if it is one."""
    try:
        parse_duration(text)
    except ValueError as error:
        return str(error)
    return None


def _of_no_group(found: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    keys = ", ".join(key for each in schema["anyOf"] for key in each["required"])
    got = ", ".join(map(repr, found)) or "none"
    return f"is no condition: it has none of the keys {keys} (got {got})"


_SENTENCES: dict[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "type": _of_type,
    "anyOf": _of_no_group,
    "minLength": _of_too_short,
    "maxLength": _of_too_long,
    "pattern": _of_pattern,
    "minimum": lambda found, schema: f"must be at least {schema['minimum']}, got {found}",
    "minItems": lambda found, schema: f"is empty; {_title(schema)} needs a member",
    "minProperties": lambda found, schema: f"is empty; {_title(schema)} needs an entry",
    "not": lambda found, schema: (
        f"expected {_title(schema)}, which have an order; got {kind(found)}"
    ),
}
