"""The three stores as a program sees them: `db.vectors`, `db.events`, `db.state`.

Each write here is a commit of its own; `db.begin()` makes several writes one commit. Every method
returns what was committed when it was called, and is safe to call from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recollect.database import stage
from recollect.database.committer import Receipt
from recollect.database.events import EventCounts, StoredEvent
from recollect.database.filter import Filter, parse_filter
from recollect.database.held import HeldVectors
from recollect.database.hnsw import HnswIndex, write_hnsw
from recollect.database.limits import check_matrix, one_row
from recollect.database.operation import EventsDecay, Operation
from recollect.database.options import EventOptions, VectorOptions
from recollect.database.search import search_exact, search_indexed
from recollect.database.tables import Tables
from recollect.database.vectors import VectorTable
from recollect.errors import RequestError
from recollect.values.key import RecordId, decode_key, encode_key
from recollect.values.payload import decode_payload
from recollect.values.schema import CollectionSchema

_KEYS_AT_ONCE = 1024


class CommitOperations(Protocol):
    """Commits operations: `Committer.commit`."""

    def __call__(self, operations: Sequence[Operation], transaction: bytes = ...) -> Receipt:
        """Make them one commit."""
        ...


class VectorRecord(NamedTuple):
    """One vector: its id, a float32 array of its own, its metadata, and the commit that wrote it."""

    id: RecordId
    vector: npt.NDArray[np.float32]
    metadata: dict[str, Any] | None
    commit_ts: int


class VectorMatch(NamedTuple):
    """One search result; a larger score is nearer."""

    id: RecordId
    score: float
    metadata: dict[str, Any] | None


class VectorStore:
    """One collection of vectors. It exists from its first write on; before, it is empty."""

    def __init__(self, tables: Tables, commit: CommitOperations, name: str) -> None:
        self._tables = tables
        self._commit = commit
        self.name = name

    def __len__(self) -> int:
        with self._tables.lock:
            table = self._table()
            return 0 if table is None else len(table)

    def __contains__(self, id: RecordId) -> bool:
        with self._tables.lock:
            table = self._table()
            return table is not None and encode_key(id) in table

    @property
    def schema(self) -> CollectionSchema | None:
        """The collection's schema; None before the first write."""
        with self._tables.lock:
            table = self._table()
            return None if table is None else table.schema

    @property
    def dimension(self) -> int | None:
        """Elements of each vector; None before the first write."""
        schema = self.schema
        return None if schema is None else schema.vectors[0].dimension

    def set(self, id: RecordId, vector: npt.ArrayLike, metadata: Mapping[str, Any] | None = None) -> int:
        """Set one vector and its metadata, over what the id had; return the commit.

        Raises:
            RequestError: Another dimension than the collection's, NaN, infinity, or a value too large.
        """
        return self.set_many([id], one_row(vector), [metadata])

    def set_many(
        self,
        ids: Sequence[RecordId],
        vectors: npt.ArrayLike,
        metadata: Sequence[Mapping[str, Any] | bytes | None] | None = None,
    ) -> int:
        """Set many in one commit; of equal ids the last stands. Shapes: n ids, vectors (n, d)."""
        return self._commit([stage.set_vectors(self.name, ids, vectors, metadata)]).commit_ts

    def set_vector(self, id: RecordId, vector: npt.ArrayLike) -> int:
        """Set one vector; its metadata stays as it is. Returns the commit."""
        operation = stage.set_vectors(self.name, [id], one_row(vector), None, keep_metadata=True)
        return self._commit([operation]).commit_ts

    def set_metadata(self, id: RecordId, metadata: Mapping[str, Any] | None) -> bool:
        """Replace the metadata of one id; return whether there is such an id."""
        return self._count(stage.set_metadata(self.name, [id], [metadata])) == 1

    def delete(self, id: RecordId) -> bool:
        """Delete one id; return whether there was one."""
        return self._count(stage.delete_vectors(self.name, [id])) == 1

    def delete_many(self, ids: Sequence[RecordId]) -> int:
        """Delete many in one commit; return how many there were."""
        return self._count(stage.delete_vectors(self.name, ids))

    def clear(self) -> int:
        """Delete every vector; return how many there were."""
        return self._count(stage.clear_vectors(self.name))

    def get(self, id: RecordId) -> VectorRecord | None:
        """Return one record, None if there is no such id."""
        key = encode_key(id)
        with self._tables.lock:
            table = self._table()
            row = None if table is None else table.row(key)
        if row is None:
            return None
        vector, metadata, commit_ts = row
        return VectorRecord(id, vector, _decode(metadata), commit_ts)

    def ids(self) -> list[RecordId]:
        """Return all ids, in canonical order (integers, UUIDs, strings)."""
        with self._tables.lock:
            table = self._table()
            keys = [] if table is None else table.keys()
        return [decode_key(key) for key in sorted(keys)]

    def records(self) -> Iterator[VectorRecord]:
        """Yield every record as it is now, in canonical order; writes meanwhile are not seen."""
        with self._tables.lock:
            table = self._table()
            if table is None:
                return
            view = table.pin()
        try:
            slots = view.live_slots()
            order = sorted(slots.tolist(), key=view.keys.__getitem__)
            for start in range(0, len(order), _KEYS_AT_ONCE):
                part = np.array(order[start : start + _KEYS_AT_ONCE], dtype=np.int64)
                commits = view.commits(part).tolist()
                rows = zip(part.tolist(), view.vectors(part), commits, strict=True)
                for slot, vector, commit_ts in rows:
                    yield VectorRecord(
                        decode_key(view.keys[slot]), vector, _decode(view.metadata[slot]), commit_ts
                    )
        finally:
            with self._tables.lock:
                table.unpin()

    def search(
        self, vector: npt.ArrayLike, k: int, filter: Filter | None = None, *, exclude: RecordId | None = None
    ) -> list[VectorMatch]:
        """Return the k nearest records, nearest first, equal ones by id.

        Exact, unless there is no filter and an HNSW index, of `build_index` or of the database's own
        (`hnsw_row_count_min`); what was written since it was built is always looked at exactly.
        `filter` names fields and what they must equal, or holds conditions; `exclude` is left out.
        """
        query = check_matrix(one_row(vector))[0]
        conditions = () if filter is None else parse_filter(filter)
        if k < 1:
            raise RequestError(f"k must be positive, got {k}")
        with self._tables.lock:
            table = self._table()
            if table is None:
                return []
            if len(query) != table.dimension:
                raise RequestError(
                    f"Query vector dimension mismatch: expected {table.dimension}, got {len(query)}"
                )
            view, index = table.pin(), table.index
        try:
            wanted = k + (exclude is not None)
            metric = table.spec.metric or "cosine"
            if index is None or conditions:
                hits = search_exact(view, query, k=wanted, metric=metric, conditions=conditions)
            else:
                hits = search_indexed(view, index, query, k=wanted, metric=metric)
        finally:
            with self._tables.lock:
                table.unpin()
        left_out = None if exclude is None else encode_key(exclude)
        found = [hit for hit in hits if hit.key != left_out][:k]
        return [VectorMatch(decode_key(hit.key), hit.score, _decode(hit.metadata)) for hit in found]

    def hold(self) -> HeldVectors:
        """Hold the collection as it is now, to read all of it; release it soon."""
        with self._tables.lock:
            return HeldVectors(self._table(), self._tables.lock, self._tables.commit_ts)

    @property
    def index(self) -> HnswIndex | None:
        """The HNSW index that searches use; None while they are exact."""
        with self._tables.lock:
            table = self._table()
            return None if table is None else table.index

    def build_index(self, path: Path, options: VectorOptions | None = None) -> None:
        """Build an HNSW index of the present rows into a file and search by it; writers do not wait.

        The file must stay while the database is open. Opening it again does not read it: `attach_index`.
        """
        with self.hold() as held:
            if held.schema is None:
                raise RequestError(f"there is no collection {self.name!r} to build an index of")
            write_hnsw(path, held, held.schema.vectors[0], options or VectorOptions())
            keys = held.batch(held.slots).keys
        self.attach_index(path, keys, options)

    def attach_index(
        self, path: Path, keys: Sequence[bytes | None], options: VectorOptions | None = None
    ) -> None:
        """Search by a file whose row i is the present vector of `keys[i]`; None: of no record any more."""
        with self._tables.lock:
            table = self._tables.collection(self.name)
            slots, commits = table.locate(keys)
        index = HnswIndex(path, slots, commits, spec=table.spec, options=options or VectorOptions())
        with self._tables.lock:
            table.attach(index)

    def drop_index(self) -> None:
        """Search exactly until the database is opened again; the file is left alone."""
        with self._tables.lock:
            self._tables.collection(self.name).attach(None)

    def _table(self) -> VectorTable | None:
        return self._tables.vectors.get(self.name)

    def _count(self, operation: Operation) -> int:
        results = self._commit([operation]).results
        return int(results[0]) if results else 0


class EventMatch(NamedTuple):
    """One item that occurs together with another; the score is the weight between them."""

    id: str
    score: float


class EventStore:
    """Contexts with their latest events, and how strongly items occur together."""

    def __init__(self, tables: Tables, commit: CommitOperations, now_s: Callable[[], int]) -> None:
        self._tables = tables
        self._commit = commit
        self._now_s = now_s

    def add(self, context: str, id: str, score: int, timestamp: int | None = None) -> bool:
        """Take an ADD: the item happened. Returns whether it was accepted, not a duplicate."""
        return self.append([stage.Event(stage.ADD, context, id, score, timestamp)]) == 1

    def set(self, context: str, id: str, score: int, timestamp: int | None = None) -> bool:
        """Take a SET: the item has this score now. Returns whether it was accepted."""
        return self.append([stage.Event(stage.SET, context, id, score, timestamp)]) == 1

    def delete(self, context: str, id: str, timestamp: int | None = None) -> bool:
        """Take a DEL: the item is taken back. Returns whether it was accepted."""
        return self.append([stage.Event(stage.DEL, context, id, 0, timestamp)]) == 1

    def append(self, events: Sequence[stage.Event]) -> int:
        """Take many events in one commit, in order; return how many were accepted."""
        results = self._commit([stage.append_events(events, self._now_s())]).results
        return int(results[0])

    def set_many(
        self, context: str, ids: Sequence[str], scores: Sequence[int], timestamps: Sequence[int] | None = None
    ) -> int:
        """Take one SET for each id in one commit; return how many were accepted."""
        return self._many(stage.SET, context, ids, scores, timestamps)

    def add_many(
        self, context: str, ids: Sequence[str], scores: Sequence[int], timestamps: Sequence[int] | None = None
    ) -> int:
        """Take one ADD for each id in one commit; return how many were accepted."""
        return self._many(stage.ADD, context, ids, scores, timestamps)

    def decay(self) -> int:
        """Let all co-occurrence weights fade once, by the options; return the commit."""
        options = self.options
        return self._commit([EventsDecay(options.decay_alpha, options.min_support)]).commit_ts

    def replace(self, content: stage.EventContent) -> int:
        """Put other contexts and weights in place of all present ones; return the commit."""
        return self._commit([stage.replace_events(content)]).commit_ts

    def similar(self, id: str, k: int) -> list[EventMatch]:
        """Return the k items that occur most with this one, strongest first; positive weights only."""
        if k < 1:
            raise RequestError(f"k must be positive, got {k}")
        with self._tables.lock:
            pairs = self._tables.events.index.neighbors(id)
        return [EventMatch(name, weight) for name, weight in pairs if weight > 0][:k]

    def weight(self, left: str, right: str) -> float:
        """Return the co-occurrence weight from one item to another, 0.0 if there is none."""
        with self._tables.lock:
            return self._tables.events.index.weight(left, right)

    def neighbor_count(self, id: str) -> int:
        """Return how many items an item has a weight to."""
        with self._tables.lock:
            return self._tables.events.index.neighbor_count(id)

    def contexts(self) -> list[str]:
        """Return all contexts, the one that took no event for longest first."""
        with self._tables.lock:
            return self._tables.events.contexts()

    def events(self, context: str) -> list[StoredEvent]:
        """Return the events that a context holds, oldest first."""
        with self._tables.lock:
            return self._tables.events.events(context)

    def content(self) -> stage.EventContent:
        """Return everything the store holds, as of one commit; what `replace` takes.

        Cost: copies it all while writers wait; for faces that export files, not for checkpoints.
        """
        with self._tables.lock:
            table = self._tables.events
            contexts = [(name, table.events(name)) for name in table.contexts()]
            edges = table.index.edges()
            return stage.EventContent(contexts, edges, table.counts.event_count)

    @property
    def options(self) -> EventOptions:
        """The options in force."""
        with self._tables.lock:
            return self._tables.events.options

    @property
    def counts(self) -> EventCounts:
        """Counters of all events ever taken."""
        with self._tables.lock:
            return self._tables.events.counts

    @property
    def context_count(self) -> int:
        """Contexts held."""
        with self._tables.lock:
            return self._tables.events.context_count

    @property
    def stored_count(self) -> int:
        """Events held in all contexts."""
        with self._tables.lock:
            return self._tables.events.stored_count

    @property
    def item_count(self) -> int:
        """Items that have a weight to another."""
        with self._tables.lock:
            return self._tables.events.index.item_count

    @property
    def pair_count(self) -> int:
        """Pairs of items with a weight between them."""
        with self._tables.lock:
            return (self._tables.events.index.edge_count + 1) // 2

    def _many(
        self,
        kind: int,
        context: str,
        ids: Sequence[str],
        scores: Sequence[int],
        timestamps: Sequence[int] | None,
    ) -> int:
        moments: Sequence[int | None] = [None] * len(ids) if timestamps is None else timestamps
        if not len(ids) == len(scores) == len(moments):
            raise RequestError(
                f"there are {len(ids)} ids, {len(scores)} scores and {len(moments)} timestamps"
            )
        rows = zip(ids, scores, moments, strict=True)
        return self.append([stage.Event(kind, context, item, score, moment) for item, score, moment in rows])


def _decode(metadata: bytes | None) -> dict[str, Any] | None:
    return None if metadata is None else decode_payload(metadata)
