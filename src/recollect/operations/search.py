"""Search: exact nearest neighbours in a snapshot, without restoring it.

Streams the collection once; memory is one window of records and k candidates. Scores are
computed in float32 as Qdrant defines them: higher is nearer for cosine and dot product,
lower is nearer for the distances.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.errors import NotFoundError, RequestError, UnsupportedError
from recollect.repository.repository import Repository
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.key import RecordId, decode_key, encode_key
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import CollectionEntry

DISTANCES = frozenset({"euclid", "manhattan"})

Floats = npt.NDArray[np.float32]


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """One record found."""

    record_id: RecordId
    score: float
    payload: str | None = None


def run(
    repository: Repository,
    entry: CollectionEntry,
    query: Floats,
    *,
    vector: str = "",
    k: int = 10,
    exclude: RecordId | None = None,
    on_event: OnEvent = ignore_events,
) -> list[Neighbour]:
    """Return the k nearest records, nearest first; equal scores in key order.

    An empty `vector` is the unnamed one, or the only dense one there is. Records without such a vector, and
    those whose score is not a number, are left out.

    Shapes: query (d,) float32.

    Raises:
        RequestError: No such vector, another dimension, NaN, or k below 1.
        UnsupportedError: The vector is sparse or a multi-vector.
    """
    spec = _checked(entry.schema, vector, query, k)
    excluded = None if exclude is None else encode_key(exclude)
    best: list[tuple[float, bytes, bytes | None]] = []
    done = 0
    for records in RunsReader(repository, entry.schema, entry.runs).records():
        best = sorted(best + _nearest(records, spec, query, k, excluded))[:k]
        done += records.num_rows
        on_event(Progress(stage="search", subject=entry.name, done=done, total=entry.record_count))
    sign = 1.0 if spec.metric in DISTANCES else -1.0
    return [
        Neighbour(
            record_id=decode_key(key),
            score=sign * rank,
            payload=None if payload is None else payload.decode("utf-8"),
        )
        for rank, key, payload in best
    ]


def vector_of(
    repository: Repository, entry: CollectionEntry, record_id: RecordId, vector: str = ""
) -> Floats:
    """Return the stored vector of one record, reading only segments whose key range holds it.

    Raises:
        NotFoundError: There is no such record, or it has no such vector.
    """
    spec = _dense(entry.schema, vector)
    for records in _records_at(repository, entry, encode_key(record_id)):
        values = records.column(columns.vector_column(spec.name))
        if values.is_valid()[0].as_py():
            found: Floats = dense_matrix(values, spec)[0].astype(np.float32)
            return found
        raise NotFoundError(f"record {record_id} of {entry.name!r} has no vector {vector!r}")
    raise NotFoundError(f"there is no record {record_id} in collection {entry.name!r} of this snapshot")


def _records_at(repository: Repository, entry: CollectionEntry, key: bytes) -> Iterator[pa.RecordBatch]:
    wanted = key.hex()
    runs = tuple(
        tuple(segment for segment in run if segment.key_min <= wanted <= segment.key_max)
        for run in entry.runs
    )
    reader = RunsReader(repository, entry.schema, tuple(run for run in runs if run))
    for records in reader.records():
        keys = records.column(columns.KEY)
        row = keys.index(pa.scalar(key, keys.type)).as_py()
        if row >= 0:
            yield records.slice(row, 1)
            return


def _dense(schema: CollectionSchema, vector: str) -> VectorSpec:
    dense = [spec for spec in schema.vectors if spec.kind == "dense"]
    if not vector and len(dense) == 1:
        return dense[0]
    spec = schema.vector(vector)
    if spec.kind != "dense":
        raise UnsupportedError(
            f"vector {vector!r} is {spec.kind}; exact search in a snapshot knows dense vectors only",
            "restore the collection into an engine and search there",
        )
    return spec


def _checked(schema: CollectionSchema, vector: str, query: Floats, k: int) -> VectorSpec:
    spec = _dense(schema, vector)
    if k < 1:
        raise RequestError(f"k must be at least 1, got {k}")
    if query.shape != (spec.dimension,):
        raise RequestError(
            f"the query has {query.size} elements; vector {spec.name!r} has {spec.dimension} dimensions",
            "embed the query with the model that made this vector, or name another one: --using NAME",
        )
    if not np.isfinite(query).all():
        raise RequestError("the query holds NaN or an infinity")
    return spec


def _nearest(
    records: pa.RecordBatch, spec: VectorSpec, query: Floats, k: int, excluded: bytes | None
) -> list[tuple[float, bytes, bytes | None]]:
    """Return a batch's k best as (rank, key, payload), where a lower rank is nearer."""
    values = records.column(columns.vector_column(spec.name))
    matrix = dense_matrix(values, spec).astype(np.float32, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):  # stored vectors may hold NaN and infinities
        ranks = _ranks(matrix, query, spec)
    is_out = ~values.is_valid().to_numpy(zero_copy_only=False)
    keys = records.column(columns.KEY)
    if excluded is not None:
        row = keys.index(pa.scalar(excluded, keys.type)).as_py()
        is_out[row if row >= 0 else []] = True
    is_out |= np.isnan(ranks)  # no score: neither near nor far
    order = np.argsort(ranks, kind="stable")
    order = order[~is_out[order]][:k]
    payloads = records.column(columns.PAYLOAD).take(pa.array(order)).to_pylist()
    found = zip(ranks[order].tolist(), keys.take(pa.array(order)).to_pylist(), payloads, strict=True)
    return list(found)


def _ranks(matrix: Floats, query: Floats, spec: VectorSpec) -> npt.NDArray[np.float64]:
    """Rank rows, lower is nearer. Shapes: (n, d) and (d,) → (n,)."""
    ranks: npt.NDArray[np.float64]
    if spec.metric == "euclid":
        ranks = np.sqrt(np.square(matrix - query).sum(axis=1, dtype=np.float64))
    elif spec.metric == "manhattan":
        ranks = np.abs(matrix - query).sum(axis=1, dtype=np.float64)
    else:
        ranks = -(matrix @ query).astype(np.float64)
        if spec.metric == "cosine":
            lengths = np.sqrt(np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64))
            scale = lengths * float(np.linalg.norm(query.astype(np.float64)))
            ranks = np.divide(ranks, scale, out=np.zeros_like(ranks), where=scale != 0)
    return ranks
