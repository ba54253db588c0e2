"""A growing column of numbers in blocks that are copied when a frozen view still reads them."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_BITS = 16
BLOCK_SIZE = 1 << BLOCK_BITS  # 256 KiB of float32: copying a block takes some 20 microseconds
_MASK = BLOCK_SIZE - 1


class Column:
    """Numbers by index. One writer at a time; frozen blocks are never written.

    Args:
        typecode: Of `array`: "f" float32, "I" uint32.
    """

    def __init__(self, typecode: str) -> None:
        self._typecode = typecode
        self.blocks: list[array[Any]] = []
        self._is_owned = bytearray()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, value: float) -> None:
        """Add a number at the end."""
        index = self._size
        if not index & _MASK:
            self.blocks.append(array(self._typecode, bytes(4 * BLOCK_SIZE)))
            self._is_owned.append(1)
        self._size = index + 1
        self.put(index, value)

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Add many numbers at the end, a block at a time. Shapes: (n,)."""
        done = 0
        while done < len(values):
            offset = self._size & _MASK
            if not offset:
                self.blocks.append(array(self._typecode, bytes(4 * BLOCK_SIZE)))
                self._is_owned.append(1)
            count = min(BLOCK_SIZE - offset, len(values) - done)
            block = np.frombuffer(self.own(self._size >> BLOCK_BITS), dtype=self._typecode)
            block[offset : offset + count] = values[done : done + count]
            self._size += count
            done += count

    def get(self, index: int) -> Any:
        """Return one number."""
        return self.blocks[index >> BLOCK_BITS][index & _MASK]

    def put(self, index: int, value: float) -> None:
        """Replace one number; it is rounded to the column's type."""
        self.own(index >> BLOCK_BITS)[index & _MASK] = value

    def add(self, index: int, value: float) -> None:
        """Add to one number; the sum is rounded to the column's type."""
        number = index >> BLOCK_BITS
        block = self.blocks[number] if self._is_owned[number] else self.own(number)
        block[index & _MASK] += value

    def own(self, number: int) -> array[Any]:
        """Return a block for writing, a copy of it if a frozen view reads it."""
        if not self._is_owned[number]:
            self.blocks[number] = array(self._typecode, self.blocks[number])
            self._is_owned[number] = 1
        return self.blocks[number]

    def freeze(self) -> FrozenColumn:
        """Return the column as it is now; costs one pointer a block."""
        self._is_owned = bytearray(len(self.blocks))
        return FrozenColumn(tuple(self.blocks), self._size, np.dtype(self._typecode))


class FrozenColumn:
    """A column that no longer changes. Safe to share between threads."""

    def __init__(self, blocks: tuple[array[Any], ...], size: int, datatype: np.dtype[Any]) -> None:
        self._blocks = blocks
        self._size = size
        self._datatype = datatype

    def __len__(self) -> int:
        return self._size

    def to_numpy(self) -> npt.NDArray[Any]:
        """Copy all numbers into one array. Shapes: (n,)."""
        if not self._blocks:
            return np.zeros(0, dtype=self._datatype)
        joined = np.concatenate([np.frombuffer(block, dtype=self._datatype) for block in self._blocks])
        return joined[: self._size]
