"""Read a collection from its runs: newest wins, in key order, in bounded memory.

Index rows (key, digests, payload, and where each vector stands) are merged first; vectors
are fetched only for the rows that won, a few blocks at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.errors import IntegrityError
from recollect.repository.repository import Repository
from recollect.segments.merge import Groups, windows
from recollect.segments.run import ROW, RunReader
from recollect.values import batch as columns
from recollect.values.key import display_key
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import Run

NO_ROW = -1
INDEX_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of all open indexes that are held in memory; the rest goes to temporary files."""
PART_BYTES = 16 * 1024 * 1024
"""Vectors of a batch that a reader yields, about."""


class Indexed(Protocol):
    """A state whose records can be listed without their values."""

    def index(self) -> Iterator[pa.RecordBatch]:
        """Yield key, op, position and digests of all live records: `index_schema`, upserts only."""
        ...


class RunsReader:
    """The records that a list of runs (oldest first) stands for. Safe to share between threads."""

    def __init__(self, repository: Repository, schema: CollectionSchema, runs: tuple[Run, ...]) -> None:
        self.runs = runs
        self._repository = repository
        self._schema = schema

    def index(self) -> Iterator[pa.RecordBatch]:
        """Yield key, op, position and digests of all live records: `index_schema`, upserts only."""
        target = columns.index_schema(self._schema)
        streams = [reader.index() for reader in self._readers()]
        for window in windows(streams):
            batches = [batch for batch in window if batch is not None]
            merged = _newest_live(batches)
            if merged.num_rows:
                yield _select(merged, target)

    def records(self) -> Iterator[pa.RecordBatch]:
        """Yield all live records with their values: `record_schema`.

        Raises:
            IntegrityError: Bytes are damaged, or a value that a digest promises stands nowhere.
        """
        target = columns.record_schema(self._schema)
        for batch in self.live_changes():
            yield _select(batch, target)

    def live_changes(self) -> Iterator[pa.RecordBatch]:
        """Yield all live records as upserts that carry every value: `change_schema`."""
        for batch in self.changes():
            is_live = _is_upsert(batch)
            live = batch if is_live.all() else batch.filter(pa.array(is_live))
            _require_complete(live, self._schema)
            if live.num_rows:
                yield live

    def changes(self) -> Iterator[pa.RecordBatch]:
        """Yield the runs merged into one: the newest change of each key, tombstones included.

        A value that stands in none of the runs stays null ("as before").
        """
        readers = self._readers()
        target = columns.change_schema(self._schema)
        for window in windows([reader.rows() for reader in readers]):
            present = [
                (reader, batch) for reader, batch in zip(readers, window, strict=True) if batch is not None
            ]
            yield from _merge_window(present, self._schema, target)

    def _readers(self) -> list[RunReader]:
        """Return one reader a run, newest first: the order in which they win."""
        share = INDEX_BYTES_MAX // max(1, len(self.runs))
        return [
            RunReader(self._repository, self._schema, run, held_bytes_max=share)
            for run in reversed(self.runs)
        ]


def _newest_live(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    joined = pa.concat_batches(batches)
    if len(batches) > 1:
        joined = joined.take(pa.array(Groups(batches).newest))
    is_live = _is_upsert(joined)
    return joined if is_live.all() else joined.filter(pa.array(is_live))


def _is_upsert(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    ops = batch.column(columns.OP).to_numpy(zero_copy_only=False)
    upserts: npt.NDArray[np.bool_] = ops == columns.UPSERT
    return upserts


def _merge_window(
    present: list[tuple[RunReader, pa.RecordBatch]], schema: CollectionSchema, target: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Merge a window; its values are fetched a part at a time, since many runs make a wide window."""
    batches = [batch for _, batch in present]
    groups = Groups(batches)
    joined = pa.concat_batches(batches)
    newest = joined.select(columns.index_schema(schema).names)
    if len(batches) > 1:
        newest = newest.take(pa.array(groups.newest))
    stored = joined.column(columns.PAYLOAD).is_valid().to_numpy(zero_copy_only=False)
    rows = {
        columns.PAYLOAD: _present_only(groups.first_where(stored), newest, joined, columns.PAYLOAD_DIGEST)
    }
    for spec in schema.vectors:
        found = groups.first_where(RunReader.stored(joined, spec))
        digest_column = columns.vector_digest_column(spec.name)
        rows[columns.vector_column(spec.name)] = _present_only(found, newest, joined, digest_column)
    step = _part_rows(schema)
    for start in range(0, newest.num_rows, step):
        part = newest.slice(start, step)
        arrays = {name: part.column(name) for name in part.schema.names}
        wanted = rows[columns.PAYLOAD][start : start + step]
        arrays[columns.PAYLOAD] = _take_or_null(joined.column(columns.PAYLOAD), wanted)
        for spec in schema.vectors:
            name = columns.vector_column(spec.name)
            arrays[name] = _gather(present, rows[name][start : start + step], spec)
        yield pa.RecordBatch.from_arrays([arrays[name] for name in target.names], schema=target)


def _part_rows(schema: CollectionSchema) -> int:
    """Return how many records' vectors take about `PART_BYTES`; sparse and multi-vectors count as one row."""
    dense = (spec for spec in schema.vectors if spec.kind != "sparse")
    row_bytes = sum(spec.dimension * columns.numpy_datatype(spec).itemsize for spec in dense)
    return min(columns.BATCH_ROWS, max(1, PART_BYTES // max(1, row_bytes)))


def _present_only(
    rows: npt.NDArray[np.int64], newest: pa.RecordBatch, joined: pa.RecordBatch, digest_column: str
) -> npt.NDArray[np.int64]:
    """Forget values that the newest row no longer has, and check that the others are the right ones.

    Raises:
        IntegrityError: The nearest stored value has another digest than the record.
    """
    digests = newest.column(digest_column)
    rows = np.where(digests.is_valid().to_numpy(zero_copy_only=False), rows, NO_ROW)
    found = np.flatnonzero(rows != NO_ROW)
    wanted = digests.take(pa.array(found))
    stored = joined.column(digest_column).take(pa.array(rows[found]))
    if not wanted.equals(stored):
        key = newest.column(columns.KEY)[int(found[_first_difference(wanted, stored)])].as_py()
        raise IntegrityError(
            f"the {columns.value_column(digest_column)} of record {display_key(key)} does not fit its digest",
            "run `recollect verify --read-data`",
        )
    return rows


def _first_difference(left: pa.Array, right: pa.Array) -> int:
    pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
    return next(number for number, (ours, theirs) in enumerate(pairs) if ours != theirs)


def _take_or_null(column: pa.Array, rows: npt.NDArray[np.int64]) -> pa.Array:
    missing = rows == NO_ROW
    return column.take(pa.array(rows, mask=missing) if missing.any() else pa.array(rows))


def _gather(
    present: list[tuple[RunReader, pa.RecordBatch]], rows: npt.NDArray[np.int64], spec: VectorSpec
) -> pa.Array:
    """Fetch vectors of rows (numbers in the window's concatenation) from the runs that store them.

    Shapes: rows (k,), `NO_ROW` where there is nothing to fetch → k values.
    """
    parts: list[pa.Array] = []
    places = np.full(len(rows), NO_ROW, dtype=np.int64)
    start, fetched = 0, 0
    for reader, batch in present:
        here = np.flatnonzero((rows >= start) & (rows < start + batch.num_rows))
        if len(here):
            own_rows = batch.column(ROW).to_numpy()[rows[here] - start]
            parts.append(reader.vectors(batch, spec, own_rows))
            places[here] = np.arange(fetched, fetched + len(here))
            fetched += len(here)
        start += batch.num_rows
    if not parts:
        return pa.nulls(len(rows), columns.vector_type(spec))
    if fetched == len(rows) and len(parts) == 1:
        return parts[0]
    return _take_or_null(pa.concat_arrays(parts), places)


def _require_complete(batch: pa.RecordBatch, schema: CollectionSchema) -> None:
    for name in columns.digest_columns(schema):
        values = batch.column(columns.value_column(name))
        if batch.column(name).null_count != values.null_count:
            raise IntegrityError(
                f"a {columns.value_column(name)} that the snapshot promises stands in none of its segments",
                "run `recollect verify --read-data`, then restore from another snapshot",
            )


def _select(batch: pa.RecordBatch, target: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(name) for name in target.names], schema=target)
