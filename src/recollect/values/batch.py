"""Columnar batches: the one form in which records and changes travel.

A batch is an Arrow record batch. Column names and their Arrow types:

===========================  ==============================================================
`key`                        binary: the record key (`values.key`)
`op`                         uint8: UPSERT or DELETE; absent column means all UPSERT
`position`                   uint64, nullable: the engine's version of the record, if it has one
`payload`                    binary, nullable: canonical JSON (`values.payload`)
`payload_digest`             fixed_size_binary(16), nullable
`vector:<name>`              dense: fixed_size_list(T, d); multi: list(fixed_size_list(T, d));
                             sparse: list(struct(index: uint32, value: float32)), by index; nullable
`vector_digest:<name>`       fixed_size_binary(16), nullable
===========================  ==============================================================

Records (from a source) carry no digests; a null vector or payload is *absent*.
Changes carry all digests of the record as it is after the change, and the three
states of a field are told apart by its two columns:

=========  =========  ==========================================================
digest     value      meaning
=========  =========  ==========================================================
null       null       absent: the record has no such field
set        set        stored here
set        null       as before: the value stands in an older segment
=========  =========  ==========================================================

A DELETE has null in every column but `key`, `op` and `position`.
Order: strictly ascending by key, so a batch holds a key at most once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from recollect.values.schema import CollectionSchema, VectorSpec

KEY = "key"
OP = "op"
POSITION = "position"
PAYLOAD = "payload"
PAYLOAD_DIGEST = "payload_digest"
VECTOR_PREFIX = "vector:"
VECTOR_DIGEST_PREFIX = "vector_digest:"

UPSERT = 0
DELETE = 1

BATCH_ROWS = 8192
"""Rows of a batch that a source aims at; also the rows of a Parquet row group."""

DIGEST_TYPE = pa.binary(16)
SPARSE_ITEM = pa.struct([pa.field("index", pa.uint32(), False), pa.field("value", pa.float32(), False)])

_ARROW_TYPES = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "uint8": pa.uint8(),
    "int8": pa.int8(),
}
_NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "uint8": np.dtype("u1"),
    "int8": np.dtype("i1"),
}


def vector_column(name: str) -> str:
    """Return the column name of a vector's values."""
    return VECTOR_PREFIX + name


def vector_digest_column(name: str) -> str:
    """Return the column name of a vector's digests."""
    return VECTOR_DIGEST_PREFIX + name


def numpy_datatype(spec: VectorSpec) -> np.dtype[Any]:
    """Return the little-endian NumPy type of the elements."""
    return _NUMPY_TYPES[spec.datatype]


def vector_type(spec: VectorSpec) -> pa.DataType:
    """Return the Arrow type of a vector's value column."""
    if spec.kind == "sparse":
        return pa.list_(SPARSE_ITEM)
    row = pa.list_(pa.field("item", _ARROW_TYPES[spec.datatype], False), spec.dimension)
    return row if spec.kind == "dense" else pa.list_(pa.field("item", row, False))


def record_schema(schema: CollectionSchema) -> pa.Schema:
    """Return the Arrow schema of scanned records: key, position, payload, vectors."""
    fields = [
        pa.field(KEY, pa.binary(), False),
        pa.field(POSITION, pa.uint64()),
        pa.field(PAYLOAD, pa.binary()),
    ]
    fields += [pa.field(vector_column(spec.name), vector_type(spec)) for spec in schema.vectors]
    return pa.schema(fields)


def change_schema(schema: CollectionSchema) -> pa.Schema:
    """Return the Arrow schema of changes: `index_schema` plus payload and vector values."""
    fields = list(index_schema(schema))
    fields.append(pa.field(PAYLOAD, pa.binary()))
    fields += [pa.field(vector_column(spec.name), vector_type(spec)) for spec in schema.vectors]
    return pa.schema(fields)


def index_schema(schema: CollectionSchema) -> pa.Schema:
    """Return the Arrow schema of what diff and listing read: key, op, position, digests."""
    fields = [
        pa.field(KEY, pa.binary(), False),
        pa.field(OP, pa.uint8(), False),
        pa.field(POSITION, pa.uint64()),
        pa.field(PAYLOAD_DIGEST, DIGEST_TYPE),
    ]
    fields += [pa.field(vector_digest_column(spec.name), DIGEST_TYPE) for spec in schema.vectors]
    return pa.schema(fields)


def digest_columns(schema: CollectionSchema) -> list[str]:
    """Return the digest columns in canonical order: payload first, then vectors by name."""
    return [PAYLOAD_DIGEST, *(vector_digest_column(spec.name) for spec in schema.vectors)]


def value_column(digest_column: str) -> str:
    """Return the value column that a digest column speaks of."""
    if digest_column == PAYLOAD_DIGEST:
        return PAYLOAD
    return VECTOR_PREFIX + digest_column.removeprefix(VECTOR_DIGEST_PREFIX)


def rebatch(batches: Iterator[pa.RecordBatch], *, rows_max: int) -> Iterator[pa.RecordBatch]:
    """Cut batches so that none has more than `rows_max` rows; zero-copy, empty ones dropped."""
    for batch in batches:
        for start in range(0, batch.num_rows, rows_max):
            yield batch.slice(start, rows_max)
