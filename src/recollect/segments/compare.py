"""Compare two states of a collection: merge-join by key, then by digest, in bounded memory.

Both sides are streams of upserts sorted by key that carry digests. `differences` tells
what differs, window by window; `changes_between` turns that into the changes that lead
from the one to the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recollect.segments.merge import windows
from recollect.values import batch as columns
from recollect.values.fingerprint import Fingerprint, fingerprint_batch
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import ChangeCounts

Mask = npt.NDArray[np.bool_]


class Comparison(msgspec.Struct, kw_only=True):
    """Running totals of one comparison; complete when its stream has ended.

    Attributes:
        before: Fingerprint of the old state, from all its rows.
        after: Fingerprint of the new state, from all its rows.
        derived: Fingerprint of the new state, from the old one and the differences; equals `after`.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    before: Fingerprint = Fingerprint()
    after: Fingerprint = Fingerprint()
    derived: Fingerprint = Fingerprint()

    @property
    def changes(self) -> ChangeCounts:
        """Return the totals as a value."""
        return ChangeCounts(added=self.added, changed=self.changed, removed=self.removed)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What differs within one range of keys.

    Attributes:
        after: All rows of the new state in the range; None if it has none.
        is_added: Rows of `after` whose key is new. Shape (n,).
        is_changed: Rows of `after` whose key was there with other digests. Shape (n,).
        differs: By digest column, rows of `after` where it differs from what was there; for
            added rows it means nothing. Shapes (n,).
        removed: Rows of the old state whose keys are gone, ascending; None if there are none.
        is_moved: Rows of `after` that are as before but for the position; None if there are none. Shape (n,).
    """

    after: pa.RecordBatch | None
    is_added: Mask
    is_changed: Mask
    differs: dict[str, Mask]
    removed: pa.RecordBatch | None
    is_moved: Mask | None = None


def differences(
    old: Iterator[pa.RecordBatch],
    new: Iterator[pa.RecordBatch],
    schema: CollectionSchema,
    totals: Comparison,
) -> Iterator[Difference]:
    """Yield what differs, ascending by key; `totals` is filled on the way.

    Streams: batches with at least `key` and the digest columns of `schema`.
    """
    digests = columns.digest_columns(schema)
    for before, after in windows([old, new]):
        if before is not None:
            totals.before += fingerprint_batch(before)
        if after is not None:
            totals.after += fingerprint_batch(after)
        difference = _compare(before, after, digests)
        _count(totals, before, difference)
        yield difference


def changes_between(
    old: Iterator[pa.RecordBatch],
    new: Iterator[pa.RecordBatch],
    schema: CollectionSchema,
    totals: Comparison,
) -> Iterator[pa.RecordBatch]:
    """Yield the changes (`change_schema`) that turn the old state into the new one, ascending by key.

    A changed record carries all its digests and only those values whose digest differs; the
    others are null, which means "as before" (`values.batch`). A record of which only the position
    differs carries no value and counts as unchanged: it must be written, because the next backup
    may go by positions, and one of another history of the engine would hide a change.

    Streams: `old` as in `differences`, `new` with the columns of `change_schema`.
    """
    for difference in differences(old, new, schema, totals):
        parts = []
        if difference.after is not None:
            written = difference.is_added | difference.is_changed
            if difference.is_moved is not None:
                written |= difference.is_moved
            if written.any():
                parts.append(_upserts(difference, np.flatnonzero(written)))
        if difference.removed is not None:
            parts.append(tombstones(difference.removed.column(columns.KEY), schema))
        yield from _in_key_order(parts)


def changes_from_feed(
    old: Iterator[pa.RecordBatch],
    feed: Iterator[pa.RecordBatch],
    schema: CollectionSchema,
    totals: Comparison,
) -> Iterator[pa.RecordBatch]:
    """Yield what is new in a feed of changes, as `changes_between` would, without the unchanged records.

    Upserts that change nothing and deletes of what is not there are dropped. `totals.after` is derived
    from the old state: the rest of the new one is never read.

    Streams: `old` as in `differences`; `feed` with the columns of `change_schema`, all values present.
    """
    return changes_from_pairs(_pairs(old, feed, totals), schema, totals)


def _pairs(
    old: Iterator[pa.RecordBatch], feed: Iterator[pa.RecordBatch], totals: Comparison
) -> Iterator[Pair]:
    for before, news in windows([old, feed]):
        if before is not None:
            totals.before += fingerprint_batch(before)
        if news is not None:
            yield before, news


Pair: TypeAlias = "tuple[pa.RecordBatch | None, pa.RecordBatch]"
"""Rows of the old state, and changes of a feed: of every changed key that was there, its old row."""


def changes_from_pairs(
    pairs: Iterator[Pair], schema: CollectionSchema, totals: Comparison
) -> Iterator[pa.RecordBatch]:
    """Do as `changes_from_feed` does for a caller that walks the old state itself.

    The caller adds the fingerprint of the whole old state to `totals.before` on the way.
    """
    for before, news in pairs:
        yield from _feed_changes(before, news, schema, totals)
    totals.derived = totals.after = totals.before + totals.after


def _feed_changes(
    before: pa.RecordBatch | None, news: pa.RecordBatch, schema: CollectionSchema, totals: Comparison
) -> Iterator[pa.RecordBatch]:
    """Handle one window; until the end, `totals.after` holds only the sum of the differences."""
    deleted = pc.equal(news.column(columns.OP), columns.DELETE)
    upserts = news.filter(pc.invert(deleted))
    old = before if before is not None else _empty_index(schema)
    gone = pc.is_in(old.column(columns.KEY), value_set=news.column(columns.KEY).filter(deleted))
    touched = pc.is_in(old.column(columns.KEY), value_set=news.column(columns.KEY))
    difference = _compare(
        old.filter(pc.and_(touched, pc.invert(gone))), upserts, columns.digest_columns(schema)
    )
    removed = old.filter(gone)
    local = Comparison()
    _count(local, None, difference)
    if difference.is_changed.any():
        keys = upserts.column(columns.KEY).filter(pa.array(difference.is_changed))
        replaced = pc.is_in(old.column(columns.KEY), value_set=keys)
        local.derived -= fingerprint_batch(_index_columns(old).filter(replaced))
    if removed.num_rows:
        local.derived -= fingerprint_batch(removed)
    totals.added += local.added
    totals.changed += local.changed
    totals.removed += removed.num_rows
    totals.after += local.derived
    parts = []
    rows = np.flatnonzero(difference.is_added | difference.is_changed)
    if len(rows):
        parts.append(_upserts(difference, rows))
    if removed.num_rows:
        parts.append(tombstones(removed.column(columns.KEY), schema))
    yield from _in_key_order(parts)


def _empty_index(schema: CollectionSchema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=columns.index_schema(schema))


def _in_key_order(parts: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    if len(parts) == 1:
        yield parts[0]
    elif parts:
        joined = pa.concat_batches(parts)
        yield joined.take(pc.sort_indices(joined.column(columns.KEY)))


def tombstones(keys: pa.BinaryArray, schema: CollectionSchema) -> pa.RecordBatch:
    """Return the changes that delete these keys."""
    target = columns.change_schema(schema)
    arrays = {field.name: pa.nulls(len(keys), field.type) for field in target}
    arrays[columns.KEY] = keys
    arrays[columns.OP] = pa.array(np.full(len(keys), columns.DELETE, dtype=np.uint8))
    return pa.RecordBatch.from_arrays([arrays[name] for name in target.names], schema=target)


def _compare(before: pa.RecordBatch | None, after: pa.RecordBatch | None, digests: list[str]) -> Difference:
    if after is None:
        nothing = np.zeros(0, dtype=bool)
        return Difference(after=None, is_added=nothing, is_changed=nothing, differs={}, removed=before)
    count = after.num_rows
    if before is None or before.num_rows == 0:
        every, none = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        return Difference(after=after, is_added=every, is_changed=none, differs={}, removed=None)
    matches = pc.index_in(after.column(columns.KEY), value_set=before.column(columns.KEY))
    is_old = matches.is_valid().to_numpy(zero_copy_only=False)
    old_rows = matches.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    differs = {name: _differs(before.column(name), after.column(name), old_rows) for name in digests}
    is_changed = is_old & np.logical_or.reduce(list(differs.values()))
    is_moved = is_old & ~is_changed & _moved(before, after, old_rows)
    gone = np.ones(before.num_rows, dtype=bool)
    gone[old_rows[is_old]] = False
    return Difference(
        after=after,
        is_added=~is_old,
        is_changed=is_changed,
        differs=differs,
        removed=_rows(before, gone) if gone.any() else None,
        is_moved=is_moved if is_moved.any() else None,
    )


def _count(totals: Comparison, before: pa.RecordBatch | None, difference: Difference) -> None:
    totals.added += int(np.count_nonzero(difference.is_added))
    totals.changed += int(np.count_nonzero(difference.is_changed))
    if before is not None:
        totals.derived += fingerprint_batch(before)
    after = difference.after
    if after is not None and (difference.is_added | difference.is_changed).any():
        totals.derived += fingerprint_batch(_rows(after, difference.is_added | difference.is_changed))
    if before is not None and after is not None and difference.is_changed.any():
        changed_keys = after.column(columns.KEY).filter(pa.array(difference.is_changed))
        replaced = pc.is_in(before.column(columns.KEY), value_set=changed_keys)
        totals.derived -= fingerprint_batch(_index_columns(before).filter(replaced))
    if difference.removed is not None:
        totals.removed += difference.removed.num_rows
        totals.derived -= fingerprint_batch(difference.removed)


def _rows(batch: pa.RecordBatch, mask: Mask) -> pa.RecordBatch:
    """Pick rows of the key and digest columns; values are left out, they are costly to copy."""
    return _index_columns(batch).filter(pa.array(mask))


def _index_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select([name for name in batch.schema.names if name == columns.KEY or is_digest(name)])


def is_digest(name: str) -> bool:
    """Tell whether a column holds digests."""
    return name == columns.PAYLOAD_DIGEST or name.startswith(columns.VECTOR_DIGEST_PREFIX)


def _differs(before: pa.Array, after: pa.Array, old_rows: npt.NDArray[np.int64]) -> Mask:
    """Compare digests row by row, null equal to null. Shapes: (n,) of `after`."""
    matched = before.take(pa.array(old_rows))
    unequal: Mask = (_words(matched) != _words(after)).any(axis=1)
    if matched.null_count or after.null_count:
        left = matched.is_valid().to_numpy(zero_copy_only=False)
        right = after.is_valid().to_numpy(zero_copy_only=False)
        unequal = np.where(left & right, unequal, left != right)
    return unequal


def _moved(before: pa.RecordBatch, after: pa.RecordBatch, old_rows: npt.NDArray[np.int64]) -> Mask:
    """Compare positions row by row; a row without position has not moved. Shapes: (n,) of `after`."""
    if columns.POSITION not in before.schema.names or columns.POSITION not in after.schema.names:
        return np.zeros(after.num_rows, dtype=bool)
    now = after.column(columns.POSITION)
    same = pc.equal(before.column(columns.POSITION).take(pa.array(old_rows)), now).fill_null(False)
    moved: Mask = pc.and_(now.is_valid(), pc.invert(same)).to_numpy(zero_copy_only=False)
    return moved


def _words(digests: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    buffer = digests.buffers()[1]
    start = digests.offset * 16
    return np.frombuffer(buffer, dtype=np.uint64, count=len(digests) * 2, offset=start).reshape(-1, 2)


def _upserts(difference: Difference, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Take rows of the new state, leaving out the values of known records whose digest is as before."""
    after = difference.after
    assert after is not None, "only asked for windows with new rows"
    if len(rows) == after.num_rows and difference.is_added.all():
        return after
    value_of = {columns.value_column(name): name for name in difference.differs}
    arrays = []
    for field in after.schema:
        mask = None
        if field.name in value_of:
            mask = (~difference.is_added & ~difference.differs[value_of[field.name]])[rows]
        arrays.append(after.column(field.name).take(pa.array(rows, mask=mask)))
    return pa.RecordBatch.from_arrays(arrays, schema=after.schema)
