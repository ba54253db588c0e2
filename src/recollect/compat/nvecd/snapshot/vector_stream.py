"""The vectors store, read in pieces: a file larger than memory's share of it can be loaded."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from recollect.compat.nvecd.snapshot.ahead import PIECE_BYTES, read_ahead
from recollect.compat.nvecd.snapshot.checksum import crc32
from recollect.compat.nvecd.snapshot.decode import decode_name, fail
from recollect.compat.nvecd.snapshot.layout import DIMENSION_MAX, U32, VECTORS
from recollect.compat.nvecd.snapshot.ragged import read_fixed

_HEAD = struct.Struct("<QI")
_U32 = U32.unpack_from
_RUN_MIN = 32  # so many rows of one length are read at once; after a failed look, so many one by one


class VectorStream:
    """The rows of one vectors store, in file order. For one pass, by one thread.

    Attributes:
        dimension: Elements of each vector; may be set although there are no rows.
        row_count: Rows that the store says it has.
    """

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._position, self._end = offset, offset + size
        self._size = size
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

    def chunks(self) -> Iterator[tuple[list[bytes], npt.NDArray[np.float32]]]:
        """Yield ids, which are UTF-8, and their rows; each id comes once. Shapes: n ids, (n, dimension).

        Raises:
            IntegrityError: The bytes are not exactly `row_count` rows.
        """
        seen: set[bytes] = set()
        count = 0
        pieces = read_ahead(self._descriptor, self._position, self._end - self._position, self._note)
        buffer, filled = bytearray(2 * PIECE_BYTES), 0
        while count < self.row_count:
            piece = next(pieces, None)
            if piece is None:
                fail("Vector exceeds remaining store data")
            if filled + len(piece) > len(buffer):  # a row that is longer
                buffer = buffer + bytearray(len(buffer) + len(piece))
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            names, offsets, used = self._scan(buffer, filled, self.row_count - count)
            if not names:
                self._check_size(buffer, filled)
                continue
            count += len(names)
            check_text(names)
            if not seen.isdisjoint(names) or len(set(names)) < len(names):
                fail(f"Duplicate vector ID: {_first_twice(names, seen).decode()}")
            seen.update(names)
            rows = read_fixed(np.frombuffer(buffer, np.uint8)[:filled], offsets, self._width)
            yield names, rows.view("<f4")
            buffer[: filled - used] = buffer[used:filled]
            filled -= used
        if filled or next(pieces, None) is not None:
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

    def _note(self, piece: memoryview) -> None:
        self._checksum = crc32(piece, self._checksum)

    def _check_size(self, buffer: bytearray, filled: int) -> None:
        """Refuse a row that claims more than there is, before all of it is in memory."""
        if filled >= U32.size:
            size = U32.size + _U32(buffer, 0)[0] + self._width
            if size > self._size:
                fail("Vector exceeds remaining store data")

    def _scan(
        self, buffer: bytearray, filled: int, count_max: int
    ) -> tuple[list[bytes], npt.NDArray[np.int64], int]:
        """Find whole rows; return their ids, where their vectors are, and how many bytes they take."""
        names: list[bytes] = []
        offsets: list[int] = []
        position, width, view, alone = 0, self._width, memoryview(buffer), 0
        while len(names) < count_max and position + U32.size <= filled:
            if not alone:
                run = _run(buffer, position, filled, width=width)[: count_max - len(names)]
                alone = _RUN_MIN
                if len(run) >= _RUN_MIN:
                    names += _names(run)
                    ends = range(position + run.itemsize - width, filled + 1, run.itemsize)
                    offsets += ends[: len(run)]
                    position += run.nbytes
                    alone = 0
                    continue
            alone -= 1
            start = position + U32.size
            end = start + _U32(buffer, position)[0]
            if end + width > filled:
                break
            names.append(bytes(view[start:end]))
            offsets.append(end)
            position = end + width
        return names, np.array(offsets, dtype=np.int64), position


def _run(buffer: bytearray, position: int, filled: int, *, width: int) -> npt.NDArray[np.void]:
    """Return the rows from `position` on that have ids as long as the first one's; a view."""
    size = _U32(buffer, position)[0]
    stride = U32.size + size + width
    count = (filled - position) // stride
    lengths = np.ndarray((count,), "<u4", buffer, position, (stride,))
    other = np.flatnonzero(lengths != size)
    row = np.dtype([("size", "<u4"), ("id", np.uint8, (size,)), ("vector", np.uint8, (width,))])
    return np.frombuffer(buffer, row, int(other[0]) if len(other) else count, position)


def _names(run: npt.NDArray[np.void]) -> list[bytes]:
    size = run["id"].shape[1]
    joined = run["id"].tobytes()
    return [joined[at : at + size] for at in range(0, len(run) * size, size)] if size else [b""] * len(run)


def check_text(names: list[bytes]) -> None:
    """Refuse names that are not UTF-8."""
    try:
        b"\n".join(names).decode("utf-8")  # a line feed is part of no longer character, so each is looked at
    except UnicodeDecodeError:
        for name in names:
            decode_name(name, "vector ID")


def _first_twice(names: list[bytes], seen: set[bytes]) -> bytes:
    """Return the first name that was there before."""
    before = set(seen)
    for name in names:
        if name in before:
            return name
        before.add(name)
    return b""
