"""Record versions of a shard, and when they can be compared with those of an earlier backup.

The engine gives each record the number of the last operation that changed it. Those numbers
mean something only along one history: a shard that was made anew, or put back from a copy,
counts anew. So each backup leaves a marker in the shard's directory: a random token, and the
version of every segment at that time. Versions are compared only with a snapshot whose token
the directory still knows, and only if no segment went back since. Anything else (a copy of the
directory, a lost marker, no write-ahead log) just means that everything is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from recollect.engines.edge.binding import edge_errors, edge_library
from recollect.engines.edge.schema import read_config
from recollect.engines.edge.tracker import Listing, read_listing
from recollect.errors import IntegrityError
from recollect.values import batch as columns
from recollect.values.key import decode_keys, encode_keys
from recollect.values.schema import CollectionSchema, VectorSpec

MARKER_FILE = "recollect-positions.json"
MARKERS_MAX = 16
SLICE_RECORDS = 25_000
"""Records listed at once: bounds the engine's result objects, about 100 bytes each."""
VERSION_BATCH_ROWS = columns.BATCH_ROWS
CONFIRMED_RECORDS = 32
"""Versions read from files that the engine is asked to confirm: so many of the newest, so many others."""

_LISTING = pa.schema([pa.field(columns.KEY, pa.binary(), False), pa.field(columns.POSITION, pa.uint64())])


class Marker(msgspec.Struct, frozen=True):
    """One moment of a shard's history."""

    token: str
    segments: dict[str, int]


def read_markers(directory: Path) -> list[Marker]:
    """Return the markers that earlier backups left, oldest first; none if they cannot be read."""
    try:
        return msgspec.json.decode((directory / MARKER_FILE).read_bytes(), type=list[Marker])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []


def leave_marker(shard: Any, directory: Path, token: str) -> bool:
    """Write down that the shard is now at `token`; False where the directory may not be written.

    Atomic; a crash leaves the old markers. The shard is flushed first: operations that a power cut takes
    back must not be behind a marker, because the engine would give their numbers to others.
    """
    with edge_errors("flushing", directory):
        shard.flush()
    markers = [*read_markers(directory), Marker(token, _segment_versions(shard, directory))]
    unfinished = directory / f"{MARKER_FILE}.part"
    try:
        unfinished.write_bytes(msgspec.json.encode(markers[-MARKERS_MAX:]))
        unfinished.replace(directory / MARKER_FILE)
    except OSError:
        return False
    return True


def is_continued(shard: Any, directory: Path, token: str) -> bool:
    """Tell whether the shard's history leads on from the moment of `token`."""
    if read_config(directory).get("wal_enabled") is False:
        return False
    marker = next((marker for marker in read_markers(directory) if marker.token == token), None)
    if marker is None:
        return False
    now = _segment_versions(shard, directory)
    return all(now[segment] >= version for segment, version in marker.segments.items() if segment in now)


def is_unchanged(shard: Any, directory: Path, token: str) -> bool:
    """Tell whether the shard has the very segments, at the very versions, that it had at `token`."""
    marker = next((marker for marker in read_markers(directory) if marker.token == token), None)
    return marker is not None and marker.segments == _segment_versions(shard, directory)


def record_versions(shard: Any, directory: Path, schema: CollectionSchema) -> Iterator[pa.RecordBatch]:
    """Yield key and position of every record, ascending by key.

    Read from the shard's files where their layout is known, else asked of the engine.

    Raises:
        IntegrityError: The engine lists another number of records than it counts.
    """
    with edge_errors("reading", directory):
        total = shard.count(edge_library().CountRequest(exact=True))
    table = read_versions(shard, directory, total)
    if table is None:
        table = ask_versions(shard, directory, total, schema)
    yield from table.to_batches(max_chunksize=VERSION_BATCH_ROWS)


def read_versions(shard: Any, directory: Path, total: int) -> pa.Table | None:
    """Read all versions from the files; None unless they agree with what the engine says of them."""
    with edge_errors("reading", directory):
        shard.flush()
    listing = read_listing(directory, _segment_versions(shard, directory))
    if listing is None or len(listing.keys) != total or not _is_confirmed(shard, directory, listing):
        return None
    return pa.table([listing.keys, pa.array(listing.versions)], schema=_LISTING)


def _is_confirmed(shard: Any, directory: Path, listing: Listing) -> bool:
    """Compare some of the versions, the newest and others throughout the shard, with the engine's."""
    count = len(listing.keys)
    if not count:
        return True
    newest = np.argpartition(listing.versions, max(0, count - CONFIRMED_RECORDS))[-CONFIRMED_RECORDS:]
    rows = np.unique(np.concatenate([newest, np.linspace(0, count - 1, CONFIRMED_RECORDS).astype(np.int64)]))
    ids = decode_keys(listing.keys.take(pa.array(rows)))
    chosen = edge_library().Filter(must=[edge_library().HasIdCondition(set(ids))])
    with edge_errors("reading", directory):
        points = shard.query(_by_constant(len(ids), chosen))
    told = {point.id: point.version for point in points}
    read = listing.versions[rows].tolist()
    return told == dict(zip(ids, read, strict=True))


def ask_versions(shard: Any, directory: Path, total: int, schema: CollectionSchema) -> pa.Table:
    """List all versions by the engine.

    It tells them only of scored points. Scoring against a vector is twice as fast as scoring by a
    constant, but finds only records that have that vector.
    """
    dense = next((spec for spec in schema.vectors if spec.kind == "dense"), None)
    table = _list_versions(shard, directory, total, _by_vector(dense)) if dense else None
    if table is None or table.num_rows != total:
        table = _list_versions(shard, directory, total, _by_constant)
    if table.num_rows != total:
        raise IntegrityError(
            f"the engine counts {total} records in {directory} and lists {table.num_rows}",
            "open the shard with the engine and run its optimizer, then try again",
        )
    return table.sort_by(columns.KEY).combine_chunks()


ScoreRequest = Callable[[int, Any], Any]
"""Makes the engine's query for at most so many of the points that a filter (or None) lets through."""


def _by_vector(spec: VectorSpec) -> ScoreRequest:
    query = [1.0] * spec.dimension

    def request(limit: int, chosen: Any) -> Any:
        library = edge_library()
        nearest = library.Query.Nearest(query, using=spec.name or None)
        return library.QueryRequest(
            limit=limit, query=nearest, filter=chosen, params=library.SearchParams(exact=True)
        )

    return request


def _by_constant(limit: int, chosen: Any) -> Any:
    library = edge_library()
    score = library.Formula(library.Expression.Constant(1.0))
    return library.QueryRequest(
        limit=limit, query=score, prefetches=[library.Prefetch(limit=limit, filter=chosen)]
    )


def _list_versions(shard: Any, directory: Path, total: int, request: ScoreRequest) -> pa.Table:
    """List all records' versions, a slice at a time. Shapes: (records found,), in no order."""
    library = edge_library()
    parts = -(-total // SLICE_RECORDS)
    batches = []
    for number in range(parts):
        chosen = library.Filter(must=[library.SliceCondition(parts, number)]) if parts > 1 else None
        with edge_errors("reading", directory):
            points = shard.query(request(total, chosen))
        keys = encode_keys([point.id for point in points])
        versions = np.fromiter((point.version for point in points), dtype=np.uint64, count=len(points))
        batches.append(pa.RecordBatch.from_arrays([keys, pa.array(versions)], schema=_LISTING))
    return pa.Table.from_batches(batches, schema=_LISTING)


def _segment_versions(shard: Any, directory: Path) -> dict[str, int]:
    with edge_errors("reading", directory):
        manifest = shard.snapshot_manifest()
    found = json.loads(manifest) if isinstance(manifest, str) else manifest
    return {segment: int(facts["segment_version"]) for segment, facts in found.items()}
