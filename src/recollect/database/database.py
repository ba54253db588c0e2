"""The database: opening, the three stores, transactions, closing."""

from __future__ import annotations

import secrets  # noqa: TID251 - programs open a database directly, without the wiring that hands this out
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from recollect.clock import Clock, SystemClock
from recollect.database import operation as ops
from recollect.database.committer import Committer, Receipt
from recollect.database.data_directory import DataDirectory, Identity, open_directory
from recollect.database.fusion import SimilarMatch, fuse
from recollect.database.log.directory import LogDirectory, LogEnd, TornTail
from recollect.database.log.files import DiskFiles, Files
from recollect.database.log.segment import Commit
from recollect.database.operation import Operation, decode_body
from recollect.database.options import DatabaseOptions, FsyncMode, FusionOptions
from recollect.database.planner import RESERVED_NAMES, Planner
from recollect.database.stage import DEFAULT_COLLECTION
from recollect.database.state import NO_TRANSACTION
from recollect.database.state_store import StateStore
from recollect.database.stores import EventStore, VectorStore
from recollect.database.tables import Tables
from recollect.database.transaction import Transaction
from recollect.database.transactions import Transactions
from recollect.errors import AccessError, RecollectError, RequestError
from recollect.values.schema import CollectionSchema
from recollect.values.ulid import RandomBytes


class Database:
    """An agent's memory in one directory: vectors, events and state under one commit log.

    Made by `Database.open`; a context manager that closes it. Safe to share between threads; one
    process at a time may write. Every write method returns after the commit is logged, as the
    fsync mode says, and visible. When the disk fails, that write raises, later ones are
    refused, and reading goes on.

    Attributes:
        vectors: The default vector collection; `collection` gives others.
        events: Contexts, events, co-occurrence.
        state: Versioned JSON values by namespace, agent and key.
        torn_tail: The unfinished write that opening found and cut off, or None.
    """

    def __init__(
        self,
        directory: DataDirectory,
        tables: Tables,
        committer: Committer | None,
        *,
        options: DatabaseOptions,
        clock: Clock,
        random_bytes: RandomBytes,
        torn_tail: TornTail | None,
    ) -> None:
        self._directory = directory
        self._tables = tables
        self._committer = committer
        self._options = options
        self._clock = clock
        self.torn_tail = torn_tail
        self._transactions = Transactions(
            lambda transaction: self._commit(transaction.operations, transaction.identity),
            clock=clock,
            random_bytes=random_bytes,
            timeout_s=options.transaction_timeout_s,
            count_max=options.transaction_count_max,
        )
        self.vectors = VectorStore(tables, self._commit, DEFAULT_COLLECTION)
        self.events = EventStore(tables, self._commit, lambda: int(clock.now().timestamp()))
        self.state = StateStore(tables, self._commit, self.begin)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        read_only: bool = False,
        fsync: FsyncMode = "commit",
        options: DatabaseOptions | None = None,
        clock: Clock | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
        files: Files | None = None,
    ) -> Database:
        """Open a database, creating it if it may be written, and bring it to its last commit.

        With `read_only` nothing is changed, not even a torn tail, and several readers may share the
        directory. `fsync` says when a commit counts as logged (`options.FsyncMode`); `files`
        is the file system, and what tests replace by one that fails.

        Raises:
            LeaseHeldError: It is open already.
            IntegrityError: Stored bytes are damaged; the message says where, and how to recover.
            FormatVersionError: It was written by a newer release.
        """
        if fsync not in ("commit", "interval", "off"):
            raise RequestError(f"fsync must be 'commit', 'interval' or 'off', got {fsync!r}")
        clock, files, options = clock or SystemClock(), files or DiskFiles(), options or DatabaseOptions()
        directory = open_directory(
            files, Path(path), read_only=read_only, now=clock.now(), random_bytes=random_bytes
        )
        try:
            tables, end = _load(files, directory)
            committer = None
            if not read_only:
                committer = _committer(
                    files, directory, tables, end, options=options, clock=clock, fsync=fsync
                )
            database = cls(
                directory,
                tables,
                committer,
                options=options,
                clock=clock,
                random_bytes=random_bytes,
                torn_tail=end.torn,
            )
            database._configure()
        except BaseException:
            directory.release()
            raise
        return database

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The data directory."""
        return self._directory.path

    @property
    def identity(self) -> Identity:
        """The database's id and when it was created."""
        return self._directory.identity

    @property
    def options(self) -> DatabaseOptions:
        """The options that it was opened with."""
        return self._options

    @property
    def commit_ts(self) -> int:
        """The number of the last commit; 0 for a new database."""
        return self._tables.commit_ts

    @property
    def failure(self) -> RecollectError | None:
        """Why nothing can be written any more, or None."""
        return None if self._committer is None else self._committer.failure

    @property
    def is_read_only(self) -> bool:
        """Whether writes are refused: opened so, closed, or after a failure of the disk."""
        return self._committer is None or self._committer.failure is not None

    @property
    def open_transaction_count(self) -> int:
        """Transactions that were begun and not ended."""
        return self._transactions.open_count

    def collection(self, name: str) -> VectorStore:
        """Return a vector collection; it is created by its first write, or by `create_collection`."""
        if name in RESERVED_NAMES:
            raise RequestError(f"{name!r} is the name of another store; choose another one for a collection")
        return VectorStore(self._tables, self._commit, name)

    def collections(self) -> list[str]:
        """Return the names of all vector collections, sorted."""
        with self._tables.lock:
            return sorted(self._tables.vectors)

    def create_collection(self, name: str, schema: CollectionSchema) -> VectorStore:
        """Create an empty vector collection of one dense float32 vector; ConflictError if it exists."""
        store = self.collection(name)
        self._commit([ops.CollectionCreate(name, check_schema(schema))])
        return store

    def drop_collection(self, name: str) -> None:
        """Remove a vector collection and all that it holds."""
        self._commit([ops.CollectionDrop(name)])

    def switch_collection(self, name: str, *, new_name: str) -> None:
        """Give a collection another name, in place of what had it; one commit."""
        self.collection(new_name)
        self._commit([ops.CollectionSwitch(name, new_name)])

    def begin(self, timeout: float | None = None) -> Transaction:
        """Begin a transaction over all stores; it expires after `timeout` seconds."""
        return self._transactions.begin(timeout)

    def transaction(self, id: str) -> Transaction:
        """Return a transaction by its id; NotFoundError if there is none."""
        return self._transactions.find(id)

    def similar(self, id: str, k: int, *, fusion: FusionOptions | None = None) -> list[SimilarMatch]:
        """Return the k items most similar to one, by vectors and events together."""
        options = fusion or self._options.fusion
        return fuse(id, k, vectors=self.vectors, events=self.events, options=options)

    def sync(self) -> None:
        """Make every commit so far durable, whatever the fsync mode."""
        if self._committer is not None:
            self._committer.sync()

    def close(self) -> None:
        """Complete the log and let others open the database. Safe to call twice."""
        try:
            if self._committer is not None:
                self._committer.close()
        finally:
            self._directory.release()

    def _commit(self, operations: Sequence[Operation], transaction: bytes = NO_TRANSACTION) -> Receipt:
        if self._committer is None:
            raise AccessError(
                f"the database in {self.path} was opened read-only; nothing can be written",
                "open it without read_only",
            )
        return self._committer.commit(operations, transaction)

    def _configure(self) -> None:
        wanted = self._options.events
        if wanted is not None and not self.is_read_only and wanted != self._tables.events.options:
            self._commit([ops.EventsConfigure(wanted)])


def check_schema(schema: CollectionSchema) -> CollectionSchema:
    """Return the schema if a collection can have it; RequestError says which part it cannot."""
    if len(schema.vectors) != 1:
        count = len(schema.vectors)
        raise RequestError(f"a collection of this database has exactly one vector, the schema has {count}")
    spec = schema.vectors[0]
    if spec.kind != "dense" or spec.datatype != "float32" or spec.metric == "manhattan":
        found = f"{spec.kind} {spec.datatype} {spec.metric}"
        raise RequestError(
            f"a vector must be dense float32 with cosine, dot or euclid; the schema says {found}"
        )
    return schema


def _load(files: Files, directory: DataDirectory) -> tuple[Tables, LogEnd]:
    tables = Tables()

    def apply(commit: Commit) -> None:
        tables.apply(commit.commit_ts, commit.time_us, decode_body(commit.body))

    return tables, LogDirectory(files, directory.log_path).replay(tables.commit_ts, apply)


def _committer(
    files: Files,
    directory: DataDirectory,
    tables: Tables,
    end: LogEnd,
    *,
    options: DatabaseOptions,
    clock: Clock,
    fsync: FsyncMode,
) -> Committer:
    writer = LogDirectory(files, directory.log_path).open_writer(
        end, database_id=directory.identity.id_bytes, segment_bytes_max=options.log.segment_bytes_max
    )
    planner = Planner(tables.schemas(), options.vectors.metric)
    return Committer(tables, planner, writer, clock=clock, fsync=fsync, on_commit=lambda _: None)
