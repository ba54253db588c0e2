"""Edge records → columnar batches, column by column.

The engine hands out one Python object per record, and a vector as a list of Python
floats: that conversion is the price of a scan (`docs/benchmarks.md`). Everything else is
done per page: one NumPy call for all vectors, one Arrow array per column.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.engines.edge.binding import edge_errors, edge_library
from recollect.errors import IntegrityError
from recollect.values import batch as columns
from recollect.values.key import encode_keys
from recollect.values.payload import encode_payload
from recollect.values.schema import CollectionSchema, VectorSpec

BATCH_BYTES = 32 * 1024 * 1024
"""Uncompressed bytes of one page, about."""
FIRST_PAGE_ROWS = 64
"""Records of the first page: nobody knows yet how large payloads, sparse and multi-vectors are."""


def scan_shard(
    shard: Any, path: Path, schema: CollectionSchema, *, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield all records of an open shard, ascending by key.

    The engine takes a number of records for a page, not of bytes: each page has as many as would have filled
    `BATCH_BYTES` if all were like those of the page before. Memory is bounded by that, times the size of the
    engine's objects, as long as heavy records do not follow upon thousands of light ones at once.

    Raises:
        IntegrityError: The engine hands out records out of order.
    """
    library = edge_library()
    rows_max = page_rows(schema, batch_rows)
    limit = min(FIRST_PAGE_ROWS, rows_max)
    offset, last_key = None, b""
    while True:
        request = library.ScrollRequest(offset=offset, limit=limit, with_payload=True, with_vector=True)
        with edge_errors("reading", path):
            records, offset = shard.scroll(request)
        if records:
            batch = records_to_batch(records, schema)
            _check_order(batch.column(columns.KEY), last_key, path)
            last_key = batch.column(columns.KEY)[-1].as_py()
            limit = max(1, min(rows_max, BATCH_BYTES * batch.num_rows // batch.nbytes))
            yield batch
        if offset is None:
            return


def page_rows(schema: CollectionSchema, rows_max: int) -> int:
    """Return how many records a page may have so that its dense vectors stay within `BATCH_BYTES`."""
    row_bytes = sum(spec.dimension * 4 for spec in schema.vectors if spec.kind == "dense") or 1
    return max(1, min(rows_max, BATCH_BYTES // row_bytes))


def records_to_batch(records: list[Any], schema: CollectionSchema) -> pa.RecordBatch:
    """Turn a page of engine records into one batch of `record_schema(schema)`."""
    arrays = [
        encode_keys([record.id for record in records]),
        pa.nulls(len(records), pa.uint64()),
        pa.array([encode_payload(record.payload) for record in records], type=pa.binary()),
    ]
    held = [record.vector for record in records]
    arrays += [
        _vector_array([_named(vectors, spec.name) for vectors in held], spec) for spec in schema.vectors
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=columns.record_schema(schema))


def _named(vectors: Any, name: str) -> Any:
    """Pick one vector of a record: the unnamed one comes bare, unless there are others beside it."""
    if isinstance(vectors, dict):
        return vectors.get(name)
    return vectors if name == "" else None


def _vector_array(values: list[Any], spec: VectorSpec) -> pa.Array:
    if spec.kind == "sparse":
        items = [None if value is None else _sparse_items(value) for value in values]
        return pa.array(items, type=columns.vector_type(spec))
    mask = np.fromiter((value is None for value in values), dtype=bool, count=len(values))
    present = [value for value in values if value is not None]
    if spec.kind == "multi":
        rows = [row for value in present for row in value]
        lengths = np.array([0 if value is None else len(value) for value in values], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        inner = _fixed_rows(rows, spec)
        validity = pa.array(mask) if mask.any() else None
        kind = columns.vector_type(spec)
        return pa.ListArray.from_arrays(pa.array(offsets), inner, type=kind, mask=validity)
    stored = _fixed_rows(present, spec)
    if not mask.any():
        return stored
    slots = np.cumsum(~mask) - 1
    return stored.take(pa.array(slots, mask=mask))


def _sparse_items(value: Any) -> list[dict[str, Any]]:
    pairs = sorted(zip(value.indices, value.values, strict=True))
    return [{"index": index, "value": element} for index, element in pairs]


def _fixed_rows(rows: list[Any], spec: VectorSpec) -> pa.FixedSizeListArray:
    """Pack rows of Python floats into a dense column. Shapes: n lists of d → (n,)."""
    matrix = np.array(rows, dtype=np.float32).reshape(len(rows), spec.dimension)
    narrow = _exactly(matrix, spec)
    kind = columns.vector_type(spec)
    row_type = kind if spec.kind == "dense" else kind.value_type
    return pa.FixedSizeListArray.from_arrays(pa.array(narrow.reshape(-1)), type=row_type)


def _exactly(matrix: npt.NDArray[np.float32], spec: VectorSpec) -> npt.NDArray[Any]:
    """Convert to the stored datatype; the engine widens on reading, so this loses nothing."""
    if spec.datatype == "float32":
        return matrix
    narrow = matrix.astype(columns.numpy_datatype(spec))
    if not np.array_equal(narrow.astype(np.float32), matrix, equal_nan=True):
        raise IntegrityError(f"vector {spec.name!r} holds values that are no {spec.datatype}")
    return narrow


def _check_order(keys: pa.BinaryArray, last_key: bytes, path: Path) -> None:
    first = keys[0].as_py()
    page = keys.to_pylist()
    if first <= last_key or any(left >= right for left, right in zip(page, page[1:], strict=False)):
        raise IntegrityError(
            f"the engine hands out the records of {path} out of order",
            "open the shard with the engine and run its optimizer, then try again",
        )
