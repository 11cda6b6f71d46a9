"""``timeline``: what becomes of the instances of a session, moment by moment.

A scenario is played on a real session in memory, with the clock held at each moment; the picture
shows what the session then said. So it cannot show what the engine does not do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pictures.drawing import MARGIN, SMALL, Drawing, width_of

if TYPE_CHECKING:
    from triggers import TriggerManager

START = datetime(2027, 3, 1, 9, tzinfo=UTC)
RUN = "docs.pictures.nothing"
"""No instance of a scenario is given to a runner that would look this task up."""

LANE, BAR = 44.0, 26.0
FINAL = ("finished", "skipped", "abandoned", "replayed")

_STEP = re.compile(
    r"(?P<at>\d+ (?:s|min|h|d)(?: \d+ (?:s|min|h))?)\s+(?P<verb>[a-z]+)(?:\s+(?P<what>\S+))?\s*"
)
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a scenario."""

    at: str
    verb: str
    what: str

    @property
    def moment(self) -> datetime:
        words = self.at.split()
        lengths = zip(words[::2], words[1::2], strict=True)
        return START + timedelta(**{_UNITS[unit]: int(number) for number, unit in lengths})

    @property
    def words(self) -> str:
        """What happens, for the picture."""
        return {
            "fire": self.what,
            "start": "worker starts",
            "finish": "task returns",
            "fail": "task raises",
            "die": "worker dies",
            "recover": "recovery",
            "look": "time is up",
        }.get(self.verb, self.verb)


@dataclass(kw_only=True)
class Played:
    """A scenario that was played: after each step the status of every instance so far."""

    steps: list[Step]
    statuses: list[dict[str, str]] = field(default_factory=list)


def read(lines: list[str]) -> list[Step]:
    """The steps of a scenario, such as ``40 s  fire ordered``.

    :raises ValueError: a line is none.
    """
    steps = []
    for line in filter(None, map(str.strip, lines)):
        found = _STEP.fullmatch(line)
        if found is None or not hasattr(_Player, f"_{found['verb']}"):
            raise ValueError(f"{line!r} is no step; write '40 s fire ordered', '2 min start t_x#0'")
        steps.append(Step(at=found["at"], verb=found["verb"], what=found["what"] or ""))
    return steps


def play(workflow: Mapping[str, Mapping[str, Any]], steps: list[Step]) -> Played:
    """Let a scenario happen in a session of its own.

    :raises RuntimeError: a step had no effect, so the picture would not show what it says.
    """
    from triggers import MemoryStorageBackend, TriggerManager
    from triggers.testing import frozen_time

    played = Played(steps=steps)
    with _idle_runner() as runner, _silence():
        manager = TriggerManager(MemoryStorageBackend(f"timeline:{id(played)}"))
        manager.default_task_runner_name = runner
        with frozen_time(START):
            tasks = {name: {"run": RUN, **task} for name, task in workflow.items()}
            manager.update_configuration(tasks)
        player = _Player(manager)
        for step in steps:
            before = player.facts()
            with frozen_time(step.moment):
                getattr(player, f"_{step.verb}")(step.what)
            if player.facts() == before and step.verb != "die":
                raise RuntimeError(f"'{step.at} {step.verb} {step.what}' changed nothing")
            played.statuses.append({each.name: str(each.status) for each in manager.storage})
        manager.storage.delete()
    return played


class _Player:
    """What the verbs of a scenario do."""

    def __init__(self, manager: TriggerManager) -> None:
        self.manager = manager
        self.attempts: dict[str, Any] = {}

    def facts(self) -> Any:
        storage = self.manager.storage
        return len(list(storage.find_firings())), [(each.name, each.status) for each in storage]

    def _fire(self, trigger: str) -> None:
        self.manager.fire(trigger)

    def _start(self, name: str) -> None:
        from triggers.attempt import Attempt
        from triggers.engine.lifecycle import Claim

        instance = self.manager.storage[name]
        token = f"{name} attempt {instance.attempt + 1}"
        self.manager.apply(Claim(key=(instance.task_name, instance.number), token=token))
        self.attempts[name] = Attempt(self.manager, self.manager.storage[name], token)

    def _finish(self, name: str) -> None:
        self.attempts[name].finish("{}")

    def _fail(self, name: str) -> None:
        self.attempts[name].fail(ValueError("the picture says so"))

    def _die(self, name: str) -> None:
        """Nobody is told, which is the point."""
        del self.attempts[name]

    def _recover(self, _nothing: str) -> None:
        from triggers.recovery import recover

        recover(self.manager)

    def _look(self, _nothing: str) -> None:
        from triggers.timers import fire_due_in

        fire_due_in(self.manager)

    def _replay(self, name: str) -> None:
        self.manager.replay_failed_instance(name)

    def _skip(self, name: str) -> None:
        self.manager.skip_failed_instance(name)


@contextmanager
def _idle_runner() -> Iterator[str]:
    """A runner that leaves everything to the scenario."""
    from triggers.runners import BaseTaskRunner, task_runners

    class IdleRunner(BaseTaskRunner):
        name = "docs-pictures-idle"

        def run(self, manager: object, task_instance: object) -> None:
            pass

    task_runners.register(IdleRunner)
    try:
        yield IdleRunner.name
    finally:
        task_runners.unregister(IdleRunner.name)


@contextmanager
def _silence() -> Iterator[None]:
    """What dies in a scenario is no news to whoever builds the documentation."""
    logger = logging.getLogger("triggers")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def draw(played: Played, *, title: str) -> str:
    """The picture of a scenario that was played, as SVG."""
    names = list(played.statuses[-1])
    left = 2 * MARGIN + max(width_of(name, SMALL) for name in [*names, "what happens"])
    columns = [*_columns(played, left)]
    right = columns[-1] + width_of("scheduled", SMALL) + 24
    top = 62.0
    drawing = Drawing(
        width=right + MARGIN,
        height=top + LANE * len(names) + MARGIN,
        title=title,
        description=_said(played),
    )
    drawing.text((MARGIN, 18), "time", anchor="start", small=True)
    drawing.text((MARGIN, 40), "what happens", anchor="start", small=True)
    for step, x in zip(played.steps, columns, strict=True):
        drawing.text((x, 18), step.at, anchor="start", small=True)
        drawing.text((x, 40), step.words, anchor="start", small=True)
        drawing.line((x, 47), (x, drawing.height - MARGIN), faint=True)
    for lane, name in enumerate(names):
        y = top + lane * LANE
        drawing.text((MARGIN, y + BAR / 2 + 5), name, anchor="start", small=True)
        for first, last, status in _stays(played, name):
            end = columns[last] if last < len(columns) else right
            drawing.box(
                (columns[first], y),
                (end - columns[first], BAR),
                data={"instance": name, "status": status},
                thick=status in FINAL,
                filled=status in ("scheduled", "running"),
                accent=status == "running",
                round_=3,
            )
            drawing.text((columns[first] + 6, y + BAR / 2 + 5), status, anchor="start", small=True)
    return drawing.svg()


def _columns(played: Played, left: float) -> Iterator[float]:
    """Where each step stands: far enough from the one before for what is written between."""
    x = left + 12
    for number, step in enumerate(played.steps):
        yield x
        starting = [status for _first, _last, status in _starting(played, number)]
        widest = max(width_of(text, SMALL) for text in [step.at, step.words, *starting])
        x += widest + 18


def _starting(played: Played, number: int) -> Iterator[tuple[int, int, str]]:
    for name in played.statuses[number]:
        for stay in _stays(played, name):
            if stay[0] == number:
                yield stay


def _stays(played: Played, name: str) -> Iterator[tuple[int, int, str]]:
    """(first step, step after the last, status) for each stay of an instance in a status."""
    first, current = 0, ""
    for number, statuses in enumerate(played.statuses):
        status = statuses.get(name, "")
        if status != current:
            if current:
                yield first, number, current
            first, current = number, status
    yield first, len(played.statuses), current


def _said(played: Played) -> str:
    sentences, before = [], dict[str, str]()
    for step, statuses in zip(played.steps, played.statuses, strict=True):
        changed = [f"{name} is {now}" for name, now in statuses.items() if before.get(name) != now]
        what = f"{step.verb} {step.what}".strip()
        sentences.append(f"At {step.at}, {what}: {', '.join(changed) or 'no change'}.")
        before = statuses
    return " ".join(sentences)
