"""The co-occurrence index after many edges were set at once."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.database.cooccurrence import CooccurrenceIndex

NAMES = ["a", "b", "c", "d"]
EDGES = [("c", "a", 1.0), ("c", "b", 2.0), ("a", "c", 1.0), ("b", "c", 2.0)]


def loaded(edges: list[tuple[str, str, float]]) -> CooccurrenceIndex:
    index = CooccurrenceIndex()
    index.load(
        index.numbers(NAMES),
        np.array([NAMES.index(edge[0]) for edge in edges], dtype=np.uint32),
        np.array([NAMES.index(edge[1]) for edge in edges], dtype=np.uint32),
        np.array([edge[2] for edge in edges], dtype=np.float32),
    )
    return index


@pytest.mark.parametrize("edges", [EDGES, EDGES[::-1], [EDGES[0], EDGES[2], EDGES[1], EDGES[3]]])
def test_loaded_edges_are_those_given_in_whatever_order(edges: list[tuple[str, str, float]]) -> None:
    index = loaded(edges)

    assert (index.edge_count, index.item_count) == (4, 3)
    assert index.neighbors("c") == [("b", 2.0), ("a", 1.0)]
    assert index.weight("a", "c") == 1.0
    assert index.neighbors("d") == []
    assert index.edges() == sorted(EDGES)


def test_loaded_edges_grow_fade_and_go_like_others() -> None:
    index = loaded(EDGES)

    index.add_pairs(index.number("a"), [(index.number("c"), 3.0), (index.number("d"), 5.0)])
    index.decay(0.5, 1.0)
    index.add_pairs(index.number("d"), [(index.number("b"), 7.0)])

    weights = {"ac": 2.0, "ca": 2.0, "ad": 2.5, "da": 2.5, "bc": 1.0, "cb": 1.0, "bd": 7.0, "db": 7.0}
    assert {source + target: weight for source, target, weight in index.edges()} == weights
    index.decay(0.5, 1.0)
    index.add_pairs(index.number("c"), [(index.number("b"), 4.0)])

    assert index.neighbors("c") == [("b", 4.0), ("a", 1.0)]
    assert index.edge_count == 8


def test_clearing_forgets_loaded_edges() -> None:
    index = loaded(EDGES)

    index.clear()

    assert (index.edge_count, index.item_count, index.neighbors("c")) == (0, 0, [])
