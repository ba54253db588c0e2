"""The table of events: contexts with ring buffers, duplicate tables, and the co-occurrence index.

A context's events are one immutable byte string; an event replaces it. So a checkpoint keeps a
pointer to what it froze, and nothing is copied. Rules and defaults are nvecd's; see
docs/guides/database.md. What it decides depends on the events and options alone.

One writer at a time, under the database's table lock.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from recollect.database.cooccurrence import WEIGHT_MIN, CooccurrenceIndex, FrozenEdges
from recollect.database.dirty import Generations
from recollect.database.operation import EventsAppend, EventsReplace
from recollect.database.options import EventOptions

ADD, SET, DEL = 0, 1, 2
KIND_NAMES = ("ADD", "SET", "DEL")

EVENT = struct.Struct("<IiQB")  # item number, score, timestamp in seconds, kind
_ROW = np.dtype([("item", "<u4"), ("score", "<i4"), ("timestamp", "<u8"), ("kind", "u1")])  # the same
_ORDINAL = struct.Struct("<Q")  # stands before the events of a ring: when the context was last written

_DELETED_SCORE = -1
_DECAY_FLOOR = 1e-6

DirtyContexts = Generations[str, bytes | None]
AddKey = tuple[str, str, int]
SetKey = tuple[str, str]


class StoredEvent(msgspec.Struct, frozen=True):
    """One event of a context's ring buffer; `kind` is ADD 0, SET 1 or DEL 2."""

    item: str
    score: int
    timestamp: int
    kind: int


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of events. `event_count` counts what was ever taken, duplicates included."""

    event_count: int = 0
    duplicate_count: int = 0
    accepted_count: int = 0


class FrozenEvents(msgspec.Struct, frozen=True):
    """The events as they were at a freeze. Safe to share between threads.

    Attributes:
        contexts: Name → ring (ordinal and events), None for a context that is gone.
        edges: The co-occurrence index.
        recent_adds: The duplicate table of ADD: (context, item, score) and first timestamp, oldest first.
        last_scores: The duplicate table of SET and DEL, oldest first; -1 means deleted.
        context_count: Contexts alive.
        ordinal: Of the last event taken.
        options: In force at the freeze.
    """

    contexts: DirtyContexts
    edges: FrozenEdges
    recent_adds: list[tuple[AddKey, int]]
    last_scores: list[tuple[SetKey, int]]
    counts: EventCounts
    context_count: int
    ordinal: int
    options: EventOptions


class Counters(Protocol):
    """What `EventTable.restore` needs besides contexts and edges."""

    @property
    def accepted_count(self) -> int:
        """Events that were no duplicates."""
        ...

    @property
    def duplicate_count(self) -> int:
        """Events that were."""
        ...

    @property
    def event_count(self) -> int:
        """Both."""
        ...

    @property
    def ordinal(self) -> int:
        """The ordinal of the last event taken."""
        ...

    @property
    def options(self) -> EventOptions:
        """The options in force."""
        ...

    @property
    def last_scores(self) -> list[tuple[str, str, int]]:
        """Duplicate table of SET and DEL: context, item, score."""
        ...

    @property
    def recent_adds(self) -> list[tuple[str, str, int, int]]:
        """Duplicate table of ADD: context, item, score, first timestamp."""
        ...


class EventTable:
    """All contexts and what follows from their events."""

    def __init__(self, options: EventOptions) -> None:
        self.options = options
        self.index = CooccurrenceIndex()
        self._rings: dict[str, bytes] = {}
        self._recent_adds: OrderedDict[AddKey, int] = OrderedDict()
        self._last_scores: OrderedDict[SetKey, int] = OrderedDict()
        self._dirty = DirtyContexts()
        self._event_count = 0
        self._duplicate_count = 0
        self._accepted_count = 0
        self._ordinal = 0

    @property
    def counts(self) -> EventCounts:
        """The counters as they stand."""
        return EventCounts(
            event_count=self._event_count,
            duplicate_count=self._duplicate_count,
            accepted_count=self._accepted_count,
        )

    @property
    def context_count(self) -> int:
        """Contexts held."""
        return len(self._rings)

    @property
    def stored_count(self) -> int:
        """Events held in ring buffers now."""
        return sum(len(ring) - _ORDINAL.size for ring in self._rings.values()) // EVENT.size

    def contexts(self) -> list[str]:
        """Return the names of all contexts, the one that took no event for longest first."""
        if self.options.max_contexts:
            return list(self._rings)
        return sorted(self._rings, key=lambda name: self._rings[name][: _ORDINAL.size][::-1])

    def events(self, context: str) -> list[StoredEvent]:
        """Return a context's events, oldest first; none if there is no such context."""
        names = self.index.names
        rows = unpack_ring(self._rings.get(context, b""))
        return [StoredEvent(names[item], score, timestamp, kind) for item, score, timestamp, kind in rows]

    def append(self, batch: EventsAppend) -> int:
        """Take events in order; return how many were accepted, not duplicates."""
        before = self._accepted_count
        for context, item, score, timestamp, kind in zip(
            batch.contexts, batch.items, batch.scores, batch.timestamps, batch.kinds, strict=True
        ):
            self._take(context, item, score, timestamp, kind)
        return self._accepted_count - before

    def decay(self, alpha: float, weight_min: float) -> None:
        """Let all co-occurrence weights fade."""
        self.index.decay(alpha, max(weight_min, WEIGHT_MIN))

    def configure(self, options: EventOptions) -> None:
        """Use other options for what comes; what is stored stays until an event touches it."""
        self.options = options

    def replace(self, content: EventsReplace) -> None:
        """Put other events in place of all present ones.

        The table of SET and DEL is rebuilt from the events; that of ADD begins empty.
        """
        gone = dict.fromkeys(self._rings)
        self.index.clear()
        self._rings, self._recent_adds, self._last_scores = {}, OrderedDict(), OrderedDict()
        numbers = self.index.numbers(content.names)
        rows = np.frombuffer(b"".join(content.rings), dtype=_ROW).copy()
        rows["item"] = numbers[rows["item"]] if len(rows) else 0
        packed = rows.tobytes()
        ends = np.cumsum([len(ring) for ring in content.rings], dtype=np.int64).tolist()
        ordinals = np.arange(len(ends), dtype="<u8").tobytes()
        step = _ORDINAL.size
        self._rings = {
            context: ordinals[place : place + step] + packed[start:end]
            for context, place, start, end in zip(
                content.contexts, range(0, len(ordinals), step), [0, *ends], ends, strict=False
            )
        }
        self._remember_rows(content.contexts, rows, ends)
        self.index.load(
            numbers,
            np.frombuffer(content.sources, dtype="<u4"),
            np.frombuffer(content.targets, dtype="<u4"),
            np.frombuffer(content.weights, dtype="<f4"),
        )
        self._dirty.current.update(gone)
        self._dirty.current.update(self._rings)
        self._event_count = content.event_count
        self._duplicate_count, self._accepted_count = 0, content.event_count
        self._ordinal = len(content.contexts)

    def restore(
        self,
        *,
        contexts: Sequence[tuple[int, str, list[tuple[str, int, int, int]]]],
        edges: Sequence[tuple[str, str, float]],
        counters: Counters,
    ) -> None:
        """Fill an empty table with what a checkpoint holds; contexts are (ordinal, name, events)."""
        number = self.index.number
        for ordinal, name, rows in contexts:
            packed = b"".join(EVENT.pack(number(item), *rest) for item, *rest in rows)
            self._rings[name] = _ORDINAL.pack(ordinal) + packed
        names = list(dict.fromkeys(name for edge in edges for name in edge[:2]))
        places = {name: place for place, name in enumerate(names)}
        self.index.load(
            self.index.numbers(names),
            np.array([places[edge[0]] for edge in edges], dtype=np.uint32),
            np.array([places[edge[1]] for edge in edges], dtype=np.uint32),
            np.array([edge[2] for edge in edges], dtype=np.float32),
        )
        self.index.mark_clean()
        self._last_scores.update({(context, item): score for context, item, score in counters.last_scores})
        self._recent_adds.update({(ctx, item, score): at for ctx, item, score, at in counters.recent_adds})
        self._accepted_count, self._duplicate_count = counters.accepted_count, counters.duplicate_count
        self._event_count, self._ordinal = counters.event_count, counters.ordinal
        self.options = counters.options

    def mark_all_changed(self) -> None:
        """Let the next checkpoint write everything: it goes to another place."""
        self._dirty.current.update(self._rings)
        self.index.mark_all_changed()

    def freeze(self) -> FrozenEvents:
        """Return the events as they are now, with what changed; `release` the index when it is sealed."""
        return self._frozen(self._dirty.freeze(), self.index.freeze())

    def peek(self) -> FrozenEvents:
        """Return all events as they are now, for a reader; `release` the index when it was read.

        Cost: one pointer a context.
        """
        return self._frozen(DirtyContexts((dict(self._rings),)), self.index.peek())

    def _frozen(self, contexts: DirtyContexts, edges: FrozenEdges) -> FrozenEvents:
        return FrozenEvents(
            contexts,
            edges,
            list(self._recent_adds.items()),
            list(self._last_scores.items()),
            self.counts,
            len(self._rings),
            self._ordinal,
            self.options,
        )

    def settle(self, frozen: FrozenEvents) -> None:
        """Forget frozen changes: a checkpoint holds them now."""
        self._dirty.settle(frozen.contexts)
        self.index.settle(frozen.edges)

    def _take(self, context: str, item: str, score: int, timestamp: int, kind: int) -> None:
        self._event_count += 1
        if self._is_duplicate(context, item, score, timestamp, kind):
            self._duplicate_count += 1
            return
        if kind == DEL:
            score = 0
        self._accepted_count += 1
        self._ordinal += 1
        number = self.index.number(item)
        ring = self._rings.get(context, b"")
        prior = list(unpack_ring(ring))
        self._relate(number, score, timestamp, kind, prior)
        kept = ring[_ORDINAL.size :] + EVENT.pack(number, score, timestamp, kind)
        size_max = self.options.ctx_buffer_size * EVENT.size
        self._store(context, _ORDINAL.pack(self._ordinal) + kept[max(0, len(kept) - size_max) :])

    def _store(self, context: str, ring: bytes) -> None:
        if self.options.max_contexts:
            self._rings.pop(context, None)  # so that the dict stays in the order of last use
        self._rings[context] = ring
        self._dirty.current[context] = ring
        while 0 < self.options.max_contexts < len(self._rings):
            oldest = next(iter(self._rings))
            del self._rings[oldest]
            self._dirty.current[oldest] = None

    def _relate(
        self, item: int, score: int, timestamp: int, kind: int, prior: list[tuple[int, int, int, int]]
    ) -> None:
        options = self.options
        if kind == DEL:
            if not options.negative_signals:
                return
            weight = options.negative_weight
            pairs = [(other, -_float32(value * weight)) for other, value, _, _ in prior if value]
        elif options.temporal_cooccurrence:
            pairs = list(self._aged_pairs(score, timestamp, prior))
        else:
            pairs = [(other, score * value) for other, value, _, _ in prior if score * value]
        self.index.add_pairs(item, pairs)
        if options.max_neighbors_per_item:
            touched = sorted({item, *(other for other, _ in pairs)})
            self.index.prune(touched, options.max_neighbors_per_item)

    def _aged_pairs(
        self, score: int, timestamp: int, prior: list[tuple[int, int, int, int]]
    ) -> Iterable[tuple[int, float]]:
        """Yield pairs weighed by the age of both events against the newest of the context."""
        newest = max([timestamp, *(row[2] for row in prior)])
        own = self._age_factor(newest - timestamp)
        for other, value, moment, _ in prior:
            product = np.float32(score * value) * (own * self._age_factor(newest - moment))
            if product:
                yield other, float(product)

    def _age_factor(self, age_s: int) -> np.float32:
        return max(
            np.float32(2.0 ** (-age_s / self.options.temporal_half_life_sec)), np.float32(_DECAY_FLOOR)
        )

    def _is_duplicate(self, context: str, item: str, score: int, timestamp: int, kind: int) -> bool:
        options = self.options
        if not options.dedup_cache_size:
            return False
        if kind != ADD:
            wanted = _DELETED_SCORE if kind == DEL else score
            if self._last_scores.get((context, item)) == wanted:
                return True
            self._remember((context, item), wanted)
            return False
        if not options.dedup_window_sec:
            return False
        key = (context, item, score)
        first = self._recent_adds.get(key)
        if first is not None:
            self._recent_adds.move_to_end(key)
            if abs(timestamp - first) <= options.dedup_window_sec:
                return True
        self._recent_adds[key] = timestamp
        if len(self._recent_adds) > options.dedup_cache_size:
            self._recent_adds.popitem(last=False)
        return False

    def _remember_rows(self, contexts: list[str], rows: npt.NDArray[np.void], ends: list[int]) -> None:
        """Rebuild the table of SET and DEL from the events of contexts that end at these bytes."""
        told = np.flatnonzero(rows["kind"] != ADD)
        owners = np.searchsorted(np.array(ends, dtype=np.int64), told * EVENT.size, side="right")
        for row, owner in zip(rows[told].tolist(), owners.tolist(), strict=True):
            item, score, _, kind = row
            name = self.index.names[item]
            self._remember((contexts[owner], name), _DELETED_SCORE if kind == DEL else score)

    def _remember(self, key: SetKey, score: int) -> None:
        self._last_scores[key] = score
        self._last_scores.move_to_end(key)
        if len(self._last_scores) > self.options.dedup_cache_size > 0:
            self._last_scores.popitem(last=False)


def unpack_ring(ring: bytes) -> Iterable[tuple[int, int, int, int]]:
    """Iterate a ring's events, oldest first, as (item number, score, timestamp, kind)."""
    return EVENT.iter_unpack(memoryview(ring)[_ORDINAL.size :])


def ring_ordinal(ring: bytes) -> int:
    """Return when the context was last written, as a count of accepted events."""
    return int(_ORDINAL.unpack_from(ring)[0])


def _float32(value: float) -> float:
    return float(np.float32(value))
