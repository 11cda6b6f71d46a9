"""What can be stored, but probably does not mean what its author thinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from triggers.configuration.likeness import meant_by
from triggers.configuration.names import Fact, facts_of, is_certain, is_plain, members_of
from triggers.configuration.rules import OUTCOMES
from triggers.types import KNOWN_DIRECTIVES, SESSION_FINALIZED, TaskConfig

if TYPE_CHECKING:
    from triggers.configuration import Configuration

_PREFIX = "t_"
"""What the names of tasks begin with by custom, and those of other triggers do not."""

_NO_DIGITS = str.maketrans("", "", "0123456789")


def suspicions(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield (task name, reason) for what can be stored but is hardly meant.

    A task that will hardly ever run, a directive or another task's name that is probably
    misspelled, a trigger that stands twice in a group, a task that keeps its session from being
    finalized, and a trigger that looks like the one that the session fires then.
    """
    tasks = configuration.tasks
    if configuration.finalizes:
        yield from _held_up(configuration)
        yield from _not_the_end(configuration)
    needs: dict[str, list[str]] = {}
    for name, task in tasks.items():
        facts = _facts(task)
        needs[name] = sorted(_tasks_needed(facts) & tasks.keys())
        reason = _suspicion(name, task, facts)
        if reason is not None:
            yield name, reason
        for reason in (*_misspelled(task), *_unknown(task, tasks), *_repeated(task)):
            yield name, reason
    for cycle in _cycles(needs):
        [name, *others] = cycle
        if not others and name not in tasks[name].after:
            reason = "waits for itself to fail, so it never starts"
        elif not others:
            reason = "waits for itself to finish, so it starts only if you fire its name yourself"
        else:
            circle = " -> ".join([*cycle, cycle[0]])
            reason = (
                f"these tasks wait for each other ({circle}), so none of them starts unless you "
                "fire one of their names yourself"
            )
        yield name, reason


def _facts(task: TaskConfig) -> set[Fact]:
    """What is true whenever the task can run, ``unless`` aside."""
    after = task.directives.get("after") or ()
    facts = facts_of(after, task.after | task.unless, task.directives.get("fresh") or {})
    return facts | {("held", task.and_every)} if task.and_every else facts


def _suspicion(name: str, task: TaskConfig, facts: set[Fact]) -> str | None:
    unless = task.directives.get("unless") or ()
    if not task.after:
        waits_for = "no trigger" if task.directives.get("after") else "nothing"
        if task.unless:
            return f"waits for {waits_for}, so only a trigger of its 'unless' can start it"
        return "has no trigger in 'after' and no 'andEvery', so nothing ever starts it"
    if ("settled", name) in facts:
        return "waits until it is settled itself, which it is not while it waits, so it never runs"
    if unless and is_certain(unless, facts, task.after | task.unless):
        if is_plain(unless):
            barring = ", ".join(sorted(task.unless))
            return f"can never run: it needs {barring}, which its 'unless' forbids"
        return "can never run: its 'unless' holds whenever its 'after' does"
    return None


def _misspelled(task: TaskConfig) -> Iterator[str]:
    """Directives that look like known ones, but for those that are marked as somebody's own."""
    for name in sorted(task.directives.keys() - KNOWN_DIRECTIVES):
        meant = None if name[:2] in ("x_", "x-") else meant_by(name, KNOWN_DIRECTIVES)
        if meant is not None:
            yield (
                f"{name!r} (did you mean {meant!r}?) is kept as a directive of your own, and does "
                "nothing by itself"
            )


def _unknown(task: TaskConfig, tasks: Mapping[str, TaskConfig]) -> Iterator[str]:
    """Triggers that look like one of the tasks, or like an outcome of one, and are none.

    Only where little else can be meant: a task that is to come later is called like another one
    too, and so is the trigger for which a task is named.
    """
    for trigger in sorted((task.after | task.unless) - tasks.keys()):
        source, mark, outcome = trigger.partition(":")
        is_outcome = bool(mark) and outcome in OUTCOMES
        if source in tasks or not (is_outcome or (source.startswith(_PREFIX) and not mark)):
            continue
        alike = (each for each in tasks if not _is_of_series(source, each))
        meant = meant_by(source, alike)
        if meant is not None and meant.startswith(_PREFIX) == source.startswith(_PREFIX):
            yield (
                f"{trigger!r} (did you mean {meant + mark + outcome!r}?) is a trigger like any "
                f"other, as there is no task {source!r}; no task's end fires it"
            )


def _is_of_series(one: str, other: str) -> bool:
    """Whether names differ as those of several alike do: in their digits, or their last letter."""
    return one[:-1] == other[:-1] or one.translate(_NO_DIGITS) == other.translate(_NO_DIGITS)


def _repeated(task: TaskConfig) -> Iterator[str]:
    """Triggers that stand twice, as names, in a group that asks for some of its members."""
    for key in ("after", "unless"):
        left = [task.directives.get(key) or ()]
        while left:
            condition = left.pop()
            if isinstance(condition, str) or is_plain(condition):
                continue
            members = members_of(condition) or ()
            left += members
            if isinstance(condition, Mapping) and {"any", "atLeast"} & condition.keys():
                names = Counter(each for each in members if isinstance(each, str))
                for name in (each for each, count in names.items() if count > 1):
                    yield (
                        f"{name!r} stands more than once in a group of its {key!r}, and one "
                        "firing is enough for all of them; firings are counted with 'times'"
                    )


def _held_up(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Tasks that begin only after the end of the session, which waits for them."""
    tasks = configuration.tasks
    needed = {
        name: {fact[1] for fact in _facts(task) if fact[0] == "held"}
        for name, task in tasks.items()
    }
    late, found = {SESSION_FINALIZED}, set[str]()
    while more := {name for name in tasks.keys() - found if late & needed[name]}:
        found |= more
        late.update(f"{name}{outcome}" for name in more for outcome in ("", ":failed", ":skipped"))
    for name, task in tasks.items():
        if name in found and SESSION_FINALIZED not in task.after:
            yield (
                name,
                f"runs only after {SESSION_FINALIZED!r}, but does not name it in its 'after'; so "
                "the session waits for it, and is never finalized unless it is closed",
            )


def _not_the_end(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Triggers that look like the one that the session fires at its end."""
    tasks = configuration.tasks
    for name, task in tasks.items():
        for trigger in sorted((task.after | task.unless) - tasks.keys() - {SESSION_FINALIZED}):
            if meant_by(trigger, (SESSION_FINALIZED,)) is not None:
                yield (
                    name,
                    f"{trigger!r} (did you mean {SESSION_FINALIZED!r}?) is a trigger like any "
                    "other; the session does not fire it at its end",
                )


def _tasks_needed(facts: set[Fact]) -> set[str]:
    """Names of the tasks, if they are tasks, that must have run before these facts are true."""
    held = {fact[1] for fact in facts if fact[0] == "held"}
    # What was never started can be abandoned or expire, but neither finish nor fail.
    return {name.removesuffix(":failed") for name in held}


def _cycles(needs: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Yield each circle of tasks once; one task per circle is enough to explain it."""
    done: set[str] = set()
    for start in needs:
        trail: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = []
        if start not in done:
            trail.append(start)
            stack.append((start, iter(needs[start])))
        while stack:
            name, children = stack[-1]
            for child in children:
                if child in trail:
                    yield trail[trail.index(child) :]
                elif child not in done:
                    trail.append(child)
                    stack.append((child, iter(needs[child])))
                    break
            else:
                done.add(name)
                trail.pop()
                stack.pop()
