"""The bytes of a file, plain or gzip, in chunks and lines of bounded size.

The standard ``gzip`` module is not used: when a file ends in the middle, it raises without giving
back the bytes before that point, and here they count.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK = 64 * 1024
"""Bytes that are read, and at most decompressed, at a time."""

LONGEST_LINE = 1024 * 1024
"""Bytes of a line beyond which it is not kept: a file without line ends must not fill memory."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class DamagedFile(ValueError):
    """The compressed data end too early, or make no sense from here on."""


class ByteStream:
    """A file to be read from its start, once or several times.

    :param path: the file; that it is gzip is seen from its first bytes, whatever its name.
    :raises OSError: it cannot be opened.

    :ivar size: bytes on disk.
    :ivar position: bytes on disk that the latest :meth:`chunks` has read so far.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self.is_gzip = file.read(2) == _GZIP_MAGIC
        self.size = path.stat().st_size
        self.position = 0

    def head(self) -> bytes:
        """The first bytes of the content (at most one chunk; fewer if the file is damaged)."""
        try:
            return next(self.chunks(), b"")
        except DamagedFile:
            return b""

    def chunks(self) -> Iterator[bytes]:
        """The content, decompressed.

        :raises DamagedFile: after the last bytes that could be read.
        """
        self.position = 0
        with self._path.open("rb") as file:
            blocks = self._blocks(file)
            yield from _decompress(blocks) if self.is_gzip else blocks

    def _blocks(self, file: BinaryIO) -> Iterator[bytes]:
        while block := file.read(CHUNK):
            self.position += len(block)
            yield block


def _decompress(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress gzip members one after the other (``cat a.gz b.gz`` is a gzip file too)."""
    member = zlib.decompressobj(_GZIP_FORMAT)
    between_members = True
    for block in blocks:
        rest = block
        while True:
            if between_members:
                # Tapes and some tools pad with zeros after the last member.
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                between_members = False
            try:
                data = member.decompress(rest, CHUNK)
            except zlib.error as error:
                raise DamagedFile(f"the gzip data are damaged ({error})") from None
            if data:
                yield data
            if member.eof:
                rest = member.unused_data
                member = zlib.decompressobj(_GZIP_FORMAT)
                between_members = True
            else:
                rest = member.unconsumed_tail
                # A full chunk may have left output inside the decompressor: ask once more.
                if not rest and len(data) < CHUNK:
                    break
    if not between_members:
        raise DamagedFile("the gzip data end in the middle")


def lines(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Physical lines with their line end; ``None`` for one longer than :data:`LONGEST_LINE`.

    A last line that is cut off because the file is damaged is not yielded.

    :raises DamagedFile: from ``chunks``, after the last whole line.
    """
    rest = b""
    too_long = False
    for chunk in chunks:
        *whole, tail = chunk.split(b"\n")
        for part in whole:
            line = rest + part + b"\n"
            yield None if too_long or len(line) > LONGEST_LINE else line
            rest, too_long = b"", False
        rest += tail
        if len(rest) > LONGEST_LINE:
            rest, too_long = b"", True
    if rest or too_long:
        yield None if too_long else rest
