"""A small second reading of what a session means, for tests to hold the real thing against.

It is written from the text alone, it is slow, and it keeps the whole session in plain dicts and
lists. It knows plain ``after`` lists, ``unless``, one ``andEvery``, and the operations on
instances; it knows no filters, counts or timers.

Where each rule comes from (section 2 of the design and rows E01 to E29 of the parity list, in
other words):

* *Firing* reaches every task that names the trigger anywhere: in ``after``, in ``andEvery`` or in
  ``unless``.
* *Taking* (rule 1): every unstarted instance which has not seen the trigger yet takes it. One that
  has seen it keeps the kwargs that it got first (E05).
* *Creating* (rule 2): a task without any instance gets its first one, whichever of its triggers it
  was. A task whose instances did not take the firing gets the next number only if the trigger is
  its ``andEvery`` (E04). What is new starts with the latest firing of each trigger that it names.
  Its kwargs are those of ``after`` and ``andEvery`` only.
* *Deciding* (rule 3): if everything in ``unless`` was seen, the instance is abandoned; otherwise,
  if everything in ``after`` and ``andEvery`` was seen, it is scheduled. ``unless`` is asked first.
  What is scheduled is not recalled (E06).
* *Recording* (rule 4): every firing is remembered, also when no task names it.
* *Configuration*: the first one behaves as if it had been there before everything that was fired; a
  later one does so only when asked, and only for tasks that have no instance yet. Otherwise loading
  creates nothing, and the next firing that reaches the new task brings the latest firings with it,
  because that is how every new instance starts. Loading a task again unchanged changes nothing.
* *Cascade* (E14): an instance that finishes fires the name of its task, with its result as kwargs.
* *Retry and replay* (E16, E22): the old instance is marked replayed, and a copy with the next
  number and the same kwargs (or those given instead) is scheduled at once, with the old name as its
  parent. ``unless`` is not asked again.
* *Skip*: from inside a task nothing is fired (E17); a failed instance fires its task's name only if
  asked to (E23).
* *Outcomes*: being abandoned, failing and being skipped are recorded as firings of
  ``task:outcome``. No task of this model names those, so nothing comes of it. What will be retried
  has not failed; a skip that cascades is one firing, under the task's name.
* *Idempotency keys*: the same key on the same trigger does nothing the second time, and is an error
  with other kwargs.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

Kwargs = dict[str, Any]


class RefusedError(ValueError):
    """The text does not allow this operation now."""


class ReferenceSession:
    """One session as the text describes it."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.instances: dict[str, dict[str, Any]] = {}
        self.fired: list[tuple[str, Kwargs]] = []
        self.keys: dict[tuple[str, str], Kwargs] = {}

    # What happens to the session.

    def configure(self, config: dict[str, dict[str, Any]], apply_history: bool = False) -> None:
        for task, directives in config.items():
            if self.tasks.get(task, directives) != directives:
                raise NotImplementedError(
                    f"The text does not say what a changed {task} means for its instances."
                )
        is_first = not self.tasks
        have_instances = {instance["task"] for instance in self.instances.values()}
        self.tasks.update(config)
        if is_first or apply_history:
            new = [task for task in self.tasks if task in config and task not in have_instances]
            for count in range(1, len(self.fired) + 1):
                for task in new:
                    self._offer(task, self.fired[:count])

    def fire(self, trigger: str, kwargs: Kwargs | None = None, key: str | None = None) -> bool:
        """Return whether anything happened: a firing whose key is known does nothing."""
        kwargs = kwargs or {}
        if key is not None:
            if (trigger, key) in self.keys:
                if self.keys[trigger, key] != kwargs:
                    raise RefusedError(f"Key {key} of {trigger} was used with other kwargs.")
                return False
            self.keys[trigger, key] = kwargs
        self.fired.append((trigger, kwargs))
        fired = list(self.fired)
        for task in self.tasks:
            self._offer(task, fired)
        return True

    def start(self, instance: str) -> None:
        self._change(instance, "scheduled", "running")

    def finish(self, instance: str, result: Kwargs) -> None:
        self._change(instance, "running", "finished")
        self.fire(self.instances[instance]["task"], result)

    def fail(self, instance: str) -> None:
        self._change(instance, "running", "failed")
        told = {"kwargs": self.snapshot()["instances"][instance]["kwargs"]}
        self._record(instance, "failed", {**told, "attempt": self.instances[instance]["attempt"]})

    def retry(self, instance: str, replacement_kwargs: dict[str, Kwargs] | None = None) -> str:
        self._change(instance, "running", "replayed")
        copy = self._copy(instance, replacement_kwargs)
        self.instances[copy]["attempt"] = self.instances[instance]["attempt"] + 1
        return copy

    def skip(self, instance: str) -> None:
        self._change(instance, "running", "skipped")
        self._record(instance, "skipped", {})

    def replay(self, instance: str, replacement_kwargs: dict[str, Kwargs] | None = None) -> str:
        self._change(instance, "failed", "replayed")
        return self._copy(instance, replacement_kwargs)

    def skip_failed(
        self, instance: str, cascade: bool = False, result: Kwargs | None = None
    ) -> None:
        self._change(instance, "failed", "skipped")
        if cascade:
            self.fire(self.instances[instance]["task"], result)
        else:
            self._record(instance, "skipped", result or {})

    def snapshot(self) -> dict[str, Any]:
        """Return what an observer can see, as a copy: the instances by name, and the firings."""
        instances = {}
        for name, instance in self.instances.items():
            after = self._after(instance["task"])
            kwargs = {
                trigger: instance["seen"][trigger] for trigger in after & set(instance["seen"])
            }
            instances[name] = {
                "status": instance["status"],
                "kwargs": kwargs,
                "parent": instance["parent"],
            }
        return deepcopy({"instances": instances, "fired": self.fired})

    # The rules.

    def _after(self, task: str) -> set[str]:
        every = self.tasks[task].get("andEvery")
        return set(self.tasks[task].get("after", ())) | ({every} if every else set())

    def _unless(self, task: str) -> set[str]:
        return set(self.tasks[task].get("unless", ()))

    def _offer(self, task: str, fired: list[tuple[str, Kwargs]]) -> None:
        """Show one task the last of these firings."""
        trigger, kwargs = fired[-1]
        named = self._after(task) | self._unless(task)
        if trigger not in named:
            return
        instances = [each for each in self.instances.values() if each["task"] == task]
        waiting = [each for each in instances if each["status"] == "unstarted"]
        takers = [each for each in waiting if trigger not in each["seen"]]
        for taker in takers:
            taker["seen"][trigger] = kwargs
        if not instances or (not takers and trigger == self.tasks[task].get("andEvery")):
            latest = {name: value for name, value in fired if name in named}
            takers = [self._create(task, "unstarted", latest, parent=None)]
        for taker in takers:
            self._decide(taker)

    def _decide(self, instance: dict[str, Any]) -> None:
        after, unless = self._after(instance["task"]), self._unless(instance["task"])
        if unless and unless <= set(instance["seen"]):
            self._abandon(instance)
        elif after <= set(instance["seen"]):
            instance["status"] = "scheduled"

    def _abandon(self, instance: dict[str, Any]) -> None:
        instance["status"] = "abandoned"
        self.fired.append((f"{instance['task']}:abandoned", {"reason": "unless"}))

    def _record(self, instance: str, outcome: str, kwargs: Kwargs) -> None:
        self.fired.append((f"{self.instances[instance]['task']}:{outcome}", kwargs))

    def _create(
        self, task: str, status: str, seen: dict[str, Kwargs], parent: str | None
    ) -> dict[str, Any]:
        number = len([each for each in self.instances.values() if each["task"] == task])
        instance = {"task": task, "status": status, "seen": seen, "parent": parent, "attempt": 1}
        self.instances[f"{task}#{number}"] = instance
        return instance

    def _copy(self, name: str, replacement_kwargs: dict[str, Kwargs] | None) -> str:
        old = self.instances[name]
        seen = old["seen"] if replacement_kwargs is None else replacement_kwargs
        self._create(old["task"], "scheduled", deepcopy(seen), name)
        return list(self.instances)[-1]

    def _change(self, name: str, expected: str, status: str) -> None:
        if self.instances[name]["status"] != expected:
            raise RefusedError(f"{name} is {self.instances[name]['status']}, not {expected}.")
        self.instances[name]["status"] = status
