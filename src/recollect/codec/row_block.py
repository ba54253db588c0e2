"""Rows of a vector to and from the bytes of one block, and where a column is cut into blocks.

A dense block holds the elements; a multi block the items of each row before them; a sparse
block the items of each row, the indices as distances within the row, and the elements.
Format: docs/format.md#blocks
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recollect.codec import block
from recollect.codec.column_file import BLOCK_SIZE, row_size
from recollect.codec.rows import Rows
from recollect.errors import IntegrityError
from recollect.values.schema import VectorSpec

Integers = npt.NDArray[np.uint32]

_COUNT_STREAMS = {"dense": 0, "multi": 4, "sparse": 8}


def block_bounds(rows: Rows, spec: VectorSpec) -> list[int]:
    """Return the rows at which blocks begin, and the end: as many rows as fit, at least one."""
    size = row_size(spec)
    if rows.counts is None:
        return [*range(0, rows.row_count, max(1, BLOCK_SIZE // max(size, 8))), rows.row_count]
    ends = np.cumsum(rows.counts.astype(np.int64) * size + 4)
    bounds = [0]
    while bounds[-1] < rows.row_count:
        begun = int(ends[bounds[-1] - 1]) if bounds[-1] else 0
        end = int(np.searchsorted(ends, begun + BLOCK_SIZE, side="right"))
        bounds.append(max(end, bounds[-1] + 1))
    return bounds


def encode_rows(rows: Rows) -> list[block.Piece]:
    """Encode the rows of one block; the elements come last.

    The streams may lie in scratch memory: they are valid until this thread's next call.
    """
    pieces = []
    if rows.counts is not None:
        pieces.append(block.encode_integers(rows.counts))
        if rows.indices is not None:
            pieces.append(block.encode_integers(_distances(rows.indices, rows.counts)))
    pieces.append(block.encode_floats(rows.values.reshape(-1)))
    return pieces


def decode_rows(
    data: npt.NDArray[np.uint8], entry: np.void, spec: VectorSpec, target: Rows | None = None
) -> Rows:
    """Decode a block whose checksum holds, into the values of `target` if one is given.

    Raises:
        IntegrityError: The block is not what its table entry says.
    """
    row_count, item_count = int(entry["row_count"]), int(entry["item_count"])
    rows = Rows.empty(row_count, item_count, spec) if target is None else target
    encoding, integers = int(entry["value_encoding"]), _COUNT_STREAMS[spec.kind]
    if int(entry["index_encoding"]) != (block.PLANES if spec.kind == "sparse" else 0):
        raise IntegrityError(f"a block of vector {spec.name!r} has an unknown encoding of its indices")
    streams = block.cut_streams(data, integers + block.stream_count(encoding, rows.values.dtype.itemsize))
    counts = indices = None
    if spec.kind != "dense":
        counts = block.decode_integers(streams[:4], row_count)
        if int(counts.sum(dtype=np.uint64)) != item_count:
            raise IntegrityError(
                f"a block of vector {spec.name!r} does not hold the items that its table says"
            )
        if spec.kind == "sparse":
            indices = _indices(block.decode_integers(streams[4:8], item_count), counts)
    block.decode_floats(encoding, streams[integers:], rows.values.reshape(-1))
    return Rows(rows.values, counts, indices)


def _distances(indices: Integers, counts: Integers) -> Integers:
    """Replace each index by its distance to the one before it in its row; the first stays."""
    distances = np.empty_like(indices)
    distances[:1] = indices[:1]
    np.subtract(indices[1:], indices[:-1], out=distances[1:])
    firsts = (np.cumsum(counts, dtype=np.int64) - counts)[counts > 0]
    distances[firsts] = indices[firsts]
    return distances


def _indices(distances: Integers, counts: Integers) -> Integers:
    """Undo `_distances`: sum within each row, modulo 2**32."""
    sums: Integers = np.cumsum(distances, dtype=np.uint32)
    firsts = np.cumsum(counts, dtype=np.int64) - counts
    before = np.append(np.uint32(0), sums)[firsts].astype(np.uint32)
    sums -= np.repeat(before, counts)
    return sums
