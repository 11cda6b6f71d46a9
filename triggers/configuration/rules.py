"""What the schema cannot say of a configuration: values that fit each other, names that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from triggers import payload
from triggers.conditions.durations import parse_duration
from triggers.conditions.filters import ARGS, OPERATORS, is_of_args, split_from
from triggers.conditions.registered import get_predicate, get_provider
from triggers.configuration.names import is_plain, members_of, names_beside_from, names_of_task
from triggers.configuration.shape import Problem, Rendered, why_no_duration
from triggers.exceptions import InvalidPayload, PayloadTooLarge, UnregisteredFunction
from triggers.types import NAME_LIMIT, SESSION_FINALIZED, TaskConfig

OUTCOMES = ("failed", "skipped", "abandoned", "expired", "ended")
"""What may stand behind ``t_x:`` in the name of a trigger."""

Path = tuple[Any, ...]


def problems_of_value(directive: str, value: Any, path: Path) -> Iterator[Problem]:
    """What is wrong with one directive that has the form which the schema asks for."""
    match directive:
        case "withParams":
            for key, kwargs in value.items():
                if isinstance(key, str):
                    yield from problems_of_storing(kwargs, (*path, key))
            yield from problems_of_storing(dict.fromkeys(value), path)
            return
        case "when":
            for trigger, raw in value.items():
                yield from _in_filter(raw, (*path, trigger))
        case "within" | "atMostEvery":
            yield from _in_duration(value, path)
        case "fresh":
            for trigger, text in value.items():
                yield from _in_duration(text, (*path, trigger))
        case "debounce":
            yield from _in_debounce(value, path)
        case "withArgs":
            yield from _in_name(get_provider, value, path)
    yield from problems_of_storing(value, path)


def problems_of_task(directives: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """What does not fit together in a task whose directives are each in order."""
    and_every = directives.get("andEvery")
    known = names_beside_from(directives)
    wrong: list[Problem] = []
    for key in ("after", "unless"):
        for place, node in _walk(directives.get(key) or (), (*path, key)):
            if isinstance(node, Mapping):
                wrong += _in_group(node, place, known, and_every)
    yield from wrong
    if wrong:
        return
    after, unless = names_of_task(directives)
    for key in ("when", "fresh"):
        for trigger in directives.get(key) or ():
            if trigger not in after | unless:
                reason = f"the task does not name {trigger!r} in 'after', 'andEvery' or 'unless'"
                yield Problem((*path, key, trigger), reason)
    if "debounce" in directives and and_every in (directives.get("fresh") or ()):
        reason = "'fresh' and 'debounce' exclude each other: both say which firing is taken"
        yield Problem((*path, "fresh", and_every), reason)


def problems_of_storing(value: Any, path: Path) -> Iterator[Problem]:
    """Why a value cannot be stored as JSON."""
    try:
        payload.encode({"": value}, what="")
    except InvalidPayload as error:
        where = error.path.removeprefix(".")
        reason = str(error).partition(": ")[2]
        yield Problem((*path, Rendered(where)) if where else path, reason)
    except PayloadTooLarge as error:
        reason = f"takes {error.size:,} bytes; {error.limit:,} are allowed"
        yield Problem(path, reason)


def problems_of_outcomes(tasks: Mapping[str, TaskConfig]) -> Iterator[Problem]:
    """Names that stand for an outcome that no task of these has."""
    for name, task in tasks.items():
        for directive, triggers in (("after", task.after), ("unless", task.unless)):
            for trigger in sorted(triggers):
                owner, mark, outcome = trigger.partition(":")
                if mark and owner in tasks and outcome not in OUTCOMES:
                    key = "andEvery" if trigger == task.and_every else directive
                    reason = (
                        f"{trigger!r} is reserved, as the name of an outcome, and {owner} has no "
                        f"outcome {outcome!r}; write {owner!r} once it finished, or one of "
                        + ", ".join(f"{owner}:{each}" for each in OUTCOMES)
                    )
                    yield Problem((name, key), reason)


def problems_of_session(tasks: Mapping[str, TaskConfig]) -> Iterator[Problem]:
    """Conditions and filters that ask about a task which these tasks lack."""
    yield from problems_of_outcomes(tasks)
    for name, task in tasks.items():
        for key in ("after", "unless"):
            condition = task.directives.get(key) or ()
            for place, node in () if is_plain(condition) else _walk(condition, (name, key)):
                if isinstance(node, Mapping) and node.get("settled", name) not in tasks:
                    reason = f"there is no task {node['settled']!r}; {_known(tasks)}"
                    yield Problem((*place, "settled"), reason)
        for trigger, raw in (task.directives.get("when") or {}).items():
            for path in _paths_of(raw):
                if is_of_args(path):
                    place = (name, "when", trigger, path)
                    yield from _in_args(path, trigger, tasks, place)


def problems_of_finalizing(tasks: Mapping[str, TaskConfig]) -> Iterator[Problem]:
    """Why a session of these tasks cannot fire that it is finalized."""
    if SESSION_FINALIZED in tasks:
        reason = (
            "a session that finalizes fires this name itself, so no task may have it; call the "
            "task otherwise, or leave 'finalize' out"
        )
        yield Problem((SESSION_FINALIZED,), reason)


def _in_args(
    path: str, trigger: str, tasks: Mapping[str, TaskConfig], place: Path
) -> Iterator[Problem]:
    owner = trigger.partition(":")[0]
    if owner not in tasks:
        reason = f"leads nowhere: {ARGS!r} is of tasks, and {owner!r} is none; {_known(tasks)}"
        yield Problem(place, reason)
        return
    inside = path[len(ARGS) + 1 :]
    given = sorted({*tasks[owner].after, *(tasks[owner].directives.get("withParams") or ())})
    if not any(f"{inside}.".startswith(f"{each}.") for each in given):
        reason = f"leads nowhere: {owner} gets kwargs of {', '.join(given) or 'no trigger'}"
        yield Problem(place, reason)


def _known(tasks: Mapping[str, TaskConfig]) -> str:
    names = list(tasks)
    return "the tasks are " + ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _walk(condition: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """All names and mappings of a condition, the outer before the inner, and where they are."""
    if isinstance(condition, str | Mapping):
        yield path, condition
    if isinstance(condition, Mapping):
        path = (*path, next((key for key in ("all", "any", "of") if key in condition), ""))
    if not isinstance(condition, str):
        for index, member in enumerate(members_of(condition) or ()):
            yield from _walk(member, (*path, index))


def _paths_of(raw: Any) -> Iterator[str]:
    """The paths of all tests in a filter."""
    if isinstance(raw, list):
        for each in raw:
            yield from _paths_of(each)
    elif isinstance(raw, Mapping):
        yield from raw


def _in_group(
    node: Mapping[str, Any], path: Path, known: frozenset[str], and_every: str | None
) -> Iterator[Problem]:
    for key in ("atLeast", "times"):
        if isinstance(node.get(key), float):  # 2.0 is an integer for the schema
            yield Problem((*path, key), f"expected a whole number, got float; write {node[key]:g}")
    if "atLeast" in node and node["atLeast"] > len(node["of"]):
        of = len(node["of"])
        reason = f"can never hold: it asks for {node['atLeast']} of {of}"
        yield Problem((*path, "atLeast"), reason)
    if "elapsed" in node:
        yield from _in_duration(node["elapsed"], (*path, "elapsed"))
    if "times" in node and node["trigger"] == and_every:
        reason = f"{and_every!r} is 'andEvery', so each of its firings makes an instance of its own"
        yield Problem((*path, "times"), reason)
    if isinstance(node.get("times"), Mapping):
        try:
            trigger, _path = split_from(node["times"]["from"], known)
        except ValueError as error:
            yield Problem((*path, "times", "from"), str(error))
        else:
            if len(trigger) > NAME_LIMIT:
                reason = f"a trigger name has {len(trigger)} characters; {NAME_LIMIT} are allowed"
                yield Problem((*path, "times", "from"), reason)


def _in_filter(raw: Any, path: Path) -> Iterator[Problem]:
    if isinstance(raw, str):
        yield from _in_name(get_predicate, raw, path)
    elif isinstance(raw, list):
        for index, each in enumerate(raw):
            yield from _in_filter(each, (*path, index))
    else:
        for key, tests in raw.items():
            inner, _mark, operator = key.rpartition("__")
            if inner and operator in OPERATORS:
                reason = (
                    "is how Python may write it; in JSON write "
                    f'{{"{inner.replace("__", ".")}": {{"{operator}": …}}}}'
                )
                yield Problem((*path, key), reason)
            if isinstance(tests, Mapping) and "matches" in tests:
                yield from _in_expression(tests["matches"], (*path, key, "matches"))


def _in_expression(text: str, path: Path) -> Iterator[Problem]:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        yield Problem(path, f"is no regular expression: {error}")


def _in_name(get: Any, name: str, path: Path) -> Iterator[Problem]:
    try:
        get(name)
    except UnregisteredFunction as error:
        yield Problem(path, str(error))


def _in_duration(text: str, path: Path) -> Iterator[Problem]:
    reason = why_no_duration(text)
    if reason is not None:
        yield Problem(path, reason)


def _in_debounce(value: Mapping[str, str], path: Path) -> Iterator[Problem]:
    wrong = [*_in_duration(value["quiet"], (*path, "quiet"))]
    wrong += _in_duration(value["most"], (*path, "most"))
    if not wrong and parse_duration(value["most"]) < parse_duration(value["quiet"]):
        reason = f"is shorter than 'quiet' ({value['quiet']}), so that would never count"
        wrong.append(Problem((*path, "most"), reason))
    yield from wrong
