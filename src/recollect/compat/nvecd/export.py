"""From a view of the database to the stores of a snapshot file, in pieces, while writes go on."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.extra import CollectionRows, Extra, StateRow, VectorRow, encode_extra
from recollect.compat.nvecd.snapshot import encode
from recollect.compat.nvecd.snapshot.content import (
    EVENT_ROW,
    EdgeColumns,
    EventColumns,
    Fields,
    SnapshotConfig,
)
from recollect.compat.nvecd.snapshot.encode import INTEGER_MAX, VectorChunk
from recollect.compat.nvecd.snapshot.layout import EDGES, EVENTS, EXTRA, METADATA, VECTORS
from recollect.compat.nvecd.snapshot.ragged import read_fixed
from recollect.compat.nvecd.snapshot.write import Store
from recollect.database.collections import HIDDEN_PREFIX
from recollect.database.column_view import ColumnView
from recollect.database.cooccurrence import FrozenEdges
from recollect.database.events import EVENT
from recollect.database.stage import DEFAULT_COLLECTION
from recollect.database.state import FrozenState
from recollect.database.vectors import Slots, VectorView
from recollect.values.key import TAG_STRING

ROWS_AT_ONCE = 1024
_ORDINAL_SIZE = 8
_RING = np.dtype([("item", "<u4"), ("score", "<i4"), ("timestamp", "<u8"), ("kind", "u1")])
assert _RING.itemsize == EVENT.size, "the columns of a ring are those that the database packs"

_decode = msgspec.json.Decoder().decode


class SnapshotCounts(msgspec.Struct, frozen=True):
    """How much a snapshot holds, for replies."""

    context_count: int
    event_count: int
    vector_count: int
    pair_count: int


def snapshot_config(settings: NvecdSettings) -> SnapshotConfig:
    """Return the settings that go into a file."""
    events, similarity, vectors = settings.events, settings.similarity, settings.vectors
    return SnapshotConfig(
        ctx_buffer_size=events.ctx_buffer_size,
        decay_interval_sec=events.decay_interval_sec,
        decay_alpha=events.decay_alpha,
        default_dimension=vectors.default_dimension,
        distance_metric=vectors.distance_metric,
        default_top_k=similarity.default_top_k,
        max_top_k=similarity.max_top_k,
        fusion_alpha=similarity.fusion_alpha,
        fusion_beta=similarity.fusion_beta,
    )


def view_counts(view: ColumnView) -> SnapshotCounts:
    """Count what a snapshot of this view holds."""
    vectors = view.vectors.get(DEFAULT_COLLECTION)
    weights = view.events.edges.weights.to_numpy()
    rings = view.rings()
    stored = sum(len(ring) - _ORDINAL_SIZE for ring in rings.values()) // EVENT.size
    return SnapshotCounts(
        len(rings),
        stored,
        0 if vectors is None else vectors.row_count,
        (int(np.count_nonzero(~np.isnan(weights))) + 1) // 2,
    )


def view_stores(view: ColumnView) -> list[Store]:
    """Return the stores of a snapshot of this view; they read it when they are written."""
    source = _VectorSource(view)
    stores = [
        Store(EVENTS, lambda: encode.encode_events(event_columns(view))),
        Store(EDGES, lambda: encode.encode_edges(edge_columns(view.events.edges))),
        Store(VECTORS, lambda: encode.encode_vectors(source.dimension, len(source.slots), source.chunks())),
        Store(METADATA, source.metadata_pieces),
    ]
    # What v1 cannot carry is known once the metadata is; its store is the last.
    extra = Extra(
        state=list(_state_rows(view.state)),
        metadata=source.odd_metadata(),
        vectors=source.typed_rows(),
        collections=list(_other_collections(view)),
    )
    if not extra.is_empty:
        stores.append(Store(EXTRA, lambda: [encode_extra(extra)]))
    return stores


def event_columns(view: ColumnView) -> EventColumns:
    """Bring all rings into columns, contexts in the order of their last event."""
    rings, edges = view.rings(), view.events.edges
    names, parts = list(rings), list(rings.values())
    written = np.frombuffer(b"".join(part[:_ORDINAL_SIZE] for part in parts), dtype="<u8")
    order = np.argsort(written, kind="stable").tolist()
    contexts = [names[number] for number in order]
    joined = b"".join([parts[number] for number in order])
    sizes = np.fromiter((len(parts[number]) for number in order), np.int64, len(order))
    event_counts = (sizes - _ORDINAL_SIZE) // EVENT.size
    # An event stands behind the ordinals of its own ring and of all rings before.
    owners = np.repeat(np.arange(1, len(order) + 1), event_counts)
    places = np.arange(len(owners)) * EVENT.size + owners * _ORDINAL_SIZE
    packed = read_fixed(np.frombuffer(joined, np.uint8), places, EVENT.size).view(_RING).reshape(-1)
    rows = np.empty(len(packed), dtype=EVENT_ROW)
    for field in EVENT_ROW.names or ():
        rows[field] = packed[field]
    return EventColumns(edges.names[: edges.item_count], contexts, event_counts, packed["item"].copy(), rows)


def edge_columns(edges: FrozenEdges) -> EdgeColumns:
    """Bring the co-occurrence index into columns, by source; a source's edges in the order they came."""
    weights = edges.weights.to_numpy()
    live = np.flatnonzero(~np.isnan(weights))
    keys = edges.sources.to_numpy()[live].astype(np.uint64) << np.uint64(32)
    keys |= live.astype(np.uint64)
    keys.sort()  # numbers sort much faster than their order is found
    order = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    sources = (keys >> np.uint64(32)).astype(np.uint32)
    starts = np.flatnonzero(np.diff(sources, prepend=~sources[:1]))
    return EdgeColumns(
        edges.names[: edges.item_count],
        sources[starts],
        np.diff(starts, append=len(sources)),
        edges.targets.to_numpy()[order],
        weights[order],
    )


class _VectorSource:
    """The default collection of a view: its rows with text ids, and what is left over."""

    def __init__(self, view: ColumnView) -> None:
        found = view.vectors.get(DEFAULT_COLLECTION)
        self._view: VectorView | None = found
        schema = view.schemas.get(DEFAULT_COLLECTION)
        self.dimension = 0 if schema is None else schema.vectors[0].dimension or 0
        slots = np.zeros(0, dtype=np.int64) if found is None else found.live_slots()
        keys = [] if found is None else found.keys
        tags = map(operator.itemgetter(0), map(keys.__getitem__, slots.tolist()))
        is_text = np.fromiter(tags, np.uint8, len(slots)) == TAG_STRING
        self.slots: Slots = slots[is_text]
        self._typed: Slots = slots[~is_text]
        metadata = [] if found is None else found.metadata
        self._with_metadata = [slot for slot in self.slots.tolist() if metadata[slot] is not None]
        self._odd: dict[str, bytes] | None = None

    def chunks(self) -> Iterator[VectorChunk]:
        """Yield ids and rows, in the order of their slots."""
        view = self._view
        if view is None:
            return
        keys = view.keys
        for start in range(0, len(self.slots), ROWS_AT_ONCE):
            part = self.slots[start : start + ROWS_AT_ONCE]
            yield [keys[slot][1:] for slot in part.tolist()], view.rows(part)

    def metadata_pieces(self) -> Iterator[encode.Piece]:
        """Yield the metadata store: a first pass counts, since the count stands first."""
        odd = self.odd_metadata()
        plain = [
            slot for slot in self._with_metadata if self._id(slot) not in odd and self._json(slot) != b"{}"
        ]
        yield from encode.encode_metadata(
            len(plain), ((self._id(slot), self._fields(slot)) for slot in plain)
        )

    def odd_metadata(self) -> dict[str, bytes]:
        """Return metadata that has no v1 form, by id."""
        if self._odd is None:
            self._odd = {
                self._id(slot): self._json(slot)
                for slot in self._with_metadata
                if not has_plain_form(_decode(self._json(slot)))
            }
        return self._odd

    def typed_rows(self) -> list[VectorRow]:
        """Return the rows whose ids are no text."""
        return [] if self._view is None else _vector_rows(self._view, self._typed)

    def _id(self, slot: int) -> str:
        assert self._view is not None
        return self._view.keys[slot][1:].decode("utf-8")

    def _json(self, slot: int) -> bytes:
        assert self._view is not None
        found = self._view.metadata[slot]
        assert found is not None
        return found

    def _fields(self, slot: int) -> Fields:
        return tuple(_decode(self._json(slot)).items())


def has_plain_form(metadata: Any) -> bool:
    """Tell whether format v1 can carry this metadata: flat, of text, numbers and truth values."""
    return isinstance(metadata, dict) and all(
        isinstance(value, (str, bool, float))
        or (isinstance(value, int) and -INTEGER_MAX - 1 <= value <= INTEGER_MAX)
        for value in metadata.values()
    )


def _state_rows(state: FrozenState) -> Iterator[StateRow]:
    for row in range(1, state.end + 1):
        one = state.table.read(row)
        yield StateRow(one.namespace, one.agent, one.key, one.version, one.commit_ts, one.value)


def _vector_rows(view: VectorView, slots: Slots) -> list[VectorRow]:
    rows = view.vectors(slots)
    return [
        VectorRow(view.keys[slot], row.tobytes(), view.metadata[slot])
        for slot, row in zip(slots.tolist(), rows, strict=True)
    ]


def _other_collections(view: ColumnView) -> Iterator[CollectionRows]:
    for name, found in view.vectors.items():
        if name != DEFAULT_COLLECTION and not name.startswith(HIDDEN_PREFIX):
            spec = view.schemas[name].vectors[0]
            rows = _vector_rows(found, found.live_slots())
            yield CollectionRows(name, spec.dimension or 0, spec.metric or "cosine", rows)
