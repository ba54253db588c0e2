"""What a snapshot is: the complete list of what a restore needs. No chains.

A collection in a snapshot is a list of *runs*, oldest first. A run is a list of
segments that share no key, ascending by key range. For a key that stands in
several runs, the newest run wins. Format: docs/format.md#snapshot
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec

from recollect.values.schema import CollectionSchema

SNAPSHOT_FORMAT = 1

CHOSEN_COLLECTIONS = "chosen_collections"
"""Key of `Snapshot.extra`: which collections were asked for, where not all were."""


Hex: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{2})*\Z")]
"""Bytes as lower-case hex digits. Constraints such as this one are checked when a snapshot is read."""


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable object: the SHA-256 of its stored bytes (64 hex digits), and how many they are."""

    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    byte_size: Annotated[int, msgspec.Meta(ge=0)]


class SegmentRef(msgspec.Struct, frozen=True, kw_only=True):
    """One sealed segment: rows ascending by key, in objects whose rows line up.

    Attributes:
        row_count: Rows, tombstones included.
        delete_count: Tombstones among them.
        key_min: First record key, hex.
        key_max: Last record key, hex.
        index: The Parquet object: key, op, position, digests, payload.
        vectors: Vector column objects by vector name; a vector of which no row stores a value has none.
        position_min: Smallest record position in it, if the engine has positions.
        position_max: Largest.
    """

    row_count: Annotated[int, msgspec.Meta(ge=0)]
    delete_count: Annotated[int, msgspec.Meta(ge=0)]
    key_min: Hex
    key_max: Hex
    index: ObjectRef
    vectors: dict[str, ObjectRef] = {}
    position_min: int | None = None
    position_max: int | None = None

    def objects(self) -> list[ObjectRef]:
        """Return every object that this segment needs."""
        return [self.index, *self.vectors.values()]


Run: TypeAlias = tuple[SegmentRef, ...]


class PieceRef(msgspec.Struct, frozen=True, array_like=True):
    """A part of a file that is not all zeros.

    Attributes:
        offset: Where it begins in the file.
        byte_size: Its bytes in the file.
        digest: Of the object, a zstd frame of those bytes.
        stored_size: Bytes of the object.
    """

    offset: Annotated[int, msgspec.Meta(ge=0)]
    byte_size: Annotated[int, msgspec.Meta(ge=1)]
    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    stored_size: Annotated[int, msgspec.Meta(ge=0)]

    @property
    def object(self) -> ObjectRef:
        """The object that holds it."""
        return ObjectRef(digest=self.digest, byte_size=self.stored_size)


class FileRef(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an engine: all zeros but for its pieces, which ascend and do not overlap.

    Attributes:
        path: Relative to the shard, with slashes; it never leads out of it.

    Raises:
        ValueError: It is none; of one that is read with a snapshot, that is damage.
    """

    path: str
    byte_size: Annotated[int, msgspec.Meta(ge=0)]
    pieces: tuple[PieceRef, ...] = ()

    def __post_init__(self) -> None:
        steps = self.path.split("/")
        if "\0" in self.path or any(step in {"", ".", ".."} for step in steps):
            raise ValueError(f"{self.path!r} is no path of a file in a shard")
        end = 0
        for piece in self.pieces:
            if piece.offset < end or piece.offset + piece.byte_size > self.byte_size:
                raise ValueError(f"the pieces of {self.path!r} are none of a file")
            end = piece.offset + piece.byte_size


class ShardEntry(msgspec.Struct, frozen=True, kw_only=True):
    """How one shard of a collection was captured.

    Attributes:
        shard_id: The engine's number of it.
        shard_key: Its custom shard key, if the collection has such keys.
        replica: The node that it came from.
        replicas: All nodes that held it, ascending; empty where there is no cluster.
        consistency: As of a collection, for this shard alone.
        transfer: What travelled: "none" (nothing had changed), "changes" (changed files), "all", "records".
        transferred_bytes: Bytes that came over the network.
        files: The shard's files, where they were stored; empty otherwise.
    """

    shard_id: int
    shard_key: str | int | None = None
    replica: str = ""
    replicas: tuple[str, ...] = ()
    consistency: str = "point-in-time"
    transfer: str = "all"
    transferred_bytes: int = 0
    files: tuple[FileRef, ...] = ()


class ChangeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Records that differ from the parent snapshot."""

    added: int = 0
    changed: int = 0
    removed: int = 0

    @property
    def total(self) -> int:
        """Return how many records differ."""
        return self.added + self.changed + self.removed


class CollectionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One collection of a snapshot.

    Attributes:
        name: Its name in the source.
        schema: How to create it again.
        aliases: Other names of it in the source, sorted.
        record_count: Live records.
        fingerprint: Text form of `values.fingerprint`.
        consistency: What the capture really had: "point-in-time" (one instant), "per-shard" (an instant
            for each shard) or "fuzzy" (records changed during the scan may be seen or not).
        position: The engine's own position, opaque; empty where it has none.
        changes: Against the parent snapshot; all `added` without one.
        source_bytes: Size of the records' values, uncompressed: vectors, payloads and keys.
        runs: Oldest first.
        base_runs: How many of the first runs share no key and are the oldest state together: several where
            workers stored a part of it each.
        shards: How each shard was captured, ascending; empty where the engine has none, or does not tell.
    """

    name: str
    schema: CollectionSchema
    aliases: tuple[str, ...] = ()
    record_count: Annotated[int, msgspec.Meta(ge=0)]
    fingerprint: str
    consistency: str = "point-in-time"
    position: str = ""
    changes: ChangeCounts = ChangeCounts()
    source_bytes: int = 0
    runs: tuple[Run, ...] = ()
    base_runs: Annotated[int, msgspec.Meta(ge=1)] = 1
    shards: tuple[ShardEntry, ...] = ()

    def segments(self) -> list[SegmentRef]:
        """Return all segments, oldest run first."""
        return [segment for run in self.runs for segment in run]

    def objects(self) -> list[ObjectRef]:
        """Return every object that this collection lists, files included."""
        return [*self.record_objects(), *self.file_objects()]

    def record_objects(self) -> list[ObjectRef]:
        """Return the objects that hold records: all that a restore of records reads."""
        return [reference for segment in self.segments() for reference in segment.objects()]

    def file_objects(self) -> list[ObjectRef]:
        """Return the objects that hold the engine's files."""
        return [piece.object for shard in self.shards for file in shard.files for piece in file.pieces]

    @property
    def has_files(self) -> bool:
        """Whether the files of all shards were stored."""
        return bool(self.shards) and all(shard.files for shard in self.shards)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a source's collections, committed.

    Attributes:
        format: Version of this description, `SNAPSHOT_FORMAT`.
        id: ULID, 26 lower-case characters; ids sort by time of creation.
        created_at: When the capture began, UTC.
        engine: Product name of the source engine.
        engine_version: As the engine reports it; empty if it does not.
        source: URL of the source without credentials; backups of one source share it.
        host: Host name of the machine that ran the backup.
        tool_version: Version of Recollect that wrote it.
        parent: Id of the snapshot it was compared with; None for a first backup.
        name: Given by the user; empty if none.
        description: Given by the user.
        tags: Given at creation; later changes live in the catalog's tag objects.
        collections: Sorted by name.
        stored_bytes: Bytes that this backup added to the repository's objects.
        duration_seconds: How long the backup took until this was written.
        extra: Facts of particular engines and verbs; unknown keys are kept.
    """

    format: int = SNAPSHOT_FORMAT
    id: str
    created_at: datetime
    engine: str
    engine_version: str = ""
    source: str
    host: str = ""
    tool_version: str = ""
    parent: str | None = None
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    collections: tuple[CollectionEntry, ...] = ()
    stored_bytes: int = 0
    duration_seconds: float = 0.0
    extra: dict[str, Any] = {}

    @property
    def chosen_collections(self) -> tuple[str, ...]:
        """Which collections the backup was asked for; empty if it took all that there were."""
        return tuple(self.extra.get(CHOSEN_COLLECTIONS, ()))

    def objects(self) -> list[ObjectRef]:
        """Return every object that a restore of this snapshot reads; duplicates are possible."""
        return [reference for entry in self.collections for reference in entry.objects()]
