"""The connection to a Redis server: scripts, one after the other, and what becomes of its errors.

A client object of redis-py takes more time for a call than the server does. So connections of
redis-py, which know TLS, passwords, databases and Unix sockets, are used here directly: a thread
takes one from the pile, sends a script, reads the answer, and puts it back.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from triggers.exceptions import SettingsError, StorageUnavailable
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


class Link:
    """One connection, for one thread at a time.

    :ivar client: identifies it among all that ever were, also after it broke and was made again.
    :ivar commits: how many commits it has begun.
    """

    __slots__ = ("client", "commits", "connection")

    def __init__(self, connection: Any) -> None:
        # Typed as anything: redis-py leaves methods of its connections untyped.
        self.connection = connection
        self.client = bulk(secrets.token_hex(8))
        self.commits = 0

    def ask(self, message: bytes) -> Any:
        """Send a message that is in the form of the wire, and read the answer."""
        self.connection.send_packed_command([message])
        return self.connection.read_response()


class Server:
    """One Redis server, for all threads of this process.

    :param url: as for ``redis.from_url``: ``redis://``, ``rediss://`` or ``unix://``.
    :param timeout: seconds after which an operation gives up, its repetitions included.
    :raises SettingsError: redis-py is not installed, or cannot read the URL.
    """

    def __init__(self, url: str, timeout: float) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as missing:
            reason = "The redis storage needs the package redis: pip install 'triggers[redis]'."
            raise SettingsError(reason) from missing
        # Repetitions are counted here, where it is known what may be repeated.
        options = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
        limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        try:
            self._pool = redis.ConnectionPool.from_url(url, **options, **limits)
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
            link.connection.send_packed_command([b"".join(messages)])
            answers = [self._answer(link) for _ in messages]
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

        return self._persistently(attempt)

    def _answer(self, link: Link) -> Any:
        """The next answer, or the error that it is, so that the others can be read as well."""
        try:
            return link.connection.read_response()
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
        link = self._idle.pop() if self._idle else Link(self._pool.make_connection())
        try:
            while True:
                try:
                    return attempt(link, again)
                except self._errors.RedisError as error:
                    link.connection.disconnect()
                    left = started + self._timeout - time.monotonic()
                    if left <= 0 or not self._may_pass(error):
                        raise self._unavailable(error, left) from error
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


_servers: dict[tuple[str, float], Server] = {}


def server_of(url: str, timeout: float) -> Server:
    """The server at this address, as this process knows it.

    :raises SettingsError: redis-py is not installed, or cannot read the URL.
    """
    known = _servers.get((url, timeout))
    if known is None:
        known = _servers.setdefault((url, timeout), Server(url, timeout))
    return known


if hasattr(os, "register_at_fork"):
    # A child must not speak on its parent's connections.
    os.register_at_fork(after_in_child=_servers.clear)
