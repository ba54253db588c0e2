"""Rows of different length side by side in one buffer, written and read by columns.

A row is a name of its own length beside fields of fixed length. NumPy copies one column of many
rows at a time, so neither direction needs Python code per byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recollect.compat.nvecd.snapshot.layout import U32

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


class PrefixedNames:
    """Names in UTF-8, each behind its u32 length, joined in one buffer. Never changes.

    Attributes:
        sizes: Bytes of each with its length field. Shapes: (n,) int64.
    """

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [name.encode("utf-8") for name in names]
        joined = b"".join([U32.pack(len(name)) + name for name in encoded])
        self.sizes: Offsets = np.fromiter((4 + len(name) for name in encoded), np.int64, len(encoded))
        self._joined: Bytes = np.frombuffer(joined, dtype=np.uint8)
        self._starts = starts_of(self.sizes)

    def write(self, out: Bytes, offsets: Offsets, numbers: npt.NDArray[Any]) -> None:
        """Write the names of these numbers, with their lengths. Shapes: n offsets, n numbers."""
        if not len(numbers):
            return
        sizes, starts = self.sizes[numbers], self._starts[numbers]
        order = np.argsort(sizes, kind="stable")
        ordered = sizes[order]
        for first, last in _runs(ordered):
            chosen, width = order[first:last], int(ordered[first])
            windows(out, width)[offsets[chosen]] = windows(self._joined, width)[starts[chosen]]


def starts_of(sizes: Offsets) -> Offsets:
    """Return where each row begins if rows of these sizes stand side by side. Shapes: (n,) → (n,)."""
    starts = np.zeros(len(sizes), dtype=np.int64)
    np.cumsum(sizes[:-1], out=starts[1:])
    return starts


def windows(buffer: Bytes, width: int) -> Bytes:
    """Return the view whose row i is `buffer[i : i + width]`; writable if the buffer is."""
    return np.lib.stride_tricks.sliding_window_view(buffer, width, writeable=buffer.flags.writeable)


def write_fixed(out: Bytes, offsets: Offsets, rows: npt.NDArray[Any]) -> None:
    """Write one row of fixed length at each offset. Shapes: n offsets, rows (n, …) contiguous."""
    if len(rows):
        flat = rows.view(np.uint8).reshape(len(rows), -1)
        windows(out, flat.shape[1])[offsets] = flat


def read_fixed(data: Bytes, offsets: Offsets, width: int) -> Bytes:
    """Copy `width` bytes from each offset. Shapes: (n,) → (n, width)."""
    if not len(offsets):
        return np.zeros((0, width), dtype=np.uint8)
    return windows(data, width)[offsets]


def _runs(ordered: Offsets) -> list[tuple[int, int]]:
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(ordered)]
    return list(zip(bounds, bounds[1:], strict=False))
