"""Columnar batches → Edge points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from recollect.engines.adapt import written_payload
from recollect.engines.edge.binding import edge_library
from recollect.errors import UnsupportedError
from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.key import RecordId, decode_keys
from recollect.values.schema import CollectionSchema, VectorSpec

UPSERT_ROWS = 1000
"""Points of one engine operation; larger ones hold more of the write-ahead log in memory."""
UPSERT_BYTES = 16 * 1024 * 1024
"""Their uncompressed bytes, about."""


def operations_of(records: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into pieces that one engine operation each may carry; a single record is never cut."""
    row_bytes = records.nbytes // max(1, records.num_rows) + 1
    rows = max(1, min(UPSERT_ROWS, UPSERT_BYTES // row_bytes))
    for start in range(0, records.num_rows, rows):
        yield records.slice(start, rows)


def batch_to_points(records: pa.RecordBatch, schema: CollectionSchema) -> list[Any]:
    """Make engine points of a batch of `record_schema(schema)`.

    Raises:
        UnsupportedError: An id is neither an unsigned integer nor a UUID.
    """
    point = edge_library().Point
    record_ids = decode_keys(records.column(columns.KEY))
    payloads = records.column(columns.PAYLOAD).to_pylist()
    vectors = _vectors(records, schema)
    return [
        point(_point_id(record_id), vector, None if payload is None else written_payload(payload))
        for record_id, vector, payload in zip(record_ids, vectors, payloads, strict=True)
    ]


def _point_id(record_id: RecordId) -> Any:
    if isinstance(record_id, str) or (isinstance(record_id, int) and record_id < 0):
        raise UnsupportedError(
            f"Qdrant takes unsigned integers and UUIDs as ids, not {record_id!r}",
            "restore into an engine that takes such ids",
        )
    return record_id


def _vectors(records: pa.RecordBatch, schema: CollectionSchema) -> list[Any]:
    """Return what each point takes as its vectors: a bare list, or a dict by name."""
    by_name = {
        spec.name: _values(records.column(columns.vector_column(spec.name)), spec) for spec in schema.vectors
    }
    if list(by_name) == [""] and all(value is not None for value in by_name[""]):
        return by_name[""]
    rows = []
    for number in range(records.num_rows):
        found = {name: values[number] for name, values in by_name.items()}
        rows.append({name: value for name, value in found.items() if value is not None})
    return rows


def _values(column: pa.Array, spec: VectorSpec) -> list[Any]:
    valid = column.is_valid().to_pylist()
    if spec.kind == "sparse":
        return [_sparse(items) for items in column.to_pylist()]
    if spec.kind == "multi":
        rows = dense_matrix(column.flatten(), spec).astype("float32").tolist()
        lengths = column.value_lengths().fill_null(0).to_pylist()
        found, start = [], 0
        for is_present, length in zip(valid, lengths, strict=True):
            found.append(rows[start : start + length] if is_present else None)
            start += length
        return found
    matrix = dense_matrix(column, spec).astype("float32", copy=False).tolist()
    return [row if is_present else None for row, is_present in zip(matrix, valid, strict=True)]


def _sparse(items: list[dict[str, Any]] | None) -> Any:
    if items is None:
        return None
    indices = [item["index"] for item in items]
    return edge_library().SparseVector(indices, [item["value"] for item in items])
