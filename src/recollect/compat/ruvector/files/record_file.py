"""`metadata.bin.gz`: ids, metadata and digests, in blocks; what changed, in an incremental snapshot.

A block is of one kind:

- SET: rows that have a vector too; the n-th such block goes with the n-th block of the vectors.
- TOUCHED: rows of which only the metadata is new; their vector is in an older snapshot.
- REMOVED: ids that are gone.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from recollect.compat.ruvector.files.header import decode_header, encode_header
from recollect.compat.ruvector.files.member import encode_member
from recollect.errors import IntegrityError
from recollect.values.digest import DIGEST_SIZE

SET: Literal[0] = 0
TOUCHED: Literal[1] = 1
REMOVED: Literal[2] = 2
BlockKind: TypeAlias = Literal[0, 1, 2]

_FIELDS = struct.Struct("<QQQ")  # rows set, touched, removed
_BLOCK = struct.Struct("<IIIQ")  # kind, rows, bytes of keys, bytes of metadata


class RecordCounts(NamedTuple):
    """How many rows of each kind a file has."""

    set: int
    touched: int
    removed: int


class RecordBlock(NamedTuple):
    """Rows of one kind.

    Attributes:
        keys: Record keys.
        metadata: Canonical JSON, None for none; empty for REMOVED.
        digests: Of the vectors, `DIGEST_SIZE` bytes each, in one; empty unless SET.
    """

    kind: BlockKind
    keys: list[bytes]
    metadata: list[bytes | None]
    digests: bytes


def encode_record_header(snapshot_id: str, counts: RecordCounts) -> bytes:
    """Return the first member."""
    return encode_header("records", snapshot_id, _FIELDS.pack(*counts))


def decode_record_header(snapshot_id: str, raw: bytes) -> RecordCounts:
    """Return the counts."""
    fields = decode_header("records", snapshot_id, raw)
    if len(fields) != _FIELDS.size:
        raise IntegrityError("the header of the metadata has another length")
    return RecordCounts(*_FIELDS.unpack(fields))


def encode_records(block: RecordBlock, *, level: int) -> bytes:
    """Encode one block."""
    metadata = [one or b"" for one in block.metadata]
    keys = b"".join(block.keys)
    head = _BLOCK.pack(block.kind, len(block.keys), len(keys), sum(map(len, metadata)))
    ends = np.cumsum([len(key) for key in block.keys], dtype="<u4")
    parts = [ends.tobytes(), keys]
    if block.kind != REMOVED:
        parts.append(np.cumsum([len(one) for one in metadata], dtype="<u8").tobytes())
        parts.append(bytes(one is not None for one in block.metadata))
        parts.extend(metadata)
    return encode_member([head, block.digests], b"".join(parts), level=level)


def decode_records(raw: bytes) -> RecordBlock:
    """Decode one block.

    Raises:
        IntegrityError: Lengths do not add up.
    """
    if len(raw) < _BLOCK.size:
        raise IntegrityError("a block of metadata has no header")
    kind, rows, key_bytes, metadata_bytes = _BLOCK.unpack_from(raw)
    digest_bytes = DIGEST_SIZE * rows if kind == SET else 0
    fixed = _BLOCK.size + digest_bytes + 4 * rows + key_bytes
    wanted = fixed if kind == REMOVED else fixed + 9 * rows + metadata_bytes
    if kind not in {SET, TOUCHED, REMOVED} or len(raw) != wanted:
        raise IntegrityError(f"a block of {rows} records has {len(raw)} bytes and kind {kind}")
    place = _BLOCK.size
    digests = raw[place : place + digest_bytes]
    place += digest_bytes
    ends = np.frombuffer(raw, dtype="<u4", offset=place, count=rows)
    place += 4 * rows
    keys = _cut(raw, place, ends, key_bytes)
    if kind == REMOVED:
        return RecordBlock(REMOVED, keys, [], b"")
    place += key_bytes
    ends = np.frombuffer(raw, dtype="<u8", offset=place, count=rows)
    present = raw[place + 8 * rows : place + 9 * rows]
    values = _cut(raw, place + 9 * rows, ends, metadata_bytes)
    metadata = [value if there else None for value, there in zip(values, present, strict=True)]
    return RecordBlock(kind, keys, metadata, digests)


def _cut(raw: bytes, place: int, ends: np.ndarray, size: int) -> list[bytes]:
    bounds = [0, *ends.tolist()]
    if bounds[-1] != size or any(left > right for left, right in zip(bounds, bounds[1:], strict=False)):
        raise IntegrityError("the lengths in a block of metadata do not add up")
    return [raw[place + left : place + right] for left, right in zip(bounds, bounds[1:], strict=False)]
