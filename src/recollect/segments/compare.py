"""Compare two states of a collection: merge-join by key, then by digest.

Both sides are streams sorted by key that carry digests; only differing records come out.
"""

from __future__ import annotations

from collections.abc import Iterator

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


class Comparison(msgspec.Struct, kw_only=True):
    """Running totals of one comparison; complete when its stream has ended.

    Attributes:
        changes: Records that differ, from the old state's point of view.
        fingerprint: Of the new state, from all its rows.
        derived: Of the new state, from the old fingerprint and the differences only.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    fingerprint: Fingerprint = Fingerprint()
    derived: Fingerprint = Fingerprint()

    @property
    def changes(self) -> ChangeCounts:
        """Return the totals as a value."""
        return ChangeCounts(added=self.added, changed=self.changed, removed=self.removed)


def changes_between(
    old: Iterator[pa.RecordBatch],
    new: Iterator[pa.RecordBatch],
    schema: CollectionSchema,
    *,
    old_fingerprint: Fingerprint,
    totals: Comparison,
) -> Iterator[pa.RecordBatch]:
    """Yield the changes that turn the old state into the new one, ascending by key.

    A changed record carries all its digests and only those values whose digest differs; the
    others are null, which means "as before" (`values.batch`).

    Streams: `old` has the columns of `index_schema` (upserts only), `new` those of `change_schema`.
    `totals` is filled on the way.
    """
    digests = columns.digest_columns(schema)
    totals.derived = old_fingerprint
    for before, after in windows([old, new]):
        if after is not None:
            totals.fingerprint += fingerprint_batch(after)
        change = _window_changes(before, after, schema, digests, totals)
        if change.num_rows:
            yield change


def _window_changes(
    before: pa.RecordBatch | None,
    after: pa.RecordBatch | None,
    schema: CollectionSchema,
    digests: list[str],
    totals: Comparison,
) -> pa.RecordBatch:
    if before is None:
        assert after is not None, "a window has rows"
        totals.added += after.num_rows
        totals.derived += fingerprint_batch(after)
        return after
    if after is None:
        return _deletes(before, schema, totals)
    matches = pc.index_in(after.column(columns.KEY), value_set=before.column(columns.KEY))
    is_old = matches.is_valid().to_numpy(zero_copy_only=False)
    old_rows = matches.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    differs = {name: _differs(before.column(name), after.column(name), old_rows) for name in digests}
    any_differs = np.logical_or.reduce(list(differs.values()))
    upserted = np.flatnonzero(~is_old | any_differs)
    changed = is_old & any_differs
    gone = np.ones(before.num_rows, dtype=bool)
    gone[old_rows[is_old]] = False
    totals.added += int(np.count_nonzero(~is_old))
    totals.changed += int(np.count_nonzero(changed))
    if len(upserted):
        totals.derived += fingerprint_batch(after.take(pa.array(upserted)))
    if changed.any():
        totals.derived -= fingerprint_batch(_take(before, old_rows[changed]))
    upserts = _keep_differing(after, upserted, is_old, differs)
    if not gone.any():
        return upserts
    deletes = _deletes(_take(before, np.flatnonzero(gone)), schema, totals)
    return _in_key_order(upserts, deletes)


def _differs(before: pa.Array, after: pa.Array, old_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Compare digests row by row, null equal to null. Shapes: (n,) of `after`."""
    matched = before.take(pa.array(old_rows))
    left, right = _words(matched), _words(after)
    unequal: npt.NDArray[np.bool_] = (left != right).any(axis=1)
    if matched.null_count or after.null_count:
        left_valid = matched.is_valid().to_numpy(zero_copy_only=False)
        right_valid = after.is_valid().to_numpy(zero_copy_only=False)
        unequal = np.where(left_valid & right_valid, unequal, left_valid != right_valid)
    return unequal


def _words(digests: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    buffer = digests.buffers()[1]
    start = digests.offset * 16
    return np.frombuffer(buffer, dtype=np.uint64, count=len(digests) * 2, offset=start).reshape(-1, 2)


def _keep_differing(
    after: pa.RecordBatch,
    rows: npt.NDArray[np.int64],
    is_old: npt.NDArray[np.bool_],
    differs: dict[str, npt.NDArray[np.bool_]],
) -> pa.RecordBatch:
    """Take rows, leaving out the values of known records whose digest is as before."""
    value_masks = {columns.value_column(name): is_old & ~mask for name, mask in differs.items()}
    arrays = []
    for field in after.schema:
        drop = value_masks.get(field.name)
        indices = pa.array(rows, mask=None if drop is None else drop[rows])
        arrays.append(after.column(field.name).take(indices))
    return pa.RecordBatch.from_arrays(arrays, schema=after.schema)


def _deletes(before: pa.RecordBatch, schema: CollectionSchema, totals: Comparison) -> pa.RecordBatch:
    count = before.num_rows
    totals.removed += count
    totals.derived -= fingerprint_batch(before)
    return tombstones(before.column(columns.KEY), schema)


def tombstones(keys: pa.BinaryArray, schema: CollectionSchema) -> pa.RecordBatch:
    """Return the changes that delete these keys."""
    target = columns.change_schema(schema)
    arrays = [pa.nulls(len(keys), field.type) for field in target]
    arrays[0] = keys
    arrays[1] = pa.array(np.full(len(keys), columns.DELETE, dtype=np.uint8))
    return pa.RecordBatch.from_arrays(arrays, schema=target)


def _in_key_order(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    if first.num_rows == 0:
        return second
    joined = pa.concat_batches([first, second])
    return joined.take(pc.sort_indices(joined.column(columns.KEY)))


def _take(batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    return batch.take(pa.array(rows))
