"""The whole database held at one commit, as collections of records.

What a backup reads: every collection in key order, or only what changed since an earlier commit.
Writers go on meanwhile; freed rows pile up until the view is released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recollect.database import operation as ops
from recollect.database.checkpoint.event_changes import TouchedEvents, record_count
from recollect.database.checkpoint.pacing import pause
from recollect.database.checkpoint.records import (
    EVENTS,
    PAYLOAD_ONLY,
    STATE,
    EventRecords,
    Keyed,
    Refs,
    collect,
    record_feed,
    state_fetcher,
    state_keys,
    vector_fetcher,
)
from recollect.database.log.directory import LogDirectory
from recollect.database.log.segment import Commit
from recollect.database.operation import Operation, decode_body
from recollect.database.options import EventOptions
from recollect.database.tables import Tables
from recollect.database.vectors import DELETED
from recollect.errors import NotFoundError
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema

HIDDEN_PREFIX = ".restoring."
"""Collections under construction; they are no part of what a backup sees."""

Fetch = Callable[[pa.BinaryArray, Refs], pa.RecordBatch]


class Held(NamedTuple):
    """One collection of a held database."""

    name: str
    schema: CollectionSchema
    record_count: int


class HeldDatabase:
    """Every collection as of `commit_ts`. A context manager that releases it. One thread at a time."""

    def __init__(self, tables: Tables, log: LogDirectory) -> None:
        self._tables = tables
        self._log = log
        with tables.lock:
            self.commit_ts = tables.commit_ts
            self.time_us = tables.time_us
            self._owners = dict(tables.vectors)
            self._vectors = {name: table.pin() for name, table in self._owners.items()}
            self._events = tables.events.peek()
            self._state = tables.state.peek()
        self._is_held = True
        self._event_records: tuple[Keyed, EventRecords] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let freed rows be used again. Safe to call twice."""
        if self._is_held:
            self._is_held = False
            with self._tables.lock:
                for table in self._owners.values():
                    table.unpin()
                self._tables.events.index.release()

    def collections(self) -> list[str]:
        """Return the names of all collections that hold or held something, sorted; hidden ones left out."""
        names = [name for name in self._vectors if not name.startswith(HIDDEN_PREFIX)]
        if self._events.counts.event_count or self._events.options != EventOptions():
            names.append(EVENTS)
        if self._state.end:
            names.append(STATE)
        return sorted(names)

    def held(self, name: str) -> Held:
        """Describe one collection; NotFoundError names those that exist."""
        if name == STATE:
            return Held(STATE, PAYLOAD_ONLY, self._state.end)
        if name == EVENTS:
            return Held(EVENTS, PAYLOAD_ONLY, record_count(self._events))
        if name not in self._vectors:
            known = ", ".join(self.collections())
            raise NotFoundError(f"there is no collection {name!r} in the database; there are: {known}")
        return Held(name, self._owners[name].schema, self._vectors[name].row_count)

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records of a collection, ascending by key."""
        keyed, fetch = self._all(name)
        yield from record_feed(keyed, fetch, batch_rows=batch_rows)

    def changed_since(self, name: str, commit_ts: int, *, batch_rows: int) -> Iterator[pa.RecordBatch] | None:
        """Yield what commits after `commit_ts` changed, ascending by key, with an `op` column.

        None if the log does not reach back that far, or holds something that changes more than
        single records. Of events, records that did not change may be among them.
        """
        if commit_ts > self.commit_ts:
            return None
        if commit_ts == self.commit_ts:
            return iter(())
        if name == EVENTS:
            return self._changed_events(commit_ts, batch_rows)
        if name == STATE:
            start = self._state.table.first_row_after(commit_ts)
            keyed = collect(state_keys(self._state.table, start, self._state.end), pause)
            return _with_op(keyed, state_fetcher(self._state.table), batch_rows)
        touched = self._touched(name, commit_ts)
        if touched is None:
            return None
        places = {key: slot for key, slot in self._slots(name) if key in touched}
        keyed = collect(((key, places.get(key, DELETED)) for key in touched), pause)
        return _with_op(keyed, self._vector_fetch(name), batch_rows)

    def _changed_events(self, commit_ts: int, batch_rows: int) -> Iterator[pa.RecordBatch] | None:
        touched = TouchedEvents()
        if not self._read_log(commit_ts, touched.note):
            return None
        if not touched:
            return iter(())
        records = touched.records(self._events)
        return (
            None if records is None else _with_op(collect(records.pairs(), pause), records.fetch, batch_rows)
        )

    def _all(self, name: str) -> tuple[Keyed, Fetch]:
        if name == STATE:
            table = self._state.table
            return collect(state_keys(table, self._state.start, self._state.end), pause), state_fetcher(table)
        if name == EVENTS:
            keyed, records = self._all_events()
            return keyed, records.fetch
        self.held(name)
        return collect(self._slots(name), pause), self._vector_fetch(name)

    def _all_events(self) -> tuple[Keyed, EventRecords]:
        if self._event_records is None:
            records = EventRecords(self._events, self._events.contexts, all_items=True)
            pairs = (pair for pair in records.pairs() if pair[1] != DELETED)
            self._event_records = collect(pairs, pause), records
        return self._event_records

    def _slots(self, name: str) -> Iterator[tuple[bytes, int]]:
        view = self._vectors[name]
        return ((view.keys[slot], slot) for slot in view.live_slots().tolist())

    def _vector_fetch(self, name: str) -> Fetch:
        view = self._vectors[name]
        return vector_fetcher(self._owners[name].schema, view.blocks, view.metadata)

    def _touched(self, name: str, commit_ts: int) -> set[bytes] | None:
        """Return the keys of a vector collection that commits in the log wrote or deleted since."""
        touched: set[bytes] | None = set()

        def note(op: Operation) -> None:
            nonlocal touched
            if touched is not None and _concerns(op, name):
                if isinstance(op, (ops.VectorsSet, ops.VectorsDelete, ops.MetadataSet)):
                    touched.update(op.keys)
                else:
                    touched = None

        return touched if self._read_log(commit_ts, note) else None

    def _read_log(self, commit_ts: int, note: Callable[[Operation], None]) -> bool:
        """Show every operation of the commits after `commit_ts`; False if the log does not reach back."""
        firsts = self._log.first_commits()
        if not firsts or firsts[0] > commit_ts + 1:
            return False

        def read(commit: Commit) -> None:
            for op in decode_body(commit.body).operations:
                note(op)

        self._log.replay(commit_ts, read, last_ts=self.commit_ts)
        return True


def _concerns(op: Operation, name: str) -> bool:
    if isinstance(op, ops.CollectionSwitch) and op.new_name == name:
        return True
    return getattr(op, "collection", None) == name


def _with_op(keyed: Keyed, fetch: Fetch, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield records with their operation; what is gone has nothing but its key."""
    for start in range(0, len(keyed.refs), batch_rows):
        keys, refs = keyed.keys.slice(start, batch_rows), keyed.refs[start : start + batch_rows]
        is_gone = refs == DELETED
        found = fetch(keys.filter(pa.array(~is_gone)), refs[~is_gone])
        found = found.append_column(columns.OP, _ops(found.num_rows, columns.UPSERT))
        gone_keys = keys.filter(pa.array(is_gone))
        nothing = {field.name: pa.nulls(len(gone_keys), field.type) for field in found.schema}
        nothing |= {columns.KEY: gone_keys, columns.OP: _ops(len(gone_keys), columns.DELETE)}
        gone = pa.RecordBatch.from_arrays(list(nothing.values()), schema=found.schema)
        joined = pa.concat_batches([found, gone])
        yield joined.take(pc.sort_indices(joined.column(columns.KEY)))


def _ops(count: int, op: int) -> pa.Array:
    return pa.array(np.full(count, op, dtype=np.uint8))
