"""Rows of different length side by side in one buffer, written and read by columns.

A row is a name of its own length beside fields of fixed length. NumPy copies one column of many
rows at a time, so neither direction needs Python code per byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recollect.compat.nvecd.snapshot.layout import U32

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


class PrefixedNames:
    """Names in UTF-8, joined in one buffer, to be written behind their u32 lengths. Never changes.

    Attributes:
        sizes: Bytes of each with its length field. Shapes: (n,) int64.
    """

    def __init__(self, names: Sequence[bytes]) -> None:
        lengths: Offsets = np.fromiter(map(len, names), np.int64, len(names))
        self.sizes: Offsets = lengths + U32.size
        self._lengths = lengths.astype("<u4")
        self._joined: Bytes = np.frombuffer(b"".join(names), dtype=np.uint8)
        self._starts = starts_of(lengths)

    @classmethod
    def of_texts(cls, names: Sequence[str]) -> Self:
        """Encode names."""
        return cls([name.encode("utf-8") for name in names])

    def write(self, out: Bytes, offsets: Offsets, numbers: npt.NDArray[Any]) -> None:
        """Write the names of these numbers, with their lengths. Shapes: n offsets, n numbers."""
        if not len(numbers):
            return
        lengths, starts = self._lengths[numbers], self._starts[numbers]
        write_fixed(out, offsets, lengths)
        behind = offsets + U32.size
        # Sixteen bits are sorted by counting, several times as fast.
        narrow = lengths.astype(np.uint16) if lengths.max() < 1 << 16 else lengths
        order = np.argsort(narrow, kind="stable")
        ordered = lengths[order]
        for first, last in _runs(ordered):
            width = int(ordered[first])
            if width:
                chosen = order[first:last]
                windows(out, width)[behind[chosen]] = windows(self._joined, width)[starts[chosen]]


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


def _runs(ordered: npt.NDArray[Any]) -> list[tuple[int, int]]:
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(ordered)]
    return list(zip(bounds, bounds[1:], strict=False))
