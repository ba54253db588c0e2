"""Scan a collection: batches of records in key order, with digests and progress."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from recollect.engines.base import Capabilities, CollectionDescription, SourceView
from recollect.segments.sort import sorted_by_key
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.event import OnEvent, Progress


def digested(
    view: SourceView, description: CollectionDescription, capabilities: Capabilities, on_event: OnEvent
) -> Iterator[pa.RecordBatch]:
    """Yield all records of a collection as upserts that carry all values and digests, ascending by key."""
    records = view.scan(description.name, batch_rows=columns.BATCH_ROWS)
    done = 0
    for batch in in_key_order(records, capabilities):
        yield digest_records(batch, description.schema)
        done += batch.num_rows
        total = max(done, description.record_count)
        on_event(Progress(stage="scan", subject=description.name, done=done, total=total))


def in_key_order(records: Iterator[pa.RecordBatch], capabilities: Capabilities) -> Iterator[pa.RecordBatch]:
    """Yield records ascending by key: as they come, or through an external merge sort (bounded memory)."""
    return records if capabilities.ordered_scan else sorted_by_key(records)
