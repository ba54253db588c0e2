"""Which way a collection comes back: by its records, or by the engine's own files and what changed since.

Files bring the search index along, and fit only the engine, the layout and the version that they were
made by. Records fit everywhere, and the engine indexes them anew. The planner takes what it expects
to be done sooner, and says why it did not take the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from recollect.engines.base import FileTarget, Target
from recollect.errors import UnsupportedError
from recollect.values.schema import layout_difference
from recollect.values.snapshot import CollectionEntry, ObjectRef, Snapshot

Method: TypeAlias = Literal["records", "files"]
Wanted: TypeAlias = Literal["auto", "records", "files"]

# Measured on two cores, 384 dimensions: docs/benchmarks/qdrant.md. They are for a plan to show, and
# to choose by; nothing breaks where a machine is faster.
RECORDS_A_SECOND = 6_000
INDEXED_A_SECOND = 4_000
FILE_BYTES_A_SECOND = 60_000_000
VERIFIED_A_SECOND = 25_000


class FilesBase(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot's collection whose files are stored.

    Attributes:
        version: Of the engine that made the files.
        changed_count: About how many records differ from what is to be restored.
    """

    snapshot_id: str
    version: str
    entry: CollectionEntry
    changed_count: int


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a way would cost, about.

    Attributes:
        read_bytes: From the repository.
        sent_bytes: To the engine.
        seconds: Until the collection is in place and verified.
        index_seconds: Until the engine has built the search index, after that.
    """

    read_bytes: int
    sent_bytes: int
    seconds: float
    index_seconds: float

    @property
    def total_seconds(self) -> float:
        """Until all is done."""
        return self.seconds + self.index_seconds


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How one collection is restored.

    Attributes:
        base: Whose files are loaded; None for records.
        is_wanted: It was asked for, so another one will not do.
        reason: Why it is this way.
    """

    method: Method
    is_wanted: bool = False
    base: FilesBase | None = None
    reason: str
    estimate: Estimate


def choose_way(
    entry: CollectionEntry, snapshot: Snapshot, history: Sequence[Snapshot], target: Target, wanted: Wanted
) -> Way:
    """Choose how to restore a collection. Reads nothing but what it is given, and the target's version.

    Raises:
        UnsupportedError: Files are wanted and cannot be had; it says why.
    """
    by_records = _by_records(entry)
    if wanted == "records":
        return Way(method="records", reason="asked for", estimate=by_records)
    base, refusal = _find_base(entry, snapshot, history, target)
    if base is None:
        if wanted == "files":
            raise UnsupportedError(
                f"{entry.name!r} cannot be restored by files: {refusal}", "restore its records: --logical"
            )
        return Way(method="records", reason=refusal, estimate=by_records)
    by_files = _by_files(entry, base)
    if wanted == "files" or by_files.total_seconds <= by_records.total_seconds:
        reason = "asked for" if wanted == "files" else "sooner, index included"
        return Way(method="files", base=base, is_wanted=wanted == "files", reason=reason, estimate=by_files)
    reason = f"{base.changed_count} records changed since the files of {base.snapshot_id} were stored"
    return Way(method="records", reason=reason, estimate=by_records)


def needed_objects(entry: CollectionEntry, base: FilesBase | None) -> set[ObjectRef]:
    """Return the objects that a restore in this way reads."""
    if base is None:
        return set(entry.record_objects())
    objects = {*base.entry.file_objects(), *entry.record_objects()}
    if base.entry.fingerprint != entry.fingerprint:
        objects |= set(base.entry.record_objects())
    return objects


def _find_base(
    entry: CollectionEntry, snapshot: Snapshot, history: Sequence[Snapshot], target: Target
) -> tuple[FilesBase | None, str]:
    """Find the stored files that are nearest to what is to be restored, or say why there are none."""
    if not isinstance(target, FileTarget):
        return None, f"{target.info().product} takes no files"
    candidates = _candidates(entry, snapshot, history)
    if not candidates:
        return None, "no snapshot of it has files of this layout"
    for base in candidates:
        refusal = target.files_refusal(base.entry.schema, base.version)
        if not refusal:
            return base, ""
    return None, refusal


def _candidates(entry: CollectionEntry, snapshot: Snapshot, history: Sequence[Snapshot]) -> list[FilesBase]:
    """List snapshots of the collection that have files, nearest first."""
    of_source = {each.id: each for each in history if each.source == snapshot.source}
    of_source[snapshot.id] = snapshot
    line = [of_source[key] for key in sorted(of_source)]
    place = line.index(snapshot)
    found: list[tuple[int, int, FilesBase]] = []
    for number, other in enumerate(line):
        theirs = next((each for each in other.collections if each.name == entry.name), None)
        if theirs is None or not theirs.has_files or not _is_alike(theirs, entry):
            continue
        between = line[min(number, place) + 1 : max(number, place) + 1]
        changed = sum(_changed(each, entry.name) for each in between)
        base = FilesBase(
            snapshot_id=other.id, version=other.engine_version, entry=theirs, changed_count=changed
        )
        # Of files of equal records the nearest: between them the optimizers may have indexed more.
        found.append((changed, abs(number - place), base))
    return [base for _, _, base in sorted(found, key=lambda each: each[:2])]


def _is_alike(files: CollectionEntry, wanted: CollectionEntry) -> bool:
    """Tell whether files can stand for a collection: the same vectors in as many shards."""
    theirs, ours = (entry.schema.parameters.get("shard_number") for entry in (files, wanted))
    return theirs == ours and not layout_difference(files.schema, wanted.schema)


def _changed(snapshot: Snapshot, name: str) -> int:
    return next((each.changes.total for each in snapshot.collections if each.name == name), 0)


def _by_records(entry: CollectionEntry) -> Estimate:
    count = entry.record_count
    return Estimate(
        read_bytes=sum(reference.byte_size for reference in set(entry.record_objects())),
        sent_bytes=entry.source_bytes,
        seconds=count / RECORDS_A_SECOND + count / VERIFIED_A_SECOND,
        index_seconds=count / INDEXED_A_SECOND,
    )


def _by_files(entry: CollectionEntry, base: FilesBase) -> Estimate:
    objects = needed_objects(entry, base)
    sent = sum(
        piece.byte_size for shard in base.entry.shards for file in shard.files for piece in file.pieces
    )
    seconds = sent / FILE_BYTES_A_SECOND + base.changed_count / RECORDS_A_SECOND
    return Estimate(
        read_bytes=sum(reference.byte_size for reference in objects),
        sent_bytes=sent,
        seconds=seconds + entry.record_count / VERIFIED_A_SECOND,
        index_seconds=base.changed_count / INDEXED_A_SECOND,
    )
