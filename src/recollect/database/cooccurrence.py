"""The co-occurrence index: directed weighted edges between items.

Weights are float32, and every step is rounded to float32, so that the order of events, and
nothing else, decides their value. Edges live in columns (`columns.Column`); an edge that was dropped
has weight NaN, and its place is used again once no frozen view can see it.

One writer at a time, under the database's table lock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from recollect.database.columns import BLOCK_BITS, Column, FrozenColumn
from recollect.database.dirty import Generations

WEIGHT_MIN = 1e-6

DirtyItems = Generations[int, None]


class FrozenEdges(msgspec.Struct, frozen=True):
    """The index as it was at a freeze. Safe to share between threads.

    Attributes:
        names: Item names by number; longer than `item_count` once writes go on.
        item_count: Items known at the freeze.
        changed: Items whose edges changed since the last settled freeze.
        is_all_changed: A decay or replacement changed every item.
    """

    names: list[str]
    item_count: int
    changed: DirtyItems
    is_all_changed: bool
    sources: FrozenColumn
    targets: FrozenColumn
    weights: FrozenColumn


class CooccurrenceIndex:
    """Items and the weights between them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        # Edges that were loaded at once stay packed until their item is asked for: `_edges_of`.
        self._adjacent: list[dict[int, int] | None] = []
        self._packed_targets = np.zeros(0, dtype=np.uint32)
        self._packed_bounds: dict[int, tuple[int, int]] = {}
        self._sources, self._targets, self._weights = Column("I"), Column("I"), Column("f")
        self._free: list[int] = []
        self._limbo: list[int] = []
        self._freeze_count = 0
        self._dirty: DirtyItems = DirtyItems()
        self._is_all_dirty = False
        self._edge_count = 0

    @property
    def edge_count(self) -> int:
        """Directed edges; a pair of items that saw each other has two."""
        return self._edge_count

    @property
    def item_count(self) -> int:
        """Items with at least one edge."""
        return sum(edges is None or bool(edges) for edges in self._adjacent)

    def number(self, name: str) -> int:
        """Return the number of an item, a new one for a new name."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self.names)
            self.names.append(name)
            self._adjacent.append({})
        return found

    def numbers(self, names: Sequence[str]) -> npt.NDArray[np.uint32]:
        """Return the number of each of different items; new names get new ones. Shapes: (n,)."""
        if self.names:
            return np.array([self.number(name) for name in names], dtype=np.uint32)
        self.names.extend(names)
        self._numbers.update(zip(names, range(len(names)), strict=True))
        self._adjacent.extend({} for _ in names)
        return np.arange(len(names), dtype=np.uint32)

    def neighbor_count(self, name: str) -> int:
        """Return how many edges leave an item."""
        found = self._numbers.get(name)
        return 0 if found is None else len(self._edges_of(found))

    def neighbors(self, name: str) -> list[tuple[str, float]]:
        """Return the item's neighbours with their weights, strongest first, equal ones by name."""
        found = self._numbers.get(name)
        if found is None:
            return []
        pairs = [
            (self.names[other], self._weights.get(edge)) for other, edge in self._edges_of(found).items()
        ]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))

    def weight(self, left: str, right: str) -> float:
        """Return the weight of one edge, 0.0 if there is none."""
        a, b = self._numbers.get(left), self._numbers.get(right)
        if a is None or b is None:
            return 0.0
        edge = self._edges_of(a).get(b)
        return 0.0 if edge is None else float(self._weights.get(edge))

    def edges(self) -> list[tuple[str, str, float]]:
        """Return every directed edge as (source, target, weight), by source and target."""
        names, weights = self.names, self._weights
        found = [
            (names[source], names[target], float(weights.get(edge)))
            for source in range(len(names))
            for target, edge in self._edges_of(source).items()
        ]
        return sorted(found)

    def add_pairs(self, item: int, others: Iterable[tuple[int, float]]) -> None:
        """Add to the weights between an item and others, both ways; the item itself is passed over."""
        edges_of, dirty = self._edges_of, self._dirty.current
        own = edges_of(item)
        for other, amount in others:
            if other == item:
                continue
            for source, target, edges in ((item, other, own), (other, item, edges_of(other))):
                edge = edges.get(target)
                if edge is None:
                    self._connect(source, target, amount)
                else:
                    self._weights.add(edge, amount)
            dirty[other] = None
        dirty[item] = None

    def prune(self, items: Iterable[int], neighbor_count_max: int) -> None:
        """Keep only the strongest neighbours (by absolute weight) of these items."""
        for item in items:
            edges = self._edges_of(item)
            if len(edges) <= neighbor_count_max:
                continue
            ranked = sorted(
                edges, key=lambda other: (-abs(self._weights.get(edges[other])), self.names[other])
            )
            for other in ranked[neighbor_count_max:]:
                self._drop(item, other)
            self._dirty.current[item] = None

    def decay(self, alpha: float, weight_min: float) -> None:
        """Multiply all weights by `alpha`, then drop those whose absolute value is below `weight_min`."""
        self._is_all_dirty = True
        for number in range(len(self._weights.blocks)):
            block = np.frombuffer(self._weights.own(number), dtype=np.float32)
            block *= np.float32(alpha)
            weak = np.flatnonzero(np.abs(block) < weight_min) + (number << BLOCK_BITS)
            for edge in weak[weak < len(self._weights)].tolist():
                self._drop(self._sources.get(edge), self._targets.get(edge))

    def load(
        self,
        numbers: npt.NDArray[np.uint32],
        sources: npt.NDArray[np.uint32],
        targets: npt.NDArray[np.uint32],
        weights: npt.NDArray[np.float32],
    ) -> None:
        """Set edges of which none exists yet; the columns speak of items by their index in `numbers`."""
        if len(self._weights):
            pairs = zip(numbers[sources].tolist(), numbers[targets].tolist(), weights.tolist(), strict=True)
            for source, target, weight in pairs:
                self._connect(source, target, weight)
        elif len(sources):
            self._fill(numbers[sources], numbers[targets], weights)
        self._is_all_dirty = True

    def mark_all_changed(self) -> None:
        """Let the next checkpoint write every item."""
        self._is_all_dirty = True

    def mark_clean(self) -> None:
        """Note that a checkpoint holds every edge: the index was just loaded from it."""
        self._dirty = DirtyItems()
        self._is_all_dirty = False

    def clear(self) -> None:
        """Drop every edge; names keep their numbers."""
        self._adjacent = [{} for _ in self.names]
        self._packed_targets, self._packed_bounds = np.zeros(0, dtype=np.uint32), {}
        self._sources, self._targets, self._weights = Column("I"), Column("I"), Column("f")
        self._free, self._limbo = [], []
        self._edge_count = 0
        self._is_all_dirty = True

    def freeze(self) -> FrozenEdges:
        """Return the index as it is now, with what changed; `release` it when it is sealed."""
        self._freeze_count += 1
        is_all, self._is_all_dirty = self._is_all_dirty, False
        return FrozenEdges(
            self.names,
            len(self.names),
            self._dirty.freeze(),
            is_all,
            self._sources.freeze(),
            self._targets.freeze(),
            self._weights.freeze(),
        )

    def peek(self) -> FrozenEdges:
        """Return the whole index as it is now, for a reader; `release` it when it was read."""
        self._freeze_count += 1
        columns = (self._sources.freeze(), self._targets.freeze(), self._weights.freeze())
        return FrozenEdges(self.names, len(self.names), DirtyItems(), True, *columns)

    def settle(self, frozen: FrozenEdges) -> None:
        """Forget frozen changes: a checkpoint holds them now."""
        self._dirty.settle(frozen.changed)

    def reopen(self, frozen: FrozenEdges) -> None:
        """Take frozen changes back: their checkpoint failed."""
        self._is_all_dirty = self._is_all_dirty or frozen.is_all_changed

    def release(self) -> None:
        """End one `freeze`; after the last, places of dropped edges can be used again."""
        self._freeze_count -= 1
        if self._freeze_count == 0:
            self._free.extend(self._limbo)
            self._limbo.clear()

    def _fill(
        self,
        sources: npt.NDArray[np.uint32],
        targets: npt.NDArray[np.uint32],
        weights: npt.NDArray[np.float32],
    ) -> None:
        """Set the first edges there are, as columns; those of an item are indexed when it is first used."""
        starts = np.flatnonzero(np.diff(sources, prepend=~sources[:1]))
        if len(np.unique(sources[starts])) < len(starts):  # not an item after the other
            order = np.argsort(sources, kind="stable")
            sources, targets, weights = sources[order], targets[order], weights[order]
            starts = np.flatnonzero(np.diff(sources, prepend=~sources[:1]))
        self._sources.extend(sources)
        self._targets.extend(targets)
        self._weights.extend(weights)
        firsts, items = starts.tolist(), sources[starts].tolist()
        lasts = [*firsts[1:], len(sources)]
        self._packed_targets = targets
        self._packed_bounds = dict(zip(items, zip(firsts, lasts, strict=True), strict=True))
        for item in items:
            self._adjacent[item] = None
        self._edge_count = len(sources)

    def _edges_of(self, item: int) -> dict[int, int]:
        """Return an item's edges by target."""
        edges = self._adjacent[item]
        if edges is None:
            # No edge of a packed item was dropped yet: whoever drops one asks for them first.
            first, last = self._packed_bounds.pop(item)
            targets = self._packed_targets[first:last].tolist()
            edges = self._adjacent[item] = dict(zip(targets, range(first, last), strict=True))
        return edges

    def _connect(self, source: int, target: int, weight: float) -> None:
        if self._free:
            edge = self._free.pop()
            self._sources.put(edge, source)
            self._targets.put(edge, target)
            self._weights.put(edge, weight)
        else:
            edge = len(self._weights)
            self._sources.append(source)
            self._targets.append(target)
            self._weights.append(weight)
        self._edges_of(source)[target] = edge
        self._edge_count += 1

    def _drop(self, source: int, target: int) -> None:
        edge = self._edges_of(source).pop(target)
        self._weights.put(edge, math.nan)
        self._edge_count -= 1
        (self._limbo if self._freeze_count else self._free).append(edge)
