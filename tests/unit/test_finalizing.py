"""A session that was declared to finalizes once, when nothing is left. No storage, no clock."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.unit.pure_session import NOW, PureSession, read
from triggers import workflows
from triggers.conditions import predicate
from triggers.configuration import Configuration, parse, restore, suspicions
from triggers.engine import Event, Hooks, MustSeeMore, Reads, SessionState, decide, reads_of
from triggers.engine.events import Fire
from triggers.engine.lifecycle import Claim, Extend, Finish
from triggers.engine.phases import Cancel, Close, Purge
from triggers.engine.recovering import Done, Recover
from triggers.exceptions import ConfigurationError, PredicateFailed
from triggers.manager import TriggerManager
from triggers.storages.memory import MemoryStorageBackend
from triggers.storages.redis.slices import slice_of
from triggers.testing.racing import Recorded
from triggers.types import SESSION_FINALIZED, Phase, Status
from triggers.workflows import Workflow

SURVEY: dict[str, Any] = {
    "t_import": {"after": ["a", "b"]},
    "t_pages": {"after": ["t_import"], "andEvery": "p"},
    "t_embedded": {"after": ["p"], "unless": ["a"]},
    "t_close": {"after": [SESSION_FINALIZED, "t_import"]},
}
ONE: dict[str, Any] = {"t_x": {"after": ["a"]}, "t_close": {"after": [SESSION_FINALIZED]}}
OVERRIDDEN = Hooks("mine", frozenset({"fire"}))
HOOKED = Hooks("mine", frozenset({"post_fire"}))


def session(**tasks: Any) -> PureSession:
    """A session that finalizes."""
    made = PureSession()
    made.configure(finalize=True, **(tasks or ONE))
    return made


def finalized(seen: PureSession) -> list[int]:
    """Sequence numbers of the firings that say so."""
    return [each.seq for each in seen.state.firings.values() if each.trigger == SESSION_FINALIZED]


def is_left(seen: PureSession) -> bool:
    """What the recipe of the documents asks, from statuses alone."""
    instances = seen.state.instances.values()
    for name, task in seen.state.plan.tasks.items():
        own = [each for each in instances if each.task == name]
        if SESSION_FINALIZED in task.config.after:
            continue
        if not own or not all(each.status.is_resolved for each in own):
            return True
    return False


def run_all(seen: PureSession) -> None:
    """Run what is scheduled, and what follows, one after the other."""
    while ready := [name for name, status in seen.statuses().items() if status == "scheduled"]:
        seen.run(ready[0])
        assert bool(finalized(seen)) is not is_left(seen)


# -- open ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(["a", "b", "p", "p"])))
def test_in_every_order_it_fires_once_by_what_leaves_nothing(order: tuple[str, ...]) -> None:
    survey = session(**SURVEY)
    for trigger in order:
        survey.fire(trigger)
        assert not finalized(survey)
    run_all(survey)
    assert len(finalized(survey)) == 1
    statuses = survey.statuses()
    assert statuses["t_close#0"] == "finished"
    ran = order.index("p") < order.index("a")
    assert statuses["t_embedded#0"] == ("finished" if ran else "abandoned")


@pytest.mark.parametrize("last", ["t_pages#0", "t_pages#1", "t_embedded#0"])
def test_whoever_ends_last_it_is_part_of_that_transition(last: str) -> None:
    survey = session(**SURVEY)
    survey.fire_all("p b p a")
    survey.run("t_import#0")
    others = [name for name in ("t_pages#0", "t_pages#1", "t_embedded#0") if name != last]
    for name in others:
        survey.run(name)
    survey.start(last)
    transition = survey.do(Finish(key=(last[:-2], int(last[-1])), token=last))
    assert [each.trigger for each in transition.firings] == [last[:-2], SESSION_FINALIZED]
    fired = transition.firings[-1]
    assert (fired.kwargs, fired.cause, fired.key) == ("{}", None, None)
    assert list(transition.scheduled) == [("t_close", 0)]
    assert survey.instance("t_close#0").decided_by == fired.seq


def test_it_is_not_fired_where_it_was_not_declared() -> None:
    plain = PureSession(**ONE)
    plain.fire("a")
    plain.run("t_x#0")
    plain.do(Close())
    assert not finalized(plain)


def test_what_fires_after_the_end_does_not_fire_it_again() -> None:
    survey = session(**SURVEY)
    survey.fire_all("a b p")
    run_all(survey)
    survey.fire("p")
    survey.run("t_pages#1")
    assert len(finalized(survey)) == 1


def test_a_failed_instance_holds_it_up_until_somebody_skips_it() -> None:
    seen = session()
    seen.fire("a")
    seen.fail("t_x#0")
    assert not finalized(seen)
    seen.skip_failed("t_x#0")
    assert len(finalized(seen)) == 1


def test_a_skip_that_cascades_into_another_task_holds_it_up_until_that_has_run() -> None:
    seen = session(**ONE, t_y={"after": ["t_x"]})
    seen.fire("a")
    seen.fail("t_x#0")
    seen.skip_failed("t_x#0", cascade=True)
    assert not finalized(seen)
    seen.run("t_y#0")
    assert len(finalized(seen)) == 1


def test_it_waits_for_a_retry_and_for_a_replay() -> None:
    seen = session()
    seen.fire("a")
    seen.retry("t_x#0")
    assert not finalized(seen)
    seen.fail("t_x#1")
    seen.replay("t_x#1")
    assert not finalized(seen)
    seen.run("t_x#2")
    assert len(finalized(seen)) == 1


def test_a_task_that_skips_itself_or_is_abandoned_is_done() -> None:
    seen = session(**ONE, t_y={"after": ["a", "never"], "unless": ["u"]})
    seen.fire("a")
    seen.skip("t_x#0")
    assert not finalized(seen)
    seen.fire("u")
    assert seen.state.firings[finalized(seen)[0] - 1].trigger == "t_y:abandoned"


def test_a_status_that_was_set_by_hand_counts() -> None:
    seen = session()
    seen.fire("a")
    seen.set_status("t_x#0", Status.ABANDONED)
    assert len(finalized(seen)) == 1


def test_a_task_without_instances_holds_it_up() -> None:
    seen = session(**ONE, t_y={"after": ["b"]})
    seen.fire("a")
    seen.run("t_x#0")
    assert not finalized(seen)
    seen.fire("b")
    seen.run("t_y#0")
    assert len(finalized(seen)) == 1


def test_what_else_was_ready_at_rest_comes_before_the_end() -> None:
    seen = session(**ONE, t_sum={"after": ["a", {"settled": "t_x"}]})
    seen.fire("a")
    seen.run("t_x#0")
    assert seen.statuses()["t_sum#0"] == "scheduled"
    assert not finalized(seen)
    seen.run("t_sum#0")
    assert len(finalized(seen)) == 1


def test_a_deadline_ends_it_at_its_own_time_however_late_that_is_noticed() -> None:
    seen = session(t_x={"after": ["a", "never"], "within": "PT10S"}, t_close=ONE["t_close"])
    seen.fire("a")
    seen.move_on(60)
    seen.fire("a")
    # At the deadline nothing was left; what came later found the session finalized.
    assert [seen.seconds_of(seq) for seq in finalized(seen)] == [10]
    assert [names[0] for names in seen.fired()] == ["a", "t_x:expired", SESSION_FINALIZED, "a"]
    assert seen.statuses()["t_close#0"] == "scheduled"


def test_what_is_fired_by_hand_counts_as_the_end() -> None:
    seen = session()
    seen.fire(SESSION_FINALIZED, why="enough")
    seen.run("t_close#0")
    seen.fire("a")
    seen.run("t_x#0")
    seen.do(Close())
    assert len(finalized(seen)) == 1


def test_what_is_fired_by_hand_in_the_same_transition_counts_too() -> None:
    # The firing abandons the last waiting instance.
    seen = session(t_x={"after": ["a", "never"], "unless": [SESSION_FINALIZED]})
    seen.fire("a")
    seen.fire(SESSION_FINALIZED)
    assert seen.statuses() == {"t_x#0": "abandoned"}
    assert len(finalized(seen)) == 1


@pytest.mark.parametrize("tasks", [{}, {"t_close": ONE["t_close"]}])
def test_a_session_in_which_nothing_can_be_done_ends_when_it_is_closed(
    tasks: dict[str, Any],
) -> None:
    seen = PureSession()
    seen.configure(finalize=True, **tasks)
    seen.fire("a")
    assert not finalized(seen)
    seen.do(Close())
    assert len(finalized(seen)) == 1
    assert set(seen.statuses().values()) == ({"scheduled"} if tasks else set())


# -- who waits for the end ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "directives",
    [
        {"after": ["a", SESSION_FINALIZED]},
        {"after": ["a"], "andEvery": SESSION_FINALIZED},
        {"after": {"all": ["a", {"any": [SESSION_FINALIZED, "never"]}]}},
        {"after": ["a", {"elapsed": "PT1M", "since": SESSION_FINALIZED}]},
        {"after": ["a", {"trigger": SESSION_FINALIZED, "times": 1}], "unless": ["never"]},
    ],
)
def test_who_waits_for_the_end_does_not_hold_it_up(directives: dict[str, Any]) -> None:
    seen = session(t_x={"after": ["a"]}, t_end=directives)
    seen.fire("a")
    assert seen.statuses()["t_end#0"] == "unstarted"
    seen.run("t_x#0")
    assert len(finalized(seen)) == 1
    seen.tick(60)
    assert seen.statuses()["t_end#0"] == "scheduled"
    seen.run("t_end#0")
    assert len(finalized(seen)) == 1


def test_who_names_the_end_in_unless_holds_it_up_and_is_ruled_out_if_it_comes_by_hand() -> None:
    seen = session(
        t_x={"after": ["a"]}, t_wait={"after": ["a", "b"], "unless": [SESSION_FINALIZED]}
    )
    seen.fire("a")
    seen.run("t_x#0")
    assert not finalized(seen)
    seen.fire(SESSION_FINALIZED)
    assert seen.statuses()["t_wait#0"] == "abandoned"


def test_tasks_that_follow_the_end_go_on_without_another_one() -> None:
    seen = session(
        t_x={"after": ["a"]},
        t_close={"after": [SESSION_FINALIZED]},
        t_mail={"after": ["t_close", SESSION_FINALIZED]},
    )
    seen.fire("a")
    run_all(seen)
    assert seen.statuses() == dict.fromkeys(["t_x#0", "t_close#0", "t_mail#0"], "finished")
    assert len(finalized(seen)) == 1


@predicate("finalizing_explodes")
def explodes(kwargs: dict[str, Any]) -> bool:
    raise OverflowError("boom")


def test_a_filter_of_who_waits_for_the_end_is_asked_as_about_a_cascade() -> None:
    manager = TriggerManager(MemoryStorageBackend("filtered"))
    waits = {"after": [SESSION_FINALIZED], "run": Recorded.name}
    tasks = {
        "t_x": {"after": ["a", "never"], "unless": ["u"], "run": Recorded.name},
        "t_close": {**waits, "when": {SESSION_FINALIZED: {"n": 1}}},
        "t_mail": {**waits, "when": {SESSION_FINALIZED: "finalizing_explodes"}},
    }
    manager.update_configuration(tasks, finalize=True)
    # A predicate that raises refuses what somebody fires, but not what ends the session by it.
    with pytest.raises(PredicateFailed):
        manager.fire(SESSION_FINALIZED, {"n": 1})
    manager.fire("a")
    assert manager.fire("u").abandoned == ("t_x#0",)
    *_others, last = manager.storage.find_firings()
    assert (last.trigger, last.refused.keys()) == (SESSION_FINALIZED, {"t_close", "t_mail"})
    assert "raised OverflowError: boom" in last.refused["t_mail"]
    manager.storage.delete()


# -- declaring it -------------------------------------------------------------------------------


def test_it_may_be_declared_late_and_is_fired_at_once_if_nothing_is_left() -> None:
    seen = PureSession(**ONE)
    seen.fire("a")
    seen.run("t_x#0")
    result = seen.configure(finalize=True)
    assert result.scheduled == ("t_close#0",)
    assert len(finalized(seen)) == 1


def test_it_may_be_taken_back_and_declared_again() -> None:
    seen = session()
    seen.fire("a")
    seen.configure(finalize=False)
    assert not seen.state.plan.watched
    seen.run("t_x#0")
    assert not finalized(seen)
    seen.configure(finalize=True)
    seen.configure(finalize=False)
    seen.configure(finalize=True)
    assert len(finalized(seen)) == 1


def test_other_configurations_leave_it_as_it_is() -> None:
    seen = session()
    seen.configure(t_y={"after": ["b"]})
    assert seen.state.plan.configuration.finalizes
    assert seen.state.plan.finishing == {"t_x", "t_y"}
    seen.fire("a")
    seen.run("t_x#0")
    assert not finalized(seen)
    seen.fire("b")
    seen.run("t_y#0")
    assert len(finalized(seen)) == 1
    seen.configure(t_z={"after": ["c"]})
    seen.fire("c")
    seen.run("t_z#0")
    assert len(finalized(seen)) == 1


def test_the_last_task_that_held_it_up_may_be_made_to_wait_for_it() -> None:
    seen = session(**ONE, t_y={"after": ["b"]})
    seen.fire("a")
    seen.run("t_x#0")
    seen.configure(t_y={"after": ["b", SESSION_FINALIZED]})
    assert len(finalized(seen)) == 1


def test_history_that_is_applied_is_seen_before_the_end() -> None:
    seen = session()
    seen.fire_all("a b")
    seen.configure(apply_history=True, t_y={"after": ["b"]})
    seen.run("t_x#0")
    assert not finalized(seen)
    seen.run("t_y#0")
    assert len(finalized(seen)) == 1


def test_the_text_says_it_and_texts_without_it_stay_as_they_were() -> None:
    plain = parse({"t_x": {"after": ["a"], "run": "x"}})
    assert plain.body == '{"t_x":{"after":["a"],"run":"x"}}'
    declared = plain.merged_with(Configuration(), finalize=True)
    assert declared != plain
    assert restore(declared.body) == declared
    assert restore(declared.body).finalizes
    assert list(restore(declared.body).tasks) == ["t_x"]
    assert declared.merged_with(plain).finalizes
    assert declared.merged_with(Configuration(), finalize=False) == plain


@pytest.mark.parametrize("wrong", ["yes", 1, 0, []])
def test_it_is_declared_with_true_or_false(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="finalize: expected True, False, or None"):
        Configuration().merged_with(Configuration(), finalize=wrong)


def test_no_task_may_have_the_name_in_a_session_that_finalizes() -> None:
    seen = PureSession()
    seen.configure(**{SESSION_FINALIZED: {"after": ["a"]}})
    with pytest.raises(ConfigurationError, match="call the task otherwise"):
        seen.configure(finalize=True)
    assert not seen.state.plan.configuration.finalizes


def warned(**tasks: Any) -> dict[str, str]:
    parsed = parse({name: {"run": "x", **each} for name, each in tasks.items()})
    return dict(suspicions(parsed.merged_with(Configuration(), finalize=True)))


def test_a_task_that_follows_the_end_and_does_not_say_so_is_suspicious() -> None:
    found = warned(**ONE, t_mail={"after": ["t_close:failed"]}, t_more={"after": ["t_mail", "b"]})
    assert list(found) == ["t_mail", "t_more"]
    assert "never finalized unless it is closed" in found["t_mail"]
    assert not warned(**ONE, t_mail={"after": {"any": ["t_close", "b"]}})
    assert not warned(**ONE, t_mail={"after": ["t_close", SESSION_FINALIZED]})


# -- closed -------------------------------------------------------------------------------------


def test_closing_ends_a_session_in_which_nothing_goes_on() -> None:
    seen = session(**ONE, t_y={"after": ["b"]}, t_wait={"after": ["a", "never"]})
    seen.fire("a")
    seen.run("t_x#0")
    assert not finalized(seen)
    transition = seen.do(Close())
    assert transition.phase is Phase.CLOSED
    assert [each.trigger for each in transition.firings] == [SESSION_FINALIZED]
    assert seen.statuses()["t_wait#0"] == "unstarted"
    seen.run("t_close#0")
    seen.do(Close())
    assert len(finalized(seen)) == 1


@pytest.mark.parametrize("how", ["scheduled", "running", "failed"])
def test_a_closed_session_waits_for_what_goes_on(how: str) -> None:
    seen = session(**ONE, t_wait={"after": ["a", "never"]})
    seen.fire("a")
    if how == "running":
        seen.start("t_x#0")
    elif how == "failed":
        seen.fail("t_x#0")
    seen.do(Close())
    assert not finalized(seen)
    assert seen.do(Extend(key=("t_x", 0), token="nobody")).outcome is False
    assert not finalized(seen)
    if how == "failed":
        seen.run(seen.replay("t_x#0"))
    elif how == "running":
        seen.finish("t_x#0")
    else:
        seen.run("t_x#0")
    assert len(finalized(seen)) == 1


def test_a_closed_session_waits_for_what_time_will_change() -> None:
    seen = session(
        t_x={"after": ["a", "never"], "within": "PT10S"},
        t_late={"after": ["t_x:expired", {"elapsed": "PT5S", "since": "a"}]},
        t_end={"after": [SESSION_FINALIZED, "never"], "within": "PT30S"},
    )
    seen.fire("a")
    seen.do(Close())
    assert not finalized(seen)
    seen.tick(10)
    assert seen.statuses()["t_late#0"] == "scheduled"
    assert not finalized(seen)
    seen.run("t_late#0")
    assert len(finalized(seen)) == 1


def test_the_deadline_of_who_waits_for_the_end_does_not_hold_it_up() -> None:
    seen = session(
        t_x={"after": ["a"]}, t_end={"after": [SESSION_FINALIZED, "a"], "within": "PT9S"}
    )
    seen.fire("a")
    seen.do(Close())
    seen.run("t_x#0")
    assert len(finalized(seen)) == 1
    assert seen.statuses()["t_end#0"] == "scheduled"


def test_in_a_closed_session_what_follows_from_the_last_one_comes_before_the_end() -> None:
    seen = session(**ONE, t_y={"after": ["t_x"]}, t_z={"after": ["t_x:failed"]})
    seen.fire("a")
    seen.do(Close())
    seen.run("t_x#0")
    assert not finalized(seen)
    seen.run("t_y#0")
    assert len(finalized(seen)) == 1
    assert "t_z#0" not in seen.statuses()


def test_a_firing_that_was_recorded_before_the_closing_comes_before_the_end() -> None:
    seen = session()
    seen.do(Close())
    assert len(finalized(seen)) == 1
    # As a database sees it: one is still to be decided.
    waiting = session()
    state = SessionState(
        plan=waiting.state.plan,
        is_whole=False,
        latest={SESSION_FINALIZED: 0},
        ongoing_limit=1,
        deferred=1,
        counts={"t_x": 0, "t_close": 0},
        awaiting={"b": {}, SESSION_FINALIZED: {}},
    )
    assert not decide(Close(), state, NOW).firings
    state.phase = Phase.CLOSED
    state.ongoing_limit = 2
    fired = decide(Fire(trigger="b", deferred=True), state, NOW).firings
    assert [each.trigger for each in fired] == ["b", SESSION_FINALIZED]
    state.deferred = 2
    assert len(decide(Fire(trigger="b", deferred=True), state, NOW).firings) == 1
    state.deferred = 1
    assert not decide(Fire(trigger="b", is_inside=True), state, NOW).firings[1:]


def test_what_was_due_before_a_recorded_firing_is_decided_leaves_that_firing_over() -> None:
    # The last thing that goes on by itself is a deadline, and the firing comes after it.
    waiting = session(t_x={"after": ["a", "b"], "within": "PT10S"})
    waiting.fire("a")
    waiting.do(Close())
    state = waiting.state
    state.deferred = 1
    late = NOW + timedelta(seconds=30)
    fired = decide(Fire(trigger="b", deferred=True), state, late).firings
    names = [each.trigger for each in fired]
    assert names == ["t_x:expired", "b", SESSION_FINALIZED]


def test_redis_leaves_to_the_engine_whatever_may_bring_the_end() -> None:
    plan = session(**SURVEY, t_late={"after": ["c", SESSION_FINALIZED]}).state.plan
    nobody: frozenset[tuple[str, str]] = frozenset()
    for trigger in ("a", "b", "p"):
        assert slice_of(plan, trigger, nobody, False) is None
    for task in ("t_import", "t_pages", "t_embedded"):
        assert slice_of(plan, task, nobody, True) is None
    # Who waits for the end, and what nobody waits for, cannot.
    for trigger in ("c", SESSION_FINALIZED, "unheard"):
        assert slice_of(plan, trigger, nobody, False) is not None
    assert slice_of(plan, "t_close", nobody, True) is not None


@pytest.mark.parametrize("end", [Cancel(), Purge()])
def test_a_cancelled_or_purged_session_does_not_finalize(end: Any) -> None:
    seen = session(**ONE, t_y={"andEvery": "a"})
    seen.fire("a")
    seen.start("t_x#0")
    seen.do(end)
    if isinstance(end, Cancel):
        seen.finish("t_x#0")
    seen.do(Close())
    assert not finalized(seen)


# -- what else is left --------------------------------------------------------------------------


def test_a_cascade_that_a_manager_must_fire_is_something_left() -> None:
    seen = session()
    seen.fire("a")
    seen.start("t_x#0")
    seen.do(Finish(key=("t_x", 0), token="t_x#0", hooks=OVERRIDDEN))
    [ref] = seen.state.pending
    seen.fire("b")
    seen.do(Recover(hooks=OVERRIDDEN))
    seen.configure(finalize=True, t_x={"after": ["a"], "unless": ["b"]})
    assert not finalized(seen)
    cascade = Fire(trigger="t_x", cause="t_x#0", settles=ref, depth=1, hooks=OVERRIDDEN)
    transition = seen.do(cascade)
    assert [each.trigger for each in transition.firings] == ["t_x", SESSION_FINALIZED]
    assert not seen.state.pending, "the end itself is fired at once"
    assert seen.do(cascade).outcome.duplicate


def test_a_cascade_that_turns_out_to_be_a_duplicate_is_done() -> None:
    seen = PureSession(t_x={"andEvery": "a"}, t_y={"after": ["b", {"settled": "t_x"}]})
    seen.configure(finalize=True, t_y={"after": ["b", {"settled": "t_x"}]})
    seen.fire_all("b a a")
    for number in (0, 1):
        seen.start(f"t_x#{number}")
        seen.do(Finish(key=("t_x", number), token=f"t_x#{number}", hooks=OVERRIDDEN))
        [ref] = seen.state.pending
        cause = f"t_x#{number}"
        # As of a manager whose own 'fire' gives each cascade of a task the same key.
        cascade = Fire(trigger="t_x", key="once", cause=cause, settles=ref, depth=1)
        assert seen.do(cascade).outcome.duplicate == bool(number)
    assert seen.statuses()["t_y#0"] == "scheduled", "t_x is settled"
    assert not finalized(seen)
    seen.run("t_y#0")
    assert len(finalized(seen)) == 1


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.CLOSED])
def test_a_cascade_that_a_manager_gives_up_is_done(phase: Phase) -> None:
    seen = session()
    seen.fire("a")
    seen.start("t_x#0")
    seen.do(Finish(key=("t_x", 0), token="t_x#0", hooks=OVERRIDDEN))
    if phase is Phase.CLOSED:
        seen.do(Close(hooks=OVERRIDDEN))
    [ref] = seen.state.pending
    assert not finalized(seen)
    seen.do(Done(ref=ref, hooks=OVERRIDDEN))
    assert len(finalized(seen)) == 1


def test_a_hook_is_called_for_it_and_only_a_closed_session_waits_for_hooks() -> None:
    seen = session()
    seen.do(Fire(trigger="a", hooks=HOOKED))
    assert list(seen.state.pending) == ["post_fire:1"]
    seen.start("t_x#0")
    transition = seen.do(Finish(key=("t_x", 0), token="t_x#0", hooks=HOOKED))
    assert [mark.data["trigger"] for mark in transition.pending] == ["t_x", SESSION_FINALIZED]
    assert transition.pending[1].data["scheduled"] == ["t_close#0"]

    closed = session()
    closed.fire("a")
    closed.do(Close(hooks=HOOKED))
    closed.start("t_x#0")
    [mark] = closed.do(Finish(key=("t_x", 0), token="t_x#0", hooks=HOOKED)).pending
    assert not finalized(closed)
    closed.do(Extend(key=("t_x", 0), token="nobody", hooks=HOOKED))
    assert not finalized(closed)
    closed.do(Done(ref=mark.ref, hooks=HOOKED))
    assert len(finalized(closed)) == 1


# -- what it costs ------------------------------------------------------------------------------


def test_where_a_task_has_not_begun_nothing_else_is_asked() -> None:
    seen = session(**ONE, t_y={"after": ["b"]})
    seen.fire("a")
    seen.start("t_x#0")
    [only] = asked(seen, Finish(key=("t_x", 0), token="t_x#0"))
    assert only.counts == ("t_x", "t_y")


def test_only_the_last_one_of_its_kind_asks_for_the_others() -> None:
    survey = session(**SURVEY)
    survey.fire_all("p a b")
    survey.run("t_import#0")
    survey.start("t_pages#0")
    first, second = asked(survey, Finish(key=("t_pages", 0), token="t_pages#0"))
    assert first.unsettled == (("t_pages", 2),)
    assert second == Reads(unsettled=(("t_embedded", 1), ("t_import", 1)), marks=True)
    assert not finalized(survey)


def asked(seen: PureSession, event: Event) -> list[Reads]:
    """What deciding an event asks for, in turn, beyond what it says beforehand."""
    whole, found = seen.state, []
    part = SessionState(plan=whole.plan, is_whole=False, phase=whole.phase, seq=whole.seq)
    read(whole, reads_of(event, whole.plan, seen.now), part)
    while True:
        try:
            decide(event, part, seen.now)
        except MustSeeMore as more:
            found.append(more.reads)
            read(whole, more.reads, part)
        else:
            seen.do(event)
            return found


def test_a_firing_that_leaves_something_asks_for_nothing_more() -> None:
    survey = session(**SURVEY)
    for trigger in ("p", "b", "a"):
        assert asked(survey, Fire(trigger=trigger)) == []
    assert asked(survey, Claim(key=("t_import", 0), token="t")) == []
    survey.do(Close())
    survey.start("t_embedded#0")
    assert asked(survey, Extend(key=("t_embedded", 0), token="t_embedded#0")) == []
    assert not finalized(survey)


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.CLOSED])
def test_what_is_asked_does_not_grow_with_the_session(phase: Phase) -> None:
    of_all = []
    for number in (3, 30):
        survey = session(**SURVEY)
        survey.fire_all("a b" + " p" * number)
        survey.run("t_import#0")
        if phase is Phase.CLOSED:
            survey.do(Close())
        survey.start("t_pages#0")
        of_all.append(asked(survey, Finish(key=("t_pages", 0), token="t_pages#0")))
        assert not finalized(survey)
    few, many = of_all
    # Of no task more instances than are changed here, and one.
    tasks = ("t_embedded", "t_import", "t_pages")
    if phase is Phase.CLOSED:
        wanted = [Reads(latest=(SESSION_FINALIZED,), ongoing=(tasks, 2), marks=True)]
    else:
        latest = (SESSION_FINALIZED,)
        wanted = [Reads(counts=tasks, latest=latest, unsettled=(("t_pages", 2),))]
    assert few == many == wanted


# -- workflows in Python ------------------------------------------------------------------------


def test_a_workflow_says_whether_its_sessions_finalize() -> None:
    workflow = Workflow("survey", finalize=True)
    workflow.task("t_x", run=Recorded.name, after="a")
    manager = TriggerManager(MemoryStorageBackend("of a workflow"))
    manager.update_configuration(workflow)
    assert manager.storage.plan().configuration.finalizes
    manager.update_configuration(workflow, finalize=False)
    assert not manager.storage.plan().configuration.finalizes
    manager.update_configuration(Workflow("other"))
    assert not manager.storage.plan().configuration.finalizes
    manager.storage.delete()


def test_several_modules_agree_on_whether_a_workflow_finalizes() -> None:
    try:
        assert workflows.define("finalizing").finalize is None
        made = workflows.define("finalizing", finalize=True)
        assert workflows.define("finalizing") is made
        assert workflows.define("finalizing", finalize=True).finalize is True
        with pytest.raises(ConfigurationError, match="was declared with finalize=True"):
            workflows.define("finalizing", finalize=False)
        with pytest.raises(ConfigurationError, match="expected True, False, or None"):
            workflows.define("finalizing", finalize="yes")  # type: ignore[arg-type]
        assert made.finalize is True
    finally:
        workflows.unregister("finalizing")


def test_a_workflow_that_says_neither_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="finalize: expected"):
        Workflow("survey", finalize=1)  # type: ignore[arg-type]
