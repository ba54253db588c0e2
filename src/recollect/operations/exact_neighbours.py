"""Queries drawn from a snapshot, and their exact nearest neighbours in it, in one pass each.

Ranks are lower for nearer records: negated similarities, or distances, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.repository.repository import Repository
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.schema import VectorSpec
from recollect.values.snapshot import CollectionEntry
from recollect.values.ulid import RandomBytes

Floats = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.float64]

TIE = 1e-6
"""Relative difference of ranks below which two records are equally near: what float32 can tell."""

SPARE = 20
"""Candidates beyond k that are kept, so that records as near as the k-th count as found."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Queries and the keys of the records they are. Shapes: queries (q, d)."""

    keys: list[bytes]
    queries: Floats


class ExactNeighbours(msgspec.Struct, frozen=True, kw_only=True):
    """The candidates of one query, nearest first, and how many of them were asked for."""

    keys: list[bytes]
    ranks: list[float]
    k: int

    def recall(self, found: list[bytes]) -> float:
        """Return the share of the k nearest that was found; a record as near as the k-th is as good."""
        wanted = min(self.k, len(self.keys))
        if not wanted:
            return 1.0
        last = self.ranks[wanted - 1]
        limit = last + TIE * max(1.0, abs(last))
        good = {key for key, rank in zip(self.keys, self.ranks, strict=True) if rank <= limit}
        return min(wanted, len(good & set(found))) / wanted


def sample_queries(
    repository: Repository, entry: CollectionEntry, spec: VectorSpec, count: int, random_bytes: RandomBytes
) -> Sample:
    """Draw records that have the vector, evenly over the keys from a random start; maybe fewer."""
    step = max(1, entry.record_count // count)
    start = int.from_bytes(random_bytes(8), "big") % step
    keys: list[bytes] = []
    rows: list[Floats] = []
    seen = 0
    for batch_keys, matrix in _matrices(repository, entry, spec):
        chosen = np.arange((start - seen) % step, len(batch_keys), step)
        keys += batch_keys.take(pa.array(chosen)).to_pylist()
        rows += list(matrix[chosen])
        seen += len(batch_keys)
    shape = (min(count, len(keys)), spec.dimension)
    return Sample(keys=keys[:count], queries=np.array(rows[:count], dtype=np.float32).reshape(shape))


def exact_neighbours(
    repository: Repository, entry: CollectionEntry, spec: VectorSpec, sample: Sample, k: int
) -> list[ExactNeighbours]:
    """Find the k nearest records of every query, without the query's own.

    Reads the collection once; memory is one batch and k candidates a query.
    """
    best: list[list[tuple[float, bytes]]] = [[] for _ in sample.keys]
    for keys, matrix in _matrices(repository, entry, spec):
        ranks = _ranks(matrix, sample.queries, spec)
        for number, own in enumerate(sample.keys):
            row = ranks[number]
            wanted = min(k + SPARE + 1, len(row))
            nearest = np.argpartition(row, wanted - 1)[:wanted]
            found = zip(row[nearest].tolist(), keys.take(pa.array(nearest)).to_pylist(), strict=True)
            merged = best[number] + [(rank, key) for rank, key in found if key != own]
            best[number] = sorted(merged)[: k + SPARE]
    return [
        ExactNeighbours(keys=[key for _, key in each], ranks=[rank for rank, _ in each], k=k) for each in best
    ]


def _matrices(
    repository: Repository, entry: CollectionEntry, spec: VectorSpec
) -> Iterator[tuple[pa.BinaryArray, Floats]]:
    """Yield keys and vectors of the records that have the vector. Shapes: (n,) and (n, d)."""
    for records in RunsReader(repository, entry.schema, entry.runs).records():
        values = records.column(columns.vector_column(spec.name))
        present = values.is_valid()
        matrix = dense_matrix(values, spec)[present.to_numpy(zero_copy_only=False)]
        if len(matrix):
            yield records.column(columns.KEY).filter(present), matrix.astype(np.float32, copy=False)


def _ranks(matrix: Floats, queries: Floats, spec: VectorSpec) -> Ranks:
    """Rank all records for all queries. Shapes: (n, d) and (q, d) → (q, n)."""
    if spec.metric == "euclid":
        return np.array([np.sqrt(np.square(matrix - q).sum(axis=1, dtype=np.float64)) for q in queries])
    if spec.metric == "manhattan":
        return np.array([np.abs(matrix - q).sum(axis=1, dtype=np.float64) for q in queries])
    ranks: Ranks = -(queries @ matrix.T).astype(np.float64)
    if spec.metric == "cosine":
        lengths = np.sqrt(np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64))
        scales = np.sqrt(np.einsum("qd,qd->q", queries, queries, dtype=np.float64))
        products = scales[:, None] * lengths[None, :]
        ranks = np.divide(ranks, products, out=np.zeros_like(ranks), where=products > 0)
    return ranks
