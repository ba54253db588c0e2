r"""Frames, headers and seals of the log: bytes and back. All numbers are little-endian.

====================  =====  =====================================================================
segment header        bytes
====================  =====  =====================================================================
magic                 8      ``RCLLOG\r\n``
format                4      1
reserved              4      0
first commit          8      number of the first commit that the segment holds
database              16     id of the database
created               8      microseconds since 1970, UTC
checksum              4      CRC-32C of the 48 bytes before
====================  =====  =====================================================================

====================  =====  =====================================================================
frame (one commit)    bytes
====================  =====  =====================================================================
magic                 4      ``RCLC``
body size             4
body checksum         4      CRC-32C of the body
commit                8      its number
synced                8      number of the last commit that was known to be on the medium
time                  8      microseconds since 1970, UTC; never smaller than the commit before
checksum              4      CRC-32C of the 36 bytes before
body                         MessagePack, see `database.operation`
====================  =====  =====================================================================

====================  =====  =====================================================================
seal (at the end)     bytes
====================  =====  =====================================================================
magic                 4      ``RCLE``
reserved              4      0
first, last commit    16     last is first - 1 for a segment without commits
size                  8      bytes before the seal
SHA-256               32     of these bytes
checksum              4      CRC-32C of the 64 bytes before
====================  =====  =====================================================================

`synced` tells a torn write from damage: a broken frame was never acknowledged unless a later,
intact frame says that it was on the medium. Format: docs/reference/database-format.md
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import google_crc32c
import numpy as np

LOG_FORMAT = 1

SEGMENT_MAGIC = b"RCLLOG\r\n"
FRAME_MAGIC = b"RCLC"
SEAL_MAGIC = b"RCLE"

_HEADER = struct.Struct("<8sIIQ16sq")
_FRAME = struct.Struct("<4sIIQQq")
_SEAL = struct.Struct("<4sIQQQ32s")
_CHECKSUM = struct.Struct("<I")

_FRAME_AND_CHECKSUM = struct.Struct("<4sIIQQqI")
_COPY_BYTES_MAX = 1 << 16  # copying less is cheaper than making a view

HEADER_SIZE = _HEADER.size + 4
FRAME_SIZE = _FRAME.size + 4
SEAL_SIZE = _SEAL.size + 4

_crc = google_crc32c.value


class SegmentHeader(NamedTuple):
    """What stands at the beginning of a segment."""

    format: int
    first_ts: int
    database_id: bytes
    created_us: int


class FrameHeader(NamedTuple):
    """What stands before the body of a commit."""

    body_size: int
    body_checksum: int
    commit_ts: int
    synced_ts: int
    time_us: int


class Seal(NamedTuple):
    """What closes a segment; `byte_size` and `sha256` are of everything before it."""

    first_ts: int
    last_ts: int
    byte_size: int
    sha256: bytes


def encode_header(header: SegmentHeader) -> bytes:
    """Encode a segment's header."""
    plain = _HEADER.pack(
        SEGMENT_MAGIC, header.format, 0, header.first_ts, header.database_id, header.created_us
    )
    return plain + _CHECKSUM.pack(_crc(plain))


def decode_header(data: bytes) -> SegmentHeader | None:
    """Decode a segment's header; None if these bytes are none. The format may be any."""
    plain = _checked(data[:HEADER_SIZE], _HEADER.size)
    if plain is None:
        return None
    magic, version, _, first_ts, database_id, created_us = _HEADER.unpack(plain)
    return SegmentHeader(version, first_ts, database_id, created_us) if magic == SEGMENT_MAGIC else None


def encode_frame_header(
    body: bytes, body_checksum: int, *, commit_ts: int, synced_ts: int, time_us: int
) -> bytes:
    """Encode what stands before the body of a commit."""
    plain = _FRAME.pack(FRAME_MAGIC, len(body), body_checksum, commit_ts, synced_ts, time_us)
    return plain + _CHECKSUM.pack(_crc(plain))


def decode_frame_header(data: memoryview | bytes, offset: int) -> FrameHeader | None:
    """Decode the frame header at `offset`; None if there is none, or a broken one."""
    plain = _checked(bytes(data[offset : offset + FRAME_SIZE]), _FRAME.size)
    if plain is None:
        return None
    magic, *fields = _FRAME.unpack(plain)
    return FrameHeader(*fields) if magic == FRAME_MAGIC else None


def next_frame(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """Return commit, time and the bounds of the body of the frame at `offset`; None if it is not whole.

    The same checks as decoding header and body apart; a replay does this a million times.
    """
    start = offset + FRAME_SIZE
    if start > len(data):
        return None
    magic, size, body_sum, commit_ts, _, time_us, header_sum = _FRAME_AND_CHECKSUM.unpack_from(data, offset)
    if magic != FRAME_MAGIC or _crc(data[offset : start - 4]) != header_sum:
        return None
    end = start + size
    if end > len(data):
        return None
    body = data[start:end] if size < _COPY_BYTES_MAX else np.frombuffer(data, np.uint8, size, start)
    return (commit_ts, time_us, start, end) if _crc(body) == body_sum else None


def encode_seal(seal: Seal) -> bytes:
    """Encode what closes a segment."""
    plain = _SEAL.pack(SEAL_MAGIC, 0, seal.first_ts, seal.last_ts, seal.byte_size, seal.sha256)
    return plain + _CHECKSUM.pack(_crc(plain))


def decode_seal(data: memoryview | bytes, offset: int) -> Seal | None:
    """Decode the seal at `offset`; None if there is none, or a broken one."""
    plain = _checked(bytes(data[offset : offset + SEAL_SIZE]), _SEAL.size)
    if plain is None:
        return None
    magic, _, first_ts, last_ts, byte_size, sha256 = _SEAL.unpack(plain)
    return Seal(first_ts, last_ts, byte_size, sha256) if magic == SEAL_MAGIC else None


def checksum(body: bytes | memoryview) -> int:
    """Return the CRC-32C of a body."""
    # The C function takes no memoryview; an array over the same memory costs no copy.
    return int(_crc(body if isinstance(body, bytes) else np.frombuffer(body, dtype=np.uint8)))


def _checked(data: bytes, plain_size: int) -> bytes | None:
    if len(data) != plain_size + 4:
        return None
    plain = data[:plain_size]
    return plain if _CHECKSUM.unpack_from(data, plain_size)[0] == _crc(plain) else None
