"""When a session says that it is finalized: once, as soon as nothing is left to do in it.

In an open session, that is when every task has instances, all of them are resolved, and no firing
that was committed is still to be decided. In one that was closed, nothing comes in from outside any
more; so what was never begun, and what waits for ever, is not waited for, but whatever goes on by
itself is. Tasks that wait for the end themselves do not count in either.

Each decision looks at this when it is at rest, and asks the storage only if what it has changed
itself leaves nothing over. So what that costs does not grow with the session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from triggers import payload
from triggers.engine.draft import Draft, Planned
from triggers.engine.state import MustSeeMore, Reads
from triggers.types import SESSION_FINALIZED, Instance, Phase


def finalize(draft: Draft) -> bool:
    """Plan the firing that says that the session is finalized, if it is now; whether it is.

    :raises MustSeeMore: that cannot be told yet.
    """
    if not draft.plan.configuration.finalizes:
        return False
    if draft.phase is Phase.OPEN:
        draft.is_ending = draft.is_stirred and _is_over(draft)
    else:
        draft.is_ending = draft.phase is Phase.CLOSED and _has_run_out(draft)
    if draft.is_ending:
        # No cascade of an instance, so nothing lies before it, and no override of ``fire`` sees it.
        draft.queue.append(Planned(trigger=SESSION_FINALIZED, kwargs=payload.EMPTY))
    return draft.is_ending


def holds_up(instance: Instance, phase: Phase) -> bool:
    """Whether an instance must come to its end before its session does."""
    return instance.is_ongoing if phase is Phase.CLOSED else not instance.status.is_resolved


def _is_over(draft: Draft) -> bool:
    """Whether nothing is left to do in a session that is open."""
    tasks = draft.plan.finishing
    # A session in which nothing can be done has not come to an end, but not begun.
    if not tasks or draft.has_left_cascades or _leaves_something(draft):
        return False
    state = draft.state
    own = Counter(task for task, _number in draft.instances if task in tasks)
    _see(
        draft,
        counts=tuple(sorted(tasks - state.counts.keys())),
        latest=(SESSION_FINALIZED,) if SESSION_FINALIZED not in state.latest else (),
        unsettled=_unread(draft, own, own),
    )
    if draft.latest(SESSION_FINALIZED) or not all(map(draft.count, tasks)):
        return False
    # What has just changed is the likeliest to have more of its kind.
    if not _are_settled(draft, own):
        return False
    _see(draft, unsettled=_unread(draft, tasks, own), marks=state.deferred is None)
    return (
        _are_settled(draft, tasks)
        and not _pending(draft, ("cascade",))
        and not _defers_others(draft)
    )


def _has_run_out(draft: Draft) -> bool:
    """Whether nothing goes on by itself any more in a session that is closed."""
    if draft.pending or _leaves_something(draft):
        return False
    state, tasks = draft.state, draft.plan.finishing
    limit = len(draft.instances) + 1
    _see(
        draft,
        latest=(SESSION_FINALIZED,) if SESSION_FINALIZED not in state.latest else (),
        ongoing=(tuple(sorted(tasks)), limit) if state.ongoing_limit < limit else None,
        marks=state.deferred is None,
    )
    ongoing = state.find_ongoing(tasks) if state.is_whole else state.ongoing
    return not (
        draft.latest(SESSION_FINALIZED)
        or any(key not in draft.instances for key in ongoing)
        or _pending(draft)
        or _defers_others(draft)
    )


def _unread(
    draft: Draft, tasks: Iterable[str], own: Mapping[str, int]
) -> tuple[tuple[str, int], ...]:
    """Of which tasks how many unsettled instances must be read, to see one that is not changed.

    :param own: how many instances of a task this decision changes.
    """
    limits = {task: own.get(task, 0) + 1 for task in sorted(tasks)}
    known = draft.state.unsettled_limits
    return tuple((task, most) for task, most in limits.items() if known.get(task, 0) < most)


def _are_settled(draft: Draft, tasks: Iterable[str]) -> bool:
    draft.is_at_rest = True
    settled = all(map(draft.is_settled, tasks))
    draft.is_at_rest = False
    return settled


def _leaves_something(draft: Draft) -> bool:
    """Whether what this decision has changed holds up the end."""
    finishing, phase = draft.plan.finishing, draft.phase
    return any(
        each.task in finishing and holds_up(each, phase) for each in draft.instances.values()
    )


def _pending(draft: Draft, kinds: Collection[str] | None = None) -> bool:
    """Whether marks stay of what must still be done, of these kinds only if given."""
    return any(
        mark.ref not in draft.done and (kinds is None or mark.kind in kinds)
        for mark in draft.state.pending.values()
    )


def _defers_others(draft: Draft) -> bool:
    """Whether firings are still to be decided, beside the one that is decided now."""
    return (draft.state.deferred or 0) > draft.is_deferred


def _see(draft: Draft, **wanted: Any) -> None:
    """See to it that these have been read: all at once, as each time deciding begins again.

    :raises MustSeeMore: some have not.
    """
    if not draft.state.is_whole and any(wanted.values()):
        raise MustSeeMore(Reads(**wanted))
