"""The database: opening, the three stores, transactions, closing."""

from __future__ import annotations

import secrets  # noqa: TID251 - programs open a database directly, without the wiring that hands this out
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from recollect.clock import Clock, SystemClock
from recollect.database import operation as ops
from recollect.database.checkpoint.checkpointer import AfterCheckpoint, Checkpointer
from recollect.database.checkpoint.load import checkpoints_newest_first
from recollect.database.checkpoint.pacing import CHECKPOINT_SYNC_BYTES_MAX
from recollect.database.collections import HeldDatabase
from recollect.database.column_view import ColumnView
from recollect.database.committer import Committer, Receipt
from recollect.database.data_directory import DataDirectory, Identity, open_directory
from recollect.database.fusion import SimilarMatch, fuse
from recollect.database.indexer import Indexer
from recollect.database.limits import check_schema
from recollect.database.log.directory import LogDirectory
from recollect.database.log.files import DiskFiles, Files
from recollect.database.log.writer import LogWriter
from recollect.database.operation import Operation
from recollect.database.options import DatabaseOptions, FsyncMode, FusionOptions, check_options
from recollect.database.planner import RESERVED_NAMES, Planner
from recollect.database.stage import DEFAULT_COLLECTION
from recollect.database.start import Started, start
from recollect.database.state import NO_TRANSACTION
from recollect.database.state_store import StateStore
from recollect.database.stores import EventStore, VectorStore
from recollect.database.syncer import Syncer
from recollect.database.transaction import Transaction
from recollect.database.transactions import Transactions
from recollect.errors import AccessError, RecollectError, RepositoryNotFoundError, RequestError
from recollect.repository.repository import Repository, create_repository, open_repository
from recollect.storage.base import ObjectStore
from recollect.storage.local import LocalStore
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import RandomBytes


class Services(NamedTuple):
    """What a database works with."""

    options: DatabaseOptions
    clock: Clock
    random_bytes: RandomBytes
    log: LogDirectory
    checkpoints: ObjectStore


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
        started: Started,
        services: Services,
        writer: LogWriter | None,
        fsync: FsyncMode,
    ) -> None:
        tables, clock, options = started.tables, services.clock, services.options
        self._directory = directory
        self._tables = tables
        self._services = services
        self._committer: Committer | None = None
        self._checkpointer: Checkpointer | None = None
        self._syncer: Syncer | None = None
        self._indexer: Indexer | None = None
        self.torn_tail = started.end.torn
        if writer is not None:
            self._checkpointer = self._make_checkpointer(started.checkpoint)
            planner = Planner(tables.schemas(), options.vectors.metric)
            self._indexer = Indexer(tables, directory.index_path, options.vectors)
            encode = ops.encode_body if options.log.is_kept else ops.encode_nothing
            self._committer = Committer(
                tables, planner, writer, clock=clock, fsync=fsync, on_commit=self._note_commit, encode=encode
            )
            if fsync == "interval":
                self._syncer = Syncer(self.sync, options.log.fsync_interval_s)
        self._transactions = Transactions(
            lambda transaction: self._commit(transaction.operations, transaction.identity),
            clock=clock,
            random_bytes=services.random_bytes,
            timeout_s=options.transaction_timeout_s,
            count_max=options.transaction_count_max,
            bytes_max=options.transaction_bytes_max,
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
        checkpoints: ObjectStore | None = None,
    ) -> Database:
        """Open a database, creating it if it may be written, and bring it to its last commit.

        With `read_only` nothing is changed, not even a torn tail, and several readers may share the
        directory. `fsync` says when a commit counts as logged (`options.FsyncMode`). `files` is the
        file system and `checkpoints` the store of checkpoints; tests pass ones that fail.

        Raises:
            RequestError: An option makes no sense.
            LeaseHeldError: It is open already.
            IntegrityError: Stored bytes are damaged; the message says where, and how to recover.
            FormatVersionError: It was written by a newer release.
        """
        if fsync not in ("commit", "interval", "off"):
            raise RequestError(f"fsync must be 'commit', 'interval' or 'off', got {fsync!r}")
        clock, files = clock or SystemClock(), files or DiskFiles()
        options = check_options(options or DatabaseOptions())
        directory = open_directory(
            files, Path(path), read_only=read_only, now=clock.now(), random_bytes=random_bytes
        )
        try:
            store = checkpoints or LocalStore(
                directory.checkpoints_path, sync_bytes_max=CHECKPOINT_SYNC_BYTES_MAX
            )
            log = LogDirectory(files, directory.log_path)
            started = start(log, store)
            writer = None
            if not read_only:
                writer = log.open_writer(
                    started.end,
                    database_id=directory.identity.id_bytes,
                    segment_bytes_max=options.log.segment_bytes_max,
                )
            services = Services(options, clock, random_bytes, log, store)
            database = cls(directory, started, services, writer, fsync)
            database._begin_work()
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

    def __len__(self) -> int:
        """Return the number of vectors in the default collection."""
        return len(self.vectors)

    def __bool__(self) -> bool:
        """Return True: an empty database is one, too."""
        return True

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
        return self._services.options

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

    @property
    def expired_transaction_count(self) -> int:
        """Transactions that expired since it was opened."""
        return self._transactions.expired_count

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

    @staticmethod
    def check_schema(schema: CollectionSchema) -> CollectionSchema:
        """Return the schema if a collection can have it; RequestError says which part it cannot."""
        return check_schema(schema)

    def hold(self) -> HeldDatabase:
        """Hold everything at the last commit, as collections of records; release it soon."""
        return HeldDatabase(self._tables, self._services.log)

    def begin(self, timeout: float | None = None) -> Transaction:
        """Begin a transaction over all stores; it expires after `timeout` seconds."""
        return self._transactions.begin(timeout)

    def transaction(self, id: str) -> Transaction:
        """Return a transaction by its id; NotFoundError if there is none."""
        return self._transactions.find(id)

    def similar(self, id: str, k: int, *, fusion: FusionOptions | None = None) -> list[SimilarMatch]:
        """Return the k items most similar to one, by vectors and events together."""
        options = fusion or self.options.fusion
        return fuse(id, k, vectors=self.vectors, events=self.events, options=options)

    def commit(self, operations: Sequence[Operation]) -> Receipt:
        """Make typed operations one commit; the receipt has the result of each.

        For faces that put many requests into one commit. Operations are checked by those who
        stage them (`database.stage`).

        Raises:
            RequestError, NotFoundError, ConflictError: They cannot be applied; nothing was changed.
            UnavailableError: The disk failed; nothing was acknowledged.
        """
        return self._commit(operations)

    def column_view(self) -> ColumnView:
        """Hold everything at the last commit, as columns in memory; release it soon."""
        return ColumnView(self._tables)

    def sync(self) -> None:
        """Make every commit so far durable, whatever the fsync mode."""
        if self._committer is not None:
            self._committer.sync()

    def checkpoint(self, name: str | None = None, description: str | None = None) -> Snapshot:
        """Take a checkpoint of the last commit and return its snapshot; writers go on meanwhile.

        Without a name it returns the newest checkpoint if nothing was committed since. A named one is
        kept until it is forgotten by hand.

        Raises:
            UnavailableError: The disk failed. The database goes on as before; the log has every commit.
        """
        if self._checkpointer is None:
            raise self._read_only_error()
        return self._checkpointer.take(name or "", description or "")

    @property
    def newest_checkpoint(self) -> Snapshot | None:
        """The newest checkpoint, or None; None as well for a database that was opened read-only."""
        return None if self._checkpointer is None else self._checkpointer.newest

    def checkpoints(self) -> list[Snapshot]:
        """Return all checkpoints that can be read, oldest first."""
        try:
            repository = open_repository(self._services.checkpoints)
        except RepositoryNotFoundError:
            return []
        return list(checkpoints_newest_first(repository))[::-1]

    def on_checkpoint(self, call: AfterCheckpoint | None) -> None:
        """Have `call` called after each checkpoint, with the frozen tables and the snapshot."""
        if self._checkpointer is not None:
            self._checkpointer.after_checkpoint = call

    @property
    def checkpoint_error(self) -> Exception | None:
        """Why the last automatic checkpoint failed; None if it did not."""
        return None if self._checkpointer is None else self._checkpointer.last_error

    def close(self) -> None:
        """Complete the log and let others open the database. Safe to call twice."""
        try:
            if self._indexer is not None:
                self._indexer.close()
            if self._checkpointer is not None:
                self._checkpointer.close()
            if self._syncer is not None:
                self._syncer.close()
            if self._committer is not None:
                self._committer.close()
        finally:
            self._directory.release()

    def free(self) -> None:
        """Close, and let go of the vectors in small steps: other threads of the process go on.

        Left to the garbage collector, they are freed at once, with the interpreter's lock
        held: 35 ms for 200,000 records. Collections that somebody holds are left alone.
        """
        self.close()
        self._tables.free_vectors()

    def _commit(self, operations: Sequence[Operation], transaction: bytes = NO_TRANSACTION) -> Receipt:
        if self._committer is None:
            raise self._read_only_error()
        return self._committer.commit(operations, transaction)

    def _read_only_error(self) -> AccessError:
        return AccessError(
            f"the database in {self.path} was opened read-only; nothing can be written",
            "open it without read_only",
        )

    def _begin_work(self) -> None:
        """Write the options if they changed, and start the threads."""
        wanted = self.options.events
        if self._committer is None or self._checkpointer is None or self._indexer is None:
            return
        if wanted is not None and wanted != self._tables.events.options:
            self._commit([ops.EventsConfigure(wanted)])
        self._checkpointer.start()
        self._indexer.start()
        if self._syncer is not None:
            self._syncer.start()

    def _note_commit(self, commit_ts: int) -> None:
        assert self._checkpointer is not None, "a database that commits has both"
        assert self._indexer is not None, "a database that commits has both"
        self._checkpointer.note_commit(commit_ts)
        self._indexer.note_commit()

    def _make_checkpointer(self, newest: Snapshot | None) -> Checkpointer:
        services = self._services
        return Checkpointer(
            self._tables,
            self._open_checkpoints,
            services.log,
            newest=newest,
            source=f"recollect:{self.identity.id}",
            options=services.options.checkpoints,
            clock=services.clock,
            random_bytes=services.random_bytes,
            sync_log=self.sync,
        )

    def _open_checkpoints(self) -> Repository:
        services = self._services
        try:
            return open_repository(services.checkpoints)
        except RepositoryNotFoundError:
            now, random_bytes = services.clock.now(), services.random_bytes
            return create_repository(services.checkpoints, now=now, random_bytes=random_bytes)
