"""Small record batches written by hand, and read back as plain Python values.

For tests: clear rather than fast. Hot paths build their columns with NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.fingerprint import Fingerprint, fingerprint_batch
from recollect.values.key import RecordId, decode_keys, encode_keys
from recollect.values.payload import encode_payload
from recollect.values.schema import CollectionSchema, VectorSpec

Sparse: TypeAlias = Mapping[int, float]
VectorValue: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | Sparse | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One record: its id, its payload (None is absent), its vectors by name (missing is absent).

    A dense vector is a list of numbers, a multi-vector a list of lists, a sparse one a dict by index.
    """

    id: RecordId
    payload: dict[str, Any] | None = {}
    vectors: Mapping[str, VectorValue] = {}


def build_records(schema: CollectionSchema, rows: Iterable[Row]) -> pa.RecordBatch:
    """Build one batch of `record_schema(schema)`, sorted by key."""
    found = list(rows)
    keys = encode_keys([row.id for row in found])
    order = sorted(range(len(found)), key=lambda index: bytes(keys[index].as_py()))
    found = [found[index] for index in order]
    payloads = [None if row.payload is None else encode_payload(row.payload) for row in found]
    arrays = [
        encode_keys([row.id for row in found]),
        pa.nulls(len(found), pa.uint64()),
        pa.array(payloads, type=pa.binary()),
    ]
    arrays += [_vector_array(spec, [row.vectors.get(spec.name) for row in found]) for spec in schema.vectors]
    return pa.RecordBatch.from_arrays(arrays, schema=columns.record_schema(schema))


def record_ids(batches: Iterable[pa.RecordBatch]) -> list[RecordId]:
    """Return all ids in the order of the batches."""
    return [record_id for batch in batches for record_id in decode_keys(batch.column(columns.KEY))]


def fingerprint_of(schema: CollectionSchema, batches: Iterable[pa.RecordBatch]) -> Fingerprint:
    """Return the fingerprint of all records."""
    total = Fingerprint()
    for batch in batches:
        total += fingerprint_batch(digest_records(batch, schema))
    return total


def _vector_array(spec: VectorSpec, values: list[VectorValue]) -> pa.Array:
    kind = columns.vector_type(spec)
    if spec.kind == "sparse":
        pairs = [None if value is None else _sorted_pairs(value) for value in values]
        return pa.array(pairs, type=kind)
    datatype = columns.numpy_datatype(spec)
    exact = [None if value is None else _typed(value, datatype) for value in values]
    return pa.array(exact, type=kind)


def _sorted_pairs(value: Any) -> list[dict[str, float]]:
    return [{"index": index, "value": value[index]} for index in sorted(value)]


def _typed(value: Any, datatype: np.dtype[np.generic]) -> list[Any]:
    # float16 items must be NumPy scalars: Arrow takes no Python floats for them.
    if len(value) and isinstance(value[0], Sequence | np.ndarray):
        return [_typed(row, datatype) for row in value]
    return list(np.asarray(value, dtype=datatype))
