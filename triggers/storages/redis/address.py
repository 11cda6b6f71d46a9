"""Addresses of servers: which are usable, and how they travel without their passwords."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from django.core.exceptions import ImproperlyConfigured

from triggers import conf
from triggers.exceptions import MissingPackages, SettingsError

_SCHEMES = ("redis", "rediss", "unix")


def checked(url: object) -> str:
    """A usable address, with the user and password that a setting of this process has for it.

    Messages carry addresses without them (see :func:`stripped`), so a worker looks for them in its
    own ``TRIGGERS``.

    :raises SettingsError: it is no URL of a Redis server.
    :raises MissingPackages: (a ``SettingsError``) redis-py is not installed.
    """
    if not isinstance(url, str):
        raise SettingsError(f"url must be a str such as {_EXAMPLE!r}, got {url!r}.")
    try:
        aliases = conf.aliases()
    except ImproperlyConfigured:  # a script without Django settings
        aliases = {}
    # An object is made for every firing, and settings hardly ever change.
    seen = _checked.get(url)
    if seen is None or seen[0] is not aliases:
        _check(url)
        seen = _checked[url] = aliases, _with_password(url, aliases)
    return seen[1]


_checked: dict[str, tuple[Mapping[str, conf.Alias], str]] = {}
"""Addresses by what was given, with the settings that they were found in."""


def _with_password(url: str, aliases: Mapping[str, conf.Alias]) -> str:
    if "@" in url:
        return url
    for alias in aliases.values():
        known = alias.options.get("url")
        if alias.storage == "redis" and isinstance(known, str) and stripped(known) == url:
            return known
    return url


def stripped(url: str) -> str:
    """The address without user and password, for messages and logs."""
    if "@" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


_EXAMPLE = "redis://localhost:6379/0"


@cache
def _has_client() -> bool:
    try:
        return find_spec("redis") is not None
    except ModuleNotFoundError:
        return False


@cache
def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"url {stripped(url)!r} cannot be used: {error}.") from None
    number = parts.path.lstrip("/")
    is_database = parts.scheme == "unix" or not number or number.isdecimal()
    if parts.scheme not in _SCHEMES or port == 0 or not is_database:
        raise SettingsError(
            f"url {stripped(url)!r} is no address of a Redis server; write one such as "
            f"{_EXAMPLE!r}, where the last part is the number of the database."
        )
    if not _has_client():
        raise MissingPackages("redis", ["redis"])
