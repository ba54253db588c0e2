"""Scan a collection: batches of records in key order, with digests and progress."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from recollect.engines.base import CollectionDescription, SourceView
from recollect.segments.sort import sorted_by_key
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.event import OnEvent, Progress


def digested(
    view: SourceView, description: CollectionDescription, *, is_ordered: bool, on_event: OnEvent
) -> Iterator[pa.RecordBatch]:
    """Yield all records of a collection as upserts that carry all values and digests, ascending by key.

    A source that cannot scan in key order is sorted by an external merge with bounded memory.
    """
    records = view.scan(description.name, batch_rows=columns.BATCH_ROWS)
    if not is_ordered:
        records = sorted_by_key(records)
    done = 0
    for batch in records:
        yield digest_records(batch, description.schema)
        done += batch.num_rows
        total = max(done, description.record_count)
        on_event(Progress(stage="scan", subject=description.name, done=done, total=total))
