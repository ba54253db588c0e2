"""The reference engine: collections as sorted Arrow tables in this process's memory.

Every value that the batch format can carry comes back bit for bit, and a hold is a true
point in time. Made for tests, examples and trying things out. `memory:` is a fresh
engine, `memory:NAME` one that the whole process shares.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.errors import NotFoundError
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema


class _Collection(msgspec.Struct, frozen=True, kw_only=True):
    schema: CollectionSchema
    aliases: tuple[str, ...]
    records: pa.Table


class MemoryEngine:
    """A source and a target at once. Safe to share between threads.

    Tables are immutable values in a dict: a hold is a copy of that dict.
    """

    def __init__(self, name: str = "", *, capabilities: Capabilities | None = None) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._collections: dict[str, _Collection] = {}
        self._capabilities = capabilities or Capabilities(point_in_time=True, ordered_scan=True)

    @property
    def capabilities(self) -> Capabilities:
        """What this engine promises."""
        return self._capabilities

    def info(self) -> EngineInfo:
        """Identify the engine."""
        return EngineInfo(product="memory", url=f"memory:{self._name}")

    def close(self) -> None:
        """Do nothing: the collections live as long as the object."""

    def create(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...] = ()) -> None:
        """Create an empty collection, or empty an existing one."""
        empty = columns.record_schema(schema).empty_table()
        self._put(name, _Collection(schema=schema, aliases=tuple(sorted(aliases)), records=empty))

    def upsert(self, name: str, records: pa.RecordBatch) -> None:
        """Write records over those with the same keys; atomic."""
        old = self._get(name)
        kept = self._without(old.records, records.column(columns.KEY))
        joined = pa.concat_tables([kept, pa.Table.from_batches([records])])
        ordered = joined.take(pc.sort_indices(joined.column(columns.KEY))).combine_chunks()
        self._put(name, msgspec.structs.replace(old, records=ordered))

    def delete(self, name: str, keys: pa.BinaryArray) -> None:
        """Remove the records with these keys; atomic."""
        old = self._get(name)
        self._put(name, msgspec.structs.replace(old, records=self._without(old.records, keys)))

    def drop(self, name: str) -> None:
        """Remove a collection if it exists."""
        with self._lock:
            self._collections.pop(name, None)

    def adopt(self, name: str, other: MemoryEngine) -> None:
        """Take over a collection of another engine under the same name; atomic."""
        self._put(name, other._get(name))

    @contextmanager
    def hold(self) -> Iterator[MemoryView]:
        """Freeze all collections as they are now."""
        with self._lock:
            frozen = dict(self._collections)
        yield MemoryView(frozen, self.capabilities)

    def find(self, name: str) -> CollectionDescription | None:
        """Describe the collection or alias of this name; None if there is none."""
        with self.hold() as view:
            return view.describe(name) if view.resolve(name) else None

    def check_schema(self, schema: CollectionSchema) -> None:
        """Accept every schema."""

    def stage(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...]) -> MemoryStaged:
        """Begin a collection that becomes visible when it is switched."""
        return MemoryStaged(self, name, schema, aliases)

    @contextmanager
    def edit(self, name: str) -> Iterator[MemoryLive]:
        """Open a collection to write into."""
        with self.hold() as view:
            own = view.describe(name).name
        yield MemoryLive(self, own)

    @staticmethod
    def _without(records: pa.Table, keys: pa.BinaryArray) -> pa.Table:
        return records.filter(pc.invert(pc.is_in(records.column(columns.KEY), value_set=keys)))

    def _get(self, name: str) -> _Collection:
        with self._lock:
            return self._collections[name]

    def _put(self, name: str, collection: _Collection) -> None:
        with self._lock:
            self._collections[name] = collection


class MemoryView:
    """The collections as they were when the hold began."""

    def __init__(self, collections: dict[str, _Collection], capabilities: Capabilities) -> None:
        self._collections = collections
        self._capabilities = capabilities

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return sorted(self._collections)

    def resolve(self, name: str) -> str | None:
        """Return the collection that a name or alias means; None if there is none."""
        if name in self._collections:
            return name
        return next((own for own, found in self._collections.items() if name in found.aliases), None)

    def describe(self, name: str) -> CollectionDescription:
        """Describe one collection; `name` may be an alias."""
        own, found = self._find(name)
        return CollectionDescription(
            name=own,
            schema=found.schema,
            aliases=found.aliases,
            record_count=found.records.num_rows,
            consistency="point-in-time" if self._capabilities.point_in_time else "fuzzy",
        )

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records; backwards if the engine was made without ordered scans."""
        records = self._find(name)[1].records
        if not self._capabilities.ordered_scan:
            records = records.take(pa.array(range(records.num_rows - 1, -1, -1), pa.int64()))
        yield from records.to_batches(max_chunksize=batch_rows)

    def _find(self, name: str) -> tuple[str, _Collection]:
        own = self.resolve(name)
        if own is None:
            known = ", ".join(self.collections()) or "none"
            raise NotFoundError(f"there is no collection {name!r} in memory; there are: {known}")
        return own, self._collections[own]


class MemoryStaged:
    """A collection that is not in place yet."""

    def __init__(
        self, engine: MemoryEngine, name: str, schema: CollectionSchema, aliases: tuple[str, ...]
    ) -> None:
        self._engine = engine
        self._name = name
        self._aliases = aliases
        self._schema = schema
        self._staging = MemoryEngine()
        self._staging.create(name, schema, aliases)

    def write(self, records: pa.RecordBatch) -> None:
        """Add records."""
        self._staging.upsert(self._name, records)

    def finish(self) -> None:
        """Do nothing: what was written is readable."""

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read back what was written."""
        with self._staging.hold() as view:
            yield from view.scan(self._name, batch_rows=batch_rows)

    def switch(self) -> None:
        """Put the collection in place; atomic."""
        self._engine.adopt(self._name, self._staging)

    def discard(self) -> None:
        """Forget what was staged."""
        self._staging.drop(self._name)


class MemoryLive:
    """A collection in use."""

    def __init__(self, engine: MemoryEngine, name: str) -> None:
        self._engine = engine
        self._name = name

    @property
    def schema(self) -> CollectionSchema:
        """The collection's schema."""
        with self._engine.hold() as view:
            return view.describe(self._name).schema

    def fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return those of these records that exist."""
        with self._engine.hold() as view:
            batches = list(view.scan(self._name, batch_rows=columns.BATCH_ROWS))
        held = pa.Table.from_batches(batches, schema=columns.record_schema(self.schema))
        found = held.filter(pc.is_in(held.column(columns.KEY), value_set=keys))
        ordered = found.take(pc.sort_indices(found.column(columns.KEY))).combine_chunks()
        merged = ordered.to_batches()
        return merged[0] if merged else pa.RecordBatch.from_pylist([], schema=held.schema)

    def upsert(self, records: pa.RecordBatch) -> None:
        """Write records; atomic."""
        self._engine.upsert(self._name, records)


_SHARED: dict[str, MemoryEngine] = {}
_SHARED_LOCK = threading.Lock()


def open_memory(name: str) -> MemoryEngine:
    """Return the engine of this name, the same one throughout the process; a fresh one for no name."""
    if not name:
        return MemoryEngine()
    with _SHARED_LOCK:
        if name not in _SHARED:
            _SHARED[name] = MemoryEngine(name)
        return _SHARED[name]
