"""What Qdrant's engines make of records they cannot hold as they are.

Two rules, of the server and of Edge alike: a record without a payload has an empty one,
and a vector under the cosine metric is scaled to unit length when it is stored. Applied
before writing, both become predictable: the engine leaves a vector of unit length alone.

Source: qdrant, lib/segment/src/spaces/metric.rs and simple_cosine.rs: no scaling where the squared
length is within 1e-6 of 1, or next to zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.schema import CollectionSchema, VectorSpec

UNIT_TOLERANCE = 1e-6
EMPTY_PAYLOAD = b"{}"


def as_qdrant_holds(records: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:
    """Return records as Qdrant will hold them; the same object where nothing changes."""
    changed: dict[str, pa.Array] = {}
    payloads = records.column(columns.PAYLOAD)
    if payloads.null_count:
        changed[columns.PAYLOAD] = payloads.fill_null(EMPTY_PAYLOAD)
    for spec in schema.vectors:
        if spec.metric == "cosine" and spec.datatype == "float32" and spec.kind != "sparse":
            name = columns.vector_column(spec.name)
            scaled = _scaled(records.column(name), spec)
            if scaled is not None:
                changed[name] = scaled
    if not changed:
        return records
    arrays = [changed.get(name, records.column(name)) for name in records.schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=records.schema)


def _scaled(values: pa.Array, spec: VectorSpec) -> pa.Array | None:
    """Scale rows to unit length; None if all have it. Nulls stay null."""
    rows = values if spec.kind == "dense" else values.values
    matrix = dense_matrix(rows, spec)
    lengths = np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64)
    is_off = (np.abs(lengths - 1.0) > UNIT_TOLERANCE / 2) & (lengths > np.finfo(np.float32).eps)
    if spec.kind == "dense" and values.null_count:
        is_off &= values.is_valid().to_numpy(zero_copy_only=False)
    if not is_off.any():
        return None
    scaled: npt.NDArray[np.float32] = np.array(matrix, dtype=np.float32)
    scaled[is_off] = (matrix[is_off] / np.sqrt(lengths[is_off])[:, None]).astype(np.float32)
    flat = pa.array(scaled.reshape(-1))
    kind = columns.vector_type(spec)
    mask = values.is_null() if values.null_count else None
    if spec.kind == "dense":
        return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=mask)
    inner = pa.FixedSizeListArray.from_arrays(flat, type=kind.value_type)
    offsets = values.offsets
    return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=mask)
