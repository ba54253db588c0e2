"""Windowed merge: walk several streams of sorted batches side by side in bounded memory.

A *window* is a range of keys; it holds, of each stream, the rows in that range. Windows
ascend and do not overlap, so every key is met in exactly one window, with all its rows.
All row work inside a window is vectorized.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recollect.values import batch as columns


class _Cursor:
    """One stream and the batch that is being taken from it."""

    def __init__(self, stream: Iterator[pa.RecordBatch]) -> None:
        self._stream = stream
        self._batch: pa.RecordBatch | None = None
        self.last_key = b""

    def fill(self) -> bool:
        """Have a batch with rows at hand; False when the stream has ended."""
        while self._batch is None:
            batch = next(self._stream, None)
            if batch is None:
                return False
            if batch.num_rows:
                keys = batch.column(columns.KEY)
                assert keys[0].as_py() > self.last_key, "a stream to merge is not sorted by key"
                self.last_key = keys[-1].as_py()
                self._batch = batch
        return True

    def take_through(self, bound: bytes) -> pa.RecordBatch | None:
        """Take the rows with keys up to and including `bound`; None if there are none."""
        batch = self._batch
        if batch is None:
            return None
        if self.last_key <= bound:
            self._batch = None
            return batch
        count = _count_through(batch.column(columns.KEY), bound)
        if count == 0:
            return None
        self._batch = batch.slice(count)
        return batch.slice(0, count)


def windows(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[list[pa.RecordBatch | None]]:
    """Yield windows: for each stream, in its place, the rows in the window's key range or None.

    Streams: batches with a `key` column, strictly ascending within and across batches.
    Memory: one batch of each stream.
    """
    cursors = [_Cursor(stream) for stream in streams]
    while True:
        bounds = [cursor.last_key for cursor in cursors if cursor.fill()]
        if not bounds:
            return
        bound = min(bounds)
        yield [cursor.take_through(bound) for cursor in cursors]


class Groups:
    """Rows of one window, grouped by key, newest stream first.

    Attributes:
        order: Row numbers (in the concatenation of the window's batches) sorted by key, then by stream.
        starts: Positions in `order` where a new key begins.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        keys = pa.concat_arrays([batch.column(columns.KEY) for batch in batches])
        self.keys = keys
        if len(batches) == 1:  # already sorted, every key once
            self.order = np.arange(len(keys), dtype=np.int64)
            self.starts = self.order
            return
        # Arrow's sort is stable, and the batches stand newest first.
        self.order = pc.sort_indices(keys).to_numpy().astype(np.int64)
        ordered = keys.take(pa.array(self.order))
        is_start = np.ones(len(keys), dtype=bool)
        is_start[1:] = pc.not_equal(ordered.slice(1), ordered.slice(0, len(keys) - 1)).to_numpy(
            zero_copy_only=False
        )
        self.starts = np.flatnonzero(is_start)

    @property
    def newest(self) -> npt.NDArray[np.int64]:
        """The newest row of each key, ascending by key."""
        return self.order[self.starts]

    def first_where(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """For each key, its newest row for which the flag is set; -1 where there is none.

        Shapes: flags (rows,) in concatenation order → (keys,).
        """
        positions = np.flatnonzero(flags[self.order])
        found = np.full(len(self.starts), -1, dtype=np.int64)
        if len(positions) == 0:
            return found
        ends = np.append(self.starts[1:], len(self.order))
        nearest = np.searchsorted(positions, self.starts)
        inside = nearest < len(positions)
        candidates = positions[np.minimum(nearest, len(positions) - 1)]
        inside &= candidates < ends
        found[inside] = self.order[candidates[inside]]
        return found


def _count_through(keys: pa.BinaryArray, bound: bytes) -> int:
    """Count the keys up to and including `bound` by binary search."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle].as_py() <= bound:
            low = middle + 1
        else:
            high = middle
    return low
