"""A state machine that leads two sessions through the same life, in the whole of the language.

One is the model (:class:`tests.reference_language.LanguageSession`), the other the subject: a real
session (:class:`tests.language_session.RealSession`), or a model that was broken on purpose.
Hypothesis draws configurations and then one operation after the other, from what is possible in the
model; after each, an observer must see the same in both. :mod:`tests.machine` does this for plain
joins, and knows more about idempotency keys and messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.language_configurations import FINALIZED, TRIGGERS, Drawer, names_of
from tests.reference_language import CHANGES_BY_HAND, EndlessError, LanguageSession
from tests.reference_values import RefusedError

TASKS = ("t_0", "t_1", "t_2", "t_3", "t_4")
LATE = 20  # steps
ERRORS = (ValueError("no"), KeyError("gone"), IndexError("far"))
INTERESTING = (
    *("unstarted", "scheduled", "running", "finished"),
    *("failed", "replayed", "skipped", "abandoned"),
    *("expired", "unless", "by hand"),
    *("any", "atLeast", "times", "from", "settled", "elapsed"),
    *("when", "within", "fresh", "atMostEvery", "debounce", "withParams"),
    *("filtered out", "several firings of one name", "refused"),
    *("later tasks", "later tasks with history", "retried", "cascade by hand"),
    *("worker lost", "lost too often", "closed", "cancelled"),
    *("finalized", "finalized when closed", "finalized by hand", "waits for the end"),
)
"""What must happen now and then; of a construct: a task that has it was decided."""


class Pair:
    """A model and a subject that live the same life.

    :ivar life: what was done so far.
    """

    def __init__(self, model: LanguageSession, subject: Any) -> None:
        self.model = model
        self.subject = subject
        self.life: list[str] = []

    def close(self) -> None:
        self.subject.close()

    def do(self, method: str, *args: Any) -> bool | None:
        """Do the same in both; return whether it was accepted, ``None`` if it has no end."""
        trial = deepcopy(self.model)
        try:
            getattr(trial, method)(*args)
        except EndlessError:
            return None
        except RefusedError:
            accepted = False
        else:
            self.model, accepted = trial, True
        self.life.append(f"session.{method}({', '.join(map(repr, args))})")
        try:
            self._follow(method, args, accepted=accepted)
            self.compare()
        except Exception as error:
            error.add_note("The life was:\n" + "\n".join(self.life))
            raise
        return accepted

    def _follow(self, method: str, args: tuple[Any, ...], *, accepted: bool) -> None:
        refusal = None
        try:
            getattr(self.subject, method)(*deepcopy(args))
        except RefusedError as error:
            refusal = error
        assert (refusal is None) == accepted, refusal or "it should have been refused"
        if accepted and method == "start":
            ours = self.model.context_firings(args[0])
            theirs = self.subject.context_firings(args[0])
            assert theirs == ours, f"the task was given {theirs}, and should have got {ours}"

    def compare(self) -> None:
        expected, found = self.model.snapshot(), self.subject.snapshot()
        ours, theirs = expected["phase"], found["phase"]
        assert theirs == ours, f"the session is {theirs}, and should be {ours}"
        for name in expected["instances"].keys() | found["instances"].keys():
            ours, theirs = expected["instances"].get(name), found["instances"].get(name)
            assert theirs == ours, f"{name} is {theirs}, and should be {ours}"
        for number, ours in enumerate(expected["firings"]):
            assert number < len(found["firings"]), f"there should be {ours}"
            theirs = found["firings"][number]
            refused, refusing = ours.pop("refused"), set(theirs.pop("refused"))
            certain = {task for task, entirely in refused.items() if entirely}
            assert theirs == ours, f"firing {number} is {theirs}, and should be {ours}"
            assert certain <= refusing <= set(refused), f"{ours} did not pass for {refusing}"
        more = found["firings"][len(expected["firings"]) :]
        assert not more, f"there should not be {more}"


class LanguageMachine(RuleBasedStateMachine):
    """A session and its model; a subclass says what the session is."""

    model_class: ClassVar[type[LanguageSession]] = LanguageSession
    met: ClassVar[Counter[str]] = Counter()

    def make_subject(self) -> Any:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(self.model_class(), self.make_subject())
        self.names: tuple[str, ...] = ()

    def teardown(self) -> None:
        self.pair.close()

    @initialize(data=st.data(), tasks=st.sampled_from([2, 3, 3, 4, 5]))
    def begin(self, data: st.DataObject, tasks: int) -> None:
        self.names = TASKS[:tasks]
        for trigger in data.draw(st.lists(st.sampled_from(TRIGGERS), max_size=3), "fired before"):
            self.do("fire", trigger, self.draw_kwargs(data))
        first = data.draw(st.integers(1, tasks), "tasks")
        finalize = data.draw(st.sampled_from([None, True, True]), "finalize")
        self.configure(data, self.names[:first], apply_history=False, finalize=finalize)

    def configure(
        self,
        data: st.DataObject,
        names: tuple[str, ...],
        *,
        apply_history: bool,
        finalize: bool | None = None,
    ) -> None:
        # What the text says about time does not say what it means for the past.
        timed = not self.model.firings or (bool(self.model.tasks) and not apply_history)
        finalizes = bool(finalize) or self.model.finalizes
        drawer = Drawer(data.draw, names, self.model.tasks, timed=timed, finalizes=finalizes)
        self.do("configure", drawer.configuration(), apply_history, finalize)

    @rule(data=st.data())
    def live_on(self, data: st.DataObject) -> None:
        """Do one thing that is possible now."""
        named, phase = self.named(), self.model.phase
        possible = ["fire"] * (8 if phase == "open" else 1) + ["move_on"] * 3 + ["fire_due"]
        possible += ["configure_more"] if len(self.model.tasks) < len(self.names) else []
        possible += ["declare"] if phase == "open" else []
        possible += ["start"] * 8 if named("scheduled") else []
        possible += ["end"] * 8 + ["lose_worker"] * 2 if named("running") else []
        # Late, since little happens in a session after its end.
        is_late = len(self.pair.life) > LATE
        possible += ["close_session"] if phase == "open" and is_late else []
        possible += ["cancel_session"] if phase == "closed" else []
        possible += ["recover"] * 3 if named("failed") else []
        possible += ["change_by_hand"] if any(map(named, CHANGES_BY_HAND)) else []
        possible += ["feed_a_burst"] * 6 if self.bursting() else []
        getattr(self, f"rule_{data.draw(st.sampled_from(possible), 'operation')}")(data)

    def rule_fire(self, data: st.DataObject) -> None:
        names = set(TRIGGERS)
        for directives in self.model.tasks.values():
            names |= names_of(directives)
        usual = sorted(names_of_plain(names, self.model.tasks) - {FINALIZED})
        rare = sorted(name for name in names if ":" in name)[:1]
        choices = usual * 6 + rare + sorted(names & {FINALIZED})
        self.do("fire", data.draw(st.sampled_from(choices), "trigger"), self.draw_kwargs(data))

    def rule_move_on(self, data: st.DataObject) -> None:
        # The durations lie close together, so that deadlines meet.
        self.do("move_on", data.draw(st.sampled_from([1, 2, 3, 5, 12]), "seconds"))

    def rule_feed_a_burst(self, data: st.DataObject) -> None:
        self.do("move_on", 2)
        self.do("fire", data.draw(st.sampled_from(self.bursting()), "fed"), self.draw_kwargs(data))

    def rule_fire_due(self, data: st.DataObject) -> None:
        self.do("fire_due")

    def rule_configure_more(self, data: st.DataObject) -> None:
        apply_history = data.draw(st.booleans(), "with history")
        missing = tuple(name for name in self.names if name not in self.model.tasks)
        self.configure(data, missing[:2], apply_history=apply_history)
        self.met["later tasks with history" if apply_history else "later tasks"] += 1

    def rule_declare(self, data: st.DataObject) -> None:
        self.do("configure", {}, False, data.draw(st.booleans(), "finalize"))

    def rule_start(self, data: st.DataObject) -> None:
        name = self.draw_name(data, "scheduled")
        if self.do("start", name):
            firings = self.model.context_firings(name).values()
            self.met["several firings of one name"] += any(len(each) > 1 for each in firings)

    def rule_lose_worker(self, data: st.DataObject) -> None:
        self.do("lose_worker", self.draw_name(data, "running"))

    def rule_close_session(self, data: st.DataObject) -> None:
        if data.draw(st.booleans(), "cancel at once"):
            self.do("cancel_session")
        else:
            self.do("close_session")

    def rule_cancel_session(self, data: st.DataObject) -> None:
        self.do("cancel_session")

    def rule_end(self, data: st.DataObject) -> None:
        name = self.draw_name(data, "running")
        how = data.draw(st.sampled_from(["finish"] * 3 + ["fail"] * 3 + ["retry", "skip"]), "how")
        if how == "finish":
            self.do("finish", name, self.draw_kwargs(data))
        elif how == "fail":
            self.do("fail", name, data.draw(st.sampled_from(ERRORS), "error"))
        elif how == "retry":
            self.do("retry", name, self.draw_replacement(data, name))
            self.met["retried"] += 1
        else:
            self.do("skip", name)

    def rule_recover(self, data: st.DataObject) -> None:
        name = self.draw_name(data, "failed")
        if data.draw(st.booleans(), "replay"):
            self.do("replay", name, self.draw_replacement(data, name))
        else:
            cascade = data.draw(st.booleans(), "cascade")
            self.do("skip_failed", name, cascade, self.draw_kwargs(data))

    def rule_change_by_hand(self, data: st.DataObject) -> None:
        name = self.draw_name(data, *CHANGES_BY_HAND)
        changes = CHANGES_BY_HAND[self.model.instances[name]["status"]]
        status = data.draw(st.sampled_from(changes), "status")
        cascade = data.draw(st.booleans(), "cascade")
        self.do("set_status", name, status, cascade, self.draw_kwargs(data))
        self.met["cascade by hand"] += cascade

    def do(self, method: str, *args: Any) -> bool:
        """Do the same in both, unless it has no end; return whether it was accepted."""
        before = self.pair.model
        accepted = self.pair.do(method, *args)
        self.met["refused"] += accepted is False
        self.met["finalized by hand"] += bool(accepted) and (method, args[:1]) == (
            "fire",
            (FINALIZED,),
        )
        self.met.update(novelties(before, self.model))
        return bool(accepted)

    @property
    def model(self) -> LanguageSession:
        return self.pair.model

    # How the rules draw.

    def named(self) -> Callable[[str], list[str]]:
        return lambda status: [
            name for name, each in self.model.instances.items() if each["status"] == status
        ]

    def bursting(self) -> list[str]:
        """Return what may be fired by hand while a burst of it lasts."""
        waiting = {self.model.instances[name]["task"] for name in self.named()("unstarted")}
        tasks = [self.model.tasks[task] for task in waiting]
        names = {directives["andEvery"] for directives in tasks if "debounce" in directives}
        return sorted(name for name in names_of_plain(names, self.model.tasks) if ":" not in name)

    def draw_name(self, data: st.DataObject, *statuses: str) -> str:
        names = [name for status in statuses for name in self.named()(status)]
        return data.draw(st.sampled_from(names), "instance")

    def draw_kwargs(self, data: st.DataObject) -> dict[str, Any]:
        kwargs = {"n": data.draw(st.sampled_from([0, 1, 1, 2, 2, 3, -1]), "n")}
        client = data.draw(st.sampled_from([None, "web", "app"]), "c")
        return {**kwargs, "c": client} if client else kwargs

    def draw_replacement(self, data: st.DataObject, name: str) -> dict[str, Any] | None:
        names = sorted(self.model.snapshot()["instances"][name]["kwargs"])
        if not names or data.draw(st.integers(0, 2), "replace"):
            return None
        return {names[0]: self.draw_kwargs(data)}


def names_of_plain(names: set[str], tasks: dict[str, Any]) -> set[str]:
    """Return the names that may be fired by hand: no outcome, and no task that is not there."""
    return {name for name in names if not name.startswith("t_") or name in tasks}


def novelties(before: LanguageSession, after: LanguageSession) -> Iterator[str]:
    """Say what a step has brought: statuses, reasons, and constructs of tasks that were decided."""
    for name, instance in after.instances.items():
        old = before.instances.get(name, {"status": None})["status"]
        if old == instance["status"]:
            continue
        if old == "running" and after.clock >= instance["lease"]:
            yield from {"scheduled": ["worker lost"], "failed": ["lost too often"]}.get(
                instance["status"], []
            )
        yield instance["status"]
        if instance["reason"]:
            yield instance["reason"]
        if old in (None, "unstarted") and instance["status"] in ("scheduled", "abandoned"):
            directives = after.tasks[instance["task"]]
            yield from directives.keys() - {"unless", "after", "andEvery"}
            text = str(directives)
            yield from (
                word
                for word in ("any", "atLeast", "times", "from", "settled", "elapsed")
                if f"'{word}'" in text
            )
    if after.phase != before.phase:
        yield after.phase
    for firing in after.firings[len(before.firings) :]:
        # By hand, kwargs are never empty here.
        if firing["names"] == {FINALIZED: {}}:
            yield "finalized" if after.phase == "open" else "finalized when closed"
            tasks = [each["task"] for each in after.instances.values() if FINALIZED in each["held"]]
            yield from ["waits for the end"] * bool(tasks)
        if firing["refused"]:
            yield "filtered out"
