"""Write a stream of changes as one run: cut into segments, seal, put, in that order.

Sealing and putting run on an executor, a bounded number of segments at a time, while the
caller's stream goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import msgspec
import pyarrow as pa

from recollect.codec.segment import encode_segment
from recollect.pipeline import map_ordered
from recollect.repository.repository import Repository
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import ObjectRef, Run, SegmentRef

SEGMENT_BYTES_MAX = 32 * 1024 * 1024
"""Uncompressed bytes of one segment, about: bounds the memory of writers and readers."""
SEGMENT_ROWS_MAX = 65_536
SEALS_UNDER_WAY = 2


class WrittenRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose objects are all in the repository, and the bytes that it added there."""

    run: Run
    added_bytes: int


def write_run(
    changes: Iterator[pa.RecordBatch], schema: CollectionSchema, repository: Repository, *, executor: Executor
) -> WrittenRun:
    """Store changes, ascending by key, as segments. An empty stream gives an empty run.

    A crash leaves objects that nothing lists.
    """

    def seal(batches: list[pa.RecordBatch]) -> WrittenRun:
        return _seal(batches, schema, repository)

    segments: list[SegmentRef] = []
    added_bytes = 0
    for written in map_ordered(seal, _cut(changes), executor=executor, window=SEALS_UNDER_WAY):
        segments += written.run
        added_bytes += written.added_bytes
    return WrittenRun(run=tuple(segments), added_bytes=added_bytes)


def _cut(changes: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Group batches into segments of bounded size, cutting large batches where needed."""
    pending: list[pa.RecordBatch] = []
    pending_rows, pending_bytes = 0, 0
    for whole in changes:
        rows_max = max(1, SEGMENT_BYTES_MAX * whole.num_rows // max(1, whole.nbytes))
        for batch in columns.rebatch(iter([whole]), rows_max=min(rows_max, SEGMENT_ROWS_MAX)):
            is_full = pending_bytes + batch.nbytes > SEGMENT_BYTES_MAX
            if pending and (is_full or pending_rows + batch.num_rows > SEGMENT_ROWS_MAX):
                yield pending
                pending, pending_rows, pending_bytes = [], 0, 0
            pending.append(batch)
            pending_rows += batch.num_rows
            pending_bytes += batch.nbytes
    if pending:
        yield pending


def _seal(batches: list[pa.RecordBatch], schema: CollectionSchema, repository: Repository) -> WrittenRun:
    segment = encode_segment(pa.concat_batches(batches), schema)
    added = 0

    def put(data: bytes) -> ObjectRef:
        nonlocal added
        stored = repository.put_object(data)
        added += stored.added_bytes
        return stored.reference

    reference = SegmentRef(
        row_count=segment.row_count,
        delete_count=segment.delete_count,
        key_min=segment.key_min.hex(),
        key_max=segment.key_max.hex(),
        index=put(segment.index),
        vectors={name: put(data) for name, data in sorted(segment.vectors.items())},
        position_min=segment.position_min,
        position_max=segment.position_max,
    )
    return WrittenRun(run=(reference,), added_bytes=added)
