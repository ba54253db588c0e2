"""From a snapshot file to the database: checked, staged beside the live data, then switched in one commit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from recollect.compat.nvecd.export import SnapshotCounts
from recollect.compat.nvecd.extra import CollectionRows, Extra, StateRow, VectorRow, decode_extra
from recollect.compat.nvecd.extra_check import check_extra
from recollect.compat.nvecd.gate import Gate
from recollect.compat.nvecd.snapshot.content import EdgeColumns, EventColumns, Fields
from recollect.compat.nvecd.snapshot.decode import decode_edges, decode_events, decode_metadata
from recollect.compat.nvecd.snapshot.layout import (
    EDGES,
    EVENTS,
    EXTRA,
    FORMAT_LIMITS,
    METADATA,
    VECTORS,
    Header,
    SnapshotLimits,
)
from recollect.compat.nvecd.snapshot.read import (
    Section,
    Sections,
    check_metadata_ids,
    check_store,
    read_sections,
    read_store,
)
from recollect.compat.nvecd.snapshot.vector_stream import VectorStream
from recollect.database import Database
from recollect.database import operation as ops
from recollect.database.collections import HIDDEN_PREFIX
from recollect.database.events import EVENT
from recollect.database.limits import NAME_BYTES_MAX, check_finite, check_matrix, check_name
from recollect.database.operation import Operation
from recollect.database.planner import plain_schema
from recollect.database.stage import DEFAULT_COLLECTION
from recollect.errors import IntegrityError, NotFoundError, RequestError
from recollect.values.key import TAG_STRING
from recollect.values.payload import encode_payload
from recollect.values.schema import Metric

STAGING = f"{HIDDEN_PREFIX}nvecd/loading"
"""The collection that a load fills; no part of backups and snapshots."""

_TEXT = bytes((TAG_STRING,))
_RING = np.dtype([("item", "<u4"), ("score", "<i4"), ("timestamp", "<u8"), ("kind", "u1")])


def load_file(
    database: Database,
    gate: Gate,
    descriptor: int,
    header: Header,
    *,
    limits: SnapshotLimits = FORMAT_LIMITS,
) -> SnapshotCounts:
    """Put the content of a checked file in place of what the database holds.

    All or nothing: until the last commit the live data is untouched, and that commit is atomic. The caller
    holds `gate.loading`.

    Raises:
        IntegrityError, FormatVersionError: The file is damaged or of another version. Nothing was changed.
    """
    metric = database.options.vectors.metric
    sections = read_sections(descriptor, header, limits)
    stores = sections.stores
    extra = decode_extra(read_store(descriptor, stores[EXTRA])) if EXTRA in stores else Extra()
    check_extra(extra)
    _drop(database, STAGING)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="nvecd-load") as pool:
            # Most of either is copying and counting without the interpreter's lock.
            graph = pool.submit(_read_graph, descriptor, stores)
            vector_count = _stage_vectors(database, descriptor, sections, extra, metric)
            replacement = graph.result()
        operations = [*_switch(database, staged=vector_count is not None), replacement]
        operations += [*_state(database, extra.state), *_collections(database, extra.collections)]
        with gate.writing:
            database.commit(operations)
    except RequestError as error:
        raise IntegrityError(f"Failed to restore: {error}", "use another snapshot file") from error
    finally:
        _drop(database, STAGING)
    pair_count = (len(replacement.weights) // 4 + 1) // 2
    return SnapshotCounts(len(replacement.contexts), replacement.event_count, vector_count or 0, pair_count)


def _read_graph(descriptor: int, stores: dict[str, Section]) -> ops.EventsReplace:
    """Read events and co-occurrence."""
    events = decode_events(read_store(descriptor, stores[EVENTS]))
    return replace_operation(events, decode_edges(read_store(descriptor, stores[EDGES])))


def drop_staging(database: Database) -> None:
    """Drop what a load left behind when its process was killed; a no-op if there is nothing."""
    _drop(database, STAGING)


def replace_operation(events: EventColumns, edges: EdgeColumns) -> ops.EventsReplace:
    """Return the operation that puts these events in place of all present ones."""
    names = list(dict.fromkeys([*events.names, *edges.names]))
    numbers = {name: number for number, name in enumerate(names)}
    event_numbers = np.array([numbers[name] for name in events.names], dtype="<u4")
    edge_numbers = np.array([numbers[name] for name in edges.names], dtype="<u4")
    packed = np.empty(len(events.rows), dtype=_RING)
    packed["item"] = event_numbers[events.items] if len(events.items) else 0
    for field in ("score", "timestamp", "kind"):
        packed[field] = events.rows[field]
    data = packed.tobytes()
    ends = np.cumsum(events.sizes).tolist()
    rings = [
        data[EVENT.size * start : EVENT.size * end] for start, end in zip([0, *ends], ends, strict=False)
    ]
    sources = np.repeat(edges.sources, edges.sizes)
    return ops.EventsReplace(
        _checked("an item", names),
        _checked("a context", events.contexts),
        rings,
        edge_numbers[sources].tobytes() if len(sources) else b"",
        edge_numbers[edges.targets].tobytes() if len(sources) else b"",
        edges.weights.astype("<f4").tobytes(),
        len(events.rows),
    )


def _checked(what: str, names: list[str]) -> list[str]:
    # Four bytes are the longest character: most lists need no look at each name.
    if not all(names) or 4 * max(map(len, names), default=0) > NAME_BYTES_MAX:
        for name in names:
            check_name(what, name)
    return names


def _stage_vectors(
    database: Database, descriptor: int, sections: Sections, extra: Extra, metric: Metric
) -> int | None:
    """Fill the staging collection; return how many vectors it has, or None if there is no dimension."""
    stores = sections.stores
    stream = VectorStream(descriptor, stores[VECTORS].offset, stores[VECTORS].size)
    metadata = _metadata(descriptor, sections, extra)
    dimension = stream.dimension or (len(extra.vectors[0].vector) // 4 if extra.vectors else 0)
    if not dimension:
        check_store(stores[VECTORS], _drain(stream))
        check_metadata_ids((), metadata)
        return None
    database.create_collection(STAGING, plain_schema(dimension, metric))
    left = dict(metadata)
    for names, rows in stream.chunks():
        if not all(names) or max(map(len, names)) > NAME_BYTES_MAX:
            for name in names:
                check_name("an id", name.decode("utf-8"))
        check_finite(rows)
        values: list[bytes | None] = [None] * len(names)
        if left:
            values = [left.pop(name.decode("utf-8"), None) for name in names]
        database.commit(
            [ops.VectorsSet(STAGING, [_TEXT + name for name in names], rows.data.cast("B"), values)]
        )
    check_store(stores[VECTORS], stream.checksum)
    check_metadata_ids((), left)
    if extra.vectors:
        database.commit([_set_rows(STAGING, extra.vectors)])
    return stream.row_count + len(extra.vectors)


def _metadata(descriptor: int, sections: Sections, extra: Extra) -> dict[str, bytes]:
    """Return the metadata of each vector as JSON."""
    found: dict[str, bytes] = {}
    if METADATA in sections.stores:
        records = decode_metadata(read_store(descriptor, sections.stores[METADATA]))
        found = {item: encode_fields(fields) for item, fields in records if fields}
    return found | extra.metadata


def encode_fields(fields: Fields) -> bytes:
    """Bring the fields of a vector into the database's form."""
    return encode_payload(dict(fields))


def _switch(database: Database, *, staged: bool) -> Iterator[Operation]:
    """Put the staged collection in place of the live one, or just remove that."""
    if staged:
        yield ops.CollectionSwitch(STAGING, DEFAULT_COLLECTION)
    elif DEFAULT_COLLECTION in database.collections():
        yield ops.CollectionDrop(DEFAULT_COLLECTION)


def _state(database: Database, rows: list[StateRow]) -> Iterator[Operation]:
    """Restore state: whole histories into an empty store; else the newest values, as new versions."""
    if not rows:
        return
    agents = database.state.agents()
    if not agents:
        now_ts = database.commit_ts + 1
        for row in rows:
            commit_ts = min(row.commit_ts, now_ts)
            yield ops.StateRestore(row.namespace, row.agent, row.key, row.value, row.version, commit_ts)
        return
    newest = {(row.namespace, row.agent, row.key): row.value for row in rows}
    for namespace, agent in agents:
        for key in database.state.list_keys(namespace, agent):
            if newest.get((namespace, agent, key)) is None:
                yield ops.StateDelete(namespace, agent, key)
    for (namespace, agent, key), value in newest.items():
        if value is not None:
            yield ops.StateWrite(namespace, agent, key, value)


def _collections(database: Database, collections: list[CollectionRows]) -> Iterator[Operation]:
    """Put the other collections of the file in place of those of the same names."""
    present = database.collections()
    for one in collections:
        if one.name in present:
            yield ops.CollectionDrop(one.name)
        metric = msgspec.convert(one.metric, Metric)
        yield ops.CollectionCreate(one.name, plain_schema(one.dimension, metric))
        if one.rows:
            yield _set_rows(one.name, one.rows)


def _set_rows(collection: str, rows: list[VectorRow]) -> ops.VectorsSet:
    data = b"".join(row.vector for row in rows)
    check_matrix(np.frombuffer(data, "<f4").reshape(len(rows), -1))
    return ops.VectorsSet(
        collection, [row.key for row in rows], memoryview(data), [row.metadata for row in rows]
    )


def _drain(stream: VectorStream) -> int:
    for _ in stream.chunks():
        pass
    return stream.checksum


def _drop(database: Database, collection: str) -> None:
    if collection in database.collections():
        with contextlib.suppress(NotFoundError):
            database.drop_collection(collection)
