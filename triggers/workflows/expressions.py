"""Conditions as Python values, with operators: ``on("a") & (on("b") | on("c"))``.

An expression is a frozen value. It is compared by ``==``, prints like the source that makes it,
and becomes JSON in a workflow. What belongs to the task and not to the condition (a filter, how
long a firing counts, a deadline) may be said at the trigger all the same; the workflow moves it to
the directive that it belongs to (:mod:`triggers.workflows.directives`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from triggers.workflows.spelling import (
    ARGS,
    Duration,
    Filter,
    Written,
    checked_text,
    duration,
    exception_name,
    joined,
    members_of,
    trigger_name,
    whole_number,
    written,
)

E = TypeVar("E", bound="Expression")


@dataclass(frozen=True, slots=True, repr=False)
class Expression:
    """What a task waits for. Combine expressions with ``&`` and ``|``.

    A string among them is the name of a trigger: ``on("a") & "b"``.

    :ivar deadline: the task's ``within``, ISO 8601, if it was said here.
    """

    deadline: str | None = None

    def within(self: E, value: Duration | None = None, /, **units: float) -> E:
        """How long an instance of the task may wait, counted from its creation.

        :param value: ISO 8601 text, a ``timedelta``, or seconds; by default ``units`` say it.
        :param units: ``weeks``, ``days``, ``hours``, ``minutes``, ``seconds``.
        :returns: a new expression.
        :raises ValueError: the language does not know such a duration.
        """
        return replace(self, deadline=duration(value, units))

    def to_json(self) -> Any:
        """The condition as the configuration language writes it, in plain JSON."""
        raise NotImplementedError

    def parts(self) -> Iterator[Expression]:
        """The expression itself and all expressions in it."""
        yield self

    def __and__(self, other: Expression | str) -> AllOf:
        return combined(AllOf, self, other) if _is_operand(other) else NotImplemented

    def __rand__(self, other: Expression | str) -> AllOf:
        return combined(AllOf, other, self) if _is_operand(other) else NotImplemented

    def __or__(self, other: Expression | str) -> AnyOf:
        return combined(AnyOf, self, other) if _is_operand(other) else NotImplemented

    def __ror__(self, other: Expression | str) -> AnyOf:
        return combined(AnyOf, other, self) if _is_operand(other) else NotImplemented

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is neither true nor false here: it is asked when something is fired. "
            "Write & for and, | for or; instead of not, name it in unless."
        )

    def __invert__(self) -> NoReturn:
        raise TypeError(f"There is no ~: name {self!r} in unless.")

    if not TYPE_CHECKING:  # which knows that it is only a trigger that has these

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_") and hasattr(Trigger, name):
                raise TypeError(
                    f"{name}() says something of one trigger, and {self!r} is none; write it at "
                    f"the trigger: on('…').{name}(…)."
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return self._source() + _call("within", self.deadline)

    def _source(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, repr=False)
class Trigger(Expression):
    """Firings of one name; made by :func:`~triggers.workflows.on`.

    :ivar name: the trigger.
    :ivar count: how many firings; or the trigger and path that say how many; ``None``: one will do.
    :ivar filter: which of them pass for the task; ``None``: all.
    :ivar lifetime: how long each of them counts, ISO 8601; ``None``: for ever.
    :ivar interval: the task's ``atMostEvery``, ISO 8601; ``None``: not said here.
    :ivar burst: the task's ``debounce``: quiet and most, ISO 8601; ``None``: not said here.
    """

    name: str = ""
    count: int | str | None = None
    filter: Written | None = None
    lifetime: str | None = None
    interval: str | None = None
    burst: tuple[str, str] | None = None

    def times(self, count: int | None = None, /, *, from_: str | None = None) -> Trigger:
        """Only when so many firings of it are held.

        :param count: how many, from 1; by default ``from_`` says it.
        :param from_: the trigger and path where the number is found: ``"started.pages"``; by
            default ``count`` says it.
        :returns: a new expression.
        :raises TypeError: both or neither are given, or one is of the wrong type.
        :raises ValueError: ``count`` is less than 1.
        """
        if (count is None) == (from_ is None):
            raise TypeError("times() takes a number, or from_='trigger.path'.")
        if from_ is not None:
            return replace(self, count=checked_text(from_, "from_"))
        if whole_number(count, "times()") < 1:
            raise ValueError(f"times() takes a number from 1, got {count}.")
        return replace(self, count=count)

    def failed(self, *exceptions: str | type[BaseException]) -> Trigger:
        """The task of this name failed.

        :param exceptions: with any of these: names of classes, simple or qualified, or the
            classes; their subclasses are meant too. Without any: however it failed.
        """
        outcome = self._outcome("failed")
        if not exceptions:
            return outcome
        names = [exception_name(each) for each in exceptions]
        test = {"contains": names[0]} if len(names) == 1 else {"containsAny": names}
        return replace(outcome, filter=written({"types": test}))

    def skipped(self) -> Trigger:
        """The task of this name was skipped."""
        return self._outcome("skipped")

    def abandoned(self) -> Trigger:
        """The task of this name was abandoned."""
        return self._outcome("abandoned")

    def expired(self) -> Trigger:
        """The task of this name was abandoned because its time was up."""
        return self._outcome("expired")

    def ended(self) -> Trigger:
        """The task of this name ended in any way."""
        return self._outcome("ended")

    def where(self, *filters: Filter, **tests: Any) -> Trigger:
        """Only firings whose kwargs pass; further calls add to the filter.

        :param filters: the name of a predicate or the predicate itself, or tests by path as in
            JSON: ``{"page.number": {"gte": 3}, "channel": "web"}``.
        :param tests: the same as Django writes it: ``page__number__gte=3, channel="web"``.
        :returns: a new expression.
        :raises CannotRegister: a function that can be no predicate, such as a lambda.
        :raises TypeError: no test at all, or something that is none.
        """
        return replace(self, filter=joined(self.filter, members_of(filters, tests)))

    def where_args(self, *filters: Mapping[str, Any], **tests: Any) -> Trigger:
        """Only outcomes of instances whose own arguments pass.

        :param filters: tests by path, which begins with a trigger of that task:
            ``{"orderPlaced.amount": {"gt": 1000}}``.
        :param tests: the same as Django writes it: ``orderPlaced__amount__gt=1000``.
        :returns: a new expression.
        :raises TypeError: no test at all, or something that is none.
        """
        return replace(self, filter=joined(self.filter, members_of(filters, tests, ARGS)))

    def fresh(self, value: Duration | None = None, /, **units: float) -> Trigger:
        """Only while a firing of it is not so old.

        :param value: ISO 8601 text, a ``timedelta``, or seconds; by default ``units`` say it.
        :param units: ``weeks``, ``days``, ``hours``, ``minutes``, ``seconds``.
        :returns: a new expression.
        :raises ValueError: the language does not know such a duration.
        """
        return replace(self, lifetime=duration(value, units))

    def at_most_every(self, value: Duration | None = None, /, **units: float) -> Trigger:
        """Of an ``and_every`` trigger: pass over firings that come sooner after the last one.

        :param value: ISO 8601 text, a ``timedelta``, or seconds; by default ``units`` say it.
        :param units: ``weeks``, ``days``, ``hours``, ``minutes``, ``seconds``.
        :returns: a new expression.
        :raises ValueError: the language does not know such a duration.
        """
        return replace(self, interval=duration(value, units))

    def debounce(self, *, quiet: Duration, most: Duration) -> Trigger:
        """Of an ``and_every`` trigger: one instance per burst, with the last kwargs.

        :param quiet: a burst is over when nothing was fired for so long: ISO 8601 text, a
            ``timedelta``, or seconds;
        :param most: or when its first firing is so long ago; ISO 8601 text, a ``timedelta``, or
            seconds.
        :returns: a new expression.
        """
        return replace(self, burst=(duration(quiet, {}), duration(most, {})))

    def to_json(self) -> Any:
        if self.count is None:
            return self.name
        times = {"from": self.count} if isinstance(self.count, str) else self.count
        return {"trigger": self.name, "times": times}

    def _outcome(self, outcome: str) -> Trigger:
        if ":" in self.name:
            raise TypeError(f"{self!r} is an outcome already.")
        if self != Trigger(name=self.name):
            raise TypeError(f"Say {outcome}() first: on({self.name!r}).{outcome}().")
        return Trigger(name=f"{self.name}:{outcome}")

    def _source(self) -> str:
        times = f"from_={self.count!r}" if isinstance(self.count, str) else f"{self.count}"
        where = []
        if self.filter is not None:
            value = self.filter.value
            where = value if isinstance(value, list) else [value]
        quiet, most = self.burst or ("", "")
        return (
            f"on({self.name!r})"
            + (f".times({times})" if self.count is not None else "")
            + (f".where({', '.join(map(repr, where))})" if where else "")
            + _call("fresh", self.lifetime)
            + _call("at_most_every", self.interval)
            + (f".debounce(quiet={quiet!r}, most={most!r})" if self.burst else "")
        )


@dataclass(frozen=True, slots=True, repr=False)
class _Group(Expression):
    members: tuple[Expression, ...] = ()

    def parts(self) -> Iterator[Expression]:
        yield self
        for member in self.members:
            yield from member.parts()


@dataclass(frozen=True, slots=True, repr=False)
class AllOf(_Group):
    """Every member; ``a & b``."""

    def to_json(self) -> Any:
        return {"all": [member.to_json() for member in self.members]}

    def _source(self) -> str:
        return _operation("&", "all_of", self)


@dataclass(frozen=True, slots=True, repr=False)
class AnyOf(_Group):
    """At least one member; ``a | b``."""

    def to_json(self) -> Any:
        return {"any": [member.to_json() for member in self.members]}

    def _source(self) -> str:
        return _operation("|", "any_of", self)


@dataclass(frozen=True, slots=True, repr=False)
class AtLeast(_Group):
    """So many of the members; made by :func:`~triggers.workflows.at_least`."""

    least: int = 1

    def to_json(self) -> Any:
        return {"atLeast": self.least, "of": [member.to_json() for member in self.members]}

    def _source(self) -> str:
        return f"at_least({self.least}, {_arguments(self)})"


@dataclass(frozen=True, slots=True, repr=False)
class Settled(Expression):
    """A task has run, with nothing left to do; made by :func:`~triggers.workflows.settled`."""

    task: str = ""

    def to_json(self) -> Any:
        return {"settled": self.task}

    def _source(self) -> str:
        return f"settled({self.task!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Elapsed(Expression):
    """So much time has passed since a firing; made by :func:`~triggers.workflows.elapsed`."""

    since: str = ""
    length: str = ""

    def to_json(self) -> Any:
        return {"elapsed": self.length, "since": self.since}

    def _source(self) -> str:
        return f"elapsed({self.length!r}, since={self.since!r})"


G = TypeVar("G", AllOf, AnyOf)


def _is_operand(value: object) -> bool:
    return isinstance(value, Expression | str)


def combined(cls: type[G], *operands: Any) -> G:
    """One group of these; what is such a group already gives its members."""
    members: list[Expression] = []
    for each in members_from(operands):
        members += each.members if isinstance(each, cls) else (each,)
    if not members:
        raise ValueError(f"{cls.__name__} needs at least one member.")
    if cls is AnyOf:
        refuse_repeated(members)
    return cls(members=tuple(members))


def members_from(values: Iterable[Any]) -> list[Expression]:
    """Expressions of what was given as members of a group.

    :raises TypeError: one is neither an expression nor a name.
    :raises ValueError: one has a deadline.
    """
    return [_member(value) for value in values]


def refuse_repeated(members: Iterable[Expression]) -> None:
    """Refuse a trigger that stands twice where some of the members are enough.

    :raises ValueError: there is one.
    """
    found = Counter(each for each in members if isinstance(each, Trigger) and each.count is None)
    for each, count in found.items():
        if count > 1:
            raise ValueError(
                f"{each!r} stands more than once, and one firing is enough for all of them; "
                f"count firings with on({each.name!r}).times(…)."
            )


def _member(value: Any) -> Expression:
    if isinstance(value, str):
        return Trigger(name=trigger_name(value, "on()"))
    if isinstance(value, list | tuple | Set):
        what = type(value).__name__
        raise TypeError(f"Give the members as arguments, with * before a {what} of them.")
    if not isinstance(value, Expression):
        raise TypeError(f"Expected a trigger or an expression, got {type(value).__name__}.")
    if value.deadline is not None:
        raise ValueError(
            f"within() belongs to the task, and {value!r} is a part of its condition; put it "
            "around the whole, (… & …).within(…), or give the task within=…."
        )
    return value


def _call(method: str, argument: str | None) -> str:
    return "" if argument is None else f".{method}({argument!r})"


def _arguments(group: _Group) -> str:
    return ", ".join(map(repr, group.members))


def _operation(operator: str, function: str, group: _Group) -> str:
    if len(group.members) == 1:
        return f"{function}({_arguments(group)})"
    shown = [
        f"({each!r})" if isinstance(each, AllOf | AnyOf) and len(each.members) > 1 else repr(each)
        for each in group.members
    ]
    text = f" {operator} ".join(shown)
    return f"({text})" if group.deadline else text
