"""Configurations: parsed once per process, and which of them a session has, as far as is known.

A digest names its text for ever. Which digest a session has may change at any time, so what is
remembered here is a guess that saves a round trip; every script checks it.
"""

from __future__ import annotations

from triggers.configuration import restore
from triggers.engine import Plan, compile_plan
from triggers.engine.plan import EMPTY_PLAN

NO_DIGEST = ""
"""Of a session that has no configuration."""

_KEPT_PLANS = 1024
_KEPT_SESSIONS = 100_000

_plans: dict[str, Plan] = {NO_DIGEST: EMPTY_PLAN}
_digests: dict[tuple[str, str], str] = {}
_latest: dict[tuple[str, str], str] = {}


def known_plan(digest: str) -> Plan | None:
    """The compiled configuration of this digest, if this process has seen it."""
    return _plans.get(digest)


def remember_text(digest: str, text: str) -> Plan:
    """Compile a configuration that was read."""
    return remember_plan(digest, compile_plan(restore(text)))


def remember_plan(digest: str, plan: Plan) -> Plan:
    """Keep a compiled configuration."""
    if len(_plans) >= _KEPT_PLANS:
        _plans.clear()
        _plans[NO_DIGEST] = EMPTY_PLAN
    return _plans.setdefault(digest, plan)


def guess(place: tuple[str, str], key: str) -> str:
    """The digest that a session probably has: its own, or else that of the one seen last.

    :param place: address of the server and prefix.
    :param key: the key of the session's head.
    """
    known = _digests.get((place[0], key))
    return _latest.get(place, NO_DIGEST) if known is None else known


def remember_digest(place: tuple[str, str], key: str, digest: str) -> None:
    """A session was found to have this configuration."""
    if len(_digests) >= _KEPT_SESSIONS:
        _digests.clear()
    _digests[place[0], key] = digest
    _latest[place] = digest
