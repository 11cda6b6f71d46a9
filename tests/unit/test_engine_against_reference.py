"""The real thing on the memory storage, held against the reference model.

The model is also broken on purpose, one rule at a time: a machine that cannot tell a wrong model
from a right one would not notice a wrong engine either.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase

from tests.machine import SessionMachine, explore
from tests.reference import Kwargs, ReferenceSession
from triggers.exceptions import IdempotencyConflict
from triggers.storages import storage_backends


class MemoryMachine(SessionMachine):
    @classmethod
    def open_storage(cls, uid: str) -> Any:
        return storage_backends.get("memory", uid)


def test_a_session_in_memory_lives_as_the_reference_says() -> None:
    explore(MemoryMachine, at_least=5, max_examples=100, stateful_step_count=50)


class UnlessIsForgotten(ReferenceSession):
    def _unless(self, task: str) -> set[str]:
        return set()


class UnlessNeedsOneTriggerOnly(ReferenceSession):
    def _decide(self, instance: dict[str, Any]) -> None:
        if self._unless(instance["task"]) & set(instance["seen"]):
            self._abandon(instance)
        else:
            super()._decide(instance)


class AfterWinsOverUnless(ReferenceSession):
    def _decide(self, instance: dict[str, Any]) -> None:
        if self._after(instance["task"]) <= set(instance["seen"]):
            instance["status"] = "scheduled"
        else:
            super()._decide(instance)


class WaitingInstancesTakeTheLatestKwargs(ReferenceSession):
    def _offer(self, task: str, fired: list[tuple[str, Kwargs]]) -> None:
        trigger, kwargs = fired[-1]
        for each in self.instances.values():
            if each["task"] == task and each["status"] == "unstarted" and trigger in each["seen"]:
                each["seen"][trigger] = kwargs
        super()._offer(task, fired)


class NothingIsCarriedIn(ReferenceSession):
    def _offer(self, task: str, fired: list[tuple[str, Kwargs]]) -> None:
        super()._offer(task, fired[-1:])


class TheFirstFiringIsCarriedInInsteadOfTheLatest(ReferenceSession):
    def _offer(self, task: str, fired: list[tuple[str, Kwargs]]) -> None:
        super()._offer(task, [*reversed(fired[:-1]), fired[-1]])


class EveryFiringOfAnyTriggerMakesAnInstance(ReferenceSession):
    def _offer(self, task: str, fired: list[tuple[str, Kwargs]]) -> None:
        every = self.tasks[task].get("andEvery")
        if every and fired[-1][0] in self._after(task):
            self.tasks[task]["andEvery"] = fired[-1][0]
        super()._offer(task, fired)
        if every:
            self.tasks[task]["andEvery"] = every


class LaterConfigurationsAlwaysLookBack(ReferenceSession):
    def configure(self, config: dict[str, dict[str, Any]], apply_history: bool = False) -> None:
        super().configure(config, apply_history=True)


class ConfigurationsNeverLookBack(ReferenceSession):
    def configure(self, config: dict[str, dict[str, Any]], apply_history: bool = False) -> None:
        fired, self.fired = self.fired, []
        super().configure(config, apply_history=False)
        self.fired = fired


class FinishingFiresNothing(ReferenceSession):
    def finish(self, instance: str, result: Kwargs) -> None:
        self._change(instance, "running", "finished")


class SkippingCascades(ReferenceSession):
    def skip(self, instance: str) -> None:
        super().skip(instance)
        self.fire(self.instances[instance]["task"])


class OutcomesAreNotRecorded(ReferenceSession):
    def _record(self, instance: str, outcome: str, kwargs: Kwargs) -> None:
        pass


class ReplacementKwargsAreMerged(ReferenceSession):
    def _copy(self, name: str, replacement_kwargs: dict[str, Kwargs] | None) -> str:
        return super()._copy(name, {**self.instances[name]["seen"], **(replacement_kwargs or {})})


class KeysAreIgnored(ReferenceSession):
    def fire(self, trigger: str, kwargs: Kwargs | None = None, key: str | None = None) -> bool:
        return super().fire(trigger, kwargs)


class KeysOfAllTriggersAreOne(ReferenceSession):
    def fire(self, trigger: str, kwargs: Kwargs | None = None, key: str | None = None) -> bool:
        if key and any(known == key for _, known in self.keys):
            return False
        return super().fire(trigger, kwargs, key)


BROKEN = [
    UnlessIsForgotten,
    UnlessNeedsOneTriggerOnly,
    AfterWinsOverUnless,
    WaitingInstancesTakeTheLatestKwargs,
    NothingIsCarriedIn,
    TheFirstFiringIsCarriedInInsteadOfTheLatest,
    EveryFiringOfAnyTriggerMakesAnInstance,
    LaterConfigurationsAlwaysLookBack,
    ConfigurationsNeverLookBack,
    FinishingFiresNothing,
    SkippingCascades,
    OutcomesAreNotRecorded,
    ReplacementKwargsAreMerged,
    KeysAreIgnored,
    KeysOfAllTriggersAreOne,
]


@pytest.mark.parametrize("model", BROKEN, ids=lambda model: model.__name__)
def test_the_machine_notices_when_one_rule_is_broken(model: type[ReferenceSession]) -> None:
    class Machine(MemoryMachine):
        model_class = model

    with pytest.raises((AssertionError, IdempotencyConflict)):
        explore(
            Machine,
            max_examples=300,
            stateful_step_count=50,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            database=None,
        )
