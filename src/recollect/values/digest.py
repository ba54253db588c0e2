"""Digests of fields: 16 bytes of XXH3-128 that tell change and accident.

They are not a defence against tampering; the SHA-256 names of objects are.
What is hashed, seed 0, digest in canonical (big-endian) byte order:

- payload: its canonical JSON bytes;
- dense vector: its little-endian elements;
- multi-vector: the little-endian elements of all its rows, in order;
- sparse vector: its (uint32 index, float32 value) pairs, little-endian, ascending by index.

An absent field has no digest (null); an empty one has the digest of no bytes.
Format: docs/format.md#field-digest. Source: XXH3, https://xxhash.com
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema, VectorSpec

DIGEST_SIZE = 16


def digest_records(records: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:
    """Turn records into changes that carry every value and every digest: upserts, unless `op` says else.

    Shapes: n records in, n changes of `change_schema(schema)` out, same order.
    """
    upserts = pa.array(np.full(records.num_rows, columns.UPSERT, dtype=np.uint8))
    arrays = {
        columns.KEY: records.column(columns.KEY),
        columns.OP: _column_or(records, columns.OP, upserts),
        columns.POSITION: _column_or(records, columns.POSITION, pa.nulls(records.num_rows, pa.uint64())),
        columns.PAYLOAD: records.column(columns.PAYLOAD),
        columns.PAYLOAD_DIGEST: digest_payloads(records.column(columns.PAYLOAD)),
    }
    for spec in schema.vectors:
        values = records.column(columns.vector_column(spec.name))
        arrays[columns.vector_column(spec.name)] = values
        arrays[columns.vector_digest_column(spec.name)] = digest_vectors(values, spec)
    target = columns.change_schema(schema)
    return pa.RecordBatch.from_arrays([arrays[field.name] for field in target], schema=target)


def digest_payloads(payloads: pa.BinaryArray) -> pa.FixedSizeBinaryArray:
    """Digest each payload; null stays null. Shapes: (n,) → (n,)."""
    offsets = np.frombuffer(payloads.buffers()[1], dtype=np.int32)
    offsets = offsets[payloads.offset : payloads.offset + len(payloads) + 1]
    return _with_nulls(_digest_slices(payloads.buffers()[2], offsets), payloads)


def digest_vectors(values: pa.Array, spec: VectorSpec) -> pa.FixedSizeBinaryArray:
    """Digest each vector of a value column; null stays null. Shapes: (n,) → (n,)."""
    if spec.kind == "dense":
        return _with_nulls(_digest_rows(dense_matrix(values, spec)), values)
    offsets = _list_offsets(values)
    if spec.kind == "sparse":
        flat = sparse_pairs(values).view(np.uint8).reshape(-1)
        return _with_nulls(_digest_slices(pa.py_buffer(flat), (offsets - offsets[0]) * 8), values)
    rows = multi_matrix(values, spec)
    row_size = spec.dimension * rows.itemsize
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(-1)
    return _with_nulls(_digest_slices(pa.py_buffer(flat), (offsets - offsets[0]) * row_size), values)


def dense_matrix(values: pa.FixedSizeListArray, spec: VectorSpec) -> npt.NDArray[np.generic]:
    """View a dense column as a matrix, zero-copy. Shapes: (n,) → (n, d); null rows hold anything."""
    datatype = columns.numpy_datatype(spec)
    child = values.values
    start = (values.offset * spec.dimension + child.offset) * datatype.itemsize
    buffer = child.buffers()[1]
    if buffer is None:
        return np.zeros((len(values), spec.dimension), dtype=datatype)
    matrix = np.frombuffer(buffer, dtype=datatype, count=len(values) * spec.dimension, offset=start)
    return matrix.reshape(len(values), spec.dimension)


def multi_matrix(values: pa.ListArray, spec: VectorSpec) -> npt.NDArray[np.generic]:
    """Return all rows of a multi-vector column. Shapes: (n,) → (sum of rows, d)."""
    return dense_matrix(values.flatten(), spec)


def sparse_pairs(values: pa.ListArray) -> npt.NDArray[np.void]:
    """Return all pairs of a sparse column as (uint32 index, float32 value) records."""
    items = values.flatten()
    pairs = np.empty(len(items), dtype=[("index", "<u4"), ("value", "<f4")])
    pairs["index"] = items.field("index").to_numpy(zero_copy_only=False)
    pairs["value"] = items.field("value").to_numpy(zero_copy_only=False)
    return pairs


def _list_offsets(values: pa.ListArray) -> npt.NDArray[np.int64]:
    # Null lists may own child items in Arrow; `flatten` skips those, so count by valid length.
    lengths = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _digest_rows(matrix: npt.NDArray[np.generic]) -> bytes:
    if matrix.size == 0:
        return xxhash.xxh3_128_digest(b"") * len(matrix)
    return b"".join(map(xxhash.xxh3_128_digest, np.ascontiguousarray(matrix)))


def _digest_slices(data: pa.Buffer | None, offsets: npt.NDArray[np.integer]) -> bytes:
    view = memoryview(data if data is not None else b"").cast("B")
    bounds = offsets.tolist()
    digest = xxhash.xxh3_128_digest
    return b"".join([digest(view[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)])


def _with_nulls(digests: bytes, values: pa.Array) -> pa.FixedSizeBinaryArray:
    validity = None
    if values.null_count:
        validity = pa.array(values.is_valid()).cast(pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(
        columns.DIGEST_TYPE, len(values), [validity, pa.py_buffer(digests)], null_count=values.null_count
    )


def _column_or(batch: pa.RecordBatch, name: str, default: pa.Array) -> pa.Array:
    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else default
