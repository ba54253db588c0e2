"""Load a checkpoint into empty tables: the exact state after its commit."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec
import numpy as np
import pyarrow as pa

from recollect.catalog.catalog import Catalog
from recollect.database.checkpoint.records import (
    EVENTS,
    STATE,
    ContextPayload,
    CounterPayload,
    ItemPayload,
    StatePayload,
    record_name,
)
from recollect.database.checkpoint.write import COMMIT_TIME_US, COMMIT_TS, ENGINE, microseconds
from recollect.database.state import NO_TRANSACTION, StateTable
from recollect.database.tables import Tables
from recollect.database.vectors import VectorTable
from recollect.errors import IntegrityError, NotFoundError
from recollect.repository.repository import Repository
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.snapshot import CollectionEntry, Snapshot

_LOG = logging.getLogger("recollect.database")

_state = msgspec.json.Decoder(StatePayload)
_context = msgspec.json.Decoder(ContextPayload)
_item = msgspec.json.Decoder(ItemPayload)
_counters = msgspec.json.Decoder(CounterPayload)


def load_checkpoint(snapshot: Snapshot, repository: Repository) -> Tables:
    """Return tables as they were after the checkpoint's commit.

    Raises:
        IntegrityError: Something that it needs is damaged or missing.
    """
    tables = Tables()
    try:
        for entry in snapshot.collections:
            if entry.name == EVENTS:
                _load_events(tables, entry, repository)
            elif entry.name == STATE:
                tables.state = _load_state(entry, repository)
            else:
                tables.vectors[entry.name] = _load_vectors(entry, repository)
        tables.commit_ts = checkpoint_commit(snapshot)
        tables.time_us = checkpoint_time_us(snapshot)
    except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise IntegrityError(f"checkpoint {snapshot.id} does not hold a database: {error}") from error
    return tables


def checkpoint_commit(snapshot: Snapshot) -> int:
    """Return the commit that a snapshot holds whole; -1 for one that holds no whole database.

    Checkpoints say so; of an ordinary backup of a database each collection has its position.
    """
    found = snapshot.extra.get(COMMIT_TS)
    if isinstance(found, int):
        return found
    if snapshot.chosen_collections:
        return -1  # it lacks the others
    positions = {entry.position for entry in snapshot.collections}
    if snapshot.engine != ENGINE or len(positions) != 1:
        return -1
    number = positions.pop().rpartition(":")[2]
    return int(number) if number.isdigit() else -1


def checkpoint_time_us(snapshot: Snapshot) -> int:
    """Return the time of the commit that a snapshot holds; a backup's own time if it does not say."""
    found = snapshot.extra.get(COMMIT_TIME_US)
    return found if isinstance(found, int) else microseconds(snapshot.created_at)


def is_of_database(snapshot: Snapshot, database_id: str) -> bool:
    """Tell whether a snapshot is one of this database; any is if the id is empty."""
    if not database_id or snapshot.source == f"{ENGINE}:{database_id}":
        return True
    return any(entry.position.startswith(f"{database_id}:") for entry in snapshot.collections)


def checkpoints_newest_first(
    repository: Repository, last_ts: int | None = None, database_id: str = ""
) -> Iterator[Snapshot]:
    """Yield the readable checkpoints of a repository, newest first, up to commit `last_ts`.

    With `database_id`, those of that database; a repository may hold backups of several.
    """
    catalog = Catalog(repository)
    found = []
    for identity in catalog.ids():
        try:
            found.append(catalog.read(identity))
        except (IntegrityError, NotFoundError) as error:
            _LOG.warning("Snapshot %s cannot be read and is passed over: %s", identity, error)
    checkpoints = [one for one in found if checkpoint_commit(one) >= 0 and is_of_database(one, database_id)]
    if last_ts is not None:
        checkpoints = [one for one in checkpoints if checkpoint_commit(one) <= last_ts]
    yield from sorted(checkpoints, key=lambda one: (checkpoint_commit(one), one.id), reverse=True)


def _records(entry: CollectionEntry, repository: Repository) -> Iterator[pa.RecordBatch]:
    found = 0
    for batch in RunsReader(repository, entry.schema, entry.runs).records():
        found += batch.num_rows
        yield batch
    if found != entry.record_count:
        raise IntegrityError(f"collection {entry.name!r} has {found} records, not {entry.record_count}")


def _load_vectors(entry: CollectionEntry, repository: Repository) -> VectorTable:
    table = VectorTable(entry.schema)
    spec = entry.schema.vectors[0]
    column = columns.vector_column(spec.name)
    for batch in _records(entry, repository):
        vectors = dense_matrix(batch.column(column), spec).astype(np.float32, copy=False)
        commits = batch.column(columns.POSITION).to_numpy(zero_copy_only=False)
        keys, payloads = batch.column(columns.KEY).to_pylist(), batch.column(columns.PAYLOAD).to_pylist()
        table.set_rows(keys, vectors, payloads, commits)
    table.mark_clean()
    return table


def _load_state(entry: CollectionEntry, repository: Repository) -> StateTable:
    table = StateTable()
    batches = list(_records(entry, repository))
    if not batches:
        return table
    positions = np.concatenate([batch.column(columns.POSITION).to_numpy() for batch in batches])
    joined = pa.Table.from_batches([batch.select([columns.PAYLOAD]) for batch in batches])
    payloads = joined.column(columns.PAYLOAD).take(pa.array(np.argsort(positions, kind="stable")))
    for chunk in payloads.chunks:
        for encoded in chunk.to_pylist():
            one = _state.decode(encoded)
            table.write(
                (one.namespace, one.agent, one.key),
                None if one.is_deleted else bytes(one.value),
                one.commit_ts,
                bytes.fromhex(one.transaction) if one.transaction else NO_TRANSACTION,
                one.version,
            )
    table.mark_clean()
    return table


def _load_events(tables: Tables, entry: CollectionEntry, repository: Repository) -> None:
    contexts: list[tuple[str, ContextPayload]] = []
    items: list[tuple[str, ItemPayload]] = []
    counters: CounterPayload | None = None
    for batch in _records(entry, repository):
        keys, payloads = batch.column(columns.KEY).to_pylist(), batch.column(columns.PAYLOAD).to_pylist()
        for key, payload in zip(keys, payloads, strict=True):
            kind, *names = record_name(key)
            if kind == "context":
                contexts.append((names[0], _context.decode(payload)))
            elif kind == "item":
                items.append((names[0], _item.decode(payload)))
            else:
                counters = _counters.decode(payload)
    if counters is not None:
        tables.events.restore(
            contexts=sorted(
                ((one.ordinal, name, one.events) for name, one in contexts), key=lambda context: context[:2]
            ),
            edges=[(name, other, weight) for name, one in items for other, weight in one.neighbors],
            counters=counters,
        )
