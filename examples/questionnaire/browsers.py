"""A stand-in for the third party that knows browsers by their user agent strings."""

from dataclasses import dataclass


class ServiceBusy(ConnectionError):
    """The service asks to be called again later."""


class UnknownBrowser(LookupError):
    """The service has never heard of this user agent."""


@dataclass(frozen=True, kw_only=True)
class Browser:
    family: str
    version: str


FAMILIES = {"Chrome", "Firefox", "Opera", "Safari"}


def look_up(user_agent: str, *, again: bool) -> Browser:
    """Ask what browser this is.

    The real service would be somewhere on the internet. This one is busy in the same way every
    time: it sends ``Opera`` away when it is asked for the first time.

    :param user_agent: such as ``Firefox/144.0``.
    :param again: whether the caller was sent away before.
    :raises ServiceBusy: ask again.
    :raises UnknownBrowser: asking again will not help.
    """
    family, _slash, version = user_agent.partition("/")
    if family not in FAMILIES:
        raise UnknownBrowser(f"no browser is known as {user_agent!r}")
    if family == "Opera" and not again:
        raise ServiceBusy("the service is busy")
    return Browser(family=family, version=version)
