"""A second reading of the configuration language, for tests to hold the real thing against.

It is written from ``docs/reference/language.rst`` alone (and from section 2 of the design where
that is silent). It is slow, and keeps the whole session in plain dicts and lists. Times are seconds
since the test began. :mod:`tests.reference` is the same for plain joins, and says where the plain
rules come from; this model has to agree with it there.

The text is read in this way where it leaves a choice:

* What a firing with several names means is said of each name for itself: a task may filter one of
  them and take the other, and ``andEvery`` makes the next instance if no waiting one took the
  firing *under that name*.
* ``unless`` wins "by the same firing" also where it can only hold at rest: an instance whose
  ``unless`` asks for ``settled`` is scheduled at rest, not before.
* What is due is applied one by one, each to its rest, as if it had been a transition of its own.
* A firing that ``atMostEvery`` holds up has not been taken, so it does not use up its lineage.
* An instance that fails by hand before it was started counts as started.
* A firing has one set of kwargs: where a status is changed by hand with kwargs to cascade, these
  lie over what the outcome says. Finishing by hand without a cascade fires ``t_x:ended`` only.
* "Looks, for what fired before it came, at the session's latest firing of each name" holds for
  ``atMostEvery`` too.
* ``kwargs`` of a failure are those that the task got, ``withParams`` included.
* An instance whose deadline has come takes nothing any more, even if its turn to expire comes only
  after something else that is due at the same moment.
* With the first configuration, or ``apply_history``, the new tasks are shown the old firings one
  after the other; the outcomes of that are decided after all of them.
* Recovery takes back all instances whose leases are over in one transition, in the order of their
  names; what failures of that lead to is decided after all of them.
* A task that asks for a retry in a cancelled session has failed.
* In a closed session, time may change what waits for ``elapsed``, for the end of a burst or for a
  deadline, and what an ``elapsed`` counts from, once that is not fresh any more. Nobody asks
  whether the change would start or abandon anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from tests.reference_values import (
    NOWHERE,
    Kwargs,
    RefusedError,
    filter_passes,
    lookup,
    merged,
    seconds,
)
from triggers.exceptions import WorkerLost

Condition = Any
Instance = dict[str, Any]
Firing = dict[str, Any]

CHANGES_BY_HAND = {
    "unstarted": ("scheduled", "abandoned"),
    "scheduled": ("failed", "abandoned"),
    "running": ("finished", "failed", "skipped", "scheduled"),
    "failed": ("skipped",),
}
"""Changes of status by hand that this model knows, a part of the status diagram."""

UNRESOLVED = ("unstarted", "scheduled", "running", "failed")

MOST_FIRINGS_AT_ONCE = 60

LEASE = 8
"""Seconds for which a worker that has started an instance is taken to be alive."""

ATTEMPTS = 2
"""How many workers may be lost with one instance before it fails."""


class EndlessError(RuntimeError):
    """One transition fires on and on; what then happens is not for this model."""


class LanguageSession:
    """One session as the text describes it."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.instances: dict[str, Instance] = {}
        self.firings: list[Firing] = []
        self.clock: float = 0
        self.now: float = 0
        self.queue: list[Firing] = []
        self.fired_before = 0
        self.before: dict[str, dict[str, Firing]] = {}  # session's latest, when the task came
        self.passed: dict[tuple[str, str], Firing] = {}  # latest that passed, by task and name
        self.told: set[tuple[str, str, str]] = set()  # lineage, name of the outcome, task
        self.phase = "open"
        self.finalizes = False

    def close(self) -> None:
        """Do nothing: a real session has to be cleaned up."""

    # What happens to the session. Everything first applies what is due.

    def move_on(self, seconds: float) -> None:
        self.clock += seconds

    def fire_due(self) -> None:
        self._begin()

    def configure(
        self, config: Mapping[str, Any], apply_history: bool = False, finalize: bool | None = None
    ) -> None:
        self._refuse_unless_in("open")
        self._begin()
        for task, directives in config.items():
            if self.tasks.get(task, directives) != directives:
                raise NotImplementedError(f"The text does not say what a changed {task} means.")
        looks_back = apply_history or not self.tasks
        for task in config.keys() - self.tasks.keys():
            self.before[task] = {} if looks_back else self._latest()
        self.tasks.update(config)
        if looks_back:
            fresh = [task for task in self.tasks if task in config and not self._of_task(task)]
            for task in fresh:
                self.before[task] = {}
            for firing in list(self.firings):
                for task in fresh:
                    self._offer(task, firing)
        self.finalizes = self.finalizes if finalize is None else finalize
        self._finish_transition()

    def fire(self, trigger: str, kwargs: Kwargs | None = None) -> None:
        if any(trigger.startswith(f"{task}:") for task in self.tasks):
            raise RefusedError(f"{trigger} is reserved.")
        self._refuse_unless_in("open")
        firing = self._firing(self._by_name(trigger, kwargs or {}), None)
        for task in self.tasks:
            for name in self._names(task) & firing["names"].keys():
                self._filter_passes(task, name, firing)  # or raises
        self._begin()
        self._enqueue(firing)
        self._finish_transition()

    def start(self, name: str) -> None:
        self._begin()
        self._change(name, ["scheduled"], "running")
        self.instances[name]["starts"] += 1
        self.instances[name]["lease"] = self.now + LEASE

    def lose_worker(self, name: str) -> None:
        """Let the lease of an instance run out that nobody renews, and recovery look then."""
        self.clock = max(self.clock, self.instances[name]["lease"])
        self._begin()
        for each in sorted(self.instances, key=lambda each: self._key(each)):
            instance = self.instances[each]
            if instance["status"] != "running" or instance["lease"] > self.now:
                continue
            if instance["starts"] < ATTEMPTS and self.phase != "cancelled":
                instance["status"] = "scheduled"
                continue
            instance["status"] = "failed"
            error = WorkerLost(each, instance["starts"])
            names = {f"{instance['task']}:failed": self._failure(each, error)}
            self._enqueue_outcome(each, names)
        self._finish_transition()

    def finish(self, name: str, result: Kwargs) -> None:
        self._begin()
        self._change(name, ["running"], "finished")
        self._outcome(name, {self._task(name): result})

    def fail(self, name: str, error: Exception) -> None:
        self._begin()
        self._change(name, ["running"], "failed")
        self._outcome(name, {f"{self._task(name)}:failed": self._failure(name, error)})

    def retry(self, name: str, replacement: dict[str, Kwargs] | None = None) -> str:
        self._begin()
        if self.phase == "cancelled":
            self._change(name, ["running"], "failed")
            return name
        self._change(name, ["running"], "replayed")
        copy = self._copy(name, replacement)
        self.instances[copy]["retries"] = name
        self._finish_transition()
        return copy

    def skip(self, name: str) -> None:
        self._begin()
        self._change(name, ["running"], "skipped")
        self._outcome(name, {f"{self._task(name)}:skipped": {}})

    def replay(self, name: str, replacement: dict[str, Kwargs] | None = None) -> str:
        self._refuse_unless_in("open", "closed")
        self._begin()
        self._change(name, ["failed"], "replayed")
        copy = self._copy(name, replacement)
        self._finish_transition()
        return copy

    def skip_failed(self, name: str, cascade: bool = False, result: Kwargs | None = None) -> None:
        self._begin()
        self._change(name, ["failed"], "skipped")
        task = self._task(name)
        names = {task: result or {}} if cascade else {}
        self._outcome(name, {**names, f"{task}:skipped": result or {}})

    def set_status(
        self, name: str, status: str, cascade: bool = False, kwargs: Kwargs | None = None
    ) -> None:
        if status == "scheduled":
            self._refuse_unless_in("open", "closed")
        self._begin()
        before = [old for old, changes in CHANGES_BY_HAND.items() if status in changes]
        self._change(name, before, status)
        task, given = self._task(name), (kwargs or {}) if cascade else {}
        names: dict[str, Kwargs] = {}
        if status == "failed":
            names[f"{task}:failed"] = {**self._failure(name, None), **given}
        elif status == "skipped":
            names[f"{task}:skipped"] = given
        elif status == "abandoned":
            self.instances[name]["reason"] = "by hand"
            names[f"{task}:abandoned"] = {"reason": "by hand", **given}
        if cascade:
            names[task] = next(iter(names.values()), given)
        elif status == "finished":
            names[f"{task}:ended"] = {}
        self._outcome(name, names)

    def close_session(self) -> None:
        self._begin()
        if self.phase == "open":
            self.phase = "closed"
        self._finish_transition()

    def cancel_session(self) -> None:
        self._begin()
        for instance in self.instances.values():
            if instance["status"] in ("unstarted", "scheduled"):
                instance["status"], instance["reason"] = "abandoned", "cancelled"
        self.phase = "cancelled"

    # What an observer can see.

    def snapshot(self) -> dict[str, Any]:
        """Return a copy: the instances by name, and the firings in their order."""
        instances = {
            name: {
                "status": instance["status"],
                "kwargs": self._kwargs(instance),
                "parent": instance["parent"],
                "reason": instance["reason"],
            }
            for name, instance in self.instances.items()
        }
        firings = [
            {key: firing[key] for key in ("names", "at", "cause", "refused")}
            for firing in self.firings
        ]
        return deepcopy({"instances": instances, "firings": firings, "phase": self.phase})

    def context_firings(self, name: str) -> dict[str, list[Kwargs]]:
        """Return what a running task gets as ``context.firings``; ``withParams`` lies under it."""
        firings = self._all_kwargs(self.instances[name])
        with_params = self.tasks[self._task(name)].get("withParams", {})
        return {
            trigger: [merged(with_params.get(trigger, {}), kwargs) for kwargs in each]
            for trigger, each in firings.items()
        }

    # Transitions: what is due, what is fired, and the rest.

    def _begin(self) -> None:
        self.fired_before = len(self.firings)
        while (due := self._next_due()) is not None:
            self.now, name = due
            instance = self.instances[name]
            instance["asked"] = self.now
            if self._is_too_late(instance):
                instance["status"], instance["reason"] = "abandoned", "expired"
                task, kwargs = instance["task"], {"reason": "expired"}
                self._enqueue_outcome(
                    name, {f"{task}:expired": kwargs, f"{task}:abandoned": kwargs}
                )
            else:
                self._decide(instance)
            self._finish_transition()
        self.now = self.clock

    def _next_due(self) -> tuple[float, str] | None:
        dues = [
            (due, list(self.tasks).index(instance["task"]), instance["number"], name)
            for name, instance in self.instances.items()
            if instance["status"] == "unstarted"
            for due in self._dues(instance)
            if due <= self.clock
        ]
        return (min(dues)[0], min(dues)[-1]) if dues else None

    def _dues(self, instance: Instance) -> Iterator[float]:
        """When time alone may change the instance; only what it was not asked about yet."""
        directives = self.tasks[instance["task"]]
        if "within" in directives:
            yield instance["created"] + seconds(directives["within"])
        moments = []
        if "debounce" in directives and instance["held"].get(directives["andEvery"]):
            moments.append(self._burst_end(instance))
        for leaf in self._leaves(instance["task"]):
            if "elapsed" in leaf:
                for firing in instance["held"].get(leaf["since"], []):
                    moments.append(firing["at"] + seconds(leaf["elapsed"]))
        yield from (due for due in moments if due > instance["asked"])

    def _finish_transition(self) -> None:
        """Decide all cascades, first in, first out; ask about ``settled`` at rest; once more.

        Where nothing follows any more, the session may be at its end; once more if it is.
        """
        while True:
            if self.queue:
                firing = self.queue.pop(0)
                for task in self.tasks:
                    self._offer(task, firing)
            elif not any(self._settle(each) for each in self._in_order()) and not self._end():
                return

    def _end(self) -> bool:
        """Fire that nothing is left to do, if that is so for the first time."""
        if not self.finalizes or self.phase == "cancelled" or self._has_ended():
            return False
        tasks = [each for each in self.tasks if self._must_be_done(each)]
        instances = [each for task in tasks for each in self._of_task(task)]
        if self.phase == "open":
            is_left = not tasks or not all(map(self._has_begun, tasks))
            is_left = is_left or any(map(self._is_unresolved, instances))
        else:
            is_left = any(map(self._goes_on, instances))
        if not is_left:
            self._enqueue(self._firing({"sessionFinalized": {}}, None))
        return not is_left

    def _has_ended(self) -> bool:
        return any("sessionFinalized" in firing["names"] for firing in self.firings)

    def _must_be_done(self, task: str) -> bool:
        return "sessionFinalized" not in self._after_names(task)

    def _has_begun(self, task: str) -> bool:
        return bool(self._of_task(task))

    def _is_unresolved(self, instance: Instance) -> bool:
        return instance["status"] in UNRESOLVED

    def _goes_on(self, instance: Instance) -> bool:
        """Return whether something may happen to an instance although nothing comes in."""
        if instance["status"] != "unstarted":
            return self._is_unresolved(instance)
        return any(True for _ in self._dues(instance)) or self._is_growing_stale(instance)

    def _is_growing_stale(self, instance: Instance) -> bool:
        """Return whether a firing will not be fresh any more that an ``elapsed`` counts from."""
        fresh = self._fresh(instance["task"])
        return any(
            firing["at"] + seconds(fresh[leaf["since"]]) > instance["asked"]
            for leaf in self._leaves(instance["task"])
            if leaf.get("since") in fresh
            for firing in instance["held"].get(leaf["since"], [])
        )

    def _settle(self, instance: Instance) -> bool:
        """Decide one instance whose conditions ask for ``settled``; return whether it changed."""
        if any("settled" in leaf for leaf in self._leaves(instance["task"])):
            self._decide(instance, settled=self._is_settled)
        return bool(instance["status"] != "unstarted")

    def _in_order(self) -> list[Instance]:
        return [each for task in self.tasks for each in self._of_task(task) if self._waits(each)]

    # Firings.

    def _by_name(self, trigger: str, kwargs: Kwargs) -> dict[str, Kwargs]:
        names = {trigger: kwargs}
        if trigger in self.tasks:
            names[f"{trigger}:ended"] = kwargs
        return names

    def _firing(self, names: dict[str, Kwargs], cause: str | None) -> Firing:
        """Make a firing; one that is an outcome also knows its lineage and the arguments."""
        firing: Firing = {"names": deepcopy(names), "cause": cause, "refused": {}}
        firing.update(at=None, lineage=None, arguments=None)
        if cause is not None:
            firing["lineage"] = self.instances[cause]["lineage"]
            firing["arguments"] = self._arguments(cause)
        return firing

    def _enqueue(self, firing: Firing) -> None:
        firing.update(at=self.now, known=set(self.tasks))
        self.firings.append(firing)
        self.queue.append(firing)
        if len(self.firings) - self.fired_before > MOST_FIRINGS_AT_ONCE:
            raise EndlessError

    def _enqueue_outcome(self, name: str, names: dict[str, Kwargs]) -> None:
        """Fire the outcome of an instance; whatever it is, the instance has ended by it."""
        if names and self.phase != "cancelled":
            ended = f"{self._task(name)}:ended"
            self._enqueue(self._firing({**names, ended: next(iter(names.values()))}, name))

    def _outcome(self, name: str, names: dict[str, Kwargs]) -> None:
        self._enqueue_outcome(name, names)
        self._finish_transition()

    def _failure(self, name: str, error: Exception | None) -> Kwargs:
        names = []
        for cls in type(error).__mro__[:-1] if error else ():
            names += [cls.__qualname__, f"{cls.__module__}.{cls.__qualname__}"]
        return {
            "type": names[1] if error else "",
            "types": names,
            "message": str(error) if error else "set by hand",
            "kwargs": self._arguments(name),
            "attempt": self._attempts(name),
        }

    def _attempts(self, name: str) -> int:
        """Its retries so far, and how often it was started itself."""
        retries, before = 0, self.instances[name]["retries"]
        while before:
            retries, before = retries + 1, self.instances[before]["retries"]
        return int(max(1, self.instances[name]["starts"]) + retries)

    def _latest(self) -> dict[str, Firing]:
        return {name: firing for firing in self.firings for name in firing["names"]}

    # Which firings pass, and what is taken.

    def _offer(self, task: str, firing: Firing) -> None:
        """Show one task one firing."""
        names = self._names(task) & firing["names"].keys()
        passing = sorted(name for name in names if self._passes(task, name, firing))
        if names - set(passing) and task in firing["known"]:
            firing["refused"][task] = not passing
        repeated = [
            name for name in names - set(passing) if self._passes(task, name, firing, again=True)
        ]
        self._let_take(task, passing, firing)
        # Not taken again, but still the latest of its name, for an instance to carry over.
        self.passed.update(((task, name), firing) for name in repeated)

    def _let_take(self, task: str, passing: list[str], firing: Firing) -> None:
        if not passing:
            return
        for name in passing:
            self._note_passed(task, name, firing)
        takers, taken_as = [], set()
        for instance in self._of_task(task):
            taken = [name for name in passing if self._takes(instance, name)]
            for name in taken:
                self._take(instance, name, firing)
            takers += [instance] if taken else []
            taken_as.update(taken)
        every = self.tasks[task].get("andEvery")
        if not self._of_task(task) or (every in passing and every not in taken_as):
            takers.append(self._begin_with(task, passing, firing))
        for instance in takers:
            self._decide(instance)

    def _passes(self, task: str, name: str, firing: Firing, again: bool = False) -> bool:
        if not self._filter_lets_pass(task, name, firing):
            return False
        directives = self.tasks[task]
        if "atMostEvery" in directives and name == directives["andEvery"]:
            last = self.passed.get((task, name)) or self._before(task, name)
            limit = seconds(directives["atMostEvery"])
            if last is not None and last is not firing and firing["at"] - last["at"] < limit:
                return False
        return again or (firing["lineage"], name, task) not in self.told

    def _before(self, task: str, name: str) -> Firing | None:
        """Return the session's latest firing when the task came, if it passes the filter."""
        found = self.before[task].get(name)
        return found if found and self._filter_lets_pass(task, name, found) else None

    def _filter_lets_pass(self, task: str, name: str, firing: Firing) -> bool:
        try:
            return self._filter_passes(task, name, firing)
        except RefusedError:
            return False

    def _filter_passes(self, task: str, name: str, firing: Firing) -> bool:
        given = self.tasks[task].get("when", {}).get(name, [])
        return all(
            filter_passes(each, firing["names"][name], firing["arguments"])
            for each in (given if isinstance(given, list) else [given])
        )

    def _note_passed(self, task: str, name: str, firing: Firing) -> None:
        self.passed[task, name] = firing
        if firing["lineage"]:
            self.told.add((firing["lineage"], name, task))

    def _takes(self, instance: Instance, name: str) -> bool:
        if not self._waits(instance):
            return False
        held = len(instance["held"].get(name, []))
        if name in self._fresh(instance["task"]):
            return True
        if self._is_debounced(instance["task"], name):
            return not held or self._in_burst(instance)
        most = self._most(instance, name)
        return most is None or held < most

    def _take(self, instance: Instance, name: str, firing: Firing) -> None:
        held = instance["held"].setdefault(name, [])
        if self._is_debounced(instance["task"], name):
            if not held:
                instance["burst_began"] = firing["at"]
            held.clear()
        held.append(firing)

    def _begin_with(self, task: str, names: list[str], firing: Firing) -> Instance:
        instance = self._create(task, "unstarted")
        for name in self._names(task):
            found = firing if name in names else self._carried(task, name)
            if found is not None:
                self._take(instance, name, found)
        return instance

    def _carried(self, task: str, name: str) -> Firing | None:
        """Return the latest firing that passed; of what fired before the task, look at one."""
        if (task, name) in self.passed:
            return self.passed[task, name]
        found = self._before(task, name)
        if found is not None:
            self._note_passed(task, name, found)
        return found

    # Instances.

    def _refuse_unless_in(self, *phases: str) -> None:
        if self.phase not in phases:
            raise RefusedError(f"The session is {self.phase}.")

    def _key(self, name: str) -> tuple[str, int]:
        return self.instances[name]["task"], self.instances[name]["number"]

    def _task(self, name: str) -> str:
        return str(self.instances[name]["task"])

    def _of_task(self, task: str) -> list[Instance]:
        return [each for each in self.instances.values() if each["task"] == task]

    def _waits(self, instance: Instance) -> bool:
        return instance["status"] == "unstarted" and not self._is_too_late(instance)

    def _is_too_late(self, instance: Instance) -> bool:
        within = self.tasks[instance["task"]].get("within")
        return within is not None and self.now >= instance["created"] + seconds(within)

    def _create(self, task: str, status: str, parent: str | None = None) -> Instance:
        number = len(self._of_task(task))
        name = f"{task}#{number}"
        instance: Instance = {"task": task, "number": number, "status": status, "parent": parent}
        instance.update(created=self.now, asked=self.now, held={}, burst_began=None)
        instance.update(given=None, starts=0, retries=None, lineage=name, reason=None, lease=None)
        self.instances[name] = instance
        return instance

    def _copy(self, name: str, replacement: dict[str, Kwargs] | None) -> str:
        old = self.instances[name]
        copy = self._create(old["task"], "scheduled", name)
        copy["held"] = {trigger: list(held) for trigger, held in old["held"].items()}
        copy["given"] = old["given"] if replacement is None else replacement
        copy["lineage"] = old["lineage"]
        return list(self.instances)[-1]

    def _change(self, name: str, expected: list[str], status: str) -> None:
        if self.instances[name]["status"] not in expected:
            raise RefusedError(f"{name} is {self.instances[name]['status']}.")
        self.instances[name]["status"] = status

    def _kwargs(self, instance: Instance) -> dict[str, Kwargs]:
        return {name: firings[0] for name, firings in self._all_kwargs(instance).items()}

    def _arguments(self, name: str) -> dict[str, Kwargs]:
        """Return what the task of an instance gets: kwargs by trigger, ``withParams`` included."""
        instance = self.instances[name]
        with_params = self.tasks[instance["task"]].get("withParams", {})
        return merged(with_params, self._kwargs(instance))

    def _all_kwargs(self, instance: Instance) -> dict[str, list[Kwargs]]:
        if instance["given"] is not None:
            return {name: [kwargs] for name, kwargs in instance["given"].items()}
        wanted = self._after_names(instance["task"]) & instance["held"].keys()
        return {
            name: [firing["names"][name] for firing in instance["held"][name]] for name in wanted
        }

    def _forget_older(self, instance: Instance) -> None:
        """Hold only the newest of what has to be fresh, as many as are wanted."""
        for name in self._fresh(instance["task"]).keys() & instance["held"].keys():
            most = self._most(instance, name)
            if most is not None:
                del instance["held"][name][: -max(1, most)]

    def _counting(self, instance: Instance, name: str) -> list[Firing]:
        if self._is_debounced(instance["task"], name) and self._in_burst(instance):
            return []
        held: list[Firing] = instance["held"].get(name, [])
        if fresh := self._fresh(instance["task"]).get(name):
            held = [firing for firing in held if self.now - firing["at"] < seconds(fresh)]
        return held

    def _decide(self, instance: Instance, settled: Callable[[str], bool] | None = None) -> None:
        """Abandon or schedule a waiting instance; ``settled`` is only known at rest."""
        if not self._waits(instance):
            return
        instance["asked"] = self.now
        self._forget_older(instance)
        directives = self.tasks[instance["task"]]
        unless, after = directives.get("unless") or [], directives.get("after") or []
        if unless and self._holds(unless, instance, settled or (lambda task: False)):
            instance["status"], instance["reason"] = "abandoned", "unless"
            name = f"{instance['task']}#{instance['number']}"
            self._enqueue_outcome(name, {f"{instance['task']}:abandoned": {"reason": "unless"}})
            return
        if settled is None and any("settled" in leaf for leaf in leaves(unless)):
            return  # at rest it may win
        every = directives.get("andEvery")
        if every and not self._counting(instance, every):
            return
        if self._holds(after, instance, settled or (lambda task: False)):
            instance["status"] = "scheduled"

    # Conditions.

    def _holds(
        self, condition: Condition, instance: Instance, settled: Callable[[str], bool]
    ) -> bool:
        if isinstance(condition, str):
            return bool(self._counting(instance, condition))
        if isinstance(condition, dict) and "settled" in condition:
            return settled(condition["settled"])
        if isinstance(condition, dict) and "elapsed" in condition:
            since = self._counting(instance, condition["since"])
            return bool(since) and self.now >= since[0]["at"] + seconds(condition["elapsed"])
        if isinstance(condition, dict) and "trigger" in condition:
            number = self._times(instance, condition)
            return number is not None and (
                len(self._counting(instance, condition["trigger"])) >= number
            )
        members, least = group(condition)
        return sum(self._holds(each, instance, settled) for each in members) >= least

    def _times(self, instance: Instance, leaf: dict[str, Any]) -> int | None:
        """Return how many firings a leaf wants, or ``None`` while that is not known."""
        times = leaf.get("times", 1)
        if not isinstance(times, dict):
            return int(times)
        trigger, path = self._source(instance["task"], times["from"])
        counting = self._counting(instance, trigger)
        value = lookup(counting[0]["names"][trigger], path) if counting else NOWHERE
        return value if type(value) is int and value >= 0 else None

    def _most(self, instance: Instance, name: str) -> int | None:
        """Return how many firings of a name are held at most; ``None`` while not known."""
        task = instance["task"]
        leaves = [leaf for leaf in self._leaves(task) if leaf.get("trigger") == name]
        numbers = [self._times(instance, leaf) for leaf in leaves]
        others = [leaf for leaf in self._leaves(task) if leaf.get("trigger") != name]
        if name in self._leaf_names(task, others) or name == self.tasks[task].get("andEvery"):
            numbers.append(1)
        return None if None in numbers else max(filter(None, numbers), default=0)

    def _is_settled(self, task: str) -> bool:
        latest = {each["lineage"]: each["status"] for each in self._of_task(task)}
        return bool(latest) and not set(UNRESOLVED) & set(latest.values())

    def _in_burst(self, instance: Instance) -> bool:
        every = self.tasks[instance["task"]].get("andEvery", "")
        return (
            self._is_debounced(instance["task"], every)
            and bool(instance["held"].get(every))
            and self.now < self._burst_end(instance)
        )

    def _burst_end(self, instance: Instance) -> float:
        directives = self.tasks[instance["task"]]
        last: float = instance["held"][directives["andEvery"]][-1]["at"]
        quiet, most = directives["debounce"]["quiet"], directives["debounce"]["most"]
        began: float = instance["burst_began"]
        return min(last + seconds(quiet), began + seconds(most))

    # What a task says.

    def _leaves(self, task: str) -> list[dict[str, Any]]:
        directives = self.tasks[task]
        return [*leaves(directives.get("after", [])), *leaves(directives.get("unless", []))]

    def _names(self, task: str) -> set[str]:
        return self._after_names(task) | self._condition_names(task, "unless")

    def _after_names(self, task: str) -> set[str]:
        every = self.tasks[task].get("andEvery")
        return self._condition_names(task, "after") | ({every} if every else set())

    def _condition_names(self, task: str, directive: str) -> set[str]:
        return self._leaf_names(task, leaves(self.tasks[task].get(directive, [])))

    def _leaf_names(self, task: str, some: list[dict[str, Any]]) -> set[str]:
        names = set()
        for leaf in some:
            names |= {leaf[key] for key in ("trigger", "since") if key in leaf}
            if isinstance(leaf.get("times"), dict):
                names.add(self._source(task, leaf["times"]["from"])[0])
        return names

    def _source(self, task: str, origin: str) -> tuple[str, str]:
        """Take ``b.path`` apart: the longest beginning that the task names elsewhere, or ``b``."""
        known = {leaf.get(key) for leaf in self._leaves(task) for key in ("trigger", "since")}
        known.add(self.tasks[task].get("andEvery"))
        parts = origin.split(".")
        for length in range(len(parts) - 1, 0, -1):
            trigger = ".".join(parts[:length])
            if trigger in known or length == 1:
                return trigger, ".".join(parts[length:])
        raise ValueError(f"{origin} has no path.")

    def _fresh(self, task: str) -> dict[str, str]:
        return dict(self.tasks[task].get("fresh", {}))

    def _is_debounced(self, task: str, name: str) -> bool:
        return "debounce" in self.tasks[task] and name == self.tasks[task]["andEvery"]


def group(condition: Condition) -> tuple[list[Condition], int]:
    """Return the members of a group, and how many of them must hold."""
    if isinstance(condition, list):
        return condition, len(condition)
    if "all" in condition:
        return condition["all"], len(condition["all"])
    if "any" in condition:
        return condition["any"], 1
    return condition["of"], condition["atLeast"]


def leaves(condition: Condition) -> list[dict[str, Any]]:
    """Return all leaves, those of one name in their long form."""
    if isinstance(condition, str):
        return [{"trigger": condition}]
    if isinstance(condition, dict) and not condition.keys() & {"all", "any", "of"}:
        return [condition]
    return [leaf for member in group(condition)[0] for leaf in leaves(member)]
