"""Fingerprints: one short text that two equal collections share.

A record hashes to four 64-bit lanes from its key and the digests of the fields it
has; a fingerprint is the record count and the wrapping sum of the lanes. So it does
not depend on order, a delta updates it without reading the rest, and a live engine,
a snapshot and a restored engine of another product can be compared.

Not a defence against an adversary who chooses records (sums can be steered); the
SHA-256 of objects is. Format: docs/format.md#fingerprint
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from recollect.errors import IntegrityError
from recollect.values import batch as columns

LANE_COUNT = 4

_LANE_SEEDS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], dtype=np.uint64
)
_TEXT = re.compile(r"(0|[1-9][0-9]*)-([0-9a-f]{64})")

Lanes: TypeAlias = npt.NDArray[np.uint64]


class Fingerprint(msgspec.Struct, frozen=True):
    """Record count and lane sums of a set of records. A value; adding returns a new one."""

    record_count: int = 0
    lanes: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __str__(self) -> str:
        """Return `<count>-<64 hex digits>`: the form in snapshots and reports."""
        return f"{self.record_count}-" + "".join(f"{lane:016x}" for lane in self.lanes)

    def __add__(self, other: Fingerprint) -> Fingerprint:
        """Return the fingerprint of both sets together; they must share no record."""
        return _of_lanes(self.record_count + other.record_count, self, other, 1)

    def __sub__(self, other: Fingerprint) -> Fingerprint:
        """Return the fingerprint with the records of `other` taken out."""
        return _of_lanes(self.record_count - other.record_count, self, other, -1)


def parse_fingerprint(text: str) -> Fingerprint:
    """Read the text form; IntegrityError if it is none."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise IntegrityError(f"{text!r} is not a fingerprint")
    lanes = [int(match[2][start : start + 16], 16) for start in range(0, 64, 16)]
    return Fingerprint(int(match[1]), (lanes[0], lanes[1], lanes[2], lanes[3]))


def fingerprint_batch(batch: pa.RecordBatch) -> Fingerprint:
    """Fingerprint the records of a batch that has `key` and digest columns (`op` must be UPSERT).

    Cost: a few vectorized passes over 16 bytes per field; the digests are not recomputed.
    """
    count = batch.num_rows
    if count == 0:
        return Fingerprint()
    state = _hash_keys(batch.column(columns.KEY))
    for name in sorted(field.name for field in batch.schema if _is_digest(field.name)):
        _mix_column(state, name, batch.column(name))
    a, b, c, d = (int(np.sum(lane, dtype=np.uint64)) for lane in state)
    return Fingerprint(count, (a, b, c, d))


def _is_digest(name: str) -> bool:
    return name == columns.PAYLOAD_DIGEST or name.startswith(columns.VECTOR_DIGEST_PREFIX)


def _hash_keys(keys: pa.BinaryArray) -> Lanes:
    """Start each record's lanes from the XXH3-128 of its key. Shapes: (n,) → (4, n)."""
    digests = b"".join(map(xxhash.xxh3_128_digest, keys.to_pylist()))
    words = np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
    state = np.empty((LANE_COUNT, len(words)), dtype=np.uint64)
    for lane in range(LANE_COUNT):
        state[lane] = _mix(words[:, 0] ^ _LANE_SEEDS[lane])
        state[lane] = _mix(state[lane] + words[:, 1])
    return state


def _mix_column(state: Lanes, name: str, digests: pa.FixedSizeBinaryArray) -> None:
    """Fold one digest column into the lanes; records without the field keep theirs."""
    salt = np.frombuffer(xxhash.xxh3_128_digest(name.encode()), dtype="<u8")
    buffer = digests.buffers()[1]
    start = digests.offset * 16
    words = np.frombuffer(buffer, dtype="<u8", count=len(digests) * 2, offset=start).reshape(-1, 2)
    present = None
    if digests.null_count:
        present = digests.is_valid().to_numpy(zero_copy_only=False)
    for lane in range(LANE_COUNT):
        mixed = _mix(state[lane] ^ (words[:, 0] + salt[0]))
        mixed = _mix(mixed + (words[:, 1] ^ salt[1]))
        state[lane] = mixed if present is None else np.where(present, mixed, state[lane])


def _mix(words: Lanes) -> Lanes:
    """The 64-bit finalizer of SplitMix64. Source: Steele, Lea, Flood 2014; Stafford's mix 13."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _of_lanes(count: int, left: Fingerprint, right: Fingerprint, sign: int) -> Fingerprint:
    pairs = zip(left.lanes, right.lanes, strict=True)
    a, b, c, d = ((ours + sign * theirs) % 2**64 for ours, theirs in pairs)
    return Fingerprint(count, (a, b, c, d))
