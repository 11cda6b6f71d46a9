"""What follows by itself: outcomes, tasks that are settled, and time.

Outcomes of one transition are decided after one another, first in, first out. When none is left,
the transition is *at rest*, and only then instances are looked at that wait for tasks to be
settled; and after these, whether the session is at its end (:mod:`triggers.engine.finalizing`).
Time passes before anything else happens in a transition: what has become due in a session is
decided in order, each at its own time, as if a process had been there.
"""

from __future__ import annotations

from datetime import datetime
from heapq import heapify, heappop
from typing import Any

from triggers.engine.draft import Draft
from triggers.engine.finalizing import finalize
from triggers.engine.plan import SETTLED
from triggers.engine.rules import ask_about, fire, settle
from triggers.engine.state import MustSeeMore, Reads, Transition
from triggers.types import Status

Timer = tuple[datetime, int, int, str]
"""When; the task's position in the configuration; number and task of the instance."""


def come_to_rest(draft: Draft) -> None:
    """Decide everything that follows from what the draft holds."""
    asked = 0
    while True:
        draft.is_stirred |= bool(draft.touched)
        if draft.queue:
            if len(draft.queue) > asked:
                ask_about(draft, draft.queue)
                asked = len(draft.queue)
            asked -= 1
            fire(draft, draft.queue.popleft())
        elif not (draft.restless or draft.touched or draft.asking):
            if not finalize(draft):
                return
        elif draft.has_left_cascades:
            # They are still to be decided, and who decides them asks all.
            draft.restless, draft.touched, draft.asking = {}, {}, []
        else:
            _ask_again(draft)


def ask_all(draft: Draft, cascade: str) -> None:
    """Have every instance looked at that waits for a task to be settled, or not to be.

    :param cascade: ref of the mark that was left for a cascade, which is being decided.
    """
    draft.done.add(cascade)
    draft.is_stirred = True
    for task in draft.plan.settling:
        draft.restless.update(dict.fromkeys(draft.awaiting(task + SETTLED)))


def conclude(draft: Draft, **fields: Any) -> Transition:
    """The difference that a draft makes, with all that follows from it.

    :param fields: further fields of the transition, such as ``outcome``.
    """
    draft.phase = fields.get("phase", draft.phase)
    draft.done.update(fields.get("done", ()))
    come_to_rest(draft)
    return draft.transition(**fields)


def pass_time(draft: Draft, until: datetime) -> None:
    """Decide what is due until a moment; the draft's time is then its present, or the last due.

    :raises MustSeeMore: it is not known what is due.
    """
    if not draft.plan.is_timed:
        return
    known = draft.state.timers_until
    if not draft.state.is_whole and (known is None or known < until):
        raise MustSeeMore(Reads(timers_until=until))
    positions = draft.plan.positions
    draft.timers = []
    for at, (task, number) in draft.state.timers:
        if at > until:
            break
        draft.timers.append((at, positions[task], number, task))
    heapify(draft.timers)
    draft.see_held(draft.instance((task, number)) for _, _, number, task in draft.timers)
    while _decide_next(draft, draft.timers, until):
        come_to_rest(draft)
    draft.timers = None
    draft.now = max(draft.now, draft.present)


def pass_own_time(draft: Draft, until: datetime) -> None:
    """Decide what is due until a moment of the instances that this draft has made.

    What follows from it is left for later.
    """
    while _decide_next(draft, draft.timers or [], until):
        pass


def _decide_next(draft: Draft, timers: list[Timer], until: datetime) -> bool:
    """Decide what is due first; whether there was something."""
    while timers and timers[0][0] <= until:
        at, _position, number, task = heappop(timers)
        instance = draft.instance((task, number))
        # What was decided in between, by another that was due, has no timer or a new one.
        if instance.timer_at == at:
            draft.now = at
            settle(draft, draft.plan.tasks[task], instance)
            return True
    return False


def _ask_again(draft: Draft) -> None:
    """Look at the instances that wait for a task to be settled, as long as nothing follows."""
    draft.is_at_rest = True
    if draft.restless or draft.touched:
        asking = {**dict.fromkeys(draft.asking), **draft.restless}
        for task in draft.touched:
            if task in draft.plan.settling and draft.is_settled(task):
                asking.update(dict.fromkeys(draft.awaiting(task + SETTLED)))
        draft.restless, draft.touched = {}, {}
        positions = draft.plan.positions
        draft.asking = sorted(asking, key=lambda key: (positions[key[0]], key[1]), reverse=True)
    # What has settled something was fired last, if anything was.
    draft.deciding = draft.firings[-1].seq if draft.firings else None
    while draft.asking and not draft.queue:
        key = draft.asking.pop()
        instance = draft.instance(key)
        if instance.status is Status.UNSTARTED:
            settle(draft, draft.plan.tasks[key[0]], instance)
    draft.is_at_rest, draft.deciding = False, None
