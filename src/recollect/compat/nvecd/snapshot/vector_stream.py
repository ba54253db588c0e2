"""The vectors store, read in pieces: a file larger than memory's share of it can be loaded."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from recollect.compat.nvecd.snapshot.checksum import crc32
from recollect.compat.nvecd.snapshot.decode import decode_name, fail
from recollect.compat.nvecd.snapshot.layout import DIMENSION_MAX, U32, VECTORS
from recollect.compat.nvecd.snapshot.ragged import read_fixed

_HEAD = struct.Struct("<QI")
_U32 = U32.unpack_from
PIECE_BYTES = 4 << 20


class VectorStream:
    """The rows of one vectors store, in file order. For one pass, by one thread.

    Attributes:
        dimension: Elements of each vector; may be set although there are no rows.
        row_count: Rows that the store says it has.
    """

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._position, self._end = offset, offset + size
        self._checksum = 0
        head = self._head(size)
        self.dimension, self.row_count = int(head[0]), int(head[1])
        if self.dimension > DIMENSION_MAX:
            fail(f"Vector dimension exceeds maximum: {self.dimension}")
        if self.row_count and not self.dimension:
            fail("Non-empty vector store has zero dimension")
        self._width = 4 * self.dimension
        if self._end - self._position < self.row_count * (U32.size + self._width):
            fail("Vector count exceeds remaining store data")

    @property
    def checksum(self) -> int:
        """The CRC-32 of what was read so far; of the whole store after the last chunk."""
        return self._checksum

    def chunks(self) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """Yield ids and their rows; each id comes once. Shapes: n ids, (n, dimension).

        Raises:
            IntegrityError: The bytes are not exactly `row_count` rows.
        """
        seen: set[str] = set()
        buffer = bytearray(min(PIECE_BYTES, max(1, self._end - self._position)))
        filled = 0
        while len(seen) < self.row_count:
            filled += self._fill(buffer, filled)
            names, offsets, used = self._scan(buffer, filled, self.row_count - len(seen))
            if not names:
                buffer = self._grow(buffer, filled)
                continue
            for name in names:
                if name in seen:
                    fail(f"Duplicate vector ID: {name}")
                seen.add(name)
            rows = read_fixed(np.frombuffer(buffer, np.uint8)[:filled], offsets, self._width)
            yield names, rows.view("<f4")
            buffer[: filled - used] = buffer[used:filled]
            filled -= used
        if filled or self._position < self._end:
            fail(f"Trailing bytes in store data for '{VECTORS}'")

    def _head(self, size: int) -> tuple[int, int]:
        if size < _HEAD.size:
            fail("Failed to read dimension")
        head = os.pread(self._descriptor, _HEAD.size, self._position)
        if len(head) < _HEAD.size:
            fail("Failed to read dimension")
        self._checksum = crc32(head)
        self._position += _HEAD.size
        dimension, count = _HEAD.unpack(head)
        return int(dimension), int(count)

    def _fill(self, buffer: bytearray, filled: int) -> int:
        wanted = min(len(buffer) - filled, self._end - self._position)
        if not wanted:
            return 0
        view = memoryview(buffer)[filled : filled + wanted]
        count = os.preadv(self._descriptor, [view], self._position)
        if not count:
            fail(f"Failed to read store data for '{VECTORS}'")
        self._checksum = crc32(view[:count], self._checksum)
        self._position += count
        return count

    def _scan(
        self, buffer: bytearray, filled: int, count_max: int
    ) -> tuple[list[str], npt.NDArray[np.int64], int]:
        """Find whole rows; return their ids, where their vectors are, and how many bytes they take."""
        names: list[str] = []
        offsets: list[int] = []
        position, width = 0, self._width
        while len(names) < count_max and position + U32.size <= filled:
            start = position + U32.size
            end = start + _U32(buffer, position)[0]
            if end + width > filled:
                break
            names.append(decode_name(bytes(buffer[start:end]), "vector ID"))
            offsets.append(end)
            position = end + width
        return names, np.array(offsets, dtype=np.int64), position

    def _grow(self, buffer: bytearray, filled: int) -> bytearray:
        """Make room for a row that is longer than the buffer."""
        if self._position >= self._end:
            fail("Vector exceeds remaining store data")
        if filled < len(buffer):
            return buffer  # a short read: there is room, and more to come
        return buffer + bytearray(min(len(buffer), self._end - self._position))
