"""Similarity by events and vectors together: two lists of candidates made one.

Each list's scores are spread over 0 to 1 (the best gets 1, the worst 0; a list of one, or of equal
scores, is clamped instead), weighed, and added. Equal results are ordered by id. Rules: nvecd's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recollect.database.options import FusionOptions
from recollect.database.stores import EventStore, VectorStore

_RANGE_MIN = 1e-4
_FETCH_FACTOR = 3


class SimilarMatch(NamedTuple):
    """One similar item; a larger score is nearer."""

    id: str
    score: float


def fuse(
    id: str, k: int, *, vectors: VectorStore, events: EventStore, options: FusionOptions
) -> list[SimilarMatch]:
    """Return the k items most similar to one, by vectors and events; the item itself is left out.

    An item without a vector, or without events, is judged by what it has.
    """
    fetch = max(1, min(_FETCH_FACTOR * k, options.max_top_k))
    record = vectors.get(id)
    near = [] if record is None else vectors.search(record.vector, fetch, exclude=id)
    by_vector = [SimilarMatch(str(match.id), match.score) for match in near]
    by_event = [SimilarMatch(match.id, match.score) for match in events.similar(id, fetch)]
    alpha, beta = weights(options, neighbor_count=events.neighbor_count(id))
    return combine(by_vector, by_event, alpha=alpha, beta=beta)[:k]


def weights(options: FusionOptions, *, neighbor_count: int) -> tuple[float, float]:
    """Return the weights of vectors and events, which add up to 1 unless both are 0."""
    if options.adaptive:
        maturity = min(1.0, neighbor_count / max(1, options.adaptive_maturity_threshold))
        alpha = options.adaptive_max_alpha - maturity * (
            options.adaptive_max_alpha - options.adaptive_min_alpha
        )
        return alpha, 1.0 - alpha
    total = options.alpha + options.beta
    return (options.alpha / total, options.beta / total) if total > 0 else (0.0, 0.0)


def combine(
    by_vector: Sequence[SimilarMatch], by_event: Sequence[SimilarMatch], *, alpha: float, beta: float
) -> list[SimilarMatch]:
    """Join two lists of candidates, best first; if one is empty the other counts alone."""
    if not by_vector:
        alpha, beta = 0.0, 1.0
    elif not by_event:
        alpha, beta = 1.0, 0.0
    scores: dict[str, float] = {}
    for matches, weight in ((by_vector, alpha), (by_event, beta)):
        for match in _spread(matches):
            scores[match.id] = scores.get(match.id, 0.0) + weight * match.score
    found = [SimilarMatch(item, score) for item, score in scores.items()]
    return sorted(found, key=lambda match: (-match.score, match.id))


def _spread(matches: Sequence[SimilarMatch]) -> list[SimilarMatch]:
    if not matches:
        return []
    low = min(match.score for match in matches)
    width = max(match.score for match in matches) - low
    if len(matches) == 1 or width < _RANGE_MIN:
        return [SimilarMatch(match.id, min(1.0, max(0.0, match.score))) for match in matches]
    return [SimilarMatch(match.id, (match.score - low) / width) for match in matches]
