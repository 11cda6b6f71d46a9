"""Who takes part, and what their browsers send: known before anything is sent."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from examples.questionnaire.models import Questionnaire

NAMES = (
    "Ada",
    "Blaise",
    "Carl",
    "Dorothy",
    "Emmy",
    "Felix",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Katherine",
    "Leonhard",
)

QUESTIONS = ("q1", "q2", "q3")


class Trait(StrEnum):
    """What is special about an applicant."""

    NOTHING = ""
    NO_GIVEN_NAME = "no given name"
    EMBEDDED = "embedded"
    SERVICE_BUSY = "service busy"
    ODD_BROWSER = "odd browser"
    LEAVES_EARLY = "leaves early"


# One after the other, and again from the start; so few applicants already see most of it.
TRAITS = (
    Trait.NO_GIVEN_NAME,
    Trait.EMBEDDED,
    Trait.SERVICE_BUSY,
    Trait.ODD_BROWSER,
    Trait.LEAVES_EARLY,
    Trait.EMBEDDED,
    Trait.NOTHING,
    Trait.EMBEDDED,
    Trait.EMBEDDED,
    Trait.NOTHING,
    Trait.EMBEDDED,
    Trait.NOTHING,
)

USER_AGENTS = {Trait.SERVICE_BUSY: "Opera/120.0", Trait.ODD_BROWSER: "Gopher/0.3"}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One request that a browser makes, or that gets lost on the way.

    :ivar kind: the questionnaire that it belongs to.
    :ivar view: name of the view that it is for.
    :ivar body: what it says, for JSON.
    :ivar times: how often it arrives; 2 if the browser did not see the answer to the first one.
    """

    kind: str
    view: str
    body: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1

    @property
    def key(self) -> str:
        """The same every time that it is sent."""
        return f"{self.kind} {self.view} {self.body.get('page', '')}".strip()


@dataclass(frozen=True, kw_only=True)
class Character:
    """An applicant and everything that will be sent, in the order in which it was meant."""

    name: str
    trait: Trait
    user_agent: str
    messages: tuple[Message, ...]

    def sent(self, kind: str, view: str) -> list[Message]:
        """What arrives at a view, each message once."""
        return [each for each in self.messages if (each.kind, each.view) == (kind, view)]

    def pages(self, kind: str) -> set[int]:
        """Numbers of the pages that arrive."""
        return {each.body["page"] for each in self.sent(kind, "page")}


def make_cast(size: int, seed: int) -> list[Character]:
    """Make up applicants; the same ones for the same seed."""
    chance = random.Random(f"cast {seed}")
    return [_character(index, chance) for index in range(size)]


def _character(index: int, chance: random.Random) -> Character:
    lap, place = divmod(index, len(NAMES))
    trait = TRAITS[index % len(TRAITS)]
    name = NAMES[place] + (f" {lap + 1}" if lap else "")
    family = chance.choice(["Chrome", "Firefox", "Safari"])
    return Character(
        name=name,
        trait=trait,
        user_agent=USER_AGENTS.get(trait, f"{family}/{chance.randint(100, 150)}.0"),
        messages=tuple(_messages(name, trait, chance)),
    )


def _messages(name: str, trait: Trait, chance: random.Random) -> Iterator[Message]:
    for kind, page_count in Questionnaire.PAGES.items():
        leaves = trait is Trait.LEAVES_EARLY and kind == Questionnaire.Kind.FAUNA
        for number in range(1, page_count + (not leaves)):
            responses: dict[str, Any] = {each: chance.randint(1, 5) for each in QUESTIONS}
            if number == 1:
                responses["birthday"] = f"{chance.randint(1950, 2005)}-03-01"
                nameless = trait is Trait.NO_GIVEN_NAME and kind == Questionnaire.Kind.FLORA
                responses["givenName"] = "" if nameless else name
            yield Message(
                kind=kind.value,
                view="page",
                body={"page": number, "responses": responses},
                times=2 if chance.random() < 0.15 else 1,
            )
        if not leaves:
            yield Message(kind=kind.value, view="complete")
        if trait is Trait.EMBEDDED:
            yield Message(kind=kind.value, view="embedded")
