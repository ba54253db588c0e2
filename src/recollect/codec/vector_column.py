"""Vector columns: the values of one named vector, in blocks with random access.

A file holds only the rows that store a value; which rows of a segment these are, its Parquet
file says. Blocks hold about 1 MiB of raw values and carry a CRC-32C each, so a reader may
fetch a few rows and still know that they are what was written. Format: docs/format.md#vector-column
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.codec import block, column_file
from recollect.codec.row_block import block_bounds, decode_rows, encode_rows
from recollect.codec.rows import Rows, rows_of_array, rows_to_array, select_rows
from recollect.errors import IntegrityError, UnsupportedError
from recollect.values.schema import VectorSpec

ReadRange: TypeAlias = Callable[[int, int], bytes]
"""Random access to a file: (start, length) → bytes."""

TAIL_SIZE = 64 * 1024
"""Bytes fetched from the end of a file when it is opened: the table of about 1,600 blocks."""

_STORED_SIZE_MAX = 1 << 31


def encode_vector_column(values: pa.Array, spec: VectorSpec) -> bytes:
    """Encode the stored values of one vector as a vector column file.

    Deterministic: equal values give equal bytes (with one release of the zstd library).
    Each block takes the encoding that is smallest for it. Memory: the file, plus two blocks.

    Shapes:
        values: n rows of `values.batch.vector_type(spec)`, no nulls.

    Raises:
        UnsupportedError: One row alone has more than 2 GiB.
    """
    assert values.null_count == 0, "a vector column holds only the rows that store a value"
    rows = rows_of_array(values, spec)
    bounds = block_bounds(rows, spec)
    table = np.zeros(len(bounds) - 1, dtype=column_file.ENTRY)
    output = io.BytesIO()
    output.write(column_file.encode_head())
    for entry, start, end in zip(table, bounds, bounds[1:], strict=False):
        part = rows.slice(start, end)
        if part.byte_size > _STORED_SIZE_MAX:
            raise UnsupportedError(
                f"vector {spec.name!r} has a row of {part.byte_size} bytes; at most 2 GiB can be stored"
            )
        pieces = encode_rows(part)
        entry["first_row"], entry["row_count"] = start, end - start
        entry["item_count"], entry["offset"] = part.item_count, output.tell()
        entry["value_encoding"] = pieces[-1].encoding
        entry["index_encoding"] = pieces[1].encoding if spec.kind == "sparse" else 0
        crc = 0
        for data in block.join_streams(pieces):
            crc = google_crc32c.extend(crc, data)
            output.write(data.data)
        entry["length"], entry["crc"] = output.tell() - int(entry["offset"]), crc
    output.write(column_file.encode_tail(table, spec, output.tell()))
    return output.getvalue()


def decode_vector_column(data: bytes | memoryview | pa.Buffer, spec: VectorSpec) -> pa.Array:
    """Decode a whole vector column file, every block checked.

    Raises:
        IntegrityError: The bytes are damaged, cut short, or of another vector than `spec`.
        FormatVersionError: Intact, of another version.
    """
    view = memoryview(data).cast("B")

    def read(start: int, length: int) -> bytes:
        return view[start : start + length]  # type: ignore[return-value]  # every use goes through NumPy

    reader = VectorColumnReader(read, len(view), spec)
    column_file.check_head(bytes(view[: column_file.HEAD_SIZE]))
    return reader.read(0, reader.row_count)


class VectorColumnReader:
    """Random access to one vector column file.

    Opening reads the end of the file (one range, two for files of many gigabytes); rows are
    read a block at a time, each checked against its CRC-32C before it is decoded.
    Safe to share between threads if `read` is.

    Raises (everywhere):
        IntegrityError: The file is damaged, cut short, or of another vector than `spec`.
        FormatVersionError: Intact, of another version.
    """

    def __init__(self, read: ReadRange, byte_size: int, spec: VectorSpec) -> None:
        self._read = read
        self._spec = spec
        tail = self._fetch_tail(min(TAIL_SIZE, byte_size), byte_size)
        needed, frame = column_file.read_frame(tail, byte_size, spec)
        if frame is None:
            _, frame = column_file.read_frame(self._fetch_tail(needed, byte_size), byte_size, spec)
        assert frame is not None, "the second read brought the whole table"
        self._frame = frame
        self._bounds = np.append(frame.table["first_row"], frame.row_count).astype(np.int64)
        self._kept: tuple[int, Rows] | None = None

    @property
    def row_count(self) -> int:
        """Return how many rows store a value."""
        return self._frame.row_count

    def read(self, start: int, count: int) -> pa.Array:
        """Read rows [start, start + count). Shapes: count rows, no nulls."""
        assert 0 <= start <= start + count <= self.row_count, "rows out of range"
        is_dense = self._spec.kind == "dense"
        whole = Rows.empty(count, count, self._spec) if is_dense else None
        parts = []
        for position in self._blocks(start, start + count):
            first, end = int(self._bounds[position]), int(self._bounds[position + 1])
            if whole is not None and start <= first and end <= start + count:
                # Decoded in its place: fresh memory and a copy would cost as much as the decoding.
                self._decode(position, whole.slice(first - start, end - start))
                continue
            rows = self._decode_kept(position).slice(max(start - first, 0), min(start + count, end) - first)
            if whole is not None:
                offset = max(first - start, 0)
                whole.values[offset : offset + rows.row_count] = rows.values
            parts.append(rows)
        return rows_to_array([whole] if whole is not None else parts, self._spec)

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """Read the rows at these positions, which ascend; only their blocks are fetched and decoded.

        Shapes: rows (k,) int64, strictly ascending → k rows, no nulls.
        """
        parts = []
        cuts = np.searchsorted(rows, self._bounds)
        for position in np.flatnonzero(np.diff(cuts)).tolist():
            wanted = rows[cuts[position] : cuts[position + 1]] - self._bounds[position]
            parts.append(select_rows(self._decode_kept(position), wanted))
        return rows_to_array(parts, self._spec)

    def check(self) -> None:
        """Read every byte of the file and check every checksum and every block's contents."""
        column_file.check_head(bytes(self._read(0, column_file.HEAD_SIZE)))
        for position in range(len(self._frame.table)):
            self._decode(position)

    def _blocks(self, start: int, end: int) -> range:
        if start == end:
            return range(0)
        first = int(np.searchsorted(self._bounds, start, side="right")) - 1
        return range(first, int(np.searchsorted(self._bounds, end, side="left")))

    def _decode_kept(self, position: int) -> Rows:
        """Decode a block that the next call may ask for again, as its neighbour's rows are read."""
        kept = self._kept
        if kept is None or kept[0] != position:
            kept = (position, self._decode(position))
            self._kept = kept
        return kept[1]

    def _decode(self, position: int, target: Rows | None = None) -> Rows:
        entry = self._frame.table[position]
        offset, length = int(entry["offset"]), int(entry["length"])
        data = np.frombuffer(self._read(offset, length), dtype=np.uint8)
        if len(data) != length or google_crc32c.value(data) != int(entry["crc"]):
            raise IntegrityError(
                f"block {position} of the column of vector {self._spec.name!r} is damaged: "
                f"its checksum does not match ({length} bytes from offset {offset})"
            )
        return decode_rows(data, entry, self._spec, target)

    def _fetch_tail(self, size: int, byte_size: int) -> bytes:
        tail = bytes(self._read(byte_size - size, size)) if size else b""
        if len(tail) != size:
            raise IntegrityError(
                f"a vector column file should have {byte_size} bytes, "
                f"but reading its last {size} gave {len(tail)}"
            )
        return tail
