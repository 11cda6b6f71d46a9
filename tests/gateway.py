"""A way to a server that a test can close and open again, without touching the server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PATIENCE = 30  # seconds


class Gateway:
    """Passes connections on to a server as long as it is open.

    :ivar port: where it listens; stays the same.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.port = 0
        self.open()

    def open(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server((self.host, self.port), reuse_port=True)
        self.port = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._begin(self._accept, self._listener)

    def close(self) -> None:
        """Break the connections that there are, and refuse new ones."""
        _shut(self._listener)
        self._threads[0].join(PATIENCE)
        for link in self._links:
            _shut(link)
        for thread in self._threads:
            thread.join(PATIENCE)
        for link in (self._listener, *self._links):
            link.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._links += [client, server]
            for source, sink in ((client, server), (server, client)):
                self._begin(_pass_on, source, sink)

    def _begin(self, work: Callable[..., None], *links: socket.socket) -> None:
        thread = threading.Thread(target=work, args=links, daemon=True)
        self._threads.append(thread)
        thread.start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    _shut(source)
    _shut(sink)


def _shut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


@contextmanager
def gateway(host: str, port: int) -> Iterator[Gateway]:
    """An open gateway, which is closed after the block."""
    made = Gateway(host, port)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def black_hole() -> Iterator[int]:
    """A port on this machine where connections are accepted, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
