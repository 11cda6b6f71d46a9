"""From JSON to task configurations: parsing, validation, warnings.

:func:`parse` accepts a configuration as a whole or refuses it as a whole, and names every bad
value by its path (``t_score.withParams.model``). :func:`suspicions` finds what can be stored but
probably does not mean what its author thinks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from triggers import payload
from triggers.exceptions import ConfigurationError, InvalidPayload, PayloadTooLarge
from triggers.types import KNOWN_DIRECTIVES, NAME_LIMIT, TaskConfig

Problems = list[tuple[str, str]]

_RUN_HINT = "the name of a trigger task, such as 'app.tasks.ImportSubject'"


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """All tasks of a session, in order, with the text that identifies them.

    :ivar tasks: task configurations by name.
    :ivar body: the same as JSON text; sessions with the same text share one stored copy.
    :ivar digest: SHA-256 of ``body``, in hexadecimal.
    """

    tasks: Mapping[str, TaskConfig] = field(default_factory=dict)
    body: str = payload.EMPTY
    digest: str = hashlib.sha256(payload.EMPTY.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def merged_with(self, newer: Configuration) -> Configuration:
        """This configuration with the tasks of another added, or replaced in their place."""
        return _from_tasks({**self.tasks, **newer.tasks})


def parse(raw: Any) -> Configuration:
    """Turn what ``update_configuration`` was given into a :class:`Configuration`.

    :param raw: a mapping of task names to mappings of directives; lists and sets are both fine.
    :raises ConfigurationError: anything in it is wrong; it lists every problem with its path.
    """
    problems: Problems = []
    tasks = {}
    if not isinstance(raw, Mapping):
        problems.append(("configuration", f"expected a mapping of tasks, got {_kind(raw)}"))
    else:
        for name, directives in raw.items():
            path = name if isinstance(name, str) else repr(name)
            _check_task_name(name, path, problems)
            if not isinstance(directives, Mapping):
                found = _kind(directives)
                problems.append((path, f"expected a mapping of directives, got {found}"))
                continue
            _check_directives(directives, path, problems)
            tasks[path] = directives
    if problems:
        raise ConfigurationError(problems)
    parsed = _from_tasks({name: _task(name, _plain(each)) for name, each in tasks.items()})
    check_outcomes(parsed)
    return parsed


def check_outcomes(configuration: Configuration) -> None:
    """Refuse triggers whose names are reserved for the outcomes of tasks.

    Of all tasks of a session: one that comes later may reserve a name that another waits for.

    :raises ConfigurationError: there is one.
    """
    problems: Problems = []
    for name, task in configuration.tasks.items():
        for directive, triggers in (("after", task.after), ("unless", task.unless)):
            for trigger in sorted(triggers):
                owner, mark, outcome = trigger.partition(":")
                if mark and owner in configuration.tasks:
                    key = "andEvery" if trigger == task.and_every else directive
                    reason = (
                        f"{trigger!r} is reserved for the outcome {outcome!r} of {owner}, which "
                        "this version cannot wait for; only a task's plain name fires"
                    )
                    problems.append((f"{name}.{key}", reason))
    if problems:
        raise ConfigurationError(problems)


def restore(body: str) -> Configuration:
    """The configuration that was stored as this text."""
    directives_by_task = payload.decode(body)
    return _from_tasks({name: _task(name, each) for name, each in directives_by_task.items()})


def suspicions(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield (task name, reason) for each task that can be stored but will hardly ever run."""
    tasks = configuration.tasks
    for name, task in tasks.items():
        if not task.after and task.unless:
            yield name, "waits for nothing, so only a trigger of its 'unless' can start it"
        elif not task.after:
            yield name, "has no trigger in 'after' and no 'andEvery', so nothing ever starts it"
        elif task.unless and task.unless <= task.after:
            barring = ", ".join(sorted(task.unless))
            yield name, f"can never run: it needs {barring}, which its 'unless' forbids"
    for cycle in _cycles(tasks):
        if len(cycle) == 1:
            reason = "waits for itself to finish, so it starts only if you fire its name yourself"
        else:
            circle = " -> ".join([*cycle, cycle[0]])
            reason = (
                f"these tasks wait for each other ({circle}), so none of them starts unless you "
                "fire one of their names yourself"
            )
        yield cycle[0], reason


def _from_tasks(tasks: Mapping[str, TaskConfig]) -> Configuration:
    body = payload.dump({name: dict(task.directives) for name, task in tasks.items()})
    digest = hashlib.sha256(body.encode("utf-8")).hexdigest()
    return Configuration(tasks=dict(tasks), body=body, digest=digest)


def _task(name: str, directives: Mapping[str, Any]) -> TaskConfig:
    and_every = directives.get("andEvery")
    return TaskConfig(
        name=name,
        run=directives["run"],
        after=frozenset(directives.get("after") or ()) | ({and_every} if and_every else set()),
        unless=frozenset(directives.get("unless") or ()),
        and_every=and_every,
        using=directives.get("using"),
        directives=directives,
    )


def _plain(directives: Mapping[str, Any]) -> dict[str, Any]:
    """Directives as JSON would give them back: sets become sorted lists, keys are in order."""
    return {
        key: sorted(value) if isinstance(value, Set) else _listed(value)
        for key, value in sorted(directives.items())
    }


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value


def _check_task_name(name: object, path: str, problems: Problems) -> None:
    if not isinstance(name, str):
        problems.append((path, f"a task name must be a string, got {_kind(name)}"))
    elif any(mark in name for mark in "#:"):
        problems.append((path, "a task name must contain neither '#' nor ':'"))
    else:
        _check_name(name, path, "a task name", problems)


def _check_directives(directives: Mapping[Any, Any], path: str, problems: Problems) -> None:
    for key, value in directives.items():
        place = f"{path}.{key}"
        if not isinstance(key, str):
            problems.append((place, f"a directive must be a string, got {_kind(key)}"))
        elif key in _CHECKS:
            _CHECKS[key](value, place, problems)
        else:
            _check_storable(value, place, problems)
    if "run" not in directives:
        problems.append((f"{path}.run", f"is required: {_RUN_HINT}"))
    if "after" not in directives and "andEvery" not in directives:
        problems.append((f"{path}.after", "is required: a list of trigger names"))


def _check_names(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, list | tuple | Set):
        hint = f"; write [{value!r}]" if isinstance(value, str) else ""
        problems.append((path, f"expected a list of trigger names, got {_kind(value)}{hint}"))
        return
    for index, name in enumerate(value):
        _check_name(name, f"{path}[{index}]", "a trigger name", problems)


def _check_and_every(value: Any, path: str, problems: Problems) -> None:
    if isinstance(value, list | tuple | Set):
        problems.append((path, f"expected a single trigger name, got {_kind(value)}"))
    else:
        _check_name(value, path, "a trigger name", problems)


def _check_params(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, Mapping):
        problems.append((path, f"expected a mapping of mappings, got {_kind(value)}"))
        return
    for key, item in value.items():
        place = f"{path}.{key}"
        if not isinstance(item, Mapping):
            reason = f"expected a mapping of kwargs, as a trigger has them, got {_kind(item)}"
            problems.append((place, reason))
        else:
            _check_storable(item, place, problems)
    _check_storable(dict.fromkeys(value), path, problems)


def _check_run(value: Any, path: str, problems: Problems) -> None:
    if isinstance(value, str):
        if not value.strip():
            problems.append((path, f"is empty; expected {_RUN_HINT}"))
    elif isinstance(getattr(value, "name", None), str):
        problems.append((path, f"expected a name, got the task itself; write {value.name!r}"))
    else:
        problems.append((path, f"expected {_RUN_HINT}, got {_kind(value)}"))


def _check_using(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not value:
        problems.append((path, f"expected the name of a task runner, got {_kind(value)}"))


_CHECKS: dict[str, Callable[[Any, str, Problems], None]] = {
    "after": _check_names,
    "unless": _check_names,
    "andEvery": _check_and_every,
    "withParams": _check_params,
    "run": _check_run,
    "using": _check_using,
}
assert _CHECKS.keys() == KNOWN_DIRECTIVES


def _check_name(name: Any, path: str, what: str, problems: Problems) -> None:
    if not isinstance(name, str):
        problems.append((path, f"{what} must be a string, got {_kind(name)}"))
    elif not name:
        problems.append((path, f"{what} must not be empty"))
    elif len(name) > NAME_LIMIT:
        problems.append((path, f"{what} has {len(name)} characters; {NAME_LIMIT} are allowed"))
    else:
        _check_storable(name, path, problems)


def _check_storable(value: Any, path: str, problems: Problems) -> None:
    try:
        payload.encode({"": _listed(value)}, what="")
    except InvalidPayload as error:
        where = error.path.removeprefix(".")
        inner = f".{where}" if where and not where.startswith("[") else where
        reason = str(error).partition(": ")[2]
        problems.append((path + inner, reason))
    except PayloadTooLarge as error:
        problems.append((path, f"takes {error.size:,} bytes; {error.limit:,} are allowed"))


def _cycles(tasks: Mapping[str, TaskConfig]) -> Iterator[list[str]]:
    """Yield each circle of tasks once; one task per circle is enough to explain it."""
    done: set[str] = set()
    for start in tasks:
        trail: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = []
        if start not in done:
            trail.append(start)
            stack.append((start, iter(sorted(tasks[start].after & tasks.keys()))))
        while stack:
            name, children = stack[-1]
            for child in children:
                if child in trail:
                    yield trail[trail.index(child) :]
                elif child not in done:
                    trail.append(child)
                    stack.append((child, iter(sorted(tasks[child].after & tasks.keys()))))
                    break
            else:
                done.add(name)
                trail.pop()
                stack.pop()


def _kind(value: object) -> str:
    return type(value).__name__
