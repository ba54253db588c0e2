"""The changes that lead from a collection's parent state to what its source holds now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import pyarrow as pa

from recollect.engines.base import Capabilities, CollectionDescription, SourceView
from recollect.operations.incremental import Reading, changes_since, with_versions
from recollect.operations.scan import digested
from recollect.segments.compare import Comparison, changes_between
from recollect.segments.reader import Indexed
from recollect.values import batch as columns
from recollect.values.event import OnEvent
from recollect.values.snapshot import CollectionEntry

Compare: TypeAlias = Literal["changes", "scan", "nothing"]
"""How changes are found; see `operations.backup.BackupOptions`."""


class ByteCount:
    """Counts the records that pass through and their uncompressed bytes."""

    def __init__(self, row_count: int = 0, byte_count: int = 0) -> None:
        self.row_count = row_count
        self.byte_count = byte_count

    def count(self, changes: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass batches on, adding up keys, payloads and vectors (no digests)."""
        for batch in changes:
            self.add(batch)
            yield batch

    def add(self, batch: pa.RecordBatch) -> None:
        """Count one batch."""
        self.row_count += batch.num_rows
        for field in batch.schema:
            if field.name in {columns.KEY, columns.PAYLOAD} or field.name.startswith(columns.VECTOR_PREFIX):
                self.byte_count += batch.column(field.name).nbytes


def bytes_of_all(read: ByteCount, record_count: int, parent: CollectionEntry | None) -> int:
    """Return the bytes of all records; those not read count as the parent's average."""
    unread = max(0, record_count - read.row_count)
    if parent is None or not parent.record_count:
        return read.byte_count
    return read.byte_count + unread * parent.source_bytes // parent.record_count


def find_changes(
    view: SourceView,
    description: CollectionDescription,
    parent: CollectionEntry | None,
    old: Indexed,
    *,
    compare: Compare,
    capabilities: Capabilities,
    totals: Comparison,
    read: ByteCount,
    on_event: OnEvent,
) -> Iterator[pa.RecordBatch]:
    """Yield the changes since the parent in the cheapest way; see `operations.incremental`.

    `old` is the parent's records, or those of them that are compared. `totals` and `read` are filled on
    the way.
    """
    schema = description.schema
    if parent is not None and compare == "changes":
        changes = changes_since(view, parent, old, Reading(schema, totals, read.add, on_event))
        if changes is not None:
            return changes
    records = digested(view, description, capabilities, on_event)
    records = with_versions(view, description.name, read.count(records))
    return changes_between(old.index(), records, schema, totals)
