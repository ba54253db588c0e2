"""`index.bin.gz`: an HNSW graph without its vectors, which are stored once, in `vectors.bin.gz`.

A usearch file is a matrix (uint32 rows, uint32 bytes a row, the rows), a head of 64 bytes, and the graph:
5 x uint64 (nodes, links, links at the base, highest level, entry), int16 levels, then per node its
key (uint64), its level (int16) and its lists of links (uint32 count, links x uint32). Node n is row n
of the matrix. We keep everything from the head on, with n as the key of node n, and
for each node its row in the snapshot. Vectors of nodes that are no row any more are kept beside.
Source: read from files of usearch 2.26 and checked against `Index.view`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from recollect.compat.ruvector.files.graph_layout import (
    HEAD_SIZE,
    NODE_KEY,
    NODES_AT_ONCE,
    check_graph,
    find_nodes,
)
from recollect.compat.ruvector.files.header import decode_header, encode_header
from recollect.compat.ruvector.files.member import encode_member
from recollect.errors import IntegrityError

NO_ROW = 0xFFFFFFFF
"""Row of a node whose vector is no record's any more."""

IndexKind: TypeAlias = Literal["none", "graph", "base"]
_KINDS: tuple[IndexKind, ...] = ("none", "graph", "base")

_FIELDS = struct.Struct(
    "<IIIIIQQQ"
)  # kind, dimension, links, add, search, nodes, vectors beside, graph bytes
_CHUNK = 4 << 20
# What a file may unpack to: real graphs shrink to a half, tiny ones to a twentieth.
_RATIO_MAX, _SPARE_BYTES = 64, 1 << 20

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.uint32]
Matrix = npt.NDArray[np.float32]


class GraphParameters(NamedTuple):
    """What the graph was built with."""

    connectivity: int
    expansion_add: int
    expansion_search: int


class StoredGraph(NamedTuple):
    """A graph over rows of a snapshot.

    Attributes:
        rows: For each node its row, or `NO_ROW`. Shapes: (n,).
        beside: The vectors of the nodes without a row, in their order. Shapes: (m, d).
        graph: The file from its head on; the key of node i is i.
    """

    parameters: GraphParameters
    rows: Rows
    beside: Matrix
    graph: Bytes


def split_file(content: Bytes, *, dimension: int) -> tuple[Matrix, npt.NDArray[np.uint64], Bytes]:
    """Split a usearch file into matrix, keys by node, and a copy of the graph with node numbers as keys.

    Raises:
        IntegrityError: Not a usearch file of float32 in the layout that is known here.
    """
    if len(content) < 8:
        raise IntegrityError("an index file has no header")
    count, row_bytes = struct.unpack("<II", content[:8].tobytes())
    end = 8 + count * row_bytes
    if row_bytes != 4 * dimension or len(content) < end + HEAD_SIZE:
        raise IntegrityError(
            f"an index file with rows of {row_bytes} bytes is not one of {dimension} float32"
        )
    matrix = content[8:end].view("<f4").reshape(count, dimension)
    graph = np.array(content[end:])
    layout = find_nodes(graph, count)
    numbers = np.arange(count, dtype="<u8")
    keys = np.empty(count, dtype="<u8")
    for start in range(0, count, NODES_AT_ONCE):
        part = slice(start, start + NODES_AT_ONCE)
        columns = layout.places[part, None] + np.arange(NODE_KEY)
        keys[part] = graph[columns].view("<u8").reshape(-1)
        graph[columns] = numbers[part].view(np.uint8).reshape(-1, NODE_KEY)
    check_graph(graph, layout, dimension=dimension)
    return matrix, keys, graph


def file_head(count: int, dimension: int) -> bytes:
    """Return the bytes before the matrix of a usearch file."""
    return struct.pack("<II", count, 4 * dimension)


def encode_index(
    snapshot_id: str, kind: IndexKind, stored: StoredGraph | None, *, dimension: int, level: int
) -> Iterator[bytes]:
    """Yield the members of the file; the graph only with kind "graph"."""
    if stored is None:
        yield encode_header(
            "index", snapshot_id, _FIELDS.pack(_KINDS.index(kind), dimension, 0, 0, 0, 0, 0, 0)
        )
        return
    sizes = (len(stored.rows), len(stored.beside), len(stored.graph))
    fields = _FIELDS.pack(_KINDS.index(kind), dimension, *stored.parameters, *sizes)
    yield encode_header("index", snapshot_id, fields)
    for part in (stored.rows.astype("<u4"), stored.beside.astype("<f4"), stored.graph):
        flat = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        for start in range(0, len(flat), _CHUNK):
            yield encode_member([], flat[start : start + _CHUNK].data, level=level)


def decode_index(
    snapshot_id: str, members: Iterator[bytes], *, row_count: int, byte_size: int
) -> tuple[IndexKind, int, StoredGraph | None]:
    """Return kind, dimension, and the graph if there is one.

    `row_count` bounds its rows, `byte_size`, that of the file, its memory.

    Raises:
        IntegrityError: The file does not hold what its header says.
    """
    fields = decode_header("index", snapshot_id, next(members, b""))
    if len(fields) != _FIELDS.size:
        raise IntegrityError("the header of the index has another length")
    number, dimension, *parameters, nodes, beside_count, graph_bytes = _FIELDS.unpack(fields)
    if number >= len(_KINDS):
        raise IntegrityError(f"the index is of an unknown kind {number}")
    kind = _KINDS[number]
    wanted = 4 * nodes + 4 * beside_count * dimension + graph_bytes
    if wanted > _SPARE_BYTES + _RATIO_MAX * byte_size:
        raise IntegrityError(f"an index file of {byte_size} bytes claims to hold {wanted}")
    content = np.frombuffer(_join(members, wanted), dtype=np.uint8)
    if kind != "graph":
        return kind, dimension, None
    rows = content[: 4 * nodes].view("<u4")
    beside = content[4 * nodes : wanted - graph_bytes].view("<f4").reshape(beside_count, dimension)
    graph = content[wanted - graph_bytes :]
    known = rows[rows != NO_ROW]
    if len(rows) - len(known) != beside_count or (len(known) and int(known.max()) >= row_count):
        raise IntegrityError("the index speaks of rows that the snapshot does not have")
    check_graph(graph, find_nodes(graph, nodes), dimension=dimension)
    return kind, dimension, StoredGraph(GraphParameters(*parameters), rows, beside, graph)


def _join(members: Iterator[bytes], wanted: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for member in members:
        parts.append(member)
        size += len(member)
        if size > wanted:
            break
    if size != wanted:
        raise IntegrityError(f"the index has {size} bytes or more, its header promises {wanted}")
    return b"".join(parts)
