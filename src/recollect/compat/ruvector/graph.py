"""The HNSW graph between the database and the files: taken from one, put together for the other."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recollect.compat.ruvector.files.index_file import (
    NO_ROW,
    GraphParameters,
    IndexKind,
    StoredGraph,
    encode_index,
    file_head,
    split_file,
)
from recollect.compat.ruvector.files.member import FileWriter, FinishedFile
from recollect.compat.ruvector.rows import spec_of
from recollect.database.held import HeldVectors
from recollect.database.options import VectorOptions
from recollect.database.stores import VectorStore
from recollect.errors import IntegrityError, MissingDependencyError
from recollect.storage.files import sync_file
from recollect.system_error import storage_error

_LOG = logging.getLogger("recollect.ruvector")

_NAMES: dict[IndexKind, str] = {"none": "none", "graph": "hnsw", "base": "of base"}
Matrix = npt.NDArray[np.float32]


def encode_graph(
    held: HeldVectors, snapshot_id: str, *, level: int, is_incremental: bool = False
) -> tuple[FinishedFile, str]:
    """Encode the index that the held rows have, and name its kind.

    A graph in a layout that is not known here is left out, and the log says so.
    An incremental snapshot has none of its own: the graph of its full snapshot, with a few rows looked at
    exactly, costs nothing; a graph of its own would cost more than the changes.
    """
    dimension = spec_of(held).dimension
    stored: StoredGraph | None = None
    kind: IndexKind = "base" if is_incremental else "none"
    if not is_incremental and held.index is not None and len(held.index):
        try:
            stored, kind = take_graph(held), "graph"
        except IntegrityError as error:
            # Records matter, the graph can be built again: a backup does not fail for it.
            _LOG.warning("snapshot %s is taken without the HNSW index: %s", snapshot_id, error)
    file = FileWriter()
    for member in encode_index(snapshot_id, kind, stored, dimension=dimension, level=level):
        file.append(member)
    return file.finish(), _NAMES[kind]


def take_graph(held: HeldVectors) -> StoredGraph:
    """Take the graph of the held rows' index, with the row that each node is in the snapshot."""
    index = held.index
    assert index is not None, "the caller looked"
    matrix, keys, graph = split_file(index.content, dimension=spec_of(held).dimension)
    slots = index.slots[keys.astype(np.int64)]
    commits = index.commits[keys.astype(np.int64)]
    rows = np.searchsorted(held.slots, slots)  # held slots ascend: a row's number is its slot's place
    rows[rows == len(held.slots)] = 0
    known = np.zeros(len(slots), dtype=np.bool_)
    if len(held.slots):
        known = held.slots[rows] == slots
        known[known] = held.commits(slots[known]) == commits[known]
    options = index.options
    parameters = GraphParameters(
        options.hnsw_connectivity, options.hnsw_expansion_add, options.hnsw_expansion_search
    )
    stored_rows = np.where(known, rows, NO_ROW).astype(np.uint32)
    return StoredGraph(parameters, stored_rows, np.array(matrix[~known]), graph)


class GraphFile:
    """A usearch file that is put together while the vectors of its rows arrive.

    Args:
        path: Created; filled in any order; complete after `finish`.
    """

    def __init__(self, path: Path, stored: StoredGraph, *, dimension: int) -> None:
        self.path = path
        self._stored = stored
        count = len(stored.rows)
        head = file_head(count, dimension)
        row_bytes = 4 * dimension
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            size = len(head) + count * row_bytes + len(stored.graph)
            with path.open("xb") as file:
                # A full disk must be an error: in a mapped file it is a signal that ends the process.
                os.posix_fallocate(file.fileno(), 0, size)
            content = np.memmap(path, dtype=np.uint8, mode="r+", shape=(size,))
        except OSError as error:
            raise storage_error(error, f"cannot write the index {path}") from error
        content[: len(head)] = np.frombuffer(head, dtype=np.uint8)
        end = len(head) + count * row_bytes
        content[end:] = stored.graph
        self._content = content
        self._matrix = content[len(head) : end].reshape(count, row_bytes)
        beside = stored.rows == NO_ROW
        self._matrix[beside] = np.ascontiguousarray(stored.beside).view(np.uint8).reshape(-1, row_bytes)
        # Nodes by row: a row is in the graph once at most.
        self._nodes = np.flatnonzero(~beside)
        order = np.argsort(stored.rows[self._nodes], kind="stable")
        self._nodes = self._nodes[order]
        self._rows = stored.rows[self._nodes].astype(np.int64)
        self.keys: list[bytes | None] = [None] * count

    @property
    def options(self) -> VectorOptions:
        """The options that the graph was built with."""
        connectivity, add, search = self._stored.parameters
        return VectorOptions(
            hnsw_connectivity=connectivity, hnsw_expansion_add=add, hnsw_expansion_search=search
        )

    def put(self, start: int, vectors: Matrix, keys: list[bytes | None]) -> None:
        """Give the vectors of rows `start` and following; a key of None has another vector by now.

        Shapes: vectors (n, d), n keys.
        """
        first, last = np.searchsorted(self._rows, [start, start + len(vectors)])
        nodes, rows = self._nodes[first:last], self._rows[first:last] - start
        flat = np.ascontiguousarray(vectors, dtype="<f4").view(np.uint8).reshape(len(vectors), -1)
        self._matrix[nodes] = flat[rows]
        for node, row in zip(nodes.tolist(), rows.tolist(), strict=True):
            self.keys[node] = keys[row]

    def finish(self) -> None:
        """Make the file durable; it is complete."""
        try:
            # Not `memmap.flush`: that holds the interpreter's lock until the disk is done.
            with self.path.open("rb") as file:
                sync_file(file.fileno())
        except OSError as error:
            raise storage_error(error, f"cannot write the index {self.path}") from error


def attach_graph(collection: VectorStore, file: GraphFile) -> None:
    """Let a collection search by the file; if it cannot, it searches exactly, and the log says why."""
    try:
        collection.attach_index(file.path, file.keys, file.options)
    except (MissingDependencyError, IntegrityError) as error:
        _LOG.warning("%s is restored without its HNSW index and searches exactly: %s", collection.name, error)
