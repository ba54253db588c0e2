"""A vector collection held still: whole batches of what it was at one commit.

For readers of everything (snapshots, export, proof): no object per record, no lock while
reading, and writers go on. Freed rows pile up meanwhile, so hold as briefly as the work allows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from recollect.database.hnsw import HnswIndex
from recollect.database.vectors import BLOCK_ROWS, Matrix, Slots, VectorTable
from recollect.values.schema import CollectionSchema


class VectorBatch(NamedTuple):
    """Some rows. Shapes: n keys, vectors (n, d), n metadata (canonical JSON, None for none)."""

    keys: list[bytes]
    vectors: Matrix
    metadata: list[bytes | None]


class HeldVectors:
    """The rows of one collection as of one commit. A context manager; safe to share until it ends.

    Attributes:
        schema: Of the collection; None if it does not exist.
        commit_ts: The commit.
        slots: Slots of all rows, ascending; what `batch` takes. Shapes: (n,).
        index: The HNSW index that it had, or None; it may be behind the rows.
    """

    def __init__(self, table: VectorTable | None, lock: threading.Lock, commit_ts: int) -> None:
        """Pin the table; the caller holds `lock`."""
        self._table = table
        self._lock = lock
        self.schema: CollectionSchema | None = None if table is None else table.schema
        self.commit_ts = commit_ts
        self.index: HnswIndex | None = None if table is None else table.index
        self._view = None if table is None else table.pin()
        self.slots: Slots = np.zeros(0, dtype=np.int64) if self._view is None else self._view.live_slots()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __len__(self) -> int:
        return len(self.slots)

    def batch(self, slots: Slots) -> VectorBatch:
        """Copy rows out. Shapes: slots (n,), a part of `self.slots`."""
        view = self._view
        if view is None:
            return VectorBatch([], np.zeros((0, 0), dtype=np.float32), [])
        numbers = slots.tolist()
        keys, metadata = view.keys, view.metadata
        return VectorBatch(
            [keys[slot] for slot in numbers], view.vectors(slots), [metadata[slot] for slot in numbers]
        )

    def matrices(self) -> Iterator[Matrix]:
        """Yield all vectors, in the order of `slots`. Shapes: (n, d) each."""
        for start in range(0, len(self.slots), BLOCK_ROWS):
            yield self.batch(self.slots[start : start + BLOCK_ROWS]).vectors

    def commits(self, slots: Slots) -> npt.NDArray[np.uint64]:
        """Return the commit that wrote each row. Shapes: (n,) → (n,)."""
        return np.zeros(0, dtype=np.uint64) if self._view is None else self._view.commits(slots)

    def release(self) -> None:
        """Let freed rows be used again. Safe to call twice."""
        if self._view is not None and self._table is not None:
            self._view = None
            with self._lock:
                self._table.unpin()
