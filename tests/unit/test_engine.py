"""The engine by itself: pure functions on values, no storage, no manager."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from triggers.configuration import parse
from triggers.engine import (
    ALLOWED_TRANSITIONS,
    Event,
    Hooks,
    SessionState,
    Transition,
    check_transition,
    decide,
)
from triggers.engine.by_hand import Annotate, Clone, Create, Replay, SetStatus, SkipFailed
from triggers.engine.configuring import Configure
from triggers.engine.draft import RESEND_AFTER
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Fail, Finish, Retry, Skip
from triggers.engine.recovering import Done, Recover, Unsent
from triggers.engine.rules import MOST_CASCADES
from triggers.exceptions import (
    ConfigurationError,
    IdempotencyConflict,
    InstanceNotFound,
    InvalidTransition,
    InvalidTrigger,
)
from triggers.types import BY_HAND, FireResult, Status

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OVERRIDDEN = Hooks("default", frozenset({"fire"}))
HOOKS = Hooks("mine", frozenset({"post_fire", "post_replay", "post_skip"}))


class Session:
    """A state, and the events that made it."""

    def __init__(self, **tasks: Mapping[str, Any]) -> None:
        self.state = SessionState()
        self.now = NOW
        if tasks:
            parsed = parse({name: {"run": "x", **each} for name, each in tasks.items()})
            self.do(Configure(configuration=parsed, manager="default"))

    def do(self, event: Event) -> Transition:
        small = len(self.state.firings) < 100  # copying is slow
        before = copy.deepcopy(self.state) if small else None
        transition = decide(event, self.state, self.now)
        assert not small or self.state == before, "a decision must not change what it reads"
        assert decide(event, self.state, self.now) == transition, "nor depend on anything else"
        self.state.apply(transition)
        return transition

    def start(self, name: str = "t_x", number: int = 0, token: str = "token") -> None:
        assert self.do(Claim(key=(name, number), token=token)).outcome is not None

    def statuses(self) -> dict[str, str]:
        return {each.name: str(each.status) for each in self.state.instances.values()}


def test_every_status_has_a_row_in_the_table_of_transitions() -> None:
    assert set(ALLOWED_TRANSITIONS) == set(Status)
    final = {status for status, following in ALLOWED_TRANSITIONS.items() if not following}
    assert final == {status for status in Status if status.is_resolved}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("wanted", list(Status))
def test_the_table_decides_which_status_may_follow(status: Status, wanted: Status) -> None:
    if wanted in ALLOWED_TRANSITIONS[status]:
        check_transition("t_x#0", status, wanted)
        return
    with pytest.raises(InvalidTransition) as caught:
        check_transition("t_x#0", status, wanted)
    assert (caught.value.status, caught.value.wanted) == (status, wanted)
    known = "is final" if status.is_resolved else f"can become {ALLOWED_TRANSITIONS[status][0]}"
    assert known in str(caught.value)


def test_unless_wins_when_both_become_true_by_the_same_firing() -> None:
    session = Session(t_x={"after": ["a", "b"], "unless": ["b"]})
    session.do(Fire(trigger="a"))
    assert session.do(Fire(trigger="b")).outcome == FireResult(seq=2, abandoned=("t_x#0",))


def test_tasks_take_a_firing_in_the_order_of_the_configuration() -> None:
    session = Session(t_z={"after": ["a"]}, t_a={"after": ["a"]}, t_m={"andEvery": "a"})
    outcome = session.do(Fire(trigger="a")).outcome
    assert outcome.scheduled == ("t_z#0", "t_a#0", "t_m#0")


def test_a_firing_that_nobody_names_is_recorded() -> None:
    session = Session()
    assert session.do(Fire(trigger="a", kwargs='{"n":1}')).outcome == FireResult(seq=1)
    assert session.state.firings[1].kwargs == '{"n":1}'
    assert session.state.latest == {"a": 1}


def test_the_clock_of_a_session_never_goes_back() -> None:
    session = Session(t_x={"after": ["a"]})
    session.now = NOW - timedelta(hours=1)
    session.do(Fire(trigger="a"))
    assert session.state.instances["t_x", 0].created_at == NOW


def test_an_outcome_of_a_task_cannot_be_fired_by_hand() -> None:
    session = Session(t_x={"after": ["a"]})
    with pytest.raises(InvalidTrigger, match="reserved for the outcome of task 't_x'"):
        session.do(Fire(trigger="t_x:failed"))
    session.do(Fire(trigger="other:failed"))


def test_an_idempotency_key_belongs_to_one_trigger_and_one_payload() -> None:
    session = Session(t_x={"andEvery": "p"})
    session.do(Fire(trigger="p", kwargs='{"n":1}', key="k"))
    again = session.do(Fire(trigger="p", kwargs='{"n": 1}', key="k"))
    assert again.outcome == FireResult(seq=1, duplicate=True)
    assert again.is_empty
    assert not session.do(Fire(trigger="q", kwargs="{}", key="k")).outcome.duplicate
    with pytest.raises(IdempotencyConflict) as caught:
        session.do(Fire(trigger="p", kwargs="{}", key="k"))
    assert (caught.value.trigger, caught.value.key, caught.value.seq) == ("p", "k", 1)


def test_a_claim_refuses_to_start_before_not_before_unless_told_to() -> None:
    session = Session(t_x={"after": ["a"]})
    session.do(Fire(trigger="a"))
    session.start()
    session.do(Retry(key=("t_x", 0), token="token", cooldown=timedelta(seconds=10)))
    retried = session.state.instances["t_x", 1]
    assert (retried.not_before, retried.retries, retried.lineage) == (
        NOW + timedelta(seconds=10),
        1,
        0,
    )
    assert retried.due_at is not None
    assert retried.due_at > NOW + timedelta(seconds=10)
    early = session.do(Claim(key=("t_x", 1), token="2"))
    assert early.outcome == timedelta(seconds=10)
    assert early.is_empty
    assert decide(Claim(key=("t_x", 1), token="2", early=True), session.state, NOW).outcome
    session.now = NOW + timedelta(seconds=10)
    assert session.do(Claim(key=("t_x", 1), token="2")).outcome.attempt == 1


@pytest.mark.parametrize("report", [Finish, Fail, Skip, Retry])
def test_a_report_without_the_token_is_not_accepted(report: type) -> None:
    session = Session(t_x={"after": ["a"]})
    session.do(Fire(trigger="a"))
    session.start()
    late = session.do(report(key=("t_x", 0), token="another"))
    assert late.outcome is False
    assert late.is_empty
    assert session.do(report(key=("t_x", 0), token="token")).outcome is True


def test_a_finish_and_its_cascade_are_one_transition() -> None:
    session = Session(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    session.do(Fire(trigger="a"))
    session.start()
    transition = session.do(Finish(key=("t_x", 0), token="token", result='{"n":1}'))
    assert [(each.trigger, each.cause) for each in transition.firings] == [("t_x", "t_x#0")]
    assert list(transition.scheduled) == [("t_y", 0)]
    assert session.statuses() == {"t_x#0": "finished", "t_y#0": "scheduled"}


def test_a_chain_of_cascades_that_is_too_long_fails_instead_of_going_on() -> None:
    session = Session(t_x={"andEvery": "t_y"}, t_y={"andEvery": "t_x"})
    session.do(Fire(trigger="t_x"))
    for depth in range(MOST_CASCADES + 1):
        [key] = [each.task for each in session.state.instances.values() if each.due_at]
        number = session.state.counts[key] - 1
        assert session.state.instances[key, number].depth == depth
        session.start(key, number)
        session.do(Finish(key=(key, number), token="token"))
    failed = session.state.instances[key, number]
    assert failed.status is Status.FAILED
    assert failed.metadata["exception"]["type"] == "triggers.exceptions.CascadeTooDeep"
    assert "chain of 1,000 cascades" in failed.metadata["exception"]["message"]
    assert not [
        each
        for each in session.state.instances.values()
        if not each.status.is_resolved and each is not failed
    ]


def test_a_cascade_that_is_not_folded_is_left_as_a_mark() -> None:
    session = Session(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    session.do(Fire(trigger="a"))
    session.start()
    session.do(Finish(key=("t_x", 0), token="token", result='{"n":1}', hooks=OVERRIDDEN))
    assert session.statuses() == {"t_x#0": "finished"}
    [mark] = session.state.pending.values()
    assert mark.data == {
        "trigger": "t_x",
        "also": [],
        "kwargs": '{"n":1}',
        "cause": "t_x#0",
        "depth": 1,
        "manager": "default",
    }
    settled = Fire(trigger="t_x", kwargs='{"n":1}', settles=mark.ref, cause="t_x#0")
    assert session.do(settled).outcome.scheduled == ("t_y#0",)
    assert session.state.pending == {}
    assert session.do(settled).outcome == FireResult(duplicate=True)


def test_a_mark_is_settled_even_if_its_firing_is_a_duplicate() -> None:
    session = Session(t_x={"after": ["a"]})
    session.do(Fire(trigger="a"))
    session.start()
    session.do(Finish(key=("t_x", 0), token="token", hooks=OVERRIDDEN))
    session.do(Fire(trigger="t_x", key="k"))
    duplicate = Fire(trigger="t_x", key="k", settles="cascade:t_x#0:finished")
    assert session.do(duplicate).outcome.duplicate
    assert session.state.pending == {}


def test_marks_are_left_only_for_hooks_that_are_overridden() -> None:
    session = Session(t_x={"after": ["a"]})
    assert session.do(Fire(trigger="a")).pending == []
    [mark] = session.do(Fire(trigger="b", hooks=HOOKS)).pending
    assert (mark.kind, mark.data) == (
        "post_fire",
        {"trigger": "b", "scheduled": [], "manager": "mine"},
    )
    session.do(Done(ref=mark.ref))
    assert session.state.pending == {}
    assert session.do(Done(ref=mark.ref)).is_empty


def test_replaying_makes_a_new_instance_of_the_same_lineage() -> None:
    session = Session(t_x={"after": ["a"]})
    session.do(Fire(trigger="a"))
    session.start()
    session.do(Fail(key=("t_x", 0), token="token", metadata={"why": "x"}))
    transition = session.do(Replay(key=("t_x", 0), hooks=HOOKS))
    assert (transition.outcome.name, transition.outcome.lineage) == ("t_x#1", 0)
    assert transition.outcome.metadata == {"parent": "t_x#0"}
    assert transition.outcome.taken == {"a": 1}
    assert [mark.kind for mark in transition.pending] == ["post_replay"]
    assert session.state.instances["t_x", 0].metadata == {"why": "x"}
    session.start(number=1)
    session.do(Fail(key=("t_x", 1), token="token"))
    again = session.do(Replay(key=("t_x", 1), replacement='{"a":{}}')).outcome
    assert (again.taken, again.replacement) == ({"a": BY_HAND}, '{"a":{}}')


@pytest.mark.parametrize("event", [Replay, SkipFailed])
def test_only_failed_instances_are_replayed_or_skipped(event: type) -> None:
    session = Session(t_x={"after": ["a"]})
    session.do(Fire(trigger="a"))
    session.start()
    with pytest.raises(InvalidTransition, match="t_x#0 is running"):
        session.do(event(key=("t_x", 0)))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("cascade", [True, False])
def test_skipping_a_failed_instance_cascades_when_asked(cascade: bool, fold: bool) -> None:
    session = Session(t_x={"after": ["a"]}, t_y={"after": ["t_x"]})
    session.do(Fire(trigger="a"))
    session.start()
    session.do(Fail(key=("t_x", 0), token="token"))
    hooks = HOOKS if fold else Hooks("mine", HOOKS.names | {"fire"})
    event = SkipFailed(key=("t_x", 0), cascade=cascade, result='{"n":1}', hooks=hooks)
    assert session.do(event).outcome.result == '{"n":1}'
    assert session.statuses()["t_x#0"] == "skipped"
    assert ("t_y#0" in session.statuses()) == (cascade and fold)
    fired = [each for each in session.state.pending.values() if each.kind == "cascade"]
    names = [(each.data["trigger"], each.data["also"]) for each in fired]
    # Nobody waits for t_x:skipped alone, so an override need not see it.
    assert names == ([("t_x", ["t_x:skipped"])] if cascade and not fold else [])
    assert session.state.pending["post_skip:t_x#0"].data["cascade"] == cascade


def test_a_status_set_by_hand_obeys_the_table_and_voids_the_token() -> None:
    session = Session(t_x={"after": ["a", "b"]}, t_y={"after": ["t_x"]})
    session.do(Fire(trigger="a"))
    forced = session.do(SetStatus(key=("t_x", 0), status=Status.SCHEDULED, metadata={"by": "me"}))
    assert list(forced.scheduled) == [("t_x", 0)]
    session.start()
    session.do(SetStatus(key=("t_x", 0), status=Status.FINISHED, cascade=True, kwargs='{"n":2}'))
    assert session.do(Finish(key=("t_x", 0), token="token")).outcome is False
    assert session.statuses() == {"t_x#0": "finished", "t_y#0": "scheduled"}
    assert session.state.instances["t_x", 0].metadata == {"by": "me"}
    with pytest.raises(InvalidTransition):
        session.do(SetStatus(key=("t_x", 0), status=Status.RUNNING))
    unfired = SetStatus(key=("t_x", 0), status=Status.SCHEDULED)
    assert not unfired.reads(session.state.plan).triggers


def test_an_instance_can_be_annotated_in_any_status() -> None:
    session = Session(t_x={"after": ["a", "b"]})
    session.do(Fire(trigger="a"))
    assert session.do(Annotate(key=("t_x", 0), metadata={"n": 1})).outcome.metadata == {"n": 1}
    session.do(Fire(trigger="b"))
    assert session.statuses() == {"t_x#0": "scheduled"}
    session.do(Annotate(key=("t_x", 0), metadata={"m": 2}))
    assert session.state.instances["t_x", 0].metadata == {"n": 1, "m": 2}


def test_an_instance_made_by_hand_takes_part_like_any_other() -> None:
    session = Session(t_x={"after": ["a", "b"]})
    made = session.do(Create(task="t_x", kwargs='{"a":{}}', given=("a",))).outcome
    assert (made.name, made.status, made.taken) == ("t_x#0", "unstarted", {"a": BY_HAND})
    copied = session.do(Clone(key=("t_x", 0))).outcome
    assert (copied.name, copied.metadata, copied.replacement) == (
        "t_x#1",
        {"parent": "t_x#0"},
        '{"a":{}}',
    )
    assert session.do(Fire(trigger="b")).outcome.scheduled == ("t_x#0", "t_x#1")
    complete = session.do(Create(task="t_x", kwargs="{}", given=("a", "b"))).outcome
    assert complete.status is Status.SCHEDULED


def test_an_instance_made_by_hand_can_be_given_a_status_at_once() -> None:
    session = Session(t_x={"after": ["a", "b"]})
    made = session.do(Create(task="t_x", status=Status.SCHEDULED))
    assert (made.outcome.status, list(made.scheduled)) == (Status.SCHEDULED, [("t_x", 0)])
    assert session.do(Create(task="t_x", status=Status.UNSTARTED)).outcome.status == "unstarted"
    with pytest.raises(InvalidTransition):
        session.do(Create(task="t_x", status=Status.FINISHED))
    assert list(session.state.instances) == [("t_x", 0), ("t_x", 1)]


def test_a_complete_copy_takes_part_when_its_task_is_replaced() -> None:
    session = Session(t_x={"after": ["a"]})
    session.do(Fire(trigger="a"))
    session.do(Clone(key=("t_x", 0)))
    assert session.state.awaiting == {}
    session.do(Configure(configuration=parse({"t_x": {"after": ["a", "z"], "run": "x"}})))
    assert session.do(Fire(trigger="z")).outcome.scheduled == ("t_x#1",)


def test_a_task_that_would_reserve_a_name_in_use_is_refused() -> None:
    session = Session(t_x={"after": ["order:paid"]})
    before = copy.deepcopy(session.state)
    with pytest.raises(ConfigurationError, match=r"t_x\.after: 'order:paid' is reserved"):
        session.do(Configure(configuration=parse({"order": {"after": ["a"], "run": "x"}})))
    assert session.state == before
    session.do(Fire(trigger="order:paid"))
    assert session.statuses() == {"t_x#0": "scheduled"}


def test_an_instance_that_a_whole_session_has_not_is_named() -> None:
    with pytest.raises(InstanceNotFound, match=r"t_x#7.*the session has no such instance"):
        decide(Clone(key=("t_x", 7)), SessionState(), NOW)


def test_what_could_not_be_sent_again_does_not_count_as_sent() -> None:
    session = Session(t_x={"after": ["a"]}, t_y={"after": ["a"]}, t_z={"after": ["a"]})
    session.do(Fire(trigger="a"))
    session.now = NOW + RESEND_AFTER
    session.do(Recover())
    keys: list[tuple[str, int]] = [("t_x", 0), ("t_y", 0), ("t_z", 0)]
    session.now += 2 * RESEND_AFTER
    session.do(Recover())
    session.start("t_z")
    transition = session.do(Unsent(sends={keys[0]: 2, keys[1]: 1, keys[2]: 2}))
    assert list(transition.instances) == [keys[0]], "another was sent since, or runs"
    back = session.state.instances[keys[0]]
    assert (back.sends, back.due_at) == (1, session.now + RESEND_AFTER)
    assert not transition.scheduled
    assert session.do(Unsent(sends={keys[0]: 0})).is_empty


def test_recovery_takes_what_is_due_and_nothing_else() -> None:
    session = Session(t_x={"after": ["a"]}, t_y={"after": ["b"]})
    session.do(Fire(trigger="a", hooks=HOOKS))
    assert session.do(Recover()).is_empty
    session.now = NOW + timedelta(seconds=30)
    session.do(Fire(trigger="b", hooks=HOOKS))
    session.now = NOW + timedelta(seconds=60)
    transition = session.do(Recover())
    assert list(transition.scheduled) == [("t_x", 0)]
    assert [mark.ref for mark in transition.outcome] == ["post_fire:1"]
    assert session.state.instances["t_x", 0].sends == 1
    assert session.do(Recover()).is_empty, "what was taken over is due later"
    session.start()
    session.now = NOW + timedelta(seconds=119)
    assert [*session.do(Recover()).scheduled] == [("t_y", 0)], "the running one has its lease"
    session.now = NOW + timedelta(days=1)
    transition = session.do(Recover())
    assert list(transition.scheduled) == [("t_x", 0), ("t_y", 0)], "one is taken back, one sent"


def test_recovery_passes_over_what_another_process_has_moved() -> None:
    session = Session(t_x={"after": ["a"]})
    session.do(Fire(trigger="a"))
    key = ("t_x", 0)
    session.state.instances[key] = replace(session.state.instances[key], due_at=None)
    session.now = NOW + timedelta(days=1)
    assert session.do(Recover()).is_empty


def test_history_is_taken_by_the_first_configuration_in_the_order_it_happened() -> None:
    session = Session()
    for trigger in ("p", "a", "p", "u", "p"):
        session.do(Fire(trigger=trigger))
    tasks = {
        "t_every": {"after": ["a"], "andEvery": "p", "run": "x"},
        "t_unless": {"after": ["a", "z"], "unless": ["u"], "run": "x"},
    }
    outcome = session.do(Configure(configuration=parse(tasks))).outcome
    assert outcome.created == ("t_every#0", "t_unless#0", "t_every#1", "t_every#2")
    assert outcome.scheduled == ("t_every#0", "t_every#1", "t_every#2")
    assert outcome.abandoned == ("t_unless#0",)
    taken = [session.state.instances["t_every", n].taken for n in range(3)]
    assert taken == [{"p": 1, "a": 2}, {"p": 3, "a": 2}, {"p": 5, "a": 2}]


def test_the_same_configuration_again_changes_nothing() -> None:
    session = Session(t_x={"after": ["a"]})
    same = Configure(configuration=session.state.plan.configuration, manager="default")
    assert session.do(same).is_empty


def test_replacing_a_task_decides_its_waiting_instances_anew() -> None:
    session = Session(t_x={"after": ["a", "b"]}, t_y={"after": ["c"]}, t_z={"after": ["a", "q"]})
    session.do(Fire(trigger="a"))
    session.do(Fire(trigger="seen"))
    fewer = {"t_x": {"after": ["a"], "run": "x"}, "t_z": {"after": ["a", "seen"], "run": "x"}}
    outcome = session.do(Configure(configuration=parse(fewer))).outcome
    assert outcome.scheduled == ("t_x#0", "t_z#0")
    assert session.state.instances["t_z", 0].taken == {"a": 1, "seen": 2}


def test_a_replaced_task_still_awaits_what_it_lacks() -> None:
    session = Session(t_x={"after": ["a", "b"]}, t_o={"after": ["a", "o"]})
    session.do(Fire(trigger="a"))
    session.do(Configure(configuration=parse({"t_x": {"after": ["a", "n"], "run": "x"}})))
    session.do(Fire(trigger="b"))
    assert session.statuses() == {"t_o#0": "unstarted", "t_x#0": "unstarted"}
    session.do(Fire(trigger="n"))
    session.do(Fire(trigger="o"))
    assert session.statuses() == {"t_o#0": "scheduled", "t_x#0": "scheduled"}


def test_a_firing_looks_only_at_instances_that_it_can_change() -> None:
    """The cost of a firing follows what changes, however much waits for something else."""
    session = Session(t_x={"after": ["never"], "andEvery": "p"}, t_y={"after": ["a", "p"]})
    for _ in range(50):
        session.do(Fire(trigger="p"))
    assert not session.state.awaiting.get("p")
    assert list(session.state.awaiting["never"]) == [("t_x", n) for n in range(50)]
    assert set(session.do(Fire(trigger="a")).instances) == {("t_y", 0)}
