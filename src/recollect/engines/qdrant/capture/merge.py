"""Sorted streams of several shards → one sorted stream, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from recollect.errors import IntegrityError
from recollect.segments.merge import Groups, windows
from recollect.values import batch as columns
from recollect.values.key import display_key


def merged(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all streams ascending by key. Memory: one batch of each.

    Raises:
        IntegrityError: A key stands in two streams: a shard is being moved or split.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    for window in windows(streams):
        parts = [part for part in window if part is not None]
        groups = Groups(parts)
        joined = pa.concat_batches(parts)
        if len(groups.starts) != len(groups.order):
            raise IntegrityError(
                f"record {_first_twice(joined)} is in two shards of the collection",
                "wait until resharding has ended, then back up again",
            )
        yield joined if len(parts) == 1 else joined.take(pa.array(groups.order))


def _first_twice(joined: pa.RecordBatch) -> str:
    seen: set[bytes] = set()
    for key in joined.column(columns.KEY).to_pylist():
        if key in seen:
            return display_key(key)
        seen.add(key)
    return "?"
