"""What is said of every kind of condition, and of the names in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.explained import (
    AS_MANY_PAGES,
    FIVE_PAGES,
    Looked,
    a_task,
    after,
    barred,
    conditions,
    fire_at,
    instance,
    ready,
    summary,
    task,
    told,
)
from tests.unit.pure_session import NOW, PureSession
from triggers import payload
from triggers.engine.by_hand import Create
from triggers.engine.holdings import Holdings
from triggers.explain import look
from triggers.explain.parts import Parts
from triggers.explain.values import Part


class TestNames:
    def test_a_name_that_is_held_tells_which_firing_holds_it(self) -> None:
        session = a_task(after=["ordered", "paid"])
        fire_at(session, 10, "ordered")
        session.move_on(50)
        held, missing = ready(session).parts
        assert (held.kind, held.holds, held.names) == ("trigger", True, ("ordered",))
        assert held.text == "ordered: firing 1, 2026-11-21T12:00:10Z"
        assert (held.since, held.have, held.needed, held.note) == (after(10), 1, 1, "")
        assert [(each.name, each.firing and each.firing.seq) for each in held.firings] == [
            ("ordered", 1)
        ]
        assert (missing.holds, missing.text, missing.note) == (False, "paid", "never fired")
        assert (missing.since, missing.have, missing.firings) == (after(10), 0, ())

    def test_what_is_missing_is_said_first(self) -> None:
        session = a_task(after=["ordered", "paid", "packed"])
        session.fire("ordered")
        assert conditions(session).missing == ("packed", "paid")
        assert summary(session) == "t_x#0 waits for packed; paid"
        part = ready(session)
        assert (part.kind, part.holds, part.have, part.needed) == ("all", False, 1, 3)
        assert part.text == "packed and paid"

    def test_of_one_name_there_is_no_list(self) -> None:
        session = a_task(after=["ordered"], unless=["cancelled"], fresh={"ordered": "PT1H"})
        session.fire("cancelled_not")
        session.fire("ordered")
        assert summary(session).startswith("t_x#0 is scheduled")
        session = a_task(after=["ordered"], unless=["cancelled", "paid"])
        session.fire("cancelled")
        assert ready(session).kind == "trigger"
        assert summary(session) == "t_x#0 waits for ordered"

    def test_what_was_given_by_hand_is_no_firing(self) -> None:
        session = a_task(after=["ordered", "paid"])
        kwargs = payload.dump({"ordered": {"n": 1}})
        session.do(Create(task="t_x", kwargs=kwargs, given=("ordered",)))
        session.move_on(5)
        held = ready(session).parts[0]
        assert held.text == "ordered: given by hand"
        assert (held.since, held.firings[0].firing) == (NOW, None)
        assert instance(session).created_by is None

    def test_unless_lists_what_it_lacks(self) -> None:
        session = a_task(after=["ordered"], unless=["cancelled", "refused"])
        session.fire("cancelled")
        part = barred(session)
        assert (part.holds, part.missing) == (False, ("refused",))
        assert [each.holds for each in part.parts] == [True, False]
        assert "unless, all of these (would rule it out)" in told(session, "t_x#0")

    def test_without_unless_there_is_nothing_to_say_of_it(self) -> None:
        session = a_task(after=["ordered", "paid"])
        session.fire("ordered")
        assert conditions(session).barred is None
        assert "unless" not in str(instance(session))

    def test_without_after_nothing_is_waited_for(self) -> None:
        session = a_task(unless=["x", "y"], andEvery="page", atMostEvery="PT1H")
        session.fire("x")
        assert summary(session) == "t_x#0 waits for page"
        session = PureSession(t_x={"after": [], "unless": ["x", "y"]})
        session.do(Create(task="t_x"))
        assert session.statuses() == {"t_x#0": "scheduled"}


class TestCounting:
    def test_so_many_more_are_needed(self) -> None:
        session = a_task(after=[FIVE_PAGES])
        for second in range(3):
            fire_at(session, second, "page")
        part = ready(session)
        assert part.text == "2 more of page (3 of 5 held)"
        assert (part.holds, part.have, part.needed, part.note) == (False, 3, 5, "")
        assert [each.firing and each.firing.seq for each in part.firings] == [1, 2, 3]
        assert part.since == NOW
        assert part.until is None

    def test_as_long_as_there_is_none_it_says_what_is_known_of_the_name(self) -> None:
        session = a_task(after=[FIVE_PAGES, "started"])
        session.fire("started")
        part = ready(session).parts[0]
        assert (part.text, part.note) == ("5 more of page (0 of 5 held)", "never fired")

    def test_when_there_are_enough_it_says_which(self) -> None:
        session = a_task(after=[{"trigger": "page", "times": 2}, "started"])
        fire_at(session, 1, "page")
        fire_at(session, 2, "page")
        fire_at(session, 3, "page")
        part = ready(session).parts[0]
        assert (part.holds, part.text) == (True, "page: 2 of 2 held (firings 1, 2)")
        assert (part.since, part.note, part.have) == (after(2), "", 2)

    def test_what_was_given_by_hand_counts_once(self) -> None:
        session = a_task(after=[{"trigger": "page", "times": 2}, "started"])
        kwargs = payload.dump({"page": {"n": 1}})
        session.do(Create(task="t_x", kwargs=kwargs, given=("page",)))
        session.fire("page")
        assert ready(session).parts[0].text == "page: 2 of 2 held (firings by hand, 1)"

    def test_once_is_like_the_name_alone(self) -> None:
        session = a_task(after=[{"trigger": "page", "times": 1}, "started"])
        session.fire("page")
        assert ready(session).parts[0].text == "page: firing 1, 2026-11-21T12:00:00Z"

    def test_the_number_may_come_from_a_firing(self) -> None:
        session = a_task(after=[AS_MANY_PAGES])
        fire_at(session, 1, "started", pages=5)
        for second in (2, 3, 4):
            fire_at(session, second, "page")
        part = ready(session)
        assert part.text == "2 more of page (3 of 5 held; 5 comes from started.pages)"
        assert summary(session) == f"t_x#0 waits for {part.text}"
        assert (part.have, part.needed, part.names) == (3, 5, ("page", "started"))
        assert [each.name for each in part.firings] == ["started", "page", "page", "page"]

    def test_the_number_may_be_reached(self) -> None:
        session = a_task(after=[AS_MANY_PAGES, "closed"])
        fire_at(session, 1, "page")
        fire_at(session, 2, "started", pages=1)
        part = ready(session).parts[0]
        assert part.text == "page: 1 of 1 held; 1 comes from started.pages (firing 1)"
        assert (part.holds, part.since) == (True, after(2))

    def test_until_the_number_is_reached_it_lacks_from_the_beginning(self) -> None:
        session = a_task(after=[AS_MANY_PAGES])
        fire_at(session, 1, "page")
        fire_at(session, 2, "started", pages=2)
        assert (ready(session).holds, ready(session).since) == (False, after(1))

    def test_zero_needs_none(self) -> None:
        session = a_task(after=[AS_MANY_PAGES, "closed"])
        fire_at(session, 1, "closed_not")
        fire_at(session, 2, "started", pages=0)
        part = ready(session).parts[0]
        assert part.text == "page: none needed; 0 comes from started.pages"
        assert (part.holds, part.needed, part.since) == (True, 0, after(2))
        assert part.note == ""

    def test_the_number_may_be_unknown_yet(self) -> None:
        session = a_task(after=[AS_MANY_PAGES])
        session.fire("page")
        part = ready(session)
        assert part.text == "started, whose pages says how many of page are needed (1 held)"
        assert (part.note, part.needed, part.have) == ("never fired", None, 1)

    @pytest.mark.parametrize(
        ("kwargs", "reason"),
        [
            ({"pages": "five"}, "is not a whole number from 0: 'five'"),
            ({"pages": True}, "is not a whole number from 0: True"),
            ({"pages": -1}, "is not a whole number from 0: -1"),
            ({"pages": None}, "is not a whole number from 0: None"),
            ({"page": 5}, "is not there"),
        ],
    )
    def test_the_number_may_be_none(self, kwargs: dict[str, Any], reason: str) -> None:
        session = a_task(after=[AS_MANY_PAGES])
        session.fire("started", **kwargs)
        part = ready(session)
        assert part.text == (f"a number of page that is not known: started.pages {reason} (0 held)")
        assert (part.holds, part.needed, part.note) == (False, None, "")
        assert [each.name for each in part.firings] == ["started"]

    def test_a_number_that_was_given_by_hand_counts(self) -> None:
        session = a_task(after=[AS_MANY_PAGES])
        kwargs = payload.dump({"started": {"pages": 2}})
        session.do(Create(task="t_x", kwargs=kwargs, given=("started",)))
        assert ready(session).text == "2 more of page (0 of 2 held; 2 comes from started.pages)"


class TestFreshness:
    FRESH = {"fresh": {"sensorRead": "PT12H"}}

    def test_what_is_fresh_says_until_when(self) -> None:
        session = a_task(after=["sensorRead", "opened"], **self.FRESH)
        fire_at(session, 5, "sensorRead")
        part = next(each for each in ready(session).parts if each.names == ("sensorRead",))
        assert (part.holds, part.since, part.until) == (True, after(5), after(5, hours=12))
        assert part.text == "sensorRead: firing 1, 2026-11-21T12:00:05Z"

    def test_what_is_no_longer_fresh_must_come_again(self) -> None:
        session = a_task(after=["sensorRead", "opened"], **self.FRESH)
        fire_at(session, 5, "sensorRead")
        session.now = after(5, hours=12)
        part = next(each for each in ready(session).parts if each.names == ("sensorRead",))
        assert part.text == (
            "a new sensorRead: that of 2026-11-21T12:00:05Z is no longer fresh (PT12H)"
        )
        assert (part.holds, part.have, part.until) == (False, 0, None)
        assert part.since == after(5, hours=12)
        assert [each.counts for each in part.firings] == [False]
        assert [each.note for each in ready(session).parts] == ["", "never fired"]
        assert ready(session).since == after(5)

    def test_as_long_as_none_came_the_name_is_missing(self) -> None:
        session = a_task(after=["sensorRead", "opened"], **self.FRESH)
        session.fire("opened")
        assert conditions(session).missing == ("sensorRead",)

    def test_of_several_each_counts_while_it_is_fresh(self) -> None:
        session = a_task(after=[{"trigger": "sensorRead", "times": 3}], **self.FRESH)
        fire_at(session, 0, "sensorRead")
        fire_at(session, 60, "sensorRead")
        session.now = after(hours=12)
        part = ready(session)
        assert part.text == "2 more of sensorRead (1 of 3 held and fresh (PT12H), 1 too old)"
        assert (part.have, part.since, part.until) == (1, after(hours=12), after(60, hours=12))
        assert [each.counts for each in part.firings] == [False, True]
        session.now = after(60, hours=12)
        assert ready(session).since == after(60, hours=12)

    def test_of_several_that_are_enough_only_fresh_ones_are_named(self) -> None:
        after_all = [{"trigger": "sensorRead", "times": 2}, "opened"]
        session = a_task(after=after_all, **self.FRESH)
        fire_at(session, 0, "sensorRead")
        fire_at(session, 60, "sensorRead")
        part = ready(session).parts[0]
        assert part.text == "sensorRead: 2 of 2 held and fresh (PT12H) (firings 1, 2)"
        assert (part.since, part.until) == (after(60), after(hours=12))

    def test_a_number_from_a_firing_counts_fresh_ones(self) -> None:
        raw = {"trigger": "sensorRead", "times": {"from": "started.n"}}
        session = a_task(after=[raw], **self.FRESH)
        session.fire("sensorRead")
        session.now = after(hours=13)
        assert ready(session).have == 0
        session.fire("started", n=1)
        assert ready(session).text == (
            "1 more of sensorRead (0 of 1 held and fresh (PT12H), 1 too old; "
            "1 comes from started.n)"
        )


class TestBursts:
    BURST = {"andEvery": "page", "debounce": {"quiet": "PT5S", "most": "PT1M"}}

    def test_a_burst_lasts_until_it_is_quiet(self) -> None:
        session = a_task(**self.BURST)
        fire_at(session, 0, "page")
        fire_at(session, 3, "page")
        part = ready(session)
        assert (part.kind, part.holds, part.have) == ("burst", False, 1)
        assert part.text == (
            "the burst of page to end: it lasts until 2026-11-21T12:00:08Z, "
            "and until 2026-11-21T12:01:00Z at most if more come"
        )
        assert (part.since, part.due, part.note) == (NOW, after(8), "")
        assert [each.firing and each.firing.seq for each in part.firings] == [2]

    def test_a_burst_lasts_only_so_long(self) -> None:
        session = a_task(**self.BURST)
        for second in range(0, 60, 4):
            fire_at(session, second, "page")
        assert ready(session).due == after(60)
        assert ready(session).text.endswith("it lasts until 2026-11-21T12:01:00Z")

    def test_before_a_burst_the_name_is_missing(self) -> None:
        session = a_task(after=["x"], **self.BURST)
        session.fire("x")
        assert conditions(session).missing == ("page",)
        assert ready(session).parts[1].note == "never fired"

    def test_after_a_burst_its_last_firing_counts(self) -> None:
        session = a_task(after=["x"], **self.BURST)
        fire_at(session, 0, "page")
        fire_at(session, 3, "page")
        session.tick(30)
        part = ready(session).parts[1]
        assert (part.holds, part.since) == (True, None)
        assert part.text == "page: firing 2, 2026-11-21T12:00:03Z, the last of its burst"

    def test_a_number_is_read_when_the_burst_is_over(self) -> None:
        session = a_task(after=[{"trigger": "read", "times": {"from": "page.n"}}], **self.BURST)
        fire_at(session, 0, "page", n=1)
        session.fire("read")
        part = ready(session).parts[0]
        assert (part.holds, part.needed) == (False, None)
        assert part.text == (
            "the burst of page to end: n of its last firing says how many of read are needed "
            "(1 held)"
        )
        session.tick(30)
        assert session.statuses() == {"t_x#0": "scheduled"}

    def test_a_time_runs_when_the_burst_is_over(self) -> None:
        raw = {"elapsed": "PT8S", "since": "page"}
        session = a_task(after=[raw, "never"], **self.BURST)
        fire_at(session, 0, "page")
        fire_at(session, 3, "page")
        part = ready(session).parts[0]
        assert (part.holds, part.due) == (False, None)
        assert part.text == "PT8S since page, once its burst is over"
        session.tick(6)
        part = ready(session).parts[0]
        assert part.text == "PT8S since page: on 2026-11-21T12:00:11Z"
        session.tick(9)
        part = ready(session).parts[0]
        assert (part.holds, part.since, part.text) == (True, None, "PT8S since page: over")


class TestSettled:
    def session(self) -> PureSession:
        return PureSession(
            t_import={"andEvery": "page"},
            t_x={"after": [{"settled": "t_import"}, "closed"]},
        )

    def part(self, session: PureSession) -> Part:
        (part,) = (each for each in ready(session).parts if each.kind == "settled")
        return part

    def test_a_task_without_instances_is_not_settled(self) -> None:
        session = PureSession(
            t_import={"andEvery": "page"}, t_x={"after": [{"settled": "t_import"}, "closed"]}
        )
        session.fire("closed")
        assert ready(session).text == "t_import to be settled: it has no instance yet"
        assert self.part(session).needed is None

    def test_it_says_which_instances_are_not_settled(self) -> None:
        session = self.session()
        for second in range(5):
            fire_at(session, second, "page")
        session.run("t_import#0")
        session.fail("t_import#2")
        session.start("t_import#3")
        session.fire("closed")
        part = self.part(session)
        assert part.text == (
            "t_import to be settled: t_import#1 is scheduled, t_import#2 failed, "
            "t_import#3 is running and 1 more"
        )
        assert (part.holds, part.have, part.needed) == (False, 1, 5)
        assert (part.since, part.names) == (after(1), ("t_import",))

    def test_it_says_how_many_instances_are_settled(self) -> None:
        session = PureSession(
            t_import={"andEvery": "page"},
            t_x={"after": ["a", "b"], "unless": [{"all": ["c", {"settled": "t_import"}]}]},
        )
        session.fire_all("a page page")
        session.run("t_import#0")
        session.move_on(7)
        session.run("t_import#1")
        part = barred(session).parts[1]
        assert (part.holds, part.text) == (True, "t_import: settled, with 2 instances")
        assert part.since == after(7)


class TestElapsed:
    AFTER = {"after": {"elapsed": "P3D", "since": "invoiceSent"}, "unless": ["paid", "x"]}

    def test_it_says_when_the_time_is_over(self) -> None:
        session = a_task(**self.AFTER)
        fire_at(session, 0, "invoiceSent")
        session.move_on(3600)
        part = ready(session)
        assert part.text == "P3D since invoiceSent: on 2026-11-24T12:00:00Z"
        assert (part.kind, part.holds, part.due, part.since) == (
            "elapsed",
            False,
            after(days=3),
            NOW,
        )
        assert part.note == ""
        assert [each.firing and each.firing.seq for each in part.firings] == [1]

    def test_without_a_firing_no_time_passes(self) -> None:
        session = a_task(**self.AFTER)
        session.fire("paid")
        part = ready(session)
        assert (part.text, part.note, part.due) == ("P3D since invoiceSent", "never fired", None)

    def test_it_says_since_when_the_time_is_over(self) -> None:
        session = a_task(after=["paid", self.AFTER["after"]])
        fire_at(session, 0, "invoiceSent")
        session.tick(timedelta(days=4).total_seconds())
        part = ready(session).parts[1]
        assert (part.holds, part.since, part.have) == (True, after(days=3), 1)
        assert part.text == "P3D since invoiceSent: over since 2026-11-24T12:00:00Z"


class TestGroups:
    def test_any_needs_one(self) -> None:
        session = a_task(after=[{"any": ["a", FIVE_PAGES]}], unless=["x", "y"])
        session.fire_all("x page")
        part = ready(session)
        assert (part.kind, part.needed, part.have) == ("any", 1, 0)
        assert part.text == "any one of: a; 4 more of page (1 of 5 held)"
        assert conditions(session).missing == (part.text,)
        assert "[ ] any of these:" in told(session, "t_x#0")

    def test_so_many_of_a_group_need_the_rest(self) -> None:
        session = a_task(after={"atLeast": 2, "of": ["a", "b", ["c", "d"]]})
        fire_at(session, 4, "b")
        session.fire("c")
        part = ready(session)
        assert part.text == "2 of 3: any one more of: a; d"
        assert (part.kind, part.needed, part.have, part.since) == ("atLeast", 2, 1, after(4))
        assert "[ ] 2 of these 3:" in told(session, "t_x#0")

    def test_several_more_of_a_group_are_counted(self) -> None:
        session = a_task(after={"atLeast": 3, "of": ["a", "b", "c", ["d", "e"]]})
        session.fire("a")
        assert ready(session).text == "3 of 4: any 2 more of: b; c; (d and e)"

    def test_a_group_that_holds_says_how_much_of_it(self) -> None:
        session = a_task(after=["z", {"atLeast": 2, "of": ["a", "b", "c"]}])
        fire_at(session, 1, "c")
        fire_at(session, 2, "a")
        group = ready(session).parts[1]
        assert (group.holds, group.text, group.since) == (True, "2 of 3 hold", after(2))
        fire_at(session, 3, "b")
        assert ready(session).parts[1].text == "3 of 3 hold"
        assert ready(session).parts[1].since == after(2)
        assert "[x] 2 of these 3:" in told(session, "t_x#0")
        assert ready(session).parts[1].missing == ()

    def test_all_of_all_is_one_list(self) -> None:
        session = a_task(after={"all": ["a", {"all": ["b", {"any": ["c", "d"]}]}]}, andEvery="p")
        session.fire("a")
        assert [each.text for each in ready(session).parts] == [
            "a: firing 1, 2026-11-21T12:00:00Z",
            "b",
            "any one of: c; d",
            "p",
        ]
        assert conditions(session).missing == ("b", "any one of: c; d", "p")

    def test_all_within_any_is_said_as_one(self) -> None:
        session = a_task(after={"any": ["a", {"all": ["b", "c"]}]})
        session.fire("b")
        assert ready(session).text == "any one of: a; c"
        session = a_task(after={"any": ["a", {"all": ["b", "c"]}]}, unless=["x", "y"])
        session.fire("x")
        assert ready(session).text == "any one of: a; (b and c)"
        assert "[ ] all of these:" in told(session, "t_x#0")

    def test_names_in_it_are_listed_once(self) -> None:
        session = a_task(after={"any": [["a", "b"], ["a", "c"]]})
        session.fire("a")
        assert ready(session).names == ("a", "b", "c")

    def test_what_nobody_knows_is_not_explained_away(self) -> None:
        session = a_task(after=["a", "b"])
        session.fire("a")
        seen = look.Look(Looked(session))
        parts = Parts(seen, seen.plan.tasks["t_x"], facts_of(session))
        with pytest.raises(TypeError, match="explain 'a condition to come'"):
            parts.part("a condition to come")  # type: ignore[arg-type]


def facts_of(session: PureSession) -> Any:
    record = session.instance("t_x#0")
    return Holdings(record, session.now, session.state.firings.__getitem__, lambda task: False)


class TestHints:
    def note(self, session: PureSession, name: str = "paid") -> str:
        found = {each.name: each for each in task(session).names}
        return found[name].text

    def test_a_name_may_be_misspelled(self) -> None:
        session = a_task(after=["ordered", "paid"])
        session.fire_all("ordered payed")
        (found,) = (each for each in task(session).names if each.name == "paid")
        assert (found.meant, found.fired, found.latest, found.source) == ("payed", 0, None, None)
        assert found.text == (
            "never fired; did you mean 'payed', which was fired and nobody waits for?"
        )
        assert f"[ ] paid: {found.text}" in told(session, "t_x#0")

    def test_what_somebody_waits_for_is_no_misspelling(self) -> None:
        session = PureSession(t_x={"after": ["ordered", "paid"]}, t_y={"after": ["payed", "z"]})
        session.fire_all("ordered payed")
        assert self.note(session) == "never fired"

    def test_what_is_not_alike_is_no_misspelling(self) -> None:
        session = a_task(after=["ordered", "paid"])
        session.fire_all("ordered cancelled")
        assert self.note(session) == "never fired"

    def test_a_name_of_four_letters_may_be_meant(self) -> None:
        session = a_task(after=["ordered", "payed"])
        session.fire_all("ordered paid")
        assert self.note(session, "payed").endswith("'paid', which was fired and nobody waits for?")

    def test_short_names_are_all_alike(self) -> None:
        session = a_task(after=["ordered", "p_a"])
        session.fire_all("ordered p_b pp_a")
        assert self.note(session, "p_a") == "never fired"

    def test_a_name_may_mean_a_task(self) -> None:
        session = PureSession(t_x={"after": ["ordered", "t_improt"]}, t_import={"after": ["p"]})
        session.fire("ordered")
        assert self.note(session, "t_improt") == (
            "never fired; did you mean 't_import', which is a task?"
        )

    def test_a_name_that_was_fired_is_no_misspelling(self) -> None:
        session = a_task(after=["ordered", "paid"], when={"paid": {"n": 1}})
        session.fire_all("payed paid ordered")
        (found,) = (each for each in task(session).names if each.name == "paid")
        assert (found.meant, found.fired, found.filtered) == (None, 1, 1)
        assert found.text == "fired once, filtered out for t_x"
        assert found.latest is not None
        assert found.latest.seq == 2

    def test_it_says_how_often_it_was_fired_and_filtered_out(self) -> None:
        session = a_task(after=["ordered", "paid"], when={"paid": {"n": 1}})
        session.fire_all("ordered paid paid")
        assert self.note(session) == "fired twice, filtered out for t_x each time"
        fire_at(session, 9, "paid", n=1)
        assert self.note(session) == (
            "fired 3 times, last on 2026-11-21T12:00:09Z, filtered out for t_x twice"
        )
        assert self.note(session, "ordered") == "fired once, last on 2026-11-21T12:00:00Z"

    def test_what_is_filtered_out_for_others_is_another_matter(self) -> None:
        session = PureSession(
            t_x={"after": ["ordered", "paid"]},
            t_y={"after": ["paid", "z"], "when": {"paid": {"n": 1}}},
        )
        session.fire("paid")
        assert self.note(session) == "fired once, last on 2026-11-21T12:00:00Z"

    @pytest.mark.parametrize(
        ("happens", "state"),
        [
            ("", "t_y has no instance yet"),
            ("b", "t_y#0 waits"),
            ("b a", "t_y#0 is scheduled"),
            ("b a start", "t_y#0 is running"),
            ("b a fail", "t_y#0 failed"),
            ("b a replay", "t_y#1 is scheduled"),
            ("b no", "t_y#0 was abandoned"),
            ("b a skip", "t_y#0 was skipped"),
        ],
    )
    def test_of_an_outcome_it_says_how_far_the_task_is(self, happens: str, state: str) -> None:
        session = PureSession(
            t_y={"after": ["a", "b"], "unless": ["no"]},
            t_x={"after": ["ordered", "t_y"], "unless": ["u", "v"]},
        )
        session.fire("ordered")
        for each in happens.split():
            if each in ("a", "b", "no"):
                session.fire(each)
            elif each == "replay":
                session.fail("t_y#0")
                session.replay("t_y#0")
            else:
                getattr(session, each)("t_y#0")
        (found,) = (each for each in task(session).names if each.name == "t_y")
        assert (found.text, found.source) == (state, "t_y")

    def test_of_several_instances_the_unsettled_ones_are_told_or_else_the_last(self) -> None:
        session = PureSession(t_y={"andEvery": "p"}, t_x={"after": ["a", "t_y:skipped"]})
        session.fire_all("a p p p")
        session.run("t_y#0")
        session.fail("t_y#1")
        session.run("t_y#2")
        assert self.note(session, "t_y:skipped") == "t_y#1 failed"
        session.replay("t_y#1")
        session.run("t_y#3")
        assert self.note(session, "t_y:skipped") == "t_y#3 finished"

    def test_an_outcome_is_no_misspelling(self) -> None:
        session = PureSession(t_y={"after": ["p"]}, t_x={"after": ["a", "t_y:ended"]})
        session.fire_all("a t_y_ended")
        (found,) = (each for each in task(session).names if each.name == "t_y:ended")
        assert (found.meant, found.text) == (None, "t_y has no instance yet")

    def test_every_name_of_a_firing_counts(self) -> None:
        session = PureSession(t_y={"after": ["a"]}, t_x={"after": ["t_y:ended", "z"]})
        session.fire("a")
        session.run("t_y#0")
        assert self.note(session, "t_y:ended").startswith("fired once")
