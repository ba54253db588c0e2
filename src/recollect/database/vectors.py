"""The table of one vector collection: rows that never change in place.

A write puts its vector into a fresh slot and points the id there; the old slot is freed.
Blocks of slots never move. So whoever remembers a slot, remembers the value: a pinned
reader and a frozen checkpoint keep slot numbers, and a freed slot is given out again only
when nobody is left who may look at it (`_Limbo`). Freezing costs a few pointers, whatever
the size, and no write ever waits for a copy. See docs/decisions/0040-views-of-the-database.md

One writer at a time, and no reader in between: the caller holds the database's table lock
for every method. What a pin or a frozen view returns may be used without it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from recollect.database.dirty import DirtyKeys
from recollect.database.hnsw import HnswIndex
from recollect.database.key_map import KeyMap
from recollect.values.schema import CollectionSchema, VectorSpec

BLOCK_BITS = 12
BLOCK_ROWS = 1 << BLOCK_BITS  # 6 MiB of 384 dimensions: one BLAS call of about a millisecond
_MASK = BLOCK_ROWS - 1
_FREED_AT_ONCE = 1024

Matrix = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]
Commits = int | npt.NDArray[np.uint64]

DELETED = -1


def _no_changes() -> DirtyKeys:
    return DirtyKeys(make=KeyMap)


class Block:
    """Fixed memory for `BLOCK_ROWS` rows; pages that no row touched cost nothing."""

    __slots__ = ("commits", "is_live", "norms", "rows")

    def __init__(self, dimension: int) -> None:
        self.rows: Matrix = np.empty((BLOCK_ROWS, dimension), dtype=np.float32)
        self.norms: Matrix = np.zeros(BLOCK_ROWS, dtype=np.float32)
        self.is_live = np.zeros(BLOCK_ROWS, dtype=np.bool_)
        self.commits = np.zeros(BLOCK_ROWS, dtype=np.uint64)


class VectorView(msgspec.Struct, frozen=True):
    """The rows as they were when it was taken. Valid until it is released.

    Attributes:
        blocks: All blocks; their rows below stay as they are, also while writes go on.
        live: For each block which rows were live. Shapes: (BLOCK_ROWS,) bool each.
        keys: Record key by slot.
        metadata: JSON by slot, None for none.
        row_count: Live rows.
    """

    blocks: tuple[Block, ...]
    live: tuple[npt.NDArray[np.bool_], ...]
    keys: list[bytes]
    metadata: list[bytes | None]
    row_count: int

    def vectors(self, slots: Slots) -> Matrix:
        """Copy rows out. Shapes: slots (n,) → (n, d)."""
        return gather(self.blocks, slots)

    def rows(self, slots: Slots) -> Matrix:
        """Return rows for reading, without a copy where they are neighbours. Shapes: slots (n,) → (n, d)."""
        if len(slots) and slots[0] >> BLOCK_BITS == slots[-1] >> BLOCK_BITS:
            first, count = int(slots[0]) & _MASK, len(slots)
            if np.all(slots[1:] - slots[:-1] == 1):
                return self.blocks[int(slots[0]) >> BLOCK_BITS].rows[first : first + count]
        return self.vectors(slots)

    def commits(self, slots: Slots) -> npt.NDArray[np.uint64]:
        """Return the commit that wrote each row. Shapes: slots (n,) → (n,)."""
        return gather_commits(self.blocks, slots)

    def live_slots(self) -> Slots:
        """Return the slots of all live rows, ascending."""
        found = [np.flatnonzero(live) + (number << BLOCK_BITS) for number, live in enumerate(self.live)]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


class FrozenVectors(msgspec.Struct, frozen=True):
    """What changed between two freezes, and the rows to read it from. Valid until it is released.

    Attributes:
        schema: Of the collection.
        changes: Key → slot, or DELETED.
        row_count: Live rows at the freeze.
    """

    schema: CollectionSchema
    changes: DirtyKeys
    blocks: tuple[Block, ...]
    metadata: list[bytes | None]
    row_count: int


class VectorTable:
    """One collection in memory. See the module for the rules of locking."""

    def __init__(self, schema: CollectionSchema) -> None:
        self.schema = schema
        self.spec: VectorSpec = schema.vectors[0]
        self.dimension = self.spec.dimension
        self._slots: KeyMap[int] = KeyMap()
        self._keys: list[bytes] = []
        self._metadata: list[bytes | None] = []
        self._blocks: list[Block] = []
        self._free: list[int] = []
        self._limbo: list[int] = []
        self._pin_count = 0
        self._dirty = _no_changes()
        self.index: HnswIndex | None = None  # may be behind; it tells by each row's commit
        self.revision = 0  # counts writes; an index compares it to know whether it is behind
        self.change_count = 0  # rows written and deleted
        self.indexed_at: int | None = None  # `change_count` when the database last began an index
        self.is_index_automatic = True  # until a program attaches or drops one

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    def keys(self) -> list[bytes]:
        """Return all record keys, in no order."""
        return list(self._slots)

    def row(self, key: bytes) -> tuple[Matrix, bytes | None, int] | None:
        """Return a copy of the vector, its metadata and the commit that wrote it; None if there is none."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        block = self._blocks[slot >> BLOCK_BITS]
        return block.rows[slot & _MASK].copy(), self._metadata[slot], int(block.commits[slot & _MASK])

    def locate(self, keys: Sequence[bytes | None]) -> tuple[Slots, npt.NDArray[np.uint64]]:
        """Return the slot of each key and the commit that wrote it; -1 and 0 for None and unknown keys."""
        find = self._slots.get
        # Not from a list: that converts all numbers in one step, with the interpreter's lock held.
        found = (-1 if key is None or (slot := find(key)) is None else slot for key in keys)
        slots = np.fromiter(found, dtype=np.int64, count=len(keys))
        commits = np.zeros(len(slots), dtype=np.uint64)
        known = slots >= 0
        commits[known] = gather_commits(self._blocks, slots[known])
        return slots, commits

    def set_rows(
        self, keys: Sequence[bytes], vectors: Matrix, metadata: Sequence[bytes | None], commits: Commits
    ) -> None:
        """Set vectors; empty `metadata` keeps what each id has. Shapes: n keys, vectors (n, d).

        `commits` is the commit that writes them, or that of each row.
        """
        self.revision += 1
        self.change_count += len(keys)
        slots = self._take(len(keys))
        self._fill(slots, vectors, commits)
        by_key, dirty, released = self._slots, self._dirty.current, list[int]()
        places = dict(zip(keys, slots, strict=True))
        if len(places) == len(keys) and by_key.isdisjoint(places):
            self._set_new(places, metadata)
            return
        for row, (key, slot) in enumerate(zip(keys, slots, strict=True)):
            old = by_key.get(key)
            if old is not None:
                released.append(old)
            if metadata:
                self._metadata[slot] = metadata[row]
            else:
                self._metadata[slot] = None if old is None else self._metadata[old]
            self._keys[slot] = key
            by_key[key] = slot
            dirty[key] = slot
        self._release(released)

    def _set_new(self, places: dict[bytes, int], metadata: Sequence[bytes | None]) -> None:
        """Set rows of keys that the table does not have, each once; their vectors are in their slots."""
        self._slots.update(places)
        self._dirty.current.update(places)
        first = len(self._keys) - len(places)
        if list(places.values()) == list(range(first, len(self._keys))):  # all of them fresh
            self._keys[first:] = places
            if metadata:
                self._metadata[first:] = metadata
            return
        for row, (key, slot) in enumerate(places.items()):
            self._keys[slot] = key
            self._metadata[slot] = metadata[row] if metadata else None

    def set_metadata(self, keys: Sequence[bytes], metadata: Sequence[bytes | None], commit_ts: int) -> int:
        """Replace the metadata of known ids; return how many were known."""
        self.revision += 1
        by_key, dirty, found = self._slots, self._dirty.current, 0
        for key, value in zip(keys, metadata, strict=True):
            old = by_key.get(key)
            if old is None:
                continue
            found += 1
            slot = self._take(1)[0]
            self._fill([slot], self._blocks[old >> BLOCK_BITS].rows[old & _MASK][np.newaxis], commit_ts)
            self._keys[slot], self._metadata[slot] = key, value
            by_key[key] = slot
            dirty[key] = slot
            self._release([old])
        self.change_count += found
        return found

    def delete(self, keys: Sequence[bytes]) -> int:
        """Delete known ids; return how many were known."""
        self.revision += 1
        released = []
        for key in keys:
            slot = self._slots.pop(key)
            if slot is not None:
                released.append(slot)
                self._dirty.current[key] = DELETED
        self._release(released)
        self.change_count += len(released)
        return len(released)

    def clear(self) -> int:
        """Delete everything; return how many rows there were."""
        return self.delete(list(self._slots))

    def mark_all_changed(self) -> None:
        """Let the next checkpoint write every row: the collection has a new name."""
        self._dirty = _no_changes()
        dirty = self._dirty.current
        for key, slot in self._slots.items():
            dirty[key] = slot

    def mark_clean(self) -> None:
        """Note that a checkpoint holds every row: the table was just loaded from it."""
        self._dirty = _no_changes()

    def attach(self, index: HnswIndex | None) -> None:
        """Take a program's index, or its wish to have none; the database makes no more of its own."""
        self.index, self.is_index_automatic = index, False

    def pin(self) -> VectorView:
        """Take a view for reading; `unpin` it as soon as possible, since freed rows pile up meanwhile."""
        self._pin_count += 1
        live = tuple(block.is_live.copy() for block in self._blocks)
        return VectorView(tuple(self._blocks), live, self._keys, self._metadata, len(self._slots))

    def freeze(self) -> FrozenVectors:
        """Take what changed since the last freeze that was settled; `unpin` it when it is sealed."""
        self._pin_count += 1
        changes = self._dirty.freeze()
        return FrozenVectors(self.schema, changes, tuple(self._blocks), self._metadata, len(self._slots))

    def settle(self, changes: DirtyKeys) -> None:
        """Forget frozen changes: a checkpoint holds them now."""
        self._dirty.settle(changes)

    def unpin(self) -> None:
        """End one `pin` or `freeze`; after the last, freed slots can be given out again."""
        self._pin_count -= 1
        if self._pin_count == 0:
            self._free.extend(self._limbo)
            self._limbo.clear()

    def free(self, lock: threading.Lock) -> None:
        """Forget all rows in small steps, unless somebody reads them. The caller does not hold `lock`."""
        with lock:
            if self._pin_count:
                return
            slots, dirty = self._slots, self._dirty.current
            lists: list[list[Any]] = [self._keys, self._metadata]
            blocks = self._blocks
            self._slots, self._dirty = KeyMap(), _no_changes()
            self._keys, self._metadata, self._blocks = [], [], []
            self._free, self._limbo = [], []
        slots.clear()
        dirty.clear()
        for column in lists:
            while column:
                del column[-_FREED_AT_ONCE:]
        while blocks:
            blocks.pop()

    def _take(self, count: int) -> list[int]:
        """Give out slots: freed ones first, then fresh ones in order."""
        reused = min(count, len(self._free))
        slots = [self._free.pop() for _ in range(reused)]
        start = len(self._keys)
        end = start + count - reused
        slots.extend(range(start, end))
        self._keys.extend([b""] * (end - start))
        self._metadata.extend([None] * (end - start))
        while len(self._blocks) << BLOCK_BITS < end:
            self._blocks.append(Block(self.dimension))
        return slots

    def _fill(self, slots: Sequence[int], vectors: Matrix, commits: Commits) -> None:
        if len(slots) == 1:
            block, row = self._blocks[slots[0] >> BLOCK_BITS], slots[0] & _MASK
            block.rows[row] = vectors[0]
            block.norms[row] = np.linalg.norm(vectors[0].astype(np.float64))
            block.is_live[row] = True
            block.commits[row] = commits if isinstance(commits, int) else commits[0]
            return
        numbers = np.asarray(slots, dtype=np.int64)
        owners = numbers >> BLOCK_BITS
        if np.all(numbers[1:] - numbers[:-1] == 1):
            self._fill_run(int(numbers[0]), vectors, commits)
            return
        for owner in np.unique(owners):
            chosen = np.flatnonzero(owners == owner)
            rows = numbers[chosen] & _MASK
            block = self._blocks[owner]
            part = vectors[chosen]
            block.rows[rows] = part
            block.norms[rows] = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
            block.is_live[rows] = True
            block.commits[rows] = commits if isinstance(commits, int) else commits[chosen]

    def _fill_run(self, first: int, vectors: Matrix, commits: Commits) -> None:
        """Fill neighbouring slots: each row is copied once."""
        end = first + len(vectors)
        for owner in range(first >> BLOCK_BITS, ((end - 1) >> BLOCK_BITS) + 1):
            base, block = owner << BLOCK_BITS, self._blocks[owner]
            low, high = max(first, base), min(end, base + BLOCK_ROWS)
            part = vectors[low - first : high - first]
            here = slice(low - base, high - base)
            block.rows[here] = part
            block.norms[here] = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
            block.is_live[here] = True
            block.commits[here] = commits if isinstance(commits, int) else commits[low - first : high - first]

    def _release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._blocks[slot >> BLOCK_BITS].is_live[slot & _MASK] = False
        (self._limbo if self._pin_count else self._free).extend(slots)


def gather(blocks: Sequence[Block], slots: Slots) -> Matrix:
    """Copy rows out of blocks. Shapes: slots (n,) → (n, d)."""
    dimension = blocks[0].rows.shape[1] if blocks else 0
    found = np.empty((len(slots), dimension), dtype=np.float32)
    owners = slots >> BLOCK_BITS
    if len(slots) and np.all(slots[1:] - slots[:-1] == 1):
        # Neighbours are copied as slices, without the interpreter's lock; picking rows would hold it.
        first, end = int(slots[0]), int(slots[-1]) + 1
        for owner in range(first >> BLOCK_BITS, ((end - 1) >> BLOCK_BITS) + 1):
            base = owner << BLOCK_BITS
            low, high = max(first, base), min(end, base + BLOCK_ROWS)
            found[low - first : high - first] = blocks[owner].rows[low - base : high - base]
        return found
    for owner in np.unique(owners):
        chosen = np.flatnonzero(owners == owner)
        found[chosen] = blocks[owner].rows[slots[chosen] & _MASK]
    return found


def gather_commits(blocks: Sequence[Block], slots: Slots) -> npt.NDArray[np.uint64]:
    """Return the commit that wrote each row. Shapes: slots (n,) → (n,)."""
    found = np.empty(len(slots), dtype=np.uint64)
    owners = slots >> BLOCK_BITS
    for owner in np.unique(owners):
        chosen = np.flatnonzero(owners == owner)
        found[chosen] = blocks[owner].commits[slots[chosen] & _MASK]
    return found
