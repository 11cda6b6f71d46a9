"""A Redis server: scripts that it runs, one after the other, and what becomes of its errors.

A client object of redis-py takes more time for a call than the server does. So its connections are
used directly: a thread takes one from the pile, sends a script, reads the answer, and puts it back.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from triggers.exceptions import MissingPackages, SettingsError, StorageUnavailable
from triggers.storages.redis.link import Link
from triggers.storages.redis.scripts import NOTHING, Script, bulk, script

T = TypeVar("T")

_FIRST_PAUSE = 0.01  # seconds
_LONGEST_PAUSE = 0.5  # seconds

_ADVICE = {
    "AuthenticationError": "put the user and the password into the URL: redis://user:password@host",
    "AuthorizationError": "the user in the URL needs the right to run scripts",
    "NoPermissionError": "the user in the URL needs the right to run scripts on these keys",
    "OutOfMemoryError": "give the server more memory (maxmemory), or purge old sessions",
    "ReadOnlyError": "this is a replica; the URL must be that of the primary",
}
"""What to do about errors that do not pass by themselves, by their class in redis-py."""

_PASSING = frozenset({"ClusterDownError", "MasterDownError", "TryAgainError"})

_REPEATED = bulk("1")


class Server:
    """One Redis server, for all threads of this process.

    :param url: as for ``redis.from_url``: ``redis://``, ``rediss://`` or ``unix://``.
    :param timeout: seconds after which an operation gives up, its repetitions included.
    :raises SettingsError: redis-py cannot read the URL.
    :raises MissingPackages: (a ``SettingsError``) redis-py is not installed.
    """

    def __init__(self, url: str, timeout: float) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as missing:
            raise MissingPackages("redis", ["redis"]) from missing
        # Repetitions are counted here, where it is known what may be repeated.
        options = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
        limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        try:
            self._pool = redis.ConnectionPool.from_url(_without(url, _OURS), **options, **limits)
        except ValueError as error:
            raise SettingsError(f"The URL of the redis storage cannot be used: {error}.") from error
        self._timeout = timeout
        self._idle: list[Link] = []
        self._errors = redis.exceptions

    def read(self, name: str, key: bytes, args: bytes, count: int) -> Any:
        """Run a script that changes nothing.

        :param key: of the session's head, in the form of the wire, as are ``args``.
        :param args: one after the other.
        :param count: how many arguments these are.
        :raises StorageUnavailable: the server did not answer in time, or refused.
        """
        which = script(name)
        message = b"*%d\r\n%b%b%b" % (4 + count, which.opening, key, args)
        return self._persistently(lambda link, _again: self._run(link, which, message))

    def write(self, name: str, key: bytes, args: bytes, count: int) -> Any:
        """Run a script that commits something.

        It gets three arguments before those given: the client, the number of its commit, and
        whether this is a repetition. So it takes effect once, also when a connection breaks.

        :param key: of the session's head, in the form of the wire, as are ``args``.
        :param args: one after the other.
        :param count: how many arguments these are.
        :raises StorageUnavailable: the server did not answer in time, or refused.
        """
        which = script(name)
        start = b"*%d\r\n%b%b" % (7 + count, which.opening, key)
        number = b""

        def attempt(link: Link, again: bool) -> Any:
            nonlocal number
            if not number:
                link.commits += 1
                number = bulk(str(link.commits))
            repeated = _REPEATED if again else NOTHING
            message = b"".join((start, link.client, number, repeated, args))
            return self._run(link, which, message)

        return self._persistently(attempt)

    def commands(self, *commands: Sequence[str]) -> list[Any]:
        """Send plain commands that change nothing, all at once, and return their answers.

        :raises StorageUnavailable: the server did not answer in time, or refused.
        """
        messages = [b"*%d\r\n%b" % (len(each), b"".join(map(bulk, each))) for each in commands]

        def attempt(link: Link, _again: bool) -> list[Any]:
            link.send(b"".join(messages))
            answers = [self._answer(link) for _ in messages]
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

        return self._persistently(attempt)

    def _linked(self) -> Link:
        return Link(self._pool.make_connection(), self._errors)

    def _answer(self, link: Link) -> Any:
        """The next answer, or the error that it is, so that the others can be read as well."""
        try:
            return link.next_answer()
        except self._errors.ResponseError as error:
            return error

    def _run(self, link: Link, which: Script, message: bytes) -> Any:
        try:
            return link.ask(message)
        except self._errors.NoScriptError:
            # A server that was restarted, or a replica that took over, has not seen it yet.
            link.ask(b"*3\r\n" + bulk("SCRIPT") + bulk("LOAD") + bulk(which.text))
            return link.ask(message)

    def _persistently(self, attempt: Callable[[Link, bool], T]) -> T:
        """Do something on a connection, again if that breaks, until it succeeds or time is up."""
        started = time.monotonic()
        pause, again = _FIRST_PAUSE, False
        link = self._idle.pop() if self._idle else self._linked()
        try:
            while True:
                try:
                    return attempt(link, again)
                except self._errors.RedisError as error:
                    link.connection.disconnect()
                    left = started + self._timeout - time.monotonic()
                    if left <= 0 or not self._may_pass(error):
                        raise self._unavailable(error, left) from error
                except BaseException:
                    # There may be answers on their way, which nobody must take for others.
                    link.connection.disconnect()
                    raise
                again = True
                # Full jitter, so that those who lost their server together come back one by one.
                time.sleep(min(random.uniform(0, pause), left))
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._idle.append(link)

    def _may_pass(self, error: Exception) -> bool:
        """Whether the same may well succeed in a moment."""
        kind = type(error).__name__
        if kind in _ADVICE:
            return False
        if isinstance(error, self._errors.ConnectionError | self._errors.TimeoutError):
            return True
        # Somebody's slow script is in the way.
        return kind in _PASSING or str(error).startswith("BUSY ")

    def _unavailable(self, error: Exception, left: float) -> StorageUnavailable:
        """The error that a caller gets, with what to do where that is known."""
        reason, advice = str(error).strip(), _ADVICE.get(type(error).__name__)
        if advice is None and left <= 0:
            advice = f"given up after {self._timeout:g} s, see server_timeout"
        if advice is not None:
            reason = f"{reason.rstrip('.')} ({advice})"
        return StorageUnavailable("redis", reason)


_OURS = frozenset({"protocol", "decode_responses"})
"""Options of a URL that say in which form answers come: they are understood in one form alone."""


def _without(url: str, options: Collection[str]) -> str:
    """The URL without these options."""
    address, _mark, query = url.partition("?")
    kept = [each for each in parse_qsl(query, True) if each[0] not in options]
    return f"{address}?{urlencode(kept)}" if kept else address


_servers: dict[tuple[str, float], Server] = {}


def server_of(url: str, timeout: float) -> Server:
    """The server at this address, as this process knows it.

    :raises SettingsError: redis-py cannot read the URL.
    :raises MissingPackages: (a ``SettingsError``) redis-py is not installed.
    """
    known = _servers.get((url, timeout))
    if known is None:
        known = _servers.setdefault((url, timeout), Server(url, timeout))
    return known


if hasattr(os, "register_at_fork"):
    # A child must not speak on its parent's connections.
    os.register_at_fork(after_in_child=_servers.clear)
