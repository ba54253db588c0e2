"""Gzip members that say how long they are, and a reader that takes them one by one.

A file is a row of members, which any gzip reads as one stream. Each begins with an extra
field (RFC 1952, "FEXTRA") of its own length, so that a reader with many threads, or one
that wants the records while the rest still arrives, knows where the next begins. Inside, what
does not compress (mantissas, digests) goes as stored blocks in front of what does.
Source: RFC 1951, 3.2.4; RFC 1952, 2.3.1.1.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from recollect.errors import IntegrityError, MissingDependencyError
from recollect.storage.base import ObjectStore

try:
    from zlib_ng import zlib_ng
except ImportError as _error:  # an optional dependency
    raise MissingDependencyError(
        "ruvector snapshots need the package zlib-ng, which is not installed",
        'run: pip install "recollect[ruvector]"',
    ) from _error

ZLIB_ERROR: Any = zlib_ng.error

RAW_BYTES_MAX = 256 << 20  # more is not ours: a block has 4 MiB, one record at most 64
MEMBER_BYTES_MAX = RAW_BYTES_MAX + (1 << 20)  # stored blocks add 5 bytes in 65,535
_READ_BYTES = 4 << 20

# Magic, method and flags; mtime, xfl, os; xlen, "RC", 8; bytes of the member, bytes of its content.
_HEADER = struct.Struct("<4sIBBH2sHII")
_MAGIC = b"\x1f\x8b\x08\x04"
_TRAILER = struct.Struct("<II")
_STORED_MAX = 65_535

Buffer: TypeAlias = bytes | bytearray | memoryview
Strategy: TypeAlias = Literal["search", "entropy"]
"""`search`: deflate as usual. `entropy`: Huffman codes only, for bytes in which nothing repeats."""


def encode_member(
    stored: Sequence[Buffer], deflated: Buffer, *, level: int, strategy: Strategy = "search"
) -> bytes:
    """Encode one member: `stored` as it is, then `deflated` at this gzip level; 0 stores it as well.

    Deterministic for one version of zlib-ng.
    """
    chosen = zlib_ng.Z_HUFFMAN_ONLY if strategy == "entropy" and level else zlib_ng.Z_DEFAULT_STRATEGY
    compressor = zlib_ng.compressobj(level, zlib_ng.DEFLATED, -15, 8, chosen)
    body = [*_stored_blocks(stored), compressor.compress(deflated), compressor.flush()]
    check = 0
    for part in (*stored, deflated):
        check = zlib_ng.crc32(part, check)
    raw_size = sum(len(part) for part in stored) + len(deflated)
    assert raw_size <= RAW_BYTES_MAX, "a block is cut before it gets so large"
    size = _HEADER.size + sum(map(len, body)) + _TRAILER.size
    header = _HEADER.pack(_MAGIC, 0, 0, 255, 12, b"RC", 8, size, raw_size)
    return b"".join([header, *body, _TRAILER.pack(check, raw_size)])


def decode_member(member: bytes) -> bytes:
    """Return what a member holds; its CRC-32 is checked.

    Raises:
        IntegrityError: These are not the bytes that were written.
    """
    size, raw_size = member_sizes(member)
    decompressor = zlib_ng.decompressobj(31)
    try:
        raw: bytes = decompressor.decompress(member, raw_size + 1)
    except ZLIB_ERROR as error:
        raise IntegrityError(f"a gzip member cannot be decompressed: {error}") from error
    if size != len(member) or len(raw) != raw_size or not decompressor.eof or decompressor.unused_data:
        raise IntegrityError("a gzip member has another length than it says")
    return raw


def member_sizes(start: bytes) -> tuple[int, int]:
    """Return the bytes of a member and of its content, from its first `HEADER_SIZE` bytes."""
    if len(start) < HEADER_SIZE:
        raise IntegrityError("the file ends within the header of a gzip member")
    magic, _, _, _, extra, name, length, size, raw_size = _HEADER.unpack_from(start)
    if magic != _MAGIC or (extra, name, length) != (12, b"RC", 8):
        raise IntegrityError("a gzip member of this face was expected, and is not there")
    if not HEADER_SIZE + _TRAILER.size < size <= MEMBER_BYTES_MAX or raw_size > RAW_BYTES_MAX:
        raise IntegrityError(f"a gzip member claims {size} bytes with {raw_size} in it")
    return size, raw_size


HEADER_SIZE = _HEADER.size


class FinishedFile(NamedTuple):
    """A whole file in parts, its size, and its SHA-256 in hexadecimal."""

    parts: list[bytes]
    byte_size: int
    sha256: str


class FileWriter:
    """Collects the members of one file. One thread at a time."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._byte_size = 0
        self._hash = hashlib.sha256()

    def append(self, member: bytes) -> None:
        """Add a member at the end."""
        self._parts.append(member)
        self._byte_size += len(member)
        self._hash.update(member)

    def finish(self) -> FinishedFile:
        """Return the file; the writer is used up."""
        return FinishedFile(self._parts, self._byte_size, self._hash.hexdigest())


class FileReader:
    """Reads one stored file from front to end, member by member, in bounded memory.

    Args:
        byte_size: What was written; another size is damage.
        sha256: What the bytes must hash to; empty: do not check.
    """

    def __init__(self, store: ObjectStore, key: str, *, byte_size: int, sha256: str) -> None:
        self._store = store
        self._key = key
        self._byte_size = byte_size
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._chunk = b""  # what was read last; what of it is not given out begins at `_place`
        self._place = 0
        self.read_bytes = 0

    @property
    def where(self) -> str:
        """The file's place, for messages."""
        return f"{self._store.url}: {self._key}"

    def members(self) -> Iterator[bytes]:
        """Yield every member. After the last one the file's size and SHA-256 have been checked.

        Raises:
            IntegrityError: Cut short, too long, not ours, or another SHA-256.
        """
        actual = self._store.size(self._key)
        if actual != self._byte_size:
            raise IntegrityError(f"{self.where} has {actual} bytes, {self._byte_size} were written")
        while start := self._take(HEADER_SIZE):
            size, _ = member_sizes(start)
            rest = self._take(size - HEADER_SIZE)
            if len(rest) != size - HEADER_SIZE:
                raise IntegrityError(f"{self.where} ends within a gzip member")
            member = start + rest
            del rest  # one copy of it is enough while it is away
            yield member
        if self._sha256 and self._hash.hexdigest() != self._sha256:
            raise IntegrityError(f"{self.where} has another SHA-256 than when it was written")

    def _take(self, wanted: int) -> bytes:
        """Return the next bytes, fewer at the end of the file. Held besides: what was read last, once."""
        end = self._place + wanted
        taken = self._chunk[self._place : end]
        self._place = min(end, len(self._chunk))
        if len(taken) == wanted:
            return taken
        parts = [taken]
        missing = wanted - len(taken)
        while missing and self.read_bytes < self._byte_size:
            self._read(missing)
            parts.append(self._chunk[:missing])
            self._place = len(parts[-1])
            missing -= self._place
        return b"".join(parts)

    def _read(self, wanted: int) -> None:
        self._chunk, self._place = b"", 0  # freed before the next is there
        length = min(max(_READ_BYTES, wanted), self._byte_size - self.read_bytes)
        self._chunk = self._store.get_range(self._key, self.read_bytes, length)
        if not self._chunk:
            raise IntegrityError(f"{self.where} became shorter while it was read")
        self._hash.update(self._chunk)
        self.read_bytes += len(self._chunk)


def _stored_blocks(parts: Sequence[Buffer]) -> Iterator[Any]:
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, len(view), _STORED_MAX):
            piece = view[start : start + _STORED_MAX]
            yield struct.pack("<BHH", 0, len(piece), len(piece) ^ 0xFFFF)
            yield piece
