"""What bounds a session and the work on it; each number can be set per storage.

The numbers are options of the storage (``OPTIONS`` in ``TRIGGERS``), because they travel with it to
the workers: who claims an instance, and who looks whether its worker still lives, must agree.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, TypedDict

from triggers import payload
from triggers.exceptions import SettingsError


class LimitOptions(TypedDict, total=False):
    """Keyword arguments of every storage; times in seconds. See :class:`Limits`.

    :ivar payload_limit: bytes of JSON.
    :ivar firings_limit: how many firings.
    :ivar lease: seconds.
    :ivar heartbeat: seconds.
    :ivar attempts: how many workers.
    :ivar server_timeout: seconds.
    """

    payload_limit: int
    firings_limit: int
    lease: float
    heartbeat: float
    attempts: int
    server_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one session.

    :ivar payload_limit: bytes of JSON that the kwargs of one firing, or one result, may take.
    :ivar firings_limit: firings that are recorded in a session before ``fire`` refuses more.
    :ivar lease: seconds for which a worker that has claimed an instance is taken to be alive.
    :ivar heartbeat: seconds after which a living worker renews its lease.
    :ivar attempts: how many workers may be lost with one instance before it fails.
    :ivar server_timeout: seconds that an operation waits for a server before it gives up.
    :raises SettingsError: a number is of the wrong type or out of its range, or ``heartbeat`` is
        more than half of ``lease``.
    """

    payload_limit: int = payload.DEFAULT_LIMIT
    firings_limit: int = 100_000
    lease: float = 60.0
    heartbeat: float = 15.0
    attempts: int = 3
    server_timeout: float = 5.0

    def __post_init__(self) -> None:
        for name in ("payload_limit", "firings_limit", "attempts"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(f"{name} must be an int of at least 1, got {value!r}.")
        for name in ("lease", "heartbeat", "server_timeout"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 < value < float("inf"):
                raise SettingsError(f"{name} must be a number of seconds above 0, got {value!r}.")
        if self.heartbeat * 2 > self.lease:
            raise SettingsError(
                f"heartbeat ({self.heartbeat} s) must be at most half of lease ({self.lease} s): "
                "one lost heartbeat must not cost a living worker its lease."
            )

    @property
    def lease_time(self) -> timedelta:
        """The lease, from seconds to a ``timedelta``."""
        return timedelta(seconds=self.lease)

    def chosen(self) -> dict[str, Any]:
        """Those that differ from the defaults, by name, in plain JSON."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != each.default
        }


def limits_of(storage: Any, options: Mapping[str, Any]) -> Limits:
    """The limits that these options of a storage mean.

    :param storage: the storage's class, for the message.
    :param options: the storage's keyword arguments, without those that are its own.
    :raises SettingsError: there is no such option, or its value cannot be used.
    """
    for name in options:
        if name not in _NAMES:
            known = options_taken_by(storage)
            alike = get_close_matches(name, known, 1)
            meant = f"; did you mean {alike[0]!r}?" if alike else "."
            raise SettingsError(
                f"the {storage.name} storage has no option {name!r}{meant} It takes: "
                f"{', '.join(known)}."
            )
    return Limits(**options)


def options_taken_by(storage: Any) -> list[str]:
    """Names of the keyword arguments with which a storage can be made, its own ones first.

    :param storage: the storage's class.
    """
    names: dict[str, None] = {}
    for cls in storage.__mro__:
        if "__init__" not in vars(cls):
            continue
        passes_on = False
        for each in list(inspect.signature(cls.__init__).parameters.values())[2:]:
            if each.kind is inspect.Parameter.VAR_KEYWORD:
                passes_on = True
            elif each.kind is not inspect.Parameter.VAR_POSITIONAL:
                names[each.name] = None
        if not passes_on:
            return list(names)
    return list(names | dict.fromkeys(_NAMES))


_NAMES = tuple(each.name for each in fields(Limits))


DEFAULT_LIMITS = Limits()
"""The limits of a storage that was given none."""
