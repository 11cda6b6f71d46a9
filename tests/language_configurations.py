"""Configurations that Hypothesis draws, from the whole of the configuration language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.reference_language import LanguageSession

TRIGGERS = ("a", "b", "c", "p")
OUTCOMES = ("failed", "skipped", "abandoned", "expired", "ended")
DURATIONS = ("PT2S", "PT5S", "PT10S")
FINALIZED = "sessionFinalized"


class Drawer:
    """Draws what a configuration may say, for one task after the other."""

    def __init__(
        self,
        draw: Callable[..., Any],
        names: tuple[str, ...],
        existing: dict[str, Any],
        *,
        timed: bool,
        finalizes: bool = False,
    ) -> None:
        self.draw = draw
        self.names = names
        self.tasks = (*existing, *names)
        self.config = dict(existing)
        self.timed = timed
        self.finalizes = finalizes

    def configuration(self) -> dict[str, Any]:
        self.config.update((name, self.directives()) for name in self.names)
        for task in self.names:  # filters come last, as they may ask about any task's arguments
            named = sorted(names_of(self.config[task]))
            if named and self.chance(40):
                when = {name: self.filter(name) for name in self.some(named)}
                self.config[task]["when"] = when
        return {name: self.config[name] for name in self.names}

    def chance(self, percent: int) -> bool:
        return bool(self.draw(st.integers(0, 99)) < percent)

    def one_of(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def directives(self) -> dict[str, Any]:
        self.every = self.name() if self.chance(45) else None
        self.counted: set[str] = set()
        self.sources: set[str] = set()
        directives: dict[str, Any] = {"andEvery": self.every} if self.every else {}
        waits = self.finalizes and self.chance(20)
        directives["after"] = [FINALIZED] if waits else self.conditions(0 if self.every else 1)
        if self.chance(35):
            directives["unless"] = self.conditions(0)
        if self.every and self.timed and self.chance(35):
            some: Any = self.one_of(("atMostEvery", "debounce"))
            burst = {"quiet": "PT3S", "most": "PT7S"}
            directives[some] = burst if some == "debounce" else self.one_of(DURATIONS)
        if self.timed and self.chance(25):
            directives["within"] = self.one_of(DURATIONS)
        if self.chance(15):
            directives["withParams"] = {self.one_of(TRIGGERS): {"n": 7, "level": 7}}
        names = sorted(names_of(directives))
        if self.timed and self.chance(25):
            barred = {self.every} if "debounce" in directives else set()
            if usable := [name for name in names if name not in barred]:
                directives["fresh"] = {name: self.one_of(DURATIONS) for name in self.some(usable)}
        return directives

    def some(self, names: list[str]) -> list[str]:
        return self.draw(  # type: ignore[no-any-return]
            st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
        )

    def name(self) -> str:
        if self.finalizes and self.chance(15):
            return FINALIZED
        if self.chance(65):
            return str(self.one_of(TRIGGERS))
        task = str(self.one_of(self.tasks))
        return task if self.chance(50) else f"{task}:{self.one_of(OUTCOMES)}"

    def conditions(self, least: int) -> Any:
        number = self.draw(st.integers(least, 3))
        members = [self.condition(2) for _ in range(number)]
        alone = number == 1 and not isinstance(members[0], str) and self.chance(50)
        return members[0] if alone else members

    def condition(self, depth: int) -> Any:
        kinds = ["name"] * 7 + ["times", "times", "from", "settled", "settled"]
        kinds += ["any", "any", "atLeast", "all"] if depth else []
        kinds += ["elapsed"] * 2 if self.timed else []
        kind = self.one_of(kinds)
        if kind in ("any", "atLeast", "all"):
            members = [self.condition(depth - 1) for _ in range(self.draw(st.integers(1, 3)))]
            if kind == "atLeast":
                return {"atLeast": self.draw(st.integers(1, len(members))), "of": members}
            return members if kind == "all" and self.chance(50) else {kind: members}
        name = self.name()
        if kind == "settled":
            return {"settled": self.one_of(self.tasks)}
        if kind == "elapsed":
            return {"elapsed": self.one_of(DURATIONS), "since": name}
        if kind == "times" and name not in (self.every, *self.sources):
            self.counted.add(name)
            return {"trigger": name, "times": self.draw(st.integers(1, 3))}
        if kind == "from" and name not in (self.every, *self.sources):
            source = self.name()
            if source not in (name, *self.counted):  # numbers do not count each other
                self.counted.add(name)
                self.sources.add(source)
                return {"trigger": name, "times": {"from": f"{source}.n"}}
        return name

    def filter(self, name: str) -> Any:
        about_arguments = []
        task = self.config.get(name.partition(":")[0], {})
        if sources := sorted({*task.get("withParams", {}), *after_names_of(task)}):
            source = self.one_of(sources)
            about_arguments.append({f"$args.{source}.n": {"gte": 1}})
            about_arguments.append({f"$args.{source}.level": {"exists": self.chance(50)}})
        if name.endswith(":failed"):
            about_failure = [{"types": {"contains": "LookupError"}}, {"attempt": {"gte": 2}}]
            return self.one_of(about_failure + about_arguments)
        given: list[Any] = [
            {"n": self.draw(st.integers(0, 2))},
            {"n": {"gte": 1, "lt": 3}},
            {"c": {"in": ["web"]}},
            {"c": {"exists": True}},
            "tests_is_even",
            "tests_is_fragile",
            [{"c": {"exists": False}}, {"n": {"ne": 0}}],
        ]
        return self.one_of(given + about_arguments * 2)


def names_of(directives: dict[str, Any]) -> set[str]:
    """Return the names that a task names."""
    return after_names_of(directives) | after_names_of({"after": directives.get("unless", [])})


def after_names_of(directives: dict[str, Any]) -> set[str]:
    """Return the names of the kwargs that its instances have."""
    session = LanguageSession()
    session.tasks["t_x"] = directives
    return session._after_names("t_x")
