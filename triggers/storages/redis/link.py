"""One connection to a Redis server: a message goes out, and its one answer comes back.

redis-py opens the connection, for it knows TLS, passwords, databases and Unix sockets. What is
sent and read over it after that is done here, on its socket: every firing waits for it, and the
layers that redis-py has in between take as long as the server does.
"""

from __future__ import annotations

import secrets
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
            socket = self._send(message)
            data = socket.recv(_CHUNK)
            # Nearly all answers are one string that comes in one piece.
            start = data.find(b"\r\n") + 2
            if data[:1] == b"$" and start > 3:
                end = len(data) - 2
                if end - start == int(data[1 : start - 2]):
                    return data[start:end]
            answer = self._whole(socket, data)
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

    def _send(self, message: bytes) -> Any:
        """Send a message, and return the socket on which its answer comes."""
        socket = self.connection._sock
        if socket is None:
            self.connection.connect()
            socket = self.connection._sock
        socket.sendall(message)
        return socket

    def _whole(self, socket: Any, begun: bytes) -> Any:
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
            more = socket.recv(max(_CHUNK, missing))
            if not more:
                raise ConnectionResetError("the server has closed the connection")
            data += more

    def _broken(self, error: OSError) -> Exception:
        """What redis-py would raise."""
        if isinstance(error, TimeoutError):
            timed_out: Exception = self._errors.TimeoutError("the server did not answer in time")
            return timed_out
        broken: Exception = self._errors.ConnectionError(f"the connection broke: {error}")
        return broken
