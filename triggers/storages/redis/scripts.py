"""The scripts of this package: what a server knows them by, and how a message begins that runs one.

Constants of the engine are put before their text, so that there is one place for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from importlib import resources

from triggers.engine.draft import RESEND_AFTER
from triggers.engine.rules import MOST_CASCADES
from triggers.storages.document import STATE_VERSION

NOTHING = b"$0\r\n\r\n"
"""An empty argument in the form of the wire."""


class Script:
    """One script.

    :ivar text: its source: the constants, ``session.lua``, and the file of its own.
    :ivar opening: how a message begins that runs it on one key.
    """

    def __init__(self, name: str) -> None:
        here = resources.files(__package__ or "")
        parts = [here.joinpath(f"{part}.lua").read_text("utf-8") for part in ("session", name)]
        constants = (
            f"local RESEND_AFTER = {RESEND_AFTER // timedelta(microseconds=1)}\n"
            f"local MOST_CASCADES = {MOST_CASCADES}\n"
            f"local NEWEST_VERSION = {STATE_VERSION}\n"
        )
        self.text = constants + "\n".join(parts)
        # The server's name for a script, which protects nothing.
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.opening = bulk("EVALSHA") + bulk(sha) + bulk("1")


@cache
def script(name: str) -> Script:
    """The script of this name, read once per process."""
    return Script(name)


def bulks(texts: Sequence[str]) -> bytes:
    """Arguments in the form of the wire, one after the other."""
    wire = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
    if wire.isascii():
        return wire.encode()
    encoded = [text.encode() for text in texts]
    return b"".join([b"$%d\r\n%b\r\n" % (len(data), data) for data in encoded])


def bulk(text: str) -> bytes:
    """An argument in the form of the wire."""
    if not text:
        return NOTHING
    data = text.encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)
