"""What changed since the parent snapshot, in the cheapest way that the engine offers.

1. A change feed (`ChangedSince`): the engine lists changes; nothing is scanned.
2. Record versions (`Versioned`): keys and versions are listed and compared with those of
   the parent; only records of another version are read.
3. Otherwise everything is scanned and compared by digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.base import ChangedSince, SourceView, Versioned
from recollect.segments.compare import Comparison, Pair, changes_from_feed, changes_from_pairs
from recollect.segments.merge import windows
from recollect.segments.reader import Indexed
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.event import OnEvent, Progress
from recollect.values.fingerprint import fingerprint_batch
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import CollectionEntry

FETCH_ROWS = 4096
FETCH_ROWS_FIRST = 64
FETCH_BYTES = 32 * 1024 * 1024
"""What one fetch brings, about: the number of records follows from the size of those fetched before."""


class Reading(msgspec.Struct, frozen=True):
    """How changes are read, and what reading them fills.

    Attributes:
        totals: Filled on the way; complete when the changes have ended.
        count: Told of every batch of changes that was read, before those that change nothing are dropped.
    """

    schema: CollectionSchema
    totals: Comparison
    count: Callable[[pa.RecordBatch], None]
    on_event: OnEvent


def changes_since(
    view: SourceView,
    parent: CollectionEntry,
    old: Indexed,
    reading: Reading,
) -> Iterator[pa.RecordBatch] | None:
    """Return the changes since the parent, as `change_schema` batches; None if the engine cannot tell them.

    Ascending by key. The parent's index is read once, whole, whatever changed: its fingerprint is proven.
    """
    name, schema, totals = parent.name, reading.schema, reading.totals
    if isinstance(view, ChangedSince):
        feed = view.changed_since(name, parent.position)
        if feed is not None:
            return changes_from_feed(old.index(), _digested(feed, reading), schema, totals)
    if isinstance(view, Versioned) and parent.position and view.continues(name, parent.position):
        if view.is_unchanged(name, parent.position):
            return changes_from_feed(old.index(), iter(()), schema, totals)
        return changes_from_pairs(_by_version(view, name, old, reading), schema, totals)
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


def _digested(feed: Iterator[pa.RecordBatch], reading: Reading) -> Iterator[pa.RecordBatch]:
    for batch in feed:
        if batch.num_rows:
            changes = digest_records(batch, reading.schema)
            reading.count(changes)
            yield changes


def _by_version(view: Versioned, name: str, old: Indexed, reading: Reading) -> Iterator[Pair]:
    """Compare the parent's versions with those of now, and read the records whose version is another."""
    done = 0
    fetcher = _Fetcher(view, name, reading)
    for before, now in windows([old.index(), view.versions(name)]):
        if before is not None:
            reading.totals.before += fingerprint_batch(before)
        fetcher.want(_other_versions(before, now))
        yield from fetcher.whole_fetches()
        if now is not None:
            done += now.num_rows
            reading.on_event(Progress(stage="compare", subject=name, done=done))
    yield from fetcher.rest()


class _Wanted(msgspec.Struct, frozen=True):
    """Keys that are to be read, or are gone: of another version than before.

    Attributes:
        before: Rows of the parent's index with these keys, of those that were there.
        keys: Ascending.
        positions: The version of each key now.
        is_gone: Which keys are there no more; their positions are null.
    """

    before: pa.RecordBatch | None
    keys: pa.BinaryArray
    positions: pa.UInt64Array
    is_gone: pa.BooleanArray


def _other_versions(before: pa.RecordBatch | None, now: pa.RecordBatch | None) -> _Wanted:
    if before is None:
        assert now is not None, "a window has rows"
        keys = now.column(columns.KEY)
        return _Wanted(None, keys, now.column(columns.POSITION), _flags(len(keys), 0))
    old_keys = before.column(columns.KEY)
    if now is None:
        count = len(old_keys)
        return _Wanted(before, old_keys, pa.nulls(count, pa.uint64()), _flags(0, count))
    keys, positions = now.column(columns.KEY), now.column(columns.POSITION)
    if keys.equals(old_keys):
        is_other = pc.invert(pc.equal(before.column(columns.POSITION), positions).fill_null(False))
        fresh = keys.filter(is_other)
        return _Wanted(before.filter(is_other), fresh, positions.filter(is_other), _flags(len(fresh), 0))
    matches = pc.index_in(keys, value_set=old_keys)
    is_same = pc.equal(before.column(columns.POSITION).take(matches), positions).fill_null(False)
    is_other = pc.invert(is_same)
    is_touched = np.ones(len(old_keys), dtype=bool)
    is_touched[matches.filter(is_same).to_numpy()] = False
    fresh = keys.filter(is_other)
    gone = old_keys.filter(pc.invert(pc.is_in(old_keys, value_set=keys)))
    wanted = pa.concat_arrays([fresh, gone])
    order = pc.sort_indices(wanted)
    at = pa.concat_arrays([positions.filter(is_other), pa.nulls(len(gone), pa.uint64())])
    is_gone = _flags(len(fresh), len(gone))
    return _Wanted(
        before.filter(pa.array(is_touched)), wanted.take(order), at.take(order), is_gone.take(order)
    )


def _flags(fresh: int, gone: int) -> pa.BooleanArray:
    return pa.array(np.arange(fresh + gone) >= fresh)


class _Fetcher:
    """Reads records by key, as many at once as `FETCH_BYTES` hold of those read before."""

    def __init__(self, view: Versioned, name: str, reading: Reading) -> None:
        self._view = view
        self._name = name
        self._reading = reading
        self._rows = FETCH_ROWS_FIRST
        self._wanted: list[_Wanted] = []
        self._count = 0

    def want(self, wanted: _Wanted) -> None:
        """Take note of keys; all are greater than those noted before."""
        if len(wanted.keys):
            self._wanted.append(wanted)
            self._count += len(wanted.keys)

    def whole_fetches(self) -> Iterator[Pair]:
        """Read while there are as many keys as one fetch may bring."""
        while self._count >= self._rows:
            yield self._read()

    def rest(self) -> Iterator[Pair]:
        """Read what is left."""
        while self._count:
            yield self._read()

    def _read(self) -> Pair:
        keys = pa.concat_arrays([each.keys for each in self._wanted])
        positions = pa.concat_arrays([each.positions for each in self._wanted])
        is_gone = pa.concat_arrays([each.is_gone for each in self._wanted])
        olds = [each.before for each in self._wanted if each.before is not None]
        before = pa.concat_batches(olds) if olds else None
        count = min(self._rows, len(keys))
        self._count = len(keys) - count
        left = _Wanted(before, keys.slice(count), positions.slice(count), is_gone.slice(count))
        self._wanted = [left] if self._count else []
        part = _Wanted(before, keys.slice(0, count), positions.slice(0, count), is_gone.slice(0, count))
        return before, self._records(part)

    def _records(self, wanted: _Wanted) -> pa.RecordBatch:
        """Return upserts of the records that there are, and deletes of the others, as digested changes."""
        is_there = pc.invert(wanted.is_gone)
        upserts = self._view.fetch(self._name, wanted.keys.filter(is_there))
        if upserts.num_rows:
            self._rows = max(1, min(FETCH_ROWS, FETCH_BYTES * upserts.num_rows // upserts.nbytes))
        place = upserts.schema.get_field_index(columns.POSITION)
        positions = wanted.positions.filter(is_there)
        upserts = upserts.set_column(place, upserts.schema.field(place), positions)
        news = digest_records(
            _joined(upserts, wanted.keys.filter(wanted.is_gone), wanted.keys), self._reading.schema
        )
        self._reading.count(news)
        return news


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
