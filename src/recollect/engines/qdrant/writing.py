"""Columnar batches → points for gRPC upsert, and for REST where gRPC cannot carry a payload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import pyarrow as pa

from recollect.engines.adapt import written_payload
from recollect.engines.qdrant.values import WideIntegerError, check_integers, write_payload
from recollect.errors import UnsupportedError
from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.key import RecordId, decode_keys
from recollect.values.schema import CollectionSchema, VectorSpec

REQUEST_BYTES = 4 << 20
"""Aim of one upsert's size: large enough that its overhead vanishes, small enough to retry."""

REQUEST_ROWS = 2000

_Fill: TypeAlias = Callable[[Any, int], None]
"""Writes the vector of one row into a `qdrant.Vector`."""


def request_slices(records: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into slices of one request each."""
    row_bytes = max(1, records.nbytes // max(1, records.num_rows))
    rows = max(1, min(REQUEST_ROWS, REQUEST_BYTES // row_bytes))
    for start in range(0, records.num_rows, rows):
        yield records.slice(start, rows)


class PointWriter:
    """Turns batches of one collection into points."""

    def __init__(self, schema: CollectionSchema) -> None:
        self._schema = schema

    def fill(self, records: pa.RecordBatch, request: Any) -> list[dict[str, Any]]:
        """Add the records to an upsert request; return those that REST must carry, as JSON points.

        Raises:
            UnsupportedError: An id, a payload or a value that Qdrant does not take.
        """
        record_ids = decode_keys(records.column(columns.KEY))
        payloads = [_payload(each) for each in records.column(columns.PAYLOAD).to_pylist()]
        vectors = [self._vectors(spec, records) for spec in self._schema.vectors]
        leftover: list[dict[str, Any]] = []
        for row, (record_id, payload) in enumerate(zip(record_ids, payloads, strict=True)):
            point = request.points.add()
            try:
                write_payload(payload, point.payload)
            except WideIntegerError:
                del request.points[-1]
                leftover.append(_json_point(record_id, payload, records.slice(row, 1), self._schema))
                continue
            if isinstance(record_id, UUID):
                point.id.uuid = str(record_id)
            else:
                point.id.num = _integer_id(record_id)
            # Named also where the vector has no name: the one form that may be empty.
            named = point.vectors.vectors
            named.SetInParent()
            for name, present, fill in vectors:
                if present[row]:
                    entry = named.vectors.add()
                    entry.key = name
                    fill(entry.value, row)
        return leftover

    @staticmethod
    def _vectors(spec: VectorSpec, records: pa.RecordBatch) -> tuple[str, list[bool], _Fill]:
        column = records.column(columns.vector_column(spec.name))
        fill = {"dense": _dense_filler, "multi": _multi_filler, "sparse": _sparse_filler}[spec.kind]
        return spec.name, column.is_valid().to_pylist(), fill(column, spec)


def _dense_filler(column: pa.Array, spec: VectorSpec) -> _Fill:
    matrix = np.ascontiguousarray(dense_matrix(column, spec), dtype="<f4")

    def fill(vector: Any, row: int) -> None:
        vector.dense.data = matrix[row].tobytes()

    return fill


def _multi_filler(column: pa.ListArray, spec: VectorSpec) -> _Fill:
    matrix = np.ascontiguousarray(dense_matrix(column.flatten(), spec), dtype="<f4")
    bounds = _bounds(column)

    def fill(vector: Any, row: int) -> None:
        for number in range(bounds[row], bounds[row + 1]):
            vector.multi_dense.vectors.add().data = matrix[number].tobytes()
        if bounds[row] == bounds[row + 1]:
            raise UnsupportedError(
                f"a record has a multi-vector {spec.name!r} without rows, which Qdrant does not take",
                "restore into an engine that takes it",
            )

    return fill


def _sparse_filler(column: pa.ListArray, _spec: VectorSpec) -> _Fill:
    items = column.flatten()
    indices = items.field("index").to_numpy(zero_copy_only=False)
    elements = np.ascontiguousarray(items.field("value").to_numpy(zero_copy_only=False), dtype="<f4")
    bounds = _bounds(column)

    def fill(vector: Any, row: int) -> None:
        start, end = bounds[row], bounds[row + 1]
        vector.sparse.SetInParent()
        vector.sparse.indices.extend(indices[start:end])
        vector.sparse.values = elements[start:end].tobytes()

    return fill


def _bounds(column: pa.ListArray) -> list[int]:
    """Return where each row's items begin and end in `column.flatten()`."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return [0, *np.cumsum(lengths, dtype=np.int64).tolist()]


def _payload(encoded: bytes | None) -> dict[str, Any]:
    payload = {} if encoded is None else written_payload(encoded)
    if not isinstance(payload, dict):
        raise UnsupportedError(
            f"Qdrant's payloads are JSON objects, not {type(payload).__name__}",
            "restore into an engine that takes such payloads",
        )
    return payload


def _integer_id(record_id: RecordId) -> int:
    if isinstance(record_id, int) and record_id >= 0:
        return record_id
    raise UnsupportedError(
        f"Qdrant takes unsigned integers and UUIDs as ids, not {record_id!r}",
        "restore into an engine that takes such ids",
    )


def _json_point(
    record_id: RecordId, payload: dict[str, Any], record: pa.RecordBatch, schema: CollectionSchema
) -> dict[str, Any]:
    """Write one record as REST has it; float32 values survive as the doubles that they equal."""
    check_integers(payload)
    vectors: dict[str, Any] = {}
    for spec in schema.vectors:
        value = record.column(columns.vector_column(spec.name))[0].as_py()
        if value is None:
            continue
        if spec.kind == "sparse":
            value = {
                "indices": [item["index"] for item in value],
                "values": [item["value"] for item in value],
            }
        elif spec.datatype == "float16":
            value = np.asarray(value, dtype=np.float64).tolist()
        vectors[spec.name] = value
    return {
        "id": str(record_id) if isinstance(record_id, UUID) else record_id,
        "vector": vectors,
        "payload": payload,
    }
