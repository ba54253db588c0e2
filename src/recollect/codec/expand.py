"""Stored values spread over all rows: nulls where a row stores none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.values.batch import numpy_datatype, vector_type
from recollect.values.digest import dense_matrix
from recollect.values.schema import VectorSpec


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
        child = pa.Array.from_buffers(kind.value_type, matrix.size, [None, pa.py_buffer(matrix)], null_count=0)
        return pa.Array.from_buffers(kind, count, [validity], null_count=nulls, children=[child])
    offsets = np.zeros(count + 1, dtype=np.int32)
    lengths = np.zeros(count, dtype=np.int32)
    lengths[stored] = values.value_lengths().to_numpy(zero_copy_only=False)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [validity, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(kind, count, buffers, null_count=nulls, children=[values.flatten()])
