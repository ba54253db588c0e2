"""`SnapshotManager`: the asynchronous face. Every call works in threads; the event loop is never held up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from recollect.compat.ruvector.capture import Request, Task, capture
from recollect.compat.ruvector.catalog import SnapshotCatalog
from recollect.compat.ruvector.crate.exchange import schema_of, to_crate, write_records
from recollect.compat.ruvector.crate.files import encode_files, read_files, write_files
from recollect.compat.ruvector.layout import check_id
from recollect.compat.ruvector.reading import ReadOptions, merge
from recollect.compat.ruvector.responsive import responsive
from recollect.compat.ruvector.restore import Restoration, SnapshotBatch, StreamingRestore, public_batch
from recollect.compat.ruvector.snapshot import Snapshot, SnapshotConfig
from recollect.compat.ruvector.verification import SnapshotReport, verify
from recollect.database import Database, DatabaseOptions, VectorOptions, VectorStore
from recollect.errors import CancelledError, NotFoundError, RequestError
from recollect.policy.retention import RetentionRules, SnapshotFacts, decide
from recollect.storage.base import ObjectStore
from recollect.storage.url import open_store
from recollect.values.event import OnEvent, ignore_events
from recollect.values.ulid import successor
from recollect.wiring import Context, system_context

NAME_CHARACTERS_MAX = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")

# A database that only lives for an import or an export: its index would be thrown away.
_SCRATCH = DatabaseOptions(vectors=VectorOptions(hnsw_row_count_min=0))

_Result = TypeVar("_Result")
Check = Callable[[], None]


class _Held(NamedTuple):
    """What a caller gave as a database: the collection, and what else is in the database."""

    collection: VectorStore
    left_out: list[str]


class SnapshotManager:
    """Creates, lists, verifies, restores and deletes snapshots of embedded databases in one store.

    A database gives its default vector collection; a `VectorStore` gives itself. Several managers, also of
    other processes, may share a store. A call that is cancelled stops between two blocks, cleans up, and
    ends; what was committed stays.

    Args:
        config: README defaults if left out.
        context: Clock and randomness; the system's if left out.
        store: In place of the one that `config.snapshot_dir` names.
    """

    def __init__(
        self,
        config: SnapshotConfig | None = None,
        *,
        context: Context | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        self.config = config or SnapshotConfig()
        self._context = context or system_context()
        if store is None:
            place = os.fspath(self.config.snapshot_dir)
            store = open_store(place, self._context.clock, self._context.random_bytes)
        self._catalog = SnapshotCatalog(store)
        self._last_id = ""
        self._lock = threading.Lock()

    async def create_snapshot(
        self, db: Database | VectorStore, name: str, *, on_event: OnEvent = ignore_events
    ) -> Snapshot:
        """Take a full snapshot; writers of the database go on. It exists when this returns.

        `on_event` is called from a worker thread.
        """
        return await self._run(lambda check: self._create(db, name, None, on_event=on_event, check=check))

    async def create_incremental_snapshot(
        self, db: Database | VectorStore, name: str, base_id: str, *, on_event: OnEvent = ignore_events
    ) -> Snapshot:
        """Take a snapshot of what was added, changed and removed since the base.

        Raises:
            NotFoundError: The base does not exist.
            RequestError: The base has vectors of another dimension or metric.
        """
        check_id(base_id)
        return await self._run(lambda check: self._create(db, name, base_id, on_event=on_event, check=check))

    async def list_snapshots(self) -> list[Snapshot]:
        """Return all snapshots, newest first. Damaged ones are left out, with a warning in the log."""
        return await self._run(lambda _: [one.snapshot for one in self._catalog.read().documents])

    async def get_snapshot(self, id: str) -> Snapshot | None:  # noqa: A002 - the README's name
        """Return one snapshot, None if there is none of this id."""
        check_id(id)

        def find(_: Check) -> Snapshot | None:
            try:
                return self._catalog.find(id).snapshot
            except NotFoundError:
                return None

        return await self._run(find)

    async def restore_snapshot(
        self,
        id: str,  # noqa: A002 - the README's name
        path: str | Path | None = None,
        *,
        on_event: OnEvent = ignore_events,
    ) -> Database:
        """Restore into a new database directory, prove it by its fingerprint, and open it.

        Without a path it is a new directory below the system's temporary one; `Database.path` says which.
        All or nothing: after an error there is nothing at the path.

        Raises:
            NotFoundError: There is no such snapshot.
            ConflictError: Something is at the path already.
            IntegrityError: A file is damaged; the message names it.
        """
        check_id(id)

        def restore(check: Check) -> Database:
            with self._reading(check) as options:
                restoration = self._restoration(id, path, options)
                for progress in restoration.steps():
                    on_event(progress)
            assert restoration.database is not None, "the last step opened it"
            return restoration.database

        return await self._run(restore)

    def stream_restore(self, id: str, path: str | Path | None = None) -> StreamingRestore:  # noqa: A002
        """Restore step by step; the records that have come can be used meanwhile."""
        check_id(id)
        executor = self._executor()
        options = ReadOptions(executor, self._workers, self.config.verify_checksum, _go_on)
        return StreamingRestore(lambda: self._restoration(id, path, options), executor)

    async def stream_snapshot(self, id: str) -> AsyncIterator[SnapshotBatch]:  # noqa: A002
        """Yield a snapshot's records in batches as they arrive, each record once, in bounded memory.

        What is damaged is found at the latest after the last batch (IntegrityError).
        """
        check_id(id)
        batches = self._batches(id)
        try:
            while (batch := await asyncio.to_thread(_next, batches)) is not None:
                yield batch
        finally:
            await asyncio.to_thread(batches.close)

    async def verify_snapshot(self, id: str) -> bool:  # noqa: A002 - the README's name
        """Tell whether a snapshot and all its bases are intact; `check_snapshot` says what is not.

        Raises:
            NotFoundError: There is no such snapshot.
        """
        return (await self.check_snapshot(id)).is_intact

    async def check_snapshot(
        self,
        id: str,  # noqa: A002 - the README's name
        *,
        on_event: OnEvent = ignore_events,
    ) -> SnapshotReport:
        """Check every byte of a snapshot and of its bases, and that its records are those it was taken of."""
        check_id(id)

        def check_all(check: Check) -> SnapshotReport:
            with self._executor() as executor:
                options = ReadOptions(executor, self._workers, verify=True, check=check)
                return verify(self._catalog, id, options, on_event)

        return await self._run(check_all)

    async def delete_snapshot(self, id: str) -> None:  # noqa: A002 - the README's name
        """Delete a snapshot; refused, naming them, while others depend on it."""
        check_id(id)
        await self._run(lambda _: self._catalog.delete(id))

    async def cleanup_old_snapshots(self, keep: int) -> int:
        """Delete all but the newest `keep` snapshots and the bases that those need; return how many."""
        return await self._run(lambda _: self._catalog.cleanup(keep))

    async def apply_retention(self, rules: RetentionRules) -> list[str]:
        """Delete what no rule keeps and nothing kept needs; return the ids that are gone."""
        return await self._run(lambda _: self._retain(rules))

    async def remove_unfinished(self) -> list[str]:
        """Delete what writers that died left behind. Only while no snapshot is being created anywhere."""

        def remove(_: Check) -> list[str]:
            unfinished = self._catalog.read().unfinished
            for snapshot_id in unfinished:
                self._catalog.remove_files(snapshot_id)
            return unfinished

        return await self._run(remove)

    async def export_crate_snapshot(self, id: str, directory: str | Path) -> str:  # noqa: A002
        """Write a snapshot in the real crate's format into a directory or store; return its id."""
        check_id(id)

        def export(check: Check) -> str:
            with tempfile.TemporaryDirectory(prefix="recollect-export-") as scratch:
                with self._reading(check) as options:
                    place = Path(scratch) / "database"
                    restoration = self._restoration(id, place, options, opening=_SCRATCH)
                    for _ in restoration.steps():
                        pass
                snapshot, database = restoration.document.snapshot, restoration.database
                assert database is not None, "the last step opened it"
                collection = str(snapshot.metadata["collection"])
                with _freed(database), database.collection(collection).hold() as held:
                    data = to_crate(
                        held,
                        snapshot_id=id,
                        collection=collection,
                        created_at=snapshot.created_at,
                        options=database.options.vectors,
                    )
                    write_files(self._open_place(directory), encode_files(data))
            return id

        return await self._run(export)

    async def import_crate_snapshot(self, directory: str | Path, id: str, name: str = "") -> Snapshot:  # noqa: A002
        """Read a snapshot of the real crate and make it a full one here; its id is new.

        Its records come into the default collection, under `name`, or the crate's collection name.
        """

        def read(check: Check) -> Snapshot:
            data = read_files(self._open_place(directory), id)
            with (
                tempfile.TemporaryDirectory(prefix="recollect-import-") as scratch,
                _freed(Database.open(Path(scratch) / "database", fsync="off", options=_SCRATCH)) as database,
            ):
                collection = database.create_collection(database.vectors.name, schema_of(data))
                write_records(data, collection)
                chosen = name or data.collection_name
                return self._create(database, chosen, None, on_event=ignore_events, check=check)

        return await self._run(read)

    def _create(
        self, db: Database | VectorStore, name: str, base_id: str | None, *, on_event: OnEvent, check: Check
    ) -> Snapshot:
        _check_name(name)
        collection, left_out = _held(db)
        with self._executor() as executor, collection.hold() as held:
            request = Request(
                snapshot_id=self._new_id(),
                name=name,
                collection=collection.name,
                created_at=self._context.clock.now(),
                base_id=base_id,
                left_out=left_out,
            )
            task = Task(
                self._catalog,
                executor,
                workers=self._workers,
                io_count=self.config.max_concurrent_io,
                level=self.config.level,
                on_event=on_event,
                check=check,
            )
            return capture(held, request, task)

    def _batches(self, snapshot_id: str) -> Generator[SnapshotBatch, None, None]:
        with self._reading(_go_on) as options:
            chain = self._catalog.chain(snapshot_id)
            done, total = 0, chain[0].snapshot.vector_count
            for merged in merge(self._catalog, chain, options):
                done += len(merged.batch.keys)
                if merged.batch.keys:
                    yield public_batch(merged, done, total)

    def _retain(self, rules: RetentionRules) -> list[str]:
        listing = self._catalog.read()
        whole = [one.snapshot for one in listing.documents if listing.is_complete(one)]
        facts = [SnapshotFacts(id=one.id, created_at=one.created_at) for one in whole]
        decisions = decide(facts, rules, now=self._context.clock.now())
        self._catalog.delete_except({one.id for one in decisions if one.keep}, listing)
        left = {one.snapshot.id for one in self._catalog.read().documents}
        return [one.id for one in whole if one.id not in left]

    def _restoration(
        self,
        snapshot_id: str,
        path: str | Path | None,
        options: ReadOptions,
        *,
        opening: DatabaseOptions | None = None,
    ) -> Restoration:
        if path is None:
            self._catalog.find(snapshot_id)  # before a directory is made for nothing
            path = Path(tempfile.mkdtemp(prefix="recollect-restore-")) / "database"
        suffix = self._context.new_id()
        return Restoration(self._catalog, snapshot_id, Path(path), options, suffix=suffix, opening=opening)

    def _open_place(self, directory: str | Path) -> ObjectStore:
        return open_store(os.fspath(directory), self._context.clock, self._context.random_bytes)

    def _new_id(self) -> str:
        """Return a new id that sorts after all that this manager gave out, also within a millisecond."""
        with self._lock:
            fresh = self._context.new_id()
            self._last_id = fresh if fresh > self._last_id else successor(self._last_id)
            return self._last_id

    @property
    def _workers(self) -> int:
        """Blocks worked on at a time: more threads than cores only get into each other's way."""
        return min(self.config.max_concurrent_io, os.cpu_count() or 1)

    def _executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._workers, thread_name_prefix="ruvector")

    @contextlib.contextmanager
    def _reading(self, check: Check) -> Iterator[ReadOptions]:
        with self._executor() as executor:
            yield ReadOptions(executor, self._workers, self.config.verify_checksum, check)

    async def _run(self, work: Callable[[Check], _Result]) -> _Result:
        """Do blocking work in a thread; a cancelled caller gets away when the work has stopped."""
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise CancelledError("stopped on request; nothing was left half done")

        def call() -> _Result:
            with responsive():
                return work(check)

        future = asyncio.get_running_loop().run_in_executor(None, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # it was told; the caller does not want to hear
            raise


def _held(db: Database | VectorStore) -> _Held:
    if isinstance(db, VectorStore):
        return _Held(db, [])
    if not isinstance(db, Database):
        raise RequestError(f"a snapshot is taken of a Database or a VectorStore, not of {type(db).__name__}")
    others = [f"collection {name}" for name in db.collections() if name != db.vectors.name]
    if db.events.stored_count:
        others.append("events")
    if len(db.state):
        others.append("state")
    return _Held(db.vectors, others)


@contextlib.contextmanager
def _freed(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.free()


def _check_name(name: object) -> None:
    # A lone surrogate is text in Python only: no JSON can hold it.
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARACTERS_MAX or _SURROGATE.search(name):
        raise RequestError(
            f"a snapshot's name must be text of 1 to {NAME_CHARACTERS_MAX} characters, got {name!r:.80}"
        )


def _next(batches: Iterator[SnapshotBatch]) -> SnapshotBatch | None:
    with responsive():
        return next(batches, None)


def _go_on() -> None:
    """Do not stop."""
