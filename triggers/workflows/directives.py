"""From the arguments of a Python declaration to the directives of a task, in plain JSON.

A task has one filter, and one time for which a firing counts, per trigger, and one deadline. An
expression may say them at any mention of a trigger, so this is where mentions that contradict one
another are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triggers.configuration import Problems
from triggers.exceptions import ConfigurationError
from triggers.types import KNOWN_DIRECTIVES
from triggers.workflows.expressions import Expression, Trigger
from triggers.workflows.spelling import (
    Duration,
    Filter,
    Provider,
    Written,
    duration,
    filter_json,
    provider_name,
    written,
)

if TYPE_CHECKING:
    from triggers.task import TriggerTask

Condition = Expression | str | list[Any] | tuple[Any, ...] | Set[Any] | Mapping[str, Any]
"""A trigger's name, an expression, JSON, or several of these, all of which must hold."""

_IN_PYTHON = {
    "andEvery": "and_every",
    "atMostEvery": "at_most_every",
    "withParams": "with_params",
    "withArgs": "with_args",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What :meth:`triggers.workflows.Workflow.task` was given; its parameters are explained there.

    ``None`` is what was not given.

    :ivar run: the trigger task that does the work: the task, its class or its name.
    :ivar after: what it waits for.
    :ivar unless: what rules it out.
    :ivar and_every: the trigger of which every firing counts.
    :ivar when: filters by trigger.
    :ivar within: how long an instance may wait; seconds, or the like.
    :ivar fresh: how long a firing counts, by trigger; seconds, or the like.
    :ivar at_most_every: the shortest time between firings that count; seconds, or the like.
    :ivar debounce: one instance per burst: ``quiet`` and ``most``; seconds, or the like.
    :ivar with_params: kwargs by trigger that lie under what is fired.
    :ivar with_args: a provider, or its name.
    :ivar using: name of the runner.
    :ivar custom: directives of the application's own.
    """

    run: str | TriggerTask | type[TriggerTask]
    after: Condition | None = None
    unless: Condition | None = None
    and_every: str | Trigger | None = None
    when: Mapping[str, Filter | list[Filter]] | None = None
    within: Duration | None = None
    fresh: Mapping[str, Duration] | None = None
    at_most_every: Duration | None = None
    debounce: Mapping[str, Duration] | None = None
    with_params: Mapping[str, Mapping[str, Any]] | None = None
    with_args: Provider | None = None
    using: str | None = None
    custom: Mapping[str, Any] = field(default_factory=dict)

    def directives(self, task: str) -> dict[str, Any]:
        """The task's directives.

        :param task: the task's name, for the paths of what is wrong.
        :raises ConfigurationError: something is said twice, and differently; or is out of place.
        """
        said = _Said(task)
        mentions = [*_mentions(self.after), *_mentions(self.unless)]
        every = self._and_every(said)
        said.collect(mentions, every, _whole(self.after))
        found: dict[str, Any] = {"run": getattr(self.run, "name", self.run)}
        found |= {
            "after": _condition(self.after),
            "unless": _condition(self.unless),
            "andEvery": None if every is None else every.name,
            "when": said.with_argument("when", said.when, self._when(said)),
            "within": said.deadline(self.within),
            "fresh": said.with_argument("fresh", said.fresh, _durations(self.fresh)),
            "atMostEvery": self._at_most_every(said, every),
            "debounce": self._debounce(said, every),
            "withParams": _listed(self.with_params),
            "withArgs": self._with_args(said),
            "using": self.using,
        }
        for name in self.custom.keys() & KNOWN_DIRECTIVES:
            said.problem(name, f"write {_IN_PYTHON.get(name, name)}=… here")
        if said.problems:
            raise ConfigurationError(said.problems)
        given = {name: value for name, value in found.items() if value is not None}
        return {**given, **_listed(self.custom)}

    def _and_every(self, said: _Said) -> Trigger | None:
        every: Any = self.and_every
        if every is None:
            return None
        if isinstance(every, str):
            return Trigger(name=every)
        if not isinstance(every, Trigger):
            what = every if isinstance(every, Expression) else type(every).__name__
            reason = f"expected a single trigger, got {what}"
            said.problem("andEvery", f"{reason}; for several, use a task for each")
            return None
        if every.count is not None:
            said.problem("andEvery", "times() has no place here: each firing is for an instance")
        return every

    def _when(self, said: _Said) -> Mapping[str, Any] | None:
        if self.when is None:
            return None
        if isinstance(self.when, Expression):
            reason = f"{self.when!r} is an expression; name it in after, unless or and_every"
            said.problem("when", f"takes a mapping of filters by trigger, and {reason}")
            return None
        return {name: filter_json(value, f"when, {name}") for name, value in self.when.items()}

    def _with_args(self, said: _Said) -> str | None:
        given: Any = self.with_args
        if isinstance(given, Mapping):
            reason = "takes a provider, which makes the arguments; kwargs that do not change go "
            said.problem("withArgs", reason + "into with_params, by trigger")
            return None
        return None if given is None else provider_name(given)

    def _at_most_every(self, said: _Said, every: Trigger | None) -> Any:
        given = None if self.at_most_every is None else duration(self.at_most_every, {})
        return said.one("atMostEvery", None if every is None else every.interval, given)

    def _debounce(self, said: _Said, every: Trigger | None) -> Any:
        burst = None if every is None else every.burst
        here = None if burst is None else dict(zip(("quiet", "most"), burst, strict=True))
        return said.one("debounce", here, _durations(self.debounce))


class _Said:
    """What the mentions of triggers say of the whole task, and what is wrong with it."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.problems: Problems = []
        self.when: dict[str, Any] = {}
        self.fresh: dict[str, Any] = {}
        self.deadlines: dict[str, None] = {}

    def problem(self, directive: str, reason: str) -> None:
        self.problems.append((f"{self.task}.{directive}", reason))

    def collect(
        self, mentions: list[Expression], every: Trigger | None, whole: Expression | None
    ) -> None:
        """Take what each mention says; of the whole ``after`` condition, the deadline too."""
        filters: dict[str, dict[Written | None, None]] = {}
        lifetimes: dict[str, dict[str | None, None]] = {}
        for each in mentions if every is None else [*mentions, every]:
            if each.deadline is not None and each is whole:
                self.deadlines[each.deadline] = None
            elif each.deadline is not None:
                reason = f"belongs to the task; put it around the whole of after, not in {each!r}"
                self.problem("within", reason)
            if isinstance(each, Trigger):
                filters.setdefault(each.name, {})[each.filter] = None
                lifetimes.setdefault(each.name, {})[each.lifetime] = None
                if each is not every and (each.interval or each.burst):
                    reason = f"{each!r} is about and_every; write it there"
                    self.problem("atMostEvery" if each.interval else "debounce", reason)
        for name, found in filters.items():
            value = self._single("when", name, found, "filter")
            if value is not None:
                self.when[name] = value.value
        for name, times in lifetimes.items():
            value = self._single("fresh", name, times, "time to be fresh")
            if value is not None:
                self.fresh[name] = value

    def _single(self, directive: str, name: str, found: Mapping[Any, None], what: str) -> Any:
        if len(found) > 1:
            shown = " and ".join(
                f"no {what}" if each is None else repr(getattr(each, "value", each))
                for each in found
            )
            reason = f"a task has one {what} per trigger, and here are {shown}; use two tasks"
            self.problem(f"{directive}.{name}", reason)
        return next(iter(found))

    def with_argument(self, directive: str, said: dict[str, Any], given: Any) -> Any:
        """What expressions say of triggers, together with the argument of this name."""
        for name, value in (given or {}).items():
            if name in said and written(said[name]) != written(value):
                reason = f"said twice: {said[name]!r} at the trigger and {value!r} here"
                self.problem(f"{directive}.{name}", reason)
        if given is None and not said:
            return None
        return {**said, **(given or {})}

    def deadline(self, given: Duration | None) -> str | None:
        if given is not None:
            self.deadlines[duration(given, {})] = None
        if len(self.deadlines) > 1:
            found = ", ".join(self.deadlines)
            self.problem("within", f"a task has one deadline, and here are several: {found}")
        return next(iter(self.deadlines), None)

    def one(self, directive: str, here: Any, given: Any) -> Any:
        """What the ``and_every`` trigger says, or the argument of this name."""
        if here and given and here != given:
            self.problem(directive, f"said twice: {here!r} at the trigger and {given!r} here")
        return here or given


def _whole(condition: Any) -> Expression | None:
    """The expression that is a condition as a whole, alone in a list or not."""
    if isinstance(condition, list | tuple) and len(condition) == 1:
        [condition] = condition
    return condition if isinstance(condition, Expression) else None


def _mentions(condition: Any) -> Iterator[Expression]:
    """The expressions in a condition; a name alone is one too, JSON in it is not looked into."""
    if isinstance(condition, Expression):
        yield from condition.parts()
    elif isinstance(condition, str):
        yield Trigger(name=condition)
    elif isinstance(condition, list | tuple | Set):
        for each in condition:
            yield from _mentions(each)


def _condition(condition: Condition | None) -> Any:
    """A condition as hand-written JSON has it: where all must hold, a list."""
    if isinstance(condition, Expression):
        made = condition.to_json()
        if isinstance(made, str):
            return [made]
        return made.get("all", made)
    if isinstance(condition, str):
        return [condition]
    if isinstance(condition, Set):
        return sorted((_member(each) for each in condition), key=str)
    if isinstance(condition, list | tuple):
        return [_member(each) for each in condition]
    return _listed(condition)


def _member(value: Any) -> Any:
    return value.to_json() if isinstance(value, Expression) else _listed(value)


def _durations(given: Mapping[str, Duration] | None) -> dict[str, str] | None:
    if given is None:
        return None
    return {name: duration(value, {}) for name, value in given.items()}


def _listed(value: Any) -> Any:
    """What was given, as fresh objects, with lists for tuples; the rest is for the validator."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value
