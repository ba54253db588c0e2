"""The three stores as records: keys, payloads, and Arrow batches in key order.

==========  ==============================================  =====================================
collection  record id                                       payload
==========  ==============================================  =====================================
(vectors)   the vector's id                                 its metadata
state       ``["namespace", "agent", "key", version]``      `StatePayload`
events      ``["context", name]``                           `ContextPayload`
            ``["item", name]``                              `ItemPayload`
            ``["counters"]``                                `CounterPayload`
==========  ==============================================  =====================================

Ids of state and events are strings, JSON texts, so that no name can be taken for another.
Writers of a database wait for the interpreter while this works, so it works in small steps and
pauses between them; sorting, copying and hashing release the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recollect.database.events import AddKey, EventCounts, FrozenEvents, SetKey, ring_ordinal, unpack_ring
from recollect.database.options import EventOptions
from recollect.database.state import NO_TRANSACTION, StateTable
from recollect.database.vectors import DELETED, Block, gather, gather_commits
from recollect.segments.compare import tombstones
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.key import decode_key, encode_key
from recollect.values.payload import encode_payload
from recollect.values.schema import CollectionSchema, VectorSpec

STATE = "state"
EVENTS = "events"

STEP_ROWS = 512
"""Rows between two pauses; building and hashing as many takes well below a millisecond."""

Refs = npt.NDArray[np.int64]
Pause = Callable[[], None]

_JSON = msgspec.json.Encoder(order="deterministic")


class StatePayload(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a state key; no `value` means a tombstone, `transaction` is 32 hex digits or empty."""

    agent: str
    commit_ts: int
    is_deleted: bool
    key: str
    namespace: str
    transaction: str
    value: msgspec.Raw
    version: int


class ContextPayload(msgspec.Struct, frozen=True, kw_only=True):
    """One context: its events, oldest first, as [item, score, timestamp, kind]; `ordinal` orders contexts."""

    events: list[tuple[str, int, int, int]]
    ordinal: int


class ItemPayload(msgspec.Struct, frozen=True, kw_only=True):
    """One item of the co-occurrence index: its neighbours with their weights, by name."""

    neighbors: list[tuple[str, float]]


class CounterPayload(msgspec.Struct, frozen=True, kw_only=True):
    """What the event store has besides contexts and items: counters, options, duplicate tables."""

    accepted_count: int
    duplicate_count: int
    event_count: int
    last_scores: list[tuple[str, str, int]]
    options: EventOptions
    ordinal: int
    recent_adds: list[tuple[str, str, int, int]]


class Keyed(NamedTuple):
    """Record keys, ascending, and for each a number that tells where its record is; DELETED if it is gone."""

    keys: pa.BinaryArray
    refs: Refs


def collect(pairs: Iterable[tuple[bytes, int]], pause: Pause) -> Keyed:
    """Sort keys with their numbers, pausing in between. No key may occur twice."""
    iterator = iter(pairs)
    keys: list[pa.Array] = []
    refs: list[Refs] = []
    while part := list(islice(iterator, 4 * STEP_ROWS)):
        keys.append(pa.array([key for key, _ in part], type=pa.binary()))
        refs.append(np.array([ref for _, ref in part], dtype=np.int64))
        pause()
    if not keys:
        return Keyed(pa.array([], type=pa.binary()), np.zeros(0, dtype=np.int64))
    joined = pa.concat_arrays(keys)
    order = pc.sort_indices(joined)
    return Keyed(joined.take(order), np.concatenate(refs)[order.to_numpy()])


def change_feed(
    keyed: Keyed,
    fetch: Callable[[pa.BinaryArray, Refs], pa.RecordBatch],
    schema: CollectionSchema,
    pause: Pause,
) -> Iterator[pa.RecordBatch]:
    """Yield changes with all values and digests, ascending by key; deletes are tombstones."""
    for start in range(0, len(keyed.refs), STEP_ROWS):
        keys, refs = keyed.keys.slice(start, STEP_ROWS), keyed.refs[start : start + STEP_ROWS]
        is_gone = refs == DELETED
        if not is_gone.any():
            yield digest_records(fetch(keys, refs), schema)
        else:
            parts = [tombstones(keys.filter(pa.array(is_gone)), schema)]
            if not is_gone.all():
                parts.append(digest_records(fetch(keys.filter(pa.array(~is_gone)), refs[~is_gone]), schema))
            joined = pa.concat_batches(parts)
            yield joined.take(pc.sort_indices(joined.column(columns.KEY)))
        pause()


def record_feed(
    keyed: Keyed, fetch: Callable[[pa.BinaryArray, Refs], pa.RecordBatch], *, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield records, ascending by key."""
    for start in range(0, len(keyed.refs), batch_rows):
        yield fetch(keyed.keys.slice(start, batch_rows), keyed.refs[start : start + batch_rows])


def vector_fetcher(
    schema: CollectionSchema, blocks: tuple[Block, ...], metadata: list[bytes | None]
) -> Callable[[pa.BinaryArray, Refs], pa.RecordBatch]:
    """Return the function that makes records of keys and slots."""
    spec, target = schema.vectors[0], columns.record_schema(schema)

    def fetch(keys: pa.BinaryArray, slots: Refs) -> pa.RecordBatch:
        payloads = pa.array([metadata[slot] for slot in slots.tolist()], type=pa.binary())
        positions = pa.array(gather_commits(blocks, slots))
        vectors = dense_array(gather(blocks, slots), spec)
        return pa.RecordBatch.from_arrays([keys, positions, payloads, vectors], schema=target)

    return fetch


def dense_array(matrix: npt.NDArray[np.float32], spec: VectorSpec) -> pa.Array:
    """Wrap a matrix as a dense vector column, without a copy. Shapes: (n, d) → n."""
    kind = columns.vector_type(spec)
    flat = pa.Array.from_buffers(pa.float32(), matrix.size, [None, pa.py_buffer(matrix)])
    return pa.Array.from_buffers(kind, len(matrix), [None], children=[flat])


PAYLOAD_ONLY = CollectionSchema()
"""The schema of the collections of state and events: records without vectors."""

_PAYLOAD_SCHEMA = columns.record_schema(PAYLOAD_ONLY)


def state_key(namespace: str, agent: str, key: str, version: int) -> bytes:
    """Return the record key of one version of one state key."""
    return encode_key(_JSON.encode([namespace, agent, key, version]).decode())


def state_keys(table: StateTable, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield record key and row of all versions in rows `start` to `end`, both included."""
    for row in range(start, end + 1):
        name = table.name(row)
        yield state_key(*name), row


def state_fetcher(table: StateTable) -> Callable[[pa.BinaryArray, Refs], pa.RecordBatch]:
    """Return the function that makes records of keys and rows; a record's position is its row."""

    def fetch(keys: pa.BinaryArray, rows: Refs) -> pa.RecordBatch:
        payloads = [_state_payload(table, row) for row in rows.tolist()]
        arrays = [keys, pa.array(rows.astype(np.uint64)), pa.array(payloads, type=pa.binary())]
        return pa.RecordBatch.from_arrays(arrays, schema=_PAYLOAD_SCHEMA)

    return fetch


def _state_payload(table: StateTable, row: int) -> bytes:
    found = table.read(row)
    named = found.transaction != NO_TRANSACTION
    return _JSON.encode(
        StatePayload(
            agent=found.agent,
            commit_ts=found.commit_ts,
            is_deleted=found.value is None,
            key=found.key,
            namespace=found.namespace,
            transaction=found.transaction.hex() if named else "",
            value=msgspec.Raw(b"null" if found.value is None else found.value),
            version=found.version,
        )
    )


class EventRecords:
    """The event store as records: builds each payload when it is asked for, in the order of keys."""

    def __init__(
        self, frozen: FrozenEvents, rings: Iterable[tuple[str, bytes | None]], *, all_items: bool
    ) -> None:
        self._frozen = frozen
        self._rings = list(rings)
        self._edges = _Edges(frozen, all_items=all_items)

    def pairs(self) -> Iterator[tuple[bytes, int]]:
        """Yield record keys; the numbers are what `fetch` takes."""
        yield encode_key(_JSON.encode(["counters"]).decode()), 0
        for number, (name, ring) in enumerate(self._rings):
            key = encode_key(_JSON.encode(["context", name]).decode())
            yield key, DELETED if ring is None else 1 + number
        first = 1 + len(self._rings)
        for number, item in enumerate(self._edges.items.tolist()):
            key = encode_key(_JSON.encode(["item", self._frozen.edges.names[item]]).decode())
            yield key, first + number if self._edges.count(number) else DELETED

    def fetch(self, keys: pa.BinaryArray, refs: Refs) -> pa.RecordBatch:
        """Return the records of these numbers."""
        payloads = [self._payload(ref) for ref in refs.tolist()]
        positions = pa.nulls(len(refs), pa.uint64())
        return pa.RecordBatch.from_arrays(
            [keys, positions, pa.array(payloads, type=pa.binary())], schema=_PAYLOAD_SCHEMA
        )

    def _payload(self, ref: int) -> bytes:
        if ref == 0:
            return self._counters()
        if ref <= len(self._rings):
            ring = self._rings[ref - 1][1]
            assert ring is not None, "a context that is gone has no record"
            names = self._frozen.edges.names
            events = [(names[item], score, at, kind) for item, score, at, kind in unpack_ring(ring)]
            return _canonical(ContextPayload(events=events, ordinal=ring_ordinal(ring)))
        return _canonical(ItemPayload(neighbors=self._edges.neighbors(ref - 1 - len(self._rings))))

    def _counters(self) -> bytes:
        frozen = self._frozen
        counts: EventCounts = frozen.counts
        recent: list[tuple[AddKey, int]] = frozen.recent_adds
        last: list[tuple[SetKey, int]] = frozen.last_scores
        return _canonical(
            CounterPayload(
                accepted_count=counts.accepted_count,
                duplicate_count=counts.duplicate_count,
                event_count=counts.event_count,
                last_scores=[(context, item, score) for (context, item), score in last],
                options=frozen.options,
                ordinal=frozen.ordinal,
                recent_adds=[(*key, moment) for key, moment in recent],
            )
        )


class _Edges:
    """The edges of some items, grouped by the item that they leave."""

    def __init__(self, frozen: FrozenEvents, *, all_items: bool) -> None:
        edges = frozen.edges
        self._names = edges.names
        if all_items:
            self.items = np.arange(edges.item_count, dtype=np.int64)
        else:
            self.items = np.array(sorted({item for item, _ in edges.changed}), dtype=np.int64)
        sources, weights = edges.sources.to_numpy(), edges.weights.to_numpy()
        alive = ~np.isnan(weights)
        if not all_items:
            alive &= np.isin(sources, self.items)
        chosen = np.flatnonzero(alive)
        order = chosen[np.argsort(sources[chosen], kind="stable")]
        self._targets = edges.targets.to_numpy()[order]
        self._weights = weights[order]
        self._starts = np.searchsorted(sources[order], self.items, side="left")
        self._ends = np.searchsorted(sources[order], self.items, side="right")

    def count(self, number: int) -> int:
        """Return how many neighbours the item of this number has."""
        return int(self._ends[number] - self._starts[number])

    def neighbors(self, number: int) -> list[tuple[str, float]]:
        """Return the neighbours of the item of this number, by name."""
        part = slice(int(self._starts[number]), int(self._ends[number]))
        names = [self._names[target] for target in self._targets[part].tolist()]
        return sorted(zip(names, self._weights[part].tolist(), strict=True))


def _canonical(payload: Any) -> bytes:
    return encode_payload(msgspec.to_builtins(payload))


def record_name(key: bytes) -> list[Any]:
    """Return what the record key of a state or event record says: a list of names."""
    decoded: list[Any] = msgspec.json.decode(str(decode_key(key)))
    return decoded
