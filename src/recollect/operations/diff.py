"""Diff: which records differ between two snapshots, or a snapshot and a live source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import msgspec
import numpy as np
import pyarrow as pa

from recollect.engines.base import Source, SourceView
from recollect.errors import NotFoundError
from recollect.operations.scan import digested
from recollect.repository.repository import Repository
from recollect.segments.compare import Comparison, Difference, differences
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.event import OnEvent, ignore_events
from recollect.values.key import RecordId, decode_keys
from recollect.values.schema import CollectionSchema, layout_difference
from recollect.values.snapshot import ChangeCounts, Snapshot


class RecordDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One record that differs.

    Attributes:
        fields: Of a changed record, which of "payload" and "vector:<name>" differ.
    """

    collection: str
    record_id: RecordId
    change: Literal["added", "changed", "removed"]
    fields: tuple[str, ...] = ()


OnRecord = Callable[[RecordDifference], None]


class CollectionDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How one collection differs.

    Attributes:
        state: "recreated" means that its vectors are others, see `reason`; records are then not compared.
        fingerprint_before: Empty where the collection did not exist; likewise after.
    """

    name: str
    state: Literal["same", "changed", "added", "removed", "recreated"]
    fingerprint_before: str = ""
    fingerprint_after: str = ""
    changes: ChangeCounts = ChangeCounts()
    reason: str = ""


class Side(Protocol):
    """One state to compare."""

    @property
    def label(self) -> str:
        """What to call it: a snapshot id or a source URL."""
        ...

    def schemas(self) -> dict[str, CollectionSchema]:
        """Return the schema of each collection, by name."""
        ...

    def index(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield a collection's keys and digests, ascending by key."""
        ...


class SnapshotSide:
    """A snapshot as one side; reads index rows only, no vector."""

    def __init__(self, repository: Repository, snapshot: Snapshot) -> None:
        self._repository = repository
        self._entries = {entry.name: entry for entry in snapshot.collections}
        self.snapshot = snapshot
        self.label = snapshot.id

    def schemas(self) -> dict[str, CollectionSchema]:
        """Return the schema of each collection, by name."""
        return {name: entry.schema for name, entry in self._entries.items()}

    def index(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield the stored keys and digests."""
        entry = self._entries[name]
        return RunsReader(self._repository, entry.schema, entry.runs).index()


class LiveSide:
    """A held source as one side."""

    def __init__(self, source: Source, view: SourceView, on_event: OnEvent = ignore_events) -> None:
        self._view = view
        self._on_event = on_event
        self._capabilities = source.capabilities
        self._found = {name: view.describe(name) for name in view.collections()}
        self.label = source.info().url

    def schemas(self) -> dict[str, CollectionSchema]:
        """Return the schema of each collection, by name."""
        return {name: found.schema for name, found in self._found.items()}

    def index(self, name: str) -> Iterator[pa.RecordBatch]:
        """Scan and digest the live records."""
        found = self._found[name]
        return digested(self._view, found, self._capabilities, self._on_event)


def run(
    before: Side, after: Side, *, collections: tuple[str, ...] = (), on_record: OnRecord | None = None
) -> list[CollectionDifference]:
    """Compare two sides, collection by collection, in bounded memory.

    `on_record` is called for every differing record, ascending by key, as it is found.

    Raises:
        NotFoundError: A collection that was asked for is on neither side.
    """
    known = sorted(before.schemas().keys() | after.schemas().keys())
    unknown = [name for name in collections if name not in known]
    if unknown:
        raise NotFoundError(
            f"neither {before.label} nor {after.label} has a collection {unknown[0]!r}; "
            f"they have: {', '.join(known)}"
        )
    return [_collection(name, before, after, on_record) for name in known if name in (collections or known)]


def _collection(name: str, before: Side, after: Side, on_record: OnRecord | None) -> CollectionDifference:
    old_schema, new_schema = before.schemas().get(name), after.schemas().get(name)
    schema = new_schema or old_schema
    assert schema is not None, "a collection of neither side was asked for"
    if old_schema and new_schema:
        reason = layout_difference(old_schema, new_schema)
        if reason:
            return CollectionDifference(name=name, state="recreated", reason=reason)
    totals = Comparison()
    old = before.index(name) if old_schema else iter(())
    new = after.index(name) if new_schema else iter(())
    for difference in differences(old, new, schema, totals):
        if on_record is not None:
            for record in _records(name, difference):
                on_record(record)
    state: Literal["same", "changed", "added", "removed"] = "changed" if totals.changes.total else "same"
    if old_schema is None:
        state = "added"
    elif new_schema is None:
        state = "removed"
    return CollectionDifference(
        name=name,
        state=state,
        fingerprint_before=str(totals.before) if old_schema else "",
        fingerprint_after=str(totals.after) if new_schema else "",
        changes=totals.changes,
    )


def _records(name: str, difference: Difference) -> list[RecordDifference]:
    """List the differing records of one window, ascending by key."""
    found: list[tuple[bytes, RecordDifference]] = []
    after, removed = difference.after, difference.removed
    if after is not None:
        rows = np.flatnonzero(difference.is_added | difference.is_changed)
        keys = after.column(columns.KEY).take(pa.array(rows))
        for row, key, record_id in zip(rows.tolist(), keys.to_pylist(), decode_keys(keys), strict=True):
            if difference.is_added[row]:
                record = RecordDifference(collection=name, record_id=record_id, change="added")
            else:
                fields = tuple(
                    columns.value_column(column) for column, mask in difference.differs.items() if mask[row]
                )
                record = RecordDifference(
                    collection=name, record_id=record_id, change="changed", fields=fields
                )
            found.append((key, record))
    if removed is not None:
        keys = removed.column(columns.KEY)
        for key, record_id in zip(keys.to_pylist(), decode_keys(keys), strict=True):
            found.append((key, RecordDifference(collection=name, record_id=record_id, change="removed")))
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]
