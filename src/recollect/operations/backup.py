"""Back up: source → records → changes → segments → snapshot.

Objects are written first and the snapshot last: an interrupted backup leaves objects
that `prune` removes, never a snapshot that cannot be restored. The next backup finds
and reuses what an interrupted one stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Literal

import msgspec

from recollect.catalog.catalog import Catalog, check_name
from recollect.catalog.tags import check_tag
from recollect.clock import Clock
from recollect.engines.base import Capabilities, CollectionDescription, Source, SourceView, Versioned
from recollect.errors import IntegrityError, NotFoundError, RecollectError
from recollect.operations.by_workers import ByWorkers, Terms
from recollect.operations.changes import ByteCount, Compare, bytes_of_all, find_changes
from recollect.operations.files import FileStore, has_files
from recollect.operations.parts import Workforce
from recollect.operations.parts_joined import Joint
from recollect.operations.scan import held
from recollect.policy.compaction import CompactionLimits
from recollect.policy.duration import Duration
from recollect.repository.lease import WAIT_S, hold_writer_lease
from recollect.repository.repository import Repository
from recollect.segments.compact import compact_runs
from recollect.segments.compare import Comparison
from recollect.segments.reader import RunsReader
from recollect.segments.writer import write_run
from recollect.values.event import Note, OnEvent, ignore_events
from recollect.values.schema import layout_difference
from recollect.values.snapshot import CHOSEN_COLLECTIONS, CollectionEntry, Snapshot
from recollect.values.ulid import RandomBytes, new_ulid

SEAL_WORKERS = 2


class BackupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to back up and what to write beside it.

    Attributes:
        collections: Names or aliases; empty means all.
        compare: How changes are found. "changes" asks the engine where it can tell and scans otherwise;
            "scan" reads every record and compares it with the parent snapshot; "nothing" reads no
            parent and stores everything anew.
        files: When to store the engine's own files too, with their indexes: if the newest snapshot of the
            source that has them is at least so old. None is never, zero is always.
        files_or: What to do where files are due and cannot be had: "fail", or store the "records" alone,
            with a note; the files stay due.
        wait_s: How long to wait for a garbage collection to end.
    """

    collections: tuple[str, ...] = ()
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    host: str = ""
    tool_version: str = ""
    compare: Compare = "changes"
    files: Duration | None = None
    files_or: Literal["fail", "records"] = "fail"
    wait_s: float = WAIT_S
    limits: CompactionLimits = CompactionLimits()


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup did.

    Attributes:
        snapshot: As committed.
        source_bytes: Uncompressed size of all records that the snapshot holds.
        stored_bytes: Bytes added to the repository: new objects and the snapshot itself.
        duration_seconds: By the monotonic clock.
    """

    snapshot: Snapshot
    source_bytes: int
    stored_bytes: int
    duration_seconds: float


def run(
    source: Source,
    repository: Repository,
    *,
    options: BackupOptions,
    clock: Clock,
    random_bytes: RandomBytes,
    workforce: Workforce | None = None,
    on_event: OnEvent = ignore_events,
) -> BackupReport:
    """Back up collections of a source and commit one snapshot.

    With a `workforce`, its workers read and store what can be divided; the lease is held here for all.

    Raises:
        RequestError: A tag or the name is malformed; nothing was read.
        NotFoundError: A collection does not exist, or the source has none.
        LeaseHeldError: A garbage collection did not end in time.
        IntegrityError: The parent snapshot is damaged; see `BackupOptions.compare`.
    """
    tags = tuple(sorted({check_tag(tag) for tag in options.tags}))
    check_name(options.name)
    started = clock.monotonic()
    created_at = clock.now()
    catalog = Catalog(repository)
    engine = source.info()
    purpose, wait_s = f"backup of {engine.url}", options.wait_s
    with hold_writer_lease(
        repository.store, purpose=purpose, clock=clock, random_bytes=random_bytes, wait_s=wait_s
    ) as lease:
        history = _History(catalog, engine.url, options, created_at)
        history.warn_of_the_future(created_at, on_event)
        with source.hold() as view, ThreadPoolExecutor(SEAL_WORKERS) as executor:
            names = _names(view, options.collections, engine.url)
            job = _Job(view, source.capabilities, repository, executor, options, on_event=on_event)
            written = list(job.collections(names, history, workforce))
        snapshot = Snapshot(
            id=new_ulid(created_at, random_bytes),
            created_at=created_at,
            engine=engine.product,
            engine_version=engine.version,
            source=engine.url,
            host=options.host,
            tool_version=options.tool_version,
            parent=history.parent_id,
            name=options.name,
            description=options.description,
            tags=tags,
            collections=tuple(sorted((entry for entry, _ in written), key=lambda entry: entry.name)),
            stored_bytes=sum(added for _, added in written),
            extra={CHOSEN_COLLECTIONS: sorted(options.collections)} if options.collections else {},
            duration_seconds=round(clock.monotonic() - started, 3),
        )
        snapshot_bytes = catalog.commit(snapshot, lease)
    return BackupReport(
        snapshot=snapshot,
        source_bytes=sum(entry.source_bytes for entry in snapshot.collections),
        stored_bytes=snapshot.stored_bytes + snapshot_bytes,
        duration_seconds=clock.monotonic() - started,
    )


def _names(view: SourceView, wanted: tuple[str, ...], url: str) -> list[str]:
    names = view.collections()
    if wanted:
        return sorted({found for name in wanted for found in _meant(view, name, names)})
    if not names:
        raise NotFoundError(f"{url} has no collections to back up", "check that this is the right source")
    return names


def _meant(view: SourceView, name: str, names: list[str]) -> list[str]:
    """Return the collection of this name or alias; its parts (`NAME/…`) where it has no other records."""
    parts = [part for part in names if part.startswith(f"{name}/")]
    return parts if parts and name not in names else [view.describe(name).name]


class _History:
    """The snapshots of the same source: where a collection's parent state is looked up.

    Attributes:
        object_digests: Of all files that snapshots list.
        with_files: Whether the engine's files are due.
    """

    def __init__(self, catalog: Catalog, source: str, options: BackupOptions, now: datetime) -> None:
        everything = catalog.list() if options.compare != "nothing" or options.files is not None else []
        self._newest = everything[-1] if everything else None
        # A backup's lease keeps all that is listed now from being deleted while it lasts.
        self.object_digests = frozenset(
            reference.digest
            for snapshot in everything
            for entry in snapshot.collections
            for reference in entry.file_objects()
        )
        of_source = [snapshot for snapshot in reversed(everything) if snapshot.source == source]
        last_files = next((each.created_at for each in of_source if has_files(each)), None)
        self.with_files = options.files is not None and (
            last_files is None or last_files <= options.files.before(now)
        )
        self._snapshots = of_source if options.compare != "nothing" else []
        self.parent_id = self._snapshots[0].id if self._snapshots else None

    def warn_of_the_future(self, now: datetime, on_event: OnEvent) -> None:
        """Tell of a clock that was wrong: the new snapshot will not be the latest; nobody would notice."""
        newest = self._newest
        if newest is not None and newest.created_at > now:
            message = (
                f"snapshot {newest.id} is dated {newest.created_at:%Y-%m-%d %H:%M}, but it is "
                f"{now:%Y-%m-%d %H:%M} UTC here: `latest` goes on to mean that one; "
                "set the clock right, or forget that snapshot"
            )
            on_event(Note(message=message))

    def entry(self, name: str) -> CollectionEntry | None:
        """Return the newest known state of a collection, or None."""
        for snapshot in self._snapshots:
            for entry in snapshot.collections:
                if entry.name == name:
                    return entry
        return None


class _Job:
    """One backup under way: what all of its collections share."""

    def __init__(
        self,
        view: SourceView,
        capabilities: Capabilities,
        repository: Repository,
        executor: Executor,
        options: BackupOptions,
        *,
        on_event: OnEvent,
    ) -> None:
        self._view = view
        self._capabilities = capabilities
        self._repository = repository
        self._executor = executor
        self._limits = options.limits
        self._compare = options.compare
        self._files_or = options.files_or
        self._on_event = on_event

    def collections(
        self, names: list[str], history: _History, workforce: Workforce | None
    ) -> Iterator[tuple[CollectionEntry, int]]:
        """Store the changes of collections; yields each one's entry and the bytes that were added."""
        if workforce is None:
            yield from (self.collection(name, history) for name in names)
            return
        by_workers = ByWorkers(
            workforce,
            self._view,
            Joint(
                repository=self._repository,
                executor=self._executor,
                limits=self._limits,
                join_bytes_max=workforce.join_bytes_max,
            ),
            Terms(
                compare=self._compare,
                capabilities=self._capabilities,
                stores_files=history.with_files,
                parent_of=lambda found: self._usable_parent(history.entry(found.name), found),
                alone=lambda name: self.collection(name, history),
            ),
            self._on_event,
        )
        yield from by_workers.stored(names)

    def collection(self, name: str, history: _History) -> tuple[CollectionEntry, int]:
        """Store one collection's changes; returns its entry and the bytes that were added."""
        keeper = FileStore(self._repository, history.object_digests) if history.with_files else None
        with ExitStack() as stack:
            description = self._hold(name, keeper, stack)
            entry, added_bytes = self._stored(description, history)
        return entry, added_bytes + (keeper.added_bytes if keeper is not None else 0)

    def _hold(self, name: str, keeper: FileStore | None, stack: ExitStack) -> CollectionDescription:
        """Hold one collection for as long as the stack lasts."""
        is_anew = self._compare == "nothing"
        try:
            return stack.enter_context(held(self._view, name, keeper=keeper, anew=is_anew))
        except RecollectError as error:
            if keeper is None or self._files_or == "fail":
                raise
            message = f"{name}: its files were due and could not be stored, the records are: {error}"
            self._on_event(Note(message=message))
        return stack.enter_context(held(self._view, name, anew=is_anew))

    def _stored(self, description: CollectionDescription, history: _History) -> tuple[CollectionEntry, int]:
        name = description.name
        parent = self._usable_parent(history.entry(description.name), description)
        old = RunsReader(self._repository, description.schema, parent.runs if parent else ())
        totals = Comparison()
        seen = ByteCount()
        changes = find_changes(
            self._view,
            description,
            parent,
            old,
            compare=self._compare,
            capabilities=self._capabilities,
            totals=totals,
            read=seen,
            on_event=self._on_event,
        )
        written = write_run(changes, description.schema, self._repository, executor=self._executor)
        self._prove(name, parent, totals)
        runs = (*old.runs, written.run) if written.run else old.runs
        compacted = compact_runs(
            runs,
            description.schema,
            self._repository,
            executor=self._executor,
            limits=self._limits,
            base_runs=parent.base_runs if parent else 1,
        )
        entry = CollectionEntry(
            name=description.name,
            schema=description.schema,
            aliases=description.aliases,
            record_count=totals.after.record_count,
            fingerprint=str(totals.after),
            consistency=description.consistency,
            position=self._position(description),
            changes=totals.changes,
            source_bytes=bytes_of_all(seen, totals.after.record_count, parent),
            runs=compacted.runs,
            base_runs=compacted.base_runs,
            shards=description.shards,
        )
        return entry, written.added_bytes + compacted.added_bytes

    def _position(self, description: CollectionDescription) -> str:
        """Return where the next backup may go on from."""
        if isinstance(self._view, Versioned):
            return self._view.mark(description.name)
        return description.position

    @staticmethod
    def _prove(name: str, parent: CollectionEntry | None, totals: Comparison) -> None:
        """Make sure that the parent plus the stored changes is exactly what was read."""
        if parent is not None and str(totals.before) != parent.fingerprint:
            raise IntegrityError(
                f"the parent state of {name!r} reads as {totals.before}, not {parent.fingerprint}",
                "run `recollect verify --read-data`; `recollect backup --full` does without the parent",
            )
        assert totals.derived == totals.after, "the changes do not lead from the parent to what was read"

    def _usable_parent(
        self, parent: CollectionEntry | None, description: CollectionDescription
    ) -> CollectionEntry | None:
        """Compare only states that have the same columns."""
        if parent is None:
            return None
        difference = layout_difference(parent.schema, description.schema)
        if difference:
            self._on_event(
                Note(message=f"{description.name}: stored in full, the collection was changed: {difference}")
            )
            return None
        return parent
