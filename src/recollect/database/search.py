"""Nearest rows of a view: exact, by BLAS over the blocks.

Scores are similarities, larger is nearer: the cosine, the dot product, or 1 / (1 + distance) for
"euclid". A row of norm 0 has cosine 0 with everything. The candidates' scores are computed again,
row by row in float64, so that equal vectors have equal scores wherever they lie; equal scores
are ordered by record key. A result is a function of the rows, not of their history.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recollect.database.filter import Condition, accepts
from recollect.database.hnsw import HnswIndex
from recollect.database.vectors import BLOCK_BITS, BLOCK_ROWS, Block, Slots, VectorView, gather
from recollect.values.schema import Metric

_SLACK = 1e-4  # float32 sums of up to 65,536 products differ by less than this, relative to the norms


class Hit(NamedTuple):
    """One row found."""

    key: bytes
    score: float
    metadata: bytes | None


def search_exact(
    view: VectorView,
    query: npt.NDArray[np.float32],
    *,
    k: int,
    metric: Metric,
    conditions: tuple[Condition, ...],
) -> list[Hit]:
    """Return the k nearest live rows that meet the conditions, nearest first. Shapes: query (d,).

    Cost: one pass over all vectors; with conditions also one JSON decode for each row that is nearer
    than the last one returned.
    """
    slots = view.live_slots()
    if k <= 0 or not len(slots):
        return []
    scores = np.concatenate(
        [
            _rough_scores(block, live, query, metric)
            for block, live in zip(view.blocks, view.live, strict=True)
        ]
    )
    return _nearest(view, slots, scores, query, k=k, metric=metric, conditions=conditions)


def search_indexed(
    view: VectorView, index: HnswIndex, query: npt.NDArray[np.float32], *, k: int, metric: Metric
) -> list[Hit]:
    """Return the k nearest live rows: by the graph where it knows a row, exactly where it does not.

    A row is known if the commit that wrote it is the one that the graph has of its slot; so rows
    written since, and slots given out again, are found by looking at them. The graph is asked for more
    the more of its rows are gone, so that enough are left. When more than a fifth of the rows is not
    known, or more than half of the graph's are gone, the whole search is exact. Shapes: query (d,).
    """
    unknown = _unknown_to(view, index)
    known_count = view.row_count - len(unknown)
    if len(unknown) * 5 > view.row_count or known_count * 2 < len(index):
        return search_exact(view, query, k=k, metric=metric, conditions=())
    wanted = max(k, index.options.hnsw_expansion_search)
    found, expected = index.search(query, math.ceil(wanted * len(index) / max(known_count, 1)))
    inside = (found >= 0) & (found < len(view.live) << BLOCK_BITS)
    found, expected = found[inside], expected[inside]
    live = np.array(
        [view.live[slot >> BLOCK_BITS][slot & (BLOCK_ROWS - 1)] for slot in found.tolist()], dtype=bool
    )
    near = found[live & (view.commits(found) == expected)]
    if len(unknown):
        near = np.concatenate([near, _nearest_of(view, unknown, query, k=k, metric=metric)])
    return rank(view, near, query, k=k, metric=metric)


def _unknown_to(view: VectorView, index: HnswIndex) -> Slots:
    """Return the slots of live rows that the graph does not have as they are, ascending."""
    parts = []
    for number, (block, live) in enumerate(zip(view.blocks, view.live, strict=True)):
        start = number << BLOCK_BITS
        written = index.written[start : start + BLOCK_ROWS]
        is_unknown = live.copy()
        is_unknown[: len(written)] &= block.commits[: len(written)] != written
        parts.append(np.flatnonzero(is_unknown) + start)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _nearest_of(
    view: VectorView, slots: Slots, query: npt.NDArray[np.float32], *, k: int, metric: Metric
) -> Slots:
    """Return the slots of a few rows more than the k nearest of the given ones."""
    rows = gather(view.blocks, slots)
    scores = rows @ query
    if metric == "euclid":
        scores = 2 * scores - np.einsum("ij,ij->i", rows, rows)
    elif metric == "cosine":
        scores = scores / np.maximum(np.linalg.norm(rows, axis=1), np.finfo(np.float32).tiny)
    wanted = min(k + 8, len(slots))  # a few more: float32 may order near-equal rows otherwise
    chosen = np.argpartition(scores, len(slots) - wanted)[len(slots) - wanted :]
    return slots[chosen]


def rank(
    view: VectorView,
    slots: Slots,
    query: npt.NDArray[np.float32],
    *,
    k: int,
    metric: Metric,
    conditions: tuple[Condition, ...] = (),
) -> list[Hit]:
    """Return the k nearest of the given live rows."""
    kept = [slot for slot in slots.tolist() if not conditions or accepts(conditions, view.metadata[slot])]
    exact = similarity(gather(view.blocks, np.array(kept, dtype=np.int64)), query, metric)
    hits = [Hit(view.keys[slot], score, view.metadata[slot]) for slot, score in zip(kept, exact, strict=True)]
    return sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k]


def similarity(rows: npt.NDArray[np.float32], query: npt.NDArray[np.float32], metric: Metric) -> list[float]:
    """Score rows in float64, each by itself. Shapes: rows (n, d), query (d,) → n."""
    wide, other = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclid":
        return [float(1.0 / (1.0 + np.sqrt(np.dot(row - other, row - other)))) for row in wide]
    products = [float(np.dot(row, other)) for row in wide]
    if metric == "dot":
        return products
    size = float(np.sqrt(np.dot(other, other)))
    norms = [float(np.sqrt(np.dot(row, row))) * size for row in wide]
    return [product / norm if norm else 0.0 for product, norm in zip(products, norms, strict=True)]


def _rough_scores(
    block: Block, live: npt.NDArray[np.bool_], query: npt.NDArray[np.float32], metric: Metric
) -> npt.NDArray[np.float32]:
    """Score one block in float32, good enough to choose candidates."""
    rows, norms = block.rows, block.norms
    used = int(np.flatnonzero(live)[-1]) + 1 if live.any() else 0
    chosen = np.flatnonzero(live[:used])
    products = (rows[:used] @ query)[chosen]
    if metric == "dot":
        return np.asarray(products, dtype=np.float32)
    sizes = norms[chosen]
    if metric == "euclid":
        return np.asarray(2 * products - sizes * sizes, dtype=np.float32)  # minus distance², plus a constant
    cosines = np.zeros(len(chosen), dtype=np.float32)
    np.divide(products, sizes, out=cosines, where=sizes > 0)
    return cosines


def _nearest(
    view: VectorView,
    slots: Slots,
    scores: npt.NDArray[np.float32],
    query: npt.NDArray[np.float32],
    *,
    k: int,
    metric: Metric,
    conditions: tuple[Condition, ...],
) -> list[Hit]:
    """Take candidates in order of their rough score until no other can be among the k nearest."""
    wanted = min(k, len(slots))
    if not conditions:
        cut = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
        near = scores >= cut - _slack(view, query, metric)
        return rank(view, slots[near], query, k=k, metric=metric)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    floor = -np.inf
    for position in order.tolist():
        if scores[position] < floor:
            break
        slot = int(slots[position])
        if accepts(conditions, view.metadata[slot]):
            kept.append(slot)
            if len(kept) == k:
                floor = scores[position] - _slack(view, query, metric)
    return rank(view, np.array(kept, dtype=np.int64), query, k=k, metric=metric)


def _slack(view: VectorView, query: npt.NDArray[np.float32], metric: Metric) -> float:
    """Return how far apart the rough scores of equal rows may lie."""
    norm_max = max((float(block.norms.max()) for block in view.blocks), default=0.0)
    size = float(np.linalg.norm(query))
    if metric == "cosine":
        return _SLACK * size
    scale = norm_max * size if metric == "dot" else norm_max * max(norm_max, size)
    return _SLACK * scale
