"""A wire to a server that a test can cut, or hold, without touching the server."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Wire:
    """Passes on what connections to ``port`` say to a server, and what it answers.

    :ivar port: where it listens, on 127.0.0.1.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def lead_to(self, host: str, port: int) -> None:
        """Lead to another server from now on; connections that are open stay where they are."""
        self._target = (host, port)

    def cut(self) -> None:
        """End all connections; new ones are accepted."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def hold(self) -> None:
        """Pass on nothing from now on, while connections stay open and new ones are accepted."""
        self._flows.clear()

    def close(self) -> None:
        """End all connections, and listen no more."""
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._pass_on, args=[client], daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            ends = {client: server, server: client}
            with self._lock:
                self._open += ends
            with selectors.DefaultSelector() as selector, suppress(OSError):
                for end in ends:
                    selector.register(end, selectors.EVENT_READ)
                while True:
                    for key, _events in selector.select():
                        end = key.fileobj
                        assert isinstance(end, socket.socket)
                        said = end.recv(65536)
                        self._flows.wait()
                        if not said:
                            return
                        ends[end].sendall(said)


@contextmanager
def wire_to(url: str, default_port: int) -> Iterator[Wire]:
    """Make a wire to the server at an address."""
    parts = urlsplit(url)
    wire = Wire(parts.hostname or "127.0.0.1", parts.port or default_port)
    try:
        yield wire
    finally:
        wire.close()
