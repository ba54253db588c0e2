"""Back up a collection part by part, on workers: what each is told, what it does, what it gives back.

A worker holds its part, compares it with the parent state, and stores the changes itself. What comes back is
small: references to segments, counts, fingerprints, a bit for each record of the parent, eight bytes for
each changed record. `operations.parts_joined` makes one
collection of that. Nothing that a worker does is
seen by anybody until the client commits the snapshot, so a part may be done twice, or half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol, TypeAlias

import msgspec
import pyarrow as pa

from recollect.catalog.catalog import Catalog
from recollect.engines.base import (
    Capabilities,
    CollectionDescription,
    FileKeeper,
    Part,
    SourceView,
    Versioned,
)
from recollect.errors import UnsupportedError
from recollect.operations.changes import ByteCount, Compare, find_changes
from recollect.operations.files import FileStore
from recollect.repository.repository import Repository
from recollect.segments.compare import Comparison
from recollect.segments.part import KeySet, PartIndex
from recollect.segments.reader import Indexed, RunsReader
from recollect.segments.writer import write_run
from recollect.values.event import Event, Note
from recollect.values.fingerprint import Fingerprint
from recollect.values.snapshot import ChangeCounts, CollectionEntry, Run, ShardEntry

SEAL_WORKERS = 2
NOTES_MAX = 20
JOIN_BYTES_MAX = 32 * 1024 * 1024
"""It costs less to merge so little at once than to read it apart for ever."""


class PartJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told. Picklable; without secrets.

    Attributes:
        part: Which part (`engines.base.Part`).
        description: Of the collection.
        parent: The state to compare with; None to store everything.
        capabilities: The source's.
        compare: How changes are found.
        stores_files: The engine's own files are stored too.
        token: What this moment is remembered by, for the next backup.
        repository_url: Where to store.
        repository_id: Of the repository that is meant.
        tool_version: Of the client; a worker's must be the same.
    """

    part: Any
    description: CollectionDescription
    parent: CollectionEntry | None
    capabilities: Capabilities
    compare: Compare
    stores_files: bool
    token: str
    repository_url: str
    repository_id: str
    tool_version: str


class StoredPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker gives back.

    Attributes:
        run: The part's changes; all its objects are stored. No tombstones.
        shard: How the part was held.
        before: Of the parent's records that the part has.
        after: Of the part's records.
        presence: Which of the parent's records the part has; see `segments.part`.
        key_set: Keys of the changes, as hashes.
        is_marked: The moment is remembered.
        row_count: Records that were read.
        byte_count: Their bytes.
        added_bytes: Stored bytes that are new in the repository.
    """

    run: Run
    shard: ShardEntry
    changes: ChangeCounts
    before: Fingerprint
    after: Fingerprint
    presence: bytes
    key_set: bytes
    is_marked: bool
    row_count: int
    byte_count: int
    added_bytes: int
    notes: tuple[str, ...] = ()


class RefusedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part that cannot be held at all, by whichever worker, and why."""

    reason: str


Work: TypeAlias = Callable[[PartJob], StoredPart | RefusedPart]
"""Does one job, in whatever process it is called. Picklable."""


class Workforce(msgspec.Struct, frozen=True, kw_only=True):
    """Who does the work.

    Attributes:
        executor: Gives jobs to workers.
        work: What it calls there.
        repository_url: The repository as workers open it.
        tool_version: Of this process; a worker's must be the same.
        new_token: Returns a new ULID.
        join_bytes_max: New runs that weigh less together are merged into one by the client.
    """

    executor: Executor
    work: Work
    repository_url: str
    tool_version: str
    new_token: Callable[[], str]
    join_bytes_max: int = JOIN_BYTES_MAX


class PartView(SourceView, Versioned, Protocol):
    """A part while it is held: a view of one collection that has the part's records only.

    `mark` returns the token that it was given, or an empty text where the moment cannot be remembered.
    """

    @property
    def shard(self) -> ShardEntry:
        """How the part is held."""
        ...


class HoldPart(Protocol):
    """Holds a part of a source on this machine, until the context ends."""

    def __call__(
        self, part: Part, *, token: str, keeper: FileKeeper | None, anew: bool
    ) -> AbstractContextManager[PartView]:
        """Raise UnsupportedError if the part cannot be held at all, other errors where it failed."""
        ...


def store_part(job: PartJob, repository: Repository, hold: HoldPart) -> StoredPart | RefusedPart:
    """Hold a part, store what changed in it, and let it go.

    A crash leaves objects that nothing lists. Idempotent.

    Raises:
        RecollectError: Whatever failed; what was stored counts for nothing.
    """
    keeper = FileStore(repository, _listed(repository)) if job.stores_files else None
    with ExitStack() as stack:
        try:
            view = stack.enter_context(
                hold(job.part, token=job.token, keeper=keeper, anew=job.compare == "nothing")
            )
        except UnsupportedError as error:
            return RefusedPart(reason=error.message)
        executor = stack.enter_context(ThreadPoolExecutor(SEAL_WORKERS))
        return _stored(job, repository, view, keeper, executor)


def _stored(
    job: PartJob, repository: Repository, view: PartView, keeper: FileStore | None, executor: Executor
) -> StoredPart:
    name, schema = job.description.name, job.description.schema
    old = RunsReader(repository, schema, job.parent.runs if job.parent else ())
    own = PartIndex(old, _keys_of(view, name)) if job.parent else None
    totals, read, keys, notes = Comparison(), ByteCount(), KeySet(), _Notes()
    compared: Indexed = old if own is None else own
    changes = find_changes(
        view,
        job.description,
        job.parent,
        compared,
        compare=job.compare,
        capabilities=job.capabilities,
        totals=totals,
        read=read,
        on_event=notes.on_event,
    )
    written = write_run(keys.gather(changes), schema, repository, executor=executor)
    assert totals.removed == 0, "what the part does not have is not compared"
    assert totals.derived == totals.after, "the changes do not lead from the parent to what was read"
    return StoredPart(
        run=written.run,
        shard=view.shard,
        changes=totals.changes,
        before=totals.before,
        after=totals.after,
        presence=b"" if own is None else own.presence,
        key_set=keys.packed(),
        is_marked=view.mark(name) != "",
        row_count=read.row_count,
        byte_count=read.byte_count,
        added_bytes=written.added_bytes + (keeper.added_bytes if keeper is not None else 0),
        notes=tuple(notes.messages),
    )


def _keys_of(view: PartView, name: str) -> Callable[[], Iterator[pa.RecordBatch]]:
    """List the part's keys once: about 25 bytes a record, and needed twice."""
    listed = list(view.versions(name))
    return lambda: iter(listed)


def _listed(repository: Repository) -> frozenset[str]:
    """Return the digests of files that snapshots list; the client's lease keeps them."""
    return frozenset(
        reference.digest
        for snapshot in Catalog(repository).list()
        for entry in snapshot.collections
        for reference in entry.file_objects()
    )


class _Notes:
    """Keeps what the user should know; progress stays here."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_event(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Note) and len(self.messages) < NOTES_MAX:
            self.messages.append(event.message)
