"""The model of the language, broken on purpose: both the examples and the machine must notice."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import Phase

from tests.language_machine import LanguageMachine
from tests.machine import explore
from tests.reference_language import Firing, Instance, LanguageSession
from tests.reference_values import Kwargs, lookup, seconds
from tests.unit.test_language_reference import EXAMPLES


class AnyNeedsAll(LanguageSession):
    def _holds(self, condition: Any, *rest: Any) -> bool:
        if isinstance(condition, dict) and "any" in condition:
            condition = condition["any"]
        return super()._holds(condition, *rest)


class AtLeastNeedsOneMore(LanguageSession):
    def _holds(self, condition: Any, *rest: Any) -> bool:
        if isinstance(condition, dict) and "atLeast" in condition:
            condition = {**condition, "atLeast": condition["atLeast"] + 1}
        return super()._holds(condition, *rest)


class TimesIsIgnored(LanguageSession):
    def _times(self, instance: Instance, leaf: dict[str, Any]) -> int | None:
        return 1 if isinstance(leaf.get("times"), int) else super()._times(instance, leaf)


class TimesIsUnlimited(LanguageSession):
    def _most(self, instance: Instance, name: str) -> int | None:
        most = super()._most(instance, name)
        return None if most and most > 1 else most


class NumbersOfUnlessDoNotMatterForTaking(LanguageSession):
    def _most(self, instance: Instance, name: str) -> int | None:
        unless = self.tasks[instance["task"]].pop("unless", None)
        most = super()._most(instance, name)
        if unless is not None:
            self.tasks[instance["task"]]["unless"] = unless
        return most


class OnlyOneIsTakenUntilTheNumberIsKnown(LanguageSession):
    def _most(self, instance: Instance, name: str) -> int | None:
        return super()._most(instance, name) or 1


class NegativeNumbersHold(LanguageSession):
    def _times(self, instance: Instance, leaf: dict[str, Any]) -> int | None:
        number = super()._times(instance, leaf)
        if number is None and isinstance(leaf.get("times"), dict):
            trigger, path = self._source(instance["task"], leaf["times"]["from"])
            for firing in self._counting(instance, trigger)[:1]:
                value = lookup(firing["names"][trigger], path)
                return 0 if isinstance(value, int) and value < 0 else None
        return number


class AFailedInstanceIsSettled(LanguageSession):
    def _is_settled(self, task: str) -> bool:
        latest = {each["lineage"]: each["status"] for each in self._of_task(task)}
        return bool(latest) and not {"unstarted", "scheduled", "running"} & set(latest.values())


class SettledNeedsNoLineage(LanguageSession):
    def _is_settled(self, task: str) -> bool:
        return not self._of_task(task) or super()._is_settled(task)


class SettledCountsInstances(LanguageSession):
    def _is_settled(self, task: str) -> bool:
        unsettled = {"unstarted", "scheduled", "running", "failed", "replayed"}
        found = {each["status"] for each in self._of_task(task)}
        return bool(found) and not unsettled & found


class SettledIsAskedBeforeTheCascades(LanguageSession):
    def _finish_transition(self) -> None:
        while any(self._settle(instance) for instance in self._in_order()):
            pass
        super()._finish_transition()


class SettledIsAskedOnlyOnce(LanguageSession):
    def _finish_transition(self) -> None:
        asked = False
        while self.queue or not asked:
            if self.queue:
                firing = self.queue.pop(0)
                for task in self.tasks:
                    self._offer(task, firing)
            else:
                asked = True
                for instance in self._in_order():
                    self._settle(instance)


class UnlessBySettledComesTooLate(LanguageSession):
    def _decide(self, instance: Instance, settled: Callable[[str], bool] | None = None) -> None:
        super()._decide(instance, settled or (lambda task: False))


class FiltersAreIgnored(LanguageSession):
    def _filter_passes(self, task: str, name: str, firing: Firing) -> bool:
        return True


class OneFilterOfSeveralIsEnough(LanguageSession):
    def _filter_passes(self, task: str, name: str, firing: Firing) -> bool:
        given = self.tasks[task].get("when", {}).get(name)
        if not isinstance(given, list):
            return super()._filter_passes(task, name, firing)
        passes = []
        for each in given:
            self.tasks[task]["when"][name] = each
            passes.append(super()._filter_passes(task, name, firing))
        self.tasks[task]["when"][name] = given
        return any(passes)


class ArgumentsAreThoseThatWereFiredOnly(LanguageSession):
    def _firing(self, names: dict[str, Kwargs], cause: str | None) -> Firing:
        firing = super()._firing(names, cause)
        if cause is not None:
            firing["arguments"] = self._kwargs(self.instances[cause])
        return firing


class APredicateThatRaisesHasOnlyNotPassed(LanguageSession):
    def _filter_passes(self, task: str, name: str, firing: Firing) -> bool:
        try:
            return super()._filter_passes(task, name, firing)
        except ValueError:
            return False


class TheLatestOfAllIsCarriedOver(LanguageSession):
    def _carried(self, task: str, name: str) -> Firing | None:
        return self._latest().get(name)


class AtMostEveryCountsFromTheLastOfAll(LanguageSession):
    def _passes(self, task: str, name: str, firing: Firing, again: bool = False) -> bool:
        passes = super()._passes(task, name, firing, again)
        if not passes and "atMostEvery" in self.tasks[task] and (task, name) in self.passed:
            self.passed[task, name] = {**self.passed[task, name], "at": firing["at"]}
        return passes


class AtMostEveryAsksBeforeTheFilter(LanguageSession):
    def _passes(self, task: str, name: str, firing: Firing, again: bool = False) -> bool:
        passes = super()._passes(task, name, firing, again)
        if "atMostEvery" in self.tasks[task] and name == self.tasks[task]["andEvery"]:
            self.passed[task, name] = firing
        return passes


class WhatIsFreshIsNotReplaced(LanguageSession):
    def _takes(self, instance: Instance, name: str) -> bool:
        if name in self._fresh(instance["task"]) and self._counting(instance, name):
            return False
        return super()._takes(instance, name)


class NothingGrowsStale(LanguageSession):
    def _counting(self, instance: Instance, name: str) -> list[Firing]:
        now, self.now = self.now, 0
        held = super()._counting(instance, name)
        self.now = now
        return held


class WhatIsAsOldAsTheLimitIsFresh(LanguageSession):
    def _counting(self, instance: Instance, name: str) -> list[Firing]:
        now = self.now
        self.now -= 0.1 if name in self._fresh(instance["task"]) else 0
        held = super()._counting(instance, name)
        self.now = now
        return held


class ABurstKeepsItsFirstKwargs(LanguageSession):
    def _take(self, instance: Instance, name: str, firing: Firing) -> None:
        held = instance["held"].get(name)
        if held and self._is_debounced(instance["task"], name):
            firing = {**firing, "names": held[0]["names"]}
        super()._take(instance, name, firing)


class ABurstLastsAsLongAsItIsFed(LanguageSession):
    def _burst_end(self, instance: Instance) -> float:
        directives = self.tasks[instance["task"]]
        last: float = instance["held"][directives["andEvery"]][-1]["at"]
        return last + seconds(directives["debounce"]["quiet"])


class EndedIsForgotten(LanguageSession):
    def _enqueue_outcome(self, name: str, names: dict[str, Kwargs]) -> None:
        if names:
            self._enqueue(self._firing(names, name))


class ASkipFiresNothing(LanguageSession):
    def skip(self, name: str) -> None:
        self._begin()
        self._change(name, ["running"], "skipped")
        self._finish_transition()


class ARetryHasFailed(LanguageSession):
    def retry(self, name: str, replacement: dict[str, Kwargs] | None = None) -> str:
        copy = super().retry(name, replacement)
        self._outcome(name, {f"{self._task(name)}:failed": self._failure(name, None)})
        return copy


class AttemptsCountReplays(LanguageSession):
    def _attempts(self, name: str) -> int:
        lineage = self.instances[name]["lineage"]
        return sum(each["starts"] for each in self.instances.values() if each["lineage"] == lineage)


class OutcomesAreDecidedLastInFirstOut(LanguageSession):
    def _enqueue(self, firing: Firing) -> None:
        super()._enqueue(firing)
        self.queue.insert(0, self.queue.pop())


class ALineageIsTakenAgainAndAgain(LanguageSession):
    def _note_passed(self, task: str, name: str, firing: Firing) -> None:
        self.passed[task, name] = firing


class ALineageIsTakenOnceWhateverTheName(LanguageSession):
    def _passes(self, task: str, name: str, firing: Firing, again: bool = False) -> bool:
        if not again and (firing["lineage"], task) in {(each[0], each[2]) for each in self.told}:
            return False
        return super()._passes(task, name, firing, again)


class AFilteredOutcomeUsesItsLineageUp(LanguageSession):
    def _passes(self, task: str, name: str, firing: Firing, again: bool = False) -> bool:
        passes = super()._passes(task, name, firing, again)
        if firing["lineage"]:
            self.told.add((firing["lineage"], name, task))
        return passes


class TheDeadlineItselfIsInTime(LanguageSession):
    def _dues(self, instance: Instance) -> Iterator[float]:
        late = "within" in self.tasks[instance["task"]]
        first = itertools.islice(super()._dues(instance), int(late))
        yield from (due + 0.1 for due in first)
        yield from itertools.islice(super()._dues(instance), int(late), None)

    def _is_too_late(self, instance: Instance) -> bool:
        within = self.tasks[instance["task"]].get("within")
        return within is not None and self.now > instance["created"] + seconds(within)


class WhatIsReadyDoesNotExpire(LanguageSession):
    def _begin(self) -> None:
        for instance in self._in_order():
            due = min(self._dues(instance), default=self.clock + 1)
            if due <= self.clock and "elapsed" in str(self.tasks[instance["task"]]):
                self.now = due - 0.1
                created, instance["created"] = instance["created"], due
                self.now = due
                self._decide(instance)
                instance["created"] = created
        super()._begin()


class ElapsedCountsFromTheCreation(LanguageSession):
    def _begin_with(self, task: str, names: list[str], firing: Firing) -> Instance:
        instance = super()._begin_with(task, names, firing)
        since = {leaf["since"] for leaf in self._leaves(task) if "elapsed" in leaf}
        for name in since & instance["held"].keys():
            instance["held"][name] = [{**instance["held"][name][0], "at": self.now}]
        return instance


class WhatIsDueIsAppliedAtThePresentTime(LanguageSession):
    def _enqueue(self, firing: Firing) -> None:
        self.now, now = self.clock, self.now
        super()._enqueue(firing)
        self.now = now


class OnlyTimersApplyWhatIsDue(LanguageSession):
    def fire(self, trigger: str, kwargs: Kwargs | None = None) -> None:
        self.clock, clock = self.now, self.clock
        super().fire(trigger, kwargs)
        self.clock = clock


class ALaterTaskLooksAtNothing(LanguageSession):
    def configure(
        self, config: Mapping[str, Any], apply_history: bool = False, finalize: bool | None = None
    ) -> None:
        super().configure(config, apply_history, finalize)
        self.before = {task: {} for task in self.tasks}


class ALaterTaskLooksAtTheLatestThatPasses(LanguageSession):
    def _carried(self, task: str, name: str) -> Firing | None:
        for firing in reversed(self.firings):
            if name in firing["names"] and self._passes(task, name, firing):
                self.before[task].setdefault(name, firing)
                break
        return super()._carried(task, name) or self.before[task].get(name)


class TheFirstConfigurationSeesNothing(LanguageSession):
    def configure(
        self, config: Mapping[str, Any], apply_history: bool = False, finalize: bool | None = None
    ) -> None:
        firings, self.firings = self.firings, []
        super().configure(config, apply_history, finalize)
        self.firings = [*firings, *self.firings]


class TheEndIsFiredAgain(LanguageSession):
    def _has_ended(self) -> bool:
        return any(
            "sessionFinalized" in firing["names"] for firing in self.firings[self.fired_before :]
        )


class TheEndDoesNotWaitForWhatHasNotBegun(LanguageSession):
    def _has_begun(self, task: str) -> bool:
        return True


class TheEndDoesNotWaitForFailures(LanguageSession):
    def _is_unresolved(self, instance: Instance) -> bool:
        return instance["status"] != "failed" and super()._is_unresolved(instance)


class TheEndWaitsForWhoWaitsForIt(LanguageSession):
    def _must_be_done(self, task: str) -> bool:
        return True


class TheEndDoesNotWaitForWhoNamesItInUnless(LanguageSession):
    def _must_be_done(self, task: str) -> bool:
        return "sessionFinalized" not in self._names(task)


class AClosedSessionWaitsForEver(LanguageSession):
    def _goes_on(self, instance: Instance) -> bool:
        return self._is_unresolved(instance)


class AClosedSessionDoesNotWaitForTime(LanguageSession):
    def _goes_on(self, instance: Instance) -> bool:
        return instance["status"] != "unstarted" and self._is_unresolved(instance)


class WhatIsDeclaredStaysDeclared(LanguageSession):
    def configure(
        self, config: Mapping[str, Any], apply_history: bool = False, finalize: bool | None = None
    ) -> None:
        super().configure(config, apply_history, finalize or None)


class EverySessionEnds(LanguageSession):
    def _end(self) -> bool:
        phase, self.phase = self.phase, "open" if self.phase == "cancelled" else self.phase
        try:
            return super()._end()
        finally:
            self.phase = phase


BROKEN = [
    each
    for each in list(vars().values())
    if isinstance(each, type) and issubclass(each, LanguageSession) and each is not LanguageSession
]

THOROUGH = bool(os.environ.get("TRIGGERS_TESTS_THOROUGH"))
# Some are rare, and looking for all of them takes a quarter of an hour.
SEARCHED = (
    BROKEN
    if THOROUGH
    else [
        *(AnyNeedsAll, TimesIsIgnored, ALaterTaskLooksAtNothing),
        *(WhatIsDueIsAppliedAtThePresentTime, OnlyTimersApplyWhatIsDue),
    ]
)


def test_there_are_examples_and_models_to_break() -> None:
    assert len(EXAMPLES) > 100
    assert len(BROKEN) > 40


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.__name__)
def test_the_examples_notice_when_one_rule_is_broken(broken: type[LanguageSession]) -> None:
    noticed = []
    for name, example in EXAMPLES.items():
        try:
            example(broken())
        except (Exception, pytest.fail.Exception):
            noticed.append(name)
    assert noticed
    assert len(noticed) < len(EXAMPLES) / 2  # it is one rule, not all of them


class Careful:
    """A model as a subject: what it refuses has not happened at all."""

    def __init__(self, model: LanguageSession) -> None:
        self.model = model

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            trial = deepcopy(self.model)
            returned = getattr(trial, method)(*args)
            self.model = trial
            return returned

        return call


class ModelMachine(LanguageMachine):
    subject_class: type[LanguageSession] = LanguageSession

    def make_subject(self) -> Careful:
        return Careful(self.subject_class())


def test_the_machine_finds_no_difference_between_a_model_and_itself() -> None:
    explore(ModelMachine, max_examples=40, stateful_step_count=40)


@pytest.mark.parametrize("broken", SEARCHED, ids=lambda each: each.__name__)
def test_the_machine_notices_when_one_rule_is_broken(broken: type[LanguageSession]) -> None:
    class Machine(ModelMachine):
        subject_class = broken

    with pytest.raises((AssertionError, KeyError, ValueError)) as noticed:
        explore(
            Machine,
            at_least=1,  # go on until it is noticed
            interesting=("a difference",),
            max_examples=500,
            stateful_step_count=40,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            database=None,
        )
    assert "should have happened" not in str(noticed.value)
