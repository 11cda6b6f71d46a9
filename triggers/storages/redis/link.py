"""One connection to a Redis server: a message goes out, and its one answer comes back.

redis-py opens the connection, for it knows TLS, passwords, databases and Unix sockets. What is
sent and read over it after that is done here, on its socket: every firing waits for it, and the
layers that redis-py has in between take as long as the server does.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import ssl
import struct
import sys
from types import ModuleType
from typing import Any

from triggers.storages.redis.scripts import bulk

_CHUNK = 4096
"""Bytes that are read at once. Most answers are shorter, and more memory takes longer to get."""


class Link:
    """One connection, for one thread at a time.

    :ivar client: identifies it among all that ever were, also after it broke and was made again.
    :ivar commits: how many commits it has begun.

    :param connection: of redis-py, speaking RESP2.
    :param errors: where the exceptions of redis-py are.
    """

    __slots__ = ("_errors", "client", "commits", "connection")

    def __init__(self, connection: Any, errors: ModuleType) -> None:
        # Typed as anything: redis-py leaves methods of its connections untyped.
        self.connection = connection
        self._errors = errors
        self.client = bulk(secrets.token_hex(8))
        self.commits = 0

    def ask(self, message: bytes) -> Any:
        """Send a message that is in the form of the wire, and read its answer, which is no list.

        :returns: bytes, a number, or nothing.
        :raises RedisError: (of redis-py) what the server refused, or why it could not be reached.
        """
        try:
            wire = self._send(message)
            data = wire.recv(_CHUNK)
            # Nearly all answers are one string that comes in one piece.
            start = data.find(b"\r\n") + 2
            if data[:1] == b"$" and start > 3:
                end = len(data) - 2
                if end - start == int(data[1 : start - 2]):
                    return data[start:end]
            answer = self._whole(wire, data)
        except OSError as error:
            self.connection.disconnect()
            raise self._broken(error) from error
        except BaseException:
            # What is still to come would be taken for the answer to another message.
            self.connection.disconnect()
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(self, message: bytes) -> None:
        """Send a message whose answers :meth:`next_answer` reads.

        :raises RedisError: (of redis-py) why it could not be sent.
        """
        try:
            self._send(message)
        except OSError as error:
            self.connection.disconnect()
            raise self._broken(error) from error

    def _send(self, message: bytes) -> Any:
        """Send a message, and return the socket on which its answer comes."""
        wire: Any = self.connection._sock
        if wire is None:
            self.connection.connect()
            wire = self.connection._sock
            _leave_time_to_system(wire)
        wire.sendall(message)
        return wire

    def next_answer(self) -> Any:
        """The next answer to what was sent, which may be a list.

        :raises RedisError: (of redis-py) it is an error, or cannot be read.
        """
        try:
            return self.connection.read_response()
        except self._errors.ConnectionError as error:
            if isinstance(error.__context__, BlockingIOError):
                raise self._broken(error.__context__) from error
            raise

    def _whole(self, wire: Any, begun: bytes) -> Any:
        """An answer of which this much has been read; an error of the server is returned."""
        data = bytearray(begun)
        while True:
            end = data.find(b"\r\n")
            missing = 0
            if end >= 0:
                kind, line = data[:1], data[1:end]
                if kind == b"-":
                    return self.connection._parser.parse_error(line.decode("utf-8", "replace"))
                if kind == b":":
                    return int(line)
                if kind != b"$":
                    return bytes(line)
                size = int(line)
                if size < 0:
                    return None
                missing = end + 4 + size - len(data)
                if missing <= 0:
                    return bytes(data[end + 2 : end + 2 + size])
            more = wire.recv(max(_CHUNK, missing))
            if not more:
                raise ConnectionResetError("the server has closed the connection")
            data += more

    def _broken(self, error: OSError) -> Exception:
        """What redis-py would raise."""
        if isinstance(error, TimeoutError | BlockingIOError):
            timed_out: Exception = self._errors.TimeoutError("the server did not answer in time")
            return timed_out
        broken: Exception = self._errors.ConnectionError(f"the connection broke: {error}")
        return broken


def _leave_time_to_system(wire: socket.socket) -> None:
    """Let the system watch the time: Python would ask it before each call whether to make it.

    See ``SO_RCVTIMEO`` in socket(7): when time is up, a call fails with ``EAGAIN``. A signal makes
    it begin anew, and so does each part of a long message. Python goes on to watch it under TLS,
    elsewhere than on Linux, and where sockets never block, as with gevent.
    """
    timeout = wire.gettimeout()
    if timeout is None or sys.platform != "linux" or isinstance(wire, ssl.SSLSocket):
        return
    whole = math.floor(timeout)
    # None at all would mean for ever.
    limit = struct.pack("@ll", whole, max(1, math.floor((timeout - whole) * 1_000_000)))
    try:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    except OSError:  # where a time has 64 bits and a long has 32
        return
    wire.settimeout(None)
    if not os.get_blocking(wire.fileno()):
        wire.settimeout(timeout)
