"""Rows of a vector column as NumPy arrays, and to and from Arrow.

Between an Arrow column and a block stand three arrays: the elements as a matrix, for
multi and sparse vectors the items of each row, and for sparse vectors the indices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.errors import UnsupportedError
from recollect.values.batch import SPARSE_ITEM, numpy_datatype, vector_type
from recollect.values.digest import dense_matrix, multi_matrix
from recollect.values.schema import VectorSpec

_LIST_ITEMS_MAX = 2**31 - 1


class Rows(NamedTuple):
    """Some rows of one vector.

    Shapes (n rows, k items, d dimension):
        values: dense (n, d); multi (k, d); sparse (k, 1).
        counts: (n,) items of each row; None for dense.
        indices: (k,) for sparse, else None.
    """

    values: npt.NDArray[np.generic]
    counts: npt.NDArray[np.uint32] | None
    indices: npt.NDArray[np.uint32] | None

    @classmethod
    def empty(cls, row_count: int, item_count: int, spec: VectorSpec) -> Rows:
        """Return rows whose values are to be filled in; counts and indices are missing."""
        width = 1 if spec.kind == "sparse" else spec.dimension
        count = row_count if spec.kind == "dense" else item_count
        return cls(np.empty((count, width), dtype=numpy_datatype(spec)), None, None)

    @property
    def row_count(self) -> int:
        """Return how many rows these are."""
        return len(self.values if self.counts is None else self.counts)

    @property
    def item_count(self) -> int:
        """Return how many items all rows have together; dense rows have one each."""
        return len(self.values)

    @property
    def byte_size(self) -> int:
        """Return the raw bytes of all arrays."""
        return sum(part.nbytes for part in self if part is not None)

    def slice(self, start: int, end: int) -> Rows:
        """Return rows [start, end) as views."""
        if self.counts is None:
            return Rows(self.values[start:end], None, None)
        first = int(self.counts[:start].sum(dtype=np.int64))
        last = first + int(self.counts[start:end].sum(dtype=np.int64))
        indices = None if self.indices is None else self.indices[first:last]
        return Rows(self.values[first:last], self.counts[start:end], indices)


def select_rows(rows: Rows, wanted: npt.NDArray[np.int64]) -> Rows:
    """Return copies of the rows at these positions. Shapes: wanted (k,) ascending."""
    if rows.counts is None:
        return Rows(rows.values[wanted], None, None)
    mask = np.zeros(rows.row_count, dtype=bool)
    mask[wanted] = True
    items = np.repeat(mask, rows.counts)
    indices = None if rows.indices is None else rows.indices[items]
    return Rows(rows.values[items], rows.counts[mask], indices)


def rows_of_array(values: pa.Array, spec: VectorSpec) -> Rows:
    """View a value column without nulls as rows; zero-copy for what Arrow stores contiguously."""
    if spec.kind == "dense":
        return Rows(np.ascontiguousarray(dense_matrix(values, spec)), None, None)
    counts = values.value_lengths().to_numpy(zero_copy_only=False).astype(np.uint32)
    if spec.kind == "multi":
        return Rows(np.ascontiguousarray(multi_matrix(values, spec)), counts, None)
    items = values.flatten()
    indices = items.field("index").to_numpy(zero_copy_only=False)
    elements = items.field("value").to_numpy(zero_copy_only=False)
    return Rows(np.ascontiguousarray(elements).reshape(-1, 1), counts, np.ascontiguousarray(indices))


def rows_to_array(parts: list[Rows], spec: VectorSpec) -> pa.Array:
    """Return parts, one after the other, as one Arrow array of `vector_type(spec)`.

    Raises:
        UnsupportedError: More items than an Arrow list column can count (2**31 - 1).
    """
    kind = vector_type(spec)
    if not parts:
        return pa.array([], type=kind)
    values = _join([part.values for part in parts])
    if spec.kind == "dense":
        return _dense_array(values, kind, len(values))
    counts = _join([part.counts for part in parts if part.counts is not None])
    if len(values) > _LIST_ITEMS_MAX:
        raise UnsupportedError(
            f"{len(values)} items of vector {spec.name!r} do not fit one batch; read fewer rows"
        )
    offsets = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    if spec.kind == "multi":
        items = _dense_array(values, kind.value_type, len(values))
    else:
        indices = _join([part.indices for part in parts if part.indices is not None])
        children = [_flat_array(indices, pa.uint32()), _flat_array(values.reshape(-1), pa.float32())]
        items = pa.Array.from_buffers(SPARSE_ITEM, len(values), [None], null_count=0, children=children)
    return pa.Array.from_buffers(
        kind, len(counts), [None, pa.py_buffer(offsets)], null_count=0, children=[items]
    )


def expand_values(values: pa.Array, stored: npt.NDArray[np.bool_], spec: VectorSpec) -> pa.Array:
    """Return a column with the values at the flagged rows, in order, and null at the others.

    Shapes: values (k,), stored (n,) with k true → (n,). The values of null rows are zero.
    """
    if stored.all():
        return values
    kind, count = vector_type(spec), len(stored)
    validity = pa.array(stored).buffers()[1]
    nulls = count - len(values)
    if spec.kind == "dense":
        matrix = np.zeros((count, spec.dimension), dtype=numpy_datatype(spec))
        matrix[stored] = dense_matrix(values, spec)
        child = pa.Array.from_buffers(
            kind.value_type, matrix.size, [None, pa.py_buffer(matrix)], null_count=0
        )
        return pa.Array.from_buffers(kind, count, [validity], null_count=nulls, children=[child])
    offsets = np.zeros(count + 1, dtype=np.int32)
    lengths = np.zeros(count, dtype=np.int32)
    lengths[stored] = values.value_lengths().to_numpy(zero_copy_only=False)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [validity, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(kind, count, buffers, null_count=nulls, children=[values.flatten()])


def _dense_array(matrix: npt.NDArray[np.generic], kind: pa.DataType, count: int) -> pa.Array:
    flat = _flat_array(matrix.reshape(-1), kind.value_type)
    return pa.Array.from_buffers(kind, count, [None], null_count=0, children=[flat])


def _flat_array(values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(values), [None, data], null_count=0)


def _join(arrays: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
