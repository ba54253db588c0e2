"""The embedded database as an engine: `recollect:///path`.

A source of everything that it holds: its vector collections, and `events` and `state` as collections
without vectors (`database.checkpoint.records`). A target for vector collections of one dense float32
vector. What changed since a position is read from its log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from recollect import __version__
from recollect.database import Database
from recollect.database.checkpoint.records import EVENTS, STATE
from recollect.database.collections import HIDDEN_PREFIX, HeldDatabase
from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.errors import RequestError, UnsupportedError
from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.key import decode_key
from recollect.values.schema import CollectionSchema, VectorSpec

PRODUCT = "recollect"
_CAPABILITIES = Capabilities(point_in_time=True, ordered_scan=True)
_CHANGES_ROWS = 4096


class EmbeddedView:
    """A database while it is held."""

    def __init__(self, view: HeldDatabase, database_id: str) -> None:
        self._view = view
        self._database_id = database_id

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return self._view.collections()

    def describe(self, name: str) -> CollectionDescription:
        """Describe one collection."""
        held = self._view.held(name)
        return CollectionDescription(
            name=held.name,
            schema=held.schema,
            record_count=held.record_count,
            position=f"{self._database_id}:{self._view.commit_ts}",
        )

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records, ascending by key."""
        return self._view.scan(name, batch_rows=batch_rows)

    def changed_since(self, name: str, position: str) -> Iterator[pa.RecordBatch] | None:
        """Yield what changed since a position of this very database; None if its log cannot tell."""
        database_id, _, commit_ts = position.rpartition(":")
        if database_id != self._database_id or not commit_ts.isdigit():
            return None
        return self._view.changed_since(name, int(commit_ts), batch_rows=_CHANGES_ROWS)


class EmbeddedEngine:
    """A source and a target at once, over one open database. One thread at a time."""

    def __init__(self, database: Database, url: str) -> None:
        self._database = database
        self._url = url

    @property
    def capabilities(self) -> Capabilities:
        """A hold is one commit; records come in key order."""
        return _CAPABILITIES

    def info(self) -> EngineInfo:
        """Identify the database by its path."""
        return EngineInfo(product=PRODUCT, version=__version__, url=self._url)

    @contextmanager
    def hold(self) -> Iterator[EmbeddedView]:
        """Hold the database at its last commit; writers go on."""
        with self._database.hold() as view:
            yield EmbeddedView(view, self._database.identity.id)

    def find(self, name: str) -> CollectionDescription | None:
        """Describe the collection of this name as it is now; None if there is none."""
        with self.hold() as view:
            return view.describe(name) if name in view.collections() else None

    def check_schema(self, schema: CollectionSchema) -> None:
        """Raise UnsupportedError unless it has exactly one dense float32 vector."""
        self._database_schema(schema)

    def stage(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...]) -> StagedVectors:
        """Begin a collection under a hidden name."""
        if name in {EVENTS, STATE}:
            raise UnsupportedError(
                f"{name!r} of {self._url} is not replaced by itself",
                "bring back a whole database: recollect recover REPOSITORY --to latest --into NEW_DIRECTORY",
            )
        if aliases:
            raise UnsupportedError(
                f"{self._url} has no other names for collections; {name!r} has: {', '.join(aliases)}",
                f"restore it under a new name, which leaves them out: --collection {name}:NEWNAME",
            )
        return StagedVectors(self._database, name, self._database_schema(schema))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _database_schema(self, schema: CollectionSchema) -> CollectionSchema:
        try:
            return self._database.check_schema(schema)
        except RequestError as error:
            raise UnsupportedError(
                f"{self._url} cannot hold such a collection: {error.message}", error.next_step
            ) from error


class StagedVectors:
    """A vector collection being restored under a hidden name.

    Switching it into place is one commit: a crash leaves the old collection or the new one. One that a
    crash left unfinished is removed when the same collection is restored again.
    """

    def __init__(self, database: Database, name: str, schema: CollectionSchema) -> None:
        self._database = database
        self._name = name
        self._hidden = f"{HIDDEN_PREFIX}{name}"
        self._spec: VectorSpec = schema.vectors[0]
        self._is_staged = True
        if self._hidden in database.collections():
            database.drop_collection(self._hidden)
        self._store = database.create_collection(self._hidden, schema)

    def write(self, records: pa.RecordBatch) -> None:
        """Write records in one commit."""
        if not records.num_rows:
            return
        values = records.column(columns.vector_column(self._spec.name))
        keys = records.column(columns.KEY).to_pylist()
        if values.null_count:
            missing = decode_key(keys[values.is_null().index(True).as_py()])
            raise UnsupportedError(
                f"record {missing} has no vector; this database stores only records with one"
            )
        vectors = dense_matrix(values, self._spec).astype(np.float32, copy=False)
        payloads = records.column(columns.PAYLOAD).to_pylist()
        self._store.set_many([decode_key(key) for key in keys], vectors, payloads)

    def finish(self) -> None:
        """Make everything durable."""
        self._database.sync()

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read back what the database holds."""
        with self._database.hold() as view:
            yield from view.scan(self._store.name, batch_rows=batch_rows)

    def switch(self) -> None:
        """Put it into place, in one commit."""
        self._database.switch_collection(self._hidden, new_name=self._name)
        self._is_staged = False

    def discard(self) -> None:
        """Drop it, if it was not switched into place."""
        if self._is_staged:
            self._is_staged = False
            self._database.drop_collection(self._hidden)


def open_embedded_source(path: str, url: str) -> EmbeddedEngine:
    """Open an existing database for reading; NotFoundError if there is none."""
    return EmbeddedEngine(Database.open(path, read_only=True), url)


def open_embedded_target(path: str, url: str) -> EmbeddedEngine:
    """Open a database for writing, a new one if there is none."""
    return EmbeddedEngine(Database.open(path), url)
