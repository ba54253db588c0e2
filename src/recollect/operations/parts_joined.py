"""Make one collection of what workers stored of its parts, and prove that it is the whole of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import msgspec
import pyarrow as pa

from recollect.engines.base import CollectionDescription
from recollect.errors import IntegrityError
from recollect.operations.changes import ByteCount, bytes_of_all
from recollect.operations.parts import StoredPart
from recollect.pipeline import map_ordered
from recollect.policy.compaction import CompactionLimits
from recollect.repository.repository import Repository
from recollect.segments.compact import compact_runs
from recollect.segments.compare import tombstones
from recollect.segments.part import check_disjoint, missing_from_all
from recollect.segments.reader import RunsReader
from recollect.segments.writer import WrittenRun, write_run
from recollect.values import batch as columns
from recollect.values.fingerprint import Fingerprint, fingerprint_batch
from recollect.values.snapshot import ChangeCounts, CollectionEntry, ObjectRef, Run

LOOKS_AT_ONCE = 16


class Joint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a collection is put together.

    Attributes:
        executor: For sealing here; not that of the workers.
        join_bytes_max: See `operations.parts.Workforce`.
    """

    repository: Repository
    executor: Executor
    limits: CompactionLimits
    join_bytes_max: int


def joined(
    joint: Joint,
    description: CollectionDescription,
    parent: CollectionEntry | None,
    parts: Sequence[StoredPart],
    token: str,
) -> tuple[CollectionEntry, int]:
    """Return the collection's entry and the bytes that were added to the repository.

    Proven: every object that a worker named is here; each of the parent's records is in one part or is
    gone; no record is in two parts; the parent reads as its fingerprint says.

    Raises:
        IntegrityError: One of them is not so.
    """
    schema, repository = description.schema, joint.repository
    _require_objects(repository, parts)
    check_disjoint(
        [part.key_set for part in parts],
        lambda: [RunsReader(repository, schema, (part.run,)).index() for part in parts if part.run],
    )
    before = sum((part.before for part in parts), Fingerprint())
    gone = _Gone(description, parent, parts, repository)
    deleted = write_run(gone.tombstones(), schema, repository, executor=joint.executor)
    if parent is not None and str(before + gone.fingerprint) != parent.fingerprint:
        raise IntegrityError(
            f"the parent state of {description.name!r} reads as {before + gone.fingerprint}, not "
            f"{parent.fingerprint}",
            "run `recollect verify --read-data`; `recollect backup --full` does without the parent",
        )
    new_runs = tuple(run for run in (*(part.run for part in parts), deleted.run) if run)
    new = _merged(joint, description, new_runs)
    old_runs = parent.runs if parent else ()
    compacted = compact_runs(
        (*old_runs, *new.runs),
        schema,
        repository,
        executor=joint.executor,
        limits=joint.limits,
        base_runs=parent.base_runs if parent and old_runs else max(1, len(new.runs)),
    )
    after = sum((part.after for part in parts), Fingerprint())
    entry = CollectionEntry(
        name=description.name,
        schema=schema,
        aliases=description.aliases,
        record_count=after.record_count,
        fingerprint=str(after),
        consistency=description.consistency,
        position=token if all(part.is_marked for part in parts) else "",
        changes=_counts(parts, gone.fingerprint.record_count),
        source_bytes=bytes_of_all(_read(parts), after.record_count, parent),
        runs=compacted.runs,
        base_runs=compacted.base_runs,
        shards=tuple(sorted((part.shard for part in parts), key=lambda shard: shard.shard_id)),
    )
    added = sum(part.added_bytes for part in parts)
    return entry, added + deleted.added_bytes + new.added_bytes + compacted.added_bytes


class _Runs(msgspec.Struct, frozen=True, kw_only=True):
    runs: tuple[Run, ...]
    added_bytes: int = 0


class _Gone:
    """The parent's records that no part has."""

    def __init__(
        self,
        description: CollectionDescription,
        parent: CollectionEntry | None,
        parts: Sequence[StoredPart],
        repository: Repository,
    ) -> None:
        self._description = description
        self._parent = parent
        self._presences = [part.presence for part in parts]
        self._repository = repository
        self.fingerprint = Fingerprint()

    def tombstones(self) -> Iterator[pa.RecordBatch]:
        """Yield the changes that delete them; their fingerprint is complete at the end."""
        if self._parent is None:
            return
        schema = self._description.schema
        old = RunsReader(self._repository, schema, self._parent.runs)
        for batch in missing_from_all(old, self._presences, self._parent.record_count):
            self.fingerprint += fingerprint_batch(batch)
            yield tombstones(batch.column(columns.KEY), schema)


def _require_objects(repository: Repository, parts: Sequence[StoredPart]) -> None:
    """Make sure that what workers stored is in this repository, and not in another one at its place."""
    wanted = {reference for part in parts for reference in _objects(part)}

    def check(reference: ObjectRef) -> None:
        found = repository.object_size(reference.digest)
        if found != reference.byte_size:
            raise IntegrityError(
                f"a worker stored object {reference.digest} of {reference.byte_size} bytes, and "
                f"{repository.url} has {'none' if found is None else f'{found} bytes'} here",
                "let all workers see the same repository: a directory that they share, or a cloud store",
            )

    with ThreadPoolExecutor(LOOKS_AT_ONCE) as executor:
        for _ in map_ordered(check, wanted, executor=executor, window=LOOKS_AT_ONCE):
            pass


def _objects(part: StoredPart) -> list[ObjectRef]:
    of_records = [reference for segment in part.run for reference in segment.objects()]
    return of_records + [piece.object for file in part.shard.files for piece in file.pieces]


def _merged(joint: Joint, description: CollectionDescription, runs: tuple[Run, ...]) -> _Runs:
    """Merge new runs that are small; large ones stay as the workers wrote them."""
    stored = sum(reference.byte_size for run in runs for segment in run for reference in segment.objects())
    if len(runs) < 2 or stored > joint.join_bytes_max:
        return _Runs(runs=runs)
    reader = RunsReader(joint.repository, description.schema, runs)
    written: WrittenRun = write_run(
        reader.changes(), description.schema, joint.repository, executor=joint.executor
    )
    return _Runs(runs=(written.run,), added_bytes=written.added_bytes)


def _counts(parts: Sequence[StoredPart], removed: int) -> ChangeCounts:
    return ChangeCounts(
        added=sum(part.changes.added for part in parts),
        changed=sum(part.changes.changed for part in parts),
        removed=removed,
    )


def _read(parts: Sequence[StoredPart]) -> ByteCount:
    return ByteCount(sum(part.row_count for part in parts), sum(part.byte_count for part in parts))
