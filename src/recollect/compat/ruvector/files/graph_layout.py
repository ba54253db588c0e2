"""What usearch 2 writes after the matrix of its file, and whether it can be given back to usearch.

usearch believes its files: a link to a node that is not there is memory that is not its own. So what
comes out of a snapshot is looked through first, whatever its checksums say.
Source: include/usearch/index.hpp and index_dense.hpp of usearch 2.26 (`index_dense_head_t`, `node_t`).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recollect.errors import IntegrityError

HEAD_SIZE = 64
NODE_KEY, NODE_LEVEL, LINK = 8, 2, 4
NODES_AT_ONCE = 2048  # picking bytes holds the interpreter's lock

# Magic, version; kinds of metric, scalar, key and slot; present, deleted, dimension; several vectors a key.
_HEAD = struct.Struct("<7s3H4BQQQB")
_KINDS = (11, 14, 15)  # float32, uint64, uint32
_METRICS = {ord("c"), ord("i"), ord("e")}
_GRAPH_HEAD = struct.Struct("<5Q")  # nodes, links, links at the base, highest level, entry

Bytes = npt.NDArray[np.uint8]


class GraphLayout(NamedTuple):
    """Where things are in a graph.

    Attributes:
        places: Where each node begins. Shapes: (n,).
        levels: The highest level of each node. Shapes: (n,).
    """

    places: npt.NDArray[np.int64]
    levels: npt.NDArray[np.int64]
    links: int
    base_links: int
    top: int
    entry: int


def find_nodes(graph: Bytes, count: int) -> GraphLayout:
    """Return where each node begins.

    Raises:
        IntegrityError: The nodes do not fill the graph to its last byte.
    """
    start = HEAD_SIZE + _GRAPH_HEAD.size
    if len(graph) < start + 2 * count or graph[:7].tobytes() != b"usearch":
        raise IntegrityError("the graph is not one that usearch wrote")
    nodes, links, base_links, top, entry = _GRAPH_HEAD.unpack(graph[HEAD_SIZE:start].tobytes())
    if nodes != count or not 0 < links < 1 << 16 or not 0 < base_links < 1 << 16:
        raise IntegrityError(f"the graph has {nodes} nodes, expected {count}")
    levels = graph[start : start + 2 * count].view("<i2").astype(np.int64)
    sizes = NODE_KEY + NODE_LEVEL + LINK * (1 + base_links) + levels * LINK * (1 + links)
    ends: npt.NDArray[np.int64] = start + 2 * count + np.cumsum(sizes)
    if (count and (levels.min() < 0 or int(ends[-1]) != len(graph))) or (not count and len(graph) != start):
        raise IntegrityError("the nodes of the graph do not fill it")
    return GraphLayout(np.asarray(ends - sizes), levels, links, base_links, top, entry)


def check_graph(graph: Bytes, layout: GraphLayout, *, dimension: int) -> None:
    """Check everything that usearch relies on; the key of each node must be its number.

    Raises:
        IntegrityError: usearch could read what is not there.
    """
    count = len(layout.places)
    magic, _, _, _, metric, *kinds, present, deleted, width, multi = _HEAD.unpack_from(graph[:HEAD_SIZE].data)
    described = (magic, tuple(kinds), present, deleted, width, multi)
    if described != (b"usearch", _KINDS, count, 0, dimension, 0) or metric not in _METRICS:
        raise IntegrityError("the graph is not one of these vectors")
    if not count:
        return
    if layout.entry >= count or layout.levels[layout.entry] < layout.top:
        raise IntegrityError("the graph has no entry on its highest level")
    head_size = NODE_KEY + NODE_LEVEL
    for start in range(0, count, NODES_AT_ONCE):
        part = slice(start, start + NODES_AT_ONCE)
        heads = graph[layout.places[part, None] + np.arange(head_size)]
        numbers = np.ascontiguousarray(heads[:, :NODE_KEY]).view("<u8").reshape(-1)
        own = np.ascontiguousarray(heads[:, NODE_KEY:]).view("<i2").reshape(-1)
        if not np.array_equal(numbers, np.arange(start, start + len(heads))):
            raise IntegrityError("a node of the graph has another number")
        if not np.array_equal(own, layout.levels[part]):
            raise IntegrityError("a node of the graph has another level than the graph says")
    _check_links(graph, layout, layout.places + head_size, 0)
    above = layout.places + head_size + LINK * (1 + layout.base_links)
    for level in range(1, layout.top + 1):
        chosen = layout.levels >= level
        _check_links(graph, layout, above[chosen] + (level - 1) * LINK * (1 + layout.links), level)


def _check_links(graph: Bytes, layout: GraphLayout, starts: npt.NDArray[np.int64], level: int) -> None:
    """Check the lists of links of one level. Shapes: starts (n,)."""
    room = layout.links if level else layout.base_links
    columns = np.arange(LINK * (1 + room))
    for first in range(0, len(starts), NODES_AT_ONCE):
        words = graph[starts[first : first + NODES_AT_ONCE, None] + columns].view("<u4")
        counts = words[:, 0]
        if int(counts.max()) > room:
            raise IntegrityError("a node of the graph has more links than there is room for")
        found = words[:, 1:][np.arange(room) < counts[:, None]]
        if len(found) and (int(found.max()) >= len(layout.levels) or layout.levels[found].min() < level):
            raise IntegrityError("a link of the graph leads to no node")
