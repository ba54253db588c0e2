"""What changed since the parent snapshot, in the cheapest way that the engine offers.

1. A change feed (`ChangedSince`): the engine lists changes; nothing is scanned.
2. Record versions (`Versioned`): keys and versions are listed and compared with those of
   the parent; only records of another version are read.
3. Otherwise everything is scanned and compared by digest.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.base import ChangedSince, SourceView, Versioned
from recollect.segments.merge import windows
from recollect.segments.reader import Indexed
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.event import OnEvent, Progress
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import CollectionEntry

FETCH_ROWS = 4096
FETCH_ROWS_FIRST = 64
FETCH_BYTES = 32 * 1024 * 1024
"""What one fetch brings, about: the number of records follows from the size of those fetched before."""


def feed_since(
    view: SourceView, parent: CollectionEntry, old: Indexed, schema: CollectionSchema, on_event: OnEvent
) -> Iterator[pa.RecordBatch] | None:
    """Return the changes since the parent, as `change_schema` batches; None if the engine cannot tell them.

    Ascending by key. Records that did not change may be among them.
    """
    name = parent.name
    if isinstance(view, ChangedSince):
        feed = view.changed_since(name, parent.position)
        if feed is not None:
            return _digested(feed, schema)
    if isinstance(view, Versioned) and parent.position and view.continues(name, parent.position):
        if view.is_unchanged(name, parent.position):
            return iter(())
        return _digested(_by_version(view, name, old, on_event), schema)
    return None


def with_versions(view: SourceView, name: str, changes: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Fill the position column of a full scan from the engine's list of versions, if it has one."""
    if not isinstance(view, Versioned):
        yield from changes
        return
    for batch, versions in windows([changes, view.versions(name)]):
        if batch is not None:
            yield batch if versions is None else _at_versions(batch, versions)


def _at_versions(batch: pa.RecordBatch, versions: pa.RecordBatch) -> pa.RecordBatch:
    """Fill the position column from a list of versions; null for records that it does not have."""
    matches = pc.index_in(batch.column(columns.KEY), value_set=versions.column(columns.KEY))
    place = batch.schema.get_field_index(columns.POSITION)
    positions = versions.column(columns.POSITION).take(matches)
    return batch.set_column(place, batch.schema.field(place), positions)


def _digested(feed: Iterator[pa.RecordBatch], schema: CollectionSchema) -> Iterator[pa.RecordBatch]:
    for batch in feed:
        if batch.num_rows:
            yield digest_records(batch, schema)


def _by_version(view: Versioned, name: str, old: Indexed, on_event: OnEvent) -> Iterator[pa.RecordBatch]:
    """List versions, fetch the records whose version is another, and report vanished keys as deletes."""
    done = 0
    fetcher = _Fetcher(view, name)
    for before, now in windows([old.index(), view.versions(name)]):
        if now is None:
            assert before is not None, "a window has rows"
            keys = before.column(columns.KEY)
            yield from fetcher.changes(keys.slice(0, 0), keys)
            continue
        fresh, gone = _other_versions(before, now)
        for batch in fetcher.changes(fresh, gone):
            yield _at_versions(batch, now)
        done += now.num_rows
        on_event(Progress(stage="compare", subject=name, done=done))


def _other_versions(
    before: pa.RecordBatch | None, now: pa.RecordBatch
) -> tuple[pa.BinaryArray, pa.BinaryArray]:
    """Return the keys to read and the keys that are gone."""
    keys = now.column(columns.KEY)
    if before is None:
        return keys, keys.slice(0, 0)
    old_keys = before.column(columns.KEY)
    matches = pc.index_in(keys, value_set=old_keys)
    same = pc.equal(before.column(columns.POSITION).take(matches), now.column(columns.POSITION))
    is_fresh = pc.invert(same.fill_null(False))
    gone = pc.invert(pc.is_in(old_keys, value_set=keys))
    return keys.filter(is_fresh), old_keys.filter(gone)


class _Fetcher:
    """Reads records by key, as many at once as `FETCH_BYTES` hold of those read before."""

    def __init__(self, view: Versioned, name: str) -> None:
        self._view = view
        self._name = name
        self._rows = FETCH_ROWS_FIRST

    def changes(self, fresh: pa.BinaryArray, gone: pa.BinaryArray) -> Iterator[pa.RecordBatch]:
        """Yield upserts of fetched records and deletes, ascending by key."""
        ordered = pa.concat_arrays([fresh, gone])
        order: npt.NDArray[np.int64] = pc.sort_indices(ordered).to_numpy().astype(np.int64)
        start = 0
        while start < len(order):
            part = order[start : start + self._rows]
            start += len(part)
            upserts = self._view.fetch(self._name, ordered.take(pa.array(part[part < len(fresh)])))
            deletes = ordered.take(pa.array(part[part >= len(fresh)]))
            if upserts.num_rows:
                self._rows = max(1, min(FETCH_ROWS, FETCH_BYTES * upserts.num_rows // upserts.nbytes))
            yield _joined(upserts, deletes, ordered.take(pa.array(part)))


def _joined(upserts: pa.RecordBatch, deletes: pa.BinaryArray, ordered: pa.BinaryArray) -> pa.RecordBatch:
    """Put upserts and deletes into one batch in the order of `ordered`."""
    keys = pa.concat_arrays([upserts.column(columns.KEY), deletes])
    rows = pc.index_in(ordered, value_set=keys)
    count, gone = upserts.num_rows, len(deletes)
    ops = np.concatenate([np.full(count, columns.UPSERT), np.full(gone, columns.DELETE)]).astype(np.uint8)
    arrays, fields = [], []
    for field in upserts.schema:
        values = upserts.column(field.name)
        tail = deletes if field.name == columns.KEY else pa.nulls(gone, field.type)
        arrays.append(pa.concat_arrays([values, tail]).take(rows))
        fields.append(field)
    arrays.append(pa.array(ops).take(rows))
    fields.append(pa.field(columns.OP, pa.uint8(), False))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
