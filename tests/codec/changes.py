"""Changes for the codec's tests: records turned into deltas, and a comparison of every bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema
from tests.codec.columns import bits


def changes_of(upserts: pa.RecordBatch, schema: CollectionSchema, *, seed: int) -> pa.RecordBatch:
    """Make some upserts deletes, some of their values "as before", and give some a position."""
    generator = np.random.default_rng(seed)
    count = upserts.num_rows
    deleted = pa.array(generator.random(count) < 0.1)
    arrays = {}
    for field in upserts.schema:
        values = upserts.column(field.name)
        if field.name == columns.KEY:
            arrays[field.name] = values
        elif field.name == columns.OP:
            arrays[field.name] = deleted.cast(pa.uint8())
        elif field.name == columns.POSITION:
            positions = pa.array(generator.integers(0, 2**63, count, dtype=np.uint64))
            arrays[field.name] = blank(positions, pa.array(generator.random(count) < 0.2))
        else:
            arrays[field.name] = blank(values, deleted)
    for digest_name in columns.digest_columns(schema):
        name = columns.value_column(digest_name)
        arrays[name] = blank(arrays[name], pa.array(generator.random(count) < 0.3))
    target = columns.change_schema(schema)
    return pa.RecordBatch.from_arrays([arrays[name] for name in target.names], schema=target)


def blank(values: pa.Array, mask: pa.Array) -> pa.Array:
    """Return the values with null where the mask is true."""
    kept = np.flatnonzero(~mask.to_numpy(zero_copy_only=False))
    indices = np.full(len(values), -1, dtype=np.int64)
    indices[kept] = kept
    return values.take(pa.array(indices, mask=indices < 0))


def same_bits(found: pa.Table, expected: pa.Table, schema: CollectionSchema) -> bool:
    """Say whether two tables of changes are equal in every bit; Arrow takes -0.0 for 0.0."""
    names = [name for name in expected.schema.names if not name.startswith(columns.VECTOR_PREFIX)]
    if not found.select(names).equals(expected.select(names)):
        return False
    for spec in schema.vectors:
        ours = found.column(columns.vector_column(spec.name)).combine_chunks()
        theirs = expected.column(columns.vector_column(spec.name)).combine_chunks()
        if not ours.is_valid().equals(theirs.is_valid()):
            return False
        if bits(ours.drop_null(), spec) != bits(theirs.drop_null(), spec):
            return False
    return True
