"""What a configuration would do to a session, found out by deciding it and committing nothing.

Whoever decides a :class:`Preview` gets :class:`Foresight` instead of a transition, raised as
:class:`Foreseen`: what a decision raises undoes everything, so that holds on every storage.
"""

from __future__ import annotations

from dataclasses import dataclass

from triggers.engine.configuring import Configure
from triggers.engine.draft import Draft, names_after
from triggers.engine.plan import Plan
from triggers.engine.replacing import Carried, Objection
from triggers.engine.state import Transition
from triggers.exceptions import ReplacementRefused
from triggers.types import FireResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What a configuration would do.

    :ivar before: the session's configuration, as it is.
    :ivar transition: what would be committed; ``None`` if it would be refused.
    :ivar due: what time would decide first, whether anything is configured or not.
    :ivar carried: the waiting instances of tasks that would be replaced.
    :ivar objections: why it would be refused.
    """

    before: Plan
    transition: Transition | None = None
    due: FireResult | None = None
    carried: tuple[Carried, ...] = ()
    objections: tuple[Objection, ...] = ()


class Foreseen(Exception):
    """A decision has been made, to be looked at and not to be committed."""

    def __init__(self, foresight: Foresight) -> None:
        self.foresight = foresight
        super().__init__("this was decided to be looked at, and is not committed")


@dataclass(frozen=True, kw_only=True)
class Preview(Configure):
    """Somebody asks what :class:`~triggers.engine.configuring.Configure` would do."""

    opens_session = False

    def apply(self, draft: Draft) -> Transition:
        before = draft.plan
        due = FireResult(
            created=tuple(names_after(draft.created)),
            scheduled=tuple(names_after(draft.scheduled)),
            abandoned=tuple(names_after(draft.abandoned)),
        )
        try:
            transition, carried = self.configure(draft)
        except ReplacementRefused as refused:
            raise Foreseen(Foresight(before=before, objections=refused.refusals)) from None
        raise Foreseen(
            Foresight(before=before, transition=transition, due=due, carried=tuple(carried))
        )
