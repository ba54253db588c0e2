"""An HNSW graph over rows of a collection: a usearch file, mapped into memory.

The file is written once and never changed, so whoever holds the index may read the file while
another takes its place. It knows each row by slot and commit: a row that was rewritten since has
another commit, so it is not taken for the old one, and a search looks at it exactly
(`search.search_indexed`). No write ever waits for the graph.

Mapped, not loaded: usearch holds Python's interpreter lock while it loads a file.
Source: usearch 2.26, https://github.com/unum-cloud/USearch (`Index.view`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recollect.database.options import VectorOptions
from recollect.errors import IntegrityError, MissingDependencyError, UnavailableError
from recollect.system_error import storage_error
from recollect.values.schema import Metric, VectorSpec

METRICS: dict[Metric, str] = {"cosine": "cos", "dot": "ip", "euclid": "l2sq"}
_ROWS_AT_ONCE = 256  # a batch of insertions: short enough that other threads get their turn
_SERIAL_ROWS = 8192
"""Rows inserted by one thread: while a graph is small, rows inserted at once miss each other's links, and
some cannot be reached (of 300 rows one or two in most builds; by one thread none in 150 builds)."""

Slots = npt.NDArray[np.int64]
Commits = npt.NDArray[np.uint64]


class Rows(Protocol):
    """What an index is built over: matrices of rows, and how many rows there are in all."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def matrices(self) -> Iterable[npt.NDArray[np.float32]]:
        """Yield all rows. Shapes: (n, d) each."""
        ...


class HnswIndex:
    """A graph over n rows, row i of which is `slots[i]` as commit `commits[i]` wrote it. Never changes.

    Args:
        path: The usearch file: a matrix of float32, then the graph, whose keys are row numbers.
        slots: Slot of each row; -1 for rows of the graph that are not in the table. Shapes: (n,).
        commits: Shapes: (n,).

    Attributes:
        content: The bytes of the file.
        written: By slot: the commit of the row that the graph has of it, 0 for none. Shapes: (s,).
    """

    def __init__(
        self, path: Path, slots: Slots, commits: Commits, *, spec: VectorSpec, options: VectorOptions
    ) -> None:
        self.path = path
        self.slots = slots
        self.commits = commits
        self.options = options
        known = slots >= 0
        self.written: Commits = np.zeros(int(slots.max(initial=-1)) + 1, dtype=np.uint64)
        self.written[slots[known]] = commits[known]
        self._graph = _new_graph(spec, options)
        try:
            self.content: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
            self._graph.view(os.fspath(path), progress=_go_on)
        except OSError as error:
            raise storage_error(error, f"cannot open the index {path}") from error
        except (RuntimeError, ValueError) as error:
            raise IntegrityError(
                f"the index {path} is damaged: {error}", "build it again; no record is lost"
            ) from error
        if len(self._graph) != len(slots):
            raise IntegrityError(f"the index {path} has {len(self._graph)} rows, expected {len(slots)}")

    def __len__(self) -> int:
        return len(self.slots)

    def search(self, query: npt.NDArray[np.float32], count: int) -> tuple[Slots, Commits]:
        """Return slots and commits of the rows nearest by the graph, approximately. Shapes: query (d,)."""
        rows = np.asarray(self._graph.search(query, count, threads=1).keys, dtype=np.int64)
        return self.slots[rows], self.commits[rows]


def write_hnsw(path: Path, rows: Rows, spec: VectorSpec, options: VectorOptions) -> None:
    """Build a graph over all rows and write its file, durably; row numbers become its keys.

    Cost: some 0.3 ms a row at 384 dimensions, on half of the cores; while the file is written (0.1 s for
    100 MB), other threads of the process stand still.
    """
    graph = _new_graph(spec, options)
    start = 0
    for matrix in rows.matrices():
        for first in range(0, len(matrix), _ROWS_AT_ONCE):
            part = matrix[first : first + _ROWS_AT_ONCE]
            threads = 1 if start < _SERIAL_ROWS else _threads()
            graph.add(np.arange(start, start + len(part), dtype=np.uint64), part, threads=threads)
            start += len(part)
    assert start == len(rows), "the matrices hold the rows that were announced"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        graph.save(os.fspath(path), progress=_go_on)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, f"cannot write the index {path}") from error
    except RuntimeError as error:
        raise UnavailableError(f"cannot write the index {path}: {error}", "check the disk") from error


def _threads() -> int:
    """Half of the cores: an index is built in the background, and commits go on beside it."""
    return max(1, (os.cpu_count() or 1) // 2)


def _new_graph(spec: VectorSpec, options: VectorOptions) -> Any:
    try:
        from usearch.index import Index  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise MissingDependencyError(
            "an HNSW index needs the package usearch, which is not installed",
            'run: pip install "recollect[hnsw]", or search without an index',
        ) from error
    return Index(
        ndim=spec.dimension,
        metric=METRICS[spec.metric or "cosine"],
        dtype="f32",
        connectivity=options.hnsw_connectivity,
        expansion_add=options.hnsw_expansion_add,
        expansion_search=options.hnsw_expansion_search,
        enable_key_lookups=False,
    )


def _go_on(done: int, total: int) -> bool:  # noqa: ARG001 - usearch looks at the signature
    """Let usearch go on. Being Python, it also lets waiting threads have the interpreter lock."""
    return True


# usearch checks the annotations of a callback, and wants types, not their names.
_go_on.__annotations__.update({"done": int, "total": int, "return": bool})
