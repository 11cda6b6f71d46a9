"""Why an instance is what it is: every status, reason and deadline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.explained import (
    AS_MANY_PAGES,
    a_task,
    after,
    barred,
    conditions,
    fail,
    fire_at,
    instance,
    ready,
    replaced,
    summary,
    task,
    told,
    whole,
)
from tests.unit.pure_session import NOW, PureSession
from triggers import payload
from triggers.engine.by_hand import Clone, Create, Replay
from triggers.engine.lifecycle import Retry
from triggers.engine.recovering import Recover
from triggers.explain import look
from triggers.types import Status


class TestWaiting:
    def test_the_whole_of_it(self) -> None:
        session = a_task(
            after=["ordered", AS_MANY_PAGES],
            unless={"atLeast": 2, "of": ["cancelled", "refused", "closed"]},
            within="P3D",
            when={"ordered": {"n": {"gte": 3}}},
        )
        fire_at(session, 0, "ordered", n=1)
        fire_at(session, 1, "started", pages=2)
        fire_at(session, 2, "page")
        fire_at(session, 3, "refused")
        session.move_on(3600)
        assert (
            str(instance(session))
            == """\
t_x#0 waits for ordered; 1 more of page (1 of 2 held; 2 comes from started.pages)
  waiting since 2026-11-21T12:00:01Z, made by firing 2 of started
  after, all of these
    [ ] ordered: fired once, filtered out for t_x
    [ ] 1 more of page (1 of 2 held; 2 comes from started.pages)
  unless (would rule it out)
    [ ] 2 of these 3:
      [ ] cancelled: never fired
      [x] refused: firing 4, 2026-11-21T12:00:03Z
      [ ] closed: never fired
  next, on 2026-11-24T12:00:01Z: it expires if it still waits (within P3D)
  filtered out for t_x
    firing 1 of ordered, 2026-11-21T12:00:00Z: n gte 3, got 1"""
        )

    def test_it_is_explained_as_of_the_present(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("a")
        session.move_on(5)
        found = conditions(session)
        assert (found.as_of, found.verdict, found.next) == (after(5), "waits", None)
        assert instance(session).decision is None

    def test_the_time_of_a_session_never_goes_back(self) -> None:
        session = a_task(after=["a", "b"])
        fire_at(session, 60, "a")
        session.now = NOW
        assert conditions(session).as_of == after(60)
        session = PureSession(t_x={"after": ["a"]})
        session.fire("a")
        session.move_on(60)
        session.run("t_x#0")
        session.now = NOW
        assert whole(session).at == after(60)

    def test_a_copy_made_by_hand_waits_for_nobody(self) -> None:
        session = a_task(after=["a"], unless=["b"], within="PT1H")
        session.fire("a")
        session.do(Clone(key=("t_x", 0)))
        assert summary(session, "t_x#1") == (
            "t_x#1 has all that it waits for, but is a copy made by hand: change its status by hand"
        )
        assert conditions(session, "t_x#1").verdict == "ready"
        assert "waiting since 2026-11-21T12:00:00Z, a copy of t_x#0, made by hand" in told(
            session, "t_x#1"
        )
        assert instance(session, "t_x#1").created_by is None
        session.move_on(3600)
        assert summary(session, "t_x#1").startswith("t_x#1 is due to expire since")

    def test_a_copy_of_what_was_ruled_out_is_ruled_out(self) -> None:
        session = a_task(after=["a"], unless=["b"])
        session.fire("b")
        session.do(Clone(key=("t_x", 0)))
        assert summary(session, "t_x#1").startswith("t_x#1 has what rules it out, but is a copy")


class TestDeadlines:
    def test_within(self) -> None:
        session = a_task(after=["a", "b"], within="PT1H")
        session.fire("a")
        deadline = conditions(session).next
        assert deadline is not None
        assert (deadline.at, deadline.kind, deadline.is_over) == (after(hours=1), "expires", False)
        assert deadline.text == "it expires if it still waits (within PT1H)"

    def test_elapsed(self) -> None:
        session = a_task(after=["b", {"elapsed": "PT1M", "since": "a"}], within="PT1H")
        session.fire("a")
        deadline = conditions(session).next
        assert deadline is not None
        assert (deadline.at, deadline.kind, deadline.text) == (
            after(60),
            "elapsed",
            "it is PT1M since a",
        )

    def test_elapsed_in_unless(self) -> None:
        session = a_task(after=["b", "a"], unless={"elapsed": "PT1M", "since": "a"})
        session.fire("a")
        deadline = conditions(session).next
        assert deadline is not None
        assert (deadline.at, deadline.kind) == (after(60), "elapsed")

    def test_burst(self) -> None:
        session = a_task(after=["b"], andEvery="page", debounce={"quiet": "PT5S", "most": "PT1M"})
        session.fire("page")
        deadline = conditions(session).next
        assert deadline is not None
        assert (deadline.at, deadline.kind, deadline.text) == (
            after(5),
            "burst",
            "the burst of page ends",
        )

    def test_where_several_meet_it_expires(self) -> None:
        session = a_task(after=["b", {"elapsed": "PT1H", "since": "a"}], within="PT1H")
        session.fire("a")
        deadline = conditions(session).next
        assert deadline is not None
        assert deadline.kind == "expires"

    def test_a_deadline_whose_reason_is_gone_is_still_told(self) -> None:
        session = a_task(after=["a", "b"], within="PT1H")
        session.fire("a")
        record = session.instance("t_x#0")
        session.state.instances["t_x", 0] = replaced(record, timer_at=after(60))
        deadline = conditions(session).next
        assert deadline is not None
        assert (deadline.at, deadline.kind, deadline.text) == (
            after(60),
            "time",
            "time may change it",
        )

    @pytest.mark.parametrize(
        ("directives", "verdict", "does"),
        [
            ({"after": ["a", "b"], "within": "PT1M"}, "expired", "is due to expire"),
            (
                {"after": ["a", {"elapsed": "PT1M", "since": "a"}], "within": "PT2M"},
                "ready",
                "is due to be scheduled",
            ),
            (
                {"after": ["a", "b"], "unless": {"elapsed": "PT1M", "since": "a"}},
                "ruled out",
                "is due to be ruled out",
            ),
            (
                {"after": ["a"], "andEvery": "p", "debounce": {"quiet": "PT1M", "most": "PT3M"}},
                "ready",
                "is due to be scheduled",
            ),
        ],
    )
    def test_what_is_due_is_decided_by_whoever_looks_next(
        self, directives: dict[str, Any], verdict: str, does: str
    ) -> None:
        session = a_task(**directives)
        session.fire_all("a p")
        session.move_on(59)
        assert conditions(session).verdict == "waits"
        session.move_on(600)
        found = conditions(session)
        assert (found.verdict, found.as_of) == (verdict, after(60))
        assert found.next is not None
        assert (found.next.at, found.next.is_over) == (after(60), True)
        assert summary(session) == (
            f"t_x#0 {does} since 2026-11-21T12:01:00Z: what happens next in the session decides "
            "it, or triggers.timers.fire_due()"
        )
        assert any(line.endswith("; nobody has looked since") for line in told(session, "t_x#0"))
        session.tick()
        expected = "scheduled" if verdict == "ready" else "abandoned"
        assert session.statuses() == {"t_x#0": expected}
        assert session.instance("t_x#0").changed_at == found.as_of

    def test_due_at_exactly_the_present_is_due(self) -> None:
        session = a_task(after=["a", "b"], within="PT1M")
        session.fire("a")
        session.move_on(60)
        assert conditions(session).verdict == "expired"

    def test_what_is_due_later_counts_too(self) -> None:
        raw = {"atLeast": 2, "of": [{"elapsed": each, "since": "a"} for each in ("PT1M", "PT2M")]}
        session = a_task(after=[raw])
        session.fire("a")
        session.move_on(600)
        found = conditions(session)
        assert (found.verdict, found.as_of) == ("ready", after(120))

    def test_what_is_due_is_looked_at_in_its_order(self) -> None:
        minutes = [f"PT{n}M" for n in (5, 3, 8, 1, 7, 2, 6, 4)]
        raw = {"atLeast": 6, "of": [{"elapsed": each, "since": "a"} for each in minutes]}
        session = a_task(after=[raw])
        session.fire("a")
        session.move_on(3600)
        assert conditions(session).as_of == after(minutes=6)

    def test_what_was_fresh_when_it_was_due_counts(self) -> None:
        session = a_task(
            after=["s", {"elapsed": "PT1M", "since": "a"}], fresh={"s": "PT5M"}, within="P1D"
        )
        session.fire_all("a s")
        session.move_on(3600)
        assert conditions(session).verdict == "ready"

    def test_an_unless_that_is_due_first_wins(self) -> None:
        session = a_task(
            after={"elapsed": "PT2M", "since": "a"}, unless={"elapsed": "PT1M", "since": "a"}
        )
        session.fire("a")
        session.move_on(3600)
        found = conditions(session)
        assert (found.verdict, found.as_of) == ("ruled out", after(60))


class TestDecided:
    def test_scheduled(self) -> None:
        session = a_task(after=["a", "b"])
        fire_at(session, 0, "a")
        fire_at(session, 5, "b")
        found = instance(session)
        assert found.conditions is None
        assert found.decision is not None
        assert [each.firing.seq for each in found.decision.causes] == [2]
        assert (
            str(found)
            == """\
t_x#0 is scheduled since 2026-11-21T12:00:05Z: no worker has started it yet (it runs x)
  created on 2026-11-21T12:00:00Z, made by firing 1 of a
  scheduled by firing 2 of b, 2026-11-21T12:00:05Z
  it holds: a (firing 1), b (firing 2)"""
        )

    def test_what_is_scheduled_names_its_work_and_its_runner(self) -> None:
        session = a_task(after=["a"], run="orders.tasks.mail", using="celery")
        session.fire("a")
        found = instance(session)
        assert (found.run, found.using) == ("orders.tasks.mail", "celery")
        assert summary(session).endswith("yet (it runs orders.tasks.mail, using celery)")
        session = a_task(after=["a"], run="orders.tasks.mail")
        session.fire("a")
        assert instance(session).using is None
        assert summary(session).endswith("yet (it runs orders.tasks.mail)")

    def test_what_nobody_hands_on_again_is_told_a_minute_after_it_was_due(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        asked = "is 'manage.py triggers run' alive?"
        session.move_on(120)
        found = instance(session)
        assert (found.hand_on_at, found.is_forgotten) == (after(60), False)
        assert asked not in str(found)
        session.move_on(1)
        assert instance(session).is_forgotten
        due = "it was to be handed on again on 2026-11-21T12:01:00Z; nobody has"
        assert f"{due}: {asked}" in told(session, "t_x#0")
        session.do(Recover())
        assert not instance(session).is_forgotten
        assert asked not in str(instance(session))
        session.start("t_x#0")
        session.move_on(3600)
        found = instance(session)
        assert (found.hand_on_at, found.is_forgotten, found.is_overdue) == (None, False, True)

    def test_a_worker_that_is_not_heard_of(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.start("t_x#0")
        session.move_on(60)
        assert summary(session) == (
            "t_x#0 is running since 2026-11-21T12:00:00Z, but nothing was heard of its worker "
            "until 2026-11-21T12:01:00Z: recovery will take it back"
        )
        assert instance(session).is_overdue
        session.do(Recover())
        lost = "attempt 1, started on 2026-11-21T12:00:00Z, was lost with its worker"
        assert lost in told(session, "t_x#0")
        assert instance(session).to_json()["lost"] == [
            {"attempt": 1, "started_at": "2026-11-21T12:00:00+00:00"}
        ]

    def test_a_running_one_whose_lease_no_version_wrote(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.start("t_x#0")
        key = ("t_x", 0)
        session.state.instances[key] = replaced(session.state.instances[key], due_at=None)
        assert summary(session) == "t_x#0 is running since 2026-11-21T12:00:00Z"

    def test_running_and_finished(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.move_on(5)
        session.start("t_x#0")
        assert summary(session) == (
            "t_x#0 is running since 2026-11-21T12:00:05Z; its worker has a lease until "
            "2026-11-21T12:01:05Z"
        )
        session.move_on(5)
        session.finish("t_x#0")
        assert summary(session) == "t_x#0 finished on 2026-11-21T12:00:10Z"
        assert [(each.seq, each.names) for each in instance(session).outcomes] == [
            (2, ("t_x", "t_x:ended"))
        ]
        assert (
            str(instance(session))
            == """\
t_x#0 finished on 2026-11-21T12:00:10Z
  created on 2026-11-21T12:00:00Z, made by firing 1 of a
  scheduled by firing 1 of a, 2026-11-21T12:00:00Z
  it holds: a (firing 1)
  it has fired: firing 2 of t_x"""
        )

    def test_failed(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        fail(session, "t_x#0")
        found = instance(session)
        assert found.failure is not None
        assert (found.failure.type, found.failure.message) == (
            "builtins.ValueError",
            "There is no name.",
        )
        assert summary(session) == (
            "t_x#0 failed on 2026-11-21T12:00:00Z: ValueError: There is no name."
        )
        assert "it has fired: firing 2 of t_x:failed" in told(session, "t_x#0")
        assert not any(line.startswith("it had failed") for line in told(session, "t_x#0"))

    def test_failed_by_hand(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.set_status("t_x#0", Status.FAILED)
        found = instance(session).failure
        assert found is not None
        assert (found.type, found.message) == ("", "")
        assert summary(session) == "t_x#0 failed on 2026-11-21T12:00:00Z: set by hand"

    def test_skipped(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        fail(session, "t_x#0", "shop.errors.NoName")
        session.move_on(1)
        session.skip_failed("t_x#0", cascade=True)
        assert summary(session) == "t_x#0 was skipped on 2026-11-21T12:00:01Z"
        assert "it had failed: shop.errors.NoName: There is no name." in told(session, "t_x#0")
        assert "it has fired: firing 2 of t_x:failed, firing 3 of t_x" in told(session, "t_x#0")

    def test_replayed_and_its_successor(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        fail(session, "t_x#0")
        session.move_on(1)
        session.replay("t_x#0")
        fail(session, "t_x#1")
        session.move_on(1)
        session.replay("t_x#1")
        old, new = instance(session), instance(session, "t_x#2")
        assert old.replayed_as == "t_x#1"
        assert summary(session) == "t_x#0 was replayed as t_x#1 on 2026-11-21T12:00:01Z"
        assert (new.parent, new.lineage, new.replayed_as) == ("t_x#1", "t_x#0", None)
        assert (
            "created on 2026-11-21T12:00:02Z, to replay t_x#1; first of its lineage was t_x#0"
            in told(session, "t_x#2")
        )
        assert "scheduled by firing 1 of a, 2026-11-21T12:00:00Z" in told(session, "t_x#2")
        assert "created on 2026-11-21T12:00:01Z, to replay t_x#0" in told(session, "t_x#1")

    def test_retried(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.start("t_x#0")
        retry = Retry(key=("t_x", 0), token="t_x#0", cooldown=timedelta(minutes=5))
        assert session.do(retry).outcome
        found = instance(session, "t_x#1")
        assert (found.retries, found.parent, found.not_before) == (1, "t_x#0", after(300))
        assert "created on 2026-11-21T12:00:00Z, to retry t_x#0" in told(session, "t_x#1")
        assert "not before 2026-11-21T12:05:00Z, the end of its cool-down" in told(session, "t_x#1")
        session.move_on(300)
        session.run("t_x#1")
        assert not any(line.startswith("not before") for line in told(session, "t_x#1"))
        assert instance(session, "t_x#1").not_before == after(300)

    def test_made_by_hand_for_nothing(self) -> None:
        session = a_task(after=[], unless=["no"])
        session.do(Create(task="t_x"))
        assert not any(line.startswith("it holds") for line in told(session, "t_x#0"))
        assert "created on 2026-11-21T12:00:00Z" in told(session, "t_x#0")

    def test_its_tone_says_how_it_is(self) -> None:
        session = a_task(after=["a", "b"], andEvery="p")
        session.fire_all("a p")
        assert instance(session).outline().tone == "open"
        (first, second, third) = instance(session).outline().lines[1].lines
        assert (first.tone, second.tone, third.tone) == ("good", "bad", "good")
        session.fire("b")
        session.run("t_x#0")
        assert instance(session).outline().tone == "good"
        session.fire("p")
        session.fail("t_x#1")
        assert instance(session, "t_x#1").outline().tone == "bad"

    def test_a_replay_with_other_kwargs_holds_what_was_given(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        fail(session, "t_x#0")
        session.do(Replay(key=("t_x", 0), replacement=payload.dump({"a": {"n": 2}})))
        assert "it holds: a (given by hand)" in told(session, "t_x#1")

    def test_sent_and_started_more_than_once(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        session.state.instances["t_x", 0] = replaced(session.instance("t_x#0"), sends=2, attempt=3)
        assert "handed to a runner again twice" in told(session, "t_x#0")
        assert "started 3 times" in told(session, "t_x#0")

    @pytest.mark.parametrize(
        ("directives", "does", "otherwise"),
        [
            ({}, "replace", ("a new configuration", "somebody by hand")),
            ({"within": "P1D"}, "replace", ("time", "a new configuration", "somebody by hand")),
            (
                {"unless": ["y", {"settled": "t_x"}]},
                "replace",
                ("t_x became settled", "a new configuration", "somebody by hand"),
            ),
        ],
    )
    def test_what_no_firing_decided_may_have_several_reasons(
        self, directives: dict[str, Any], does: str, otherwise: tuple[str, ...]
    ) -> None:
        session = a_task(after=["a", "b"], **directives)
        session.fire("a")
        session.configure(t_x={"after": ["a"], **directives})
        found = instance(session)
        assert found.status is Status.SCHEDULED
        assert found.decision is not None
        assert (found.decision.causes, found.decision.otherwise) == ((), otherwise)
        assert f"scheduled by no firing; by {' or '.join(otherwise)}" in told(session, "t_x#0")

    def test_what_was_filtered_out_does_not_matter_any_more(self) -> None:
        session = a_task(after=["a"], when={"a": {"n": 1}})
        session.fire("a")
        session.fire("a", n=1)
        assert instance(session).filtered.latest == ()
        assert "filtered out" not in str(instance(session))

    def test_what_it_holds_is_listed_in_its_order(self) -> None:
        session = a_task(after=[{"trigger": "page", "times": 2}, "started"])
        session.fire_all("page started page")
        assert "it holds: page (firing 1), started (firing 2), page (firing 3)" in told(
            session, "t_x#0"
        )

    def test_many_firings_are_listed_in_short(self) -> None:
        session = a_task(after=[{"trigger": "page", "times": 12}])
        session.fire_all("page " * 12)
        (line,) = (each for each in told(session, "t_x#0") if each.startswith("it holds"))
        assert line.endswith("page (firing 10) and 2 more")
        assert len(instance(session).held) == 12


class TestAbandoned:
    def test_by_unless(self) -> None:
        session = a_task(after=["a", "b"], unless=[{"any": ["no", "never"]}])
        session.fire("a")
        fire_at(session, 5, "no")
        session.move_on(60)
        found = instance(session)
        assert found.decision is not None
        assert (found.decision.verb, found.decision.reason) == ("abandoned", "unless")
        assert (
            str(found)
            == """\
t_x#0 was abandoned on 2026-11-21T12:00:05Z: its unless held, by firing 2 of no
  created on 2026-11-21T12:00:00Z, made by firing 1 of a
  after, all of these
    [x] a: firing 1, 2026-11-21T12:00:00Z
    [ ] b: never fired
  unless
    [x] any of these:
      [x] no: firing 2, 2026-11-21T12:00:05Z
      [ ] never: never fired
  ruled out by firing 2 of no, 2026-11-21T12:00:05Z
  it has fired: firing 3 of t_x:abandoned"""
        )

    def test_although_it_waited_for_nothing(self) -> None:
        session = a_task(after=[], unless=["no"])
        session.fire("no")
        assert summary(session).endswith("its unless held, by firing 1 of no")
        assert "after: nothing" in told(session, "t_x#0")
        assert (ready(session).text, ready(session).holds) == ("nothing", True)

    def test_expired(self) -> None:
        session = a_task(after=["s", "b"], within="PT1H", fresh={"s": "PT1M"}, unless=["x"])
        session.fire("s")
        session.tick(timedelta(days=1).total_seconds())
        found = conditions(session)
        assert (found.verdict, found.as_of, found.next) == ("expired", after(hours=1), None)
        assert summary(session) == (
            "t_x#0 was abandoned on 2026-11-21T13:00:00Z: it expired, still waiting for "
            "a new s: that of 2026-11-21T12:00:00Z is no longer fresh (PT1M); b"
        )
        assert "ruled out" not in str(instance(session)).replace("would rule", "")
        assert "it has fired: firing 2 of t_x:expired" in told(session, "t_x#0")

    def test_expired_although_ready(self) -> None:
        session = a_task(after={"elapsed": "PT1H", "since": "a"}, within="PT1H")
        session.fire("a")
        session.tick(3600)
        assert summary(session).endswith("it expired, still waiting")

    def test_by_hand(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("a")
        session.set_status("t_x#0", Status.ABANDONED)
        assert summary(session) == "t_x#0 was abandoned on 2026-11-21T12:00:00Z: by hand"
        assert conditions(session).missing == ("b",)
        decision = instance(session).decision
        assert decision is not None
        assert decision.otherwise == ()

    def test_what_others_call_a_reason_is_none(self) -> None:
        session = a_task(after=["a"])
        session.fire("a")
        record = replaced(session.instance("t_x#0"), metadata={"reason": "nothing to do"})
        session.state.instances["t_x", 0] = record
        decision = instance(session).decision
        assert decision is not None
        assert decision.reason is None

    def test_nobody_knows_why(self) -> None:
        session = a_task(after=["a", "b"], unless=["no"])
        session.fire_all("a no")
        session.state.instances["t_x", 0] = replaced(session.instance("t_x#0"), metadata={})
        assert summary(session).endswith("was abandoned on 2026-11-21T12:00:00Z: nobody knows why")
        assert conditions(session).verdict == "waits"

    def test_what_was_filtered_out_for_it_is_told(self) -> None:
        session = a_task(after=["a", "b"], within="PT1H", when={"b": {"n": 1}})
        session.fire_all("a b")
        session.tick(3600)
        assert [each.firing.seq for each in instance(session).filtered.latest] == [2]

    def test_under_another_configuration_nobody_can_tell_how_it_was_ruled_out(self) -> None:
        session = a_task(after=["a", "b"], unless=["no"])
        session.fire_all("a no")
        session.configure(t_x={"after": ["a", "b"], "unless": ["never"]})
        assert instance(session).conditions is None
        assert "it holds: a (firing 1), no (firing 2)" in told(session, "t_x#0")
        session.configure(t_x={"after": ["a", "b"]})
        assert instance(session).conditions is None

    def test_a_task_that_was_settled_then_counts_as_settled(self) -> None:
        session = PureSession(
            t_y={"andEvery": "p"},
            t_x={"after": ["a", "b"], "unless": ["q", {"settled": "t_y"}]},
        )
        session.fire_all("a p q")
        session.move_on(5)
        session.run("t_y#0")
        assert session.instance("t_x#0").status is Status.ABANDONED
        fire_at(session, 60, "p")
        assert barred(session).parts[1].holds
        assert barred(session).parts[1].text == "t_y: settled, with 1 instance"
        assert barred(session).parts[1].since == after(5)
        assert summary(session).endswith("its unless held, by firing 4 of t_y")

    def test_what_happened_at_that_very_moment_counts_for_being_settled(self) -> None:
        session = PureSession(
            t_y={"andEvery": "p"}, t_x={"after": ["a", "b"], "unless": {"settled": "t_y"}}
        )
        session.fire_all("a p")
        session.move_on(5)
        session.run("t_y#0")
        session.fire("p")
        assert barred(session).holds

    def test_a_task_that_was_not_settled_yet_counts_as_not_settled(self) -> None:
        session = PureSession(
            t_y={"andEvery": "p"},
            t_x={"after": ["a", {"settled": "t_y"}], "within": "PT1M"},
        )
        session.fire_all("a p")
        session.tick(60)
        session.move_on(5)
        session.run("t_y#0")
        assert not ready(session).holds
        assert ready(session).parts[1].text == "t_y to be settled: t_y#0 finished later"
        assert (ready(session).parts[1].have, ready(session).parts[1].needed) == (0, 1)
        session = PureSession(t_y={"andEvery": "p"}, t_x={"after": ["a", {"settled": "t_y"}]})
        session.fire("a")
        session.move_on(5)
        session.set_status("t_x#0", Status.ABANDONED)
        session.move_on(5)
        session.fire("p")
        session.run("t_y#0")
        assert not ready(session).holds
        assert ready(session).parts[1].text == "t_y to be settled: it had no instance yet"


class TestCauses:
    def session(self) -> PureSession:
        session = PureSession(
            t_a={"after": ["started"]},
            t_b={"after": ["t_a"]},
            t_no={"after": ["t_b", "z"], "unless": ["t_b"]},
            t_c={"after": ["t_no:abandoned"]},
        )
        session.fire_all("other started")
        session.run("t_a#0")
        session.run("t_b#0")
        return session

    def test_a_chain_is_told_back_to_the_outside(self) -> None:
        session = self.session()
        decision = instance(session, "t_c#0").decision
        assert decision is not None
        assert [(each.firing.seq, each.verb) for each in decision.causes] == [
            (5, "scheduled"),
            (4, "ruled out"),
            (3, "scheduled"),
            (2, "scheduled"),
        ]
        assert decision.is_complete
        assert (
            "scheduled by firing 5 of t_no:abandoned, 2026-11-21T12:00:00Z, fired by t_no#0, which "
            "was ruled out by firing 4 of t_b, fired by t_b#0, which was scheduled by firing 3 of "
            "t_a, fired by t_a#0, which was scheduled by firing 2 of started"
        ) in told(session, "t_c#0")

    def test_a_chain_may_begin_without_a_firing(self) -> None:
        session = PureSession(
            t_a={"after": ["a", "b"], "within": "PT1M"}, t_b={"after": ["t_a:expired"]}
        )
        session.fire("a")
        session.tick(60)
        assert (
            "scheduled by firing 2 of t_a:expired, 2026-11-21T12:01:00Z, fired by t_a#0, which no "
            "firing decided"
        ) in told(session, "t_b#0")

    def test_a_long_chain_ends_somewhere(self) -> None:
        length = look.CHAIN + 3
        tasks = {f"t_{n}": {"after": [f"t_{n - 1}" if n else "a"]} for n in range(length)}
        session = PureSession(is_checked=False, **tasks)
        session.fire("a")
        for n in range(length):
            session.run(f"t_{n}#0")
        decision = instance(session, f"t_{length - 1}#0").decision
        assert decision is not None
        assert (len(decision.causes), decision.is_complete) == (look.CHAIN, False)
        assert any(
            line.endswith("fired by t_2#0, and so on")
            for line in told(session, f"t_{length - 1}#0")
        )
        first = instance(session, f"t_{look.CHAIN - 1}#0").decision
        assert first is not None
        assert (len(first.causes), first.is_complete) == (look.CHAIN, True)


class TestCreators:
    def test_the_first_firing_of_any_name_makes_the_first(self) -> None:
        session = a_task(after=["a", "b"], when={"a": {"n": 1}})
        session.fire("x")
        session.fire("a")
        session.fire("b")
        session.fire("a", n=1)
        made_by = instance(session).created_by
        assert made_by is not None
        assert made_by.seq == 3

    def test_each_firing_of_and_every_makes_one(self) -> None:
        session = a_task(after=["a"], andEvery="p")
        session.fire_all("a p p p")
        made = [each.created_by and each.created_by.seq for each in task(session).instances]
        assert made == [1, 3, 4]

    def test_of_several_at_one_moment_nobody_knows_where_the_newest_replaces(self) -> None:
        session = a_task(after=["a"], andEvery="p", fresh={"p": "PT1H"}, unless=["x", "y"])
        session.fire_all("p p")
        assert len(task(session).instances) == 1
        session = a_task(after=["t"], andEvery="p", fresh={"p": "PT1H"})
        session.fire_all("t p p p")
        made = [each.created_by and each.created_by.seq for each in task(session).instances]
        assert made == [1, None, None]
        fire_at(session, 5, "p")
        (*_, last) = task(session).instances
        assert last.created_by is not None
        assert last.created_by.seq == 5

    def test_of_several_at_one_moment_nobody_knows_in_a_burst(self) -> None:
        session = a_task(andEvery="p", debounce={"quiet": "PT5S", "most": "PT1M"})
        session.fire("p")
        session.tick(10)
        session.fire_all("p p")
        assert instance(session, "t_x#1").created_by is None
        fire_at(session, 30, "p")
        assert instance(session, "t_x#2").created_by is not None

    def test_by_hand_it_is_nobody(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("a")
        session.do(Create(task="t_x"))
        assert instance(session, "t_x#1").created_by is None
        assert "waiting since 2026-11-21T12:00:00Z" in told(session, "t_x#1")

    def test_of_what_passed_under_one_name_only_nobody_knows(self) -> None:
        session = PureSession(
            t_y={"andEvery": "p"},
            t_x={
                "after": ["t_y:ended", "z"],
                "unless": ["t_y", "u"],
                "when": {"t_y": {"n": 9}},
                "fresh": {"t_y:ended": "PT1H"},
            },
        )
        session.fire_all("p p")
        session.run("t_y#0", n=1)
        made_by = instance(session).created_by
        assert made_by is not None
        assert made_by.seq == 3
        session.run("t_y#1", n=1)
        assert [each.firing and each.firing.seq for each in instance(session).held] == [4]
        assert instance(session).created_by is None

    def test_by_hand_it_is_nobody_even_at_the_moment_of_a_firing(self) -> None:
        session = a_task(after=["a", "b", "c"])
        kwargs = payload.dump({"a": {}})
        session.do(Create(task="t_x", kwargs=kwargs, given=("a",)))
        session.fire("b")
        assert instance(session).created_by is None

    def test_a_replay_is_made_by_no_firing(self) -> None:
        session = a_task(andEvery="p")
        session.fire("p")
        session.fail("t_x#0")
        session.replay("t_x#0")
        assert instance(session, "t_x#1").created_by is None
        session.do(Clone(key=("t_x", 1)))
        assert instance(session, "t_x#2").created_by is None
        assert instance(session, "t_x#1").replayed_as is None
        assert instance(session, "t_x#0").replayed_as == "t_x#1"

    def test_history_makes_instances_too(self) -> None:
        session = PureSession()
        fire_at(session, 0, "a")
        fire_at(session, 5, "b")
        session.move_on(60)
        session.configure(t_x={"after": ["b", "c"]})
        made_by = instance(session).created_by
        assert made_by is not None
        assert (made_by.seq, made_by.at) == (2, after(5))
