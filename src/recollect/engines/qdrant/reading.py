"""Answers of gRPC scroll → columnar batches.

Vectors stay bytes from the wire into the Arrow buffers; payloads become canonical JSON.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.errors import IntegrityError
from recollect.values import batch as columns
from recollect.values.key import RecordId, encode_keys
from recollect.values.schema import CollectionSchema, VectorSpec


def point_ids(points: Any) -> list[RecordId]:
    """Return the ids of points: integers and UUIDs."""
    identities = [point.id for point in points]
    if all(identity.HasField("num") for identity in identities):
        return [identity.num for identity in identities]
    return [identity.num if identity.HasField("num") else UUID(identity.uuid) for identity in identities]


def points_to_batch(points: Any, payloads: list[bytes], schema: CollectionSchema) -> pa.RecordBatch:
    """Make one batch of `record_schema(schema)`; `payloads` are theirs, as canonical JSON.

    Raises:
        IntegrityError: A vector has another kind or dimension than the collection's configuration
            says, or values that its datatype cannot have.
    """
    arrays = [
        encode_keys(point_ids(points)),
        pa.nulls(len(points), pa.uint64()),
        pa.array(payloads, type=pa.binary()),
    ]
    held = [_vectors(point) for point in points]
    arrays += [_vector_array([vectors.get(spec.name) for vectors in held], spec) for spec in schema.vectors]
    return pa.RecordBatch.from_arrays(arrays, schema=columns.record_schema(schema))


def _vectors(point: Any) -> dict[str, Any]:
    """Return a point's vectors by name."""
    kind = point.vectors.WhichOneof("vectors_options")
    if kind == "vector":
        return {"": point.vectors.vector}
    return {entry.key: entry.value for entry in point.vectors.vectors.vectors}


def _vector_array(values: list[Any], spec: VectorSpec) -> pa.Array:
    if spec.kind == "sparse":
        return _sparse_array(values)
    if spec.kind == "multi":
        return _multi_array(values, spec)
    mask = np.fromiter((value is None for value in values), dtype=bool, count=len(values))
    # Absent rows hold zeros: a fixed-size list has room for them.
    absent = bytes(4 * spec.dimension)
    rows = [absent if value is None else _dense_bytes(value) for value in values]
    return _fixed_rows(rows, spec, columns.vector_type(spec), mask if mask.any() else None)


def _dense_bytes(value: Any) -> bytes:
    """Return the little-endian float32 elements; servers before 1.16 send the flat form."""
    return bytes(value.dense.data if value.WhichOneof("vector") == "dense" else value.data)


def _fixed_rows(
    rows: list[bytes], spec: VectorSpec, kind: pa.DataType, mask: npt.NDArray[np.bool_] | None
) -> pa.FixedSizeListArray:
    """Pack rows of float32 bytes. Shapes: n rows of 4 d bytes → (n,) lists of d."""
    size = 4 * spec.dimension
    for row in rows:
        if len(row) != size:
            raise IntegrityError(
                f"vector {spec.name!r} came with {len(row)} bytes; {spec.dimension} dimensions need {size}",
                "check the collection's configuration and the server's version",
            )
    flat = _exactly(np.frombuffer(b"".join(rows), dtype="<f4"), spec)
    null_mask = None if mask is None else pa.array(mask)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind, mask=null_mask)


def _exactly(flat: npt.NDArray[np.float32], spec: VectorSpec) -> npt.NDArray[Any]:
    """Convert to the stored datatype; the server widened it, so this must lose nothing."""
    if spec.datatype == "float32":
        return flat
    with np.errstate(over="ignore", invalid="ignore"):  # such values are found by the comparison
        narrow = flat.astype(columns.numpy_datatype(spec))
    if not np.array_equal(narrow.astype(np.float32), flat, equal_nan=True):
        raise IntegrityError(
            f"vector {spec.name!r} came with values that are no {spec.datatype}",
            "check the collection's configuration against the server's data",
        )
    return narrow


def _multi_array(values: list[Any], spec: VectorSpec) -> pa.ListArray:
    lists = [None if value is None else _multi_rows(value, spec) for value in values]
    lengths = np.array([0 if rows is None else len(rows) for rows in lists], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = np.fromiter((rows is None for rows in lists), dtype=bool, count=len(lists))
    kind = columns.vector_type(spec)
    inner = _fixed_rows([row for rows in lists if rows for row in rows], spec, kind.value_type, None)
    null_mask = pa.array(mask) if mask.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), inner, type=kind, mask=null_mask)


def _multi_rows(value: Any, spec: VectorSpec) -> list[bytes]:
    if value.WhichOneof("vector") == "multi_dense":
        return [row.data for row in value.multi_dense.vectors]
    size = 4 * spec.dimension
    return [value.data[start : start + size] for start in range(0, len(value.data), size)]


def _sparse_array(values: list[Any]) -> pa.ListArray:
    pairs = [None if value is None else _sparse_pairs(value) for value in values]
    lengths = np.array([0 if pair is None else len(pair[0]) for pair in pairs], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = np.fromiter((pair is None for pair in pairs), dtype=bool, count=len(pairs))
    present = [pair for pair in pairs if pair is not None]
    empty_indices, empty_values = np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.float32)
    indices = np.concatenate([pair[0] for pair in present]) if present else empty_indices
    elements = np.concatenate([pair[1] for pair in present]) if present else empty_values
    items = pa.StructArray.from_arrays(
        [pa.array(indices), pa.array(elements)], fields=list(columns.SPARSE_ITEM)
    )
    null_mask = pa.array(mask) if mask.any() else None
    return pa.ListArray.from_arrays(
        pa.array(offsets), items, type=pa.list_(columns.SPARSE_ITEM), mask=null_mask
    )


def _sparse_pairs(value: Any) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Return indices and values, ascending by index."""
    if value.WhichOneof("vector") == "sparse":
        indices = np.array(value.sparse.indices, dtype=np.uint32)
        elements = np.frombuffer(value.sparse.values, dtype="<f4")
    else:
        indices = np.array(value.indices.data, dtype=np.uint32)
        elements = np.frombuffer(value.data, dtype="<f4")
    if len(indices) != len(elements):
        raise IntegrityError(f"a sparse vector came with {len(indices)} indices and {len(elements)} values")
    order = np.argsort(indices, kind="stable")
    return indices[order], elements[order]
