"""Tar archives as the server writes them: directories, files, and GNU sparse files.

The engine's files are mostly holes (an empty shard is 130 MB long and holds 130 kB), so holes are
left out. `tarfile` reads such members and does not write them.
Source: https://www.gnu.org/software/tar/manual/html_node/Standard.html (`struct sparse`).
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

BLOCK = 512
COPY_BYTES = 1 << 20
ENTRIES_IN_HEADER = 4
ENTRIES_IN_EXTENSION = 21

Extent = tuple[int, int]
"""Offset and length of data in a file."""

Piece: TypeAlias = tuple[int, int, Callable[[], bytes]]
"""Offset, length, and what returns the bytes."""


class SparseTarWriter:
    """Writes members one after another; `end` adds the trailer without which the archive is incomplete."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a file with this content."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._file.write(member.tobuf(tarfile.GNU_FORMAT))
        self._file.write(content)
        self._pad(len(content))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file without its holes."""
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            extents = list(_extents(source.fileno(), size))
            stored = sum(length for _, length in extents)
            self._file.write(_plain_header(name, size) if stored == size else _header(name, size, extents))
            for offset, length in extents:
                self._copy(source, offset, length)
        self._pad(stored)

    def add_pieces(self, name: str, size: int, pieces: Iterable[Piece]) -> None:
        """Add a file that is all zeros but for its pieces, which ascend and do not overlap."""
        held = list(pieces)
        extents = [(offset, length) for offset, length, _ in held]
        stored = sum(length for _, length in extents)
        self._file.write(_plain_header(name, size) if stored == size else _header(name, size, extents))
        for _, length, read in held:
            content = read()
            assert len(content) == length, "a piece is as long as was said"
            self._file.write(content)
        self._pad(stored)

    def end(self) -> None:
        """Write the two zero blocks that end an archive."""
        self._file.write(bytes(2 * BLOCK))

    def _copy(self, source: BinaryIO, offset: int, length: int) -> None:
        source.seek(offset)
        while length:
            part = source.read(min(length, COPY_BYTES))
            assert part, "the file became shorter while it was read"
            self._file.write(part)
            length -= len(part)

    def _pad(self, size: int) -> None:
        self._file.write(bytes(-size % BLOCK))


def _plain_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _extents(descriptor: int, size: int) -> Iterator[Extent]:
    """Yield where a file has data."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole from here on
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end - start


def _header(name: str, size: int, extents: list[Extent]) -> bytes:
    """Return the blocks before a sparse member's data."""
    member = tarfile.TarInfo(name)
    member.size = sum(length for _, length in extents)
    member.type = b"S"
    blocks = member.tobuf(tarfile.GNU_FORMAT)
    entries = [_number(offset) + _number(length) for offset, length in [*extents, (size, 0)]]
    own, rest = entries[:ENTRIES_IN_HEADER], entries[ENTRIES_IN_HEADER:]
    header = bytearray(blocks[-BLOCK:])  # before it, a long name may have blocks of its own
    header[386:482] = b"".join(own).ljust(96, b"\0")
    header[482] = 1 if rest else 0
    header[483:495] = _number(size)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    extensions = []
    while rest:
        own, rest = rest[:ENTRIES_IN_EXTENSION], rest[ENTRIES_IN_EXTENSION:]
        block = b"".join(own).ljust(504, b"\0") + bytes([1 if rest else 0])
        extensions.append(block.ljust(BLOCK, b"\0"))
    return blocks[:-BLOCK] + bytes(header) + b"".join(extensions)


def _number(value: int) -> bytes:
    """Return 12 bytes: octal digits, or from 64 GiB on GNU's binary form.

    The zero at the end gives way to a twelfth digit from 8 GiB on, which readers take.
    """
    if value < 8**11:
        return f"{value:011o}\0".encode()
    if value < 8**12:
        return f"{value:012o}".encode()
    return b"\x80" + value.to_bytes(11, "big")
