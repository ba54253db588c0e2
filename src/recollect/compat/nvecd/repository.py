"""Between nvecd's snapshot files and repositories: import one as a snapshot, write a snapshot as one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from recollect.clock import Clock
from recollect.compat.nvecd.build import METRICS, database_options, metric_name
from recollect.compat.nvecd.config.settings import NvecdSettings, VectorsSettings
from recollect.compat.nvecd.export import SnapshotCounts, snapshot_config, view_counts, view_stores
from recollect.compat.nvecd.gate import Gate
from recollect.compat.nvecd.load import load_file
from recollect.compat.nvecd.snapshot.layout import FORMAT_LIMITS, SnapshotLimits
from recollect.compat.nvecd.snapshot.read import Finding, check_file, raise_finding, read_sections
from recollect.compat.nvecd.snapshot.write import Written, write_snapshot
from recollect.compat.nvecd.snapshot_directory import open_private, write_private
from recollect.compat.nvecd.volatile import VolatileDatabase
from recollect.database.checkpoint.load import checkpoint_commit, load_checkpoint
from recollect.database.column_view import ColumnView
from recollect.database.stage import DEFAULT_COLLECTION
from recollect.engines.embedded import EmbeddedEngine
from recollect.errors import ConflictError, RequestError
from recollect.operations import backup, restore
from recollect.repository.repository import Repository
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import RandomBytes


class Exported(msgspec.Struct, frozen=True):
    """A file that was written."""

    path: Path
    written: Written
    counts: SnapshotCounts


def import_file(
    path: Path,
    repository: Repository,
    *,
    options: backup.BackupOptions,
    clock: Clock,
    random_bytes: RandomBytes,
) -> backup.BackupReport:
    """Back up what a snapshot file holds: vectors, metadata, events, co-occurrence, and state if it has some.

    The file is checked whole before anything is stored.

    Raises:
        AccessError: There is no such file, or others can change it.
        IntegrityError, FormatVersionError: It is damaged, or of another version.
    """
    with open_private(path) as descriptor:
        header = check_file(descriptor)
        if isinstance(header, Finding):
            raise_finding(header)
        config = read_sections(descriptor, header).config
        metric = config.distance_metric if config.distance_metric in METRICS else "cosine"
        vectors = msgspec.convert({"distance_metric": metric}, VectorsSettings)
        volatile = VolatileDatabase(database_options(NvecdSettings(vectors=vectors)), clock)
        try:
            load_file(volatile.database, Gate(), descriptor, header)
            engine = EmbeddedEngine(volatile.database, f"nvec://{path}")
            return backup.run(engine, repository, options=options, clock=clock, random_bytes=random_bytes)
        finally:
            volatile.close()


def export_snapshot(
    snapshot: Snapshot,
    repository: Repository,
    path: Path,
    *,
    clock: Clock,
    collection: str = "",
    limits: SnapshotLimits = FORMAT_LIMITS,
) -> Exported:
    """Write a snapshot as one file. Of an embedded database it holds everything, of others one collection.

    Raises:
        ConflictError: There is such a file.
        RequestError: The snapshot has several collections and none was chosen.
        UnsupportedError: The collection is not one dense float32 vector, or larger than `limits`.
    """
    if path.exists():
        raise ConflictError(f"{path} exists already", "choose another name")
    if not collection and checkpoint_commit(snapshot) >= 0:
        with ColumnView(load_checkpoint(snapshot, repository)) as view:
            return _write(view, path, clock, limits)
    volatile = VolatileDatabase(database_options(NvecdSettings()), clock)
    try:
        engine = EmbeddedEngine(volatile.database, f"nvec://{path}")
        wanted = restore.RestoreOptions(collections=((_chosen(snapshot, collection), DEFAULT_COLLECTION),))
        plan = restore.plan(snapshot, engine, options=wanted)
        restore.apply(plan, repository, engine, clock=clock)
        with volatile.database.column_view() as view:
            return _write(view, path, clock, limits)
    finally:
        volatile.close()


def _write(view: ColumnView, path: Path, clock: Clock, limits: SnapshotLimits) -> Exported:
    config = snapshot_config(NvecdSettings())
    spec = view.schemas[DEFAULT_COLLECTION].vectors[0] if DEFAULT_COLLECTION in view.schemas else None
    if spec is not None:
        config = msgspec.structs.replace(
            config,
            default_dimension=spec.dimension or config.default_dimension,
            distance_metric=metric_name(spec.metric or "cosine"),
        )
    written = write_private(
        path.absolute(),
        lambda descriptor: write_snapshot(
            descriptor,
            timestamp=int(clock.now().timestamp()),
            config=config,
            stores=view_stores(view),
            limits=limits,
        ),
    )
    return Exported(path, written, view_counts(view))


def _chosen(snapshot: Snapshot, collection: str) -> str:
    names = [entry.name for entry in snapshot.collections]
    if collection or len(names) != 1:
        if collection not in names:
            raise RequestError(
                f"snapshot {snapshot.id} has {len(names)} collections; {collection or 'none'!r} was chosen",
                f"choose one of: {', '.join(sorted(names))}",
            )
        return collection
    return names[0]
