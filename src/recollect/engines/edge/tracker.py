"""The files in which a shard keeps the id and the version of every record, read as whole columns.

The engine tells versions one Python object at a time; these files hold them as arrays. They are
no public interface, so nothing here is taken on trust: a layout that is not exactly the known one
gives None, and the caller asks the engine instead. `versions.py` compares what is read with the
engine's own answers.

Layouts, of segment version 0.6.0 (all numbers little-endian; source: qdrant, `lib/segment/src/id_tracker`):

==============================  =====================================================================
`id_tracker.mappings`           count u64; then, by ascending slot: kind u8 (0 number, 1 UUID), id, slot u32
`id_tracker.versions`           u64 of each slot
`id_tracker.deleted`            one bit of each slot, lowest first, padded
`mutable_id_tracker.mappings`   a log: kind u8 (1, 2: number, UUID put at slot; 3, 4: taken out), id, slot u32
`mutable_id_tracker.versions`   u64 of each slot
==============================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.values.key import integer_keys, uuid_keys

SEGMENT_VERSION = b"0.6.0"
_LOG_RUNS_SHARE = 8
"""A log is read in runs of entries of one kind; one with shorter runs than this is left to the engine."""

Words = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

GONE = -1


class Listing(msgspec.Struct, frozen=True):
    """All records of a shard, ascending by key. Shapes: n keys, versions (n,)."""

    keys: pa.BinaryArray
    versions: Words


class _Ids(msgspec.Struct, frozen=True):
    """Where ids stand.

    Shapes: numbers (n,) at number_slots (n,); uuids (m, 2), high half first, at uuid_slots (m,).
    """

    numbers: Words
    number_slots: Slots
    uuids: Words
    uuid_slots: Slots


def read_listing(directory: Path, segments: Collection[str]) -> Listing | None:
    """Read id and version of every record of these segments; None if any file is not as known.

    The shard must be open, hence locked, and flushed. A record that stands in two segments is not as
    known: which of them counts is the engine's business.
    """
    numbers, number_versions, uuids, uuid_versions = [], [], [], []
    for segment in segments:
        place = directory / "segments" / segment
        try:
            found = _read_segment(place)
        except (OSError, ValueError):
            return None
        if found is None:
            return None
        ids, versions = found
        numbers.append(ids.numbers)
        number_versions.append(versions[ids.number_slots])
        uuids.append(ids.uuids)
        uuid_versions.append(versions[ids.uuid_slots])
    if not numbers:
        return None
    return _merged(
        np.concatenate(numbers),
        np.concatenate(number_versions),
        np.concatenate(uuids),
        np.concatenate(uuid_versions),
    )


def _merged(numbers: Words, number_versions: Words, uuids: Words, uuid_versions: Words) -> Listing | None:
    by_number = np.argsort(numbers, kind="stable")
    numbers = numbers[by_number]
    by_uuid = np.lexsort((uuids[:, 1], uuids[:, 0]))
    uuids = uuids[by_uuid]
    if (numbers[1:] == numbers[:-1]).any() or (uuids[1:] == uuids[:-1]).all(axis=1).any():
        return None
    parts = [integer_keys(numbers)]
    if len(uuids):
        parts.append(uuid_keys(uuids.astype(">u8").view(np.uint8).reshape(-1, 16)))
    keys = pa.concat_arrays(parts) if len(parts) > 1 else parts[0]
    return Listing(keys, np.concatenate([number_versions[by_number], uuid_versions[by_uuid]]))


def _read_segment(place: Path) -> tuple[_Ids, Words] | None:
    """Read one segment's ids and the version of each of its slots; None if it is not as known."""
    if (place / "version.info").read_bytes() != SEGMENT_VERSION:
        return None
    trackers = {path.name for path in place.iterdir() if "id_tracker" in path.name}
    if trackers == {"id_tracker.mappings", "id_tracker.versions", "id_tracker.deleted"}:
        return _read_fixed(place)
    if trackers == {"mutable_id_tracker.mappings", "mutable_id_tracker.versions"}:
        return _read_log(place)
    if not trackers:  # nothing was written yet; the count of records tells whether that is so
        nothing = np.empty(0, dtype=np.uint64)
        slots = np.empty(0, dtype=np.int64)
        return _Ids(nothing, slots, nothing.reshape(0, 2), slots), nothing
    return None


def _read_fixed(place: Path) -> tuple[_Ids, Words] | None:
    data = np.fromfile(place / "id_tracker.mappings", dtype=np.uint8)
    versions = np.fromfile(place / "id_tracker.versions", dtype="<u8")
    deleted = np.fromfile(place / "id_tracker.deleted", dtype=np.uint8)
    count = int(data[:8].view("<u8")[0])
    entries = _entries(data[8:], {0: (8, True), 1: (16, True)})
    if entries is None or len(versions) != count or 8 * len(deleted) < count:
        return None
    kinds, numbers, uuids, slots = entries
    if not np.array_equal(slots, np.arange(count)):
        return None
    live = ~np.unpackbits(deleted, count=count, bitorder="little").view(bool)
    is_number = kinds == 0
    at, other = np.flatnonzero(is_number), np.flatnonzero(~is_number)
    number_live, uuid_live = live[at], live[other]
    return _Ids(numbers[number_live], at[number_live], uuids[uuid_live], other[uuid_live]), versions


def _read_log(place: Path) -> tuple[_Ids, Words] | None:
    data = np.fromfile(place / "mutable_id_tracker.mappings", dtype=np.uint8)
    versions = np.fromfile(place / "mutable_id_tracker.versions", dtype="<u8")
    entries = _entries(data, {1: (8, True), 2: (16, True), 3: (8, False), 4: (16, False)})
    if entries is None:
        return None
    kinds, numbers, uuids, slots = entries
    is_number = (kinds == 1) | (kinds == 3)
    number_rows = _last_rows(np.argsort(numbers, kind="stable"), numbers.reshape(-1, 1))
    uuid_rows = _last_rows(np.lexsort((uuids[:, 1], uuids[:, 0])), uuids)
    number_slots = slots[is_number][number_rows]
    uuid_slots = slots[~is_number][uuid_rows]
    number_live, uuid_live = number_slots != GONE, uuid_slots != GONE
    ids = _Ids(
        numbers[number_rows][number_live],
        number_slots[number_live],
        uuids[uuid_rows][uuid_live],
        uuid_slots[uuid_live],
    )
    taken = np.concatenate([ids.number_slots, ids.uuid_slots])
    if len(taken) and (taken.max() >= len(versions) or len(np.unique(taken)) != len(taken)):
        return None
    return ids, versions


def _last_rows(order: Slots, values: Words) -> Slots:
    """Return the last row of each distinct value.

    Shapes: order (n,), which sorts values (n, k) stably → (m,).
    """
    ordered = values[order]
    is_last = np.ones(len(order), dtype=bool)
    is_last[:-1] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order[is_last]


def _entries(
    data: Bytes, kinds: dict[int, tuple[int, bool]]
) -> tuple[npt.NDArray[np.uint8], Words, Words, Slots] | None:
    """Split entries: kind u8, id of 8 or 16 bytes, slot u32 or none; `kinds` tells which.

    Returns:
        Kinds (n,), the numbers among the ids (k,), the UUIDs (n - k, 2), slots (n,), `GONE` where an entry
        has none. None if the bytes are no such entries, or change kind too often to be read in columns.
    """
    found: list[npt.NDArray[np.uint8]] = []
    numbers: list[Words] = [np.empty(0, dtype=np.uint64)]
    uuids: list[Words] = [np.empty((0, 2), dtype=np.uint64)]
    slots: list[Slots] = [np.empty(0, dtype=np.int64)]
    for kind, rows in _runs(data, {kind: 1 + size + 4 * placed for kind, (size, placed) in kinds.items()}):
        if kind not in kinds or len(found) > 64 + len(data) // (9 * _LOG_RUNS_SHARE):
            return None
        size, placed = kinds[kind]
        ids = np.ascontiguousarray(rows[:, 1 : 1 + size])
        if size == 8:
            numbers.append(ids.view("<u8").reshape(-1).astype(np.uint64, copy=False))
        else:
            uuids.append(ids.view(">u8").reshape(-1, 2).astype(np.uint64))
        found.append(np.full(len(rows), kind, dtype=np.uint8))
        gone = np.full(len(rows), GONE, dtype=np.int64)
        slots.append(_slots(rows[:, 1 + size :]) if placed else gone)
    every_kind = np.concatenate(found) if found else np.empty(0, dtype=np.uint8)
    return every_kind, np.concatenate(numbers), np.concatenate(uuids), np.concatenate(slots)


def _slots(cells: Bytes) -> Slots:
    return np.ascontiguousarray(cells).view("<u4").reshape(-1).astype(np.int64)


def _runs(data: Bytes, sizes: dict[int, int]) -> Iterator[tuple[int, Bytes]]:
    """Yield runs of entries of one kind, as rows; an unknown or cut off entry comes as kind GONE."""
    start = 0
    while start < len(data):
        kind = int(data[start])
        size = sizes.get(kind, 0)
        whole = (len(data) - start) // size if size else 0
        if not whole:
            yield GONE, data[start:start]
            return
        rows = data[start : start + whole * size].reshape(whole, size)
        other = rows[:, 0] != kind
        length = int(other.argmax()) if other.any() else whole
        yield kind, rows[:length]
        start += length * size
