"""Compare a collection part by part: each part alone, in any process, against the same earlier state.

Whoever compares a part reads the earlier state's whole index and keeps of it the records that the part has
now. A bit for each record of the index tells which those are. Put together, the bits of all parts prove two
things that no part can know: that no record is in two parts, and which records are in none, and so are gone.
A record that went from one part to another is therefore never taken for a deleted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
import zstandard

from recollect.errors import IntegrityError
from recollect.segments.merge import Groups, windows
from recollect.segments.reader import Indexed
from recollect.values import batch as columns
from recollect.values.key import display_key

Bits = npt.NDArray[np.uint8]
_MOVING = "wait until resharding has ended, then back up again"


class PartIndex:
    """The records of an earlier state that one part of the collection has now. One thread at a time.

    Args:
        old: The earlier state.
        keys: Opens a stream of the part's keys, ascending; asked for once for each reading.

    Attributes:
        presence: Packed bits, one for each record of the earlier state, in key order; complete once
            `index` was read to its end.
    """

    def __init__(self, old: Indexed, keys: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._old = old
        self._keys = keys
        self.presence = b""

    def index(self) -> Iterator[pa.RecordBatch]:
        """Yield what `old.index()` does, without the records that the part does not have."""
        masks = _BitWriter()
        for before, now in windows([self._old.index(), self._keys()]):
            if before is None:
                continue
            here = np.zeros(before.num_rows, dtype=bool)
            if now is not None:
                found = pc.is_in(before.column(columns.KEY), value_set=now.column(columns.KEY))
                here = found.to_numpy(zero_copy_only=False)
            masks.add(here)
            if here.any():
                yield before if here.all() else before.filter(pa.array(here))
        self.presence = masks.packed()


class KeySet:
    """The keys of the changes that pass, as hashes: small enough to be sent and compared."""

    def __init__(self) -> None:
        self._hashes: list[npt.NDArray[np.uint64]] = []

    def gather(self, changes: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass batches on."""
        for batch in changes:
            keys = batch.column(columns.KEY).to_pylist()
            self._hashes.append(np.fromiter(map(xxhash.xxh3_64_intdigest, keys), np.uint64, len(keys)))
            yield batch

    def packed(self) -> bytes:
        """Return all hashes, 8 bytes each, compressed."""
        return zstandard.compress(np.concatenate([*self._hashes, np.empty(0, np.uint64)]).tobytes())


def missing_from_all(old: Indexed, presences: Sequence[bytes], record_count: int) -> Iterator[pa.RecordBatch]:
    """Yield the records of the earlier state that no part has, ascending by key.

    Raises:
        IntegrityError: A record is in two parts, or a part saw another number of records.
    """
    union = _union(old, presences, record_count)
    bits = np.unpackbits(union, count=record_count).astype(bool)
    if bits.all():
        return
    start = 0
    for batch in old.index():
        gone = ~bits[start : start + batch.num_rows]
        start += batch.num_rows
        if gone.any():
            yield batch.filter(pa.array(gone))


def check_disjoint(key_sets: Sequence[bytes], streams: Callable[[], list[Iterator[pa.RecordBatch]]]) -> None:
    """Make sure that no key stands in the changes of two parts.

    Hashes are compared; only where two are equal, the keys themselves (`streams`, one a part) are read.

    Raises:
        IntegrityError: One does.
    """
    if len(key_sets) < 2:
        return
    parts = [np.frombuffer(zstandard.decompress(packed), np.uint64) for packed in key_sets]
    everything = np.concatenate([*parts, np.empty(0, np.uint64)])
    if len(np.unique(everything)) == len(everything):
        return
    for window in windows(streams()):
        batches = [batch for batch in window if batch is not None]
        groups = Groups(batches)
        if len(groups.starts) != len(groups.order):
            ends = np.append(groups.starts[1:], len(groups.order))
            twice = groups.order[groups.starts[np.flatnonzero(ends - groups.starts > 1)[0]]]
            raise _in_two(groups.keys[int(twice)].as_py())


def _union(old: Indexed, presences: Sequence[bytes], record_count: int) -> Bits:
    union = np.zeros(-(-record_count // 8), dtype=np.uint8)
    for packed in presences:
        bits = np.frombuffer(zstandard.decompress(packed), np.uint8)
        if bits.shape != union.shape:
            raise IntegrityError(
                f"the parent state has {record_count} records, and a worker read another number of them",
                "run `recollect verify --read-data`; `recollect backup --full` does without the parent",
            )
        twice = union & bits
        if twice.any():
            raise _in_two(_key_at(old, int(np.flatnonzero(np.unpackbits(twice))[0])))
        union |= bits
    return union


def _key_at(old: Indexed, number: int) -> bytes:
    for batch in old.index():
        if number < batch.num_rows:
            return bytes(batch.column(columns.KEY)[number].as_py())
        number -= batch.num_rows
    return b""


def _in_two(key: bytes) -> IntegrityError:
    return IntegrityError(f"record {display_key(key)} is in two shards of the collection", _MOVING)


class _BitWriter:
    """Packs masks one after the other into bits."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._rest = np.zeros(0, dtype=bool)

    def add(self, mask: npt.NDArray[np.bool_]) -> None:
        """Append a mask."""
        whole = np.concatenate([self._rest, mask])
        count = len(whole) - len(whole) % 8
        self._packed.append(np.packbits(whole[:count]).tobytes())
        self._rest = whole[count:]

    def packed(self) -> bytes:
        """Return all bits, compressed."""
        return zstandard.compress(b"".join([*self._packed, np.packbits(self._rest).tobytes()]))
