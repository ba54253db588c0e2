"""Restoring: a merged chain becomes a database in a directory of its own, all or nothing.

The database is built in a hidden directory beside its place, proven by its fingerprint, and then
renamed. A failure removes that directory; a killed process leaves it, and nothing at the place itself.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from recollect.compat.ruvector.catalog import SnapshotCatalog
from recollect.compat.ruvector.graph import GraphFile, attach_graph
from recollect.compat.ruvector.layout import SnapshotDocument
from recollect.compat.ruvector.reading import MergedBatch, ReadOptions, merge, read_graph
from recollect.compat.ruvector.responsive import responsive
from recollect.compat.ruvector.rows import cut, digest_rows, spec_of
from recollect.database import Database, DatabaseOptions, LogOptions, VectorOptions
from recollect.database.held import HeldVectors
from recollect.database.stores import VectorStore
from recollect.errors import ConflictError, VerificationError
from recollect.storage.files import sync_directory
from recollect.system_error import storage_error
from recollect.values.event import Progress
from recollect.values.fingerprint import Fingerprint
from recollect.values.key import RecordId, decode_key
from recollect.values.payload import decode_payload

_INDEX_DIRECTORY = "hnsw"
# No index of the database's own: the snapshot's is attached, or is to be built at the final place.
_NO_INDEX = VectorOptions(hnsw_row_count_min=0)
# A log segment is read whole when the database is opened again, and freed whole: keep the steps short.
_BUILDING = DatabaseOptions(vectors=_NO_INDEX, log=LogOptions(segment_bytes_max=8 << 20))


class SnapshotBatch(NamedTuple):
    """Some records of a snapshot; each record of it comes once.

    Attributes:
        ids: With the types that they had.
        vectors: Shapes: (n, d) float32.
        metadata_json: JSON texts, None for records without.
        done_count: Records given out so far, this batch included.
        total_count: Records of the snapshot.
    """

    ids: list[RecordId]
    vectors: npt.NDArray[np.float32]
    metadata_json: list[bytes | None]
    done_count: int
    total_count: int

    @property
    def metadata(self) -> list[dict[str, Any] | None]:
        """The metadata, decoded; decoded again at each access."""
        return [None if one is None else decode_payload(one) for one in self.metadata_json]


class Restoration:
    """One restore, a block at a time. One thread at a time.

    Args:
        path: Where the database will be; must not exist, or be an empty directory.
        suffix: Makes the hidden directory's name unique.
        opening: How the restored database is opened, if it has no index of the snapshot's.

    Attributes:
        database: What can be used now: during the work the database with the records that have come so
            far, afterwards the restored one. None before the work begins and after it failed.
    """

    def __init__(
        self,
        catalog: SnapshotCatalog,
        snapshot_id: str,
        path: Path,
        options: ReadOptions,
        *,
        suffix: str,
        opening: DatabaseOptions | None = None,
    ) -> None:
        self._catalog = catalog
        self._chain = catalog.chain(snapshot_id)
        self._options = options
        self._opening = opening
        self._path = path.absolute()
        self._staging = self._path.parent / f".{self._path.name}.restoring-{suffix}"
        self.database: Database | None = None

    @property
    def document(self) -> SnapshotDocument:
        """What is restored."""
        return self._chain[0]

    def steps(self) -> Iterator[Progress]:
        """Do the work; between two steps the caller may use what is there.

        Raises:
            ConflictError: Something is at the path already.
            IntegrityError: A file is damaged or missing; the message names it.
            VerificationError: The records that came are not those that the snapshot was taken of.
        """
        _refuse_existing(self._path)
        try:
            graph = yield from self._build()
            self._publish(graph)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Close the database and remove what was built, unless it is in place already."""
        self._close()
        shutil.rmtree(self._staging, ignore_errors=True)

    def _close(self) -> None:
        if self.database is not None:
            self.database.free()  # not left to the garbage collector, which would do it all at once
            self.database = None

    def _build(self) -> Generator[Progress, None, GraphFile | None]:
        snapshot = self.document.snapshot
        self.database = Database.open(self._staging, fsync="off", options=_BUILDING)
        name = str(snapshot.metadata["collection"])
        collection = self.database.collection(name)
        if self.document.schema is not None:
            collection = self.database.create_collection(name, self.document.schema)
        graph = self._graph_file()
        done = 0
        for merged in merge(self._catalog, self._chain, self._options):
            _write(collection, graph, merged)
            done += len(merged.batch.keys)
            yield Progress(stage="restore", subject=name, done=done, total=snapshot.vector_count)
        with collection.hold() as held:
            self._prove(held)
        return graph

    def _graph_file(self) -> GraphFile | None:
        base = self._chain[-1]
        _, stored = read_graph(self._catalog, base, self._options)
        if stored is None or base.schema is None:
            return None
        # Not named by the collection: a snapshot's metadata must not say where something is written.
        path = self._staging / _INDEX_DIRECTORY / "snapshot.usearch"
        return GraphFile(path, stored, dimension=base.schema.vectors[0].dimension)

    def _prove(self, held: HeldVectors) -> None:
        snapshot = self.document.snapshot
        found = fingerprint_of(held, self._options.check)
        expected = snapshot.metadata["fingerprint"]
        if str(found) != expected:
            raise VerificationError(
                f"snapshot {snapshot.id} restored to {found.record_count} records with fingerprint {found}; "
                f"it was taken of {snapshot.vector_count} with {expected}",
                f"verify_snapshot({snapshot.id!r}) checks its files; restore another snapshot",
            )

    def _publish(self, graph: GraphFile | None) -> None:
        assert self.database is not None, "it was built"
        self.database.sync()
        self._close()
        if graph is not None:
            graph.finish()
        try:
            if self._path.is_dir():
                self._path.rmdir()  # only an empty one: a database must not be written over
            self._staging.rename(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise storage_error(error, f"cannot put the restored database at {self._path}") from error
        options = self._opening if graph is None else DatabaseOptions(vectors=_NO_INDEX)
        self.database = Database.open(self._path, options=options)
        if graph is not None:
            graph.path = self._path / _INDEX_DIRECTORY / graph.path.name
            attach_graph(self.database.collection(str(self.document.snapshot.metadata["collection"])), graph)


def fingerprint_of(held: HeldVectors, check: Callable[[], None]) -> Fingerprint:
    """Return the fingerprint of all held rows.

    In one thread: digesting rows from Python holds the interpreter's lock, so more threads gain
    nothing and keep the event loop waiting.
    """
    spec = spec_of(held)
    total = Fingerprint()
    for slots in cut(held.slots, spec.dimension):
        check()
        total += digest_rows(held.batch(slots), spec).fingerprint
    return total


def public_batch(merged: MergedBatch, done: int, total: int) -> SnapshotBatch:
    """Return records as a program wants them."""
    keys, vectors, metadata = merged.batch
    return SnapshotBatch([decode_key(key) for key in keys], vectors, metadata, done, total)


def _write(collection: VectorStore, graph: GraphFile | None, merged: MergedBatch) -> None:
    keys, vectors, metadata = merged.batch
    if keys:
        collection.set_many([decode_key(key) for key in keys], vectors, metadata)
    if graph is not None and merged.first_row >= 0:
        graph.put(merged.first_row, merged.whole_vectors, merged.whole)


def _refuse_existing(path: Path) -> None:
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConflictError(
                f"cannot restore into {path}: it exists and is not an empty directory",
                "give another path; an existing database is never overwritten",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, f"cannot restore into {path}") from error


class StreamingRestore:
    """A restore whose records can be used while the rest arrives; an asynchronous iterator of progress.

    ::

        async with manager.stream_restore(snapshot_id, path) as restore:
            async for progress in restore:
                restore.database.vectors.search(query, 10)   # what has come so far
        database = restore.database                          # all of it, proven, at `path`

    Leaving the block early gives the restore up and removes what was built. Until the iteration
    ended, `database` is a preliminary one: it is closed, and opened again at its place, by the last step.
    """

    def __init__(self, begin: Callable[[], Restoration], executor: Executor) -> None:
        self._begin = begin
        self._executor = executor
        self._restoration: Restoration | None = None
        self._steps: Iterator[Progress] | None = None
        self._is_finished = False

    @property
    def database(self) -> Database:
        """The database with the records that have come so far, at the end the restored one."""
        if self._restoration is None or self._restoration.database is None:
            raise ConflictError("there is no database yet: the restore has not begun, or has failed")
        return self._restoration.database

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._restoration is not None and not self._is_finished:
            await asyncio.to_thread(self._give_up)
        await asyncio.to_thread(self._executor.shutdown)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Progress:
        """Do the next step."""
        progress = await asyncio.to_thread(self._step)
        if progress is None:
            raise StopAsyncIteration
        return progress

    def _step(self) -> Progress | None:
        if self._steps is None:
            self._restoration = self._begin()
            self._steps = self._restoration.steps()
        with responsive():
            progress = next(self._steps, None)
        self._is_finished = progress is None
        return progress

    def _give_up(self) -> None:
        if isinstance(self._steps, Generator):
            self._steps.close()
        if self._restoration is not None:
            self._restoration.abandon()
