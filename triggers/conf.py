"""The ``TRIGGERS`` setting, read when it is needed.

::

    TRIGGERS = {
        "default": {
            "MANAGER": "default",     # a name registered in triggers.managers
            "STORAGE": "database",    # … in triggers.storages
            "RUNNER": "celery",       # … in triggers.runners
            "OPTIONS": {},            # keyword arguments of the storage
        }
    }

Every key may be left out; what stands above are the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from triggers.exceptions import SettingsError

DEFAULT_ALIAS = "default"
"""The alias of whoever names none."""

_KEYS = {"MANAGER", "STORAGE", "RUNNER", "OPTIONS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """One entry of ``TRIGGERS``.

    :ivar name: the key in ``TRIGGERS``.
    :ivar manager: registered name of the manager class.
    :ivar storage: registered name of the storage class.
    :ivar runner: name of the default runner, or ``None`` for
        ``triggers.runners.DEFAULT_TASK_RUNNER``.
    :ivar options: keyword arguments of the storage.
    """

    name: str
    manager: str = "default"
    storage: str = "database"
    runner: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=1)
def aliases() -> Mapping[str, Alias]:
    """All aliases of the project; without a setting, just ``default``.

    :raises SettingsError: the setting has a wrong shape; the error names the place.
    """
    raw = getattr(settings, "TRIGGERS", None) or {DEFAULT_ALIAS: {}}
    if not isinstance(raw, Mapping):
        raise SettingsError(f"TRIGGERS: expected a dict of aliases, got {type(raw).__name__}.")
    return {name: _alias(name, entry) for name, entry in raw.items()}


def get_alias(name: str = DEFAULT_ALIAS) -> Alias:
    """One alias.

    :param name: the key in ``TRIGGERS``.
    :raises SettingsError: there is none of this name, or the setting has a wrong shape.
    """
    try:
        return aliases()[name]
    except KeyError:
        known = ", ".join(sorted(aliases()))
        raise SettingsError(f"TRIGGERS has no alias {name!r} (known: {known}).") from None


def options_of(storage: str) -> dict[str, Any]:
    """Options of the first alias that uses this storage, or none.

    :param storage: registered name of the storage class.
    :returns: keyword arguments by name.
    """
    for alias in aliases().values():
        if alias.storage == storage:
            return dict(alias.options)
    return {}


def runner_of(storage: Any) -> str | None:
    """Runner of the first alias that describes this storage object, if it names one.

    :param storage: the storage object.
    :returns: its registered name, or ``None``.
    """
    try:
        known = aliases().values()
    except ImproperlyConfigured:  # a script or a test without Django settings
        return None
    for alias in known:
        options = alias.options.items()
        if alias.storage == storage.name and all(
            getattr(storage, name, None) == value for name, value in options
        ):
            return alias.runner
    return None


def _alias(name: str, entry: Any) -> Alias:
    place = f"TRIGGERS[{name!r}]"
    if not isinstance(entry, Mapping):
        raise SettingsError(f"{place}: expected a dict, got {type(entry).__name__}.")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        allowed = ", ".join(sorted(_KEYS))
        raise SettingsError(f"{place}: unknown key {unknown[0]!r}; allowed are {allowed}.")
    for key in ("MANAGER", "STORAGE", "RUNNER"):
        if key in entry and not isinstance(entry[key], str):
            found = type(entry[key]).__name__
            raise SettingsError(f"{place}[{key!r}]: expected a registered name, got {found}.")
    options = entry.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        found = type(options).__name__
        raise SettingsError(f"{place}['OPTIONS']: expected a dict, got {found}.")
    for option in options:
        if not isinstance(option, str):
            raise SettingsError(f"{place}['OPTIONS']: expected names of options, got {option!r}.")
    return Alias(
        name=name,
        manager=entry.get("MANAGER", "default"),
        storage=entry.get("STORAGE", "database"),
        runner=entry.get("RUNNER"),
        options=dict(options),
    )


def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting == "TRIGGERS":
        aliases.cache_clear()


setting_changed.connect(_forget, dispatch_uid="triggers.conf")
