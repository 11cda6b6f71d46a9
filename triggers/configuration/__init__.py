"""From JSON to task configurations: parsing, validation, warnings.

:func:`parse` accepts a configuration as a whole or refuses it as a whole, and names every bad
value by its path (``t_score.withParams.model``). :func:`suspicions` finds what can be stored but
probably does not mean what its author thinks. ``schema()`` is the form as a JSON Schema.

===============  ==============================================================================
``shape``        what the JSON Schema refuses, in sentences
``rules``        what it cannot say
``names``        what conditions name
``likeness``     which name was meant by a misspelled one
``suspicions``   warnings
===============  ==============================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from triggers import payload
from triggers.conditions.filters import predicates_of
from triggers.conditions.registered import get_predicate, get_provider
from triggers.configuration import rules, shape
from triggers.configuration.names import names_of_task
from triggers.configuration.shape import Problem
from triggers.configuration.suspicions import suspicions
from triggers.exceptions import (
    ConfigurationError,
    InvalidPayload,
    PayloadTooLarge,
    UnregisteredFunction,
)
from triggers.types import TaskConfig

__all__ = [
    "OUTCOMES",
    "Configuration",
    "Problems",
    "check_finalize",
    "check_flags",
    "check_outcomes",
    "parse",
    "restore",
    "schema",
    "suspicions",
]

OUTCOMES = rules.OUTCOMES

Problems = list[tuple[str, str]]
"""What is wrong with a configuration: pairs of path and reason."""

DEEPEST = 64
"""Lists and mappings that a condition or filter may have around one another (32 groups)."""

_FINALIZES = "#finalizes"
"""Stands in the text of a configuration whose session finalizes; no task can have this name."""

_CONDITIONS = frozenset({"after", "unless", "when"})
_KEPT = 256
_KEPT_LENGTH = 64 * 1024

# What was accepted, by its text. The text is exact: it is made only of what can be stored, and
# what is stored means the same to whoever reads it.
_accepted: dict[str, tuple[Configuration, tuple[tuple[Callable[[str], Any], str], ...]]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """All tasks of a session, in order, with the text that identifies them.

    :ivar tasks: task configurations by name.
    :ivar finalizes: whether the session fires ``sessionFinalized`` when nothing is left to do.
    :ivar body: the same as JSON text; sessions with the same text share one stored copy.
    :ivar digest: SHA-256 of ``body``, in hexadecimal.
    """

    tasks: Mapping[str, TaskConfig] = field(default_factory=dict)
    finalizes: bool = False
    body: str = payload.EMPTY
    digest: str = hashlib.sha256(payload.EMPTY.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def merged_with(self, newer: Configuration, *, finalize: bool | None = None) -> Configuration:
        """This configuration with the tasks of another added, or replaced in their place.

        :param finalize: whether its session finalizes; ``None``: as before.
        :raises ConfigurationError: ``finalize`` is something else.
        """
        finalizes = self.finalizes if check_finalize(finalize) is None else bool(finalize)
        return _from_tasks({**self.tasks, **newer.tasks}, finalizes)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the configuration language; a fresh copy.

    The package has it as the file ``triggers/schema/configuration.schema.json``.
    """
    published: dict[str, Any] = json.loads(shape.read_schema())
    return published


def parse(raw: Any) -> Configuration:
    """Turn what ``update_configuration`` was given into a :class:`Configuration`.

    :param raw: a mapping of task names to mappings of directives; lists, tuples and (for names)
        sets are all fine.
    :raises ConfigurationError: anything in it is wrong; it lists every problem with its path.
    """
    tasks = _plain_tasks(raw)
    # Of an expression, which is no configuration, Python must not even ask whether it is true.
    text = _text(tasks) if isinstance(tasks, Mapping) else None
    accepted = None if text is None else _accepted.get(text)
    if accepted is not None and all(_is_registered(get, name) for get, name in accepted[1]):
        return accepted[0]
    _refuse(_problems(tasks))
    # The order of directives means nothing, so equal configurations have equal texts.
    in_order = {name: dict(sorted(each.items())) for name, each in tasks.items()}
    parsed = _from_tasks({name: _task(name, each) for name, each in in_order.items()})
    _refuse(rules.problems_of_outcomes(parsed.tasks))
    if text is not None and len(text) <= _KEPT_LENGTH:
        if len(_accepted) >= _KEPT:
            _accepted.clear()
        _accepted[text] = parsed, tuple(_functions(parsed))
    return parsed


def check_finalize(finalize: Any) -> bool | None:
    """Return whether a session is declared to finalize; ``None``: nothing is said of it.

    :raises ConfigurationError: it is something else.
    """
    if finalize is None or isinstance(finalize, bool):
        return finalize
    reason = f"expected True, False, or None for as before, got {shape.kind(finalize)}"
    raise ConfigurationError([("finalize", reason)])


def check_flags(**flags: Any) -> None:
    """Refuse what is neither true nor false, as a text from a form would count as true.

    :raises ConfigurationError: some of these are.
    """
    problems = [
        (name, f"expected True or False, got {shape.kind(value)}")
        for name, value in flags.items()
        if not isinstance(value, bool)
    ]
    if problems:
        raise ConfigurationError(problems)


def check_outcomes(configuration: Configuration) -> None:
    """Refuse what asks for a task, or for an outcome of a task, that does not exist.

    Of all tasks of a session: one that comes later may be what another asks for, or have the name
    of an outcome that another waits for.

    :raises ConfigurationError: there is such a thing.
    """
    _refuse(rules.problems_of_session(configuration.tasks))
    if configuration.finalizes:
        _refuse(rules.problems_of_finalizing(configuration.tasks))


def restore(body: str) -> Configuration:
    """The configuration that was stored as this text."""
    stored = payload.decode(body)
    finalizes = stored.pop(_FINALIZES, False)
    return _from_tasks({name: _task(name, each) for name, each in stored.items()}, finalizes)


def _refuse(problems: Iterator[Problem]) -> None:
    found = dict.fromkeys((shape.render(path), reason) for path, reason in problems)
    if found:
        raise ConfigurationError(list(found))


def _from_tasks(tasks: Mapping[str, TaskConfig], finalizes: bool = False) -> Configuration:
    stored: dict[str, Any] = {_FINALIZES: True} if finalizes else {}
    stored.update((name, dict(task.directives)) for name, task in tasks.items())
    body = payload.dump(stored)
    digest = hashlib.sha256(body.encode("utf-8")).hexdigest()
    return Configuration(tasks=dict(tasks), finalizes=finalizes, body=body, digest=digest)


def _task(name: str, directives: Mapping[str, Any]) -> TaskConfig:
    after, unless = names_of_task(directives)
    return TaskConfig(
        name=name,
        run=directives["run"],
        after=after,
        unless=unless,
        and_every=directives.get("andEvery"),
        using=directives.get("using"),
        directives=directives,
    )


def _functions(configuration: Configuration) -> Iterator[tuple[Callable[[str], Any], str]]:
    """The predicates and providers that must exist, each with what looks it up."""
    for task in configuration.tasks.values():
        for raw in (task.directives.get("when") or {}).values():
            yield from ((get_predicate, name) for name in predicates_of(raw))
        if "withArgs" in task.directives:
            yield get_provider, task.directives["withArgs"]


def _is_registered(get: Callable[[str], Any], name: str) -> bool:
    try:
        get(name)
    except UnregisteredFunction:
        return False
    return True


def _text(tasks: Any) -> str | None:
    """The text of a configuration that can be stored; ``None`` of another."""
    try:
        return payload.encode(tasks, what="")
    except (InvalidPayload, PayloadTooLarge):
        return None


def _plain_tasks(raw: Any) -> Any:
    """A configuration as JSON would give it back, as far as it is one."""
    if not isinstance(raw, Mapping):
        return raw
    problems: list[Problem] = []
    tasks = {}
    for name, directives in raw.items():
        if not isinstance(directives, Mapping):
            tasks[name] = directives
            continue
        plain = tasks[name] = {}
        for key, value in directives.items():
            try:
                plain[key] = _plain(value, DEEPEST if key in _CONDITIONS else None)
            except RecursionError:
                far = f"more than {DEEPEST} lists and mappings" if key in _CONDITIONS else "too"
                problems.append(Problem((name, key), f"is nested {far} deep, or contains itself"))
    _refuse(iter(problems))
    return tasks


def _problems(tasks: Any) -> Iterator[Problem]:
    """Everything that is wrong, task by task."""
    by_task: dict[str, list[Problem]] = {}
    for problem in shape.problems_of_shape(tasks):
        if not problem.path:
            yield Problem(("configuration",), problem.reason)
            return
        by_task.setdefault(str(problem.path[0]), []).append(problem)
    for name, directives in tasks.items():
        wrong = by_task.get(str(name), [])
        yield from (problem for problem in wrong if len(problem.path) == 1)
        if isinstance(name, str):
            yield from rules.problems_of_storing(name, (name,))
        if isinstance(directives, dict):
            yield from _problems_of_task(name, directives, wrong)


def _problems_of_task(
    name: str, directives: Mapping[str, Any], wrong: list[Problem]
) -> Iterator[Problem]:
    by_directive: dict[str, list[Problem]] = {}
    for problem in wrong:
        if len(problem.path) > 1:
            by_directive.setdefault(str(problem.path[1]), []).append(problem)
    sound = {}
    for key, value in directives.items():
        problems = by_directive.pop(str(key), [])
        problems = problems or [*rules.problems_of_value(key, value, (name, key))]
        yield from problems
        if not problems:
            sound[key] = value
    for problems in by_directive.values():  # of directives that are missing
        yield from problems
    if {"after", "unless", "andEvery"} & directives.keys() <= sound.keys():
        yield from rules.problems_of_task(sound, (name,))


def _plain(value: Any, deepest: int | None) -> Any:
    """A value as JSON would give it back: tuples become lists; sets too, in conditions.

    :param deepest: how many lists and mappings may lie around one another in a condition; ``None``
        of another value, which says itself how deep it can be stored.
    :raises RecursionError: they are more.
    """
    if isinstance(value, str | int | float) or value is None:
        return value
    if deepest == 0:
        raise RecursionError
    inner = None if deepest is None else deepest - 1
    if isinstance(value, Mapping):
        return {key: _plain(item, inner) for key, item in value.items()}
    if isinstance(value, Set) and deepest is not None:
        value = _in_order(value)
    if isinstance(value, list | tuple):
        return [_plain(item, inner) for item in value]
    return value


def _in_order(values: Set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # of different kinds
        return sorted(values, key=lambda each: (type(each).__name__, repr(each)))
